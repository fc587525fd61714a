//! Gateways that are remembered and have no session: which of them goes first where a shard has more than it may remember.
//!
//! Whoever proves a key has sent one frame, and may send none ever after. An accepted share takes work. So those that never had
//! one go first, and one that had is never forgotten for them.

use std::collections::BTreeMap;

/// By the place of each: without work before with, then whose last session ended first.
#[derive(Default)]
pub(super) struct Absent {
    places: BTreeMap<Place, [u8; 32]>,
    with_work: usize,
    /// Counts those that ever took a place.
    next: u64,
}

/// Where an absent gateway stands; its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Place {
    has_work: bool,
    number: u64,
}

impl Absent {
    /// The last session of the gateway with this key has ended.
    pub fn push(&mut self, key: [u8; 32], has_work: bool) -> Place {
        let place = Place {
            has_work,
            number: self.next,
        };
        self.next += 1;
        self.with_work += usize::from(has_work);
        self.places.insert(place, key);
        place
    }

    /// It has come back, or is forgotten.
    pub fn remove(&mut self, place: Place) {
        if self.places.remove(&place).is_some() {
            self.with_work -= usize::from(place.has_work);
        }
    }

    /// The key of the one that goes where `known` gateways are remembered in all, and `capacity` may be. None goes for live ones
    /// but those without work.
    pub fn first_beyond(&self, capacity: usize, known: usize) -> Option<[u8; 32]> {
        let (place, key) = self.places.first_key_value()?;
        let is_beyond = match place.has_work {
            false => known > capacity,
            true => self.with_work > capacity,
        };
        is_beyond.then_some(*key)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_without_work_go_first_and_the_oldest_of_equals() {
        let mut absent = Absent::default();
        let mut places = Vec::new();
        for (key, has_work) in [(1, true), (2, false), (3, true), (4, false)] {
            places.push(absent.push([key; 32], has_work));
        }
        assert_eq!(absent.first_beyond(4, 4), None);
        for (at, key) in [(1, 2), (3, 4)] {
            assert_eq!(absent.first_beyond(1, 4), Some([key; 32]));
            absent.remove(places[at]);
        }
        // However many live beside them.
        assert_eq!(absent.first_beyond(2, 100), None);
        assert_eq!(absent.first_beyond(1, 100), Some([1; 32]));
        // It has come back, which makes room, and goes again: it is the last now.
        absent.remove(places[0]);
        absent.remove(places[0]);
        assert_eq!(absent.first_beyond(1, 100), None);
        absent.push([1; 32], true);
        assert_eq!(absent.first_beyond(1, 100), Some([3; 32]));
    }
}
