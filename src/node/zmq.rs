//! A node's ZMQ publishers, as a word that something happened to its chain. What it was is asked over RPC: a message can
//! be lost, and anybody who reaches the port could have sent it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use zeromq::{Socket, SocketRecv, SubSocket, ZmqError, ZmqMessage};

/// Topics of which any may be published; each tells of blocks.
const TOPICS: [&str; 3] = ["hashblock", "rawblock", "sequence"];

/// How long it rests after a publisher could not be reached.
const REST: Duration = Duration::from_secs(1);

/// Notifies for as long as the runtime lives.
pub(super) async fn listen(endpoint: String, changed: Arc<Notify>) {
    let mut said = false;
    loop {
        if let Err(error) = hear(&endpoint, &changed, &mut said).await
            && !std::mem::replace(&mut said, true)
        {
            tracing::warn!(endpoint, %error, "a node's ZMQ publisher is not heard; it is polled until then");
        }
        tokio::time::sleep(REST).await;
    }
}

async fn hear(endpoint: &str, changed: &Notify, said: &mut bool) -> Result<(), ZmqError> {
    let mut socket = SubSocket::new();
    socket.connect(endpoint).await?;
    for topic in TOPICS {
        socket.subscribe(topic).await?;
    }
    if std::mem::take(said) {
        tracing::info!(endpoint, "a node's ZMQ publisher is heard again");
    }
    loop {
        if tells_of_a_block(&socket.recv().await?) {
            changed.notify_one();
        }
    }
}

/// `sequence` tells of transactions as well: there the byte behind the hash says what it is of.
fn tells_of_a_block(message: &ZmqMessage) -> bool {
    let topic = message.get(0).map(|frame| &frame[..]);
    let label = message.get(1).and_then(|body| body.get(32));
    match topic {
        Some(b"hashblock" | b"rawblock") => true,
        Some(b"sequence") => matches!(label, Some(b'C' | b'D')),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(topic: &str, body: Vec<u8>) -> ZmqMessage {
        let mut message = ZmqMessage::from(topic);
        message.push_back(body.into());
        message
    }

    #[test]
    fn blocks_are_told_from_transactions() {
        assert!(tells_of_a_block(&message("hashblock", vec![0; 32])));
        assert!(tells_of_a_block(&message("rawblock", vec![0; 300])));
        let sequence = |label| message("sequence", [&[0; 32][..], &[label]].concat());
        assert!(tells_of_a_block(&sequence(b'C')) && tells_of_a_block(&sequence(b'D')));
        assert!(!tells_of_a_block(&sequence(b'A')) && !tells_of_a_block(&sequence(b'R')));
        assert!(!tells_of_a_block(&message("rawtx", vec![0; 300])));
    }
}
