//! Telling a gateway another least difficulty: what was measured, and the CONFIG that follows from it.
//!
//! The shard looks at all sessions on its timer; a share only adds to the session's sums when its answer is taken. New
//! terms are on disk, with a `prime_id` of their own, before their CONFIG leaves.

use super::dialogue::{Dialogue, mark_of};
use super::due::DueEntry;
use super::session::Output;
use crate::ledger::{Entry, Mark, SessionRow};
use crate::telemetry::Bound;
use crate::wire::{PublicKeys, SessionSigner};
use crate::work::{MinDiff, Terms};

/// Entries of new terms: their row, that they are proven, and the end of those before them.
const ENTRIES: usize = 3;

/// What it takes to say CONFIG again.
pub(super) struct Retelling {
    /// The Ed25519 half of the session's keys, which signs it; the other was wiped once the channel had its key.
    pub signer: SessionSigner,
    /// The gateway's long-term keys, for the ledger.
    pub long_term: PublicKeys,
    pub min_diff: MinDiff,
    /// On its way to the disk, or there.
    change: Option<Change>,
}

struct Change {
    signed_config: Vec<u8>,
    terms: Terms,
    durable: bool,
}

impl Retelling {
    pub fn new(signer: SessionSigner, long_term: PublicKeys, min_diff: MinDiff) -> Self {
        Self {
            signer,
            long_term,
            min_diff,
            change: None,
        }
    }

    /// The ledger holds a session's latest terms. False: they are its first.
    pub fn note_durable(&mut self) -> bool {
        self.change.as_mut().is_some_and(|change| {
            change.durable = true;
            true
        })
    }
}

impl Dialogue {
    /// The difficulty that the gateway was told, or is about to be; none where nobody steers.
    pub(super) fn steered_to(&self) -> Option<MinDiff> {
        self.retelling.as_ref().map(|retelling| retelling.min_diff)
    }

    /// The lowest that the gateway was told within the last `seconds`, in sessions before this one too: miners may be at work on it.
    pub(super) fn lately_steered_to(&self, seconds: u64) -> Option<MinDiff> {
        let since_s = self.shard.steady_s().saturating_sub(seconds);
        self.gateway.borrow().memory.min_diff_since(since_s)
    }

    /// Says new terms that are on disk, and sees to those that the timer asks for. Nothing of it happens while the gateway
    /// waits for a split: its job would stand half under either (protocol section 3).
    pub(super) fn steer(&mut self, out: &mut Output) {
        if self.waits_for_split() {
            return;
        }
        self.say_new_terms(out);
        if let Some(min_diff) = self.mailbox.take_new_min_diff() {
            self.begin_change(min_diff);
        }
    }

    /// Writes new terms down. Where that cannot be now, the timer asks again.
    fn begin_change(&mut self, min_diff: MinDiff) {
        let shard = self.shard.clone();
        let Some(retelling) = self.retelling.as_mut().filter(|retelling| {
            let is_new = retelling.change.is_none() && retelling.min_diff != min_diff;
            is_new && !self.mailbox.is_stopping() && shard.room_for(&self.mailbox) >= ENTRIES
        }) else {
            return;
        };
        // Not for a session that nobody has proved, nor for one whose gateway has another meanwhile.
        if !self.proof.is_marked() || self.gateway.borrow().session != Some(self.slot) {
            return;
        }
        let Some(prime_id) = shard.settings.prime_ids.next() else {
            return;
        };
        let (terms, signed_config) = shard.settings.terms(prime_id, min_diff, &retelling.signer);
        let row = SessionRow::new(&retelling.long_term, &terms, shard.unix_ms()).begun_by(&self.session_key);
        if min_diff > retelling.min_diff {
            shard.telemetry.min_diff_raised.add(1);
        } else {
            shard.telemetry.min_diff_lowered.add(1);
        }
        retelling.min_diff = min_diff;
        retelling.change = Some(Change {
            signed_config,
            terms,
            durable: false,
        });
        let former = std::mem::replace(&mut self.prime_id, prime_id);
        let proven = Mark::Proven {
            key: Box::new(self.key.clone()),
            replaces: Some(former),
            adopts: Vec::new(),
        };
        let entries = [
            (Entry::session(row), DueEntry::Nobody),
            (mark_of(&shard, prime_id, proven), DueEntry::Nobody),
            (
                mark_of(&shard, former, Mark::Ended { has_work: true }),
                DueEntry::Config { to: self.slot },
            ),
        ];
        for (entry, waits) in entries {
            shard.push_for(&self.mailbox, entry, waits);
        }
        shard.wake_writer();
        self.gateway.borrow_mut().renew_session(prime_id, &self.key);
        self.mailbox.told(min_diff, shard.now_ms());
    }

    fn say_new_terms(&mut self, out: &mut Output) {
        let change = self.retelling.as_mut().and_then(|retelling| {
            let change = &mut retelling.change;
            change.take_if(|change| change.durable)
        });
        let Some(Change {
            signed_config, terms, ..
        }) = change
        else {
            return;
        };
        self.outbound
            .mining_presigned(&self.key, &signed_config, &mut out.bytes);
        let mut gateway = self.gateway.borrow_mut();
        if gateway.memory.learn_terms(terms, self.shard.steady_s()) {
            self.shard.telemetry.bounds[Bound::Terms].add(1);
        }
    }
}
