//! The transactions of a block beside its coinbase, with all that follows from them alone: worked out once a template, so
//! that a block on it is put together without looking at any of them again. Pure.

use std::fmt;
use std::sync::Arc;

use bitcoin::VarInt;

use super::sha256d::{self, merkle_root};
use super::template::{BYTE_WEIGHT, HEADER_LEN, TemplateTransaction, merkle_branches};

/// Transactions in the order of their template.
#[derive(PartialEq, Eq)]
pub struct TemplateBody {
    transactions: Box<[Arc<TemplateTransaction>]>,
    branches: Vec<[u8; 32]>,
    commitment: [u8; 32],
    has_witness: bool,
    bytes: usize,
    weight: u64,
    sigops: u64,
}

impl TemplateBody {
    #[must_use]
    pub fn new(transactions: Vec<Arc<TemplateTransaction>>) -> Self {
        let txids = transactions.iter().map(|transaction| transaction.txid);
        let wtxids = transactions.iter().map(|transaction| transaction.wtxid);
        // A coinbase counts as zeros, and gateways have a reserved value of zeros (BIP 141).
        let witness_root = merkle_root([[0; 32]].into_iter().chain(wtxids).collect());
        Self {
            branches: merkle_branches(txids.collect()),
            commitment: sha256d::node(&witness_root, &[0; 32]),
            has_witness: transactions
                .iter()
                .any(|transaction| transaction.txid != transaction.wtxid),
            bytes: transactions.iter().map(|transaction| transaction.raw.len()).sum(),
            weight: transactions.iter().map(|transaction| transaction.weight).sum(),
            sigops: transactions.iter().map(|transaction| transaction.sigops).sum(),
            transactions: transactions.into(),
        }
    }

    #[must_use]
    pub fn transactions(&self) -> &[Arc<TemplateTransaction>] {
        &self.transactions
    }

    /// From the coinbase to the root over them, internal byte order.
    #[must_use]
    pub fn branches(&self) -> &[[u8; 32]] {
        &self.branches
    }

    /// What the coinbase of their block commits to (BIP 141).
    pub(super) fn commitment(&self) -> &[u8; 32] {
        &self.commitment
    }

    /// Whether a block of them needs that commitment.
    pub(super) fn has_witness(&self) -> bool {
        self.has_witness
    }

    /// Bytes of all of them.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// Weight units of their block without its coinbase.
    pub(super) fn block_weight(&self) -> u64 {
        let count = VarInt::from(1 + self.transactions.len()).size() as u64;
        BYTE_WEIGHT * (HEADER_LEN + count) + self.weight
    }

    /// Signature operations that their own text shows.
    pub(super) fn sigops(&self) -> u64 {
        self.sigops
    }
}

impl fmt::Debug for TemplateBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TemplateBody")
            .field("transactions", &self.transactions.len())
            .finish_non_exhaustive()
    }
}
