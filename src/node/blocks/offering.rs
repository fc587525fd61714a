//! How a block of ours comes to the nodes: who lacks it, of what it is put together, and what each says of it.

use std::pin::pin;
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

/// How long is waited for nodes that are asked whether they have a block, or for the block.
#[derive(Debug, Clone, Copy)]
pub(super) struct Patience {
    /// Where the block would be given to them and none has it yet: one that is slow gets it once more.
    pub hurried: Duration,
    /// Where another node has the block: there is no hurry, and one that says nothing is left for the next time.
    pub calm: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self {
            hurried: Duration::from_millis(500),
            calm: Duration::from_secs(4),
        }
    }
}

/// How a node stands to a block by its own word.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Looked {
    /// In its best chain.
    Has,
    /// Beside its best chain: of that alone nobody knows whether it is good, so it is offered it.
    HasBeside,
    /// Or it has no more than the header.
    Lacks,
    Silent,
}

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
    /// that one has it. Else all nodes are looked at while its gateway is asked, and the first to give the block is enough: neither a
    /// node that hangs nor a slow gateway keeps it from the others.
    ///
    /// # Errors
    /// Why it could not be put together.
    pub async fn deliver(&mut self) -> Result<(), String> {
        let (row, library) = (self.row, &self.shared.library);
        let is_first = self.delivery.offers == 1;
        // One that no share announced the nodes have.
        if is_first
            && row.announced
            && let Some(raw) = library.known_block(&row.candidate)
        {
            self.give(self.delivery.owed(), raw).await;
            return Ok(());
        }
        // Before any node is looked at: the slot may be used again. Of a former process it is another session's.
        let is_fresh = is_first && row.complete_ns.is_some();
        let (slot, branches) = (row.candidate.job_id, &row.candidate.branches);
        let asked = is_fresh.then(|| library.show(row.gateway, slot, branches));
        let mut made = pin!(library.block(&row.candidate, row.gateway, asked));
        let mut unmade = None;
        let mut looks = self.looks();
        // Nodes that lack it, and those that may give it and have not been asked to.
        let (mut lacking, mut having) = (Vec::new(), self.delivery.having());
        let mut given = JoinSet::new();
        let mut is_tried = false;
        let raw = loop {
            if looks.is_empty() && lacking.is_empty() {
                return Ok(());
            }
            let is_taken = self.delivery.outcome() == Outcome::Taken;
            let may_give = !lacking.is_empty() && (!self.is_calm() || looks.is_empty());
            if may_give
                && !std::mem::replace(&mut is_tried, true)
                && let Some(raw) = self.at_hand().await
            {
                break raw;
            }
            if may_give {
                having.drain(..).for_each(|node| drop(given.spawn(self.block_of(node))));
            }
            // Its gateway is asked at once or, on another try, where nothing else is left and no node has it.
            let may_make = match looks.is_empty() && given.is_empty() {
                true => !is_taken,
                false => is_fresh,
            };
            tokio::select! {
                Some(looked) = looks.join_next() => match done(looked) {
                    (Looked::Has, node) => {
                        self.delivery.is_with(node);
                        having.push(node);
                    }
                    (Looked::HasBeside, node) => {
                        lacking.push(node);
                        having.push(node);
                    }
                    (Looked::Lacks, node) => lacking.push(node),
                    (Looked::Silent, node) if !self.is_calm() => lacking.push(node),
                    (Looked::Silent, _) => {}
                },
                Some(raw) = given.join_next() => if let Some(raw) = done(raw) {
                    break raw;
                },
                made = &mut made, if may_make && unmade.is_none() => match made {
                    Ok(raw) => break raw,
                    Err(why) => unmade = Some(why),
                },
                else => return unmade.map_or(Ok(()), Err),
            }
        };
        // Those that have yet to say something get it as well, where there is a hurry.
        let nodes = if self.is_calm() { lacking } else { self.delivery.owed() };
        self.give(nodes, raw).await;
        Ok(())
    }

    /// Whether another node has it, and those that lack it have been offered it before: one that cannot be asked is left for the next
    /// time.
    fn is_calm(&self) -> bool {
        self.delivery.offers > 1 && self.delivery.outcome() == Outcome::Taken
    }

    /// Asks the nodes that are owed the block whether they have it.
    fn looks(&self) -> JoinSet<(Looked, usize)> {
        let hash = Shown(self.row.candidate.hash);
        let patience = match self.delivery.outcome() {
            Outcome::Taken => self.shared.patience.calm,
            Outcome::Open | Outcome::Refused => self.shared.patience.hurried,
        };
        let mut looks = JoinSet::new();
        for index in self.delivery.owed() {
            let node = self.shared.nodes[index].clone();
            looks.spawn(async move {
                let looked = match timeout(patience, node.header(&hash)).await {
                    Ok(Ok(header)) if header.confirmations >= 1 => Looked::Has,
                    Ok(Ok(header)) if header.tx_count > 0 => Looked::HasBeside,
                    Ok(Ok(_)) => Looked::Lacks,
                    Ok(Err(error)) if error.is_not_found() => Looked::Lacks,
                    _ => Looked::Silent,
                };
                (looked, index)
            });
        }
        looks
    }

    /// The raw block as far as it can be had without its gateway.
    pub async fn at_hand_or_given(&self, having: Vec<usize>) -> Option<RawBlock> {
        match self.at_hand().await {
            Some(raw) => Some(raw),
            None => self.given(having).await,
        }
    }

    /// From disk, or of transactions that are known.
    async fn at_hand(&self) -> Option<RawBlock> {
        let (store, name) = (self.shared.store.clone(), self.block.clone());
        match aside(move || store.read(&name)).await {
            Some(raw) => Some(raw.into()),
            None => self.shared.library.known_block(&self.row.candidate),
        }
    }

    /// From the first of these nodes that gives it.
    async fn given(&self, nodes: Vec<usize>) -> Option<RawBlock> {
        for node in nodes {
            if let Some(raw) = self.block_of(node).await {
                return Some(raw);
            }
        }
        None
    }

    /// From this node, where it gives it in time.
    fn block_of(&self, node: usize) -> impl Future<Output = Option<RawBlock>> + Send + use<> {
        let (node, patience) = (self.shared.nodes[node].clone(), self.shared.patience.calm);
        let hash = Shown(self.row.candidate.hash);
        async move {
            let raw = timeout(patience, node.block(&hash)).await.ok()?;
            raw.ok().map(RawBlock::from)
        }
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
            // Of its first offer: what follows waits for what the node has to say or to learn.
            let complete_ns = self.row.complete_ns.filter(|_| self.delivery.offers == 1);
            let (found_ns, sent) = (self.found_ns, sent.clone());
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
