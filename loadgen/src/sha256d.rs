//! Double SHA-256, written apart from the pool's own: each checks the other.

use sha2::block_api::compress256;
use sha2::{Digest, Sha256};

mod lanes;

pub use self::lanes::LANES;

const START: [u32; 8] = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// The hash of any bytes, as hashed.
pub fn hash(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(Sha256::digest(bytes)).into()
}

/// The merkle root over a coinbase: the branches folded in, the accumulator on the left.
pub fn root(leaf: [u8; 32], branches: &[[u8; 32]]) -> [u8; 32] {
    branches.iter().fold(leaf, |node, branch| {
        let mut pair = [0; 64];
        pair[..32].copy_from_slice(&node);
        pair[32..].copy_from_slice(branch);
        hash(&pair)
    })
}

/// A block header that lacks its nonce, its first 64 bytes hashed.
#[derive(Debug, Clone)]
pub struct Header {
    midstate: [u32; 8],
    /// The last block, padding included; the nonce stands at byte 12.
    last: [u8; 64],
}

impl Header {
    pub fn new(version: u32, parent: &[u8; 32], root: &[u8; 32], ntime: u32, nbits: u32) -> Self {
        let mut first = [0; 64];
        first[..4].copy_from_slice(&version.to_le_bytes());
        first[4..36].copy_from_slice(parent);
        first[36..].copy_from_slice(&root[..28]);
        let mut midstate = START;
        compress256(&mut midstate, &[first]);
        let mut last = [0; 64];
        last[..4].copy_from_slice(&root[28..]);
        last[4..8].copy_from_slice(&ntime.to_le_bytes());
        last[8..12].copy_from_slice(&nbits.to_le_bytes());
        last[16] = 0x80;
        last[56..].copy_from_slice(&(80_u64 * 8).to_be_bytes());
        Self { midstate, last }
    }

    /// The most significant 64 bits of the header's hashes, read as little-endian numbers, with this nonce and those
    /// that follow it.
    pub fn tops(&self, first_nonce: u32) -> [u64; LANES] {
        lanes::tops(self, first_nonce)
            .unwrap_or_else(|| std::array::from_fn(|lane| self.top(first_nonce.wrapping_add(lane as u32))))
    }

    fn top(&self, nonce: u32) -> u64 {
        let hash = self.hash(nonce);
        u64::from(hash[7].swap_bytes()) << 32 | u64::from(hash[6].swap_bytes())
    }

    /// The first 8 bytes of the hash, little-endian.
    pub fn hash64(&self, nonce: u32) -> u64 {
        let hash = self.hash(nonce);
        u64::from(hash[1].swap_bytes()) << 32 | u64::from(hash[0].swap_bytes())
    }

    /// As SHA-256 gives it, in words.
    fn hash(&self, nonce: u32) -> [u32; 8] {
        let mut last = self.last;
        last[12..16].copy_from_slice(&nonce.to_le_bytes());
        let mut inner = self.midstate;
        compress256(&mut inner, &[last]);
        let mut block = [0; 64];
        for (bytes, word) in block.chunks_exact_mut(4).zip(inner) {
            bytes.copy_from_slice(&word.to_be_bytes());
        }
        block[32] = 0x80;
        block[56..].copy_from_slice(&(32_u64 * 8).to_be_bytes());
        let mut outer = START;
        compress256(&mut outer, &[block]);
        outer
    }
}

/// Whether a hash with these top bits meets the dev chain's target of a pot: `0xFFFF << 240` over `2^pot`.
/// The pot is at most 48, beyond which nobody could work anyway. A tie in 64 bits counts as not met.
pub fn meets(top: u64, pot: u8) -> bool {
    top < 0xffff_0000_0000_0000 >> pot.min(48)
}

/// Whether a hash with these top bits meets the compact target of a header. A tie in 64 bits counts as not met.
pub fn is_block(top: u64, nbits: u32) -> bool {
    let (len, mantissa) = (nbits >> 24, u64::from(nbits & 0x007f_ffff));
    // The target is the mantissa with `len - 3` bytes behind it; its top 64 bits are what stands above 24 bytes.
    let target = match (8 * len).checked_sub(8 * 27) {
        Some(up) => mantissa.checked_shl(up).unwrap_or(u64::MAX),
        None => mantissa.checked_shr(8 * 27 - 8 * len).unwrap_or(0),
    };
    top < target
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rng::Rng;

    #[test]
    fn a_header_hashes_as_its_80_bytes_do() {
        let mut rng = Rng::new(7);
        for _ in 0..50 {
            let (parent, merkle) = (hash(&rng.next().to_le_bytes()), hash(&rng.next().to_le_bytes()));
            let (version, ntime, nbits, nonce) = (rng.next_u32(), rng.next_u32(), rng.next_u32(), rng.next_u32());
            let mut bytes = version.to_le_bytes().to_vec();
            bytes.extend_from_slice(&parent);
            bytes.extend_from_slice(&merkle);
            for word in [ntime, nbits, nonce] {
                bytes.extend_from_slice(&word.to_le_bytes());
            }
            let expected = hash(&bytes);
            let top = u64::from_le_bytes(expected[24..].try_into().expect("8 bytes"));
            let header = Header::new(version, &parent, &merkle, ntime, nbits);
            assert_eq!(header.top(nonce), top);
            assert_eq!(header.hash64(nonce).to_le_bytes(), expected[..8]);
            let each: [u64; LANES] = std::array::from_fn(|lane| header.top(nonce.wrapping_add(lane as u32)));
            assert_eq!(header.tops(nonce), each);
            assert!(lanes::every_way(&header, nonce).iter().all(|tops| *tops == each));
        }
    }

    #[test]
    fn blocks_are_told_by_their_compact_target() {
        // Regtest's, half of all; one in 65,536; difficulty 1; what no top can meet.
        for (nbits, target) in [
            (0x207f_ffff, 0x7fff_ff00_0000_0000),
            (0x1f00_ffff, 0x0000_ffff_0000_0000),
            (0x1d00_ffff, 0x0000_0000_ffff_0000),
            (0x1703_4219, 0),
        ] {
            assert!(!is_block(target, nbits));
            assert_eq!(is_block(u64::saturating_sub(target, 1), nbits), target > 0, "{nbits:x}");
        }
    }

    #[test]
    fn pot_zero_leaves_one_in_65536_out_and_each_pot_halves() {
        assert!(!meets(u64::MAX, 0));
        assert!(!meets(0xffff_0000_0000_0000, 0));
        assert!(meets(0xfffe_ffff_ffff_ffff, 0));
        assert!(meets(0x7fff_7fff_ffff_ffff, 1));
        assert!(!meets(0x7fff_8000_0000_0000, 1));
    }
}
