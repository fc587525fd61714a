//! What bitcoind publishes over ZMQ: `hashblock`, `rawblock` and `sequence`, each message its topic, a body, and a
//! number of its own that counts up, 4 bytes little-endian.

use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::{BlockHash, Txid};
use tokio::sync::mpsc::Receiver;
use zeromq::{PubSocket, Socket, SocketSend, ZmqError, ZmqMessage};

use crate::node::Event;

/// Events that wait to be published; what comes past it is lost, as with bitcoind's high-water mark.
pub const EVENTS_MAX: usize = 65_536;

/// Binds the socket. Where it listens comes back, as subscribers want it.
pub async fn bind(endpoint: &str) -> Result<(PubSocket, String), ZmqError> {
    let mut socket = PubSocket::new();
    let bound = socket.bind(endpoint).await?;
    Ok((socket, bound.to_string()))
}

/// Publishes until there is nobody left to say anything.
pub async fn publish(mut socket: PubSocket, mut events: Receiver<Event>) {
    let mut numbers = [0_u32; 3];
    while let Some(event) = events.recv().await {
        for (topic, body) in messages(&event) {
            let number = &mut numbers[topic as usize];
            let mut message = ZmqMessage::from(topic.name());
            message.push_back(body.into());
            message.push_back(number.to_le_bytes().to_vec().into());
            *number = number.wrapping_add(1);
            // A subscriber that is gone or slow is its own problem.
            let _ = socket.send(message).await;
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Topic {
    HashBlock,
    RawBlock,
    Sequence,
}

impl Topic {
    fn name(self) -> &'static str {
        match self {
            Self::HashBlock => "hashblock",
            Self::RawBlock => "rawblock",
            Self::Sequence => "sequence",
        }
    }
}

fn messages(event: &Event) -> Vec<(Topic, Vec<u8>)> {
    let sequence = |hash: [u8; 32], label: u8, number: Option<u64>| {
        let mut body = hash.to_vec();
        body.push(label);
        body.extend(number.iter().flat_map(|number| number.to_le_bytes()));
        vec![(Topic::Sequence, body)]
    };
    match event {
        Event::Disconnected(hash) => sequence(shown(hash), b'D', None),
        Event::Connected(hash) => sequence(shown(hash), b'C', None),
        Event::Added(txid, number) => sequence(shown_txid(txid), b'A', Some(*number)),
        Event::Removed(txid, number) => sequence(shown_txid(txid), b'R', Some(*number)),
        Event::Back(_) => Vec::new(),
        Event::Tip(block) => vec![
            (Topic::HashBlock, shown(&block.block_hash()).to_vec()),
            (Topic::RawBlock, serialize(&**block)),
        ],
    }
}

/// In the order that people read.
fn shown(hash: &BlockHash) -> [u8; 32] {
    let mut bytes = hash.to_byte_array();
    bytes.reverse();
    bytes
}

fn shown_txid(txid: &Txid) -> [u8; 32] {
    let mut bytes = txid.to_byte_array();
    bytes.reverse();
    bytes
}
