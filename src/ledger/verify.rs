//! Walks the whole ledger and says what is wrong with it.

use std::collections::HashSet;

use bitcoin::hashes::{Hash, sha256d};
use rocksdb::IteratorMode;
use serde::Serialize;

use super::books::{Accounts, Event, What};
use super::error::{Damage, LedgerError};
use super::ledger_books;
use super::reader::{self, LedgerReader};
use super::record::ShareRecord;
use super::rows::Total;
use super::schema::{self, family, meta};
use crate::work::header_hash;

/// Shares among which a share that stands twice is found: two sets of half as many, some 100 MB.
const DUPLICATES_WITHIN: usize = 1 << 22;

/// Findings that are told; the rest is only counted.
const FINDINGS_TOLD: usize = 100;

/// What was walked and what was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    pub shares: u64,
    pub payees: u64,
    pub workers: u64,
    pub sessions: u64,
    pub candidates: u64,
    /// Events of the books.
    pub events: u64,
    /// What is wrong, the first hundred of it.
    pub problems: Vec<String>,
    pub problem_count: u64,
}

impl Findings {
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.problem_count == 0
    }

    fn add(&mut self, problem: impl std::fmt::Display) {
        self.problem_count += 1;
        if self.problems.len() < FINDINGS_TOLD {
            self.problems.push(problem.to_string());
        }
    }

    /// Counts a row, or notes why it is none. Damage is a finding; what keeps the database from being read is not.
    fn row<T>(&mut self, row: Result<T, LedgerError>) -> Result<Option<T>, LedgerError> {
        match row {
            Ok(row) => Ok(Some(row)),
            Err(LedgerError::Damaged(damage)) => {
                self.add(damage);
                Ok(None)
            }
            Err(LedgerError::Rocks(error)) => {
                self.add(format_args!("RocksDB cannot read on: {error}"));
                Ok(None)
            }
            Err(other) => Err(other),
        }
    }
}

/// Checks every row: that it decodes, that what it names exists, that sequences have no gap, that no share stands
/// twice, that candidates are whole and hash to their keys, that totals are the sums of their shares, and that the books
/// follow from their events.
///
/// # Errors
/// The walk itself could not be made; what it found is in the answer.
pub fn verify(reader: &LedgerReader) -> Result<Findings, LedgerError> {
    let mut findings = Findings::default();
    let mut names = Names::default();
    for payee in reader.payees() {
        if findings.row(payee)?.is_some() {
            findings.payees += 1;
        }
    }
    for worker in reader.workers() {
        if let Some((id, payee, _)) = findings.row(worker)? {
            findings.workers += 1;
            if u64::from(payee) >= findings.payees {
                findings.add(format_args!(
                    "worker {id} belongs to payee {payee}, which the ledger does not have"
                ));
            }
            names.payee_of_worker.push(payee);
        }
    }
    for session in reader.sessions() {
        if let Some(session) = findings.row(session)? {
            findings.sessions += 1;
            let prime_id = session.row.terms.prime_id;
            if session.proven_ms.is_some() {
                names.proven.insert(prime_id);
            }
        }
    }
    let (sums, sequence) = walk_shares(reader, &names, &mut findings)?;
    check_totals(reader, sums, sequence, &mut findings)?;
    for candidate in reader.candidates() {
        if let Some((before, row)) = findings.row(candidate)? {
            findings.candidates += 1;
            let candidate = row.candidate;
            if header_hash(&candidate.header) != candidate.hash {
                findings.add(format_args!(
                    "a candidate's header does not hash to its key: height {}",
                    candidate.height
                ));
            }
            if merkle_root(&candidate.coinbase, &candidate.branches) != candidate.header[36..68] {
                findings.add(format_args!(
                    "a candidate's coinbase and branches are not those of its header: height {}",
                    candidate.height
                ));
            }
            if before > sequence {
                findings.add(format_args!(
                    "a candidate stands behind {before} shares; there are {sequence}"
                ));
            }
        }
    }
    walk_books(reader, sequence, &mut findings)?;
    Ok(findings)
}

/// Every event can be what it is behind those before it, balances are the sums that must agree, and pays only payees
/// that there are.
fn walk_books(reader: &LedgerReader, sequence: u64, findings: &mut Findings) -> Result<(), LedgerError> {
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
            && (split.pin.sequence > sequence || split.pin.event > findings.events)
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
            if !settlement.postings.iter().all(|posting| known(posting.payee)) {
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

/// Of the coinbase and the branches from it up (protocol section 5).
pub(super) fn merkle_root(coinbase: &[u8], branches: &[[u8; 32]]) -> [u8; 32] {
    let leaf = sha256d::Hash::hash(coinbase).to_byte_array();
    let node = |left: [u8; 32], right: &[u8; 32]| sha256d::Hash::hash(&[left, *right].concat()).to_byte_array();
    branches.iter().fold(leaf, node)
}

#[derive(Default)]
struct Names {
    payee_of_worker: Vec<u32>,
    /// Sessions that may have shares.
    proven: HashSet<u32>,
}

/// Per payee: its total as the row on disk has it, and the sum of the shares it should count.
struct Sum {
    row: Total,
    counted: Total,
}

fn walk_shares(reader: &LedgerReader, names: &Names, findings: &mut Findings) -> Result<(Vec<Sum>, u64), LedgerError> {
    let payees = usize::try_from(findings.payees).unwrap_or(usize::MAX);
    let mut sums: Vec<_> = (0..payees)
        .map(|_| Sum {
            row: Total::default(),
            counted: Total::default(),
        })
        .collect();
    for row in reader
        .db
        .iterator_cf(family(&reader.db, schema::TOTALS), IteratorMode::Start)
    {
        let (key, row) = row?;
        let read = super::log::number(schema::TOTALS, &key).and_then(|payee| Ok((payee, Total::decode(&row)?)));
        let Some((payee, total)) = findings.row(read.map_err(LedgerError::from))? else {
            continue;
        };
        match sums.get_mut(payee as usize) {
            Some(sum) => sum.row = total,
            None => findings.add(format_args!(
                "a total belongs to payee {payee}, which the ledger does not have"
            )),
        }
    }

    let mut seen = Seen::default();
    let mut next = 0;
    for share in reader.shares(0)? {
        let Some((sequence, share)) = findings.row(share)? else {
            continue;
        };
        if next == 0 && sequence != 0 {
            findings.add(Damage::Gap {
                expected: 0,
                found: sequence,
            });
        }
        next = sequence + 1;
        findings.shares += 1;
        check_share(sequence, &share, names, findings);
        if !seen.insert(share.hash64) {
            findings.add(format_args!(
                "share {sequence} stands in the log twice: hash {:016x}",
                share.hash64
            ));
        }
        if let Some(sum) = sums.get_mut(share.payee as usize)
            && sequence < sum.row.as_of
        {
            sum.counted.add(share.work());
        }
    }
    Ok((sums, next))
}

fn check_share(sequence: u64, share: &ShareRecord, names: &Names, findings: &mut Findings) {
    let unknown = |what, id| Damage::Unknown { sequence, what, id };
    match names.payee_of_worker.get(share.worker as usize) {
        None => findings.add(unknown("worker", share.worker)),
        Some(payee) if *payee != share.payee => {
            findings.add(format_args!("share {sequence} pays another than its worker's payee"));
        }
        Some(_) => {}
    }
    if u64::from(share.payee) >= findings.payees {
        findings.add(unknown("payee", share.payee));
    }
    if !names.proven.contains(&share.prime_id) {
        findings.add(unknown("proven session", share.prime_id));
    }
}

fn check_totals(
    reader: &LedgerReader,
    sums: Vec<Sum>,
    sequence: u64,
    findings: &mut Findings,
) -> Result<(), LedgerError> {
    for (payee, sum) in sums.into_iter().enumerate() {
        let Sum { row, counted } = sum;
        if (row.shares, row.work) != (counted.shares, counted.work) {
            findings.add(format_args!(
                "the total of payee {payee} says {} shares and {} work, the log has {} and {}",
                row.shares, row.work, counted.shares, counted.work
            ));
        }
        if row.as_of > sequence {
            findings.add(format_args!(
                "the total of payee {payee} counts shares behind the end of the log"
            ));
        }
    }
    if let Some(row) = reader.db.get(meta::TOTALS_FROM)?
        && row
            .as_slice()
            .try_into()
            .map(u64::from_le_bytes)
            .is_ok_and(|from| from > sequence)
    {
        findings.add("totals are said to count shares behind the end of the log");
    }
    Ok(())
}

/// The newest shares by hash: a set that is left behind when the one after it is full too.
#[derive(Default)]
struct Seen {
    newer: HashSet<u64>,
    older: HashSet<u64>,
}

impl Seen {
    fn insert(&mut self, hash: u64) -> bool {
        if self.newer.len() >= DUPLICATES_WITHIN / 2 {
            self.older = std::mem::take(&mut self.newer);
        }
        !self.older.contains(&hash) && self.newer.insert(hash)
    }
}
