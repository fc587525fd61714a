//! The engine: Bitcoin Core's consensus code, with a chain of its own in a folder that goes away with it.

mod scripts;
mod words;

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bitcoin::consensus::serialize;
use bitcoin::hashes::Hash;
use bitcoin::{Block, BlockHash};
use bitcoinkernel::core::block::BlockHashExt;
use bitcoinkernel::notifications::{BlockValidationResult, BlockValidationStateExt, BlockValidationStateRef};
use bitcoinkernel::{
    ChainType, ChainstateManager, Context, ContextBuilder, KernelError, ProcessBlockResult, ValidationMode,
};
use tempfile::TempDir;

pub use self::scripts::check_scripts;

/// What the engine said of a block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// It is on the best chain.
    Valid,
    /// It was known before.
    Duplicate,
    /// It is kept, but not on the best chain, and so not judged to the end.
    Inconclusive,
    /// The word for it, as `submitblock` says it.
    Invalid(String),
}

/// What was found of a block that was judged to the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Found {
    Good,
    Bad,
    /// Its transactions are not those of its header: others may be, so nothing is held against it.
    Mutated,
}

/// All that came of one block.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Judged {
    pub verdict: Verdict,
    /// Whether the engine keeps it, be it good or bad.
    pub kept: bool,
    /// Whether the engine knows its header from now on.
    pub header_known: bool,
    /// Every block that was judged to the end by the way: a longer branch brings older ones.
    pub checked: Vec<(BlockHash, Found)>,
}

#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    #[error("the consensus engine does not start: {0}")]
    Start(KernelError),
    #[error("no folder for the consensus engine: {0}")]
    Folder(#[from] std::io::Error),
}

/// One engine on regtest. Blocks are fed in an order in which parents come first.
pub struct Engine {
    // Dropped in this order: the chain before what it stands on.
    chain: ChainstateManager,
    checked: Arc<Mutex<Vec<(BlockHash, Found)>>>,
    _context: Context,
    _folder: TempDir,
}

impl Engine {
    /// An engine that knows the genesis block alone. What it writes stands in a folder of its own in `parent`, and goes
    /// away with it.
    ///
    /// # Errors
    /// `parent` cannot be written, or the engine refuses to start.
    pub fn new(parent: &Path) -> Result<Self, EngineError> {
        words::listen();
        let checked = Arc::new(Mutex::new(Vec::new()));
        let seen = Arc::clone(&checked);
        let context = ContextBuilder::new()
            .chain_type(ChainType::Regtest)
            .with_block_checked_validation(move |block: bitcoinkernel::Block, state: BlockValidationStateRef<'_>| {
                let found = match (state.mode(), state.result()) {
                    (ValidationMode::Valid, _) => Found::Good,
                    (_, BlockValidationResult::Mutated) => Found::Mutated,
                    _ => Found::Bad,
                };
                lock(&seen).push((BlockHash::from_byte_array(block.hash().to_bytes()), found));
            })
            .build()
            .map_err(EngineError::Start)?;
        let folder = tempfile::Builder::new().prefix("engine.").tempdir_in(parent)?;
        let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
        let chain = ChainstateManager::builder(&context, &path("data"), &path("blocks"))
            .and_then(|builder| {
                builder
                    .block_tree_db_in_memory(true)
                    .chainstate_db_in_memory(true)
                    .build()
            })
            .map_err(EngineError::Start)?;
        Ok(Self {
            chain,
            checked,
            _context: context,
            _folder: folder,
        })
    }

    /// Judges a block as if it had come from the network.
    pub fn process(&self, block: &Block) -> Judged {
        let hash = block.block_hash();
        // What Core's own parser refuses has no word; ours would have refused it before.
        let Ok(kernel_block) = bitcoinkernel::Block::new(&serialize(block)) else {
            return Judged {
                verdict: Verdict::Invalid("block-decode-failed".to_owned()),
                kept: false,
                header_known: false,
                checked: Vec::new(),
            };
        };
        lock(&self.checked).clear();
        let (result, said) = words::heard(|| self.chain.process_block(&kernel_block));
        let checked = std::mem::take(&mut *lock(&self.checked));
        let own = checked.iter().rev().find(|(checked, _)| *checked == hash);
        // As `submitblock` reads the same facts.
        let verdict = match (result, own) {
            (ProcessBlockResult::Duplicate, _) => Verdict::Duplicate,
            (_, None) => Verdict::Inconclusive,
            (_, Some((_, Found::Good))) => Verdict::Valid,
            (_, Some(_)) => Verdict::Invalid(said.word(&hash).unwrap_or_else(|| "rejected".to_owned())),
        };
        Judged {
            verdict,
            kept: result == ProcessBlockResult::NewBlock,
            header_known: self.chain.get_block_tree_entry(&kernel_block.hash()).is_some(),
            checked,
        }
    }

    /// The end of the best chain.
    #[must_use]
    pub fn tip(&self) -> BlockHash {
        let chain = self.chain.active_chain();
        BlockHash::from_byte_array(chain.tip().block_hash().to_bytes())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // What is behind these locks is whole between any two statements.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
