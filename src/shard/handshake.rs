//! From an accepted connection to a session: read HELLO, prove it, move to the owning shard, answer.
//!
//! All of it runs in a task queue of few shares and yields between the curve operations, so a storm of handshakes
//! takes what shares leave over.

use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use futures_lite::AsyncReadExt;
use glommio::net::TcpStream;

use super::inbox::{Arrival, Parcel};
use super::session::{Opening, Session};
use super::{Shard, listener};
use crate::ledger::{Entry, SessionRow};
use crate::shard::due::DueEntry;
use crate::telemetry::{Bound, EndReason};
use crate::wire::{
    BeforeHello, ChannelKey, Config, Encode, HandshakeError, Hello, InboundError, Lead, Response, SecretKeys, Skipped,
};
use crate::work::{MinDiff, Terms};

/// How long a connection may take until its HELLO is complete.
pub const HELLO_DEADLINE: Duration = Duration::from_secs(10);

/// Bytes read at once before HELLO. HELLO itself has at most 1,024; what else arrives with it moves along.
const READ_BYTES: usize = 2_048;

/// Starts the handshake of one connection.
pub(super) fn spawn(shard: &Rc<Shard>, stream: TcpStream, peer: SocketAddr) {
    let accepted = Instant::now();
    shard.spawn_handshake(async move |shard| {
        let greeting = greet(&shard, stream, accepted);
        let deadline = async {
            glommio::timer::sleep(HELLO_DEADLINE).await;
            Err(EndReason::HelloDeadline)
        };
        let arrival = match futures_lite::future::or(greeting, deadline).await {
            Ok(greeted) => greeted.into_arrival(peer, accepted),
            Err(end) => Err(end),
        };
        match arrival {
            Ok(arrival) => route(&shard, arrival).await,
            Err(end) => failed(&shard, end, peer),
        }
    });
}

/// Takes over a connection whose HELLO another shard has verified.
pub(super) fn spawn_admission(shard: &Rc<Shard>, arrival: Box<Arrival>) {
    shard.spawn_handshake(async move |shard| admit(&shard, arrival).await);
}

/// A connection with a HELLO whose signature is good.
struct Greeted {
    stream: TcpStream,
    hello: Box<Hello>,
    behind: Vec<u8>,
    skipped: Skipped,
}

impl Greeted {
    fn into_arrival(self, peer: SocketAddr, accepted: Instant) -> Result<Box<Arrival>, EndReason> {
        Ok(Box::new(Arrival {
            socket: listener::detach(self.stream).map_err(|_| EndReason::ReadError)?,
            peer,
            hello: self.hello,
            behind: self.behind,
            skipped: self.skipped,
            accepted,
        }))
    }
}

/// Reads past early frames up to HELLO, opens it and checks its signature.
async fn greet(shard: &Shard, mut stream: TcpStream, accepted: Instant) -> Result<Greeted, EndReason> {
    let _ = stream.set_nodelay(true);
    let mut before = BeforeHello::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut filled = 0;
    let mut to_skip = 0;
    let frame_len = loop {
        let dropped = filled.min(to_skip);
        buffer.copy_within(dropped..filled, 0);
        filled -= dropped;
        to_skip -= dropped;
        if to_skip == 0 {
            match before.next(&buffer[..filled]).map_err(end_of_inbound)? {
                Lead::Hello(len) if len <= filled => break len,
                Lead::Skip(len) => {
                    shard.telemetry.early_skipped.add(1);
                    to_skip = len;
                    continue;
                }
                Lead::Hello(_) | Lead::Need(_) => {}
            }
        }
        let read = stream.read(&mut buffer[filled..]).await.map_err(|_| EndReason::ReadError)?;
        if read == 0 {
            return Err(EndReason::PeerClosed);
        }
        shard.telemetry.bytes_in.add(read as u64);
        filled += read;
        // Bytes that come without a pause must not outrun the deadline, which is checked between the polls.
        if accepted.elapsed() > HELLO_DEADLINE {
            return Err(EndReason::HelloDeadline);
        }
        glommio::yield_if_needed().await;
    };

    let plain = Hello::unseal(&buffer[crate::wire::HEADER_LEN..frame_len], &shard.settings.identity)
        .map_err(end_of_handshake)?;
    step().await;
    let hello = Hello::decode(&plain).map_err(end_of_handshake)?;
    hello.verify(&plain).map_err(end_of_handshake)?;
    step().await;

    buffer.truncate(filled);
    buffer.drain(..frame_len);
    Ok(Greeted {
        stream,
        hello: Box::new(hello),
        behind: buffer,
        skipped: before.into_skipped(),
    })
}

/// Keeps the connection where its gateway belongs here, else hands it to the shard that owns the gateway.
async fn route(shard: &Rc<Shard>, arrival: Box<Arrival>) {
    let owner = shard.settings.owner(&arrival.hello.long_term.ed25519);
    if owner == shard.index {
        return admit(shard, arrival).await;
    }
    if let Err(Parcel::Arrival(arrival)) = shard.peers[owner].leave(Parcel::Arrival(arrival)) {
        shard.telemetry.bounds[Bound::Handshakes].add(1);
        failed(shard, EndReason::ShardFull, arrival.peer);
    }
}

/// Makes the session's keys, its answer and its terms, and starts it. The CONFIG leaves when the session's
/// `prime_id` is in the ledger.
async fn admit(shard: &Rc<Shard>, arrival: Box<Arrival>) {
    let (peer, accepted) = (arrival.peer, arrival.accepted);
    match prepare(shard, arrival).await {
        Ok(opening) => {
            shard.telemetry.handshakes_ok.add(1);
            let took = u64::try_from(accepted.elapsed().as_nanos()).unwrap_or(u64::MAX);
            shard.telemetry.handshake.record(took);
            Session::spawn(shard, opening);
        }
        Err(end) => failed(shard, end, peer),
    }
}

async fn prepare(shard: &Rc<Shard>, arrival: Box<Arrival>) -> Result<Opening, EndReason> {
    let Arrival {
        socket,
        hello,
        behind,
        skipped,
        ..
    } = *arrival;
    if shard.is_stopping() {
        return Err(EndReason::Drained);
    }
    if shard.slots.borrow().len() >= shard.settings.limits.sessions_per_shard {
        shard.telemetry.bounds[Bound::Sessions].add(1);
        return Err(EndReason::ShardFull);
    }

    let keys = SecretKeys::generate().map_err(|_| EndReason::NoRandomness)?;
    let session_keys = keys.public();
    step().await;
    let key = ChannelKey::agree(&keys, &hello.session.x25519).map_err(|_| EndReason::WeakKey)?;
    step().await;
    let plain = Response::encode(&hello, &session_keys, &shard.settings.motd, &shard.settings.identity);
    step().await;
    let response = Response::seal(&plain, &hello.session.x25519);
    step().await;

    let settings = &shard.settings;
    let prime_id = shard.settings.prime_ids.next();
    let config = Config {
        script: &settings.script,
        prime_id,
        tag: &settings.tag,
        min_diff: settings.min_diff.get(),
    };
    let mut signed_config = Vec::new();
    config.encode(&mut signed_config);
    signed_config.extend_from_slice(&keys.sign(&signed_config));
    step().await;

    // The row must be on disk before the CONFIG leaves, so that no id that left is ever given again.
    while shard.due.borrow().room() == 0 {
        shard.wait_for_room().await;
    }
    Ok(Opening {
        stream: listener::attach(socket),
        hello,
        behind,
        skipped,
        key,
        response,
        signed_config,
        terms: Terms::new(prime_id, &settings.script, &settings.tag, settings.min_diff),
    })
}

/// Lets the other task queues run between two curve operations.
async fn step() {
    glommio::executor().yield_task_queue_now().await;
}

fn failed(shard: &Shard, end: EndReason, peer: SocketAddr) {
    shard.telemetry.handshakes_failed.add(1);
    shard.telemetry.ends[end].add(1);
    tracing::debug!(%peer, reason = end.label(), "handshake ended");
}

pub(super) fn end_of_inbound(error: InboundError) -> EndReason {
    let _ = error;
    EndReason::BadHeader
}

fn end_of_handshake(error: HandshakeError) -> EndReason {
    let _ = error;
    EndReason::HelloMalformed
}
