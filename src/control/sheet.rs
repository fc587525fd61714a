//! How the numbers are written: one family of series at a time, each described before its first.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;

use prometheus_client::encoding::{DescriptorEncoder, EncodeGaugeValue, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Unit;

use super::keys::KeyCount;
use crate::telemetry::{Gauge, Histogram, Labelled, NodeTelemetry, POTS, ShardTelemetry, Snapshot, Table};

/// Quantiles given of each histogram; 1 is the greatest value.
const QUANTILES: [(&str, f64); 5] = [("0.5", 0.5), ("0.9", 0.9), ("0.99", 0.99), ("0.999", 0.999), ("1", 1.0)];

/// Bucket ends of times: ten a decade from the first to the last, so that a quantile taken from them is at most a
/// third too high.
const FIRST_END_NS: u64 = 1_000;
const LAST_END_NS: u64 = 60_000_000_000;
const ENDS_OF_A_DECADE: [u64; 10] = [100, 125, 150, 200, 250, 300, 400, 500, 600, 800];

/// Bucket ends of counts: two a doubling, from one up to this doubling.
const LAST_END_COUNT: u64 = 1 << 18;

const NS_PER_S: f64 = 1e9;

/// A page of metrics while it is written.
pub(super) struct Sheet<'a, 'b> {
    encoder: &'a mut DescriptorEncoder<'b>,
    shards: &'a [Arc<ShardTelemetry>],
}

/// How the values of a histogram are shown.
#[derive(Debug)]
pub(super) struct Scale {
    /// Where buckets end, inclusive, in the unit of recording.
    ends: Vec<u64>,
    /// Units of recording in one that is shown.
    per_unit: f64,
    unit: Option<Unit>,
}

/// Nodes by where they answer.
type Nodes = [(SocketAddr, Arc<NodeTelemetry>)];

/// The labels of a shard's series.
type Shard = [(&'static str, usize); 1];

impl<'a, 'b> Sheet<'a, 'b> {
    pub fn new(encoder: &'a mut DescriptorEncoder<'b>, shards: &'a [Arc<ShardTelemetry>]) -> Self {
        Self { encoder, shards }
    }

    /// A label that is always there; the format adds `_info` to the name.
    pub fn info(&mut self, name: &str, help: &str, label: (&str, &str)) -> fmt::Result {
        self.encoder
            .encode_descriptor(name, help, None, MetricType::Info)?
            .encode_info(&[label])
    }

    /// Names of counters stand without the `_total` that the format adds.
    pub fn counter(&mut self, name: &str, help: &str, value: u64) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        write_counter(&mut family, value)
    }

    pub fn gauge(&mut self, name: &str, help: &str, value: impl EncodeGaugeValue) -> fmt::Result {
        self.encoder
            .encode_descriptor(name, help, None, MetricType::Gauge)?
            .encode_gauge(&value)
    }

    /// A time in ns, shown in s; the format adds `_seconds` to the name.
    pub fn gauge_ns(&mut self, name: &str, help: &str, ns: u64) -> fmt::Result {
        self.encoder
            .encode_descriptor(name, help, Some(&Unit::Seconds), MetricType::Gauge)?
            .encode_gauge(&(ns as f64 / NS_PER_S))
    }

    /// Its buckets, and beside it quantiles under a name of their own.
    pub fn histogram(&mut self, name: &str, help: &str, scale: &Scale, histogram: &Histogram) -> fmt::Result {
        let snapshot = histogram.snapshot();
        let unit = scale.unit.as_ref();
        let mut family = self
            .encoder
            .encode_descriptor(name, help, unit, MetricType::Histogram)?;
        write_histogram(&mut family, scale, &snapshot)?;
        self.quantiles(name, help, scale, &snapshot)
    }

    pub fn counter_a_shard(&mut self, name: &str, help: &str, of: impl Fn(&ShardTelemetry) -> u64) -> fmt::Result {
        self.a_shard(name, help, MetricType::Counter, None, |family, labels, shard| {
            write_counter(&mut family.encode_family(labels)?, of(shard))
        })
    }

    pub fn gauge_a_shard(&mut self, name: &str, help: &str, of: impl Fn(&ShardTelemetry) -> u64) -> fmt::Result {
        self.a_shard(name, help, MetricType::Gauge, None, |family, labels, shard| {
            family.encode_family(labels)?.encode_gauge(&of(shard))
        })
    }

    /// Times in ns, shown in s; the format adds `_seconds` to the name.
    pub fn gauge_ns_a_shard(&mut self, name: &str, help: &str, of: impl Fn(&ShardTelemetry) -> u64) -> fmt::Result {
        self.a_shard(
            name,
            help,
            MetricType::Gauge,
            Some(&Unit::Seconds),
            |family, labels, shard| {
                family
                    .encode_family(labels)?
                    .encode_gauge(&(of(shard) as f64 / NS_PER_S))
            },
        )
    }

    pub fn counter_a_node(
        &mut self,
        name: &str,
        help: &str,
        nodes: &Nodes,
        of: fn(&NodeTelemetry) -> u64,
    ) -> fmt::Result {
        self.a_node(name, help, MetricType::Counter, nodes, |series, node| {
            write_counter(series, of(node))
        })
    }

    pub fn gauge_a_node(
        &mut self,
        name: &str,
        help: &str,
        nodes: &Nodes,
        of: fn(&NodeTelemetry) -> u64,
    ) -> fmt::Result {
        self.a_node(name, help, MetricType::Gauge, nodes, |series, node| {
            series.encode_gauge(&of(node))
        })
    }

    /// Every key of a table of each node, those that were never counted too.
    pub fn table_a_node<K: Labelled>(
        &mut self,
        name: &str,
        help: &str,
        key: &'static str,
        nodes: &Nodes,
        of: fn(&NodeTelemetry) -> &Table<K>,
    ) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        nodes.iter().try_for_each(|(address, node)| {
            of(node).iter().try_for_each(|(label, count)| {
                let labels = [("node", address.to_string()), (key, label.label().to_owned())];
                write_counter(&mut family.encode_family(&labels)?, count)
            })
        })
    }

    fn a_node(
        &mut self,
        name: &str,
        help: &str,
        kind: MetricType,
        nodes: &Nodes,
        write: impl Fn(&mut MetricEncoder<'_>, &NodeTelemetry) -> fmt::Result,
    ) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, kind)?;
        nodes
            .iter()
            .try_for_each(|(address, node)| write(&mut family.encode_family(&[("node", address.to_string())])?, node))
    }

    /// Every key of a table, those that were never counted too.
    pub fn table<K: Labelled>(&mut self, name: &str, help: &str, key: &'static str, table: &Table<K>) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
        table
            .iter()
            .try_for_each(|(label, count)| write_counter(&mut family.encode_family(&[(key, label.label())])?, count))
    }

    /// By the first 16 digits of each of the pool's keys, and whether it is the newest.
    pub fn gauge_a_key(&mut self, name: &str, help: &str, keys: &[KeyCount]) -> fmt::Result {
        let mut family = self.encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
        keys.iter().try_for_each(|key| {
            let labels = [("key", &key.pool_pubkey[..16]), ("state", key.state)];
            family.encode_family(&labels)?.encode_gauge(&key.sessions)
        })
    }

    /// Every key of a table, those that were never counted too.
    pub fn table_a_shard<K: Labelled>(
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

    pub fn outcomes_a_shard<const N: usize>(
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

    /// Sessions by the power of two of their difficulty; a pot that none has is left out.
    pub fn pots_a_shard(&mut self, name: &str, help: &str, of: fn(&ShardTelemetry) -> &[Gauge; POTS]) -> fmt::Result {
        self.a_shard(name, help, MetricType::Gauge, None, |family, labels, shard| {
            let with_any = of(shard)
                .iter()
                .map(Gauge::value)
                .enumerate()
                .filter(|(_, count)| *count > 0);
            with_any.into_iter().try_for_each(|(pot, count)| {
                let labels = (*labels, [("pot", pot)]);
                family.encode_family(&labels)?.encode_gauge(&count)
            })
        })
    }

    pub fn histogram_a_shard(
        &mut self,
        name: &str,
        help: &str,
        scale: &Scale,
        of: impl Fn(&ShardTelemetry) -> &Histogram,
    ) -> fmt::Result {
        let mut snapshots = Vec::with_capacity(self.shards.len());
        self.a_shard(
            name,
            help,
            MetricType::Histogram,
            scale.unit.as_ref(),
            |family, labels, shard| {
                let snapshot = of(shard).snapshot();
                write_histogram(&mut family.encode_family(labels)?, scale, &snapshot)?;
                snapshots.push(snapshot);
                Ok(())
            },
        )?;
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
    fn quantiles(&mut self, name: &str, help: &str, scale: &Scale, snapshot: &Snapshot) -> fmt::Result {
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
    let labels = (*shard, [(key, outcome)]);
    write_counter(&mut family.encode_family(&labels)?, count)
}

/// Count, sum and buckets come from one snapshot and so agree. A value that shares its HDR bucket with an end counts
/// below it, which is right to a thousandth.
fn write_histogram(family: &mut MetricEncoder<'_>, scale: &Scale, snapshot: &Snapshot) -> fmt::Result {
    let mut counts = vec![0; scale.ends.len() + 1];
    let mut sum = 0.0;
    for recorded in snapshot.iter_recorded() {
        let value = recorded.value_iterated_to();
        let lowest = snapshot.lowest_equivalent(value);
        counts[scale.ends.partition_point(|end| *end < lowest)] += recorded.count_at_value();
        sum += recorded.count_at_value() as f64 * snapshot.median_equivalent(value) as f64;
    }
    let ends = scale
        .ends
        .iter()
        .map(|end| *end as f64 / scale.per_unit)
        .chain([f64::INFINITY]);
    let buckets: Vec<_> = ends.zip(counts).collect();
    family.encode_histogram::<NoLabelSet>(sum / scale.per_unit, snapshot.len(), &buckets, None)
}

impl Scale {
    /// Recorded in ns, shown in s.
    pub fn of_times() -> Self {
        let decades = std::iter::successors(Some(FIRST_END_NS), |first| first.checked_mul(10));
        Self {
            ends: decades
                .flat_map(|first| ENDS_OF_A_DECADE.map(|percent| first / 100 * percent))
                .take_while(|end| *end <= LAST_END_NS)
                .collect(),
            per_unit: NS_PER_S,
            unit: Some(Unit::Seconds),
        }
    }

    pub fn of_counts() -> Self {
        let doublings = std::iter::successors(Some(2), |end| Some(end * 2)).take_while(|end| *end <= LAST_END_COUNT);
        Self {
            ends: [1]
                .into_iter()
                .chain(doublings.flat_map(|end| [end, end / 2 * 3]))
                .collect(),
            per_unit: 1.0,
            unit: None,
        }
    }
}
