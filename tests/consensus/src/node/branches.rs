//! Turning from one branch to another by order. The engine's interface has nothing for it, so the chain is replayed in a
//! new one.

use std::io;

use bitcoin::BlockHash;

use super::{NodeError, Regtest};

/// Beside the blocks: a hash a line, of all that is withheld.
const FILE: &str = "invalidated";

impl Regtest {
    /// Turns away from a block and all that stands on it.
    ///
    /// # Errors
    /// It is unknown, or no engine can be started.
    pub fn invalidate(&mut self, hash: BlockHash) -> Result<(), NodeError> {
        let known = self.index.known(&hash).ok_or(NodeError::UnknownBlock)?;
        if known.height == 0 {
            return Err(NodeError::Genesis);
        }
        self.withheld.extend(self.index.with_descendants(hash));
        self.write_invalidated()?;
        self.replay(&[])
    }

    /// Forgets that a block, one below it or one above it was turned away from.
    ///
    /// # Errors
    /// It is unknown, or no engine can be started.
    pub fn reconsider(&mut self, hash: BlockHash) -> Result<(), NodeError> {
        let mut at = self.index.known(&hash).ok_or(NodeError::UnknownBlock)?;
        for above in self.index.with_descendants(hash) {
            self.withheld.remove(&above);
        }
        while self.withheld.remove(&at.block.header.prev_blockhash)
            && let Some(parent) = self.index.known(&at.block.header.prev_blockhash)
        {
            at = parent;
        }
        self.write_invalidated()?;
        self.replay(&[])
    }

    /// Prefers a block to others of the same work, as if it had come first.
    ///
    /// # Errors
    /// It is unknown, or no engine can be started.
    pub fn prefer(&mut self, hash: BlockHash) -> Result<(), NodeError> {
        let known = self.index.known(&hash).ok_or(NodeError::UnknownBlock)?;
        if self.index.is_best(&hash) || known.work < self.index.tip().work {
            return Ok(());
        }
        let mut branch = Vec::new();
        let mut at = known;
        while at.height > 0 {
            branch.push(at.block.block_hash());
            at = self
                .index
                .known(&at.block.header.prev_blockhash)
                .expect("parents are known");
        }
        branch.reverse();
        self.replay(&branch)
    }

    pub(super) fn read_invalidated(&self) -> Result<Vec<BlockHash>, NodeError> {
        let path = self.folder.join(FILE);
        match std::fs::read_to_string(&path) {
            Ok(text) => Ok(text.lines().filter_map(|line| line.parse().ok()).collect()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
            Err(error) => Err(NodeError::Disk(path, error)),
        }
    }

    fn write_invalidated(&self) -> Result<(), NodeError> {
        let path = self.folder.join(FILE);
        let text: String = self.withheld.iter().map(|hash| format!("{hash}\n")).collect();
        std::fs::write(&path, text).map_err(|error| NodeError::Disk(path, error))
    }
}
