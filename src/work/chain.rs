//! What the pool knows of the chain that its gateways build on.

use super::judge::POT_MAX;
use super::target::Target;

/// Satoshi that there can ever be.
pub const MONEY_MAX: u64 = 21_000_000 * 100_000_000;

/// Satoshi of the first subsidy.
const FIRST_SUBSIDY: u64 = 50 * 100_000_000;
const HALVING_BLOCKS: u32 = 210_000;

/// Satoshi that the dev chain lets a coinbase take above the subsidy.
const DEV_FEES_MAX: u64 = 500 * 100_000_000;

/// How far the dev chain's targets lie above the real ones, in bits: a share of pot p needs about `2^p` hashes.
const DEV_TARGET_SHIFT: u32 = 32;

/// The rules of one chain. Only the dev chain exists: any parent is current, any height and nbits are good.
#[derive(Debug, Clone)]
pub struct Chain {
    /// By pot.
    share_targets: [Target; POT_MAX as usize + 1],
    network_target: Target,
}

impl Chain {
    /// The chain for development and load: no node, targets shifted up by 32 bits, and a block where a hash meets
    /// `(difficulty-1 target << 32) / network_difficulty`.
    ///
    /// # Panics
    /// The difficulty is 0: the configuration refuses that.
    #[must_use]
    pub fn dev(network_difficulty: u64) -> Self {
        let base = Target::DIFFICULTY_1.shifted_up(DEV_TARGET_SHIFT);
        Self {
            share_targets: std::array::from_fn(|pot| base.divided_by(1 << pot)),
            network_target: base.divided_by(network_difficulty),
        }
    }

    /// The target of a share; `pot` is at most [`POT_MAX`], as checked before.
    pub(super) fn share_target(&self, pot: u8) -> &Target {
        &self.share_targets[usize::from(pot)]
    }

    /// What makes a hash a candidate.
    #[must_use]
    pub fn network_target(&self) -> &Target {
        &self.network_target
    }

    /// Satoshi that the block at `height` creates: mainnet's halving, as the gateway computes it on any chain.
    #[must_use]
    pub fn subsidy(height: u32) -> u64 {
        FIRST_SUBSIDY.checked_shr(height / HALVING_BLOCKS).unwrap_or(0)
    }

    /// The most that a coinbase at `height` may take, in satoshi.
    pub(super) fn value_max(&self, height: u32) -> u64 {
        Self::subsidy(height) + DEV_FEES_MAX
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_subsidy_halves_as_on_mainnet() {
        assert_eq!(Chain::subsidy(0), 5_000_000_000);
        assert_eq!(Chain::subsidy(209_999), 5_000_000_000);
        assert_eq!(Chain::subsidy(210_000), 2_500_000_000);
        assert_eq!(Chain::subsidy(840_000), 312_500_000);
        assert_eq!(Chain::subsidy(u32::MAX), 0);
    }

    #[test]
    fn pot_zero_is_nearly_always_met_and_pots_halve() {
        let chain = Chain::dev(1 << 20);
        let mut hash = [0; 32];
        hash[31] = 0x7f;
        assert!(chain.share_target(0).is_met_by(&hash));
        assert!(chain.share_target(1).is_met_by(&hash));
        assert!(!chain.share_target(2).is_met_by(&hash));
        assert!(!chain.network_target().is_met_by(&hash));
        hash = [0xff; 32];
        assert!(!chain.share_target(0).is_met_by(&hash));
        assert!(chain.network_target().is_met_by(&[0; 32]));
    }
}
