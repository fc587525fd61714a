//! All that the pool counts and measures, as Prometheus text.
//!
//! The numbers are read where they are written, at each scrape; nothing is kept twice. Every reason, bound and end is
//! listed from the start, so that a rate over it begins at zero.

use std::fmt;
use std::sync::Arc;
use std::time::UNIX_EPOCH;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, EncodeLabelSet, MetricEncoder, NoLabelSet, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::{Registry, Unit};

use super::pool::Pool;
use crate::telemetry::{Histogram, Labelled, ShardTelemetry, Snapshot, Table, Telemetry};

/// The format of [`Metrics::text`], for whom it is served to.
pub(super) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const NS_PER_S: f64 = 1e9;

/// Quantiles given of each histogram; 1 is the greatest value.
const QUANTILES: [(&str, f64); 5] = [("0.5", 0.5), ("0.9", 0.9), ("0.99", 0.99), ("0.999", 0.999), ("1", 1.0)];

/// Bucket ends of times: ten a decade from the first to the last, so that a quantile taken from them is at most a
/// third too high.
const FIRST_END_NS: u64 = 1_000;
const LAST_END_NS: u64 = 60_000_000_000;
const ENDS_OF_A_DECADE: [u64; 10] = [100, 125, 150, 200, 250, 300, 400, 500, 600, 800];

/// Bucket ends of counts: two a doubling up to this.
const LAST_END_COUNT: u64 = 1 << 18;

/// The pool's metrics.
pub(super) struct Metrics {
    registry: Registry,
}

impl Metrics {
    pub fn new(pool: &Pool) -> Self {
        let since = pool.started.duration_since(UNIX_EPOCH).unwrap_or_default();
        let page = Page {
            telemetry: pool.telemetry.clone(),
            started_s: since.as_secs_f64(),
            time_ends: time_ends(),
            count_ends: count_ends(),
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
    /// Since 1970.
    started_s: f64,
    time_ends: Vec<u64>,
    count_ends: Vec<u64>,
}

impl Collector for Page {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut sheet = Sheet {
            encoder: &mut encoder,
            shards: &self.telemetry.shards,
        };
        self.process(&mut sheet)?;
        self.shares(&mut sheet)?;
        self.traffic(&mut sheet)?;
        self.sessions(&mut sheet)?;
        self.ledger(&mut sheet)?;
        self.times(&mut sheet)
    }
}

impl Page {
    fn process(&self, sheet: &mut Sheet<'_, '_>) -> fmt::Result {
        let version = [("version", env!("CARGO_PKG_VERSION"))];
        sheet
            .encoder
            .encode_descriptor("millrace_build", "What runs", None, MetricType::Info)?
            .encode_info(&version)?;
        sheet.gauge("process_start_time_seconds", "When the process started, since 1970", self.started_s)
    }

    fn shares(&self, sheet: &mut Sheet<'_, '_>) -> fmt::Result {
        sheet.counter_a_shard("millrace_shares_accepted", "Shares that are on disk and were answered so", |shard| {
            shard.shares_accepted.value()
        })?;
        sheet.table_a_shard("millrace_shares_refused", "Shares refused", "reason", |shard| &shard.shares_refused)?;
        sheet.counter_a_shard("millrace_candidates", "Hashes that meet the network target", |shard| {
            shard.candidates.value()
        })?;
        sheet.table_a_shard("millrace_bound_hits", "How often a bound was hit", "bound", |shard| &shard.bounds)
    }

    fn traffic(&self, sheet: &mut Sheet<'_, '_>) -> fmt::Result {
        sheet.counter_a_shard("millrace_frames_received", "Frames after HELLO", |shard| shard.frames_in.value())?;
        sheet.counter_a_shard("millrace_bytes_received", "Bytes read from gateways", |shard| shard.bytes_in.value())?;
        sheet.counter_a_shard("millrace_bytes_sent", "Bytes written to gateways", |shard| shard.bytes_out.value())?;
        sheet.counter_a_shard("millrace_writes", "Writes to sockets", |shard| shard.writes.value())?;
        let early = "Frames that came before their session's key was in use";
        sheet.outcomes_a_shard("millrace_early_frames", early, "outcome", |shard| {
            [("opened", shard.early_opened.value()), ("skipped", shard.early_skipped.value())]
        })?;
        sheet.counter_a_shard("millrace_pings", "PINGs sent", |shard| shard.pings.value())?;
        sheet.counter_a_shard("millrace_coinbaser_requests", "Requests for a split", |shard| {
            shard.coinbaser_requests.value()
        })?;
        sheet.counter_a_shard("millrace_validations_unasked", "Answers about a job that nobody waits for", |shard| {
            shard.validations_unasked.value()
        })
    }

    fn sessions(&self, sheet: &mut Sheet<'_, '_>) -> fmt::Result {
        sheet.counter_a_shard("millrace_connections_accepted", "Connections accepted", |shard| {
            shard.connections_accepted.value()
        })?;
        sheet.outcomes_a_shard("millrace_handshakes", "Handshakes that ended", "result", |shard| {
            [("ok", shard.handshakes_ok.value()), ("failed", shard.handshakes_failed.value())]
        })?;
        sheet.gauge_a_shard("millrace_handshakes_under_way", "Connections between accept and session", |shard| {
            shard.handshakes_under_way.value()
        })?;
        sheet.gauge_a_shard("millrace_sessions", "Sessions", |shard| shard.sessions.value())?;
        sheet.gauge_a_shard("millrace_gateways", "Gateways remembered, with or without a session", |shard| {
            shard.gateways.value()
        })?;
        let ends = "Connections that ended, before they were a session too";
        sheet.table_a_shard("millrace_session_ends", ends, "reason", |shard| &shard.ends)
    }

    fn ledger(&self, sheet: &mut Sheet<'_, '_>) -> fmt::Result {
        let ledger = &self.telemetry.ledger;
        sheet.counter("millrace_ledger_shares", "Shares made durable", ledger.shares.value())?;
        sheet.counter("millrace_ledger_entries", "Entries made durable", ledger.entries.value())?;
        sheet.counter("millrace_ledger_batches", "Batches, each of one fsync", ledger.batches.value())?;
        sheet.counter("millrace_ledger_bytes", "Bytes of the batches", ledger.bytes.value())?;
        sheet.gauge("millrace_ledger_sequence", "Sequence of the next share", ledger.sequence.value())?;
        sheet.gauge("millrace_payees", "Payees in the ledger", ledger.payees.value())?;
        sheet.gauge("millrace_workers", "Workers in the ledger", ledger.workers.value())?;
        let age_s = seconds(ledger.queue_age_now_ns.value());
        sheet.gauge("millrace_queue_age_now_seconds", "How long the oldest entry has waited for the disk", age_s)?;
        sheet.gauge("millrace_disk_free_bytes", "Bytes left on the disk", ledger.disk_free_bytes.value())?;
        sheet.gauge("millrace_ledger_failed", "1 once a write has failed", ledger.failed.value())
    }

    fn times(&self, sheet: &mut Sheet<'_, '_>) -> fmt::Result {
        let times = Scale {
            ends: &self.time_ends,
            per_unit: NS_PER_S,
            unit: Some(Unit::Seconds),
        };
        let counts = Scale {
            ends: &self.count_ends,
            per_unit: 1.0,
            unit: None,
        };
        let ledger = &self.telemetry.ledger;
        sheet.histogram_a_shard("millrace_handshake", "Accept to response", &times, |shard| &shard.handshake)?;
        sheet.histogram_a_shard("millrace_frame_to_verdict", "Complete frame to verdict", &times, |shard| {
            &shard.frame_to_verdict
        })?;
        sheet.histogram_a_shard("millrace_frame_to_durable", "Complete frame to share on disk", &times, |shard| {
            &shard.frame_to_durable
        })?;
        sheet.histogram_a_shard("millrace_frame_to_answer", "Complete frame to answer written", &times, |shard| {
            &shard.frame_to_answer
        })?;
        sheet.histogram("millrace_batch_entries", "Entries of a batch", &counts, &ledger.batch_entries)?;
        sheet.histogram("millrace_commit", "Write and fsync of a batch", &times, &ledger.commit)?;
        let age = "Wait of a batch's oldest entry until it starts";
        sheet.histogram("millrace_queue_age", age, &times, &ledger.queue_age)
    }
}

/// How the values of a histogram are shown.
struct Scale<'a> {
    /// Where buckets end, inclusive, in the unit of recording.
    ends: &'a [u64],
    /// Units of recording in one that is shown.
    per_unit: f64,
    unit: Option<Unit>,
}

/// The page while it is written.
struct Sheet<'a, 'b> {
    encoder: &'a mut DescriptorEncoder<'b>,
    shards: &'a [Arc<ShardTelemetry>],
}

/// The labels of a shard's series.
type Shard = [(&'static str, usize); 1];

impl Sheet<'_, '_> {
    /// Names of counters stand without the `_total` that the format adds.
    fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        write_counter(&mut family, value)
    }

    fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        self.encoder
            .encode_descriptor(name, help, None, MetricType::Gauge)?
            .encode_gauge(&value)
    }

    fn histogram(&mut self, name: &str, help: &str, scale: &Scale<'_>, histogram: &Histogram) -> fmt::Result {
        let snapshot = histogram.snapshot();
        let unit = scale.unit.as_ref();
        let mut family = self.encoder.encode_descriptor(name, help, unit, MetricType::Histogram)?;
        write_histogram(&mut family, scale, &snapshot)?;
        self.quantiles(name, help, scale, &snapshot)
    }

    fn counter_a_shard(&mut self, name: &str, help: &str, of: impl Fn(&ShardTelemetry) -> u64) -> fmt::Result {
        self.a_shard(name, help, MetricType::Counter, None, |family, labels, shard| {
            write_counter(&mut family.encode_family(labels)?, of(shard))
        })
    }

    fn gauge_a_shard(&mut self, name: &str, help: &str, of: impl Fn(&ShardTelemetry) -> u64) -> fmt::Result {
        self.a_shard(name, help, MetricType::Gauge, None, |family, labels, shard| {
            family.encode_family(labels)?.encode_gauge(&of(shard))
        })
    }

    fn table_a_shard<K: Labelled>(
        &mut self,
        name: &str,
        help: &str,
        key: &'static str,
        of: impl Fn(&ShardTelemetry) -> &Table<K>,
    ) -> fmt::Result {
        self.a_shard(name, help, MetricType::Counter, None, |family, labels, shard| {
            of(shard)
                .iter()
                .try_for_each(|(label, count)| write_outcome(family, labels, key, label.label(), count))
        })
    }

    fn outcomes_a_shard<const N: usize>(
        &mut self,
        name: &str,
        help: &str,
        key: &'static str,
        of: impl Fn(&ShardTelemetry) -> [(&'static str, u64); N],
    ) -> fmt::Result {
        self.a_shard(name, help, MetricType::Counter, None, |family, labels, shard| {
            of(shard)
                .into_iter()
                .try_for_each(|(outcome, count)| write_outcome(family, labels, key, outcome, count))
        })
    }

    fn histogram_a_shard(
        &mut self,
        name: &str,
        help: &str,
        scale: &Scale<'_>,
        of: impl Fn(&ShardTelemetry) -> &Histogram,
    ) -> fmt::Result {
        let mut snapshots = Vec::with_capacity(self.shards.len());
        self.a_shard(name, help, MetricType::Histogram, scale.unit.as_ref(), |family, labels, shard| {
            let snapshot = of(shard).snapshot();
            write_histogram(&mut family.encode_family(labels)?, scale, &snapshot)?;
            snapshots.push(snapshot);
            Ok(())
        })?;
        match self.shards.first() {
            Some(shard) => self.quantiles(name, help, scale, &of(shard).merge(&snapshots)),
            None => Ok(()),
        }
    }

    fn a_shard(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        unit: Option<&Unit>,
        mut write: impl FnMut(&mut MetricEncoder<'_>, &Shard, &ShardTelemetry) -> fmt::Result,
    ) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, unit, kind)?;
        for (index, shard) in self.shards.iter().enumerate() {
            write(&mut family, &[("shard", index)], shard)?;
        }
        Ok(())
    }

    /// Of all shards together and to three digits, which the buckets are not. Nothing where nothing was recorded: there
    /// is no value to give.
    fn quantiles(&mut self, name: &str, help: &str, scale: &Scale<'_>, snapshot: &Snapshot) -> fmt::Result {
        let name = format!("{name}_quantile");
        let help = format!("{help}, all shards since the start");
        let mut family = self
            .encoder
            .encode_descriptor(&name, &help, scale.unit.as_ref(), MetricType::Gauge)?;
        if snapshot.is_empty() {
            return Ok(());
        }
        for (label, quantile) in QUANTILES {
            let value = snapshot.value_at_quantile(quantile);
            let labels = [("quantile", label)];
            let mut series = family.encode_family(&labels)?;
            match scale.unit {
                Some(_) => series.encode_gauge(&(value as f64 / scale.per_unit))?,
                None => series.encode_gauge(&value)?,
            }
        }
        Ok(())
    }
}

fn write_counter(family: &mut MetricEncoder<'_>, value: u64) -> fmt::Result {
    family.encode_counter::<NoLabelSet, u64, f64>(&value, None)
}

fn write_outcome(
    family: &mut MetricEncoder<'_>,
    shard: &Shard,
    key: &'static str,
    outcome: &'static str,
    count: u64,
) -> fmt::Result {
    let labels = Both(shard, [(key, outcome)]);
    write_counter(&mut family.encode_family(&labels)?, count)
}

/// A shard's label and another.
struct Both<'a>(&'a Shard, [(&'static str, &'static str); 1]);

impl EncodeLabelSet for Both<'_> {
    fn encode(&self, encoder: &mut prometheus_client::encoding::LabelSetEncoder<'_>) -> fmt::Result {
        self.0.encode(encoder)?;
        self.1.encode(encoder)
    }
}

/// Count, sum and buckets come from one snapshot and so agree. A value that shares its HDR bucket with an end counts
/// below it, which is right to a thousandth.
fn write_histogram(family: &mut MetricEncoder<'_>, scale: &Scale<'_>, snapshot: &Snapshot) -> fmt::Result {
    let mut counts = vec![0; scale.ends.len() + 1];
    let mut sum = 0.0;
    for recorded in snapshot.iter_recorded() {
        let value = recorded.value_iterated_to();
        let lowest = snapshot.lowest_equivalent(value);
        counts[scale.ends.partition_point(|end| *end < lowest)] += recorded.count_at_value();
        sum += recorded.count_at_value() as f64 * snapshot.median_equivalent(value) as f64;
    }
    let ends = scale.ends.iter().map(|end| *end as f64 / scale.per_unit).chain([f64::INFINITY]);
    let buckets: Vec<_> = ends.zip(counts).collect();
    family.encode_histogram::<NoLabelSet>(sum / scale.per_unit, snapshot.len(), &buckets, None)
}

fn seconds(ns: u64) -> f64 {
    ns as f64 / NS_PER_S
}

/// In ns.
fn time_ends() -> Vec<u64> {
    let decades = std::iter::successors(Some(FIRST_END_NS), |first| first.checked_mul(10));
    decades
        .flat_map(|first| ENDS_OF_A_DECADE.map(|percent| first / 100 * percent))
        .take_while(|end| *end <= LAST_END_NS)
        .collect()
}

fn count_ends() -> Vec<u64> {
    let doublings = std::iter::successors(Some(2), |end| Some(end * 2)).take_while(|end| *end <= LAST_END_COUNT);
    [1].into_iter().chain(doublings.flat_map(|end| [end, end / 2 * 3])).collect()
}
