//! Reads that have a deadline, before a connection is a session, and what was not read.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::pin::{Pin, pin};
use std::task::Poll;
use std::time::Instant;

use futures_lite::AsyncRead;
use glommio::net::TcpStream;
use glommio::timer::Timer;

/// Reads what has come, and notes while there is nothing; none where nothing has come by the deadline. What lies in the kernel when the deadline is over was in time: after a stall
/// of the shard, or of the whole process, its timers are due before it has read anything.
///
/// # Errors
/// That of the read.
pub(super) async fn read_by(
    deadline: Instant,
    stream: &mut TcpStream,
    buffer: &mut [u8],
    is_dry: &Cell<bool>,
) -> io::Result<Option<usize>> {
    let mut late = pin!(Timer::new(deadline.saturating_duration_since(Instant::now())));
    poll_fn(|cx| {
        let read = Pin::new(&mut *stream).poll_read(cx, buffer);
        is_dry.set(read.is_pending());
        if read.is_pending() && late.as_mut().poll(cx).is_ready() && !has_more(stream)? {
            return Poll::Ready(Ok(None));
        }
        read.map_ok(Some)
    })
    .await
}

/// Whether the kernel has bytes that were not read.
///
/// # Errors
/// The system does not say.
pub(super) fn has_more(stream: &TcpStream) -> io::Result<bool> {
    // SAFETY: the descriptor is open for as long as `stream` lives, which outlives this borrow.
    let socket = unsafe { BorrowedFd::borrow_raw(stream.as_raw_fd()) };
    Ok(rustix::io::ioctl_fionread(socket)? > 0)
}
