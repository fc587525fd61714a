//! Room in the ring, and who stands in line for it: first come, first served.
//!
//! A full ring stops the sessions that want in, and nothing else. Whoever is let in and leaves room lets the next one
//! in, so nobody waits while there is room: a session that needed it may have ended, or have had its shares refused.

use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Poll, Waker};

use futures_lite::future::poll_fn;

use super::Shard;
use super::due::DueEntry;
use super::mailbox::Mailbox;
use super::slots::SlotKey;
use super::stop::Phase;
use crate::ledger::Entry;

/// Entries that one session is expected to push when it is let in.
const ENTRIES_PER_TURN: usize = 32;

#[derive(Default)]
pub(super) struct Line(VecDeque<Waiting>);

enum Waiting {
    /// Looks for room each time it runs.
    Session(SlotKey),
    /// Waits for nothing else.
    Task(Waker),
}

impl Shard {
    pub fn has_room(&self) -> bool {
        self.due.borrow().room() > 0
    }

    /// Whether a share may be judged: all it can push fits.
    pub fn takes_a_share(&self) -> bool {
        self.due.borrow().takes_a_share()
    }

    /// Pushes an entry for the ledger and notes what waits for it. The caller has made sure of room.
    pub fn push(&self, entry: Entry, waits: DueEntry) {
        self.due.borrow_mut().push(waits);
        let pushed = self.ledger.borrow_mut().push(entry);
        assert!(pushed.is_ok(), "the ring is as long as what may be under way");
    }

    /// One call covers all that a turn has pushed.
    pub fn wake_writer(&self) {
        self.ledger.borrow_mut().wake_writer();
    }

    /// Has the session woken when there is room; it stands in line once. False: it did already.
    pub fn stand_in_line(&self, session: SlotKey, mailbox: &Mailbox) -> bool {
        if mailbox.in_line.replace(true) {
            return false;
        }
        self.line.borrow_mut().0.push_back(Waiting::Session(session));
        true
    }

    /// Waits for room for one entry. False: there will be none, since the shard is in a phase later than `until`.
    pub async fn wait_for_room(self: &Rc<Self>, until: Phase) -> bool {
        poll_fn(|cx| {
            if self.phase.get() > until {
                return Poll::Ready(false);
            }
            if self.has_room() {
                return Poll::Ready(true);
            }
            self.line.borrow_mut().0.push_back(Waiting::Task(cx.waker().clone()));
            Poll::Pending
        })
        .await
    }

    /// Entries became durable: lets in as many as will find room.
    pub fn let_in_many(&self) {
        self.let_in(self.due.borrow().room().div_ceil(ENTRIES_PER_TURN));
    }

    /// A session has had its turn: lets the next one in where it left room.
    pub fn let_in_next(&self) {
        self.let_in(1);
    }

    /// Whoever still waits looks at the phase.
    pub fn dissolve_line(&self) {
        let waiting = std::mem::take(&mut *self.line.borrow_mut());
        let slots = self.slots.borrow();
        for waiting in waiting.0 {
            match waiting {
                Waiting::Session(session) => {
                    if let Some(session) = slots.find(session) {
                        session.in_line.set(false);
                        session.wake();
                    }
                }
                Waiting::Task(waker) => waker.wake(),
            }
        }
    }

    fn let_in(&self, mut count: usize) {
        let mut line = self.line.borrow_mut();
        if line.0.is_empty() || !self.takes_a_share() {
            return;
        }
        let slots = self.slots.borrow();
        while count > 0
            && let Some(next) = line.0.pop_front()
        {
            match next {
                Waiting::Session(session) => {
                    let Some(session) = slots.find(session) else {
                        continue;
                    };
                    session.in_line.set(false);
                    session.wake();
                }
                Waiting::Task(waker) => waker.wake(),
            }
            count -= 1;
        }
    }
}
