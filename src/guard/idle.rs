//! Sessions that never had a share accepted, and which of them makes room where there is none.
//!
//! A session costs its holder a HELLO and a small frame now and then. Were newcomers turned away where all places are taken,
//! whoever has some dozen addresses would keep every gateway out that reconnects. So one of these sessions goes for the
//! newcomer: of the address that has most of them the oldest. Whoever holds many places makes room first, and by as many as it
//! holds more than others do. One that has mined never goes: its place was paid for with work.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::subject::Subject;

/// How long a session stays that has no share yet. An honest gateway has its first within seconds, as the least difficulty of a pool
/// and the pace it is steered to want it; one of a single small miner, or one whose node is still syncing, takes minutes. Who has
/// none by then loses nothing by it: it comes back as a newcomer, and its work on the CONFIG it had still counts.
const GRACE_MS: u64 = 300_000;

/// The same where its address has more than [`FEW`] such sessions. A site whose gateways come back together needs no more for most
/// of them, and whoever renews its sessions so that none grows old has to make ten times as many handshakes.
const CROWD_GRACE_MS: u64 = 30_000;

/// Idle sessions of one address that are nothing unusual.
const FEW: usize = 16;

/// The sessions of a shard that never had a share accepted. `S` is what ends one.
#[derive(Debug)]
pub struct IdleSessions<S> {
    /// Of each address in the order in which they began.
    begun: BTreeMap<IdleKey, Begun<S>>,
    /// How many each address has; none has none.
    counts: HashMap<Subject, usize>,
    /// The addresses by how many they have; of equals the one with the oldest session comes last.
    ranks: BTreeSet<Rank>,
    /// Counts those that begin.
    next: u64,
}

/// One of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct IdleKey {
    subject: Subject,
    number: u64,
}

#[derive(Debug)]
struct Begun<S> {
    session: S,
    at_ms: u64,
}

/// How many, and the number of the oldest.
type Rank = (usize, Reverse<u64>, Subject);

impl<S> Default for IdleSessions<S> {
    fn default() -> Self {
        Self {
            begun: BTreeMap::new(),
            counts: HashMap::new(),
            ranks: BTreeSet::new(),
            next: 0,
        }
    }
}

impl<S> IdleSessions<S> {
    /// A session of this address begins.
    pub fn begin(&mut self, subject: Subject, session: S, now_ms: u64) -> IdleKey {
        let key = IdleKey {
            subject,
            number: self.next,
        };
        self.next += 1;
        let begun = Begun { session, at_ms: now_ms };
        self.change(subject, |all| {
            all.begun.insert(key, begun);
            *all.counts.entry(subject).or_default() += 1;
        });
        key
    }

    /// It has ended, has mined, or was told to go. None where it was none of these any more.
    pub fn remove(&mut self, key: IdleKey) -> Option<S> {
        if !self.begun.contains_key(&key) {
            return None;
        }
        let mut removed = None;
        self.change(key.subject, |all| {
            removed = all.begun.remove(&key);
            match all.counts.get_mut(&key.subject) {
                Some(count) if *count > 1 => *count -= 1,
                _ => drop(all.counts.remove(&key.subject)),
            }
        });
        removed.map(|begun| begun.session)
    }

    /// The one that goes next: of the address that has most, and one that is old enough, the oldest. None where all are young.
    ///
    /// Of addresses that have equally many only the one with the oldest is looked at. There are no more different numbers than the
    /// root of twice the sessions: 200 where a shard has 20,000.
    #[must_use]
    pub fn first_to_go(&self, now_ms: u64) -> Option<(IdleKey, &S)> {
        let mut fewer_than = usize::MAX;
        loop {
            let least_of_these = (fewer_than, Reverse(u64::MAX), Subject::V4(0));
            let (count, Reverse(number), subject) = *self.ranks.range(..least_of_these).next_back()?;
            let key = IdleKey { subject, number };
            let oldest = &self.begun[&key];
            let grace_ms = if count > FEW { CROWD_GRACE_MS } else { GRACE_MS };
            if now_ms.saturating_sub(oldest.at_ms) >= grace_ms {
                return Some((key, &oldest.session));
            }
            fewer_than = count;
        }
    }

    #[must_use]
    pub fn len(&self) -> usize {
        self.begun.len()
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.begun.is_empty()
    }

    /// Changes what one address has, and its rank with it.
    fn change(&mut self, subject: Subject, change: impl FnOnce(&mut Self)) {
        if let Some(rank) = self.rank(subject) {
            self.ranks.remove(&rank);
        }
        change(self);
        if let Some(rank) = self.rank(subject) {
            self.ranks.insert(rank);
        }
    }

    fn rank(&self, subject: Subject) -> Option<Rank> {
        let of_its_own = IdleKey { subject, number: 0 }..=IdleKey {
            subject,
            number: u64::MAX,
        };
        let (oldest, _) = self.begun.range(of_its_own).next()?;
        Some((self.counts[&subject], Reverse(oldest.number), subject))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn goes(sessions: &IdleSessions<u32>, now_ms: u64) -> Option<u32> {
        sessions.first_to_go(now_ms).map(|(_, session)| *session)
    }

    /// Tells the first to go that it must.
    fn pop(sessions: &mut IdleSessions<u32>, now_ms: u64) -> Option<u32> {
        let key = sessions.first_to_go(now_ms)?.0;
        sessions.remove(key)
    }

    fn address(n: u32) -> Subject {
        Subject::V4(n)
    }

    #[test]
    fn of_the_address_that_has_most_the_oldest_goes() {
        let mut sessions = IdleSessions::default();
        for session in 0..3 {
            sessions.begin(address(1), session, 0);
        }
        for session in 10..15 {
            sessions.begin(address(2), session, 1);
        }
        sessions.begin(address(3), 20, 2);
        let gone: Vec<u32> = std::iter::from_fn(|| pop(&mut sessions, 2 * GRACE_MS)).collect();
        // Whoever has most until it has no more than others, then in turn; of equals the one with the oldest.
        assert_eq!(gone, [10, 11, 0, 12, 1, 13, 2, 14, 20]);
        assert!(sessions.is_empty() && sessions.counts.is_empty() && sessions.ranks.is_empty());
    }

    #[test]
    fn nobody_goes_before_it_had_time_to_begin() {
        let mut sessions = IdleSessions::default();
        sessions.begin(address(1), 1, 100);
        assert_eq!(goes(&sessions, 99 + GRACE_MS), None);
        assert_eq!(goes(&sessions, 100 + GRACE_MS), Some(1));
        // Another address has more, and all of them are younger.
        sessions.begin(address(2), 2, 101);
        sessions.begin(address(2), 3, 101);
        assert_eq!(goes(&sessions, 100 + GRACE_MS), Some(1));
        assert_eq!(goes(&sessions, 101 + GRACE_MS), Some(2));
    }

    #[test]
    fn whoever_has_many_has_less_time() {
        let mut sessions = IdleSessions::default();
        sessions.begin(address(1), 0, 0);
        let few = u32::try_from(FEW).expect("few");
        for session in 1..=few {
            sessions.begin(address(2), session, 100);
        }
        assert_eq!(goes(&sessions, 100 + CROWD_GRACE_MS), None);
        let last = sessions.begin(address(2), few + 1, 100 + CROWD_GRACE_MS);
        assert_eq!(goes(&sessions, 100 + CROWD_GRACE_MS), Some(1), "the oldest");
        assert_eq!(sessions.remove(last), Some(few + 1));
        assert_eq!(sessions.remove(last), None, "once");
        assert_eq!(goes(&sessions, 100 + CROWD_GRACE_MS), None);
    }

    proptest! {
        /// Whatever begins and ends, it is the one that a look at all of them finds.
        #[test]
        fn the_first_is_what_a_look_at_all_finds(acts in prop::collection::vec((0_u32..6, 0_usize..40, 0_u64..40_000), 0..200)) {
            let mut sessions = IdleSessions::default();
            let mut live: Vec<(IdleKey, u64)> = Vec::new();
            let mut now_ms = 0;
            for (of, at, passes_ms) in acts {
                now_ms += passes_ms;
                if at < live.len() && at % 3 == 0 {
                    let (key, _) = live.remove(at);
                    prop_assert!(sessions.remove(key).is_some());
                } else {
                    live.push((sessions.begin(address(of), 0, now_ms), now_ms));
                }
                let count = |of: Subject| live.iter().filter(|(key, _)| key.subject == of).count();
                let is_old = |key: &IdleKey, at_ms: u64| {
                    now_ms - at_ms >= if count(key.subject) > FEW { CROWD_GRACE_MS } else { GRACE_MS }
                };
                let old = live.iter().filter(|(key, at_ms)| is_old(key, *at_ms));
                let expected = old.max_by_key(|(key, _)| (count(key.subject), Reverse(key.number)));
                prop_assert_eq!(sessions.first_to_go(now_ms).map(|(key, _)| key), expected.map(|(key, _)| *key));
                prop_assert_eq!(sessions.len(), live.len());
            }
        }
    }
}
