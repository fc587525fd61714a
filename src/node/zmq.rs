//! A node's ZMQ publishers, as a word that something happened to its chain. What it was is asked over RPC: a message can
//! be lost, and anybody who reaches the port could have sent it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::timeout;
use zeromq::{Socket, SocketRecv, SubSocket, ZmqError, ZmqMessage};

use crate::ledger::monotonic_ns;

/// Topics of which any may be published; each tells of blocks.
const TOPICS: [&str; 3] = ["hashblock", "rawblock", "sequence"];

/// How long it rests after a publisher could not be reached.
const REST: Duration = Duration::from_secs(1);

/// That something happened to a node's chain, and when that was heard.
#[derive(Debug, Default)]
pub(super) struct Stir {
    notify: Notify,
    /// By [`monotonic_ns`]; 0 while nothing is to be looked at.
    heard_ns: AtomicU64,
}

impl Stir {
    fn hear(&self) {
        // Of some before a look the first counts.
        let _ = self
            .heard_ns
            .compare_exchange(0, monotonic_ns().max(1), Ordering::Relaxed, Ordering::Relaxed);
        self.notify.notify_one();
    }

    /// Waits until something happens, and no longer than `most`; when it was heard, else now.
    pub(super) async fn wait(&self, most: Duration) -> u64 {
        let _ = timeout(most, self.notify.notified()).await;
        match self.heard_ns.swap(0, Ordering::Relaxed) {
            0 => monotonic_ns(),
            heard_ns => heard_ns,
        }
    }
}

/// Stirs for as long as the runtime lives.
pub(super) async fn listen(endpoint: String, changed: Arc<Stir>) {
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

async fn hear(endpoint: &str, changed: &Stir, said: &mut bool) -> Result<(), ZmqError> {
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
            changed.hear();
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

    #[tokio::test(flavor = "current_thread")]
    async fn of_some_messages_before_a_look_the_first_counts() {
        let (stir, before_ns) = (Stir::default(), monotonic_ns().max(1));
        stir.hear();
        let after_ns = monotonic_ns();
        std::thread::sleep(Duration::from_millis(2));
        stir.hear();
        let heard_ns = stir.wait(Duration::from_secs(60)).await;
        assert!((before_ns..=after_ns).contains(&heard_ns), "{heard_ns}");
        let now_ns = monotonic_ns();
        assert!(stir.wait(Duration::ZERO).await >= now_ns, "nothing was heard since");
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
