//! What a template leaves to the coinbase on it. A template is checked with one coinbase, and its gateway has one for each class
//! of miners: the others are held against what is left. Pure.

use bitcoin::Transaction;
use bitcoin::consensus::encode::deserialize;

use super::assembly::{AssemblyError, COINBASE_WITNESS_WEIGHT, commitment_of};
use super::body::TemplateBody;
use super::template::{BLOCK_SIGOPS_MAX, BLOCK_WEIGHT_MAX, TemplateFault};

/// The cost of a signature operation that stands outside a witness (BIP 141).
const SIGOP_COST: u64 = 4;

/// What the transactions of a template ask of a coinbase.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoinbaseRoom {
    /// Weight units of the block without its coinbase.
    pub(super) weight: u64,
    /// Signature operations that the transactions' own text shows; only a node counts those behind hashes.
    pub(super) sigops: u64,
    pub(super) commitment: [u8; 32],
    pub(super) needs_commitment: bool,
}

impl CoinbaseRoom {
    #[must_use]
    pub fn beside(body: &TemplateBody) -> Self {
        Self {
            weight: body.block_weight(),
            sigops: body.sigops(),
            commitment: *body.commitment(),
            needs_commitment: body.has_witness(),
        }
    }

    /// Whether a coinbase, without its witness, makes a block with the transactions as far as can be seen without their inputs.
    ///
    /// # Errors
    /// What is wrong.
    pub fn takes(&self, coinbase: &[u8]) -> Result<(), TemplateFault> {
        let coinbase: Transaction = deserialize(coinbase).map_err(|_| AssemblyError::Coinbase)?;
        let commitment = commitment_of(&coinbase);
        let is_committed = match commitment {
            Some(commitment) => commitment == self.commitment,
            None => !self.needs_commitment,
        };
        if !is_committed {
            return Err(TemplateFault::Commitment);
        }
        let of_witness = commitment.map_or(0, |_| COINBASE_WITNESS_WEIGHT);
        let weight = self.weight + coinbase.weight().to_wu() + of_witness;
        if weight > BLOCK_WEIGHT_MAX {
            return Err(TemplateFault::Weight(weight));
        }
        let inputs = coinbase.input.iter().map(|input| &input.script_sig);
        let scripts = inputs.chain(coinbase.output.iter().map(|output| &output.script_pubkey));
        let of_coinbase: u64 = scripts.map(|script| script.count_sigops_legacy() as u64).sum();
        let cost = (self.sigops + of_coinbase) * SIGOP_COST;
        match cost > BLOCK_SIGOPS_MAX {
            true => Err(TemplateFault::Sigops(cost)),
            false => Ok(()),
        }
    }
}
