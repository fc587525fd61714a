//! A block from its candidate and its transactions. Pure.

use bitcoin::consensus::encode::{VarInt, deserialize, serialize};
use bitcoin::{Transaction, Witness};
use thiserror::Error;

use super::candidate::Candidate;
use super::sha256d::merkle_root;

/// How a coinbase commits to the witnesses of its block: `OP_RETURN`, 36 bytes, and this (BIP 141).
const COMMITMENT_HEADER: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];

/// Why there is no block.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum AssemblyError {
    #[error("its coinbase is no transaction")]
    Coinbase,
    #[error("transaction {0} of the template is none")]
    Transaction(usize),
    #[error("the transactions are not those that its header commits to")]
    MerkleRoot,
}

impl Candidate {
    /// Whether the block has no transaction beside its coinbase.
    #[must_use]
    pub fn stands_alone(&self) -> bool {
        // Subsidy-only work is of a block without the template's transactions, and has no branches either.
        self.branches.is_empty()
    }
}

/// The block as it is submitted, raw. `transactions`: those of the template, raw, in its order.
///
/// # Errors
/// What does not fit together.
pub fn assemble(candidate: &Candidate, transactions: &[Vec<u8>]) -> Result<Vec<u8>, AssemblyError> {
    let mut coinbase: Transaction = deserialize(&candidate.coinbase).map_err(|_| AssemblyError::Coinbase)?;
    let mut txids = Vec::with_capacity(1 + transactions.len());
    txids.push(as_hashed(&coinbase));
    for (at, raw) in transactions.iter().enumerate() {
        let transaction: Transaction = deserialize(raw).map_err(|_| AssemblyError::Transaction(at))?;
        txids.push(as_hashed(&transaction));
    }
    if merkle_root(txids) != candidate.header[36..68] {
        return Err(AssemblyError::MerkleRoot);
    }
    let commits = coinbase
        .output
        .iter()
        .any(|output| output.script_pubkey.as_bytes().starts_with(&COMMITMENT_HEADER));
    if commits {
        // The reserved value of BIP 141: gateways commit to zeros.
        coinbase.input[0].witness = Witness::from_slice(&[[0; 32]]);
    }
    let mut block = candidate.header.to_vec();
    block.extend(serialize(&VarInt::from(1 + transactions.len())));
    block.extend(serialize(&coinbase));
    transactions.iter().for_each(|raw| block.extend_from_slice(raw));
    Ok(block)
}

fn as_hashed(transaction: &Transaction) -> [u8; 32] {
    *transaction.compute_txid().as_ref()
}
