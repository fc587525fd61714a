//! What would come of a block that is not mined yet.
//!
//! The engine's interface has no check that leaves the chain alone and asks for no proof of work, as bitcoind has it.
//! So a second engine on the same tip gets the block with a nonce that meets the target, and connects it.

use bitcoin::Block;

use super::index::Validity;
use super::template::find_nonce;
use super::{NodeError, Regtest, word};
use crate::NBITS;
use crate::engine::{Engine, Verdict};

/// Proposals that are remembered until somebody asks for them; past it the oldest go.
const PROPOSED_MAX: usize = 1_024;

/// A block that was proposed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Proposed {
    /// Coinbase included.
    pub transactions: usize,
    pub weight: u64,
    /// None where it was good.
    pub word: Option<String>,
}

impl Regtest {
    /// What would come of a block that is not mined yet. None where it is good, else the word for it.
    ///
    /// # Errors
    /// There is no engine for it.
    pub fn propose(&mut self, block: &Block) -> Result<Option<String>, NodeError> {
        let word = self.judge(block)?;
        if self.proposed.len() == PROPOSED_MAX {
            self.proposed.pop_front();
        }
        self.proposed.push_back(Proposed {
            transactions: block.txdata.len(),
            weight: block.weight().to_wu(),
            word: word.clone(),
        });
        Ok(word)
    }

    /// What was proposed since this was asked last, in that order.
    #[must_use]
    pub fn take_proposed(&mut self) -> Vec<Proposed> {
        self.proposed.drain(..).collect()
    }

    fn judge(&mut self, block: &Block) -> Result<Option<String>, NodeError> {
        let hash = block.block_hash();
        let known = self.index.known(&hash).map(|known| known.validity);
        if let Some(validity) = known.or_else(|| self.headers.get(&hash).copied()) {
            let word = match validity {
                _ if self.is_withheld(&hash) => "duplicate-invalid",
                Validity::Valid => "duplicate",
                Validity::Invalid => "duplicate-invalid",
                Validity::Unchecked => "duplicate-inconclusive",
            };
            return Ok(Some(word.to_owned()));
        }
        if block.header.prev_blockhash != self.index.tip_hash() {
            return Ok(Some("inconclusive-not-best-prevblk".to_owned()));
        }
        // Regtest knows one target; under another one no nonce could be found for the engine.
        if block.header.bits.to_consensus() != NBITS {
            return Ok(Some("bad-diffbits".to_owned()));
        }
        let mut worked = block.clone();
        // From another nonce each time: the engine remembers what it refused.
        self.salt = self.salt.wrapping_add(0x9e37_79b9);
        worked.header.nonce = self.salt as u32;
        find_nonce(&mut worked.header);
        let engine = self.second_engine()?;
        match engine.process(&worked).verdict {
            Verdict::Valid => Ok(None),
            verdict => {
                self.second = Some(engine);
                Ok(word(verdict))
            }
        }
    }

    /// The second engine on this tip: the one that is there where it can follow, else a new one.
    fn second_engine(&mut self) -> Result<Engine, NodeError> {
        let tip = self.index.tip_hash();
        if let Some(engine) = self.second.take() {
            let at = engine.tip();
            if self.index.is_best(&at) {
                let height = self.index.known(&at).map_or(0, |known| known.height) as usize;
                for known in self.index.best().skip(height + 1) {
                    engine.process(&known.block);
                }
                if engine.tip() == tip {
                    return Ok(engine);
                }
            }
        }
        let engine = self.new_engine()?;
        for known in self.index.best().skip(1) {
            engine.process(&known.block);
        }
        Ok(engine)
    }
}
