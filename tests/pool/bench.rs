//! One session on which bad work is tried, with honest work after each.

use millrace::wire::{CoinbaseTransaction, Reason};

use super::Pool;
use super::gateway::Gateway;
use super::session::Session;
use super::work::{Found, Job, Recipe, Template};

/// A pool with one session, which counts what it has accepted.
pub struct Bench {
    pub pool: Pool,
    pub session: Session,
    pub accepted: u64,
    /// Numbers for shares that are made here.
    next: u32,
}

impl Bench {
    pub fn new() -> Self {
        let pool = Pool::start();
        let session = Gateway::new().connect(&pool);
        Self {
            pool,
            session,
            accepted: 0,
            next: 1_000,
        }
    }

    /// An honest template upon a parent that all tests here share.
    pub fn template(&self) -> Template {
        self.session.template(0, 1)
    }

    pub fn recipe(&self) -> Recipe {
        self.session.recipe(&Job::new(0, 1))
    }

    /// A share with its sections is refused for `reason` and for nothing else: an honest one counts afterwards.
    pub fn refuses(&mut self, found: &Found<'_>, reason: Reason) {
        assert_eq!(self.session.submit(&found.with_sections()), Err(reason), "{found:?}");
        self.works();
    }

    /// The same for shares on a coinbase of another form.
    pub fn refuses_coinbase(&mut self, transaction: &CoinbaseTransaction, reason: Reason) {
        let template = self.template().with(transaction);
        self.refuses(&template.share(0), reason);
    }

    pub fn accepts(&mut self, found: &Found<'_>) {
        assert_eq!(self.session.submit(&found.with_sections()), Ok(()), "{found:?}");
        self.accepted += 1;
    }

    pub fn accepts_coinbase(&mut self, transaction: &CoinbaseTransaction) {
        let template = self.template().with(transaction);
        self.next += 1;
        self.accepts(&template.share(self.next));
    }

    pub fn works(&mut self) {
        let template = self.template();
        self.next += 1;
        self.accepts(&template.share(self.next));
    }

    pub fn refused(&self, reason: Reason) -> u64 {
        let label = format!("reason=\"{}\"", reason.label());
        self.pool.metric("millrace_shares_refused_total", &[&label])
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.pool.stored(), self.accepted, "what counts is what was accepted");
        }
    }
}
