//! What the books say, for people and programs that ask beside a running pool.

use std::collections::BTreeMap;

use bitcoin::hex::{DisplayHex, FromHex};
use bitcoin::{Address, Network, Script};
use serde::Serialize;

use super::books::{Account, Accounts, What};
use super::error::LedgerError;
use super::hours::Sum;
use super::ledger_books::{self, LedgerBooks};
use super::reader::{self, LedgerReader};

/// One payee's row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PayeeRow {
    pub payee: u32,
    pub address: String,
    /// Satoshi on the books; negative where somebody was paid twice.
    pub balance: i64,
    /// Satoshi of it that immature blocks promise.
    pub promised: u64,
    /// Satoshi that coinbases of blocks paid, orphans left out.
    pub paid: u64,
    /// Satoshi that the operator paid.
    pub by_hand: u64,
    /// Work in the window.
    pub window_work: u128,
}

/// All payees with a balance, a payment or work in the window, and the sums that must agree.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Balances {
    pub events: u64,
    /// Satoshi, C = P - F - S.
    pub carry: i128,
    pub to_pool: i128,
    pub fees: i128,
    pub by_hand: i128,
    pub window_work: u128,
    pub window_shares: u64,
    /// Whether the window lacks shares that are no longer kept.
    pub window_short: bool,
    /// The sequence of the first share that is kept.
    pub kept_from: u64,
    pub payees: Vec<PayeeRow>,
}

/// One block of ours.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BlockRow {
    /// As people write it.
    pub hash: String,
    pub height: u32,
    /// `unbooked` where the operator has to say, `unannounced` where that is since no share announced it.
    pub state: String,
    /// Whether a share announced it; else it was found in the chain.
    pub announced: bool,
    /// The share's verdict: 0, or the reason it was refused for; none where there was none.
    pub verdict: Option<u16>,
    /// Ms since 1970.
    pub time_ms: u64,
    pub username: String,
    /// The event that booked it.
    pub event: Option<u64>,
    /// Satoshi.
    pub value: Option<u64>,
    pub to_pool: Option<u64>,
    pub fee: Option<u64>,
    /// Payees that it pays.
    pub payouts: Option<usize>,
    /// What nodes said when it was submitted to them, the oldest first. Empty where they had it, or there are none.
    pub submissions: Vec<Submission>,
}

/// A node's word on a block.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Submission {
    /// Ms since 1970.
    pub time_ms: u64,
    /// Where the node answers.
    pub node: String,
    /// `accepted`, `duplicate`, `inconclusive`, `rejected`, `undecided` or `unanswered`.
    pub outcome: &'static str,
    /// The node's own; of one that did not answer, why.
    pub words: String,
}

/// An output script as people know it: on the dev chain in mainnet's form.
#[must_use]
pub fn address(script: &[u8]) -> String {
    Address::from_script(Script::from_bytes(script), Network::Bitcoin)
        .map_or_else(|_| script.to_lower_hex_string(), |address| address.to_string())
}

/// A hash as people write it.
#[must_use]
pub fn shown(hash: &[u8; 32]) -> String {
    let mut hash = *hash;
    hash.reverse();
    hash.to_lower_hex_string()
}

/// The same back: a hash as hashed.
///
/// # Errors
/// It is none, in words.
pub fn read_hash(text: &str) -> Result<[u8; 32], String> {
    let mut hash = <[u8; 32]>::from_hex(text).map_err(|_| format!("`{text}` is no hash of 64 hex digits"))?;
    hash.reverse();
    Ok(hash)
}

/// # Errors
/// The ledger cannot be read, or is damaged.
pub fn balances(reader: &LedgerReader) -> Result<Balances, LedgerError> {
    let books = LedgerBooks::load(&reader.db)?;
    let sums = books.accounts.sums();
    let window = books.window();
    Ok(Balances {
        events: books.accounts.events,
        carry: sums.carry,
        to_pool: sums.to_pool,
        fees: sums.fees,
        by_hand: sums.by_hand,
        window_work: window.total(),
        window_shares: window.end() - window.front(),
        window_short: window.is_short(),
        kept_from: books.kept().from,
        payees: (0..)
            .take(books.scripts().len())
            .map(|payee| payee_row(&books, payee))
            .filter(|row| row.balance != 0 || row.paid != 0 || row.by_hand != 0 || row.window_work != 0)
            .collect(),
    })
}

/// What the books say of one payee; none where the ledger has no such payee.
///
/// # Errors
/// The ledger cannot be read, or is damaged.
pub fn payee(reader: &LedgerReader, script: &[u8]) -> Result<Option<PayeeReport>, LedgerError> {
    let books = LedgerBooks::load(&reader.db)?;
    let Some(payee) = books.payee(script) else {
        return Ok(None);
    };
    let mut history = Vec::new();
    let mut accounts = Accounts::default();
    for (number, event) in (0_u64..).zip(ledger_books::events(&reader.db)) {
        let event = event?;
        let before = accounts.of(payee);
        ledger_books::apply(&mut accounts, &event, &reader.db)?;
        let after = accounts.of(payee);
        if after != before {
            history.push(Change {
                event: number,
                time_ms: event.time_ms,
                what: name(&event.what).to_owned(),
                block: event.what.block().or(settled(&event.what)).map(shown),
                balance: after.balance,
                change: after.balance - before.balance,
            });
        }
    }
    Ok(Some(PayeeReport {
        row: payee_row(&books, payee),
        rolled_up: rolled_up(reader, payee)?,
        history,
    }))
}

/// One payee with everything that changed its balance.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PayeeReport {
    #[serde(flatten)]
    pub row: PayeeRow,
    /// What it did with shares that are no longer kept; none where all are.
    pub rolled_up: Option<RolledUp>,
    pub history: Vec<Change>,
}

/// Hourly work of one payee.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RolledUp {
    pub shares: u64,
    #[serde(serialize_with = "super::stats::as_text")]
    pub work: u128,
    /// By hour and worker, the oldest first.
    pub hours: Vec<Hour>,
}

/// What a worker did in an hour.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Hour {
    /// When it began, s since 1970.
    pub hour_s: u64,
    /// None for all workers of the payee that have no row of their own.
    pub worker: Option<String>,
    pub shares: u64,
    #[serde(serialize_with = "super::stats::as_text")]
    pub work: u128,
}

fn rolled_up(reader: &LedgerReader, payee: u32) -> Result<Option<RolledUp>, LedgerError> {
    let mut names = BTreeMap::new();
    let mut sum = Sum::default();
    let mut hours = Vec::new();
    for row in reader.hours_of(payee) {
        let row = row?;
        if names.is_empty() {
            for worker in reader.workers() {
                let (worker, of_payee, name) = worker?;
                if of_payee == payee {
                    names.insert(worker, String::from_utf8_lossy(&name).into_owned());
                }
            }
        }
        sum.add(row.sum);
        hours.push(Hour {
            hour_s: row.begins_s(),
            worker: row.worker.map(|worker| names.get(&worker).cloned().unwrap_or_default()),
            shares: row.sum.shares,
            work: row.sum.work,
        });
    }
    Ok((sum.shares > 0).then_some(RolledUp {
        shares: sum.shares,
        work: sum.work,
        hours,
    }))
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    pub event: u64,
    /// Ms since 1970.
    pub time_ms: u64,
    pub what: String,
    /// As people write it.
    pub block: Option<String>,
    /// Satoshi.
    pub change: i64,
    /// Satoshi, after it.
    pub balance: i64,
}

/// Every candidate and block, by height and time.
///
/// # Errors
/// The ledger cannot be read, or is damaged.
pub fn blocks(reader: &LedgerReader) -> Result<Vec<BlockRow>, LedgerError> {
    let db = &reader.db;
    let accounts = ledger_books::accounts_at(db, u64::MAX)?;
    let mut submissions: BTreeMap<[u8; 32], Vec<Submission>> = BTreeMap::new();
    for row in reader.submissions() {
        let row = row?;
        submissions.entry(row.block).or_default().push(Submission {
            time_ms: row.time_ms,
            node: row.node.to_string(),
            outcome: row.outcome.label(),
            words: row.words().to_owned(),
        });
    }
    let mut rows = BTreeMap::new();
    for candidate in reader::candidates(db) {
        let (_, row) = candidate?;
        let candidate = row.candidate;
        let block = accounts.block(&candidate.hash);
        let settlement = block
            .map(|block| ledger_books::settlement(db, block.settled_by))
            .transpose()?;
        let key = (candidate.height, row.time_ms, candidate.hash);
        let row = BlockRow {
            hash: shown(&candidate.hash),
            height: candidate.height,
            state: match block {
                Some(block) => block.state.to_string(),
                None if row.announced => "unbooked".to_owned(),
                None => "unannounced".to_owned(),
            },
            announced: row.announced,
            verdict: row
                .announced
                .then(|| candidate.verdict.map_or_else(crate::wire::Reason::code, |()| 0)),
            time_ms: row.time_ms,
            username: String::from_utf8_lossy(&candidate.username).into_owned(),
            event: block.map(|block| block.settled_by),
            value: settlement.as_ref().map(|settlement| settlement.value),
            to_pool: settlement.as_ref().map(|settlement| settlement.to_pool),
            fee: settlement.as_ref().map(|settlement| settlement.fee),
            payouts: settlement
                .as_ref()
                .map(|settlement| settlement.postings.iter().filter(|posting| posting.paid > 0).count()),
            submissions: submissions.remove(&candidate.hash).unwrap_or_default(),
        };
        rows.insert(key, row);
    }
    Ok(rows.into_values().collect())
}

fn payee_row(books: &LedgerBooks, payee: u32) -> PayeeRow {
    let Account {
        balance,
        promised,
        paid,
        by_hand,
    } = books.accounts.of(payee);
    let at = payee as usize;
    PayeeRow {
        payee,
        address: address(&books.scripts()[at]),
        balance,
        promised,
        paid,
        by_hand,
        window_work: books.window().weights().get(at).copied().unwrap_or(0),
    }
}

fn settled(what: &What) -> Option<&[u8; 32]> {
    match what {
        What::Settled(settlement) => Some(&settlement.block),
        _ => None,
    }
}

fn name(what: &What) -> &'static str {
    match what {
        What::Terms(_) => "terms",
        What::Settled(_) => "settled",
        What::Accepted(_) => "accepted",
        What::Matured(_) => "matured",
        What::Orphaned(_) => "orphaned",
        What::Rejected(_) => "rejected",
        What::PaidByHand(_) => "paid by hand",
    }
}
