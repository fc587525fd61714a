//! The rows of the books: events, and splits that were dictated. Little-endian but for keys.

use super::books::{Event, PaidByHand, Posting, SchemeKind, Settlement, SplitTerms, Terms, What};
use super::error::Damage;
use super::fields::Fields;
use crate::work::{Pin, PinnedSplit};

const VERSION: u8 = 1;

/// An event: the key is its number, u64 big-endian.
pub(super) mod event {
    use super::{Damage, Event, Fields, PaidByHand, Posting, SchemeKind, Settlement, SplitTerms, Terms, VERSION, What};

    const WHAT: &str = "events";

    const TERMS: u8 = 0;
    const SETTLED: u8 = 1;
    const ACCEPTED: u8 = 2;
    const MATURED: u8 = 3;
    const ORPHANED: u8 = 4;
    const REJECTED: u8 = 5;
    const PAID_BY_HAND: u8 = 6;

    const TIDES: u8 = 0;
    const PPLNS: u8 = 1;
    const SOLO: u8 = 2;

    /// The layout of a kind's rows. What was booked has another since schema 5.
    fn layout(kind: u8) -> u8 {
        match kind {
            SETTLED => 2,
            _ => VERSION,
        }
    }

    /// `version u8 | kind u8 | sequence u64 | time_ms u64`, then by kind
    ///
    /// * terms: `scheme u8 | work u64 | fee_ppm u32 | minimum u64 | difficulty u64`;
    /// * settled: `block 32 | window_end u64 | value u64 | to_pool u64 | fee u64 | payees u32`, then per posting
    ///   `payee u32 | earned u64 | paid u64`;
    /// * accepted, matured, orphaned, rejected: `block 32`;
    /// * paid by hand: `payee u32 | amount u64 | txid 32`.
    pub fn encode(event: &Event) -> Vec<u8> {
        let kind = match &event.what {
            What::Terms(_) => TERMS,
            What::Settled(_) => SETTLED,
            What::Accepted(_) => ACCEPTED,
            What::Matured(_) => MATURED,
            What::Orphaned(_) => ORPHANED,
            What::Rejected(_) => REJECTED,
            What::PaidByHand(_) => PAID_BY_HAND,
        };
        let mut row = vec![layout(kind), kind];
        row.extend_from_slice(&event.sequence.to_le_bytes());
        row.extend_from_slice(&event.time_ms.to_le_bytes());
        match &event.what {
            What::Terms(terms) => {
                let (scheme, work) = match terms.scheme {
                    SchemeKind::Tides => (TIDES, 0),
                    SchemeKind::Pplns { work } => (PPLNS, work),
                    SchemeKind::Solo => (SOLO, 0),
                };
                row.push(scheme);
                row.extend_from_slice(&work.to_le_bytes());
                row.extend_from_slice(&terms.split.fee_ppm.to_le_bytes());
                row.extend_from_slice(&terms.split.minimum.to_le_bytes());
                row.extend_from_slice(&terms.difficulty.to_le_bytes());
            }
            What::Settled(settlement) => {
                row.extend_from_slice(&settlement.block);
                for number in [
                    settlement.window_end,
                    settlement.value,
                    settlement.to_pool,
                    settlement.fee,
                ] {
                    row.extend_from_slice(&number.to_le_bytes());
                }
                row.extend_from_slice(&settlement.payees.to_le_bytes());
                for Posting { payee, earned, paid } in &settlement.postings {
                    row.extend_from_slice(&payee.to_le_bytes());
                    row.extend_from_slice(&earned.to_le_bytes());
                    row.extend_from_slice(&paid.to_le_bytes());
                }
            }
            What::Accepted(hash) | What::Matured(hash) | What::Orphaned(hash) | What::Rejected(hash) => {
                row.extend_from_slice(hash);
            }
            What::PaidByHand(PaidByHand { payee, amount, txid }) => {
                row.extend_from_slice(&payee.to_le_bytes());
                row.extend_from_slice(&amount.to_le_bytes());
                row.extend_from_slice(txid);
            }
        }
        row
    }

    /// # Errors
    /// The bytes are no event of a version that is known.
    pub fn decode(row: &[u8]) -> Result<Event, Damage> {
        let mut fields = Fields::new(WHAT, row);
        let [version, kind] = fields.array()?;
        if version != layout(kind) {
            return Err(Damage::Version { what: WHAT, version });
        }
        let sequence = fields.u64()?;
        let time_ms = fields.u64()?;
        let what = match kind {
            TERMS => {
                let scheme = fields.u8()?;
                let work = fields.u64()?;
                What::Terms(Terms {
                    scheme: match scheme {
                        TIDES => SchemeKind::Tides,
                        PPLNS => SchemeKind::Pplns { work },
                        SOLO => SchemeKind::Solo,
                        _ => return Err(fields.bad("scheme")),
                    },
                    split: SplitTerms {
                        fee_ppm: fields.u32()?,
                        minimum: fields.u64()?,
                    },
                    difficulty: fields.u64()?,
                })
            }
            SETTLED => {
                let mut settlement = Settlement {
                    block: fields.array()?,
                    window_end: fields.u64()?,
                    value: fields.u64()?,
                    to_pool: fields.u64()?,
                    fee: fields.u64()?,
                    payees: fields.u32()?,
                    postings: Vec::new(),
                };
                let (postings, []) = fields.rest().as_chunks::<20>() else {
                    return Err(Damage::Short { what: WHAT });
                };
                for posting in postings {
                    let mut fields = Fields::new(WHAT, posting);
                    settlement.postings.push(Posting {
                        payee: fields.u32()?,
                        earned: fields.u64()?,
                        paid: fields.u64()?,
                    });
                }
                return Ok(Event {
                    sequence,
                    time_ms,
                    what: What::Settled(settlement),
                });
            }
            ACCEPTED => What::Accepted(fields.array()?),
            MATURED => What::Matured(fields.array()?),
            ORPHANED => What::Orphaned(fields.array()?),
            REJECTED => What::Rejected(fields.array()?),
            PAID_BY_HAND => What::PaidByHand(PaidByHand {
                payee: fields.u32()?,
                amount: fields.u64()?,
                txid: fields.array()?,
            }),
            _ => return Err(fields.bad("kind")),
        };
        fields.end()?;
        Ok(Event {
            sequence,
            time_ms,
            what,
        })
    }

    /// A row of schema 4 as it is now, where it was booked when there were so many payees; none where nothing changed.
    pub fn of_schema_4(row: &[u8], payees: u32) -> Option<Vec<u8>> {
        /// Where the number of payees stands, behind version, kind, place, time, block and four numbers.
        const PAYEES_AT: usize = 2 + 2 * 8 + 32 + 4 * 8;
        if !row.starts_with(&[VERSION, SETTLED]) {
            return None;
        }
        let (before, postings) = row.split_at_checked(PAYEES_AT)?;
        let mut row = [before, &payees.to_le_bytes(), postings].concat();
        row[0] = layout(SETTLED);
        Some(row)
    }
}

/// A split that was dictated. It is kept as long as a job may use it, and goes by time.
pub(super) mod split {
    use super::{Damage, Fields, Pin, PinnedSplit, VERSION};
    use crate::ledger::entry::SplitRow;

    const WHAT: &str = "splits";

    /// `time_s u64 | prime_id u32 | coinbaser_id u8`, big-endian.
    pub fn key(row: &SplitRow) -> [u8; 13] {
        let mut key = [0; 13];
        key[..8].copy_from_slice(&row.time_s.to_be_bytes());
        key[8..12].copy_from_slice(&row.prime_id.to_be_bytes());
        key[12] = row.coinbaser_id;
        key
    }

    /// `version u8 | value u64 | parent 32 | with_balances u8 | sequence u64 | event u64`.
    pub fn encode(row: &SplitRow) -> Vec<u8> {
        let mut bytes = vec![VERSION];
        bytes.extend_from_slice(&row.value.to_le_bytes());
        bytes.extend_from_slice(&row.parent);
        bytes.push(u8::from(row.split.with_balances));
        bytes.extend_from_slice(&row.split.pin.sequence.to_le_bytes());
        bytes.extend_from_slice(&row.split.pin.event.to_le_bytes());
        bytes
    }

    /// # Errors
    /// The bytes are no split of a version that is known.
    pub fn decode(key: &[u8], row: &[u8]) -> Result<SplitRow, Damage> {
        let mut fields = Fields::new(WHAT, key);
        let time_s = u64::from_be_bytes(fields.array()?);
        let prime_id = u32::from_be_bytes(fields.array()?);
        let coinbaser_id = fields.u8()?;
        fields.end()?;
        let mut fields = Fields::new(WHAT, row);
        fields.version(VERSION)?;
        let value = fields.u64()?;
        let parent = fields.array()?;
        let with_balances = match fields.u8()? {
            0 => false,
            1 => true,
            _ => return Err(fields.bad("with_balances")),
        };
        let pin = Pin {
            sequence: fields.u64()?,
            event: fields.u64()?,
        };
        fields.end()?;
        Ok(SplitRow {
            prime_id,
            coinbaser_id,
            value,
            parent,
            split: PinnedSplit { pin, with_balances },
            time_s,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::entry::SplitRow;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn whats() -> impl Strategy<Value = What> {
        let terms =
            (any::<(u32, u64, u64, u64)>(), 0..3_u8).prop_map(|((fee_ppm, minimum, difficulty, work), scheme)| {
                What::Terms(Terms {
                    scheme: match scheme {
                        0 => SchemeKind::Tides,
                        1 => SchemeKind::Pplns { work },
                        _ => SchemeKind::Solo,
                    },
                    split: SplitTerms { fee_ppm, minimum },
                    difficulty,
                })
            });
        let postings = vec(any::<(u32, u64, u64)>(), 0..50).prop_map(|postings| {
            let posting = |(payee, earned, paid)| Posting { payee, earned, paid };
            postings.into_iter().map(posting).collect::<Vec<_>>()
        });
        let settled = (any::<([u8; 32], u64, u64, u64, u64, u32)>(), postings).prop_map(
            |((block, window_end, value, to_pool, fee, payees), postings)| {
                What::Settled(Settlement {
                    block,
                    window_end,
                    value,
                    to_pool,
                    fee,
                    payees,
                    postings,
                })
            },
        );
        let block = (any::<[u8; 32]>(), 0..4_u8).prop_map(|(hash, kind)| match kind {
            0 => What::Accepted(hash),
            1 => What::Matured(hash),
            2 => What::Orphaned(hash),
            _ => What::Rejected(hash),
        });
        let by_hand = any::<(u32, u64, [u8; 32])>()
            .prop_map(|(payee, amount, txid)| What::PaidByHand(PaidByHand { payee, amount, txid }));
        prop_oneof![terms, settled, block, by_hand]
    }

    proptest! {
        #[test]
        fn events_read_back(what in whats(), sequence: u64, time_ms: u64) {
            let event = Event { sequence, time_ms, what };
            let bytes = event::encode(&event);
            if let What::Settled(Settlement { payees, .. }) = event.what {
                // As schema 4 had it.
                let old = [&[1], &bytes[1..82], &bytes[86..]].concat();
                prop_assert_eq!(event::of_schema_4(&old, payees), Some(bytes.clone()));
            }
            prop_assert_eq!(event::of_schema_4(&bytes, 7), None, "once, and no other");
            prop_assert_eq!(event::decode(&bytes), Ok(event));
        }

        #[test]
        fn splits_read_back(
            (prime_id, coinbaser_id, value, parent) in any::<(u32, u8, u64, [u8; 32])>(),
            (with_balances, time_s, sequence, event) in any::<(bool, u64, u64, u64)>(),
        ) {
            let pin = Pin { sequence, event };
            let row = SplitRow { prime_id, coinbaser_id, value, parent, split: PinnedSplit { pin, with_balances }, time_s };
            prop_assert_eq!(split::decode(&split::key(&row), &split::encode(&row)), Ok(row));
        }

        #[test]
        fn no_bytes_make_a_decoder_panic(bytes in vec(any::<u8>(), 0..300), kind in 0..8_u8, key in vec(any::<u8>(), 0..20)) {
            let mut bytes = bytes;
            for version in [None, Some([1, kind]), Some([2, kind])] {
                if let (Some(start), Some(first)) = (version, bytes.first_chunk_mut::<2>()) {
                    *first = start;
                }
                let _ = (event::decode(&bytes), split::decode(&key, &bytes));
            }
        }
    }
}
