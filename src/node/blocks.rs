//! Blocks of ours, from the candidate on disk to a block that nothing can happen to any more.
//!
//! Each block has a task of its own ([`tending`]): it is put together, submitted to every node ([`offering`]), and looked at with
//! each tip; what became of it is told to the books. The gateway that found it has most often submitted it before its share came: then the
//! nodes have it already.

mod offering;
mod tending;

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc as replies};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::time::{sleep, timeout};

use self::offering::Patience;
use self::tending::Tending;
use super::follow::NewTip;
use super::rpc::Shown;
use super::store::BlockStore;
use super::templates::Library;
use super::{Node, aside};
use crate::ledger::books::{BlockHash, BlockState};
use crate::ledger::{CandidateRow, OrderDesk};
use crate::telemetry::{BlockTelemetry, ChainTask, Gauge};

/// How often a block is offered to nodes that may take it yet, beside once with each tip.
const OFFER_EVERY: Duration = Duration::from_secs(2);

/// How long the books may take to say what they have of a block, or to obey, before it is looked at again after as long: they may
/// have a window to read anew.
const BOOKS_PATIENCE: Duration = Duration::from_secs(2);

/// How often it is looked whether they have answered.
const BOOKS_REST: Duration = Duration::from_millis(5);

/// Blocks that are offered or looked at together, and as many that were just found.
const TOGETHER_MAX: usize = 16;

/// Tends blocks.
pub struct Blocks {
    shared: Arc<Shared>,
    /// Candidates that are durable from now on.
    found: mpsc::UnboundedReceiver<CandidateRow>,
}

/// A block that has a task, until that ends, be it by a panic: then who books the block gives it another.
struct Tended {
    shared: Arc<Shared>,
    hash: BlockHash,
}

impl Drop for Tended {
    fn drop(&mut self) {
        self.shared.tended().remove(&self.hash);
        if std::thread::panicking() {
            let block = Shown(self.hash);
            self.shared.telemetry.tasks_failed[ChainTask::Block].add(1);
            // Nobody would take these back, and the next block that is open would not show.
            self.shared.note_open(self.hash, false);
            self.shared.note_unsettled(self.hash, false);
            tracing::error!(%block, "what tends a block of ours has failed: nobody looks at the block until it is booked by hand, or the next start");
        }
    }
}

struct Shared {
    /// Blocks that have a task, each with how it is woken.
    tended: Mutex<HashMap<BlockHash, Arc<Notify>>>,
    /// Blocks that no node has taken, as long as they are young.
    open: Mutex<HashSet<BlockHash>>,
    /// Blocks in the chain that only the operator can book, and has not.
    unsettled: Mutex<HashSet<BlockHash>>,
    nodes: Vec<Arc<Node>>,
    desk: OrderDesk,
    library: Library,
    store: BlockStore,
    tips: watch::Receiver<NewTip>,
    telemetry: Arc<BlockTelemetry>,
    patience: Patience,
    /// Blocks that were just found; they wait for no others.
    fresh: Semaphore,
    together: Semaphore,
}

impl Blocks {
    #[must_use]
    pub fn new(
        nodes: Vec<Arc<Node>>,
        desk: OrderDesk,
        library: Library,
        store: BlockStore,
        tips: watch::Receiver<NewTip>,
        found: mpsc::UnboundedReceiver<CandidateRow>,
        telemetry: Arc<BlockTelemetry>,
    ) -> Self {
        Self {
            shared: Arc::new(Shared {
                tended: Mutex::default(),
                open: Mutex::default(),
                unsettled: Mutex::default(),
                nodes,
                desk,
                library,
                store,
                tips,
                telemetry,
                patience: Patience::default(),
                fresh: Semaphore::new(TOGETHER_MAX),
                together: Semaphore::new(TOGETHER_MAX),
            }),
            found,
        }
    }

    /// `open`: blocks of a former process that something may still become of. On a runtime of its own, where nothing else keeps
    /// a block waiting; it ends when nobody follows the chain any more.
    pub async fn tend(mut self, open: Vec<CandidateRow>) {
        let names = open.iter().map(|row| Shown(row.candidate.hash).to_string()).collect();
        let store = self.shared.store.clone();
        if let Err(error) = aside(move || store.keep_only(&names)).await {
            tracing::warn!(%error, "raw blocks of a former process cannot be removed");
        }
        for row in open {
            begin(&self.shared, row);
        }
        let mut tips = self.shared.tips.clone();
        loop {
            tokio::select! {
                // Where nobody finds any more the ledger has ended: there is a reason that counts more than that this would end.
                Some(row) = self.found.recv() => begin(&self.shared, row),
                // Nobody follows the chain any more: the pool stops.
                changed = tips.changed() => if changed.is_err() {
                    return;
                },
            }
        }
    }
}

/// Gives the block a task, or wakes the one that it has: the operator has booked it, say.
fn begin(shared: &Arc<Shared>, row: CandidateRow) {
    let hash = row.candidate.hash;
    let word = match shared.tended().entry(hash) {
        Entry::Occupied(task) => return task.get().notify_one(),
        Entry::Vacant(place) => place.insert(Arc::default()).clone(),
    };
    let shared = shared.clone();
    let tended = Tended {
        shared: shared.clone(),
        hash,
    };
    tokio::spawn(async move {
        let tended = tended;
        Tending::new(&shared, &row).run(&word).await;
        drop(tended);
        // Word that came when it was about to end.
        if timeout(Duration::ZERO, word.notified()).await.is_ok() {
            begin(&shared, row);
        }
    });
}

impl Shared {
    fn tended(&self) -> MutexGuard<'_, HashMap<BlockHash, Arc<Notify>>> {
        self.tended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn note_open(&self, hash: BlockHash, is_open: bool) {
        note(&self.open, hash, is_open, &self.telemetry.open);
    }

    fn note_unsettled(&self, hash: BlockHash, is_unsettled: bool) {
        note(&self.unsettled, hash, is_unsettled, &self.telemetry.unsettled);
    }

    /// What the books have of the block; none where they are closed.
    async fn state(&self, hash: BlockHash) -> Option<Option<BlockState>> {
        let (reply, state) = replies::channel();
        self.desk.ask(hash, reply);
        answer(state).await
    }
}

/// What the books answer; none where they are closed. It takes no thread, so it may be given up.
async fn answer<T>(reply: replies::Receiver<T>) -> Option<T> {
    loop {
        match reply.try_recv() {
            Ok(answer) => return Some(answer),
            Err(replies::TryRecvError::Disconnected) => return None,
            Err(replies::TryRecvError::Empty) => sleep(BOOKS_REST).await,
        }
    }
}

/// Whether the block is one of these, and how many they are.
fn note(these: &Mutex<HashSet<BlockHash>>, hash: BlockHash, is_one: bool, count: &Gauge) {
    let mut these = these.lock().unwrap_or_else(PoisonError::into_inner);
    match is_one {
        true => these.insert(hash),
        false => these.remove(&hash),
    };
    count.set(these.len() as u64);
}

#[cfg(test)]
mod tests;
