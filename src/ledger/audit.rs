//! Proof of one block: window and split recomputed from the log alone, beside what was dictated and what was paid.

use std::collections::BTreeMap;

use bitcoin::Transaction;
use bitcoin::consensus::deserialize;
use serde::Serialize;

use super::books::{BlockHash, Scheme, Settlement, settle};
use super::error::LedgerError;
use super::ledger_books::{BookedBlock, LedgerBooks, SettleError};
use super::reader::{self, LedgerReader};
use super::report::{address, shown};
use crate::work::{Booking, Split};

/// What an audit found. It holds where `differences` is empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Audit {
    /// As people write it.
    pub block: String,
    pub state: String,
    /// Shares of the window: from this one on, before that one.
    pub window_from: u64,
    pub window_end: u64,
    pub window_work: u128,
    /// Whether the window lacked work because older shares were no longer kept: it was shared over what was left.
    pub window_short: bool,
    pub payees: usize,
    /// Satoshi.
    pub value: u64,
    pub fee: u64,
    pub to_pool: u64,
    pub paid: u64,
    /// Outputs that the split has by the log.
    pub split_outputs: usize,
    /// Outputs of them that the coinbase pays.
    pub paid_outputs: usize,
    /// To the satoshi, what disagrees.
    pub differences: Vec<String>,
}

/// Why there is no audit.
#[derive(Debug, thiserror::Error)]
pub enum AuditError {
    #[error("no candidate of this hash was recorded")]
    NotRecorded,
    #[error("the block is not booked: there is nothing to check it against")]
    NotBooked,
    #[error(transparent)]
    Settle(#[from] SettleError),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Recomputes a block.
///
/// # Errors
/// There is no such block, it is not booked, shares of its window are gone, or the ledger cannot be read.
pub fn audit(reader: &LedgerReader, hash: &BlockHash) -> Result<Audit, AuditError> {
    let db = &reader.db;
    let (place, row) = reader::candidate(db, hash)?.ok_or(AuditError::NotRecorded)?;
    let candidate = &row.candidate;
    let BookedBlock {
        block,
        settlement: booked,
        pin,
        books: then,
        before,
    } = BookedBlock::load(db, candidate, place)?.ok_or(AuditError::NotBooked)?;
    let mut differences = Vec::new();

    // The split as it was dictated, from the log alone.
    let coinbase: Transaction = deserialize(&candidate.coinbase).map_err(|_| SettleError::NoCoinbase)?;
    let own_script = reader::script_of_terms(db, &candidate.coinbase)?.unwrap_or_default();
    let snapshot = then.snapshot_at(pin, &own_script).ok_or(SettleError::NoTerms)?;
    let split = match candidate.booking {
        Booking::Pays { with_balances, .. } => snapshot.payouts(candidate.value, with_balances),
        Booking::WithoutPayouts | Booking::ByHand => Vec::new(),
    };
    let mut dictated = split.iter();
    let mut paid_outputs = 0;
    for output in &coinbase.output {
        let script = output.script_pubkey.as_bytes();
        let value = output.value.to_sat();
        if value == 0 || script == &*own_script {
            continue;
        }
        if dictated.any(|payout| &*payout.script == script && payout.value == value) {
            paid_outputs += 1;
        } else {
            differences.push(format!(
                "the coinbase pays {value} sat to {}, which is not in the split by the log in this place",
                address(script)
            ));
        }
    }

    // The booking, from the window and the balances of then.
    let terms = then.terms_at(pin.event).ok_or(SettleError::NoTerms)?;
    let finder = then.finder(&candidate.username);
    let weights = terms.scheme.weights(then.window(), finder);
    let mined = then.mined(&coinbase);
    let payees = then
        .scripts()
        .iter()
        .zip(0_u32..)
        .map(|(script, payee)| (payee, before.of(payee).balance, &**script));
    let again = settle(*hash, pin.sequence, &mined, &terms.split, &weights, payees);
    compare(&booked, &again, &then, &mut differences);

    let window = then.window();
    Ok(Audit {
        block: shown(hash),
        state: block.state.to_string(),
        window_from: window.front(),
        window_end: window.end(),
        window_work: window.total(),
        window_short: window.is_short(),
        payees: booked.postings.len(),
        value: booked.value,
        fee: booked.fee,
        to_pool: booked.to_pool,
        paid: booked.postings.iter().map(|posting| posting.paid).sum(),
        split_outputs: split.len(),
        paid_outputs,
        differences,
    })
}

fn compare(booked: &Settlement, again: &Settlement, books: &LedgerBooks, differences: &mut Vec<String>) {
    for (what, booked, again) in [
        ("value", booked.value, again.value),
        ("fee", booked.fee, again.fee),
        ("the pool's part", booked.to_pool, again.to_pool),
        ("the end of the window", booked.window_end, again.window_end),
    ] {
        if booked != again {
            differences.push(format!("{what} is booked as {booked}, and comes to {again}"));
        }
    }
    let by_payee = |settlement: &Settlement| -> BTreeMap<u32, (u64, u64)> {
        let postings = settlement.postings.iter();
        postings
            .map(|posting| (posting.payee, (posting.earned, posting.paid)))
            .collect()
    };
    let (booked, again) = (by_payee(booked), by_payee(again));
    let payees: std::collections::BTreeSet<u32> = booked.keys().chain(again.keys()).copied().collect();
    for payee in payees {
        let was = booked.get(&payee).copied().unwrap_or_default();
        let comes_to = again.get(&payee).copied().unwrap_or_default();
        if was != comes_to {
            let address = books
                .scripts()
                .get(payee as usize)
                .map_or_else(String::new, |script| address(script));
            differences.push(format!(
                "{address} is booked with {} sat earned and {} paid, and comes to {} and {}",
                was.0, was.1, comes_to.0, comes_to.1
            ));
        }
    }
}
