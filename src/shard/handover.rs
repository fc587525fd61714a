//! A connection's way from the shard that accepted it to the one that owns its gateway.
//!
//! A stream of glommio cannot give its descriptor up, so a second one to the same socket is made and goes, and the
//! stream is dropped with the first. What that relies on, read in glommio 0.9:
//!
//! * No byte is lost. A stream without a buffer holds none, and what it keeps under way in io_uring is a poll for
//!   readiness, never a read (`net/stream.rs`). What was read before travels beside the socket.
//! * The stream's poll ends with it. One not submitted yet is only marked, and never is; one that the kernel has is
//!   cancelled by its own id, so it cannot hit a descriptor that has the same number by then (`sys/source.rs`). It
//!   holds the socket open until the executor next enters the kernel, which delays nobody: the other shard's polls
//!   are its own.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, IntoRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use glommio::net::TcpStream;

/// Connections that a shard has let go of and no other has taken yet. Each is a descriptor that the process has, so it counts
/// among the handshakes of the shard that accepted it until it counts where it is going.
#[derive(Default)]
pub(super) struct OnTheWay(Arc<AtomicUsize>);

/// One of them, until it is dropped.
pub(super) struct Travels(Arc<AtomicUsize>);

impl OnTheWay {
    pub fn begin(&self) -> Travels {
        self.0.fetch_add(1, Ordering::Relaxed);
        Travels(self.0.clone())
    }

    pub fn count(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Travels {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// Takes the socket out of this executor.
///
/// # Errors
/// The process has no descriptor left.
pub(super) fn detach(stream: TcpStream) -> io::Result<OwnedFd> {
    // SAFETY: the descriptor is open for as long as `stream` lives, which is to the end of this function, and the
    // borrow ends before that.
    let socket = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
    socket.try_clone_to_owned()
}

/// Makes a stream of the calling executor out of a socket.
pub(super) fn attach(socket: OwnedFd) -> TcpStream {
    // SAFETY: `into_raw_fd` gives up the only owner, so the stream made here is the one that closes it.
    unsafe { TcpStream::from_raw_fd(socket.into_raw_fd()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_in_an_inbox_counts_where_it_came_from_until_another_thread_takes_it() {
        let on_the_way = OnTheWay::default();
        let mut inbox = vec![on_the_way.begin(), on_the_way.begin()];
        assert_eq!(on_the_way.count(), 2);
        let taken = inbox.pop();
        std::thread::spawn(move || drop(taken)).join().expect("it is dropped");
        assert_eq!(on_the_way.count(), 1);
        drop(inbox);
        assert_eq!(on_the_way.count(), 0);
    }
}
