//! Double SHA-256 by whole blocks: what a share costs is mostly this.

use sha2::block_api::compress256;

pub(super) type State = [u32; 8];
pub(super) type Block = [u8; BLOCK_LEN];

pub(super) const BLOCK_LEN: usize = 64;

/// The state that SHA-256 starts with.
pub(super) const START: State = [
    0x6a09_e667,
    0xbb67_ae85,
    0x3c6e_f372,
    0xa54f_f53a,
    0x510e_527f,
    0x9b05_688c,
    0x1f83_d9ab,
    0x5be0_cd19,
];

/// The second block of a 64-byte message: nothing but padding.
const PADDING_OF_64: Block = padding(64);

/// Takes whole blocks into the state.
pub(super) fn absorb(state: &mut State, blocks: &[Block]) {
    compress256(state, blocks);
}

/// The hash of the digest that `state` stands for.
pub(super) fn finish(state: &State) -> [u8; 32] {
    let mut block = const { padding(32) };
    block[..32].copy_from_slice(&digest(state));
    let mut second = START;
    compress256(&mut second, &[block]);
    digest(&second)
}

/// A node of a merkle tree, the accumulator on the left.
pub(super) fn node(left: &[u8; 32], right: &[u8; 32]) -> [u8; 32] {
    let mut block = [0; 64];
    block[..32].copy_from_slice(left);
    block[32..].copy_from_slice(right);
    let mut state = START;
    compress256(&mut state, &[block, PADDING_OF_64]);
    finish(&state)
}

/// The root over all leaves of a block, a lone last one of a row standing for two.
pub fn merkle_root(mut row: Vec<[u8; 32]>) -> [u8; 32] {
    while row.len() > 1 {
        row = row
            .chunks(2)
            .map(|pair| node(&pair[0], pair.last().unwrap_or(&pair[0])))
            .collect();
    }
    row.first().copied().unwrap_or_default()
}

/// The hash of a block header.
pub fn header(header: &[u8; 80]) -> [u8; 32] {
    let mut blocks = [[0; 64], const { padding(80) }];
    blocks[0].copy_from_slice(&header[..64]);
    blocks[1][..16].copy_from_slice(&header[64..]);
    let mut state = START;
    compress256(&mut state, &blocks);
    finish(&state)
}

/// The length to which a message of `len` bytes grows when padded: a byte that ends it, 8 that say how long it was.
pub(super) fn padded_len(len: usize) -> usize {
    (len + 9).next_multiple_of(BLOCK_LEN)
}

/// Pads a message in place: it grows to whole blocks.
pub(super) fn pad(message: &mut Vec<u8>) {
    let bits = (message.len() as u64) * 8;
    message.push(0x80);
    while message.len() % 64 != 56 {
        message.push(0);
    }
    message.extend_from_slice(&bits.to_be_bytes());
}

/// The last block of a message of `len` bytes, without the bytes of the message.
const fn padding(len: u64) -> Block {
    let mut block = [0; 64];
    block[(len % 64) as usize] = 0x80;
    let bits = (len * 8).to_be_bytes();
    let mut at = 0;
    while at < 8 {
        block[56 + at] = bits[at];
        at += 1;
    }
    block
}

fn digest(state: &State) -> [u8; 32] {
    let mut bytes = [0; 32];
    for (chunk, word) in bytes.chunks_exact_mut(4).zip(state) {
        chunk.copy_from_slice(&word.to_be_bytes());
    }
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use sha2::{Digest, Sha256};

    fn reference(bytes: &[u8]) -> [u8; 32] {
        Sha256::digest(Sha256::digest(bytes)).into()
    }

    proptest! {
        #[test]
        fn is_sha256_twice(message in proptest::collection::vec(any::<u8>(), 0..300)) {
            let mut padded = message.clone();
            pad(&mut padded);
            prop_assert_eq!(padded.len(), padded_len(message.len()));
            let mut state = START;
            absorb(&mut state, padded.as_chunks().0);
            prop_assert_eq!(finish(&state), reference(&message));
        }

        #[test]
        fn nodes_and_headers_are_sha256_twice(left: [u8; 32], right: [u8; 32], tail: [u8; 16]) {
            let both = [left, right].concat();
            prop_assert_eq!(node(&left, &right), reference(&both));
            let bytes: [u8; 80] = [&both[..], &tail].concat().try_into().expect("80 bytes");
            prop_assert_eq!(header(&bytes), reference(&bytes));
        }
    }
}
