//! What a ledger that grows costs: bytes a share on disk, a start with a long window, and rolling up what is old.
//!
//! `SHARES` says how many there are, such as 50000000, which takes some minutes and up to 10 GB; without it nothing is
//! done. The ledger lies below `BENCH_DIR` and is removed.

mod ledger;

use std::path::Path;
use std::time::Instant;

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
/// Shares that the writer takes at a time while it is watched, so many a second of the pool's own time: none of them
/// gets old.
const WATCHED: u64 = 200_000;
const WATCHED_RATE: u64 = 1_000_000;

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
    print_bytes("a share a batch", data.path(), LONE);
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
    print_bytes("thousands a batch", data.path(), shares);

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

    let mut served = Served::open(data.path(), &terms, Housekeeping::keep_days(1));
    let began = Instant::now();
    let rounds = |served: &Served| served.telemetry.housekeeping_rounds.value();
    // Names are pushed first: that is no part of what is watched.
    let mut miners = Miners::name(&mut served.shard, WATCHED_RATE, now_s);
    let mut watched =
        |served: &mut Served| WATCHED as f64 / served.shard.run(&mut miners, WATCHED, 1_024).as_secs_f64();
    let (mut during, mut after) = (Vec::new(), Vec::new());
    while rounds(&served) == 0 {
        during.push(watched(&mut served));
    }
    let took = began.elapsed();
    for _ in 0..10 {
        after.push(watched(&mut served));
    }
    let gone = served.telemetry.shares_rolled_up.value();
    println!(
        "{gone} shares rolled up in {took:.1?}, {:.0} a second, beside a writer that takes {:.0} shares a second; it takes {:.0} alone",
        gone as f64 / took.as_secs_f64(),
        median(during),
        median(after)
    );
    served.stop();
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
    print_bytes("hours", data.path(), gone);
}

/// What the families take when everything is merged, with the options that the ledger was written with.
fn print_bytes(what: &str, data: &Path, shares: u64) {
    let path = data.join("ledger");
    let cache = Cache::new_lru_cache(32 << 20);
    let (rocks, families) =
        Options::load_latest(&path, Env::new().expect("the system"), false, cache).expect("options");
    let db = DB::open_cf_descriptors(&rocks, &path, families).expect("a database");
    for name in ["shares", "hours"] {
        let family = db.cf_handle(name).expect("a family");
        let bytes = || {
            let bytes = db.property_int_value_cf(family, "rocksdb.total-sst-files-size");
            bytes.expect("a number").expect("a number")
        };
        db.flush_cf(family).expect("a flush");
        let before = bytes();
        db.compact_range_cf(family, None::<&[u8]>, None::<&[u8]>);
        if bytes() > 0 {
            println!(
                "{what}: {name} take {} bytes, {:.1} a share ({} before they were merged)",
                bytes(),
                bytes() as f64 / shares as f64,
                before
            );
        }
    }
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

fn median(mut rates: Vec<f64>) -> f64 {
    rates.sort_unstable_by(f64::total_cmp);
    rates.get(rates.len() / 2).copied().unwrap_or(f64::NAN)
}
