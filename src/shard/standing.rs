//! Listening sockets that stay open while one process of the pool makes room for the next.

use std::io;
use std::os::fd::OwnedFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use socket2::Socket;

use super::listener::SEND_BUFFER;

/// What outlives the process of its listening sockets: whether they stay open, and who was accepted too late.
///
/// A drain closes them otherwise. Where they stay nobody is refused: who connects waits in the kernel's backlog.
#[derive(Debug, Default)]
pub struct Standing {
    stays: AtomicBool,
    connections: Mutex<Vec<OwnedFd>>,
}

impl Standing {
    /// From now on a drain leaves the sockets open: another process has them too, or is about to get them.
    pub fn stay(&self) {
        self.stays.store(true, Ordering::Release);
    }

    pub(super) fn stays(&self) -> bool {
        self.stays.load(Ordering::Acquire)
    }

    /// Keeps a connection that the kernel accepted when its shard had stopped: one a listener at most. Nothing was read
    /// from it.
    pub(super) fn keep(&self, connection: OwnedFd) {
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(connection);
    }

    /// Those kept so far. Call it when the shards have ended.
    #[must_use]
    pub fn take_connections(&self) -> Vec<OwnedFd> {
        std::mem::take(&mut self.connections.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

/// Deals listening sockets to shards, so that each shard has one at least and each socket a shard. Where there are fewer
/// sockets than shards, several accept from one: the kernel gives a connection to one of them.
///
/// # Errors
/// The process has no descriptor left.
///
/// # Panics
/// There is no socket, or no shard.
pub fn deal(sockets: &[Socket], shards: usize) -> io::Result<Vec<Vec<Socket>>> {
    assert!(!sockets.is_empty() && shards > 0, "sockets, and shards for them");
    // What is accepted on them has it too.
    sockets
        .iter()
        .try_for_each(|socket| socket.set_send_buffer_size(SEND_BUFFER))?;
    let mut dealt: Vec<Vec<Socket>> = (0..shards).map(|_| Vec::new()).collect();
    for at in 0..sockets.len().max(shards) {
        dealt[at % shards].push(sockets[at % sockets.len()].try_clone()?);
    }
    Ok(dealt)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shard::bind;

    #[test]
    fn every_shard_has_a_socket_and_every_socket_a_shard() {
        let any = "127.0.0.1:0".parse().expect("an address");
        let (_, sockets) = bind(any, 3).expect("a free port");
        for (count, shards, lens) in [
            (3, 3, vec![1, 1, 1]),
            (1, 3, vec![1, 1, 1]),
            (3, 2, vec![2, 1]),
            (2, 1, vec![2]),
        ] {
            let dealt = deal(&sockets[..count], shards).expect("descriptors");
            assert_eq!(dealt.iter().map(Vec::len).collect::<Vec<_>>(), lens);
        }
        // Of one that was accepted the kernel holds no more than was asked for, and its own part.
        let address = sockets[0]
            .local_addr()
            .expect("bound")
            .as_socket()
            .expect("a TCP socket");
        let _peer = std::net::TcpStream::connect(address).expect("it listens");
        let held = sockets.iter().find_map(|socket| {
            socket.set_nonblocking(true).expect("a socket");
            socket.accept().ok()?.0.send_buffer_size().ok()
        });
        assert_eq!(held, Some(2 * SEND_BUFFER));
    }
}
