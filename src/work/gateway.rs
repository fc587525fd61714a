//! What outlives the sessions of one gateway: its terms, the parents it named, its duplicates, and what was found of its
//! templates.

mod reload;

use std::collections::VecDeque;

use self::reload::Reload;
pub use self::reload::{RELOADS_PER_GATEWAY, ReloadWanted};
use super::duplicates::{DUPLICATES_MAX, Duplicates};
use super::findings::TemplateFindings;
use super::judge::{WorkBound, hash64};
use super::miners::{MINER_EACH_S, MINERS_PER_GATEWAY_MAX};
use super::split::{Dictated, PinnedSplit};
use super::splits::Splits;
use super::terms::{MinDiff, Terms};

/// Terms kept per gateway. What comes past it lets the oldest go, whose work is then refused by reason 28.
pub const TERMS_MAX: usize = 64;

/// Parents of one gateway whose duplicates are remembered: the last ones it named. On the dev chain no others are accepted.
pub const PARENTS_ACCEPTED: usize = 4;

/// The same while a node has that many current at a time, which takes as many blocks within one grace. Past it the last
/// named goes.
pub const PARENTS_CURRENT_MAX: usize = 16;

/// Parents remembered as stale, so that none becomes current again as if it were new with its duplicates forgotten. At the
/// bound new parents are refused; a gateway that starts anew begins with none.
pub const STALE_PARENTS_MAX: usize = 65_536;

/// Candidates of one gateway that are not reported again when they are sent again: one block must not fill the disk.
const CANDIDATES_REMEMBERED: usize = 64;

/// The memory of one gateway.
#[derive(Debug, Clone, Default)]
pub struct GatewayMemory {
    /// Oldest first.
    terms: VecDeque<KnownTerms>,
    /// How many were ever learnt.
    terms_learnt: u64,
    /// How many had been when a parent was last forgotten, and its duplicates with it.
    terms_when_forgotten: u64,
    /// The last named first.
    parents: Vec<Parent>,
    /// By the first 8 bytes, as shares are known: two parents that agree in them would take a gateway more work than
    /// it has, and it alone would lose by it.
    stale: Duplicates,
    shares: usize,
    /// A share of it was ever accepted.
    has_work: bool,
    /// Terms that went and that no share names, by `prime_id`.
    unnamed: Vec<u32>,
    miners: MinersBrought,
    /// Oldest first.
    candidates: VecDeque<[u8; 32]>,
    pub(super) splits: Splits,
    pub templates: TemplateFindings,
}

/// Usernames that came first by a gateway, but those that are forgiven: one each [`MINER_EACH_S`].
#[derive(Debug, Clone, Copy, Default)]
struct MinersBrought {
    count: u32,
    /// Up to when some were forgiven, s since 1970.
    at_s: u64,
}

#[derive(Debug, Clone)]
pub(super) struct KnownTerms {
    pub terms: Terms,
    /// Counts a gateway's terms, from 0.
    pub number: u64,
    /// When their session ended, or the next ones took their place, s since 1970; none for those in force.
    superseded_s: Option<u64>,
    /// A share under them was accepted, or their session may be proved yet.
    is_named: bool,
}

#[derive(Debug, Clone)]
struct Parent {
    hash: [u8; 32],
    duplicates: Duplicates,
    /// The first terms under which work on it counts, by number: where it was forgotten once, those that came after, until its
    /// duplicates have been read back. No share under these can have been taken before, since each has the `prime_id` of its
    /// terms in it.
    first_terms: u64,
    reload: Reload,
}

impl MinersBrought {
    fn forgiven(self, now_s: u64) -> Self {
        let times = now_s.saturating_sub(self.at_s) / MINER_EACH_S;
        match u32::try_from(times) {
            Ok(times) if times < self.count => Self {
                count: self.count - times,
                at_s: self.at_s + u64::from(times) * MINER_EACH_S,
            },
            _ => Self { count: 0, at_s: now_s },
        }
    }
}

impl GatewayMemory {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// New terms come into force at `now_s`. Work under older ones stays good until [`Self::forget_terms`]. True where
    /// the oldest had to go for them, at [`TERMS_MAX`].
    pub fn learn_terms(&mut self, terms: Terms, now_s: u64) -> bool {
        self.end_terms(now_s);
        let full = self.terms.len() == TERMS_MAX;
        if full {
            self.let_oldest_go();
        }
        self.terms.push_back(KnownTerms {
            terms,
            number: self.terms_learnt,
            superseded_s: None,
            is_named: false,
        });
        self.terms_learnt += 1;
        full
    }

    /// The session of the terms in force has ended, or other terms take their place.
    pub fn end_terms(&mut self, now_s: u64) {
        for known in &mut self.terms {
            known.superseded_s.get_or_insert(now_s);
        }
    }

    /// The session of these terms goes on after all; false where they are not known.
    pub fn resume_terms(&mut self, prime_id: u32) -> bool {
        let known = self.terms.iter_mut().find(|known| known.terms.prime_id == prime_id);
        known.is_some_and(|known| {
            known.superseded_s = None;
            true
        })
    }

    fn let_oldest_go(&mut self) {
        let gone = self.terms.pop_front().filter(|oldest| !oldest.is_named);
        self.unnamed.extend(gone.map(|oldest| oldest.terms.prime_id));
    }

    /// A share under these terms was accepted, in this process or one before.
    pub fn note_work(&mut self, prime_id: u32) {
        self.has_work = true;
        self.note_named(prime_id);
    }

    /// What the ledger has of the session of these terms is needed for longer than they are known.
    pub fn note_named(&mut self, prime_id: u32) {
        // The newest are the ones in use.
        let mut newest_first = self.terms.iter_mut().rev();
        if let Some(known) = newest_first.find(|known| known.terms.prime_id == prime_id) {
            known.is_named = true;
        }
    }

    /// Terms that are not known any more and that no share was accepted under, by `prime_id`; each once.
    pub fn take_unnamed(&mut self) -> Vec<u32> {
        std::mem::take(&mut self.unnamed)
    }

    /// Those that it learnt last.
    #[must_use]
    pub fn newest_terms(&self) -> Option<&Terms> {
        self.terms.back().map(|last| &last.terms)
    }

    /// The least difficulty that the gateway was told last; none where it never was.
    #[must_use]
    pub fn min_diff(&self) -> Option<MinDiff> {
        self.newest_terms().map(|terms| terms.min_diff)
    }

    /// The lowest of those that were in force at `since_s` or later; none where it was never told any.
    #[must_use]
    pub fn min_diff_since(&self, since_s: u64) -> Option<MinDiff> {
        let in_force = |known: &&KnownTerms| known.superseded_s.is_none_or(|superseded_s| superseded_s >= since_s);
        let told = self.terms.iter().filter(in_force);
        told.map(|known| known.terms.min_diff).min()
    }

    /// A split was dictated. Work that pays it is good for [`super::SPLIT_GOOD_FOR_S`]. True where the oldest had to go
    /// for it, at [`super::SPLITS_MAX`].
    pub fn learn_split(&mut self, dictated: Dictated) -> bool {
        self.splits.learn(dictated)
    }

    /// A split was dictated that was good too long ago; call in the order of time, before [`Self::learn_split`].
    pub fn learn_expired_split(&mut self, value: u64, parent: [u8; 32], time_s: u64, split: PinnedSplit) {
        self.splits.learn_expired(value, parent, time_s, split);
    }

    /// Splits that are good, and those that were until lately.
    #[cfg(test)]
    pub(crate) fn splits_known(&self) -> (usize, usize) {
        self.splits.known()
    }

    /// Lets go of the splits, and with them of the books of then, that work may not pay any more.
    pub fn forget_splits(&mut self, now_s: u64) {
        self.splits.expire(now_s);
    }

    /// Whether a share of it was ever accepted.
    #[must_use]
    pub fn has_work(&self) -> bool {
        self.has_work
    }

    /// A share of a username that its shard did not know was accepted, and the name was numbered.
    pub fn learn_miner(&mut self, now_s: u64) {
        self.miners = self.miners.forgiven(now_s);
        self.miners.count += 1;
    }

    /// Whether another username may come first by this gateway.
    pub(super) fn may_bring_a_miner(&self, now_s: u64) -> bool {
        self.miners.forgiven(now_s).count < MINERS_PER_GATEWAY_MAX
    }

    /// Lets go of the terms that were in force until before `since_s`.
    pub fn forget_terms(&mut self, since_s: u64) {
        while self
            .terms
            .front()
            .is_some_and(|oldest| oldest.superseded_s.is_some_and(|superseded_s| superseded_s < since_s))
        {
            self.let_oldest_go();
        }
    }

    /// The gateway is forgotten: no terms of it are known any more, those in force neither.
    pub fn forget_all_terms(&mut self) {
        while !self.terms.is_empty() {
            self.let_oldest_go();
        }
    }

    /// Reads a share back that the ledger holds. Call in the order they were accepted, for every share that could come
    /// again: its `prime_id` is among the terms learned, and its time may still be good.
    ///
    /// Only the first share on a parent names it: later ones did not when they came. A job that came again, or of which no share
    /// was accepted, named its parent too, and the ledger does not know; so where the gateway's parents decide what is stale (the
    /// dev chain) a start goes by accepted shares alone. None counts twice by that: all that could come again is read back.
    ///
    /// # Errors
    /// A bound was hit. The share is not remembered, and cannot count again.
    pub fn restore_share(&mut self, parent: &[u8; 32], hash: u64) -> Result<(), WorkBound> {
        if !self.accepts_parent(parent) {
            self.name_parent(parent)?;
        }
        // There was room when it was accepted: made by parents on which the ledger has no share.
        while self.shares >= DUPLICATES_MAX
            && self.accepts_parent(parent)
            && let Some(oldest) = self.parents.iter().rposition(|known| known.hash != *parent)
        {
            self.retire_parent(oldest)?;
        }
        self.take(parent, hash).map(|_| ())
    }

    /// Whether work under this `prime_id` still counts.
    #[must_use]
    pub fn has_terms(&self, prime_id: u32) -> bool {
        self.terms(prime_id).is_some()
    }

    /// Whether this share is remembered as taken.
    #[must_use]
    pub fn has_share(&self, parent: &[u8; 32], hash: u64) -> bool {
        self.parents
            .iter()
            .any(|known| known.hash == *parent && known.duplicates.contains(hash))
    }

    /// Whether work under this `prime_id` may be refused on a parent that the chain came back to, where its duplicates cannot
    /// be read back. Under new terms it counts.
    #[must_use]
    pub fn needs_new_terms(&self, prime_id: u32) -> bool {
        self.terms(prime_id)
            .is_some_and(|(known, _)| known.number < self.terms_when_forgotten)
    }

    /// Whether it has mined of late: a share of it was accepted on one of the parents that are remembered.
    #[must_use]
    pub fn has_mined(&self) -> bool {
        self.shares > 0
    }

    /// Bytes on the heap that shares and parents take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let duplicates: usize = self.parents.iter().map(|parent| parent.duplicates.bytes()).sum();
        duplicates + self.bytes_without_work()
    }

    /// Of these, the ones that no accepted share stands behind: naming a parent costs a gateway nothing.
    #[must_use]
    pub fn bytes_without_work(&self) -> usize {
        self.stale.bytes() + self.candidates.capacity() * size_of::<[u8; 32]>() + self.templates.bytes()
    }

    /// The terms that `prime_id` names, and the lowest pot in force from them until now.
    pub(super) fn terms(&self, prime_id: u32) -> Option<(&KnownTerms, u8)> {
        // The newest are the ones in use.
        let mut lowest_pot = u8::MAX;
        for known in self.terms.iter().rev() {
            lowest_pot = lowest_pot.min(known.terms.min_diff.pot());
            if known.terms.prime_id == prime_id {
                return Some((known, lowest_pot));
            }
        }
        None
    }

    /// A job names its parent, and its gateway alone decides what is current: from now on this one, and the fifth last
    /// becomes stale for good.
    pub(super) fn name_parent(&mut self, hash: &[u8; 32]) -> Result<(), WorkBound> {
        self.name_parent_where(hash, |_| false)
    }

    /// The same where a node may say which are current. These stay, whatever else the gateway names; and one that was
    /// forgotten while it was not is remembered anew when the chain comes back to it, for work under later terms alone until
    /// its duplicates have been read back.
    pub(super) fn name_parent_where(
        &mut self,
        hash: &[u8; 32],
        is_current: impl Fn(&[u8; 32]) -> bool,
    ) -> Result<(), WorkBound> {
        if let Some(at) = self.parents.iter().position(|parent| parent.hash == *hash) {
            self.parents[..=at].rotate_right(1);
            return Ok(());
        }
        let was_forgotten = self.stale.contains(hash64(hash));
        if was_forgotten && !is_current(hash) {
            return Ok(());
        }
        while self.parents.len() >= PARENTS_ACCEPTED {
            match self.parents.iter().rposition(|parent| !is_current(&parent.hash)) {
                Some(oldest) => self.retire_parent(oldest)?,
                None if self.parents.len() < PARENTS_CURRENT_MAX => break,
                None => self.retire_parent(self.parents.len() - 1)?,
            }
        }
        let parent = Parent {
            hash: *hash,
            duplicates: Duplicates::default(),
            first_terms: if was_forgotten { self.terms_when_forgotten } else { 0 },
            reload: if was_forgotten { Reload::Due } else { Reload::Done },
        };
        self.parents.insert(0, parent);
        Ok(())
    }

    fn retire_parent(&mut self, at: usize) -> Result<(), WorkBound> {
        if self.stale.len() >= STALE_PARENTS_MAX {
            return Err(WorkBound::StaleParents);
        }
        let retired = self.parents.remove(at);
        self.shares -= retired.duplicates.len();
        self.stale.insert(hash64(&retired.hash));
        self.terms_when_forgotten = self.terms_learnt;
        Ok(())
    }

    pub(super) fn accepts_parent(&self, hash: &[u8; 32]) -> bool {
        self.first_terms_on(hash).is_some()
    }

    /// The number of the first terms under which work on this parent counts; none where it is stale.
    pub(super) fn first_terms_on(&self, hash: &[u8; 32]) -> Option<u64> {
        let known = self.parents.iter().find(|parent| parent.hash == *hash)?;
        Some(known.first_terms)
    }

    /// Remembers a share. False where it was taken before; on a parent that is not accepted none is new.
    pub(super) fn take(&mut self, parent: &[u8; 32], hash: u64) -> Result<bool, WorkBound> {
        let Some(parent) = self.parents.iter_mut().find(|known| known.hash == *parent) else {
            return Ok(false);
        };
        if self.shares >= DUPLICATES_MAX {
            return if parent.duplicates.contains(hash) {
                Ok(false)
            } else {
                Err(WorkBound::Duplicates)
            };
        }
        let new = parent.duplicates.insert(hash);
        self.shares += usize::from(new);
        Ok(new)
    }

    /// Whether a candidate is to be reported: not where it was lately.
    pub(super) fn is_new_candidate(&mut self, hash: &[u8; 32]) -> bool {
        if self.candidates.contains(hash) {
            return false;
        }
        if self.candidates.len() == CANDIDATES_REMEMBERED {
            self.candidates.pop_front();
        }
        self.candidates.push_back(*hash);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(prime_id: u32, pot: u8) -> Terms {
        Terms::new(prime_id, &[0x51], b"tag", MinDiff::from_pot(pot).expect("a pot"))
    }

    #[test]
    fn the_lowest_pot_since_the_terms_named_counts() {
        let mut memory = GatewayMemory::new();
        for (prime_id, pot) in [(1, 10), (2, 5), (3, 8)] {
            memory.learn_terms(terms(prime_id, pot), 100);
        }
        let lowest = |prime_id| memory.terms(prime_id).map(|(known, pot)| (known.terms.prime_id, pot));
        assert_eq!(lowest(1), Some((1, 5)));
        assert_eq!(lowest(2), Some((2, 5)));
        assert_eq!(lowest(3), Some((3, 8)));
        assert_eq!(lowest(4), None);
    }

    #[test]
    fn the_lowest_difficulty_of_late_is_that_of_terms_that_were_in_force() {
        let mut memory = GatewayMemory::new();
        assert_eq!(memory.min_diff_since(0), None);
        for (prime_id, pot, now_s) in [(1, 5, 0), (2, 8, 100), (3, 9, 200)] {
            memory.learn_terms(terms(prime_id, pot), now_s);
        }
        let since = |since_s| memory.min_diff_since(since_s).map(MinDiff::pot);
        assert_eq!([100, 101, 201].map(since), [5, 8, 9].map(Some));
    }

    #[test]
    fn superseded_terms_are_forgotten_in_time_and_those_in_force_never() {
        let mut memory = GatewayMemory::new();
        memory.learn_terms(terms(1, 0), 100);
        memory.learn_terms(terms(2, 0), 200);
        memory.forget_terms(200);
        assert!(memory.terms(1).is_some());
        memory.forget_terms(201);
        assert!(memory.terms(1).is_none());
        memory.forget_terms(u64::MAX);
        assert!(memory.terms(2).is_some());
        let full = 2 + u32::try_from(TERMS_MAX).expect("small");
        for prime_id in 3..full {
            assert!(!memory.learn_terms(terms(prime_id, 0), 300), "there is room");
        }
        assert!(memory.terms(2).is_some());
        assert!(memory.learn_terms(terms(full, 0), 300), "the oldest goes");
        assert!(memory.terms(2).is_none() && memory.terms(3).is_some());
    }

    #[test]
    fn terms_are_good_for_as_long_after_their_session_has_ended_as_after_others_took_their_place() {
        let mut memory = GatewayMemory::new();
        memory.learn_terms(terms(1, 0), 100);
        memory.end_terms(200);
        // Other terms come later: that gives these no more time.
        memory.learn_terms(terms(2, 0), 300);
        memory.forget_terms(200);
        assert!(memory.has_terms(1));
        memory.forget_terms(201);
        assert!(!memory.has_terms(1));
        memory.end_terms(400);
        assert!(memory.resume_terms(2) && !memory.resume_terms(1));
        memory.forget_terms(u64::MAX);
        assert!(memory.has_terms(2), "its session goes on");
        memory.end_terms(500);
        memory.forget_terms(501);
        assert!(!memory.has_terms(2));
    }

    #[test]
    fn terms_that_go_are_told_once_where_no_share_names_them() {
        let mut memory = GatewayMemory::new();
        for prime_id in 1..=4 {
            memory.learn_terms(terms(prime_id, 0), 100);
        }
        memory.note_named(2);
        assert!(!memory.has_work());
        memory.note_work(3);
        assert!(memory.has_work());
        memory.forget_terms(101);
        assert_eq!(memory.take_unnamed(), [1]);
        memory.forget_all_terms();
        assert_eq!(memory.take_unnamed(), [4]);
        assert_eq!(memory.take_unnamed(), [0; 0]);
    }

    #[test]
    fn a_stale_parent_stays_stale() {
        let mut memory = GatewayMemory::new();
        for parent in 0..6_u8 {
            memory.name_parent(&[parent; 32]).expect("room");
        }
        for parent in 0..2 {
            memory.name_parent(&[parent; 32]).expect("room");
            assert!(!memory.accepts_parent(&[parent; 32]));
        }
        for parent in 2..6 {
            assert!(memory.accepts_parent(&[parent; 32]));
        }
        // Named again, the oldest is the newest: 3 goes next.
        memory.name_parent(&[2; 32]).expect("room");
        memory.name_parent(&[6; 32]).expect("room");
        assert!(memory.accepts_parent(&[2; 32]));
        assert!(!memory.accepts_parent(&[3; 32]));
    }

    #[test]
    fn what_a_node_has_current_stays_and_what_it_comes_back_to_counts_under_new_terms() {
        let mut memory = GatewayMemory::new();
        memory.learn_terms(terms(1, 0), 100);
        let name = |memory: &mut GatewayMemory, parent: u8, current: &[u8]| {
            let named = memory.name_parent_where(&[parent; 32], |hash| current.contains(&hash[0]));
            named.expect("room");
        };
        name(&mut memory, 1, &[1]);
        assert_eq!(memory.take(&[1; 32], 7), Ok(true));
        // The gateway names what it likes: the tip and its duplicates stay.
        for parent in 20..30 {
            name(&mut memory, parent, &[1]);
        }
        assert_eq!(memory.take(&[1; 32], 7), Ok(false));
        assert_eq!(memory.first_terms_on(&[1; 32]), Some(0));
        assert_eq!(memory.parents.len(), PARENTS_ACCEPTED);
        // The chain goes on, the parent is forgotten, and the chain comes back.
        for parent in 2..=5 {
            name(&mut memory, parent, &[parent]);
        }
        name(&mut memory, 1, &[5]);
        assert!(!memory.accepts_parent(&[1; 32]), "it is stale");
        name(&mut memory, 1, &[1]);
        let number = |memory: &GatewayMemory, prime_id| memory.terms(prime_id).expect("known").0.number;
        assert!(memory.first_terms_on(&[1; 32]) > Some(number(&memory, 1)));
        assert!(memory.needs_new_terms(1));
        memory.learn_terms(terms(2, 0), 200);
        assert!(memory.first_terms_on(&[1; 32]) <= Some(number(&memory, 2)));
        assert!(!memory.needs_new_terms(2) && memory.needs_new_terms(1));
        // Where all are current they stay up to a bound.
        let all: Vec<u8> = (100..150).collect();
        for parent in &all {
            name(&mut memory, *parent, &all);
        }
        assert_eq!(memory.parents.len(), PARENTS_CURRENT_MAX);
        assert!(!memory.accepts_parent(&[149 - PARENTS_CURRENT_MAX as u8; 32]));
        assert!(memory.accepts_parent(&[150 - PARENTS_CURRENT_MAX as u8; 32]));
        // And no longer than that.
        name(&mut memory, 200, &[200]);
        assert_eq!(memory.parents.len(), PARENTS_ACCEPTED);
    }

    #[test]
    fn stale_parents_are_bounded() {
        let mut memory = GatewayMemory::new();
        let parent = |n: usize| {
            let mut hash = [0; 32];
            hash[..8].copy_from_slice(&(n as u64).to_le_bytes());
            hash
        };
        for n in 0..STALE_PARENTS_MAX + PARENTS_ACCEPTED {
            assert_eq!(memory.name_parent(&parent(n)), Ok(()));
        }
        let beyond = parent(STALE_PARENTS_MAX + PARENTS_ACCEPTED);
        assert_eq!(memory.name_parent(&beyond), Err(WorkBound::StaleParents));
        assert!(!memory.accepts_parent(&beyond));
        // What was there before is as it was.
        assert_eq!(memory.name_parent(&parent(0)), Ok(()));
        assert!(!memory.accepts_parent(&parent(0)));
        assert!(memory.accepts_parent(&parent(STALE_PARENTS_MAX)));
        assert!(memory.bytes() < 2 << 20, "{} bytes", memory.bytes());
    }

    #[test]
    fn a_share_counts_once_per_parent_and_never_past_the_bound() {
        let mut memory = GatewayMemory::new();
        memory.name_parent(&[1; 32]).expect("room");
        memory.name_parent(&[2; 32]).expect("room");
        assert_eq!(memory.take(&[1; 32], 7), Ok(true));
        assert_eq!(memory.take(&[1; 32], 7), Ok(false));
        assert_eq!(memory.take(&[2; 32], 7), Ok(true));
        assert_eq!(memory.take(&[9; 32], 7), Ok(false), "no parent of this gateway");
        for hash in 8..DUPLICATES_MAX as u64 + 6 {
            assert_eq!(memory.take(&[1; 32], hash), Ok(true));
        }
        assert_eq!(memory.take(&[1; 32], u64::MAX), Err(WorkBound::Duplicates));
        assert_eq!(memory.take(&[2; 32], u64::MAX), Err(WorkBound::Duplicates));
        assert_eq!(memory.take(&[1; 32], 9), Ok(false));
        assert!(memory.bytes() < 6 << 20, "{} bytes", memory.bytes());
        for parent in 3..6 {
            memory.name_parent(&[parent; 32]).expect("room");
        }
        assert_eq!(memory.take(&[5; 32], u64::MAX), Ok(true));
    }

    #[test]
    fn what_was_read_back_is_a_duplicate_and_old_parents_are_stale() {
        let shares = [(1, 10), (2, 10), (2, 11), (3, 12), (4, 13), (1, 14), (5, 15), (2, 16)];
        let mut before = GatewayMemory::new();
        let mut named = Vec::new();
        for (parent, hash) in shares {
            // A job's sections come with its first share alone.
            if !named.contains(&parent) {
                before.name_parent(&[parent; 32]).expect("room");
                named.push(parent);
            }
            assert_eq!(before.take(&[parent; 32], hash), Ok(true));
        }
        let mut after = GatewayMemory::new();
        for (parent, hash) in shares {
            after.restore_share(&[parent; 32], hash).expect("room");
        }
        for mut memory in [before, after] {
            for (parent, hash) in shares {
                assert_eq!(memory.accepts_parent(&[parent; 32]), parent != 1, "{parent}");
                assert_eq!(memory.take(&[parent; 32], hash), Ok(false));
            }
            assert_eq!(memory.take(&[2; 32], 15), Ok(true));
            memory.name_parent(&[1; 32]).expect("room");
            assert!(!memory.accepts_parent(&[1; 32]));
            // Which goes next is as it was, too.
            memory.name_parent(&[6; 32]).expect("room");
            assert!(!memory.accepts_parent(&[2; 32]) && memory.accepts_parent(&[3; 32]));
        }
    }

    #[test]
    fn reading_back_makes_room_where_parents_without_shares_had_made_it() {
        let mut memory = GatewayMemory::new();
        for hash in 0..DUPLICATES_MAX as u64 {
            memory.restore_share(&[1; 32], hash).expect("room");
        }
        memory.restore_share(&[2; 32], 7).expect("what was accepted");
        assert_eq!(memory.take(&[2; 32], 7), Ok(false));
        assert!(!memory.accepts_parent(&[1; 32]));
        // The parent that a share is on stays, though it is the oldest: it was accepted when the share was.
        for hash in 8..DUPLICATES_MAX as u64 + 7 {
            memory.restore_share(&[3; 32], hash).expect("room");
        }
        // What is stale needs no room.
        memory.restore_share(&[1; 32], 9).expect("what was accepted");
        assert!(memory.accepts_parent(&[2; 32]) && memory.accepts_parent(&[3; 32]));
        memory.restore_share(&[2; 32], 8).expect("what was accepted");
        assert_eq!(memory.take(&[2; 32], 8), Ok(false));
        assert!(memory.accepts_parent(&[2; 32]) && !memory.accepts_parent(&[3; 32]));
    }

    #[test]
    fn a_candidate_is_new_once() {
        let mut memory = GatewayMemory::new();
        assert!(memory.is_new_candidate(&[1; 32]));
        assert!(!memory.is_new_candidate(&[1; 32]));
        for n in 0..200_u8 {
            assert!(n == 1 || memory.is_new_candidate(&[n; 32]));
        }
        assert!(memory.candidates.len() <= CANDIDATES_REMEMBERED);
    }
}
