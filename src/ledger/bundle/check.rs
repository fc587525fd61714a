//! What must be true of a block: pure, from what a bundle says.

use std::cmp::Ordering;
use std::collections::HashMap;

use bitcoin::Transaction;
use bitcoin::consensus::deserialize;
use bitcoin::hex::DisplayHex;
use thiserror::Error;

use super::BundleError;
use super::format::Head;
use crate::ledger::books::{self, Due, Mined, SchemeKind, Weights, earned, outputs, settle};
use crate::ledger::payments::{Payment, Payments};
use crate::ledger::verify::merkle_root;
use crate::work::{MONEY_MAX, header_hash, is_leftover};

/// What the pool has signed and is not so.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum Mismatch {
    #[error("the header has another hash than the block it is said to be of")]
    BlockHash,
    #[error("coinbase and branches lead to another merkle root than the header's")]
    MerkleRoot,
    #[error("the coinbase is worth {worth} sat, and {value} were split")]
    Worth { worth: u64, value: u64 },
    #[error("payee {row} does not stand in the order of scripts, by which equal dues are paid")]
    Order { row: u32 },
    #[error("payee {row} has another script than it is said to have: length or signature operations differ")]
    Script { row: u32 },
    #[error("payee {row} has balances that cannot be")]
    Balance { row: u32 },
    #[error("the shares end before {end}, and the window ends before {pin}")]
    WindowEnd { end: u64, pin: u64 },
    #[error("the window holds {work} work from share {front} on, and its terms ask for {limit}")]
    WindowWork { work: u128, front: u64, limit: u128 },
    #[error("{part} of the oldest share counts, of {work}")]
    FrontPart { part: u64, work: u128 },
    #[error("output {place} of the coinbase pays {value} sat to {script}, which the split does not in this place")]
    Payout { place: usize, value: u64, script: String },
    #[error("the last payment of the coinbase does not go to the pool's script")]
    Leftover,
    #[error("payee {row} was dictated {dictated} sat, and comes to {comes_to}")]
    Dictated { row: u32, dictated: u64, comes_to: u64 },
    #[error("its {what} is booked as {booked}, and comes to {comes_to}")]
    Booked {
        what: &'static str,
        booked: u64,
        comes_to: u64,
    },
    #[error(
        "payee {row} is booked with {} sat earned and {} paid, and comes to {} and {}",
        booked.0, booked.1, comes_to.0, comes_to.1
    )]
    Posting {
        row: u32,
        /// Satoshi, earned and paid, as of the next.
        booked: (u64, u64),
        comes_to: (u64, u64),
    },
}

/// A payee, as the rules need it.
#[derive(Debug)]
pub(super) struct Row {
    pub script_len: u8,
    pub sigops: u8,
    pub payable: i64,
    pub balance: i64,
    pub earned: u64,
    pub paid: u64,
    pub dictated: Option<u64>,
}

/// An output of the split.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct RowDue {
    pub row: u32,
    /// Satoshi.
    pub value: u64,
    script_len: u8,
    sigops: u8,
}

/// The coinbase, once it leads to the block's hash. Sums that follow cannot run over.
pub(super) fn block(head: &Head) -> Result<Transaction, BundleError> {
    if header_hash(&head.header) != head.block {
        return Err(Mismatch::BlockHash.into());
    }
    if merkle_root(&head.coinbase, &head.branches) != head.header[36..68] {
        return Err(Mismatch::MerkleRoot.into());
    }
    let coinbase: Transaction = deserialize(&head.coinbase).map_err(|_| BundleError::Impossible("coinbase"))?;
    let values = coinbase.output.iter().map(|output| output.value.to_sat());
    let worth = values.fold(0_u64, u64::saturating_add);
    if !coinbase.is_coinbase() || worth > MONEY_MAX || head.value > MONEY_MAX {
        return Err(BundleError::Impossible("coinbase"));
    }
    if head.terms.split.fee_ppm > 1_000_000 || head.pin.event > head.booked_by {
        return Err(BundleError::Impossible("terms"));
    }
    // Work without the job's transactions is worth less than what was split.
    if !head.kind.is_by_hand() && worth > head.value {
        let value = head.value;
        return Err(Mismatch::Worth { worth, value }.into());
    }
    Ok(coinbase)
}

/// The split, from everybody's work and payable balance. Unlike the pool's own it looks at everybody, so it is no copy.
pub(super) fn split(head: &Head, rows: &[Row], weights: &[u128], total: u128) -> Vec<RowDue> {
    let Some(with_balances) = head.kind.with_balances() else {
        return Vec::new();
    };
    let terms = &head.terms.split;
    let dividend = head.value - terms.fee(head.value);
    // Nobody has found a block that is only being dictated.
    let weight = |at: usize| match head.terms.scheme {
        SchemeKind::Solo => 0,
        SchemeKind::Tides | SchemeKind::Pplns { .. } => weights[at],
    };
    let mut dues = Vec::new();
    for ((at, row), number) in rows.iter().enumerate().zip(0..) {
        let payable = if with_balances { i128::from(row.payable) } else { 0 };
        let due = payable + i128::from(earned(dividend, weight(at), total));
        if due > 0 && due >= i128::from(terms.minimum) {
            dues.push(RowDue {
                row: number,
                value: u64::try_from(due).expect("balances and values are below 21 million coins"),
                script_len: row.script_len,
                sigops: row.sigops,
            });
        }
    }
    dues.sort_unstable_by(|a, b| b.value.cmp(&a.value).then(a.row.cmp(&b.row)));
    outputs(dues, head.value, terms, &head.own_script)
}

/// Holds what was dictated to the split, where that was kept. In what order it was follows from the values.
pub(super) fn dictated(rows: &[Row], split: &[RowDue]) -> Result<(), Mismatch> {
    let mut values = vec![0; rows.len()];
    for due in split {
        values[due.row as usize] = due.value;
    }
    for ((number, row), comes_to) in (0..).zip(rows).zip(values) {
        if let Some(dictated) = row.dictated.filter(|dictated| *dictated != comes_to) {
            let row = number;
            return Err(Mismatch::Dictated {
                row,
                dictated,
                comes_to,
            });
        }
    }
    Ok(())
}

/// How many outputs the coinbase pays of the split: in its order, each with its exact value, and what is left over to the
/// pool's script or, where nothing is, to nobody. One that was booked by hand may do otherwise.
pub(super) fn payouts(
    head: &Head,
    coinbase: &Transaction,
    rows: &HashMap<Box<[u8]>, u32>,
    split: &[RowDue],
) -> Result<usize, Mismatch> {
    let is_held = !head.kind.is_by_hand();
    let Payments { payouts, leftover } = Payments::of(coinbase);
    let goes_to_the_pool = leftover.is_some_and(|left| is_leftover(left.value, left.script, &head.own_script));
    if is_held && !goes_to_the_pool {
        return Err(Mismatch::Leftover);
    }
    let mut paid = 0;
    let mut dictated = split.iter();
    for &Payment { place, value, script } in &payouts {
        let row = rows.get(script);
        let mut behind = dictated.clone();
        if behind.any(|due| Some(&due.row) == row && due.value == value) {
            dictated = behind;
            paid += 1;
        } else if is_held {
            let script = script.to_lower_hex_string();
            return Err(Mismatch::Payout { place, value, script });
        }
    }
    Ok(paid)
}

/// Books the block again, and holds the pool's booking to it.
pub(super) fn booking(
    head: &Head,
    coinbase: &Transaction,
    rows_of: &HashMap<Box<[u8]>, u32>,
    rows: &[Row],
    weights: &[u128],
    total: u128,
) -> Result<(), Mismatch> {
    let weights = match (head.terms.scheme, head.finder) {
        (SchemeKind::Tides | SchemeKind::Pplns { .. }, _) => Weights::Listed { weights, total },
        (SchemeKind::Solo, Some(finder)) => Weights::Alone(finder),
        (SchemeKind::Solo, None) => Weights::Nobody,
    };
    let mut mined = Mined::of(coinbase, &head.pool_scripts, |script| rows_of.get(script).copied());
    if head.by_former_rules {
        mined.shared.clear();
        if head.kind.is_by_hand() {
            mined.paid.clear();
        }
    }
    // The order of rows is that of scripts, so a row's number stands for its script.
    let ties: Vec<[u8; 4]> = (0_u32..).take(rows.len()).map(u32::to_be_bytes).collect();
    let payees = (0_u32..)
        .zip(rows)
        .zip(&ties)
        .map(|((number, row), tie)| (number, row.balance, &tie[..]));
    let again = settle(
        head.block,
        head.pin.sequence,
        &mined,
        &head.terms.split,
        &weights,
        payees,
    );
    for (what, booked, comes_to) in [
        ("value", head.booked.value, again.value),
        ("pool's part", head.booked.to_pool, again.to_pool),
        ("fee", head.booked.fee, again.fee),
    ] {
        if booked != comes_to {
            return Err(Mismatch::Booked { what, booked, comes_to });
        }
    }
    let mut postings = again.postings.iter().peekable();
    for (number, row) in (0_u32..).zip(rows) {
        let posting: Option<&books::Posting> = postings.next_if(|posting| posting.payee == number);
        let comes_to = posting.map_or((0, 0), |posting| (posting.earned, posting.paid));
        let booked = (row.earned, row.paid);
        if booked != comes_to {
            let row = number;
            return Err(Mismatch::Posting { row, booked, comes_to });
        }
    }
    Ok(())
}

impl Due for RowDue {
    fn value(&self) -> u64 {
        self.value
    }

    fn set_value(&mut self, value: u64) {
        self.value = value;
    }

    fn script_len(&self) -> usize {
        self.script_len.into()
    }

    fn sigops(&self) -> usize {
        self.sigops.into()
    }

    fn cmp_script(&self, other: &Self) -> Ordering {
        self.row.cmp(&other.row)
    }
}
