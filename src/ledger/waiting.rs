//! Shares that wait for a parent that no node of ours has seen: answered, on disk, and in no window until they are judged.
//!
//! A gateway can be ahead of us by a moment, or be on a branch that comes to nothing. What is judged good enters the log
//! then, with the sequence of then; what is not, or not in time, earns nothing.

use std::collections::BTreeMap;

use super::error::Damage;
use super::fields::Fields;
use super::record::{RECORD_LEN, ShareRecord};
use crate::work::{BlockFacts, Chain, Parent};

/// How long a share may wait, in ms: our nodes have seen by then what the rest of the network has.
pub const WAIT_MAX_MS: u64 = 120_000;

const WHAT: &str = "waiting";
const VERSION: u8 = 1;

/// A share that waits, as it lies on disk under its number, u64 big-endian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct WaitingRow {
    pub record: ShareRecord,
    pub facts: BlockFacts,
}

/// All that wait, by number.
#[derive(Debug, Default)]
pub(super) struct Waiting {
    rows: BTreeMap<u64, WaitingRow>,
    next: u64,
}

/// What is said of a share that waited.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Judged {
    /// It counts: its parent is known, and asks for what it has.
    Good,
    /// Its parent asks for something else, or has not been seen in time.
    Lost,
}

impl Waiting {
    /// As the ledger has them, in the order of their numbers.
    pub fn restored(rows: impl IntoIterator<Item = (u64, WaitingRow)>) -> Self {
        let rows: BTreeMap<u64, WaitingRow> = rows.into_iter().collect();
        Self {
            next: rows.last_key_value().map_or(0, |(last, _)| last + 1),
            rows,
        }
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    /// Gives the number that the row has on disk.
    pub fn push(&mut self, row: WaitingRow) -> u64 {
        let number = self.next;
        self.next += 1;
        self.rows.insert(number, row);
        number
    }

    /// Takes out what can be judged by this chain at this time, ms since 1970, in the order it came.
    pub fn judge(&mut self, chain: &Chain, now_ms: u64) -> Vec<(u64, WaitingRow, Judged)> {
        // Of thousands that wait most are for the same parent, and the chain has more than a hundred.
        let mut last: Option<([u8; 32], Option<&Parent>)> = None;
        let mut parent_of = |hash: &[u8; 32]| match last {
            Some((known, parent)) if known == *hash => parent,
            _ => {
                let parent = chain.parent(hash);
                last = Some((*hash, parent));
                parent
            }
        };
        let mut verdict = |row: &WaitingRow| match parent_of(&row.record.parent) {
            Some(parent) if chain.confirm(parent, &row.facts).is_ok() => Some(Judged::Good),
            Some(_) => Some(Judged::Lost),
            None if now_ms.saturating_sub(row.record.time_ms) >= WAIT_MAX_MS => Some(Judged::Lost),
            None => None,
        };
        let judged: Vec<_> = self
            .rows
            .iter()
            .filter_map(|(number, row)| Some((*number, *row, verdict(row)?)))
            .collect();
        for (number, _, _) in &judged {
            self.rows.remove(number);
        }
        judged
    }
}

impl WaitingRow {
    /// `version u8 | record 64 | nbits u32 | height u32 | value u64 | ntime u32`.
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        self.record.encode(&mut bytes);
        bytes.extend_from_slice(&self.facts.nbits.to_le_bytes());
        bytes.extend_from_slice(&self.facts.height.to_le_bytes());
        bytes.extend_from_slice(&self.facts.value.to_le_bytes());
        bytes.extend_from_slice(&self.facts.ntime.to_le_bytes());
        bytes
    }

    pub fn decode(row: &[u8]) -> Result<Self, Damage> {
        let mut fields = Fields::new(WHAT, row);
        fields.version(VERSION)?;
        let record = ShareRecord::decode(&fields.array::<RECORD_LEN>()?)?;
        let facts = BlockFacts {
            nbits: fields.u32()?,
            height: fields.u32()?,
            value: fields.u64()?,
            ntime: fields.u32()?,
        };
        fields.end()?;
        Ok(Self { record, facts })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::work::NetworkKind;

    fn row(parent: u8, height: u32, time_ms: u64) -> WaitingRow {
        WaitingRow {
            record: ShareRecord {
                pot: 3,
                prime_id: 7,
                payee: 1,
                worker: 2,
                hash64: u64::from(height),
                time_ms,
                parent: [parent; 32],
            },
            facts: BlockFacts {
                nbits: 0x1d00_ffff,
                height,
                value: 5_000_000_000,
                ntime: 100,
            },
        }
    }

    fn chain(hash: u8, next_height: u32) -> Chain {
        Chain::of_node(
            NetworkKind::Main,
            0,
            &[Parent {
                hash: [hash; 32],
                next_height,
                next_nbits: 0x1d00_ffff,
                easy_after_s: None,
                min_time: 0,
                subsidy: 5_000_000_000,
                good_until_s: None,
                is_in_chain: true,
            }],
        )
    }

    #[test]
    fn a_share_is_judged_when_its_parent_is_seen_or_its_time_is_over() {
        let mut waiting = Waiting::default();
        for (number, row) in [row(1, 5, 1_000), row(2, 5, 1_000), row(1, 6, 1_000), row(1, 5, 2_000)]
            .iter()
            .enumerate()
        {
            assert_eq!(waiting.push(*row), number as u64);
        }
        assert!(waiting.judge(&chain(9, 5), 1_000 + WAIT_MAX_MS - 1).is_empty());
        let judged: Vec<_> = waiting
            .judge(&chain(1, 5), 3_000)
            .into_iter()
            .map(|(n, _, judged)| (n, judged))
            .collect();
        assert_eq!(judged, [(0, Judged::Good), (2, Judged::Lost), (3, Judged::Good)]);
        assert_eq!(waiting.len(), 1);
        let judged = waiting.judge(&chain(1, 5), 1_000 + WAIT_MAX_MS);
        assert_eq!(judged, [(1, row(2, 5, 1_000), Judged::Lost)]);
        assert_eq!(waiting.push(row(1, 5, 0)), 4, "no number is given twice");
    }

    #[test]
    fn rows_read_back_and_numbers_go_on() {
        let row = row(3, 9, 77);
        assert_eq!(WaitingRow::decode(&row.encode()), Ok(row));
        assert!(WaitingRow::decode(&row.encode()[..80]).is_err());
        let mut restored = Waiting::restored([(4, row), (9, row)]);
        assert_eq!((restored.len(), restored.push(row)), (2, 10));
    }
}
