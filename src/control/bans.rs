//! Bans outlive the process: the file `bans` of the data folder, for its owner alone.
//!
//! ```text
//! millrace bans 1
//! boot 6c0f3bd6-94e4-4c9e-a4b5-0f2c4bd1a0a4      which start of the system the line below counts from
//! 203.0.113.9 90061000 1795755661 garbage 2       address, until when by the system's monotonic clock in ms and in s since
//!                                                 1970, why, bans before it that are not forgotten
//! ```
//!
//! Bans that are over and not forgotten stand there too: the next one of their address is longer.

use std::fs::{self, File};
use std::io::{self, Read};
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};

use super::guards;
use super::pool::Pool;
use super::store;
use crate::guard::{Ban, BanTerms, Banned, Rule, Subject};
use crate::ledger::{monotonic_ns, unix_ms};

const FILE: &str = "bans";
const HEAD: &str = "millrace bans 1";
const BOOT: &str = "boot ";

/// Bans of the file: those that last longest.
const BANS_MAX: usize = 4_096;

/// Bytes of the file: as many lines as there may be, each as long as it may be.
const FILE_MAX: u64 = BANS_MAX as u64 * 128;

/// How often it is looked whether there are others: what a crash can lose.
const SAVE_EVERY: Duration = Duration::from_secs(5);

/// What the control plane knows of the bans on disk.
#[derive(Debug)]
pub struct BanDesk {
    path: PathBuf,
    terms: BanTerms,
    lifted: AtomicU64,
    /// What [`Self::changes`] was when the file was last written.
    saved: AtomicU64,
}

/// What bans are written by.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Clocks {
    /// Names the start of the system that `now_ms` counts from.
    boot: String,
    /// The clock of the guards.
    now_ms: u64,
    unix_s: u64,
}

impl BanDesk {
    #[must_use]
    pub fn new(data_dir: &Path, terms: BanTerms) -> Self {
        Self {
            path: data_dir.join(FILE),
            terms,
            lifted: AtomicU64::new(0),
            saved: AtomicU64::new(0),
        }
    }

    /// Those on disk, for the guards of every shard. A file that cannot be used is no reason not to serve: who goes on as
    /// before is banned again.
    #[must_use]
    pub fn read(&self) -> Vec<Banned> {
        let bans = read(&self.path).and_then(|text| parse(&text, &self.terms, &Clocks::now()?));
        let bans = bans.unwrap_or_else(|error| {
            tracing::warn!(path = %self.path.display(), %error, "bans are not taken over; begin without any");
            Vec::new()
        });
        if !bans.is_empty() {
            tracing::info!(bans = bans.len(), "bans of before, over and not, are remembered");
        }
        bans
    }

    /// Asks every shard, and writes what is remembered. It may take its time.
    ///
    /// # Errors
    /// A shard does not answer, or the file cannot be written.
    pub(super) fn save(&self, pool: &Pool) -> Result<(), String> {
        // Before it is asked: what comes meanwhile is another change.
        let changes = self.changes(pool);
        let bans = guards::gather(pool, None)?.bans.into_values().collect();
        let failed = |error: io::Error| format!("{}: {error}", self.path.display());
        let text = Clocks::now().map(|clocks| render(bans, &clocks)).map_err(failed)?;
        store::replace(&self.path, &text).map_err(failed)?;
        self.saved.store(changes, Ordering::Relaxed);
        Ok(())
    }

    /// Some were lifted: they must not come back with the next process.
    pub(super) fn note_lifted(&self) {
        self.lifted.fetch_add(1, Ordering::Relaxed);
    }

    /// The same, where there is something new to write.
    pub(super) fn save_changes(&self, pool: &Pool) {
        if self.changes(pool) != self.saved.load(Ordering::Relaxed)
            && let Err(error) = self.save(pool)
        {
            tracing::warn!(%error, "bans are not on disk; trying again");
        }
    }

    fn changes(&self, pool: &Pool) -> u64 {
        let banned = pool.telemetry.total(|shard| shard.guard_banned.total());
        banned + self.lifted.load(Ordering::Relaxed)
    }
}

/// Writes what has changed, for as long as the runtime lives.
pub(super) async fn keep(pool: Arc<Pool>) {
    let mut ticks = interval(SAVE_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        save_changes(&pool).await;
    }
}

/// Off the runtime's thread.
pub(super) async fn save_changes(pool: &Arc<Pool>) {
    if let Some(desk) = pool.bans.clone() {
        let pool = pool.clone();
        let _ = tokio::task::spawn_blocking(move || desk.save_changes(&pool)).await;
    }
}

impl Clocks {
    fn now() -> io::Result<Self> {
        Ok(Self {
            boot: fs::read_to_string("/proc/sys/kernel/random/boot_id")?.trim().to_owned(),
            now_ms: monotonic_ns() / 1_000_000,
            unix_s: unix_ms() / 1_000,
        })
    }
}

fn read(path: &Path) -> io::Result<String> {
    let mut text = String::new();
    match File::open(path) {
        Ok(file) => file.take(FILE_MAX).read_to_string(&mut text)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(format!("{HEAD}\n{BOOT}\n")),
        Err(error) => return Err(error),
    };
    Ok(text)
}

fn render(mut bans: Vec<Banned>, clocks: &Clocks) -> String {
    bans.sort_by_key(|banned| std::cmp::Reverse(banned.ban.until_ms));
    bans.truncate(BANS_MAX);
    let mut text = format!("{HEAD}\n{BOOT}{}\n", clocks.boot);
    for Banned { subject, ban } in bans {
        let left_s = (i128::from(ban.until_ms) - i128::from(clocks.now_ms)).div_euclid(1_000);
        let until_s = i128::from(clocks.unix_s) + left_s;
        let Ban { until_ms, why, strikes } = ban;
        text += &format!("{subject} {until_ms} {until_s} {} {strikes}\n", why.label());
    }
    text
}

/// What still counts of the file, by the clock of now.
fn parse(text: &str, terms: &BanTerms, clocks: &Clocks) -> io::Result<Vec<Banned>> {
    let mut lines = text.lines();
    if lines.next() != Some(HEAD) {
        return Err(io::Error::other(format!("it does not begin with `{HEAD}`")));
    }
    let boot = lines.next().and_then(|line| line.strip_prefix(BOOT));
    let same_boot = boot == Some(&clocks.boot);
    let mut bans = Vec::new();
    let mut bad = 0;
    for line in lines.take(BANS_MAX) {
        match banned(line, same_boot, terms, clocks) {
            Some(read) => bans.extend(read),
            None => bad += 1,
        }
    }
    if bad > 0 {
        tracing::warn!(lines = bad, "bans that cannot be read are left out");
    }
    Ok(bans)
}

/// None where the line is none; nobody where the ban is forgotten.
fn banned(line: &str, same_boot: bool, terms: &BanTerms, clocks: &Clocks) -> Option<Option<Banned>> {
    let mut fields = line.split(' ');
    let subject = subject(fields.next()?)?;
    let until_ms: u64 = fields.next()?.parse().ok()?;
    let until_s: i128 = fields.next()?.parse().ok()?;
    let why = fields.next()?;
    let why = Rule::ALL.into_iter().find(|rule| rule.label() == why)?;
    let strikes = fields.next()?.parse().ok()?;
    // By the time of day alone where the system was started again. Whatever that says, a ban has no more than the longest
    // before it.
    let left_ms = if same_boot {
        i128::from(until_ms) - i128::from(clocks.now_ms)
    } else {
        until_s.checked_sub(clocks.unix_s.into())?.checked_mul(1_000)?
    };
    let left_ms = left_ms.min(terms.most_ms.into());
    let ban = Ban {
        until_ms: u64::try_from(i128::from(clocks.now_ms).saturating_add(left_ms).max(0)).ok()?,
        why,
        strikes,
    };
    let is_remembered = left_ms.saturating_add(terms.forget_ms.into()) > 0;
    Some(is_remembered.then_some(Banned { subject, ban }))
}

/// As guards show it: an IPv6 network with its length.
pub(super) fn subject(text: &str) -> Option<Subject> {
    let address: IpAddr = text.strip_suffix("/64").unwrap_or(text).parse().ok()?;
    Some(address.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    const TERMS: BanTerms = BanTerms {
        faults_per_min: 12,
        first_ms: 60_000,
        most_ms: 3_600_000,
        forget_ms: 86_400_000,
    };

    fn at(boot: &str, now_ms: u64, unix_s: u64) -> Clocks {
        Clocks {
            boot: boot.to_owned(),
            now_ms,
            unix_s,
        }
    }

    fn ban(address: &str, until_ms: u64) -> Banned {
        Banned {
            subject: subject(address).expect("an address"),
            ban: Ban {
                until_ms,
                why: Rule::Garbage,
                strikes: 3,
            },
        }
    }

    /// How long the one ban has left, in ms.
    fn left_ms(text: &str, clocks: &Clocks) -> Option<i128> {
        let bans = parse(text, &TERMS, clocks).expect("a file of bans");
        let left = |banned: &Banned| i128::from(banned.ban.until_ms) - i128::from(clocks.now_ms);
        bans.first().map(left)
    }

    #[test]
    fn bans_come_back_as_they_were_while_the_system_runs() {
        let saved = at("one", 10_000_000, 1_800_000_000);
        let bans = vec![
            ban("203.0.113.9", 11_000_000),
            ban("2001:db8:1:2::/64", 10_060_000),
            // Over, and not forgotten.
            ban("203.0.113.10", 9_000_000),
        ];
        let text = render(bans.clone(), &saved);
        assert_eq!(parse(&text, &TERMS, &saved).expect("its own"), bans);
        // The time of day is nothing to it, wherever it jumps.
        for unix_s in [0, 1, 1_800_000_000, 4_000_000_000, u64::MAX] {
            let later = at("one", 10_500_000, unix_s);
            assert_eq!(parse(&text, &TERMS, &later).expect("its own"), bans);
        }
        // Once forgotten they do not come back.
        let next_day = at("one", 9_000_000 + TERMS.forget_ms, 0);
        assert_eq!(parse(&text, &TERMS, &next_day).expect("its own"), bans[..2]);
    }

    #[test]
    fn after_a_start_of_the_system_the_time_of_day_counts_and_can_make_no_ban_longer_than_the_longest() {
        let saved = at("one", 10_000_000, 1_800_000_000);
        let text = render(vec![ban("203.0.113.9", 11_000_000)], &saved);
        let after = |unix_s| left_ms(&text, &at("two", 5_000, unix_s));
        assert_eq!(after(1_800_000_000), Some(1_000_000));
        assert_eq!(after(1_800_000_900), Some(100_000));
        // The clock was set back, by seconds or by years.
        assert_eq!(after(1_799_999_000), Some(2_000_000));
        for unix_s in [0, 1_000_000_000, 1_799_990_000] {
            assert_eq!(after(unix_s), Some(3_600_000));
        }
        // It was set forward: the ban is over, and what it was is remembered for its time.
        assert_eq!(after(1_800_002_000), Some(-5_000), "as early as can be said");
        assert_eq!(after(1_800_000_000 + 1_000 + 86_399), Some(-5_000));
        for unix_s in [1_800_000_000 + 1_000 + 86_400, 4_000_000_000, u64::MAX] {
            assert_eq!(after(unix_s), None);
        }
    }

    #[test]
    fn the_longest_are_written_and_what_is_no_ban_is_left_out() {
        let saved = at("one", 1_000, 1_800_000_000);
        let many = u64::try_from(BANS_MAX).expect("few") + 10;
        let bans = (0..many).map(|at| {
            let v4 = std::net::Ipv4Addr::from_bits(u32::try_from(at).expect("few"));
            ban(&v4.to_string(), 2_000 + at)
        });
        let text = render(bans.collect(), &saved);
        assert!(text.len() as u64 <= FILE_MAX);
        let read = parse(&text, &TERMS, &saved).expect("its own");
        assert_eq!(read.len(), BANS_MAX);
        assert!(read.iter().all(|banned| banned.ban.until_ms >= 2_010));

        let text = "millrace bans 1\nboot one\nnonsense\n203.0.113.9 5000 1800000004 no_rule 0\n\
                    203.0.113.9 5000 1800000004 garbage 300\n203.0.113.9 5000 1800000004 garbage 2\n";
        let read = parse(text, &TERMS, &saved).expect("a file of bans");
        assert_eq!(read.iter().map(|banned| banned.ban.strikes).collect::<Vec<_>>(), [2]);
        for text in ["", "millrace bans 2\nboot one\n", "\0\0\0"] {
            parse(text, &TERMS, &saved).expect_err("no file of bans");
        }
    }
}
