//! Sessions of one gateway that have begun and that nobody has proved.
//!
//! A gateway mines on a CONFIG before it says anything, and its connection may break before that. Such terms are its own all
//! the same: the response that CONFIG follows is sealed to whoever signed HELLO. So they stay, for the first frame that
//! comes in a later session.

use std::cmp::Reverse;
use std::collections::VecDeque;
use std::net::IpAddr;

use super::slots::SlotKey;
use crate::guard::Subject;
use crate::ledger::UNPROVED_MAX;
use crate::wire::ChannelKey;
use crate::work::Terms;

/// Sessions of one gateway that live and wait for a proof: those from one address, and all of them. A gateway has one
/// connection at a time; others are of those that broke, or somebody sends again what was recorded of it.
pub const LIVE_OF_ADDRESS_MAX: usize = UNPROVED_MAX;
pub const LIVE_MAX: usize = 16;

/// Channel keys of them that are tried on early frames: each costs a look at the whole frame.
pub const KEYS_TRIED_MAX: usize = UNPROVED_MAX;

/// Those that live, and [`UNPROVED_MAX`] that have ended; in the order in which they began.
#[derive(Default)]
pub(super) struct UnprovedSessions(VecDeque<Begun>);

/// A session that begins.
pub(super) struct Newcomer {
    pub slot: SlotKey,
    pub terms: Terms,
    pub key: ChannelKey,
    pub from: IpAddr,
}

struct Begun {
    terms: Terms,
    /// In a box, so that no copy of it stays behind in the queue.
    key: Box<ChannelKey>,
    from: Subject,
    /// None once it was told to end, or has ended.
    slot: Option<SlotKey>,
    /// When it ended, s since 1970.
    ended_s: Option<u64>,
}

impl UnprovedSessions {
    /// A session waits for its proof. The one that must end for it, where too many live: of its own address, or of the one that
    /// has most, the oldest. So whoever sends again from one address what was recorded ends nobody's session but its own, and
    /// nobody keeps the gateway out by holding all places. `home` is where the gateway proved itself last: it goes after all
    /// others.
    pub fn begin(&mut self, newcomer: Newcomer, home: Option<IpAddr>) -> Option<SlotKey> {
        let from = newcomer.from.into();
        let displaced = self.crowded(from, home.map(Subject::from)).and_then(|crowded| {
            let mut live = self.0.iter_mut().filter(|begun| begun.slot.is_some());
            live.find(|begun| begun.from == crowded)?.slot.take()
        });
        self.0.push_back(Begun {
            terms: newcomer.terms,
            key: Box::new(newcomer.key),
            from,
            slot: Some(newcomer.slot),
            ended_s: None,
        });
        displaced
    }

    /// The address that has too many, should another come from there.
    fn crowded(&self, from: Subject, home: Option<Subject>) -> Option<Subject> {
        let live: Vec<Subject> = self
            .0
            .iter()
            .filter(|begun| begun.slot.is_some())
            .map(|begun| begun.from)
            .collect();
        let count = |of: Subject| live.iter().filter(|from| **from == of).count();
        if count(from) >= LIVE_OF_ADDRESS_MAX {
            return Some(from);
        }
        // Of equals the last: the one whose session is the oldest.
        let most = live.iter().rev().max_by_key(|of| (Some(**of) != home, count(**of)));
        most.filter(|_| live.len() >= LIVE_MAX).copied()
    }

    /// The channel keys under which early frames of the gateway may come, the likeliest first: those of sessions from `home`,
    /// then the newest. No HELLO from elsewhere takes the place of one from there.
    pub fn keys(&self, home: Option<IpAddr>) -> impl Iterator<Item = &ChannelKey> {
        let home = home.map(Subject::from);
        let mut begun: Vec<&Begun> = self.0.iter().collect();
        begun.sort_by_key(|begun| (Some(begun.from) != home, Reverse(begun.terms.prime_id)));
        begun.into_iter().take(KEYS_TRIED_MAX).map(|begun| &*begun.key)
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

    pub fn has(&self, prime_id: u32) -> bool {
        self.0.iter().any(|begun| begun.terms.prime_id == prime_id)
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

    fn address(last: u8) -> IpAddr {
        [127, 0, 0, last].into()
    }

    const HOME: Option<IpAddr> = Some(IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 200)));

    fn begin_from(sessions: &mut UnprovedSessions, prime_id: u32, from: IpAddr) -> Option<SlotKey> {
        let newcomer = Newcomer {
            slot: slot(prime_id),
            terms: terms(prime_id),
            key: ChannelKey::from_bytes([u8::try_from(prime_id).expect("few"); 32]),
            from,
        };
        sessions.begin(newcomer, HOME)
    }

    fn begin(sessions: &mut UnprovedSessions, prime_id: u32) -> Option<SlotKey> {
        begin_from(sessions, prime_id, address(1))
    }

    fn begun(count: u32) -> UnprovedSessions {
        let mut sessions = UnprovedSessions::default();
        for prime_id in 1..=count {
            begin(&mut sessions, prime_id);
        }
        sessions
    }

    fn keys(sessions: &UnprovedSessions) -> Vec<u8> {
        sessions.keys(HOME).map(|key| key.as_bytes()[0]).collect()
    }

    fn ids(terms: &[Terms]) -> Vec<u32> {
        terms.iter().map(|terms| terms.prime_id).collect()
    }

    #[test]
    fn of_too_many_that_live_the_oldest_ends_and_keeps_its_terms() {
        let mut sessions = begun(MOST);
        assert_eq!(begin(&mut sessions, MOST + 1), Some(slot(1)));
        // Another before the first has ended: its turn is over.
        assert_eq!(begin(&mut sessions, MOST + 2), Some(slot(2)));
        assert_eq!(sessions.end(1, true, 0), None);
        sessions.prove(3);
        assert_eq!(begin(&mut sessions, MOST + 3), None, "there is room");
        assert_eq!(ids(&sessions.take_before(4)), [1, 2]);
    }

    #[test]
    fn whoever_comes_from_one_address_ends_no_session_but_its_own() {
        let mut sessions = UnprovedSessions::default();
        assert_eq!(begin_from(&mut sessions, 1, address(9)), None);
        for prime_id in 2..=1 + MOST {
            assert_eq!(begin(&mut sessions, prime_id), None);
        }
        for prime_id in 2 + MOST..40 {
            assert_eq!(begin(&mut sessions, prime_id), Some(slot(prime_id - MOST)));
        }
    }

    #[test]
    fn of_many_addresses_the_one_with_most_makes_room_then_the_oldest_and_home_last() {
        let mut sessions = UnprovedSessions::default();
        let most = u32::try_from(LIVE_MAX).expect("few");
        let from = |prime_id: u32| address(u8::try_from(prime_id).expect("few"));
        begin_from(&mut sessions, 1, HOME.expect("it has one"));
        for prime_id in 2..most {
            assert_eq!(begin_from(&mut sessions, prime_id, from(prime_id)), None);
        }
        // Address 7 has two, and makes room for the next.
        assert_eq!(begin_from(&mut sessions, most, from(7)), None);
        assert_eq!(begin_from(&mut sessions, 17, from(17)), Some(slot(7)));
        for prime_id in 18..30 {
            let displaced = begin_from(&mut sessions, prime_id, from(prime_id)).expect("there are too many");
            assert!(displaced != slot(1) && displaced.index < prime_id - 10, "{displaced:?}");
        }
        // Where the gateway itself is the newcomer, it is let in as well.
        assert!(begin_from(&mut sessions, 31, HOME.expect("it has one")).is_some());
        let ids = ids(&sessions.take_before(100));
        assert!(ids.contains(&1) && ids.contains(&31));
    }

    #[test]
    fn keys_are_those_from_home_and_the_newest_of_others_and_few() {
        let mut sessions = UnprovedSessions::default();
        begin_from(&mut sessions, 1, HOME.expect("it has one"));
        assert_eq!(keys(&sessions), [1]);
        for prime_id in 2..20 {
            begin(&mut sessions, prime_id);
        }
        assert_eq!(keys(&sessions), [1, 19, 18, 17]);
        sessions.end(19, true, 0);
        sessions.end(18, false, 0);
        assert_eq!(
            keys(&sessions),
            [1, 19, 17, 16],
            "work may come on one that ended, where it had CONFIG"
        );
        sessions.forget(u64::MAX);
        assert_eq!(keys(&sessions)[..2], [1, 17]);
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
            begin(&mut sessions, prime_id);
            assert_eq!(sessions.end(prime_id, true, 0), None);
        }
        // One that lives is none of them.
        begin(&mut sessions, 50);
        begin(&mut sessions, 51);
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
