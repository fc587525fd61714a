//! The listening sockets: one a shard on the same address, with a backlog that a storm of reconnects fits in.

use std::io;
use std::net::SocketAddr;
use std::os::fd::{FromRawFd, IntoRawFd, OwnedFd};
use std::rc::Rc;
use std::time::Duration;

use glommio::net::TcpListener;
use socket2::{Domain, Protocol, Socket, Type};

use super::{Shard, handshake};
use crate::telemetry::Bound;

/// Connections the kernel may hold for one shard before it accepts them; the system's own limit
/// (`net.core.somaxconn`) may lower it.
pub const BACKLOG: i32 = 16_384;

/// How long accepting rests after an error such as running out of file descriptors, so that it does not spin.
const ACCEPT_REST: Duration = Duration::from_millis(100);

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

/// Accepts until the shard drains. Every connection gets a task in the handshake queue.
pub(super) async fn accept(shard: Rc<Shard>, socket: Socket) {
    // SAFETY: `into_raw_fd` gives up the only owner of this listening socket, so the listener made here is the one
    // that closes it.
    let listener = unsafe { TcpListener::from_raw_fd(socket.into_raw_fd()) };
    loop {
        match listener.shared_accept().await {
            Ok(accepted) => {
                shard.telemetry.connections_accepted.add(1);
                let Ok(peer) = accepted.peer_addr() else {
                    // Gone already. Binding it to the executor owns the descriptor, so dropping it closes it.
                    drop(accepted.bind_to_executor());
                    continue;
                };
                let stream = accepted.bind_to_executor();
                if shard.handshakes.get() >= shard.settings.limits.handshakes_per_shard {
                    shard.telemetry.bounds[Bound::Handshakes].add(1);
                    continue;
                }
                handshake::spawn(&shard, stream, peer);
                // A storm of connections is accepted without a wait between them.
                glommio::yield_if_needed().await;
            }
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection; trying again in {ACCEPT_REST:?}");
                glommio::timer::sleep(ACCEPT_REST).await;
            }
        }
    }
}

/// Gives a stream's socket away: what it was bound to forgets it.
pub(super) fn detach(stream: glommio::net::TcpStream) -> io::Result<OwnedFd> {
    use std::os::fd::{AsFd, AsRawFd, BorrowedFd};
    // SAFETY: the descriptor stays open as long as `stream` lives, which is longer than this borrow.
    let fd = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
    // The stream cannot give its descriptor up, so a second one to the same socket goes and the first is closed.
    fd.as_fd().try_clone_to_owned()
}

/// Makes a stream of this executor out of a socket that came from another one.
pub(super) fn attach(socket: OwnedFd) -> glommio::net::TcpStream {
    // SAFETY: `into_raw_fd` gives up the only owner, so the stream made here is the one that closes it.
    unsafe { glommio::net::TcpStream::from_raw_fd(socket.into_raw_fd()) }
}
