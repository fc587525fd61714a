//! Deep reorganisations: blocks of ours leave the books and come back to them, mature ones too, and somebody hears of it.

use serde_json::Value;
use tempfile::TempDir;

use crate::follows_nodes::{find_block, pool, wait_for_state};
use crate::pool::gateway::Gateway;
use crate::pool::node::{FIRST, StubNode};
use crate::pool::work::SUBSIDY;
use crate::pool::{Pool, wait_until};

/// The chain loses so many blocks for a branch that is one longer, among them the block, and comes back to them.
fn lose_and_come_back(pool: &Pool, node: &StubNode, hash: &[u8; 32], blocks: usize, state: &str) {
    wait_until(
        || pool.metric("millrace_chain_searched_height", &[]) == u64::from(node.state().height()),
        || "the tip is not followed".into(),
    );
    node.state().leave(blocks, 0xe0);
    wait_for_state(pool, hash, "orphaned");
    node.state().come_back();
    node.grow(2);
    wait_for_state(pool, hash, state);
}

fn most(pool: &Pool) -> u64 {
    pool.metric("millrace_chain_reorganised_most", &[])
}

#[test]
fn a_block_leaves_the_books_with_its_chain_however_deep_and_comes_back_with_it() {
    let folder = TempDir::new().expect("a folder");
    let node = StubNode::start(folder.path(), "a");
    let mut pool = pool(&[&node]);
    let mut session = Gateway::new().connect(&pool);
    let template = session.template(0, FIRST);
    let hash = find_block(&mut session, &template, 1);
    wait_for_state(&pool, &hash, "maturing");
    node.grow(9);
    lose_and_come_back(&pool, &node, &hash, 10, "maturing");
    // As deep again on the way back, as the other branch was one longer.
    assert_eq!(most(&pool), 11);
    assert_eq!(pool.metric("millrace_chain_reorganisations_total", &[]), 2);
    assert!(pool.log().contains("a deep reorganisation"), "{}", pool.log());

    node.grow(100);
    wait_for_state(&pool, &hash, "mature");
    assert_eq!(pool.metric("millrace_blocks_mature_lost_total", &[]), 0);
    // It is watched by the next process as well.
    pool.kill();
    pool.restart();
    node.grow(8);
    let confirmations = node.state().best.len() - 1;
    assert_eq!(confirmations, 120);
    lose_and_come_back(&pool, &node, &hash, 120, "mature");
    assert_eq!(most(&pool), 121);
    assert_eq!(pool.metric("millrace_blocks_mature_lost_total", &[]), 1);
    assert!(pool.log().contains("the chain has lost a mature block of ours"));

    // Deeper than the pool knows the chain: it says so, and the block is watched all the same.
    node.grow(40);
    lose_and_come_back(&pool, &node, &hash, 162, "mature");
    assert_eq!(most(&pool), 144);
    assert!(
        pool.log().contains("deeper than what is known of the chain"),
        "{}",
        pool.log()
    );
    let verified = pool.ledger_text(&["verify"]);
    assert!(verified.starts_with("sound"), "{verified}");
}

#[test]
fn a_node_that_comes_back_with_another_chain_takes_nothing_from_the_books_twice() {
    let folder = TempDir::new().expect("a folder");
    let node = StubNode::start(folder.path(), "a");
    let pool = pool(&[&node]);
    let mut session = Gateway::new().connect(&pool);
    let template = session.template(0, FIRST);
    let hash = find_block(&mut session, &template, 1);
    wait_for_state(&pool, &hash, "maturing");
    // Down: what is known stands, and work on it counts.
    node.state().refuses = true;
    wait_until(|| pool.metric("millrace_node_up", &[]) == 0, || "nobody noticed".into());
    node.state().leave(1, 0xe0);
    node.state().refuses = false;
    wait_for_state(&pool, &hash, "orphaned");
    node.state().refuses = true;
    wait_until(|| pool.metric("millrace_node_up", &[]) == 0, || "nobody noticed".into());
    node.state().come_back();
    node.grow(2);
    node.state().refuses = false;
    wait_for_state(&pool, &hash, "maturing");
    // Undone once and booked again: what the pool got is that of one block, and the window is as it was.
    let balances: Value = serde_json::from_str(&pool.ledger_text(&["balances", "--json"])).expect("JSON");
    assert_eq!(balances["to_pool"], SUBSIDY, "{balances}");
    let verified = pool.ledger_text(&["verify"]);
    assert!(verified.starts_with("sound"), "{verified}");
}
