//! What the calls answer, as gateways and pools read it.

use std::time::{Duration, Instant};

use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::{Block, block::Header};
use millrace_consensus::{Kind, Wallet};
use serde_json::{Value, json};

use super::chain::{Chain, START, block_of, transactions};
use super::node::Node;

#[test]
fn the_chain_is_told_alike_everywhere() {
    let chain = Chain::new();
    let node = &chain.node;
    let info = node.call("getblockchaininfo", json!([]));
    let tip = chain.tip().to_string();
    assert_eq!(info["chain"], "regtest");
    assert_eq!((&info["blocks"], &info["headers"]), (&json!(START), &json!(START)));
    assert_eq!(info["bestblockhash"], tip);
    assert_eq!(info["initialblockdownload"], false);
    assert_eq!(node.call("getblockhash", json!([START])), tip);
    let beyond = node.refuse("getblockhash", json!([START + 1]));
    assert_eq!(
        (beyond.code, beyond.message.as_str()),
        (-8, "Block height out of range")
    );

    let header = node.call("getblockheader", json!([tip]));
    let raw = node.call("getblockheader", json!([tip, false]));
    let raw: Header = deserialize_hex(raw.as_str().expect("hex digits")).expect("a header");
    assert_eq!(raw.block_hash().to_string(), tip);
    assert_eq!(header["height"], START);
    assert_eq!(header["confirmations"], 1);
    assert_eq!(header["previousblockhash"], raw.prev_blockhash.to_string());
    assert_eq!(header["merkleroot"], raw.merkle_root.to_string());
    assert_eq!(
        (&header["time"], &header["bits"]),
        (&json!(raw.time), &json!("207fffff"))
    );
    assert_eq!(header["mediantime"], info["mediantime"]);
    assert_eq!(header["chainwork"], info["chainwork"]);
    // Two hashes for each block, genesis included.
    assert_eq!(info["chainwork"], format!("{:064x}", 2 * (START + 1)));
    assert!(header.get("nextblockhash").is_none());
    let parent = node.call("getblockheader", json!([raw.prev_blockhash.to_string()]));
    assert_eq!(
        (&parent["nextblockhash"], &parent["confirmations"]),
        (&json!(tip), &json!(2))
    );
    let unknown = node.refuse("getblockheader", json!(["00".repeat(32)]));
    assert_eq!((unknown.code, unknown.message.as_str()), (-5, "Block not found"));
}

#[test]
fn a_block_is_shown_in_three_ways() {
    let mut chain = Chain::new();
    for coin in chain.spread(&[Kind::P2wpkh, Kind::P2pkh]) {
        chain.send(&chain.spend(&coin, Kind::P2tr, 3_000));
    }
    let hash = chain.mine();
    let block: Block = chain.block(&hash);
    let listed = chain.node.call("getblock", json!([hash.to_string()]));
    let shown = chain.node.call("getblock", json!([hash.to_string(), 2]));
    assert_eq!(listed["nTx"], 3);
    assert_eq!(listed["weight"], block.weight().to_wu());
    assert_eq!(listed["size"], block.total_size());
    let stripped = (block.weight().to_wu() as usize - block.total_size()) / 3;
    assert_eq!(listed["strippedsize"], stripped);
    for (at, transaction) in block.txdata.iter().enumerate() {
        let txid = transaction.compute_txid().to_string();
        assert_eq!(listed["tx"][at], txid);
        let one = &shown["tx"][at];
        assert_eq!(one["txid"], txid);
        assert_eq!(one["hash"], transaction.compute_wtxid().to_string());
        assert_eq!(one["hex"], serialize_hex(transaction));
        assert_eq!(one["weight"], transaction.weight().to_wu());
        assert_eq!(one["vin"].as_array().expect("a list").len(), transaction.input.len());
        for (n, output) in transaction.output.iter().enumerate() {
            let shown = &one["vout"][n];
            assert_eq!(shown["value"].as_f64(), Some(output.value.to_btc()));
            assert_eq!(shown["scriptPubKey"]["hex"], output.script_pubkey.to_hex_string());
        }
        let raw = chain
            .node
            .call("getrawtransaction", json!([txid, false, hash.to_string()]));
        assert_eq!(raw, serialize_hex(transaction));
    }
    assert_eq!(shown["tx"][1]["vout"][0]["scriptPubKey"]["type"], "witness_v1_taproot");
}

#[test]
fn a_template_is_whole() {
    let mut chain = Chain::new();
    let coins = chain.spread(&Kind::USUAL);
    for coin in &coins {
        chain.send(&chain.spend(coin, Kind::P2wpkh, 1_500));
    }
    let without = chain.node.refuse("getblocktemplate", json!([{}]));
    assert_eq!(without.code, -8);
    assert!(without.message.contains("segwit"));
    let template = chain.template();
    assert_eq!(template["height"], START + 2);
    assert_eq!(template["previousblockhash"], chain.tip().to_string());
    assert_eq!(template["bits"], "207fffff");
    assert_eq!(template["target"], format!("7fffff{}", "0".repeat(58)));
    assert_eq!(
        template["coinbasevalue"],
        5_000_000_000_u64 + 1_500 * coins.len() as u64
    );
    assert_eq!(
        (&template["sigoplimit"], &template["sizelimit"]),
        (&json!(80_000), &json!(4_000_000))
    );
    assert_eq!(template["weightlimit"], 4_000_000);
    assert!(template["curtime"].as_u64() >= template["mintime"].as_u64());
    assert!(
        template["longpollid"]
            .as_str()
            .expect("text")
            .starts_with(&chain.tip().to_string())
    );
    let mediantime = chain.node.call("getblockchaininfo", json!([]))["mediantime"]
        .as_u64()
        .expect("a time");
    assert_eq!(template["mintime"], mediantime + 1);
    for (one, transaction) in template["transactions"]
        .as_array()
        .expect("a list")
        .iter()
        .zip(transactions(&template))
    {
        assert_eq!(one["txid"], transaction.compute_txid().to_string());
        assert_eq!(one["hash"], transaction.compute_wtxid().to_string());
        assert_eq!(one["weight"], transaction.weight().to_wu());
        assert_eq!((&one["fee"], &one["depends"]), (&json!(1_500), &json!([])));
    }
    // Of the input: none under the witness of a key path, 1 under others, 4 in a legacy script, if it shows them there.
    let mut sigops: Vec<_> = template["transactions"]
        .as_array()
        .expect("a list")
        .iter()
        .map(|one| one["sigops"].as_u64().expect("a number"))
        .collect();
    sigops.sort_unstable();
    assert_eq!(sigops, [0, 0, 1, 1, 1]);
    let block = block_of(&template, &chain.miner.output(0, Kind::P2wpkh));
    assert_eq!(chain.propose(&block), None);
    assert_eq!(chain.height(), u64::from(START) + 1, "a proposal is not connected");
    assert_eq!(chain.submit(&block), None);
}

#[test]
fn proposals_may_follow_each_other() {
    let mut chain = Chain::new();
    let coin = chain.coin();
    for turn in 0..3 {
        let mut block = chain.next_block();
        for _ in 0..2 {
            assert_eq!(chain.propose(&block), None);
            let mut bad = block.clone();
            bad.txdata[0].output[0].value += bitcoin::Amount::from_sat(1);
            super::chain::finish(&mut bad);
            assert_eq!(chain.propose(&bad).as_deref(), Some("bad-cb-amount"));
            assert_eq!(chain.propose(&bad).as_deref(), Some("bad-cb-amount"));
        }
        // It needs no work.
        while block.header.target().is_met_by(block.block_hash()) {
            block.header.nonce += 1;
        }
        assert_eq!(chain.propose(&block), None);
        if turn == 1 {
            chain.send(&chain.spend(&coin, Kind::P2wpkh, 1_000));
        }
        chain.mine();
    }
    let failure = chain
        .node
        .refuse("getblocktemplate", json!([{"mode": "proposal", "rules": ["segwit"]}]));
    assert_eq!(failure.code, -3);
    let failure = chain.node.refuse(
        "getblocktemplate",
        json!([{"mode": "proposal", "rules": ["segwit"], "data": "00"}]),
    );
    assert_eq!((failure.code, failure.message.as_str()), (-22, "Block decode failed"));
    let failure = chain.node.refuse("submitblock", json!(["00"]));
    assert_eq!((failure.code, failure.message.as_str()), (-22, "Block decode failed"));
}

#[test]
fn a_long_poll_ends_with_the_tip() {
    let chain = Chain::new();
    let id = chain.template()["longpollid"].clone();
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| {
            let template = chain
                .node
                .call("getblocktemplate", json!([{"rules": ["segwit"], "longpollid": id}]));
            (Instant::now(), template)
        });
        std::thread::sleep(Duration::from_millis(300));
        let before = Instant::now();
        assert!(!waiting.is_finished(), "it waits");
        let tip = chain.mine();
        let (ended, template) = waiting.join().expect("it ends");
        assert!(ended > before);
        assert_eq!(template["previousblockhash"], tip.to_string());
    });
    // One that names another tip is answered at once.
    let old = json!([{"rules": ["segwit"], "longpollid": id}]);
    assert_eq!(chain.node.call("getblocktemplate", old)["height"], START + 2);
}

#[test]
fn wrong_requests_are_refused_as_bitcoind_does_it() {
    let node = Node::start();
    let body = |method: &str| json!({"id": 1, "method": method, "params": []}).to_string();
    assert_eq!(node.post("__cookie__:wrong", &body("getblockcount")).0, 401);
    assert_eq!(node.post(&node.login(), &body("getblockcount")).0, 200);
    assert_eq!(node.post(&node.login(), &body("nosuchcall")).0, 404);
    assert_eq!(
        node.post(
            &node.login(),
            &json!({"id": 1, "method": "getblockhash", "params": [9]}).to_string()
        )
        .0,
        500
    );
    assert_eq!(node.refuse("nosuchcall", json!([])).code, -32_601);
    let (status, answer) = node.post(&node.login(), "{");
    assert_eq!(
        (
            status,
            serde_json::from_str::<Value>(&answer).expect("JSON")["error"]["code"].clone()
        ),
        (500, json!(-32_700))
    );
    let batch = json!([
        {"id": "a", "method": "getblockcount"},
        {"id": "b", "method": "nosuchcall"},
        {"jsonrpc": "2.0", "id": "c", "method": "getblockhash", "params": [0]},
    ]);
    let (status, answer) = node.post(&node.login(), &batch.to_string());
    let answer: Value = serde_json::from_str(&answer).expect("JSON");
    assert_eq!(status, 200);
    assert_eq!((&answer[0]["id"], &answer[0]["result"]), (&json!("a"), &json!(0)));
    assert_eq!(answer[1]["error"]["code"], -32_601);
    assert_eq!((&answer[2]["jsonrpc"], answer[2].get("error")), (&json!("2.0"), None));
    assert_eq!(answer[2]["result"].as_str().expect("a hash").len(), 64);
}

#[test]
fn what_else_is_asked() {
    let node = Node::start();
    // Genesis is of 2011, so a node that has nothing else thinks that it is far behind.
    assert_eq!(node.call("getblockchaininfo", json!([]))["initialblockdownload"], true);
    let network = node.call("getnetworkinfo", json!([]));
    assert!(network["version"].as_u64().expect("a number") > 200_000 && network["subversion"].is_string());
    let mining = node.call("getmininginfo", json!([]));
    assert_eq!((&mining["blocks"], &mining["chain"]), (&json!(0), &json!("regtest")));
    let wallet = Wallet::new("a");
    for kind in Kind::USUAL {
        let address = wallet.address(kind).to_string();
        let answer = node.call("validateaddress", json!([address]));
        assert_eq!(
            (&answer["isvalid"], &answer["address"]),
            (&json!(true), &json!(address))
        );
        assert_eq!(answer["scriptPubKey"], wallet.script(kind).to_hex_string());
    }
    let mainnet = node.call("validateaddress", json!(["bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"]));
    assert_eq!(mainnet["isvalid"], false);
    assert!(node.call("uptime", json!([])).is_u64());
    if node.publishes() {
        let topics = node.call("getzmqnotifications", json!([]));
        assert_eq!(topics.as_array().expect("a list").len(), 3);
    }
}

#[test]
fn stop_ends_it() {
    let mut node = Node::start();
    let cookie = node.at().cookie.clone();
    assert!(node.call("stop", json!([])).is_string());
    assert!(node.ends());
    assert!(!cookie.exists());
}
