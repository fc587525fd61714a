//! Blocks of ours, from the candidate on disk to a block that nothing can happen to any more.
//!
//! Each block has a task of its own: it is put together, submitted to every node, and looked at with each tip; what became
//! of it is told to the books. The gateway that found it has most often submitted it before its share came: then the
//! nodes have it already.

use std::sync::{Arc, mpsc as replies};
use std::time::Duration;

use thiserror::Error;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;

use super::Node;
use super::fate::{self, Shows, Step};
use super::follow::NewTip;
use super::rpc::{RpcError, Shown};
use super::store::BlockStore;
use super::submission::Submission;
use super::templates::{Library, says_nothing};
use crate::ledger::books::{BlockHash, BlockState};
use crate::ledger::{CandidateRow, Order, OrderDesk, monotonic_ns};
use crate::telemetry::BlockTelemetry;
use crate::work::AssemblyError;

/// How often a block is offered that no node has yet, beside once with each tip.
const OFFER_EVERY: Duration = Duration::from_secs(2);

/// How long is waited for nodes to say whether they have a block that would be given to them.
const LOOK_PATIENCE: Duration = Duration::from_secs(2);

/// Offers of one block, until only tips bring another: twenty minutes.
const OFFERS_MAX: u32 = 600;

/// Blocks that are offered or looked at together.
const TOGETHER_MAX: usize = 16;

/// Tends blocks for as long as the runtime lives.
pub struct Blocks {
    shared: Arc<Shared>,
    /// Candidates that are durable from now on.
    found: mpsc::UnboundedReceiver<CandidateRow>,
}

struct Shared {
    nodes: Vec<Arc<Node>>,
    desk: OrderDesk,
    library: Library,
    store: BlockStore,
    tips: watch::Receiver<NewTip>,
    telemetry: Arc<BlockTelemetry>,
    together: Semaphore,
}

/// Why a block is not with any node yet.
#[derive(Debug, Error)]
enum Undelivered {
    #[error(transparent)]
    Assembly(#[from] AssemblyError),
    #[error("{0}")]
    Transactions(String),
    #[error("the node that has it does not give it: {0}")]
    NotGiven(#[from] RpcError),
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
                nodes,
                desk,
                library,
                store,
                tips,
                telemetry,
                together: Semaphore::new(TOGETHER_MAX),
            }),
            found,
        }
    }

    /// `open`: blocks of a former process that something may still become of.
    pub async fn tend(mut self, open: Vec<CandidateRow>) {
        for row in open {
            tokio::spawn(tend(self.shared.clone(), row));
        }
        while let Some(row) = self.found.recv().await {
            tokio::spawn(tend(self.shared.clone(), row));
        }
    }
}

async fn tend(shared: Arc<Shared>, row: CandidateRow) {
    let mut tips = shared.tips.clone();
    let block = Shown(row.candidate.hash).to_string();
    let (mut delivered, mut offers) = (false, 0);
    loop {
        let tip = tips.borrow_and_update().clone();
        {
            let _place = shared.together.acquire().await;
            if !delivered {
                offers += 1;
                delivered = shared.offer(&row, &block, offers).await;
            }
            if shared.look(&row, &block, &tip).await {
                shared.store.forget(&block);
                return;
            }
        }
        let next = tips.changed();
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
    /// Brings the block to the nodes. True: they have it, or will never take it.
    async fn offer(&self, row: &CandidateRow, block: &str, offers: u32) -> bool {
        match self.deliver(row, block, offers).await {
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
    async fn deliver(&self, row: &CandidateRow, block: &str, offers: u32) -> Result<Delivered, Undelivered> {
        if offers == 1
            && let Some(raw) = self.library.known_block(&row.candidate).await
        {
            return self.give(self.nodes.clone(), row, block, raw).await;
        }
        let hash = Shown(row.candidate.hash);
        let mut looks = JoinSet::new();
        for node in self.nodes.iter().cloned() {
            looks.spawn(async move { (timeout(LOOK_PATIENCE, node.header(&hash)).await, node) });
        }
        let (mut having, mut lacking) = (None, Vec::new());
        while let Some(Ok((header, node))) = looks.join_next().await {
            match header {
                Ok(Ok(_)) => having = Some(node),
                // One that cannot be asked is offered it all the same.
                Ok(Err(_)) | Err(_) => lacking.push(node),
            }
        }
        if lacking.is_empty() {
            return Ok(Delivered::Taken);
        }
        let raw = match (self.store.read(block), &having) {
            (Some(raw), _) => raw,
            (None, Some(having)) => having.block(&hash).await?,
            (None, None) => {
                let asked = self.library.asked_block(&row.candidate, row.gateway).await;
                asked.map_err(Undelivered::Transactions)?
            }
        };
        let given = self.give(lacking, row, block, raw).await;
        match having {
            Some(_) => Ok(Delivered::Taken),
            None => given,
        }
    }

    /// Submits the block to these nodes, and keeps it on disk.
    async fn give(
        &self,
        nodes: Vec<Arc<Node>>,
        row: &CandidateRow,
        block: &str,
        raw: Vec<u8>,
    ) -> Result<Delivered, Undelivered> {
        let raw = Arc::new(raw);
        let kept = {
            let (store, name, raw) = (self.store.clone(), block.to_owned(), raw.clone());
            spawn_blocking(move || store.keep(&name, &raw))
        };
        let submitted = self.submit(nodes, row, &raw).await;
        if let Ok(Err(error)) = kept.await {
            tracing::error!(block, %error, "a block of ours cannot be kept on disk");
        }
        submitted
    }

    /// To all of these nodes at the same time.
    async fn submit(&self, nodes: Vec<Arc<Node>>, row: &CandidateRow, raw: &[u8]) -> Result<Delivered, Undelivered> {
        let submission = Submission::new(raw);
        let mut answers = JoinSet::new();
        for node in nodes {
            let (submission, telemetry, complete_ns) = (submission.clone(), self.telemetry.clone(), row.complete_ns);
            answers.spawn(async move {
                let written = || {
                    if let Some(complete_ns) = complete_ns {
                        let took_ns = monotonic_ns().saturating_sub(complete_ns);
                        telemetry.share_to_submission.record(took_ns);
                    }
                };
                let answer = node.rpc.submit(&submission, written).await;
                (node.rpc.address(), answer, node)
            });
        }
        let (mut taken, mut refused, mut silent) = (false, Vec::new(), Vec::new());
        while let Some(Ok((rpc, answer, node))) = answers.join_next().await {
            match answer {
                Ok(word) if word.as_deref().is_none_or(has_it) => {
                    node.telemetry.blocks_taken.add(1);
                    taken = true;
                }
                // Not the last word: it lacks the parent yet, or its clock is behind.
                Ok(Some(word)) if says_nothing(&word) => silent.push(format!("{rpc}: {word}")),
                Ok(word) => {
                    node.telemetry.blocks_refused.add(1);
                    refused.push(format!("{rpc}: {}", word.unwrap_or_default()));
                }
                Err(error) => silent.push(format!("{rpc}: {error}")),
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
            if fate::is_over(state, beyond) {
                return true;
            }
            let Some(step) = fate::next_step(state, shows, beyond) else {
                return false;
            };
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

/// Whether a word of `submitblock` says that the node has the block, in its best chain or beside it.
fn has_it(word: &str) -> bool {
    matches!(word, "duplicate" | "inconclusive" | "duplicate-inconclusive")
}
