//! The data plane: one pinned executor a shard. The only place that knows glommio.
//!
//! Shards share nothing. A gateway belongs to the shard that a secret-keyed hash of its long-term key names; all its
//! state lives there. See `docs/ARCHITECTURE.md` for the way of one share.

mod dialogue;
mod due;
mod gateways;
mod handshake;
mod inbox;
mod listener;
mod mailbox;
mod question;
mod session;
mod settings;
mod slots;
mod tasks;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use glommio::{ExecutorJoinHandle, Latency, LocalExecutorBuilder, Placement, Shares, TaskQueueHandle};
use socket2::Socket;

pub use self::handshake::HELLO_DEADLINE;
pub use self::inbox::{Ask, INBOX_MAX, InboxFull, InboxHandle, ShardCommand, Validate, ValidateOutcome};
pub use self::listener::{BACKLOG, bind};
pub use self::question::{ANSWER_DEADLINE_MS, LARGE_ANSWERS_MAX};
pub use self::session::{READ_BYTES, UNSENT_MAX};
pub use self::settings::{Limits, Restored, Settings};
pub use self::tasks::{DRAIN_DEADLINE, FRAME_DEADLINE_MS, PING_AFTER_MS, SILENT_AFTER_MS};
use self::due::{Due, DueEntry};
use self::gateways::{Gateway, Gateways};
use self::session::READ_BUFFER;
use self::slots::{SlotKey, Slots};
use crate::ledger::{Entry, ShardLedger};
use crate::telemetry::{EndReason, ShardTelemetry};
use crate::work::Miners;

/// Shares of CPU time of the sessions' task queue, against [`HANDSHAKE_SHARES`] where both have work.
const SESSION_SHARES: usize = 1_000;
const HANDSHAKE_SHARES: usize = 50;

/// How long the sessions' queue may wait for its turn.
const SESSION_LATENCY: Duration = Duration::from_millis(1);

/// Bytes of output one turn of a session usually stays below; more makes the buffer grow once.
const OUT_BUFFER: usize = 64 * 1_024;

/// The running shards.
pub struct Shards {
    handles: Vec<ExecutorJoinHandle<()>>,
    inboxes: Vec<InboxHandle>,
}

/// What one shard is started with.
pub struct ShardParts {
    pub listener: Socket,
    pub ledger: ShardLedger,
    pub telemetry: Arc<ShardTelemetry>,
}

impl Shards {
    /// Starts one executor per part, each pinned to a core of its own where `settings.cores` names them.
    ///
    /// # Errors
    /// The system's own, most often a locked-memory limit below 512 KiB.
    pub fn start(settings: &Arc<Settings>, parts: Vec<ShardParts>, restored: Vec<Restored>) -> io::Result<Self> {
        assert_eq!(parts.len(), settings.shards, "one part a shard");
        let inboxes: Vec<_> = parts.iter().map(|_| InboxHandle::new()).collect();
        let mut restored_by_shard: Vec<Vec<Restored>> = parts.iter().map(|_| Vec::new()).collect();
        for gateway in restored {
            restored_by_shard[settings.owner(&gateway.key)].push(gateway);
        }
        let mut handles = Vec::new();
        for (index, (part, restored)) in parts.into_iter().zip(restored_by_shard).enumerate() {
            let placement = settings.cores.get(index).map_or(Placement::Unbound, |core| Placement::Fixed(*core));
            let (settings, peers) = (settings.clone(), inboxes.clone());
            let handle = LocalExecutorBuilder::new(placement)
                .name(&format!("shard-{index}"))
                .io_memory(1 << 20)
                .spawn(move || run(index, settings, part, peers, restored))
                .map_err(io::Error::other)?;
            handles.push(handle);
        }
        Ok(Self { handles, inboxes })
    }

    /// Where commands for the shards go, in their order.
    pub fn inboxes(&self) -> &[InboxHandle] {
        &self.inboxes
    }

    /// Waits until every shard has ended: after a drain, or after the ledger failed.
    ///
    /// # Errors
    /// A shard that ended by a panic.
    pub fn join(self) -> io::Result<()> {
        self.handles
            .into_iter()
            .try_for_each(|handle| handle.join().map_err(io::Error::other))
    }
}

/// One shard's state, shared by its tasks.
struct Shard {
    index: usize,
    settings: Arc<Settings>,
    telemetry: Arc<ShardTelemetry>,
    peers: Vec<InboxHandle>,
    ledger: RefCell<ShardLedger>,
    due: RefCell<Due>,
    slots: RefCell<Slots>,
    gateways: RefCell<Gateways>,
    miners: RefCell<Miners>,
    buffers: RefCell<Buffers>,
    /// Sessions that wait for room in the ring, in the order they came.
    line: RefCell<VecDeque<SlotKey>>,
    handshakes: Cell<usize>,
    stopping: Cell<bool>,
    started: Instant,
    session_queue: TaskQueueHandle,
    handshake_queue: TaskQueueHandle,
}

/// Buffers that belong to the shard: a session owns none while it rests.
struct Buffers {
    read: Box<[u8]>,
    out: Vec<u8>,
}

async fn run(
    index: usize,
    settings: Arc<Settings>,
    part: ShardParts,
    peers: Vec<InboxHandle>,
    restored: Vec<Restored>,
) {
    let executor = glommio::executor();
    let session_queue = executor.create_task_queue(
        Shares::Static(SESSION_SHARES),
        Latency::Matters(SESSION_LATENCY),
        "sessions",
    );
    let handshake_queue = executor.create_task_queue(
        Shares::Static(HANDSHAKE_SHARES),
        Latency::NotImportant,
        "handshakes",
    );
    let limits = &settings.limits;
    let shard = Rc::new(Shard {
        index,
        telemetry: part.telemetry,
        peers,
        due: RefCell::new(Due::new(part.ledger.capacity())),
        ledger: RefCell::new(part.ledger),
        slots: RefCell::default(),
        gateways: RefCell::new(Gateways::new(limits.gateways_per_shard, settings.resume_for_s)),
        miners: RefCell::new(Miners::new(settings.secret)),
        buffers: RefCell::new(Buffers {
            read: vec![0; READ_BUFFER].into_boxed_slice(),
            out: Vec::with_capacity(OUT_BUFFER),
        }),
        line: RefCell::default(),
        handshakes: Cell::new(0),
        stopping: Cell::new(false),
        started: Instant::now(),
        session_queue,
        handshake_queue,
        settings,
    });
    for Restored { key, memory } in restored {
        let gateway = Rc::new(RefCell::new(Gateway::new(memory)));
        shard.gateways.borrow_mut().remember(key, gateway, shard.unix_s());
    }
    tasks::run(shard, part.listener).await;
}

impl Shard {
    // Time. One clock for all durations, one for what is written down.

    /// Since the shard started, in ns.
    fn now_ns(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Since the shard started, in ms.
    fn now_ms(&self) -> u64 {
        self.now_ns() / 1_000_000
    }

    /// Since 1970, in ms.
    fn unix_ms(&self) -> u64 {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
    }

    /// Since 1970, in s.
    fn unix_s(&self) -> u64 {
        self.unix_ms() / 1_000
    }

    // The ring.

    fn takes_a_share(&self) -> bool {
        self.due.borrow().takes_a_share()
    }

    /// Pushes a record for the ledger and notes what waits for it. The caller has made sure of room.
    fn push(&self, record: Entry, waits: DueEntry) {
        self.due.borrow_mut().push(waits);
        let pushed = self.ledger.borrow_mut().push(record);
        assert!(pushed.is_ok(), "the ring is as long as what may be under way");
    }

    fn wait_in_line(&self, session: SlotKey) {
        self.line.borrow_mut().push_back(session);
    }

    // Tasks.

    fn spawn_session(&self, session: impl Future<Output = ()> + 'static) {
        glommio::spawn_local_into(session, self.session_queue)
            .expect("the queue lives as long as the shard")
            .detach();
    }

    fn spawn_handshake<F: Future<Output = ()> + 'static>(self: &Rc<Self>, task: impl FnOnce(Rc<Self>) -> F) {
        /// Counts the handshake for as long as its task lives.
        struct InFlight(Rc<Shard>);
        impl Drop for InFlight {
            fn drop(&mut self) {
                self.0.handshakes.set(self.0.handshakes.get() - 1);
            }
        }
        self.handshakes.set(self.handshakes.get() + 1);
        let in_flight = InFlight(self.clone());
        let task = task(self.clone());
        glommio::spawn_local_into(
            async move {
                task.await;
                drop(in_flight);
            },
            self.handshake_queue,
        )
        .expect("the queue lives as long as the shard")
        .detach();
    }

    fn session_ended(&self, session: SlotKey, reason: EndReason) {
        self.slots.borrow_mut().remove(session);
        self.telemetry.sessions.set(self.slots.borrow().len() as u64);
        self.telemetry.ends[reason].add(1);
        tracing::info!(reason = reason.label(), "session ended");
    }
}
