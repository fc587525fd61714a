//! One template held against what the pool knows: what is asked, and what comes of the answers. Pure.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use super::shown::Shown;
use crate::telemetry::TemplateOutcome;
use crate::wire::{CROSS_CHECK_START, INDEXES_MAX, Transactions, ValidationError, short_id};
use crate::work::{
    Answer, Ask, GatewayClaim, KnownTransactions, TemplateBody, TemplateFault, TemplateTransaction, ValidateOutcome,
};

/// Of how many parts of a template's transactions one may be missing, before all are asked for: they come without padding
/// and in one answer, where each by index costs its own two bytes and the search.
const MISSING_PART: usize = 2;

/// What a template is checked by, and how far that is.
pub(super) struct Check {
    claim: GatewayClaim,
    /// In the order of the template; none where the transaction is not known yet.
    found: Vec<Option<Arc<TemplateTransaction>>>,
    ids: Ids,
    asked: Vec<u16>,
}

/// What the gateway said of its transactions.
enum Ids {
    NotAsked,
    Said {
        short: Vec<u64>,
        cross_check: [u8; 32],
    },
    /// What it said does not agree with its transactions, or could not be used: all are asked for.
    GivenUp {
        wrong: bool,
    },
}

/// What to do next.
#[derive(Debug)]
pub(super) enum Step {
    Ask(Ask),
    /// They are the template's, and nothing is wrong that can be seen: a node has the last word.
    Propose(Arc<TemplateBody>),
    Done(Verdict),
}

/// What came of a check.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Verdict {
    pub outcome: TemplateOutcome,
    /// For people.
    pub why: String,
}

impl Step {
    fn is_mismatch(&self) -> bool {
        matches!(self, Self::Done(verdict) if verdict.outcome == TemplateOutcome::Mismatch)
    }
}

impl Verdict {
    pub fn new(outcome: TemplateOutcome, why: impl Into<String>) -> Self {
        Self {
            outcome,
            why: why.into(),
        }
    }
}

impl Check {
    pub fn new(claim: GatewayClaim) -> Self {
        Self {
            claim,
            found: Vec::new(),
            ids: Ids::NotAsked,
            asked: Vec::new(),
        }
    }

    pub fn claim(&self) -> &GatewayClaim {
        &self.claim
    }

    /// Whether its short ids were found to be wrong on the way.
    pub fn had_wrong_ids(&self) -> bool {
        matches!(self.ids, Ids::GivenUp { wrong: true })
    }

    /// `known`: the template where all of it is known, of itself or another.
    pub fn begin(&mut self, known: Option<Arc<TemplateBody>>) -> Step {
        let claim = &self.claim.claim;
        // Where it is not its own, the gateway may have others of the same ids.
        if let Some(body) = known.filter(|body| claim.prove(body).is_ok()) {
            return Step::Propose(body);
        }
        match claim.tx_count {
            0 => self.prove(Arc::new(TemplateBody::new(Vec::new()))),
            // Whoever makes the block needs all of them as well.
            _ if claim.is_candidate => Step::Ask(Ask::All),
            _ => Step::Ask(Ask::ShortIds),
        }
    }

    /// Goes on with all transactions as the gateway has shown them, whoever had it asked.
    pub fn hear_shown(&mut self, shown: Shown) -> Step {
        match shown {
            Shown::All(body) => self.prove(body),
            Shown::Not(outcome) => Step::Done(self.unanswered(&outcome)),
        }
    }

    /// Goes on with what came of the last question. Transactions are looked up in `known`, which is locked for that alone.
    pub fn hear(&mut self, outcome: ValidateOutcome, known: &Mutex<KnownTransactions>) -> Step {
        let answer = match outcome {
            ValidateOutcome::Answered(answer) => answer,
            other => return Step::Done(self.unanswered(&other)),
        };
        match answer {
            Answer::ShortIds { ids, cross_check } => self.hear_ids(&ids, cross_check, known),
            Answer::Transactions(encoded) => {
                let Some(shown) = read(&encoded) else {
                    return Step::Done(Verdict::new(
                        TemplateOutcome::Contradictory,
                        "what it shows are no transactions",
                    ));
                };
                match std::mem::take(&mut self.asked) {
                    asked if asked.is_empty() => self.hear_all(shown),
                    asked => self.hear_missing(&asked, shown),
                }
            }
        }
    }

    fn hear_ids(&mut self, ids: &[[u8; 6]], cross_check: Option<[u8; 32]>, known: &Mutex<KnownTransactions>) -> Step {
        let short: Vec<u64> = ids.iter().map(number).collect();
        let Some(cross_check) = cross_check.filter(|_| short.len() == self.claim.claim.tx_count as usize) else {
            // The slot may have another template by now; all of it tells.
            return self.ask_all(false);
        };
        let mut wanted = HashMap::with_capacity(short.len());
        let mut twice = Vec::new();
        for (at, id) in short.iter().enumerate() {
            if wanted.insert(*id, at).is_some() {
                twice.push(*id);
            }
        }
        // Two of a template may share an id: neither is found by it.
        for id in twice {
            wanted.remove(&id);
        }
        let mut known = known.lock().unwrap_or_else(PoisonError::into_inner);
        self.found = known.find(&self.claim.short_id_key, &wanted);
        drop(known);
        self.found.resize(short.len(), None);
        let missing: Vec<u16> = self
            .found
            .iter()
            .zip(0..)
            .filter_map(|(found, at)| found.is_none().then_some(at))
            .collect();
        let most_are_missing = missing.len() > short.len() / MISSING_PART;
        self.ids = Ids::Said { short, cross_check };
        if most_are_missing {
            // What it said is held against all of them.
            return Step::Ask(Ask::All);
        }
        match missing.is_empty() {
            true => self.match_ids(),
            false => {
                self.asked.clone_from(&missing);
                Step::Ask(Ask::ByIndex(missing))
            }
        }
    }

    fn hear_missing(&mut self, asked: &[u16], shown: Vec<Arc<TemplateTransaction>>) -> Step {
        for (at, transaction) in asked.iter().zip(shown) {
            self.found[usize::from(*at)] = Some(transaction);
        }
        self.match_ids()
    }

    /// All are there: whether they are those that the gateway named.
    fn match_ids(&mut self) -> Step {
        let found: Option<Vec<_>> = std::mem::take(&mut self.found).into_iter().collect();
        let (Some(found), Ids::Said { short, cross_check }) = (found, &self.ids) else {
            return self.ask_all(false);
        };
        if !self.agree(&found, short, cross_check) {
            return self.ask_all(true);
        }
        match self.prove(Arc::new(TemplateBody::new(found))) {
            // Ids and transactions agree, and are of another template, or of none.
            step if step.is_mismatch() => self.ask_all(false),
            step => step,
        }
    }

    /// Whether these are the transactions that the gateway named.
    fn agree(&self, transactions: &[Arc<TemplateTransaction>], short: &[u64], cross_check: &[u8; 32]) -> bool {
        let mut crossed = CROSS_CHECK_START;
        for transaction in transactions {
            crossed.iter_mut().zip(transaction.wtxid).for_each(|(a, b)| *a ^= b);
        }
        let ids = transactions
            .iter()
            .map(|transaction| short_id(&self.claim.short_id_key, &transaction.wtxid));
        crossed == *cross_check && ids.eq(short.iter().copied())
    }

    /// All came. Where that is since most were not known it is noted whether the ids were theirs; those of another template
    /// prove nothing, since the slot may have been used again in between.
    fn hear_all(&mut self, shown: Vec<Arc<TemplateTransaction>>) -> Step {
        let disagrees = match &self.ids {
            Ids::Said { short, cross_check } => !self.agree(&shown, short, cross_check),
            Ids::NotAsked | Ids::GivenUp { .. } => false,
        };
        let step = self.prove(Arc::new(TemplateBody::new(shown)));
        if disagrees && !step.is_mismatch() {
            self.ids = Ids::GivenUp { wrong: true };
        }
        step
    }

    /// What is no answer comes to.
    fn unanswered(&self, outcome: &ValidateOutcome) -> Verdict {
        let is_too_large = self.claim.claim.tx_count as usize > INDEXES_MAX;
        match outcome {
            ValidateOutcome::Refused { error } if *error == ValidationError::TooMany as u8 && is_too_large => {
                Verdict::new(
                    TemplateOutcome::TooLarge,
                    "it has more transactions than its gateway can name",
                )
            }
            ValidateOutcome::Refused { error } => {
                Verdict::new(TemplateOutcome::Refused, format!("it answers with error {error:02X}"))
            }
            ValidateOutcome::Contradictory | ValidateOutcome::Unaskable | ValidateOutcome::Answered(_) => Verdict::new(
                TemplateOutcome::Contradictory,
                "it answers something else than it was asked",
            ),
            ValidateOutcome::Late => Verdict::new(TemplateOutcome::Late, "it does not answer in time"),
            ValidateOutcome::Busy => Verdict::new(TemplateOutcome::Busy, "it answers other questions"),
            ValidateOutcome::NoRoom => Verdict::new(TemplateOutcome::Busy, "there was no memory left for its answer"),
            ValidateOutcome::NoSession | ValidateOutcome::SessionEnded => {
                Verdict::new(TemplateOutcome::SessionEnded, "its session has ended")
            }
        }
    }

    fn ask_all(&mut self, wrong: bool) -> Step {
        self.ids = Ids::GivenUp { wrong };
        self.asked.clear();
        Step::Ask(Ask::All)
    }

    fn prove(&self, body: Arc<TemplateBody>) -> Step {
        match self.claim.claim.prove(&body) {
            Ok(()) => Step::Propose(body),
            Err(fault @ TemplateFault::Mismatch) => {
                Step::Done(Verdict::new(TemplateOutcome::Mismatch, fault.to_string()))
            }
            Err(fault) => Step::Done(Verdict::new(TemplateOutcome::Invalid, fault.to_string())),
        }
    }
}

pub(super) fn read(encoded: &[u8]) -> Option<Vec<Arc<TemplateTransaction>>> {
    let transactions = Transactions::new(encoded).ok()?;
    transactions
        .iter()
        .map(|raw| TemplateTransaction::read(raw).map(Arc::new))
        .collect()
}

fn number(id: &[u8; 6]) -> u64 {
    let mut bytes = [0; 8];
    bytes[..6].copy_from_slice(id);
    u64::from_le_bytes(bytes)
}

#[cfg(test)]
mod tests;
