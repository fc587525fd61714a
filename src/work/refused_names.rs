//! Usernames that were refused lately, so that one which a gateway goes on sending is not parsed for each of its shares.

use std::cell::Cell;

use super::judge::{Refusal, WorkBound};

/// Places of one shard: 64 KiB at most. A name that falls on the place of another takes it, and the other is judged anew.
const REFUSED_NAMES_KEPT: usize = 1_024;

/// Why a name is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NameRefusal {
    pub refusal: Refusal,
    /// The name is good, and the policy alone forbids it.
    pub by_policy: bool,
}

/// By keyed hash, like the names that are known: nobody can aim at a place.
pub(super) struct RefusedNames {
    places: Box<[Cell<Option<RefusedName>>]>,
}

#[derive(Debug, Clone, Copy)]
struct RefusedName {
    hash: u128,
    /// Of the policy that it was judged by.
    round: u32,
    why: NameRefusal,
}

impl NameRefusal {
    /// There is no room for the name.
    pub fn at(bound: WorkBound) -> Self {
        Self {
            refusal: bound.into(),
            by_policy: false,
        }
    }
}

impl RefusedNames {
    pub fn new() -> Self {
        Self {
            places: vec![Cell::new(None); REFUSED_NAMES_KEPT].into(),
        }
    }

    /// Why the name was refused by the policy of this round; none where that is not known.
    pub fn find(&self, hash: u128, round: u32) -> Option<NameRefusal> {
        let name = self.place(hash).get()?;
        (name.hash == hash && name.round == round).then_some(name.why)
    }

    pub fn note(&self, hash: u128, round: u32, why: NameRefusal) {
        self.place(hash).set(Some(RefusedName { hash, round, why }));
    }

    /// There is room again: those that found none are judged anew.
    pub fn forget_bounds(&self) {
        let found_none = |name: RefusedName| name.why.refusal.bound.is_some();
        let places = self.places.iter().filter(|place| place.get().is_some_and(found_none));
        places.for_each(|place| place.set(None));
    }

    fn place(&self, hash: u128) -> &Cell<Option<RefusedName>> {
        &self.places[hash as usize % REFUSED_NAMES_KEPT]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Reason;

    #[test]
    fn a_name_is_found_by_its_whole_hash_under_its_policy_until_another_takes_its_place() {
        let names = RefusedNames::new();
        let why = |by_policy| NameRefusal {
            refusal: Reason::BadUsername.into(),
            by_policy,
        };
        let (one, same_place) = (7_u128, 7 + (1_u128 << 64));
        assert_eq!(names.find(one, 0), None);
        names.note(one, 0, why(true));
        assert_eq!(names.find(one, 0), Some(why(true)));
        assert_eq!(names.find(one, 1), None, "another policy may admit it");
        assert_eq!(names.find(same_place, 0), None);
        names.note(same_place, 0, why(false));
        assert_eq!(names.find(same_place, 0), Some(why(false)));
        assert_eq!(names.find(one, 0), None);
        assert!(REFUSED_NAMES_KEPT * size_of::<Option<RefusedName>>() <= 64 << 10);
    }
}
