//! Block templates that many gateways share, as all nodes of one chain make nearly the same ones: made up, or a node's own.

use std::ops::RangeInclusive;
use std::sync::Arc;

use millrace::wire::{CutCoinbase, JobSection};
use millrace::work::TemplateTransaction;

use crate::rng::Rng;
use crate::sha256d;
use crate::upstream::Upstream;

mod offered;
mod spoilt;

pub use self::offered::{branches, commitment};
pub use self::spoilt::Spoilt;

/// Templates of one tip; gateways use them in turn.
pub const VARIANTS: u32 = 26;

/// Height of the block that the first template would become.
const FIRST_HEIGHT: u32 = 840_000;

/// Fees of a template in satoshi, at most: the dev chain allows 500 BTC.
const FEES_MAX: u64 = 200_000_000;

/// Bytes and weight of a block, as nodes say it in a template.
const BLOCK_BYTES: usize = 4_000_000;
const BLOCK_WEIGHT: usize = 4_000_000;

/// What the gateway keeps free beside the coinbase: the header, the count of transactions, the witness.
const BESIDE_BYTES: usize = 85 + 36;
const BESIDE_WEIGHT: usize = 340 + 36;

/// Of each row of variants one is so full that it leaves room for some payouts alone, and one for none.
const FULL_EVERY: u32 = 13;
const NEARLY_FULL: u32 = 4;
const FULL: u32 = 9;
/// What a nearly full one leaves for the coinbase, in bytes.
const NEARLY_FULL_ROOM: u32 = 600;

/// What a node offers to mine on.
#[derive(Debug)]
pub struct Template {
    /// Internal byte order.
    pub parent: [u8; 32],
    pub height: u32,
    /// Satoshi: subsidy and fees.
    pub value: u64,
    pub nbits: u32,
    /// The least time of a block, s since 1970.
    pub min_time: u32,
    /// Transactions beside the coinbase: as many as the branches need.
    pub tx_count: u32,
    pub weight: u32,
    pub size: u32,
    pub sigops: u32,
    pub branches: Vec<[u8; 32]>,
    /// What the witness commitment's output says.
    pub commitment: [u8; 32],
    /// Those beside the coinbase, in order. None of a template that is made up: it has hashes alone.
    pub transactions: Option<Box<[TemplateTransaction]>>,
}

/// Where templates come from.
#[derive(Debug)]
pub enum Source {
    MadeUp(Templates),
    Node(Arc<Upstream>),
}

impl Source {
    /// The template that stands on tip number `tip`; `variant` counts on without end. A node has one, on its own tip.
    pub fn template(&mut self, tip: u32, variant: u32) -> Arc<Template> {
        match self {
            Self::MadeUp(templates) => templates.template(tip, variant),
            Self::Node(upstream) => upstream.template(),
        }
    }

    /// The node, where there is one.
    pub fn node(&self) -> Option<&Arc<Upstream>> {
        match self {
            Self::MadeUp(_) => None,
            Self::Node(upstream) => Some(upstream),
        }
    }
}

/// The chain as the gateways' nodes see it.
#[derive(Debug)]
pub struct Templates {
    seed: u64,
    branches: RangeInclusive<u8>,
    tip: u32,
    of_tip: Vec<Option<Arc<Template>>>,
}

impl Templates {
    /// `branches`: how many a template may have.
    pub fn new(seed: u64, branches: RangeInclusive<u8>) -> Self {
        Self {
            seed,
            branches,
            tip: 0,
            of_tip: Vec::new(),
        }
    }

    /// The template that stands on tip number `tip`; `variant` counts on without end.
    pub fn template(&mut self, tip: u32, variant: u32) -> Arc<Template> {
        if self.of_tip.is_empty() || self.tip != tip {
            self.tip = tip;
            self.of_tip = vec![None; VARIANTS as usize];
        }
        let variant = variant % VARIANTS;
        let (seed, branches) = (self.seed, &self.branches);
        self.of_tip[variant as usize]
            .get_or_insert_with(|| Arc::new(Template::new(seed, tip, variant, branches)))
            .clone()
    }
}

/// Satoshi that the block at `height` creates, halving as the gateway has it on any chain.
pub fn subsidy(height: u32) -> u64 {
    5_000_000_000_u64.checked_shr(height / 210_000).unwrap_or(0)
}

impl Template {
    /// The job as a share brings it, worked on with this coinbase.
    pub fn section(&self, coinbase: &CutCoinbase, coinbaser_id: u8) -> JobSection<'_> {
        JobSection {
            prev_block_hash: &self.parent,
            target_index: coinbase.target_index,
            nbits: self.nbits,
            coinbaser_id,
            height: self.height,
            coinbase_value: self.value,
            tx_count: self.tx_count,
            weight: self.weight,
            size: self.size,
            sigops: self.sigops,
            branches: &self.branches,
        }
    }

    /// Bytes that a coinbase may have in this block.
    pub fn coinbase_room(&self) -> usize {
        let by_size = BLOCK_BYTES.saturating_sub(self.size as usize + BESIDE_BYTES);
        let by_weight = BLOCK_WEIGHT.saturating_sub(self.weight as usize + BESIDE_WEIGHT) / 4;
        by_size.min(by_weight)
    }

    fn new(seed: u64, tip: u32, variant: u32, branches: &RangeInclusive<u8>) -> Self {
        let mut rng = Rng::new(seed ^ u64::from(tip) << 32 ^ u64::from(variant) << 8);
        let mut hash = || sha256d::hash(&rng.next().to_le_bytes());
        let span = u32::from(branches.end() - branches.start()) + 1;
        let count = u32::from(*branches.start()) + variant % span;
        let branches: Vec<_> = (0..count).map(|_| hash()).collect();
        let commitment = hash();
        // A tree needs `count` branches where the transactions beside the coinbase have a number of `count` bits.
        let tx_count = match count {
            0 => 0,
            _ => 1 << (count - 1) | rng.next_u32() & ((1 << (count - 1)) - 1),
        };
        let height = FIRST_HEIGHT + tip;
        let weight_but = |room: u32| BLOCK_WEIGHT as u32 - BESIDE_WEIGHT as u32 - 4 * room;
        let weight = match variant % FULL_EVERY {
            NEARLY_FULL if tx_count > 0 => weight_but(NEARLY_FULL_ROOM),
            FULL if tx_count > 0 => weight_but(0),
            _ => 700 + tx_count.saturating_mul(900),
        };
        Self {
            parent: sha256d::hash(format!("tip {tip} of {seed}").as_bytes()),
            height,
            value: subsidy(height) + if tx_count == 0 { 0 } else { rng.below(FEES_MAX) },
            nbits: 0x1703_4219,
            min_time: 0,
            tx_count,
            weight,
            size: 250 + tx_count.saturating_mul(300),
            sigops: 4 + tx_count.saturating_mul(3),
            branches,
            commitment,
            transactions: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn transactions_fit_the_branches() {
        let mut templates = Templates::new(3, 0..=12);
        let mut seen = [false; 13];
        for variant in 0..VARIANTS {
            let template = templates.template(1, variant);
            let needed = (u32::BITS - template.tx_count.leading_zeros()) as usize;
            assert_eq!(needed, template.branches.len());
            seen[needed] = true;
        }
        assert_eq!(seen, [true; 13]);
    }

    #[test]
    fn some_templates_leave_a_coinbase_little_room_or_none() {
        let mut templates = Templates::new(3, 0..=12);
        let mut room = |variant| templates.template(1, variant).coinbase_room();
        assert!(room(0) > 900_000);
        assert_eq!((room(NEARLY_FULL), room(FULL)), (NEARLY_FULL_ROOM as usize, 0));
        assert!((0..VARIANTS).filter(|variant| room(*variant) > 16_005).count() > 20);
    }

    #[test]
    fn the_subsidy_halves() {
        let heights = [0, 209_999, 210_000, 840_000, u32::MAX];
        assert_eq!(
            heights.map(subsidy),
            [5_000_000_000, 5_000_000_000, 2_500_000_000, 312_500_000, 0]
        );
    }

    #[test]
    fn templates_of_a_tip_share_its_parent_and_are_shared_themselves() {
        let mut templates = Templates::new(3, 0..=12);
        let (a, b) = (templates.template(1, 0), templates.template(1, 1));
        assert_eq!(a.parent, b.parent);
        assert!(Arc::ptr_eq(&a, &templates.template(1, VARIANTS)));
        assert_ne!(a.parent, templates.template(2, 0).parent);
    }
}
