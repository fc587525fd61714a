//! A block that the load generator finds is found, settled, audited, exported and verified, and a kill -9 between any two of
//! these changes nothing: not a satoshi of the books, not a byte of the proof.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use rocksdb::{DB, IteratorMode, Options};
use serde_json::Value;

use crate::pool::gateway::Gateway;
use crate::pool::split::{ask, find_block, template};
use crate::pool::work::SUBSIDY;
use crate::pool::{Pool, binary, wait_until};

/// Of every so many hashes one is a block: the generator finds some in a moment.
const DIFFICULTY: &str = "32";

#[test]
fn a_kill_between_any_two_steps_from_a_block_to_its_proof_changes_nothing() {
    let mut pool = Pool::with(&["--shards", "1", "--network-difficulty", DIFFICULTY]);
    generate(&pool);
    let generated: Vec<String> = booked(&pool).into_iter().map(|block| block.0).collect();
    assert!(!generated.is_empty(), "the generator finds a block");

    // One more, that pays what the generator's miners have earned, and ends what the pool does.
    let mut session = Gateway::new().connect(&pool);
    let split = ask(&mut session, SUBSIDY, 1);
    assert!(!split.outputs.is_empty());
    let paying = template(&session, 1, 1, &split.outputs, split.coinbaser_id);
    let last = find_block(&mut session, &paying, 1);
    drop(session);
    wait_for_booking(&pool, &last);
    let books = balances(&pool);
    pool.kill();

    // Found, and not settled: the kill came before what was booked was on disk.
    lose_last_event(&pool.data());
    assert_eq!(state(&pool, &last), "unbooked");
    assert_ne!(balances(&pool), books);
    assert!(!audit(&pool, &last).status.success(), "there is nothing to audit yet");
    pool.restart();
    wait_for_booking(&pool, &last);
    assert_eq!(balances(&pool), books);

    // Settled, and not audited.
    again(&mut pool);
    assert_eq!(balances(&pool), books);
    let blocks: Vec<String> = booked(&pool).into_iter().map(|block| block.0).collect();
    assert!(generated.iter().chain([&last]).all(|hash| blocks.contains(hash)));
    let audits: Vec<String> = blocks.iter().map(|hash| holds(&pool, hash)).collect();

    // Audited, and not exported.
    again(&mut pool);
    let bundles: Vec<Vec<u8>> = blocks.iter().map(|hash| exported(&pool, hash, "first")).collect();

    // Exported, and not verified; an export that was cut off is made again.
    again(&mut pool);
    for ((hash, bundle), audit) in blocks.iter().zip(&bundles).zip(&audits) {
        assert_eq!(&exported(&pool, hash, "second"), bundle, "the same bytes");
        assert_eq!(&holds(&pool, hash), audit);
    }
    pool.kill();
    for ((hash, value, paid), bundle) in booked(&pool).into_iter().zip(&bundles) {
        let file = pool.data().join("bundle");
        fs::write(&file, bundle).expect("a file of the test's");
        let verify = |file: &Path| {
            let file = file.to_str().expect("a path of text");
            millrace(&["audit", "verify", file, "--pubkey", &pool.key.to_string(), "--json"])
        };
        let verified = verify(&file);
        assert!(verified.status.success(), "{verified:?}");
        let proof: Value = serde_json::from_slice(&verified.stdout).expect("JSON");
        assert_eq!(proof["block"], hash);
        assert_eq!(proof["value"], value);
        assert_eq!(proof["paid_outputs"], paid);
    }

    // Verified, and the pool goes on.
    pool.restart();
    assert_eq!(balances(&pool), books);
    pool.assert_verifies();
}

/// Two gateways mine for a moment.
fn generate(pool: &Pool) {
    let args = format!(
        "millrace-loadgen --pool {} --pubkey {} --gateways 2 --rate 100 --seconds 3 --bad 0 --job-every 0.5",
        pool.address, pool.key
    );
    let report = millrace_loadgen::run(args.split_whitespace()).expect("it runs");
    assert!(report.ok, "{report}");
}

/// Kills the pool and starts it again.
fn again(pool: &mut Pool) {
    pool.kill();
    pool.restart();
}

/// The log without its last event, which booked a block.
fn lose_last_event(data: &Path) {
    let path = data.join("ledger");
    let families = DB::list_cf(&Options::default(), &path).expect("a database");
    let db = DB::open_cf(&Options::default(), &path, families).expect("a database");
    let events = db.cf_handle("events").expect("a family");
    let last = db.iterator_cf(events, IteratorMode::End).next().expect("an event");
    let (key, row) = last.expect("an event");
    assert_eq!(row[1], 1, "the kind of what was booked");
    db.delete_cf(events, key).expect("a write");
}

fn balances(pool: &Pool) -> String {
    pool.ledger_text(&["balances", "--json"])
}

fn blocks(pool: &Pool) -> Vec<Value> {
    let text = pool.ledger_text(&["blocks", "--json"]);
    serde_json::from_str(&text).expect("a list")
}

/// Hash, value and number of payouts of each block that is booked.
fn booked(pool: &Pool) -> Vec<(String, Value, Value)> {
    let booked = blocks(pool).into_iter().filter(|block| !block["value"].is_null());
    booked
        .map(|block| {
            let hash = block["hash"].as_str().expect("a hash").to_owned();
            (hash, block["value"].clone(), block["payouts"].clone())
        })
        .collect()
}

fn state(pool: &Pool, hash: &str) -> Value {
    let block = blocks(pool).into_iter().find(|block| block["hash"] == hash);
    block.map(|block| block["state"].clone()).unwrap_or_default()
}

fn wait_for_booking(pool: &Pool, hash: &str) {
    wait_until(
        || state(pool, hash) == "candidate",
        || format!("{hash} is never booked"),
    );
}

fn audit(pool: &Pool, hash: &str) -> Output {
    pool.ledger(&["audit", hash])
}

/// What a good audit says.
fn holds(pool: &Pool, hash: &str) -> String {
    let text = pool.ledger_text(&["audit", hash]);
    assert!(text.starts_with("holds"), "{text}");
    text
}

/// A bundle of the block; an export that was killed leaves nothing in its way.
fn exported(pool: &Pool, hash: &str, name: &str) -> Vec<u8> {
    let data = pool.data();
    let file = data.join(format!("{hash}.{name}"));
    let args = [
        "audit".as_ref(),
        "export".as_ref(),
        hash.as_ref(),
        "--out".as_ref(),
        file.as_os_str(),
        "--data-dir".as_ref(),
        data.as_os_str(),
    ];
    let mut cut_off = Command::new(binary()).args(args).spawn().expect("the binary runs");
    let _ = cut_off.kill();
    let was_faster = cut_off.wait().expect("it ends").success();
    if was_faster {
        fs::remove_file(&file).expect("what it wrote");
    }
    assert!(!file.exists(), "half a bundle has no name");
    let output = Command::new(binary()).args(args).output().expect("the binary runs");
    assert!(output.status.success(), "{output:?}");
    fs::read(&file).expect("a bundle")
}

fn millrace(args: &[&str]) -> Output {
    Command::new(binary()).args(args).output().expect("the binary runs")
}
