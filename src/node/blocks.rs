//! Blocks of ours, from the candidate on disk to a block that nothing can happen to any more.
//!
//! Each block has a task of its own: it is put together, submitted to every node, and looked at with each tip; what became
//! of it is told to the books. The gateway that found it has most often submitted it before its share came: then the
//! nodes have it already.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc as replies};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;

use super::fate::{self, Shows, Step};
use super::follow::NewTip;
use super::rpc::Shown;
use super::store::BlockStore;
use super::submission::Submission;
use super::templates::Library;
use super::words::{Word, Words};
use super::{Node, aside};
use crate::ledger::books::{BlockHash, BlockState};
use crate::ledger::{CandidateRow, Order, OrderDesk, Submitted, monotonic_ns};
use crate::telemetry::BlockTelemetry;
use crate::work::{AssemblyError, RawBlock};

/// How often a block is offered that no node has yet, beside once with each tip.
const OFFER_EVERY: Duration = Duration::from_secs(2);

/// How long is waited for nodes to say whether they have a block that would be given to them: one that is slow gets it once more, and
/// the gateway is asked for its transactions meanwhile.
const LOOK_PATIENCE: Duration = Duration::from_millis(500);

/// Offers of one block, until only tips bring another: twenty minutes.
const OFFERS_MAX: u32 = 600;

/// Blocks that are offered or looked at together, and as many that were just found.
const TOGETHER_MAX: usize = 16;

/// Tends blocks.
pub struct Blocks {
    shared: Arc<Shared>,
    /// Candidates that are durable from now on.
    found: mpsc::UnboundedReceiver<CandidateRow>,
}

struct Shared {
    /// Blocks that have a task, each with how it is woken.
    tended: Mutex<HashMap<BlockHash, Arc<Notify>>>,
    /// Blocks in the chain that only the operator can book, and has not.
    unsettled: Mutex<HashSet<BlockHash>>,
    nodes: Vec<Arc<Node>>,
    desk: OrderDesk,
    library: Library,
    store: BlockStore,
    tips: watch::Receiver<NewTip>,
    telemetry: Arc<BlockTelemetry>,
    /// Blocks that were just found; they wait for no others.
    fresh: Semaphore,
    together: Semaphore,
}

/// Why a block is not with any node yet.
#[derive(Debug, Error)]
enum Undelivered {
    #[error(transparent)]
    Assembly(#[from] AssemblyError),
    #[error("{0}")]
    Transactions(String),
    #[error("no node took it: {0}")]
    Unreachable(String),
}

/// What the nodes made of a block.
enum Delivered {
    Taken,
    /// In the words of each.
    Refused(String),
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
                unsettled: Mutex::default(),
                nodes,
                desk,
                library,
                store,
                tips,
                telemetry,
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
                found = self.found.recv() => match found {
                    Some(row) => begin(&self.shared, row),
                    None => return,
                },
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
    tokio::spawn(async move {
        tend(&shared, &row, &word).await;
        shared.tended().remove(&hash);
        // Word that came when it was about to end.
        if timeout(Duration::ZERO, word.notified()).await.is_ok() {
            begin(&shared, row);
        }
    });
}

async fn tend(shared: &Shared, row: &CandidateRow, word: &Notify) {
    let mut tips = shared.tips.clone();
    let block = Shown(row.candidate.hash).to_string();
    let (mut delivered, mut kept, mut offers) = (false, false, 0);
    let mut words = Words::default();
    loop {
        let tip = tips.borrow_and_update().clone();
        {
            let is_fresh = offers == 0 && row.complete_ns.is_some();
            let places = if is_fresh { &shared.fresh } else { &shared.together };
            let _place = places.acquire().await;
            if !delivered {
                offers += 1;
                delivered = shared.offer(row, &block, offers, &mut words).await;
            }
            if shared.look(row, &block, &tip).await {
                shared.store.forget(&block);
                return;
            }
            if delivered && !kept {
                kept = shared.keep(row, &block).await;
            }
        }
        let next = async {
            tokio::select! {
                changed = tips.changed() => changed,
                () = word.notified() => Ok(()),
            }
        };
        let gone = match delivered || offers >= OFFERS_MAX {
            true => next.await.is_err(),
            false => timeout(OFFER_EVERY, next).await.is_ok_and(|changed| changed.is_err()),
        };
        if gone {
            return;
        }
    }
}

impl Shared {
    fn tended(&self) -> MutexGuard<'_, HashMap<BlockHash, Arc<Notify>>> {
        self.tended.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Brings the block to the nodes. True: they have it, or will never take it.
    async fn offer(&self, row: &CandidateRow, block: &str, offers: u32, words: &mut Words) -> bool {
        match self.deliver(row, block, offers, words).await {
            Ok(Delivered::Taken) => {
                tracing::info!(
                    block,
                    height = row.candidate.height,
                    "a block of ours is with the nodes"
                );
                true
            }
            Ok(Delivered::Refused(words)) => {
                tracing::error!(block, words, "the nodes refuse a block of ours");
                self.tell(
                    row,
                    block,
                    Order::Block {
                        hash: row.candidate.hash,
                        becomes: BlockState::Rejected,
                    },
                )
                .await;
                true
            }
            Err(why) => {
                if offers == 1 || offers == OFFERS_MAX {
                    tracing::error!(block, offers, "a block of ours is not with any node: {why}");
                }
                false
            }
        }
    }

    /// Gives the block to each node that does not have it. Most often the gateway's own has brought it to some.
    ///
    /// Where its transactions are known it goes to all at once: to ask first who lacks it would take longer than to be told
    /// that one has it.
    async fn deliver(
        &self,
        row: &CandidateRow,
        block: &str,
        offers: u32,
        words: &mut Words,
    ) -> Result<Delivered, Undelivered> {
        // One that no share announced the nodes have.
        if offers == 1
            && row.announced
            && let Some(raw) = self.library.known_block(&row.candidate)
        {
            return self.give(self.nodes.clone(), row, block, raw, words).await;
        }
        let hash = Shown(row.candidate.hash);
        let mut looks = JoinSet::new();
        for node in self.nodes.iter().cloned() {
            looks.spawn(async move { (timeout(LOOK_PATIENCE, node.header(&hash)).await, node) });
        }
        let (mut having, mut lacking, mut is_in_a_chain) = (Vec::new(), Vec::new(), false);
        while let Some(Ok((header, node))) = looks.join_next().await {
            let header = header.ok().and_then(Result::ok);
            if header.as_ref().is_some_and(|header| header.tx_count > 0) {
                having.push(node.clone());
            }
            match header.is_some_and(|header| header.confirmations >= 1) {
                true => is_in_a_chain = true,
                // One that cannot be asked is offered it all the same, one that has no more than the header, and one that has it
                // beside its chain: of that alone nobody knows whether it is good.
                false => lacking.push(node),
            }
        }
        if lacking.is_empty() {
            return Ok(Delivered::Taken);
        }
        let raw = match self.store.read(block) {
            Some(raw) => Some(raw.into()),
            None => block_of(&having, &hash).await,
        };
        let raw = match raw {
            Some(raw) => raw,
            None if is_in_a_chain => return Ok(Delivered::Taken),
            None => {
                let asked = self.library.block(&row.candidate, row.gateway).await;
                asked.map_err(Undelivered::Transactions)?
            }
        };
        let given = self.give(lacking, row, block, raw, words).await;
        match is_in_a_chain {
            true => Ok(Delivered::Taken),
            false => given,
        }
    }

    /// Sees to it that the raw block lies on disk: most often the gateway has brought it to the nodes, and they have it to
    /// give. False: not yet.
    async fn keep(&self, row: &CandidateRow, block: &str) -> bool {
        if self.store.has(block) {
            return true;
        }
        match block_of(&self.nodes, &Shown(row.candidate.hash)).await {
            Some(raw) => {
                self.write(block, Arc::new(raw)).await;
                true
            }
            None => false,
        }
    }

    /// Where it cannot be written the nodes have it all the same.
    async fn write(&self, block: &str, raw: Arc<RawBlock>) {
        let (store, name) = (self.store.clone(), block.to_owned());
        if let Err(error) = aside(move || store.keep(&name, &raw)).await {
            tracing::error!(block, %error, "a block of ours cannot be kept on disk");
        }
    }

    /// Submits the block to these nodes, and keeps it on disk: that begins when the first of them has been written all of it, so
    /// that it takes neither a core nor a disk from what counts. Meanwhile the candidate's row is enough to make it again.
    async fn give(
        &self,
        nodes: Vec<Arc<Node>>,
        row: &CandidateRow,
        block: &str,
        raw: RawBlock,
        words: &mut Words,
    ) -> Result<Delivered, Undelivered> {
        let raw = Arc::new(raw);
        let (sent, mut first_sent) = mpsc::channel(1);
        let keep = async {
            first_sent.recv().await;
            self.write(block, raw.clone()).await;
        };
        let (submitted, ()) = tokio::join!(self.submit(nodes, row, raw.clone(), sent, words), keep);
        submitted
    }

    /// To all of these nodes at the same time. `sent` hears when one has been written all of it, and is let go when no other will
    /// be.
    async fn submit(
        &self,
        nodes: Vec<Arc<Node>>,
        row: &CandidateRow,
        raw: Arc<RawBlock>,
        sent: mpsc::Sender<()>,
        words: &mut Words,
    ) -> Result<Delivered, Undelivered> {
        let submission = aside(move || Submission::new(&raw)).await;
        let mut answers = JoinSet::new();
        for node in nodes {
            let (submission, telemetry, complete_ns) = (submission.clone(), self.telemetry.clone(), row.complete_ns);
            let sent = sent.clone();
            answers.spawn(async move {
                let written = move || {
                    if let Some(complete_ns) = complete_ns {
                        let took_ns = monotonic_ns().saturating_sub(complete_ns);
                        telemetry.share_to_submission.record(took_ns);
                    }
                    // Where there is no room another was first.
                    let _ = sent.try_send(());
                };
                let answer = node.rpc.submit(&submission, written).await;
                (node.rpc.address(), answer, node)
            });
        }
        drop(sent);
        let (mut taken, mut refused, mut silent) = (false, Vec::new(), Vec::new());
        while let Some(Ok((rpc, answer, node))) = answers.join_next().await {
            let (block, word) = (Shown(row.candidate.hash), Word::of(answer));
            let outcome = word.outcome.label();
            match word.outcome {
                Submitted::Unanswered => {
                    tracing::warn!(%block, %rpc, error = word.words, "a node has no word on a block of ours");
                }
                _ => tracing::info!(%block, %rpc, outcome, word = word.words, "a node's word on a block of ours"),
            }
            word.count(&node.telemetry);
            if let Some(row) = words.hear(row.candidate.hash, rpc, &word) {
                self.desk.submission(row);
            }
            match word.outcome {
                Submitted::Rejected => refused.push(format!("{rpc}: {}", word.words)),
                Submitted::Undecided | Submitted::Unanswered => silent.push(format!("{rpc}: {}", word.words)),
                Submitted::Accepted | Submitted::Duplicate | Submitted::Inconclusive => taken = true,
            }
        }
        // Refused where all say so: one that is silent may know better.
        match (taken, silent.is_empty()) {
            (true, _) => Ok(Delivered::Taken),
            (false, true) => Ok(Delivered::Refused(refused.join("; "))),
            (false, false) => {
                silent.append(&mut refused);
                Err(Undelivered::Unreachable(silent.join("; ")))
            }
        }
    }

    /// Tells the books what the chain shows of the block. True: nothing can become of it any more.
    async fn look(&self, row: &CandidateRow, block: &str, tip: &NewTip) -> bool {
        let hash = row.candidate.hash;
        let beyond = tip.height.saturating_sub(row.candidate.height);
        // Some events take two steps: what is in the chain for long is accepted, then mature.
        for _ in 0..3 {
            let Some(shows) = self.shows(&hash, tip.node).await else {
                return false;
            };
            let Some(state) = self.state(hash).await else {
                return false;
            };
            self.note_unsettled(hash, state.is_none() && matches!(shows, Shows::InChain { .. }));
            if state.is_none() {
                self.desk.follow(hash, !fate::is_lost(shows, beyond));
            }
            // What is booked late may be mature by now.
            let Some(step) = fate::next_step(state, shows, beyond) else {
                return fate::is_over(beyond);
            };
            if (state, step) == (Some(BlockState::Mature), Step::Becomes(BlockState::Orphaned)) {
                self.telemetry.mature_lost.add(1);
                tracing::error!(
                    block,
                    height = row.candidate.height,
                    "the chain has lost a mature block of ours: what it paid is undone in the books, and what was paid by hand out \
                     of it makes balances negative"
                );
            }
            let order = match step {
                Step::Becomes(becomes) => Order::Block { hash, becomes },
                Step::BookAgain => Order::Book { hash },
            };
            if !self.tell(row, block, order).await {
                return false;
            }
        }
        false
    }

    fn note_unsettled(&self, hash: BlockHash, is_unsettled: bool) {
        let mut unsettled = self.unsettled.lock().unwrap_or_else(PoisonError::into_inner);
        match is_unsettled {
            true => unsettled.insert(hash),
            false => unsettled.remove(&hash),
        };
        self.telemetry.unsettled.set(unsettled.len() as u64);
    }

    /// None where the node cannot be asked.
    async fn shows(&self, hash: &BlockHash, node: usize) -> Option<Shows> {
        match self.nodes[node].header(&Shown(*hash)).await {
            Ok(header) if header.confirmations >= 1 => Some(Shows::InChain {
                confirmations: header.confirmations,
            }),
            Ok(_) => Some(Shows::Beside),
            Err(error) if error.is_not_found() => Some(Shows::Nothing),
            Err(_) => None,
        }
    }

    /// What the books have of the block; none where they are closed.
    async fn state(&self, hash: BlockHash) -> Option<Option<BlockState>> {
        let (reply, state) = replies::channel();
        self.desk.ask(hash, reply);
        spawn_blocking(move || state.recv()).await.ok()?.ok()
    }

    async fn tell(&self, row: &CandidateRow, block: &str, order: Order) -> bool {
        let (reply, done) = replies::channel();
        self.desk.order(order.clone(), reply);
        let height = row.candidate.height;
        match spawn_blocking(move || done.recv()).await {
            Ok(Ok(Ok(done))) => {
                tracing::info!(block, height, event = done.event, ?order, "the books heard of a block");
                true
            }
            Ok(Ok(Err(error))) => {
                tracing::warn!(block, height, %error, "the books do not take what became of a block");
                false
            }
            _ => false,
        }
    }
}

/// From the first of these nodes that gives it.
async fn block_of(nodes: &[Arc<Node>], hash: &Shown) -> Option<RawBlock> {
    for node in nodes {
        if let Ok(raw) = node.block(hash).await {
            return Some(raw.into());
        }
    }
    None
}
