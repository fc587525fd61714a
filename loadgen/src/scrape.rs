//! The pool's own figures, from its metrics: on shared cores these judge the pool, not the client's.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde::Serialize;

const TIMEOUT: Duration = Duration::from_secs(10);

/// Bytes of an answer that are read: some hundred times what one shard's metrics have.
const ANSWER_MAX: u64 = 16 * 1_024 * 1_024;

/// The pool's histograms in the order of a share's way: what a person calls them, the name of their merged quantiles,
/// and that of their count.
const HISTOGRAMS: [(&str, &str, &str, Unit); 8] = [
    time(
        "handshake",
        "millrace_handshake_quantile_seconds",
        "millrace_handshake_seconds_count",
    ),
    time(
        "frame to verdict",
        "millrace_frame_to_verdict_quantile_seconds",
        "millrace_frame_to_verdict_seconds_count",
    ),
    time(
        "frame to durable",
        "millrace_frame_to_durable_quantile_seconds",
        "millrace_frame_to_durable_seconds_count",
    ),
    time(
        "frame to answer",
        "millrace_frame_to_answer_quantile_seconds",
        "millrace_frame_to_answer_seconds_count",
    ),
    time(
        "split",
        "millrace_split_quantile_seconds",
        "millrace_split_seconds_count",
    ),
    time(
        "oldest in a ring",
        "millrace_queue_age_quantile_seconds",
        "millrace_queue_age_seconds_count",
    ),
    time(
        "write and fsync",
        "millrace_commit_quantile_seconds",
        "millrace_commit_seconds_count",
    ),
    (
        "entries a batch",
        "millrace_batch_entries_quantile",
        "millrace_batch_entries_count",
        Unit::Entries,
    ),
];

/// Those of a pool with a node.
const WITH_NODE: [(&str, &str, &str, Unit); 5] = [
    time(
        "chain to shard",
        "millrace_chain_to_shard_quantile_seconds",
        "millrace_chain_to_shard_seconds_count",
    ),
    time(
        "new block told",
        "millrace_block_to_gateway_quantile_seconds",
        "millrace_block_to_gateway_seconds_count",
    ),
    time(
        "block submitted",
        "millrace_share_to_submission_quantile_seconds",
        "millrace_share_to_submission_seconds_count",
    ),
    time(
        "template matched",
        "millrace_template_matching_quantile_seconds",
        "millrace_template_matching_seconds_count",
    ),
    time(
        "template checked",
        "millrace_template_check_quantile_seconds",
        "millrace_template_check_seconds_count",
    ),
];

/// The quantiles of each, as the metrics write them, from the median to the greatest.
pub const QUANTILES: [&str; 5] = ["0.5", "0.9", "0.99", "0.999", "1"];

const FRAME_TO_ANSWER_BUCKETS: &str = "millrace_frame_to_answer_seconds_bucket";

/// Counters that are shown where they are not 0, and the label that tells one from the other.
const BOUNDS: (&str, &str) = ("millrace_bound_hits_total", "bound");
const ENDS: (&str, &str) = ("millrace_session_ends_total", "reason");

/// What the pool says of itself, since its start.
#[derive(Debug, Default, PartialEq, Serialize)]
pub struct PoolFigures {
    pub histograms: Vec<PoolHistogram>,
    /// How often each bound was hit.
    pub bounds: BTreeMap<String, u64>,
    /// Why sessions ended, and connections that never became one.
    pub ends: BTreeMap<String, u64>,
}

/// What lies in the buckets of the time from a share's frame to its answer, all shards together.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Buckets {
    /// Ends in seconds, ascending, with what lies at or below each.
    at_most: Vec<(f64, u64)>,
}

/// One histogram of the pool, its shards merged.
#[derive(Debug, PartialEq, Serialize)]
pub struct PoolHistogram {
    pub name: &'static str,
    pub unit: Unit,
    pub count: u64,
    /// By [`QUANTILES`], in `unit`.
    pub quantiles: [f64; QUANTILES.len()],
}

/// What a histogram counts in.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    Ms,
    Entries,
}

/// Asks once.
///
/// # Errors
/// Nobody answers, or not with text.
pub fn metrics(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.set_write_timeout(Some(TIMEOUT))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: pool\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(ANSWER_MAX).read_to_string(&mut answer)?;
    Ok(answer)
}

impl PoolFigures {
    /// Reads the metrics' text.
    ///
    /// # Errors
    /// What it lacks: every histogram is there from the start, empty or not.
    pub fn parse(text: &str) -> Result<Self, String> {
        let samples: Vec<_> = text.lines().filter_map(Sample::parse).collect();
        // Without a value they have no quantiles.
        let has = |count: &str| samples.iter().any(|sample| sample.name == count && sample.value > 0.0);
        let with_node = WITH_NODE.iter().filter(|(_, _, count, _)| has(count));
        let histograms = HISTOGRAMS
            .iter()
            .chain(with_node)
            .map(|(name, quantiles, count, unit)| {
                let of = |quantile: &str| {
                    let mut with = samples.iter().filter(|sample| sample.name == *quantiles);
                    with.find(|sample| sample.label("quantile") == Some(quantile))
                        .map(|sample| sample.value * unit.per_unit_of_the_metrics())
                        .ok_or_else(|| format!("no {quantiles} of {quantile}"))
                };
                let mut found = [0.0; QUANTILES.len()];
                for (value, quantile) in found.iter_mut().zip(QUANTILES) {
                    *value = of(quantile)?;
                }
                let counts = samples.iter().filter(|sample| sample.name == *count);
                Ok(PoolHistogram {
                    name,
                    unit: *unit,
                    count: counts.map(|sample| sample.value as u64).sum(),
                    quantiles: found,
                })
            });
        Ok(Self {
            histograms: histograms.collect::<Result<_, String>>()?,
            bounds: by_label(&samples, BOUNDS),
            ends: by_label(&samples, ENDS),
        })
    }
}

impl Buckets {
    /// Reads the metrics' text.
    pub fn parse(text: &str) -> Self {
        let mut at_most: Vec<(f64, u64)> = Vec::new();
        let samples = text.lines().filter_map(Sample::parse);
        for sample in samples.filter(|sample| sample.name == FRAME_TO_ANSWER_BUCKETS) {
            let Some(end) = sample.label("le").and_then(|end| end.parse::<f64>().ok()) else {
                continue;
            };
            let count = sample.value as u64;
            match at_most.binary_search_by(|(known, _)| known.total_cmp(&end)) {
                Ok(at) => at_most[at].1 += count,
                Err(at) => at_most.insert(at, (end, count)),
            }
        }
        Self { at_most }
    }

    /// What has come since an earlier reading.
    pub fn since(&self, earlier: &Self) -> Self {
        let before = |end: f64| earlier.at_most.iter().find(|(known, _)| *known == end);
        let since = |(end, count): &(f64, u64)| (*end, count - before(*end).map_or(0, |(_, count)| *count).min(*count));
        Self {
            at_most: self.at_most.iter().map(since).collect(),
        }
    }

    pub fn count(&self) -> u64 {
        self.at_most.last().map_or(0, |(_, count)| *count)
    }

    /// The end of the bucket that the quantile lies in, in seconds; 0 where nothing was counted.
    pub fn quantile_at_most(&self, quantile: f64) -> f64 {
        let rank = ((self.count() as f64 * quantile).ceil() as u64).max(1);
        self.at_most
            .iter()
            .find(|(_, count)| *count >= rank)
            .map_or(0.0, |(end, _)| *end)
    }
}

impl Unit {
    fn per_unit_of_the_metrics(self) -> f64 {
        match self {
            Self::Ms => 1e3,
            Self::Entries => 1.0,
        }
    }
}

const fn time(
    name: &'static str,
    quantiles: &'static str,
    count: &'static str,
) -> (&'static str, &'static str, &'static str, Unit) {
    (name, quantiles, count, Unit::Ms)
}

/// What is not 0, all shards together.
fn by_label(samples: &[Sample<'_>], (name, label): (&str, &str)) -> BTreeMap<String, u64> {
    let mut found = BTreeMap::new();
    for sample in samples
        .iter()
        .filter(|sample| sample.name == name && sample.value > 0.0)
    {
        if let Some(value) = sample.label(label) {
            *found.entry(value.to_owned()).or_default() += sample.value as u64;
        }
    }
    found
}

/// A line of the metrics.
struct Sample<'a> {
    name: &'a str,
    labels: &'a str,
    value: f64,
}

impl<'a> Sample<'a> {
    fn parse(line: &'a str) -> Option<Self> {
        if line.starts_with('#') {
            return None;
        }
        let (series, value) = line.trim_end().rsplit_once(' ')?;
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        Some(Self {
            name,
            labels: labels.trim_end_matches('}'),
            value: value.parse().ok()?,
        })
    }

    /// The pool's labels have neither commas nor quotes in their values.
    fn label(&self, key: &str) -> Option<&'a str> {
        self.labels.split(',').find_map(|label| {
            let (name, value) = label.split_once('=')?;
            (name == key).then(|| value.trim_matches('"'))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    fn text() -> String {
        let mut text = String::from("HTTP/1.1 200 OK\r\n\r\n# TYPE millrace_handshake_seconds histogram\n");
        for (_, quantiles, count, _) in HISTOGRAMS {
            for (at, quantile) in QUANTILES.iter().enumerate() {
                writeln!(text, "{quantiles}{{quantile=\"{quantile}\"}} 0.00{at}5").expect("a line");
            }
            writeln!(text, "{count}{{shard=\"0\"}} 40\n{count}{{shard=\"1\"}} 2").expect("a line");
        }
        text + "millrace_bound_hits_total{shard=\"0\",bound=\"ring_full\"} 3\n\
            millrace_bound_hits_total{shard=\"1\",bound=\"ring_full\"} 4\n\
            millrace_bound_hits_total{shard=\"1\",bound=\"inbox\"} 0\n\
            millrace_session_ends_total{shard=\"0\",reason=\"peer_closed\"} 9\n\
            # EOF\n"
    }

    #[test]
    fn quantiles_are_taken_as_they_are_and_counts_summed_over_shards() {
        let figures = PoolFigures::parse(&text()).expect("all is there");
        assert_eq!(figures.histograms.len(), HISTOGRAMS.len());
        let answer = &figures.histograms[3];
        assert_eq!(
            (answer.name, answer.unit, answer.count),
            ("frame to answer", Unit::Ms, 42)
        );
        let us = answer.quantiles.map(|ms| (ms * 1e3).round());
        assert_eq!(us, [500.0, 1_500.0, 2_500.0, 3_500.0, 4_500.0]);
        assert_eq!(figures.histograms[HISTOGRAMS.len() - 1].unit, Unit::Entries);
        assert_eq!(figures.bounds, BTreeMap::from([("ring_full".to_owned(), 7)]));
        assert_eq!(figures.ends, BTreeMap::from([("peer_closed".to_owned(), 9)]));
    }

    #[test]
    fn buckets_of_a_time_are_what_came_since() {
        let text = |counts: [[u64; 3]; 2]| {
            let lines = counts.iter().enumerate().flat_map(|(shard, counts)| {
                let ends = ["0.001", "0.01", "+Inf"].iter().zip(counts);
                ends.map(move |(end, count)| {
                    format!("{FRAME_TO_ANSWER_BUCKETS}{{le=\"{end}\",shard=\"{shard}\"}} {count}\n")
                })
            });
            lines.collect::<String>()
        };
        let before = Buckets::parse(&text([[10, 10, 10], [0, 0, 5]]));
        let after = Buckets::parse(&text([[60, 109, 109], [0, 0, 6]]));
        let since = after.since(&before);
        assert_eq!(since.at_most, [(0.001, 50), (0.01, 99), (f64::INFINITY, 100)]);
        assert_eq!(since.count(), 100);
        let quantiles = [0.5, 0.51, 0.99, 1.0].map(|quantile| since.quantile_at_most(quantile));
        assert_eq!(quantiles, [0.001, 0.01, 0.01, f64::INFINITY]);
        assert_eq!(Buckets::default().quantile_at_most(0.99), 0.0);
    }

    #[test]
    fn what_is_missing_is_named() {
        let text = text().replace("millrace_commit_quantile_seconds{quantile=\"0.999\"}", "other");
        let error = PoolFigures::parse(&text).expect_err("one is missing");
        assert_eq!(error, "no millrace_commit_quantile_seconds of 0.999");
    }
}
