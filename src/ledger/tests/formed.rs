//! Blocks whose coinbase a gateway built: of any class, with the extranonce in either place.

use millrace_loadgen::coinbase::{self, Payouts, Recipe, Secondary, Terms as Heard};
use millrace_loadgen::template::Template;

use super::NOW_S;
use crate::ledger::verify::merkle_root;
use crate::wire::{EXTRANONCE_LEN, SUBSIDY_ONLY_ID};
use crate::work::{Booking, Candidate, MinedBlock, Payout, header_hash};

/// Every block here stands on it.
pub(super) const PARENT: [u8; 32] = [9; 32];

/// As a gateway tells coinbases apart.
#[derive(Debug, Clone, Copy)]
pub(super) struct Class {
    /// 0 to 5, or [`SUBSIDY_ONLY_ID`].
    pub coinbase_id: u8,
    pub secondary: Secondary,
}

/// What a block is made of.
pub(super) struct Draft<'a> {
    /// One of its own makes a block of its own.
    pub number: u32,
    pub tag: &'a [u8],
    pub own_script: &'a [u8],
    /// Satoshi.
    pub value: u64,
    /// All of the split; the class decides what of it is paid.
    pub split: &'a [Payout],
    pub class: Class,
}

impl Draft<'_> {
    /// The block, without transactions, and what it pays.
    pub fn block(&self, booking: Booking) -> (Candidate, Vec<Payout>) {
        let Self {
            number,
            value,
            split,
            class: Class { coinbase_id, secondary },
            ..
        } = *self;
        let heard = Heard {
            prime_id: 1,
            script: self.own_script.into(),
            tag: self.tag.into(),
            min_pot: 0,
        };
        let template = Template {
            parent: PARENT,
            height: 100_000,
            value,
            nbits: 0x207f_ffff,
            min_time: 0,
            tx_count: 0,
            weight: 0,
            size: 0,
            sigops: 0,
            branches: Vec::new(),
            commitment: [5; 32],
            transactions: None,
        };
        let payouts: Payouts = split
            .iter()
            .map(|Payout { value, script, .. }| coinbase::Payout { value: *value, script })
            .collect();
        let recipe = Recipe {
            coinbase_id,
            template: &template,
            terms: &heard,
            secondary,
            unique_id: 0x0605,
            payouts: &payouts,
        };
        let fitting = recipe.fitting();
        // In order, each once.
        let mut fitting = fitting.iter().peekable();
        let is_paid = |payout: &&Payout| fitting.next_if(|paid| paid.script == &*payout.script).is_some();
        let paid: Vec<Payout> = split.iter().filter(is_paid).cloned().collect();
        assert!(fitting.next().is_none(), "only what the split has");
        let coinbase = recipe.build().cut.rebuild(4, false, &[0xa5; EXTRANONCE_LEN]);

        let mut header = [0; 80];
        header[..4].copy_from_slice(&number.to_le_bytes());
        header[4..36].copy_from_slice(&PARENT);
        header[36..68].copy_from_slice(&merkle_root(&coinbase, &[]));
        let time = u32::try_from(NOW_S).expect("before 2106");
        header[68..72].copy_from_slice(&time.to_le_bytes());
        let candidate = Candidate {
            hash: header_hash(&header),
            header,
            coinbase,
            branches: Vec::new(),
            height: template.height,
            value,
            tx_count: 0,
            job_id: 0,
            coinbase_id,
            flags: if coinbase_id == SUBSIDY_ONLY_ID { 1 } else { 0 },
            target_pot: 4,
            verdict: Ok(()),
            username: Vec::new(),
            booking,
            dictated: None,
        };
        (candidate, paid)
    }
}

/// The block as the chain has it.
pub(super) fn mined(candidate: &Candidate) -> MinedBlock {
    let raw = [&candidate.header[..], &[1], &candidate.coinbase].concat();
    let block = MinedBlock::read(&raw).expect("a block");
    assert_eq!(block.branches(&raw), Some(Vec::new()));
    assert_eq!(block.hash, candidate.hash);
    block
}
