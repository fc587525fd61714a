//! Connections whose HELLO has not come: where a shard has as many handshakes as it may, they make room for newcomers.
//!
//! To open a connection and say nothing costs whoever does it nothing. Were newcomers turned away instead, some thousand such
//! connections would keep every gateway out that reconnects.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::rc::Rc;

use glommio::sync::Semaphore;

/// The oldest first. Those that are over stay until they are in front, for the time that a HELLO may take at most.
#[derive(Default)]
pub(super) struct HalfOpen(RefCell<VecDeque<Rc<Waits>>>);

/// One of them.
pub(super) struct Waits {
    /// Its HELLO is whole, or it has ended.
    is_over: Cell<bool>,
    /// Has a unit when it has to go.
    goes: Semaphore,
}

impl HalfOpen {
    pub fn begin(&self) -> Rc<Waits> {
        let begun = Rc::new(Waits {
            is_over: Cell::new(false),
            goes: Semaphore::new(0),
        });
        let mut waiting = self.0.borrow_mut();
        while waiting.pop_front_if(|first| first.is_over.get()).is_some() {}
        waiting.push_back(begun.clone());
        begun
    }

    /// Has the oldest go. False: there is none.
    pub fn make_room(&self) -> bool {
        let mut waiting = self.0.borrow_mut();
        while let Some(first) = waiting.pop_front() {
            if !first.is_over.replace(true) {
                first.goes.signal(1);
                return true;
            }
        }
        false
    }
}

impl Waits {
    pub fn is_over(&self) {
        self.is_over.set(true);
    }

    /// Ends when it has to go.
    pub async fn until_it_goes(&self) {
        let _ = self.goes.acquire(1).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_that_still_waits_makes_room_once() {
        let half_open = HalfOpen::default();
        let [a, b, c] = std::array::from_fn(|_| half_open.begin());
        b.is_over();
        assert!(half_open.make_room() && half_open.make_room());
        assert_eq!([&a, &b, &c].map(|waits| waits.goes.available()), [1, 0, 1]);
        assert!(!half_open.make_room());
    }

    #[test]
    fn those_that_are_over_are_not_kept() {
        let half_open = HalfOpen::default();
        for _ in 0..1_000 {
            half_open.begin().is_over();
        }
        assert_eq!(half_open.0.borrow().len(), 1);
    }
}
