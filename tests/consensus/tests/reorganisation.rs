//! Branches, and turning from one to another.

use bitcoin::{Block, BlockHash};
use millrace_consensus::Kind;
use serde_json::json;

use super::chain::{Chain, finish, mine};

/// An empty block on `parent`, told apart by `salt`.
fn empty_on(chain: &Chain, parent: BlockHash, height: i64, salt: u8) -> Block {
    let mut block = chain.next_block();
    block.txdata.truncate(1);
    block.header.prev_blockhash = parent;
    let coinbase = &mut block.txdata[0];
    coinbase.input[0].script_sig = bitcoin::script::Builder::new()
        .push_int(height)
        .push_slice([salt; 4])
        .into_script();
    coinbase.input[0].witness.clear();
    coinbase.output.truncate(1);
    coinbase.output[0].value = bitcoin::Amount::from_sat(millrace_consensus::subsidy(0));
    finish(&mut block);
    block
}

fn confirmations(chain: &Chain, hash: &BlockHash) -> i64 {
    chain.node.call("getblockheader", json!([hash.to_string()]))["confirmations"]
        .as_i64()
        .expect("a number")
}

fn status(chain: &Chain, hash: &BlockHash) -> String {
    let tips = chain.node.call("getchaintips", json!([]));
    let tips = tips.as_array().expect("a list");
    let tip = tips.iter().find(|tip| tip["hash"] == hash.to_string()).expect("a tip");
    tip["status"].as_str().expect("a word").to_owned()
}

#[test]
fn the_longer_branch_wins_and_transactions_come_back() {
    let mut chain = Chain::new();
    let coins = chain.spread(&Kind::USUAL);
    let (fork, height) = (chain.tip(), chain.height() as i64);
    for coin in &coins {
        chain.send(&chain.spend(coin, Kind::P2wpkh, 1_000));
    }
    let ours = chain.mine();
    assert_eq!(chain.node.call("getrawmempool", json!([])), json!([]));

    let theirs = empty_on(&chain, fork, height + 1, 1);
    assert_eq!(chain.submit(&theirs).as_deref(), Some("inconclusive"));
    assert_eq!(chain.tip(), ours);
    assert_eq!(confirmations(&chain, &theirs.block_hash()), -1);
    let longer = empty_on(&chain, theirs.block_hash(), height + 2, 1);
    assert_eq!(chain.submit(&longer), None);
    assert_eq!((chain.tip(), chain.height() as i64), (longer.block_hash(), height + 2));
    assert_eq!(
        (
            confirmations(&chain, &ours),
            confirmations(&chain, &theirs.block_hash())
        ),
        (-1, 2)
    );
    assert_eq!(status(&chain, &ours), "valid-fork");
    assert_eq!(status(&chain, &longer.block_hash()), "active");
    let waiting = chain.node.call("getrawmempool", json!([]));
    assert_eq!(waiting.as_array().expect("a list").len(), coins.len());
    // They fit the new branch as well.
    let block = chain.block(&chain.mine());
    assert_eq!(block.txdata.len(), coins.len() + 1);
}

#[test]
fn a_branch_whose_end_is_bad_brings_the_old_one_back() {
    let chain = Chain::new();
    let (fork, height) = (chain.tip(), chain.height() as i64);
    let ours = chain.mine();
    let theirs = empty_on(&chain, fork, height + 1, 2);
    assert_eq!(chain.submit(&theirs).as_deref(), Some("inconclusive"));
    let mut greedy = empty_on(&chain, theirs.block_hash(), height + 2, 2);
    greedy.txdata[0].output[0].value += bitcoin::Amount::from_sat(1);
    finish(&mut greedy);
    assert_eq!(chain.submit(&greedy).as_deref(), Some("bad-cb-amount"));
    assert_eq!(chain.height() as i64, height + 1);
    let tip = chain.tip();
    assert!(tip == ours || tip == theirs.block_hash());
    let mut above = empty_on(&chain, greedy.block_hash(), height + 3, 2);
    mine(&mut above);
    assert_eq!(chain.submit(&above).as_deref(), Some("bad-prevblk"));
}

#[test]
fn blocks_can_be_turned_away_from_and_back_to() {
    let mut chain = Chain::new();
    let coin = chain.coin();
    let fork = chain.tip();
    chain.send(&chain.spend(&coin, Kind::P2tr, 1_000));
    let (first, second) = (chain.mine(), chain.mine());
    chain.node.call("invalidateblock", json!([first.to_string()]));
    assert_eq!(chain.tip(), fork);
    assert_eq!(status(&chain, &second), "invalid");
    assert_eq!(
        chain
            .node
            .call("getrawmempool", json!([]))
            .as_array()
            .expect("a list")
            .len(),
        1
    );
    let known = chain.block(&first);
    assert_eq!(chain.submit(&known).as_deref(), Some("duplicate-invalid"));
    let other = chain.mine_to(Kind::P2tr);
    assert_ne!(other, first);
    chain.node.call("reconsiderblock", json!([first.to_string()]));
    assert_eq!(chain.tip(), second);
    assert_eq!(chain.node.call("getrawmempool", json!([])), json!([]));
    let unknown = chain.node.refuse("invalidateblock", json!(["00".repeat(32)]));
    assert_eq!((unknown.code, unknown.message.as_str()), (-5, "Block not found"));
}

/// Gateways send it after each block that they submit.
#[test]
fn a_precious_block_wins_a_tie() {
    let chain = Chain::new();
    let (fork, height) = (chain.tip(), chain.height() as i64);
    let ours = chain.mine();
    let theirs = empty_on(&chain, fork, height + 1, 3);
    assert_eq!(chain.submit(&theirs).as_deref(), Some("inconclusive"));
    let theirs = theirs.block_hash();
    for (precious, tip) in [(ours, ours), (theirs, theirs), (ours, ours), (fork, ours)] {
        chain.node.call("preciousblock", json!([precious.to_string()]));
        assert_eq!(chain.tip(), tip);
    }
    let unknown = chain.node.refuse("preciousblock", json!(["00".repeat(32)]));
    assert_eq!(unknown.code, -5);
}

#[test]
fn a_restart_keeps_every_branch() {
    let chain = Chain::new();
    let (fork, height) = (chain.tip(), chain.height() as i64);
    let ours = chain.mine();
    let theirs = empty_on(&chain, fork, height + 1, 4);
    assert_eq!(chain.submit(&theirs).as_deref(), Some("inconclusive"));
    // Whatever is written lazily is on disk after this.
    chain.node.call("getblockchaininfo", json!([]));
    if chain.node.is_bitcoind() {
        eprintln!("left out: a killed bitcoind loses what it has not flushed");
        return;
    }
    let Chain { node, miner, coins } = chain;
    let login = node.login();
    let node = node.restart();
    assert_ne!(node.login(), login, "a new cookie each start");
    let chain = Chain { node, miner, coins };
    assert_eq!(chain.tip(), ours);
    let longer = empty_on(&chain, theirs.block_hash(), height + 2, 4);
    assert_eq!(chain.submit(&longer), None);
    assert_eq!(chain.tip(), longer.block_hash());
}
