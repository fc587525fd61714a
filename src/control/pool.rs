//! What the control plane sees of the pool: its numbers, its health, and where orders go.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc};
use std::time::{Duration, Instant, SystemTime};

use tokio::task::spawn_blocking;

use super::in_force::LeftOut;
use super::write_watch::WriteWatch;
use super::{BanDesk, Control, KeyDesk, PolicyDesk};
use crate::ledger::{HealthState, OrderDesk, monotonic_ns};
use crate::node::ChainBlocks;
use crate::shard::{InboxFull, ShardCommand};
use crate::telemetry::Telemetry;

/// How long an order to drain is offered to a shard whose inbox is full. A shard drains for 8 s, and all must be over
/// within 10 s.
const DRAIN_OFFERED_FOR: Duration = Duration::from_secs(1);

/// How long a shard may take for what lies in its inbox: it does in its next turn.
const TAKEN_PATIENCE: Duration = Duration::from_secs(10);

pub(super) const NOT_TAKEN_YET: &str =
    "it is on disk, but some shard is busy: there it is in force as soon as the shard has the time";

/// How long it rests between two offers.
pub(super) const OFFER_REST: Duration = Duration::from_millis(10);

/// Leaves an order with a shard.
pub(super) type Order = Box<dyn Fn(ShardCommand) -> Result<(), InboxFull> + Send + Sync>;

/// How the ledger is.
pub(super) type AskHealth = Box<dyn Fn() -> HealthState + Send + Sync>;

pub(super) struct Pool {
    pub telemetry: Telemetry,
    orders: Vec<Order>,
    health: AskHealth,
    write: Mutex<WriteWatch>,
    pub(super) left_out: LeftOut,
    /// None in tests without books.
    pub desk: Option<OrderDesk>,
    /// None without nodes.
    pub chain: Option<ChainBlocks>,
    /// None in tests without keys.
    pub keys: Option<Arc<KeyDesk>>,
    /// None in tests without one.
    pub policy: Option<Arc<PolicyDesk>>,
    /// None in tests without guards.
    pub bans: Option<Arc<BanDesk>>,
    pub started: SystemTime,
    started_instant: Instant,
}

impl Pool {
    pub fn new(control: Control) -> Self {
        let Control {
            telemetry,
            inboxes,
            health,
            desk,
            keys,
            policy,
            bans,
            chain: _,
            prepare_restart: _,
            memory_limit_bytes: _,
        } = control;
        let order = |inbox: crate::shard::InboxHandle| -> Order { Box::new(move |command| inbox.send(command)) };
        let orders = inboxes.into_iter().map(order).collect();
        let parts = Self::of_parts(telemetry, orders, Box::new(move || health.state()));
        Self {
            desk: Some(desk),
            keys: Some(keys),
            policy: Some(policy),
            bans: Some(bans),
            ..parts
        }
    }

    /// With anything that takes orders and knows how the ledger is.
    pub(super) fn of_parts(telemetry: Telemetry, orders: Vec<Order>, health: AskHealth) -> Self {
        Self {
            telemetry,
            orders,
            health,
            write: Mutex::default(),
            left_out: LeftOut::default(),
            desk: None,
            chain: None,
            keys: None,
            policy: None,
            bans: None,
            started: SystemTime::now(),
            started_instant: Instant::now(),
        }
    }

    pub fn uptime(&self) -> Duration {
        self.started_instant.elapsed()
    }

    /// How the ledger was when it was last looked at.
    pub fn health(&self) -> HealthState {
        match (self.health)() {
            HealthState::Good => match self.write().hangs_for() {
                Some(long) => {
                    HealthState::Failed(format!("the disk has not finished a write for {} s", long.as_secs()))
                }
                None => HealthState::Good,
            },
            state => state,
        }
    }

    /// Looks at how the ledger is. To be called some times a second: see [`WriteWatch`].
    pub fn look_at_health(&self) -> HealthState {
        let since_ns = self.telemetry.ledger.waiting_since_ns.value();
        self.write().look(since_ns, monotonic_ns());
        self.health()
    }

    fn write(&self) -> MutexGuard<'_, WriteWatch> {
        self.write.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn shards(&self) -> usize {
        self.orders.len()
    }

    /// Leaves a command with every shard; says which of them had no room, by index.
    pub fn order(&self, command: &ShardCommand) -> Vec<usize> {
        self.order_these(command, 0..self.orders.len())
    }

    /// Waits until every shard has taken what was left with it before.
    ///
    /// # Errors
    /// Some shard has no room for the question, or has not answered in time; what was left before is taken all the same.
    pub async fn all_is_taken(&self) -> Result<(), &'static str> {
        let (reply, taken) = mpsc::channel();
        if !self.order(&ShardCommand::Taken(reply)).is_empty() {
            return Err(NOT_TAKEN_YET);
        }
        let shards = self.shards();
        // Not on the runtime's thread, which has others to answer meanwhile.
        let all = spawn_blocking(move || (0..shards).all(|_| taken.recv_timeout(TAKEN_PATIENCE).is_ok())).await;
        all.unwrap_or(false).then_some(()).ok_or(NOT_TAKEN_YET)
    }

    /// Orders every shard to drain. Where one has no room even after a while it is left out: it is stuck, or gone.
    pub async fn drain(&self) {
        let deadline = Instant::now() + DRAIN_OFFERED_FOR;
        let mut left = self.order(&ShardCommand::Drain);
        while !left.is_empty() && Instant::now() < deadline {
            tokio::time::sleep(OFFER_REST).await;
            left = self.order_these(&ShardCommand::Drain, left);
        }
        for shard in left {
            tracing::error!(shard, "the shard takes no order to drain");
        }
    }

    pub fn order_these(&self, command: &ShardCommand, shards: impl IntoIterator<Item = usize>) -> Vec<usize> {
        let mut left = Vec::new();
        for shard in shards {
            if self.orders[shard](command.clone()).is_err() {
                left.push(shard);
            }
        }
        left
    }
}
