//! What becomes of a block of ours, from what the chain shows of it. Pure.

use crate::ledger::books::BlockState;

/// Blocks on a coinbase before it can be spent.
pub(super) const MATURITY: i64 = 100;

/// Blocks beyond its height after which a block that is not in the chain is given up: its postings are undone. Should the
/// chain come back to it, it is booked again.
pub(super) const LOST_AFTER: u32 = 3;

/// Blocks beyond its height for which a block is looked at, whatever became of it, mature ones too: no chain has ever come back
/// from further. What a longer reorganisation does is for the operator.
pub const WATCHED_FOR: u32 = 200;

/// What a node shows of a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shows {
    /// In its best chain, with so many blocks from it to the tip, itself counted.
    InChain {
        confirmations: i64,
    },
    /// It has the block, and another chain.
    Beside,
    Nothing,
}

/// What the books are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    Becomes(BlockState),
    /// It was undone, and is in the chain after all.
    BookAgain,
}

/// The next step of a block that the books have in `state`, none where they do not have it; `beyond`: how far the tip's
/// height lies beyond its own.
pub(super) fn next_step(state: Option<BlockState>, shows: Shows, beyond: u32) -> Option<Step> {
    use BlockState::{Candidate, Mature, Maturing, Orphaned, Rejected};
    match (state?, shows) {
        (Candidate, Shows::InChain { .. }) => Some(Step::Becomes(Maturing)),
        (Maturing, Shows::InChain { confirmations }) if confirmations >= MATURITY => Some(Step::Becomes(Mature)),
        (Orphaned | Rejected, Shows::InChain { .. }) => Some(Step::BookAgain),
        (Maturing, Shows::Beside) => Some(Step::Becomes(Orphaned)),
        (Candidate | Maturing, _) if is_lost(shows, beyond) => Some(Step::Becomes(Orphaned)),
        // A reorganisation of more than a hundred blocks.
        (Mature, Shows::Beside) => Some(Step::Becomes(Orphaned)),
        (Mature, _) if is_lost(shows, beyond) => Some(Step::Becomes(Orphaned)),
        (Candidate | Maturing | Mature | Orphaned | Rejected, _) => None,
    }
}

/// Whether the chain goes on without it.
pub(super) fn is_lost(shows: Shows, beyond: u32) -> bool {
    match shows {
        Shows::InChain { .. } => false,
        Shows::Beside | Shows::Nothing => beyond >= LOST_AFTER,
    }
}

/// Whether nothing is looked for any more of a block that has no next step.
pub(super) fn is_over(beyond: u32) -> bool {
    beyond > WATCHED_FOR
}

#[cfg(test)]
mod tests {
    use super::*;

    const IN_CHAIN: Shows = Shows::InChain { confirmations: 1 };

    #[test]
    fn a_block_matures_after_a_hundred() {
        assert_eq!(
            next_step(Some(BlockState::Candidate), IN_CHAIN, 0),
            Some(Step::Becomes(BlockState::Maturing))
        );
        let at = |confirmations| next_step(Some(BlockState::Maturing), Shows::InChain { confirmations }, 99);
        assert_eq!(at(99), None);
        assert_eq!(at(100), Some(Step::Becomes(BlockState::Mature)));
        let mature = |shows, beyond| next_step(Some(BlockState::Mature), shows, beyond);
        assert_eq!(mature(Shows::InChain { confirmations: 100 }, 99), None);
        assert!(!is_over(WATCHED_FOR) && is_over(WATCHED_FOR + 1));
    }

    #[test]
    fn a_mature_block_that_the_chain_loses_all_the_same_is_undone() {
        let mature = |shows, beyond| next_step(Some(BlockState::Mature), shows, beyond);
        let orphaned = Some(Step::Becomes(BlockState::Orphaned));
        assert_eq!(mature(Shows::Beside, 120), orphaned);
        assert_eq!(mature(Shows::Nothing, 120), orphaned, "the node has never seen it");
        assert_eq!(mature(Shows::Nothing, LOST_AFTER - 1), None);
        assert_eq!(
            next_step(Some(BlockState::Orphaned), IN_CHAIN, 121),
            Some(Step::BookAgain)
        );
    }

    #[test]
    fn a_block_beside_the_chain_is_an_orphan_and_may_come_back() {
        let orphaned = Some(Step::Becomes(BlockState::Orphaned));
        assert_eq!(next_step(Some(BlockState::Maturing), Shows::Beside, 0), orphaned);
        assert_eq!(next_step(Some(BlockState::Candidate), Shows::Beside, 0), None, "a race");
        assert_eq!(
            next_step(Some(BlockState::Candidate), Shows::Beside, LOST_AFTER),
            orphaned
        );
        assert_eq!(
            next_step(Some(BlockState::Candidate), Shows::Nothing, LOST_AFTER - 1),
            None
        );
        assert_eq!(
            next_step(Some(BlockState::Maturing), Shows::Nothing, LOST_AFTER),
            orphaned
        );
        for undone in [BlockState::Orphaned, BlockState::Rejected] {
            assert_eq!(next_step(Some(undone), IN_CHAIN, 1), Some(Step::BookAgain));
            assert_eq!(next_step(Some(undone), Shows::Nothing, 50), None);
        }
        assert_eq!(next_step(None, IN_CHAIN, 0), None, "booked by hand, or not at all");
    }
}
