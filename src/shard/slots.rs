//! The sessions of a shard by slot, so that an answer finds its session, or learns that it is gone.

use std::rc::Rc;

use super::mailbox::Mailbox;

/// A slot and which of its tenants is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct SlotKey {
    pub index: u32,
    pub generation: u32,
}

#[derive(Default)]
pub(super) struct Slots {
    slots: Vec<Slot>,
    free: Vec<u32>,
}

#[derive(Default)]
struct Slot {
    generation: u32,
    tenant: Option<Rc<Mailbox>>,
}

impl Slots {
    /// Sessions that live now.
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn insert(&mut self, mailbox: Rc<Mailbox>) -> SlotKey {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot::default());
            u32::try_from(self.slots.len() - 1).expect("the session limit is far below 2^32")
        });
        let slot = &mut self.slots[index as usize];
        debug_assert!(slot.tenant.is_none());
        slot.tenant = Some(mailbox);
        SlotKey {
            index,
            generation: slot.generation,
        }
    }

    /// The session meant, unless it has ended.
    pub fn find(&self, key: SlotKey) -> Option<&Rc<Mailbox>> {
        let slot = self.slots.get(key.index as usize)?;
        slot.tenant.as_ref().filter(|_| slot.generation == key.generation)
    }

    pub fn remove(&mut self, key: SlotKey) {
        let Some(slot) = self.slots.get_mut(key.index as usize) else {
            return;
        };
        if slot.generation == key.generation && slot.tenant.take().is_some() {
            // A generation that wraps around meets no answer of its namesake: those were due within one ring.
            slot.generation = slot.generation.wrapping_add(1);
            self.free.push(key.index);
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &Rc<Mailbox>> {
        self.slots.iter().filter_map(|slot| slot.tenant.as_ref())
    }

    /// The sessions in `count` slots from `first` on; none where there are no such slots.
    pub fn part(&self, first: usize, count: usize) -> Option<impl Iterator<Item = &Rc<Mailbox>>> {
        let rest = self.slots.get(first..).filter(|rest| !rest.is_empty())?;
        Some(rest.iter().take(count).filter_map(|slot| slot.tenant.as_ref()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mailbox() -> Rc<Mailbox> {
        Rc::new(Mailbox::new(0))
    }

    #[test]
    fn a_slot_used_again_is_not_the_session_it_was() {
        let mut slots = Slots::default();
        let first = slots.insert(mailbox());
        assert!(slots.find(first).is_some());
        slots.remove(first);
        slots.remove(first);
        assert!(slots.find(first).is_none());
        let second = slots.insert(mailbox());
        assert_eq!(first.index, second.index);
        assert!(slots.find(first).is_none());
        assert!(slots.find(second).is_some());
        slots.remove(first);
        assert!(
            slots.find(second).is_some(),
            "the key of a former tenant removes nobody"
        );
        assert_eq!(slots.len(), 1);
    }

    #[test]
    fn parts_cover_every_session_once() {
        let mut slots = Slots::default();
        let keys: Vec<_> = (0..7).map(|_| slots.insert(mailbox())).collect();
        for key in [keys[0], keys[3], keys[6]] {
            slots.remove(key);
        }
        let mut seen = 0;
        let mut first = 0;
        while let Some(part) = slots.part(first, 3) {
            seen += part.count();
            first += 3;
        }
        assert_eq!(seen, 4);
        assert_eq!(seen, slots.len());
        assert_eq!(slots.iter().count(), 4);
        assert!(slots.part(7, 3).is_none());
    }
}
