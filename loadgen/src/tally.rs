//! What was sent, what came back for it, and how long that took.

use std::collections::VecDeque;

use hdrhistogram::Histogram;
use millrace::wire::{Reason, ShareResponse, Status};

use crate::restart::Comeback;
use crate::tip::Asked;

/// Faults that are told in words; the others are counted.
const SAMPLES_MAX: usize = 12;

/// Latencies up to this are told apart, in ns.
const LATENCY_MAX_NS: u64 = 600_000_000_000;

/// Outputs of a split.
const OUTPUTS_MAX: u64 = 512;

/// One slot for each code of a reason.
pub const CODES: usize = 31;

/// What a share must be answered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected {
    Accepted,
    /// Accepted, until the pool finds out that no block can come of its template.
    Condemned,
    Refused(Reason),
}

/// A share that waits for its answer.
#[derive(Debug, Clone, Copy)]
pub struct Waiting {
    /// When it was due, in ns of the run.
    pub due_ns: u64,
    pub nonce: u32,
    pub pot: u8,
    pub job_id: u8,
    pub expected: Expected,
    /// It left between HELLO and its response.
    pub early: bool,
    /// A section of its job left then.
    pub early_section: bool,
    /// Its coinbase pays anybody of a split.
    pub pays: bool,
    /// What the ledger would know it by, where that is compared.
    pub hash64: Option<u64>,
}

/// What an answer was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answered {
    Accepted,
    Refused,
    /// Refused since the pool did not read the early frame that carried the job.
    UnreadEarly,
    Wrong,
    /// To nothing that waits: sent twice, or to a share never sent.
    Unasked,
}

/// The shares of one connection that wait, oldest first.
#[derive(Debug, Default)]
pub struct InFlight(VecDeque<Waiting>);

impl InFlight {
    pub fn len(&self) -> usize {
        self.0.len()
    }

    pub fn push(&mut self, waiting: Waiting) {
        self.0.push_back(waiting);
    }

    /// Lets go of early shares that were due before `since_ns`; says how many.
    pub fn expire_early(&mut self, since_ns: u64) -> u64 {
        let before = self.0.len();
        self.0.retain(|waiting| !waiting.early || waiting.due_ns >= since_ns);
        (before - self.0.len()) as u64
    }

    /// Lets go of all; says how many left early, and how many later.
    pub fn clear(&mut self) -> (u64, u64) {
        let early = self.0.iter().filter(|waiting| waiting.early).count();
        let later = self.0.len() - early;
        self.0.clear();
        self.0.shrink_to(0);
        (early as u64, later as u64)
    }

    /// The share that an answer is for; order is free, so all that wait are looked at, the oldest first.
    pub fn take(&mut self, answer: &ShareResponse) -> Option<Waiting> {
        let at = self.0.iter().position(|waiting| {
            waiting.nonce == answer.nonce && waiting.pot == answer.target_pot && waiting.job_id == answer.job_id
        })?;
        self.0.remove(at)
    }
}

/// The figures of one thread, or of all together.
#[derive(Debug)]
pub struct Tally {
    /// Shares meant to count that left.
    pub sent_good: u64,
    /// Shares meant to be refused that left, by code.
    pub sent_bad: [u64; CODES],
    pub accepted: u64,
    /// Of these, answered within the time that is measured.
    pub accepted_in_time: u64,
    /// Of the accepted, those whose coinbase pays anybody of a split.
    pub accepted_paying: u64,
    /// Of the accepted, with status 55.
    pub tentative: u64,
    /// Refused as expected, by code.
    pub refused: [u64; CODES],
    pub wrong: u64,
    pub unasked: u64,
    /// Unanswered when the run was over.
    pub missing: u64,
    /// Unanswered when their connection ended.
    pub lost: u64,
    /// Of the early ones, unanswered when their connection ended.
    pub lost_early: u64,
    /// Early ones that were not answered in time, and shares whose job the pool did not know since it left early. It
    /// must read them: it has the former session's key (protocol section 2), but where it was restarted.
    pub unread_early: u64,
    pub sent_early: u64,
    pub answered_early: u64,
    /// Found while there was no connection; a gateway forgets them.
    pub lost_offline: u64,
    /// Sent before HELLO, where nobody can read them.
    pub lost_before_hello: u64,
    /// Due within the time of the run and never sent: the pool, or the generator, did not keep up.
    pub unsent: u64,
    pub handshakes: u64,
    pub reconnects: u64,
    /// Connections that the pool ended.
    pub cut_off: u64,
    pub failed_connects: u64,
    pub configs: u64,
    pub splits_asked: u64,
    pub splits_answered: u64,
    /// Not answered in the 5 s that a gateway waits.
    pub splits_late: u64,
    /// Of these, what was asked at the tip that all ask at.
    pub at_tip: Asked,
    /// Words of a new block.
    pub new_blocks: u64,
    /// About the transactions of jobs.
    pub questions: u64,
    pub infos: u64,
    pub pings: u64,
    /// What the pool did against the protocol.
    pub faults: u64,
    /// Some of what went wrong, in words.
    pub samples: Vec<String>,
    /// From when a share was due to its answer, by what it was.
    pub accepted_ns: Histogram<u64>,
    pub refused_ns: Histogram<u64>,
    /// From connecting, or from when that was due, to CONFIG.
    pub handshake_ns: Histogram<u64>,
    pub split_ns: Histogram<u64>,
    /// Outputs of the splits that were answered.
    pub split_outputs: Histogram<u64>,
    /// From losing a session to being configured again.
    pub away_ns: Histogram<u64>,
    /// How sessions came back after each restart, in the order in which these were asked for.
    pub comebacks: Vec<Comeback>,
    /// What the ledger knows the acknowledged by, where they are compared one by one.
    pub acknowledged: Vec<u64>,
}

impl Default for Tally {
    fn default() -> Self {
        Self {
            sent_good: 0,
            sent_bad: [0; CODES],
            accepted: 0,
            accepted_in_time: 0,
            accepted_paying: 0,
            tentative: 0,
            refused: [0; CODES],
            wrong: 0,
            unasked: 0,
            missing: 0,
            lost: 0,
            lost_early: 0,
            unread_early: 0,
            sent_early: 0,
            answered_early: 0,
            lost_offline: 0,
            lost_before_hello: 0,
            unsent: 0,
            handshakes: 0,
            reconnects: 0,
            cut_off: 0,
            failed_connects: 0,
            configs: 0,
            splits_asked: 0,
            splits_answered: 0,
            splits_late: 0,
            at_tip: Asked::default(),
            new_blocks: 0,
            questions: 0,
            infos: 0,
            pings: 0,
            faults: 0,
            samples: Vec::new(),
            accepted_ns: histogram(),
            refused_ns: histogram(),
            handshake_ns: histogram(),
            split_ns: histogram(),
            split_outputs: Histogram::new_with_bounds(1, OUTPUTS_MAX, 3).expect("bounds that a histogram can have"),
            away_ns: histogram(),
            comebacks: Vec::new(),
            acknowledged: Vec::new(),
        }
    }
}

impl Tally {
    /// A share leaves.
    pub fn sent(&mut self, waiting: &Waiting) {
        match waiting.expected {
            Expected::Accepted | Expected::Condemned => self.sent_good += 1,
            Expected::Refused(reason) => self.sent_bad[usize::from(reason.code())] += 1,
        }
        self.sent_early += u64::from(waiting.early);
    }

    /// An answer arrives, to what waited for it if anything did.
    pub fn answered(
        &mut self,
        answer: &ShareResponse,
        waiting: Option<&Waiting>,
        now_ns: u64,
        in_time: bool,
    ) -> Answered {
        let Some(waiting) = waiting else {
            self.unasked += 1;
            self.sample(|| format!("an answer to no share that waits: {answer:?}"));
            return Answered::Unasked;
        };
        self.answered_early += u64::from(waiting.early);
        let latency_ns = now_ns.saturating_sub(waiting.due_ns).max(1);
        let accepted = answer.status != Status::Rejected;
        // The ledger has it, expected or not.
        if accepted {
            self.accepted += 1;
            self.accepted_in_time += u64::from(in_time);
            self.accepted_paying += u64::from(waiting.pays);
            self.tentative += u64::from(answer.status == Status::Tentative);
            self.accepted_ns.saturating_record(latency_ns);
            self.acknowledged.extend(waiting.hash64);
        }
        match waiting.expected {
            Expected::Accepted | Expected::Condemned if accepted => Answered::Accepted,
            Expected::Refused(reason) if !accepted && answer.reason == reason.code() => {
                self.refused_as(reason, latency_ns)
            }
            Expected::Condemned if answer.reason == Reason::BadCoinbase.code() => {
                self.refused_as(Reason::BadCoinbase, latency_ns)
            }
            _ if waiting.early_section && !accepted && lacks_a_section(answer.reason) => {
                self.unread_early += 1;
                self.sample(|| format!("a job that left early is unknown: {answer:?}"));
                Answered::UnreadEarly
            }
            expected => {
                self.wrong += 1;
                self.sample(|| format!("expected {expected:?}, but {answer:?}"));
                Answered::Wrong
            }
        }
    }

    fn refused_as(&mut self, reason: Reason, latency_ns: u64) -> Answered {
        self.refused[usize::from(reason.code())] += 1;
        self.refused_ns.saturating_record(latency_ns);
        Answered::Refused
    }

    /// The pool did what the protocol forbids.
    pub fn fault(&mut self, what: impl FnOnce() -> String) {
        self.faults += 1;
        self.sample(what);
    }

    pub fn sample(&mut self, what: impl FnOnce() -> String) {
        if self.samples.len() < SAMPLES_MAX {
            self.samples.push(what());
        }
    }

    pub fn refused_total(&self) -> u64 {
        self.refused.iter().sum()
    }

    pub fn sent_total(&self) -> u64 {
        self.sent_good + self.sent_bad.iter().sum::<u64>()
    }

    /// Of the restart with this number.
    pub fn comeback(&mut self, restart: usize) -> &mut Comeback {
        if self.comebacks.len() <= restart {
            self.comebacks.resize_with(restart + 1, Comeback::default);
        }
        &mut self.comebacks[restart]
    }

    /// Takes another thread's figures in.
    pub fn merge(&mut self, other: &Self) {
        for (ours, theirs) in [
            (&mut self.sent_good, other.sent_good),
            (&mut self.accepted, other.accepted),
            (&mut self.accepted_in_time, other.accepted_in_time),
            (&mut self.accepted_paying, other.accepted_paying),
            (&mut self.tentative, other.tentative),
            (&mut self.wrong, other.wrong),
            (&mut self.unasked, other.unasked),
            (&mut self.missing, other.missing),
            (&mut self.lost, other.lost),
            (&mut self.lost_early, other.lost_early),
            (&mut self.unread_early, other.unread_early),
            (&mut self.sent_early, other.sent_early),
            (&mut self.answered_early, other.answered_early),
            (&mut self.lost_offline, other.lost_offline),
            (&mut self.lost_before_hello, other.lost_before_hello),
            (&mut self.unsent, other.unsent),
            (&mut self.handshakes, other.handshakes),
            (&mut self.reconnects, other.reconnects),
            (&mut self.cut_off, other.cut_off),
            (&mut self.failed_connects, other.failed_connects),
            (&mut self.configs, other.configs),
            (&mut self.splits_asked, other.splits_asked),
            (&mut self.splits_answered, other.splits_answered),
            (&mut self.splits_late, other.splits_late),
            (&mut self.new_blocks, other.new_blocks),
            (&mut self.questions, other.questions),
            (&mut self.infos, other.infos),
            (&mut self.pings, other.pings),
            (&mut self.faults, other.faults),
        ] {
            *ours += theirs;
        }
        self.at_tip.merge(&other.at_tip);
        for code in 0..CODES {
            self.sent_bad[code] += other.sent_bad[code];
            self.refused[code] += other.refused[code];
        }
        for (restart, comeback) in other.comebacks.iter().enumerate() {
            self.comeback(restart).merge(comeback);
        }
        self.acknowledged.extend_from_slice(&other.acknowledged);
        for sample in &other.samples {
            self.sample(|| sample.clone());
        }
        for (ours, theirs) in [
            (&mut self.accepted_ns, &other.accepted_ns),
            (&mut self.refused_ns, &other.refused_ns),
            (&mut self.handshake_ns, &other.handshake_ns),
            (&mut self.split_ns, &other.split_ns),
            (&mut self.split_outputs, &other.split_outputs),
            (&mut self.away_ns, &other.away_ns),
        ] {
            ours.add(theirs).expect("both histograms have the same bounds");
        }
    }
}

/// Reasons of a share whose job or coinbase never came.
fn lacks_a_section(code: u16) -> bool {
    matches!(
        Reason::from_code(code),
        Some(Reason::BadJobId | Reason::CoinbaseMissing)
    )
}

/// Where times of a run are counted, in ns.
pub fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1_000, LATENCY_MAX_NS, 3).expect("bounds that a histogram can have")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(nonce: u32, expected: Expected) -> Waiting {
        Waiting {
            due_ns: 1_000_000,
            nonce,
            pot: 1,
            job_id: 2,
            expected,
            early: false,
            early_section: false,
            pays: false,
            hash64: None,
        }
    }

    fn answer(in_flight: &mut InFlight, tally: &mut Tally, answer: ShareResponse) -> Answered {
        let waiting = in_flight.take(&answer);
        tally.answered(&answer, waiting.as_ref(), 5_000_000, true)
    }

    #[test]
    fn answers_find_their_share_in_any_order_and_once() {
        let (mut in_flight, mut tally) = (InFlight::default(), Tally::default());
        for nonce in 0..3 {
            in_flight.push(waiting(nonce, Expected::Accepted));
        }
        in_flight.push(waiting(3, Expected::Refused(Reason::HighHash)));
        let refusal = ShareResponse::rejected(Reason::HighHash, 3, 1, 2);
        assert_eq!(answer(&mut in_flight, &mut tally, refusal), Answered::Refused);
        for nonce in [2, 0] {
            let accepted = ShareResponse::accepted(nonce, 1, 2);
            assert_eq!(answer(&mut in_flight, &mut tally, accepted), Answered::Accepted);
            assert_eq!(answer(&mut in_flight, &mut tally, accepted), Answered::Unasked);
        }
        let other_slot = ShareResponse::accepted(1, 1, 3);
        assert_eq!(answer(&mut in_flight, &mut tally, other_slot), Answered::Unasked);
        assert_eq!((in_flight.len(), tally.accepted, tally.unasked), (1, 2, 3));
        assert_eq!(tally.accepted_ns.len(), 2);
        let median = tally.accepted_ns.value_at_quantile(0.5);
        assert!((3_990_000..4_010_000).contains(&median), "{median}");
    }

    #[test]
    fn another_reason_or_verdict_is_wrong() {
        let (mut in_flight, mut tally) = (InFlight::default(), Tally::default());
        for nonce in 0..3 {
            in_flight.push(waiting(nonce, Expected::Refused(Reason::BadNtime)));
        }
        in_flight.push(waiting(3, Expected::Accepted));
        let wrong = [
            ShareResponse::rejected(Reason::HighHash, 0, 1, 2),
            ShareResponse::accepted(1, 1, 2),
            ShareResponse::rejected(Reason::BadJobId, 3, 1, 2),
        ];
        for wrong in wrong {
            assert_eq!(answer(&mut in_flight, &mut tally, wrong), Answered::Wrong);
        }
        assert_eq!(
            (tally.wrong, tally.accepted),
            (3, 1),
            "a share wrongly accepted is in the ledger"
        );
    }

    #[test]
    fn a_job_that_went_out_early_and_is_unknown_is_told_apart() {
        let (mut in_flight, mut tally) = (InFlight::default(), Tally::default());
        in_flight.push(Waiting {
            early_section: true,
            ..waiting(0, Expected::Accepted)
        });
        in_flight.push(Waiting {
            early: true,
            ..waiting(1, Expected::Accepted)
        });
        let unknown = ShareResponse::rejected(Reason::BadJobId, 0, 1, 2);
        assert_eq!(answer(&mut in_flight, &mut tally, unknown), Answered::UnreadEarly);
        assert_eq!(tally.unread_early, 1);
        assert_eq!(in_flight.expire_early(1_000_000), 0);
        assert_eq!(in_flight.expire_early(1_000_001), 1);
        assert_eq!((tally.wrong, in_flight.len()), (0, 0));
    }
}
