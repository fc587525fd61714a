//! Whom the next block pays: splits are dictated by the work that counts, shares are held to them, found blocks are
//! booked, and all of it can be recomputed, after a kill -9 at any step too.

use std::process::{Command, Output};

use millrace::wire::{CoinbaserRequest, Reason};
use serde_json::Value;

use crate::pool::gateway::{Gateway, keys};
use crate::pool::session::Heard;
use crate::pool::split::{DIFFICULTY_POT, MINERS, Paid, Split, ask, ask_until, find_block, submit, template, work};
use crate::pool::work::SUBSIDY;
use crate::pool::{Pool, binary, wait_until};

/// A pool on which a hash in 2^[`DIFFICULTY_POT`] is a block.
const DEV: [&str; 4] = ["--shards", "1", "--network-difficulty", "65536"];

fn json(text: &str) -> Value {
    serde_json::from_str(text).expect("JSON")
}

fn balances(pool: &Pool) -> Value {
    json(&pool.ledger_text(&["balances", "--json"]))
}

fn block(pool: &Pool, hash: &str) -> Value {
    let blocks = json(&pool.ledger_text(&["blocks", "--json"]));
    let blocks = blocks.as_array().expect("a list");
    blocks
        .iter()
        .find(|block| block["hash"] == hash)
        .cloned()
        .unwrap_or_default()
}

fn wait_for_state(pool: &Pool, hash: &str, state: &str) {
    wait_until(
        || block(pool, hash)["state"] == state,
        || format!("{hash} is never {state}"),
    );
}

fn tell(pool: &Pool, hash: &str, state: &str) -> bool {
    pool.control(&["block", hash, state]).status.success()
}

/// C = P - F - S.
fn assert_sums(balances: &Value) {
    let number = |name: &str| balances[name].as_i64().expect("a number");
    assert_eq!(
        number("carry"),
        number("to_pool") - number("fees") - number("by_hand"),
        "{balances}"
    );
    let payees = balances["payees"].as_array().expect("a list");
    let sum: i64 = payees
        .iter()
        .map(|row| row["balance"].as_i64().expect("a number"))
        .sum();
    assert_eq!(sum, number("carry"));
}

fn row(balances: &Value, address: &str) -> Value {
    let payees = balances["payees"].as_array().expect("a list");
    payees
        .iter()
        .find(|row| row["address"] == address)
        .cloned()
        .unwrap_or_default()
}

/// The bundle of a block proves it with nothing but the pool's public key, in both forms, and no other file does.
fn assert_bundle_proves(pool: &Pool, hash: &str, address: &str) {
    let public = pool.key.to_string();
    let strangers = keys().public().to_string();
    let data = pool.data();
    for privacy in ["clear", "hashed"] {
        let file = data.join(format!("{privacy}.bundle"));
        let path = file.to_str().expect("a path of text");
        let folder = data.to_str().expect("a path of text");
        let exported = millrace(&[
            "audit",
            "export",
            hash,
            "--out",
            path,
            "--privacy",
            privacy,
            "--data-dir",
            folder,
        ]);
        assert!(exported.status.success(), "{exported:?}");
        let verify = |key: &str| millrace(&["audit", "verify", path, "--pubkey", key, "--address", address, "--json"]);
        let verified = verify(&public);
        assert!(verified.status.success(), "{verified:?}");
        let proof = json(&String::from_utf8(verified.stdout).expect("text"));
        assert_eq!(proof["own"]["shares"], 1, "a miner finds their own: {proof}");
        assert_eq!(verify(&strangers).status.code(), Some(1), "another pool's key");
        let mut bytes = std::fs::read(&file).expect("a bundle");
        let middle = bytes.len() / 2;
        bytes[middle] ^= 1;
        std::fs::write(&file, bytes).expect("a file of the test's");
        let flipped = verify(&public);
        assert_eq!(flipped.status.code(), Some(1));
        assert!(!flipped.stderr.is_empty() || !flipped.stdout.is_empty(), "it says why");
        std::fs::remove_file(&file).expect("a file of the test's");
    }
}

fn millrace(args: &[&str]) -> Output {
    Command::new(binary()).args(args).output().expect("the binary runs")
}

#[test]
fn a_split_pays_by_work() {
    let pool = Pool::with(&DEV);
    let mut session = Gateway::new().connect(&pool);
    assert!(
        ask(&mut session, SUBSIDY, 1).outputs.is_empty(),
        "nobody has worked yet"
    );
    work(&mut session);
    let split = ask_until(&mut session, 1, 3);
    let values: Vec<u64> = split.outputs.iter().map(|(value, _)| *value).collect();
    assert_eq!(values, [SUBSIDY * 5 / 9, SUBSIDY * 3 / 9, SUBSIDY / 9]);
    let again = ask(&mut session, SUBSIDY, 1);
    assert_eq!(again.outputs, split.outputs);
    assert_eq!(again.coinbaser_id, split.coinbaser_id + 1, "ids go on");
}

#[test]
fn a_newer_request_takes_the_place_of_the_one_before() {
    let pool = Pool::with(&DEV);
    let mut session = Gateway::new().connect(&pool);
    work(&mut session);
    let first = ask_until(&mut session, 1, 3);
    for value in [SUBSIDY, SUBSIDY + 1, SUBSIDY + 2] {
        session.push(&CoinbaserRequest {
            value,
            prev_block_hash: &[1; 32],
            padding: &[0],
        });
    }
    // All in one read: the last alone is answered, with the next id, and nothing follows.
    session.flush();
    match session.next_but_info() {
        Heard::Split {
            value, coinbaser_id, ..
        } => {
            assert_eq!((value, coinbaser_id), (SUBSIDY + 2, first.coinbaser_id + 1));
        }
        other => panic!("a split is due, not {other:?}"),
    }
    assert_eq!(ask(&mut session, SUBSIDY, 1).coinbaser_id, first.coinbaser_id + 2);
}

#[test]
fn a_coinbase_pays_a_part_of_its_split_in_order_or_is_refused() {
    let pool = Pool::with(&DEV);
    let mut session = Gateway::new().connect(&pool);
    work(&mut session);
    let Split { coinbaser_id, outputs } = ask_until(&mut session, 1, 3);
    let parts: [&[usize]; 6] = [&[0, 1, 2], &[0], &[2], &[0, 2], &[1, 2], &[]];
    for (n, part) in (100..).zip(parts) {
        let paid: Vec<Paid> = part.iter().map(|at| outputs[*at].clone()).collect();
        for id in [coinbaser_id, 0] {
            let template = template(&session, 1, 1, &paid, id);
            assert_eq!(
                submit(&mut session, &template, n * 2 + u32::from(id == 0)),
                Ok(()),
                "{part:?}"
            );
        }
    }
    let mut more = outputs.clone();
    more[0].0 += 1;
    let mut less = outputs.clone();
    less[2].0 -= 1;
    let mut others = outputs.clone();
    others[1].1 = outputs[0].1.clone();
    let swapped = vec![outputs[1].clone(), outputs[0].clone()];
    let twice = vec![outputs[2].clone(), outputs[2].clone()];
    for (n, paid) in (200..).zip([more, less, others, swapped, twice]) {
        let template = template(&session, 1, 1, &paid, coinbaser_id);
        assert_eq!(submit(&mut session, &template, n), Err(Reason::BadCoinbaseOutputs));
    }
    // Of another parent there was none, and what was never dictated is not there.
    let elsewhere = template(&session, 1, 2, &outputs, coinbaser_id);
    assert_eq!(submit(&mut session, &elsewhere, 300), Err(Reason::BadCoinbaseOutputs));
    let unheard = template(&session, 1, 1, &[], coinbaser_id.wrapping_add(100));
    assert_eq!(submit(&mut session, &unheard, 301), Err(Reason::BadCoinbaserId));
    // Another gateway was told nothing.
    let mut stranger = Gateway::new().connect(&pool);
    let stolen = template(&stranger, 1, 1, &outputs, 0);
    assert_eq!(submit(&mut stranger, &stolen, 302), Err(Reason::BadCoinbaseOutputs));
}

#[test]
fn a_split_counts_after_a_kill() {
    let mut pool = Pool::with(&DEV);
    let gateway = Gateway::new();
    let mut session = gateway.connect(&pool);
    work(&mut session);
    let Split { coinbaser_id, outputs } = ask_until(&mut session, 1, 3);
    let template = template(&session, 1, 1, &outputs, coinbaser_id);
    assert_eq!(submit(&mut session, &template, 100), Ok(()));
    drop(session);
    pool.kill();
    pool.restart();
    let mut session = gateway.connect(&pool);
    assert_eq!(submit(&mut session, &template, 101), Ok(()));
    let again = ask_until(&mut session, 1, 3);
    assert!(again.outputs[0].0 > 0);
}

#[test]
fn a_found_block_is_booked_and_every_step_outlives_a_kill() {
    let mut pool = Pool::with(&DEV);
    let gateway = Gateway::new();
    let mut session = gateway.connect(&pool);
    work(&mut session);
    let Split { coinbaser_id, outputs } = ask_until(&mut session, 1, 3);
    // The smallest of them does not fit, so it is owed.
    let paying = template(&session, 1, 1, &outputs[..2], coinbaser_id);
    let hash = find_block(&mut session, &paying, 400);
    drop(session);
    pool.kill();
    pool.restart();
    wait_for_state(&pool, &hash, "candidate");
    let after = balances(&pool);
    assert_sums(&after);
    let owed = row(&after, MINERS[2].0);
    let left = SUBSIDY - outputs[0].0 - outputs[1].0;
    assert_eq!(after["to_pool"].as_u64(), Some(left));
    assert_eq!(owed["balance"].as_u64(), Some(outputs[2].0));
    assert_eq!(
        owed["promised"], owed["balance"],
        "an immature block's gain is a promise"
    );
    assert_eq!(row(&after, MINERS[1].0)["paid"].as_u64(), Some(outputs[1].0));
    assert!(pool.ledger_text(&["audit", &hash]).starts_with("holds"));
    assert_bundle_proves(&pool, &hash, MINERS[2].0);

    assert!(!tell(&pool, &hash, "mature"), "a candidate is not in the chain yet");
    for state in ["maturing", "mature"] {
        assert!(tell(&pool, &hash, state));
        pool.kill();
        pool.restart();
        assert_eq!(block(&pool, &hash)["state"], state);
    }
    let mature = balances(&pool);
    assert_eq!(row(&mature, MINERS[2].0)["promised"].as_u64(), Some(0));
    // What was a promise is paid with the next block, beside what its work earns.
    let mut session = gateway.connect(&pool);
    let next = ask_until(&mut session, 3, 3);
    let script = &outputs[2].1;
    let paid = next.outputs.iter().find(|(_, of)| of == script).expect("it is paid");
    // The block's own share outweighs all other work now; what is owed has its part of the value all the same.
    assert!(paid.0 > outputs[2].0 / 2, "{} after {}", paid.0, outputs[2].0);
    assert!(pool.ledger_text(&["audit", &hash]).starts_with("holds"));

    assert!(tell(&pool, &hash, "orphaned"));
    pool.kill();
    pool.restart();
    let orphaned = balances(&pool);
    assert_sums(&orphaned);
    for (address, _) in MINERS {
        let row = row(&orphaned, address);
        assert_eq!(
            (row["balance"].as_i64(), row["paid"].as_u64()),
            (Some(0), Some(0)),
            "{row}"
        );
    }
    assert!(!tell(&pool, &hash, "maturing"), "an orphan's postings are gone");
    pool.assert_verifies();
}

#[test]
fn a_block_without_payouts_owes_everybody() {
    let pool = Pool::with(&DEV);
    let mut session = Gateway::new().connect(&pool);
    work(&mut session);
    let plain = session.template(2, 1);
    let hash = find_block(&mut session, &plain, 500);
    wait_for_state(&pool, &hash, "candidate");
    let owed = balances(&pool);
    assert_sums(&owed);
    let parts: Vec<_> = MINERS
        .iter()
        .map(|(address, _)| row(&owed, address)["balance"].as_u64())
        .collect();
    // Two satoshi that rounding leaves over go to the largest due.
    assert_eq!(
        parts,
        [Some(SUBSIDY * 5 / 9 + 2), Some(SUBSIDY * 3 / 9), Some(SUBSIDY / 9)]
    );
    assert_eq!(owed["carry"].as_u64(), Some(SUBSIDY));
    assert!(pool.ledger_text(&["audit", &hash]).starts_with("holds"));

    // Paid by hand, and then all over again by an orphan: the balance is negative.
    let txid = "ab".repeat(32);
    let settle = |amount: u64| pool.ledger(&["settle", MINERS[1].0, "--amount", &amount.to_string(), "--txid", &txid]);
    assert!(!settle(0).status.success());
    assert!(settle(1_000).status.success());
    assert!(!settle(1_000).status.success(), "one transaction pays a payee once");
    assert!(tell(&pool, &hash, "rejected"));
    let after = balances(&pool);
    assert_sums(&after);
    assert_eq!(row(&after, MINERS[1].0)["balance"].as_i64(), Some(-1_000));
    let history = json(&pool.ledger_text(&["payee", MINERS[1].0, "--json"]));
    let what: Vec<_> = history["history"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|change| change["what"].clone())
        .collect();
    assert_eq!(what, ["settled", "paid by hand", "rejected"]);
}

#[test]
fn bundles_name_payees_as_the_pools_configuration_says() {
    let hashed = "[ledger]\nbundle_privacy = \"hashed\"\n[chain]\nnetwork_difficulty = 65536\n";
    let mut pool = Pool::launch(crate::pool::Launch::config(hashed));
    let mut session = Gateway::new().connect(&pool);
    work(&mut session);
    let plain = session.template(2, 1);
    let hash = find_block(&mut session, &plain, 500);
    wait_for_state(&pool, &hash, "candidate");
    drop(session);
    // Beside the pool, and with nothing but its data folder.
    assert!(names_are_hashed(&pool, &hash, &[]));
    pool.kill();
    assert!(names_are_hashed(&pool, &hash, &[]));
    assert!(!names_are_hashed(&pool, &hash, &["--privacy", "clear"]));
}

/// Whether a bundle says that it hashes names (`docs/LEDGER.md`, "The content").
fn names_are_hashed(pool: &Pool, hash: &str, flags: &[&str]) -> bool {
    let file = pool.data().join("one.bundle");
    let (path, data) = (file.to_str().expect("text"), pool.data());
    let folder = data.to_str().expect("text");
    let args = ["audit", "export", hash, "--out", path, "--data-dir", folder];
    let exported = millrace(&[&args, flags].concat());
    assert!(exported.status.success(), "{exported:?}");
    let content = zstd::decode_all(std::fs::File::open(&file).expect("a bundle")).expect("a zstd frame");
    std::fs::remove_file(&file).expect("a file of the test's");
    let magic = b"mr-audit";
    assert!(content.starts_with(magic));
    content[magic.len() + 2] == 1
}

#[test]
fn a_block_that_pays_others_waits_for_the_operator() {
    let pool = Pool::with(&DEV);
    let mut session = Gateway::new().connect(&pool);
    work(&mut session);
    let thief = vec![(SUBSIDY / 2, [&[0x00, 0x14][..], &[9; 20]].concat())];
    let template = template(&session, 1, 1, &thief, 0);
    let mut share = template.draft(600);
    share.pot = DIFFICULTY_POT;
    let share = share.mine();
    assert_eq!(session.submit(&share.with_sections()), Err(Reason::BadCoinbaseOutputs));
    let mut hash = share.hash();
    hash.reverse();
    let hash: String = hash.iter().map(|byte| format!("{byte:02x}")).collect();
    pool.wait_for_metric("millrace_blocks_by_hand_total", &[], 1);
    wait_for_state(&pool, &hash, "unbooked");
    assert_eq!(balances(&pool)["carry"].as_u64(), Some(0));
    assert!(!pool.ledger(&["audit", &hash]).status.success(), "nothing is booked");
    // Booked by hand, what went to others is no part of it.
    assert!(pool.control(&["book", &hash]).status.success());
    let booked = balances(&pool);
    assert_sums(&booked);
    assert_eq!(booked["carry"].as_u64(), Some(SUBSIDY - SUBSIDY / 2));
    assert!(!pool.control(&["book", &hash]).status.success(), "once");
}

#[test]
fn a_split_of_nothing_is_refused_in_words() {
    let pool = Pool::with(&DEV);
    let mut session = Gateway::new().connect(&pool);
    work(&mut session);
    ask_until(&mut session, 1, 3);
    for value in [0, 21_000_000 * 100_000_000 + 1, u64::MAX] {
        let split = ask(&mut session, value, 1);
        assert!(split.outputs.is_empty(), "{value}");
    }
    assert_eq!(session.infos.len(), 3, "{:?}", session.infos);
    assert!(session.infos[0].contains("no block has the value"));
    session.push_plain(&[0x10, 1, 2, 3]);
    session.flush();
    assert!(session.drain().is_empty());
    pool.wait_for_ends("bad_message", 1);
}

#[test]
fn other_schemes_share_otherwise() {
    let newest = "[split]\nscheme = \"pplns\"\npplns_work = 4\n[chain]\nnetwork_difficulty = 65536\n";
    let pool = Pool::launch(crate::pool::Launch::config(newest));
    let mut session = Gateway::new().connect(&pool);
    work(&mut session);
    let split = ask_until(&mut session, 1, 2);
    let values: Vec<u64> = split.outputs.iter().map(|(value, _)| *value).collect();
    assert_eq!(values, [SUBSIDY * 3 / 4, SUBSIDY / 4], "the four newest shares");

    let alone = "[split]\nscheme = \"solo\"\nfee_ppm = 10000\n[chain]\nnetwork_difficulty = 65536\n";
    let pool = Pool::launch(crate::pool::Launch::config(alone));
    let mut session = Gateway::new().connect(&pool);
    work(&mut session);
    let plain = session.template(2, 1);
    let hash = find_block(&mut session, &plain, 700);
    wait_for_state(&pool, &hash, "candidate");
    let owed = balances(&pool);
    assert_sums(&owed);
    // The finder of the tests' own shares.
    assert_eq!(owed["fees"].as_u64(), Some(SUBSIDY / 100));
    assert_eq!(
        row(&owed, MINERS[0].0)["balance"].as_u64(),
        Some(SUBSIDY - SUBSIDY / 100)
    );
    assert_eq!(row(&owed, MINERS[1].0)["balance"].as_u64().unwrap_or(0), 0);
}
