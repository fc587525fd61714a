//! The template of a job against its transactions: whether they are what its shares commit to, and whether they could be
//! a block. Pure; that the transactions themselves are valid only a node can say.

use std::sync::Arc;

use bitcoin::Transaction;
use bitcoin::consensus::encode::deserialize;
use thiserror::Error;

use super::assembly::{AssemblyError, RawBlock, assemble};
use super::body::TemplateBody;
use super::findings::TemplateId;
use super::room::CoinbaseRoom;
use super::sha256d;

/// Weight units of a block at most (BIP 141).
pub const BLOCK_WEIGHT_MAX: u64 = 4_000_000;

/// Cost of the signature operations of a block at most (BIP 141).
pub const BLOCK_SIGOPS_MAX: u64 = 80_000;

/// Weight units of a byte outside a witness.
pub(super) const BYTE_WEIGHT: u64 = 4;

pub(super) const HEADER_LEN: u64 = 80;

/// What a share has committed to: its job's template, and the coinbase on it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TemplateClaim {
    /// The job's slot.
    pub slot: u8,
    /// A block was found on it.
    pub is_candidate: bool,
    /// The job's number in its session, which no later job in the slot has.
    pub number: u64,
    /// Transactions beside the coinbase, as the job says.
    pub tx_count: u32,
    /// Internal byte order, from the leaf up.
    pub branches: Vec<[u8; 32]>,
    /// Of the share.
    pub header: [u8; 80],
    /// Of the share, without its witness.
    pub coinbase: Vec<u8>,
}

/// The claim of one gateway's session.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GatewayClaim {
    /// The gateway's long-term Ed25519 key.
    pub gateway: [u8; 32],
    /// Under which it makes short ids for this pool (protocol section 7).
    pub short_id_key: [u8; 16],
    /// Its template is to be looked at in any case.
    pub is_odd: bool,
    /// Its gateway did not show another before, and has not made up for that.
    pub has_unshown: bool,
    pub claim: TemplateClaim,
}

/// A transaction with what a template needs of it.
#[derive(Debug, PartialEq, Eq)]
pub struct TemplateTransaction {
    pub raw: Box<[u8]>,
    /// As hashed, both.
    pub txid: [u8; 32],
    pub wtxid: [u8; 32],
    pub(super) weight: u64,
    /// Signature operations outside witnesses and redeem scripts, which a template's own text shows.
    pub(super) sigops: u64,
}

/// Why transactions are not a template, or a template is no block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum TemplateFault {
    /// The gateway may have used the slot again, or does not show what it works on.
    #[error("the transactions shown are not those that the work commits to")]
    Mismatch,
    #[error("the coinbase does not commit to the witnesses of the transactions")]
    Commitment,
    #[error("the block would have {0} weight units, and {BLOCK_WEIGHT_MAX} are allowed")]
    Weight(u64),
    #[error("the block's signature operations would cost {0} at least, and {BLOCK_SIGOPS_MAX} is allowed")]
    Sigops(u64),
    #[error(transparent)]
    Assembly(#[from] AssemblyError),
}

impl TemplateTransaction {
    /// None where it is no transaction, or has bytes behind its end.
    #[must_use]
    pub fn read(raw: &[u8]) -> Option<Self> {
        let transaction: Transaction = deserialize(raw).ok()?;
        let inputs = transaction.input.iter().map(|input| &input.script_sig);
        let outputs = transaction.output.iter().map(|output| &output.script_pubkey);
        let sigops: usize = inputs.chain(outputs).map(|script| script.count_sigops_legacy()).sum();
        Some(Self {
            raw: raw.into(),
            txid: *transaction.compute_txid().as_ref(),
            wtxid: *transaction.compute_wtxid().as_ref(),
            weight: transaction.weight().to_wu(),
            sigops: sigops as u64,
        })
    }
}

impl TemplateClaim {
    #[must_use]
    pub fn template(&self) -> TemplateId {
        let parent = self.header[4..36].try_into().expect("32 of 80 bytes");
        TemplateId::of(parent, &self.branches)
    }

    /// Holds the transactions to what the share has committed to. On return they are the template's, and nothing that can be
    /// seen without their inputs forbids the block.
    ///
    /// # Errors
    /// The first thing that is wrong.
    pub fn prove(&self, body: &TemplateBody) -> Result<(), TemplateFault> {
        if body.transactions().len() != self.tx_count as usize || body.branches() != self.branches {
            return Err(TemplateFault::Mismatch);
        }
        CoinbaseRoom::beside(body).takes(&self.coinbase)
    }

    /// The block that the share would have been.
    ///
    /// # Errors
    /// What does not fit together; nothing, where [`Self::prove`] found nothing.
    pub fn block(&self, body: Arc<TemplateBody>) -> Result<RawBlock, AssemblyError> {
        assemble(&self.header, &self.coinbase, body)
    }
}

/// The branches from a coinbase to the root over these transactions.
#[must_use]
pub fn merkle_branches(mut row: Vec<[u8; 32]>) -> Vec<[u8; 32]> {
    let mut branches = Vec::new();
    while let Some((beside, rest)) = row.split_first() {
        branches.push(*beside);
        row = rest
            .chunks(2)
            .map(|pair| sha256d::node(&pair[0], pair.last().unwrap_or(&pair[0])))
            .collect();
    }
    branches
}

#[cfg(test)]
mod tests;
