//! A passphrase and what it protects: argon2id makes a key of it, and XChaCha20-Poly1305 seals the secrets under that.

use argon2::{Algorithm, Argon2, Params, Version};
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::{Aead, KeyInit, Payload};
use thiserror::Error;
use zeroize::Zeroizing;

/// Bytes of a passphrase.
pub const PASSPHRASE_MAX: usize = 1_024;

pub(super) const SALT_LEN: usize = 16;
pub(super) const NONCE_LEN: usize = 24;

/// Bytes by which what is sealed is longer.
pub(super) const TAG_LEN: usize = 16;

/// What a person knows; wiped from memory when dropped.
pub struct Passphrase(Zeroizing<Vec<u8>>);

/// Why something is no passphrase.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum PassphraseError {
    #[error("the passphrase is empty, and would protect nothing")]
    Empty,
    #[error("the passphrase has more than {PASSPHRASE_MAX} bytes")]
    TooLong,
}

impl Passphrase {
    /// # Errors
    /// It is empty or too long.
    pub fn new(bytes: Zeroizing<Vec<u8>>) -> Result<Self, PassphraseError> {
        match bytes.len() {
            0 => Err(PassphraseError::Empty),
            1..=PASSPHRASE_MAX => Ok(Self(bytes)),
            _ => Err(PassphraseError::TooLong),
        }
    }

    /// Whether two are the same, as where one is typed twice.
    #[must_use]
    pub fn is(&self, other: &Self) -> bool {
        *self.0 == *other.0
    }
}

impl std::fmt::Debug for Passphrase {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Passphrase")
    }
}

/// The work of one try at a passphrase. It stands in the file, so that a later program may ask for more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Cost {
    pub memory_kib: u32,
    pub passes: u32,
    pub lanes: u32,
}

impl Cost {
    /// What new files ask for: the memory and passes of RFC 9106, second choice. Some tenths of a second, once a start.
    pub const USUAL: Self = Self {
        memory_kib: 64 * 1_024,
        passes: 3,
        lanes: 1,
    };

    /// What a file may ask for at most: one that somebody else has put there must not take all memory. Below the least the
    /// passphrase would be all that protects.
    const LEAST_KIB: u32 = 64;
    const MOST: Self = Self {
        memory_kib: 1_024 * 1_024,
        passes: 16,
        lanes: 4,
    };

    pub fn is_bearable(self) -> bool {
        (Self::LEAST_KIB..=Self::MOST.memory_kib).contains(&self.memory_kib)
            && (1..=Self::MOST.passes).contains(&self.passes)
            && (1..=Self::MOST.lanes).contains(&self.lanes)
    }
}

/// The key that a passphrase comes to. A running pool keeps it, beside the keys it protects, to read the file again.
#[derive(Clone)]
pub(super) struct Lock {
    pub cost: Cost,
    pub salt: [u8; SALT_LEN],
    key: Zeroizing<[u8; 32]>,
}

impl Lock {
    /// With a salt of its own.
    pub fn new(passphrase: &Passphrase) -> Result<Self, getrandom::Error> {
        let mut salt = [0; SALT_LEN];
        getrandom::fill(&mut salt)?;
        Ok(Self::derive(passphrase, Cost::USUAL, salt))
    }

    pub fn derive(passphrase: &Passphrase, cost: Cost, salt: [u8; SALT_LEN]) -> Self {
        assert!(cost.is_bearable(), "a file that asks for more is refused before");
        let mut key = Zeroizing::new([0; 32]);
        Params::new(cost.memory_kib, cost.passes, cost.lanes, Some(key.len()))
            .and_then(|params| {
                let argon2 = Argon2::new(Algorithm::Argon2id, Version::V0x13, params);
                argon2.hash_password_into(&passphrase.0, &salt, &mut *key)
            })
            .expect("cost, salt and passphrase are within what argon2 takes");
        Self { cost, salt, key }
    }

    pub fn is_of(&self, cost: Cost, salt: [u8; SALT_LEN]) -> bool {
        (self.cost, self.salt) == (cost, salt)
    }

    /// `head` is not hidden, but cannot be changed either.
    pub fn seal(&self, nonce: &[u8; NONCE_LEN], head: &str, secrets: &[u8]) -> Vec<u8> {
        let payload = Payload {
            msg: secrets,
            aad: head.as_bytes(),
        };
        self.cipher()
            .encrypt(&(*nonce).into(), payload)
            .expect("a few keys are far below the cipher's limit")
    }

    /// None: not sealed under this key, or changed.
    pub fn open(&self, nonce: &[u8; NONCE_LEN], head: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let payload = Payload {
            msg: sealed,
            aad: head.as_bytes(),
        };
        self.cipher()
            .decrypt(&(*nonce).into(), payload)
            .ok()
            .map(Zeroizing::new)
    }

    fn cipher(&self) -> XChaCha20Poly1305 {
        XChaCha20Poly1305::new((&*self.key).into())
    }
}

impl std::fmt::Debug for Lock {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Lock").field("cost", &self.cost).finish_non_exhaustive()
    }
}
