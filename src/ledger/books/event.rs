//! What happens to the books beside shares, each an entry of the same log: terms, blocks, payments by hand.
//!
//! Events are numbered from 0 without a gap. Applied in order to empty books they give every balance.

use super::scheme::{Scheme, SchemeKind};
use super::split::SplitTerms;
use super::window::Span;

/// The hash of a block, as hashed.
pub type BlockHash = [u8; 32];

/// An event and where it stands in the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Shares before it.
    pub sequence: u64,
    /// Ms since 1970.
    pub time_ms: u64,
    pub what: What,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// From here on these hold.
    Terms(Terms),
    /// A block was booked, as soon as it was recorded.
    Settled(Settlement),
    /// The chain has taken it.
    Accepted(BlockHash),
    /// 100 blocks stand on it: what it promised can be paid.
    Matured(BlockHash),
    /// The chain dropped it: its postings are undone, one for one.
    Orphaned(BlockHash),
    /// The chain never took it: the same.
    Rejected(BlockHash),
    /// The operator paid a payee in a transaction of their own.
    PaidByHand(PaidByHand),
}

/// What a split depends on beside work and balances.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Terms {
    pub scheme: SchemeKind,
    pub split: SplitTerms,
    /// What shares count as at most, and what windows are measured in.
    pub difficulty: u64,
}

impl Terms {
    /// The window that they ask for.
    #[must_use]
    pub fn span(&self) -> Span {
        self.scheme.span(self.difficulty)
    }

    /// Those in force after so many events; `terms` by the number of the event that brought them, in order.
    #[must_use]
    pub fn in_force(terms: &[(u64, Self)], event: u64) -> Option<&Self> {
        let in_force = terms.iter().rev().find(|(number, _)| *number < event);
        in_force.map(|(_, terms)| terms)
    }
}

/// How one block was booked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settlement {
    pub block: BlockHash,
    /// Shares below it count: those of its split, or where it pays nobody those that stood before it.
    pub window_end: u64,
    /// Satoshi that were shared: what its coinbase pays to payees and to the pool.
    pub value: u64,
    /// Satoshi of these that went to the pool's script.
    pub to_pool: u64,
    /// Satoshi that the pool keeps.
    pub fee: u64,
    /// Payees that there were. A script that became a payee's later was a stranger's then.
    pub payees: u32,
    /// By payee; nobody twice.
    pub postings: Vec<Posting>,
}

/// What one block means for one payee.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Posting {
    pub payee: u32,
    /// Satoshi that its work earned.
    pub earned: u64,
    /// Satoshi that the coinbase pays it.
    pub paid: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PaidByHand {
    pub payee: u32,
    /// Satoshi.
    pub amount: u64,
    /// As hashed.
    pub txid: [u8; 32],
}

impl Posting {
    /// What it adds to the balance, in satoshi.
    #[must_use]
    pub fn net(&self) -> i64 {
        let signed = |satoshi: u64| i64::try_from(satoshi).expect("below 21 million coins");
        signed(self.earned) - signed(self.paid)
    }

    /// What cannot be paid before the block is mature: a gain. A net payment counts at once.
    #[must_use]
    pub fn promised(&self) -> u64 {
        self.earned.saturating_sub(self.paid)
    }
}
