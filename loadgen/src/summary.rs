//! What a run has shown, as a person reads it.

use std::fmt::{self, Display, Formatter};

use crate::check::ByHash;
use crate::report::{Latency, Report};
use crate::restart::RestartShown;
use crate::scrape::{PoolFigures, PoolHistogram, Unit};

/// The longest bar, in characters.
const BAR_WIDTH: u64 = 40;

impl Display for Report {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let (count, seconds) = (grouped(u64::from(self.gateways)), self.seconds);
        writeln!(f, "{}: {count} gateways, {seconds:.1} s\n", self.mode)?;
        self.shares(f)?;
        self.connections(f)?;
        self.restarts(f)?;
        self.at_tip(f)?;
        self.blocks(f)?;
        self.refused(f)?;
        self.latencies(f)?;
        if let Some(pool) = &self.pool {
            of_the_pool(pool, f)?;
        }
        let generator = &self.generator;
        writeln!(
            f,
            "\n  this generator took {:.1} s of CPU, {:.2} us a share, and {:.0} MiB",
            generator.cpu_seconds, generator.cpu_us_per_share, generator.rss_mib
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

impl Report {
    fn shares(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let rate = grouped(self.accepted_per_second.round() as u64);
        line(f, "accepted", self.accepted, &format!("{rate}/s"))?;
        let kinds = format!("of {} sent bad on purpose", grouped(self.sent_bad()));
        line(f, "refused as meant", self.refused_as_meant, &kinds)?;
        let wrong = format!(
            "answered twice or unasked {}, unanswered {}",
            self.unasked, self.missing
        );
        line(f, "answered wrongly", self.wrong, &wrong)?;
        let lost = format!(
            "their connection ended first; due but never sent {}",
            grouped(self.unsent)
        );
        line(f, "lost", self.lost, &lost)?;
        let early = &self.early;
        if early.sent + early.lost_before_hello + early.lost_offline > 0 {
            let rest = format!(
                "answered {}, not read {}, lost {}; lost before HELLO {}, while offline {}",
                early.answered, early.unread, early.lost, early.lost_before_hello, early.lost_offline
            );
            line(f, "sent early", early.sent, &rest)?;
        }
        match &self.ledger {
            None => writeln!(
                f,
                "  {:<18} {:>12}   NOT COMPARED with what was acknowledged; --data-dir has that done",
                "in the ledger", "?"
            ),
            Some(ledger) => {
                let rest = format!(
                    "{} before, {} after: {}",
                    grouped(ledger.before),
                    grouped(ledger.after),
                    match (ledger.ok, ledger.uncertain) {
                        (true, 0) => "exactly what was acknowledged".into(),
                        (true, lost) => format!("what was acknowledged, and some of {} lost", grouped(lost)),
                        (false, _) => "NOT what was acknowledged".into(),
                    }
                );
                let rest = match ledger.by_hash {
                    Some(ByHash { gone, twice }) => format!("{rest}; one by one: {gone} gone, {twice} twice"),
                    None => rest,
                };
                line(f, "in the ledger", ledger.after.saturating_sub(ledger.before), &rest)
            }
        }
    }

    fn connections(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let rest = format!(
            "{:.0}/s; reconnects {}, cut off by the pool {}, failed {}, not there at the end {}",
            self.handshakes_per_second, self.reconnects, self.cut_off, self.failed_connects, self.gateways_down
        );
        line(f, "handshakes", self.handshakes, &rest)?;
        let splits = &self.splits;
        let rest = format!(
            "answered {}, late {}; CONFIGs {}, PINGs {}, INFOs {}",
            splits.answered, splits.late, self.configs, self.pings, self.infos
        );
        line(f, "splits asked", splits.asked, &rest)?;
        let rest = format!(
            "accepted shares; outputs of a split: median {}, at most {}",
            splits.outputs_median, splits.outputs_max
        );
        line(f, "paid a split", splits.shares_paying, &rest)
    }

    fn restarts(&self, f: &mut Formatter<'_>) -> fmt::Result {
        for (number, restart) in (1..).zip(&self.restarts) {
            let RestartShown {
                asked_s, cut, again, ..
            } = *restart;
            writeln!(
                f,
                "\n  restart {number}, asked for at {asked_s:.1} s: {} sessions ended, {} mine again, the last {:.2} s after \
                 the signal;\n    the longest without a session that mines {:.2} s; sent and unanswered, so lost: {} shares",
                grouped(cut),
                grouped(again),
                restart.last_after_signal_s,
                restart.longest_after_loss_s,
                grouped(restart.lost)
            )?;
            head(f)?;
            for (name, latency) in [
                ("ms after signal", &restart.after_signal_ms),
                ("ms after loss", &restart.after_loss_ms),
            ] {
                latency_row(f, name, latency)?;
            }
            for bar in &restart.after_signal {
                let up_to = bar
                    .up_to_ms
                    .map_or("more".into(), |ms| format!("up to {:.1} s", ms as f64 / 1e3));
                let length = (bar.sessions * BAR_WIDTH).div_ceil(again.max(1)) as usize;
                writeln!(
                    f,
                    "    {up_to:<17} {:>12}   {}",
                    grouped(bar.sessions),
                    "#".repeat(length)
                )?;
            }
        }
        Ok(())
    }

    fn at_tip(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(tip) = &self.at_tip else {
            return Ok(());
        };
        let rest = format!(
            "answered {} ({} full) in {:.2} s from the first request to the last answer; late {}, lost {}",
            grouped(tip.answers),
            grouped(tip.full),
            tip.seconds,
            tip.late,
            tip.lost
        );
        line(f, "asked at the tip", tip.requests, &rest)?;
        let Some(shares) = &tip.shares else {
            return Ok(());
        };
        let rest = format!(
            "answered by the pool: frame to answer p50 at most {} ms, p99 at most {} ms",
            ms(shares.p50_at_most),
            ms(shares.p99_at_most)
        );
        line(f, "shares meanwhile", shares.count, &rest)
    }

    fn blocks(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let Some(blocks) = &self.blocks else {
            return Ok(());
        };
        let rest = format!(
            "the node took {} of them from gateways; words of a new block {}, questions about jobs {}",
            grouped(blocks.taken_first),
            grouped(self.new_blocks),
            grouped(self.questions)
        );
        line(f, "blocks found", blocks.found, &rest)?;
        let Some(took) = &blocks.to_node_ms else {
            return Ok(());
        };
        let rest = format!(
            "share sent to `submitblock` complete: p50 {} ms, p99 {} ms, max {} ms",
            ms(took.p50),
            ms(took.p99),
            ms(took.max)
        );
        line(f, "brought by pool", took.count, &rest)
    }

    fn refused(&self, f: &mut Formatter<'_>) -> fmt::Result {
        if self.reasons.is_empty() {
            return Ok(());
        }
        writeln!(
            f,
            "\n  refused, of so many sent to be (20 and 30 have no case on the dev chain)"
        )?;
        let cells: Vec<_> = self.reasons.iter().collect();
        for row in cells.chunks(2) {
            let mut text = String::new();
            for (reason, refused) in row {
                let of = format!("{}/{}", refused.refused, refused.sent);
                text += &format!("    {reason:<25} {of:>15}");
            }
            writeln!(f, "{text}")?;
        }
        Ok(())
    }

    fn latencies(&self, f: &mut Formatter<'_>) -> fmt::Result {
        writeln!(f, "\n  ms as the gateways see it, {}", self.latency_from)?;
        head(f)?;
        for (name, latency) in &self.latency_ms {
            latency_row(f, name, latency)?;
        }
        Ok(())
    }

    fn sent_bad(&self) -> u64 {
        self.reasons.values().map(|refused| refused.sent).sum()
    }
}

fn of_the_pool(pool: &PoolFigures, f: &mut Formatter<'_>) -> fmt::Result {
    let of_unit = |unit| {
        let all = pool.histograms.iter();
        all.filter(move |histogram: &&PoolHistogram| histogram.unit == unit && histogram.count > 0)
    };
    writeln!(f, "\n  ms as the pool measured it since its start, all shards")?;
    head(f)?;
    for histogram in of_unit(Unit::Ms) {
        row(f, histogram.name, histogram.count, &histogram.quantiles.map(ms))?;
    }
    for histogram in of_unit(Unit::Entries) {
        let whole = histogram.quantiles.map(|entries| grouped(entries.round() as u64));
        row(f, histogram.name, histogram.count, &whole)?;
    }
    for (what, counts) in [("bounds hit", &pool.bounds), ("connections ended", &pool.ends)] {
        if !counts.is_empty() {
            let list: Vec<_> = counts
                .iter()
                .map(|(name, count)| format!("{name} {}", grouped(*count)))
                .collect();
            writeln!(f, "    {what}: {}", list.join(", "))?;
        }
    }
    Ok(())
}

fn line(f: &mut Formatter<'_>, what: &str, count: u64, rest: &str) -> fmt::Result {
    writeln!(f, "  {what:<18} {:>12}   {rest}", grouped(count))
}

fn head(f: &mut Formatter<'_>) -> fmt::Result {
    let names = ["p50", "p90", "p99", "p99.9", "max"].map(String::from);
    writeln!(f, "    {:<17} {:>12} {}", "", "count", cells(&names))
}

fn latency_row(f: &mut Formatter<'_>, name: &str, latency: &Latency) -> fmt::Result {
    let Latency {
        count,
        p50,
        p90,
        p99,
        p999,
        max,
        ..
    } = *latency;
    row(f, name, count, &[p50, p90, p99, p999, max].map(ms))
}

fn row(f: &mut Formatter<'_>, name: &str, count: u64, values: &[String; 5]) -> fmt::Result {
    writeln!(f, "    {name:<17} {:>12} {}", grouped(count), cells(values))
}

fn cells(values: &[String; 5]) -> String {
    values.iter().map(|value| format!("{value:>9}")).collect()
}

/// Three digits or more, so that microseconds show where there is nothing else.
fn ms(value: f64) -> String {
    match value {
        ..1.0 => format!("{value:.3}"),
        ..10.0 => format!("{value:.2}"),
        ..100.0 => format!("{value:.1}"),
        _ => format!("{value:.0}"),
    }
}

/// `1,234,567`.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::check::Comparison;
    use crate::report;
    use crate::tally::Tally;

    #[test]
    fn numbers_are_grouped_by_thousands() {
        let all = [0, 7, 999, 1_000, 65_536, 1_234_567].map(grouped);
        assert_eq!(all, ["0", "7", "999", "1,000", "65,536", "1,234,567"]);
    }

    #[test]
    fn a_ledger_that_was_not_compared_is_said_to_be_so() {
        let compared = Comparison::new(5, 5, &Tally::default(), None);
        for ledger in [None, Some(compared)] {
            let report = report::tests::report(ledger, &Tally::default());
            assert!(report.ok && report.ledger_compared == ledger.is_some());
            assert_eq!(report.to_string().contains("NOT COMPARED"), ledger.is_none());
            let json = serde_json::to_value(&report).expect("plain data");
            assert_eq!(json["ledger_compared"], ledger.is_some());
        }
    }

    #[test]
    fn milliseconds_keep_three_digits() {
        let all = [0.0042, 0.5, 1.5, 12.34, 1_234.5].map(ms);
        assert_eq!(all, ["0.004", "0.500", "1.50", "12.3", "1234"]);
    }
}
