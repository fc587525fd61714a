//! A regtest node without a network: the engine, the chain that it chose, its coins, and a mempool.

mod archive;
mod branches;
mod coins;
mod fill;
mod index;
mod mempool;
mod proposal;
mod template;

use std::collections::{HashMap, HashSet, VecDeque};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bitcoin::constants::genesis_block;
use bitcoin::{Block, BlockHash, Network, ScriptBuf, Transaction, Txid, Witness};

use self::archive::Archive;
pub use self::coins::Coins;
pub use self::index::{Index, Known, Validity};
pub use self::mempool::{Chain, Entry, Mempool, Refusal};
pub use self::proposal::Proposed;
pub use self::template::Template;
use self::template::WITNESS_RESERVED;
use crate::engine::{Engine, EngineError, Found, Verdict};
use crate::wallet::{Kind, Wallet};

/// Between two blocks that are mined ahead, in s: what is mined then looks like a chain that grew until now.
const SPACING_S: u32 = 60;

/// Whose coins `fillmempool` spends.
const OWN_KEY: &str = "regtest-node";

/// Where engines have their folders.
const ENGINES: &str = "engines";

/// What became known, in this order: bodies as bitcoind's ZMQ has them are made of it.
#[derive(Debug, Clone)]
pub enum Event {
    Disconnected(BlockHash),
    Connected(BlockHash),
    /// After all of the above: the end of a chain that grew.
    Tip(Arc<Block>),
    /// In its place where blocks were turned away from and none came: bitcoind's ZMQ tells of no tip then.
    Back(BlockHash),
    /// With the mempool's sequence number.
    Added(Txid, u64),
    /// Other than by a block.
    Removed(Txid, u64),
}

#[derive(Debug, thiserror::Error)]
pub enum NodeError {
    #[error(transparent)]
    Engine(#[from] EngineError),
    #[error("{0}: {1}")]
    Disk(PathBuf, io::Error),
    #[error("Block not found")]
    UnknownBlock,
    #[error("the genesis block stays")]
    Genesis,
    #[error("the engine refuses what was mined here: {0}")]
    Unmineable(String),
}

/// The node.
pub struct Regtest {
    folder: PathBuf,
    archive: Archive,
    engine: Engine,
    /// For proposals, on the same tip where it is there and was of use.
    second: Option<Engine>,
    /// Oldest first.
    proposed: VecDeque<Proposed>,
    index: Index,
    /// Blocks of which the engine knows the header alone: what came under it was bad, or not the header's.
    headers: HashMap<BlockHash, Validity>,
    /// What `invalidateblock` named and all that stands on it: no engine hears of them.
    withheld: HashSet<BlockHash>,
    coins: Coins,
    mempool: Mempool,
    on_event: Box<dyn Fn(Event) + Send>,
    wallet: Wallet,
    /// Tells blocks apart that are mined here.
    salt: u64,
}

impl Regtest {
    /// Opens the chain in a folder, or begins one. `on_event` hears of what comes afterwards.
    ///
    /// # Errors
    /// The folder cannot be used, or the engine does not start.
    pub fn open(folder: &Path, on_event: impl Fn(Event) + Send + 'static) -> Result<Self, NodeError> {
        let at = |path: &Path| {
            let path = path.to_owned();
            move |error| NodeError::Disk(path, error)
        };
        // What a node that was killed has left of its engines is of no use: they begin with the blocks.
        let engines = folder.join(ENGINES);
        match std::fs::remove_dir_all(&engines) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&engines)(error)),
            _ => std::fs::create_dir_all(&engines).map_err(at(&engines))?,
        }
        let path = folder.join("blocks.in-order");
        let (archive, blocks) = Archive::open(&path).map_err(at(&path))?;
        let mut node = Self {
            folder: folder.to_owned(),
            archive,
            engine: Engine::new(&engines)?,
            second: None,
            proposed: VecDeque::new(),
            index: Index::new(genesis_block(Network::Regtest)),
            headers: HashMap::new(),
            withheld: HashSet::new(),
            coins: Coins::default(),
            mempool: Mempool::default(),
            on_event: Box::new(|_| {}),
            wallet: Wallet::new(OWN_KEY),
            salt: SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .map_or(0, |since| since.subsec_nanos().into()),
        };
        for block in blocks {
            node.index.add(Arc::new(block));
        }
        for root in node.read_invalidated()? {
            node.withheld.extend(node.index.with_descendants(root));
        }
        node.replay(&[])?;
        node.on_event = Box::new(on_event);
        Ok(node)
    }

    #[must_use]
    pub fn index(&self) -> &Index {
        &self.index
    }

    #[must_use]
    pub fn coins(&self) -> &Coins {
        &self.coins
    }

    #[must_use]
    pub fn mempool(&self) -> &Mempool {
        &self.mempool
    }

    /// Whose coins `fillmempool` spends.
    #[must_use]
    pub fn wallet(&self) -> &Wallet {
        &self.wallet
    }

    /// Pays the node's own key.
    #[must_use]
    pub fn own_script(&self) -> ScriptBuf {
        self.wallet.script(Kind::P2wpkh)
    }

    /// Whether a block is or stands on one that [`Self::invalidate`] named.
    #[must_use]
    pub fn is_withheld(&self, hash: &BlockHash) -> bool {
        self.withheld.contains(hash)
    }

    #[must_use]
    pub fn template(&self) -> Template {
        let tip = self.index.tip_hash();
        let now = u32::try_from(now_s()).expect("before 2106");
        Template::new(
            self.index.height() + 1,
            tip,
            self.index.median_time(&tip),
            now,
            &self.mempool,
        )
    }

    /// Takes a block from a miner. None where it is on the best chain now, else the word for it.
    ///
    /// # Errors
    /// It cannot be kept.
    pub fn submit(&mut self, mut block: Block) -> Result<Option<String>, NodeError> {
        if self.index.known(&block.header.prev_blockhash).is_some() {
            add_missing_witness(&mut block);
        }
        self.take(block)
    }

    /// Takes a transaction into the mempool. True where it is new.
    ///
    /// # Errors
    /// It cannot stand in the next block.
    pub fn accept(&mut self, transaction: Transaction) -> Result<bool, Refusal> {
        let chain = on_tip(&self.coins, &self.index);
        let entry = self.mempool.accept(transaction, now_s(), &chain)?;
        if let Some(entry) = &entry {
            (self.on_event)(Event::Added(entry.txid, self.mempool.updates()));
        }
        Ok(entry.is_some())
    }

    /// What [`Self::accept`] would say.
    ///
    /// # Errors
    /// It cannot stand in the next block.
    pub fn would_accept(&self, transaction: Transaction) -> Result<Option<Entry>, Refusal> {
        self.mempool
            .check(transaction, now_s(), &on_tip(&self.coins, &self.index))
    }

    /// Mines a block that takes what the mempool has.
    ///
    /// # Errors
    /// It cannot be kept, or the engine refuses it.
    pub fn generate(&mut self, script: &ScriptBuf) -> Result<BlockHash, NodeError> {
        self.generate_from(&self.template(), script)
    }

    /// Mines empty blocks up to a height, a minute apart and the last one now.
    ///
    /// # Errors
    /// One cannot be kept, or the engine refuses it.
    pub fn grow_to(&mut self, height: u32, script: &ScriptBuf) -> Result<(), NodeError> {
        let now = u32::try_from(now_s()).expect("before 2106");
        while self.index.height() < height {
            let mut template = self.template();
            let behind = (height - template.height).saturating_mul(SPACING_S);
            template.time = now.saturating_sub(behind).max(template.time_min);
            self.generate_from(&template, script)?;
        }
        Ok(())
    }

    fn generate_from(&mut self, template: &Template, script: &ScriptBuf) -> Result<BlockHash, NodeError> {
        self.salt = self.salt.wrapping_add(1);
        let block = template.mine(script, self.salt);
        let hash = block.block_hash();
        match self.take(block)? {
            None => Ok(hash),
            Some(word) => Err(NodeError::Unmineable(word)),
        }
    }

    fn take(&mut self, block: Block) -> Result<Option<String>, NodeError> {
        if self.is_withheld(&block.block_hash()) {
            return Ok(Some("duplicate-invalid".to_owned()));
        }
        if self.is_withheld(&block.header.prev_blockhash) {
            return Ok(Some("bad-prevblk".to_owned()));
        }
        let judged = self.engine.process(&block);
        if judged.kept {
            self.archive
                .append(&block)
                .map_err(|error| NodeError::Disk(self.folder.clone(), error))?;
            self.headers.remove(&block.block_hash());
            self.index.add(Arc::new(block));
        } else if judged.header_known && self.index.known(&block.block_hash()).is_none() {
            self.headers.entry(block.block_hash()).or_insert(Validity::Unchecked);
        }
        self.mark(&judged.checked);
        self.follow();
        Ok(word(judged.verdict))
    }

    fn mark(&mut self, checked: &[(BlockHash, Found)]) {
        for (hash, found) in checked {
            let validity = match found {
                Found::Good => Validity::Valid,
                Found::Bad => Validity::Invalid,
                Found::Mutated => continue,
            };
            self.index.mark(hash, validity);
            if let Some(header) = self.headers.get_mut(hash) {
                *header = validity;
            }
        }
    }

    fn new_engine(&self) -> Result<Engine, EngineError> {
        Engine::new(&self.folder.join(ENGINES))
    }

    /// Begins anew with all blocks that are not withheld, those named first.
    fn replay(&mut self, first: &[BlockHash]) -> Result<(), NodeError> {
        let engine = self.new_engine()?;
        let first = first.iter().filter_map(|hash| self.index.known(hash));
        let mut checked = Vec::new();
        for known in first.chain(self.index.in_order()) {
            if !self.withheld.contains(&known.block.block_hash()) {
                checked.extend(engine.process(&known.block).checked);
            }
        }
        self.engine = engine;
        self.second = None;
        self.headers.clear();
        self.mark(&checked);
        self.follow();
        Ok(())
    }

    /// Lets chain, coins and mempool follow the engine's tip, and says so.
    fn follow(&mut self) {
        let change = self.index.follow(self.engine.tip());
        if change.connected.is_empty() && change.disconnected.is_empty() {
            return;
        }
        for hash in &change.disconnected {
            (self.on_event)(Event::Disconnected(*hash));
        }
        if change.disconnected.is_empty() {
            for hash in &change.connected {
                let known = self.index.known(hash).expect("it is on the best chain");
                self.coins.connect(&known.block, known.height);
            }
        } else {
            self.coins = Coins::default();
            for known in self.index.best() {
                self.coins.connect(&known.block, known.height);
            }
        }
        let mut removed = Vec::new();
        for hash in &change.connected {
            (self.on_event)(Event::Connected(*hash));
            let block = Arc::clone(&self.index.known(hash).expect("it is on the best chain").block);
            for transaction in block.txdata.iter().skip(1) {
                removed.extend(self.mempool.mined(transaction));
            }
        }
        for txid in removed {
            (self.on_event)(Event::Removed(txid, self.mempool.updates()));
        }
        if !change.disconnected.is_empty() {
            self.refill(&change.disconnected);
        }
        (self.on_event)(if change.connected.is_empty() {
            Event::Back(self.index.tip_hash())
        } else {
            Event::Tip(Arc::clone(&self.index.tip().block))
        });
    }

    /// After a reorganisation: what stood in blocks that are gone waits again, before what waited already; what cannot
    /// stand in the next block any more goes.
    fn refill(&mut self, disconnected: &[BlockHash]) {
        let waited = self.mempool.drain();
        let of_blocks = disconnected.iter().rev().flat_map(|hash| {
            let block = &self.index.known(hash).expect("it was on the best chain").block;
            block.txdata.iter().skip(1).cloned().collect::<Vec<_>>()
        });
        for transaction in of_blocks.collect::<Vec<_>>() {
            // One that the new chain has too, or that it made impossible, is none.
            let _ = self.accept(transaction);
        }
        for entry in waited {
            let was = entry.txid;
            if self.accept((*entry.transaction).clone()).is_err() {
                (self.on_event)(Event::Removed(was, self.mempool.updates()));
            }
        }
    }
}

/// s since 1970.
pub fn now_s() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.as_secs())
}

/// What a transaction for the next block is checked against.
fn on_tip<'a>(coins: &'a Coins, index: &Index) -> Chain<'a> {
    Chain {
        coins,
        tip_height: index.height(),
        tip_median_time: index.median_time(&index.tip_hash()),
    }
}

/// As `submitblock` does it: a block that commits to witnesses, and whose coinbase has none, gets the usual one.
fn add_missing_witness(block: &mut Block) {
    let commits = |block: &Block| {
        let coinbase = block.txdata.first()?;
        coinbase.output.iter().rposition(|output| {
            let script = output.script_pubkey.as_bytes();
            script.len() >= 38 && script.starts_with(&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed])
        })
    };
    if commits(block).is_none() {
        return;
    }
    if let Some(coinbase) = block.txdata.first_mut()
        && let [input] = &mut coinbase.input[..]
        && input.witness.is_empty()
    {
        input.witness = Witness::from_slice(&[WITNESS_RESERVED]);
    }
}

fn word(verdict: Verdict) -> Option<String> {
    match verdict {
        Verdict::Valid => None,
        Verdict::Duplicate => Some("duplicate".to_owned()),
        Verdict::Inconclusive => Some("inconclusive".to_owned()),
        Verdict::Invalid(word) => Some(word),
    }
}
