//! Work of shares that are no longer kept: by hour, payee and worker, for ever.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use rocksdb::{DB, DBRawIterator, IteratorMode, ReadOptions};

use super::error::{Damage, LedgerError};
use super::fields::Fields;
use super::record::ShareRecord;
use super::schema::{self, family};

/// Workers that a payee has rows for in one hour, the first that came; what others did stands in one row for all of
/// them. With 25 bytes a row a payee cannot take more than 56 MB a year, whatever it calls its workers.
pub const HOUR_WORKERS_MAX: usize = 256;

/// Ms of an hour.
pub(super) const HOUR_MS: u64 = 3_600_000;

const VERSION: u8 = 1;

const WHAT: &str = "hours";

/// Stands in a key for all workers that have no row of their own.
const OTHER: u32 = u32::MAX;

/// What somebody did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Sum {
    pub shares: u64,
    /// The sum of `2^pot`.
    pub work: u128,
}

/// What a worker did in an hour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HourRow {
    /// Hours since 1970.
    pub hour: u32,
    pub payee: u32,
    /// None for all of the payee's workers that have no row of their own.
    pub worker: Option<u32>,
    pub sum: Sum,
}

impl Sum {
    pub(super) fn add(&mut self, other: Self) {
        self.shares += other.shares;
        self.work += other.work;
    }

    /// `version u8 | shares u64 | work u128`.
    fn encode(self) -> Vec<u8> {
        let mut row = vec![VERSION];
        row.extend_from_slice(&self.shares.to_le_bytes());
        row.extend_from_slice(&self.work.to_le_bytes());
        row
    }

    fn decode(row: &[u8]) -> Result<Self, Damage> {
        let mut fields = Fields::new(WHAT, row);
        fields.version(VERSION)?;
        let sum = Self {
            shares: fields.u64()?,
            work: fields.u128()?,
        };
        if sum.shares == 0 || sum.work < u128::from(sum.shares) {
            return Err(fields.bad("sum"));
        }
        fields.end()?;
        Ok(sum)
    }
}

/// `hour u32 | payee u32 | worker u32`, big-endian: read in order it is time; one seek an hour reads one payee.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    hour: u32,
    payee: u32,
    worker: u32,
}

impl Key {
    fn encode(self) -> [u8; 12] {
        let mut key = [0; 12];
        key[..4].copy_from_slice(&self.hour.to_be_bytes());
        key[4..8].copy_from_slice(&self.payee.to_be_bytes());
        key[8..].copy_from_slice(&self.worker.to_be_bytes());
        key
    }

    fn decode(key: &[u8]) -> Result<Self, Damage> {
        let mut fields = Fields::new(WHAT, key);
        let key = Self {
            hour: u32::from_be_bytes(fields.array()?),
            payee: u32::from_be_bytes(fields.array()?),
            worker: u32::from_be_bytes(fields.array()?),
        };
        fields.end()?;
        Ok(key)
    }
}

impl HourRow {
    /// When its hour began, s since 1970.
    #[must_use]
    pub fn begins_s(&self) -> u64 {
        u64::from(self.hour) * HOUR_MS / 1_000
    }

    pub(super) fn key(&self) -> [u8; 12] {
        let key = Key {
            hour: self.hour,
            payee: self.payee,
            worker: self.worker.unwrap_or(OTHER),
        };
        key.encode()
    }

    pub(super) fn value(&self) -> Vec<u8> {
        self.sum.encode()
    }

    fn decode(key: &[u8], value: &[u8]) -> Result<Self, Damage> {
        let key = Key::decode(key)?;
        Ok(Self {
            hour: key.hour,
            payee: key.payee,
            worker: Some(key.worker).filter(|worker| *worker != OTHER),
            sum: Sum::decode(value)?,
        })
    }
}

/// All rows, by time.
pub(super) fn rows(db: &DB) -> impl Iterator<Item = Result<HourRow, LedgerError>> + use<'_> {
    let mut options = ReadOptions::default();
    options.fill_cache(false);
    let rows = db.iterator_cf_opt(family(db, schema::HOURS), options, IteratorMode::Start);
    rows.map(|row| {
        let (key, value) = row?;
        Ok(HourRow::decode(&key, &value)?)
    })
}

/// Those of one payee, by time.
pub(super) fn rows_of(db: &DB, payee: u32) -> impl Iterator<Item = Result<HourRow, LedgerError>> + use<'_> {
    let mut rows = db.raw_iterator_cf(family(db, schema::HOURS));
    let start = move |hour| {
        let worker = 0;
        Key { hour, payee, worker }.encode()
    };
    rows.seek(start(0));
    std::iter::from_fn(move || {
        loop {
            let Some((key, value)) = rows.item() else {
                return rows.status().err().map(|error| Err(error.into()));
            };
            let row = match HourRow::decode(key, value) {
                Ok(row) => row,
                Err(damage) => {
                    rows.next();
                    return Some(Err(damage.into()));
                }
            };
            if row.payee == payee {
                rows.next();
                return Some(Ok(row));
            }
            let hour = if row.payee < payee {
                row.hour
            } else {
                row.hour.checked_add(1)?
            };
            rows.seek(start(hour));
        }
    })
}

/// Shares while they are added up.
#[derive(Default)]
pub(super) struct Hours(HashMap<Key, Sum>);

impl Hours {
    pub fn add(&mut self, share: &ShareRecord) {
        let key = Key {
            hour: u32::try_from(share.time_ms / HOUR_MS).unwrap_or(u32::MAX),
            payee: share.payee,
            worker: share.worker,
        };
        let work = share.work();
        self.0.entry(key).or_default().add(Sum { shares: 1, work });
    }

    /// Rows that it takes, at most.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// What the rows become when this is added to those that the ledger has, in the order of their keys.
    ///
    /// # Errors
    /// RocksDB's, or rows that cannot be what was written.
    pub fn onto_rows(self, db: &DB) -> Result<Vec<HourRow>, LedgerError> {
        let mut by_payee: BTreeMap<(u32, u32), BTreeMap<u32, Sum>> = BTreeMap::new();
        for (key, sum) in self.0 {
            let of_payee = by_payee.entry((key.hour, key.payee)).or_default();
            of_payee.insert(key.worker, sum);
        }
        let mut rows = db.raw_iterator_cf(family(db, schema::HOURS));
        let mut changed = Vec::new();
        for ((hour, payee), news) in by_payee {
            let mut sums = sums_of(&mut rows, hour, payee)?;
            for worker in add_within_the_cap(&mut sums, news) {
                changed.push(HourRow {
                    hour,
                    payee,
                    worker: Some(worker).filter(|worker| *worker != OTHER),
                    sum: sums[&worker],
                });
            }
        }
        Ok(changed)
    }
}

/// What the ledger has of one payee in one hour, by worker.
fn sums_of(rows: &mut DBRawIterator<'_>, hour: u32, payee: u32) -> Result<BTreeMap<u32, Sum>, LedgerError> {
    let mut sums = BTreeMap::new();
    let worker = 0;
    rows.seek(Key { hour, payee, worker }.encode());
    while let Some((key, value)) = rows.item() {
        let key = Key::decode(key)?;
        if (key.hour, key.payee) != (hour, payee) {
            break;
        }
        sums.insert(key.worker, Sum::decode(value)?);
        rows.next();
    }
    rows.status()?;
    Ok(sums)
}

/// Adds `news` to the sums of one payee in one hour. Who has a row keeps it; where there are as many as may be, new
/// workers go to the row of all others, and since no row ever goes all that they do in that hour goes there. Says
/// whose rows have changed.
fn add_within_the_cap(sums: &mut BTreeMap<u32, Sum>, news: BTreeMap<u32, Sum>) -> BTreeSet<u32> {
    let mut rows = sums.keys().filter(|worker| **worker != OTHER).count();
    let mut changed = BTreeSet::new();
    for (worker, sum) in news {
        let place = if sums.contains_key(&worker) {
            worker
        } else if rows < HOUR_WORKERS_MAX {
            rows += 1;
            worker
        } else {
            OTHER
        };
        sums.entry(place).or_default().add(sum);
        changed.insert(place);
    }
    changed
}

#[cfg(test)]
mod tests {
    use proptest::collection::vec;
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn rows_read_back(hour: u32, payee: u32, worker: Option<u32>, shares in 1..=u64::MAX, more: u64) {
            let worker = worker.filter(|worker| *worker != OTHER);
            let work = u128::from(shares) + u128::from(more);
            let row = HourRow { hour, payee, worker, sum: Sum { shares, work } };
            prop_assert_eq!(HourRow::decode(&row.key(), &row.value()), Ok(row));
        }

        #[test]
        fn no_bytes_make_the_decoder_panic(key in vec(any::<u8>(), 0..20), value in vec(any::<u8>(), 0..40)) {
            let _ = HourRow::decode(&key, &value);
            let _ = HourRow::decode(&[0; 12], &[&[VERSION], &value[..]].concat());
        }

        /// However the shares of an hour are cut into steps, nothing is lost, and a worker's is in one place.
        #[test]
        fn the_cap_moves_work_and_loses_none(steps in vec(vec(0..2 * HOUR_WORKERS_MAX as u32, 0..400), 1..5)) {
            let mut sums = BTreeMap::new();
            let mut all: BTreeMap<u32, u64> = BTreeMap::new();
            for step in steps {
                let mut news: BTreeMap<u32, Sum> = BTreeMap::new();
                for worker in step {
                    news.entry(worker).or_default().add(Sum { shares: 1, work: 2 });
                    *all.entry(worker).or_default() += 1;
                }
                let before = sums.clone();
                let changed = add_within_the_cap(&mut sums, news);
                prop_assert!(sums.iter().all(|(worker, sum)| changed.contains(worker) || before.get(worker) == Some(sum)));
            }
            let other = sums.remove(&OTHER).unwrap_or_default();
            prop_assert_eq!(sums.len(), all.len().min(HOUR_WORKERS_MAX));
            for (worker, sum) in &sums {
                prop_assert_eq!(sum.shares, all.remove(worker).unwrap_or(0));
            }
            prop_assert_eq!(other.shares, all.values().sum::<u64>());
            prop_assert_eq!(other.work, 2 * u128::from(other.shares));
        }
    }
}
