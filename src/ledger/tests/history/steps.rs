//! What may happen to a pool, at random.

use millrace_loadgen::coinbase::Secondary;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use super::PAYEES;
use crate::ledger::books::tests::history::terms;
use crate::ledger::books::{BlockState, Terms};
use crate::ledger::tests::formed::Class;

#[derive(Debug, Clone)]
pub enum Step {
    Shares(Vec<(u32, u8)>),
    Difficulty(u64),
    /// A split is dictated; balances are left out where the parent is unknown.
    Fetch {
        value: u64,
        parent_is_known: bool,
    },
    /// A share is a block: it pays of a split what its class has room for.
    Found {
        split: Index,
        class: Class,
        finder: u32,
    },
    FoundWithoutPayouts {
        value: u64,
        finder: u32,
    },
    /// A share is a block that moves a satoshi of its split to the pool, and something to a stranger: the operator books it.
    FoundByHand {
        split: Index,
        class: Class,
        knows_split: bool,
    },
    /// No share says so: the chain has a block that pays of a split, and the operator books it.
    Unannounced {
        split: Index,
        class: Class,
    },
    Followed {
        block: Index,
        becomes: BlockState,
    },
    Matured {
        block: Index,
    },
    /// The chain has come back to it, perhaps.
    BookedAgain {
        block: Index,
    },
    PaidByHand {
        payee: u32,
        amount: u64,
    },
    /// The pool ends, in order or not, and starts again, perhaps by other terms. What it found just before it may have had no time to
    /// book.
    Restart {
        is_killed: bool,
        found: Option<(Index, Class)>,
        terms: Option<Terms>,
    },
}

pub fn steps() -> impl Strategy<Value = Step> {
    use BlockState::{Mature, Maturing, Orphaned, Rejected};
    let found = || (any::<Index>(), classes());
    prop_oneof![
        6 => vec((0..PAYEES, prop_oneof![0..4_u8, 0..12_u8, 0..=63_u8]), 1..40).prop_map(Step::Shares),
        2 => prop_oneof![1..100_u64, 1..5_000_u64, Just(1 << 50)].prop_map(Step::Difficulty),
        5 => (values(), prop::bool::weighted(0.8))
            .prop_map(|(value, parent_is_known)| Step::Fetch { value, parent_is_known }),
        5 => (found(), 0..PAYEES).prop_map(|((split, class), finder)| Step::Found { split, class, finder }),
        2 => (values(), 0..PAYEES).prop_map(|(value, finder)| Step::FoundWithoutPayouts { value, finder }),
        2 => (found(), any::<bool>())
            .prop_map(|((split, class), knows_split)| Step::FoundByHand { split, class, knows_split }),
        2 => found().prop_map(|(split, class)| Step::Unannounced { split, class }),
        3 => (any::<Index>(), prop::sample::select(vec![Maturing, Mature, Orphaned, Rejected]))
            .prop_map(|(block, becomes)| Step::Followed { block, becomes }),
        3 => any::<Index>().prop_map(|block| Step::Matured { block }),
        2 => any::<Index>().prop_map(|block| Step::BookedAgain { block }),
        1 => (0..PAYEES, prop_oneof![0..2_000_u64, 0..400_000_000_u64, Just(u64::MAX)])
            .prop_map(|(payee, amount)| Step::PaidByHand { payee, amount }),
        2 => (any::<bool>(), prop::option::of(found()), prop::option::of(terms()))
            .prop_map(|(is_killed, found, terms)| Step::Restart { is_killed, found, terms }),
    ]
}

fn values() -> impl Strategy<Value = u64> {
    prop_oneof![
        1..20_u64,
        500..20_000_u64,
        1..2_000_000_u64,
        312_500_000..330_000_000_u64
    ]
}

fn classes() -> impl Strategy<Value = Class> {
    let secondaries = vec![Secondary::None, Secondary::Short, Secondary::Long];
    (0..6_u8, prop::sample::select(secondaries)).prop_map(|(coinbase_id, secondary)| Class { coinbase_id, secondary })
}
