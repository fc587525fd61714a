//! Threads with much to do beside those that shares wait for.

use std::convert::Infallible;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError};

use super::error::LedgerError;

/// After so long without a rest such a thread rests as long as it worked: at a low priority, and never for long at a stretch.
const WORKS_FOR: Duration = Duration::from_millis(2);

/// Shares that are read between two looks at the clock.
pub(super) const READ_STEP: u64 = 1_024;

/// The least priority of all, for [`step_back`].
pub(super) const LEAST: i32 = 19;

/// Has others go before the calling thread where they wait for the same core. `nice`: as nice(1) counts it; 5 leaves it a quarter of a
/// core beside one other thread, 19 next to nothing.
pub fn step_back(nice: i32) {
    let thread = rustix::thread::gettid();
    if let Err(error) = rustix::process::setpriority_process(Some(thread), nice) {
        tracing::warn!(%error, "a thread that nobody waits for runs at the priority of all");
    }
}

/// Work and rest in turn.
pub(super) struct Pace {
    /// Its other end is gone when the ledger is being closed.
    pub stopped: Receiver<Infallible>,
    /// Since when it has worked.
    pub since: Instant,
}

impl Pace {
    pub fn new(stopped: Receiver<Infallible>) -> Self {
        Self {
            stopped,
            since: Instant::now(),
        }
    }

    /// Rests where that is due.
    ///
    /// # Errors
    /// The ledger is being closed.
    pub fn rest(&mut self) -> Result<(), LedgerError> {
        let worked = self.since.elapsed();
        if worked < WORKS_FOR {
            return Ok(());
        }
        if self.stops_within(worked) {
            return Err(LedgerError::Closing);
        }
        self.since = Instant::now();
        Ok(())
    }

    pub fn stops_within(&self, time: Duration) -> bool {
        match self.stopped.recv_timeout(time) {
            Err(RecvTimeoutError::Timeout) => false,
            Err(RecvTimeoutError::Disconnected) => true,
            Ok(never) => match never {},
        }
    }
}
