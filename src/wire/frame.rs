//! Frames: a 4-byte header masked with a rolling key, then the payload (section 1).

use super::error::{DecodeError, Fault};

pub const HEADER_LEN: usize = 4;

/// The longest payload that the header's 22 bits can name.
pub const PAYLOAD_MAX: usize = 0x3f_ffff;

/// The commands of a frame.
pub mod command {
    /// Gateway to pool, sealed and signed.
    pub const HELLO: u8 = 1;
    /// Pool to gateway, empty.
    pub const PING: u8 = 1;
    /// Pool to gateway, sealed and signed.
    pub const RESPONSE: u8 = 2;
    /// Both ways, under the channel key.
    pub const MINING: u8 = 5;
    /// Pool to gateway, under the channel key.
    pub const INFO: u8 = 7;
}

/// What masks the headers of one direction; it moves on with every header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeaderKey(u32);

impl HeaderKey {
    /// With which a gateway starts a connection.
    pub const FIRST: Self = Self(0xdc87_1829);

    /// The gateway's key behind its HELLO, whose `nk` this is.
    #[must_use]
    pub fn gateway_to_pool(nk: u32) -> Self {
        Self(feedback(nk))
    }

    /// The pool's first key.
    #[must_use]
    pub fn pool_to_gateway(nk: u32) -> Self {
        Self(feedback(!nk))
    }

    pub fn advance(&mut self) {
        self.0 = feedback(self.0);
    }
}

/// A frame's header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Header {
    /// One of [`command`], 0 to 31.
    pub command: u8,
    /// Bytes of payload on the wire, at most [`PAYLOAD_MAX`].
    pub len: u32,
    pub signed: bool,
    /// Sealed to a public key.
    pub sealed: bool,
    /// Encrypted under the channel key.
    pub channel: bool,
}

impl Header {
    /// Unmasks a header.
    ///
    /// # Errors
    /// Bits 22 and 23 are not zero: the key is not the one it was masked with, or the peer is no gateway.
    pub fn decode(masked: [u8; HEADER_LEN], key: HeaderKey) -> Result<Self, DecodeError> {
        let word = u32::from_le_bytes(masked) ^ key.0;
        if word >> 22 & 0b11 != 0 {
            return Err(DecodeError::new("header", Fault::Unknown));
        }
        Ok(Self {
            command: u8::try_from(word >> 27).expect("five bits"),
            len: word & 0x3f_ffff,
            signed: word & 1 << 24 != 0,
            sealed: word & 1 << 25 != 0,
            channel: word & 1 << 26 != 0,
        })
    }

    /// Masks a header.
    ///
    /// # Panics
    /// The length or the command does not fit its bits: a fault of the caller, who has bounded both.
    #[must_use]
    pub fn encode(self, key: HeaderKey) -> [u8; HEADER_LEN] {
        assert!(self.len as usize <= PAYLOAD_MAX && self.command < 32);
        let word = self.len
            | u32::from(self.signed) << 24
            | u32::from(self.sealed) << 25
            | u32::from(self.channel) << 26
            | u32::from(self.command) << 27;
        (word ^ key.0).to_le_bytes()
    }
}

/// MurmurHash3_x86_32 of the word with seed `0xb10cfeed`.
pub(super) fn feedback(word: u32) -> u32 {
    let k = word
        .wrapping_mul(0xcc9e_2d51)
        .rotate_left(15)
        .wrapping_mul(0x1b87_3593);
    let mut h = (0xb10c_feed_u32 ^ k)
        .rotate_left(13)
        .wrapping_mul(5)
        .wrapping_add(0xe654_6b64);
    h ^= 4;
    h = (h ^ h >> 16).wrapping_mul(0x85eb_ca6b);
    h = (h ^ h >> 13).wrapping_mul(0xc2b2_ae35);
    h ^ h >> 16
}
