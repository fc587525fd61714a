//! Whom a block pays, and what of it a gateway was told.

use std::fmt::Debug;
use std::sync::Arc;

use crate::wire::Output;

/// How long a job may use a split, in s.
pub const SPLIT_GOOD_FOR_S: u64 = 600;

/// What a split is pinned to, beside its parent and value: with the log, that gives it again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Default)]
pub struct Pin {
    /// Shares below this sequence count.
    pub sequence: u64,
    /// Events of the books below this number count.
    pub event: u64,
}

/// Which split of a value and a parent: by the books that it follows from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PinnedSplit {
    pub pin: Pin,
    /// Whether balances are paid with it.
    pub with_balances: bool,
}

/// An output of a split.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Payout {
    pub payee: u32,
    /// Satoshi.
    pub value: u64,
    pub script: Box<[u8]>,
}

/// The books at one point, which split any value.
pub trait Split: Debug + Send + Sync {
    fn pin(&self) -> Pin;

    /// Hands `pay` whom `value` satoshi pay, in their order, by payee. Without balances where it is not known which of our
    /// blocks the parent stands on.
    fn each_payout(&self, value: u64, with_balances: bool, pay: &mut dyn FnMut(u32, Output<'_>));

    /// The same, to be kept.
    fn payouts(&self, value: u64, with_balances: bool) -> Vec<Payout> {
        let mut payouts = Vec::new();
        self.each_payout(value, with_balances, &mut |payee, Output { value, script }| {
            let script = script.into();
            payouts.push(Payout { payee, value, script });
        });
        payouts
    }
}

/// One that pays the same whatever is asked for, and follows from nothing: of captures, benches and tests.
impl Split for Box<[Payout]> {
    fn pin(&self) -> Pin {
        Pin::default()
    }

    fn each_payout(&self, _: u64, _: bool, pay: &mut dyn FnMut(u32, Output<'_>)) {
        for Payout { payee, value, script } in self {
            let value = *value;
            pay(*payee, Output { value, script });
        }
    }
}

/// A split as it was dictated to one gateway.
#[derive(Debug, Clone)]
pub struct Dictated {
    /// 1 to 255.
    pub coinbaser_id: u8,
    /// Satoshi.
    pub value: u64,
    pub parent: [u8; 32],
    pub with_balances: bool,
    /// Seconds since 1970.
    pub time_s: u64,
    pub split: Arc<dyn Split>,
}

impl Dictated {
    #[must_use]
    pub fn payouts(&self) -> Vec<Payout> {
        self.split.payouts(self.value, self.with_balances)
    }

    #[must_use]
    pub fn pinned(&self) -> PinnedSplit {
        PinnedSplit {
            pin: self.split.pin(),
            with_balances: self.with_balances,
        }
    }

    /// Whether it was dictated for these.
    pub(super) fn is_of(&self, value: u64, parent: &[u8; 32]) -> bool {
        (self.value, &self.parent) == (value, parent)
    }

    /// Appends the outputs as the wire has them.
    pub fn encode_outputs(&self, out: &mut Vec<u8>) {
        self.split
            .each_payout(self.value, self.with_balances, &mut |_, output| output.encode(out));
    }

    pub(super) fn is_good(&self, now_s: u64) -> bool {
        now_s <= self.time_s + SPLIT_GOOD_FOR_S
    }
}
