//! A frame above the usual limit, while it arrives: an answer to a question of ours (protocol section 7).
//!
//! It takes memory only as its bytes come, out of a budget of the process. One for which there is no more is read to its end all
//! the same and not kept: its session goes on, and shares behind it wait for nobody else's answers.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use crate::wire::{HEADER_LEN, LARGE_MAX};
use crate::work::Purpose;

/// Bytes of a frame that are kept in one piece, and read at most at once.
const PIECE: usize = 64 * 1_024;

/// Pieces that the process keeps at a time, of frames that arrive and of those that whoever asked has not opened yet: 64 MiB.
pub const LARGE_PIECES_MAX: usize = 1_024;

/// Of these, such as no check takes: two answers of the largest size, for what blocks of ours are put together of. Peers that begin
/// answers to checks and stall hold all that checks may take, for as long as they like to go on. Blocks come one at a time, and two
/// where a second is found while the first is fetched; a third takes what checks leave.
pub const BLOCK_PIECES: usize = 2 * (HEADER_LEN + LARGE_MAX).div_ceil(PIECE);

/// The process's budget for large answers.
#[derive(Debug, Clone)]
pub struct LargeAnswers(Arc<AtomicUsize>);

/// Room for one piece, given back when dropped.
#[derive(Debug)]
struct Room(Arc<AtomicUsize>);

struct Piece {
    bytes: Vec<u8>,
    _room: Room,
}

/// The bytes of a frame, which hold their room until they are joined.
#[derive(Default)]
pub(super) struct Pieces(Vec<Piece>);

/// A frame of which not all has come.
pub(super) struct LargeFrame {
    /// Header included.
    len: usize,
    filled: usize,
    purpose: Purpose,
    /// None where it is passed over.
    kept: Option<Pieces>,
}

impl Default for LargeAnswers {
    fn default() -> Self {
        const { assert!(PIECE * LARGE_PIECES_MAX == 64 * 1_024 * 1_024) };
        const { assert!(2 * BLOCK_PIECES <= LARGE_PIECES_MAX, "most of it is for checks") };
        Self(Arc::new(AtomicUsize::new(LARGE_PIECES_MAX)))
    }
}

impl LargeAnswers {
    fn take(&self, purpose: Purpose) -> Option<Room> {
        let kept_back = match purpose {
            Purpose::Check => BLOCK_PIECES,
            Purpose::Block => 0,
        };
        let one_less = |left: usize| left.checked_sub(1).filter(|left| *left >= kept_back);
        let taken = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_less);
        taken.ok().map(|_| Room(self.0.clone()))
    }

    #[cfg(test)]
    pub fn pieces_left(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Room {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }
}

impl Pieces {
    pub fn len(&self) -> usize {
        self.0.iter().map(|piece| piece.bytes.len()).sum()
    }

    /// All in one; each piece goes as soon as it is copied. Takes ms.
    pub fn join(self) -> Vec<u8> {
        let mut whole = Vec::with_capacity(self.len());
        self.0
            .into_iter()
            .for_each(|piece| whole.extend_from_slice(&piece.bytes));
        whole
    }
}

impl LargeFrame {
    /// One of `len` bytes, header included, that begins with `start`. `awaited`: what for; one that is not is passed over.
    pub fn begin(len: usize, start: &[u8], awaited: Option<Purpose>, budget: &LargeAnswers) -> Self {
        let mut frame = Self {
            len,
            filled: 0,
            purpose: awaited.unwrap_or(Purpose::Check),
            kept: awaited.map(|_| Pieces::default()),
        };
        let mut rest = start;
        while !rest.is_empty() {
            let Some(space) = frame.space(budget) else {
                frame.filled += rest.len();
                break;
            };
            let (part, behind) = rest.split_at(rest.len().min(space.len()));
            space[..part.len()].copy_from_slice(part);
            frame.filled += part.len();
            rest = behind;
        }
        frame
    }

    /// Where the next bytes go, which are not whole yet; none where they are passed over.
    pub fn space(&mut self, budget: &LargeAnswers) -> Option<&mut [u8]> {
        let at = self.filled % PIECE;
        let pieces = &mut self.kept.as_mut()?.0;
        if pieces.len() * PIECE <= self.filled {
            let Some(room) = budget.take(self.purpose) else {
                self.kept = None;
                return None;
            };
            pieces.push(Piece {
                bytes: vec![0; PIECE.min(self.len - self.filled)],
                _room: room,
            });
        }
        self.kept.as_mut()?.0.last_mut().map(|piece| &mut piece.bytes[at..])
    }

    /// Bytes that have still to come.
    pub fn missing(&self) -> usize {
        self.len - self.filled
    }

    /// So many more came. Whether another piece is whole with them.
    pub fn fill(&mut self, count: usize) -> bool {
        let pieces = self.filled / PIECE;
        self.filled += count;
        debug_assert!(self.filled <= self.len, "no more is read than is missing");
        self.filled / PIECE > pieces
    }

    /// Nobody waits for it any more: what came gives its room back, and the rest is passed over.
    pub fn let_go(&mut self) {
        self.kept = None;
    }

    /// What was kept of it, now that it is whole; none where it was passed over.
    pub fn whole(self) -> Option<Pieces> {
        debug_assert_eq!(self.filled, self.len, "all of it has come");
        self.kept
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CHECK_PIECES: usize = LARGE_PIECES_MAX - BLOCK_PIECES;

    fn bytes(len: usize) -> Vec<u8> {
        (0..len).map(|at| (at % 251) as u8).collect()
    }

    /// Reads the rest of it, so many bytes at a time, as a socket might give them.
    fn read(frame: &mut LargeFrame, whole: &[u8], step: usize, budget: &LargeAnswers) {
        while frame.missing() > 0 {
            let from = whole.len() - frame.missing();
            let count = match frame.space(budget) {
                Some(space) => {
                    let count = space.len().min(step);
                    space[..count].copy_from_slice(&whole[from..from + count]);
                    count
                }
                None => step.min(frame.missing()),
            };
            frame.fill(count);
        }
    }

    #[test]
    fn it_takes_room_as_its_bytes_come_and_gives_it_back() {
        let budget = LargeAnswers::default();
        for (len, start, step) in [
            (PIECE, 0, PIECE),
            (3 * PIECE + 7, 33_000, 1_000),
            (2 * PIECE, PIECE, 5),
            (2 * PIECE + 1, 2 * PIECE, 1),
            (40_000, 39_999, 9),
        ] {
            let whole = bytes(len);
            let mut frame = LargeFrame::begin(len, &whole[..start], Some(Purpose::Check), &budget);
            assert_eq!(budget.pieces_left(), LARGE_PIECES_MAX - start.div_ceil(PIECE));
            read(&mut frame, &whole, step, &budget);
            assert_eq!(budget.pieces_left(), LARGE_PIECES_MAX - len.div_ceil(PIECE));
            let kept = frame.whole().expect("there was room");
            assert_eq!(kept.len(), len);
            assert!(kept.join() == whole, "{len} bytes as they came");
            assert_eq!(budget.pieces_left(), LARGE_PIECES_MAX);
        }
    }

    #[test]
    fn one_for_which_there_is_no_room_is_passed_over_and_holds_none() {
        let budget = LargeAnswers::default();
        let whole = bytes(4 * PIECE);
        let mut held: Vec<_> = (0..CHECK_PIECES - 2)
            .map_while(|_| budget.take(Purpose::Check))
            .collect();
        let mut frame = LargeFrame::begin(whole.len(), &whole[..10], Some(Purpose::Check), &budget);
        read(&mut frame, &whole, PIECE, &budget);
        assert!(frame.whole().is_none());
        assert_eq!(budget.pieces_left(), BLOCK_PIECES + 2, "what came before was let go");
        held.extend(
            [budget.take(Purpose::Check), budget.take(Purpose::Check)]
                .into_iter()
                .flatten(),
        );
        let mut frame = LargeFrame::begin(whole.len(), &whole[..10], Some(Purpose::Check), &budget);
        // Room that comes back meanwhile is too late for it.
        held.clear();
        read(&mut frame, &whole, PIECE, &budget);
        assert!(frame.whole().is_none());
        assert_eq!(budget.pieces_left(), LARGE_PIECES_MAX);
    }

    #[test]
    fn checks_leave_room_for_the_largest_answers_of_two_blocks() {
        let budget = LargeAnswers::default();
        // As many as begin, and none of them goes on.
        let stalled: Vec<_> = (0..2 * LARGE_PIECES_MAX)
            .map(|_| LargeFrame::begin(4 * PIECE, &[0], Some(Purpose::Check), &budget))
            .collect();
        assert_eq!(budget.pieces_left(), BLOCK_PIECES);
        let whole = bytes(HEADER_LEN + LARGE_MAX);
        let mut blocks = Vec::new();
        for _ in 0..2 {
            let mut frame = LargeFrame::begin(whole.len(), &whole[..10], Some(Purpose::Block), &budget);
            read(&mut frame, &whole, PIECE, &budget);
            blocks.push(frame.whole().expect("there is room for it"));
        }
        let mut third = LargeFrame::begin(whole.len(), &whole[..10], Some(Purpose::Block), &budget);
        read(&mut third, &whole, PIECE, &budget);
        assert!(third.whole().is_none(), "all is taken");
        drop((stalled, blocks));
        assert_eq!(budget.pieces_left(), LARGE_PIECES_MAX);
        // A block takes what checks have left before it takes what is its own.
        let of_checks: Vec<_> = (0..CHECK_PIECES - 1)
            .map_while(|_| budget.take(Purpose::Check))
            .collect();
        let of_block = budget.take(Purpose::Block);
        assert!(of_block.is_some() && budget.take(Purpose::Check).is_none());
        assert_eq!(
            (of_checks.len(), budget.pieces_left()),
            (CHECK_PIECES - 1, BLOCK_PIECES)
        );
    }

    #[test]
    fn one_that_nobody_waits_for_takes_no_room() {
        let budget = LargeAnswers::default();
        let whole = bytes(2 * PIECE);
        let mut frame = LargeFrame::begin(whole.len(), &whole[..10], None, &budget);
        read(&mut frame, &whole, 999, &budget);
        assert!(frame.whole().is_none());
        // Nor one that somebody has given up meanwhile.
        let mut frame = LargeFrame::begin(whole.len(), &whole[..PIECE + 1], Some(Purpose::Check), &budget);
        assert_eq!(budget.pieces_left(), LARGE_PIECES_MAX - 2);
        frame.let_go();
        assert_eq!(budget.pieces_left(), LARGE_PIECES_MAX);
        read(&mut frame, &whole, 999, &budget);
        assert!(frame.whole().is_none());
        assert_eq!(budget.pieces_left(), LARGE_PIECES_MAX);
    }

    #[test]
    fn each_piece_that_is_whole_is_told_once() {
        let budget = LargeAnswers::default();
        let mut frame = LargeFrame::begin(2 * PIECE + 9, &bytes(PIECE - 1), None, &budget);
        assert!(frame.fill(1));
        assert!(!frame.fill(PIECE - 1));
        assert!(frame.fill(5));
        assert!(!frame.fill(5));
    }
}
