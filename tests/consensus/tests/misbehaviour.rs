//! What bitcoind does not have: a node that misbehaves on demand and says what it was asked, for tests of what depends on one.

use std::time::{Duration, Instant};

use serde_json::json;

use super::chain::{Chain, finish};
use super::node::Node;

#[test]
fn faults_come_and_go() {
    let Some(node) = Node::start_regtest_node(&[]) else {
        return;
    };
    let truth = node.call("getblockchaininfo", json!([]));
    node.call(
        "setfaults",
        json!([{"initial_block_download": false, "chain": "main", "best_block": "ab".repeat(32)}]),
    );
    let lie = node.call("getblockchaininfo", json!([]));
    assert_eq!(
        (&lie["chain"], &lie["initialblockdownload"]),
        (&json!("main"), &json!(false))
    );
    assert_eq!(
        (&lie["bestblockhash"], &node.call("getbestblockhash", json!([]))),
        (&json!("ab".repeat(32)), &lie["bestblockhash"])
    );

    node.call("setfaults", json!([{"warming_up": true}]));
    assert_eq!(node.refuse("getblockcount", json!([])).code, -28);
    node.call("setfaults", json!([{"delay_ms": 200}]));
    let start = Instant::now();
    node.call("getblockcount", json!([]));
    assert!(start.elapsed() >= Duration::from_millis(200));
    node.call("setfaults", json!([{}]));
    assert_eq!(node.call("getblockchaininfo", json!([])), truth);
    assert_eq!(node.refuse("setfaults", json!([{"nonsense": 1}])).code, -8);
    assert_eq!(node.refuse("setfaults", json!([{"delay_ms": 600_001}])).code, -8);
}

#[test]
fn user_and_password_are_taken_beside_the_cookie() {
    let Some(node) = Node::start_regtest_node(&["--rpcuser", "pool", "--rpcpassword", "secret"]) else {
        return;
    };
    let body = json!({"id": 1, "method": "getblockcount"}).to_string();
    for (login, status) in [("pool:secret", 200), (&node.login(), 200), ("pool:", 401), ("", 401)] {
        assert_eq!(node.post(login, &body).0, status, "{login}");
    }
}

#[test]
fn a_chain_can_be_grown_ahead() {
    let Some(node) = Node::start_regtest_node(&["--start-height", "17"]) else {
        return;
    };
    let info = node.call("getblockchaininfo", json!([]));
    assert_eq!(
        (&info["blocks"], &info["initialblockdownload"]),
        (&json!(17), &json!(false))
    );
    let times: Vec<_> = (1..=17)
        .map(|height| {
            let hash = node.call("getblockhash", json!([height]));
            node.call("getblockheader", json!([hash]))["time"]
                .as_i64()
                .expect("a time")
        })
        .collect();
    assert!(times.windows(2).all(|pair| pair[1] - pair[0] == 60), "{times:?}");
}

#[test]
fn what_was_proposed_is_told_once() {
    let Some(node) = Node::start_regtest_node(&[]) else {
        return;
    };
    let chain = Chain::on(node);
    let good = chain.next_block();
    let mut bad = good.clone();
    bad.txdata[0].output[0].value += bitcoin::Amount::from_sat(1);
    finish(&mut bad);
    for (block, word) in [(&good, None), (&bad, Some("bad-cb-amount"))] {
        assert_eq!(chain.propose(block).as_deref(), word);
    }
    let weight = good.weight().to_wu();
    assert_eq!(
        chain.node.call("takeproposed", json!([])),
        json!([
            {"transactions": 1, "weight": weight, "word": null},
            {"transactions": 1, "weight": weight, "word": "bad-cb-amount"},
        ])
    );
    assert_eq!(chain.node.call("takeproposed", json!([])), json!([]));
}
