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

use glommio::net::TcpStream;

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
