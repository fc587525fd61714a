//! The file on disk: for its owner alone, written as a whole or not at all, never written over by accident.

use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use super::FILE;
use super::error::IdentityError;

/// The owner alone may read and write the file, or enter a data folder that is made for it.
const FILE_MODE: u32 = 0o600;
const DIR_MODE: u32 = 0o700;

/// The content, or one byte more than `max` where it is longer than an identity: that is no identity either.
pub(super) fn read(path: &Path, max: usize) -> Result<Zeroizing<Vec<u8>>, IdentityError> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(IdentityError::Missing(path.to_owned())),
        Err(error) => return Err(failed("open", path)(error)),
    };
    let metadata = file.metadata().map_err(failed("look at", path))?;
    if !metadata.is_file() {
        return Err(IdentityError::Damaged {
            path: path.to_owned(),
            why: "it is not a file",
        });
    }
    let mode = metadata.permissions().mode() & 0o7777;
    if mode & 0o077 != 0 {
        return Err(IdentityError::TooOpen {
            path: path.to_owned(),
            mode,
        });
    }
    read_up_to(&mut file, max + 1).map_err(failed("read", path))
}

/// Makes the file where there is none.
pub(super) fn create(path: &Path, text: &str) -> Result<(), IdentityError> {
    let dir = folder_of(path);
    let draft = Draft::write(dir, text)?;
    // A link, unlike a rename, never takes the place of a file that is there.
    fs::hard_link(&draft.path, path).map_err(|error| match error.kind() {
        io::ErrorKind::AlreadyExists => IdentityError::Exists(path.to_owned()),
        _ => failed("make", path)(error),
    })?;
    drop(draft);
    sync_dir(dir)
}

/// Puts another content in the place of the file's.
pub(super) fn replace(path: &Path, text: &str) -> Result<(), IdentityError> {
    let dir = folder_of(path);
    let draft = Draft::write(dir, text)?;
    fs::rename(&draft.path, path).map_err(failed("replace", path))?;
    sync_dir(dir)
}

/// Makes a folder and those above it, for the owner alone, and durable where any was missing.
pub(super) fn make_dir(dir: &Path) -> Result<(), IdentityError> {
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

pub(super) fn failed(what: &'static str, path: &Path) -> impl FnOnce(io::Error) -> IdentityError {
    let path = path.to_owned();
    move |source| IdentityError::Io { what, path, source }
}

/// Into a buffer that never grows: growing would leave copies of the seeds behind.
fn read_up_to(file: &mut File, max: usize) -> io::Result<Zeroizing<Vec<u8>>> {
    let mut buffer = Zeroizing::new(vec![0; max]);
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

fn folder_of(path: &Path) -> &Path {
    path.parent().unwrap_or(Path::new(""))
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
        // What stays behind are keys that nobody was told of, in a file for the owner alone. Renamed, it is gone already.
        let _ = fs::remove_file(&self.path);
    }
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
