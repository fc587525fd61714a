//! The split of one block's value: whom it pays, and what stays on the books.
//!
//! `docs/LEDGER.md`, "Money", has the rules in words. Integers only; nothing is lost or made by rounding.

use std::cmp::Ordering;

use super::proportion::Proportion;
use crate::wire::{BLOB_MAX, OUTPUT_SCRIPT_MAX, OUTPUTS_MAX};

/// The least that an output may pay, in satoshi: below it nodes do not relay.
pub const DUST: u64 = 546;

/// Outputs of a split with a signature operation that is counted. Gateways do not count them, and nodes reserve 400.
pub const LEGACY_SIGOPS_MAX: usize = 100;

/// What is kept of each block for the pool, and from what on a payee is paid.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitTerms {
    /// Millionths of a block's value, at most 1,000,000.
    pub fee_ppm: u32,
    /// Satoshi, [`DUST`] at least.
    pub minimum: u64,
}

impl SplitTerms {
    /// What the pool keeps of `value`, in satoshi, rounded down.
    #[must_use]
    pub fn fee(&self, value: u64) -> u64 {
        let fee = u128::from(value) * u128::from(self.fee_ppm) / 1_000_000;
        u64::try_from(fee).expect("a part of a value of 64 bits")
    }
}

/// What `weight` of `total` work earns of a dividend, rounded down.
#[must_use]
pub fn earned(dividend: u64, weight: u128, total: u128) -> u64 {
    if total == 0 {
        return 0;
    }
    // Windows hold less than 2^66 work and money is below 2^51, so the product fits.
    let part = u128::from(dividend) * weight / total;
    u64::try_from(part).expect("no more than the dividend")
}

/// What is due to one payee, as the choice of outputs sees it: a script's order, length and signature operations, not
/// its bytes.
pub trait Due {
    /// Satoshi.
    fn value(&self) -> u64;
    fn set_value(&mut self, value: u64);
    /// Bytes.
    fn script_len(&self) -> usize;
    /// As [`legacy_sigops`] counts them.
    fn sigops(&self) -> usize;
    /// The order of scripts by their bytes.
    fn cmp_script(&self, other: &Self) -> Ordering;
}

/// Puts payable dues, which come largest first with ties by script, into outputs: as many as fit, and of `value` as
/// much as there is. Sorted by value, the largest first, ties by script.
#[must_use]
pub fn outputs<D: Due>(dues: impl IntoIterator<Item = D>, value: u64, terms: &SplitTerms, own_script: &[u8]) -> Vec<D> {
    let mut room = Room::new(own_script);
    let mut listed = Vec::new();
    for due in dues {
        if due.value() < terms.minimum || room.is_full() {
            break;
        }
        if room.take(due.script_len(), due.sigops()) {
            listed.push(due);
        }
    }
    let sum: u128 = listed.iter().map(|due| u128::from(due.value())).sum();
    if sum > u128::from(value) {
        let paid = Proportion::new(value, sum);
        for due in &mut listed {
            due.set_value(paid.of(due.value().into()));
        }
        // What falls below the minimum stays due; nothing of it is given to others.
        listed.retain(|due| due.value() >= terms.minimum);
        // Dues that differed may be paid the same now.
        listed.sort_by(|a, b| b.value().cmp(&a.value()).then_with(|| a.cmp_script(b)));
    }
    listed
}

/// What a gateway takes and nodes allow.
struct Room {
    count: usize,
    bytes: usize,
    sigops: usize,
}

impl Room {
    fn new(own_script: &[u8]) -> Self {
        Self {
            count: OUTPUTS_MAX,
            // The id stands before the outputs.
            bytes: BLOB_MAX - 1,
            sigops: LEGACY_SIGOPS_MAX.saturating_sub(legacy_sigops(own_script)),
        }
    }

    /// Whether the longest script no longer fits: what ends a list must not depend on who comes next.
    fn is_full(&self) -> bool {
        self.count == 0 || self.bytes < output_bytes(OUTPUT_SCRIPT_MAX)
    }

    /// Whether there is room for one that pays to such a script. One without is passed over: those behind it need not wait
    /// for a type of script.
    fn take(&mut self, script_len: usize, sigops: usize) -> bool {
        if self.is_full() || self.sigops < sigops || script_len > OUTPUT_SCRIPT_MAX {
            return false;
        }
        self.count -= 1;
        self.bytes -= output_bytes(script_len);
        self.sigops -= sigops;
        true
    }
}

/// Value, length, script.
fn output_bytes(script_len: usize) -> usize {
    8 + 1 + script_len
}

/// Signature operations of an output as nodes count them; of the standard types pay-to-pubkey-hash has one.
#[must_use]
pub fn legacy_sigops(script: &[u8]) -> usize {
    // The types that miners use, without a walk through their bytes.
    if let [0x00 | 0x51..=0x60, len, program @ ..] = script
        && usize::from(*len) == program.len()
    {
        return 0;
    }
    bitcoin::Script::from_bytes(script).count_sigops_legacy()
}
