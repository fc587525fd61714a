//! The channel: XSalsa20-Poly1305 under the precomputed key of the two sessions' X25519 keys (section 1).

use crypto_secretbox::aead::AeadInPlace;
use crypto_secretbox::{KeyInit, XSalsa20Poly1305};
use salsa20::cipher::consts::U10;
use thiserror::Error;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::error::{DecodeError, Fault};
use super::frame::feedback;
use super::keys::SecretKeys;

/// Bytes of the MAC, which stands before the ciphertext.
pub const MAC_LEN: usize = 16;

/// The ciphertext is not from the holder of the key, or not under this nonce.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the MAC does not fit the frame")]
pub struct BadMac;

/// The key of one session's channel.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ChannelKey([u8; 32]);

impl ChannelKey {
    /// Agrees on the key as `crypto_box_beforenm` does: `HSalsa20(X25519(ours, theirs), 0)`.
    ///
    /// # Errors
    /// Their key is of low order, so that everybody would know the result.
    pub fn agree(ours: &SecretKeys, their_x25519: &[u8; 32]) -> Result<Self, DecodeError> {
        let mut shared = ours
            .agree(their_x25519)
            .ok_or(DecodeError::new("x25519", Fault::WeakKey))?;
        let mut key = salsa20::hsalsa::<U10>((&shared).into(), &[0; 16].into());
        shared.zeroize();
        let this = Self(key.into());
        key.as_mut_slice().zeroize();
        Ok(this)
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

    fn to_bytes(&self) -> [u8; 24] {
        let mut bytes = [0; 24];
        for (chunk, word) in bytes.chunks_exact_mut(4).zip(self.0) {
            chunk.copy_from_slice(&word.to_le_bytes());
        }
        bytes
    }
}
