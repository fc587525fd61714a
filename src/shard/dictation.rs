//! Dictating a split: from the gateway's question to its answer, which leaves once the ledger holds it.

use std::sync::Arc;

use super::dialogue::Dialogue;
use super::due::DueEntry;
use super::session::Output;
use crate::ledger::books::Snapshot;
use crate::ledger::{Entry, SplitRow};
use crate::telemetry::Bound;
use crate::wire::{self, Coinbaser, CoinbaserRequest, Outputs};
use crate::work::{Dictated, MONEY_MAX};

/// A gateway waits so long for a split, in ns; a later answer could be taken for that of its next question.
const PATIENCE_NS: u64 = 5_000_000_000;

/// What a session has dictated and is about to.
#[derive(Default)]
pub(super) struct Dictation {
    last_id: u8,
    /// The answer that waits for the disk. A gateway asks one question at a time: a new one is in the place of it.
    waiting: Option<Waiting>,
}

struct Waiting {
    dictated: Dictated,
    asked_ns: u64,
}

impl Dialogue {
    /// Answers at once where there is nobody to pay; else when the ledger holds what is to be dictated.
    pub(super) fn hear_coinbaser_request(&mut self, request: &CoinbaserRequest<'_>, asked_ns: u64, out: &mut Output) {
        self.shard.telemetry.coinbaser_requests.add(1);
        self.dictation.last_id = self.dictation.last_id % u8::MAX + 1;
        let coinbaser_id = self.dictation.last_id;
        let snapshot: Option<Arc<Snapshot>> = self.shard.settings.published.latest();
        let payable = (1..=MONEY_MAX).contains(&request.value);
        if !payable {
            self.shard.telemetry.splits_refused.add(1);
            self.outbound.info(&self.key, NO_SUCH_VALUE, &mut out.bytes);
        }
        let split = snapshot.filter(|snapshot| payable && snapshot.payees() > 0);
        let Some(split) = split else {
            self.dictation.waiting = None;
            let split = Coinbaser::without_outputs(request.value, coinbaser_id);
            return self.say_split(&split, asked_ns, out);
        };
        let parent = *request.prev_block_hash;
        let dictated = Dictated {
            coinbaser_id,
            value: request.value,
            parent,
            with_balances: self.shard.settings.parents.is_known(&parent),
            time_s: self.shard.unix_s(),
            split,
        };
        if self.shard.room_for(&self.mailbox) == 0 {
            // What does not wait for the disk would not count after a restart.
            self.shard.telemetry.bounds[Bound::RingFull].add(1);
            self.dictation.waiting = None;
            return;
        }
        let row = SplitRow {
            prime_id: self.prime_id,
            coinbaser_id,
            value: dictated.value,
            parent,
            with_balances: dictated.with_balances,
            time_s: dictated.time_s,
            pin: dictated.split.pin(),
        };
        let waits = DueEntry::Split {
            to: self.slot,
            coinbaser_id,
        };
        self.shard.push_for(&self.mailbox, Entry::Split(Box::new(row)), waits);
        self.dictation.waiting = Some(Waiting { dictated, asked_ns });
    }

    /// The ledger holds the split: it is encoded now, as the socket takes it.
    pub(super) fn dictate(&mut self, coinbaser_id: u8, out: &mut Output) {
        let waiting = self
            .dictation
            .waiting
            .take_if(|waiting| waiting.dictated.coinbaser_id == coinbaser_id);
        let Some(Waiting { dictated, asked_ns }) = waiting else {
            return;
        };
        let mut encoded = Vec::new();
        for payout in dictated.payouts() {
            let output = wire::Output {
                value: payout.value,
                script: &payout.script,
            };
            output.encode(&mut encoded);
        }
        let split = Coinbaser {
            value: dictated.value,
            coinbaser_id,
            outputs: Outputs::decode(&encoded).expect("a split is cut to what a gateway takes"),
        };
        if !encoded.is_empty() {
            self.split_use.dictated(self.shard.now_ms());
        }
        if self.gateway.borrow_mut().memory.learn_split(dictated) {
            self.shard.telemetry.bounds[Bound::Splits].add(1);
        }
        self.say_split(&split, asked_ns, out);
    }

    fn say_split(&mut self, split: &Coinbaser<'_>, asked_ns: u64, out: &mut Output) {
        let waited_ns = self.shard.now_ns().saturating_sub(asked_ns);
        if waited_ns >= PATIENCE_NS {
            self.shard.telemetry.splits_late.add(1);
            return;
        }
        self.outbound.mining(&self.key, split, &mut out.bytes);
        self.shard.telemetry.split.record(waited_ns);
    }
}

/// For the log of a gateway that asks for the split of nothing, or of more than there is.
const NO_SUCH_VALUE: &str = "millrace: no block has the value that a split was asked for; its work pays the pool alone";
