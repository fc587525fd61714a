//! What is published over ZMQ.

use std::time::Duration;

use bitcoin::consensus::deserialize;
use bitcoin::{Block, BlockHash};
use millrace_consensus::Kind;
use serde_json::json;
use zeromq::{Socket, SocketRecv, SubSocket};

use super::chain::Chain;
use super::node::{Node, PATIENCE};

/// A subscriber to all three topics.
struct Subscriber {
    runtime: tokio::runtime::Runtime,
    socket: SubSocket,
    numbers: std::collections::HashMap<String, u32>,
}

/// Topic and body.
type Published = (String, Vec<u8>);

impl Subscriber {
    fn new(node: &Node) -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .expect("a runtime");
        let mut socket = SubSocket::new();
        runtime.block_on(async {
            socket.connect(&node.at().zmq).await.expect("it connects");
            for topic in ["hashblock", "rawblock", "sequence"] {
                socket.subscribe(topic).await.expect("it subscribes");
            }
        });
        Self {
            runtime,
            socket,
            numbers: std::collections::HashMap::new(),
        }
    }

    /// Mines until something arrives: a subscription takes a while to be heard of, and nothing says when it is.
    fn wait_until_heard(&mut self, chain: &Chain) {
        let mut mined = chain.mine();
        loop {
            match self.next_within(Duration::from_millis(500)) {
                Some((topic, body)) if topic == "rawblock" => {
                    let block: Block = deserialize(&body).expect("a block");
                    if block.block_hash() == mined {
                        return;
                    }
                }
                Some(_) => {}
                None => mined = chain.mine(),
            }
        }
    }

    fn next(&mut self) -> Published {
        self.next_within(PATIENCE).expect("something is published")
    }

    fn next_within(&mut self, patience: Duration) -> Option<Published> {
        let socket = &mut self.socket;
        let message = self
            .runtime
            .block_on(async { tokio::time::timeout(patience, socket.recv()).await });
        let frames = message.ok()?.expect("a message").into_vec();
        let [topic, body, number] = &frames[..] else {
            panic!("three frames")
        };
        let topic = String::from_utf8(topic.to_vec()).expect("text");
        let number = u32::from_le_bytes(number[..].try_into().expect("4 bytes"));
        if let Some(before) = self.numbers.insert(topic.clone(), number) {
            assert_eq!(number, before + 1, "{topic}: none is left out");
        }
        Some((topic, body.to_vec()))
    }

    /// The next one of a topic.
    fn next_of(&mut self, topic: &str) -> Vec<u8> {
        loop {
            let (found, body) = self.next();
            if found == topic {
                return body;
            }
        }
    }
}

fn sequence(hash: &str, label: u8) -> Vec<u8> {
    use bitcoin::hex::FromHex;
    let mut body = Vec::from_hex(hash).expect("hex digits");
    body.push(label);
    body
}

#[test]
fn a_new_tip_is_published_in_three_ways() {
    let chain = Chain::new();
    if !chain.node.publishes() {
        return;
    }
    let mut subscriber = Subscriber::new(&chain.node);
    subscriber.wait_until_heard(&chain);
    for _ in 0..3 {
        let hash = chain.mine();
        let mut published: Vec<_> = (0..3).map(|_| subscriber.next()).collect();
        published.sort();
        let raw: Block = deserialize(&published[1].1).expect("a block");
        assert_eq!(
            published[0],
            ("hashblock".to_owned(), sequence(&hash.to_string(), 0)[..32].to_vec())
        );
        assert_eq!((published[1].0.as_str(), raw.block_hash()), ("rawblock", hash));
        assert_eq!(published[2], ("sequence".to_owned(), sequence(&hash.to_string(), b'C')));
    }
}

#[test]
fn transactions_and_reorganisations_are_published_in_order() {
    let mut chain = Chain::new();
    if !chain.node.publishes() {
        return;
    }
    let coin = chain.coin();
    let mut subscriber = Subscriber::new(&chain.node);
    subscriber.wait_until_heard(&chain);

    let transaction = chain.spend(&coin, Kind::P2wpkh, 1_000);
    chain.send(&transaction);
    let added = subscriber.next_of("sequence");
    assert_eq!(added[..33], sequence(&transaction.compute_txid().to_string(), b'A'));
    assert_eq!(added.len(), 33 + 8);

    let (first, second) = (chain.mine(), chain.mine());
    for hash in [first, second] {
        assert_eq!(subscriber.next_of("sequence"), sequence(&hash.to_string(), b'C'));
    }
    chain.node.call("invalidateblock", json!([first.to_string()]));
    for hash in [second, first] {
        assert_eq!(subscriber.next_of("sequence"), sequence(&hash.to_string(), b'D'));
    }
    // It waits again.
    let again = subscriber.next_of("sequence");
    assert_eq!(again[..33], sequence(&transaction.compute_txid().to_string(), b'A'));
    chain.node.call("reconsiderblock", json!([first.to_string()]));
    for hash in [first, second] {
        assert_eq!(subscriber.next_of("sequence"), sequence(&hash.to_string(), b'C'));
    }
    // The last of a reorganisation's tips is the one that stands.
    let hash = loop {
        let hash = subscriber.next_of("hashblock");
        if hash == sequence(&second.to_string(), 0)[..32] {
            break second;
        }
    };
    assert_eq!(chain.tip(), hash);
}

#[test]
fn a_silent_node_publishes_nothing() {
    let Some(node) = Node::start_regtest_node(&[]) else {
        return;
    };
    let chain = Chain::on(node);
    let mut subscriber = Subscriber::new(&chain.node);
    subscriber.wait_until_heard(&chain);
    chain.node.call("setfaults", json!([{"silent": true}]));
    let unheard: BlockHash = chain.mine();
    chain.node.call("setfaults", json!([{}]));
    let heard = chain.mine();
    let hash = subscriber.next_of("hashblock");
    assert_eq!(hash, sequence(&heard.to_string(), 0)[..32]);
    assert_ne!(unheard, heard);
}
