//! A question to a gateway about one of its jobs (protocol section 7), from asking to its outcome.
//!
//! At most one is open per gateway: its send buffer overflows, and the stream with it, on two large answers. An open
//! question is also what allows a frame above the usual limit, and each holds the memory for the longest from a
//! budget of the process.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::inbox::{Ask, Validate, ValidateOutcome};
use crate::wire::{LARGE_MAX, ValidationAnswer, ValidationAsk};

/// How long a gateway may take to answer, in ms.
pub const ANSWER_DEADLINE_MS: u64 = 30_000;

/// Answers of the greatest size, 4 MiB, that the process takes at a time.
pub const LARGE_ANSWERS_MAX: usize = 16;

/// The process's budget for large answers.
#[derive(Debug, Clone)]
pub struct LargeAnswers(Arc<AtomicUsize>);

impl Default for LargeAnswers {
    fn default() -> Self {
        Self(Arc::new(AtomicUsize::new(LARGE_ANSWERS_MAX)))
    }
}

impl LargeAnswers {
    fn take(&self) -> Option<LargeAnswer> {
        let taken = self
            .0
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(1));
        taken.ok().map(|_| LargeAnswer(self.0.clone()))
    }
}

/// Room for one answer of up to [`LARGE_MAX`] bytes, given back when dropped.
#[derive(Debug)]
struct LargeAnswer(Arc<AtomicUsize>);

impl Drop for LargeAnswer {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

pub(super) struct Question {
    validate: Validate,
    asked_ms: u64,
    _room: LargeAnswer,
}

impl Question {
    /// Opens a question; without room for its answer the asker hears so, and nothing is asked.
    pub fn open(validate: Validate, budget: &LargeAnswers, now_ms: u64) -> Option<Self> {
        const { assert!(LARGE_ANSWERS_MAX * LARGE_MAX <= 64 * 1_024 * 1_024) };
        let Some(room) = budget.take() else {
            reply(&validate, ValidateOutcome::Busy);
            return None;
        };
        Some(Self {
            validate,
            asked_ms: now_ms,
            _room: room,
        })
    }

    pub fn message(&self) -> ValidationAsk<'_> {
        let job = self.validate.job;
        match &self.validate.ask {
            Ask::ShortIds => ValidationAsk::ShortIds { job },
            Ask::ByIndex(ids) => ValidationAsk::ByIndex { job, ids },
            Ask::All => ValidationAsk::All { job },
        }
    }

    pub fn is_late(&self, now_ms: u64) -> bool {
        now_ms.saturating_sub(self.asked_ms) >= ANSWER_DEADLINE_MS
    }

    /// Compares what came with what was asked and tells the asker.
    pub fn answered(self, answer: &ValidationAnswer<'_>, bytes: usize) {
        let outcome = self.outcome(answer, bytes);
        reply(&self.validate, outcome);
    }

    pub fn late(self) {
        reply(&self.validate, ValidateOutcome::Late);
    }

    pub fn session_ended(self) {
        reply(&self.validate, ValidateOutcome::SessionEnded);
    }

    fn outcome(&self, answer: &ValidationAnswer<'_>, bytes: usize) -> ValidateOutcome {
        todo!()
    }
}

/// Tells the asker; one that has gone away does not matter.
pub(super) fn reply(validate: &Validate, outcome: ValidateOutcome) {
    let _ = validate.reply.send(outcome);
}
