//! Key pairs, long-term and of a session: Ed25519 to sign, X25519 to agree and to seal (section 2).

use std::fmt;
use std::str::FromStr;

use ed25519_dalek::{Signer, SigningKey, VerifyingKey};
use x25519_dalek::{PublicKey, StaticSecret};
use zeroize::Zeroizing;

use super::error::{DecodeError, Fault};

/// Bytes of a detached Ed25519 signature.
pub const SIGNATURE_LEN: usize = 64;

/// The public halves. As text: 128 hex digits, Ed25519 first, as a gateway's `pool_pubkey` has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct PublicKeys {
    pub ed25519: [u8; 32],
    pub x25519: [u8; 32],
}

impl PublicKeys {
    /// Whether the last 64 bytes of `signed` are this key's signature of what stands before them.
    #[must_use]
    pub fn has_signed(&self, signed: &[u8]) -> bool {
        let Some((message, signature)) = signed.split_last_chunk::<SIGNATURE_LEN>() else {
            return false;
        };
        let Ok(key) = VerifyingKey::from_bytes(&self.ed25519) else {
            return false;
        };
        // Strict: a key of small order would let anybody sign for it.
        key.verify_strict(message, &signature.into()).is_ok()
    }
}

impl fmt::Display for PublicKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.ed25519
            .iter()
            .chain(&self.x25519)
            .try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for PublicKeys {
    type Err = DecodeError;

    fn from_str(text: &str) -> Result<Self, DecodeError> {
        let digits = text.as_bytes();
        if digits.len() != 128 {
            let fault = if digits.len() < 128 {
                Fault::Truncated
            } else {
                Fault::TooLong
            };
            return Err(DecodeError::new("public key", fault));
        }
        let mut bytes = [0; 64];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16);
            let value = digit(0).zip(digit(1)).map(|(high, low)| high << 4 | low);
            *byte = value
                .and_then(|value| u8::try_from(value).ok())
                .ok_or(DecodeError::new("public key", Fault::Unknown))?;
        }
        let mut reader = super::reader::Reader::new(&bytes);
        Ok(Self {
            ed25519: *reader.array("public key")?,
            x25519: *reader.array("public key")?,
        })
    }
}

/// The secret halves; wiped from memory when dropped.
pub struct SecretKeys {
    ed25519: SigningKey,
    x25519: StaticSecret,
    public: PublicKeys,
}

impl SecretKeys {
    /// From `ed25519 seed | x25519 secret`, 32 bytes each.
    #[must_use]
    pub fn from_seeds(seeds: &[u8; 64]) -> Self {
        let (ed25519, x25519) = seeds.split_at(32);
        let half = |bytes: &[u8]| Zeroizing::new(<[u8; 32]>::try_from(bytes).expect("half of 64"));
        let ed25519 = SigningKey::from_bytes(&half(ed25519));
        let x25519 = StaticSecret::from(*half(x25519));
        let public = PublicKeys {
            ed25519: ed25519.verifying_key().to_bytes(),
            x25519: PublicKey::from(&x25519).to_bytes(),
        };
        Self {
            ed25519,
            x25519,
            public,
        }
    }

    /// New keys from the system's randomness.
    ///
    /// # Errors
    /// The system has none to give.
    pub fn generate() -> Result<Self, getrandom::Error> {
        let mut seeds = Zeroizing::new([0; 64]);
        getrandom::fill(&mut *seeds)?;
        Ok(Self::from_seeds(&seeds))
    }

    #[must_use]
    pub fn public(&self) -> PublicKeys {
        self.public
    }

    /// Both seeds, for storing them.
    #[must_use]
    pub fn seeds(&self) -> Zeroizing<[u8; 64]> {
        let mut seeds = Zeroizing::new([0; 64]);
        seeds[..32].copy_from_slice(self.ed25519.as_bytes());
        seeds[32..].copy_from_slice(self.x25519.as_bytes());
        seeds
    }

    /// A detached Ed25519 signature.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        self.ed25519.sign(message).to_bytes()
    }

    /// Gives the X25519 half up, which is wiped: nothing can be agreed with these keys any more.
    #[must_use]
    pub fn into_signer(self) -> SessionSigner {
        SessionSigner(self.ed25519)
    }

    /// What opens that is sealed to these keys, and can do nothing else.
    #[must_use]
    pub fn opener(&self) -> Opener {
        let mut seeds = self.seeds();
        // The signing half of nobody.
        seeds[..32].fill(0);
        Opener(Self::from_seeds(&seeds))
    }

    /// The raw X25519 secret shared with the holder of `theirs`; none where their key is of low order.
    pub(super) fn agree(&self, theirs: &[u8; 32]) -> Option<Zeroizing<[u8; 32]>> {
        let shared = self.x25519.diffie_hellman(&PublicKey::from(*theirs));
        shared.was_contributory().then(|| Zeroizing::new(shared.to_bytes()))
    }
}

/// What is left of a session's secret keys once its channel has its key: the Ed25519 half, which signs CONFIG. Wiped from
/// memory when dropped.
pub struct SessionSigner(SigningKey);

impl SessionSigner {
    /// A detached Ed25519 signature.
    #[must_use]
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_LEN] {
        self.0.sign(message).to_bytes()
    }
}

/// The X25519 half of long-term keys that serve no more: it tells what is sealed to them from what is sealed to nobody. Wiped
/// from memory when dropped.
#[derive(Debug)]
pub struct Opener(pub(super) SecretKeys);

impl fmt::Debug for SessionSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionSigner")
    }
}

impl fmt::Debug for SecretKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SecretKeys")
            .field("public", &self.public)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn public_keys_are_written_as_they_are_read(ed25519: [u8; 32], x25519: [u8; 32]) {
            let keys = PublicKeys { ed25519, x25519 };
            let text = keys.to_string();
            prop_assert_eq!(text.parse(), Ok(keys));
            prop_assert_eq!(text.to_uppercase().parse(), Ok(keys));
        }

        #[test]
        fn any_text_parses_or_fails(text in ".{0,140}") {
            if let Ok(keys) = text.parse::<PublicKeys>() {
                prop_assert_eq!(keys.to_string(), text.to_lowercase());
            }
        }

        #[test]
        fn seeds_make_the_same_keys_again(seeds: [[u8; 32]; 2]) {
            let mut both = [0; 64];
            both.copy_from_slice(seeds.as_flattened());
            let keys = SecretKeys::from_seeds(&both);
            prop_assert_eq!(*keys.seeds(), both);
            prop_assert_eq!(SecretKeys::from_seeds(&keys.seeds()).public(), keys.public());
        }

        #[test]
        fn a_signature_holds_for_its_message_alone(
            message in proptest::collection::vec(any::<u8>(), 0..200),
            at: prop::sample::Index,
            bit in 0..8_u8,
        ) {
            let keys = SecretKeys::from_seeds(&[3; 64]);
            let mut signed = [&message[..], &keys.sign(&message)].concat();
            prop_assert!(keys.public().has_signed(&signed));
            prop_assert!(!SecretKeys::from_seeds(&[4; 64]).public().has_signed(&signed));
            let at = at.index(signed.len());
            signed[at] ^= 1 << bit;
            prop_assert!(!keys.public().has_signed(&signed));
        }
    }

    #[test]
    fn text_that_is_no_key_says_why() {
        let error = |text: &str| text.parse::<PublicKeys>().expect_err("no key").fault;
        assert_eq!(error(""), Fault::Truncated);
        assert_eq!(error(&"0".repeat(127)), Fault::Truncated);
        assert_eq!(error(&"0".repeat(129)), Fault::TooLong);
        assert_eq!(error(&"0g".repeat(64)), Fault::Unknown);
        assert_eq!(error(&"+1".repeat(64)), Fault::Unknown);
        assert_eq!(error(&"é".repeat(64)), Fault::Unknown);
    }

    #[test]
    fn a_key_for_which_anybody_could_sign_signs_nothing() {
        // The identity of the group: this "signature" of it fits every message.
        let mut ed25519 = [0; 32];
        ed25519[0] = 1;
        let keys = PublicKeys {
            ed25519,
            x25519: [0; 32],
        };
        let mut signed = b"anything".to_vec();
        signed.extend_from_slice(&ed25519);
        signed.extend_from_slice(&[0; 32]);
        assert!(!keys.has_signed(&signed));
        assert!(!keys.has_signed(&signed[..SIGNATURE_LEN - 1]));
    }

    /// Of their types by the compiler: what holds a secret wipes it when it goes.
    #[test]
    fn secrets_are_wiped_when_they_go() {
        fn is_wiped<T: zeroize::ZeroizeOnDrop>(_: &T) {}
        let SecretKeys { ed25519, x25519, .. } = SecretKeys::from_seeds(&[0x5a; 64]);
        is_wiped(&ed25519);
        is_wiped(&x25519);
        let keys = SecretKeys::from_seeds(&[0x5a; 64]);
        let signature = keys.sign(b"message");
        let signer = keys.into_signer();
        assert_eq!(signer.sign(b"message"), signature);
        is_wiped(&signer.0);
        is_wiped(&crate::wire::ChannelKey::from_bytes([1; 32]));
    }

    #[test]
    fn secrets_do_not_show() {
        let keys = SecretKeys::from_seeds(&[0x5a; 64]);
        let shown = format!("{keys:?}");
        assert!(!shown.contains("90, 90") && !shown.contains("5a5a"), "{shown}");
    }
}
