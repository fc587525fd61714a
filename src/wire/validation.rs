//! Job validation (0x50): the pool asks a gateway for the transactions of a job (section 7).

use siphasher::sip::SipHasher24;
use std::hash::Hasher;

use super::error::{DecodeError, Fault};
use super::message::Encode;
use super::reader::Reader;

/// From where the cross-check of short ids starts: all wtxids are XORed onto it.
pub const CROSS_CHECK_START: [u8; 32] = [
    0xa3, 0x4f, 0xc1, 0x9c, 0x5e, 0x88, 0x76, 0x12, 0x0a, 0x79, 0x3e, 0xf1, 0x6c, 0x93, 0x54, 0xaf, 0xb8, 0x1d, 0xe8,
    0x5a, 0x20, 0xc7, 0x94, 0x38, 0x6f, 0xa1, 0x02, 0xd9, 0x4a, 0x7b, 0xf0, 0x11,
];

/// Transactions of one template that a gateway can name: with more it answers `F2`, and it refuses a question for more.
pub const INDEXES_MAX: usize = 16_383;

/// Bytes of an answer to a question for short ids, as a message, at most: 6 for each transaction, and what stands around them.
pub const SHORT_IDS_ANSWER_MAX: usize = 98_448;

const SHORT_IDS: u8 = 0x10;
const BY_INDEX: u8 = 0x11;
const ALL: u8 = 0x12;
/// Set in the kind of an answer.
const ANSWER: u8 = 0x80;
/// Stands where an error stands in an answer without one.
const GOOD: u8 = 0x01;
const END: u8 = 0xfe;

/// A question of the pool about the job in one slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValidationAsk<'a> {
    ShortIds { job: u8 },
    ByIndex { job: u8, indexes: Indexes<'a> },
    All { job: u8 },
}

/// Positions in a template, each a u16.
#[derive(Debug, Clone, Copy)]
pub enum Indexes<'a> {
    Encoded(&'a [[u8; 2]]),
    Numbers(&'a [u16]),
}

impl Indexes<'_> {
    #[must_use]
    pub fn len(&self) -> usize {
        match self {
            Self::Encoded(encoded) => encoded.len(),
            Self::Numbers(numbers) => numbers.len(),
        }
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn iter(&self) -> impl Iterator<Item = u16> {
        let this = *self;
        (0..this.len()).map(move |at| match this {
            Self::Encoded(encoded) => u16::from_le_bytes(encoded[at]),
            Self::Numbers(numbers) => numbers[at],
        })
    }
}

impl PartialEq for Indexes<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Indexes<'_> {}

impl<'a> ValidationAsk<'a> {
    pub(super) const COMMAND: u8 = 0x50;

    pub(super) fn decode(mut reader: Reader<'a>) -> Result<Self, DecodeError> {
        let kind = reader.u8("ask.kind")?;
        let job = reader.u8("ask.job")?;
        let ask = match kind {
            SHORT_IDS => Self::ShortIds { job },
            BY_INDEX => {
                let count = usize::from(reader.u16("ask.count")?);
                let indexes = reader.bytes(2 * count, "ask.indexes")?.as_chunks().0;
                Self::ByIndex {
                    job,
                    indexes: Indexes::Encoded(indexes),
                }
            }
            ALL => Self::All { job },
            _ => return Err(DecodeError::new("ask.kind", Fault::Unknown)),
        };
        reader.end("ask.end")?;
        Ok(ask)
    }
}

impl Encode for ValidationAsk<'_> {
    /// # Panics
    /// More indexes than a u16 counts.
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(Self::COMMAND);
        match self {
            Self::ShortIds { job } => out.extend_from_slice(&[SHORT_IDS, *job]),
            Self::ByIndex { job, indexes } => {
                out.extend_from_slice(&[BY_INDEX, *job]);
                let count = u16::try_from(indexes.len()).expect("at most 65,535 indexes");
                out.extend_from_slice(&count.to_le_bytes());
                for index in indexes.iter() {
                    out.extend_from_slice(&index.to_le_bytes());
                }
            }
            Self::All { job } => out.extend_from_slice(&[ALL, *job]),
        }
    }
}

/// A gateway's answer. It names only the slot, which may have been used again since the question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValidationAnswer<'a> {
    ShortIds {
        job: u8,
        /// Low 48 bits of [`short_id`], little-endian, in template order.
        ids: &'a [[u8; 6]],
        /// [`CROSS_CHECK_START`] XORed with all wtxids; absent where there are no transactions.
        cross_check: Option<&'a [u8; 32]>,
        padding: &'a [u8],
    },
    ByIndex {
        job: u8,
        /// In the order asked.
        transactions: Transactions<'a>,
        padding: &'a [u8],
    },
    All {
        job: u8,
        /// In template order.
        transactions: Transactions<'a>,
    },
    Error {
        /// Of which question: the kind byte of the answer, `90` to `92`.
        kind: u8,
        /// `FF` where the slot itself was out of range.
        job: u8,
        error: ValidationError,
        padding: &'a [u8],
    },
}

/// Why a gateway does not answer; the number is what stands on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ValidationError {
    NoSuchJob = 0xf0,
    NoTemplate = 0xf1,
    /// More than [`INDEXES_MAX`] transactions.
    TooMany = 0xf2,
    SlotOutOfRange = 0xf3,
    BadIndexOrCount = 0xf4,
}

impl ValidationError {
    const ALL: [Self; 5] = [
        Self::NoSuchJob,
        Self::NoTemplate,
        Self::TooMany,
        Self::SlotOutOfRange,
        Self::BadIndexOrCount,
    ];

    fn from_byte(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|error| *error as u8 == byte)
    }
}

/// Raw transactions as they stand on the wire, each with its length before it: `size u24 | raw`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Transactions<'a> {
    count: u16,
    encoded: &'a [u8],
}

impl<'a> Transactions<'a> {
    /// All of `encoded`, as [`Self::push`] has written it.
    ///
    /// # Errors
    /// One of them is cut off, or there are more than a u16 counts.
    pub fn new(encoded: &'a [u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(encoded);
        let mut count = 0_u16;
        while reader.peek().is_some() {
            Self::decode_one(&mut reader)?;
            count = count
                .checked_add(1)
                .ok_or(DecodeError::new("transactions.count", Fault::TooLong))?;
        }
        Ok(Self { count, encoded })
    }

    /// Appends a raw transaction with its length.
    ///
    /// # Panics
    /// It is longer than its length field can say; no block holds such.
    pub fn push(raw: &[u8], encoded: &mut Vec<u8>) {
        let [size @ .., top] = u32::try_from(raw.len()).expect("below 4 GiB").to_le_bytes();
        assert!(top == 0, "a transaction below 16 MiB");
        encoded.extend_from_slice(&size);
        encoded.extend_from_slice(raw);
    }

    /// As [`Self::new`] takes them.
    #[must_use]
    pub fn encoded(&self) -> &'a [u8] {
        self.encoded
    }

    #[must_use]
    pub fn len(&self) -> usize {
        usize::from(self.count)
    }

    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.count == 0
    }

    /// The raw transactions.
    pub fn iter(&self) -> impl Iterator<Item = &'a [u8]> {
        let mut reader = Reader::new(self.encoded);
        std::iter::from_fn(move || Self::decode_one(&mut reader).ok())
    }

    /// Leaves `reader` behind the last transaction.
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        let count = reader.u16("transactions.count")?;
        let mut walk = reader.clone();
        let mut len = 0;
        for _ in 0..count {
            len += 3 + Self::decode_one(&mut walk)?.len();
        }
        let encoded = reader.bytes(len, "transactions")?;
        Ok(Self { count, encoded })
    }

    fn decode_one(reader: &mut Reader<'a>) -> Result<&'a [u8], DecodeError> {
        let [a, b, c] = *reader.array("transaction.size")?;
        reader.bytes(u32::from_le_bytes([a, b, c, 0]) as usize, "transaction")
    }

    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.count.to_le_bytes());
        out.extend_from_slice(self.encoded);
    }
}

impl<'a> ValidationAnswer<'a> {
    pub(super) const COMMAND: u8 = ValidationAsk::COMMAND;

    /// The slot that the answer names.
    #[must_use]
    pub fn job(&self) -> u8 {
        match *self {
            Self::ShortIds { job, .. }
            | Self::ByIndex { job, .. }
            | Self::All { job, .. }
            | Self::Error { job, .. } => job,
        }
    }

    pub(super) fn decode(mut reader: Reader<'a>) -> Result<Self, DecodeError> {
        let kind = reader.u8("answer.kind")?;
        if ![SHORT_IDS | ANSWER, BY_INDEX | ANSWER, ALL | ANSWER].contains(&kind) {
            return Err(DecodeError::new("answer.kind", Fault::Unknown));
        }
        let job = reader.u8("answer.job")?;
        let state = reader.u8("answer.state")?;
        if state != GOOD {
            let error = ValidationError::from_byte(state).ok_or(DecodeError::new("answer.state", Fault::Unknown))?;
            return Ok(Self::Error {
                kind,
                job,
                error,
                padding: reader.rest(),
            });
        }
        if kind == SHORT_IDS | ANSWER {
            return Self::decode_short_ids(job, reader);
        }
        let transactions = Transactions::decode(&mut reader)?;
        if kind == BY_INDEX | ANSWER {
            return Ok(Self::ByIndex {
                job,
                transactions,
                padding: reader.padding("answer.end")?,
            });
        }
        reader.literal(END, "answer.end")?;
        reader.end("answer.end")?;
        Ok(Self::All { job, transactions })
    }

    fn decode_short_ids(job: u8, mut reader: Reader<'a>) -> Result<Self, DecodeError> {
        let count = usize::from(reader.u16("answer.count")?);
        if count == 0 {
            return Ok(Self::ShortIds {
                job,
                ids: &[],
                cross_check: None,
                padding: reader.rest(),
            });
        }
        Ok(Self::ShortIds {
            job,
            ids: reader.bytes(6 * count, "answer.ids")?.as_chunks().0,
            cross_check: Some(reader.array("answer.cross_check")?),
            padding: reader.padding("answer.end")?,
        })
    }
}

impl Encode for ValidationAnswer<'_> {
    /// # Panics
    /// More short ids than a u16 counts, or ids without their cross-check.
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(Self::COMMAND);
        match self {
            Self::ShortIds {
                job,
                ids,
                cross_check,
                padding,
            } => {
                assert!(ids.is_empty() == cross_check.is_none());
                out.extend_from_slice(&[SHORT_IDS | ANSWER, *job, GOOD]);
                let count = u16::try_from(ids.len()).expect("at most 65,535 ids");
                out.extend_from_slice(&count.to_le_bytes());
                out.extend_from_slice(ids.as_flattened());
                if let Some(cross_check) = cross_check {
                    out.extend_from_slice(*cross_check);
                    out.push(END);
                }
                out.extend_from_slice(padding);
            }
            Self::ByIndex {
                job,
                transactions,
                padding,
            } => {
                out.extend_from_slice(&[BY_INDEX | ANSWER, *job, GOOD]);
                transactions.encode(out);
                out.push(END);
                out.extend_from_slice(padding);
            }
            Self::All { job, transactions } => {
                out.extend_from_slice(&[ALL | ANSWER, *job, GOOD]);
                transactions.encode(out);
                out.push(END);
            }
            Self::Error {
                kind,
                job,
                error,
                padding,
            } => {
                out.extend_from_slice(&[*kind, *job, *error as u8]);
                out.extend_from_slice(padding);
            }
        }
    }
}

/// The SipHash key that a gateway and a pool share: of their long-term Ed25519 keys.
#[must_use]
pub fn short_id_key(gateway_ed25519: &[u8; 32], pool_ed25519: &[u8; 32]) -> [u8; 16] {
    std::array::from_fn(|at| gateway_ed25519[at] ^ pool_ed25519[at] ^ 0x55)
}

/// The short id of a transaction: the low 48 bits of SipHash-2-4 of its wtxid (internal byte order).
#[must_use]
pub fn short_id(key: &[u8; 16], wtxid: &[u8; 32]) -> u64 {
    let mut hasher = SipHasher24::new_with_key(key);
    hasher.write(wtxid);
    hasher.finish() & 0xffff_ffff_ffff
}

#[cfg(test)]
mod tests;
