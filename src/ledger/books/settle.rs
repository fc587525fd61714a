//! Booking a block: from the coinbase that was mined to postings.

use std::collections::HashMap;

use bitcoin::Transaction;

use super::event::{BlockHash, Posting, Settlement};
use super::scheme::Weights;
use super::split::{self, SplitTerms};

/// What the found coinbase pays, whichever split it follows, if any. Outputs to those who are no payees are no part of
/// this: only a block that the operator books can have them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Mined {
    /// Satoshi by payee.
    pub paid: HashMap<u32, u64>,
    /// Satoshi at the pool's scripts.
    pub to_pool: u64,
    /// Satoshi of these by payee, where a payee has a script of the pool.
    pub shared: HashMap<u32, u64>,
}

impl Mined {
    /// Reads it off the coinbase. `payee`: whom a script means.
    #[must_use]
    pub fn of(coinbase: &Transaction, pool_scripts: &[Box<[u8]>], payee: impl Fn(&[u8]) -> Option<u32>) -> Self {
        let mut mined = Self::default();
        for output in &coinbase.output {
            let script = output.script_pubkey.as_bytes();
            let value = output.value.to_sat();
            let is_the_pools = pool_scripts.iter().any(|own| **own == *script);
            if is_the_pools {
                mined.to_pool += value;
            }
            if let Some(payee) = payee(script) {
                let to_payees = if is_the_pools {
                    &mut mined.shared
                } else {
                    &mut mined.paid
                };
                *to_payees.entry(payee).or_default() += value;
            }
        }
        mined
    }
}

/// How a block is booked.
///
/// Coins at a script that the pool and a payee share pay the payee what it is due after this block; the pool's are those
/// beyond. Nobody can tell them apart on the chain, and so nothing stays due that lies at its script already.
///
/// `balance` and `script` are those of a payee as they stand; they decide who gets what rounding leaves over: the
/// largest due, ties by script.
#[must_use]
pub fn settle<'a>(
    block: BlockHash,
    window_end: u64,
    mined: &Mined,
    terms: &SplitTerms,
    weights: &Weights<'_>,
    payees: impl Iterator<Item = (u32, i64, &'a [u8])>,
) -> Settlement {
    let paid_out: u64 = mined.paid.values().sum();
    let value = paid_out + mined.to_pool;
    let total = weights.total();
    let fee = if total == 0 { value } else { terms.fee(value) };
    let dividend = value - fee;
    let mut left = dividend;
    let mut postings = Vec::new();
    let mut largest: Option<(i64, &[u8], usize)> = None;
    let mut shared = Vec::new();
    let mut known = 0;
    for (payee, balance, script) in payees {
        known += 1;
        let earned = split::earned(dividend, weights.of(payee), total);
        let paid = mined.paid.get(&payee).copied().unwrap_or(0);
        if let Some(coins) = mined.shared.get(&payee) {
            shared.push((postings.len(), balance, *coins));
        } else if earned == 0 && paid == 0 {
            continue;
        }
        left -= earned;
        let due = balance + i64::try_from(earned).expect("below 21 million coins");
        let place = postings.len();
        if earned > 0 && largest.is_none_or(|(most, first, _)| due > most || due == most && script < first) {
            largest = Some((due, script, place));
        }
        postings.push(Posting { payee, earned, paid });
    }
    if let Some((_, _, place)) = largest {
        postings[place].earned += left;
        left = 0;
    }
    let mut to_pool = mined.to_pool;
    for (place, balance, coins) in shared {
        let Posting { earned, paid, .. } = &mut postings[place];
        let due = balance + i64::try_from(*earned).expect("below 21 million coins");
        *paid = coins.min(u64::try_from(due).unwrap_or(0));
        to_pool -= *paid;
    }
    postings.retain(|posting| posting.earned > 0 || posting.paid > 0);
    // So little to share that nobody earns a satoshi: it stays with the pool.
    Settlement {
        block,
        window_end,
        value,
        to_pool,
        fee: fee + left,
        payees: known,
        postings,
    }
}
