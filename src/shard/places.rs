//! Places of a shard's sessions: each holds one. Where all are taken, or memory is short, a newcomer comes in for an idle session.
//!
//! Which goes is a rule of [`IdleSessions`]. It hears why, and has left within [`super::session::LEAVE_MS`]; until then the
//! newcomer waits, still as a handshake, so that there are never more connections than sessions and handshakes may be. Where
//! nobody goes it is turned away at once.

use std::cell::{Cell, RefCell};
use std::collections::{HashSet, VecDeque};
use std::rc::{Rc, Weak};
use std::task::{Poll, Waker};

use futures_lite::future::poll_fn;

use super::mailbox::Mailbox;
use crate::guard::{Admission, IdleKey, IdleSessions, Subject};
use crate::telemetry::EndReason;

/// The places of a shard.
pub(super) struct Places {
    /// That nobody has and nobody waits for.
    free: Cell<usize>,
    /// First come, first served. Some may have given up.
    line: RefCell<VecDeque<Weak<Newcomer>>>,
    /// Those in line that have not, and have no place yet.
    waiting: Cell<usize>,
    idle: RefCell<IdleSessions<Rc<Mailbox>>>,
    /// Sessions that were told to go and have not gone yet.
    going: RefCell<HashSet<IdleKey>>,
}

/// The place of a session, or of one that is about to begin; given back when this is dropped.
pub(super) struct Place {
    places: Rc<Places>,
    /// None before it is a session's, and once that has mined.
    idle: Cell<Option<IdleKey>>,
}

/// Somebody would have to go, and nobody does.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NoPlace;

/// Stands in line.
#[derive(Default)]
struct Newcomer {
    /// Its place, until it takes it.
    place: RefCell<Option<Place>>,
    is_served: Cell<bool>,
    waker: RefCell<Option<Waker>>,
}

impl Places {
    pub fn new(count: usize) -> Rc<Self> {
        Rc::new(Self {
            free: Cell::new(count),
            line: RefCell::default(),
            waiting: Cell::new(0),
            idle: RefCell::default(),
            going: RefCell::default(),
        })
    }

    /// Whether there is one that nobody has to leave.
    pub fn has_free(&self) -> bool {
        self.free.get() > 0
    }

    /// A place for a newcomer; waits where there is none until somebody has gone for it.
    ///
    /// # Errors
    /// Nobody does.
    pub async fn take(self: &Rc<Self>, admission: Admission, now_ms: u64) -> Result<Place, NoPlace> {
        if admission == Admission::InExchange {
            self.make_room(now_ms)?;
        }
        if let Some(left) = self.free.get().checked_sub(1) {
            self.free.set(left);
            return Ok(Place::new(self));
        }
        // One goes for each that waits. Whom it was told for may have given up.
        if self.going.borrow().len() <= self.waiting.get() {
            self.make_room(now_ms)?;
        }
        Ok(self.wait().await)
    }

    /// Tells the idle session to go whose turn it is.
    fn make_room(&self, now_ms: u64) -> Result<(), NoPlace> {
        let mut idle = self.idle.borrow_mut();
        loop {
            let (key, _) = idle.first_to_go(now_ms).ok_or(NoPlace)?;
            let session = idle.remove(key).ok_or(NoPlace)?;
            // Its task may not have run since, or the disk may have its first share in hand.
            if session.has_mined() || session.under_way.get() > 0 {
                continue;
            }
            self.going.borrow_mut().insert(key);
            session.end(EndReason::Idle);
            return Ok(());
        }
    }

    /// Stands in line until there is a place.
    async fn wait(self: &Rc<Self>) -> Place {
        /// Gives up where it ends before.
        struct InLine<'p>(&'p Places, Rc<Newcomer>);
        impl Drop for InLine<'_> {
            fn drop(&mut self) {
                if !self.1.is_served.get() {
                    self.0.waiting.set(self.0.waiting.get() - 1);
                }
            }
        }
        let newcomer = Rc::<Newcomer>::default();
        self.line.borrow_mut().push_back(Rc::downgrade(&newcomer));
        self.waiting.set(self.waiting.get() + 1);
        let in_line = InLine(self, newcomer);
        poll_fn(|cx| {
            if let Some(place) = in_line.1.place.take() {
                return Poll::Ready(place);
            }
            *in_line.1.waker.borrow_mut() = Some(cx.waker().clone());
            Poll::Pending
        })
        .await
    }

    /// Whoever has left gives its place to the first in line.
    fn give_back(self: &Rc<Self>) {
        loop {
            let first = self.line.borrow_mut().pop_front();
            let Some(first) = first else { break };
            if let Some(newcomer) = first.upgrade() {
                newcomer.is_served.set(true);
                self.waiting.set(self.waiting.get() - 1);
                *newcomer.place.borrow_mut() = Some(Place::new(self));
                if let Some(waker) = newcomer.waker.take() {
                    waker.wake();
                }
                return;
            }
        }
        self.free.set(self.free.get() + 1);
    }

    /// Whether the session was idle until now.
    fn leave_idle(&self, key: IdleKey) -> bool {
        self.idle.borrow_mut().remove(key).is_some()
    }
}

impl Place {
    fn new(places: &Rc<Places>) -> Self {
        Self {
            places: places.clone(),
            idle: Cell::new(None),
        }
    }

    /// It is this session's, which has mined nothing yet.
    pub fn begin(&self, from: Subject, session: Rc<Mailbox>, now_ms: u64) {
        let key = self.places.idle.borrow_mut().begin(from, session, now_ms);
        self.idle.set(Some(key));
    }

    /// A share of its session was accepted: it goes for nobody.
    pub fn has_mined(&self) {
        if let Some(key) = self.idle.get() {
            self.places.leave_idle(key);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(key) = self.idle.get()
            && !self.places.leave_idle(key)
        {
            self.places.going.borrow_mut().remove(&key);
        }
        self.places.give_back();
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;

    use futures_lite::future::{block_on, poll_once};

    use super::*;

    /// Long enough for any session to have begun to mine.
    const LATE_MS: u64 = 3_600_000;

    fn address(n: u32) -> Subject {
        Subject::V4(n)
    }

    /// A session that holds a place.
    fn session(places: &Rc<Places>, from: u32) -> (Place, Rc<Mailbox>) {
        let place = take(places, Admission::Free, 0).expect("a free one").expect("at once");
        let mailbox = Rc::new(Mailbox::new(0));
        place.begin(address(from), mailbox.clone(), 0);
        (place, mailbox)
    }

    /// None where it waits; it has given up then.
    fn take(places: &Rc<Places>, admission: Admission, now_ms: u64) -> Option<Result<Place, NoPlace>> {
        block_on(poll_once(places.take(admission, now_ms)))
    }

    fn goes(mailbox: &Mailbox) -> bool {
        mailbox.end_reason() == Some(EndReason::Idle)
    }

    #[test]
    fn an_idle_session_leaves_its_place_to_who_waits_and_a_miner_does_not() {
        let places = Places::new(2);
        let (miners_place, miner) = session(&places, 1);
        let (idle_place, idle) = session(&places, 1);
        assert!(!places.has_free());
        assert!(
            matches!(take(&places, Admission::Free, 0), Some(Err(NoPlace))),
            "both are young"
        );
        miners_place.has_mined();
        block_on(async {
            let mut newcomer = pin!(places.take(Admission::Free, LATE_MS));
            assert!(poll_once(&mut newcomer).await.is_none());
            assert!(goes(&idle) && !goes(&miner));
            assert!(
                matches!(take(&places, Admission::Free, LATE_MS), Some(Err(NoPlace))),
                "nobody else may go"
            );
            drop(idle_place);
            let place = poll_once(&mut newcomer).await.expect("it has left").expect("a place");
            assert!(!places.has_free());
            drop((place, miners_place));
        });
        assert_eq!(places.free.get(), 2);
    }

    #[test]
    fn a_session_whose_first_share_is_on_its_way_to_the_disk_stays() {
        let places = Places::new(1);
        let (_place, mailbox) = session(&places, 1);
        mailbox.under_way.set(1);
        assert!(matches!(take(&places, Admission::Free, LATE_MS), Some(Err(NoPlace))));
        assert!(!goes(&mailbox));
    }

    #[test]
    fn whoever_comes_in_exchange_comes_for_an_idle_session_though_there_is_a_place() {
        let places = Places::new(3);
        let (miners_place, _) = session(&places, 1);
        miners_place.has_mined();
        assert!(matches!(
            take(&places, Admission::InExchange, LATE_MS),
            Some(Err(NoPlace))
        ));
        let (_idle_place, idle) = session(&places, 2);
        let place = take(&places, Admission::InExchange, LATE_MS)
            .expect("at once")
            .expect("a place");
        assert!(goes(&idle));
        assert!(!places.has_free());
        drop(place);
        assert!(matches!(
            take(&places, Admission::InExchange, LATE_MS),
            Some(Err(NoPlace))
        ));
        assert!(places.has_free(), "it took none");
    }

    #[test]
    fn who_goes_for_somebody_that_gave_up_goes_for_the_next() {
        let places = Places::new(3);
        let sessions: Vec<_> = (0..3).map(|from| session(&places, from)).collect();
        let gone = || sessions.iter().filter(|(_, mailbox)| goes(mailbox)).count();
        assert!(take(&places, Admission::Free, LATE_MS).is_none() && take(&places, Admission::Free, LATE_MS).is_none());
        assert_eq!(gone(), 1);
        block_on(async {
            let mut first = pin!(places.take(Admission::Free, LATE_MS));
            let mut second = pin!(places.take(Admission::Free, LATE_MS));
            assert!(poll_once(&mut first).await.is_none() && poll_once(&mut second).await.is_none());
            assert_eq!(gone(), 2);
        });
        drop(sessions);
        assert_eq!(
            (places.free.get(), places.waiting.get(), places.going.borrow().len()),
            (3, 0, 0)
        );
    }

    #[test]
    fn a_place_that_was_given_and_not_taken_goes_to_the_next_in_line() {
        let places = Places::new(2);
        let [(one, _), (two, _)] = [session(&places, 1), session(&places, 2)];
        block_on(async {
            let mut first = Box::pin(places.take(Admission::Free, LATE_MS));
            let mut second = pin!(places.take(Admission::Free, LATE_MS));
            assert!(poll_once(&mut first).await.is_none() && poll_once(&mut second).await.is_none());
            drop(one);
            drop(first);
            let place = poll_once(&mut second).await.expect("it is given on").expect("a place");
            drop((place, two));
        });
        assert_eq!(places.free.get(), 2);
    }
}
