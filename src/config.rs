//! TOML into one checked configuration. A unit stands in the name of each key.
//!
//! `tuning/millrace.example.toml` has every key with its default. What gateways or the ledger would break on is refused
//! here, by key and with the remedy, so that the rest of the program need not ask again. Sections named in comments are
//! those of `docs/PROTOCOL.md`.

mod check;
mod error;
mod guards;
mod shape;
mod source;

use std::fmt;
use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::path::{Path, PathBuf};
use std::str::FromStr;

pub use self::check::{
    CORE_MAX, DISK_FLOOR_MAX_BYTES, DISK_FLOOR_MIN_BYTES, GATEWAYS_PER_SHARD_MAX, HANDSHAKES_PER_SHARD_MAX,
    KEEP_DAYS_MAX, RESUME_FOR_MAX_S, RESUME_FOR_MIN_S, RING_ENTRIES_MAX, RING_ENTRIES_MIN, SESSIONS_PER_SHARD_MAX,
    SHARDS_MAX, SOCKET_PATH_MAX,
};
pub use self::error::ConfigError;
use self::shape::Shape;
use self::source::Source;
use crate::guard;
use crate::ledger::books::{SchemeKind, SplitTerms};
use crate::ledger::bundle::Privacy;
use crate::work::{MinDiff, NetworkKind, Rule, SteerRule};

/// The folder of the pool's data where nothing else is said; `millrace keys` looks there too.
pub const DEFAULT_DATA_DIR: &str = "data";

/// The control socket, in the data folder.
pub const SOCKET_NAME: &str = "control.sock";

/// Bytes of a configuration file: the example takes less than a tenth.
const FILE_MAX: u64 = 256 * 1_024;

/// Everything that a pool is told before it starts. Each value is one that it can run with.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Config {
    /// Keys, ledger and control socket; a relative path starts at the working directory.
    pub data_dir: PathBuf,
    /// Where gateways connect. Port 0 takes a free one.
    pub listen: SocketAddr,
    /// Where metrics are served; none where they are off.
    pub metrics: Option<SocketAddr>,
    pub log: LogFormat,
    /// Output script of what a split leaves over: 1 to 64 bytes, and spendable.
    pub script: Vec<u8>,
    /// Coinbase tag: at most 83 bytes, without NUL and 0x0F.
    pub tag: Vec<u8>,
    /// Shown in the gateway's log: at most 510 bytes, without NUL.
    pub motd: Vec<u8>,
    /// The least that a gateway's difficulty is, and that of a newcomer.
    pub min_diff: MinDiff,
    /// The greatest; not below `min_diff` where it is steered.
    pub min_diff_max: MinDiff,
    /// None where every gateway keeps `min_diff`.
    pub steering: Option<SteerRule>,
    /// The first id that a new ledger hands out; an existing one goes on where it was.
    pub first_prime_id: NonZeroU32,
    /// How long a gateway's terms and duplicates outlive its last session, in s.
    pub resume_for_s: u64,
    pub chain: ChainConfig,
    pub scheme: SchemeKind,
    pub split: SplitTerms,
    pub split_use: SplitUseRule,
    /// Who may mine; those given to a running pool come beside them.
    pub policy: Vec<Rule>,
    /// 1 to [`SHARDS_MAX`].
    pub shards: usize,
    /// The core of each shard, all different; empty leaves them unpinned.
    pub cores: Vec<usize>,
    pub limits: Limits,
    /// What one address may take of the pool.
    pub guards: guard::Limits,
    /// What the process may hold in memory, in bytes; 0 for no limit.
    pub memory_limit_bytes: u64,
    /// The core of the ledger writer, none of the shards'; none leaves it unpinned.
    pub writer_core: Option<usize>,
    /// Length of each shard's ring: a power of two.
    pub ring_entries: usize,
    /// Free bytes on the ledger's disk below which the pool does not start, or drains and ends.
    pub disk_floor_bytes: u64,
    /// Days after which a share that nothing needs becomes hourly work.
    pub keep_days: u64,
    /// How audit bundles name payees.
    pub bundle_privacy: Privacy,
}

/// The chain that gateways build on, and where it is known from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ChainConfig {
    /// For development and load: no node, and blocks that are worth nothing.
    Dev {
        /// At least 1.
        network_difficulty: u64,
    },
    Node(NodeChain),
}

/// A chain that nodes of ours follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeChain {
    pub name: NodeChainName,
    /// Bits by which the targets of shares lie above the real ones; 0 but on regtest.
    pub target_shift: u32,
    /// How long shares on the last tip count beside those on the new one, in s.
    pub stale_grace_s: u64,
    /// What the network difficulty counts as at least.
    pub difficulty_floor: u64,
    /// At least one; the first that is well is asked.
    pub nodes: Vec<NodeConfig>,
    pub templates: TemplateRule,
}

/// How the templates of gateways are held against the nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TemplateRule {
    /// Of those that do not look odd one in so many is checked; 0 for none.
    pub check_one_in: u32,
    /// Whether a gateway that does not show its templates has its work refused; else it raises an alert alone.
    pub refuses_unshown: bool,
    /// Bytes that transactions may take that are kept for it.
    pub transaction_bytes: usize,
}

/// Chains by the name that a node gives them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NodeChainName {
    Main,
    Testnet3,
    Testnet4,
    Signet,
    Regtest,
}

/// How a bitcoind is reached.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeConfig {
    /// Where it answers JSON-RPC over HTTP.
    pub rpc: SocketAddr,
    pub login: NodeLogin,
    /// Endpoints of its ZMQ publishers, such as `tcp://127.0.0.1:28332`; none leaves polling alone.
    pub zmq: Vec<String>,
}

/// As whom its RPC is asked. Both files are read anew where a node refuses us: it may have been restarted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NodeLogin {
    /// The file that bitcoind writes at each start.
    Cookie(PathBuf),
    /// `file`: the password, without the newline behind it.
    Password { user: String, file: PathBuf },
}

impl ChainConfig {
    /// What a ledger of it is bound to.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::Dev { .. } => shape::DEV,
            Self::Node(chain) => chain.name.as_str(),
        }
    }
}

impl NodeChainName {
    const ALL: [Self; 5] = [Self::Main, Self::Testnet3, Self::Testnet4, Self::Signet, Self::Regtest];

    /// As `getblockchaininfo` says it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Main => "main",
            // Its name from before there were others.
            Self::Testnet3 => "test",
            Self::Testnet4 => "testnet4",
            Self::Signet => "signet",
            Self::Regtest => "regtest",
        }
    }

    /// What its addresses look like.
    #[must_use]
    pub fn kind(self) -> NetworkKind {
        match self {
            Self::Main => NetworkKind::Main,
            Self::Testnet3 | Self::Testnet4 | Self::Signet => NetworkKind::Test,
            Self::Regtest => NetworkKind::Regtest,
        }
    }
}

/// How many of each a shard holds. What comes past it is turned away and counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub sessions_per_shard: usize,
    /// Connections between accept and session.
    pub handshakes_per_shard: usize,
    /// Gateways remembered, with or without a session; at least as many as sessions.
    pub gateways_per_shard: usize,
}

/// What the operator wants of sessions whose work hardly pays the splits that were dictated to them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SplitUseRule {
    /// Work without payouts, in percent of all since a split was dictated; 100 never raises an alert.
    pub without_max_percent: u8,
    /// The time over which that is counted, in s, while the session's requests for splits are answered in time.
    pub over_s: u64,
    /// Whether work without payouts is refused (27) from the alert on, until some of it pays again.
    pub refuse: bool,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            sessions_per_shard: 20_000,
            handshakes_per_shard: 4_096,
            gateways_per_shard: 65_536,
        }
    }
}

/// What log lines look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    Human,
    /// One JSON object a line.
    Json,
}

/// What the command line says. It goes before the file, and is checked like it.
#[derive(Debug, Clone, Default)]
pub struct Overrides {
    pub data_dir: Option<PathBuf>,
    /// As text, so that a mistake gets the same remedy as in the file.
    pub listen: Option<String>,
    /// Fewer than the file's `shards.cores` use the first of these.
    pub shards: Option<u64>,
    /// An address as text, or `off`.
    pub metrics: Option<String>,
    pub network_difficulty: Option<u64>,
    /// As text: `human` or `json`.
    pub log: Option<String>,
}

impl Config {
    /// Reads a file, lets the command line go before it, and checks the whole.
    ///
    /// # Errors
    /// The file cannot be read, or says something that the pool cannot run with.
    pub fn load(path: &Path, overrides: &Overrides) -> Result<Self, ConfigError> {
        let text = source::read(path, FILE_MAX)?;
        Self::parse(&text, path, overrides)
    }

    /// The same, from text. `path` is what errors call it.
    ///
    /// # Errors
    /// The text says something that the pool cannot run with.
    pub fn parse(text: &str, path: &Path, overrides: &Overrides) -> Result<Self, ConfigError> {
        let source = Source::file(path, text, overrides);
        let shape = toml::from_str(text).map_err(|wrong| source.unreadable(&wrong))?;
        overrides.apply(shape).and_check(&source)
    }

    /// A pool for trying things out, without a file: every key at its default.
    ///
    /// # Errors
    /// The command line says something that the pool cannot run with. Without overrides there is none.
    pub fn dev(overrides: &Overrides) -> Result<Self, ConfigError> {
        overrides
            .apply(Shape::default())
            .and_check(&Source::defaults(overrides))
    }

    /// Where the control socket goes; short enough for the system.
    #[must_use]
    pub fn socket_path(&self) -> PathBuf {
        self.data_dir.join(SOCKET_NAME)
    }
}

/// As TOML: every key with the value in force. Read again it is the same configuration.
impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = toml::to_string(&Shape::from(self)).map_err(|_| fmt::Error)?;
        f.write_str(&text)
    }
}

impl Shape {
    fn and_check(self, source: &Source<'_>) -> Result<Config, ConfigError> {
        check::check(self).map_err(|fault| source.refused(fault))
    }
}

impl Overrides {
    fn apply(&self, mut shape: Shape) -> Shape {
        fn replace<T: Clone>(value: &mut T, over: Option<&T>) {
            if let Some(over) = over {
                value.clone_from(over);
            }
        }
        replace(&mut shape.data_dir, self.data_dir.as_ref());
        replace(&mut shape.listen, self.listen.as_ref());
        replace(&mut shape.metrics, self.metrics.as_ref());
        replace(&mut shape.log, self.log.as_ref());
        replace(
            &mut shape.chain.network_difficulty,
            self.network_difficulty.map(Some).as_ref(),
        );
        if let Some(shards) = self.shards {
            shape.shards.count = shards;
            shape
                .shards
                .cores
                .truncate(usize::try_from(shards).unwrap_or(usize::MAX));
        }
        shape
    }

    /// The flag that gave `key` its value, if one did.
    fn flag(&self, key: &str) -> Option<&'static str> {
        let (given, flag) = match key {
            "data_dir" => (self.data_dir.is_some(), "--data-dir"),
            "listen" => (self.listen.is_some(), "--listen"),
            "metrics" => (self.metrics.is_some(), "--metrics"),
            "log" => (self.log.is_some(), "--log"),
            "shards.count" => (self.shards.is_some(), "--shards"),
            "chain.network_difficulty" => (self.network_difficulty.is_some(), "--network-difficulty"),
            _ => return None,
        };
        given.then_some(flag)
    }
}

impl LogFormat {
    fn as_str(self) -> &'static str {
        match self {
            Self::Human => "human",
            Self::Json => "json",
        }
    }
}

impl fmt::Display for LogFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for LogFormat {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        [Self::Human, Self::Json]
            .into_iter()
            .find(|format| format.as_str() == text)
            .ok_or_else(|| format!("`{text}` is no log format: it is `human` or `json`"))
    }
}
