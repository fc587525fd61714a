//! The file, line by line. It is what it must be to the last byte, or it is refused; so nothing that differs is ever taken
//! for it.
//!
//! ```text
//! millrace identity 2
//! key <128 hex digits> <s since 1970>    public half and when it was added: 1 to 4 lines, newest first
//! plain                                  or: argon2id <KiB> <passes> <lanes> <salt, 32 hex digits> <nonce, 48 hex digits>
//! secrets <hex digits>                   for each key `ed25519 seed | x25519 secret`, 64 bytes; sealed, 16 bytes more
//! checksum <32 hex digits>               first half of the SHA-256 of all that stands above this line
//! ```
//!
//! Sealed is with XChaCha20-Poly1305 under the key that argon2id makes of the passphrase; all lines above `secrets` are its
//! associated data, so no public key and no cost can be changed without the passphrase. Version 1 is read too:
//!
//! ```text
//! millrace identity 1
//! ed25519_seed <64 hex digits>
//! x25519_secret <64 hex digits>
//! checksum <32 hex digits>
//! ```

use std::fmt::Write;
use std::path::Path;

use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::error::IdentityError;
use super::lock::{Cost, Lock, NONCE_LEN, SALT_LEN, TAG_LEN};
use super::{KEYS_MAX, PublicEntry, disk};
use crate::wire::{PublicKeys, SecretKeys};

const HEAD: &str = "millrace identity ";
const VERSION_1: &str = "1";
/// The version that is written.
pub(super) const VERSION: &str = "2";
const KEY: &str = "key ";
const PLAIN: &str = "plain";
const ARGON2ID: &str = "argon2id ";
const SECRETS: &str = "secrets ";
const ED25519: &str = "ed25519_seed ";
const X25519: &str = "x25519_secret ";
const CHECKSUM: &str = "checksum ";

/// Bytes of the checksum: damage is not hostile, and whoever can write the file needs none.
const CHECKSUM_LEN: usize = 16;

/// Bytes of a key: both seeds.
const SEEDS_LEN: usize = 64;

/// Bytes of the longest file: four keys, a line each with the longest time, and the lines around them.
pub(super) const FILE_MAX: usize = 20
    + KEYS_MAX * (KEY.len() + 128 + 1 + 20 + 1)
    + ARGON2ID.len()
    + 3 * 11
    + 2 * (SALT_LEN + NONCE_LEN)
    + 2
    + SECRETS.len()
    + 2 * (KEYS_MAX * SEEDS_LEN + TAG_LEN)
    + 1
    + CHECKSUM.len()
    + 2 * CHECKSUM_LEN
    + 1;

/// What stands in a file.
#[derive(Debug)]
pub(super) struct Stored {
    /// 1 to [`KEYS_MAX`], newest first.
    pub keys: Vec<PublicEntry>,
    pub secrets: Secrets,
}

pub(super) enum Secrets {
    Plain(Zeroizing<Vec<u8>>),
    Locked {
        cost: Cost,
        salt: [u8; SALT_LEN],
        nonce: [u8; NONCE_LEN],
        sealed: Vec<u8>,
    },
}

impl std::fmt::Debug for Secrets {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secrets")
    }
}

/// All seeds in a row, in memory that is wiped.
pub(super) fn joined(seeds: impl Iterator<Item = Zeroizing<[u8; SEEDS_LEN]>>) -> Zeroizing<Vec<u8>> {
    // All room at once: growing would leave copies of the seeds behind.
    let mut joined = Zeroizing::new(Vec::with_capacity(KEYS_MAX * SEEDS_LEN));
    seeds.for_each(|seeds| joined.extend_from_slice(&*seeds));
    joined
}

impl Stored {
    pub fn read(path: &Path) -> Result<Self, IdentityError> {
        Self::parse(&disk::read(path, FILE_MAX)?, path)
    }

    /// Sealed under a nonce of its own.
    pub fn locked(keys: Vec<PublicEntry>, lock: &Lock, seeds: &[u8]) -> Result<Self, getrandom::Error> {
        let mut nonce = [0; NONCE_LEN];
        getrandom::fill(&mut nonce)?;
        let secrets = |sealed| Secrets::Locked {
            cost: lock.cost,
            salt: lock.salt,
            nonce,
            sealed,
        };
        let mut stored = Self {
            keys,
            secrets: secrets(Vec::new()),
        };
        stored.secrets = secrets(lock.seal(&nonce, &stored.head(), seeds));
        Ok(stored)
    }

    /// All lines above the secrets.
    pub fn head(&self) -> String {
        let mut head = format!("{HEAD}{VERSION}\n");
        for key in &self.keys {
            let _ = writeln!(head, "{KEY}{} {}", key.keys, key.added_s);
        }
        match &self.secrets {
            Secrets::Plain(_) => head.push_str(PLAIN),
            Secrets::Locked { cost, salt, nonce, .. } => {
                let Cost {
                    memory_kib,
                    passes,
                    lanes,
                } = cost;
                let _ = write!(head, "{ARGON2ID}{memory_kib} {passes} {lanes} ");
                push_hex(&mut head, salt);
                head.push(' ');
                push_hex(&mut head, nonce);
            }
        }
        head.push('\n');
        head
    }

    pub fn render(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(FILE_MAX));
        text.push_str(&self.head());
        text.push_str(SECRETS);
        push_hex(
            &mut text,
            match &self.secrets {
                Secrets::Plain(seeds) => seeds,
                Secrets::Locked { sealed, .. } => sealed,
            },
        );
        text.push('\n');
        push_checksum(&mut text);
        text
    }

    pub fn parse(content: &[u8], path: &Path) -> Result<Self, IdentityError> {
        let damaged = |why| IdentityError::Damaged {
            path: path.to_owned(),
            why,
        };
        let rest = content
            .strip_prefix(HEAD.as_bytes())
            .ok_or_else(|| damaged("it does not begin as an identity does"))?;
        let mut lines = rest.split(|byte| *byte == b'\n');
        let version = lines.next().unwrap_or_default();
        let (parsed, rendered) = if version == VERSION.as_bytes() {
            let parsed = Self::version_2(lines);
            let rendered = parsed.as_ref().map(Self::render);
            (parsed, rendered)
        } else if version == VERSION_1.as_bytes() {
            version_1(lines).unzip()
        } else {
            return Err(IdentityError::Version {
                path: path.to_owned(),
                found: version.escape_ascii().take(16).map(char::from).collect(),
            });
        };
        let (Some(stored), Some(rendered)) = (parsed, rendered) else {
            return Err(damaged("its lines are not those of keys"));
        };
        if rendered.as_bytes() != content {
            return Err(damaged("its checksum is not that of its keys"));
        }
        match stored.secrets {
            Secrets::Locked { cost, .. } if !cost.is_bearable() => Err(IdentityError::Cost(path.to_owned())),
            _ => Ok(stored),
        }
    }

    fn version_2<'a>(lines: impl Iterator<Item = &'a [u8]>) -> Option<Self> {
        let mut lines = lines.peekable();
        let mut keys = Vec::new();
        while let Some(line) = lines.next_if(|line| line.starts_with(KEY.as_bytes())) {
            let line = std::str::from_utf8(&line[KEY.len()..]).ok()?;
            let (public, added_s) = line.split_once(' ')?;
            keys.push(PublicEntry {
                keys: public.parse().ok()?,
                added_s: added_s.parse().ok()?,
            });
        }
        if !(1..=KEYS_MAX).contains(&keys.len()) {
            return None;
        }
        let seeds_len = keys.len() * SEEDS_LEN;
        let protection = lines.next()?;
        let secrets = lines.next()?.strip_prefix(SECRETS.as_bytes())?;
        let secrets = if protection == PLAIN.as_bytes() {
            Secrets::Plain(hex(secrets, seeds_len)?)
        } else {
            let protection = std::str::from_utf8(protection).ok()?.strip_prefix(ARGON2ID)?;
            let fields: Vec<&str> = protection.split(' ').collect();
            let [memory_kib, passes, lanes, salt, nonce] = fields[..] else {
                return None;
            };
            Secrets::Locked {
                cost: Cost {
                    memory_kib: memory_kib.parse().ok()?,
                    passes: passes.parse().ok()?,
                    lanes: lanes.parse().ok()?,
                },
                salt: *hex(salt.as_bytes(), SALT_LEN)?.first_chunk()?,
                nonce: *hex(nonce.as_bytes(), NONCE_LEN)?.first_chunk()?,
                sealed: hex(secrets, seeds_len + TAG_LEN)?.to_vec(),
            }
        };
        Some(Self { keys, secrets })
    }
}

fn version_1<'a>(mut lines: impl Iterator<Item = &'a [u8]>) -> Option<(Stored, Zeroizing<String>)> {
    let mut text = Zeroizing::new(String::with_capacity(FILE_MAX));
    text.extend([HEAD, VERSION_1, "\n"]);
    let mut seeds = Zeroizing::new([0; SEEDS_LEN]);
    for (name, half) in [ED25519, X25519].into_iter().zip(seeds.chunks_exact_mut(32)) {
        half.copy_from_slice(&hex(lines.next()?.strip_prefix(name.as_bytes())?, 32)?);
        text.push_str(name);
        push_hex(&mut text, half);
        text.push('\n');
    }
    push_checksum(&mut text);
    let keys: PublicKeys = SecretKeys::from_seeds(&seeds).public();
    let stored = Stored {
        keys: vec![PublicEntry { keys, added_s: 0 }],
        secrets: Secrets::Plain(joined([seeds].into_iter())),
    };
    Some((stored, text))
}

fn push_checksum(text: &mut String) {
    let checksum = Sha256::digest(text.as_bytes());
    text.push_str(CHECKSUM);
    push_hex(text, &checksum[..CHECKSUM_LEN]);
    text.push('\n');
}

/// So many bytes from twice as many hex digits.
pub(super) fn hex(digits: &[u8], len: usize) -> Option<Zeroizing<Vec<u8>>> {
    if digits.len() != 2 * len {
        return None;
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(len));
    for pair in digits.chunks_exact(2) {
        let digit = |at: usize| char::from(pair[at]).to_digit(16);
        bytes.push(u8::try_from(digit(0)? << 4 | digit(1)?).ok()?);
    }
    Some(bytes)
}

/// Digit by digit, so that no copy of a seed stays behind in a formatter's buffer.
fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}
