//! What one shard counts and measures.

use super::bound::Bound;
use super::counter::{Counter, Gauge};
use super::end::EndReason;
use super::histogram::Histogram;
use super::table::Table;
use crate::guard::Rule;
use crate::wire::Reason;
use crate::work::POT_MAX;

/// Powers of two that a difficulty can be.
pub const POTS: usize = POT_MAX as usize + 1;

/// The numbers of one shard; only its executor writes them.
// A pair of cache lines to itself, as the processor fetches them, so that no neighbour's writes slow this shard.
#[repr(align(128))]
#[derive(Debug)]
pub struct ShardTelemetry {
    // Shares.
    /// Shares whose acceptance is on disk and was handed to their session, or whose session has ended meanwhile.
    pub shares_accepted: Counter,
    /// Shares on a parent that no node of ours had seen, answered tentatively once they were on disk.
    pub shares_tentative: Counter,
    /// By the reason that was answered.
    pub shares_refused: Table<Reason>,
    /// Hashes that meet the network target, whatever the verdict on them as a share.
    pub candidates: Counter,

    /// Duplicates of a gateway on a parent that were let go of, and are being read back, now.
    pub reloads_under_way: Gauge,
    /// Those that were read back, and those that could not be.
    pub reloads_done: Counter,
    pub reloads_failed: Counter,

    // Messages and bytes.
    /// Frames opened or skipped after HELLO.
    pub frames_in: Counter,
    pub bytes_in: Counter,
    pub bytes_out: Counter,
    /// Writes to sockets; answers that leave together are one.
    pub writes: Counter,
    /// Early frames that a former key of their gateway opened (protocol section 2).
    pub early_opened: Counter,
    /// Early frames that nothing opened.
    pub early_skipped: Counter,
    pub pings: Counter,
    pub coinbaser_requests: Counter,
    /// Splits that were ready when their gateway waited no more, and were not said.
    pub splits_late: Counter,
    /// Sessions whose work hardly ever paid what it was told to, each time that showed.
    pub split_use_alerts: Counter,
    /// Splits of a value that no block can have.
    pub splits_refused: Counter,
    /// Answers about a job that nobody waits for, such as those that came too late.
    pub validations_unasked: Counter,

    /// Shares for payees whom the policy does not admit.
    pub shares_denied: Counter,
    /// Jobs whose shares are refused since no block could come of them.
    pub jobs_condemned: Counter,
    /// Gateways that did not show the transactions of their templates again and again, each time that showed.
    pub gateways_unshown: Counter,

    // Connections and sessions.
    pub connections_accepted: Counter,
    /// Handshakes that became a session.
    pub handshakes_ok: Counter,
    pub handshakes_failed: Counter,
    /// Sessions proved to be of a gateway that was remembered: its work from before counts on.
    pub sessions_resumed: Counter,
    /// Connections between accept and session, now.
    pub handshakes_under_way: Gauge,
    /// Sessions, now.
    pub sessions: Gauge,
    /// Gateways remembered, with or without a session, now.
    pub gateways: Gauge,
    /// By reason; those of handshakes that failed too.
    pub ends: Table<EndReason>,
    /// How often each was hit.
    pub bounds: Table<Bound>,

    /// CONFIGs that raised a gateway's least difficulty, and such that lowered it.
    pub min_diff_raised: Counter,
    pub min_diff_lowered: Counter,
    /// Sessions that are steered by their least difficulty's power of two, now.
    pub sessions_by_pot: [Gauge; POTS],
    // Guards, by rule.
    /// Connections turned away.
    pub guard_refused: Table<Rule>,
    /// Times that a connection was not read for a while.
    pub guard_slowed: Table<Rule>,
    /// Sessions cut off.
    pub guard_cut: Table<Rule>,
    /// Bans given.
    pub guard_banned: Table<Rule>,
    /// Addresses known to the guards, now.
    pub guard_addresses: Gauge,

    // Times, in ns.
    /// When the shard last had its turn, by its clock of durations; 0 before the first time.
    pub beat_ns: Gauge,
    /// From accept to the response of a handshake.
    pub handshake: Histogram,
    /// From a share's complete frame to the verdict on it.
    pub frame_to_verdict: Histogram,
    /// From an accepted share's complete frame to when the shard learnt that it is on disk.
    pub frame_to_durable: Histogram,
    /// From the request for a split to its answer.
    pub split: Histogram,
    /// From when the control plane left a new chain for the shard to when the shard judged by it.
    pub chain_to_shard: Histogram,
    /// From when the pool heard of a new block to when a gateway's socket had taken the word of it.
    pub block_to_gateway: Histogram,
    /// From a share's complete frame to when the socket has taken its answer, accepted or refused.
    pub frame_to_answer: Histogram,
}

impl Default for ShardTelemetry {
    fn default() -> Self {
        Self {
            shares_accepted: Counter::default(),
            shares_tentative: Counter::default(),
            shares_refused: Table::default(),
            candidates: Counter::default(),
            reloads_under_way: Gauge::default(),
            reloads_done: Counter::default(),
            reloads_failed: Counter::default(),
            frames_in: Counter::default(),
            bytes_in: Counter::default(),
            bytes_out: Counter::default(),
            writes: Counter::default(),
            early_opened: Counter::default(),
            early_skipped: Counter::default(),
            pings: Counter::default(),
            coinbaser_requests: Counter::default(),
            splits_late: Counter::default(),
            splits_refused: Counter::default(),
            split_use_alerts: Counter::default(),
            validations_unasked: Counter::default(),
            shares_denied: Counter::default(),
            jobs_condemned: Counter::default(),
            gateways_unshown: Counter::default(),
            connections_accepted: Counter::default(),
            handshakes_ok: Counter::default(),
            handshakes_failed: Counter::default(),
            sessions_resumed: Counter::default(),
            handshakes_under_way: Gauge::default(),
            sessions: Gauge::default(),
            gateways: Gauge::default(),
            ends: Table::default(),
            bounds: Table::default(),
            min_diff_raised: Counter::default(),
            min_diff_lowered: Counter::default(),
            sessions_by_pot: [const { Gauge::new() }; POTS],
            guard_refused: Table::default(),
            guard_slowed: Table::default(),
            guard_cut: Table::default(),
            guard_banned: Table::default(),
            guard_addresses: Gauge::default(),
            beat_ns: Gauge::default(),
            handshake: Histogram::of_times(),
            frame_to_verdict: Histogram::of_times(),
            frame_to_durable: Histogram::of_times(),
            split: Histogram::of_times(),
            chain_to_shard: Histogram::of_times(),
            block_to_gateway: Histogram::of_times(),
            frame_to_answer: Histogram::of_times(),
        }
    }
}

impl ShardTelemetry {
    /// For how long the shard has run nothing, in ns; 0 before it runs at all.
    #[must_use]
    pub fn lag_ns(&self, now_ns: u64) -> u64 {
        match self.beat_ns.value() {
            0 => 0,
            beat_ns => now_ns.saturating_sub(beat_ns),
        }
    }

    /// All zero.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// For the owner: how many sessions there are of each power of two.
    pub fn set_sessions_by_pot(&self, sessions: &[u64; POTS]) {
        self.sessions_by_pot
            .iter()
            .zip(sessions)
            .for_each(|(gauge, count)| gauge.set(*count));
    }
}
