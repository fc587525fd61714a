//! The pool's long-term keys: make, load, add, retire, protect.
//!
//! They are what gateways pin the pool by. A pool has one, or for a while a few, newest first: those before the newest
//! serve on until their gateways have changed over. They lie in the file `identity` in the data folder, for its owner
//! alone; `identity/text.rs` has its form. A running pool reads the file again when it is told to, and never writes it.

mod disk;
mod error;
mod lock;
mod ring;
mod text;

use std::error::Error;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

pub use self::error::IdentityError;
pub use self::lock::{PASSPHRASE_MAX, Passphrase, PassphraseError};
pub use self::ring::{KeyRing, KeyTally, KeyUse, PoolKey, RETIRED_KNOWN_FOR};

use self::disk::failed;
use self::lock::{Cost, Lock};
use self::text::{Secrets, Stored};
use crate::wire::{PublicKeys, SecretKeys};

/// Keys of a pool at a time. A HELLO that is sealed to none of them costs one X25519 for each.
pub const KEYS_MAX: usize = 4;

/// The file, in the data folder.
const FILE: &str = "identity";

/// Who the pool is.
#[derive(Debug)]
pub struct Identity {
    data_dir: PathBuf,
    /// 1 to [`KEYS_MAX`], newest first.
    keys: Vec<Entry>,
    /// None where no passphrase protects the file.
    lock: Option<Lock>,
}

/// One key of a pool.
#[derive(Debug, Clone)]
struct Entry {
    secret: Arc<SecretKeys>,
    added_s: u64,
}

/// The public half of one key, and when it was added, s since 1970; 0 where the file is older than that.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PublicEntry {
    pub keys: PublicKeys,
    pub added_s: u64,
}

/// What a passphrase is asked for with, where the file needs one.
pub type Asked = Result<Passphrase, Box<dyn Error + Send + Sync>>;

/// What anybody who may read the file learns without a passphrase.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PublicHalf {
    /// Newest first.
    pub keys: Vec<PublicEntry>,
    /// Whether a passphrase protects the secrets.
    pub is_locked: bool,
}

impl Identity {
    /// Reads the identity of a data folder; asks for a passphrase only where one protects it.
    ///
    /// # Errors
    /// There is none, somebody else may read it, it is damaged, its version is not known, or the passphrase is missing or
    /// another.
    pub fn load(data_dir: &Path, ask: impl FnOnce() -> Asked) -> Result<Self, IdentityError> {
        let stored = Stored::read(&data_dir.join(FILE))?;
        Self::open(data_dir, stored, |cost, salt| {
            let passphrase = ask().map_err(|why| IdentityError::NoPassphrase {
                path: data_dir.join(FILE),
                why,
            })?;
            Ok(Lock::derive(&passphrase, cost, salt))
        })
    }

    /// Makes the identity of a data folder, and the folder itself where it is missing. On return it is on disk. `first`:
    /// the key it begins with, which is made where none is given.
    ///
    /// # Errors
    /// There is one already, or the folder cannot be written.
    pub fn create(
        data_dir: &Path,
        first: Option<SecretKeys>,
        passphrase: Option<&Passphrase>,
    ) -> Result<Self, IdentityError> {
        let path = data_dir.join(FILE);
        disk::make_dir(data_dir)?;
        if path.symlink_metadata().is_ok() {
            // Before a passphrase is worked on; what counts is the link below.
            return Err(IdentityError::Exists(path));
        }
        let secret = first.map_or_else(SecretKeys::generate, Ok)?;
        let identity = Self {
            data_dir: data_dir.to_owned(),
            keys: vec![Entry::added_now(secret)],
            lock: passphrase.map(Lock::new).transpose()?,
        };
        disk::create(&path, &identity.text()?)?;
        Ok(identity)
    }

    /// Reads the identity, or makes it where there is none; with the passphrase that is asked for, where one is to `protect`
    /// it.
    ///
    /// # Errors
    /// Those of [`Self::load`] and [`Self::create`].
    pub fn load_or_create(data_dir: &Path, ask: impl Fn() -> Asked, protect: bool) -> Result<Self, IdentityError> {
        match Self::load(data_dir, &ask) {
            Err(IdentityError::Missing(_)) => {}
            other => return other,
        }
        let asked = |why| IdentityError::NoPassphrase {
            path: data_dir.join(FILE),
            why,
        };
        let passphrase = protect.then(&ask).transpose().map_err(asked)?;
        match Self::create(data_dir, None, passphrase.as_ref()) {
            // Somebody else was faster.
            Err(IdentityError::Exists(_)) => Self::load(data_dir, ask),
            other => other,
        }
    }

    /// The file as it is now, read without asking for the passphrase again.
    ///
    /// # Errors
    /// Those of [`Self::load`]; and where the passphrase is another meanwhile.
    pub fn again(&self) -> Result<Self, IdentityError> {
        let path = self.path();
        let stored = Stored::read(&path)?;
        Self::open(&self.data_dir, stored, |cost, salt| match &self.lock {
            Some(lock) if lock.is_of(cost, salt) => Ok(lock.clone()),
            _ => Err(IdentityError::PassphraseChanged(path)),
        })
    }

    /// What gateways pin the pool by: the public half of the newest key.
    #[must_use]
    pub fn public(&self) -> PublicKeys {
        self.newest().public()
    }

    /// The newest key, which signs what is not for a gateway on an older one.
    #[must_use]
    pub fn newest(&self) -> &SecretKeys {
        &self.keys[0].secret
    }

    /// Newest first.
    #[must_use]
    pub fn public_half(&self) -> PublicHalf {
        PublicHalf {
            keys: self.keys.iter().map(Entry::public).collect(),
            is_locked: self.lock.is_some(),
        }
    }

    fn path(&self) -> PathBuf {
        self.data_dir.join(FILE)
    }

    fn open(
        data_dir: &Path,
        stored: Stored,
        lock: impl FnOnce(Cost, [u8; 16]) -> Result<Lock, IdentityError>,
    ) -> Result<Self, IdentityError> {
        let path = data_dir.join(FILE);
        let head = stored.head();
        let (seeds, lock) = match stored.secrets {
            Secrets::Plain(seeds) => (seeds, None),
            Secrets::Locked {
                cost,
                salt,
                nonce,
                sealed,
            } => {
                let lock = lock(cost, salt)?;
                let opened = lock.open(&nonce, &head, &sealed);
                (opened.ok_or(IdentityError::WrongPassphrase(path.clone()))?, Some(lock))
            }
        };
        let entry = |(seeds, public): (&[u8; 64], PublicEntry)| {
            let secret = SecretKeys::from_seeds(seeds);
            (secret.public() == public.keys).then(|| Entry {
                secret: Arc::new(secret),
                added_s: public.added_s,
            })
        };
        let (each, rest) = seeds.as_chunks();
        let keys: Option<Vec<Entry>> = each.iter().zip(stored.keys.iter().copied()).map(entry).collect();
        match keys.filter(|keys| keys.len() == stored.keys.len() && each.len() == keys.len() && rest.is_empty()) {
            Some(keys) => Ok(Self {
                data_dir: data_dir.to_owned(),
                keys,
                lock,
            }),
            None => Err(IdentityError::Damaged {
                path,
                why: "its public keys are not those of its secrets",
            }),
        }
    }

    /// What the file is to hold; a nonce is never used twice.
    fn text(&self) -> Result<zeroize::Zeroizing<String>, IdentityError> {
        let seeds = self.keys.iter().map(|entry| entry.secret.seeds());
        let seeds = text::joined(seeds);
        let keys = self.public_half().keys;
        let stored = match &self.lock {
            None => Stored {
                keys,
                secrets: Secrets::Plain(seeds),
            },
            Some(lock) => Stored::locked(keys, lock, &seeds)?,
        };
        Ok(stored.render())
    }
}

/// Hex digits of a key's seeds as they are imported.
pub const SEED_DIGITS: usize = 128;

/// A key from hex digits: Ed25519 seed, then X25519 secret. None where they are not [`SEED_DIGITS`].
#[must_use]
pub fn from_seed_digits(digits: &[u8]) -> Option<SecretKeys> {
    let seeds = text::hex(digits, SEED_DIGITS / 2)?;
    Some(SecretKeys::from_seeds(seeds.first_chunk()?))
}

/// The public half of a data folder's identity. It needs no passphrase, and takes the file's word: what it says is proved
/// when the file is next loaded.
///
/// # Errors
/// Those of [`Identity::load`] that have nothing to do with a passphrase.
pub fn public_half(data_dir: &Path) -> Result<PublicHalf, IdentityError> {
    let stored = Stored::read(&data_dir.join(FILE))?;
    Ok(PublicHalf {
        is_locked: matches!(stored.secrets, Secrets::Locked { .. }),
        keys: stored.keys,
    })
}

impl Entry {
    fn added_now(secret: SecretKeys) -> Self {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self {
            secret: Arc::new(secret),
            added_s: now.as_secs(),
        }
    }

    fn public(&self) -> PublicEntry {
        PublicEntry {
            keys: self.secret.public(),
            added_s: self.added_s,
        }
    }
}

/// Changes the identity of a data folder, one at a time: nobody else can while this lives. The file is written by
/// [`Self::save`] alone, as a whole or not at all.
#[derive(Debug)]
pub struct Editor {
    identity: Identity,
    /// The data folder, locked.
    _alone: File,
}

impl Editor {
    /// # Errors
    /// Those of [`Identity::load`], or somebody else is changing it.
    pub fn open(data_dir: &Path, ask: impl FnOnce() -> Asked) -> Result<Self, IdentityError> {
        // So that a folder without keys says that it has none.
        Stored::read(&data_dir.join(FILE))?;
        let alone = File::open(data_dir).map_err(failed("open the folder", data_dir))?;
        alone.try_lock().map_err(|error| match error {
            std::fs::TryLockError::WouldBlock => IdentityError::Busy(data_dir.to_owned()),
            std::fs::TryLockError::Error(error) => failed("lock the folder", data_dir)(error),
        })?;
        Ok(Self {
            identity: Identity::load(data_dir, ask)?,
            _alone: alone,
        })
    }

    /// A key that is the newest from now on; those before it serve on.
    ///
    /// # Errors
    /// There are [`KEYS_MAX`], or it is one of them.
    pub fn add_newest(&mut self, keys: SecretKeys) -> Result<(), IdentityError> {
        self.add_at(0, keys)
    }

    /// A key that serves beside the others, for gateways that have it already.
    ///
    /// # Errors
    /// As [`Self::add_newest`].
    pub fn add_former(&mut self, keys: SecretKeys) -> Result<(), IdentityError> {
        self.add_at(self.identity.keys.len(), keys)
    }

    /// Takes a key away for good.
    ///
    /// # Errors
    /// It is not one of the pool's, or its last.
    pub fn retire(&mut self, key: &PublicKeys) -> Result<(), IdentityError> {
        let path = self.identity.path();
        let keys = &mut self.identity.keys;
        let at = keys.iter().position(|entry| entry.secret.public() == *key);
        match at {
            None => Err(IdentityError::UnknownKey(path)),
            Some(_) if keys.len() == 1 => Err(IdentityError::LastKey(path)),
            Some(at) => {
                keys.remove(at);
                Ok(())
            }
        }
    }

    /// Protects the file with another passphrase, or with none.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn protect(&mut self, passphrase: Option<&Passphrase>) -> Result<(), IdentityError> {
        self.identity.lock = passphrase.map(Lock::new).transpose()?;
        Ok(())
    }

    /// As it would be written.
    #[must_use]
    pub fn identity(&self) -> &Identity {
        &self.identity
    }

    /// On return it is on disk.
    ///
    /// # Errors
    /// The folder cannot be written; then the file is what it was.
    pub fn save(self) -> Result<Identity, IdentityError> {
        disk::replace(&self.identity.path(), &self.identity.text()?)?;
        Ok(self.identity)
    }

    fn add_at(&mut self, at: usize, keys: SecretKeys) -> Result<(), IdentityError> {
        let path = self.identity.path();
        let known = &mut self.identity.keys;
        if known.iter().any(|entry| entry.secret.public() == keys.public()) {
            return Err(IdentityError::KnownKey(path));
        }
        if known.len() >= KEYS_MAX {
            return Err(IdentityError::TooManyKeys(path));
        }
        known.insert(at, Entry::added_now(keys));
        Ok(())
    }
}

#[cfg(test)]
mod tests;
