//! What a run has shown: the figures, and whether all is as it should be. [`crate::summary`] shows them to a person.

use std::collections::BTreeMap;

use hdrhistogram::Histogram;
use millrace::wire::Reason;
use serde::Serialize;

use crate::check::Comparison;
use crate::restart::RestartShown;
use crate::scrape::{Buckets, PoolFigures};
use crate::tally::{Tally, histogram};
use crate::tip::AtTip;
use crate::upstream::Fate;

/// The figures of a run.
#[derive(Debug, Serialize)]
pub struct Report {
    pub ok: bool,
    /// Why not, in words.
    pub failures: Vec<String>,
    pub mode: String,
    /// How latency was measured.
    pub latency_from: &'static str,
    pub gateways: u32,
    pub in_flight_max: u32,
    pub seconds: f64,
    pub accepted: u64,
    pub accepted_per_second: f64,
    pub tentative: u64,
    pub refused_as_meant: u64,
    /// By reason: how many were sent to be refused so, and how many were.
    pub reasons: BTreeMap<String, Refused>,
    pub wrong: u64,
    pub unasked: u64,
    pub missing: u64,
    pub lost: u64,
    pub unsent: u64,
    pub early: Early,
    pub handshakes: u64,
    pub handshakes_per_second: f64,
    pub reconnects: u64,
    /// Connections that the pool ended.
    pub cut_off: u64,
    pub failed_connects: u64,
    /// Planned restarts of the pool that this run asked for.
    pub restarts: Vec<RestartShown>,
    pub gateways_down: usize,
    pub configs: u64,
    pub splits: Splits,
    pub at_tip: Option<AtTip>,
    /// Blocks found on a node's templates.
    pub blocks: Option<Blocks>,
    /// Words of a new block that gateways heard.
    pub new_blocks: u64,
    /// Questions about the transactions of jobs.
    pub questions: u64,
    pub infos: u64,
    pub pings: u64,
    pub protocol_faults: u64,
    pub samples: Vec<String>,
    pub latency_ms: BTreeMap<&'static str, Latency>,
    /// Whether the ledger was held against what was acknowledged: `ok` says nothing of it where it was not.
    pub ledger_compared: bool,
    pub ledger: Option<Comparison>,
    pub pool: Option<PoolFigures>,
    pub generator: Generator,
}

#[derive(Debug, Serialize)]
pub struct Blocks {
    pub found: u64,
    /// By coinbase id; 255 for subsidy-only work.
    pub by_class: BTreeMap<u8, u64>,
    /// Of these, brought to the node by their gateways, which took them.
    pub taken_first: u64,
    /// From the share to the complete `submitblock` of the pool, as the node saw it.
    pub to_node_ms: Option<Latency>,
}

#[derive(Debug, Default, Serialize)]
pub struct Refused {
    pub sent: u64,
    pub refused: u64,
}

/// Shares around a reconnect.
#[derive(Debug, Serialize)]
pub struct Early {
    pub sent: u64,
    pub answered: u64,
    pub lost: u64,
    pub unread: u64,
    pub lost_before_hello: u64,
    pub lost_offline: u64,
}

#[derive(Debug, Serialize)]
pub struct Splits {
    pub asked: u64,
    pub answered: u64,
    pub late: u64,
    /// Of one answer.
    pub outputs_median: u64,
    pub outputs_max: u64,
    /// Accepted shares whose coinbase pays anybody of a split.
    pub shares_paying: u64,
}

/// In ms.
#[derive(Debug, Serialize)]
pub struct Latency {
    pub count: u64,
    pub mean: f64,
    pub p50: f64,
    pub p90: f64,
    pub p99: f64,
    pub p999: f64,
    pub max: f64,
}

/// What this program itself took.
#[derive(Debug, Serialize)]
pub struct Generator {
    pub cpu_seconds: f64,
    pub cpu_us_per_share: f64,
    pub rss_mib: f64,
}

/// What a report is made from beside the tally.
pub struct Run {
    pub mode: String,
    pub latency_from: &'static str,
    pub gateways: u32,
    pub in_flight_max: u32,
    pub seconds: f64,
    /// Whether the pool may end connections.
    pub may_cut: bool,
    pub restarts: Vec<RestartShown>,
    pub down: usize,
    pub failures: Vec<String>,
    pub ledger: Option<Comparison>,
    pub pool: Option<PoolFigures>,
    /// The pool's before all gateways asked, and after.
    pub buckets: Option<(Buckets, Buckets)>,
    /// Where there is a node.
    pub blocks: Option<Fate>,
    /// CPU seconds while mining, and KiB at most.
    pub cpu_seconds: f64,
    pub rss_kib: u64,
}

impl Report {
    pub fn new(run: Run, tally: &Tally) -> Self {
        let mut failures = run.failures;
        let unless_meant = |count| if run.may_cut { 0 } else { count };
        for (count, what) in [
            (tally.wrong, "answers other than expected"),
            (tally.unasked, "answers to no share that waited (twice, or unasked)"),
            (tally.missing, "shares without an answer"),
            (tally.faults, "faults against the protocol"),
            (
                unless_meant(tally.unread_early),
                "shares whose early frame was not read (--may-cut where the pool may forget a former session's key)",
            ),
            (
                unless_meant(tally.cut_off),
                "connections that the pool ended (--may-cut where that is meant)",
            ),
            (
                unless_meant(tally.failed_connects),
                "connections that could not be made (--may-cut where that is meant)",
            ),
            (run.down as u64, "gateways without a session at the end"),
        ] {
            if count > 0 {
                failures.push(format!("{count} {what}"));
            }
        }
        if let Some(ledger) = run.ledger.filter(|ledger| !ledger.ok) {
            failures.push(ledger.to_string());
        }
        let blocks = run.blocks.map(|fate| {
            failures.extend(
                fate.refusals
                    .iter()
                    .map(|why| format!("the node refuses a block: {why}")),
            );
            Blocks::new(&fate)
        });
        failures.extend(run.restarts.iter().filter_map(RestartShown::failure));
        let at_tip = AtTip::new(&tally.at_tip, run.buckets);
        if let Some(tip) = at_tip.as_ref().filter(|tip| tip.late + tip.lost > 0 && !run.may_cut) {
            failures.push(format!("{} gateways got no split at the tip", tip.late + tip.lost));
        }
        let reasons = Reason::ALL.iter().filter_map(|reason| {
            let code = usize::from(reason.code());
            let refused = Refused {
                sent: tally.sent_bad[code],
                refused: tally.refused[code],
            };
            (refused.sent > 0).then(|| (format!("{code} {}", reason.label()), refused))
        });
        let latencies = [
            ("accepted", &tally.accepted_ns),
            ("refused", &tally.refused_ns),
            ("handshake", &tally.handshake_ns),
            ("split", &tally.split_ns),
            ("away", &tally.away_ns),
        ];
        Self {
            ok: failures.is_empty(),
            failures,
            mode: run.mode,
            latency_from: run.latency_from,
            gateways: run.gateways,
            in_flight_max: run.in_flight_max,
            seconds: run.seconds,
            accepted: tally.accepted,
            accepted_per_second: tally.accepted_in_time as f64 / run.seconds,
            tentative: tally.tentative,
            refused_as_meant: tally.refused_total(),
            reasons: reasons.collect(),
            wrong: tally.wrong,
            unasked: tally.unasked,
            missing: tally.missing,
            lost: tally.lost,
            unsent: tally.unsent,
            early: Early {
                sent: tally.sent_early,
                answered: tally.answered_early,
                lost: tally.lost_early,
                unread: tally.unread_early,
                lost_before_hello: tally.lost_before_hello,
                lost_offline: tally.lost_offline,
            },
            handshakes: tally.handshakes,
            handshakes_per_second: tally.handshakes as f64 / run.seconds,
            reconnects: tally.reconnects,
            cut_off: tally.cut_off,
            failed_connects: tally.failed_connects,
            restarts: run.restarts,
            gateways_down: run.down,
            configs: tally.configs,
            splits: Splits {
                asked: tally.splits_asked,
                answered: tally.splits_answered,
                late: tally.splits_late,
                outputs_median: tally.split_outputs.value_at_quantile(0.5),
                outputs_max: tally.split_outputs.max(),
                shares_paying: tally.accepted_paying,
            },
            at_tip,
            blocks,
            new_blocks: tally.new_blocks,
            questions: tally.questions,
            infos: tally.infos,
            pings: tally.pings,
            protocol_faults: tally.faults,
            samples: tally.samples.clone(),
            latency_ms: latencies
                .into_iter()
                .filter(|(_, histogram)| !histogram.is_empty())
                .map(|(name, histogram)| (name, Latency::new(histogram)))
                .collect(),
            ledger_compared: run.ledger.is_some(),
            ledger: run.ledger,
            pool: run.pool,
            generator: Generator {
                cpu_seconds: run.cpu_seconds,
                cpu_us_per_share: run.cpu_seconds * 1e6 / tally.sent_total().max(1) as f64,
                rss_mib: run.rss_kib as f64 / 1_024.0,
            },
        }
    }
}

impl Blocks {
    fn new(fate: &Fate) -> Self {
        let mut to_node = histogram();
        fate.to_node_ns.iter().for_each(|ns| to_node.saturating_record(*ns));
        Self {
            found: fate.found,
            by_class: fate.by_class.clone(),
            taken_first: fate.taken,
            to_node_ms: (!to_node.is_empty()).then(|| Latency::new(&to_node)),
        }
    }
}

impl Latency {
    pub fn new(histogram: &Histogram<u64>) -> Self {
        let ms = |ns: u64| ns as f64 / 1e6;
        let at = |quantile| ms(histogram.value_at_quantile(quantile));
        Self {
            count: histogram.len(),
            mean: histogram.mean() / 1e6,
            p50: at(0.5),
            p90: at(0.9),
            p99: at(0.99),
            p999: at(0.999),
            max: ms(histogram.max()),
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;

    /// Of one gateway that was not allowed to be cut off.
    pub fn report(ledger: Option<Comparison>, tally: &Tally) -> Report {
        Report::new(Run { ledger, ..run(false) }, tally)
    }

    fn run(may_cut: bool) -> Run {
        Run {
            mode: "test".into(),
            latency_from: "nowhere",
            gateways: 1,
            in_flight_max: 1,
            seconds: 1.0,
            may_cut,
            restarts: Vec::new(),
            down: 0,
            failures: Vec::new(),
            ledger: None,
            pool: None,
            buckets: None,
            blocks: None,
            cpu_seconds: 0.0,
            rss_kib: 0,
        }
    }

    #[test]
    fn early_shares_that_were_not_read_are_a_failure_unless_the_pool_may_be_restarted() {
        let unread = Tally {
            unread_early: 1,
            ..Tally::default()
        };
        assert!(!Report::new(run(false), &unread).ok);
        assert!(Report::new(run(true), &unread).ok);
        // That a gateway dropped its own connection is nobody's fault.
        let lost = Tally {
            lost_early: 1,
            ..Tally::default()
        };
        assert!(Report::new(run(false), &lost).ok);
    }
}
