//! The channel: XSalsa20-Poly1305 under the precomputed key of the two sessions' X25519 keys (section 1).

use std::fmt;

use crypto_secretbox::aead::AeadInPlace;
use crypto_secretbox::{KeyInit, XSalsa20Poly1305};
use salsa20::cipher::consts::U10;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::error::{DecodeError, Fault};
use super::frame::feedback;
use super::keys::{SecretKeys, SessionSigner};

/// Bytes of the MAC, which stands before the ciphertext.
pub const MAC_LEN: usize = 16;

/// The ciphertext is not from the holder of the key, or not under this nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the MAC does not fit the frame")]
pub struct BadMac;

/// The key of one session's channel.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ChannelKey([u8; 32]);

impl fmt::Debug for ChannelKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ChannelKey")
    }
}

impl ChannelKey {
    /// Agrees on the key as `crypto_box_beforenm` does: `HSalsa20(X25519(ours, theirs), 0)`.
    ///
    /// # Errors
    /// Their key is of low order, so that everybody would know the result.
    pub fn agree(ours: &SecretKeys, their_x25519: &[u8; 32]) -> Result<Self, DecodeError> {
        let shared = ours
            .agree(their_x25519)
            .ok_or(DecodeError::new("x25519", Fault::WeakKey))?;
        let mut key = salsa20::hsalsa::<U10>((&*shared).into(), &[0; 16].into());
        let this = Self(key.into());
        key.as_mut_slice().zeroize();
        Ok(this)
    }

    /// The same with a session's keys: their X25519 half has done its work then, and is wiped.
    ///
    /// # Errors
    /// As [`Self::agree`].
    pub fn agree_once(ours: SecretKeys, their_x25519: &[u8; 32]) -> Result<(Self, SessionSigner), DecodeError> {
        Ok((Self::agree(&ours, their_x25519)?, ours.into_signer()))
    }

    #[must_use]
    pub fn from_bytes(key: [u8; 32]) -> Self {
        Self(key)
    }

    #[must_use]
    pub fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// Encrypts in place: `frame` is [`MAC_LEN`] bytes of room, then the plaintext.
    ///
    /// # Panics
    /// There is no room for the MAC: a fault of the caller.
    pub fn seal(&self, nonce: &Nonce, frame: &mut [u8]) {
        let (mac, text) = frame.split_at_mut(MAC_LEN);
        let tag = self
            .cipher()
            .encrypt_in_place_detached(&nonce.to_bytes().into(), &[], text)
            .expect("a frame is far below the cipher's limit");
        mac.copy_from_slice(&tag);
    }

    /// Decrypts in place: `frame` is the MAC, then the ciphertext; the plaintext stands behind the MAC afterwards.
    ///
    /// # Errors
    /// [`BadMac`]: the frame is untouched, so another key can be tried.
    pub fn open(&self, nonce: &Nonce, frame: &mut [u8]) -> Result<(), BadMac> {
        let (mac, text) = frame.split_at_mut_checked(MAC_LEN).ok_or(BadMac)?;
        let tag = crypto_secretbox::Tag::clone_from_slice(mac);
        self.cipher()
            .decrypt_in_place_detached(&nonce.to_bytes().into(), &[], text, &tag)
            .map_err(|_| BadMac)
    }

    fn cipher(&self) -> XSalsa20Poly1305 {
        XSalsa20Poly1305::new((&self.0).into())
    }
}

/// The nonce of one direction's next channel message; it is never sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Nonce([u32; 6]);

impl Nonce {
    /// The gateway's first nonce after the HELLO with `nk` and this session Ed25519 key.
    #[must_use]
    pub fn gateway_to_pool(nk: u32, session_ed25519: &[u8; 32]) -> Self {
        let Self(words) = Self::pool_to_gateway(nk, session_ed25519);
        Self(words.map(|word| word ^ 0x5757_5757))
    }

    /// The pool's first nonce.
    #[must_use]
    pub fn pool_to_gateway(nk: u32, session_ed25519: &[u8; 32]) -> Self {
        let of_key = u32::from_le_bytes(std::array::from_fn(|at| session_ed25519[7 + at]));
        let mut t = nk.wrapping_sub(42) ^ of_key;
        Self(std::array::from_fn(|_| {
            let word = feedback(t.wrapping_sub(42));
            t = !word;
            word
        }))
    }

    /// On to the next message: six words, with carry from the first.
    pub fn advance(&mut self) {
        for word in &mut self.0 {
            *word = word.wrapping_add(1);
            if *word != 0 {
                return;
            }
        }
    }

    pub(super) fn from_bytes(bytes: &[u8; 24]) -> Self {
        let word = |at: usize| u32::from_le_bytes(std::array::from_fn(|byte| bytes[4 * at + byte]));
        Self(std::array::from_fn(word))
    }

    fn to_bytes(&self) -> [u8; 24] {
        let mut bytes = [0; 24];
        for (chunk, word) in bytes.chunks_exact_mut(4).zip(self.0) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn nonce() -> impl Strategy<Value = Nonce> {
        // Words at their end are what carry is about.
        any::<[bool; 6]>()
            .prop_flat_map(|full| any::<[u32; 6]>().prop_map(move |words| (full, words)))
            .prop_map(|(full, words)| Nonce(std::array::from_fn(|at| if full[at] { u32::MAX } else { words[at] })))
    }

    #[test]
    fn carry_runs_from_the_first_word_to_the_last() {
        let after = |words| {
            let mut nonce = Nonce(words);
            nonce.advance();
            nonce.0
        };
        const FULL: u32 = u32::MAX;
        assert_eq!(after([1, 2, 3, 4, 5, 6]), [2, 2, 3, 4, 5, 6]);
        assert_eq!(after([FULL, 2, 3, 4, 5, 6]), [0, 3, 3, 4, 5, 6]);
        assert_eq!(after([FULL, FULL, FULL, FULL, FULL, 6]), [0, 0, 0, 0, 0, 7]);
        assert_eq!(after([FULL, FULL, 9, FULL, FULL, 6]), [0, 0, 10, FULL, FULL, 6]);
        assert_eq!(after([FULL; 6]), [0; 6]);
    }

    #[test]
    fn a_frame_without_room_for_its_mac_does_not_open() {
        let key = ChannelKey::from_bytes([1; 32]);
        for len in 0..MAC_LEN {
            assert_eq!(key.open(&Nonce([0; 6]), &mut vec![0; len]), Err(BadMac));
        }
        // An empty message is a MAC alone.
        let mut frame = [0; MAC_LEN];
        key.seal(&Nonce([0; 6]), &mut frame);
        assert_eq!(key.open(&Nonce([0; 6]), &mut frame), Ok(()));
    }

    #[test]
    fn both_ends_agree_and_a_key_of_low_order_is_refused() {
        let (ours, theirs) = (SecretKeys::from_seeds(&[1; 64]), SecretKeys::from_seeds(&[2; 64]));
        let here = ChannelKey::agree(&ours, &theirs.public().x25519).expect("a sound key");
        let there = ChannelKey::agree(&theirs, &ours.public().x25519).expect("a sound key");
        assert_eq!(here.as_bytes(), there.as_bytes());
        let mut one = [0; 32];
        for low in [[0; 32], {
            one[0] = 1;
            one
        }] {
            let refused = ChannelKey::agree(&ours, &low).map(|key| *key.as_bytes());
            assert_eq!(refused, Err(DecodeError::new("x25519", Fault::WeakKey)));
        }
    }

    proptest! {
        #[test]
        fn the_two_directions_never_share_a_nonce_at_their_start(nk: u32, session: [u8; 32]) {
            let there = Nonce::gateway_to_pool(nk, &session);
            let back = Nonce::pool_to_gateway(nk, &session);
            for (word, other) in there.0.into_iter().zip(back.0) {
                prop_assert_eq!(word ^ other, 0x5757_5757);
            }
            // Of the key only these four bytes count.
            let mut same = [0; 32];
            same[7..11].copy_from_slice(&session[7..11]);
            prop_assert_eq!(back, Nonce::pool_to_gateway(nk, &same));
        }

        #[test]
        fn a_nonce_counts_as_one_long_number(nonce in nonce()) {
            let mut bytes = nonce.to_bytes();
            for byte in &mut bytes {
                *byte = byte.wrapping_add(1);
                if *byte != 0 {
                    break;
                }
            }
            let mut next = nonce;
            next.advance();
            prop_assert_eq!(next.to_bytes(), bytes);
        }

        #[test]
        fn what_is_sealed_opens_and_nothing_else_does(
            key: [u8; 32],
            nonce in nonce(),
            plain in vec(any::<u8>(), 0..400),
            at: prop::sample::Index,
            bit in 0..8_u8,
        ) {
            let key = ChannelKey::from_bytes(key);
            let mut frame = [&[0; MAC_LEN][..], &plain].concat();
            key.seal(&nonce, &mut frame);
            let sealed = frame.clone();

            let mut later = nonce.clone();
            later.advance();
            prop_assert_eq!(key.open(&later, &mut frame), Err(BadMac));
            let mut other = *key.as_bytes();
            other[at.index(32)] ^= 1 << bit;
            prop_assert_eq!(ChannelKey::from_bytes(other).open(&nonce, &mut frame), Err(BadMac));
            frame[at.index(sealed.len())] ^= 1 << bit;
            prop_assert_eq!(key.open(&nonce, &mut frame), Err(BadMac));
            frame[at.index(sealed.len())] ^= 1 << bit;
            // No failed try has touched it.
            prop_assert_eq!(&frame, &sealed);

            prop_assert_eq!(key.open(&nonce, &mut frame), Ok(()));
            prop_assert_eq!(&frame[MAC_LEN..], &plain[..]);
        }
    }
}
