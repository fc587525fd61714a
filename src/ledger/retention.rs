//! Which shares must stay, and what those that go become.

use std::collections::HashMap;

use rocksdb::DB;

use super::books::{Block, BlockHash, BlockState, OldShares, Span, Terms, Window, Work};
use super::entry::CandidateRow;
use super::error::LedgerError;
use super::hours::{HourRow, Hours};
use super::kept::Kept;
use super::reader;
use super::share_log;
use crate::work::{Pin, SPLIT_GOOD_FOR_S};

/// A split is good for ten minutes; the snapshot that it was dictated from may be some minutes old itself. So long after
/// other terms began no share may come that is held to a split by the former ones, and none is pinned further back.
const SPLITS_FOR_MS: u64 = 2 * SPLIT_GOOD_FOR_S * 1_000;

/// How long after it was found a block that the chain has dropped may come back, and be booked again: 14 days, the 2,016
/// blocks of one network difficulty. None ever came back behind more than some ten.
pub(super) const REVIVES_FOR_MS: u64 = 14 * 86_400_000;

/// Shares that the reserve takes at once when it moves on.
const RESERVE_STEP: usize = 16_384;

/// What the books say of which shares must stay.
pub(super) struct Needs {
    /// Events that the books have had.
    pub events: u64,
    /// The window's.
    pub span: Span,
    /// The first share of the window.
    pub window_from: u64,
    /// Whether it has all the work that its span asks for.
    pub window_is_full: bool,
    pub blocks: HashMap<BlockHash, Block>,
    /// Terms by the number of the event that brought them, in order.
    pub terms: Vec<(u64, Terms)>,
    /// When the last of these came, ms since 1970.
    pub terms_since_ms: u64,
}

/// Shares that go, and what they become.
pub(super) struct Removal {
    /// The first that is kept until now.
    pub from: u64,
    /// The first that stays.
    pub upto: u64,
    /// The sum of `2^pot`.
    pub work: u128,
    /// As they stand afterwards.
    pub rows: Vec<HourRow>,
    /// Events that the books had when nothing needed these shares.
    pub events: u64,
}

/// The first share that must stay.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Needed {
    pub first: u64,
    /// The block that needs it, where nothing else does.
    pub by: Option<BlockHash>,
}

/// Finds what must stay; remembers what it has read for that.
#[derive(Default)]
pub(super) struct Retention {
    /// The window that ends where the window begins: as much work again, so that a window may double at once.
    reserve: Option<Window>,
    /// Where other windows begin, by their span and end.
    begins: HashMap<(Span, u64), u64>,
}

impl Retention {
    /// The first share that is needed, whatever its age: of the window and its reserve, of splits that work may still
    /// pay, of blocks that are not final, of totals that a start counts again.
    ///
    /// # Errors
    /// The log's.
    pub fn first_needed(
        &mut self,
        needs: &Needs,
        db: &DB,
        log: &mut dyn OldShares,
        now_ms: u64,
    ) -> Result<Needed, LedgerError> {
        let kept = Kept::read(db)?;
        let mut needed = Needed {
            first: kept.from,
            by: None,
        };
        if !needs.window_is_full || now_ms < needs.terms_since_ms.saturating_add(SPLITS_FOR_MS) {
            return Ok(needed);
        }
        needed.first = self.reserve(needs, log)?.min(reader::totals_from(db)?);
        let pinned = share_log::first_since(db, now_ms.saturating_sub(SPLITS_FOR_MS))?;
        let mut windows = windows_of_blocks(needs, db, now_ms)?;
        windows.push((needs.span, pinned, None));
        let mut begins = HashMap::new();
        for (span, end, by) in windows {
            // Such a window begins behind the reserve.
            if span == needs.span && end >= needs.window_from {
                continue;
            }
            let first = match self.begins.get(&(span, end)) {
                Some(first) => *first,
                None => {
                    let window = Window::at(end, span, log)?;
                    if kept.check(&window).is_err() {
                        // Gone already: keeping more would not bring it back.
                        continue;
                    }
                    window.front()
                }
            };
            begins.insert((span, end), first);
            if first < needed.first {
                needed = Needed { first, by };
            }
        }
        self.begins = begins;
        Ok(needed)
    }

    /// Where the reserve begins.
    fn reserve(&mut self, needs: &Needs, log: &mut dyn OldShares) -> Result<u64, LedgerError> {
        let Some(reserve) = self
            .reserve
            .as_mut()
            .filter(|reserve| reserve.span() == needs.span && reserve.end() <= needs.window_from)
        else {
            let reserve = Window::at(needs.window_from, needs.span, log)?;
            return Ok(self.reserve.insert(reserve).front());
        };
        while reserve.end() < needs.window_from {
            let left = usize::try_from(needs.window_from - reserve.end()).unwrap_or(usize::MAX);
            let shares = log.from(reserve.end())?.take(left.min(RESERVE_STEP));
            let shares: Vec<Work> = shares.collect::<Result<_, _>>()?;
            reserve.push(&shares, log)?;
        }
        Ok(reserve.front())
    }
}

/// The windows of blocks that may be booked, or booked again: of those with one span the earliest.
fn windows_of_blocks(needs: &Needs, db: &DB, now_ms: u64) -> Result<Vec<(Span, u64, Option<BlockHash>)>, LedgerError> {
    let mut earliest: HashMap<Span, (u64, BlockHash)> = HashMap::new();
    for candidate in reader::candidates(db) {
        let (place, row) = candidate?;
        let hash = row.candidate.hash;
        let Some((span, end)) = window_of(needs, place, &row, now_ms) else {
            continue;
        };
        let window = earliest.entry(span).or_insert((end, hash));
        if end < window.0 {
            *window = (end, hash);
        }
    }
    let windows = earliest.into_iter();
    Ok(windows.map(|(span, (end, hash))| (span, end, Some(hash))).collect())
}

/// Span and end of the window that a block is shared over, where that may still be asked.
fn window_of(needs: &Needs, place: Pin, row: &CandidateRow, now_ms: u64) -> Option<(Span, u64)> {
    let block = needs.blocks.get(&row.candidate.hash);
    let is_needed = match block.map(|block| block.state) {
        // One that waits for the operator may be nobody's to book: it cannot keep the log for ever.
        None if !row.books_itself() => now_ms < row.time_ms.saturating_add(REVIVES_FOR_MS),
        None | Some(BlockState::Candidate | BlockState::Maturing) => true,
        Some(BlockState::Orphaned | BlockState::Rejected) => now_ms < row.time_ms.saturating_add(REVIVES_FOR_MS),
        Some(BlockState::Mature) => false,
    };
    if !is_needed {
        return None;
    }
    let Pin { sequence, event } = row.candidate.booking.pin(place);
    Some((Terms::in_force(&needs.terms, event)?.span(), sequence))
}

/// How much goes at once. It is one write beside shares that wait for theirs, and is added up in memory before.
#[derive(Debug, Clone, Copy)]
pub(super) struct StepLimits {
    /// A step ends with the chunk that brings it to so many shares,
    pub shares: u64,
    /// or so many rows of hours.
    pub rows: usize,
}

/// Adds up the oldest shares, in whole chunks: none from `upto` on, and none as young as `cut_ms`. None where there is
/// nothing to go. `rest` is called often.
///
/// # Errors
/// RocksDB's, damage, or what `rest` says.
pub(super) fn add_up(
    db: &DB,
    upto: u64,
    cut_ms: u64,
    events: u64,
    limits: StepLimits,
    mut rest: impl FnMut() -> Result<(), LedgerError>,
) -> Result<Option<Removal>, LedgerError> {
    let from = Kept::read(db)?.from;
    let mut hours = Hours::default();
    let (mut end, mut work) = (from, 0);
    for chunk in share_log::chunks(db, from)? {
        let chunk = chunk?;
        let shares: Vec<_> = chunk.records().collect::<Result<_, _>>()?;
        if chunk.end() > upto || shares.iter().any(|share| share.time_ms >= cut_ms) {
            break;
        }
        for share in &shares {
            work += share.work();
            hours.add(share);
        }
        end = chunk.end();
        if end - from >= limits.shares || hours.len() >= limits.rows {
            break;
        }
        rest()?;
    }
    if end == from {
        return Ok(None);
    }
    Ok(Some(Removal {
        from,
        upto: end,
        work,
        rows: hours.onto_rows(db)?,
        events,
    }))
}
