//! The pool's long-term keys: make and load.
//!
//! They are what gateways pin the pool by, so they are made once and never written over. The file `identity` in the
//! data folder is text of a fixed length, for its owner alone:
//!
//! ```text
//! millrace identity 1
//! ed25519_seed <64 hex digits>
//! x25519_secret <64 hex digits>
//! checksum <32 hex digits>         first half of the SHA-256 of all that stands above this line
//! ```

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use sha2::{Digest, Sha256};
use thiserror::Error;
use zeroize::Zeroizing;

use crate::wire::{PublicKeys, SecretKeys};

const FILE: &str = "identity";
const HEAD: &str = "millrace identity ";
const VERSION: &str = "1";
const ED25519: &str = "ed25519_seed ";
const X25519: &str = "x25519_secret ";
const CHECKSUM: &str = "checksum ";

/// Bytes of the checksum: damage is not hostile, and whoever can write the file needs none.
const CHECKSUM_LEN: usize = 16;

/// Bytes of the file, its four line ends included.
const FILE_LEN: usize =
    HEAD.len() + VERSION.len() + ED25519.len() + 64 + X25519.len() + 64 + CHECKSUM.len() + 2 * CHECKSUM_LEN + 4;

/// The owner alone may read and write the file, or enter a data folder that is made for it.
const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;

/// Who the pool is.
#[derive(Debug)]
pub struct Identity {
    keys: SecretKeys,
}

/// Why there is no identity. As text it says what to do.
#[derive(Debug, Error)]
pub enum IdentityError {
    #[error("{0} does not exist. Make keys with `millrace keys new`, or name the folder that has them.")]
    Missing(PathBuf),
    #[error(
        "{0} exists, and is not written over: gateways pin the pool by it. Use it (`millrace keys show`), name another \
         folder, or move the file away first."
    )]
    Exists(PathBuf),
    #[error(
        "{path} has mode {mode:04o}: others than its owner may read the keys. Run `chmod 600 {path}`; if they may \
             have read it, make new keys."
    )]
    TooOpen { path: PathBuf, mode: u32 },
    #[error(
        "{path} is damaged: {why}. Put it back from a backup. New keys (`millrace keys new`, once the file is \
             moved away) make every gateway's `pool_pubkey` wrong."
    )]
    Damaged { path: PathBuf, why: &'static str },
    #[error("{path} is of version `{found}`, and this program knows version {VERSION}. Use the program that made it.")]
    Version { path: PathBuf, found: String },
    #[error("cannot {what} {path}: {source}. Check that the folder can be written, and its disk has room.")]
    Io {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("the system has no randomness to make keys from: {0}")]
    NoRandomness(#[from] getrandom::Error),
}

impl Identity {
    /// Reads the identity of a data folder.
    ///
    /// # Errors
    /// There is none, somebody else may read it, it is damaged, or its version is not known.
    pub fn load(data_dir: &Path) -> Result<Self, IdentityError> {
        let path = data_dir.join(FILE);
        let mut file = match File::open(&path) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(IdentityError::Missing(path)),
            Err(error) => return Err(failed("open", &path)(error)),
        };
        let metadata = file.metadata().map_err(failed("look at", &path))?;
        if !metadata.is_file() {
            return Err(IdentityError::Damaged {
                path,
                why: "it is not a file",
            });
        }
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(IdentityError::TooOpen { path, mode });
        }
        let content = read(&mut file).map_err(failed("read", &path))?;
        let keys = parse(&content, &path)?;
        Ok(Self { keys })
    }

    /// Makes the identity of a data folder, and the folder itself where it is missing. On return it is on disk.
    ///
    /// # Errors
    /// There is one already, or the folder cannot be written.
    pub fn create(data_dir: &Path) -> Result<Self, IdentityError> {
        let path = data_dir.join(FILE);
        make_dir(data_dir)?;
        let keys = SecretKeys::generate()?;
        let draft = Draft::write(data_dir, &render(&keys.seeds()))?;
        // A link, unlike a rename, never takes the place of a file that is there.
        fs::hard_link(&draft.path, &path).map_err(|error| match error.kind() {
            io::ErrorKind::AlreadyExists => IdentityError::Exists(path.clone()),
            _ => failed("make", &path)(error),
        })?;
        drop(draft);
        sync_dir(data_dir)?;
        Ok(Self { keys })
    }

    /// Reads the identity, or makes it where there is none.
    ///
    /// # Errors
    /// Those of [`Self::load`] and [`Self::create`].
    pub fn load_or_create(data_dir: &Path) -> Result<Self, IdentityError> {
        match Self::load(data_dir) {
            Err(IdentityError::Missing(_)) => {}
            other => return other,
        }
        match Self::create(data_dir) {
            // Somebody else was faster.
            Err(IdentityError::Exists(_)) => Self::load(data_dir),
            other => other,
        }
    }

    /// What gateways pin the pool by.
    #[must_use]
    pub fn public(&self) -> PublicKeys {
        self.keys.public()
    }

    #[must_use]
    pub fn into_keys(self) -> SecretKeys {
        self.keys
    }
}

// The text.

fn render(seeds: &[u8; 64]) -> Zeroizing<String> {
    // All room at once: growing would leave copies of the seeds behind.
    let mut text = Zeroizing::new(String::with_capacity(FILE_LEN));
    let (ed25519, x25519) = seeds.split_at(32);
    text.extend([HEAD, VERSION, "\n", ED25519]);
    push_hex(&mut text, ed25519);
    text.extend(["\n", X25519]);
    push_hex(&mut text, x25519);
    text.push('\n');
    let checksum = Sha256::digest(text.as_bytes());
    text.push_str(CHECKSUM);
    push_hex(&mut text, &checksum[..CHECKSUM_LEN]);
    text.push('\n');
    text
}

fn parse(content: &[u8], path: &Path) -> Result<SecretKeys, IdentityError> {
    let damaged = |why| IdentityError::Damaged {
        path: path.to_owned(),
        why,
    };
    let rest = content
        .strip_prefix(HEAD.as_bytes())
        .ok_or_else(|| damaged("it does not begin as an identity does"))?;
    let version = rest.split(|byte| *byte == b'\n').next().unwrap_or_default();
    if version != VERSION.as_bytes() {
        return Err(IdentityError::Version {
            path: path.to_owned(),
            found: version.escape_ascii().take(16).map(char::from).collect(),
        });
    }
    let seeds = seeds(rest).ok_or_else(|| damaged("its lines are not those of two keys"))?;
    // What it must be to the last byte; so nothing that differs is ever taken for it.
    if render(&seeds).as_bytes() != content {
        return Err(damaged("its checksum is not that of its keys"));
    }
    Ok(SecretKeys::from_seeds(&seeds))
}

/// Both seeds, from what follows the first line's head.
fn seeds(rest: &[u8]) -> Option<Zeroizing<[u8; 64]>> {
    let mut lines = rest.split(|byte| *byte == b'\n').skip(1);
    let mut seeds = Zeroizing::new([0; 64]);
    for (name, half) in [ED25519, X25519].into_iter().zip(seeds.chunks_exact_mut(32)) {
        let digits = lines.next()?.strip_prefix(name.as_bytes())?;
        if digits.len() != 64 {
            return None;
        }
        for (byte, pair) in half.iter_mut().zip(digits.chunks_exact(2)) {
            let digit = |at: usize| char::from(pair[at]).to_digit(16);
            *byte = u8::try_from(digit(0)? << 4 | digit(1)?).ok()?;
        }
    }
    Some(seeds)
}

/// Digit by digit, so that no copy of a seed stays behind in a formatter's buffer.
fn push_hex(text: &mut String, bytes: &[u8]) {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    for byte in bytes {
        text.push(char::from(DIGITS[usize::from(byte >> 4)]));
        text.push(char::from(DIGITS[usize::from(byte & 15)]));
    }
}

// The disk.

/// The content, or its first bytes where it is longer than an identity: these are no identity either.
fn read(file: &mut File) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut buffer = Zeroizing::new(vec![0; FILE_LEN + 1]);
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read(&mut buffer[filled..]) {
            Ok(0) => break,
            Ok(more) => filled += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    buffer.truncate(filled);
    Ok(buffer)
}

/// A synced file with a name of its own, which goes with it.
struct Draft {
    path: PathBuf,
}

impl Draft {
    fn write(dir: &Path, text: &str) -> Result<Self, IdentityError> {
        let number = getrandom::u64()?;
        let path = dir.join(format!("{FILE}.{number:016x}"));
        let mut file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(FILE_MODE)
            .open(&path)
            .map_err(failed("make", &path))?;
        let draft = Self { path };
        file.set_permissions(Permissions::from_mode(FILE_MODE))
            .and_then(|()| file.write_all(text.as_bytes()))
            .and_then(|()| file.sync_all())
            .map_err(failed("write", &draft.path))?;
        Ok(draft)
    }
}

impl Drop for Draft {
    fn drop(&mut self) {
        // What stays behind are keys that nobody was told of, in a file for the owner alone.
        let _ = fs::remove_file(&self.path);
    }
}

/// Makes a folder and those above it, for the owner alone, and durable where any was missing.
fn make_dir(dir: &Path) -> Result<(), IdentityError> {
    let missing: Vec<&Path> = dir
        .ancestors()
        .take_while(|dir| !dir.as_os_str().is_empty() && !dir.exists())
        .collect();
    let made = DirBuilder::new().recursive(true).mode(DIR_MODE).create(dir);
    made.map_err(failed("make the folder", dir))?;
    missing
        .iter()
        .rev()
        .try_for_each(|made| made.parent().map_or(Ok(()), sync_dir))
}

fn sync_dir(dir: &Path) -> Result<(), IdentityError> {
    let dir = if dir.as_os_str().is_empty() {
        Path::new(".")
    } else {
        dir
    };
    let synced = File::open(dir).and_then(|file| file.sync_all());
    synced.map_err(failed("sync the folder", dir))
}

fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> IdentityError {
    let path = path.to_owned();
    move |source| IdentityError::Io { what, path, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    use tempfile::TempDir;

    fn folder() -> TempDir {
        TempDir::new().expect("a folder for the test")
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).expect("it is there").permissions().mode() & 0o7777
    }

    fn set_mode(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).expect("it is ours");
    }

    fn names(dir: &Path) -> Vec<String> {
        let entries = fs::read_dir(dir).expect("it is there");
        entries
            .map(|entry| entry.expect("readable").file_name().into_string().expect("ASCII"))
            .collect()
    }

    #[test]
    fn what_was_made_is_loaded_and_for_the_owner_alone() {
        let folder = folder();
        let data = folder.path().join("pool/data");
        let made = Identity::create(&data).expect("keys");
        let loaded = Identity::load(&data).expect("keys");
        assert_eq!(made.public(), loaded.public());
        assert_eq!(*made.into_keys().seeds(), *loaded.into_keys().seeds());
        assert_eq!(mode(&data.join(FILE)), 0o600);
        assert_eq!(mode(&data), 0o700);
        assert_eq!(names(&data), [FILE]);
    }

    #[test]
    fn keys_are_never_written_over() {
        let folder = folder();
        let first = Identity::create(folder.path()).expect("keys");
        let error = Identity::create(folder.path()).expect_err("there are keys");
        assert!(matches!(error, IdentityError::Exists(_)), "{error}");
        assert_eq!(Identity::load(folder.path()).expect("keys").public(), first.public());
        assert_eq!(names(folder.path()), [FILE]);
        // A link that leads nowhere is a name that is taken, too.
        fs::remove_file(folder.path().join(FILE)).expect("it is there");
        symlink("nowhere", folder.path().join(FILE)).expect("a link");
        assert!(matches!(Identity::create(folder.path()), Err(IdentityError::Exists(_))));
    }

    #[test]
    fn missing_keys_are_made_once_where_that_is_asked_for() {
        let folder = folder();
        let error = Identity::load(folder.path()).expect_err("no keys yet");
        assert!(matches!(error, IdentityError::Missing(_)), "{error}");
        assert!(error.to_string().contains("millrace keys new"), "{error}");
        let made = Identity::load_or_create(folder.path()).expect("keys");
        let loaded = Identity::load_or_create(folder.path()).expect("keys");
        assert_eq!(made.public(), loaded.public());
    }

    #[test]
    fn two_pools_have_two_identities() {
        let (one, other) = (folder(), folder());
        let one = Identity::create(one.path()).expect("keys");
        let other = Identity::create(other.path()).expect("keys");
        assert_ne!(one.public(), other.public());
    }

    #[test]
    fn a_file_that_others_may_read_is_refused() {
        let folder = folder();
        let path = folder.path().join(FILE);
        Identity::create(folder.path()).expect("keys");
        for open in [0o640, 0o604, 0o660, 0o620, 0o601] {
            set_mode(&path, open);
            let error = Identity::load(folder.path()).expect_err("too open");
            assert!(
                matches!(error, IdentityError::TooOpen { mode, .. } if mode == open),
                "{error}"
            );
            assert!(error.to_string().contains("chmod 600"), "{error}");
        }
        set_mode(&path, 0o400);
        Identity::load(folder.path()).expect("the owner alone may read it");
    }

    #[test]
    fn any_damage_is_noticed() {
        let good = render(&[0xa5; 64]);
        let good = good.as_bytes();
        assert_eq!(good.len(), FILE_LEN);
        let refused = |content: &[u8], what: &dyn std::fmt::Display| {
            let error = parse(content, Path::new(FILE)).expect_err(&format!("damaged: {what}"));
            let known = matches!(error, IdentityError::Damaged { .. } | IdentityError::Version { .. });
            assert!(known, "{what}: {error}");
        };
        for at in 0..good.len() {
            refused(&good[..at], &format_args!("cut at {at}"));
            // One bit, and the case of a hex digit.
            for flip in [0x01, 0x20] {
                let mut bad = good.to_vec();
                bad[at] ^= flip;
                refused(&bad, &format_args!("byte {at} flipped by {flip:#x}"));
            }
        }
        refused(&[good, b"\n"].concat(), &"longer");
    }

    #[test]
    fn a_damaged_file_is_refused_whatever_its_length() {
        let folder = folder();
        let path = folder.path().join(FILE);
        Identity::create(folder.path()).expect("keys");
        let good = fs::read(&path).expect("readable");
        for bad in [
            &[][..],
            &good[..good.len() - 1],
            &[&good[..], b"\n"].concat(),
            &good.repeat(1_000),
        ] {
            fs::write(&path, bad).expect("writable");
            let error = Identity::load(folder.path()).expect_err("damaged");
            assert!(matches!(error, IdentityError::Damaged { .. }), "{error}");
            assert!(error.to_string().contains("backup"), "{error}");
        }
        fs::write(&path, &good).expect("writable");
        Identity::load(folder.path()).expect("whole again");
    }

    #[test]
    fn another_version_is_refused_by_its_name() {
        let folder = folder();
        let path = folder.path().join(FILE);
        Identity::create(folder.path()).expect("keys");
        let text = fs::read_to_string(&path).expect("readable");
        fs::write(&path, text.replacen("identity 1", "identity 2", 1)).expect("writable");
        let error = Identity::load(folder.path()).expect_err("a later version");
        assert!(
            matches!(&error, IdentityError::Version { found, .. } if found == "2"),
            "{error}"
        );
    }

    #[test]
    fn a_folder_in_its_place_is_refused() {
        let folder = folder();
        fs::create_dir(folder.path().join(FILE)).expect("a folder");
        let error = Identity::load(folder.path()).expect_err("no file");
        assert!(
            matches!(
                error,
                IdentityError::Damaged {
                    why: "it is not a file",
                    ..
                }
            ),
            "{error}"
        );
    }

    #[test]
    fn known_seeds_have_one_text() {
        let mut seeds = [0x11; 64];
        seeds[32..].fill(0xee);
        let text = render(&seeds);
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(lines[0], "millrace identity 1");
        assert_eq!(lines[1], format!("ed25519_seed {}", "11".repeat(32)));
        assert_eq!(lines[2], format!("x25519_secret {}", "ee".repeat(32)));
        assert!(lines[3].starts_with("checksum ") && lines.len() == 4);
        let keys = parse(text.as_bytes(), Path::new("identity")).expect("good");
        assert_eq!(*keys.seeds(), seeds);
    }
}
