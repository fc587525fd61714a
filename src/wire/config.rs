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
    /// The least difficulty of a share: a power of two; any other but 0 is rounded up by the gateway.
    pub min_diff: u64,
}

impl Config<'static> {
    /// Terms that any gateway takes, for tests of either side.
    pub const EXAMPLE: Self = Self {
        script: &[0x51],
        prime_id: 0xa1b2_c3d4,
        tag: b"TAG",
        min_diff: 1 << 10,
    };
}

impl<'a> Config<'a> {
    pub(super) const COMMAND: u8 = 0x99;
    const VERSION: u8 = 1;

    pub(super) fn decode(mut reader: Reader<'a>) -> Result<Self, DecodeError> {
        reader.literal(Self::VERSION, "config.version")?;
        let len = usize::from(reader.u8("config.script")?);
        if len == 0 {
            return Err(DecodeError::new("config.script", Fault::Unknown));
        }
        if len > SCRIPT_MAX {
            return Err(DecodeError::new("config.script", Fault::TooLong));
        }
        let script = reader.bytes(len, "config.script")?;
        let prime_id = reader.u32("config.prime_id")?;
        if prime_id == 0 {
            return Err(DecodeError::new("config.prime_id", Fault::Unknown));
        }
        let len = usize::from(reader.u8("config.tag")?);
        if len > TAG_MAX {
            return Err(DecodeError::new("config.tag", Fault::TooLong));
        }
        let tag = reader.bytes(len, "config.tag")?;
        if tag.contains(&0) {
            return Err(DecodeError::new("config.tag", Fault::Unknown));
        }
        let min_diff = reader.u64("config.min_diff")?;
        if min_diff == 0 {
            return Err(DecodeError::new("config.min_diff", Fault::Unknown));
        }
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
    /// They are terms that no gateway bears, and that [`Config::decode`] refuses: the configuration allows none such.
    fn encode(&self, out: &mut Vec<u8>) {
        assert!((1..=SCRIPT_MAX).contains(&self.script.len()));
        assert!(self.tag.len() <= TAG_MAX && !self.tag.contains(&0));
        assert!(self.prime_id != 0 && self.min_diff != 0);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::FromPool;
    use crate::wire::laws::{encoded, pool_error, pool_is_heard};
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn terms_arrive_as_they_were_sent(
            script in vec(any::<u8>(), 1..=SCRIPT_MAX),
            prime_id in 1..=u32::MAX,
            tag in vec(1..=u8::MAX, 0..=TAG_MAX),
            pot in 0..64_u32,
        ) {
            pool_is_heard(&FromPool::Config(Config {
                script: &script,
                prime_id,
                tag: &tag,
                min_diff: 1_u64 << pot,
            }));
        }
    }

    #[test]
    fn stands_on_the_wire_byte_for_byte() {
        let expected = b"\x99\x01\x01\x51\xd4\xc3\xb2\xa1\x03TAG\x00\x04\0\0\0\0\0\0\x00\xfe";
        assert_eq!(encoded(&Config::EXAMPLE), expected);
    }

    #[test]
    fn what_would_break_a_gateway_is_refused() {
        let error = |at: usize, byte: u8| {
            let mut bytes = encoded(&Config::EXAMPLE);
            bytes[at] = byte;
            // Room for whatever a length byte asks for.
            bytes.extend_from_slice(&[1; 300]);
            pool_error(&bytes)
        };
        assert_eq!(error(1, 2), DecodeError::new("config.version", Fault::Unknown));
        assert_eq!(error(2, 0), DecodeError::new("config.script", Fault::Unknown));
        assert_eq!(error(2, 65), DecodeError::new("config.script", Fault::TooLong));
        assert_eq!(error(8, 84), DecodeError::new("config.tag", Fault::TooLong));
        assert_eq!(error(10, 0), DecodeError::new("config.tag", Fault::Unknown));
        assert_eq!(error(13, 0), DecodeError::new("config.min_diff", Fault::Unknown));
        assert_eq!(error(20, 1), DecodeError::new("config.end", Fault::Unknown));
        let mut without_id = encoded(&Config::EXAMPLE);
        without_id[4..8].fill(0);
        assert_eq!(
            pool_error(&without_id),
            DecodeError::new("config.prime_id", Fault::Unknown)
        );
    }

    #[test]
    fn none_of_that_is_ever_sent() {
        let bad = [
            Config {
                script: &[],
                ..Config::EXAMPLE
            },
            Config {
                script: &[0; 65],
                ..Config::EXAMPLE
            },
            Config {
                tag: &[1; 84],
                ..Config::EXAMPLE
            },
            Config {
                tag: b"a\0b",
                ..Config::EXAMPLE
            },
            Config {
                prime_id: 0,
                ..Config::EXAMPLE
            },
            Config {
                min_diff: 0,
                ..Config::EXAMPLE
            },
        ];
        for config in bad {
            assert!(std::panic::catch_unwind(|| encoded(&config)).is_err(), "{config:?}");
        }
    }
}
