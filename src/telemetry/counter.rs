//! One number, written by one thread and read by any.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows. Only the thread that owns it may write.
///
/// A second writer would break nothing but lose counts, which is the price of doing without a locked instruction.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// For the owner.
    #[inline]
    pub fn add(&self, count: u64) {
        // Not `fetch_add`: that locks the cache line for some 20 cycles, and there is nobody to lock out. At 2^64 it
        // begins anew, which whoever computes rates takes for a restart.
        self.0
            .store(self.0.load(Ordering::Relaxed).wrapping_add(count), Ordering::Relaxed);
    }

    #[inline]
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// A number that is what it was last set to. Only the thread that owns it may write.
#[derive(Debug, Default)]
pub struct Gauge(AtomicU64);

impl Gauge {
    /// Zero.
    #[must_use]
    pub const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    /// For the owner.
    #[inline]
    pub fn set(&self, value: u64) {
        self.0.store(value, Ordering::Relaxed);
    }

    #[inline]
    #[must_use]
    pub fn value(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_counter_adds_up_and_a_gauge_is_the_last() {
        let counter = Counter::default();
        counter.add(2);
        counter.add(40);
        assert_eq!(counter.value(), 42);
        counter.add(u64::MAX);
        assert_eq!(counter.value(), 41, "it begins anew instead of ending the shard");

        let gauge = Gauge::default();
        gauge.set(7);
        gauge.set(3);
        assert_eq!(gauge.value(), 3);
    }

    #[test]
    fn a_reader_never_sees_a_counter_fall() {
        let counter = Counter::default();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| (0..100_000).for_each(|_| counter.add(1)));
            let mut last = 0;
            while !writer.is_finished() {
                let value = counter.value();
                assert!(value >= last);
                last = value;
            }
        });
        assert_eq!(counter.value(), 100_000);
    }
}
