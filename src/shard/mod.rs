//! The data plane: one pinned executor a shard. The only place that knows glommio.
//!
//! Shards share nothing. A gateway belongs to the shard that a secret-keyed hash of its long-term key names; all its
//! state lives there. See `docs/ARCHITECTURE.md` for the way of one share.

mod absent;
mod arrival;
mod askers;
mod dialogue;
mod dictation;
mod due;
mod farewell;
mod gateways;
mod guarding;
mod half_open;
mod handover;
mod handshake;
mod inbox;
mod large;
mod line;
mod listener;
mod log_lines;
mod mailbox;
mod places;
mod policy;
mod pool_keys;
mod proxied;
mod pulse;
mod question;
mod questions;
mod reading;
mod reloads;
mod session;
mod settings;
mod shares;
mod slots;
mod split_use;
mod standing;
mod steering;
mod stop;
mod strangers;
mod tasks;
mod unproved;

use std::cell::{Cell, RefCell};
use std::future::Future;
use std::io;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::mpsc;
use std::task::Waker;
use std::time::Duration;

use glommio::sync::Semaphore;
use glommio::{ExecutorJoinHandle, Latency, LocalExecutorBuilder, Placement, Task, TaskQueueHandle};
use socket2::Socket;

pub use self::guarding::{AskGuards, GuardsShown, Lift};
pub use self::handshake::HELLO_DEADLINE;
pub use self::inbox::{INBOX_MAX, InboxFull, InboxHandle, NewChain, Reply, ReplyTo, ShardCommand, Validate};
pub use self::large::{LARGE_PIECES_MAX, LargeAnswers};
pub use self::listener::{BACKLOG, bind};
pub use self::proxied::PROXY_DEADLINE;
pub use self::question::{ANSWER_DEADLINE_MS, LARGE_ANSWER_DEADLINE_MS, SealedAnswer};
pub use self::reloads::RELOADS_MAX;
pub use self::session::{LEAVE_MS, READ_BYTES, UNSENT_MAX};
pub use self::settings::{Settings, TellClaim, TemplateChecks};
pub use self::standing::{Standing, deal};
pub use self::stop::{DRAIN_DEADLINE, Greetings, HELLO_GRACE};
pub use self::tasks::{FRAME_DEADLINE_MS, PING_AFTER_MS, SILENT_AFTER_MS};

use self::askers::Askers;
use self::due::Due;
pub use self::gateways::GATEWAY_BYTES_MAX;
use self::gateways::{Gateway, Gateways};
use self::half_open::HalfOpen;
use self::handover::OnTheWay;
use self::line::Line;
use self::log_lines::LogLines;
use self::places::Places;
use self::pulse::{Beats, Clock};
use self::reloads::Reloads;
use self::session::Buffers;
use self::slots::Slots;
use self::stop::{Emptied, Phase};
use crate::guard::Guards;
use crate::identity::KeyRing;
use crate::ledger::{RestoredGateway, ShardLedger};
use crate::telemetry::{Bound, ShardTelemetry};
use crate::work::{Chain, Miners, OwnTemplate, Policy};

/// Shares of CPU time of the task queues, where more than one has work. Answers first: what is done is said before new
/// work is begun, and there is never more to say than was begun.
const ANSWER_SHARES: usize = 1_000;
const SESSION_SHARES: usize = 250;
const HANDSHAKE_SHARES: usize = 100;
/// Beside sessions that always have something to read, 10,000 answers of 0.13 ms are dictated in the time that gateways wait.
const SPLIT_SHARES: usize = 100;

/// After how long whoever runs makes room, and sockets are looked at: some ten shares of a session.
const TURN_TIME: Duration = Duration::from_micros(250);

/// The same before there is a queue. glommio 0.9 sleeps on runnable work where this runs out between its look at the
/// rings and its first task; before the first task nothing would wake it again.
const FIRST_TURN: Duration = Duration::from_secs(3_600);

/// Requests that io_uring takes at once: the polls of as many sessions go to the kernel in one call.
const RING_DEPTH: usize = 512;

/// Registered memory, in bytes: the least there is. Sockets are read into the shard's own buffer.
const IO_MEMORY: usize = 64 * 1_024;

/// The running shards.
pub struct Shards {
    handles: Vec<ExecutorJoinHandle<()>>,
    inboxes: Vec<InboxHandle>,
    _clock: Clock,
}

/// What one shard is started with.
pub struct ShardParts {
    pub doors: Doors,
    pub ledger: ShardLedger,
    pub telemetry: Arc<ShardTelemetry>,
}

/// Where a shard's connections come from.
#[derive(Default)]
pub struct Doors {
    /// Listening already; others may accept from them too.
    pub listeners: Vec<Socket>,
    /// Accepted before this process began; nothing was read from them.
    pub connections: Vec<OwnedFd>,
}

impl Shards {
    /// Starts one executor per part, each pinned to a core of its own where `settings.cores` names them. Returns when
    /// all of them serve.
    ///
    /// # Errors
    /// The system's own, most often a limit on locked memory below 512 KiB, or a core that is not there. Nothing is
    /// left running then.
    ///
    /// # Panics
    /// There is not one part a shard.
    pub fn start(settings: &Arc<Settings>, parts: Vec<ShardParts>, restored: Vec<RestoredGateway>) -> io::Result<Self> {
        assert_eq!(parts.len(), settings.shards, "one part a shard");
        let inboxes: Vec<_> = parts.iter().map(|_| InboxHandle::new()).collect();
        let mut shards = Self {
            handles: Vec::new(),
            _clock: Clock::start(inboxes.clone())?,
            inboxes,
        };
        let mut restored_by_shard: Vec<Vec<RestoredGateway>> = parts.iter().map(|_| Vec::new()).collect();
        for gateway in restored {
            restored_by_shard[settings.owner(&gateway.key)].push(gateway);
        }
        for (index, (part, restored)) in parts.into_iter().zip(restored_by_shard).enumerate() {
            if let Err(error) = shards.start_one(index, settings, part, restored) {
                for inbox in &shards.inboxes {
                    let _ = inbox.send(ShardCommand::Drain);
                }
                let _ = shards.join();
                return Err(error);
            }
        }
        Ok(shards)
    }

    /// Where commands for the shards go, in their order.
    pub fn inboxes(&self) -> &[InboxHandle] {
        &self.inboxes
    }

    /// Waits until every shard has ended: after a drain, or after the ledger failed.
    ///
    /// # Errors
    /// A shard could not run its executor to the end.
    pub fn join(self) -> io::Result<()> {
        // All of them, whatever became of the first.
        let ends: Vec<_> = self.handles.into_iter().map(ExecutorJoinHandle::join).collect();
        ends.into_iter()
            .try_for_each(|end| end.map_err(|error| io::Error::other(error.to_string())))
    }

    fn start_one(
        &mut self,
        index: usize,
        settings: &Arc<Settings>,
        part: ShardParts,
        restored: Vec<RestoredGateway>,
    ) -> io::Result<()> {
        let placement = settings
            .cores
            .get(index)
            .map_or(Placement::Unbound, |core| Placement::Fixed(*core));
        let (settings, peers) = (settings.clone(), self.inboxes.clone());
        let (serves, served) = mpsc::channel();
        let handle = LocalExecutorBuilder::new(placement)
            .name(&format!("shard-{index}"))
            .io_memory(IO_MEMORY)
            .ring_depth(RING_DEPTH)
            .preempt_timer(FIRST_TURN)
            .spawn(move || run(index, settings, part, peers, restored, serves))
            .map_err(|error| io::Error::other(error.to_string()))?;
        // An executor that cannot be made drops the sender, and its handle says why.
        if served.recv().is_err() {
            return match handle.join() {
                Err(error) => Err(io::Error::other(error.to_string())),
                Ok(()) => Err(io::Error::other(format!("shard {index} ended before it served"))),
            };
        }
        self.handles.push(handle);
        Ok(())
    }
}

/// One shard's state, shared by its tasks.
struct Shard {
    index: usize,
    settings: Arc<Settings>,
    telemetry: Arc<ShardTelemetry>,
    peers: Vec<InboxHandle>,
    /// As of the last tip that the shard has heard of.
    chain: RefCell<Arc<Chain>>,
    /// Of a node of ours, as last heard.
    own_template: Cell<Option<OwnTemplate>>,
    policy: RefCell<Arc<Policy>>,
    /// Of the log, about connections of addresses that are denied; about bans.
    denied: LogLines,
    banned: LogLines,
    /// The pool's long-term keys, likewise.
    keys: RefCell<Arc<KeyRing>>,
    ledger: RefCell<ShardLedger>,
    due: RefCell<Due>,
    slots: RefCell<Slots>,
    places: Rc<Places>,
    gateways: RefCell<Gateways>,
    miners: RefCell<Miners>,
    guards: RefCell<Guards>,
    buffers: RefCell<Buffers>,
    line: RefCell<Line>,
    askers: RefCell<Askers>,
    reloads: RefCell<Reloads>,
    /// The task that wakes the ledger's writer at the end of a round of tasks.
    round_end: RefCell<Option<Waker>>,
    handshakes: Cell<usize>,
    on_the_way: OnTheWay,
    half_open: HalfOpen,
    beats: Beats,
    /// Sessions that have ended and have still to mark it on disk.
    ending: Cell<usize>,
    phase: Cell<Phase>,
    /// Never has a unit; it is closed when the shard stops.
    stop: Semaphore,
    emptied: Emptied,
    session_queue: TaskQueueHandle,
    answer_queue: TaskQueueHandle,
    handshake_queue: TaskQueueHandle,
    split_queue: TaskQueueHandle,
}

async fn run(
    index: usize,
    settings: Arc<Settings>,
    part: ShardParts,
    peers: Vec<InboxHandle>,
    restored: Vec<RestoredGateway>,
    serves: mpsc::Sender<()>,
) {
    let executor = glommio::executor();
    let session_queue = executor.create_task_queue(
        glommio::Shares::Static(SESSION_SHARES),
        Latency::Matters(TURN_TIME),
        "sessions",
    );
    let answer_queue = executor.create_task_queue(
        glommio::Shares::Static(ANSWER_SHARES),
        Latency::Matters(TURN_TIME),
        "answers",
    );
    let handshake_queue = executor.create_task_queue(
        glommio::Shares::Static(HANDSHAKE_SHARES),
        Latency::Matters(TURN_TIME),
        "handshakes",
    );
    let split_queue = executor.create_task_queue(
        glommio::Shares::Static(SPLIT_SHARES),
        Latency::Matters(TURN_TIME),
        "splits",
    );
    let limits = &settings.limits;
    let mut miners = Miners::new(settings.secret, settings.chain.network());
    miners.follow(settings.policy.clone());
    miners.forget_unused(crate::ledger::steady_s(crate::ledger::monotonic_ns()));
    let shard = Rc::new(Shard {
        index,
        telemetry: part.telemetry,
        chain: RefCell::new(settings.chain.clone()),
        own_template: Cell::default(),
        policy: RefCell::new(settings.policy.clone()),
        denied: policy::denied_lines(),
        banned: guarding::ban_lines(),
        keys: RefCell::new(settings.keys.clone()),
        due: RefCell::new(Due::new(part.ledger.capacity())),
        ledger: RefCell::new(part.ledger),
        slots: RefCell::default(),
        places: Places::new(limits.sessions_per_shard),
        gateways: RefCell::new(Gateways::new(
            limits.gateways_per_shard,
            GATEWAY_BYTES_MAX,
            settings.resume_for_s,
        )),
        miners: RefCell::new(miners),
        guards: RefCell::new(Guards::new(
            &settings.guards,
            settings.shards,
            settings.secret,
            crate::ledger::monotonic_ns() / 1_000_000,
        )),
        buffers: RefCell::default(),
        line: RefCell::default(),
        askers: RefCell::default(),
        reloads: RefCell::new(Reloads::new(peers[index].clone())),
        round_end: RefCell::default(),
        handshakes: Cell::new(0),
        on_the_way: OnTheWay::default(),
        half_open: HalfOpen::default(),
        beats: Beats::new(crate::ledger::monotonic_ns()),
        ending: Cell::new(0),
        phase: Cell::new(Phase::Serving),
        stop: Semaphore::new(0),
        emptied: Emptied::default(),
        session_queue,
        answer_queue,
        handshake_queue,
        split_queue,
        peers,
        settings,
    });
    shard.remember(restored);
    shard.settings.bans.iter().for_each(|banned| shard.hear_ban(*banned));
    let _ = serves.send(());
    tasks::run(shard, part.doors).await;
}

impl Shard {
    // Time. One clock for all durations, one for what is written down, and one for what is kept.

    /// The clock of everything that is measured, in ns.
    fn now_ns(&self) -> u64 {
        crate::ledger::monotonic_ns()
    }

    /// The same in ms.
    fn now_ms(&self) -> u64 {
        self.now_ns() / 1_000_000
    }

    /// Since 1970, in ms.
    fn unix_ms(&self) -> u64 {
        crate::ledger::unix_ms()
    }

    /// Since 1970, in s, by a clock that nobody sets: what is kept for a time goes by it.
    fn steady_s(&self) -> u64 {
        crate::ledger::steady_s(self.now_ns())
    }

    // What outlives the process.

    fn remember(&self, restored: Vec<RestoredGateway>) {
        let mut gateways = self.gateways.borrow_mut();
        let mut over = 0;
        for RestoredGateway {
            key,
            memory,
            former,
            unproved,
            hellos,
        } in restored
        {
            let gateway = Rc::new(RefCell::new(Gateway::restored(memory, former, unproved, hellos)));
            if !gateways.remember(key, gateway, self.steady_s()) {
                over += 1;
            }
        }
        self.telemetry.gateways.set(gateways.len() as u64);
        self.telemetry.bounds[Bound::Gateways].add(over);
        if over > 0 {
            tracing::warn!(
                shard = self.index,
                over,
                "more gateways in the ledger than the shard remembers"
            );
        }
    }

    // Tasks.

    fn spawn_session(&self, session: impl Future<Output = ()> + 'static) {
        spawn(session, self.session_queue).detach();
    }

    fn spawn_newcomer(&self, session: impl Future<Output = ()> + 'static) {
        spawn(session, self.handshake_queue).detach();
    }

    fn spawn_handshake<F: Future<Output = ()> + 'static>(self: &Rc<Self>, task: impl FnOnce(Rc<Self>) -> F) {
        let under_way = self.count_in(|shard| &shard.handshakes);
        let task = task(self.clone());
        let counted = async move {
            task.await;
            drop(under_way);
        };
        spawn(counted, self.handshake_queue).detach();
    }

    /// Where there are as many as may be, one whose HELLO has not come goes for the next.
    fn has_room_for_a_handshake(&self) -> bool {
        self.has_room_beside(self.on_the_way.count())
    }

    /// The same for one that another shard has accepted: it counts there as long as it is on its way.
    fn has_room_for_an_arrival(&self) -> bool {
        self.has_room_beside(0)
    }

    fn has_room_beside(&self, on_the_way: usize) -> bool {
        if self.handshakes.get() + on_the_way < self.settings.limits.handshakes_per_shard {
            return true;
        }
        self.telemetry.bounds[Bound::Handshakes].add(1);
        self.half_open.make_room()
    }

    /// Counts one more until the guard is dropped.
    fn count_in(self: &Rc<Self>, count: fn(&Self) -> &Cell<usize>) -> Counted {
        count(self).set(count(self).get() + 1);
        self.telemetry.handshakes_under_way.set(self.handshakes.get() as u64);
        Counted {
            shard: self.clone(),
            count,
        }
    }
}

/// One of what a shard waits for before it ends.
struct Counted {
    shard: Rc<Shard>,
    count: fn(&Shard) -> &Cell<usize>,
}

impl Drop for Counted {
    fn drop(&mut self) {
        let count = (self.count)(&self.shard);
        count.set(count.get() - 1);
        self.shard
            .telemetry
            .handshakes_under_way
            .set(self.shard.handshakes.get() as u64);
        self.shard.note_end();
    }
}

/// Spawns a task of the shard; every one of them goes through here.
fn spawn<T: 'static>(task: impl Future<Output = T> + 'static, queue: TaskQueueHandle) -> Task<T> {
    let guarded = async {
        let _guard = AbortOnPanic;
        task.await
    };
    glommio::spawn_local_into(guarded, queue).expect("the queue lives as long as the shard")
}

/// A shard that panics would leave sessions that nobody serves and shares that nobody answers, while the process went
/// on: glommio ends the executor's thread and no more.
struct AbortOnPanic;

impl Drop for AbortOnPanic {
    fn drop(&mut self) {
        if std::thread::panicking() {
            std::process::abort();
        }
    }
}
