//! CONFIG: the terms that a gateway works under (section 3).

use super::error::{DecodeError, Fault};
use super::message::Encode;
use super::reader::Reader;

/// Bytes of the output script: none ends a gateway, more than this overflow a buffer in it.
pub const SCRIPT_MAX: usize = 64;

/// Bytes of the tag: more ends or corrupts a gateway.
pub const TAG_MAX: usize = 83;

/// Sent by the pool, signed by its session key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Config<'a> {
    /// Output script, 1 to [`SCRIPT_MAX`] bytes, of what a split leaves over.
    pub script: &'a [u8],
    /// Must appear in the coinbase; not 0.
    pub prime_id: u32,
    /// At most [`TAG_MAX`] bytes, without NUL.
    pub tag: &'a [u8],
    /// The least difficulty of a share: a power of two.
    pub min_diff: u64,
}

impl<'a> Config<'a> {
    pub(super) const COMMAND: u8 = 0x99;
    const VERSION: u8 = 1;

    pub(super) fn decode(mut reader: Reader<'a>) -> Result<Self, DecodeError> {
        reader.literal(Self::VERSION, "config.version")?;
        let len = usize::from(reader.u8("config.script")?);
        if len == 0 || len > SCRIPT_MAX {
            return Err(DecodeError::new("config.script", Fault::TooLong));
        }
        let script = reader.bytes(len, "config.script")?;
        let prime_id = reader.u32("config.prime_id")?;
        let len = usize::from(reader.u8("config.tag")?);
        if len > TAG_MAX {
            return Err(DecodeError::new("config.tag", Fault::TooLong));
        }
        let tag = reader.bytes(len, "config.tag")?;
        let min_diff = reader.u64("config.min_diff")?;
        reader.literal(0, "config.end")?;
        reader.literal(0xfe, "config.end")?;
        reader.end("config.end")?;
        Ok(Self {
            script,
            prime_id,
            tag,
            min_diff,
        })
    }
}

impl Encode for Config<'_> {
    /// # Panics
    /// Script or tag are longer than a gateway takes: the configuration refuses such.
    fn encode(&self, out: &mut Vec<u8>) {
        assert!((1..=SCRIPT_MAX).contains(&self.script.len()) && self.tag.len() <= TAG_MAX);
        out.extend_from_slice(&[Self::COMMAND, Self::VERSION]);
        out.push(u8::try_from(self.script.len()).expect("bounded above"));
        out.extend_from_slice(self.script);
        out.extend_from_slice(&self.prime_id.to_le_bytes());
        out.push(u8::try_from(self.tag.len()).expect("bounded above"));
        out.extend_from_slice(self.tag);
        out.extend_from_slice(&self.min_diff.to_le_bytes());
        out.extend_from_slice(&[0, 0xfe]);
    }
}
