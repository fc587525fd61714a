//! Looks through the chain for blocks of ours that no share announced: at each new tip, and at those that came while the
//! pool was down.
//!
//! Most often the chain tells of a block before its share does. So one that looks like ours is left alone for a moment, and
//! is recorded where nothing has come by then. It is the operator who books it.

use std::collections::VecDeque;
use std::sync::{Arc, mpsc as replies};
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;
use tokio::time::{sleep, timeout};

use super::follow::NewTip;
use super::rpc::{RpcError, Shown};
use super::{Node, aside};
use crate::ledger::{ChainPlace, OrderDesk, Record, Searched, Whose, unix_ms};
use crate::telemetry::{BlockTelemetry, UnannouncedKind};
use crate::work::{MinedBlock, PARENTS_KNOWN};

/// Blocks that are looked at behind the tip at most: two weeks of them. Older ones are booked by hash.
pub const SEARCHED_BACK_MAX: usize = 2_016;

/// How long the share of a block may take that the chain has already.
const SHARE_PATIENCE: Duration = Duration::from_secs(5);

/// Where a node does not answer the search goes on after so long, or with the next tip.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// Blocks remembered as looked at: as deep as a chain may leave some and come back.
const LOOKED_MAX: usize = 2 * PARENTS_KNOWN;

/// Why a block with the pool's tag is not booked.
const TAG_ALONE: &str = "the coinbase of the block has the pool's tag, which anybody can write; it pays none of the pool's \
                         scripts, and none of its payees: there is nothing to book";

/// Reads blocks of the chain from the nodes, and has the books look at them.
#[derive(Clone)]
pub struct ChainBlocks {
    nodes: Vec<Arc<Node>>,
    desk: OrderDesk,
    tips: watch::Receiver<NewTip>,
    telemetry: Arc<BlockTelemetry>,
}

/// The search.
pub struct Search {
    blocks: ChainBlocks,
    /// The last block that was looked at; none where nobody has looked before.
    searched: Option<Searched>,
    /// Blocks that were looked at, the newest last.
    looked: VecDeque<[u8; 32]>,
    /// What looks like ours, and when it was first seen, ms since 1970.
    waiting: Vec<(Shown, u64)>,
}

impl ChainBlocks {
    #[must_use]
    pub fn new(
        nodes: Vec<Arc<Node>>,
        desk: OrderDesk,
        tips: watch::Receiver<NewTip>,
        telemetry: Arc<BlockTelemetry>,
    ) -> Self {
        Self {
            nodes,
            desk,
            tips,
            telemetry,
        }
    }

    /// Has a block of the chain recorded, so that it can be booked: the operator says that it is ours.
    ///
    /// # Errors
    /// Why it is not.
    pub async fn record_by_hand(&self, hash: [u8; 32]) -> Result<(), String> {
        let shown = Shown(hash);
        let header = self.header(&shown).await;
        let header = header.map_err(|error| format!("no candidate of this hash was recorded, and the node {error}"))?;
        if header.confirmations < 1 {
            return Err("the block is not in the node's best chain".to_owned());
        }
        match self.record(&shown, unix_ms(), Record::ByHand).await {
            Ok(Some(Whose::Recorded | Whose::Ours { .. } | Whose::TagAlone { to_payees: 1.. })) => Ok(()),
            Ok(Some(Whose::TagAlone { to_payees: 0 })) => Err(TAG_ALONE.to_owned()),
            Ok(Some(Whose::Nobodys)) => {
                Err("the coinbase of the block neither pays the pool nor has its tag: it is not the pool's".to_owned())
            }
            Ok(None) => Err("no node gives the block; one that prunes has only the last ones".to_owned()),
            Err(error) => Err(format!("a node {error}")),
        }
    }

    /// From the node whose tip is followed.
    async fn header(&self, hash: &Shown) -> Result<super::rpc::Header, RpcError> {
        let node = self.tips.borrow().node;
        self.nodes[node].header(hash).await
    }

    /// Whose the block is; none where no node has it to give, or the books are closed.
    async fn look(&self, hash: &Shown, seen_ms: u64) -> Result<Option<Whose>, RpcError> {
        let Some((raw, _)) = self.raw(hash).await? else {
            return Ok(None);
        };
        match MinedBlock::read(&raw) {
            Some(block) => Ok(self.ask(block, seen_ms, Record::Nothing).await),
            None => Ok(None),
        }
    }

    /// The same; what is to be recorded is.
    async fn record(
        &self,
        hash: &Shown,
        seen_ms: u64,
        which: fn(ChainPlace) -> Record,
    ) -> Result<Option<Whose>, RpcError> {
        let Some((raw, node)) = self.raw(hash).await? else {
            return Ok(None);
        };
        // Not from the coinbase: one that is not of the form of gateways has it elsewhere.
        let height = self.nodes[node].header(hash).await?.height;
        let read = aside(move || {
            let block = MinedBlock::read(&raw)?;
            let branches = block.branches(&raw)?;
            Some((block, branches))
        });
        match read.await {
            Some((block, branches)) => {
                let place = ChainPlace { height, branches };
                Ok(self.ask(block, seen_ms, which(place)).await)
            }
            None => Ok(None),
        }
    }

    async fn ask(&self, block: MinedBlock, seen_ms: u64, record: Record) -> Option<Whose> {
        let (reply, whose) = replies::channel();
        self.desk.whose(block, seen_ms, record, reply);
        spawn_blocking(move || whose.recv()).await.ok()?.ok()
    }

    /// From the first node that has it, the one whose tip is followed before others; and which. None where all say that they do not.
    ///
    /// # Errors
    /// A node that might have it cannot be asked.
    async fn raw(&self, hash: &Shown) -> Result<Option<(Vec<u8>, usize)>, RpcError> {
        let first = self.tips.borrow().node;
        let mut silent = None;
        for at in 0..self.nodes.len() {
            let node = (first + at) % self.nodes.len();
            match self.nodes[node].block(hash).await {
                Ok(raw) => return Ok(Some((raw, node))),
                Err(RpcError::Said { .. }) => {}
                Err(error) => silent = Some(error),
            }
        }
        silent.map_or(Ok(None), Err)
    }
}

impl Search {
    #[must_use]
    pub fn new(blocks: ChainBlocks, searched: Option<Searched>) -> Self {
        Self {
            blocks,
            looked: searched.iter().map(|searched| searched.hash).collect(),
            searched,
            waiting: Vec::new(),
        }
    }

    /// Runs for as long as the runtime does.
    pub async fn run(mut self) {
        let mut tips = self.blocks.tips.clone();
        let mut was_silent = false;
        loop {
            let tip = tips.borrow_and_update().clone();
            let searched = self.search(&tip).await;
            if let Err(error) = &searched
                && !was_silent
            {
                tracing::warn!(%error, "the chain cannot be searched for blocks of ours: a node is asked again");
            }
            was_silent = searched.is_err();
            let next = tips.changed();
            let gone = match was_silent {
                false => next.await.is_err(),
                true => timeout(RETRY_AFTER, next).await.is_ok_and(|changed| changed.is_err()),
            };
            if gone {
                return;
            }
        }
    }

    /// Looks at all blocks up to the tip that nobody has looked at.
    async fn search(&mut self, tip: &NewTip) -> Result<(), RpcError> {
        let end = tip.searched();
        for hash in self.unseen(end.hash).await? {
            let seen_ms = unix_ms();
            match self.blocks.look(&hash, seen_ms).await? {
                Some(Whose::Ours { .. } | Whose::TagAlone { .. }) => self.waiting.push((hash, seen_ms)),
                Some(Whose::Recorded | Whose::Nobodys) => {}
                None => {
                    self.blocks.telemetry.unread.add(1);
                    tracing::warn!(block = %hash, "no node gives a block of the chain: nobody looks whether it is ours");
                }
            }
            self.looked.push_back(hash.0);
            if self.looked.len() > LOOKED_MAX {
                self.looked.pop_front();
            }
        }
        if let Some((_, last_ms)) = self.waiting.last() {
            let waited = Duration::from_millis(unix_ms().saturating_sub(*last_ms));
            sleep(SHARE_PATIENCE.saturating_sub(waited)).await;
        }
        while let Some((hash, seen_ms)) = self.waiting.first().copied() {
            self.settle_whose(&hash, seen_ms).await?;
            self.waiting.remove(0);
        }
        self.searched = Some(end);
        self.blocks.desk.searched(end);
        self.blocks.telemetry.searched_height.set(end.height.into());
        Ok(())
    }

    /// No share has come meanwhile, or one has.
    async fn settle_whose(&self, hash: &Shown, seen_ms: u64) -> Result<(), RpcError> {
        let telemetry = &self.blocks.telemetry;
        match self.blocks.record(hash, seen_ms, Record::Ours).await? {
            Some(Whose::Ours { to_pool }) => {
                telemetry.unannounced[UnannouncedKind::Ours].add(1);
                tracing::debug!(block = %hash, to_pool, "a block of ours that no share announced is recorded");
            }
            Some(Whose::TagAlone { to_payees }) => {
                telemetry.unannounced[UnannouncedKind::TagAlone].add(1);
                tracing::warn!(
                    block = %hash,
                    to_payees,
                    "the chain has a block with the pool's tag, which anybody can write: it pays nothing to the pool, and \
                     no split that is known. Where it is the pool's and pays its payees, `millrace control book HASH` books it"
                );
            }
            Some(Whose::Recorded | Whose::Nobodys) | None => {}
        }
        Ok(())
    }

    /// Blocks from the tip down to the first that was looked at, the lowest first.
    async fn unseen(&self, tip: [u8; 32]) -> Result<Vec<Shown>, RpcError> {
        let mut unseen = Vec::new();
        let mut next = Some(Shown(tip));
        while let Some(hash) = next.filter(|hash| !self.looked.contains(&hash.0)) {
            if unseen.len() == SEARCHED_BACK_MAX {
                tracing::warn!(
                    blocks = SEARCHED_BACK_MAX,
                    "the chain is searched for blocks of ours no further back than this"
                );
                break;
            }
            let header = self.blocks.header(&hash).await?;
            // Where the chain has left the last one that was looked at, there is no end to find.
            if let Some(searched) = self.searched
                && header.height as usize + PARENTS_KNOWN < searched.height as usize
            {
                break;
            }
            unseen.push(hash);
            next = header.previous;
        }
        unseen.reverse();
        Ok(unseen)
    }
}
