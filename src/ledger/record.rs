//! A share on disk: 64 bytes, all integers little-endian.
//!
//! Shares lie in chunks, one a batch of the writer: the key is the sequence of the first (u64, big-endian), the value
//! its records one behind the other. A chunk costs one insertion however many shares it holds.

use super::books::Work;
use super::error::Damage;
use super::fields::Fields;
use crate::work::POT_MAX;

/// Bytes of one share.
pub const RECORD_LEN: usize = 64;

/// The layout below.
const VERSION: u8 = 1;

const WHAT: &str = "shares";

/// An accepted share as the log keeps it. Its place in the log, the sequence, is its key's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareRecord {
    /// The share counts as `2^pot` work; at most 63.
    pub pot: u8,
    pub prime_id: u32,
    pub payee: u32,
    pub worker: u32,
    /// The first 8 bytes of the header's hash.
    pub hash64: u64,
    /// Ms since 1970.
    pub time_ms: u64,
    /// Internal byte order.
    pub parent: [u8; 32],
}

impl ShareRecord {
    /// `version u8 | pot u8 | 0 u16 | prime_id u32 | payee u32 | worker u32 | hash64 u64 | time_ms u64 | parent 32`.
    pub fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[VERSION, self.pot, 0, 0]);
        for id in [self.prime_id, self.payee, self.worker] {
            out.extend_from_slice(&id.to_le_bytes());
        }
        out.extend_from_slice(&self.hash64.to_le_bytes());
        out.extend_from_slice(&self.time_ms.to_le_bytes());
        out.extend_from_slice(&self.parent);
    }

    /// # Errors
    /// The bytes are not a record of a version that is known.
    pub fn decode(bytes: &[u8; RECORD_LEN]) -> Result<Self, Damage> {
        let mut fields = Fields::new(WHAT, bytes);
        fields.version(VERSION)?;
        let pot = fields.u8()?;
        if pot > POT_MAX {
            return Err(fields.bad("pot"));
        }
        if fields.u16()? != 0 {
            return Err(fields.bad("reserved field"));
        }
        let record = Self {
            pot,
            prime_id: fields.u32()?,
            payee: fields.u32()?,
            worker: fields.u32()?,
            hash64: fields.u64()?,
            time_ms: fields.u64()?,
            parent: fields.array()?,
        };
        fields.end()?;
        Ok(record)
    }

    /// What a window needs of it, without a look at the rest: the bookkeeper reads each share twice at the pool's own rate.
    ///
    /// # Errors
    /// As [`Self::decode`].
    pub fn decode_work(bytes: &[u8; RECORD_LEN]) -> Result<Work, Damage> {
        match *bytes {
            [VERSION, pot, 0, 0, _, _, _, _, p0, p1, p2, p3, ..] if pot <= POT_MAX => Ok(Work {
                payee: u32::from_le_bytes([p0, p1, p2, p3]),
                pot,
            }),
            // Which says what is wrong.
            _ => Self::decode(bytes).map(|record| record.of_window()),
        }
    }

    /// What a window needs of it.
    #[must_use]
    pub fn of_window(&self) -> Work {
        Work {
            payee: self.payee,
            pot: self.pot,
        }
    }

    /// What the share counts as.
    #[must_use]
    pub fn work(&self) -> u128 {
        1 << self.pot
    }
}

/// The records of one chunk, not decoded yet.
///
/// # Errors
/// The value is empty or not whole records.
pub(super) fn chunk(value: &[u8]) -> Result<&[[u8; RECORD_LEN]], Damage> {
    let (records, rest) = value.as_chunks();
    if records.is_empty() || !rest.is_empty() {
        return Err(Damage::Short { what: WHAT });
    }
    Ok(records)
}

/// How many shares a chunk holds.
pub(super) fn chunk_len(value: &[u8]) -> u64 {
    (value.len() / RECORD_LEN) as u64
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_record_reads_back(
            pot in 0..=POT_MAX, prime_id: u32, payee: u32, worker: u32, hash64: u64, time_ms: u64, parent: [u8; 32],
        ) {
            let record = ShareRecord { pot, prime_id, payee, worker, hash64, time_ms, parent };
            let mut bytes = Vec::new();
            record.encode(&mut bytes);
            prop_assert_eq!(bytes.len(), RECORD_LEN);
            let read = chunk(&bytes).expect("one record");
            prop_assert_eq!(ShareRecord::decode(&read[0]), Ok(record));
            prop_assert_eq!(read.len(), 1);
        }

        #[test]
        fn what_decodes_is_what_was_written(bytes: [[u8; 32]; 2], version in 0..3_u8, pot in 0..70_u8) {
            let mut bytes: [u8; RECORD_LEN] = bytes.concat().try_into().expect("64 bytes");
            bytes[..4].copy_from_slice(&[version, pot, 0, 0]);
            let mut again = Vec::new();
            match ShareRecord::decode(&bytes) {
                Ok(record) => {
                    record.encode(&mut again);
                    prop_assert_eq!(&again[..], &bytes[..]);
                }
                Err(_) => prop_assert!(version != VERSION || pot > POT_MAX),
            }
        }
    }

    #[test]
    fn a_chunk_is_whole_records() {
        assert!(chunk(&[]).is_err());
        assert!(chunk(&[1; RECORD_LEN - 1]).is_err());
        assert!(chunk(&[1; RECORD_LEN + 1]).is_err());
    }
}
