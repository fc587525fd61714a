//! The pool's own figures, from its metrics: on shared cores these judge the pool, not the client's.

use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use serde::Serialize;

const TIMEOUT: Duration = Duration::from_secs(10);

/// Metrics that are shown begin so.
const PREFIX: &str = "millrace_";

/// Quantiles that are shown.
const QUANTILES: [f64; 4] = [0.5, 0.9, 0.99, 0.999];

/// One histogram of the pool, in the unit of its name.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct PoolHistogram {
    pub name: String,
    pub count: u64,
    /// By quantile, as text. From buckets these are the upper ends.
    pub quantiles: BTreeMap<String, f64>,
}

/// Asks once.
///
/// # Errors
/// Nobody answers, or not with text.
pub fn metrics(address: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, TIMEOUT)?;
    stream.set_read_timeout(Some(TIMEOUT))?;
    stream.write_all(b"GET /metrics HTTP/1.1\r\nHost: pool\r\nConnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    Ok(answer)
}

/// The histograms in the text, whether it has them as buckets or as quantiles, all series of a name together.
pub fn histograms(text: &str) -> Vec<PoolHistogram> {
    let mut buckets: BTreeMap<&str, BTreeMap<u64, f64>> = BTreeMap::new();
    let mut quantiles: BTreeMap<&str, BTreeMap<String, f64>> = BTreeMap::new();
    let mut counts: BTreeMap<&str, f64> = BTreeMap::new();
    for line in text.lines() {
        let Some((name, labels, value)) = sample(line) else {
            continue;
        };
        if let (Some(name), Some(end)) = (name.strip_suffix("_bucket"), label(labels, "le")) {
            let end = if end == "+Inf" { Ok(f64::INFINITY) } else { end.parse() };
            if let Ok(end) = end {
                // The bits of positive floats are in the order of the floats.
                *buckets.entry(name).or_default().entry(end.to_bits()).or_default() += value;
            }
        } else if let Some(quantile) = label(labels, "quantile") {
            let most = quantiles
                .entry(name)
                .or_default()
                .entry(quantile.into())
                .or_insert(value);
            *most = most.max(value);
        } else if let Some(name) = name.strip_suffix("_count") {
            *counts.entry(name).or_default() += value;
        }
    }
    let mut found = Vec::new();
    for (name, buckets) in buckets {
        let count = buckets.values().copied().fold(0.0, f64::max);
        let at = |quantile: f64| {
            let rank = count * quantile;
            let end = buckets.iter().find(|(_, below)| **below >= rank);
            end.map_or(0.0, |(end, _)| f64::from_bits(*end))
        };
        found.push(PoolHistogram {
            name: name.into(),
            count: count as u64,
            quantiles: QUANTILES
                .iter()
                .map(|quantile| (quantile.to_string(), at(*quantile)))
                .collect(),
        });
    }
    for (name, quantiles) in quantiles {
        found.push(PoolHistogram {
            name: name.into(),
            count: counts.get(name).copied().unwrap_or(0.0) as u64,
            quantiles,
        });
    }
    found.retain(|histogram| histogram.count > 0);
    found
}

/// Name, labels and value of a line.
fn sample(line: &str) -> Option<(&str, &str, f64)> {
    if !line.starts_with(PREFIX) {
        return None;
    }
    let (series, value) = line.rsplit_once(' ')?;
    let (name, labels) = series.split_once('{').unwrap_or((series, ""));
    Some((name, labels.trim_end_matches('}'), value.parse().ok()?))
}

fn label<'a>(labels: &'a str, key: &str) -> Option<&'a str> {
    labels.split(',').find_map(|label| {
        let (name, value) = label.split_once('=')?;
        (name.trim() == key).then(|| value.trim_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_come_from_the_buckets_of_all_shards() {
        let text = "# TYPE millrace_frame_to_answer_seconds histogram\n\
            millrace_frame_to_answer_seconds_bucket{shard=\"0\",le=\"0.001\"} 50\n\
            millrace_frame_to_answer_seconds_bucket{shard=\"0\",le=\"0.01\"} 99\n\
            millrace_frame_to_answer_seconds_bucket{shard=\"0\",le=\"+Inf\"} 100\n\
            millrace_frame_to_answer_seconds_bucket{shard=\"1\",le=\"0.001\"} 100\n\
            millrace_frame_to_answer_seconds_bucket{shard=\"1\",le=\"0.01\"} 100\n\
            millrace_frame_to_answer_seconds_bucket{shard=\"1\",le=\"+Inf\"} 100\n\
            other_bucket{le=\"1\"} 7\n";
        let found = histograms(text);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].count, 200);
        assert_eq!(found[0].quantiles["0.5"], 0.001);
        assert_eq!(found[0].quantiles["0.99"], 0.01);
        assert_eq!(found[0].quantiles["0.999"], f64::INFINITY);
    }

    #[test]
    fn quantiles_given_as_such_are_taken() {
        let text = "millrace_fsync_seconds{quantile=\"0.99\"} 0.004\nmillrace_fsync_seconds_count 12\n";
        let found = histograms(text);
        assert_eq!((found[0].count, found[0].quantiles["0.99"]), (12, 0.004));
    }
}
