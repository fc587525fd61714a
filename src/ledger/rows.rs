//! The rows beside the shares: bytes and back. `docs/LEDGER.md` has each layout; all integers are little-endian.

use super::bundle::Privacy;
use super::channel_keys::{SEALED_LEN, SealedKey};
use super::entry::{CandidateRow, HelloName, Searched, SessionRow};
use super::error::Damage;
use super::fields::Fields;
use crate::wire::{BRANCHES_MAX, ChannelKey, OUTPUTS_MAX, PublicKeys, Reason, SCRIPT_MAX, TAG_MAX};
use crate::work::{Booking, Candidate, MinDiff, Payout, Pin, PinnedSplit, Terms};

/// The layout of every row in this file.
const VERSION: u8 = 1;

/// A payee: `version u8 | script`. The key is its number, u32 big-endian, as of all that is numbered.
pub(super) mod payee {
    use super::{Damage, Fields, SCRIPT_MAX, VERSION};

    pub fn encode(script: &[u8]) -> Vec<u8> {
        [&[VERSION], script].concat()
    }

    pub fn decode(row: &[u8]) -> Result<&[u8], Damage> {
        let mut fields = Fields::new("payees", row);
        fields.version(VERSION)?;
        if !(1..=SCRIPT_MAX).contains(&(row.len() - 1)) {
            return Err(fields.bad("script"));
        }
        fields.bytes(row.len() - 1)
    }
}

/// A worker: `version u8 | payee u32 | name`.
pub(super) mod worker {
    use super::{Damage, Fields, VERSION};

    pub fn encode(payee: u32, name: &[u8]) -> Vec<u8> {
        [&[VERSION], &payee.to_le_bytes()[..], name].concat()
    }

    pub fn decode(row: &[u8]) -> Result<(u32, &[u8]), Damage> {
        let mut fields = Fields::new("workers", row);
        fields.version(VERSION)?;
        Ok((fields.u32()?, fields.bytes(row.len().saturating_sub(5))?))
    }
}

/// What a payee did, up to a share: `version u8 | as_of u64 | shares u64 | work u128`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Total {
    /// Shares with a lower sequence are counted.
    pub as_of: u64,
    pub shares: u64,
    /// The sum of `2^pot`.
    pub work: u128,
}

impl Total {
    pub fn add(&mut self, work: u128) {
        self.shares += 1;
        self.work += work;
    }

    pub fn encode(&self) -> Vec<u8> {
        let mut row = vec![VERSION];
        row.extend_from_slice(&self.as_of.to_le_bytes());
        row.extend_from_slice(&self.shares.to_le_bytes());
        row.extend_from_slice(&self.work.to_le_bytes());
        row
    }

    pub fn decode(row: &[u8]) -> Result<Self, Damage> {
        let mut fields = Fields::new("totals", row);
        fields.version(VERSION)?;
        let total = Self {
            as_of: fields.u64()?,
            shares: fields.u64()?,
            work: fields.u128()?,
        };
        fields.end()?;
        Ok(total)
    }
}

/// The rows of a session: key `prime_id u32 big-endian | kind u8`, so that a session's rows stand together.
pub(super) mod session {
    use super::{
        ChannelKey, Damage, Fields, HelloName, MinDiff, PublicKeys, SCRIPT_MAX, SEALED_LEN, SealedKey, SessionRow,
        TAG_MAX, Terms, VERSION,
    };

    const WHAT: &str = "sessions";

    /// The layout of an opened row; the first said nothing of HELLO.
    const OPENED_VERSION: u8 = 2;

    /// What is written for a HELLO that nobody knows.
    const NO_HELLO: HelloName = [0; 8];

    /// The layout of a channel key; in the first it lay open.
    const KEY_VERSION: u8 = 2;

    /// Kinds of rows, the last byte of the key.
    pub const OPENED: u8 = 0;
    pub const PROVEN: u8 = 1;
    pub const ENDED: u8 = 2;
    pub const KEY: u8 = 3;
    pub const KINDS: [u8; 4] = [OPENED, PROVEN, ENDED, KEY];

    pub fn key(prime_id: u32, kind: u8) -> [u8; 5] {
        let [a, b, c, d] = prime_id.to_be_bytes();
        [a, b, c, d, kind]
    }

    pub fn decode_key(key: &[u8]) -> Result<(u32, u8), Damage> {
        let mut fields = Fields::new(WHAT, key);
        let prime_id = u32::from_be_bytes(fields.array()?);
        let kind = fields.u8()?;
        if kind > KEY || prime_id == 0 {
            return Err(fields.bad("key"));
        }
        fields.end()?;
        Ok((prime_id, kind))
    }

    /// `version u8 | opened_ms u64 | ed25519 32 | x25519 32 | hello 8 | min_diff_pot u8 | script_len u8 | script | tag`.
    pub fn encode(row: &SessionRow) -> Vec<u8> {
        let terms = &row.terms;
        let mut bytes = vec![OPENED_VERSION];
        bytes.extend_from_slice(&row.opened_ms.to_le_bytes());
        bytes.extend_from_slice(&row.gateway.ed25519);
        bytes.extend_from_slice(&row.gateway.x25519);
        bytes.extend_from_slice(&row.hello.unwrap_or(NO_HELLO));
        bytes.push(terms.min_diff.pot());
        bytes.push(u8::try_from(terms.script.len()).expect("terms have a script of at most 64 bytes"));
        bytes.extend_from_slice(&terms.script);
        bytes.extend_from_slice(&terms.tag);
        bytes
    }

    pub fn decode(prime_id: u32, row: &[u8]) -> Result<SessionRow, Damage> {
        let mut fields = Fields::new(WHAT, row);
        let names_hello = row.first() == Some(&OPENED_VERSION);
        fields.version(if names_hello { OPENED_VERSION } else { VERSION })?;
        let opened_ms = fields.u64()?;
        let gateway = PublicKeys {
            ed25519: fields.array()?,
            x25519: fields.array()?,
        };
        let hello = if names_hello { fields.array()? } else { NO_HELLO };
        let min_diff = MinDiff::from_pot(fields.u8()?).ok_or(fields.bad("least difficulty"))?;
        let len = usize::from(fields.u8()?);
        if !(1..=SCRIPT_MAX).contains(&len) {
            return Err(fields.bad("script"));
        }
        let script = fields.bytes(len)?;
        let tag = fields.rest();
        if tag.len() > TAG_MAX || tag.contains(&0) || prime_id == 0 {
            return Err(Damage::Value {
                what: WHAT,
                field: "tag or prime_id",
            });
        }
        Ok(SessionRow {
            gateway,
            terms: Terms::new(prime_id, script, tag, min_diff),
            opened_ms,
            hello: (hello != NO_HELLO).then_some(hello),
        })
    }

    /// `version u8 | time_ms u64`.
    pub fn encode_mark(time_ms: u64) -> Vec<u8> {
        [&[VERSION], &time_ms.to_le_bytes()[..]].concat()
    }

    /// `version u8 | place u32 | sealed key 48`.
    pub fn encode_sealed_key(key: &SealedKey) -> Vec<u8> {
        [&[KEY_VERSION], &key.place.to_le_bytes()[..], &key.sealed].concat()
    }

    pub fn decode_sealed_key(row: &[u8]) -> Result<SealedKey, Damage> {
        let mut fields = Fields::new(WHAT, row);
        fields.version(KEY_VERSION)?;
        let key = SealedKey {
            place: fields.u32()?,
            sealed: fields.array::<SEALED_LEN>()?,
        };
        fields.end()?;
        Ok(key)
    }

    /// A key as it lay in ledgers up to schema 3, `version u8 | key 32`; none where it is sealed already.
    pub fn decode_open_key(row: &[u8]) -> Result<Option<ChannelKey>, Damage> {
        if row.first() == Some(&KEY_VERSION) {
            return Ok(None);
        }
        let mut fields = Fields::new(WHAT, row);
        fields.version(VERSION)?;
        let key = ChannelKey::from_bytes(fields.array()?);
        fields.end()?;
        Ok(Some(key))
    }

    pub fn decode_mark(row: &[u8]) -> Result<u64, Damage> {
        let mut fields = Fields::new(WHAT, row);
        fields.version(VERSION)?;
        let time_ms = fields.u64()?;
        fields.end()?;
        Ok(time_ms)
    }
}

/// The row `searched` of the family `default`: `version u8 | height u32 | hash 32`.
pub(super) mod searched {
    use super::{Damage, Fields, Searched, VERSION};

    pub fn encode(searched: &Searched) -> Vec<u8> {
        [&[VERSION], &searched.height.to_le_bytes()[..], &searched.hash].concat()
    }

    pub fn decode(row: &[u8]) -> Result<Searched, Damage> {
        let mut fields = Fields::new("searched", row);
        fields.version(VERSION)?;
        let height = fields.u32()?;
        let hash = fields.array()?;
        fields.end()?;
        Ok(Searched { hash, height })
    }
}

/// How audit bundles name payees: `version u8 | 0 clear, 1 hashed u8`.
pub(super) mod bundle_privacy {
    use super::{Damage, Fields, Privacy, VERSION};

    pub fn encode(privacy: Privacy) -> [u8; 2] {
        [VERSION, u8::from(privacy == Privacy::Hashed)]
    }

    pub fn decode(row: &[u8]) -> Result<Privacy, Damage> {
        let mut fields = Fields::new("bundle_privacy", row);
        fields.version(VERSION)?;
        let privacy = match fields.u8()? {
            0 => Privacy::Clear,
            1 => Privacy::Hashed,
            _ => return Err(fields.bad("name")),
        };
        fields.end()?;
        Ok(privacy)
    }
}

/// A candidate: the key is its hash as hashed.
pub(super) mod candidate {
    use super::{
        BRANCHES_MAX, Booking, Candidate, CandidateRow, Damage, Fields, OUTPUTS_MAX, Payout, Pin, PinnedSplit, Reason,
        SCRIPT_MAX,
    };

    const WHAT: &str = "candidates";

    /// The layout of this row; the first, without a booking, was written by ledgers without books.
    const VERSION: u8 = 6;

    /// The same layout, of a block that no share announced.
    const UNANNOUNCED: u8 = 7;

    /// What schema 5 had of both: without what was dictated.
    const OF_SCHEMA_5: [(u8, u8); 2] = [(4, VERSION), (5, UNANNOUNCED)];

    /// What schema 4 had of both: without the events before it, too.
    const OF_SCHEMA_4: [(u8, u8); 2] = [(2, 4), (3, 5)];

    /// Where it stands what was dictated, behind what it is booked by.
    const DICTATED_AT: usize = EVENT_AT + 8 + 8 + 32 + 1 + 8 + 8;

    /// The number of outputs where nothing is known of them.
    const NOT_KEPT: u16 = u16::MAX;

    /// Where the number of events stands, behind version and sequence.
    const EVENT_AT: usize = 1 + 8;

    /// Kinds of booking.
    const WITHOUT_PAYOUTS: u8 = 0;
    const PAYS: u8 = 1;
    const PAYS_WITHOUT_BALANCES: u8 = 2;
    const BY_HAND: u8 = 3;
    const BY_HAND_TOLD: u8 = 4;
    const BY_HAND_TOLD_WITHOUT_BALANCES: u8 = 5;

    /// `version u8 | sequence u64 | event u64 | time_ms u64 | gateway 32 | booking u8 | split sequence u64 | split event u64
    /// | outputs dictated u16 (ffff: not kept) | each: payee u32, value u64, script_len u8, script
    /// | verdict u16 (0 accepted, else the reason) | job_id u8 | coinbase_id u8 | flags u8 | target_pot u8 | height u32 | value u64 | tx_count u32 | header 80
    /// | branch_count u8 | branches 32 each | username_len u16 | username | coinbase`.
    ///
    /// `sequence` and `event`, its `place`: shares and events that stood in the log before it.
    pub fn encode(place: Pin, row: &CandidateRow) -> Vec<u8> {
        let candidate = &row.candidate;
        let mut bytes = vec![if row.announced { VERSION } else { UNANNOUNCED }];
        bytes.extend_from_slice(&place.sequence.to_le_bytes());
        bytes.extend_from_slice(&place.event.to_le_bytes());
        bytes.extend_from_slice(&row.time_ms.to_le_bytes());
        bytes.extend_from_slice(&row.gateway);
        let by_balances = |split: PinnedSplit, with, without| if split.with_balances { with } else { without };
        let kind = match candidate.booking {
            Booking::WithoutPayouts => WITHOUT_PAYOUTS,
            Booking::Pays(split) => by_balances(split, PAYS, PAYS_WITHOUT_BALANCES),
            Booking::ByHand { told: None } => BY_HAND,
            Booking::ByHand { told: Some(split) } => by_balances(split, BY_HAND_TOLD, BY_HAND_TOLD_WITHOUT_BALANCES),
        };
        let pin = candidate.booking.pin(Pin::default());
        bytes.push(kind);
        bytes.extend_from_slice(&pin.sequence.to_le_bytes());
        bytes.extend_from_slice(&pin.event.to_le_bytes());
        let count = candidate.dictated.as_ref().map_or(NOT_KEPT, |outputs| {
            u16::try_from(outputs.len()).expect("a split has at most 512 outputs")
        });
        bytes.extend_from_slice(&count.to_le_bytes());
        for Payout { payee, value, script } in candidate.dictated.iter().flatten() {
            bytes.extend_from_slice(&payee.to_le_bytes());
            bytes.extend_from_slice(&value.to_le_bytes());
            bytes.push(u8::try_from(script.len()).expect("a payee's script has 64 bytes at most"));
            bytes.extend_from_slice(script);
        }
        let verdict = candidate.verdict.map_or_else(Reason::code, |()| 0);
        bytes.extend_from_slice(&verdict.to_le_bytes());
        bytes.extend_from_slice(&[
            candidate.job_id,
            candidate.coinbase_id,
            candidate.flags,
            candidate.target_pot,
        ]);
        bytes.extend_from_slice(&candidate.height.to_le_bytes());
        bytes.extend_from_slice(&candidate.value.to_le_bytes());
        bytes.extend_from_slice(&candidate.tx_count.to_le_bytes());
        bytes.extend_from_slice(&candidate.header);
        bytes.push(u8::try_from(candidate.branches.len()).expect("at most 24 branches are kept"));
        bytes.extend_from_slice(candidate.branches.as_flattened());
        let username_len = u16::try_from(candidate.username.len()).expect("at most 384 bytes decode");
        bytes.extend_from_slice(&username_len.to_le_bytes());
        bytes.extend_from_slice(&candidate.username);
        bytes.extend_from_slice(&candidate.coinbase);
        bytes
    }

    /// The candidate, and its place in the log.
    pub fn decode(hash: &[u8], row: &[u8]) -> Result<(Pin, CandidateRow), Damage> {
        let mut fields = Fields::new(WHAT, row);
        let announced = !is_unannounced(row);
        fields.version(if announced { VERSION } else { UNANNOUNCED })?;
        let place = Pin {
            sequence: fields.u64()?,
            event: fields.u64()?,
        };
        let time_ms = fields.u64()?;
        let gateway = fields.array()?;
        let kind = fields.u8()?;
        let pin = Pin {
            sequence: fields.u64()?,
            event: fields.u64()?,
        };
        let booking = match kind {
            WITHOUT_PAYOUTS => Booking::WithoutPayouts,
            PAYS | PAYS_WITHOUT_BALANCES => Booking::Pays(PinnedSplit {
                pin,
                with_balances: kind == PAYS,
            }),
            BY_HAND => Booking::ByHand { told: None },
            BY_HAND_TOLD | BY_HAND_TOLD_WITHOUT_BALANCES => Booking::ByHand {
                told: Some(PinnedSplit {
                    pin,
                    with_balances: kind == BY_HAND_TOLD,
                }),
            },
            _ => return Err(fields.bad("booking")),
        };
        let dictated = match fields.u16()? {
            NOT_KEPT => None,
            count if usize::from(count) > OUTPUTS_MAX => return Err(fields.bad("number of outputs dictated")),
            count => Some((0..count).map(|_| output(&mut fields)).collect::<Result<_, _>>()?),
        };
        let verdict = match fields.u16()? {
            0 => Ok(()),
            code => Err(Reason::from_code(code).ok_or(fields.bad("verdict"))?),
        };
        let [job_id, coinbase_id, flags, target_pot] = fields.array()?;
        let height = fields.u32()?;
        let value = fields.u64()?;
        let tx_count = fields.u32()?;
        let header = fields.array()?;
        let count = usize::from(fields.u8()?);
        if count > BRANCHES_MAX {
            return Err(fields.bad("number of branches"));
        }
        let branches = fields.bytes(32 * count)?.as_chunks().0.to_vec();
        let len = usize::from(fields.u16()?);
        let username = fields.bytes(len)?.to_vec();
        let candidate = Candidate {
            hash: hash.try_into().map_err(|_| fields.bad("key"))?,
            header,
            coinbase: fields.rest().to_vec(),
            branches,
            height,
            value,
            tx_count,
            job_id,
            coinbase_id,
            flags,
            target_pot,
            verdict,
            username,
            booking,
            dictated,
        };
        let row = CandidateRow {
            announced,
            ..CandidateRow::new(candidate, gateway, time_ms)
        };
        Ok((place, row))
    }

    fn output(fields: &mut Fields<'_>) -> Result<Payout, Damage> {
        let (payee, value) = (fields.u32()?, fields.u64()?);
        let len = usize::from(fields.u8()?);
        if !(1..=SCRIPT_MAX).contains(&len) {
            return Err(fields.bad("script dictated"));
        }
        let script = fields.bytes(len)?.into();
        Ok(Payout { payee, value, script })
    }

    /// A row of schema 5 as it is now: what was dictated is not known any more. None where nothing changed.
    pub fn of_schema_5(row: &[u8]) -> Result<Option<Vec<u8>>, Damage> {
        let version = OF_SCHEMA_5.iter().find(|(old, _)| row.first() == Some(old));
        let Some((_, version)) = version else {
            return Ok(None);
        };
        let (before, behind) = row.split_at_checked(DICTATED_AT).ok_or(Damage::Short { what: WHAT })?;
        let mut row = [before, &NOT_KEPT.to_le_bytes(), behind].concat();
        row[0] = *version;
        Ok(Some(row))
    }

    /// A row of schema 4 as schema 5 has it. `event` tells how many events stood before a block, by its shares before it and its time;
    /// none where nothing changed.
    pub fn of_schema_4<E: From<Damage>>(
        row: &[u8],
        event: impl FnOnce(u64, u64) -> Result<u64, E>,
    ) -> Result<Option<Vec<u8>>, E> {
        let mut fields = Fields::new(WHAT, row);
        let version = fields.u8()?;
        let Some((_, version)) = OF_SCHEMA_4.iter().find(|(old, _)| *old == version) else {
            return Ok(None);
        };
        let event = event(fields.u64()?, fields.u64()?)?;
        let mut row = [&row[..EVENT_AT], &event.to_le_bytes(), &row[EVENT_AT..]].concat();
        row[0] = *version;
        Ok(Some(row))
    }

    /// Whether the row is of a block that no share announced.
    pub fn is_unannounced(row: &[u8]) -> bool {
        row.first() == Some(&UNANNOUNCED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn keys() -> impl Strategy<Value = PublicKeys> {
        any::<([u8; 32], [u8; 32])>().prop_map(|(ed25519, x25519)| PublicKeys { ed25519, x25519 })
    }

    proptest! {
        #[test]
        fn how_far_the_chain_was_searched_reads_back(hash: [u8; 32], height: u32) {
            let row = Searched { hash, height };
            prop_assert_eq!(searched::decode(&searched::encode(&row)), Ok(row));
        }

        #[test]
        fn payees_and_workers_read_back(script in vec(any::<u8>(), 1..=64), payee: u32, name in vec(any::<u8>(), 0..128)) {
            let row = payee::encode(&script);
            prop_assert_eq!(payee::decode(&row), Ok(&script[..]));
            let row = worker::encode(payee, &name);
            prop_assert_eq!(worker::decode(&row), Ok((payee, &name[..])));
        }

        #[test]
        fn totals_read_back(as_of: u64, shares: u64, work: u128) {
            let total = Total { as_of, shares, work };
            prop_assert_eq!(Total::decode(&total.encode()), Ok(total));
        }

        #[test]
        fn sessions_read_back(
            gateway in keys(), prime_id in 1..=u32::MAX, script in vec(any::<u8>(), 1..=64),
            tag in vec(1..=255_u8, 0..=83), pot in 0..=63_u8, opened_ms: u64, is_named: bool,
        ) {
            let min_diff = MinDiff::from_pot(pot).expect("a pot");
            let hello = is_named.then_some([pot + 1; 8]);
            let row = SessionRow { gateway, terms: Terms::new(prime_id, &script, &tag, min_diff), opened_ms, hello };
            let encoded = session::encode(&row);
            prop_assert_eq!(session::decode(prime_id, &encoded), Ok(row.clone()));
            // As it was before rows named their HELLO: that stands behind version, time and keys.
            let former = [&[VERSION], &encoded[1..73], &encoded[81..]].concat();
            let unnamed = SessionRow { hello: None, ..row };
            prop_assert_eq!(session::decode(prime_id, &former), Ok(unnamed));
            prop_assert_eq!(session::decode_mark(&session::encode_mark(opened_ms)), Ok(opened_ms));
            let sealed: [u8; SEALED_LEN] = std::array::from_fn(|at| gateway.x25519[at % 32]);
            let key = SealedKey { place: prime_id, sealed };
            let row = session::encode_sealed_key(&key);
            prop_assert_eq!(session::decode_open_key(&row).map(|open| open.is_none()), Ok(true));
            prop_assert_eq!(session::decode_sealed_key(&row), Ok(key));
            let open = [&[VERSION], &gateway.x25519[..]].concat();
            let read = session::decode_open_key(&open).map(|open| open.map(|key| *key.as_bytes()));
            prop_assert_eq!(read, Ok(Some(gateway.x25519)));
            for kind in session::KINDS {
                prop_assert_eq!(session::decode_key(&session::key(prime_id, kind)), Ok((prime_id, kind)));
            }
        }

        #[test]
        fn candidates_read_back(
            (hash, header, gateway) in any::<([u8; 32], ([u8; 32], [u8; 32], [u8; 16]), [u8; 32])>(),
            coinbase in vec(any::<u8>(), 0..300), branches in vec(any::<[u8; 32]>(), 0..=24),
            (height, value, tx_count, ids) in any::<(u32, u64, u32, [u8; 4])>(), code in prop_oneof![Just(None), (10..=30_u16).prop_map(Some)],
            username in vec(any::<u8>(), 0..=384), (sequence, event, time_ms) in any::<(u64, u64, u64)>(),
            kind in 0..6_u8, announced: bool,
            outputs in proptest::option::of(vec((any::<u32>(), any::<u64>(), vec(any::<u8>(), 1..=64)), 0..9)),
        ) {
            let header = [&header.0[..], &header.1, &header.2].concat().try_into().expect("80 bytes");
            let verdict = code.and_then(Reason::from_code).map_or(Ok(()), Err);
            let candidate = Candidate {
                hash, header, coinbase, branches, height, value, tx_count, verdict, username,
                dictated: outputs.map(|outputs| {
                    let output = |(payee, value, script): (_, _, Vec<u8>)| Payout { payee, value, script: script.into() };
                    outputs.into_iter().map(output).collect()
                }),
                job_id: ids[0], coinbase_id: ids[1], flags: ids[2], target_pot: ids[3],
                booking: match kind {
                    0 => Booking::WithoutPayouts,
                    1 => Booking::ByHand { told: None },
                    _ => {
                        let pin = Pin { sequence: time_ms, event: sequence };
                        let split = PinnedSplit { pin, with_balances: kind % 2 == 0 };
                        if kind < 4 { Booking::Pays(split) } else { Booking::ByHand { told: Some(split) } }
                    }
                },
            };
            let row = CandidateRow { announced, ..CandidateRow::new(candidate, gateway, time_ms) };
            let place = Pin { sequence, event };
            let bytes = candidate::encode(place, &row);
            prop_assert_eq!(candidate::of_schema_5(&bytes), Ok(None), "once");
            prop_assert_eq!(candidate::decode(&hash, &bytes), Ok((place, row.clone())));
            // As schemas 5 and 4 had it.
            let mut row = row;
            row.candidate.dictated = None;
            let now = candidate::encode(place, &row);
            let bytes = [&[now[0] - 2], &now[1..74], &now[76..]].concat();
            prop_assert_eq!(candidate::of_schema_5(&bytes), Ok(Some(now.clone())));
            prop_assert!(candidate::of_schema_5(&bytes[..73]).is_err());
            let old = [&[bytes[0] - 2], &bytes[1..9], &bytes[17..]].concat();
            let counted = |before, when| {
                assert_eq!((before, when), (sequence, time_ms));
                Ok::<_, Damage>(event)
            };
            prop_assert_eq!(candidate::of_schema_4(&old, counted), Ok(Some(bytes.clone())));
            prop_assert_eq!(candidate::of_schema_4(&bytes, counted), Ok(None), "once");
            prop_assert_eq!(candidate::decode(&hash, &now), Ok((place, row)));
        }

        #[test]
        fn no_bytes_make_a_decoder_panic(bytes in vec(any::<u8>(), 0..300), key in vec(any::<u8>(), 0..40)) {
            let mut bytes = bytes;
            for version in [None, Some(VERSION)] {
                if let (Some(version), Some(first)) = (version, bytes.first_mut()) {
                    *first = version;
                }
                let _ = (payee::decode(&bytes), worker::decode(&bytes).is_ok(), Total::decode(&bytes));
                let _ = (session::decode(1, &bytes), session::decode_mark(&bytes), session::decode_key(&key));
                let _ = (session::decode_sealed_key(&bytes).is_ok(), session::decode_open_key(&bytes).is_ok());
                let _ = (candidate::decode(&key, &bytes), searched::decode(&bytes));
            }
        }
    }
}
