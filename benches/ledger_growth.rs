//! What a ledger that grows costs: bytes a share on disk, a start with a long window, and rolling up what is old.
//!
//! `SHARES` says how many there are, such as 50000000, which takes some minutes and up to 10 GB; without it nothing is
//! done. The ledger lies below `BENCH_DIR` and is removed.

mod ledger;

use std::path::Path;
use std::time::{Duration, Instant};

use ledger::{Miners, RING, START_S, Served, folder, options};
use millrace::ledger::books::SchemeKind;
use millrace::ledger::{Housekeeping, Ledger, LedgerReader, stats, verify};
use rocksdb::{Cache, DB, Env, Options};

/// Shares a second of the pool's own time, where `RATE` does not say.
const RATE: u64 = 1_000;
/// Shares of which each is a batch of its own, as a quiet pool writes them.
const LONE: u64 = 100_000;
/// Shares that are rolled up, over some days.
const OLD: u64 = 10_000_000;
const OLD_RATE: u64 = 20;
/// Shares a second while the writer is watched.
const WATCHED_RATE: u64 = 20_000;

fn main() {
    // Too long to run along with all others.
    let Ok(shares) = std::env::var("SHARES") else {
        println!("ledger_growth is left out: SHARES does not say how many");
        return;
    };
    let shares = shares.parse().expect("a number of shares");
    let rate = std::env::var("RATE").map_or(RATE, |rate| rate.parse().expect("a number of shares"));
    lone_shares();
    many_shares(shares, rate);
    old_shares();
}

fn lone_shares() {
    let data = folder();
    let mut served = Served::open(
        data.path(),
        &options(SchemeKind::Tides, 1 << 30, START_S),
        Housekeeping::keep_days(90),
    );
    let mut miners = Miners::introduce(&mut served.shard, RATE);
    served.shard.run(&mut miners, LONE, 1);
    served.stop();
    print_bytes("a share a batch", data.path(), "shares", LONE, "share");
}

fn many_shares(shares: u64, rate: u64) {
    let data = folder();
    let terms = |difficulty, now_s| options(SchemeKind::Tides, difficulty, now_s);
    let mut served = Served::open(data.path(), &terms(1, START_S), Housekeeping::keep_days(90));
    let mut miners = Miners::introduce(&mut served.shard, rate);
    let took = served.shard.run(&mut miners, shares, RING as u64 / 2);
    println!(
        "{shares} shares written in {took:.1?}: {:.0} a second",
        shares as f64 / took.as_secs_f64()
    );
    let now_s = miners.now_us / 1_000_000;
    served.stop();
    print_bytes("thousands a batch", data.path(), "shares", shares, "share");

    // A window of 99 percent of them.
    let counts = stats(&LedgerReader::open(data.path()).expect("a ledger")).expect("counts");
    let difficulty = u64::try_from(counts.work / 8 * 99 / 100).expect("a difficulty");
    // The first start has other terms; what is measured is one like any other.
    drop(Ledger::open(data.path(), &terms(difficulty, now_s)).expect("a ledger"));
    for cache in ["nothing in the system's cache", "all in the system's cache"] {
        if cache.starts_with("nothing") {
            forget(&data.path().join("ledger"));
        }
        let began = Instant::now();
        let mut ledger = Ledger::open(data.path(), &terms(difficulty, now_s)).expect("a ledger");
        let took = began.elapsed();
        let window = ledger.books().window();
        println!(
            "start with {} shares in the window, {cache}: {took:.2?}: {:.2?}, {} gateways; at most {} MiB",
            window.end() - window.front(),
            ledger.took(),
            ledger.take_restored().len(),
            peak_mib()
        );
    }
}

fn old_shares() {
    let data = folder();
    let terms = options(SchemeKind::Tides, 1 << 20, START_S);
    let mut served = Served::open(data.path(), &terms, Housekeeping::keep_days(90));
    let mut miners = Miners::introduce(&mut served.shard, OLD_RATE);
    served.shard.run(&mut miners, OLD, RING as u64 / 2);
    let now_s = miners.now_us / 1_000_000;
    served.stop();

    // Once beside the housekeeper, and as long again without.
    let mut seconds = 0;
    for days in [1, 90] {
        let began = Instant::now();
        let mut served = Served::open(data.path(), &terms, Housekeeping::keep_days(days));
        let mut miners = Miners::name(&mut served.shard, WATCHED_RATE, now_s + seconds);
        let is_over = |served: &Served, passed: u64| match days {
            1 => served.telemetry.housekeeping_rounds.value() > 0,
            _ => passed == seconds,
        };
        let mut passed = 0;
        while !is_over(&served, passed) {
            passed += 1;
            for _ in 0..100 {
                let due = Instant::now() + Duration::from_millis(10);
                served.shard.run(&mut miners, WATCHED_RATE / 100, WATCHED_RATE / 100);
                std::thread::sleep(due.saturating_duration_since(Instant::now()));
            }
        }
        seconds = passed;
        let gone = served.telemetry.shares_rolled_up.value();
        let commit = served.telemetry.commit.snapshot();
        println!(
            "{gone} shares rolled up in {:.1?}, beside {WATCHED_RATE} shares a second; write and fsync of a batch: p50 {:.2} p99 \
             {:.2} p99.9 {:.2} max {:.2} ms",
            began.elapsed(),
            ms(commit.value_at_quantile(0.5)),
            ms(commit.value_at_quantile(0.99)),
            ms(commit.value_at_quantile(0.999)),
            ms(commit.value_at_quantile(1.0)),
        );
        served.stop();
    }
    let reader = LedgerReader::open(data.path()).expect("a ledger");
    let began = Instant::now();
    let findings = verify(&reader).expect("a walk");
    assert!(findings.is_sound(), "{:?}", findings.problems);
    println!(
        "verified in {:.1?}: {} shares from {} on, {} hours",
        began.elapsed(),
        findings.shares,
        findings.kept_from,
        findings.hours
    );
    print_bytes("of what was rolled up", data.path(), "hours", findings.hours, "row");
}

#[allow(clippy::cast_precision_loss)]
fn ms(ns: u64) -> f64 {
    ns as f64 / 1e6
}

/// What a family takes when everything in it is merged, with the options that the ledger was written with.
fn print_bytes(what: &str, data: &Path, family: &str, count: u64, each: &str) {
    let path = data.join("ledger");
    let cache = Cache::new_lru_cache(32 << 20);
    let (rocks, families) =
        Options::load_latest(&path, Env::new().expect("the system"), false, cache).expect("options");
    let db = DB::open_cf_descriptors(&rocks, &path, families).expect("a database");
    let handle = db.cf_handle(family).expect("a family");
    let bytes = || {
        let bytes = db.property_int_value_cf(handle, "rocksdb.total-sst-files-size");
        bytes.expect("a number").expect("a number")
    };
    db.flush_cf(handle).expect("a flush");
    let before = bytes();
    db.compact_range_cf(handle, None::<&[u8]>, None::<&[u8]>);
    println!(
        "{what}: {count} of {family} take {} bytes, {:.1} a {each}; {before} before they were merged",
        bytes(),
        bytes() as f64 / count as f64,
    );
}

/// Has the system forget what it holds of the files in a folder.
fn forget(folder: &Path) {
    for entry in std::fs::read_dir(folder).expect("a folder") {
        let file = std::fs::File::open(entry.expect("an entry").path()).expect("a file");
        file.sync_all().expect("a sync");
        rustix::fs::fadvise(&file, 0, None, rustix::fs::Advice::DontNeed).expect("advice");
    }
}

/// The most memory that the process has had.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("Linux");
    let line = status.lines().find(|line| line.starts_with("VmHWM")).expect("a peak");
    let kib: u64 = line
        .split_whitespace()
        .nth(1)
        .and_then(|kib| kib.parse().ok())
        .expect("a number");
    kib / 1_024
}
