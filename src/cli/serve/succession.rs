//! How a planned restart ends: once the pool has stopped, or has not in time.

use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use millrace::control::ToldToStop;
use millrace::ledger::{Health, HealthState};
use millrace::shard::Standing;
use socket2::Socket;

use super::successor::Successor;

/// What the next process begins with. Whoever waits for the pool to stop begins it, or who waits for that no longer; it takes the
/// place of all of this one's threads, wherever they are, and closes what they have open, the ledger and its lock included.
pub(super) struct Succession {
    pub successor: Successor,
    pub listeners: Vec<Socket>,
    pub from_systemd: bool,
    pub standing: Arc<Standing>,
    pub told_to_stop: ToldToStop,
    pub health: Health,
    /// Held by who begins it: two would mix up what is passed on.
    pub began: Mutex<()>,
}

impl Succession {
    /// Becomes the next process, unless this one was told to stop meanwhile or its ledger has failed.
    ///
    /// Gives back why it could not.
    pub fn begin(&self) -> Option<io::Error> {
        let _alone = self.began.lock().unwrap_or_else(PoisonError::into_inner);
        if self.told_to_stop.is_so() || matches!(self.health.state(), HealthState::Failed(_)) {
            return None;
        }
        tracing::info!("the next process begins");
        let connections = self.standing.take_connections();
        Some(
            self.successor
                .become_it(&self.listeners, &connections, self.from_systemd),
        )
    }
}
