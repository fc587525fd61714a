//! The books: whom the next block pays, and what each block that was found has changed.
//!
//! Pure but for reading shares again. [`Window`] says who works, [`Snapshot`] splits a value, [`settle`] books a block,
//! [`Accounts`] are the sum of all that was booked. `docs/LEDGER.md`, "Money", has the rules in words.

mod accounts;
mod event;
mod proportion;
mod scheme;
mod settle;
mod snapshot;
mod split;
mod window;

#[cfg(test)]
pub(in crate::ledger) mod tests;

pub use self::accounts::{Account, Accounts, Block, BlockState, BookError, Sums};
pub use self::event::{BlockHash, Event, PaidByHand, Posting, Settlement, Terms, What};
pub use self::scheme::{Scheme, SchemeKind, Weights};
pub use self::settle::{Mined, settle};
pub use self::snapshot::Snapshot;
pub use self::split::{DUST, Due, LEGACY_SIGOPS_MAX, SplitTerms, earned, legacy_sigops, outputs};
pub use self::window::{OldShares, Span, Window, Work};
