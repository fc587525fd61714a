//! Where it is not known which of our blocks a parent stands on, its splits leave balances out: a block of ours that paid
//! them may stand below it, unseen. Such a split counts and is booked like any other, as what it is.

use std::process::Command;

use millrace::ledger::books::BlockState;
use millrace::ledger::{LedgerReader, Order};
use millrace::wire::{Reason, Share, Status};
use millrace::work::{Booking, Candidate, Chain, NetworkKind, Parent};
use serde_json::Value;

use crate::pool::gateway::Gateway;
use crate::pool::in_process::InProcess;
use crate::pool::session::{Heard, Session};
use crate::pool::split::{DIFFICULTY_POT, MINERS, Paid, Split, ask, ask_until, find_block, submit, template, work};
use crate::pool::work::{HEIGHT, NBITS, SUBSIDY};
use crate::pool::{binary, wait_until};

/// Parents by their first byte, as the tests name them.
const FIRST: u8 = 1;
const KNOWN: u8 = 3;
const UNKNOWN: u8 = 9;

/// As a node knows it that has seen these: any of them may be built on.
fn chain(parents: &[u8]) -> Chain {
    let parents: Vec<Parent> = parents
        .iter()
        .map(|parent| Parent {
            hash: [*parent; 32],
            next_height: HEIGHT,
            next_nbits: NBITS,
            easy_after_s: None,
            min_time: 0,
            subsidy: SUBSIDY,
            good_until_s: None,
            is_in_chain: true,
        })
        .collect();
    Chain::of_node(NetworkKind::Main, 32, &parents)
}

#[test]
fn a_split_for_an_unknown_parent_leaves_balances_out_and_is_booked_so() {
    let pool = InProcess::start(1 << DIFFICULTY_POT, chain(&[FIRST, KNOWN]));
    let mut session = pool.connect(&Gateway::new());
    work(&mut session);
    // A block that pays two of three: the third is owed.
    let first = ask_until(&mut session, KNOWN, 3);
    let owed = first.outputs[2].clone();
    let paying = template(&session, 1, KNOWN, &first.outputs[..2], first.coinbaser_id);
    let hash = find_block(&mut session, &paying, 400);
    wait_until(|| candidate(&pool, &hash).is_some(), || "no candidate".into());
    assert!(matches!(
        candidate(&pool, &hash).expect("it is there").booking,
        Booking::Pays(split) if split.with_balances
    ));
    for becomes in [BlockState::Maturing, BlockState::Mature] {
        let hash = as_hashed(&hash);
        wait_until(
            || pool.order(Order::Block { hash, becomes }).is_ok(),
            || format!("never {becomes}"),
        );
    }
    assert_eq!(balance(&pool, MINERS[2].0), Some(owed.0));

    // A known parent's split pays what is owed, an unknown one's does not, at the same time and for the same value.
    let (with, without) = ask_both_until(&mut session, |with| paid_to(with, &owed.1) > owed.0 / 2);
    let left_out = paid_to(&without, &owed.1);
    assert!(left_out < owed.0 / 100, "{left_out} of {}", owed.0);
    assert!(!without.outputs.is_empty(), "work is paid all the same");

    // Each is held to its own parent.
    let paying = template(&session, 2, UNKNOWN, &without.outputs, without.coinbaser_id);
    let share = paying.draft(500).mine_below(DIFFICULTY_POT);
    assert_eq!(status(&mut session, &share.with_sections()), Status::Tentative);
    let of_the_other = template(&session, 3, UNKNOWN, &with.outputs, with.coinbaser_id);
    assert_eq!(
        submit(&mut session, &of_the_other, 501),
        Err(Reason::BadCoinbaseOutputs)
    );

    // A block on it is booked by the split that it was: nothing of what is owed is paid.
    let mut block = paying.draft(600);
    block.pot = DIFFICULTY_POT;
    let block = block.mine();
    assert_eq!(status(&mut session, &block.with_sections()), Status::Tentative);
    let hash = shown(block.hash());
    wait_until(|| candidate(&pool, &hash).is_some(), || "no candidate".into());
    let found = candidate(&pool, &hash).expect("it is there");
    assert!(
        matches!(found.booking, Booking::Pays(split) if !split.with_balances),
        "{:?}",
        found.booking
    );
    wait_until(
        || ledger(&pool, &["audit", &hash]).is_some_and(|text| text.starts_with("holds")),
        || format!("{hash} is not booked as its split was dictated"),
    );
    let after = balance(&pool, MINERS[2].0).expect("a payee");
    assert!(after >= owed.0, "{after} of {} is still owed", owed.0);
}

#[test]
fn a_share_on_an_unknown_parent_counts_once_its_node_has_seen_it() {
    let pool = InProcess::start(1 << DIFFICULTY_POT, chain(&[FIRST]));
    let mut session = pool.connect(&Gateway::new());
    let known = session.template(0, FIRST);
    let first = known.draft(1).mine_below(DIFFICULTY_POT);
    assert_eq!(status(&mut session, &first.with_sections()), Status::Accepted);
    let unseen = session.template(1, UNKNOWN);
    let waiting = unseen.draft(2).mine_below(DIFFICULTY_POT);
    assert_eq!(status(&mut session, &waiting.with_sections()), Status::Tentative);
    assert_eq!(session.submit(&waiting.with_sections()), Err(Reason::DuplicateWork));
    assert_eq!(shares(&pool), 1, "it stands in no window");

    // The gateway is told of the block, once, and its work on it counts.
    pool.tell(chain(&[UNKNOWN, FIRST]), true);
    assert!(matches!(session.next_but_info(), Heard::NewBlock));
    wait_until(|| shares(&pool) == 2, || "what waited does not count".into());
    assert_eq!(session.submit(&waiting.with_sections()), Err(Reason::DuplicateWork));
    let next = unseen.draft(3).mine_below(DIFFICULTY_POT);
    assert_eq!(status(&mut session, &next.with_sections()), Status::Accepted);
}

#[test]
fn a_share_whose_parent_turns_out_otherwise_earns_nothing() {
    let pool = InProcess::start(1 << DIFFICULTY_POT, chain(&[FIRST]));
    let mut session = pool.connect(&Gateway::new());
    let unseen = session.template(0, UNKNOWN);
    let waiting = unseen.draft(1).mine_below(DIFFICULTY_POT);
    assert_eq!(status(&mut session, &waiting.with_sections()), Status::Tentative);
    let seen = Parent {
        hash: [UNKNOWN; 32],
        next_height: HEIGHT + 1,
        next_nbits: NBITS,
        easy_after_s: None,
        min_time: 0,
        subsidy: SUBSIDY,
        good_until_s: None,
        is_in_chain: true,
    };
    pool.tell(Chain::of_node(NetworkKind::Main, 32, &[seen]), false);
    judged(&pool);
    // Not even where another chain would have taken it.
    pool.tell(chain(&[UNKNOWN]), false);
    judged(&pool);
    assert_eq!(shares(&pool), 0);
    let again = session.submit(&waiting.with_sections());
    assert_eq!(again, Err(Reason::DuplicateWork), "it was answered once");
}

/// Waits until the books have judged by the chain they were told of last: an order is obeyed before, the next behind it.
fn judged(pool: &InProcess) {
    for _ in 0..2 {
        let same = Order::Difficulty(1 << DIFFICULTY_POT);
        pool.order(same).expect("nothing changes");
    }
}

fn status(session: &mut Session, share: &Share<'_>) -> Status {
    session.send(share);
    session.answer().expect("the session goes on").status
}

fn shares(pool: &InProcess) -> u64 {
    let stats: Value = serde_json::from_str(&ledger(pool, &["stats", "--json"]).expect("stats")).expect("JSON");
    stats["shares"].as_u64().expect("a number")
}

fn shown(mut hash: [u8; 32]) -> String {
    hash.reverse();
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Asks for a known and an unknown parent until the former's split is as wanted.
fn ask_both_until(session: &mut crate::pool::session::Session, wanted: impl Fn(&Split) -> bool) -> (Split, Split) {
    let mut latest = None;
    wait_until(
        || {
            let with = ask(session, SUBSIDY, KNOWN);
            let done = wanted(&with);
            latest = Some((with, ask(session, SUBSIDY, UNKNOWN)));
            done
        },
        || "no split pays what is owed".into(),
    );
    latest.expect("asked at least once")
}

/// Satoshi.
fn paid_to(split: &Split, script: &[u8]) -> u64 {
    let to_it = split.outputs.iter().filter(|(_, to): &&Paid| to == script);
    to_it.map(|(value, _)| value).sum()
}

fn candidate(pool: &InProcess, hash: &str) -> Option<Candidate> {
    let reader = LedgerReader::open(pool.data()).expect("a ledger beside its writer");
    let rows = reader.candidates().map(|row| row.expect("a sound row").1.candidate);
    rows.into_iter().find(|candidate| candidate.hash == as_hashed(hash))
}

/// The other order of bytes than people write.
fn as_hashed(hash: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (at, byte) in bytes.iter_mut().rev().enumerate() {
        *byte = u8::from_str_radix(&hash[2 * at..2 * at + 2], 16).expect("hex");
    }
    bytes
}

fn balance(pool: &InProcess, address: &str) -> Option<u64> {
    let balances: Value = serde_json::from_str(&ledger(pool, &["balances", "--json"])?).expect("JSON");
    let payees = balances["payees"].as_array().expect("a list");
    let row = payees.iter().find(|row| row["address"] == address)?;
    row["balance"].as_u64()
}

/// What `millrace ledger` prints, where it succeeds.
fn ledger(pool: &InProcess, args: &[&str]) -> Option<String> {
    let output = Command::new(binary())
        .arg("ledger")
        .args(args)
        .arg("--data-dir")
        .arg(pool.data())
        .output()
        .expect("the binary runs");
    let text = String::from_utf8(output.stdout).expect("text");
    output.status.success().then_some(text)
}
