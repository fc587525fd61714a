//! From an accepted connection to a session: read HELLO, prove it, move to the owning shard, answer.
//!
//! All of it runs in a task queue of few shares and yields between the curve operations, so a storm of handshakes
//! takes what shares leave over.

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_lite::future::or;
use glommio::net::TcpStream;

use super::guarding::Entry;
use super::half_open::Waits;
use super::inbox::{Arrival, Parcel};
use super::places::{NoPlace, Place};
use super::policy::Origin;
use super::reading::read_by;
use super::session::{Opening, Session};
use super::stop::Phase;
use super::{Shard, farewell, handover, pool_keys, proxied};
use crate::guard::{Admission, Early, Guest, Rule};
use crate::identity::PoolKey;
use crate::telemetry::{Bound, EndReason};
use crate::wire::{
    BeforeHello, ChannelKey, HEADER_LEN, HandshakeError, Hello, InboundError, Lead, PROXY_MAX, Response, SecretKeys,
    SessionSigner, Skipped,
};
use crate::work::MinDiff;

/// How long a connection may take until its HELLO is complete.
pub const HELLO_DEADLINE: Duration = Duration::from_secs(10);

/// Whoever has sent no whole HELLO after so long, and makes room for a newcomer, has it counted as a fault: a gateway sends it at once.
const HELLO_TIME: Duration = Duration::from_secs(1);

/// How long a newcomer waits for the place that somebody leaves for it, and as long for room in the ring. A disk that stalls for
/// longer would fill all places for handshakes.
const ROOM_TIME: Duration = Duration::from_secs(5);

/// Bytes read at once before HELLO. HELLO itself has at most 1,024; what else arrives with it moves along.
const READ_BYTES: usize = 2_048;

const _: () = assert!(PROXY_MAX < READ_BYTES, "a PROXY header fits the buffer");

/// Starts the handshake of one connection.
pub(super) fn spawn(shard: &Rc<Shard>, stream: TcpStream, peer: SocketAddr, entry: Entry) {
    let accepted = Instant::now();
    shard.spawn_handshake(async move |shard| {
        let _under_way = shard.settings.greetings.begin();
        let has_come = Cell::new(false);
        let waits = shard.half_open.begin();
        let crowd = async {
            waits.until_it_goes().await;
            Err(EndReason::Crowded)
        };
        let was_held = Cell::new(false);
        let is_dry = Cell::new(false);
        let stop = async {
            // After a stall what came in time is read yet; where we do not read, for traffic that came too fast, it is not waited for.
            let more_lies_there = || !is_dry.get() && !was_held.get();
            shard.until_no_hello_counts(|| has_come.get(), more_lies_there).await;
            Err(shard.stop_reason())
        };
        // A proxy's until that has said whose it is.
        let peer = Cell::new(peer);
        let progress = Progress {
            peer: &peer,
            was_held: &was_held,
            is_dry: &is_dry,
            has_come: &has_come,
            waits: &waits,
        };
        let greeting = greet(&shard, stream, entry, accepted, progress);
        match or(greeting, or(crowd, stop)).await {
            Ok(greeted) => route(&shard, greeted).await,
            Err(end) => {
                waits.is_over();
                // Where it was we who did not read, or who had the whole HELLO and came to it too late, the deadline is no
                // fault of its own; nor where more may lie in the kernel, as it does after a stall.
                let is_ours = was_held.get() || has_come.get() || !is_dry.get();
                let had_time = accepted.elapsed() >= HELLO_TIME;
                let is_no_fault = match end {
                    EndReason::HelloDeadline => is_ours,
                    EndReason::Crowded => is_ours || !had_time,
                    _ => false,
                };
                if !is_no_fault {
                    shard.blame(peer.get(), end);
                }
                failed(&shard, end, peer.get());
            }
        }
    });
}

/// Takes over a connection whose HELLO another shard has verified.
pub(super) fn spawn_admission(shard: &Rc<Shard>, arrival: Box<Arrival>) {
    let peer = arrival.peer;
    if shard.is_closing() {
        return failed(shard, shard.stop_reason(), peer);
    }
    if !shard.has_room_for_an_arrival() {
        return failed(shard, EndReason::ShardFull, peer);
    }
    shard.spawn_handshake(async move |shard| {
        let Arrival {
            socket,
            peer,
            hello,
            pool_key,
            behind,
            skipped,
            accepted,
            travels,
        } = *arrival;
        // It counts here by now.
        drop(travels);
        let greeted = Greeted {
            stream: handover::attach(socket),
            peer,
            hello,
            pool_key,
            behind,
            skipped,
            accepted,
            _guest: None,
        };
        admit(&shard, greeted).await;
    });
}

/// A connection with a HELLO whose signature is good.
struct Greeted {
    stream: TcpStream,
    peer: SocketAddr,
    hello: Box<Hello>,
    /// The pool's key that HELLO is sealed to; it signs the response.
    pool_key: Arc<PoolKey>,
    /// What was read behind HELLO.
    behind: Vec<u8>,
    skipped: Skipped,
    accepted: Instant,
    /// Counts the handshake for its address, on the shard that accepted it.
    _guest: Option<Guest>,
}

/// What whoever waits for a HELLO sees of it.
struct Progress<'a> {
    peer: &'a Cell<SocketAddr>,
    /// It was we who did not read.
    was_held: &'a Cell<bool>,
    /// All that had come was read when it was last looked at.
    is_dry: &'a Cell<bool>,
    /// HELLO is whole.
    has_come: &'a Cell<bool>,
    waits: &'a Waits,
}

/// Reads past early frames up to HELLO, opens it and checks its signature.
async fn greet(
    shard: &Shard,
    mut stream: TcpStream,
    entry: Entry,
    accepted: Instant,
    progress: Progress<'_>,
) -> Result<Greeted, EndReason> {
    let Progress {
        peer,
        was_held,
        is_dry,
        has_come,
        waits,
    } = progress;
    // Answers leave when they are due; waiting for more to send with them is the shard's own business.
    let _ = stream.set_nodelay(true);
    let mut before = BeforeHello::new();
    let mut buffer = vec![0; READ_BYTES];
    let mut filled = 0;
    let guest = match entry {
        Entry::Guest(guest) => guest,
        Entry::Proxied => {
            let whose = proxied::whose(shard, &mut stream, &mut buffer, &mut filled, accepted, is_dry).await?;
            if let Some(whose) = whose {
                peer.set(whose);
            }
            shard.admit_proxied(peer.get().ip())?
        }
    };
    let mut to_skip = 0;
    let mut early = Early {
        bytes: filled,
        ..Early::default()
    };
    let deadline = accepted + HELLO_DEADLINE;
    let mut is_late = false;
    let frame_len = loop {
        let dropped = filled.min(to_skip);
        buffer.copy_within(dropped..filled, 0);
        filled -= dropped;
        to_skip -= dropped;
        let mut whole = None;
        if to_skip == 0 {
            match before
                .next(&buffer[..filled])
                .map_err(|error| end_of_inbound(shard, error))?
            {
                Lead::Hello(len) if len <= filled => whole = Some(len),
                Lead::Skip(len) => {
                    shard.telemetry.early_skipped.add(1);
                    early.frames += 1;
                    to_skip = len;
                    continue;
                }
                Lead::Hello(_) | Lead::Need(_) => {}
            }
        }
        // A HELLO that was whole by then is in time, however late the shard came to read it.
        if is_late && whole.is_none() {
            return Err(EndReason::HelloDeadline);
        }
        early.hello_is_whole = whole.is_some();
        if early.hello_is_whole {
            has_come.set(true);
            waits.is_over();
        }
        if early.bytes > 0 {
            let wait_ms = shard.hear_early(&guest, std::mem::take(&mut early));
            if wait_ms > 0 {
                was_held.set(true);
                let wait = Duration::from_millis(wait_ms);
                let left = deadline.saturating_duration_since(Instant::now());
                if whole.is_none() && left < wait {
                    glommio::timer::sleep(left).await;
                    return Err(EndReason::HelloDeadline);
                }
                glommio::timer::sleep(wait).await;
            }
        }
        if let Some(len) = whole {
            break len;
        }
        let read = read_by(deadline, &mut stream, &mut buffer[filled..], is_dry).await;
        let read = read
            .map_err(|_| EndReason::ReadError)?
            .ok_or(EndReason::HelloDeadline)?;
        if read == 0 {
            return Err(EndReason::PeerClosed);
        }
        shard.telemetry.bytes_in.add(read as u64);
        filled += read;
        // Bytes that come without a pause must not outrun the deadline, which ends a read only where they pause.
        is_late = Instant::now() > deadline;
        early.bytes = read;
        glommio::yield_if_needed().await;
    };

    let (hello, plain, pool_key) = pool_keys::unseal(shard, &buffer[HEADER_LEN..frame_len]).await?;
    hello.verify(&plain).map_err(end_of_handshake)?;
    step().await;

    buffer.truncate(filled);
    buffer.drain(..frame_len);
    Ok(Greeted {
        stream,
        peer: peer.get(),
        hello: Box::new(hello),
        pool_key,
        behind: buffer,
        skipped: before.into_skipped(),
        accepted,
        _guest: Some(guest),
    })
}

/// Keeps the connection where its gateway belongs here, else hands it to the shard that owns the gateway.
async fn route(shard: &Rc<Shard>, greeted: Greeted) {
    let owner = shard.settings.owner(&greeted.hello.long_term.ed25519);
    if owner == shard.index {
        return admit(shard, greeted).await;
    }
    let Greeted {
        stream,
        peer,
        hello,
        pool_key,
        behind,
        skipped,
        accepted,
        _guest: _,
    } = greeted;
    let Ok(socket) = handover::detach(stream) else {
        return failed(shard, EndReason::ReadError, peer);
    };
    let arrival = Box::new(Arrival {
        socket,
        peer,
        hello,
        pool_key,
        behind,
        skipped,
        accepted,
        travels: shard.on_the_way.begin(),
    });
    // The full inbox counts by itself that it was hit.
    if shard.peers[owner].leave(Parcel::Arrival(arrival)).is_err() {
        failed(shard, EndReason::ShardFull, peer);
    }
}

/// Makes the session's keys, its answer and its terms, and starts it. The CONFIG leaves when the session's
/// `prime_id` is in the ledger.
async fn admit(shard: &Rc<Shard>, greeted: Greeted) {
    let (peer, accepted) = (greeted.peer, greeted.accepted);
    match prepare(shard, greeted).await {
        Ok((opening, place)) => {
            shard.telemetry.handshakes_ok.add(1);
            let took = u64::try_from(accepted.elapsed().as_nanos()).unwrap_or(u64::MAX);
            shard.telemetry.handshake.record(took);
            tracing::debug!(%peer, agent = %opening.hello.agent, prime_id = opening.terms.prime_id, "session begins");
            Session::spawn(shard, opening, place);
        }
        Err(end) => {
            shard.blame(peer, end);
            failed(shard, end, peer);
        }
    }
}

async fn prepare(shard: &Rc<Shard>, greeted: Greeted) -> Result<(Opening, Place), EndReason> {
    let Greeted {
        stream,
        peer,
        hello,
        pool_key,
        behind,
        skipped,
        accepted,
        ..
    } = greeted;
    // Before anything that costs.
    let is_met = meet_hello(shard, &hello)?;
    let origin = Origin::of(peer.ip(), &hello);
    if let Err(denied) = shard.admit(&origin) {
        if shard.tells_why(peer.ip(), denied) {
            let Agreed { key, response, .. } = agree(shard, &hello, &pool_key).await?;
            farewell::say(stream, &hello, &key, &response, denied).await;
        }
        return Err(denied);
    }
    let admission = shard.admit_gateway(&hello.long_term.ed25519)?;
    let watch = shard.watch_session(peer)?;
    let place = take_place(shard, admission).await?;
    let Agreed { key, signer, response } = agree(shard, &hello, &pool_key).await?;

    // The row must be on disk before the CONFIG leaves, so that no id that left is ever given again.
    match in_time(shard.wait_for_room(Phase::Draining)).await {
        Some(true) => {}
        Some(false) => return Err(shard.stop_reason()),
        None => {
            shard.telemetry.bounds[Bound::RingFull].add(1);
            return Err(EndReason::ShardFull);
        }
    }
    // A replay of a stranger's first HELLO may have come on beside it; whichever was as far first made the gateway's place.
    if !is_met {
        meet_hello(shard, &hello)?;
    }
    // Ids are never given again, so none is taken before nothing else can stand in the way; and nothing is awaited behind the room.
    let settings = &shard.settings;
    let prime_id = settings.prime_ids.next().ok_or(EndReason::NoPrimeId)?;
    let (terms, signed_config) = settings.terms(prime_id, first_min_diff(shard, &hello), &signer);
    let opening = Opening {
        stream,
        peer,
        accepted,
        watch,
        hello,
        pool_key: pool_key.tally().clone(),
        behind,
        skipped,
        key,
        response,
        signed_config,
        terms,
        signer,
    };
    Ok((opening, place))
}

/// Notes the HELLO where its gateway has a place on the shard; false where it has none yet, and will with the session.
///
/// # Errors
/// It was noted before.
fn meet_hello(shard: &Shard, hello: &Hello) -> Result<bool, EndReason> {
    match shard.gateways.borrow().find(&hello.long_term.ed25519) {
        None => Ok(false),
        Some(gateway) if gateway.borrow_mut().meet_hello(&hello.session.ed25519) => Ok(true),
        Some(_) => Err(EndReason::HelloReplayed),
    }
}

/// What a handshake comes to.
struct Agreed {
    key: ChannelKey,
    signer: SessionSigner,
    /// Sealed.
    response: Vec<u8>,
}

/// Makes the session's keys, and the response that tells the gateway of them.
async fn agree(shard: &Shard, hello: &Hello, pool_key: &PoolKey) -> Result<Agreed, EndReason> {
    let keys = SecretKeys::generate().map_err(|_| EndReason::NoRandomness)?;
    let session_keys = keys.public();
    step().await;
    let agreed = ChannelKey::agree_once(keys, &hello.session.x25519);
    let (key, signer) = agreed.map_err(|_| EndReason::WeakKey)?;
    step().await;
    let plain = Response::encode(hello, &session_keys, &shard.settings.motd, pool_key.secret());
    step().await;
    let response = Response::seal(&plain, &hello.session.x25519);
    step().await;
    Ok(Agreed { key, signer, response })
}

/// A gateway that comes back goes on where it was.
fn first_min_diff(shard: &Shard, hello: &Hello) -> MinDiff {
    let settings = &shard.settings;
    let former = || {
        let gateway = shard.gateways.borrow().find(&hello.long_term.ed25519)?;
        gateway.borrow().memory.min_diff()
    };
    let steered = settings.steering.and_then(|rule| Some(rule.bound(former()?)));
    steered.unwrap_or(settings.min_diff)
}

/// The place of a session to be, for which another goes where that has to be.
async fn take_place(shard: &Shard, admission: Admission) -> Result<Place, EndReason> {
    if !shard.places.has_free() {
        shard.telemetry.bounds[Bound::Sessions].add(1);
    }
    let taken = in_time(shard.places.take(admission, shard.now_ms())).await;
    match (taken, admission) {
        // Those that it waited for were closed.
        _ if shard.is_closing() => Err(shard.stop_reason()),
        (Some(Ok(place)), Admission::Free) => Ok(place),
        (Some(Ok(place)), Admission::InExchange) => {
            shard.telemetry.guard_cut[Rule::Memory].add(1);
            Ok(place)
        }
        (Some(Err(NoPlace)), Admission::InExchange) => Err(shard.refuse_for_memory()),
        (Some(Err(NoPlace)) | None, _) => Err(EndReason::ShardFull),
    }
}

/// None where it takes longer than [`ROOM_TIME`].
async fn in_time<T>(awaited: impl Future<Output = T>) -> Option<T> {
    let late = async {
        glommio::timer::sleep(ROOM_TIME).await;
        None
    };
    or(async { Some(awaited.await) }, late).await
}

/// Lets the other task queues run between two curve operations.
pub(super) async fn step() {
    glommio::executor().yield_task_queue_now().await;
}

fn failed(shard: &Shard, end: EndReason, peer: SocketAddr) {
    shard.telemetry.handshakes_failed.add(1);
    shard.telemetry.ends[end].add(1);
    tracing::debug!(%peer, reason = end.label(), "handshake ended");
}

/// Why a connection ends whose bytes are not what a gateway sends.
pub(super) fn end_of_inbound(shard: &Shard, error: InboundError) -> EndReason {
    match error {
        InboundError::Garbage => EndReason::Garbage,
        InboundError::HelloTooLong(_) => EndReason::HelloTooLong,
        InboundError::BadHeader(_) => EndReason::BadHeader,
        InboundError::UnexpectedCommand(_) => EndReason::UnexpectedCommand,
        InboundError::TooLong(_) => EndReason::FrameTooLong,
        InboundError::BadMac => EndReason::BadMac,
        InboundError::TooManySkipped => {
            shard.telemetry.bounds[Bound::EarlyFrames].add(1);
            EndReason::TooManyEarlyFrames
        }
    }
}

/// Why a connection ends whose HELLO is none of a gateway's to this pool.
pub(super) fn end_of_handshake(error: HandshakeError) -> EndReason {
    match error {
        HandshakeError::Unsealable => EndReason::HelloUnsealable,
        // But for the first of these a HELLO cannot fail so: they are of what a pool sends.
        HandshakeError::Malformed(_)
        | HandshakeError::Echo
        | HandshakeError::Unsigned
        | HandshakeError::Oversigned
        | HandshakeError::BadMac => EndReason::HelloMalformed,
        HandshakeError::Signature => EndReason::HelloSignature,
    }
}
