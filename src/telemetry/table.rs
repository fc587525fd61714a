//! A counter for each of a fixed set of names, so that each is listed from the start.

use std::marker::PhantomData;
use std::ops::Index;

use super::counter::Counter;
use crate::guard::Rule;
use crate::wire::Reason;

/// A closed set of names to count by.
pub trait Labelled: Copy + 'static {
    /// All of them, each at its [`Self::index`].
    const KEYS: &'static [Self];

    /// The position in [`Self::KEYS`].
    fn index(self) -> usize;

    /// For metrics and logs: lower case with underscores.
    fn label(self) -> &'static str;
}

/// One counter a key. Only the thread that owns it may write.
#[derive(Debug)]
pub struct Table<K> {
    counters: Box<[Counter]>,
    keys: PhantomData<fn(K)>,
}

impl<K: Labelled> Default for Table<K> {
    fn default() -> Self {
        Self {
            counters: K::KEYS.iter().map(|_| Counter::default()).collect(),
            keys: PhantomData,
        }
    }
}

impl<K: Labelled> Table<K> {
    /// Every key with its count, in the order of the keys.
    pub fn iter(&self) -> impl Iterator<Item = (K, u64)> {
        K::KEYS.iter().copied().zip(self.counters.iter().map(Counter::value))
    }

    /// The sum over all keys.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.iter().fold(0, |total, (_, count)| total.saturating_add(count))
    }
}

impl<K: Labelled> Index<K> for Table<K> {
    type Output = Counter;

    #[inline]
    fn index(&self, key: K) -> &Counter {
        &self.counters[key.index()]
    }
}

impl Labelled for Reason {
    const KEYS: &'static [Self] = &Self::ALL;

    fn index(self) -> usize {
        self.index()
    }

    fn label(self) -> &'static str {
        self.label()
    }
}

impl Labelled for Rule {
    const KEYS: &'static [Self] = &Self::ALL;

    fn index(self) -> usize {
        self as usize
    }

    fn label(self) -> &'static str {
        self.label()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeSet;
    use std::fmt::Debug;

    use super::*;

    /// Every key stands at its index and has a label of its own that a metric can bear.
    pub fn check_keys<K: Labelled + Debug + PartialEq>() {
        for (index, key) in K::KEYS.iter().enumerate() {
            assert_eq!(key.index(), index, "{key:?}");
            let label = key.label();
            assert!(
                !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_'),
                "{label}"
            );
        }
        let labels: BTreeSet<_> = K::KEYS.iter().map(|key| key.label()).collect();
        assert_eq!(labels.len(), K::KEYS.len());
    }

    #[test]
    fn each_reason_counts_by_itself() {
        check_keys::<Reason>();
        check_keys::<Rule>();
        let table = Table::<Reason>::default();
        table[Reason::HighHash].add(3);
        table[Reason::Other].add(1);
        for (reason, count) in table.iter() {
            let expected = match reason {
                Reason::HighHash => 3,
                Reason::Other => 1,
                _ => 0,
            };
            assert_eq!(count, expected, "{reason:?}");
        }
        assert_eq!(table.iter().count(), Reason::ALL.len());
        assert_eq!(table.total(), 4);
    }
}
