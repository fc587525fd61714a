//! A share with its sections, owned, so that anything in it can be made wrong.

use millrace::wire::{CoinbaseSection, CutCoinbase, Flags, JobSection, Share};

use crate::coinbase::Recipe;

#[derive(Debug, Clone)]
pub struct Draft {
    pub job_id: u8,
    pub coinbase_id: u8,
    pub flags: Flags,
    pub pot: u8,
    pub ntime: u32,
    pub nonce: u32,
    pub version: u32,
    pub extranonce: Vec<u8>,
    pub username: Vec<u8>,
    pub job: Option<DraftJob>,
    pub coinbase: Option<DraftCoinbase>,
}

#[derive(Debug, Clone)]
pub struct DraftJob {
    pub parent: [u8; 32],
    pub target_index: u16,
    pub nbits: u32,
    pub coinbaser_id: u8,
    pub height: u32,
    pub value: u64,
    pub tx_count: u32,
    pub weight: u32,
    pub size: u32,
    pub sigops: u32,
    pub branches: Vec<[u8; 32]>,
}

#[derive(Debug, Clone)]
pub struct DraftCoinbase {
    pub coinbase_id: u8,
    pub coinb1: Vec<u8>,
    pub coinb2: Vec<u8>,
}

impl Draft {
    /// A share with both sections and nothing wrong, but that no hash was searched for and no split is named.
    pub fn unworked(job_id: u8, recipe: &Recipe<'_>, pot: u8, ntime: u32, nonce: u32, username: &[u8]) -> Self {
        let CutCoinbase {
            target_index,
            coinb1,
            coinb2,
        } = recipe.build().cut;
        let template = recipe.template;
        Self {
            job_id,
            coinbase_id: recipe.coinbase_id,
            flags: Flags::default(),
            pot,
            ntime,
            nonce,
            version: 0x2000_0000,
            extranonce: vec![0xe0; 12],
            username: username.to_vec(),
            job: Some(DraftJob {
                parent: template.parent,
                target_index,
                nbits: template.nbits,
                coinbaser_id: 0,
                height: template.height,
                value: template.value,
                tx_count: template.tx_count,
                weight: template.weight,
                size: template.size,
                sigops: template.sigops,
                branches: template.branches.clone(),
            }),
            coinbase: Some(DraftCoinbase {
                coinbase_id: recipe.coinbase_id,
                coinb1,
                coinb2,
            }),
        }
    }

    /// As it goes on the wire.
    pub fn share<'a>(&'a self, padding: &'a [u8]) -> Share<'a> {
        Share {
            job_id: self.job_id,
            coinbase_id: self.coinbase_id,
            flags: self.flags,
            target_pot: self.pot,
            ntime: self.ntime,
            nonce: self.nonce,
            version: self.version,
            extranonce: &self.extranonce,
            username: &self.username,
            reserved: [0; 4],
            job: self.job.as_ref().map(|job| JobSection {
                prev_block_hash: &job.parent,
                target_index: job.target_index,
                nbits: job.nbits,
                coinbaser_id: job.coinbaser_id,
                height: job.height,
                coinbase_value: job.value,
                tx_count: job.tx_count,
                weight: job.weight,
                size: job.size,
                sigops: job.sigops,
                branches: &job.branches,
            }),
            coinbase: self.coinbase.as_ref().map(|coinbase| CoinbaseSection {
                coinbase_id: coinbase.coinbase_id,
                coinb1: &coinbase.coinb1,
                coinb2: &coinbase.coinb2,
            }),
            padding,
        }
    }
}
