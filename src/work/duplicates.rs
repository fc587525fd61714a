//! Which shares of one gateway on one parent were taken before.
//!
//! A share is known by the first 8 bytes of its header hash as hashed; the last are the zeros that work makes. Where
//! it stands in the table depends on a secret too: a gateway that ground its hashes into one corner of an open table
//! would make every look-up walk through all of them.

use std::hash::{BuildHasher, RandomState};

/// Shares remembered for one gateway, over all its parents: some 6 MiB of tables at most.
pub const DUPLICATES_MAX: usize = 1 << 18;

/// Places of a table when the first share comes.
const FIRST_PLACES: usize = 32;

/// Marks a free place; a share with this very value is held beside the table.
const FREE: u64 = 0;

/// A set of hashes by open addressing. It grows by doubling, so that a gateway that sends little costs little.
#[derive(Debug, Clone, Default)]
pub(super) struct Duplicates {
    /// A power of two of places, or none yet.
    places: Vec<u64>,
    /// Drawn anew whenever the table grows.
    secret: [u64; 3],
    taken: usize,
    holds_free: bool,
}

impl Duplicates {
    pub fn len(&self) -> usize {
        self.taken + usize::from(self.holds_free)
    }

    /// Bytes on the heap.
    pub fn bytes(&self) -> usize {
        self.places.capacity() * size_of::<u64>()
    }

    /// False where `hash` was there already.
    pub fn insert(&mut self, hash: u64) -> bool {
        if hash == FREE {
            return !std::mem::replace(&mut self.holds_free, true);
        }
        if self.taken * 4 >= self.places.len() * 3 {
            self.grow();
        }
        let place = self.place_of(hash);
        if self.places[place] == hash {
            return false;
        }
        self.places[place] = hash;
        self.taken += 1;
        true
    }

    pub fn contains(&self, hash: u64) -> bool {
        if hash == FREE {
            return self.holds_free;
        }
        !self.places.is_empty() && self.places[self.place_of(hash)] == hash
    }

    /// Where `hash` is, or the free place where it belongs. There is one: the table is never full.
    fn place_of(&self, hash: u64) -> usize {
        let mask = self.places.len() - 1;
        let mut place = self.first_place(hash, mask);
        while self.places[place] != FREE && self.places[place] != hash {
            place = (place + 1) & mask;
        }
        place
    }

    fn first_place(&self, hash: u64, mask: usize) -> usize {
        let [offset, first, second] = self.secret;
        // Twice: after one of them hashes in even steps still stand in even steps, and crowd where those are unlucky.
        folded(folded(hash ^ offset, first), second) as usize & mask
    }

    fn grow(&mut self) {
        let doubled = (self.places.len() * 2).max(FIRST_PLACES);
        let before = std::mem::replace(&mut self.places, vec![FREE; doubled]);
        let random = RandomState::new();
        self.secret = [
            random.hash_one(0_u8),
            random.hash_one(1_u8) | 1,
            random.hash_one(2_u8) | 1,
        ];
        for hash in before.into_iter().filter(|hash| *hash != FREE) {
            let place = self.place_of(hash);
            self.places[place] = hash;
        }
    }
}

/// The halves of a product, one over the other.
fn folded(number: u64, factor: u64) -> u64 {
    let product = u128::from(number) * u128::from(factor);
    (product >> 64) as u64 ^ product as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        #[test]
        fn is_a_set(hashes in proptest::collection::vec(prop_oneof![0..40_u64, any::<u64>()], 0..400)) {
            let (mut table, mut model) = (Duplicates::default(), HashSet::new());
            for hash in hashes {
                prop_assert_eq!(table.contains(hash), model.contains(&hash));
                prop_assert_eq!(table.insert(hash), model.insert(hash));
                prop_assert_eq!(table.len(), model.len());
            }
        }
    }

    /// Hashes that agree in all bits but a few, wherever those are, take about as many steps as random ones.
    #[test]
    fn no_choice_of_hashes_makes_it_slow() {
        const COUNT: u64 = 50_000;
        for shift in [0, 16, 32, 48] {
            let mut table = Duplicates::default();
            for n in 1..=COUNT {
                assert!(table.insert(n << shift));
            }
            let mask = table.places.len() - 1;
            let steps: usize = (0..table.places.len())
                .filter(|place| table.places[*place] != FREE)
                .map(|place| place.wrapping_sub(table.first_place(table.places[place], mask)) & mask)
                .sum();
            assert!(
                steps < 8 * COUNT as usize,
                "{steps} steps where the hashes differ from bit {shift} on"
            );
        }
    }

    #[test]
    fn costs_nothing_before_the_first_share() {
        assert_eq!(Duplicates::default().bytes(), 0);
    }
}
