//! Who waits for a split, and the task that dictates them: one at a time, in a queue of its own below that of shares.
//!
//! At a new tip all gateways ask within seconds, for 20 kB each. A request is noted in its session, and costs bytes; its
//! split is chosen, pinned and made durable a little ahead, and encoded when its socket takes it.

use std::collections::VecDeque;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use futures_lite::future::poll_fn;

use super::Shard;
use super::mailbox::Mailbox;
use super::session::Session;
use super::slots::SlotKey;
use super::stop::Phase;

/// Splits that wait for the disk at once: some 25 ms of dictating, which a commit takes at worst. No more, so that a split
/// is as new as its answer, and few are written that come too late.
const UNDER_WAY_MAX: usize = 256;

/// Sessions that have asked, and those whose split is durable.
#[derive(Default)]
pub(super) struct Askers {
    /// First come, first served; each session stands here once.
    asked: VecDeque<SlotKey>,
    /// With the id of the split.
    durable: VecDeque<(SlotKey, u8)>,
    /// Splits pushed to the ring that did not come out of `durable` yet.
    under_way: usize,
    waker: Option<Waker>,
    /// Sessions are told of a new block first: no split is dictated until all have been.
    is_held: bool,
    /// Of the task that runs behind them.
    behind_sessions: Option<Waker>,
}

/// Whose turn it is, and for what.
#[derive(Debug, PartialEq, Eq)]
enum Turn {
    Asked(SlotKey),
    Durable(SlotKey, u8),
}

impl Askers {
    fn push(&mut self, session: SlotKey) {
        self.asked.push_back(session);
        self.wake();
    }

    /// A split was pushed to the ring.
    fn pinned(&mut self) {
        self.under_way += 1;
    }

    /// A split that was pushed to the ring is on disk.
    pub fn is_durable(&mut self, session: SlotKey, coinbaser_id: u8) {
        self.durable.push_back((session, coinbaser_id));
        self.wake();
    }

    /// What is durable goes first: it has waited longer.
    fn next(&mut self) -> Option<Turn> {
        if let Some((session, coinbaser_id)) = self.durable.pop_front() {
            self.under_way -= 1;
            return Some(Turn::Durable(session, coinbaser_id));
        }
        if self.under_way == UNDER_WAY_MAX {
            return None;
        }
        self.asked.pop_front().map(Turn::Asked)
    }

    /// All sessions have just been woken to tell of a new block. The first to hear of it ask for a split at once, which takes longer
    /// to say than the words that the others wait for.
    pub fn hold(&mut self) {
        if let Some(behind) = &self.behind_sessions {
            self.is_held = true;
            behind.wake_by_ref();
        }
    }

    fn go_on(&mut self) {
        self.is_held = false;
        self.wake();
    }

    fn poll_next(&mut self, cx: &Context<'_>) -> Poll<Turn> {
        let next = if self.is_held { None } else { self.next() };
        match next {
            Some(turn) => Poll::Ready(turn),
            None => {
                self.waker = Some(cx.waker().clone());
                Poll::Pending
            }
        }
    }

    fn wake(&mut self) {
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

impl Shard {
    /// Has the session's split dictated when its turn comes; it waits for one turn at a time.
    pub fn ask_for_split(&self, session: SlotKey, mailbox: &Mailbox) {
        if !mailbox.asks.replace(true) {
            self.askers.borrow_mut().push(session);
        }
    }

    /// A split was pushed to the ring; [`Askers::is_durable`] tells when it is on disk.
    pub fn split_is_pinned(&self) {
        self.askers.borrow_mut().pinned();
    }
}

/// Dictates for as long as the shard serves.
pub(super) async fn dictate(shard: Rc<Shard>) {
    loop {
        let turn = poll_fn(|cx| shard.askers.borrow_mut().poll_next(cx)).await;
        match turn {
            Turn::Asked(session) => {
                // Room for the one entry that it pushes.
                if !shard.wait_for_room(Phase::Serving).await {
                    return;
                }
                with(&shard, session, |mailbox, session| {
                    mailbox.asks.set(false);
                    session.dictate();
                });
            }
            Turn::Durable(session, coinbaser_id) => with(&shard, session, |_, session| {
                session.split_is_durable(coinbaser_id);
            }),
        }
        glommio::yield_if_needed().await;
    }
}

/// Has dictation go on behind all sessions that were ready when it was held: woken, this is the last of them in their queue.
pub(super) async fn go_on_behind_sessions(shard: Rc<Shard>) {
    poll_fn(|cx| {
        let mut askers = shard.askers.borrow_mut();
        askers.behind_sessions.get_or_insert_with(|| cx.waker().clone());
        askers.go_on();
        Poll::<()>::Pending
    })
    .await;
}

/// For one call, where the session has not ended.
fn with(shard: &Shard, session: SlotKey, call: impl FnOnce(&Mailbox, &mut Session)) {
    let mailbox = shard.slots.borrow().find(session).cloned();
    if let Some(mailbox) = mailbox
        && let Some(session) = mailbox.session()
    {
        call(&mailbox, &mut session.borrow_mut());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn session(index: u32) -> SlotKey {
        SlotKey { index, generation: 0 }
    }

    #[test]
    fn what_is_durable_goes_before_what_was_asked_and_each_in_its_order() {
        let mut askers = Askers::default();
        for index in 1..=3 {
            askers.push(session(index));
        }
        assert_eq!(askers.next(), Some(Turn::Asked(session(1))));
        askers.pinned();
        assert_eq!(askers.next(), Some(Turn::Asked(session(2))));
        askers.pinned();
        askers.is_durable(session(1), 7);
        askers.is_durable(session(2), 8);
        assert_eq!(askers.next(), Some(Turn::Durable(session(1), 7)));
        assert_eq!(askers.next(), Some(Turn::Durable(session(2), 8)));
        assert_eq!(askers.next(), Some(Turn::Asked(session(3))));
        assert_eq!(askers.next(), None);
    }

    #[test]
    fn nobody_is_dictated_a_split_before_all_are_told_of_a_block() {
        let mut askers = Askers::default();
        let cx = Context::from_waker(Waker::noop());
        askers.push(session(1));
        askers.pinned();
        askers.hold();
        assert!(!askers.is_held, "nothing would end it yet");
        askers.behind_sessions = Some(Waker::noop().clone());
        askers.hold();
        assert_eq!(askers.poll_next(&cx), Poll::Pending);
        askers.is_durable(session(2), 1);
        assert_eq!(askers.poll_next(&cx), Poll::Pending);
        askers.go_on();
        assert_eq!(askers.poll_next(&cx), Poll::Ready(Turn::Durable(session(2), 1)));
    }

    #[test]
    fn splits_are_pinned_only_so_far_ahead_of_the_disk() {
        let mut askers = Askers::default();
        for index in 0..=u32::try_from(UNDER_WAY_MAX).expect("small") {
            askers.push(session(index));
        }
        for _ in 0..UNDER_WAY_MAX {
            assert!(matches!(askers.next(), Some(Turn::Asked(_))));
            askers.pinned();
        }
        assert_eq!(askers.next(), None, "one waits, and there is no place");
        askers.is_durable(session(0), 1);
        assert_eq!(askers.next(), Some(Turn::Durable(session(0), 1)));
        assert!(matches!(askers.next(), Some(Turn::Asked(_))));
    }
}
