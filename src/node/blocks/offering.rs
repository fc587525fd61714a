//! How a block of ours comes to the nodes: who lacks it, of what it is put together, and what each says of it.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::OFFER_EVERY;
use super::tending::Tending;
use crate::ledger::{Submitted, monotonic_ns};
use crate::node::delivery::Outcome;
use crate::node::rpc::{RpcError, Shown};
use crate::node::submission::Submission;
use crate::node::words::Word;
use crate::node::{aside, done};
use crate::work::RawBlock;

/// How long is waited for nodes to say whether they have a block that would be given to them, while the gateway is asked for its
/// transactions: one that is slow gets it once more.
const LOOK_PATIENCE: Duration = Duration::from_millis(500);

/// The same where another node has the block, and for a node to give the block: there is no hurry, and one that says nothing is
/// left for the next time.
const CALM_PATIENCE: Duration = Duration::from_secs(4);

const NS_PER_MS: u64 = 1_000_000;

/// What a node said of the block that it was given, and which.
pub(super) type Answer = (Result<Option<String>, RpcError>, usize);

impl Tending<'_> {
    /// Brings the block to the nodes that may take it yet; what they say is heard later.
    pub async fn offer(&mut self) {
        self.delivery.offers += 1;
        self.unmade = self.deliver().await.err();
    }

    /// Gives the block to each node that does not have it. Most often the gateway's own has brought it to some.
    ///
    /// Where its transactions are known it goes to all at once: to ask first who lacks it would take longer than to be told
    /// that one has it.
    ///
    /// # Errors
    /// Why it could not be put together.
    pub async fn deliver(&mut self) -> Result<(), String> {
        let (row, library) = (self.row, &self.shared.library);
        // One that no share announced the nodes have.
        if self.delivery.offers == 1
            && row.announced
            && let Some(raw) = library.known_block(&row.candidate)
        {
            self.give(self.delivery.owed(), raw).await;
            return Ok(());
        }
        // Before any node is looked at: the slot may be used again. Of a former process it is another session's.
        let is_fresh = self.delivery.offers == 1 && row.complete_ns.is_some();
        let (slot, branches) = (row.candidate.job_id, &row.candidate.branches);
        let asked = is_fresh.then(|| library.show(row.gateway, slot, branches));
        let (lacking, having) = self.look_for().await;
        if lacking.is_empty() {
            return Ok(());
        }
        let raw = match self.stored_or_given(having).await {
            Some(raw) => raw,
            None if self.delivery.outcome() == Outcome::Taken => return Ok(()),
            None => library.block(&row.candidate, row.gateway, asked).await?,
        };
        self.give(lacking, raw).await;
        Ok(())
    }

    /// Which of the nodes that are owed the block lack it, and all that have it to give.
    async fn look_for(&mut self) -> (Vec<usize>, Vec<usize>) {
        let hash = Shown(self.row.candidate.hash);
        let patience = match self.delivery.outcome() {
            Outcome::Taken => CALM_PATIENCE,
            Outcome::Open | Outcome::Refused => LOOK_PATIENCE,
        };
        let mut looks = JoinSet::new();
        for index in self.delivery.owed() {
            let node = self.shared.nodes[index].clone();
            looks.spawn(async move { (timeout(patience, node.header(&hash)).await, index) });
        }
        let (mut lacking, mut silent, mut beside) = (Vec::new(), Vec::new(), Vec::new());
        while let Some(looked) = looks.join_next().await {
            let (header, node) = done(looked);
            match header {
                Ok(Ok(header)) if header.confirmations >= 1 => self.delivery.is_with(node),
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
        if self.delivery.offers == 1 || self.delivery.outcome() != Outcome::Taken {
            lacking.append(&mut silent);
        }
        let mut having = self.delivery.having();
        having.append(&mut beside);
        (lacking, having)
    }

    /// The raw block as far as it can be had without its gateway: from disk, from one of these nodes, or from transactions that are
    /// known.
    pub async fn stored_or_given(&self, having: Vec<usize>) -> Option<RawBlock> {
        let (store, name) = (self.shared.store.clone(), self.block.clone());
        if let Some(raw) = aside(move || store.read(&name)).await {
            return Some(raw.into());
        }
        match self.given(having).await {
            Some(raw) => Some(raw),
            None => self.shared.library.known_block(&self.row.candidate),
        }
    }

    /// From the first of these nodes that gives it.
    async fn given(&self, nodes: Vec<usize>) -> Option<RawBlock> {
        let hash = Shown(self.row.candidate.hash);
        for index in nodes {
            let node = &self.shared.nodes[index];
            if let Ok(Ok(raw)) = timeout(CALM_PATIENCE, node.block(&hash)).await {
                return Some(raw.into());
            }
        }
        None
    }

    /// Sees to it that the raw block lies on disk: most often the gateway has brought it to the nodes, and they have it to
    /// give. False: not yet.
    pub async fn keep(&self) -> bool {
        if self.shared.store.has(&self.block) {
            return true;
        }
        match self.given(self.delivery.having()).await {
            Some(raw) => {
                self.write(Arc::new(raw)).await;
                true
            }
            None => false,
        }
    }

    /// Where it cannot be written the nodes have it all the same.
    async fn write(&self, raw: Arc<RawBlock>) {
        if self.shared.store.has(&self.block) {
            return;
        }
        let (store, name) = (self.shared.store.clone(), self.block.clone());
        if let Err(error) = aside(move || store.keep(&name, &raw)).await {
            tracing::error!(block = self.block, %error, "a block of ours cannot be kept on disk");
        }
    }

    /// Submits the block to these nodes, and keeps it on disk: that begins when the first of them has been written all of it, so
    /// that it takes neither a core nor a disk from what counts, or none takes it in time. Meanwhile the candidate's row is enough
    /// to make it again.
    pub async fn give(&mut self, nodes: Vec<usize>, raw: RawBlock) {
        let raw = Arc::new(raw);
        let mut first_sent = self.submit(nodes, raw.clone()).await;
        let _ = timeout(OFFER_EVERY, first_sent.recv()).await;
        self.write(raw).await;
    }

    /// To all of these nodes at the same time, but for those whose answer to a former offer is still to come. What is given back
    /// hears when one has been written all of it, or when no other will be.
    async fn submit(&mut self, nodes: Vec<usize>, raw: Arc<RawBlock>) -> mpsc::Receiver<()> {
        let (sent, first_sent) = mpsc::channel(1);
        let made_ns = monotonic_ns();
        let submission = aside(move || Submission::new(&raw)).await;
        for index in nodes {
            if !self.delivery.gives(index) {
                continue;
            }
            let node = self.shared.nodes[index].clone();
            let (submission, telemetry) = (submission.clone(), self.shared.telemetry.clone());
            let (complete_ns, found_ns, sent) = (self.row.complete_ns, self.found_ns, sent.clone());
            let block = self.block.clone();
            self.answers.spawn(async move {
                let rpc = node.rpc.address();
                let written = move || {
                    if let Some(complete_ns) = complete_ns {
                        let after = |ns: u64| ns.saturating_sub(complete_ns);
                        let sent_ns = after(monotonic_ns());
                        telemetry.share_to_submission.record(sent_ns);
                        let [on_disk_ms, made_ms, sent_ms] =
                            [after(found_ns), after(made_ns), sent_ns].map(|ns| ns / NS_PER_MS);
                        tracing::info!(block, %rpc, on_disk_ms, made_ms, sent_ms, "a block of ours is sent, so long after its share");
                    }
                    // Where there is no room another was first.
                    let _ = sent.try_send(());
                };
                let answer = node.rpc.submit(&submission, written).await;
                (answer, index)
            });
        }
        first_sent
    }

    /// Hears this node's answer, where one is to come, and others' that come before.
    pub async fn hear_node(&mut self, node: usize) {
        while self.delivery.is_given(node)
            && let Some(answer) = self.answers.join_next().await
        {
            self.hear(done(answer));
        }
    }

    /// What a node said of the block.
    pub fn hear(&mut self, (answer, index): Answer) {
        let hash = self.row.candidate.hash;
        let (node, block, word) = (&self.shared.nodes[index], Shown(hash), Word::of(answer));
        let (rpc, outcome) = (node.rpc.address(), word.outcome.label());
        match word.outcome {
            // It is offered again and again, and says the same.
            _ if !self.delivery.words.is_new(rpc, &word) => {}
            Submitted::Unanswered => {
                tracing::warn!(%block, %rpc, error = word.words, "a node has no word on a block of ours");
            }
            _ => tracing::info!(%block, %rpc, outcome, word = word.words, "a node's word on a block of ours"),
        }
        word.count(&node.telemetry);
        if let Some(row) = self.delivery.words.hear(hash, rpc, &word) {
            self.shared.desk.submission(row);
        }
        self.delivery.hear(index, word.outcome);
    }
}
