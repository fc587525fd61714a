//! Sealed boxes as libsodium's `crypto_box_seal` makes them (section 1): to an X25519 key, from nobody in particular.
//!
//! One is the sender's ephemeral X25519 key, then a channel message (MAC and ciphertext) under what that key and the
//! receiver's agree on; the nonce is a hash of both.

use blake2::digest::consts::U24;
use blake2::{Blake2b, Digest};
use crypto_box::aead::OsRng;

use super::channel::{ChannelKey, MAC_LEN, Nonce};
use super::keys::SecretKeys;

/// Bytes by which a sealed box is longer than what it holds.
pub const SEALED_MORE: usize = 32 + MAC_LEN;

/// Two X25519: the ephemeral key, and what is agreed with it.
pub(super) fn seal(plain: &[u8], to_x25519: &[u8; 32]) -> Vec<u8> {
    crypto_box::PublicKey::from(*to_x25519)
        .seal(&mut OsRng, plain)
        .expect("a handshake message is far below the cipher's limit")
}

/// One X25519: the receiver knows its own public key. None: it was sealed to another key, or changed on its way.
pub(super) fn unseal(payload: &[u8], keys: &SecretKeys) -> Option<Vec<u8>> {
    let (ephemeral, sealed) = payload.split_first_chunk()?;
    let nonce = nonce(ephemeral, &keys.public().x25519);
    let key = ChannelKey::agree(keys, ephemeral).ok()?;
    let mut opened = sealed.to_vec();
    key.open(&nonce, &mut opened).ok()?;
    opened.drain(..MAC_LEN);
    Some(opened)
}

fn nonce(ephemeral: &[u8; 32], receiver: &[u8; 32]) -> Nonce {
    let hash = Blake2b::<U24>::new().chain_update(ephemeral).chain_update(receiver);
    Nonce::from_bytes(&hash.finalize().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(20))]

        #[test]
        fn what_is_sealed_here_opens_with_libsodiums_scheme_and_the_other_way_round(
            plain in vec(any::<u8>(), 0..300),
            seeds: [[u8; 32]; 2],
        ) {
            let mut both = [0; 64];
            both.copy_from_slice(seeds.as_flattened());
            let keys = SecretKeys::from_seeds(&both);
            let sealed = seal(&plain, &keys.public().x25519);
            prop_assert_eq!(sealed.len(), plain.len() + SEALED_MORE);
            prop_assert_eq!(unseal(&sealed, &keys), Some(plain.clone()));
            let theirs = crypto_box::SecretKey::from(seeds[1]);
            prop_assert_eq!(theirs.unseal(&sealed).ok(), Some(plain));
        }
    }

    #[test]
    fn nothing_opens_that_is_too_short_or_agrees_with_nobody() {
        let keys = SecretKeys::from_seeds(&[1; 64]);
        for len in 0..=SEALED_MORE {
            assert_eq!(unseal(&vec![0; len], &keys), None);
        }
    }
}
