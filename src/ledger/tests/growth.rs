//! Old shares become hourly work: which go, what is left of them, and what still works without them.

use std::collections::BTreeMap;
use std::io::Cursor;
use std::sync::mpsc;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use rocksdb::DB;
use tempfile::TempDir;

use super::bundle::{VALUE, mine};
use super::*;
use crate::ledger::bundle::{Privacy, export as export_bundle, verify as verify_bundle};
use crate::ledger::hours::HOUR_MS;
use crate::ledger::retention::StepLimits;
use crate::ledger::schema::meta;
use crate::ledger::{
    AuditError, Done, Format, HOUR_WORKERS_MAX, Kept, LedgerError, Order, SettleError, Sum, Table, WindowGone, audit,
    check_opens, export, report,
};
use crate::wire::SecretKeys;
use crate::work::Booking;

/// The beginning of an hour, long ago.
const START_MS: u64 = 1_600_000_000_000 / HOUR_MS * HOUR_MS;
const DAY_H: u64 = 24;
/// A window holds 64 work, and a share counts as 8 at most.
const DIFFICULTY: u64 = 8;
const PATIENCE: Duration = Duration::from_secs(60);

/// What was accepted, in the order of the log.
#[derive(Debug, Clone, Copy)]
struct Accepted {
    payee: u8,
    worker: u8,
    pot: u8,
    time_ms: u64,
}

#[derive(Default)]
struct History(Vec<Accepted>);

fn opened(difficulty: u64) -> LedgerOptions {
    let mut options = options();
    options.now_s = START_MS / 1_000;
    options.terms.difficulty = difficulty;
    options
}

fn a_day(shares: u64, rows: usize) -> Housekeeping {
    Housekeeping {
        keep_ms: DAY_H * HOUR_MS,
        step: StepLimits { shares, rows },
    }
}

impl History {
    /// Has the shard accept what comes, one chunk of it.
    fn accept(&mut self, shard: &mut Shard, miners: &[u32], chunk: &[(u8, u8, u64)], hours: &mut u64) {
        for (who, pot, later_h) in chunk {
            *hours += later_h;
            let who = usize::from(*who) % miners.len();
            let accepted = Accepted {
                payee: u8::try_from(who / 2).expect("few"),
                worker: u8::try_from(who).expect("few"),
                pot: *pot,
                time_ms: START_MS + *hours * HOUR_MS + self.0.len() as u64,
            };
            shard.push(Entry::Share(ShareEntry {
                pot: accepted.pot,
                time_ms: accepted.time_ms,
                ..share(miners[who], 1, self.0.len() as u64)
            }));
            self.0.push(accepted);
        }
        shard.settle();
    }

    /// Hourly work of the first `count`, the slow way.
    fn hours(&self, count: u64) -> BTreeMap<(u64, u32, Option<u32>), Sum> {
        let mut hours: BTreeMap<_, Sum> = BTreeMap::new();
        for share in &self.0[..usize::try_from(count).expect("few")] {
            let key = (share.time_ms / HOUR_MS, share.payee.into(), Some(share.worker.into()));
            let sum = hours.entry(key).or_default();
            sum.shares += 1;
            sum.work += 1 << share.pot;
        }
        hours
    }

    /// How many may go, the slow way: those older than a day that neither the window has nor the window before it.
    fn may_go(&self, difficulty: u64) -> u64 {
        let newest = self.0.last().map_or(0, |share| share.time_ms);
        let cut_ms = newest.saturating_sub(DAY_H * HOUR_MS) / HOUR_MS * HOUR_MS;
        let old = self.0.iter().take_while(|share| share.time_ms < cut_ms).count();
        let mut limit = u128::from(2 * 8 * difficulty);
        let mut needed = self.0.len();
        while limit > 0 && needed > 0 {
            needed -= 1;
            let work = (1 << self.0[needed].pot).min(u128::from(difficulty));
            limit = limit.saturating_sub(work);
        }
        old.min(needed) as u64
    }

    /// Nothing is lost and nothing counts twice.
    #[track_caller]
    fn assert_kept(&self, data_dir: &Path) -> Kept {
        assert_sound(data_dir);
        let reader = LedgerReader::open(data_dir).expect("a ledger");
        let kept = reader.kept().expect("a row");
        let rows: BTreeMap<_, _> = reader
            .hours()
            .map(|row| row.map(|row| ((row.hour.into(), row.payee, row.worker), row.sum)))
            .collect::<Result<_, _>>()
            .expect("hours");
        assert_eq!(rows, self.hours(kept.from));
        let shares: Vec<_> = reader
            .shares(0)
            .expect("a log")
            .collect::<Result<_, _>>()
            .expect("shares");
        assert!(
            shares
                .iter()
                .map(|(sequence, _)| *sequence)
                .eq(kept.from..self.0.len() as u64)
        );
        for (sequence, share) in &shares {
            let accepted = self.0[usize::try_from(*sequence).expect("few")];
            assert_eq!((share.time_ms, share.pot), (accepted.time_ms, accepted.pot));
        }
        for payee in 0..4 {
            let of_payee: Vec<_> = reader.hours_of(payee).collect::<Result<_, _>>().expect("hours");
            let expected = rows.iter().filter(|((_, of, _), _)| *of == payee);
            assert!(of_payee.iter().map(|row| row.sum).eq(expected.map(|(_, sum)| *sum)));
        }
        let counts = stats(&reader).expect("counts");
        assert_eq!(counts.shares, self.0.len() as u64);
        assert_eq!(counts.work, self.0.iter().map(|share| 1_u128 << share.pot).sum());
        assert_eq!(counts.kept_from, kept.from);
        kept
    }
}

/// Two payees' worth of miners for each shard that starts: two workers each.
fn miners(shard: &mut Shard) -> Vec<u32> {
    let who = (0..8_u8).map(|who| (who / 2, ["rig", "rig2"][usize::from(who % 2)]));
    who.map(|(payee, worker)| shard.miner(payee, worker)).collect()
}

/// Waits until it was looked once for what may go.
#[track_caller]
fn wait_for_a_round(served: &Served) {
    wait(|| served.telemetry.housekeeping_rounds.value() > 0);
    assert_eq!(served.telemetry.housekeeping_failures.value(), 0);
}

#[track_caller]
fn wait(done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "it never happens");
        std::thread::sleep(Duration::from_millis(1));
    }
}

/// A pool that has looked once for what may go, and has stopped.
fn keep_house(data_dir: &Path, difficulty: u64, housekeeping: Housekeeping) {
    let served = Served::open_with(data_dir, 1, &opened(difficulty), housekeeping);
    wait_for_a_round(&served);
    served.stop();
}

/// Shares of four payees, one an hour for some days, in chunks of five.
fn some_days(data_dir: &Path, history: &mut History, shares: u64) {
    let mut served = Served::open_with(data_dir, 1, &opened(DIFFICULTY), Housekeeping::keep_days(90));
    let mut hours = history.0.last().map_or(0, |last| (last.time_ms - START_MS) / HOUR_MS);
    let shard = &mut served.shards[0];
    shard.session(1, 1);
    let miners = miners(shard);
    for chunk in 0..shares / 5 {
        let chunk: Vec<_> = (0..5).map(|at| ((chunk * 5 + at) as u8, (at % 4) as u8, 1)).collect();
        history.accept(shard, &miners, &chunk, &mut hours);
    }
    served.stop();
}

#[test]
fn what_is_old_and_not_needed_goes_and_no_more() {
    let data = TempDir::new().expect("a folder");
    let mut history = History::default();
    some_days(data.path(), &mut history, 300);
    keep_house(data.path(), DIFFICULTY, a_day(7, 1_000));
    let kept = history.assert_kept(data.path());
    // Whole chunks go: all that may but for the rest of one.
    let may_go = history.may_go(DIFFICULTY);
    assert!((may_go - 4..=may_go).contains(&kept.from), "{kept:?}, {may_go}");
    assert_eq!(kept.log_end, 300);
    assert!(kept.from > 200 && kept.time_ms > 0);
    // A window that is longer than a day keeps more, and twice its work.
    let data = TempDir::new().expect("a folder");
    let mut history = History::default();
    some_days(data.path(), &mut history, 300);
    keep_house(data.path(), 20, a_day(1_000, 3));
    let kept = history.assert_kept(data.path());
    let may_go = history.may_go(20);
    assert!((may_go - 4..=may_go).contains(&kept.from), "{kept:?}, {may_go}");
    assert!((100..220).contains(&kept.from));
}

#[test]
fn shares_stay_while_nothing_says_that_they_may_go() {
    let data = TempDir::new().expect("a folder");
    let mut history = History::default();
    some_days(data.path(), &mut history, 300);
    // Young; and a window that is not full.
    keep_house(data.path(), DIFFICULTY, Housekeeping::keep_days(90));
    assert_eq!(history.assert_kept(data.path()).from, 0);
    keep_house(data.path(), 1 << 20, a_day(100, 100));
    assert_eq!(history.assert_kept(data.path()).from, 0);
    // Other terms have just begun: splits by the former are still out.
    let mut now = opened(DIFFICULTY);
    now.now_s = crate::ledger::unix_ms() / 1_000;
    let served = Served::open_with(data.path(), 1, &now, a_day(100, 100));
    wait_for_a_round(&served);
    served.stop();
    assert_eq!(history.assert_kept(data.path()).from, 0);
    // Totals on disk that lag are counted again from the shares that they lack.
    let mut served = Served::open_with(data.path(), 1, &opened(1), Housekeeping::keep_days(90));
    let mut hours = 300;
    let shard = &mut served.shards[0];
    let miners = miners(shard);
    history.accept(shard, &miners, &[(0, 0, 1)], &mut hours);
    history.accept(shard, &miners, &[(0, 0, 100)], &mut hours);
    let crashed = copy_of(data.path());
    served.stop();
    keep_house(crashed.path(), 1, a_day(100, 100));
    assert!(history.assert_kept(crashed.path()).from <= 300);
}

#[test]
fn a_crash_at_any_byte_of_removals_leaves_each_whole_or_absent() {
    let data = TempDir::new().expect("a folder");
    let mut history = History::default();
    some_days(data.path(), &mut history, 200);
    let served = Served::open_with(data.path(), 1, &opened(DIFFICULTY), a_day(20, 1_000));
    wait_for_a_round(&served);
    let crashed = copy_of(data.path());
    served.stop();
    let all = history.assert_kept(crashed.path()).from;
    assert!(all > 100, "several steps");
    let logs = fs::read_dir(schema::path(crashed.path())).expect("a folder");
    let log = logs
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|end| end == "log"))
        .max_by_key(|path| fs::metadata(path).expect("a file").len())
        .expect("a log of writes");
    let whole = fs::metadata(&log).expect("a file").len();
    let mut seen = std::collections::BTreeSet::new();
    for cut in (0..=whole).step_by(usize::try_from(whole / 120).expect("small")) {
        let again = copy_of(crashed.path());
        let log = schema::path(again.path()).join(log.file_name().expect("a name"));
        let log = fs::OpenOptions::new().write(true).open(log).expect("a file");
        log.set_len(cut).expect("a file");
        Served::open_with(again.path(), 1, &opened(DIFFICULTY), Housekeeping::keep_days(90)).stop();
        seen.insert(history.assert_kept(again.path()).from);
    }
    assert!(seen.len() >= 6 && seen.contains(&0), "{seen:?}");
    // And the last one goes on from there.
    keep_house(crashed.path(), DIFFICULTY, a_day(20, 1_000));
    assert_eq!(history.assert_kept(crashed.path()).from, all);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any history of shares, steps, stops and crashes: hourly work and shares are what the naive sum says.
    #[test]
    fn hourly_work_is_the_naive_sum(
        rounds in proptest::collection::vec(
            (
                proptest::collection::vec(proptest::collection::vec((0..8_u8, 0..6_u8, 0..4_u64), 1..12), 1..25),
                (1..40_u64, 1..20_usize), any::<bool>(),
            ),
            1..6,
        ),
    ) {
        let mut data = TempDir::new().expect("a folder");
        let mut history = History::default();
        let mut hours = 0;
        let mut kept_before = 0;
        for (chunks, (shares, rows), crash) in rounds {
            let mut served = Served::open_with(data.path(), 1, &opened(2), a_day(shares, rows));
            let shard = &mut served.shards[0];
            shard.session(1, 1);
            let miners = miners(shard);
            for chunk in &chunks {
                history.accept(shard, &miners, chunk, &mut hours);
            }
            wait_for_a_round(&served);
            if crash {
                let crashed = copy_of(data.path());
                served.stop();
                data = crashed;
            } else {
                served.stop();
            }
            let kept = history.assert_kept(data.path());
            prop_assert!(kept.from >= kept_before && kept.from <= history.may_go(2));
            kept_before = kept.from;
        }
        keep_house(data.path(), 2, a_day(1_000, 1_000));
        history.assert_kept(data.path());
    }
}

#[test]
fn workers_beyond_the_cap_share_a_row() {
    const WORKERS: usize = HOUR_WORKERS_MAX + 44;
    let data = TempDir::new().expect("a folder");
    let mut served = Served::open_with(data.path(), 1, &opened(DIFFICULTY), Housekeeping::keep_days(90));
    let shard = &mut served.shards[0];
    shard.session(1, 1);
    let miners: Vec<_> = (0..WORKERS).map(|rig| shard.miner(1, &format!("rig{rig}"))).collect();
    let quiet = shard.miner(2, "other");
    let mut hash = 0;
    let mut push = |shard: &mut Shard, miner, hour| {
        shard.push(Entry::Share(ShareEntry {
            pot: 3,
            time_ms: START_MS + hour * HOUR_MS,
            ..share(miner, 1, hash)
        }));
        hash += 1;
        if hash % 50 == 0 {
            shard.settle();
        }
    };
    for hour in 0..2 {
        for miner in miners.iter().chain([&miners[7], &miners[WORKERS - 1], &quiet]) {
            push(shard, *miner, hour);
        }
    }
    for _ in 0..100 {
        push(shard, quiet, 40);
    }
    served.stop();
    // Steps in the middle of an hour, and one that spans two.
    keep_house(data.path(), DIFFICULTY, a_day(500, 100_000));
    assert_sound(data.path());
    let reader = LedgerReader::open(data.path()).expect("a ledger");
    let gone = 2 * (WORKERS as u64 + 3);
    assert!(reader.kept().expect("a row").from >= gone - 50);
    let first_hour: Vec<_> = reader
        .hours_of(0)
        .map(|row| row.expect("a row"))
        .filter(|row| row.hour == u32::try_from(START_MS / HOUR_MS).expect("an hour"))
        .collect();
    assert_eq!(first_hour.len(), HOUR_WORKERS_MAX + 1);
    let sum = |shares: u64| Sum {
        shares,
        work: u128::from(8 * shares),
    };
    for row in &first_hour {
        let expected = match row.worker {
            Some(7) => 2,
            Some(_) => 1,
            None => 44 + 1,
        };
        assert_eq!(row.sum, sum(expected), "{row:?}");
    }
    assert_eq!(reader.hours_of(1).next().expect("a row").expect("a row").sum, sum(1));

    // As people and programs see it.
    let mut out = Vec::new();
    export(&reader, Table::Hours, Format::Csv, 0, &mut out).expect("an export");
    let csv = String::from_utf8(out).expect("text");
    let hour_s = START_MS / 1_000;
    let lines: Vec<&str> = csv.lines().collect();
    assert_eq!(lines[0], "hour_s,payee,script,worker,name,shares,work");
    let script = "01".repeat(22);
    assert_eq!(lines[1], format!("{hour_s},0,{script},0,rig0,1,8"));
    assert!(lines.contains(&&*format!("{hour_s},0,{script},,other,45,360")));
    assert!(
        lines.iter().any(|line| line.contains(&format!(",{WORKERS},other,1,8"))),
        "a worker of that name"
    );
    let mut out = Vec::new();
    export(&reader, Table::Hours, Format::Jsonl, 0, &mut out).expect("an export");
    let first = out.split(|byte| *byte == b'\n').next().expect("a line");
    let first: serde_json::Value = serde_json::from_slice(first).expect("JSON");
    assert_eq!(
        (first["hour_s"].as_u64(), first["work"].as_str()),
        (Some(hour_s), Some("8"))
    );
    let report = report::payee(&reader, &[1; 22]).expect("books").expect("a payee");
    let rolled_up = report.rolled_up.expect("hours");
    assert_eq!(
        rolled_up.shares,
        rolled_up.hours.iter().map(|hour| hour.shares).sum::<u64>()
    );
    assert_eq!(rolled_up.hours[7].worker.as_deref(), Some("rig7"));
}

#[test]
fn a_block_keeps_its_window_until_it_is_final_and_is_told_gone_afterwards() {
    let data = TempDir::new().expect("a folder");
    let mut history = History::default();
    some_days(data.path(), &mut history, 100);
    let mut served = Served::open_with(data.path(), 1, &opened(DIFFICULTY), Housekeeping::keep_days(90));
    let block = mine(&mut served, 1, &[], Booking::WithoutPayouts);
    wait_for_state(data.path(), "candidate");
    served.stop();
    some_days(data.path(), &mut history, 200);

    // Booked, and in the chain: it may be orphaned, and booked again.
    keep_house(data.path(), DIFFICULTY, a_day(50, 1_000));
    let held = history.assert_kept(data.path()).from;
    let holds = audit(&LedgerReader::open(data.path()).expect("a ledger"), &block).expect("an audit");
    assert!(holds.differences.is_empty() && !holds.window_short, "{holds:?}");
    assert!(
        (holds.window_from - 4..=holds.window_from).contains(&held),
        "{held}, {holds:?}"
    );

    let served = Served::open_with(data.path(), 1, &opened(DIFFICULTY), Housekeeping::keep_days(90));
    for becomes in [books::BlockState::Maturing, books::BlockState::Mature] {
        order(&served, Order::Block { hash: block, becomes });
    }
    served.stop();
    keep_house(data.path(), DIFFICULTY, a_day(50, 1_000));
    let kept = history.assert_kept(data.path());
    assert!(kept.from > holds.window_end, "{kept:?}");
    let reader = LedgerReader::open(data.path()).expect("a ledger");
    let gone = audit(&reader, &block).expect_err("its shares are gone");
    let expected = WindowGone {
        kept_from: kept.from,
        end: holds.window_end,
    };
    assert!(
        matches!(gone, AuditError::Settle(SettleError::Gone(gone)) if gone == expected),
        "{gone}"
    );
    let text = gone.to_string();
    assert!(text.contains(&format!("kept from sequence {}", kept.from)), "{text}");
    let keys = SecretKeys::from_seeds(&[3; 64]);
    let bundle = export_bundle(&reader, &block, Privacy::Clear, &keys, Vec::new()).expect_err("its shares are gone");
    assert_eq!(bundle.to_string(), text);
    // Dropped by the chain all the same, it cannot be booked again by shares that nobody has.
    let served = Served::open_with(data.path(), 1, &opened(DIFFICULTY), Housekeeping::keep_days(90));
    let becomes = books::BlockState::Orphaned;
    order(&served, Order::Block { hash: block, becomes });
    let refused = ask(&served, Order::Book { hash: block }).expect_err("its shares are gone");
    assert_eq!(refused.to_string(), text);
    served.stop();
    keep_house(data.path(), DIFFICULTY, a_day(50, 1_000));
    history.assert_kept(data.path());
}

#[test]
fn a_window_that_reaches_beyond_what_is_kept_is_told_and_shared_by_what_is_left() {
    let data = TempDir::new().expect("a folder");
    let mut history = History::default();
    some_days(data.path(), &mut history, 300);
    keep_house(data.path(), DIFFICULTY, a_day(50, 1_000));
    let kept = history.assert_kept(data.path());

    // Twice the work is there at once, and far more is not.
    for (difficulty, is_short) in [(2 * DIFFICULTY, false), (100 * DIFFICULTY, true)] {
        let mut served = Served::open_with(data.path(), 1, &opened(difficulty), a_day(50, 1_000));
        wait_for_a_round(&served);
        assert_eq!(served.telemetry.window_short.value(), u64::from(is_short));
        let reader = LedgerReader::open(data.path()).expect("a ledger");
        let balances = report::balances(&reader).expect("books");
        assert_eq!((balances.window_short, balances.kept_from), (is_short, kept.from));
        let left: u128 = history.0[usize::try_from(kept.from).expect("few")..]
            .iter()
            .map(|share| 1_u128 << share.pot)
            .sum();
        if is_short {
            assert_eq!(balances.window_work, left);
        } else {
            assert_eq!(balances.window_work, u128::from(8 * difficulty));
        }
        let block = mine(&mut served, u8::from(is_short) + 1, &[], Booking::WithoutPayouts);
        wait_for_state(data.path(), "candidate");
        served.stop();
        let reader = LedgerReader::open(data.path()).expect("a ledger");
        wait_until_booked(data.path(), &block);
        let audit = audit(&reader, &block).expect("an audit");
        assert!(audit.differences.is_empty(), "{audit:?}");
        assert_eq!(audit.window_short, is_short);
        assert!(audit.window_from >= kept.from);
        let keys = SecretKeys::from_seeds(&[3; 64]);
        let bundle = export_bundle(&reader, &block, Privacy::Clear, &keys, Vec::new()).expect("a bundle");
        let verified = verify_bundle(Cursor::new(bundle), &keys.public(), None).expect("it holds");
        assert_eq!((verified.window_short, verified.value), (is_short, VALUE));
        // Nothing goes while it is short.
        assert_eq!(history.assert_kept(data.path()).from, kept.from);
    }
    // The window fills up, and is none that lacks anything.
    let mut served = Served::open_with(data.path(), 1, &opened(100 * DIFFICULTY), Housekeeping::keep_days(90));
    let shard = &mut served.shards[0];
    let miners = miners(shard);
    let mut hours = 300;
    let large: Vec<_> = (0..20).map(|who| (who, 20, 1)).collect();
    history.accept(shard, &miners, &large, &mut hours);
    wait(|| served.telemetry.window_short.value() == 0);
    served.stop();
    let reader = LedgerReader::open(data.path()).expect("a ledger");
    assert!(!report::balances(&reader).expect("books").window_short);
}

#[test]
fn a_start_behind_old_shares_knows_its_duplicates() {
    let data = TempDir::new().expect("a folder");
    let mut history = History::default();
    some_days(data.path(), &mut history, 300);
    keep_house(data.path(), DIFFICULTY, a_day(50, 1_000));
    let kept = history.assert_kept(data.path());
    let mut later = opened(DIFFICULTY);
    later.now_s = (START_MS + 300 * HOUR_MS) / 1_000;
    later.resume_for_s = 2_000_000;
    let again = Served::open_with(data.path(), 1, &later, Housekeeping::keep_days(90));
    let memory = &again.restored[0].memory;
    for hash in kept.from..300 {
        assert_eq!(memory.has_share(&[9; 32], hash), hash >= 295, "{hash}");
    }
    again.stop();
}

#[test]
fn a_ledger_of_schema_2_is_migrated_and_not_read_before() {
    let data = TempDir::new().expect("a folder");
    let mut history = History::default();
    some_days(data.path(), &mut history, 100);
    let path = schema::path(data.path());
    {
        // What schema 3 added, taken away again.
        let mut db = DB::open_cf_descriptors(&schema::primary(), &path, schema::families()).expect("a database");
        db.drop_cf(schema::HOURS).expect("a family");
        db.delete(meta::KEPT).expect("a write");
        db.put(meta::SCHEMA, 2_u32.to_le_bytes()).expect("a write");
    }
    check_opens(data.path()).expect("a pool migrates it");
    let before = LedgerReader::open(data.path()).err().expect("schema 2");
    assert!(
        matches!(
            before,
            LedgerError::NotMigrated {
                found: 2,
                known: schema::SCHEMA_VERSION
            }
        ),
        "{before}"
    );
    assert!(before.to_string().contains("start the pool"), "{before}");
    let mut other = opened(DIFFICULTY);
    other.chain = "mainnet";
    let other = Ledger::open(data.path(), &other).err().expect("another chain");
    assert!(matches!(other, LedgerError::Chain { .. }), "{other}");

    keep_house(data.path(), DIFFICULTY, a_day(50, 1_000));
    let kept = history.assert_kept(data.path());
    assert!(kept.from > 0);
    // Once is enough.
    keep_house(data.path(), DIFFICULTY, Housekeeping::keep_days(90));
    assert_eq!(history.assert_kept(data.path()), kept);
    let db = DB::open_cf_descriptors(&schema::primary(), &path, schema::families()).expect("a database");
    db.put(meta::SCHEMA, 1_u32.to_le_bytes()).expect("a write");
    drop(db);
    let older = Ledger::open(data.path(), &opened(DIFFICULTY)).err().expect("schema 1");
    assert!(
        matches!(
            older,
            LedgerError::Schema {
                found: 1,
                known: schema::SCHEMA_VERSION
            }
        ),
        "{older}"
    );
}

#[test]
fn verify_finds_work_that_is_not_that_of_the_shares_that_are_gone() {
    use crate::ledger::schema::{HOURS, family};
    type Damage = fn(&DB);
    let damage: [(&str, Damage); 5] = [
        ("the hours have", |db| {
            let mut rows = db.iterator_cf(family(db, HOURS), rocksdb::IteratorMode::Start);
            let (key, _) = rows.next().expect("a row").expect("a row");
            db.delete_cf(family(db, HOURS), key).expect("a write");
        }),
        ("the total of payee 0", |db| {
            // From one payee to another.
            let rows = db.iterator_cf(family(db, HOURS), rocksdb::IteratorMode::Start);
            let rows: Vec<_> = rows.map(|row| row.expect("a row")).collect();
            let of = |payee: u8| rows.iter().position(|(key, _)| key[7] == payee).expect("a row");
            let (one, other) = (&rows[of(0)], &rows[of(1)]);
            assert_ne!(one.1, other.1);
            db.put_cf(family(db, HOURS), &one.0, &other.1).expect("a write");
            db.put_cf(family(db, HOURS), &other.0, &one.1).expect("a write");
        }),
        ("belongs to worker 77", |db| {
            let key = [[0; 4], 0_u32.to_be_bytes(), 77_u32.to_be_bytes()].concat();
            let value = [&[1][..], &1_u64.to_le_bytes(), &1_u128.to_le_bytes()].concat();
            db.put_cf(family(db, HOURS), key, value).expect("a write");
        }),
        ("a row of hours has version 9", |db| {
            let mut rows = db.iterator_cf(family(db, HOURS), rocksdb::IteratorMode::Start);
            let (key, _) = rows.next().expect("a row").expect("a row");
            db.put_cf(family(db, HOURS), key, [9]).expect("a write");
        }),
        ("shares are missing", |db| {
            let mut kept = Kept::read(db).expect("a row");
            kept.from -= 1;
            db.put(meta::KEPT, kept.encode()).expect("a write");
        }),
    ];
    let data = TempDir::new().expect("a folder");
    let mut history = History::default();
    some_days(data.path(), &mut history, 200);
    keep_house(data.path(), DIFFICULTY, a_day(50, 1_000));
    history.assert_kept(data.path());
    for (expected, damage) in damage {
        let damaged = copy_of(data.path());
        let path = schema::path(damaged.path());
        let db = DB::open_cf_descriptors(&schema::primary(), &path, schema::families()).expect("a database");
        damage(&db);
        drop(db);
        let findings = verify(&LedgerReader::open(damaged.path()).expect("a ledger")).expect("a walk");
        assert!(
            findings.problems.iter().any(|problem| problem.contains(expected)),
            "{expected}: {:#?}",
            findings.problems
        );
    }
}

fn ask(served: &Served, order: Order) -> Result<Done, crate::ledger::OrderError> {
    let (reply, answer) = mpsc::channel();
    served.writer.desk().order(order, reply);
    answer.recv().expect("an answer")
}

#[track_caller]
fn order(served: &Served, order: Order) {
    ask(served, order).expect("it may be so");
}

/// Waits until the newest block is booked.
fn wait_for_state(data_dir: &Path, state: &str) {
    wait(|| {
        let blocks = report::blocks(&LedgerReader::open(data_dir).expect("a ledger")).expect("blocks");
        blocks.last().is_some_and(|block| block.state == state)
    });
}

fn wait_until_booked(data_dir: &Path, block: &[u8; 32]) {
    let reader = LedgerReader::open(data_dir).expect("a ledger");
    let shown = report::shown(block);
    let blocks = report::blocks(&reader).expect("blocks");
    assert!(
        blocks.iter().any(|row| row.hash == shown && row.event.is_some()),
        "{blocks:?}"
    );
}
