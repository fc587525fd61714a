//! What a run has shown, for a person and as JSON.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Formatter};

use hdrhistogram::Histogram;
use millrace::wire::Reason;
use serde::Serialize;

use crate::check::Comparison;
use crate::scrape::PoolHistogram;
use crate::tally::Tally;

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
    pub failed_connects: u64,
    pub gateways_down: usize,
    pub configs: u64,
    pub splits: Splits,
    pub infos: u64,
    pub pings: u64,
    pub protocol_faults: u64,
    pub samples: Vec<String>,
    pub latency_ms: BTreeMap<&'static str, Latency>,
    pub ledger: Option<Comparison>,
    pub pool: Vec<PoolHistogram>,
    pub generator: Generator,
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
    pub lost_before_hello: u64,
    pub lost_offline: u64,
}

#[derive(Debug, Serialize)]
pub struct Splits {
    pub asked: u64,
    pub answered: u64,
    pub late: u64,
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
    pub down: usize,
    pub failures: Vec<String>,
    pub ledger: Option<Comparison>,
    pub pool: Vec<PoolHistogram>,
    /// CPU seconds while mining, and KiB at most.
    pub cpu_seconds: f64,
    pub rss_kib: u64,
}

impl Report {
    pub fn new(run: Run, tally: &Tally) -> Self {
        let mut failures = run.failures;
        for (count, what) in [
            (tally.wrong, "answers other than expected"),
            (tally.unasked, "answers to no share that waited (twice, or unasked)"),
            (tally.missing, "shares without an answer"),
            (tally.faults, "faults against the protocol"),
            (run.down as u64, "gateways without a session at the end"),
        ] {
            if count > 0 {
                failures.push(format!("{count} {what}"));
            }
        }
        if let Some(ledger) = run.ledger.filter(|ledger| !ledger.ok) {
            failures.push(format!(
                "the ledger grew from {} to {} shares, acknowledged were {}",
                ledger.before, ledger.after, ledger.acknowledged
            ));
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
                lost_before_hello: tally.lost_before_hello,
                lost_offline: tally.lost_offline,
            },
            handshakes: tally.handshakes,
            handshakes_per_second: tally.handshakes as f64 / run.seconds,
            reconnects: tally.reconnects,
            failed_connects: tally.failed_connects,
            gateways_down: run.down,
            configs: tally.configs,
            splits: Splits {
                asked: tally.splits_asked,
                answered: tally.splits_answered,
                late: tally.splits_late,
            },
            infos: tally.infos,
            pings: tally.pings,
            protocol_faults: tally.faults,
            samples: tally.samples.clone(),
            latency_ms: latencies
                .into_iter()
                .filter(|(_, histogram)| !histogram.is_empty())
                .map(|(name, histogram)| (name, Latency::new(histogram)))
                .collect(),
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

impl Latency {
    fn new(histogram: &Histogram<u64>) -> Self {
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

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "{}: {} gateways, {:.1} s", self.mode, self.gateways, self.seconds)?;
        writeln!(
            f,
            "  accepted {} ({:.0}/s), refused as meant {}, wrong {}, unasked {}, missing {}",
            self.accepted, self.accepted_per_second, self.refused_as_meant, self.wrong, self.unasked, self.missing
        )?;
        if self.lost + self.unsent + self.early.sent + self.early.lost_offline + self.early.lost_before_hello > 0 {
            writeln!(
                f,
                "  lost with a connection {}, due but unsent {}, early sent {} answered {} lost {}, before HELLO {}, \
                 offline {}",
                self.lost,
                self.unsent,
                self.early.sent,
                self.early.answered,
                self.early.lost,
                self.early.lost_before_hello,
                self.early.lost_offline
            )?;
        }
        writeln!(
            f,
            "  handshakes {} ({:.0}/s), reconnects {}, failed connects {}, CONFIGs {}, splits asked {} answered {} \
             late {}, pings {}, infos {}",
            self.handshakes,
            self.handshakes_per_second,
            self.reconnects,
            self.failed_connects,
            self.configs,
            self.splits.asked,
            self.splits.answered,
            self.splits.late,
            self.pings,
            self.infos
        )?;
        if !self.reasons.is_empty() {
            writeln!(f, "  refused as meant (15, 20 and 30 have no case on the dev chain):")?;
            for (reason, refused) in &self.reasons {
                writeln!(f, "    {reason:<26} {:>8} of {:>8}", refused.refused, refused.sent)?;
            }
        }
        writeln!(f, "  latency in ms, {}:", self.latency_from)?;
        writeln!(
            f,
            "    {:<10} {:>10} {:>9} {:>9} {:>9} {:>9} {:>9} {:>9}",
            "", "count", "mean", "p50", "p90", "p99", "p99.9", "max"
        )?;
        for (name, latency) in &self.latency_ms {
            writeln!(
                f,
                "    {name:<10} {:>10} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>9.2} {:>9.2}",
                latency.count, latency.mean, latency.p50, latency.p90, latency.p99, latency.p999, latency.max
            )?;
        }
        if !self.pool.is_empty() {
            writeln!(f, "  the pool's own histograms, since its start:")?;
            for histogram in &self.pool {
                write!(f, "    {:<44} {:>10}", histogram.name, histogram.count)?;
                for (quantile, value) in &histogram.quantiles {
                    write!(f, "  {quantile}: {value:.6}")?;
                }
                writeln!(f)?;
            }
        }
        if let Some(ledger) = &self.ledger {
            writeln!(
                f,
                "  ledger: {} shares before, {} after, {} acknowledged{}: {}",
                ledger.before,
                ledger.after,
                ledger.acknowledged,
                match ledger.uncertain {
                    0 => String::new(),
                    uncertain => format!(" and {uncertain} uncertain"),
                },
                if ledger.ok { "right" } else { "WRONG" }
            )?;
        }
        writeln!(
            f,
            "  generator: {:.1} s of CPU, {:.2} us a share, {:.0} MiB",
            self.generator.cpu_seconds, self.generator.cpu_us_per_share, self.generator.rss_mib
        )?;
        for sample in &self.samples {
            writeln!(f, "  note: {sample}")?;
        }
        for failure in &self.failures {
            writeln!(f, "FAILED: {failure}")?;
        }
        Ok(())
    }
}
