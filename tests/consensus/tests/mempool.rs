//! Transactions on their way into a block.

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{OutPoint, Sequence};
use millrace_consensus::{Coin, Kind};
use serde_json::{Value, json};

use super::chain::{Chain, START, coinbase_coin};
use super::node::{Failure, Node};

/// What `sendrawtransaction` refuses it with.
fn refused(chain: &Chain, transaction: &bitcoin::Transaction) -> Failure {
    chain
        .node
        .refuse("sendrawtransaction", json!([serialize_hex(transaction)]))
}

#[test]
fn what_cannot_be_mined_is_refused() {
    let mut chain = Chain::new();
    let coin = chain.coin();
    let good = chain.spend(&coin, Kind::P2wpkh, 2_000);

    let mut forged = good.clone();
    forged.output[0].value -= bitcoin::Amount::from_sat(1);
    let failure = refused(&chain, &forged);
    assert_eq!(failure.code, -26);
    assert!(failure.message.contains("script-verify-flag-failed"), "{failure}");

    let young = coinbase_coin(&chain.node, START);
    let failure = refused(&chain, &chain.spend(&young, Kind::P2wpkh, 2_000));
    assert_eq!(failure.code, -26);
    assert!(
        failure.message.contains("bad-txns-premature-spend-of-coinbase"),
        "{failure}"
    );

    let mut greedy = good.clone();
    greedy.output[0].value += bitcoin::Amount::from_sat(10_000);
    assert!(refused(&chain, &greedy).message.contains("bad-txns-in-belowout"));

    let mut late = good.clone();
    late.lock_time = bitcoin::absolute::LockTime::from_consensus(START + 1);
    late.input[0].sequence = Sequence::ENABLE_LOCKTIME_NO_RBF;
    assert!(refused(&chain, &late).message.contains("non-final"));

    let unknown = Coin {
        outpoint: OutPoint {
            txid: bitcoin::hashes::Hash::all_zeros(),
            vout: 3,
        },
        ..coin.clone()
    };
    let failure = refused(&chain, &chain.spend(&unknown, Kind::P2wpkh, 2_000));
    assert_eq!(failure.code, -25);
    let undecodable = chain.node.refuse("sendrawtransaction", json!(["00"]));
    assert_eq!(undecodable.code, -22);

    let tested = chain.node.call("testmempoolaccept", json!([[serialize_hex(&good)]]));
    assert_eq!(
        (&tested[0]["allowed"], &tested[0]["txid"]),
        (&json!(true), &json!(good.compute_txid().to_string()))
    );
    let tested = chain.node.call("testmempoolaccept", json!([[serialize_hex(&forged)]]));
    assert_eq!(tested[0]["allowed"], false);
    assert_eq!(chain.node.call("getrawmempool", json!([])), json!([]));

    chain.send(&good);
    // Again is no fault; once it is in a block, it is one.
    chain.send(&good);
    chain.mine();
    assert_eq!(refused(&chain, &good).code, -27);
}

#[test]
fn entries_are_told_with_their_relations() {
    let mut chain = Chain::new();
    let coin = chain.coin();
    let parent = chain.spend(&coin, Kind::P2wsh, 2_000);
    let of_parent = Coin {
        outpoint: OutPoint {
            txid: parent.compute_txid(),
            vout: 0,
        },
        value: coin.value - 2_000,
        kind: Kind::P2wsh,
    };
    let child = chain.spend(&of_parent, Kind::P2tr, 3_000);
    chain.send(&parent);
    chain.send(&child);
    let (parent_id, child_id) = (parent.compute_txid().to_string(), child.compute_txid().to_string());

    let entries = chain.node.call("getrawmempool", json!([true]));
    let entry = &entries[&child_id];
    assert_eq!(entry["wtxid"], child.compute_wtxid().to_string());
    assert_eq!(entry["weight"], child.weight().to_wu());
    assert_eq!(entry["vsize"], child.vsize());
    assert_eq!(entry["fees"]["base"].as_f64(), Some(0.00003));
    assert_eq!(
        (&entry["depends"], &entry["height"]),
        (&json!([parent_id]), &json!(START))
    );
    assert_eq!(entries[&parent_id]["spentby"], json!([child_id]));
    assert_eq!(&chain.node.call("getmempoolentry", json!([child_id])), entry);
    assert_eq!(chain.node.refuse("getmempoolentry", json!(["00".repeat(32)])).code, -5);
    assert_eq!(chain.node.call("getmempoolinfo", json!([]))["size"], 2);
    assert_eq!(
        chain.node.call("getrawtransaction", json!([child_id])),
        serialize_hex(&child)
    );
    let sequenced = chain.node.call("getrawmempool", json!([false, true]));
    assert_eq!(sequenced["txids"].as_array().expect("a list").len(), 2);
    assert!(sequenced["mempool_sequence"].is_u64());

    // Parents first, and numbered from 1.
    let template = chain.template();
    let listed: Vec<_> = template["transactions"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| &one["txid"])
        .collect();
    assert_eq!(listed, [&json!(parent_id), &json!(child_id)]);
    assert_eq!(template["transactions"][1]["depends"], json!([1]));
    // A coin is there until somebody wants it.
    let unspent = |outpoint: &OutPoint| {
        chain
            .node
            .call("gettxout", json!([outpoint.txid.to_string(), outpoint.vout]))
    };
    assert_eq!(unspent(&coin.outpoint), Value::Null);
    let new = OutPoint {
        txid: child.compute_txid(),
        vout: 0,
    };
    assert_eq!(unspent(&new)["confirmations"], 0);
    chain.mine();
    assert_eq!(unspent(&new)["confirmations"], 1);
}

#[test]
fn a_block_takes_what_contradicts_it_out_of_the_mempool() {
    let mut chain = Chain::new();
    let coin = chain.coin();
    let (ours, theirs) = (
        chain.spend(&coin, Kind::P2wpkh, 2_000),
        chain.spend(&coin, Kind::P2tr, 4_000),
    );
    let empty = chain.template();
    chain.send(&ours);
    let mut with_theirs = empty;
    with_theirs["transactions"] = json!([{"data": serialize_hex(&theirs)}]);
    let mut block = super::chain::block_of(&with_theirs, &chain.miner.output(0, Kind::P2wpkh));
    let root = block.witness_root().expect("there is a coinbase");
    let commitment = bitcoin::Block::compute_witness_commitment(&root, &[0; 32]);
    let script = [&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed][..], commitment.as_ref()].concat();
    block.txdata[0].output[1].script_pubkey = bitcoin::ScriptBuf::from_bytes(script);
    super::chain::finish(&mut block);
    assert_eq!(chain.submit(&block), None);
    assert_eq!(chain.node.call("getrawmempool", json!([])), json!([]));
    assert_eq!(refused(&chain, &ours).code, -25);
}

#[test]
fn a_full_block_can_be_made() {
    let Some(node) = Node::start_regtest_node(&["--start-height", "112"]) else {
        return;
    };
    assert_eq!(node.call("getblockcount", json!([])), 112);
    let txids = node.call("fillmempool", json!([40, 3_980_000]));
    assert_eq!(txids.as_array().expect("a list").len(), 40);
    let template = node.call("getblocktemplate", json!([{"rules": ["segwit"]}]));
    let weight: u64 = template["transactions"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["weight"].as_u64().expect("a weight"))
        .sum();
    assert!((3_950_000..3_992_000).contains(&weight), "{weight}");
    let address = millrace_consensus::Wallet::new("a").address(Kind::P2wpkh).to_string();
    let hash = node.call("generatetoaddress", json!([1, address]))[0].clone();
    let block = node.call("getblock", json!([hash, 1]));
    assert_eq!(block["nTx"], 41);
    assert!(block["size"].as_u64().expect("bytes") > 3_800_000);

    let txids = node.call("fillmempool", json!([5_000]));
    assert_eq!(txids.as_array().expect("a list").len(), 5_000);
    let hash = node.call("generatetoaddress", json!([1, address]))[0].clone();
    let count = node.call("getblock", json!([hash, 1]))["nTx"]
        .as_u64()
        .expect("a number");
    assert!((4_000..=5_001).contains(&count), "as many as fit: {count}");
    let spent = node.refuse("fillmempool", json!([100_000]));
    assert!(spent.message.contains("mature coins"), "{spent}");
}
