//! The transactions that the pool has seen, and the gateways that have others: for who checks a template, and for who has a
//! block to make.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::check;
use crate::node::aside;
use crate::work::{Answer, Ask, Candidate, KnownTemplates, KnownTransactions, RawBlock, TemplateBody, ValidateOutcome};

/// A gateway that answers another question is asked again after so long.
const BUSY_REST: Duration = Duration::from_millis(200);

/// How long a gateway may be busy before a block of ours does without its answer, until the next offer.
const BLOCK_PATIENCE: Duration = Duration::from_secs(20);

/// Asks a gateway, by its long-term Ed25519 key, about the job in a slot.
pub type AskGateway = Arc<dyn Fn([u8; 32], u8, Ask) -> Asked + Send + Sync>;
pub type Asked = Pin<Box<dyn Future<Output = Heard> + Send>>;

/// What a question comes to.
pub enum Heard {
    Outcome(ValidateOutcome),
    /// A large answer as it came. To open it takes ms, and memory of its size twice.
    Sealed(Box<dyn FnOnce() -> ValidateOutcome + Send>),
}

impl Heard {
    /// Not on the runtime's own thread.
    pub(super) fn open(self) -> ValidateOutcome {
        match self {
            Self::Outcome(outcome) => outcome,
            Self::Sealed(open) => open(),
        }
    }
}

/// Shared by all who look something up.
#[derive(Clone)]
pub struct Library {
    known: Arc<Mutex<KnownTransactions>>,
    templates: Arc<KnownTemplates>,
    ask: AskGateway,
}

impl Library {
    /// `budget`: bytes that all transactions may take.
    #[must_use]
    pub fn new(budget: usize, ask: AskGateway) -> Self {
        let known = KnownTransactions::new(budget);
        Self {
            templates: known.templates().clone(),
            known: Arc::new(Mutex::new(known)),
            ask,
        }
    }

    /// The block of a candidate, where it has no transactions or they are known: those of our node's template, or of one
    /// that a node found good. None as well where they do not make it: the gateway may have others of the same ids.
    ///
    /// What it takes is a hash for each level of the tree, so it needs no thread of its own.
    pub(in crate::node) fn known_block(&self, candidate: &Candidate) -> Option<RawBlock> {
        let body = match candidate.stands_alone() {
            true => Arc::new(TemplateBody::new(Vec::new())),
            false => self.templates.find(&candidate.branches)?,
        };
        candidate.block(body).ok()
    }

    /// The block of a candidate with transactions that are known, which they may be only since it was looked for last; else with
    /// those that its gateway answers.
    ///
    /// # Errors
    /// Why there is none yet.
    pub(in crate::node) async fn block(&self, candidate: &Candidate, gateway: [u8; 32]) -> Result<RawBlock, String> {
        if let Some(block) = self.known_block(candidate) {
            return Ok(block);
        }
        let until = Instant::now() + BLOCK_PATIENCE;
        let heard = self.ask_when_free(gateway, candidate.job_id, Ask::All, until).await;
        let wanted = candidate.clone();
        let asked = aside(move || {
            let outcome = heard.open();
            let ValidateOutcome::Answered(Answer::Transactions(encoded)) = outcome else {
                return Err(format!(
                    "its transactions are not known, and its gateway was asked for them: {outcome:?}"
                ));
            };
            let transactions = check::read(&encoded).ok_or("what its gateway shows are no transactions")?;
            let body = Arc::new(TemplateBody::new(transactions));
            wanted.block(body).map_err(|error| error.to_string())
        })
        .await;
        // A node may have found the template good while the gateway did not answer.
        asked.or_else(|why| self.known_block(candidate).ok_or(why))
    }

    /// Asks again while the gateway has another question to answer, and before `until`.
    pub(super) async fn ask_when_free(&self, gateway: [u8; 32], slot: u8, ask: Ask, until: Instant) -> Heard {
        loop {
            let heard = (self.ask)(gateway, slot, ask.clone()).await;
            let is_busy = matches!(heard, Heard::Outcome(ValidateOutcome::Busy));
            if !is_busy || Instant::now() + BUSY_REST >= until {
                return heard;
            }
            sleep(BUSY_REST).await;
        }
    }

    /// What is known, for who looks it up.
    pub(super) fn transactions(&self) -> &Mutex<KnownTransactions> {
        &self.known
    }

    /// Not on the runtime's own thread: it may be held for a few ms.
    pub(super) fn known(&self) -> MutexGuard<'_, KnownTransactions> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests;
