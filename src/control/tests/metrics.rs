//! The text of the metrics.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::super::metrics::Metrics;
use super::StandIn;
use crate::telemetry::{Bound, EndReason};
use crate::wire::Reason;

/// Series by name and labels in order, each with its value as written.
type Series = BTreeMap<(String, BTreeMap<String, String>), String>;

fn text(stand_in: &Arc<StandIn>) -> String {
    Metrics::new(&stand_in.pool()).text().expect("text")
}

fn parse(text: &str) -> Series {
    let mut series = Series::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let (key, value) = line.rsplit_once(' ').expect("a series and its value");
        let (name, labels) = key.split_once('{').unwrap_or((key, "}"));
        let labels = labels.strip_suffix('}').expect("labels end");
        let labels = labels.split(',').filter(|label| !label.is_empty()).map(|label| {
            let (key, value) = label.split_once('=').expect("a label");
            (key.to_string(), value.trim_matches('"').to_string())
        });
        let before = series.insert((name.into(), labels.collect()), value.into());
        assert_eq!(before, None, "{key} twice");
    }
    series
}

fn find<'a>(series: &'a Series, name: &str, labels: &[(&str, &str)]) -> Option<&'a str> {
    let labels = labels
        .iter()
        .map(|(key, value)| (key.to_string(), value.to_string()))
        .collect();
    series.get(&(name.to_string(), labels)).map(String::as_str)
}

#[test]
fn everything_is_listed_from_the_start() {
    let series = parse(&text(&StandIn::new(2)));
    for shard in ["0", "1"] {
        for reason in Reason::ALL {
            let labels = [("shard", shard), ("reason", reason.label())];
            assert_eq!(
                find(&series, "millrace_shares_refused_total", &labels),
                Some("0"),
                "{labels:?}"
            );
        }
        for bound in Bound::ALL {
            let labels = [("shard", shard), ("bound", bound.label())];
            assert_eq!(
                find(&series, "millrace_bound_hits_total", &labels),
                Some("0"),
                "{labels:?}"
            );
        }
        for end in EndReason::ALL {
            let labels = [("shard", shard), ("reason", end.label())];
            assert_eq!(
                find(&series, "millrace_session_ends_total", &labels),
                Some("0"),
                "{labels:?}"
            );
        }
        for name in [
            "millrace_shares_accepted_total",
            "millrace_candidates_total",
            "millrace_connections_accepted_total",
            "millrace_coinbaser_requests_total",
            "millrace_pings_total",
            "millrace_frames_received_total",
            "millrace_bytes_received_total",
            "millrace_bytes_sent_total",
            "millrace_writes_total",
            "millrace_validations_unasked_total",
            "millrace_shares_denied_total",
            "millrace_jobs_condemned_total",
            "millrace_gateways_unshown_total",
            "millrace_sessions",
            "millrace_gateways",
            "millrace_handshakes_under_way",
            "millrace_handshake_seconds_count",
            "millrace_frame_to_verdict_seconds_count",
            "millrace_frame_to_durable_seconds_count",
            "millrace_frame_to_answer_seconds_count",
        ] {
            assert_eq!(find(&series, name, &[("shard", shard)]), Some("0"), "{name}");
        }
        let lag = find(&series, "millrace_shard_lag_seconds", &[("shard", shard)]);
        assert_eq!(lag, Some("0.0"), "it has not begun");
        for (name, key, outcomes) in [
            ("millrace_handshakes_total", "result", ["ok", "failed"]),
            ("millrace_early_frames_total", "outcome", ["opened", "skipped"]),
        ] {
            for outcome in outcomes {
                assert_eq!(
                    find(&series, name, &[("shard", shard), (key, outcome)]),
                    Some("0"),
                    "{name} {outcome}"
                );
            }
        }
    }
    for name in [
        "millrace_ledger_shares_total",
        "millrace_ledger_entries_total",
        "millrace_ledger_batches_total",
        "millrace_ledger_bytes_total",
        "millrace_ledger_sequence",
        "millrace_ledger_failed",
        "millrace_disk_free_bytes",
        "millrace_ledger_memory_bytes",
        "millrace_payees",
        "millrace_workers",
        "millrace_batch_entries_count",
        "millrace_commit_seconds_count",
        "millrace_queue_age_seconds_count",
    ] {
        assert_eq!(find(&series, name, &[]), Some("0"), "{name}");
    }
    assert_eq!(find(&series, "millrace_queue_age_now_seconds", &[]), Some("0.0"));
    assert_eq!(
        find(
            &series,
            "millrace_build_info",
            &[("version", env!("CARGO_PKG_VERSION"))]
        ),
        Some("1")
    );
    let started: f64 = find(&series, "process_start_time_seconds", &[])
        .and_then(|value| value.parse().ok())
        .expect("a time");
    assert!(started > 1.7e9, "s since 1970: {started}");
}

#[test]
fn each_number_stands_under_its_own_name() {
    let stand_in = StandIn::new(2);
    let shard = &stand_in.telemetry.shards[1];
    // Each its own, and above what a float writes whole.
    let large = (1 << 53) + 1;
    shard.shares_accepted.add(large);
    shard.candidates.add(2);
    shard.connections_accepted.add(3);
    shard.coinbaser_requests.add(4);
    shard.pings.add(5);
    shard.frames_in.add(6);
    shard.bytes_in.add(7);
    shard.bytes_out.add(8);
    shard.writes.add(9);
    shard.validations_unasked.add(10);
    shard.sessions.set(11);
    shard.gateways.set(12);
    shard.handshakes_under_way.set(13);
    shard.handshakes_ok.add(14);
    shard.handshakes_failed.add(15);
    shard.early_opened.add(16);
    shard.early_skipped.add(17);
    shard.shares_refused[Reason::StaleBlock].add(18);
    shard.bounds[Bound::RingFull].add(19);
    shard.ends[EndReason::Garbage].add(20);
    let ledger = &stand_in.telemetry.ledger;
    ledger.shares.add(21);
    ledger.entries.add(22);
    ledger.batches.add(23);
    ledger.bytes.add(24);
    ledger.sequence.set(25);
    ledger.disk_free_bytes.set(large);
    ledger.memory_bytes.set(26);
    ledger.payees.set(27);
    ledger.workers.set(28);
    ledger.failed.set(1);
    ledger.bookkeeper_full.add(29);
    ledger.waiting_since_ns.set(1);

    let series = parse(&text(&stand_in));
    let large = large.to_string();
    for (name, label, value) in [
        ("millrace_shares_accepted_total", None, large.as_str()),
        ("millrace_candidates_total", None, "2"),
        ("millrace_connections_accepted_total", None, "3"),
        ("millrace_coinbaser_requests_total", None, "4"),
        ("millrace_pings_total", None, "5"),
        ("millrace_frames_received_total", None, "6"),
        ("millrace_bytes_received_total", None, "7"),
        ("millrace_bytes_sent_total", None, "8"),
        ("millrace_writes_total", None, "9"),
        ("millrace_validations_unasked_total", None, "10"),
        ("millrace_sessions", None, "11"),
        ("millrace_gateways", None, "12"),
        ("millrace_handshakes_under_way", None, "13"),
        ("millrace_handshakes_total", Some(("result", "ok")), "14"),
        ("millrace_handshakes_total", Some(("result", "failed")), "15"),
        ("millrace_early_frames_total", Some(("outcome", "opened")), "16"),
        ("millrace_early_frames_total", Some(("outcome", "skipped")), "17"),
        ("millrace_shares_refused_total", Some(("reason", "stale_block")), "18"),
        ("millrace_bound_hits_total", Some(("bound", "ring_full")), "19"),
        ("millrace_session_ends_total", Some(("reason", "garbage")), "20"),
    ] {
        let labels = |shard| {
            [Some(("shard", shard)), label]
                .into_iter()
                .flatten()
                .collect::<Vec<_>>()
        };
        assert_eq!(find(&series, name, &labels("1")), Some(value), "{name}");
        assert_eq!(find(&series, name, &labels("0")), Some("0"), "{name}");
    }
    for (name, value) in [
        ("millrace_ledger_shares_total", "21"),
        ("millrace_ledger_entries_total", "22"),
        ("millrace_ledger_batches_total", "23"),
        ("millrace_ledger_bytes_total", "24"),
        ("millrace_ledger_sequence", "25"),
        ("millrace_disk_free_bytes", &large),
        ("millrace_ledger_memory_bytes", "26"),
        ("millrace_payees", "27"),
        ("millrace_workers", "28"),
        ("millrace_ledger_failed", "1"),
        ("millrace_bookkeeper_full_total", "29"),
    ] {
        assert_eq!(find(&series, name, &[]), Some(value), "{name}");
    }
    // It goes on growing while the disk does not answer.
    let age = find(&series, "millrace_queue_age_now_seconds", &[]).and_then(|age| age.parse::<f64>().ok());
    assert!(age.is_some_and(|age| age > 0.0), "{age:?}");
}

/// Histograms by name and shard, each with its buckets: where they end, and how many values are below.
type Histograms = BTreeMap<(String, Option<String>), Vec<(f64, u64)>>;

fn histograms(series: &Series) -> Histograms {
    let mut found = Histograms::new();
    for ((name, labels), value) in series {
        if let (Some(name), Some(end)) = (name.strip_suffix("_bucket"), labels.get("le")) {
            let end = if end == "+Inf" {
                f64::INFINITY
            } else {
                end.parse().expect("a number")
            };
            let key = (name.to_string(), labels.get("shard").cloned());
            found
                .entry(key)
                .or_default()
                .push((end, value.parse().expect("a whole number")));
        }
    }
    for buckets in found.values_mut() {
        buckets.sort_by(|a, b| a.0.total_cmp(&b.0));
    }
    found
}

#[test]
fn buckets_are_cumulative_and_agree_with_count_and_sum() {
    let stand_in = StandIn::new(2);
    let times = [
        0,
        1_000,
        1_001,
        5_000_000,
        5_004_000,
        5_010_000,
        59_999_999_999,
        65_000_000_000,
        u64::MAX,
    ];
    for time in times {
        stand_in.telemetry.shards[1].frame_to_answer.record(time);
        stand_in.telemetry.ledger.commit.record(time);
    }
    for entries in [1, 2, 2, 3, 1_000, 1 << 30] {
        stand_in.telemetry.ledger.batch_entries.record(entries);
    }
    let series = parse(&text(&stand_in));
    let histograms = histograms(&series);
    assert_eq!(histograms.len(), 7 * 2 + 5);
    for ((name, shard), buckets) in &histograms {
        assert!(
            buckets.is_sorted_by(|a, b| a.0 < b.0 && a.1 <= b.1),
            "{name}: {buckets:?}"
        );
        let (end, all) = buckets.last().expect("a last one");
        assert_eq!(*end, f64::INFINITY);
        let labels: Vec<_> = shard.iter().map(|shard| ("shard", shard.as_str())).collect();
        assert_eq!(
            find(&series, &format!("{name}_count"), &labels),
            Some(all.to_string().as_str()),
            "{name}"
        );
    }

    let below = |name: &str, shard: Option<&str>, end: f64| {
        let buckets = &histograms[&(name.to_string(), shard.map(String::from))];
        buckets.iter().find(|bucket| bucket.0 == end).expect("an end").1
    };
    for (name, shard) in [
        ("millrace_frame_to_answer_seconds", Some("1")),
        ("millrace_commit_seconds", None),
    ] {
        assert_eq!(
            below(name, shard, 0.000_001),
            2,
            "what is exactly at an end is below it"
        );
        assert_eq!(below(name, shard, 0.000_001_25), 3);
        assert_eq!(below(name, shard, 0.004), 3);
        assert_eq!(
            below(name, shard, 0.005),
            4,
            "5.004 ms is past it by less than a thousandth, in a bucket of its own"
        );
        assert_eq!(below(name, shard, 0.006), 6);
        assert_eq!(below(name, shard, 50.0), 6);
        assert_eq!(below(name, shard, 60.0), 7);
        assert_eq!(below(name, shard, f64::INFINITY), 9);
    }
    for (end, count) in [
        (1.0, 1),
        (2.0, 3),
        (3.0, 4),
        (768.0, 4),
        (1_024.0, 5),
        (262_144.0, 5),
        (f64::INFINITY, 6),
    ] {
        assert_eq!(below("millrace_batch_entries", None, end), count, "{end}");
    }

    let sum: f64 = find(&series, "millrace_frame_to_answer_seconds_sum", &[("shard", "1")])
        .and_then(|sum| sum.parse().ok())
        .expect("a sum");
    let longest = 68.719_476_735;
    let exact = 0.000_002_001 + 0.015_014 + 59.999_999_999 + 65.0 + longest;
    assert!((sum - exact).abs() < exact / 1_000.0, "{sum} instead of {exact}");
    assert_eq!(
        find(&series, "millrace_frame_to_answer_seconds_sum", &[("shard", "0")]),
        Some("0.0")
    );
}

#[test]
fn quantiles_are_of_all_shards_together() {
    let stand_in = StandIn::new(3);
    // One to 999 ms, dealt out to the shards in turn.
    for ms in 1..=999 {
        stand_in.telemetry.shards[ms % 3]
            .frame_to_durable
            .record(ms as u64 * 1_000_000);
    }
    for entries in 1..=100 {
        stand_in.telemetry.ledger.batch_entries.record(entries);
    }
    let text = text(&stand_in);
    let series = parse(&text);
    for (quantile, exact) in [
        ("0.5", 0.5),
        ("0.9", 0.9),
        ("0.99", 0.99),
        ("0.999", 0.999),
        ("1", 0.999),
    ] {
        let found: f64 = find(
            &series,
            "millrace_frame_to_durable_quantile_seconds",
            &[("quantile", quantile)],
        )
        .and_then(|value| value.parse().ok())
        .expect("a quantile");
        assert!(found >= exact && found <= exact * 1.001, "{quantile}: {found}");
    }
    for (quantile, exact) in [("0.5", "50"), ("0.99", "99"), ("1", "100")] {
        let labels = [("quantile", quantile)];
        assert_eq!(find(&series, "millrace_batch_entries_quantile", &labels), Some(exact));
    }
    for name in [
        "handshake",
        "frame_to_verdict",
        "frame_to_answer",
        "commit",
        "queue_age",
    ] {
        let name = format!("millrace_{name}_quantile_seconds");
        assert!(text.contains(&format!("# TYPE {name} gauge")), "{name}");
        assert_eq!(
            find(&series, &name, &[("quantile", "0.5")]),
            None,
            "nothing was recorded, so there is no value"
        );
    }
}

#[test]
fn every_family_is_described_once_and_before_its_series() {
    let text = text(&StandIn::new(2));
    let mut described = std::collections::BTreeSet::new();
    let mut current = String::new();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            current = rest.split(' ').next().expect("a name").to_string();
            assert!(described.insert(current.clone()), "{current} twice");
        } else if !line.starts_with('#') {
            assert!(line.starts_with(&current), "{line} stands under {current}");
        }
    }
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn a_reader_sees_the_numbers_move() {
    let stand_in = StandIn::new(1);
    let metrics = Metrics::new(&stand_in.pool());
    let accepted = || {
        let series = parse(&metrics.text().expect("text"));
        find(&series, "millrace_shares_accepted_total", &[("shard", "0")]).map(String::from)
    };
    assert_eq!(accepted().as_deref(), Some("0"));
    stand_in.telemetry.shards[0].shares_accepted.add(41);
    assert_eq!(accepted().as_deref(), Some("41"));
}
