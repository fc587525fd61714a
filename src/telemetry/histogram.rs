//! An HDR histogram that one thread writes without a lock and any thread reads.
//!
//! The buckets are those of `hdrhistogram` with three significant digits: values below 2,048 have one each, and every
//! doubling above it is cut into 1,024. So a snapshot loses nothing, and shards merge exactly. `hdrhistogram` itself
//! cannot be read while it is written; its own answer to that, a queue of recorders, costs more than these buckets.

use std::fmt;

use super::counter::Counter;

/// A histogram at one moment, to merge and to ask for quantiles.
pub type Snapshot = hdrhistogram::Histogram<u64>;

/// Significant digits: values within a thousandth of each other may share a bucket.
const DIGITS: u8 = 3;

/// The smallest power of two that tells 2 * 10^[`DIGITS`] values apart, as a number of bits.
const SUB_BITS: u32 = 11;

/// Buckets of each doubling.
const HALF: usize = 1 << (SUB_BITS - 1);

/// The longest time told from longer ones, in ns: 68.7 s. All that is measured is given up long before.
const LONGEST_NS: u64 = (1 << 36) - 1;

/// The largest count told from larger ones: more than all rings together hold.
const LARGEST_COUNT: u64 = (1 << 24) - 1;

/// Counts of values, by bucket. Only the thread that owns it may record.
pub struct Histogram {
    counts: Box<[Counter]>,
    highest: u64,
}

impl Histogram {
    /// For times in ns. What is longer than 68 s counts as that long. Takes 216 KiB.
    #[must_use]
    pub fn of_times() -> Self {
        Self::up_to(LONGEST_NS)
    }

    /// For counts. What is above 2^24 counts as that much. Takes 120 KiB.
    #[must_use]
    pub fn of_counts() -> Self {
        Self::up_to(LARGEST_COUNT)
    }

    fn up_to(highest: u64) -> Self {
        Self {
            counts: (0..=bucket_of(highest)).map(|_| Counter::default()).collect(),
            highest,
        }
    }

    /// For the owner; some nanoseconds: a shift, a load and a store.
    ///
    /// Sum, count and maximum are not kept: a snapshot has them from the buckets, and one store cannot be read half.
    #[inline]
    pub fn record(&self, value: u64) {
        // Within bounds, as the bucket of `highest` is the last.
        self.counts[bucket_of(value.min(self.highest))].add(1);
    }

    /// All that was recorded until now. What is recorded meanwhile may be in it or not.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let mut snapshot = self.empty();
        for (bucket, count) in self.counts.iter().map(Counter::value).enumerate() {
            if count > 0 {
                snapshot
                    .record_n(lowest_of(bucket), count)
                    .expect("the snapshot has the same buckets");
            }
        }
        snapshot
    }

    /// Snapshots of histograms of this kind, as if one had recorded it all.
    #[must_use]
    pub fn merge(&self, snapshots: &[Snapshot]) -> Snapshot {
        let mut merged = self.empty();
        for snapshot in snapshots {
            merged
                .add(snapshot)
                .expect("snapshots of one kind have the same buckets");
        }
        merged
    }

    fn empty(&self) -> Snapshot {
        Snapshot::new_with_bounds(1, self.highest, DIGITS).expect("bounds that the tests have made one with")
    }
}

impl fmt::Debug for Histogram {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Histogram")
            .field("highest", &self.highest)
            .finish_non_exhaustive()
    }
}

/// Where a value is counted: its leading [`SUB_BITS`] bits behind [`HALF`] buckets for each doubling below it.
#[inline]
fn bucket_of(value: u64) -> usize {
    let below = (1 << SUB_BITS) - 1;
    let doublings = u64::BITS - SUB_BITS - (value | below).leading_zeros();
    doublings as usize * HALF + (value >> doublings) as usize
}

/// The lowest value that is counted there.
fn lowest_of(bucket: usize) -> u64 {
    let doublings = (bucket / HALF).saturating_sub(1);
    ((bucket - doublings * HALF) as u64) << doublings
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const QUANTILES: [f64; 7] = [0.0, 0.1, 0.5, 0.9, 0.99, 0.999, 1.0];

    /// Values of every size, as many small ones as large, past the end too.
    fn values() -> impl Strategy<Value = Vec<u64>> {
        let value = (0_u32..=63).prop_flat_map(|bits| (1_u64 << bits) - 1..=(1_u64 << bits));
        let any_size = (any::<u64>(), 0_u32..64).prop_map(|(value, shift)| value >> shift);
        prop::collection::vec(prop_oneof![value, any_size], 0..400)
    }

    fn reference(highest: u64, values: &[u64]) -> Snapshot {
        let mut reference = Snapshot::new_with_bounds(1, highest, DIGITS).expect("bounds");
        for value in values {
            reference.record((*value).min(highest)).expect("within its bounds");
        }
        reference
    }

    fn recorded(histogram: Histogram, values: &[u64]) -> Histogram {
        values.iter().for_each(|value| histogram.record(*value));
        histogram
    }

    proptest! {
        #[test]
        fn a_snapshot_is_what_hdrhistogram_would_hold(values in values()) {
            for (histogram, highest) in [(Histogram::of_times(), LONGEST_NS), (Histogram::of_counts(), LARGEST_COUNT)] {
                let snapshot = recorded(histogram, &values).snapshot();
                let reference = reference(highest, &values);
                prop_assert_eq!(&snapshot, &reference);
                prop_assert_eq!(snapshot.len(), values.len() as u64);
                for quantile in QUANTILES {
                    prop_assert_eq!(snapshot.value_at_quantile(quantile), reference.value_at_quantile(quantile));
                }
            }
        }

        #[test]
        fn merged_snapshots_are_one_histogram_of_it_all(shards in prop::collection::vec(values(), 0..5)) {
            let snapshots: Vec<_> = shards
                .iter()
                .map(|values| recorded(Histogram::of_times(), values).snapshot())
                .collect();
            let merged = Histogram::of_times().merge(&snapshots);
            prop_assert_eq!(merged, reference(LONGEST_NS, &shards.concat()));
        }

        #[test]
        fn quantiles_are_exact_to_a_thousandth(mut values in values(), quantile in 0.0..=1.0_f64) {
            prop_assume!(!values.is_empty());
            let found = recorded(Histogram::of_times(), &values).snapshot().value_at_quantile(quantile);
            values.sort_unstable();
            let rank = ((quantile * values.len() as f64).ceil() as usize).clamp(1, values.len());
            let exact = values[rank - 1].min(LONGEST_NS);
            prop_assert!(found >= exact && found - exact <= exact / 1_000, "{found} instead of {exact}");
        }

        #[test]
        fn a_bucket_holds_a_value_and_begins_at_or_below_it(value in any::<u64>(), shift in 0_u32..64) {
            let value = value >> shift;
            let bucket = bucket_of(value);
            let lowest = lowest_of(bucket);
            prop_assert!(lowest <= value && value - lowest <= lowest / 1_000);
            prop_assert_eq!(bucket_of(lowest), bucket);
            prop_assert!(lowest == 0 || bucket_of(lowest - 1) + 1 == bucket);
        }
    }

    #[test]
    fn what_is_too_long_counts_as_the_longest() {
        let histogram = recorded(Histogram::of_times(), &[u64::MAX, LONGEST_NS + 1, LONGEST_NS]);
        let snapshot = histogram.snapshot();
        assert_eq!(snapshot.len(), 3);
        assert_eq!(snapshot.min(), snapshot.lowest_equivalent(LONGEST_NS));
    }

    #[test]
    fn a_snapshot_taken_while_it_is_written_never_shrinks() {
        let histogram = Histogram::of_times();
        std::thread::scope(|scope| {
            let writer = scope.spawn(|| (0..200_000).for_each(|value| histogram.record(value * 7)));
            let mut last = 0;
            while !writer.is_finished() {
                let len = histogram.snapshot().len();
                assert!(len >= last);
                last = len;
            }
        });
        assert_eq!(histogram.snapshot().len(), 200_000);
    }
}
