//! Whether the books follow from their events.

use super::Findings;
use crate::ledger::books::{Accounts, Event, What};
use crate::ledger::error::LedgerError;
use crate::ledger::ledger_books;
use crate::ledger::reader::{self, LedgerReader};

/// Every event can be what it is behind those before it, balances are the sums that must agree, and pays only payees
/// that there are.
pub(super) fn walk(reader: &LedgerReader, sequence: u64, findings: &mut Findings) -> Result<(), LedgerError> {
    let db = &reader.db;
    let mut accounts = Accounts::default();
    for event in ledger_books::events(db) {
        let number = findings.events;
        let Some(event) = findings.row(event)? else {
            // Nothing behind it can be checked.
            return Ok(());
        };
        findings.events += 1;
        if event.sequence > sequence {
            findings.add(format_args!(
                "event {number} stands behind {} shares; there are {sequence}",
                event.sequence
            ));
        }
        if let Err(error) = check_event(&accounts, &event, findings.payees) {
            findings.add(format_args!("event {number}: {error}"));
            return Ok(());
        }
        let applied = ledger_books::apply(&mut accounts, &event, db);
        if findings.row(applied)?.is_none() {
            return Ok(());
        }
    }
    for split in reader::splits(db, 0) {
        if let Some(split) = findings.row(split)?
            && (split.split.pin.sequence > sequence || split.split.pin.event > findings.events)
        {
            findings.add(format_args!(
                "a split of session {} is pinned behind the end of the log",
                split.prime_id
            ));
        }
    }
    Ok(())
}

fn check_event(accounts: &Accounts, event: &Event, payees: u64) -> Result<(), String> {
    accounts.check(&event.what).map_err(|error| error.to_string())?;
    let known = |payee: u32| u64::from(payee) < payees;
    match &event.what {
        What::Settled(settlement) => {
            let paid: u128 = settlement.postings.iter().map(|posting| u128::from(posting.paid)).sum();
            let earned: u128 = settlement
                .postings
                .iter()
                .map(|posting| u128::from(posting.earned))
                .sum();
            let value = u128::from(settlement.value);
            if paid + u128::from(settlement.to_pool) != value || earned + u128::from(settlement.fee) != value {
                return Err("what is paid and earned is not the block's value".into());
            }
            let is_known = |payee: u32| payee < settlement.payees && known(payee);
            if !settlement.postings.iter().all(|posting| is_known(posting.payee)) {
                return Err("it pays a payee that the ledger does not have".into());
            }
        }
        What::PaidByHand(paid) if !known(paid.payee) => {
            return Err("it pays a payee that the ledger does not have".into());
        }
        _ => {}
    }
    Ok(())
}
