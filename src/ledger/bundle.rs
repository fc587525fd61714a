//! The audit bundle: the proof of one block for somebody who does not trust the pool.
//!
//! One file holds all that a split and a booking depend on: the window's shares, the balances, the terms, the coinbase
//! and its way to the block's hash. [`export`] writes it beside a running pool, [`verify`] checks it with nothing but
//! the file and the pool's public key. Both stream: memory is O(payees). `docs/LEDGER.md`, "The audit bundle", has the
//! format byte by byte.

mod check;
mod export;
mod format;
mod seal;
mod verify;

#[cfg(test)]
mod tests;

use std::io;

use thiserror::Error;

pub use self::check::Mismatch;
pub use self::export::{ExportError, export};
pub use self::verify::{Own, Verified, verify};

/// The version of the format that this program writes. It reads those before it too.
pub const VERSION: u16 = 5;

/// Payees of one bundle: what a reader holds in memory is bounded by it, some 100 bytes each.
pub const PAYEES_MAX: u32 = 1 << 24;

/// How payees are named.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Privacy {
    /// By their scripts.
    Clear,
    /// By salted hashes of these: whoever knows an address finds it, and nobody reads a list of addresses.
    Hashed,
}

/// Why a bundle proves nothing.
#[derive(Debug, Error)]
pub enum BundleError {
    #[error("the bundle cannot be read: {0}")]
    Io(#[from] io::Error),
    #[error("the file is no audit bundle, or is cut short: get it again")]
    NoBundle,
    #[error(
        "the bundle is not signed by this key: it was altered on its way, or is another pool's. Get it again, and compare the key \
         with the one that gateways have"
    )]
    NotSigned,
    #[error("the bundle is of version {0}, and this program knows versions up to {VERSION}: use a later one")]
    Version(u16),
    #[error("the bundle is signed by the pool, but is not well formed: its {0} cannot be")]
    Impossible(&'static str),
    #[error("the bundle is signed by the pool, and DOES NOT HOLD: {0}")]
    Mismatch(#[from] Mismatch),
}
