//! Raw blocks on disk, from when they were put together until they are mature: one that a node lost can be given to it
//! again.

use std::fs::{self, File};
use std::io::{self, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The folder in the pool's data.
const FOLDER: &str = "blocks";

#[derive(Debug, Clone)]
pub struct BlockStore(PathBuf);

impl BlockStore {
    /// # Errors
    /// The folder cannot be made.
    pub fn open(data_dir: &Path) -> io::Result<Self> {
        let path = data_dir.join(FOLDER);
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&path)?;
        Ok(Self(path))
    }

    /// Writes a block; whole and synced, or not there.
    pub(super) fn keep(&self, name: &str, block: &[u8]) -> io::Result<()> {
        let new = self.0.join(format!("{name}.new"));
        let mut file = File::create(&new)?;
        file.write_all(block)?;
        file.sync_all()?;
        fs::rename(&new, self.path(name))?;
        File::open(&self.0)?.sync_all()
    }

    pub(super) fn read(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.path(name)).ok()
    }

    pub(super) fn forget(&self, name: &str) {
        let _ = fs::remove_file(self.path(name));
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}.block"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_is_there_until_it_is_forgotten() {
        let data = tempfile::tempdir().expect("a folder");
        let store = BlockStore::open(data.path()).expect("a store");
        assert_eq!(store.read("ab"), None);
        store.keep("ab", b"block").expect("room");
        assert_eq!(
            BlockStore::open(data.path()).expect("again").read("ab").as_deref(),
            Some(&b"block"[..])
        );
        store.forget("ab");
        assert_eq!(store.read("ab"), None);
    }
}
