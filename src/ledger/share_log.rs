//! Shares in the order of the log, forwards and backwards.
//!
//! Nothing before the first share that is kept is ever read, though its chunks may still be on disk: [`Kept`] alone
//! says where the log begins.

use rocksdb::{DB, Direction, IteratorMode, ReadOptions};

use super::books::{OldShares, Work};
use super::error::{Damage, LedgerError};
use super::kept::Kept;
use super::record::{self, ShareRecord};
use super::schema::{self, family};

/// Bytes that a scan reads ahead: scans are long and go one way.
pub(super) const READ_AHEAD: usize = 2 * 1_024 * 1_024;

/// Shares that [`ReadAhead`] holds, of 8 bytes.
const AHEAD_SHARES: usize = 65_536;

/// The sequence behind the last share.
pub(super) fn next_sequence(db: &DB) -> Result<u64, LedgerError> {
    match db.iterator_cf(family(db, schema::SHARES), IteratorMode::End).next() {
        None => Ok(Kept::read(db)?.from),
        Some(last) => {
            let (key, chunk) = last?;
            Ok(sequence(&key)? + record::chunk_len(&chunk))
        }
    }
}

/// Shares from a sequence on, or from the first that is kept; a gap in the log is damage.
pub(super) fn shares(
    db: &DB,
    from: u64,
) -> Result<impl Iterator<Item = Result<(u64, ShareRecord), LedgerError>> + use<'_>, LedgerError> {
    Ok(Shares {
        chunks: chunks(db, from)?,
        chunk: None,
        at: from,
    })
}

/// The same by chunks; the first is the one that holds `from`.
pub(super) fn chunks(
    db: &DB,
    from: u64,
) -> Result<impl Iterator<Item = Result<Chunk, LedgerError>> + use<'_>, LedgerError> {
    let kept = Kept::read(db)?;
    let from = from.max(kept.from);
    let begin = IteratorMode::From(&from.to_be_bytes(), Direction::Reverse);
    let mut back = db.iterator_cf_opt(family(db, schema::SHARES), kept_only(&kept), begin);
    let first = match back.next() {
        None => kept.from,
        Some(chunk) => sequence(&chunk?.0)?,
    };
    drop(back);
    let mut options = kept_only(&kept);
    options.set_readahead_size(READ_AHEAD);
    let begin = first.to_be_bytes();
    let begin = IteratorMode::From(&begin, Direction::Forward);
    Ok(Chunks {
        rows: db.iterator_cf_opt(family(db, schema::SHARES), options, begin),
        expected: first,
        behind_gap: None,
    })
}

/// Shares before a sequence, the newest first, back to the first that is kept; a gap in the log is damage.
pub(super) fn shares_before(
    db: &DB,
    before: u64,
) -> Result<impl Iterator<Item = Result<(u64, ShareRecord), LedgerError>> + use<'_>, LedgerError> {
    let kept = Kept::read(db)?;
    let last = before.saturating_sub(1).to_be_bytes();
    let begin = IteratorMode::From(&last, Direction::Reverse);
    let mut rows = db.iterator_cf_opt(family(db, schema::SHARES), kept_only(&kept), begin);
    let mut chunk: Option<Chunk> = None;
    let mut end = before;
    Ok(std::iter::from_fn(move || {
        if end <= kept.from {
            return None;
        }
        if chunk.as_ref().is_none_or(|chunk| end == chunk.first) {
            match back_to(end, rows.next(), &kept) {
                Ok(found) => chunk = Some(found),
                Err(error) => {
                    // What lies before the gap is not what was asked for.
                    end = kept.from;
                    return Some(Err(error));
                }
            }
        }
        end -= 1;
        let record = chunk.as_ref()?.record(end)?;
        Some(record.map(|record| (end, record)).map_err(LedgerError::from))
    }))
}

/// The chunk that ends with the share before `end`, or holds it.
fn back_to(end: u64, row: Option<RawRow>, kept: &Kept) -> Result<Chunk, LedgerError> {
    let gap = |found| Damage::Gap { expected: end, found };
    let (key, value) = row.ok_or(gap(kept.from))??;
    let chunk = Chunk::read(&key, value)?;
    if chunk.end() < end {
        return Err(gap(chunk.end()).into());
    }
    Ok(chunk)
}

/// A sequence before which no share that is kept is as young as `time_ms`, found by halving: times rise with
/// sequences, but for what the clock was set back.
pub(super) fn first_since(db: &DB, time_ms: u64) -> Result<u64, LedgerError> {
    let kept = Kept::read(db)?;
    let (mut low, mut high) = (kept.from, next_sequence(db)?);
    while low < high {
        let middle = low + (high - low) / 2;
        let begin = IteratorMode::From(&middle.to_be_bytes(), Direction::Reverse);
        let mut rows = db.iterator_cf_opt(family(db, schema::SHARES), kept_only(&kept), begin);
        let Some(row) = rows.next() else {
            break;
        };
        let (key, value) = row?;
        let chunk = Chunk::read(&key, value)?;
        if chunk
            .record(chunk.end() - 1)
            .transpose()?
            .is_some_and(|last| last.time_ms < time_ms)
        {
            low = middle + 1;
        } else {
            high = middle.min(chunk.first);
        }
    }
    Ok(low)
}

/// A chunk as it lies on disk.
pub(super) struct Chunk {
    /// The sequence of its first share.
    pub first: u64,
    value: Box<[u8]>,
}

impl Chunk {
    fn read(key: &[u8], value: Box<[u8]>) -> Result<Self, Damage> {
        let first = sequence(key)?;
        record::chunk(&value)?;
        Ok(Self { first, value })
    }

    /// The sequence behind its last share.
    pub fn end(&self) -> u64 {
        self.first + record::chunk_len(&self.value)
    }

    /// None where it does not hold the share.
    fn record(&self, sequence: u64) -> Option<Result<ShareRecord, Damage>> {
        let at = usize::try_from(sequence.checked_sub(self.first)?).ok()?;
        self.value.as_chunks().0.get(at).map(ShareRecord::decode)
    }

    /// What a window needs of the shares from a sequence on.
    fn work_from(&self, sequence: u64) -> impl Iterator<Item = Result<Work, Damage>> {
        let skipped = usize::try_from(sequence.saturating_sub(self.first)).unwrap_or(usize::MAX);
        self.value
            .as_chunks()
            .0
            .iter()
            .skip(skipped)
            .map(ShareRecord::decode_work)
    }

    pub fn records(&self) -> impl Iterator<Item = Result<ShareRecord, Damage>> {
        self.value.as_chunks().0.iter().map(ShareRecord::decode)
    }
}

type RawRow = Result<(Box<[u8]>, Box<[u8]>), rocksdb::Error>;

/// Chunks in order; one behind a gap comes after the error that says so.
struct Chunks<R> {
    rows: R,
    expected: u64,
    behind_gap: Option<Chunk>,
}

impl<R: Iterator<Item = RawRow>> Iterator for Chunks<R> {
    type Item = Result<Chunk, LedgerError>;

    fn next(&mut self) -> Option<Self::Item> {
        if let Some(chunk) = self.behind_gap.take() {
            return Some(Ok(chunk));
        }
        let read = |row: RawRow| {
            let (key, value) = row?;
            Ok::<_, LedgerError>(Chunk::read(&key, value)?)
        };
        let chunk = match read(self.rows.next()?) {
            Ok(chunk) => chunk,
            Err(error) => return Some(Err(error)),
        };
        let expected = std::mem::replace(&mut self.expected, chunk.end());
        let found = chunk.first;
        if found != expected {
            self.behind_gap = Some(chunk);
            return Some(Err(Damage::Gap { expected, found }.into()));
        }
        Some(Ok(chunk))
    }
}

/// The shares of chunks, one by one.
struct Shares<C> {
    chunks: C,
    chunk: Option<Chunk>,
    at: u64,
}

impl<C: Iterator<Item = Result<Chunk, LedgerError>>> Iterator for Shares<C> {
    type Item = Result<(u64, ShareRecord), LedgerError>;

    fn next(&mut self) -> Option<Self::Item> {
        loop {
            if let Some(record) = self.chunk.as_ref().and_then(|chunk| chunk.record(self.at)) {
                let sequence = self.at;
                self.at += 1;
                return Some(record.map(|record| (sequence, record)).map_err(LedgerError::from));
            }
            match self.chunks.next()? {
                Ok(chunk) => {
                    // It may begin before what was asked for, or behind a gap.
                    self.at = self.at.max(chunk.first);
                    self.chunk = Some(chunk);
                }
                Err(error) => return Some(Err(error)),
            }
        }
    }
}

/// A scan passes each block once, and must not push out what the pool needs again.
fn kept_only(kept: &Kept) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    options.set_iterate_lower_bound(kept.from.to_be_bytes());
    options
}

/// The key of a chunk.
pub(super) fn sequence(key: &[u8]) -> Result<u64, Damage> {
    let bytes = key.try_into().map_err(|_| Damage::Value {
        what: schema::SHARES,
        field: "key",
    })?;
    Ok(u64::from_be_bytes(bytes))
}

impl OldShares for &DB {
    fn from(&mut self, from: u64) -> Result<OldWork<'_>, LedgerError> {
        Ok(Box::new(work_from(self, from)?))
    }

    fn before(&mut self, before: u64) -> Result<OldWork<'_>, LedgerError> {
        Ok(Box::new(work_before(self, before)?))
    }
}

/// Shares as windows ask for them.
pub(super) type OldWork<'a> = Box<dyn Iterator<Item = Result<Work, LedgerError>> + 'a>;

/// Shares from a sequence on that must be kept: no window begins before.
pub(super) fn work_from(
    db: &DB,
    from: u64,
) -> Result<impl Iterator<Item = Result<Work, LedgerError>> + use<'_>, LedgerError> {
    is_kept(db, from)?;
    Ok(shares(db, from)?.map(work))
}

fn is_kept(db: &DB, from: u64) -> Result<(), LedgerError> {
    let found = Kept::read(db)?.from;
    match from < found {
        true => Err(Damage::Gap { expected: from, found }.into()),
        false => Ok(()),
    }
}

/// Shares before a sequence, the newest first, as far back as they are kept.
pub(super) fn work_before(
    db: &DB,
    before: u64,
) -> Result<impl Iterator<Item = Result<Work, LedgerError>> + use<'_>, LedgerError> {
    Ok(shares_before(db, before)?.map(work))
}

fn work(share: Result<(u64, ShareRecord), LedgerError>) -> Result<Work, LedgerError> {
    Ok(share?.1.of_window())
}

/// Shares at the old end of a window that moves on, read before it is their turn: each batch of the writer pushes a
/// few out, and opening the log costs more than reading some thousand of it.
#[derive(Debug, Default)]
pub(super) struct Ahead {
    /// The sequence of the first.
    first: u64,
    shares: Vec<Work>,
}

/// The log with what was read ahead of it.
pub(super) struct ReadAhead<'a> {
    pub db: &'a DB,
    pub ahead: &'a mut Ahead,
}

impl ReadAhead<'_> {
    fn share(&mut self, sequence: u64) -> Result<Option<Work>, LedgerError> {
        let at = |ahead: &Ahead| usize::try_from(sequence.checked_sub(ahead.first)?).ok();
        let held = |ahead: &Ahead| ahead.shares.get(at(ahead)?).copied();
        if let Some(share) = held(self.ahead) {
            return Ok(Some(share));
        }
        self.ahead.first = sequence;
        self.ahead.shares.clear();
        is_kept(self.db, sequence)?;
        for chunk in chunks(self.db, sequence)? {
            for share in chunk?.work_from(sequence) {
                self.ahead.shares.push(share?);
            }
            if self.ahead.shares.len() >= AHEAD_SHARES {
                break;
            }
        }
        Ok(held(self.ahead))
    }
}

impl OldShares for ReadAhead<'_> {
    fn from(&mut self, from: u64) -> Result<OldWork<'_>, LedgerError> {
        let mut next = from;
        Ok(Box::new(std::iter::from_fn(move || {
            let share = self.share(next).transpose();
            next += 1;
            share
        })))
    }

    fn before(&mut self, before: u64) -> Result<OldWork<'_>, LedgerError> {
        Ok(Box::new(work_before(self.db, before)?))
    }
}
