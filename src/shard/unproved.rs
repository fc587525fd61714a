//! Sessions of one gateway that have begun and that nobody has proved.
//!
//! A gateway mines on a CONFIG before it says anything, and its connection may break before that. Such terms are its own all
//! the same: the response that CONFIG follows is sealed to whoever signed HELLO. So they stay, for the first frame that
//! comes in a later session.

use std::collections::VecDeque;

use super::slots::SlotKey;
use crate::ledger::UNPROVED_MAX;
use crate::work::Terms;

/// Those that live, [`UNPROVED_MAX`] of them, and as many that have ended; in the order in which they began.
#[derive(Default)]
pub(super) struct UnprovedSessions(VecDeque<Begun>);

struct Begun {
    terms: Terms,
    /// It came from where the gateway proved its last session.
    is_from_home: bool,
    /// None once it was told to end, or has ended.
    slot: Option<SlotKey>,
    /// When it ended, s since 1970.
    ended_s: Option<u64>,
}

impl UnprovedSessions {
    /// A session waits for its proof. The one that must end for it, where too many live: the oldest, so that nobody can keep
    /// the gateway out by holding all places. Those from elsewhere go before those from where the gateway proved itself last: what
    /// was recorded on its way is sent again from somewhere else, and may be faster than its own first frame.
    pub fn begin(&mut self, terms: Terms, slot: SlotKey, is_from_home: bool) -> Option<SlotKey> {
        let mut live: Vec<&mut Begun> = self.0.iter_mut().filter(|begun| begun.slot.is_some()).collect();
        let too_many = live.len() >= UNPROVED_MAX;
        let first = live.iter().position(|begun| !begun.is_from_home).unwrap_or(0);
        let displaced = live.get_mut(first).filter(|_| too_many);
        let displaced = displaced.and_then(|begun| begun.slot.take());
        self.0.push_back(Begun {
            terms,
            is_from_home,
            slot: Some(slot),
            ended_s: None,
        });
        displaced
    }

    /// This one is proved.
    pub fn prove(&mut self, prime_id: u32) {
        self.0.retain(|begun| begun.terms.prime_id != prime_id);
    }

    /// The terms of those that began before this one. `prime_id`s are given in their order.
    pub fn take_before(&mut self, prime_id: u32) -> Vec<Terms> {
        let (before, later) = std::mem::take(&mut self.0)
            .into_iter()
            .partition::<VecDeque<_>, _>(|begun| begun.terms.prime_id < prime_id);
        self.0 = later;
        before.into_iter().map(|begun| begun.terms).collect()
    }

    /// This one has ended; `told`: it had its CONFIG. Which of them goes for good, by `prime_id`: itself where no work can be
    /// made on it, or the oldest of too many.
    pub fn end(&mut self, prime_id: u32, told: bool, now_s: u64) -> Option<u32> {
        let at = self.0.iter().position(|begun| begun.terms.prime_id == prime_id)?;
        if !told {
            self.0.remove(at);
            return Some(prime_id);
        }
        self.0[at].slot = None;
        self.0[at].ended_s = Some(now_s);
        if self.0.iter().filter(|begun| begun.ended_s.is_some()).count() <= UNPROVED_MAX {
            return None;
        }
        let oldest = self.0.iter().position(|begun| begun.ended_s.is_some())?;
        self.0.remove(oldest).map(|begun| begun.terms.prime_id)
    }

    /// Lets go of those that ended before `since_s`, and says which.
    pub fn forget(&mut self, since_s: u64) -> Vec<u32> {
        let mut gone = Vec::new();
        self.0.retain(|begun| {
            let stays = begun.ended_s.is_none_or(|ended_s| ended_s >= since_s);
            if !stays {
                gone.push(begun.terms.prime_id);
            }
            stays
        });
        gone
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::MinDiff;

    const MOST: u32 = UNPROVED_MAX as u32;

    fn terms(prime_id: u32) -> Terms {
        Terms::new(prime_id, &[0x51], b"tag", MinDiff::from_pot(0).expect("a pot"))
    }

    fn slot(index: u32) -> SlotKey {
        SlotKey { index, generation: 0 }
    }

    fn begun(count: u32) -> UnprovedSessions {
        let mut sessions = UnprovedSessions::default();
        for prime_id in 1..=count {
            sessions.begin(terms(prime_id), slot(prime_id), false);
        }
        sessions
    }

    fn ids(terms: &[Terms]) -> Vec<u32> {
        terms.iter().map(|terms| terms.prime_id).collect()
    }

    #[test]
    fn of_too_many_that_live_the_oldest_ends_and_keeps_its_terms() {
        let mut sessions = begun(MOST);
        assert_eq!(sessions.begin(terms(MOST + 1), slot(MOST + 1), false), Some(slot(1)));
        // Another before the first has ended: its turn is over.
        assert_eq!(sessions.begin(terms(MOST + 2), slot(MOST + 2), false), Some(slot(2)));
        assert_eq!(sessions.end(1, true, 0), None);
        sessions.prove(3);
        assert_eq!(
            sessions.begin(terms(MOST + 3), slot(MOST + 3), false),
            None,
            "there is room"
        );
        assert_eq!(ids(&sessions.take_before(4)), [1, 2]);
    }

    #[test]
    fn terms_go_to_a_later_session_alone() {
        let mut sessions = begun(3);
        sessions.prove(2);
        assert_eq!(ids(&sessions.take_before(2)), [1]);
        assert_eq!(ids(&sessions.take_before(2)), [0; 0], "once");
        assert_eq!(ids(&sessions.take_before(4)), [3]);
        assert!(sessions.is_empty());
    }

    #[test]
    fn one_without_config_leaves_nothing_and_of_those_that_ended_the_oldest_go() {
        let mut sessions = begun(1);
        assert_eq!(sessions.end(1, false, 0), Some(1));
        assert_eq!(sessions.end(1, true, 0), None, "it is gone");
        for prime_id in 2..2 + MOST {
            sessions.begin(terms(prime_id), slot(prime_id), false);
            assert_eq!(sessions.end(prime_id, true, 0), None);
        }
        // One that lives is none of them.
        sessions.begin(terms(50), slot(50), false);
        sessions.begin(terms(51), slot(51), false);
        assert_eq!(sessions.end(51, true, 0), Some(2));
        assert_eq!(ids(&sessions.take_before(100)), [3, 4, 5, 50, 51]);
    }

    #[test]
    fn what_ended_is_kept_for_its_time_and_what_lives_stays() {
        let mut sessions = begun(3);
        sessions.end(1, true, 100);
        sessions.end(2, true, 200);
        assert_eq!(sessions.forget(100), [0; 0]);
        assert_eq!(sessions.forget(101), [1]);
        assert_eq!(sessions.forget(u64::MAX), [2]);
        assert_eq!(ids(&sessions.take_before(100)), [3]);
    }
}
