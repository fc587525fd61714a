//! The transactions that the pool has seen, and the gateways that have others: for who checks a template, and for who has a
//! block to make.

use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::time::{Instant, sleep};

use super::check;
use super::shown::{Showing, Showings, Shown, Wanted};
use crate::node::aside;
use crate::work::{
    Answer, Ask, Candidate, KnownTemplates, KnownTransactions, Purpose, RawBlock, TemplateBody, ValidateOutcome,
};

/// A gateway that answers another question is asked again after so long.
const BUSY_REST: Duration = Duration::from_millis(200);

/// How long a gateway may be busy before a block of ours does without its answer, until the next offer.
const BLOCK_PATIENCE: Duration = Duration::from_secs(20);

/// Asks a gateway, by its long-term Ed25519 key, about the job in a slot.
pub type AskGateway = Arc<dyn Fn([u8; 32], u8, Ask, Purpose) -> Asked + Send + Sync>;
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
    /// What gateways show for blocks of ours. No node has seen it, so it is not among what is known.
    shown: Arc<Mutex<Showings>>,
    ask: AskGateway,
    /// Where questions for blocks run.
    runtime: Handle,
}

impl Library {
    /// `budget`: bytes that all transactions may take. `runtime`: where questions run that a block waits for, whoever has them asked.
    #[must_use]
    pub fn new(budget: usize, ask: AskGateway, runtime: Handle) -> Self {
        let known = KnownTransactions::new(budget);
        Self {
            templates: known.templates().clone(),
            known: Arc::new(Mutex::new(known)),
            shown: Arc::default(),
            ask,
            runtime,
        }
    }

    /// The block of a candidate, where it has no transactions or they are known: those of our node's template, or of one
    /// that a node found good. None as well where they do not make it: the gateway may have others of the same ids.
    ///
    /// What it takes is a hash for each level of the tree, so it needs no thread of its own.
    pub(in crate::node) fn known_block(&self, candidate: &Candidate) -> Option<RawBlock> {
        let body = match candidate.stands_alone() {
            true => Arc::new(TemplateBody::new(Vec::new())),
            false => self.known_template(&candidate.branches)?,
        };
        candidate.block(body).ok()
    }

    /// The block of a candidate with transactions that are known, which they may be only since it was looked for last; else with
    /// those that its gateway shows. `asked`: where it has been asked for them already.
    ///
    /// # Errors
    /// Why there is none yet.
    pub(in crate::node) async fn block(
        &self,
        candidate: &Candidate,
        gateway: [u8; 32],
        asked: Option<Showing>,
    ) -> Result<RawBlock, String> {
        if let Some(block) = self.known_block(candidate) {
            return Ok(block);
        }
        let (slot, branches) = (candidate.job_id, &candidate.branches);
        let asked = asked.unwrap_or_else(|| self.show(gateway, slot, branches));
        let block = match asked.wait().await {
            Shown::All(body) => candidate.block(body).map_err(|error| error.to_string()),
            Shown::Not(outcome) => Err(format!(
                "its transactions are not known, and its gateway was asked for them: {outcome:?}"
            )),
        };
        block.or_else(|why| {
            // Of no use, though it may look like the template.
            self.forget_shown(gateway, branches);
            // A node may have found the template good while the gateway did not answer.
            self.known_block(candidate).ok_or(why)
        })
    }

    /// The template behind these branches, where all of it is known.
    pub(super) fn known_template(&self, branches: &[[u8; 32]]) -> Option<Arc<TemplateBody>> {
        self.templates.find(branches)
    }

    /// The same, as soon as it is.
    async fn becomes_known(&self, branches: &[[u8; 32]]) -> Arc<TemplateBody> {
        loop {
            sleep(BUSY_REST).await;
            if let Some(body) = self.known_template(branches) {
                return body;
            }
        }
    }

    /// Has a gateway show all transactions of the job in a slot, for a block of ours on it, unless it has done so or is about to. The
    /// question leaves at once: the slot may be used again.
    pub(in crate::node) fn show(&self, gateway: [u8; 32], slot: u8, branches: &[[u8; 32]]) -> Showing {
        let wanted = Wanted {
            gateway,
            branches: branches.to_vec(),
        };
        let mut showings = self.showings();
        if let Some(showing) = showings.find(&wanted) {
            return showing;
        }
        let (tell, showing, oldest) = showings.begin(wanted.clone());
        drop(showings);
        drop(oldest);
        let library = self.clone();
        self.runtime.spawn(async move {
            let until = Instant::now() + BLOCK_PATIENCE;
            let asked = library.ask_when_free(gateway, slot, Ask::All, Purpose::Block, until, |_| ());
            let shown = tokio::select! {
                heard = asked => aside(move || read(heard.open())).await,
                // By a check, for which the gateway may be answering while it is too busy for this.
                body = library.becomes_known(&wanted.branches) => Shown::All(body),
            };
            let is_wanted = matches!(&shown, Shown::All(body) if body.branches() == wanted.branches);
            if !is_wanted {
                library.forget_shown(gateway, &wanted.branches);
            }
            tell.send_replace(Some(shown));
        });
        showing
    }

    /// What a gateway has shown of a template for a block of ours, or is about to.
    pub(super) fn shown(&self, gateway: [u8; 32], branches: &[[u8; 32]]) -> Option<Showing> {
        let branches = branches.to_vec();
        self.showings().find(&Wanted { gateway, branches })
    }

    /// Nobody needs any more what a gateway has shown of a template.
    pub(super) fn forget_shown(&self, gateway: [u8; 32], branches: &[[u8; 32]]) {
        let branches = branches.to_vec();
        let shown = self.showings().forget(&Wanted { gateway, branches });
        // Not before the lock is free.
        drop(shown);
    }

    /// Held for microseconds at a time.
    fn showings(&self) -> MutexGuard<'_, Showings> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Asks again while the gateway has another question to answer, and before `until`. `note_busy` hears whether it has, each time
    /// before it is waited for.
    pub(super) async fn ask_when_free(
        &self,
        gateway: [u8; 32],
        slot: u8,
        ask: Ask,
        purpose: Purpose,
        until: Instant,
        mut note_busy: impl FnMut(bool),
    ) -> Heard {
        loop {
            let heard = (self.ask)(gateway, slot, ask.clone(), purpose).await;
            let is_busy = matches!(heard, Heard::Outcome(ValidateOutcome::Busy));
            if !is_busy || Instant::now() + BUSY_REST >= until {
                return heard;
            }
            note_busy(true);
            sleep(BUSY_REST).await;
            note_busy(false);
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

/// What an answer to [`Ask::All`] shows.
fn read(outcome: ValidateOutcome) -> Shown {
    match outcome {
        ValidateOutcome::Answered(Answer::Transactions(encoded)) => match check::read(&encoded) {
            Some(transactions) => Shown::All(Arc::new(TemplateBody::new(transactions))),
            None => Shown::Not(ValidateOutcome::Contradictory),
        },
        ValidateOutcome::Answered(Answer::ShortIds { .. }) => Shown::Not(ValidateOutcome::Contradictory),
        other => Shown::Not(other),
    }
}

#[cfg(test)]
mod tests;
