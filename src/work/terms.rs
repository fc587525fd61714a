//! The terms of one CONFIG: what a gateway was told to work under.

use crate::wire::{SCRIPT_MAX, TAG_MAX};

/// The least difficulty of a share, a power of two.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MinDiff {
    pot: u8,
}

impl MinDiff {
    /// None where the difficulty is no power of two.
    #[must_use]
    pub fn new(difficulty: u64) -> Option<Self> {
        let pot = u8::try_from(difficulty.trailing_zeros()).expect("at most 64");
        difficulty.is_power_of_two().then_some(Self { pot })
    }

    /// None above `2^63`.
    #[must_use]
    pub fn from_pot(pot: u8) -> Option<Self> {
        (pot <= super::POT_MAX).then_some(Self { pot })
    }

    /// The difficulty, as CONFIG has it.
    #[must_use]
    pub fn get(self) -> u64 {
        1 << self.pot
    }

    /// Its power of two.
    #[must_use]
    pub fn pot(self) -> u8 {
        self.pot
    }
}

/// What one CONFIG told one gateway. Its `prime_id` names it for the ledger's life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Terms {
    pub prime_id: u32,
    /// Output script of what a split leaves over, 1 to 64 bytes.
    pub script: Box<[u8]>,
    /// Coinbase tag, at most 83 bytes without NUL.
    pub tag: Box<[u8]>,
    pub min_diff: MinDiff,
}

impl Terms {
    /// # Panics
    /// They are terms that no gateway bears: the configuration refuses those.
    #[must_use]
    pub fn new(prime_id: u32, script: &[u8], tag: &[u8], min_diff: MinDiff) -> Self {
        assert!(prime_id != 0);
        assert!((1..=SCRIPT_MAX).contains(&script.len()));
        assert!(tag.len() <= TAG_MAX && !tag.contains(&0));
        Self {
            prime_id,
            script: script.into(),
            tag: tag.into(),
            min_diff,
        }
    }
}
