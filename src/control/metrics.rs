//! All that the pool counts and measures, as Prometheus text.
//!
//! The numbers are read where they are written, at each scrape; nothing is kept twice. Every reason, bound and end is
//! listed from the start, so that a rate over it begins at zero.

mod nodes;

use std::fmt;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, text};
use prometheus_client::registry::Registry;

use super::keys::KeyDesk;
use super::pool::Pool;
use super::sheet::{Scale, Sheet};
use crate::ledger::monotonic_ns;
use crate::telemetry::Telemetry;

/// The format of [`Metrics::text`], for whom it is served to.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// The pool's metrics.
pub(super) struct Metrics {
    registry: Registry,
}

impl Metrics {
    pub fn new(pool: &Pool) -> Self {
        let since = pool.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        let page = Page {
            telemetry: pool.telemetry.clone(),
            keys: pool.keys.clone(),
            started_s: since.as_secs_f64(),
            times: Scale::of_times(),
            counts: Scale::of_counts(),
        };
        let mut registry = Registry::default();
        registry.register_collector(Box::new(page));
        Self { registry }
    }

    /// As they are now.
    ///
    /// # Errors
    /// None that is known: writing to a string does not fail.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        text::encode(&mut out, &self.registry)?;
        Ok(out)
    }
}

#[derive(Debug)]
struct Page {
    telemetry: Telemetry,
    keys: Option<Arc<KeyDesk>>,
    /// Since 1970.
    started_s: f64,
    times: Scale,
    counts: Scale,
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut sheet = Sheet::new(&mut encoder, &self.telemetry.shards);
        self.process(&mut sheet)?;
        self.shares(&mut sheet)?;
        self.traffic(&mut sheet)?;
        self.sessions(&mut sheet)?;
        self.guards(&mut sheet)?;
        self.ledger(&mut sheet)?;
        self.nodes(&mut sheet)?;
        self.blocks(&mut sheet)?;
        self.templates(&mut sheet)?;
        self.histograms(&mut sheet)
    }
}

impl Page {
    fn process(&self, sheet: &mut Sheet<'_, '_>) -> fmt::Result {
        sheet.info("millrace_build", "What runs", ("version", env!("CARGO_PKG_VERSION")))?;
        sheet.gauge(
            "process_start_time_seconds",
            "When the process started, since 1970",
            self.started_s,
        )?;
        let now_ns = monotonic_ns();
        sheet.gauge_ns_a_shard(
            "millrace_shard_lag",
            "How long ago the shard last had its turn: some ms, and longer where it is stuck or has no core",
            |shard| shard.lag_ns(now_ns),
        )
    }

    fn shares(&self, sheet: &mut Sheet<'_, '_>) -> fmt::Result {
        sheet.counter_a_shard(
            "millrace_shares_accepted",
            "Shares that are on disk and were answered so",
            |shard| shard.shares_accepted.value(),
        )?;
        sheet.counter_a_shard(
            "millrace_shares_tentative",
            "Shares on a parent not seen yet, answered tentatively",
            |shard| shard.shares_tentative.value(),
        )?;
        sheet.table_a_shard("millrace_shares_refused", "Shares refused", "reason", |shard| {
            &shard.shares_refused
        })?;
        sheet.counter_a_shard("millrace_candidates", "Hashes that meet the network target", |shard| {
            shard.candidates.value()
        })?;
        sheet.gauge_a_shard(
            "millrace_duplicate_reloads_under_way",
            "Parents of a gateway whose duplicates are being read back",
            |shard| shard.reloads_under_way.value(),
        )?;
        let reloads = "Parents of a gateway that the chain came back to, by whether their duplicates were read back";
        sheet.outcomes_a_shard("millrace_duplicate_reloads", reloads, "outcome", |shard| {
            [
                ("done", shard.reloads_done.value()),
                ("failed", shard.reloads_failed.value()),
            ]
        })?;
        sheet.table_a_shard("millrace_bound_hits", "How often a bound was hit", "bound", |shard| {
            &shard.bounds
        })
    }

    fn traffic(&self, sheet: &mut Sheet<'_, '_>) -> fmt::Result {
        sheet.counter_a_shard("millrace_frames_received", "Frames after HELLO", |shard| {
            shard.frames_in.value()
        })?;
        sheet.counter_a_shard("millrace_bytes_received", "Bytes read from gateways", |shard| {
            shard.bytes_in.value()
        })?;
        sheet.counter_a_shard("millrace_bytes_sent", "Bytes written to gateways", |shard| {
            shard.bytes_out.value()
        })?;
        sheet.counter_a_shard("millrace_writes", "Writes to sockets", |shard| shard.writes.value())?;
        let early = "Frames that came before their session's key was in use";
        sheet.outcomes_a_shard("millrace_early_frames", early, "outcome", |shard| {
            [
                ("opened", shard.early_opened.value()),
                ("skipped", shard.early_skipped.value()),
            ]
        })?;
        sheet.counter_a_shard("millrace_pings", "PINGs sent", |shard| shard.pings.value())?;
        sheet.counter_a_shard("millrace_coinbaser_requests", "Requests for a split", |shard| {
            shard.coinbaser_requests.value()
        })?;
        sheet.counter_a_shard(
            "millrace_split_use_alerts",
            "Sessions whose work hardly paid the splits they were dictated",
            |shard| shard.split_use_alerts.value(),
        )?;
        sheet.outcomes_a_shard(
            "millrace_splits_unsaid",
            "Splits that were not dictated",
            "reason",
            |shard| {
                [
                    ("late", shard.splits_late.value()),
                    ("no_such_value", shard.splits_refused.value()),
                ]
            },
        )?;
        sheet.counter_a_shard(
            "millrace_validations_unasked",
            "Answers about a job that nobody waits for",
            |shard| shard.validations_unasked.value(),
        )?;
        sheet.counter_a_shard(
            "millrace_shares_denied",
            "Shares for payees whom the policy does not admit; they are refused by reason 14",
            |shard| shard.shares_denied.value(),
        )?;
        sheet.counter_a_shard(
            "millrace_jobs_condemned",
            "Jobs whose shares are refused since no block could come of them",
            |shard| shard.jobs_condemned.value(),
        )?;
        sheet.counter_a_shard(
            "millrace_gateways_unshown",
            "Gateways that did not show the transactions of their templates again and again",
            |shard| shard.gateways_unshown.value(),
        )
    }

    fn sessions(&self, sheet: &mut Sheet<'_, '_>) -> fmt::Result {
        sheet.counter_a_shard("millrace_connections_accepted", "Connections accepted", |shard| {
            shard.connections_accepted.value()
        })?;
        sheet.outcomes_a_shard("millrace_handshakes", "Handshakes that ended", "result", |shard| {
            [
                ("ok", shard.handshakes_ok.value()),
                ("failed", shard.handshakes_failed.value()),
            ]
        })?;
        sheet.gauge_a_shard(
            "millrace_handshakes_under_way",
            "Connections between accept and session",
            |shard| shard.handshakes_under_way.value(),
        )?;
        sheet.counter_a_shard(
            "millrace_sessions_resumed",
            "Sessions of gateways that were remembered from before",
            |shard| shard.sessions_resumed.value(),
        )?;
        sheet.gauge_a_shard("millrace_sessions", "Sessions", |shard| shard.sessions.value())?;
        sheet.gauge_a_shard(
            "millrace_gateways",
            "Gateways remembered, with or without a session",
            |shard| shard.gateways.value(),
        )?;
        let counts = self.keys.as_ref().map_or_else(Vec::new, |keys| keys.counts());
        sheet.gauge_a_key(
            "millrace_key_sessions",
            "Sessions whose gateways have this key of the pool",
            &counts,
        )?;
        sheet.outcomes_a_shard(
            "millrace_min_diff_changes",
            "CONFIGs that changed a gateway's least difficulty",
            "direction",
            |shard| {
                [
                    ("up", shard.min_diff_raised.value()),
                    ("down", shard.min_diff_lowered.value()),
                ]
            },
        )?;
        sheet.pots_a_shard(
            "millrace_steered_sessions",
            "Sessions whose difficulty is steered, by its power of two",
            |shard| &shard.sessions_by_pot,
        )?;
        let ends = "Connections that ended, before they were a session too";
        sheet.table_a_shard("millrace_session_ends", ends, "reason", |shard| &shard.ends)
    }

    fn guards(&self, sheet: &mut Sheet<'_, '_>) -> fmt::Result {
        let refused = "Connections that a guard turned away";
        sheet.table_a_shard("millrace_guard_refused", refused, "rule", |shard| &shard.guard_refused)?;
        let slowed = "Times that a guard had a connection not be read for a while";
        sheet.table_a_shard("millrace_guard_slowed", slowed, "rule", |shard| &shard.guard_slowed)?;
        let cut = "Sessions that a guard cut off";
        sheet.table_a_shard("millrace_guard_cut", cut, "rule", |shard| &shard.guard_cut)?;
        let banned = "Bans that the guards gave";
        sheet.table_a_shard("millrace_guard_banned", banned, "rule", |shard| &shard.guard_banned)?;
        sheet.gauge_a_shard("millrace_guard_addresses", "Addresses known to the guards", |shard| {
            shard.guard_addresses.value()
        })?;
        let memory = &self.telemetry.memory;
        sheet.gauge(
            "millrace_memory_resident_bytes",
            "Memory that the process holds",
            memory.resident_bytes.value(),
        )?;
        sheet.gauge(
            "millrace_memory_limit_bytes",
            "What it may hold; 0 for no limit",
            memory.limit_bytes.value(),
        )?;
        sheet.gauge(
            "millrace_memory_pressure",
            "0 none, 1 no new sessions, 2 idle ones close, 3 any do",
            memory.pressure.value(),
        )
    }

    fn ledger(&self, sheet: &mut Sheet<'_, '_>) -> fmt::Result {
        let ledger = &self.telemetry.ledger;
        sheet.counter("millrace_ledger_shares", "Shares made durable", ledger.shares.value())?;
        sheet.counter(
            "millrace_ledger_entries",
            "Entries made durable",
            ledger.entries.value(),
        )?;
        sheet.counter(
            "millrace_ledger_batches",
            "Batches, each of one fsync",
            ledger.batches.value(),
        )?;
        sheet.counter("millrace_ledger_bytes", "Bytes of the batches", ledger.bytes.value())?;
        sheet.gauge(
            "millrace_ledger_sequence",
            "Sequence of the next share",
            ledger.sequence.value(),
        )?;
        sheet.gauge(
            "millrace_shares_waiting",
            "Shares that wait for a parent not seen yet",
            ledger.waiting.value(),
        )?;
        sheet.counter(
            "millrace_waited_good",
            "Shares that waited and count now",
            ledger.waited_good.value(),
        )?;
        sheet.counter(
            "millrace_waited_lost",
            "Shares that waited and never will count",
            ledger.waited_lost.value(),
        )?;
        sheet.gauge("millrace_payees", "Payees in the ledger", ledger.payees.value())?;
        sheet.gauge("millrace_workers", "Workers in the ledger", ledger.workers.value())?;
        sheet.gauge_ns(
            "millrace_queue_age_now",
            "How long the oldest entry has waited for the disk",
            ledger.queue_age_ns(monotonic_ns()),
        )?;
        sheet.counter(
            "millrace_ledger_shares_rolled_up",
            "Shares that became hourly work",
            ledger.shares_rolled_up.value(),
        )?;
        sheet.gauge(
            "millrace_ledger_kept_from",
            "Sequence of the first share that is kept",
            ledger.kept_from.value(),
        )?;
        sheet.gauge(
            "millrace_ledger_rolled_up_time_seconds",
            "When shares last became hourly work, since 1970; 0 for never",
            ledger.rolled_up_s.value(),
        )?;
        sheet.gauge(
            "millrace_prime_ids_left",
            "Ids that no session was given yet; none is given twice, and without one no session begins",
            ledger.prime_ids_left.value(),
        )?;
        sheet.gauge(
            "millrace_channel_keys",
            "Channel keys kept for gateways that may come back",
            ledger.channel_keys.value(),
        )?;
        sheet.counter(
            "millrace_channel_keys_not_kept",
            "Such keys for which there was no place: they do not outlive the process",
            ledger.channel_keys_not_kept.value(),
        )?;
        sheet.counter(
            "millrace_channel_key_wipe_failures",
            "Times that the disk did not take what wipes such keys",
            ledger.channel_key_wipe_failures.value(),
        )?;
        sheet.counter(
            "millrace_ledger_housekeeping_rounds",
            "Looks for shares that may be rolled up",
            ledger.housekeeping_rounds.value(),
        )?;
        sheet.counter(
            "millrace_ledger_housekeeping_failures",
            "Such that could not be made",
            ledger.housekeeping_failures.value(),
        )?;
        sheet.gauge(
            "millrace_disk_free_bytes",
            "Bytes left on the disk",
            ledger.disk_free_bytes.value(),
        )?;
        sheet.gauge(
            "millrace_ledger_memory_bytes",
            "Memory that the database fills and empties by itself: buffers and read blocks",
            ledger.memory_bytes.value(),
        )?;
        sheet.gauge(
            "millrace_ledger_failed",
            "1 once a write has failed",
            ledger.failed.value(),
        )?;
        sheet.counter(
            "millrace_bookkeeper_full",
            "Times that the ledger's writer waited for the bookkeeper, which had as many batches before it as it may",
            ledger.bookkeeper_full.value(),
        )?;
        sheet.gauge("millrace_book_events", "Events of the books", ledger.events.value())?;
        sheet.gauge(
            "millrace_window_shares",
            "Shares in the window",
            ledger.window_shares.value(),
        )?;
        sheet.gauge(
            "millrace_window_short",
            "1 while the window lacks shares that are no longer kept",
            ledger.window_short.value(),
        )?;
        sheet.gauge(
            "millrace_split_payees",
            "Payees that a split can pay",
            ledger.split_payees.value(),
        )?;
        sheet.counter(
            "millrace_blocks_by_hand",
            "Candidates that wait for the operator to book them",
            ledger.blocks_by_hand.value(),
        )
    }

    /// Nothing on the dev chain, which has no node to hold templates against.
    fn templates(&self, sheet: &mut Sheet<'_, '_>) -> fmt::Result {
        if self.telemetry.nodes.is_empty() {
            return Ok(());
        }
        let templates = &self.telemetry.templates;
        sheet.table(
            "millrace_templates_checked",
            "Templates held against a node, by what came of it",
            "outcome",
            &templates.outcomes,
        )?;
        sheet.counter(
            "millrace_templates_wrong_ids",
            "Templates whose short ids were not those of their transactions",
            templates.wrong_ids.value(),
        )?;
        sheet.counter(
            "millrace_transactions_asked",
            "Transactions asked of gateways one by one, since they were not known",
            templates.asked.value(),
        )?;
        sheet.gauge(
            "millrace_transactions_known",
            "Transactions kept for checks and blocks",
            templates.known.value(),
        )?;
        sheet.gauge(
            "millrace_transactions_known_bytes",
            "Bytes that they take",
            templates.known_bytes.value(),
        )?;
        sheet.histogram(
            "millrace_template_matching",
            "Short ids of a template looked up among all transactions known",
            &self.times,
            &templates.matching,
        )?;
        sheet.histogram(
            "millrace_template_check",
            "Claim of a template to the verdict on it",
            &self.times,
            &templates.check,
        )
    }

    fn histograms(&self, sheet: &mut Sheet<'_, '_>) -> fmt::Result {
        let (times, counts, ledger) = (&self.times, &self.counts, &self.telemetry.ledger);
        sheet.histogram_a_shard("millrace_handshake", "Accept to response", times, |shard| {
            &shard.handshake
        })?;
        sheet.histogram_a_shard(
            "millrace_frame_to_verdict",
            "Complete frame to verdict",
            times,
            |shard| &shard.frame_to_verdict,
        )?;
        sheet.histogram_a_shard(
            "millrace_frame_to_durable",
            "Complete frame to share on disk",
            times,
            |shard| &shard.frame_to_durable,
        )?;
        sheet.histogram_a_shard(
            "millrace_frame_to_answer",
            "Complete frame to answer written",
            times,
            |shard| &shard.frame_to_answer,
        )?;
        sheet.histogram_a_shard("millrace_split", "Request for a split to its answer", times, |shard| {
            &shard.split
        })?;
        sheet.histogram_a_shard(
            "millrace_chain_to_shard",
            "New tip known to the control plane to judged by",
            times,
            |shard| &shard.chain_to_shard,
        )?;
        sheet.histogram_a_shard(
            "millrace_block_to_gateway",
            "New block heard of to the gateway's socket told",
            times,
            |shard| &shard.block_to_gateway,
        )?;
        sheet.histogram(
            "millrace_snapshot",
            "Making a snapshot of the books",
            times,
            &ledger.snapshot,
        )?;
        sheet.histogram(
            "millrace_batch_entries",
            "Entries of a batch",
            counts,
            &ledger.batch_entries,
        )?;
        sheet.histogram("millrace_commit", "Write and fsync of a batch", times, &ledger.commit)?;
        let age = "Wait of a batch's oldest entry until it starts";
        sheet.histogram("millrace_queue_age", age, times, &ledger.queue_age)
    }
}
