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
        let [.., top] = word.to_le_bytes();
        Ok(Self {
            command: top >> 3,
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
    let k = word.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let mut h = (0xb10c_feed_u32 ^ k)
        .rotate_left(13)
        .wrapping_mul(5)
        .wrapping_add(0xe654_6b64);
    h ^= 4;
    h = (h ^ h >> 16).wrapping_mul(0x85eb_ca6b);
    h = (h ^ h >> 13).wrapping_mul(0xc2b2_ae35);
    h ^ h >> 16
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// MurmurHash3_x86_32 of whole words, as its author describes it.
    fn murmur3(words: &[u32], seed: u32) -> u32 {
        let mut h = seed;
        for word in words {
            let mut k = word.wrapping_mul(0xcc9e2d51);
            k = k.rotate_left(15);
            k = k.wrapping_mul(0x1b873593);
            h ^= k;
            h = h.rotate_left(13);
            h = h.wrapping_mul(5).wrapping_add(0xe6546b64);
        }
        h ^= u32::try_from(4 * words.len()).expect("a few words");
        h ^= h >> 16;
        h = h.wrapping_mul(0x85ebca6b);
        h ^= h >> 13;
        h = h.wrapping_mul(0xc2b2ae35);
        h ^ h >> 16
    }

    #[test]
    fn feedback_is_murmur3() {
        // Published values of the function.
        assert_eq!(murmur3(&[u32::from_le_bytes(*b"test")], 0), 0xba6b_d213);
        assert_eq!(murmur3(&[u32::from_le_bytes(*b"test")], 0x9747_b28c), 0x704b_81dc);
        assert_eq!(murmur3(&[0], 0), 0x2362_f9de);
        for word in [0, 1, 0xdc87_1829, u32::MAX] {
            assert_eq!(feedback(word), murmur3(&[word], 0xb10c_feed));
        }
    }

    #[test]
    fn each_direction_has_its_own_key() {
        let mut key = HeaderKey(7);
        key.advance();
        assert_eq!(key, HeaderKey::gateway_to_pool(7));
        assert_eq!(HeaderKey::pool_to_gateway(!7), HeaderKey::gateway_to_pool(7));
    }

    #[test]
    fn the_bits_stand_where_they_must() {
        let bare = Header {
            command: 0,
            len: 0,
            signed: false,
            sealed: false,
            channel: false,
        };
        let word = |header: Header| u32::from_le_bytes(header.encode(HeaderKey(0)));
        let longest = u32::try_from(PAYLOAD_MAX).expect("22 bits");
        assert_eq!(word(Header { len: longest, ..bare }), 0x003f_ffff);
        assert_eq!(word(Header { signed: true, ..bare }), 0x0100_0000);
        assert_eq!(word(Header { sealed: true, ..bare }), 0x0200_0000);
        assert_eq!(word(Header { channel: true, ..bare }), 0x0400_0000);
        assert_eq!(word(Header { command: 31, ..bare }), 0xf800_0000);
    }

    proptest! {
        #[test]
        fn a_header_is_a_word_without_its_two_spare_bits(word: u32, nk: u32) {
            let key = HeaderKey::gateway_to_pool(nk);
            let masked = (word ^ key.0).to_le_bytes();
            match Header::decode(masked, key) {
                Ok(header) => {
                    prop_assert_eq!(word & 0x00c0_0000, 0);
                    prop_assert_eq!(header.encode(key), masked);
                }
                Err(error) => {
                    prop_assert_ne!(word & 0x00c0_0000, 0);
                    prop_assert_eq!(error, DecodeError::new("header", Fault::Unknown));
                }
            }
        }
    }
}
