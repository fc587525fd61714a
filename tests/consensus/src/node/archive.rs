//! The blocks on disk, in the order they came: each a length of 4 bytes, little-endian, and the block.
//!
//! There is nothing else to keep: a start replays them in a new engine. A block that was cut off by a kill is left out.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use bitcoin::Block;
use bitcoin::consensus::{deserialize, serialize};

#[derive(Debug)]
pub struct Archive {
    file: File,
}

impl Archive {
    /// Opens or makes the file, and gives the blocks that are in it.
    pub fn open(path: &Path) -> io::Result<(Self, Vec<Block>)> {
        let mut file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes)?;
        let (mut blocks, mut whole) = (Vec::new(), 0);
        let mut rest = &bytes[..];
        while let Some((len, after)) = rest.split_first_chunk()
            && let Some((block, after)) = after.split_at_checked(u32::from_le_bytes(*len) as usize)
            && let Ok(block) = deserialize(block)
        {
            blocks.push(block);
            rest = after;
            whole = bytes.len() - rest.len();
        }
        file.set_len(whole as u64)?;
        file.seek(SeekFrom::End(0))?;
        Ok((Self { file }, blocks))
    }

    pub fn append(&mut self, block: &Block) -> io::Result<()> {
        let block = serialize(block);
        let len = u32::try_from(block.len()).expect("a block has at most 4 MB");
        self.file.write_all(&[&len.to_le_bytes(), &block[..]].concat())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bitcoin::Network;
    use bitcoin::constants::genesis_block;

    #[test]
    fn a_block_that_was_cut_off_is_left_out() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("blocks");
        let block = genesis_block(Network::Regtest);
        let (mut archive, blocks) = Archive::open(&path).expect("a new file");
        assert!(blocks.is_empty());
        archive.append(&block).expect("room");
        archive.append(&block).expect("room");
        drop(archive);
        let len = std::fs::metadata(&path).expect("the file").len();
        let file = OpenOptions::new().write(true).open(&path).expect("the file");
        file.set_len(len - 1).expect("it can be cut");
        let (mut archive, blocks) = Archive::open(&path).expect("the file");
        assert_eq!(blocks, std::slice::from_ref(&block));
        archive.append(&block).expect("room");
        let (_, blocks) = Archive::open(&path).expect("the file");
        assert_eq!(blocks, [block.clone(), block]);
    }
}
