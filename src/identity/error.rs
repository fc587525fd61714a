//! Why there is no identity, or why it cannot be changed.

use std::error::Error;
use std::io;
use std::path::PathBuf;

use thiserror::Error;

use super::{KEYS_MAX, text};

/// As text it says what to do.
#[derive(Debug, Error)]
pub enum IdentityError {
    #[error("{0} does not exist. Make keys with `millrace keys new`, or name the folder that has them.")]
    Missing(PathBuf),
    #[error(
        "{0} exists, and is not written over: gateways pin the pool by it. Use it (`millrace keys show`), add a key to it \
         (`millrace keys rotate`), name another folder, or move the file away first."
    )]
    Exists(PathBuf),
    #[error(
        "{path} has mode {mode:04o}: others than its owner may read the keys. Run `chmod 600 {path}`; if they may \
         have read it, rotate to a new key (`millrace keys rotate`)."
    )]
    TooOpen { path: PathBuf, mode: u32 },
    #[error(
        "{path} is damaged: {why}. Put it back from a backup. New keys (`millrace keys new`, once the file is \
         moved away) make every gateway's `pool_pubkey` wrong."
    )]
    Damaged { path: PathBuf, why: &'static str },
    #[error(
        "{path} is of version `{found}`, and this program knows versions up to {newest}. Use the program that made it.",
        newest = text::VERSION
    )]
    Version { path: PathBuf, found: String },
    #[error(
        "{0} asks for more work to try a passphrase than this program does (64 KiB to 1 GiB, 16 passes, 4 lanes at most). \
         Put it back from a backup."
    )]
    Cost(PathBuf),
    #[error("{path} is protected by a passphrase: {why}")]
    NoPassphrase {
        path: PathBuf,
        why: Box<dyn Error + Send + Sync>,
    },
    #[error(
        "{0} does not open with this passphrase. Give the one that it was protected with; without it the keys are lost, and a \
         backup of the file needs the passphrase of its time."
    )]
    WrongPassphrase(PathBuf),
    #[error("{0} is protected by another passphrase since the pool started. The pool reads it at its next start.")]
    PassphraseChanged(PathBuf),
    #[error("somebody else is changing the keys in {0}. Wait until that command has ended.")]
    Busy(PathBuf),
    #[error("{0} has {KEYS_MAX} keys, and each costs every handshake. Retire one first (`millrace keys retire`).")]
    TooManyKeys(PathBuf),
    #[error("{0} has this key already (`millrace keys show`).")]
    KnownKey(PathBuf),
    #[error("{0} has no such key (`millrace keys show` has those it has).")]
    UnknownKey(PathBuf),
    #[error(
        "this is the last key in {0}, and no gateway could connect without it. Add one first (`millrace keys rotate`)."
    )]
    LastKey(PathBuf),
    #[error("cannot {what} {path}: {source}. Check that the folder can be written, and its disk has room.")]
    Io {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    #[error("the system has no randomness to make keys from: {0}")]
    NoRandomness(#[from] getrandom::Error),
}
