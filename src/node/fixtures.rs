//! What tests of several parts of the node's side stand on.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::Node;
use super::follow::NewTip;
use crate::config::{NodeConfig, NodeLogin};
use crate::wire::{Reason, Transactions, coinbase_transaction};
use crate::work::known::tests::header_over;
use crate::work::{Answer, Booking, Candidate, Chain, TemplateBody, ValidateOutcome};

/// The first block of the dev chain, with the first node.
pub fn tip() -> NewTip {
    NewTip {
        chain: Arc::new(Chain::dev(1)),
        is_new_block: true,
        difficulty: 1,
        lost: Some(0),
        height: 1,
        node: 0,
        heard_ns: 0,
    }
}

/// A node there, whose cookie lies in the folder.
pub fn config_of(folder: &Path, rpc: SocketAddr) -> NodeConfig {
    let login = folder.join("cookie");
    std::fs::write(&login, "__cookie__:secret").expect("a file");
    NodeConfig {
        rpc,
        login: NodeLogin::Cookie(login),
        zmq: Vec::new(),
    }
}

pub fn node_at(folder: &Path, rpc: SocketAddr) -> Node {
    Node::new(&config_of(folder, rpc), Arc::default())
}

/// What a node is called with.
pub async fn read_call(stream: &mut TcpStream) -> Value {
    let mut asked = Vec::new();
    while !asked.ends_with(b"}") {
        assert_ne!(stream.read_buf(&mut asked).await.expect("a call"), 0);
    }
    let call = asked.iter().position(|byte| *byte == b'{').expect("JSON");
    serde_json::from_slice(&asked[call..]).expect("JSON")
}

/// What it answers, by the status and the body of HTTP.
pub async fn answer_call(stream: &mut TcpStream, status: &str, body: &str) {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\nContent-Length: {length}\r\nConnection: close");
    let answer = format!("{head}\r\n\r\n{body}");
    stream.write_all(answer.as_bytes()).await.expect("it listens");
}

/// A block of so many transactions in slot 0, to be booked by hand.
pub fn candidate(header: [u8; 80], coinbase: Vec<u8>, branches: Vec<[u8; 32]>, tx_count: u32) -> Candidate {
    Candidate {
        hash: [1; 32],
        header,
        coinbase,
        branches,
        height: 1,
        value: 0,
        tx_count,
        job_id: 0,
        coinbase_id: 0,
        flags: 0,
        target_pot: 0,
        verdict: Err(Reason::Other),
        username: Vec::new(),
        booking: Booking::ByHand { told: None },
        dictated: None,
    }
}

/// The same of these transactions.
pub fn candidate_of(body: &TemplateBody) -> Candidate {
    let coinbase = coinbase_transaction(&[], &[(0, &[0x51])]);
    let header = header_over(&coinbase, body.branches());
    let tx_count = u32::try_from(body.transactions().len()).expect("few");
    candidate(header, coinbase, body.branches().to_vec(), tx_count)
}

/// What a gateway answers that shows these.
pub fn showing(body: &TemplateBody) -> ValidateOutcome {
    let mut encoded = Vec::new();
    let transactions = body.transactions().iter();
    transactions.for_each(|transaction| Transactions::push(&transaction.raw, &mut encoded));
    ValidateOutcome::Answered(Answer::Transactions(encoded))
}
