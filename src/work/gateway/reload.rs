//! Duplicates of a parent that was forgotten, and that the chain came back to: read back from the ledger.
//!
//! Until they are there no work counts that could be among them: what is under terms of before. So nothing is added to what
//! is read while it is read, and work under later terms, which has a `prime_id` that no share had before, counts all along.

use super::{GatewayMemory, Parent};
use crate::work::DUPLICATES_MAX;

/// Parents of one gateway whose duplicates are read back together: a chain does not come back to more at a time.
pub const RELOADS_PER_GATEWAY: usize = 4;

/// How far it is with the duplicates of before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reload {
    /// There are none, or they are there.
    Done,
    /// Nobody was asked for them.
    Due,
    /// They were asked for, by this number.
    UnderWay(u64),
    /// They cannot be had: of the terms of before none counts on the parent.
    Failed,
}

/// What a gateway needs to have read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReloadWanted {
    pub parent: [u8; 32],
    /// Its shares under these.
    pub prime_ids: Vec<u32>,
}

impl GatewayMemory {
    /// Whether the duplicates of a parent should be read back, and it may be asked for them now.
    #[must_use]
    pub fn needs_a_reload(&self) -> bool {
        let of = |state: fn(&Reload) -> bool| self.parents.iter().filter(|parent| state(&parent.reload)).count();
        of(|reload| *reload == Reload::Due) > 0
            && of(|reload| matches!(reload, Reload::UnderWay(_))) < RELOADS_PER_GATEWAY
    }

    /// Once for each parent: what to read. `number` is given back with the answer, and no other reload of the gateway ever had it.
    /// All shares that were taken before this call must be in what is read.
    pub fn begin_reload(&mut self, number: u64) -> Option<ReloadWanted> {
        if !self.needs_a_reload() {
            return None;
        }
        let parent = self.parents.iter_mut().find(|parent| parent.reload == Reload::Due)?;
        parent.reload = Reload::UnderWay(number);
        let before = self.terms.iter().filter(|known| known.number < parent.first_terms);
        Some(ReloadWanted {
            parent: parent.hash,
            prime_ids: before.map(|known| known.terms.prime_id).collect(),
        })
    }

    /// What was read, by [`super::judge::hash64`]; none where it could not be. From now on work under all terms counts on the
    /// parent. Where there is no room beside what else is remembered, parents go that the node has not current.
    ///
    /// False where work of before cannot count again. A parent that was forgotten meanwhile is left as it is.
    pub fn end_reload(&mut self, number: u64, shares: Option<&[u64]>, is_current: impl Fn(&[u8; 32]) -> bool) -> bool {
        let under_way = |parent: &Parent| parent.reload == Reload::UnderWay(number);
        if !self.parents.iter().any(under_way) {
            return true;
        }
        let has_room = shares.is_some_and(|shares| self.make_room(shares.len(), under_way, is_current));
        let Some(parent) = self.parents.iter_mut().find(|parent| under_way(parent)) else {
            return true;
        };
        let Some(shares) = shares.filter(|_| has_room) else {
            parent.reload = Reload::Failed;
            return false;
        };
        for share in shares {
            self.shares += usize::from(parent.duplicates.insert(*share));
        }
        parent.first_terms = 0;
        parent.reload = Reload::Done;
        true
    }

    /// Whether work on this parent will count once its duplicates have been read back.
    pub(in crate::work) fn awaits_reload(&self, hash: &[u8; 32]) -> bool {
        let known = self.parents.iter().find(|parent| parent.hash == *hash);
        known.is_some_and(|parent| matches!(parent.reload, Reload::Due | Reload::UnderWay(_)))
    }

    fn make_room(
        &mut self,
        shares: usize,
        stays: impl Fn(&Parent) -> bool,
        is_current: impl Fn(&[u8; 32]) -> bool,
    ) -> bool {
        while self.shares + shares > DUPLICATES_MAX {
            let goes = |parent: &Parent| !stays(parent) && !is_current(&parent.hash);
            let Some(oldest) = self.parents.iter().rposition(goes) else {
                return false;
            };
            if self.retire_parent(oldest).is_err() {
                return false;
            }
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::{MinDiff, PARENTS_ACCEPTED, Terms, WorkBound};

    const BACK: [u8; 32] = [1; 32];

    fn terms(prime_id: u32) -> Terms {
        Terms::new(prime_id, &[0x51], b"tag", MinDiff::from_pot(0).expect("a pot"))
    }

    fn name(memory: &mut GatewayMemory, parent: u8, current: u8) {
        let named = memory.name_parent_where(&[parent; 32], |hash| *hash == [current; 32]);
        named.expect("room");
    }

    /// A gateway whose chain came back to a parent after others, on each of which it has so many shares.
    fn back(shares: u64) -> GatewayMemory {
        let mut memory = GatewayMemory::new();
        memory.learn_terms(terms(1), 100);
        memory.learn_terms(terms(2), 200);
        name(&mut memory, 1, 1);
        assert_eq!(memory.take(&BACK, 7), Ok(true));
        for parent in 2..2 + PARENTS_ACCEPTED as u8 {
            name(&mut memory, parent, parent);
            for hash in 0..shares {
                assert_eq!(memory.take(&[parent; 32], hash), Ok(true));
            }
        }
        assert!(!memory.accepts_parent(&BACK) && !memory.needs_a_reload());
        name(&mut memory, 1, 1);
        assert!(memory.needs_a_reload() && memory.awaits_reload(&BACK));
        memory
    }

    fn on_back(hash: &[u8; 32]) -> bool {
        *hash == BACK
    }

    #[test]
    fn what_was_read_is_a_duplicate_and_all_terms_count_again() {
        let mut memory = back(0);
        let wanted = ReloadWanted {
            parent: BACK,
            prime_ids: vec![1, 2],
        };
        assert_eq!(memory.begin_reload(40), Some(wanted));
        assert!(!memory.needs_a_reload(), "it is asked for once");
        assert_eq!(memory.begin_reload(41), None);
        // Work under later terms counts meanwhile, and stays known.
        memory.learn_terms(terms(3), 300);
        assert_eq!(memory.first_terms_on(&BACK), Some(2));
        assert_eq!(memory.take(&BACK, 9), Ok(true));
        assert!(memory.end_reload(40, Some(&[7, 8, 9]), on_back));
        assert_eq!(memory.first_terms_on(&BACK), Some(0));
        assert!(!memory.awaits_reload(&BACK));
        for hash in 7..10 {
            assert_eq!(memory.take(&BACK, hash), Ok(false), "{hash}");
        }
        assert_eq!(memory.take(&BACK, 10), Ok(true));
        assert_eq!(memory.shares, 4);
    }

    #[test]
    fn what_could_not_be_read_leaves_later_terms_alone() {
        let mut memory = back(0);
        memory.begin_reload(40).expect("due");
        assert!(!memory.end_reload(40, None, on_back));
        assert_eq!(memory.first_terms_on(&BACK), Some(2));
        assert!(!memory.awaits_reload(&BACK) && !memory.needs_a_reload());
    }

    #[test]
    fn an_answer_for_a_parent_that_was_forgotten_meanwhile_is_of_no_use() {
        let mut memory = back(0);
        memory.begin_reload(40).expect("due");
        // Work under later terms was taken after the reading: it would be missing.
        for parent in 2..2 + PARENTS_ACCEPTED as u8 {
            name(&mut memory, parent + 40, parent + 40);
        }
        name(&mut memory, 1, 1);
        assert!(memory.end_reload(40, Some(&[7]), on_back));
        assert!(memory.awaits_reload(&BACK) && memory.first_terms_on(&BACK) != Some(0));
        memory.begin_reload(41).expect("due anew");
        assert!(memory.end_reload(41, Some(&[7]), on_back));
        assert_eq!(memory.take(&BACK, 7), Ok(false));
    }

    #[test]
    fn room_is_made_of_what_is_stale_and_no_share_passes_the_bound() {
        let quarter = DUPLICATES_MAX as u64 / 4;
        let mut memory = back(quarter);
        memory.begin_reload(40).expect("due");
        let read: Vec<u64> = (1..=quarter * 2).collect();
        assert!(memory.end_reload(40, Some(&read), on_back));
        assert_eq!(memory.parents.len(), 3, "one that is stale went");
        assert_eq!(memory.shares, DUPLICATES_MAX);
        assert_eq!(memory.take(&BACK, 1), Ok(false));
        assert_eq!(memory.take(&BACK, u64::MAX), Err(WorkBound::Duplicates));

        let mut memory = back(quarter);
        memory.begin_reload(40).expect("due");
        // Where all are current, none goes for it.
        assert!(!memory.end_reload(40, Some(&read), |_| true));
        assert!(memory.first_terms_on(&BACK) > Some(0) && memory.shares == DUPLICATES_MAX / 4 * 3);
    }

    #[test]
    fn reloads_of_a_gateway_are_bounded() {
        let mut memory = GatewayMemory::new();
        memory.learn_terms(terms(1), 100);
        let many = RELOADS_PER_GATEWAY as u8 + 1;
        let all = |hash: &[u8; 32]| hash[0] < many;
        for parent in (0..many).chain(100..104) {
            memory.name_parent(&[parent; 32]).expect("room");
        }
        for parent in 0..many {
            memory.name_parent_where(&[parent; 32], all).expect("room");
        }
        for number in 0..RELOADS_PER_GATEWAY as u64 {
            assert!(memory.begin_reload(number).is_some());
        }
        assert_eq!(memory.begin_reload(90), None);
        assert!(memory.end_reload(0, Some(&[]), all));
        assert!(memory.begin_reload(91).is_some());
    }
}
