//! A node's ZMQ publishers, as a word that something happened to its chain. What it was is asked over RPC: a message can
//! be lost, and anybody who reaches the port could have sent it.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_lite::StreamExt;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};
use zeromq::{Socket, SocketEvent, SocketOptions, SocketRecv, SubSocket, ZmqMessage};

use crate::ledger::monotonic_ns;
use crate::telemetry::{Labelled, NodeTelemetry, ZmqTelemetry, ZmqTopic};

/// How long it rests after a publisher could not be reached, or went.
const REST: Duration = Duration::from_secs(1);

/// How long a publisher may take to be connected.
const CONNECT_PATIENCE: Duration = Duration::from_secs(3);

/// A node has another tip, and its publisher said nothing of a block for so long before and after: the connection is taken for one
/// whose other end is gone without a word. It is made anew no more often than once in so long, and for a tip each.
const SILENCE: Duration = Duration::from_secs(5);

/// That something happened to a node's chain, and when that was heard.
#[derive(Debug, Default)]
pub(super) struct Stir {
    notify: Notify,
    /// By [`monotonic_ns`]; 0 while nothing is to be looked at.
    heard_ns: AtomicU64,
    /// When a look last found another tip.
    found: watch::Sender<Option<Instant>>,
}

impl Stir {
    fn hear(&self) {
        // Of some before a look the first counts.
        let _ = self
            .heard_ns
            .compare_exchange(0, monotonic_ns().max(1), Ordering::Relaxed, Ordering::Relaxed);
        self.notify.notify_one();
    }

    /// A look has found another tip, whoever told of it.
    pub(super) fn find_tip(&self) {
        self.found.send_replace(Some(Instant::now()));
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
pub(super) async fn listen(endpoint: String, changed: Arc<Stir>, telemetry: Arc<NodeTelemetry>) {
    let mut said = false;
    loop {
        let Err(why) = hear(&endpoint, &changed, &telemetry.zmq, &mut said).await;
        if !std::mem::replace(&mut said, true) {
            tracing::warn!(
                endpoint,
                why,
                "a node's ZMQ publisher is not heard; it is polled until then"
            );
        }
        tokio::time::sleep(REST).await;
    }
}

/// Hears until the connection ends, or says nothing of a block that its node has; why it is no good any more. The crate would connect again by itself, without a word and after ever longer rests.
async fn hear(endpoint: &str, changed: &Stir, telemetry: &ZmqTelemetry, said: &mut bool) -> Result<Infallible, String> {
    let mut options = SocketOptions::default();
    options.connect_timeout(CONNECT_PATIENCE);
    let mut socket = SubSocket::with_options(options);
    let mut events = socket.monitor();
    socket.connect(endpoint).await.map_err(|error| error.to_string())?;
    for topic in ZmqTopic::KEYS {
        let subscribed = socket.subscribe(topic.label()).await;
        subscribed.map_err(|error| error.to_string())?;
    }
    let _connected = Connected::new(telemetry);
    if std::mem::take(said) {
        tracing::info!(endpoint, "a node's ZMQ publisher is heard again");
    }
    // What happened meanwhile nobody publishes again.
    changed.hear();
    let mut found = changed.found.subscribe();
    let mut last_told = Instant::now();
    // Until when it must have told of a block.
    let mut must_tell: Option<Instant> = None;
    loop {
        tokio::select! {
            message = socket.recv() => {
                let message = message.map_err(|error| error.to_string())?;
                if let Some(topic) = topic(&message) {
                    telemetry.messages[topic].add(1);
                    telemetry.heard_ns.set(monotonic_ns());
                    if tells_of_a_block(topic, &message) {
                        (last_told, must_tell) = (Instant::now(), None);
                        changed.hear();
                    }
                }
            }
            event = events.next() => if matches!(event, Some(SocketEvent::Disconnected(_)) | None) {
                return Err("the connection has ended".to_owned());
            },
            Ok(()) = found.changed() => {
                let found = *found.borrow_and_update();
                // One that was just made missed what was published before.
                must_tell = must_tell.or(found.filter(|found| found.duration_since(last_told) > SILENCE).map(|found| found + SILENCE));
            }
            () = until(must_tell) => return Err("it says nothing of a block that its node has".to_owned()),
        }
    }
}

async fn until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

/// One connection more, as long as it lasts.
struct Connected<'a>(&'a ZmqTelemetry);

impl<'a> Connected<'a> {
    fn new(telemetry: &'a ZmqTelemetry) -> Self {
        telemetry.connected.set(telemetry.connected.value() + 1);
        Self(telemetry)
    }
}

impl Drop for Connected<'_> {
    fn drop(&mut self) {
        self.0.connected.set(self.0.connected.value().saturating_sub(1));
    }
}

fn topic(message: &ZmqMessage) -> Option<ZmqTopic> {
    let name = message.get(0)?;
    ZmqTopic::KEYS
        .iter()
        .copied()
        .find(|topic| topic.label().as_bytes() == &name[..])
}

/// `sequence` tells of transactions as well: there the byte behind the hash says what it is of.
fn tells_of_a_block(topic: ZmqTopic, message: &ZmqMessage) -> bool {
    let label = message.get(1).and_then(|body| body.get(32));
    match topic {
        ZmqTopic::HashBlock | ZmqTopic::RawBlock => true,
        ZmqTopic::Sequence => matches!(label, Some(b'C' | b'D')),
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
        let tells = |name, body| {
            let message = message(name, body);
            topic(&message).map(|topic| tells_of_a_block(topic, &message))
        };
        assert_eq!(tells("hashblock", vec![0; 32]), Some(true));
        assert_eq!(tells("rawblock", vec![0; 300]), Some(true));
        let sequence = |label| tells("sequence", [&[0; 32][..], &[label]].concat());
        assert_eq!((sequence(b'C'), sequence(b'D')), (Some(true), Some(true)));
        assert_eq!((sequence(b'A'), sequence(b'R')), (Some(false), Some(false)));
        assert_eq!(tells("rawtx", vec![0; 300]), None);
    }
}
