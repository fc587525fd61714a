//! What outlives the sessions of one gateway: its terms, the parents it named, and its duplicates.

use std::collections::{HashSet, VecDeque};

use super::duplicates::{DUPLICATES_MAX, Duplicates};
use super::judge::WorkBound;
use super::terms::Terms;

/// Terms kept per gateway. What comes past it lets the oldest go, whose work is then refused by reason 28.
pub const TERMS_MAX: usize = 64;

/// Parents of one gateway that are accepted on the dev chain: the last ones it named.
pub const PARENTS_ACCEPTED: usize = 4;

/// Parents remembered as stale, so that none becomes current again with its duplicates forgotten. At the bound new
/// parents are refused; a gateway that starts anew begins with none.
pub const STALE_PARENTS_MAX: usize = 65_536;

/// The memory of one gateway.
#[derive(Debug, Clone, Default)]
pub struct GatewayMemory {
    /// Oldest first.
    terms: VecDeque<KnownTerms>,
    /// The last named first.
    parents: Vec<Parent>,
    stale: HashSet<[u8; 32]>,
    shares: usize,
}

#[derive(Debug, Clone)]
struct KnownTerms {
    terms: Terms,
    /// When the next ones took their place, s since 1970; none for those in force.
    superseded_s: Option<u64>,
}

#[derive(Debug, Clone)]
struct Parent {
    hash: [u8; 32],
    duplicates: Duplicates,
}

impl GatewayMemory {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// New terms come into force at `now_s`. Work under older ones stays good until [`Self::forget_terms`].
    pub fn learn_terms(&mut self, terms: Terms, now_s: u64) {
        if let Some(last) = self.terms.back_mut() {
            last.superseded_s = Some(now_s);
        }
        if self.terms.len() == TERMS_MAX {
            self.terms.pop_front();
        }
        self.terms.push_back(KnownTerms {
            terms,
            superseded_s: None,
        });
    }

    /// Lets go of the terms that were superseded before `since_s`.
    pub fn forget_terms(&mut self, since_s: u64) {
        while self
            .terms
            .front()
            .is_some_and(|oldest| oldest.superseded_s.is_some_and(|superseded_s| superseded_s < since_s))
        {
            self.terms.pop_front();
        }
    }

    /// Reads a share back that the ledger holds. Call in the order they were accepted.
    ///
    /// # Errors
    /// The gateway's shares are at their bound.
    pub fn restore_share(&mut self, parent: &[u8; 32], hash: u64) -> Result<(), WorkBound> {
        self.name_parent(parent)?;
        self.take(parent, hash).map(|_| ())
    }

    /// Bytes on the heap that shares and parents take.
    #[must_use]
    pub fn bytes(&self) -> usize {
        let duplicates: usize = self.parents.iter().map(|parent| parent.duplicates.bytes()).sum();
        duplicates + self.stale.capacity() * (size_of::<[u8; 32]>() + 1)
    }

    /// The terms that `prime_id` names, and the lowest pot in force from them until now.
    pub(super) fn terms(&self, prime_id: u32) -> Option<(&Terms, u8)> {
        // The newest are the ones in use.
        let mut lowest_pot = u8::MAX;
        for known in self.terms.iter().rev() {
            lowest_pot = lowest_pot.min(known.terms.min_diff.pot());
            if known.terms.prime_id == prime_id {
                return Some((&known.terms, lowest_pot));
            }
        }
        None
    }

    /// A job names its parent: it is current from now on, and the fifth last becomes stale for good.
    pub(super) fn name_parent(&mut self, hash: &[u8; 32]) -> Result<(), WorkBound> {
        if let Some(at) = self.parents.iter().position(|parent| parent.hash == *hash) {
            self.parents[..=at].rotate_right(1);
            return Ok(());
        }
        if self.stale.contains(hash) {
            return Ok(());
        }
        if self.parents.len() == PARENTS_ACCEPTED {
            if self.stale.len() == STALE_PARENTS_MAX {
                return Err(WorkBound::StaleParents);
            }
            if let Some(oldest) = self.parents.pop() {
                self.shares -= oldest.duplicates.len();
                self.stale.insert(oldest.hash);
            }
        }
        let parent = Parent {
            hash: *hash,
            duplicates: Duplicates::default(),
        };
        self.parents.insert(0, parent);
        Ok(())
    }

    pub(super) fn accepts_parent(&self, hash: &[u8; 32]) -> bool {
        self.parents.iter().any(|parent| parent.hash == *hash)
    }

    /// Remembers a share on an accepted parent. False where it was taken before.
    pub(super) fn take(&mut self, parent: &[u8; 32], hash: u64) -> Result<bool, WorkBound> {
        let Some(parent) = self.parents.iter_mut().find(|known| known.hash == *parent) else {
            return Ok(true);
        };
        if self.shares >= DUPLICATES_MAX {
            return if parent.duplicates.contains(hash) { Ok(false) } else { Err(WorkBound::Duplicates) };
        }
        let new = parent.duplicates.insert(hash);
        self.shares += usize::from(new);
        Ok(new)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::MinDiff;

    fn terms(prime_id: u32, pot: u8) -> Terms {
        Terms::new(prime_id, &[0x51], b"tag", MinDiff::from_pot(pot).expect("a pot"))
    }

    #[test]
    fn the_lowest_pot_since_the_terms_named_counts() {
        let mut memory = GatewayMemory::new();
        for (prime_id, pot) in [(1, 10), (2, 5), (3, 8)] {
            memory.learn_terms(terms(prime_id, pot), 100);
        }
        let lowest = |prime_id| memory.terms(prime_id).map(|(terms, pot)| (terms.prime_id, pot));
        assert_eq!(lowest(1), Some((1, 5)));
        assert_eq!(lowest(2), Some((2, 5)));
        assert_eq!(lowest(3), Some((3, 8)));
        assert_eq!(lowest(4), None);
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
        for prime_id in 3..3 + u32::try_from(TERMS_MAX).expect("small") {
            memory.learn_terms(terms(prime_id, 0), 300);
        }
        assert!(memory.terms(2).is_none());
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
    fn a_share_counts_once_per_parent_and_never_past_the_bound() {
        let mut memory = GatewayMemory::new();
        memory.name_parent(&[1; 32]).expect("room");
        memory.name_parent(&[2; 32]).expect("room");
        assert_eq!(memory.take(&[1; 32], 7), Ok(true));
        assert_eq!(memory.take(&[1; 32], 7), Ok(false));
        assert_eq!(memory.take(&[2; 32], 7), Ok(true));
        for hash in 8..DUPLICATES_MAX as u64 + 6 {
            assert_eq!(memory.take(&[1; 32], hash), Ok(true));
        }
        assert_eq!(memory.take(&[1; 32], u64::MAX), Err(WorkBound::Duplicates));
        assert_eq!(memory.take(&[1; 32], 9), Ok(false));
        for parent in 3..6 {
            memory.name_parent(&[parent; 32]).expect("room");
        }
        assert_eq!(memory.take(&[5; 32], u64::MAX), Ok(true));
    }
}
