//! One place, and a channel key that is sealed under it.

use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::{Aead, KeyInit};
use zeroize::Zeroizing;

use crate::wire::ChannelKey;

/// Bytes of a place.
pub(super) const PLACE_LEN: usize = 32;

/// Bytes of a sealed key: 32, and the tag by which a place that was written over, or half so, is known.
pub const SEALED_LEN: usize = 48;

/// What lies in one place: a key that seals one channel key and then no other. In memory it stays where it was made, and is
/// wiped with it.
pub(super) struct Place {
    pub number: u32,
    key: Box<Zeroizing<[u8; PLACE_LEN]>>,
}

/// A channel key as the ledger holds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedKey {
    /// The place that it is sealed under.
    pub place: u32,
    pub sealed: [u8; SEALED_LEN],
}

impl Place {
    pub fn new(number: u32, bytes: &[u8; PLACE_LEN]) -> Self {
        let mut key = Box::new(Zeroizing::new([0; PLACE_LEN]));
        key.copy_from_slice(bytes);
        Self { number, key }
    }

    /// Another in memory of the same.
    pub fn again(&self) -> Self {
        Self::new(self.number, &self.key)
    }

    /// Uses the place up.
    pub fn seal(self, prime_id: u32, key: &ChannelKey) -> SealedKey {
        let sealed = self
            .cipher()
            .encrypt(&nonce(prime_id).into(), &key.as_bytes()[..])
            .expect("32 bytes are far below the cipher's limit");
        SealedKey {
            place: self.number,
            sealed: sealed.try_into().expect("the tag is 16 bytes"),
        }
    }

    /// None: it is not sealed under what lies here now.
    pub fn open(&self, prime_id: u32, sealed: &SealedKey) -> Option<ChannelKey> {
        let opened = self
            .cipher()
            .decrypt(&nonce(prime_id).into(), &sealed.sealed[..])
            .ok()?;
        let opened = Zeroizing::new(opened);
        Some(ChannelKey::from_bytes(opened.as_slice().try_into().ok()?))
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&**self.key).into())
    }
}

/// A place seals once, so any nonce would do; this one is never given twice either.
fn nonce(prime_id: u32) -> [u8; 24] {
    let mut nonce = [0; 24];
    nonce[..4].copy_from_slice(&prime_id.to_le_bytes());
    nonce
}
