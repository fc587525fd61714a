//! Walks the whole ledger and says what is wrong with it.

mod books;

use std::collections::HashSet;

use bitcoin::hashes::{Hash, sha256d};
use rocksdb::IteratorMode;
use serde::Serialize;

use super::error::{Damage, LedgerError};
use super::hours::{HOUR_WORKERS_MAX, Sum};
use super::kept::Kept;
use super::reader::{self, LedgerReader};
use super::record::ShareRecord;
use super::report::shown;
use super::rows::Total;
use super::schema::{self, family};
use crate::work::{Pin, header_hash};

/// Shares among which a share that stands twice is found: two sets of half as many, some 100 MB.
const DUPLICATES_WITHIN: usize = 1 << 22;

/// Findings that are told; the rest is only counted.
const FINDINGS_TOLD: usize = 100;

/// What was walked and what was found.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Findings {
    /// Those that are kept.
    pub shares: u64,
    /// The sequence of the first of them.
    pub kept_from: u64,
    /// Rows of hourly work.
    pub hours: u64,
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
/// twice, that candidates are whole and hash to their keys, that totals are the sums of hourly work and the shares that
/// are kept, and that the books follow from their events.
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
    let (accounts, sequence) = walk_shares(reader, &names, &mut findings)?;
    check_totals(reader, accounts, sequence, &mut findings)?;
    for waiting in reader::waiting(&reader.db) {
        if let Some((number, row)) = findings.row(waiting)? {
            let payee = names.payee_of_worker.get(row.record.worker as usize);
            if payee != Some(&row.record.payee) || !names.proven.contains(&row.record.prime_id) {
                findings.add(format_args!(
                    "share {number} of those that wait names a worker or session that the ledger does not have"
                ));
            }
        }
    }
    let events = reader::next_event(&reader.db)?;
    for candidate in reader.candidates() {
        if let Some((place, row)) = findings.row(candidate)? {
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
            let Pin {
                sequence: before,
                event,
            } = place;
            if before > sequence || event > events {
                findings.add(format_args!(
                    "a candidate stands behind {before} shares and {event} events; there are {sequence} and {events}"
                ));
            }
        }
    }
    findings.row(reader::searched(&reader.db))?;
    for submission in reader.submissions() {
        if let Some(row) = findings.row(submission)?
            && reader::candidate(&reader.db, &row.block).is_ok_and(|candidate| candidate.is_none())
        {
            findings.add(format_args!(
                "a node's word is on a block that was not recorded: {}",
                shown(&row.block)
            ));
        }
    }
    books::walk(reader, sequence, &mut findings)?;
    Ok(findings)
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

/// Per payee: its total as the row on disk has it, and what it should come to.
#[derive(Clone, Default)]
struct Account {
    row: Total,
    counted: Sum,
}

/// Shares that are kept, and those that are gone, into what totals should be. Says where the log ends.
fn walk_shares(
    reader: &LedgerReader,
    names: &Names,
    findings: &mut Findings,
) -> Result<(Vec<Account>, u64), LedgerError> {
    let mut accounts = read_totals(reader, findings)?;
    let Some(kept) = findings.row(reader.kept())? else {
        return Ok((accounts, reader.sequence().unwrap_or(0)));
    };
    walk_hours(reader, &kept, names, &mut accounts, findings)?;
    findings.kept_from = kept.from;
    let mut seen = Seen::default();
    let mut next = kept.from;
    for share in reader.shares(kept.from)? {
        let Some((sequence, share)) = findings.row(share)? else {
            continue;
        };
        next = sequence + 1;
        findings.shares += 1;
        check_share(sequence, &share, names, findings);
        if !seen.insert(share.hash64) {
            findings.add(format_args!(
                "share {sequence} stands in the log twice: hash {:016x}",
                share.hash64
            ));
        }
        if let Some(account) = accounts.get_mut(share.payee as usize)
            && sequence < account.row.as_of
        {
            let work = share.work();
            account.counted.add(Sum { shares: 1, work });
        }
    }
    if kept.log_end > next {
        findings.add(format_args!(
            "shares went when the log had {}; it has {next}",
            kept.log_end
        ));
    }
    Ok((accounts, next))
}

fn read_totals(reader: &LedgerReader, findings: &mut Findings) -> Result<Vec<Account>, LedgerError> {
    let payees = usize::try_from(findings.payees).unwrap_or(usize::MAX);
    let mut accounts = vec![Account::default(); payees];
    for row in reader
        .db
        .iterator_cf(family(&reader.db, schema::TOTALS), IteratorMode::Start)
    {
        let (key, row) = row?;
        let read = super::log::number(schema::TOTALS, &key).and_then(|payee| Ok((payee, Total::decode(&row)?)));
        let Some((payee, total)) = findings.row(read.map_err(LedgerError::from))? else {
            continue;
        };
        match accounts.get_mut(payee as usize) {
            Some(account) => account.row = total,
            None => findings.add(format_args!(
                "a total belongs to payee {payee}, which the ledger does not have"
            )),
        }
    }
    Ok(accounts)
}

/// Hourly work is that of exactly the shares that are gone, by payees and workers that there are.
fn walk_hours(
    reader: &LedgerReader,
    kept: &Kept,
    names: &Names,
    accounts: &mut [Account],
    findings: &mut Findings,
) -> Result<(), LedgerError> {
    let mut gone = Sum::default();
    // Workers with a row of the payee and hour that are being read.
    let mut group = ((0, 0), 0);
    for row in reader.hours() {
        let Some(row) = findings.row(row)? else {
            continue;
        };
        findings.hours += 1;
        gone.add(row.sum);
        match accounts.get_mut(row.payee as usize) {
            Some(account) => account.counted.add(row.sum),
            None => findings.add(format_args!(
                "work of hour {} belongs to payee {}, which the ledger does not have",
                row.hour, row.payee
            )),
        }
        let Some(worker) = row.worker else {
            continue;
        };
        match names.payee_of_worker.get(worker as usize) {
            Some(payee) if *payee == row.payee => {}
            _ => findings.add(format_args!(
                "work of hour {} belongs to worker {worker}, which payee {} does not have",
                row.hour, row.payee
            )),
        }
        if group.0 != (row.hour, row.payee) {
            group = ((row.hour, row.payee), 0);
        }
        group.1 += 1;
        if group.1 == HOUR_WORKERS_MAX + 1 {
            findings.add(format_args!(
                "payee {} has more than {HOUR_WORKERS_MAX} workers in hour {}",
                row.payee, row.hour
            ));
        }
    }
    if (gone.shares, gone.work) != (kept.from, kept.work_gone) {
        findings.add(format_args!(
            "{} shares with {} work are gone, the hours have {} and {}",
            kept.from, kept.work_gone, gone.shares, gone.work
        ));
    }
    Ok(())
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
    accounts: Vec<Account>,
    sequence: u64,
    findings: &mut Findings,
) -> Result<(), LedgerError> {
    for (payee, Account { row, counted }) in accounts.into_iter().enumerate() {
        if (row.shares, row.work) != (counted.shares, counted.work) {
            findings.add(format_args!(
                "the total of payee {payee} says {} shares and {} work, log and hours have {} and {}",
                row.shares, row.work, counted.shares, counted.work
            ));
        }
        if row.as_of > sequence {
            findings.add(format_args!(
                "the total of payee {payee} counts shares behind the end of the log"
            ));
        }
    }
    if let Some(from) = findings.row(reader::totals_from(&reader.db))? {
        if from > sequence {
            findings.add("totals are said to count shares behind the end of the log");
        }
        if from < findings.kept_from {
            findings.add("totals are said to lack shares that are gone");
        }
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
