//! How a shard stops: by order, or because the ledger has failed.
//!
//! Either way nothing new begins, what can still be done is done, and after [`DRAIN_DEADLINE`] the rest is closed as
//! it is, so that the executor ends whatever peers do.

use std::cell::RefCell;
use std::future;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Poll, Waker};
use std::time::Duration;

use futures_lite::future::{or, poll_fn};

use super::Shard;
use super::mailbox::Mailbox;
use crate::telemetry::{Bound, EndReason};

/// From the order to stop to when sessions are closed as they are.
pub const DRAIN_DEADLINE: Duration = Duration::from_secs(8);

/// How long a drain waits for a HELLO that is on its way. What has come by then becomes a session, and has its CONFIG before
/// it is closed: a gateway that was connected tries again at once, and one that was cut off waits.
pub const HELLO_GRACE: Duration = Duration::from_secs(1);

/// How often an empty shard looks whether others still have a HELLO that could be for it.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What is closed as it is needs a turn of its task and no more.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

/// What a stall of the whole process counts at most of one of these: after it every timer is due, and nobody has had a turn.
const STEP: Duration = Duration::from_millis(500);

/// Said before a session stops reading; the last word of a session whose pool failed is its [`EndReason`]'s.
const DRAIN_LINE: &str = "the pool is stopping; work under way is answered, and reconnecting resumes it";

/// How far a shard has come; it never goes back.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Phase {
    Serving,
    /// Nothing new begins, but for sessions whose HELLO was under way. What is under way may still reach the disk.
    Draining,
    /// Nothing reaches the disk any more that has not: nobody waits for it.
    Closing,
}

/// How many HELLOs are read or opened, on all shards of a pool.
#[derive(Debug, Default)]
pub struct Greetings(AtomicUsize);

/// One of them.
pub(super) struct UnderWay<'a>(&'a Greetings);

impl Greetings {
    pub(super) fn begin(&self) -> UnderWay<'_> {
        self.0.fetch_add(1, Ordering::AcqRel);
        UnderWay(self)
    }

    fn are_over(&self) -> bool {
        self.0.load(Ordering::Acquire) == 0
    }
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Who waits for the shard to be empty: the task that ends it.
#[derive(Default)]
pub(super) struct Emptied(RefCell<Option<Waker>>);

impl Shard {
    pub fn is_stopping(&self) -> bool {
        self.phase.get() > Phase::Serving
    }

    /// Whether nothing reaches the disk any more.
    pub fn is_closing(&self) -> bool {
        self.phase.get() == Phase::Closing
    }

    /// Why what has not begun does not begin any more.
    pub fn stop_reason(&self) -> EndReason {
        if self.ledger.borrow().failed() {
            EndReason::PoolFailed
        } else {
            EndReason::Drained
        }
    }

    /// Ends when the shard is to stop; any number may wait.
    pub async fn until_stop(&self) {
        // The semaphore never has a unit, so all that can come is the word that it is closed.
        let _ = self.stop.acquire(1).await;
    }

    /// Ends when a connection whose HELLO has not come need not wait for it any more. `more_lies_there`: some of what came has
    /// not been read.
    pub async fn until_no_hello_counts(&self, has_come: impl Fn() -> bool, more_lies_there: impl Fn() -> bool) {
        self.until_stop().await;
        if !self.is_closing() {
            wait_out(HELLO_GRACE).await;
            while_so(HELLO_GRACE, more_lies_there).await;
        }
        if has_come() && !self.is_closing() {
            future::pending::<()>().await;
        }
    }

    /// Stops by order: sessions say so, read no more, answer what is under way and close.
    pub fn drain(&self) {
        if self.is_stopping() {
            return;
        }
        tracing::info!(shard = self.index, sessions = self.slots.borrow().len(), "draining");
        self.enter(Phase::Draining);
        for session in self.slots.borrow().iter() {
            self.drain_session(session);
        }
    }

    pub fn drain_session(&self, session: &Mailbox) {
        if session.info(Arc::from(DRAIN_LINE)).is_err() {
            self.telemetry.bounds[Bound::InfoLines].add(1);
        }
        session.drain(self.now_ms());
    }

    /// The end of the log is unknown: no share may be accepted any more, and none of those under way is answered.
    pub fn fail(&self) {
        if self.phase.get() == Phase::Closing {
            return;
        }
        tracing::error!(shard = self.index, "the ledger has failed; closing all sessions");
        self.enter(Phase::Closing);
        for session in self.slots.borrow().iter() {
            session.end(EndReason::PoolFailed);
        }
    }

    /// Waits for the last session, handshake and mark, and closes as it is what does not end in time.
    pub async fn end(self: &Rc<Self>) {
        if self.is_empty_within(DRAIN_DEADLINE).await {
            return;
        }
        tracing::warn!(
            shard = self.index,
            sessions = self.slots.borrow().len(),
            "not all sessions ended in time; closing them as they are"
        );
        self.enter(Phase::Closing);
        for session in self.slots.borrow().iter() {
            session.end(EndReason::Drained);
            session.cut();
        }
        if !self.is_empty_within(CLOSE_DEADLINE).await {
            tracing::error!(shard = self.index, "sessions are left behind");
        }
    }

    /// Something ended; the last wakes who waits for that.
    pub fn note_end(&self) {
        if self.is_empty()
            && let Some(waker) = self.emptied.0.borrow_mut().take()
        {
            waker.wake();
        }
    }

    fn enter(&self, phase: Phase) {
        self.phase.set(phase);
        self.stop.close();
        self.dissolve_line();
    }

    fn is_empty(&self) -> bool {
        self.slots.borrow().len() == 0 && self.handshakes.get() == 0 && self.ending.get() == 0
    }

    async fn is_empty_within(&self, limit: Duration) -> bool {
        let emptied = async {
            loop {
                poll_fn(|cx| {
                    if self.is_empty() {
                        return Poll::Ready(());
                    }
                    *self.emptied.0.borrow_mut() = Some(cx.waker().clone());
                    Poll::Pending
                })
                .await;
                // In this order: what was sent here before the last was over is seen by the second look.
                if self.settings.greetings.are_over() && self.peers[self.index].is_empty() && self.is_empty() {
                    return true;
                }
                glommio::timer::sleep(LOOK_AGAIN).await;
            }
        };
        let late = async {
            wait_out(limit).await;
            false
        };
        or(emptied, late).await
    }
}

/// Waits so long, of time in which the shard had its turns but for a [`STEP`].
async fn wait_out(limit: Duration) {
    for _ in 0..steps(limit, STEP) {
        glommio::timer::sleep(STEP).await;
    }
}

/// Waits while it is so, which is looked at a turn of the shard after another for as long as `limit`.
async fn while_so(limit: Duration, is_so: impl Fn() -> bool) {
    for _ in 0..steps(limit, LOOK_AGAIN) {
        if !is_so() {
            return;
        }
        glommio::timer::sleep(LOOK_AGAIN).await;
    }
}

fn steps(limit: Duration, step: Duration) -> u128 {
    limit.as_millis().div_ceil(step.as_millis())
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;
    use std::future::Future;
    use std::time::Instant;

    use glommio::{LocalExecutorBuilder, Placement};

    use super::*;
    use crate::shard::{FIRST_TURN, IO_MEMORY};

    /// Runs it on an executor that has nothing else to do.
    fn run<F: Future<Output = ()> + 'static>(test: impl FnOnce() -> F + Send + 'static) {
        let executor = LocalExecutorBuilder::new(Placement::Unbound)
            .io_memory(IO_MEMORY)
            .preempt_timer(FIRST_TURN)
            .spawn(test);
        executor.expect("an executor").join().expect("it ended");
    }

    #[test]
    fn of_a_stall_one_step_counts() {
        run(|| async {
            let (began, stall) = (Instant::now(), 4 * STEP);
            let waited = or(
                async {
                    wait_out(4 * STEP).await;
                    true
                },
                async {
                    // Nobody has a turn meanwhile.
                    std::thread::sleep(stall);
                    future::pending().await
                },
            );
            assert!(waited.await);
            assert!(began.elapsed() >= stall + 3 * STEP, "{:?}", began.elapsed());
        });
    }

    #[test]
    fn what_lies_in_the_kernel_is_waited_for_a_bounded_number_of_looks() {
        run(|| async {
            let looks = Cell::new(0);
            let until = |enough: u32| {
                looks.set(0);
                let looks = &looks;
                while_so(HELLO_GRACE, move || {
                    looks.set(looks.get() + 1);
                    looks.get() < enough
                })
            };
            until(1).await;
            assert_eq!(looks.get(), 1);
            until(7).await;
            assert_eq!(looks.get(), 7);
            until(u32::MAX).await;
            assert_eq!(u128::from(looks.get()), steps(HELLO_GRACE, LOOK_AGAIN));
        });
    }
}
