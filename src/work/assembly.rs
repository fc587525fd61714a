//! A block from what a share has committed to and its transactions. Pure.

use std::sync::Arc;

use bitcoin::consensus::encode::{VarInt, deserialize, serialize};
use bitcoin::{Transaction, Witness};
use thiserror::Error;

use super::candidate::Candidate;
use super::sha256d::{merkle_root, node};
use super::template::TemplateTransaction;
use crate::wire::COMMITMENT_START;

/// What the witness of a coinbase adds to its weight (BIP 144): marker, flag, and one item of 32 bytes.
pub(super) const COINBASE_WITNESS_WEIGHT: u64 = 36;

/// Why there is no block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AssemblyError {
    #[error("its coinbase is no transaction")]
    Coinbase,
    #[error("the transactions are not those that its header commits to")]
    MerkleRoot,
    #[error("the coinbase does not commit to the witnesses of the transactions")]
    Commitment,
}

impl Candidate {
    /// Whether the block has no transaction beside its coinbase.
    #[must_use]
    pub fn stands_alone(&self) -> bool {
        // Subsidy-only work is of a block without the template's transactions, and has no branches either.
        self.branches.is_empty()
    }

    /// The block as it is submitted, raw. `transactions`: those of the template, in its order.
    ///
    /// # Errors
    /// What does not fit together.
    pub fn block(&self, transactions: &[Arc<TemplateTransaction>]) -> Result<Vec<u8>, AssemblyError> {
        assemble(&self.header, &self.coinbase, transactions)
    }
}

/// `coinbase`: without its witness.
pub(super) fn assemble(
    header: &[u8; 80],
    coinbase: &[u8],
    transactions: &[Arc<TemplateTransaction>],
) -> Result<Vec<u8>, AssemblyError> {
    let mut coinbase: Transaction = deserialize(coinbase).map_err(|_| AssemblyError::Coinbase)?;
    let txids = transactions.iter().map(|transaction| transaction.txid);
    let leaves = [*coinbase.compute_txid().as_ref()].into_iter().chain(txids);
    if merkle_root(leaves.collect()) != header[36..68] {
        return Err(AssemblyError::MerkleRoot);
    }
    if let Some(commitment) = commitment_of(&coinbase) {
        if commitment != witness_commitment(transactions) {
            return Err(AssemblyError::Commitment);
        }
        // The reserved value of BIP 141: gateways commit to zeros.
        coinbase.input[0].witness = Witness::from_slice(&[[0; 32]]);
    }
    let bytes: usize = transactions.iter().map(|transaction| transaction.raw.len()).sum();
    let mut block = Vec::with_capacity(2 * header.len() + coinbase.total_size() + bytes);
    block.extend_from_slice(header);
    block.extend(serialize(&VarInt::from(1 + transactions.len())));
    block.extend(serialize(&coinbase));
    transactions
        .iter()
        .for_each(|transaction| block.extend_from_slice(&transaction.raw));
    Ok(block)
}

/// What the coinbase of a block with these transactions commits to, with a reserved value of zeros (BIP 141).
pub(super) fn witness_commitment(transactions: &[Arc<TemplateTransaction>]) -> [u8; 32] {
    let wtxids = transactions.iter().map(|transaction| transaction.wtxid);
    // A coinbase counts as zeros.
    let root = merkle_root([[0; 32]].into_iter().chain(wtxids).collect());
    node(&root, &[0; 32])
}

/// What a coinbase commits to; of several such outputs the last counts (BIP 141).
pub(super) fn commitment_of(coinbase: &Transaction) -> Option<[u8; 32]> {
    let scripts = coinbase.output.iter().map(|output| output.script_pubkey.as_bytes());
    let mut commitments = scripts.filter_map(|script| script.strip_prefix(&COMMITMENT_START)?.first_chunk().copied());
    commitments.next_back()
}
