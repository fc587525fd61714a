//! What wakes a shard that has gone to sleep on runnable work.
//!
//! glommio 0.9 arms the timer that ends a turn, goes to the kernel, and then runs tasks until that timer is over. Where the
//! thread loses its core for longer than a turn in between, the turn ends before its first task, the executor takes that for
//! having nothing to do, and sleeps. What wakes it then is a timer or bytes from outside. So each shard has a timer of a few ms
//! ([`beat`]). But a timer is armed again by the task that waits for it, which is among those that did not run: where all that
//! were armed are over in such a round, none is left, and a shard whose gateways wait for it sleeps for good. So a thread of
//! its own wakes every shard by a clock that no task has to wind ([`Clock`]).

use std::cell::Cell;
use std::io;
use std::rc::Rc;
use std::sync::mpsc::{self, RecvTimeoutError, Sender};
use std::thread;
use std::time::Duration;

use super::Shard;
use super::inbox::InboxHandle;

/// Costs an idle shard some 0.5 % of its core.
const BEAT: Duration = Duration::from_millis(2);

/// The longest that a shard sleeps on runnable work, but for the thread that wakes it waiting for a core itself. Costs a write to
/// an eventfd for each shard.
const WAKE_EVERY: Duration = Duration::from_millis(100);

/// A shard without a beat for so long has had no turn, in ns: what came meanwhile is not as old as its reading.
const STALLED_AFTER_NS: u64 = 500_000_000;

/// Wakes the shards for as long as it is there.
pub(super) struct Clock {
    /// Nothing is ever sent; the thread ends when this is dropped.
    _runs: Sender<()>,
}

impl Clock {
    /// # Errors
    /// There is no thread to be had.
    pub fn start(inboxes: Vec<InboxHandle>) -> io::Result<Self> {
        let (runs, stops) = mpsc::channel::<()>();
        thread::Builder::new().name("shard-clock".into()).spawn(move || {
            while stops.recv_timeout(WAKE_EVERY) == Err(RecvTimeoutError::Timeout) {
                inboxes.iter().for_each(InboxHandle::wake);
            }
        })?;
        Ok(Self { _runs: runs })
    }
}

/// A time in which the shard had no turn, ns of its clock; both are 0 where there was none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Stall {
    pub began_ns: u64,
    pub ended_ns: u64,
}

/// Follows the beats of a shard.
pub(super) struct Beats {
    last_ns: Cell<u64>,
    stall: Cell<Stall>,
}

impl Beats {
    pub fn new(now_ns: u64) -> Self {
        Self {
            last_ns: Cell::new(now_ns),
            stall: Cell::default(),
        }
    }

    fn beat(&self, now_ns: u64) {
        self.stall.set(self.last_stall(now_ns));
        self.last_ns.set(now_ns);
    }

    /// The last of them, which may be ending now.
    pub fn last_stall(&self, now_ns: u64) -> Stall {
        match self.is_overdue(now_ns) {
            true => Stall {
                began_ns: self.last_ns.get(),
                ended_ns: now_ns,
            },
            false => self.stall.get(),
        }
    }

    /// Whether a stall is ending: there was no beat since.
    pub fn is_overdue(&self, now_ns: u64) -> bool {
        now_ns.saturating_sub(self.last_ns.get()) > STALLED_AFTER_NS
    }
}

/// Wakes its own shard, and notes when it ran last.
pub(super) async fn beat(shard: Rc<Shard>) {
    loop {
        let now_ns = shard.now_ns();
        shard.beats.beat(now_ns);
        shard.telemetry.beat_ns.set(now_ns);
        glommio::timer::sleep(BEAT).await;
    }
}

#[cfg(test)]
mod tests {
    use std::future::poll_fn;
    use std::task::Poll;

    use glommio::{LocalExecutorBuilder, Placement};

    use super::*;
    use crate::shard::IO_MEMORY;

    /// Longer than anything here takes, on a slow machine too.
    const PATIENCE: Duration = Duration::from_secs(60);

    #[test]
    fn a_beat_that_comes_late_ends_a_stall() {
        let beats = Beats::new(7);
        assert_eq!(beats.last_stall(7 + STALLED_AFTER_NS), Stall::default());
        beats.beat(100);
        let (began_ns, ended_ns) = (100, 101 + STALLED_AFTER_NS);
        let stall = Stall { began_ns, ended_ns };
        assert!(beats.is_overdue(ended_ns));
        assert_eq!(beats.last_stall(ended_ns), stall, "seen before the beat is");
        beats.beat(ended_ns);
        beats.beat(ended_ns + 10);
        assert!(!beats.is_overdue(ended_ns + 20));
        assert_eq!(beats.last_stall(ended_ns + 20), stall);
    }

    /// One that has no timer of its own, no I/O, and nothing left to take.
    #[test]
    fn an_executor_that_nothing_else_would_wake_is_woken_again_and_again() {
        let inbox = InboxHandle::new();
        let clock = Clock::start(vec![inbox.clone()]).expect("a thread");
        let (done, woken) = mpsc::channel();
        let executor = LocalExecutorBuilder::new(Placement::Unbound)
            .io_memory(IO_MEMORY)
            .spawn(move || async move {
                let mut turns = 0;
                poll_fn(|cx| {
                    inbox.register(cx.waker());
                    turns += 1;
                    if turns > 5 { Poll::Ready(()) } else { Poll::Pending }
                })
                .await;
                inbox.close();
                done.send(inbox.is_empty()).expect("the test waits");
            });
        assert_eq!(woken.recv_timeout(PATIENCE), Ok(true), "nothing was left for it");
        executor.expect("an executor").join().expect("it ended");
        drop(clock);
    }
}
