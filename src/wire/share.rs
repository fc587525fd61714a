//! A share with its sections, and the answer to it (sections 5 and 6).

use super::error::{DecodeError, Fault};
use super::message::Encode;
use super::reader::Reader;
use super::reason::Reason;

/// Bytes of the extranonce that a pool accepts.
pub const EXTRANONCE_LEN: usize = 12;
/// Bytes of a username, without the NUL that ends it.
pub const USERNAME_MAX: usize = 384;
/// Merkle branches of a job.
pub const BRANCHES_MAX: usize = 24;
/// Bytes of the coinbase before the extranonce.
pub const COINB1_MAX: usize = 512;
/// Bytes of the coinbase behind the extranonce.
pub const COINB2_MAX: usize = 16_384;
/// What stands before an extranonce in a quick change of difficulty, and in its place where it stood there already.
pub const QUICKDIFF: [[u8; 2]; 2] = [[0x44, 0x51], [0xbb, 0xae]];
/// Starts the script of a witness commitment, which has 38 bytes (BIP 141).
pub const COMMITMENT_START: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];
/// The coinbase id of subsidy-only work.
pub const SUBSIDY_ONLY_ID: u8 = 0xff;

/// Work of a miner, as its gateway passes it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share<'a> {
    /// The job's slot, 0 to 7.
    pub job_id: u8,
    pub coinbase_id: u8,
    pub flags: Flags,
    /// The share's difficulty is `2^target_pot`.
    pub target_pot: u8,
    /// Seconds since 1970.
    pub ntime: u32,
    pub nonce: u32,
    pub version: u32,
    /// [`EXTRANONCE_LEN`] bytes; other lengths decode, to be refused by reason 12.
    pub extranonce: &'a [u8],
    /// `address`, `address.worker`, or anything a miner typed.
    pub username: &'a [u8],
    pub reserved: [u8; 4],
    pub job: Option<JobSection<'a>>,
    pub coinbase: Option<CoinbaseSection<'a>>,
    pub padding: &'a [u8],
}

/// The flags of a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Flags(pub u8);

impl Flags {
    /// The gateway saw the network target met.
    pub const BLOCK: u8 = 1;
    /// Work without transactions, paying the subsidy alone.
    pub const SUBSIDY_ONLY: u8 = 2;
    /// The last two bytes of `coinb1` were changed to tell a quick change of difficulty apart.
    pub const QUICKDIFF: u8 = 4;

    #[must_use]
    pub fn block(self) -> bool {
        self.0 & Self::BLOCK != 0
    }

    #[must_use]
    pub fn subsidy_only(self) -> bool {
        self.0 & Self::SUBSIDY_ONLY != 0
    }

    #[must_use]
    pub fn quickdiff(self) -> bool {
        self.0 & Self::QUICKDIFF != 0
    }
}

/// A job, sent once per slot with whatever share comes first.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JobSection<'a> {
    /// Internal byte order.
    pub prev_block_hash: &'a [u8; 32],
    /// Where in `coinb1` the pot byte stands.
    pub target_index: u16,
    pub nbits: u32,
    pub coinbaser_id: u8,
    pub height: u32,
    /// Satoshi: subsidy and fees.
    pub coinbase_value: u64,
    /// Transactions beside the coinbase.
    pub tx_count: u32,
    pub weight: u32,
    pub size: u32,
    pub sigops: u32,
    /// Internal byte order, from the leaf up.
    pub branches: &'a [[u8; 32]],
}

/// A coinbase around its extranonce, sent once per job and coinbase id.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CoinbaseSection<'a> {
    /// 0 to 5, or [`SUBSIDY_ONLY_ID`].
    pub coinbase_id: u8,
    pub coinb1: &'a [u8],
    pub coinb2: &'a [u8],
}

const JOB_SECTION: u8 = 0x01;
const COINBASE_SECTION: u8 = 0x02;
const END: u8 = 0xfe;

impl<'a> Share<'a> {
    pub(super) const COMMAND: u8 = 0x27;

    pub(super) fn decode(mut reader: Reader<'a>) -> Result<Self, DecodeError> {
        let job_id = reader.u8("share.job_id")?;
        let coinbase_id = reader.u8("share.coinbase_id")?;
        let flags = Flags(reader.u8("share.flags")?);
        let target_pot = reader.u8("share.target_pot")?;
        let ntime = reader.u32("share.ntime")?;
        let nonce = reader.u32("share.nonce")?;
        let version = reader.u32("share.version")?;
        let len = reader.u8("share.extranonce")?;
        let extranonce = reader.bytes(usize::from(len), "share.extranonce")?;
        let username = reader.until_nul(USERNAME_MAX, "share.username")?;
        let reserved = *reader.array("share.reserved")?;
        let job = match reader.peek() {
            Some(JOB_SECTION) => Some(JobSection::decode(&mut reader)?),
            _ => None,
        };
        let coinbase = match reader.peek() {
            Some(COINBASE_SECTION) => Some(CoinbaseSection::decode(&mut reader)?),
            _ => None,
        };
        Ok(Self {
            job_id,
            coinbase_id,
            flags,
            target_pot,
            ntime,
            nonce,
            version,
            extranonce,
            username,
            reserved,
            job,
            coinbase,
            padding: reader.padding("share.end")?,
        })
    }
}

impl<'a> JobSection<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.literal(JOB_SECTION, "job")?;
        Ok(Self {
            prev_block_hash: reader.array("job.prev_block_hash")?,
            target_index: reader.u16("job.target_index")?,
            nbits: reader.u32("job.nbits")?,
            coinbaser_id: reader.u8("job.coinbaser_id")?,
            height: reader.u32("job.height")?,
            coinbase_value: reader.u64("job.coinbase_value")?,
            tx_count: reader.u32("job.tx_count")?,
            weight: reader.u32("job.weight")?,
            size: reader.u32("job.size")?,
            sigops: reader.u32("job.sigops")?,
            branches: {
                // More than BRANCHES_MAX decode, to be refused by reason 16.
                let count = usize::from(reader.u8("job.branches")?);
                reader.bytes(32 * count, "job.branches")?.as_chunks().0
            },
        })
    }
}

impl<'a> CoinbaseSection<'a> {
    fn decode(reader: &mut Reader<'a>) -> Result<Self, DecodeError> {
        reader.literal(COINBASE_SECTION, "coinbase")?;
        let coinbase_id = reader.u8("coinbase.id")?;
        let len1 = usize::from(reader.u16("coinbase.len1")?);
        let len2 = usize::from(reader.u16("coinbase.len2")?);
        Ok(Self {
            coinbase_id,
            coinb1: reader.bytes(len1, "coinbase.coinb1")?,
            coinb2: reader.bytes(len2, "coinbase.coinb2")?,
        })
    }
}

impl Encode for Share<'_> {
    /// # Panics
    /// A part is longer than its length field can say.
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[
            Self::COMMAND,
            self.job_id,
            self.coinbase_id,
            self.flags.0,
            self.target_pot,
        ]);
        out.extend_from_slice(&self.ntime.to_le_bytes());
        out.extend_from_slice(&self.nonce.to_le_bytes());
        out.extend_from_slice(&self.version.to_le_bytes());
        out.push(u8::try_from(self.extranonce.len()).expect("an extranonce of at most 255 bytes"));
        out.extend_from_slice(self.extranonce);
        out.extend_from_slice(self.username);
        out.push(0);
        out.extend_from_slice(&self.reserved);
        if let Some(job) = &self.job {
            job.encode(out);
        }
        if let Some(coinbase) = &self.coinbase {
            coinbase.encode(out);
        }
        out.push(END);
        out.extend_from_slice(self.padding);
    }
}

impl Encode for JobSection<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        out.push(JOB_SECTION);
        out.extend_from_slice(self.prev_block_hash);
        out.extend_from_slice(&self.target_index.to_le_bytes());
        out.extend_from_slice(&self.nbits.to_le_bytes());
        out.push(self.coinbaser_id);
        out.extend_from_slice(&self.height.to_le_bytes());
        out.extend_from_slice(&self.coinbase_value.to_le_bytes());
        for count in [self.tx_count, self.weight, self.size, self.sigops] {
            out.extend_from_slice(&count.to_le_bytes());
        }
        out.push(u8::try_from(self.branches.len()).expect("at most 255 branches"));
        out.extend_from_slice(self.branches.as_flattened());
    }
}

impl Encode for CoinbaseSection<'_> {
    fn encode(&self, out: &mut Vec<u8>) {
        let len = |part: &[u8]| u16::try_from(part.len()).expect("at most 65,535 bytes").to_le_bytes();
        out.extend_from_slice(&[COINBASE_SECTION, self.coinbase_id]);
        out.extend_from_slice(&len(self.coinb1));
        out.extend_from_slice(&len(self.coinb2));
        out.extend_from_slice(self.coinb1);
        out.extend_from_slice(self.coinb2);
    }
}

/// What a pool says of a share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Accepted = 0x50,
    /// Judged later; a gateway counts it as accepted.
    Tentative = 0x55,
    Rejected = 0x66,
}

/// The answer to a share, which a gateway knows by nonce, pot and slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ShareResponse {
    pub status: Status,
    /// The code of a [`Reason`]; 0 where there is none.
    pub reason: u16,
    pub nonce: u32,
    pub target_pot: u8,
    pub job_id: u8,
}

impl ShareResponse {
    pub(super) const COMMAND: u8 = 0x8f;

    /// The answer to a share that counts.
    #[must_use]
    pub fn accepted(nonce: u32, target_pot: u8, job_id: u8) -> Self {
        Self {
            status: Status::Accepted,
            reason: 0,
            nonce,
            target_pot,
            job_id,
        }
    }

    /// The answer to a share that is judged later: the last word on it.
    #[must_use]
    pub fn tentative(nonce: u32, target_pot: u8, job_id: u8) -> Self {
        Self {
            status: Status::Tentative,
            ..Self::accepted(nonce, target_pot, job_id)
        }
    }

    /// The answer to a share that does not.
    #[must_use]
    pub fn rejected(reason: Reason, nonce: u32, target_pot: u8, job_id: u8) -> Self {
        Self {
            status: Status::Rejected,
            reason: reason.code(),
            nonce,
            target_pot,
            job_id,
        }
    }

    pub(super) fn decode(mut reader: Reader<'_>) -> Result<Self, DecodeError> {
        let status = match reader.u8("share_response.status")? {
            0x50 => Status::Accepted,
            0x55 => Status::Tentative,
            0x66 => Status::Rejected,
            _ => return Err(DecodeError::new("share_response.status", Fault::Unknown)),
        };
        let response = Self {
            status,
            reason: reader.u16("share_response.reason")?,
            nonce: reader.u32("share_response.nonce")?,
            target_pot: reader.u8("share_response.target_pot")?,
            job_id: reader.u8("share_response.job_id")?,
        };
        reader.end("share_response.end")?;
        Ok(response)
    }
}

impl Encode for ShareResponse {
    fn encode(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&[Self::COMMAND, self.status as u8]);
        out.extend_from_slice(&self.reason.to_le_bytes());
        out.extend_from_slice(&self.nonce.to_le_bytes());
        out.extend_from_slice(&[self.target_pot, self.job_id]);
    }
}

#[cfg(test)]
mod tests;
