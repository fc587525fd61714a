//! A session's shares: from the decoded message to an entry in the ring, or to a refusal.
//!
//! Nothing on this way locks, allocates (but for sections, and a new username), logs or enters the kernel.

use super::dialogue::Dialogue;
use super::due::{Accepted, DueEntry};
use super::session::Output;
use crate::guard::refusal_weight;
use crate::ledger::{self, CandidateRow, Entry, MinerRow, ShareEntry, WaitingEntry};
use crate::telemetry::{Bound, EndReason};
use crate::wire::{Reason, Share, ShareResponse, short_id_key};
use crate::work::{self, Context, GatewayClaim, MinerId, MinerRef, Refusal, TemplateClaim, WorkBound, judge};

/// For the log of a gateway whose work pays the pool alone.
const PAYS_NOBODY: &str = "millrace: this gateway's work does not pay the splits that it was dictated";

impl Dialogue {
    /// Judges a share. The caller has made sure that all it can push fits into the ring.
    pub(super) fn hear_share(&mut self, share: &Share<'_>, complete_ns: u64, out: &mut Output) {
        // The mark that proves the session comes before its first share.
        self.push_proof();
        let time_ms = self.shard.unix_ms();
        let judged = {
            let context = Context {
                chain: &self.shard.chain.borrow(),
                now_s: time_ms / 1_000,
                steady_s: ledger::steady_s(complete_ns),
                miners: &self.shard.miners.borrow(),
                may_wait: self.shard.ledger.borrow().may_wait(),
                allows_without_payouts: self.split_use.allows_without(self.shard.settings.split_use),
                own_template: self.shard.own_template.get(),
            };
            judge(share, &mut self.jobs, &mut self.gateway.borrow_mut().memory, &context)
        };
        let judged_ns = self.shard.now_ns();
        self.shard
            .telemetry
            .frame_to_verdict
            .record(judged_ns.saturating_sub(complete_ns));
        if let Some(candidate) = judged.candidate {
            // Before the share itself, and whatever the verdict on it.
            self.shard.telemetry.candidates.add(1);
            let row = CandidateRow::new(*candidate, self.gateway_key, time_ms).of_frame(complete_ns);
            self.push(Entry::Candidate(Box::new(row)), DueEntry::Nobody);
        }
        if let Some(claim) = judged.claim {
            self.have_checked(*claim);
        }
        match judged.verdict {
            Ok(accepted) => {
                let miner = self.miner(accepted, share);
                self.note_split_use(accepted.pays, accepted.pot, out);
                let entry = ShareEntry {
                    prime_id: accepted.prime_id,
                    hash64: accepted.hash64(),
                    parent: accepted.parent,
                    pot: accepted.pot,
                    miner: miner.0,
                    time_ms,
                    enqueued_ns: judged_ns,
                };
                let answer = Accepted {
                    nonce: share.nonce,
                    target_pot: share.target_pot,
                    job_id: share.job_id,
                    complete_ns,
                    tentative: accepted.waits_for.is_some(),
                };
                let entry = match accepted.waits_for {
                    None => Entry::Share(entry),
                    Some(facts) => Entry::Waiting(Box::new(WaitingEntry { share: entry, facts })),
                };
                self.push(entry, DueEntry::Answer { to: self.slot, answer });
                self.mailbox.under_way.set(self.mailbox.under_way.get() + 1);
            }
            Err(refusal) => {
                match refusal.reason {
                    Reason::BadCoinbaseOutputs => self.note_split_use(false, share.target_pot, out),
                    Reason::StaleBlock => self.shard.ask_for_duplicates(&self.gateway),
                    Reason::BadUsername => self.say_why_refused(share.username, out),
                    _ => {}
                }
                self.refuse(share, refusal, complete_ns, out);
            }
        }
    }

    /// Leaves what the share has committed to for those who hold templates against a node.
    fn have_checked(&mut self, claim: TemplateClaim) {
        let Some(checks) = &self.shard.settings.templates else {
            return;
        };
        let pool = self.pool_key.public().ed25519;
        let (slot, number) = (claim.slot, claim.number);
        let is_odd = claim.is_candidate || self.jobs.is_odd(slot);
        let has_unshown = self.gateway.borrow().memory.templates.has_unshown();
        let taken = (checks.tell)(GatewayClaim {
            gateway: self.gateway_key,
            short_id_key: short_id_key(&self.gateway_key, &pool),
            is_odd,
            has_unshown,
            claim,
        });
        if !taken {
            self.shard.telemetry.bounds[Bound::Templates].add(1);
            self.jobs.choose_again(slot, number);
        }
    }

    /// Raises the alert where the session's work hardly ever pays what it was told to.
    fn note_split_use(&mut self, pays: bool, pot: u8, out: &mut Output) {
        if !pays {
            self.note_late_split();
        }
        let rule = self.shard.settings.split_use;
        if self.split_use.note(pays, pot, self.shard.now_ms(), rule) {
            self.shard.telemetry.split_use_alerts.add(1);
            tracing::warn!(
                prime_id = self.prime_id,
                refused = rule.refuse,
                "work of a session that was dictated splits pays the pool alone"
            );
            self.outbound.info(&self.key, PAYS_NOBODY, &mut out.bytes);
        }
    }

    /// Says that a share is on disk, and what that means for it.
    pub(super) fn accept(&mut self, accepted: Accepted, out: &mut Output) {
        let Accepted {
            nonce,
            target_pot,
            job_id,
            ..
        } = accepted;
        let response = match accepted.tentative {
            false => ShareResponse::accepted(nonce, target_pot, job_id),
            true => ShareResponse::tentative(nonce, target_pot, job_id),
        };
        out.answer(|bytes| self.outbound.mining(&self.key, &response, bytes));
        out.answered.push(accepted.complete_ns);
    }

    fn refuse(&mut self, share: &Share<'_>, refusal: Refusal, complete_ns: u64, out: &mut Output) {
        self.shard.telemetry.shares_refused[refusal.reason].add(1);
        self.refused_weight = self.refused_weight.saturating_add(refusal_weight(refusal.reason));
        if let Some(bound) = refusal.bound {
            self.shard.telemetry.bounds[Bound::from(bound)].add(1);
            if bound == WorkBound::ForgottenDuplicates {
                self.end_for_new_terms();
            }
        }
        let response = ShareResponse::rejected(refusal.reason, share.nonce, share.target_pot, share.job_id);
        out.answer(|bytes| self.outbound.mining(&self.key, &response, bytes));
        out.answered.push(complete_ns);
    }

    /// Work of this session may be a duplicate that nobody remembers, and that could not be read back; that of the gateway's
    /// next session cannot. A share of an earlier one is no reason to end this.
    fn end_for_new_terms(&self) {
        if self.gateway.borrow().memory.needs_new_terms(self.prime_id) {
            self.mailbox.end(EndReason::ForgottenDuplicates);
        }
    }

    fn push(&self, entry: Entry, waits: DueEntry) {
        self.shard.push_for(&self.mailbox, entry, waits);
    }

    /// A payee or worker row is made by an accepted share alone, and before it.
    fn miner(&self, accepted: work::Accepted, share: &Share<'_>) -> MinerId {
        if let MinerRef::Known(known) = accepted.miner {
            self.shard.miners.borrow().note_used(known);
            return known;
        }
        let learnt = self.shard.miners.borrow_mut().learn(share.username);
        let (id, new) = learnt.expect("the verdict says that the name is good, and that there is room for it");
        if let Some(new) = new {
            self.gateway.borrow_mut().memory.learn_miner(self.shard.steady_s());
            let row = MinerRow {
                script: new.script,
                worker: new.worker,
            };
            let entry = Entry::Miner {
                local: id.0,
                miner: Box::new(row),
            };
            self.push(entry, DueEntry::Nobody);
        }
        id
    }
}
