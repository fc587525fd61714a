//! The control plane: metrics over HTTP, signals and `control.sock`. The only place that knows tokio.
//!
//! It is off the way of a share: it reads what shards and ledger count, and leaves orders in the shards' inboxes. It
//! also decides that the pool stops, and why.

mod bans;
mod chain;
mod command;
mod guards;
mod http;
mod in_force;
mod keys;
mod memory;
mod metrics;
mod policy;
mod pool;
mod publisher;
mod sheet;
mod signals;
mod socket;
mod status;
mod store;
mod write_watch;

use std::fmt;
use std::future::Future;
use std::io;
use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval};

pub use self::bans::BanDesk;
pub use self::chain::{ChainSource, ChainTold, MetNodes};
pub use self::keys::{KeyCount, KeyDesk};
pub use self::policy::{PolicyDesk, PolicyError, ShownRule};
use self::pool::Pool;
pub use self::signals::ToldToStop;
use self::signals::{RestartSignal, Signals};
use self::socket::ControlSocket;
pub use crate::config::SOCKET_NAME;
use crate::ledger::{Health, HealthState, OrderDesk};
use crate::shard::InboxHandle;
use crate::telemetry::Telemetry;

/// How often the ledger is asked whether it is well.
const HEALTH_EVERY: Duration = Duration::from_millis(100);

/// The control plane's runtime before there is a ledger: signals are caught, and nodes can be asked.
pub struct ControlRuntime {
    runtime: Runtime,
    signals: Signals,
    restart: RestartSignal,
    told_to_stop: ToldToStop,
}

/// The control plane before it has a pool: signals are caught and addresses taken, so that whatever is wrong there
/// shows before the first gateway connects, and no signal after that is lost.
pub struct ControlPlane {
    runtime: Runtime,
    signals: Signals,
    restart: RestartSignal,
    socket: ControlSocket,
    metrics: Option<TcpListener>,
}

/// What the control plane looks after.
pub struct Control {
    pub telemetry: Telemetry,
    /// By the shard's index.
    pub inboxes: Vec<InboxHandle>,
    pub health: Health,
    /// Where orders for the books go.
    pub desk: OrderDesk,
    /// The pool's long-term keys.
    pub keys: Arc<KeyDesk>,
    pub policy: Arc<PolicyDesk>,
    pub bans: Arc<BanDesk>,
    /// None on the dev chain.
    pub chain: Option<ChainSource>,
    /// Makes sure that another process can take the pool's place, and that the listening sockets outlive a drain; else
    /// says why not. May take its time. None: SIGUSR2 does nothing.
    pub prepare_restart: Option<PrepareRestart>,
    /// What the process may hold in memory, in bytes; 0 for no limit.
    pub memory_limit_bytes: u64,
}

/// See [`Control::prepare_restart`].
pub type PrepareRestart = Box<dyn Fn() -> Result<(), String> + Send + Sync>;

/// Why the pool stops.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Stop {
    /// SIGTERM or SIGINT.
    Signal,
    /// SIGUSR2, and another process can take over.
    Restart,
    /// The command `drain` on `control.sock`.
    Command,
    /// The disk has `free` bytes left, below the ledger's `floor`.
    DiskLow { free: u64, floor: u64 },
    /// A write or fsync failed, for this reason.
    LedgerFailed(String),
    /// Nobody follows the chain or tends blocks of ours any more, for this reason: shares would be judged by a tip that stands
    /// still, or blocks would stay with us.
    ChainLost(String),
}

impl ControlRuntime {
    /// Catches SIGTERM, SIGINT and SIGUSR2 from now on.
    ///
    /// # Errors
    /// The system's own.
    pub fn start() -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let (signals, restart) = {
            let _entered = runtime.enter();
            (Signals::catch()?, RestartSignal::catch()?)
        };
        let told_to_stop = ToldToStop::catch()?;
        Ok(Self {
            runtime,
            signals,
            restart,
            told_to_stop,
        })
    }

    /// Whether SIGTERM has come since.
    #[must_use]
    pub fn told_to_stop(&self) -> ToldToStop {
        self.told_to_stop.clone()
    }

    /// Runs to its end what a start waits for; none where a signal to stop comes first.
    pub fn wait_for<T>(&mut self, future: impl Future<Output = T>) -> Option<T> {
        self.runtime.block_on(async {
            tokio::select! {
                () = self.signals.stop() => None,
                done = future => Some(done),
            }
        })
    }
}

impl ControlPlane {
    /// Takes the path of `control.sock`.
    ///
    /// Call it with the ledger open: the ledger's lock says that no other pool serves this data folder, so a socket
    /// found there was left by one that is gone. `metrics` is bound already; none means no metrics over HTTP.
    ///
    /// # Errors
    /// The system's own; for the socket with its path, such as one that is too long or is no socket.
    pub fn open(started: ControlRuntime, socket_path: &Path, metrics: Option<TcpListener>) -> io::Result<Self> {
        let ControlRuntime {
            runtime,
            signals,
            restart,
            told_to_stop: _,
        } = started;
        if let Some(listener) = &metrics {
            listener.set_nonblocking(true)?;
        }
        Ok(Self {
            signals,
            restart,
            socket: ControlSocket::bind(socket_path)?,
            metrics,
            runtime,
        })
    }

    /// Serves on the calling thread until there is a reason to stop, orders every shard to drain, and says why.
    ///
    /// From then on SIGINT ends the process at once, and metrics and `control.sock` are gone. Call it on the main
    /// thread: that is where the system delivers signals first, so that they interrupt no shard.
    pub fn run(self, mut control: Control) -> Stop {
        let memory_limit_bytes = control.memory_limit_bytes;
        let chain = control.chain.take().map(|source| (source, control.desk.clone()));
        let prepare_restart = control.prepare_restart.take();
        let blocks = chain.as_ref();
        let blocks = blocks.map(|(source, desk)| source.blocks(desk, &control.telemetry));
        let mut pool = Pool::new(control);
        pool.chain = blocks;
        self.look_after(pool, chain, prepare_restart, memory_limit_bytes)
    }

    fn look_after(
        self,
        pool: Pool,
        chain: Option<(ChainSource, OrderDesk)>,
        prepare_restart: Option<PrepareRestart>,
        memory_limit_bytes: u64,
    ) -> Stop {
        let Self {
            runtime,
            mut signals,
            mut restart,
            socket,
            metrics,
        } = self;
        let pool = Arc::new(pool);
        let stop = runtime.block_on(async {
            let drain = Arc::new(Notify::new());
            if let Some(listener) = metrics {
                tokio::spawn(http::serve(listener, pool.clone()));
            }
            tokio::spawn(memory::watch(pool.clone(), memory_limit_bytes));
            tokio::spawn(bans::keep(pool.clone()));
            tokio::spawn(keys::watch(pool.clone()));
            tokio::spawn(socket.serve(pool.clone(), drain.clone()));
            let following = chain.map(|(source, desk)| tokio::spawn(chain::follow(source, pool.clone(), desk)));
            let stop = tokio::select! {
                // A ledger that has failed is the reason that counts, whoever else asks at the same time.
                biased;
                stop = illness(&pool) => stop,
                stop = loss_of_chain(following) => stop,
                () = signals.stop() => Stop::Signal,
                () = drain.notified() => Stop::Command,
                () = restart_is_prepared(&mut restart, prepare_restart) => Stop::Restart,
            };
            if stop.is_failure() {
                tracing::error!("the pool stops: {stop}");
            } else {
                tracing::info!("the pool stops: {stop}");
            }
            if !stop.is_failure() {
                bans::save_changes(&pool).await;
            }
            pool.drain().await;
            stop
        });
        signals::let_interrupt_end_the_process();
        stop
    }
}

impl Stop {
    /// Whether the process must end non-zero, so that its supervisor sees it.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        matches!(self, Self::DiskLow { .. } | Self::LedgerFailed(_) | Self::ChainLost(_))
    }
}

impl fmt::Display for Stop {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Signal => f.write_str("a signal"),
            Self::Restart => f.write_str("another process takes its place"),
            Self::Command => f.write_str("the command `drain`"),
            Self::DiskLow { free, floor } => {
                write!(
                    f,
                    "the disk has {free} bytes left, below its floor of {floor}; make room and start again"
                )
            }
            Self::LedgerFailed(why) => write!(f, "the ledger has failed: {why}"),
            Self::ChainLost(why) => write!(f, "the chain is not followed any more: {why}"),
        }
    }
}

/// Waits until a restart was asked for and can be made. Where it cannot the pool goes on as it is.
async fn restart_is_prepared(signal: &mut RestartSignal, prepare: Option<PrepareRestart>) {
    let prepare = prepare.map(Arc::new);
    loop {
        signal.asked().await;
        let Some(prepare) = prepare.clone() else {
            tracing::warn!("nothing can take this pool's place");
            continue;
        };
        let prepared = tokio::task::spawn_blocking(move || prepare()).await;
        match prepared.map_err(|error| error.to_string()).flatten() {
            Ok(()) => return,
            Err(why) => tracing::error!("no restart, the pool goes on as it is: {why}"),
        }
    }
}

/// Waits until the ledger is not well.
async fn illness(pool: &Pool) -> Stop {
    let mut ticks = interval(HEALTH_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match pool.look_at_health() {
            HealthState::Good => {}
            HealthState::DiskLow { free, floor } => return Stop::DiskLow { free, floor },
            HealthState::Failed(why) => return Stop::LedgerFailed(why),
        }
    }
}

/// Waits until nobody follows the chain or tends blocks of ours any more ([`chain::follow`]): while the runtime lives only a panic
/// brings that about. For ever where there is no chain to follow.
async fn loss_of_chain(following: Option<JoinHandle<String>>) -> Stop {
    match following {
        Some(following) => Stop::ChainLost(following.await.unwrap_or_else(|error| error.to_string())),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
