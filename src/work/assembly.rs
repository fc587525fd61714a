//! A block from what a share has committed to and its transactions. Pure.

use std::sync::Arc;

use bitcoin::consensus::encode::{VarInt, deserialize, serialize};
use bitcoin::{Transaction, Witness};
use thiserror::Error;

use super::body::TemplateBody;
use super::candidate::Candidate;
use super::sha256d::node;
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

/// A block as it is submitted, in pieces: megabytes of transactions are not copied before they are written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawBlock {
    /// Header, count and coinbase; or all of it.
    head: Vec<u8>,
    body: Option<Arc<TemplateBody>>,
}

impl RawBlock {
    /// One behind the other they are the block.
    pub fn pieces(&self) -> impl Iterator<Item = &[u8]> {
        let transactions = self.body.iter().flat_map(|body| body.transactions());
        [&self.head[..]]
            .into_iter()
            .chain(transactions.map(|known| &known.raw[..]))
    }

    /// Bytes of all pieces.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.head.len() + self.body.as_ref().map_or(0, |body| body.bytes())
    }

    #[must_use]
    pub fn to_vec(&self) -> Vec<u8> {
        let mut block = Vec::with_capacity(self.bytes());
        self.pieces().for_each(|piece| block.extend_from_slice(piece));
        block
    }

    /// In hex, with something before and behind it: straight from where the transactions lie to where it is written from.
    #[must_use]
    pub fn in_hex(&self, before: &[u8], behind: &[u8]) -> Vec<u8> {
        let mut text = vec![0; before.len() + 2 * self.bytes() + behind.len()];
        let (head, mut rest) = text.split_at_mut(before.len());
        head.copy_from_slice(before);
        for piece in self.pieces() {
            let (digits, behind_it) = rest.split_at_mut(2 * piece.len());
            const_hex::encode_to_slice(piece, digits).expect("two digits a byte");
            rest = behind_it;
        }
        rest.copy_from_slice(behind);
        text
    }

    #[must_use]
    pub fn to_hex(&self) -> String {
        String::from_utf8(self.in_hex(b"", b"")).expect("hex digits are ASCII")
    }
}

impl From<Vec<u8>> for RawBlock {
    fn from(whole: Vec<u8>) -> Self {
        Self {
            head: whole,
            body: None,
        }
    }
}

impl Candidate {
    /// Whether the block has no transaction beside its coinbase.
    #[must_use]
    pub fn stands_alone(&self) -> bool {
        // Subsidy-only work is of a block without the template's transactions, and has no branches either.
        self.branches.is_empty()
    }

    /// The block of these transactions.
    ///
    /// # Errors
    /// What does not fit together.
    pub fn block(&self, body: Arc<TemplateBody>) -> Result<RawBlock, AssemblyError> {
        assemble(&self.header, &self.coinbase, body)
    }
}

/// `coinbase`: without its witness. Hashes the coinbase and its way to the root, whatever the number of transactions.
pub(super) fn assemble(header: &[u8; 80], coinbase: &[u8], body: Arc<TemplateBody>) -> Result<RawBlock, AssemblyError> {
    let mut coinbase: Transaction = deserialize(coinbase).map_err(|_| AssemblyError::Coinbase)?;
    let leaf = *coinbase.compute_txid().as_ref();
    let root = body.branches().iter().fold(leaf, |left, right| node(&left, right));
    if root != header[36..68] {
        return Err(AssemblyError::MerkleRoot);
    }
    if let Some(commitment) = commitment_of(&coinbase) {
        if commitment != *body.commitment() {
            return Err(AssemblyError::Commitment);
        }
        // The reserved value of BIP 141: gateways commit to zeros.
        coinbase.input[0].witness = Witness::from_slice(&[[0; 32]]);
    }
    let mut head = Vec::with_capacity(2 * header.len() + coinbase.total_size());
    head.extend_from_slice(header);
    head.extend(serialize(&VarInt::from(1 + body.transactions().len())));
    head.extend(serialize(&coinbase));
    Ok(RawBlock { head, body: Some(body) })
}

/// What a coinbase commits to; of several such outputs the last counts (BIP 141).
pub(super) fn commitment_of(coinbase: &Transaction) -> Option<[u8; 32]> {
    let scripts = coinbase.output.iter().map(|output| output.script_pubkey.as_bytes());
    let mut commitments = scripts.filter_map(|script| script.strip_prefix(&COMMITMENT_START)?.first_chunk().copied());
    commitments.next_back()
}

#[cfg(test)]
mod tests {
    use super::super::known::tests::transaction;
    use super::*;

    #[test]
    fn a_block_in_pieces_is_the_same_as_in_one() {
        let body = Arc::new(TemplateBody::new(
            (0..3).map(|value| transaction(value, true)).collect(),
        ));
        let pieces = RawBlock {
            head: vec![0x00, 0x9f, 0xa0, 0xff],
            body: Some(body.clone()),
        };
        let whole = RawBlock::from(pieces.to_vec());
        assert_eq!(pieces.pieces().count(), 4);
        assert_eq!((pieces.bytes(), whole.bytes()), (whole.head.len(), whole.head.len()));
        let raw = body.transactions().iter().map(|known| &known.raw[..]);
        assert_eq!(
            whole.head,
            [&[0x00, 0x9f, 0xa0, 0xff][..]]
                .into_iter()
                .chain(raw)
                .collect::<Vec<_>>()
                .concat()
        );
        let hex = pieces.to_hex();
        assert!(hex.starts_with("009fa0ff") && hex == whole.to_hex());
        assert_eq!(pieces.in_hex(b"<", b">>"), format!("<{hex}>>").into_bytes());
    }
}
