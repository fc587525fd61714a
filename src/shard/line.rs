//! Room in the ring, and who stands in line for it: first come, first served.
//!
//! A full ring stops the sessions that want in, and nothing else. Whoever is let in has a turn: room that is kept for it
//! until its task has run. While anybody stands in line nobody else takes room, so none waits longer than those before
//! it take.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};

use futures_lite::future::poll_fn;

use super::Shard;
use super::due::{DueEntry, ENTRIES_PER_SHARE};
use super::mailbox::Mailbox;
use super::slots::SlotKey;
use super::stop::Phase;
use crate::ledger::Entry;

/// Entries that a session may push in one turn: a fraction of a millisecond's work, so that a long line moves on.
const TURN: usize = 32;

/// Entries that do not wait for the end of a round: a fraction of a millisecond's work.
const WAKE_AFTER: usize = 64;

/// Who waits for room.
#[derive(Default)]
pub(super) struct Line {
    waiting: VecDeque<Waiting>,
    /// Room that is kept for whom was let in.
    kept: usize,
}

enum Waiting {
    Session(SlotKey),
    /// A task that wants room for one entry.
    Task(Weak<TaskPlace>),
}

#[derive(Default)]
struct TaskPlace {
    let_in: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Line {
    /// Of `room` entries in the ring, those that nobody was promised.
    fn free(&self, room: usize) -> usize {
        debug_assert!(self.kept <= room);
        room - self.kept
    }

    /// The first in line, where what it needs is free; that much is kept for it now.
    fn let_in_first(&mut self, room: usize) -> Option<Waiting> {
        let needs = match self.waiting.front()? {
            Waiting::Session(_) => TURN,
            Waiting::Task(_) => 1,
        };
        if self.free(room) < needs {
            return None;
        }
        self.kept += needs;
        self.waiting.pop_front()
    }
}

impl Shard {
    /// Whether a share of the session may be judged: all it can push fits.
    pub fn takes_a_share(&self, mailbox: &Mailbox) -> bool {
        self.room_for(mailbox) >= ENTRIES_PER_SHARE
    }

    /// Entries that the session may push now.
    pub fn room_for(&self, mailbox: &Mailbox) -> usize {
        let line = self.line.borrow();
        match mailbox.turn.get() {
            0 if line.waiting.is_empty() => line.free(self.due.borrow().room()),
            turn => turn,
        }
    }

    /// Pushes an entry of a session, which has room for it.
    pub fn push_for(&self, mailbox: &Mailbox, entry: Entry, waits: DueEntry) {
        if let Some(left) = mailbox.turn.get().checked_sub(1) {
            mailbox.turn.set(left);
            self.line.borrow_mut().kept -= 1;
        }
        self.push(entry, waits);
    }

    /// Pushes an entry for the ledger and notes what waits for it. The caller has made sure of room.
    pub fn push(&self, entry: Entry, waits: DueEntry) {
        self.due.borrow_mut().push(waits);
        let pushed = self.ledger.borrow_mut().push(entry);
        assert!(pushed.is_ok(), "the ring is as long as what may be under way");
    }

    /// Something was pushed. The writer is woken once for what all tasks push that are ready now, so that they share a
    /// batch, or for [`WAKE_AFTER`] entries.
    pub fn wake_writer(&self) {
        let round_end = self.round_end.borrow();
        match &*round_end {
            Some(round_end) if self.ledger.borrow().unheard() < WAKE_AFTER => round_end.wake_by_ref(),
            _ => self.ledger.borrow_mut().wake_writer(),
        }
    }

    /// Wakes the writer behind the tasks that are ready: woken, it is the last of them in its queue.
    pub async fn wake_writer_at_the_end_of_rounds(&self) {
        poll_fn(|cx| {
            self.round_end.borrow_mut().get_or_insert_with(|| cx.waker().clone());
            self.ledger.borrow_mut().wake_writer();
            Poll::<()>::Pending
        })
        .await;
    }

    /// Has the session woken when its turn comes; it stands in line once. False: it did already.
    pub fn stand_in_line(&self, session: SlotKey, mailbox: &Mailbox) -> bool {
        if mailbox.in_line.replace(true) {
            return false;
        }
        self.line.borrow_mut().waiting.push_back(Waiting::Session(session));
        true
    }

    /// Waits for room for one entry, to be pushed before anything else is awaited. False: there will be none, since the
    /// shard is in a phase later than `until`.
    pub async fn wait_for_room(&self, until: Phase) -> bool {
        /// Gives back what was kept for it: to the caller, or where nobody waits any more.
        struct Place<'s>(&'s Shard, Rc<TaskPlace>);
        impl Drop for Place<'_> {
            fn drop(&mut self) {
                if self.1.let_in.get() {
                    self.0.line.borrow_mut().kept -= 1;
                }
            }
        }
        let mut place: Option<Place<'_>> = None;
        poll_fn(|cx| {
            if self.phase.get() > until {
                return Poll::Ready(false);
            }
            let mut line = self.line.borrow_mut();
            let free = line.waiting.is_empty() && line.free(self.due.borrow().room()) > 0;
            match &place {
                None if free => return Poll::Ready(true),
                Some(place) if place.1.let_in.get() => return Poll::Ready(true),
                _ => {}
            }
            let place = place.get_or_insert_with(|| {
                let place = Rc::<TaskPlace>::default();
                line.waiting.push_back(Waiting::Task(Rc::downgrade(&place)));
                Place(self, place)
            });
            *place.1.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// A session's task has run: what it did not use of its turn is free again.
    pub fn end_turn(&self, mailbox: &Mailbox) {
        self.line.borrow_mut().kept -= mailbox.turn.replace(0);
        self.let_in();
    }

    /// Lets in whoever finds room now.
    pub fn let_in(&self) {
        let mut line = self.line.borrow_mut();
        if line.waiting.is_empty() {
            return;
        }
        let slots = self.slots.borrow();
        let room = self.due.borrow().room();
        while let Some(first) = line.let_in_first(room) {
            match first {
                Waiting::Session(session) => match slots.find(session) {
                    Some(session) => {
                        session.in_line.set(false);
                        session.turn.set(TURN);
                        session.wake();
                    }
                    None => line.kept -= TURN,
                },
                Waiting::Task(place) => match place.upgrade() {
                    Some(place) => {
                        place.let_in.set(true);
                        if let Some(waker) = place.waker.take() {
                            waker.wake();
                        }
                    }
                    None => line.kept -= 1,
                },
            }
        }
    }

    /// Whoever waits looks at the phase. Sessions stand in line no more; a task that goes on waiting keeps its place.
    pub fn dissolve_line(&self) {
        let slots = self.slots.borrow();
        let mut woken = Vec::new();
        self.line.borrow_mut().waiting.retain(|waiting| match waiting {
            Waiting::Session(session) => {
                if let Some(session) = slots.find(*session) {
                    session.in_line.set(false);
                    session.wake();
                }
                false
            }
            Waiting::Task(place) => {
                woken.extend(place.upgrade().and_then(|place| place.waker.take()));
                true
            }
        });
        woken.into_iter().for_each(Waker::wake);
        self.let_in();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(index: u32) -> Waiting {
        Waiting::Session(SlotKey { index, generation: 0 })
    }

    fn let_in(line: &mut Line, room: usize) -> Vec<u32> {
        let mut indexes = Vec::new();
        while let Some(first) = line.let_in_first(room) {
            match first {
                Waiting::Session(session) => indexes.push(session.index),
                Waiting::Task(_) => indexes.push(u32::MAX),
            }
        }
        indexes
    }

    #[test]
    fn the_first_in_line_goes_first_and_nobody_passes_it() {
        let mut line = Line::default();
        line.waiting
            .extend([session(1), Waiting::Task(Weak::new()), session(2)]);
        assert!(let_in(&mut line, TURN - 1).is_empty());
        assert_eq!(let_in(&mut line, TURN), [1]);
        // The task would find room, but what there is was kept for the session before it.
        assert_eq!(line.free(TURN), 0);
        assert!(let_in(&mut line, TURN).is_empty());
        assert_eq!(let_in(&mut line, TURN + 1), [u32::MAX]);
        assert_eq!(let_in(&mut line, 2 * TURN + 1), [2]);
        assert_eq!((line.kept, line.waiting.len()), (2 * TURN + 1, 0));
    }
}
