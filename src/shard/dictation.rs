//! Dictating a split: from the gateway's question to its answer, which leaves once the ledger holds it.
//!
//! [`super::askers`] says whose turn it is.

use std::cell::Cell;

use super::dialogue::Dialogue;
use super::due::DueEntry;
use super::session::Output;
use crate::ledger::{Entry, SplitRow};
use crate::telemetry::Bound;
use crate::wire::{Coinbaser, CoinbaserOf, CoinbaserRequest, Encode};
use crate::work::{Dictated, MONEY_MAX};

/// A gateway waits 5 s for a split, and could take a later one for the answer to its next question. What is said within
/// this, in ns, has half a second for its way.
const PATIENCE_NS: u64 = 4_500_000_000;

/// The least value that a gateway asks a split for, in satoshi (protocol section 4). Of less than that it may be that nobody is
/// paid, and that excuses no work on other values.
const ASKED_LEAST_SAT: u64 = 31_250_000;

/// What a session has dictated and is about to.
#[derive(Default)]
pub(super) struct Dictation {
    last_id: u8,
    /// A gateway asks one question at a time: a new one is in the place of it.
    question: Option<Question>,
}

struct Question {
    /// No earlier did the gateway send it, ns of the shard's clock: it may have lain in the kernel while reading was held.
    asked_ns: u64,
    /// Its turn came in time, and the gateway had not taken what was said before.
    held_by_peer: bool,
    stage: Stage,
}

impl Question {
    /// Whether the gateway has given up, or is about to.
    fn is_late(&self, now_ns: u64) -> bool {
        is_late(self.asked_ns, now_ns)
    }
}

fn is_late(asked_ns: u64, now_ns: u64) -> bool {
    now_ns.saturating_sub(asked_ns) >= PATIENCE_NS
}

enum Stage {
    /// As it came.
    Asked { value: u64, parent: [u8; 32] },
    /// The answer is on its way to the disk, or there.
    Pinned { dictated: Dictated, durable: bool },
}

impl Dialogue {
    /// Notes what is asked for until its turn comes.
    pub(super) fn hear_coinbaser_request(&mut self, request: &CoinbaserRequest<'_>, asked_ns: u64, out: &mut Output) {
        self.shard.telemetry.coinbaser_requests.add(1);
        self.note_late_split();
        if !(1..=MONEY_MAX).contains(&request.value) {
            self.dictation.question = None;
            self.shard.telemetry.splits_refused.add(1);
            out.answer(|bytes| self.outbound.info(&self.key, NO_SUCH_VALUE, bytes));
            if is_late(asked_ns, self.shard.now_ns()) {
                self.shard.telemetry.splits_late.add(1);
                return;
            }
            return self.pay_nobody(request.value, asked_ns, out);
        }
        let stage = Stage::Asked {
            value: request.value,
            parent: *request.prev_block_hash,
        };
        self.dictation.question = Some(Question {
            asked_ns,
            held_by_peer: false,
            stage,
        });
        self.shard.ask_for_split(self.slot, &self.mailbox);
    }

    /// What the gateway asked for cannot be said: it has not taken what was said before.
    pub(super) fn hold_split(&mut self) {
        let now_ns = self.shard.now_ns();
        if let Some(question) = &mut self.dictation.question {
            question.held_by_peer |= !question.is_late(now_ns);
        }
    }

    /// A gateway that waits in vain pays nobody in good faith.
    pub(super) fn note_late_split(&mut self) {
        let now_ns = self.shard.now_ns();
        let question = self.dictation.question.as_ref();
        if question.is_some_and(|question| question.is_late(now_ns) && !question.held_by_peer) {
            self.split_use.not_told();
        }
    }

    pub(super) fn waits_for_split(&self) -> bool {
        self.dictation.question.is_some()
    }

    /// The ledger holds a split. False: it is not that of the question that waits.
    pub(super) fn note_durable_split(&mut self, coinbaser_id: u8) -> bool {
        match &mut self.dictation.question {
            Some(Question {
                stage: Stage::Pinned { dictated, durable },
                ..
            }) if dictated.coinbaser_id == coinbaser_id => {
                *durable = true;
                true
            }
            _ => false,
        }
    }

    /// Takes the next step with the question: pins its split, for which the caller has made sure of room in the ring, or says
    /// it, where it is durable.
    pub(super) fn dictate(&mut self, out: &mut Output) {
        self.note_late_split();
        let Some(question) = self.dictation.question.take() else {
            return;
        };
        if question.is_late(self.shard.now_ns()) {
            self.shard.telemetry.splits_late.add(1);
            return;
        }
        let Question {
            asked_ns,
            held_by_peer,
            stage,
        } = question;
        match stage {
            Stage::Asked { value, parent } => self.pin(value, parent, asked_ns, out),
            Stage::Pinned { durable: false, .. } => {
                self.dictation.question = Some(Question {
                    asked_ns,
                    held_by_peer,
                    stage,
                });
            }
            Stage::Pinned {
                dictated,
                durable: true,
            } => {
                let pays = Cell::new(false);
                let split = CoinbaserOf {
                    value: dictated.value,
                    coinbaser_id: dictated.coinbaser_id,
                    write_outputs: |out: &mut Vec<u8>| {
                        let before = out.len();
                        dictated.encode_outputs(out);
                        pays.set(out.len() > before);
                    },
                };
                self.say_split(&split, asked_ns, out);
                if pays.get() {
                    self.split_use.told(self.shard.now_ms());
                } else if dictated.value >= ASKED_LEAST_SAT {
                    self.split_use.not_told();
                }
                if self.gateway.borrow_mut().memory.learn_split(dictated) {
                    self.shard.telemetry.bounds[Bound::Splits].add(1);
                }
            }
        }
    }

    /// Splits by the latest snapshot, or answers at once where there is nobody to pay.
    fn pin(&mut self, value: u64, parent: [u8; 32], asked_ns: u64, out: &mut Output) {
        let latest = self.shard.settings.published.latest();
        let Some(latest) = latest.filter(|latest| latest.snapshot.payees() > 0) else {
            self.split_use.not_told();
            return self.pay_nobody(value, asked_ns, out);
        };
        let dictated = Dictated {
            coinbaser_id: self.next_coinbaser_id(),
            value,
            parent,
            with_balances: latest.with_balances && self.shard.chain.borrow().has(&parent),
            time_s: self.shard.steady_s(),
            split: latest.snapshot,
        };
        let row = SplitRow {
            prime_id: self.prime_id,
            coinbaser_id: dictated.coinbaser_id,
            value,
            parent,
            split: dictated.pinned(),
            time_s: dictated.time_s,
        };
        let waits = DueEntry::Split {
            to: self.slot,
            coinbaser_id: dictated.coinbaser_id,
        };
        self.shard.push(Entry::Split(Box::new(row)), waits);
        self.shard.split_is_pinned();
        self.shard.wake_writer();
        let stage = Stage::Pinned {
            dictated,
            durable: false,
        };
        self.dictation.question = Some(Question {
            asked_ns,
            held_by_peer: false,
            stage,
        });
    }

    fn pay_nobody(&mut self, value: u64, asked_ns: u64, out: &mut Output) {
        let split = Coinbaser::without_outputs(value, self.next_coinbaser_id());
        self.say_split(&split, asked_ns, out);
    }

    /// 1 to 255, in turn.
    fn next_coinbaser_id(&mut self) -> u8 {
        self.dictation.last_id = self.dictation.last_id % u8::MAX + 1;
        self.dictation.last_id
    }

    fn say_split(&mut self, split: &impl Encode, asked_ns: u64, out: &mut Output) {
        out.answer(|bytes| self.outbound.mining(&self.key, split, bytes));
        out.answers.with_split = true;
        let waited_ns = self.shard.now_ns().saturating_sub(asked_ns);
        self.shard.telemetry.split.record(waited_ns);
    }
}

/// For the log of a gateway that asks for the split of nothing, or of more than there is.
const NO_SUCH_VALUE: &str = "millrace: no block has the value that a split was asked for; its work pays the pool alone";
