//! Shares that are old and not needed become hourly work, beside the running pool and over a kill -9; nothing is lost.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millrace::config::{Config, Overrides};
use millrace::ledger::books::Terms;
use millrace::ledger::{
    Entry, Housekeeping, Ledger, LedgerOptions, Mark, MinerRow, SessionMark, SessionRow, ShardLedger, ShareEntry,
    Writer, WriterOptions,
};
use millrace::wire::{ChannelKey, PublicKeys};
use serde_json::Value;

use crate::pool::gateway::Gateway;
use crate::pool::{Launch, Pool};

/// One an hour, for the 90 days that a pool keeps them unless it is told otherwise, and 80 more.
const SHARES: u64 = 170 * 24;
const START_S: u64 = 1_600_000_000 / 3_600 * 3_600;
/// Two windows of the dev chain are 16 such shares.
const POT: u8 = 20;
const ADDRESS: &str = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";
const SCRIPT: &str = "0014751e76e8199196d454941c45d1b3a323f1433bd6";

#[test]
fn old_shares_become_hourly_work_and_nothing_is_lost() {
    let mut pool = Pool::launch_on(Launch::dev(&["--shards", "1"]), work_long_ago);
    let expected = SHARES - 90 * 24;
    pool.wait_for_metric("millrace_ledger_housekeeping_rounds_total", &[], 1);
    assert_eq!(pool.metric("millrace_ledger_housekeeping_failures_total", &[]), 0);
    let gone = pool.metric("millrace_ledger_shares_rolled_up_total", &[]);
    // Whole chunks go, and whole hours.
    assert!((expected - 32..=expected).contains(&gone), "{gone} of {expected}");
    assert_eq!(pool.metric("millrace_ledger_kept_from", &[]), gone);
    assert!(pool.metric("millrace_ledger_rolled_up_time_seconds", &[]) > START_S);
    assert_eq!(pool.metric("millrace_window_short", &[]), 0);
    check(&pool, gone, 0);

    // It serves on, and a kill -9 changes nothing of it.
    Gateway::new().connect(&pool).assert_works(0);
    check(&pool, gone, 1);
    pool.kill();
    check(&pool, gone, 1);
    pool.restart();
    pool.wait_for_metric("millrace_ledger_housekeeping_rounds_total", &[], 1);
    // Now its newest share is of today, and but for two windows all before are old.
    let gone = pool.metric("millrace_ledger_kept_from", &[]);
    check(&pool, gone, 1);
    assert!(pool.terminate().success());
    check(&pool, gone, 1);
}

/// What the commands say of it, beside the pool or after it.
#[track_caller]
fn check(pool: &Pool, gone: u64, new: u64) {
    pool.assert_verifies();
    let stats = pool.stats();
    assert_eq!(stats["shares"], SHARES + new, "{stats}");
    assert_eq!(stats["kept_from"], gone, "{stats}");
    assert!(stats["rolled_up_ms"].is_u64(), "{stats}");
    let shares = pool.exported();
    assert_eq!(shares.len() as u64, SHARES + new - gone);
    assert_eq!(shares[0]["sequence"], gone);
    let hours = pool.ledger_text(&["export", "--format", "jsonl", "--table", "hours"]);
    let mut sum = 0;
    for (number, line) in (0_u64..).zip(hours.lines()) {
        let hour: Value = serde_json::from_str(line).expect("one JSON object a line");
        assert_eq!(hour["hour_s"], START_S + number * 3_600, "{hour}");
        assert_eq!(hour["script"], SCRIPT, "{hour}");
        assert_eq!(hour["name"], "rig", "{hour}");
        assert_eq!(hour["work"], (1 << POT).to_string(), "{hour}");
        sum += hour["shares"].as_u64().expect("a number");
    }
    assert_eq!(sum, gone);
    let payee = |args: &[&str]| -> Value {
        let args = [&["payee", ADDRESS, "--json"], args].concat();
        serde_json::from_str(&pool.ledger_text(&args)).expect("one JSON object")
    };
    assert_eq!(payee(&[])["rolled_up"]["shares"], gone);
    assert_eq!(payee(&[])["rolled_up"]["hours"], Value::Array(Vec::new()));
    let hours = &payee(&["--hours"])["rolled_up"]["hours"];
    assert_eq!(hours.as_array().expect("a list").len() as u64, gone);
    assert_eq!(hours[0]["worker"], "rig");
}

/// A ledger that a pool of the same terms has left, years ago.
fn work_long_ago(data: &Path) {
    let config = Config::dev(&Overrides::default()).expect("the defaults are good");
    let options = LedgerOptions {
        chain: "dev",
        first_prime_id: 1,
        disk_floor_bytes: 0,
        resume_for_s: config.resume_for_s,
        gateways_max: 65_536,
        now_s: START_S,
        terms: Terms {
            scheme: config.scheme,
            split: config.split,
            difficulty: 1 << 20,
        },
        own_script: config.script.clone(),
    };
    let ledger = Ledger::open(data, &options).expect("a ledger");
    let options = WriterOptions {
        shards: 1,
        ring_entries: 64,
        core: None,
        telemetry: Arc::default(),
        own_script: config.script.clone(),
        found: None,
        housekeeping: Housekeeping::keep_days(config.keep_days),
    };
    let (writer, mut shards) = Writer::start(ledger, options).expect("a thread");
    let mut pushed = 0;
    let shard = &mut shards[0];
    let mut push = |shard: &mut ShardLedger, entry| {
        while pushed - shard.durable() >= 32 {
            shard.wake_writer();
            std::thread::sleep(Duration::from_micros(100));
        }
        shard.push(entry).expect("room");
        pushed += 1;
    };
    let keys = PublicKeys {
        ed25519: [1; 32],
        x25519: [2; 32],
    };
    let terms = millrace::work::Terms::new(1, &config.script, b"tag", config.min_diff);
    push(shard, Entry::session(SessionRow::new(&keys, &terms, START_S * 1_000)));
    let mark = Mark::Proven {
        key: Box::new(ChannelKey::from_bytes([3; 32])),
        replaces: None,
        adopts: Vec::new(),
    };
    push(
        shard,
        Entry::Mark(SessionMark {
            prime_id: 1,
            mark,
            time_ms: START_S * 1_000,
        }),
    );
    let script: Vec<u8> = (0..SCRIPT.len() / 2)
        .map(|at| u8::from_str_radix(&SCRIPT[2 * at..2 * at + 2], 16).expect("hex"))
        .collect();
    let miner = Box::new(MinerRow {
        script: script.into(),
        worker: b"rig".as_slice().into(),
    });
    push(shard, Entry::Miner { local: 0, miner });
    for number in 0..SHARES {
        push(
            shard,
            Entry::Share(ShareEntry {
                prime_id: 1,
                hash64: number,
                parent: [9; 32],
                pot: POT,
                miner: 0,
                time_ms: (START_S + 3_600 * number) * 1_000,
                enqueued_ns: 0,
            }),
        );
    }
    drop(shards);
    writer.stop();
}
