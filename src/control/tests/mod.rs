//! The control plane against a pool that only takes orders.

mod http;
mod metrics;
mod socket;

use std::io::{BufRead, BufReader, Write};
use std::net::{SocketAddr, TcpListener};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::time::timeout;

use super::pool::{Order, Pool};
use super::{ControlPlane, ControlRuntime, PolicyDesk, SOCKET_NAME, Stop, command, loss_of_chain};
use crate::ledger::HealthState;
use crate::shard::{InboxFull, ShardCommand};
use crate::telemetry::Telemetry;

/// Longer than anything here takes, on a slow machine too.
const PATIENCE: Duration = Duration::from_secs(30);

/// What the stand-in for the pool was told, and what it says of itself.
pub(super) struct StandIn {
    telemetry: Telemetry,
    orders: Mutex<Vec<Vec<ShardCommand>>>,
    /// Shards that have no room for an order.
    pub full: Vec<AtomicBool>,
    disk_low: AtomicBool,
    failed: AtomicBool,
}

impl StandIn {
    pub fn new(shards: usize) -> Arc<Self> {
        Arc::new(Self {
            telemetry: Telemetry::new(shards),
            orders: Mutex::new(vec![Vec::new(); shards]),
            full: (0..shards).map(|_| AtomicBool::new(false)).collect(),
            disk_low: AtomicBool::new(false),
            failed: AtomicBool::new(false),
        })
    }

    pub fn pool(self: &Arc<Self>) -> Pool {
        let order = |shard: usize| -> Order {
            let stand_in = self.clone();
            Box::new(move |command| stand_in.take(shard, command))
        };
        let stand_in = self.clone();
        let health = Box::new(move || {
            if stand_in.failed.load(Ordering::Relaxed) {
                HealthState::Failed("fsync: no such device".into())
            } else if stand_in.disk_low.load(Ordering::Relaxed) {
                HealthState::DiskLow { free: 5, floor: 10 }
            } else {
                HealthState::Good
            }
        });
        Pool::of_parts(
            self.telemetry.clone(),
            (0..self.full.len()).map(order).collect(),
            health,
        )
    }

    fn take(&self, shard: usize, command: ShardCommand) -> Result<(), InboxFull> {
        if self.full[shard].load(Ordering::Relaxed) {
            return Err(InboxFull);
        }
        self.orders.lock().expect("no test panicked with it")[shard].push(command);
        Ok(())
    }

    /// What the shards were left since the last call, where all of it is what `read` takes.
    pub fn heard<T>(&self, read: impl Fn(&ShardCommand) -> Option<T>) -> Vec<Vec<T>> {
        let mut orders = self.orders.lock().expect("no test panicked with it");
        let read = |order: ShardCommand| read(&order).unwrap_or_else(|| panic!("{order:?}"));
        let of_shards = orders.iter_mut().map(std::mem::take);
        of_shards.map(|orders| orders.into_iter().map(read).collect()).collect()
    }

    /// The INFO lines that a shard was left.
    fn lines(&self, shard: usize) -> Vec<String> {
        let orders = self.orders.lock().expect("no test panicked with it");
        let line = |command: &ShardCommand| match command {
            ShardCommand::Info(line) => Some(line.to_string()),
            _ => None,
        };
        orders[shard].iter().filter_map(line).collect()
    }

    /// Whether `bad one` may not mine, by each policy that a shard was left.
    fn policies(&self, shard: usize) -> Vec<bool> {
        let orders = self.orders.lock().expect("no test panicked with it");
        let denies = |command: &ShardCommand| match command {
            ShardCommand::Policy(policy) => Some(policy.admit_agent("bad one").is_err()),
            _ => None,
        };
        orders[shard].iter().filter_map(denies).collect()
    }

    /// How often each shard was told to drain.
    fn drains(&self) -> Vec<usize> {
        let orders = self.orders.lock().expect("no test panicked with it");
        let drains = |orders: &Vec<ShardCommand>| orders.iter().filter(|o| matches!(o, ShardCommand::Drain)).count();
        orders.iter().map(drains).collect()
    }
}

/// A control plane that runs on a thread of its own.
struct Running {
    stand_in: Arc<StandIn>,
    folder: TempDir,
    metrics: SocketAddr,
    thread: JoinHandle<Stop>,
    /// Signals reach every control plane of the process, so one runs at a time.
    _alone: MutexGuard<'static, ()>,
}

impl Running {
    fn start(shards: usize) -> Self {
        static ALONE: Mutex<()> = Mutex::new(());
        let alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
        let stand_in = StandIn::new(shards);
        let folder = tempfile::tempdir().expect("a folder");
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let metrics = listener.local_addr().expect("bound");
        let plane = ControlPlane::open(
            ControlRuntime::start().expect("a runtime"),
            &folder.path().join(SOCKET_NAME),
            Some(listener),
        )
        .expect("a control plane");
        let pool = stand_in.pool();
        Self {
            thread: std::thread::spawn(move || plane.look_after(pool, None, None, 0)),
            stand_in,
            folder,
            metrics,
            _alone: alone,
        }
    }

    fn socket_path(&self) -> PathBuf {
        self.folder.path().join(SOCKET_NAME)
    }

    fn connect(&self) -> Client {
        Client::connect(&self.socket_path())
    }

    fn stopped(self) -> (Stop, Arc<StandIn>) {
        let deadline = Instant::now() + PATIENCE;
        while !self.thread.is_finished() {
            assert!(Instant::now() < deadline, "the control plane does not stop");
            std::thread::yield_now();
        }
        assert!(!self.socket_path().exists(), "it takes its socket with it");
        (self.thread.join().expect("it did not panic"), self.stand_in)
    }
}

/// A peer on `control.sock`.
struct Client(BufReader<UnixStream>);

impl Client {
    fn connect(path: &Path) -> Self {
        let stream = UnixStream::connect(path).expect("the socket takes connections");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket");
        Self(BufReader::new(stream))
    }

    fn ask(&mut self, line: &str) -> serde_json::Value {
        self.0
            .get_mut()
            .write_all(format!("{line}\n").as_bytes())
            .expect("it reads");
        self.answer().expect("an answer")
    }

    /// The next answer; none where the connection ends.
    fn answer(&mut self) -> Option<serde_json::Value> {
        let mut line = String::new();
        // A peer that closes on unread bytes makes an error of the end.
        self.0.read_line(&mut line).ok().filter(|count| *count > 0)?;
        Some(serde_json::from_str(&line).expect("a line of JSON"))
    }
}

#[test]
fn sigterm_drains_every_shard() {
    let running = Running::start(2);
    let pid = std::process::id().to_string();
    let status = Command::new("kill").args(["-TERM", &pid]).status().expect("kill runs");
    assert!(status.success());
    let (stop, stand_in) = running.stopped();
    assert_eq!(stop, Stop::Signal);
    assert!(!stop.is_failure());
    assert_eq!(stand_in.drains(), [1, 1]);
}

#[test]
fn the_command_drains_every_shard_and_is_answered() {
    let running = Running::start(2);
    let answer = running.connect().ask(r#"{"cmd":"drain"}"#);
    assert_eq!(answer["ok"], true);
    let (stop, stand_in) = running.stopped();
    assert_eq!(stop, Stop::Command);
    assert_eq!(stand_in.drains(), [1, 1]);
}

#[test]
fn a_disk_below_its_floor_stops_the_pool() {
    let running = Running::start(1);
    running.stand_in.disk_low.store(true, Ordering::Relaxed);
    let (stop, stand_in) = running.stopped();
    assert_eq!(stop, Stop::DiskLow { free: 5, floor: 10 });
    assert!(stop.is_failure());
    assert_eq!(stand_in.drains(), [1]);
}

#[test]
fn a_failed_ledger_stops_the_pool() {
    let running = Running::start(1);
    running.stand_in.failed.store(true, Ordering::Relaxed);
    let (stop, stand_in) = running.stopped();
    assert_eq!(stop, Stop::LedgerFailed("fsync: no such device".into()));
    assert!(stop.is_failure());
    assert_eq!(stand_in.drains(), [1]);
}

#[tokio::test]
async fn a_chain_that_nobody_follows_any_more_stops_the_pool() {
    for (following, why) in [
        (tokio::spawn(async { panic!("a header too many") }), "a header too many"),
        (
            tokio::spawn(async { "its follower has ended".to_owned() }),
            "its follower has ended",
        ),
    ] {
        let stop = timeout(PATIENCE, loss_of_chain(Some(following))).await;
        let stop = stop.expect("it is noticed");
        assert!(stop.is_failure() && stop.to_string().contains(why), "{stop}");
    }
    let none = timeout(Duration::from_millis(50), loss_of_chain(None)).await;
    assert!(none.is_err(), "the dev chain needs nobody");
}

#[test]
fn a_shard_without_room_does_not_keep_the_others_from_draining() {
    let running = Running::start(3);
    running.stand_in.full[1].store(true, Ordering::Relaxed);
    assert_eq!(running.connect().ask(r#"{"cmd":"drain"}"#)["ok"], true);
    let (stop, stand_in) = running.stopped();
    assert_eq!(stop, Stop::Command);
    assert_eq!(stand_in.drains(), [1, 0, 1]);
}

#[test]
fn a_shard_drains_as_soon_as_it_has_room() {
    let running = Running::start(1);
    let stand_in = running.stand_in.clone();
    stand_in.full[0].store(true, Ordering::Relaxed);
    assert_eq!(running.connect().ask(r#"{"cmd":"drain"}"#)["ok"], true);
    stand_in.full[0].store(false, Ordering::Relaxed);
    running.stopped();
    assert_eq!(stand_in.drains(), [1]);
}

/// Trying again would say that it is a rule already.
#[tokio::test]
async fn a_change_of_the_policy_reaches_a_shard_without_room_as_soon_as_it_has() {
    let stand_in = StandIn::new(2);
    let folder = tempfile::tempdir().expect("a folder");
    let mut pool = stand_in.pool();
    pool.policy = Some(Arc::new(
        PolicyDesk::open(folder.path(), Vec::new()).expect("no file yet"),
    ));
    let pool = Arc::new(pool);
    stand_in.full[1].store(true, Ordering::Relaxed);
    for line in [
        r#"{"cmd":"policy","add":"deny-agent bad"}"#,
        r#"{"cmd":"policy","add":"deny-agent worse"}"#,
        r#"{"cmd":"policy","remove":"deny-agent bad"}"#,
        r#"{"cmd":"policy","add":"deny-agent bad"}"#,
    ] {
        let (answer, _) = command::obey(line.as_bytes(), &pool).await;
        let answer = String::from_utf8(answer.line()).expect("JSON");
        assert!(answer.contains("it is on disk, but some shard is busy"), "{answer}");
    }
    assert_eq!(stand_in.policies(0), [true, true, false, true]);
    assert!(stand_in.policies(1).is_empty());
    stand_in.full[1].store(false, Ordering::Relaxed);
    let deadline = Instant::now() + PATIENCE;
    while stand_in.policies(1).is_empty() {
        assert!(Instant::now() < deadline, "the shard never hears of it");
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(stand_in.policies(1), [true], "as it is in the end, and once");
}
