//! The ledger as text: CSV, or one JSON object a line.

use std::io::{self, Write};

use bitcoin::{Address, Network, Script};
use serde::Serialize;

use super::error::LedgerError;
use super::reader::LedgerReader;

/// What is exported.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Table {
    Shares,
    Payees,
    Workers,
    Sessions,
    Candidates,
    /// Hourly work of shares that are no longer kept.
    Hours,
}

/// How it is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// A line of names, then a line a row (RFC 4180).
    Csv,
    /// A JSON object a line.
    Jsonl,
}

/// Writes one table to `out`, in the order of its keys; shares from the sequence `from` on, or from the first that is
/// kept.
///
/// # Errors
/// The ledger's own, or `out` takes no more.
pub fn export(
    reader: &LedgerReader,
    table: Table,
    format: Format,
    from: u64,
    out: &mut dyn Write,
) -> Result<u64, LedgerError> {
    let mut rows = Rows::new(format, out);
    match table {
        Table::Shares => export_shares(reader, from, &mut rows)?,
        Table::Payees => {
            for payee in reader.payees() {
                let (payee, script) = payee?;
                rows.write(&PayeeLine {
                    payee,
                    script: hex(&script),
                    address: address(&script),
                })?;
            }
        }
        Table::Workers => {
            for worker in reader.workers() {
                let (worker, payee, name) = worker?;
                rows.write(&WorkerLine {
                    worker,
                    payee,
                    name: String::from_utf8_lossy(&name).into_owned(),
                })?;
            }
        }
        Table::Sessions => {
            for session in reader.sessions() {
                let session = session?;
                let terms = &session.row.terms;
                rows.write(&SessionLine {
                    prime_id: terms.prime_id,
                    gateway: hex(&session.row.gateway.ed25519),
                    opened_ms: session.row.opened_ms,
                    proven_ms: session.proven_ms,
                    ended_ms: session.ended_ms,
                    min_diff: terms.min_diff.get(),
                    script: hex(&terms.script),
                    tag: String::from_utf8_lossy(&terms.tag).into_owned(),
                })?;
            }
        }
        Table::Candidates => {
            for candidate in reader.candidates() {
                let (place, row) = candidate?;
                let candidate = row.candidate;
                let mut hash = candidate.hash;
                hash.reverse();
                rows.write(&CandidateLine {
                    block_hash: hex(&hash),
                    height: candidate.height,
                    time_ms: row.time_ms,
                    gateway: hex(&row.gateway),
                    shares_before: place.sequence,
                    verdict: match candidate.verdict {
                        _ if !row.announced => "unannounced",
                        Ok(()) => "accepted",
                        Err(reason) => reason.label(),
                    },
                    value: candidate.value,
                    tx_count: candidate.tx_count,
                    header: hex(&candidate.header),
                    coinbase: hex(&candidate.coinbase),
                    branches: hex(candidate.branches.as_flattened()),
                    username: String::from_utf8_lossy(&candidate.username).into_owned(),
                })?;
            }
        }
        Table::Hours => export_hours(reader, &mut rows)?,
    }
    rows.end()
}

/// Scripts and names by number.
struct Names {
    scripts: Vec<String>,
    workers: Vec<String>,
}

impl Names {
    fn read(reader: &LedgerReader) -> Result<Self, LedgerError> {
        let mut names = Self {
            scripts: Vec::new(),
            workers: Vec::new(),
        };
        for payee in reader.payees() {
            names.scripts.push(hex(&payee?.1));
        }
        for worker in reader.workers() {
            names.workers.push(String::from_utf8_lossy(&worker?.2).into_owned());
        }
        Ok(names)
    }

    fn script(&self, payee: u32) -> String {
        self.scripts.get(payee as usize).cloned().unwrap_or_default()
    }

    fn worker(&self, worker: u32) -> String {
        self.workers.get(worker as usize).cloned().unwrap_or_default()
    }
}

fn export_hours(reader: &LedgerReader, rows: &mut Rows<'_>) -> Result<(), LedgerError> {
    let names = Names::read(reader)?;
    for row in reader.hours() {
        let row = row?;
        rows.write(&HourLine {
            hour_s: row.begins_s(),
            payee: row.payee,
            script: names.script(row.payee),
            worker: row.worker,
            name: row
                .worker
                .map_or_else(|| OTHER.to_owned(), |worker| names.worker(worker)),
            shares: row.sum.shares,
            work: row.sum.work.to_string(),
        })?;
    }
    Ok(())
}

fn export_shares(reader: &LedgerReader, from: u64, rows: &mut Rows<'_>) -> Result<(), LedgerError> {
    let names = Names::read(reader)?;
    for share in reader.shares(from)? {
        let (sequence, share) = share?;
        let mut parent = share.parent;
        parent.reverse();
        rows.write(&ShareLine {
            sequence,
            time_ms: share.time_ms,
            prime_id: share.prime_id,
            payee: share.payee,
            script: names.script(share.payee),
            worker: names.worker(share.worker),
            pot: share.pot,
            hash64: format!("{:016x}", share.hash64),
            parent: hex(&parent),
        })?;
    }
    Ok(())
}

/// Hashes of blocks stand as block explorers write them, all other bytes as they lie on disk.
#[derive(Serialize)]
struct ShareLine {
    sequence: u64,
    time_ms: u64,
    prime_id: u32,
    payee: u32,
    script: String,
    worker: String,
    pot: u8,
    hash64: String,
    parent: String,
}

#[derive(Serialize)]
struct PayeeLine {
    payee: u32,
    script: String,
    /// As mainnet writes it.
    address: Option<String>,
}

#[derive(Serialize)]
struct WorkerLine {
    worker: u32,
    payee: u32,
    name: String,
}

#[derive(Serialize)]
struct SessionLine {
    prime_id: u32,
    gateway: String,
    opened_ms: u64,
    proven_ms: Option<u64>,
    ended_ms: Option<u64>,
    min_diff: u64,
    script: String,
    tag: String,
}

#[derive(Serialize)]
struct CandidateLine {
    block_hash: String,
    height: u32,
    time_ms: u64,
    gateway: String,
    shares_before: u64,
    verdict: &'static str,
    value: u64,
    tx_count: u32,
    header: String,
    coinbase: String,
    branches: String,
    username: String,
}

/// Stands for the name of a payee's workers that have no row of their own. Their `worker` is empty: one may be called so.
const OTHER: &str = "other";

#[derive(Serialize)]
struct HourLine {
    /// When the hour began, s since 1970.
    hour_s: u64,
    payee: u32,
    script: String,
    worker: Option<u32>,
    name: String,
    shares: u64,
    /// As text: it does not fit what JSON readers take for a number.
    work: String,
}

/// One of the two formats, row by row.
struct Rows<'w> {
    sink: Sink<'w>,
    written: u64,
}

enum Sink<'w> {
    Csv(Box<csv::Writer<&'w mut dyn Write>>),
    Jsonl(&'w mut dyn Write),
}

impl<'w> Rows<'w> {
    fn new(format: Format, out: &'w mut dyn Write) -> Self {
        let sink = match format {
            Format::Csv => Sink::Csv(Box::new(csv::Writer::from_writer(out))),
            Format::Jsonl => Sink::Jsonl(out),
        };
        Self { sink, written: 0 }
    }

    fn write(&mut self, row: &impl Serialize) -> Result<(), LedgerError> {
        match &mut self.sink {
            Sink::Csv(csv) => csv.serialize(row).map_err(|error| output(error.into()))?,
            Sink::Jsonl(out) => {
                serde_json::to_writer(&mut *out, row).map_err(|error| output(error.into()))?;
                out.write_all(b"\n").map_err(output)?;
            }
        }
        self.written += 1;
        Ok(())
    }

    fn end(mut self) -> Result<u64, LedgerError> {
        match &mut self.sink {
            Sink::Csv(csv) => csv.flush().map_err(output)?,
            Sink::Jsonl(out) => out.flush().map_err(output)?,
        }
        Ok(self.written)
    }
}

fn output(error: io::Error) -> LedgerError {
    LedgerError::Io {
        path: "the export".into(),
        error,
    }
}

fn hex(bytes: &[u8]) -> String {
    use bitcoin::hex::DisplayHex;
    bytes.to_lower_hex_string()
}

fn address(script: &[u8]) -> Option<String> {
    let address = Address::from_script(Script::from_bytes(script), Network::Bitcoin).ok()?;
    Some(address.to_string())
}
