//! Blocks of ours, from the candidate on disk to a block that nothing can happen to any more.
//!
//! Each block has a task of its own: it is put together, submitted to every node, and looked at with each tip; what became
//! of it is told to the books. The gateway that found it has most often submitted it before its share came: then the
//! nodes have it already.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, mpsc as replies};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore, mpsc, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;

use super::delivery::{Delivery, OFFERS_MAX, Outcome};
use super::fate::{self, Shows, Step};
use super::follow::NewTip;
use super::rpc::Shown;
use super::store::BlockStore;
use super::submission::Submission;
use super::templates::Library;
use super::words::Word;
use super::{Node, aside};
use crate::ledger::books::{BlockHash, BlockState};
use crate::ledger::{CandidateRow, Order, OrderDesk, Submitted, monotonic_ns};
use crate::telemetry::BlockTelemetry;
use crate::work::RawBlock;

/// How often a block is offered to nodes that may take it yet, beside once with each tip.
const OFFER_EVERY: Duration = Duration::from_secs(2);

/// How long is waited for nodes to say whether they have a block that would be given to them, while the gateway is asked for its
/// transactions: one that is slow gets it once more.
const LOOK_PATIENCE: Duration = Duration::from_millis(500);

/// The same where another node has the block: there is no hurry, and one that says nothing is left for the next time.
const CALM_PATIENCE: Duration = Duration::from_secs(4);

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
    let mut delivery = Delivery::new(shared.nodes.len());
    let mut kept = false;
    loop {
        let tip = tips.borrow_and_update().clone();
        let beyond = tip.height.saturating_sub(row.candidate.height);
        {
            let is_fresh = delivery.offers == 0 && row.complete_ns.is_some();
            let places = if is_fresh { &shared.fresh } else { &shared.together };
            let _place = places.acquire().await;
            if delivery.is_due(beyond) {
                shared.offer(row, &block, &mut delivery).await;
            }
            if shared.look(row, &block, &tip, &mut delivery).await {
                shared.store.forget(&block);
                return;
            }
            if delivery.outcome() != Outcome::Open && !kept {
                kept = shared.keep(row, &block).await;
            }
        }
        let next = async {
            tokio::select! {
                changed = tips.changed() => changed,
                () = word.notified() => Ok(()),
            }
        };
        let gone = match delivery.is_urgent(beyond) {
            true => timeout(OFFER_EVERY, next).await.is_ok_and(|changed| changed.is_err()),
            false => next.await.is_err(),
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

    /// Brings the block to the nodes that may take it yet, and says what came of it where that is something else than before.
    async fn offer(&self, row: &CandidateRow, block: &str, delivery: &mut Delivery) {
        let before = delivery.outcome();
        delivery.offers += 1;
        let said = self.deliver(row, block, delivery).await;
        let (offers, height) = (delivery.offers, row.candidate.height);
        match delivery.outcome() {
            Outcome::Taken if before != Outcome::Taken => {
                tracing::info!(block, height, "a block of ours is with the nodes");
            }
            Outcome::Taken => {}
            Outcome::Refused => {
                let words = said.unwrap_or_else(|why| why);
                tracing::error!(block, words, "the nodes refuse a block of ours");
                let hash = row.candidate.hash;
                let becomes = BlockState::Rejected;
                self.tell(row, block, Order::Block { hash, becomes }).await;
            }
            Outcome::Open if offers == 1 || offers == OFFERS_MAX => {
                let why = said.map_or_else(|why| why, |words| format!("no node took it: {words}"));
                tracing::error!(block, offers, "a block of ours is not with any node: {why}");
            }
            Outcome::Open => {}
        }
    }

    /// Gives the block to each node that does not have it; the words of those that did not take it. Most often the gateway's own
    /// has brought it to some.
    ///
    /// Where its transactions are known it goes to all at once: to ask first who lacks it would take longer than to be told
    /// that one has it.
    ///
    /// # Errors
    /// Why it could not be put together.
    async fn deliver(&self, row: &CandidateRow, block: &str, delivery: &mut Delivery) -> Result<String, String> {
        // One that no share announced the nodes have.
        if delivery.offers == 1
            && row.announced
            && let Some(raw) = self.library.known_block(&row.candidate)
        {
            return Ok(self.give(delivery.owed(), row, block, raw, delivery).await);
        }
        // Before any node is looked at: the slot may be used again. Of a former process it is another session's.
        let is_fresh = delivery.offers == 1 && row.complete_ns.is_some();
        let (slot, branches) = (row.candidate.job_id, &row.candidate.branches);
        let asked = is_fresh.then(|| self.library.show(row.gateway, slot, branches));
        let (lacking, having) = self.look_for(row, delivery).await;
        if lacking.is_empty() {
            return Ok(String::new());
        }
        let raw = match self.stored_or_given(row, block, having).await {
            Some(raw) => raw,
            None if delivery.outcome() == Outcome::Taken => return Ok(String::new()),
            None => self.library.block(&row.candidate, row.gateway, asked).await?,
        };
        Ok(self.give(lacking, row, block, raw, delivery).await)
    }

    /// Which of the nodes that are owed the block lack it, and all that have it to give.
    async fn look_for(&self, row: &CandidateRow, delivery: &mut Delivery) -> (Vec<usize>, Vec<usize>) {
        let hash = Shown(row.candidate.hash);
        let patience = match delivery.outcome() {
            Outcome::Taken => CALM_PATIENCE,
            Outcome::Open | Outcome::Refused => LOOK_PATIENCE,
        };
        let mut looks = JoinSet::new();
        for index in delivery.owed() {
            let node = self.nodes[index].clone();
            looks.spawn(async move { (timeout(patience, node.header(&hash)).await, index) });
        }
        let (mut lacking, mut silent, mut beside) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(Ok((header, node))) = looks.join_next().await {
            match header {
                Ok(Ok(header)) if header.confirmations >= 1 => delivery.is_with(node),
                // One that has no more than the header is offered it, and one that has it beside its chain: of that alone nobody
                // knows whether it is good.
                Ok(Ok(header)) => {
                    lacking.push(node);
                    if header.tx_count > 0 {
                        beside.push(node);
                    }
                }
                Ok(Err(error)) if error.is_not_found() => lacking.push(node),
                _ => silent.push(node),
            }
        }
        // One that cannot be asked is offered it all the same, unless another has it and it has been offered it before.
        if delivery.offers == 1 || delivery.outcome() != Outcome::Taken {
            lacking.append(&mut silent);
        }
        let mut having = delivery.having();
        having.append(&mut beside);
        (lacking, having)
    }

    /// The raw block as far as it can be had without its gateway: from disk, from one of these nodes, or from transactions that are
    /// known.
    async fn stored_or_given(&self, row: &CandidateRow, block: &str, having: Vec<usize>) -> Option<RawBlock> {
        let (store, name) = (self.store.clone(), block.to_owned());
        if let Some(raw) = aside(move || store.read(&name)).await {
            return Some(raw.into());
        }
        let nodes: Vec<_> = having.into_iter().map(|node| self.nodes[node].clone()).collect();
        match block_of(&nodes, &Shown(row.candidate.hash)).await {
            Some(raw) => Some(raw),
            None => self.library.known_block(&row.candidate),
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
        if self.store.has(block) {
            return;
        }
        let (store, name) = (self.store.clone(), block.to_owned());
        if let Err(error) = aside(move || store.keep(&name, &raw)).await {
            tracing::error!(block, %error, "a block of ours cannot be kept on disk");
        }
    }

    /// Submits the block to these nodes, and keeps it on disk: that begins when the first of them has been written all of it, so
    /// that it takes neither a core nor a disk from what counts. Meanwhile the candidate's row is enough to make it again.
    async fn give(
        &self,
        nodes: Vec<usize>,
        row: &CandidateRow,
        block: &str,
        raw: RawBlock,
        delivery: &mut Delivery,
    ) -> String {
        let raw = Arc::new(raw);
        let (sent, mut first_sent) = mpsc::channel(1);
        let keep = async {
            first_sent.recv().await;
            self.write(block, raw.clone()).await;
        };
        let (words, ()) = tokio::join!(self.submit(nodes, row, raw.clone(), sent, delivery), keep);
        words
    }

    /// To all of these nodes at the same time; the words of those that did not take it. `sent` hears when one has been written all
    /// of it, and is let go when no other will be.
    async fn submit(
        &self,
        nodes: Vec<usize>,
        row: &CandidateRow,
        raw: Arc<RawBlock>,
        sent: mpsc::Sender<()>,
        delivery: &mut Delivery,
    ) -> String {
        let submission = aside(move || Submission::new(&raw)).await;
        let mut answers = JoinSet::new();
        for index in nodes {
            let node = self.nodes[index].clone();
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
                (answer, index)
            });
        }
        drop(sent);
        let mut not_taken = Vec::new();
        while let Some(Ok((answer, index))) = answers.join_next().await {
            let (node, block, word) = (&self.nodes[index], Shown(row.candidate.hash), Word::of(answer));
            let (rpc, outcome) = (node.rpc.address(), word.outcome.label());
            match word.outcome {
                // It is offered again and again, and says the same.
                _ if !delivery.words.is_new(rpc, &word) => {}
                Submitted::Unanswered => {
                    tracing::warn!(%block, %rpc, error = word.words, "a node has no word on a block of ours");
                }
                _ => tracing::info!(%block, %rpc, outcome, word = word.words, "a node's word on a block of ours"),
            }
            word.count(&node.telemetry);
            if let Some(row) = delivery.words.hear(row.candidate.hash, rpc, &word) {
                self.desk.submission(row);
            }
            if !delivery.hear(index, word.outcome) {
                not_taken.push(format!("{rpc}: {}", word.words));
            }
        }
        not_taken.join("; ")
    }

    /// Tells the books what the chain shows of the block. True: nothing can become of it any more.
    async fn look(&self, row: &CandidateRow, block: &str, tip: &NewTip, delivery: &mut Delivery) -> bool {
        let hash = row.candidate.hash;
        let beyond = tip.height.saturating_sub(row.candidate.height);
        let mut is_offered = false;
        // Some events take two steps: what is in the chain for long is accepted, then mature. And one may be an offer.
        for _ in 0..4 {
            let Some(shows) = self.shows(&hash, tip.node).await else {
                return false;
            };
            if shows == Shows::Nothing && beyond < fate::LOST_AFTER {
                delivery.is_lost_by(tip.node);
            }
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
            // Who has never seen it cannot say that the chain is better without it.
            if (shows, step) == (Shows::Nothing, Step::Becomes(BlockState::Orphaned)) && !is_offered {
                is_offered = true;
                if let Some(raw) = self.stored_or_given(row, block, delivery.having()).await {
                    self.give(vec![tip.node], row, block, raw, delivery).await;
                }
                continue;
            }
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

#[cfg(test)]
mod tests;
