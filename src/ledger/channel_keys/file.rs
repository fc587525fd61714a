//! The file of places: for its owner alone, written in place.
//!
//! ```text
//! millrace channel keys 1\n, then zeros: 32 bytes
//! place 0, place 1, ...                    32 random bytes each
//! ```
//!
//! Nothing says which places are in use: the ledger does, and whether a key opens under its place shows whether that is
//! whole. So a write that was torn harms the one key that was being wiped.

use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::{IFlags, ioctl_getflags, ioctl_setflags};
use zeroize::Zeroizing;

use super::CHANNEL_KEYS_MAX;
use super::seal::{PLACE_LEN, Place};
use crate::ledger::error::LedgerError;

/// In the data folder.
pub(super) const NAME: &str = "channel_keys";

const HEAD: &[u8; PLACE_LEN] = b"millrace channel keys 1\n\0\0\0\0\0\0\0\0";

pub(super) struct PlaceFile {
    file: File,
    path: PathBuf,
}

impl PlaceFile {
    /// Opens the file, or makes it, and reads all places.
    ///
    /// # Errors
    /// Others may read it, it is another program's, or the system's own.
    pub fn open(path: &Path) -> Result<(Self, Vec<Place>), LedgerError> {
        let failed = |error| LedgerError::Io {
            path: path.to_owned(),
            error,
        };
        let mut options = OpenOptions::new();
        options.read(true).write(true).create(true).truncate(false).mode(0o600);
        let mut file = options.open(path).map_err(failed)?;
        let metadata = file.metadata().map_err(failed)?;
        let mode = metadata.permissions().mode() & 0o7777;
        if mode & 0o077 != 0 {
            return Err(LedgerError::KeysTooOpen {
                path: path.to_owned(),
                mode,
            });
        }
        let most = PLACE_LEN * (1 + CHANNEL_KEYS_MAX as usize);
        let len = usize::try_from(metadata.len()).unwrap_or(most).min(most);
        let mut content = Zeroizing::new(vec![0; len]);
        file.read_exact(&mut content).map_err(failed)?;
        // New, or left so by a crash at its beginning.
        if len < PLACE_LEN && HEAD.starts_with(&content) {
            begin(&file, path).map_err(failed)?;
            content = Zeroizing::new(HEAD.to_vec());
        }
        let places = content.strip_prefix(HEAD.as_slice());
        let (places, _cut_off) = places
            .ok_or_else(|| LedgerError::KeysForeign(path.to_owned()))?
            .as_chunks();
        let places = (0..)
            .zip(places)
            .map(|(number, bytes)| Place::new(number, bytes))
            .collect();
        let path = path.to_owned();
        Ok((Self { file, path }, places))
    }

    /// Writes fresh randomness over places, or behind the last. On return it is on disk.
    ///
    /// # Errors
    /// The system's own: then it is not known what lies in them.
    pub fn renew(&self, numbers: impl IntoIterator<Item = u32>) -> Result<Vec<Place>, LedgerError> {
        let mut places = Vec::new();
        let mut bytes = Zeroizing::new([0; PLACE_LEN]);
        let write = || {
            for number in numbers {
                getrandom::fill(&mut *bytes).map_err(io::Error::other)?;
                let at = PLACE_LEN as u64 * (1 + u64::from(number));
                self.file.write_all_at(&*bytes, at)?;
                places.push(Place::new(number, &bytes));
            }
            self.file.sync_data()
        };
        write().map_err(|error| LedgerError::Io {
            path: self.path.clone(),
            error,
        })?;
        Ok(places)
    }
}

fn begin(file: &File, path: &Path) -> io::Result<()> {
    // Where the file system would write what changes somewhere else, and knows how to leave that. Others do not take it.
    if let Ok(flags) = ioctl_getflags(file) {
        let _ = ioctl_setflags(file, flags | IFlags::NOCOW);
    }
    file.write_all_at(HEAD, 0)?;
    file.sync_all()?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}
