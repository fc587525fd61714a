//! Every reason and every bound is in the metrics from the start, and what happens is counted.

use std::collections::HashMap;

use crate::pool::gateway::Gateway;
use crate::pool::{Pool, wait_until};
use millrace::telemetry::{Bound, EndReason};
use millrace::wire::Reason;

/// All series by name and labels.
fn series(pool: &Pool) -> HashMap<String, f64> {
    pool.metrics()
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (series, value) = line.rsplit_once(' ').unwrap_or_else(|| panic!("no sample: {line}"));
            (
                series.to_owned(),
                value.parse().unwrap_or_else(|_| panic!("no number: {line}")),
            )
        })
        .collect()
}

#[test]
fn everything_is_there_from_the_start() {
    let pool = Pool::with(&["--shards", "2"]);
    let series = series(&pool);
    for shard in 0..2 {
        let zero = |name: String| assert_eq!(series.get(&name), Some(&0.0), "{name}");
        for reason in Reason::ALL {
            zero(format!(
                "millrace_shares_refused_total{{shard=\"{shard}\",reason=\"{}\"}}",
                reason.label()
            ));
        }
        for bound in Bound::ALL {
            zero(format!(
                "millrace_bound_hits_total{{shard=\"{shard}\",bound=\"{}\"}}",
                bound.label()
            ));
        }
        for reason in EndReason::ALL {
            zero(format!(
                "millrace_session_ends_total{{shard=\"{shard}\",reason=\"{}\"}}",
                reason.label()
            ));
        }
        for outcome in ["opened", "skipped"] {
            zero(format!(
                "millrace_early_frames_total{{shard=\"{shard}\",outcome=\"{outcome}\"}}"
            ));
        }
        for result in ["ok", "failed"] {
            zero(format!(
                "millrace_handshakes_total{{shard=\"{shard}\",result=\"{result}\"}}"
            ));
        }
        for name in [
            "shares_accepted_total",
            "sessions",
            "gateways",
            "connections_accepted_total",
            "candidates_total",
            "coinbaser_requests_total",
            "pings_total",
            "frames_received_total",
            "bytes_received_total",
            "bytes_sent_total",
            "writes_total",
            "validations_unasked_total",
        ] {
            zero(format!("millrace_{name}{{shard=\"{shard}\"}}"));
        }
        for name in ["handshake", "frame_to_verdict", "frame_to_durable", "frame_to_answer"] {
            zero(format!("millrace_{name}_seconds_count{{shard=\"{shard}\"}}"));
        }
    }
    for name in [
        "ledger_shares_total",
        "ledger_sequence",
        "payees",
        "workers",
        "ledger_failed",
    ] {
        assert_eq!(series.get(&format!("millrace_{name}")), Some(&0.0), "{name}");
    }
    for name in ["millrace_disk_free_bytes", "millrace_ledger_memory_bytes"] {
        assert!(series[name] > 0.0, "{name}");
    }
    for shard in 0..2 {
        let lag = format!("millrace_shard_lag_seconds{{shard=\"{shard}\"}}");
        let now = || self::series(&pool)[&lag];
        wait_until(|| (0.0..1.0).contains(&now()) && now() > 0.0, || pool.metrics());
    }
    assert!(pool.http("/healthz").starts_with("HTTP/1.1 200"));
    assert!(pool.http("/").starts_with("HTTP/1.1 404"));
}

#[test]
fn what_happens_is_counted() {
    const ACCEPTED: u32 = 20;
    let mut pool = Pool::start();
    let gateway = Gateway::new();
    let mut session = gateway.connect(&pool);
    let template = session.template(0, 1);
    for n in 0..ACCEPTED {
        assert_eq!(session.submit(&template.share(n).with_sections()), Ok(()));
    }
    assert_eq!(session.submit(&template.share(0).bare()), Err(Reason::DuplicateWork));
    assert_eq!(
        session.submit(&template.in_slot(4).share(0).bare()),
        Err(Reason::BadJobId)
    );
    let accepted = u64::from(ACCEPTED);
    // The time of an answer is noted after it was written.
    pool.wait_for_metric("millrace_frame_to_answer_seconds_count", &[], accepted + 2);

    let metric = |name: &str| pool.metric(name, &[]);
    assert_eq!(metric("millrace_shares_accepted_total"), accepted);
    assert_eq!(
        pool.metric("millrace_shares_refused_total", &["reason=\"duplicate_work\""]),
        1
    );
    assert_eq!(
        pool.metric("millrace_shares_refused_total", &["reason=\"bad_job_id\""]),
        1
    );
    assert_eq!(metric("millrace_shares_refused_total"), 2);
    assert_eq!(metric("millrace_bound_hits_total"), 0);
    assert_eq!(metric("millrace_frames_received_total"), accepted + 2);
    assert_eq!(metric("millrace_bytes_received_total"), session.line.sent.len() as u64);
    assert_eq!(metric("millrace_connections_accepted_total"), 1);
    assert_eq!(pool.metric("millrace_handshakes_total", &["result=\"ok\""]), 1);
    assert_eq!(pool.metric("millrace_handshakes_total", &["result=\"failed\""]), 0);
    assert_eq!(metric("millrace_sessions"), 1);
    assert_eq!(metric("millrace_gateways"), 1);
    assert_eq!(metric("millrace_handshake_seconds_count"), 1);
    assert_eq!(metric("millrace_frame_to_verdict_seconds_count"), accepted + 2);
    assert_eq!(metric("millrace_frame_to_durable_seconds_count"), accepted);
    assert_eq!(metric("millrace_ledger_shares_total"), accepted);
    assert_eq!(metric("millrace_ledger_sequence"), accepted);
    assert_eq!(metric("millrace_payees"), 1);
    assert_eq!(metric("millrace_workers"), 1);
    let batches = metric("millrace_ledger_batches_total");
    // One a share, since each waited for the one before it, and one at least for the session's row.
    assert!(batches > accepted, "{batches}");
    assert_eq!(metric("millrace_commit_seconds_count"), batches);
    assert_eq!(metric("millrace_batch_entries_count"), batches);

    // Quantiles over all shards, in their order.
    let series = series(&pool);
    for name in [
        "handshake",
        "frame_to_verdict",
        "frame_to_durable",
        "frame_to_answer",
        "commit",
        "queue_age",
    ] {
        let quantile = |of: &str| series[&format!("millrace_{name}_quantile_seconds{{quantile=\"{of}\"}}")];
        let quantiles = ["0.5", "0.9", "0.99", "0.999", "1"].map(quantile);
        assert!(quantiles.is_sorted() && quantiles[4] > 0.0, "{name}: {quantiles:?}");
    }

    // A session that has ended is one less and one more; its gateway is remembered.
    drop(session);
    pool.wait_for_ends("peer_closed", 1);
    wait_until(|| pool.metric("millrace_sessions", &[]) == 0, || pool.metrics());
    assert_eq!(pool.metric("millrace_gateways", &[]), 1);

    // What the ledger holds outlives the process, what was counted does not.
    pool.kill();
    pool.restart();
    assert_eq!(pool.metric("millrace_ledger_sequence", &[]), accepted);
    assert_eq!(pool.metric("millrace_shares_accepted_total", &[]), 0);
    assert_eq!(pool.metric("millrace_gateways", &[]), 1);
}
