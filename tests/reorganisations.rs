//! Deep reorganisations: blocks of ours leave the books and come back to them, mature ones too, and somebody hears of it.

use serde_json::Value;
use tempfile::TempDir;

use crate::follows_nodes::{find_block, pool, wait_for_state};
use crate::node_failover::on_tip_of;
use crate::pool::gateway::Gateway;
use crate::pool::node::{FIRST, StubNode, shown};
use crate::pool::work::SUBSIDY;
use crate::pool::{Pool, wait_until};

/// The chain loses so many blocks for a branch that is one longer, among them the block, and comes back to them.
fn lose_and_come_back(pool: &Pool, node: &StubNode, hash: &[u8; 32], blocks: usize, state: &str) {
    let wait_for_tip = |metric| {
        wait_until(
            || pool.metric(metric, &[]) == u64::from(node.state().height()),
            || "the tip is not followed".into(),
        );
    };
    wait_for_tip("millrace_chain_searched_height");
    node.state().leave(blocks, 0xe0);
    wait_for_state(pool, hash, "orphaned");
    // A look that the tip before brought may have found that first.
    wait_for_tip("millrace_chain_tip_height");
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

#[test]
fn an_orphan_of_long_ago_is_brought_to_nobody_by_the_next_process() {
    let folder = TempDir::new().expect("a folder");
    let node = StubNode::start(folder.path(), "a");
    let mut pool = pool(&[&node]);
    let gateway = Gateway::new();
    let mut session = gateway.connect(&pool);
    let template = session.template(0, FIRST);
    let orphan = find_block(&mut session, &template, 1);
    wait_for_state(&pool, &orphan, "maturing");
    node.state().leave(1, 0xe0);
    wait_for_state(&pool, &orphan, "orphaned");
    drop(session);
    pool.kill();
    // So deep that nothing becomes of it any more; and the node has been downloaded anew.
    (0..3).for_each(|_| node.grow(100));
    {
        let mut state = node.state();
        state.beside.clear();
        state.asked.clear();
    }
    pool.restart();
    // When the next is with the node the former would have been brought.
    let mut session = gateway.connect(&pool);
    let next = on_tip_of(&node, &session);
    let hash = find_block(&mut session, &next, 2);
    wait_for_state(&pool, &hash, "maturing");
    let state = node.state();
    let submitted = state.asked.iter().filter(|(method, _)| method == "submitblock");
    assert_eq!(submitted.count(), 1);
    let is_of_orphan = |(_, params): &(String, Value)| params[0] == shown(&orphan);
    assert!(!state.asked.iter().any(is_of_orphan), "nobody looks at it");
}
