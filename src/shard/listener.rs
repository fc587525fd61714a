//! The listening sockets: one a shard on the same address, with a backlog that a storm of reconnects fits in.

use std::io;
use std::net::{Shutdown, SocketAddr};
use std::os::fd::{FromRawFd, IntoRawFd};
use std::rc::Rc;
use std::time::{Duration, Instant};

use glommio::GlommioError;
use glommio::net::{TcpListener, TcpStream};
use socket2::{Domain, Protocol, Socket, Type};

use super::{Shard, handover, handshake};
use crate::telemetry::{Bound, EndReason};

/// Connections the kernel may hold for one shard before it accepts them; the system's own limit
/// (`net.core.somaxconn`) may lower it.
pub const BACKLOG: i32 = 16_384;

/// What the kernel may hold unsent of one connection, in bytes; it takes twice as much for its own bookkeeping. Where nobody says, that
/// grows to megabytes for a peer that takes nothing, and is nobody's memory that counts. A dozen splits fit.
pub(super) const SEND_BUFFER: usize = 128 * 1_024;

/// How long accepting rests after an error such as running out of file descriptors, so that it does not spin.
const ACCEPT_REST: Duration = Duration::from_millis(100);

/// At least so long between two log lines about connections that cannot be accepted, where none could be meanwhile.
const WARN_EVERY: Duration = Duration::from_secs(600);

/// Binds `count` sockets to one address; port 0 picks a free port that all of them then share.
///
/// # Errors
/// The system's own: the address is taken, not ours, or needs a right the process lacks.
pub fn bind(address: SocketAddr, count: usize) -> io::Result<(SocketAddr, Vec<Socket>)> {
    let first = bind_one(address)?;
    let bound = first
        .local_addr()?
        .as_socket()
        .ok_or_else(|| io::Error::other("a TCP socket has no address"))?;
    let mut sockets = vec![first];
    for _ in 1..count {
        sockets.push(bind_one(bound)?);
    }
    for socket in &sockets {
        socket.listen(BACKLOG)?;
    }
    Ok((bound, sockets))
}

fn bind_one(address: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // Another pool of the same user could share the port by SO_REUSEPORT; the lock on the ledger keeps it from
    // serving the same books, and SO_REUSEADDR lets a restart bind at once.
    socket.set_reuse_address(true)?;
    socket.set_reuse_port(true)?;
    socket.bind(&address.into())?;
    Ok(socket)
}

/// Closes a listening socket under the task that accepts from it.
pub(super) struct Closer(io::Result<Socket>);

impl Closer {
    pub fn new(listener: &Socket) -> Self {
        Self(listener.try_clone())
    }

    /// Turns away who has connected and was not accepted, and whoever comes. What the kernel accepts for a task that is
    /// only cancelled would be left open; a shutdown has it accept no more, and the task ends by itself.
    pub fn close(self) {
        let closed = self.0.and_then(|listener| listener.shutdown(Shutdown::Both));
        if let Err(error) = closed {
            tracing::warn!(%error, "cannot close a listening socket; it closes with the process");
        }
    }
}

/// Accepts until the shard stops; where its socket stays open the kernel may still take one connection for it, which
/// is kept for the next process. Every connection gets a task in the handshake queue.
pub(super) async fn accept(shard: Rc<Shard>, socket: Socket) {
    // SAFETY: `into_raw_fd` gives up the only owner of this listening socket, so the listener made here is the one
    // that closes it.
    let listener = unsafe { TcpListener::from_raw_fd(socket.into_raw_fd()) };
    let mut warned: Option<Instant> = None;
    loop {
        match listener.accept().await {
            // Come too late for this process, and not for the next.
            Ok(stream) if shard.is_stopping() && shard.settings.standing.stays() => {
                if let Ok(connection) = handover::detach(stream) {
                    shard.settings.standing.keep(connection);
                }
                return;
            }
            // Closed, or come too late: dropping it closes it.
            _ if shard.is_stopping() => return,
            Ok(stream) => {
                warned = None;
                welcome(&shard, stream);
                // A storm of connections is accepted without a wait between them.
                glommio::yield_if_needed().await;
            }
            // It was gone before it was taken.
            Err(GlommioError::IoError(error)) if error.kind() == io::ErrorKind::ConnectionAborted => {}
            Err(error) => {
                shard.telemetry.bounds[Bound::Descriptors].add(1);
                if warned.is_none_or(|last| last.elapsed() >= WARN_EVERY) {
                    warned = Some(Instant::now());
                    tracing::warn!(%error, "cannot accept connections; trying again every {ACCEPT_REST:?}");
                }
                glommio::timer::sleep(ACCEPT_REST).await;
            }
        }
    }
}

/// A connection that was accepted: its handshake begins, where there is room for it and its address may.
pub(super) fn welcome(shard: &Rc<Shard>, stream: TcpStream) {
    shard.telemetry.connections_accepted.add(1);
    let Ok(peer) = stream.peer_addr() else {
        return turned_away(shard, EndReason::PeerClosed);
    };
    match shard.admit_connection(peer.ip()) {
        Ok(entry) if shard.has_room_for_a_handshake() => handshake::spawn(shard, stream, peer, entry),
        Ok(_) => turned_away(shard, EndReason::ShardFull),
        Err(reason) => turned_away(shard, reason),
    }
}

/// Counts a connection that ends before its handshake has begun.
fn turned_away(shard: &Shard, reason: EndReason) {
    shard.telemetry.handshakes_failed.add(1);
    shard.telemetry.ends[reason].add(1);
}
