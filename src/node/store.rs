//! Raw blocks on disk, from when they were put together for as long as they are watched: one that a node lost can be given to it
//! again.

use std::collections::HashSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

use crate::work::RawBlock;

/// The folder in the pool's data.
const FOLDER: &str = "blocks";

/// What a raw block's file is called, behind its hash.
const SUFFIX: &str = ".block";

/// Raw blocks kept at most: twice those that a pool has immature or watched which finds every block; some 2 GB.
pub const RAW_BLOCKS_MAX: usize = 512;

/// Bytes of one write: most of a block are small transactions.
const WRITE_BYTES: usize = 256 << 10;

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
    ///
    /// # Errors
    /// The system's, or [`RAW_BLOCKS_MAX`] are there.
    pub(super) fn keep(&self, name: &str, block: &RawBlock) -> io::Result<()> {
        if !self.has(name) && fs::read_dir(&self.0)?.count() >= RAW_BLOCKS_MAX {
            return Err(io::Error::other(format!(
                "{RAW_BLOCKS_MAX} raw blocks are kept already"
            )));
        }
        let new = self.0.join(format!("{name}.new"));
        let mut file = BufWriter::with_capacity(WRITE_BYTES, File::create(&new)?);
        block.pieces().try_for_each(|piece| file.write_all(piece))?;
        file.into_inner()?.sync_all()?;
        fs::rename(&new, self.path(name))?;
        File::open(&self.0)?.sync_all()
    }

    pub(super) fn read(&self, name: &str) -> Option<Vec<u8>> {
        fs::read(self.path(name)).ok()
    }

    pub(super) fn has(&self, name: &str) -> bool {
        self.path(name).is_file()
    }

    pub(super) fn forget(&self, name: &str) {
        let _ = fs::remove_file(self.path(name));
    }

    /// Removes what a former process left of other blocks than these.
    pub(super) fn keep_only(&self, names: &HashSet<String>) -> io::Result<()> {
        for file in fs::read_dir(&self.0)? {
            let file = file?;
            let name = file.file_name();
            let is_kept = name
                .to_str()
                .and_then(|name| name.strip_suffix(SUFFIX))
                .is_some_and(|name| names.contains(name));
            if !is_kept {
                fs::remove_file(file.path())?;
            }
        }
        Ok(())
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.join(format!("{name}{SUFFIX}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn raw(text: &str) -> RawBlock {
        text.as_bytes().to_vec().into()
    }

    #[test]
    fn a_block_is_there_until_it_is_forgotten() {
        let data = tempfile::tempdir().expect("a folder");
        let store = BlockStore::open(data.path()).expect("a store");
        assert_eq!(store.read("ab"), None);
        store.keep("ab", &raw("block")).expect("room");
        assert_eq!(
            BlockStore::open(data.path()).expect("again").read("ab").as_deref(),
            Some(&b"block"[..])
        );
        store.forget("ab");
        assert!(!store.has("ab") && store.read("ab").is_none());
    }

    #[test]
    fn a_start_leaves_those_of_open_blocks_alone_and_their_number_is_bounded() {
        let data = tempfile::tempdir().expect("a folder");
        let store = BlockStore::open(data.path()).expect("a store");
        for n in 0..RAW_BLOCKS_MAX {
            std::fs::write(store.path(&n.to_string()), b"block").expect("room");
        }
        store.keep("one more", &raw("block")).expect_err("there is a bound");
        store.keep("7", &raw("again")).expect("it is there already");
        std::fs::write(data.path().join(FOLDER).join("8.new"), b"blo").expect("torn by a crash");
        store
            .keep_only(&["7".to_owned(), "8".to_owned()].into())
            .expect("removed");
        assert_eq!(store.read("7").as_deref(), Some(&b"again"[..]));
        assert_eq!(
            std::fs::read_dir(data.path().join(FOLDER)).expect("a folder").count(),
            2
        );
        store.keep("one more", &raw("block")).expect("room again");
    }
}
