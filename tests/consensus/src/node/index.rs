//! The blocks that are known, and which of them are the best chain.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use bitcoin::pow::Work;
use bitcoin::{Block, BlockHash};

/// Blocks whose times the median is taken of, by consensus.
const MEDIAN_SPAN: usize = 11;

/// One known block.
#[derive(Debug, Clone)]
pub struct Known {
    pub block: Arc<Block>,
    pub height: u32,
    /// Of the chain up to here.
    pub work: Work,
    pub validity: Validity,
}

/// What the engine found so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Validity {
    /// On no best chain yet.
    Unchecked,
    Valid,
    Invalid,
}

#[derive(Debug)]
pub struct Index {
    known: HashMap<BlockHash, Known>,
    /// In the order they came, which parents begin.
    order: Vec<BlockHash>,
    /// By height.
    best: Vec<BlockHash>,
}

/// How the best chain changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// From the old tip down.
    pub disconnected: Vec<BlockHash>,
    /// Up to the new tip.
    pub connected: Vec<BlockHash>,
}

impl Index {
    pub fn new(genesis: Block) -> Self {
        let hash = genesis.block_hash();
        let known = Known {
            work: genesis.header.work(),
            block: Arc::new(genesis),
            height: 0,
            validity: Validity::Valid,
        };
        Self {
            known: HashMap::from([(hash, known)]),
            order: vec![hash],
            best: vec![hash],
        }
    }

    /// Takes in a block that the engine keeps. False where its parent is unknown.
    pub fn add(&mut self, block: Arc<Block>) -> bool {
        let Some(parent) = self.known.get(&block.header.prev_blockhash) else {
            return false;
        };
        let hash = block.block_hash();
        let known = Known {
            height: parent.height + 1,
            work: parent.work + block.header.work(),
            block,
            validity: Validity::Unchecked,
        };
        if self.known.insert(hash, known).is_none() {
            self.order.push(hash);
        }
        true
    }

    pub fn mark(&mut self, hash: &BlockHash, validity: Validity) {
        if let Some(known) = self.known.get_mut(hash) {
            known.validity = validity;
        }
    }

    pub fn known(&self, hash: &BlockHash) -> Option<&Known> {
        self.known.get(hash)
    }

    /// All but genesis, parents first.
    pub fn in_order(&self) -> impl Iterator<Item = &Known> {
        self.order.iter().skip(1).map(|hash| &self.known[hash])
    }

    pub fn tip(&self) -> &Known {
        &self.known[&self.tip_hash()]
    }

    pub fn tip_hash(&self) -> BlockHash {
        *self.best.last().expect("genesis is always there")
    }

    pub fn height(&self) -> u32 {
        self.tip().height
    }

    pub fn at_height(&self, height: u32) -> Option<BlockHash> {
        self.best.get(height as usize).copied()
    }

    /// Blocks of the best chain, genesis first.
    pub fn best(&self) -> impl Iterator<Item = &Known> {
        self.best.iter().map(|hash| &self.known[hash])
    }

    pub fn is_best(&self, hash: &BlockHash) -> bool {
        self.known(hash)
            .is_some_and(|known| self.at_height(known.height) == Some(*hash))
    }

    /// Lets the best chain end in `tip`, a known block.
    pub fn follow(&mut self, tip: BlockHash) -> Change {
        let mut change = Change::default();
        let mut at = tip;
        while !self.is_best(&at) {
            change.connected.push(at);
            at = self.known[&at].block.header.prev_blockhash;
        }
        change.connected.reverse();
        let fork = self.known[&at].height as usize;
        change.disconnected = self.best.split_off(fork + 1);
        change.disconnected.reverse();
        self.best.extend_from_slice(&change.connected);
        change
    }

    /// The block and all that stands on it.
    pub fn with_descendants(&self, root: BlockHash) -> HashSet<BlockHash> {
        let mut family = HashSet::from([root]);
        for hash in &self.order {
            if family.contains(&self.known[hash].block.header.prev_blockhash) {
                family.insert(*hash);
            }
        }
        family
    }

    /// Ends of all branches.
    pub fn ends(&self) -> Vec<BlockHash> {
        let parents: HashSet<_> = self
            .known
            .values()
            .map(|known| known.block.header.prev_blockhash)
            .collect();
        self.order
            .iter()
            .copied()
            .filter(|hash| !parents.contains(hash))
            .collect()
    }

    /// The median of the times of a block and the ten before it, s since 1970.
    pub fn median_time(&self, hash: &BlockHash) -> u32 {
        let mut times = Vec::with_capacity(MEDIAN_SPAN);
        let mut at = self.known.get(hash);
        while let Some(known) = at
            && times.len() < MEDIAN_SPAN
        {
            times.push(known.block.header.time);
            at = self.known.get(&known.block.header.prev_blockhash);
        }
        times.sort_unstable();
        times.get(times.len() / 2).copied().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::Network;
    use bitcoin::constants::genesis_block;

    fn child(parent: BlockHash, nonce: u32) -> Arc<Block> {
        let mut block = genesis_block(Network::Regtest);
        block.header.prev_blockhash = parent;
        block.header.nonce = nonce;
        Arc::new(block)
    }

    #[test]
    fn the_best_chain_goes_down_to_the_fork_and_up_again() {
        let genesis = genesis_block(Network::Regtest).block_hash();
        let mut index = Index::new(genesis_block(Network::Regtest));
        let (a, b, c) = (child(genesis, 1), child(genesis, 2), child(genesis, 2));
        let (a_hash, b_hash) = (a.block_hash(), b.block_hash());
        assert!(index.add(a) && index.add(b) && index.add(c));
        let d = child(b_hash, 3);
        let d_hash = d.block_hash();
        assert!(index.add(d));
        assert!(!index.add(child(BlockHash::from_raw_hash(bitcoin::hashes::Hash::all_zeros()), 4)));
        assert_eq!(index.follow(a_hash).connected, [a_hash]);
        assert_eq!(
            index.follow(d_hash),
            Change {
                disconnected: vec![a_hash],
                connected: vec![b_hash, d_hash]
            }
        );
        assert_eq!((index.height(), index.at_height(1)), (2, Some(b_hash)));
        assert_eq!(index.follow(d_hash), Change::default());
        assert_eq!(index.with_descendants(b_hash), HashSet::from([b_hash, d_hash]));
        assert_eq!(index.ends(), [a_hash, d_hash]);
        assert_eq!(index.in_order().count(), 3);
    }
}
