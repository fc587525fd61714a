//! The file as it is written: its keys, their kinds and their defaults. Nothing here is checked yet.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::guards::Guards;
use super::{ChainConfig, Config, DEFAULT_DATA_DIR, NodeConfig, NodeLogin};
use crate::ledger::books::SchemeKind;
use crate::ledger::bundle::Privacy;

/// What anybody may spend: the P2WSH of `OP_TRUE`, `bcrt1qft5p2uhsdcdc3l2ua4ap5qqfg4pjaqlp250x7us7a8qqhrxrxfsqseac85`.
/// A default with a key that somebody knows, or that nobody does, would be the worse surprise; and it has a real
/// pool's length.
pub(super) const ANYONE_CAN_SPEND: &str = "00204ae81572f06e1b88fd5ced7a1a000945432e83e1551e6f721ee9c00b8cc33260";

/// The chain that needs no node, and how far it lies above real difficulties, in bits.
pub(super) const DEV: &str = "dev";
pub(super) const DEV_TARGET_SHIFT: u32 = 32;
pub(super) const DEV_NETWORK_DIFFICULTY: u64 = 1 << 20;

/// What gateways are told on it where nothing is said.
pub(super) const DEV_MOTD: &str = "millrace, dev chain: shares are checked and stored, and worth nothing";

/// Where a gateway's difficulty ends: at 30 shares a minute, 2,000 times 1 EH/s.
pub(super) const MIN_DIFF_MAX: u64 = 1 << 40;

/// The schemes, as `split.scheme` names them.
pub(super) const TIDES: &str = "tides";
pub(super) const PPLNS: &str = "pplns";
pub(super) const SOLO: &str = "solo";

/// What `split.without_payouts` and `templates.unshown` say.
pub(super) const ALERT: &str = "alert";
pub(super) const REFUSE: &str = "refuse";

/// How `ledger.bundle_privacy` has audit bundles name payees.
pub(super) const CLEAR: &str = "clear";
pub(super) const HASHED: &str = "hashed";

/// What `metrics` says where there are none, and `ledger.writer_core` where the writer may run anywhere.
pub(super) const OFF: &str = "off";
pub(super) const ANY: &str = "any";

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Shape {
    pub data_dir: PathBuf,
    pub listen: String,
    pub metrics: String,
    pub log: String,
    pub pool: Pool,
    pub chain: Chain,
    pub split: Split,
    pub policy: Policy,
    pub shards: Shards,
    pub limits: Limits,
    pub guards: Guards,
    pub ledger: Ledger,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<Node>,
    // None where the file does not say, so that a chain without nodes can tell.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub templates: Option<Templates>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Pool {
    pub script: String,
    pub tag: String,
    pub motd: String,
    // None where the file does not say: it depends on the chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_diff: Option<u64>,
    // The same.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shares_per_minute: Option<u64>,
    pub min_diff_max: u64,
    pub first_prime_id: u64,
    pub resume_for_s: u64,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Chain {
    pub name: String,
    // None where the file does not say, so that a chain that takes none can tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub network_difficulty: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target_shift: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stale_grace_s: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difficulty_floor: Option<u64>,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Node {
    pub rpc: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cookie_file: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    pub zmq: Vec<String>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Templates {
    pub check_one_in: u64,
    pub unshown: String,
    pub transaction_bytes: u64,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Split {
    pub scheme: String,
    pub pplns_work: u64,
    pub fee_ppm: u64,
    pub minimum_payout_sat: u64,
    pub without_payouts_max_percent: u64,
    pub without_payouts_over_s: u64,
    pub without_payouts: String,
}

#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Policy {
    pub rules: Vec<String>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Shards {
    pub count: u64,
    pub cores: Vec<u64>,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Limits {
    pub sessions_per_shard: u64,
    pub handshakes_per_shard: u64,
    pub gateways_per_shard: u64,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Ledger {
    pub writer_core: Core,
    pub ring_entries: u64,
    pub disk_floor_bytes: u64,
    pub keep_days: u64,
    pub bundle_privacy: String,
}

#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(untagged, expecting = "expected the number of a core, or \"any\"")]
pub(super) enum Core {
    Number(u64),
    Word(String),
}

impl Shape {
    /// A shape that has every key there is, also those that only some chain takes.
    pub fn with_every_key() -> Self {
        Self {
            chain: Chain {
                stale_grace_s: Some(0),
                difficulty_floor: Some(1),
                ..Chain::default()
            },
            pool: Pool {
                shares_per_minute: Some(0),
                ..Pool::default()
            },
            guards: Guards::with_every_key(),
            nodes: vec![Node {
                cookie_file: Some(PathBuf::new()),
                user: Some(String::new()),
                password_file: Some(PathBuf::new()),
                ..Node::default()
            }],
            templates: Some(Templates::default()),
            ..Self::default()
        }
    }
}

/// As [`ALERT`] and [`REFUSE`] say it.
fn alert_or_refuse(refuses: bool) -> String {
    if refuses { REFUSE } else { ALERT }.to_owned()
}

impl Default for Shape {
    fn default() -> Self {
        Self {
            data_dir: PathBuf::from(DEFAULT_DATA_DIR),
            listen: "127.0.0.1:28915".to_owned(),
            metrics: OFF.to_owned(),
            log: super::LogFormat::Human.to_string(),
            pool: Pool::default(),
            chain: Chain::default(),
            split: Split::default(),
            policy: Policy::default(),
            shards: Shards::default(),
            limits: Limits::default(),
            guards: Guards::default(),
            ledger: Ledger::default(),
            nodes: Vec::new(),
            templates: None,
        }
    }
}

impl Default for Templates {
    fn default() -> Self {
        Self {
            check_one_in: 20,
            unshown: REFUSE.to_owned(),
            transaction_bytes: 512 << 20,
        }
    }
}

impl Default for Pool {
    fn default() -> Self {
        Self {
            script: ANYONE_CAN_SPEND.to_owned(),
            tag: "millrace".to_owned(),
            motd: DEV_MOTD.to_owned(),
            min_diff: None,
            shares_per_minute: None,
            min_diff_max: MIN_DIFF_MAX,
            first_prime_id: 1,
            resume_for_s: 3_600,
        }
    }
}

impl Default for Chain {
    fn default() -> Self {
        Self {
            name: DEV.to_owned(),
            network_difficulty: Some(DEV_NETWORK_DIFFICULTY),
            target_shift: Some(DEV_TARGET_SHIFT),
            stale_grace_s: None,
            difficulty_floor: None,
        }
    }
}

impl Default for Split {
    fn default() -> Self {
        Self {
            scheme: TIDES.to_owned(),
            pplns_work: 0,
            fee_ppm: 0,
            minimum_payout_sat: 10_000,
            without_payouts_max_percent: 50,
            without_payouts_over_s: 600,
            without_payouts: ALERT.to_owned(),
        }
    }
}

impl Default for Shards {
    fn default() -> Self {
        Self {
            count: 1,
            cores: Vec::new(),
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self::from(super::Limits::default())
    }
}

impl From<super::Limits> for Limits {
    fn from(limits: super::Limits) -> Self {
        Self {
            sessions_per_shard: limits.sessions_per_shard as u64,
            handshakes_per_shard: limits.handshakes_per_shard as u64,
            gateways_per_shard: limits.gateways_per_shard as u64,
        }
    }
}

impl Default for Ledger {
    fn default() -> Self {
        Self {
            writer_core: Core::Word(ANY.to_owned()),
            ring_entries: 16_384,
            disk_floor_bytes: 1 << 30,
            keep_days: 90,
            bundle_privacy: CLEAR.to_owned(),
        }
    }
}

impl From<&NodeConfig> for Node {
    fn from(node: &NodeConfig) -> Self {
        let (cookie_file, user, password_file) = match &node.login {
            NodeLogin::Cookie(path) => (Some(path.clone()), None, None),
            NodeLogin::Password { user, file } => (None, Some(user.clone()), Some(file.clone())),
        };
        Self {
            rpc: node.rpc.to_string(),
            cookie_file,
            user,
            password_file,
            zmq: node.zmq.clone(),
        }
    }
}

impl From<&Config> for Shape {
    fn from(config: &Config) -> Self {
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self {
            data_dir: PathBuf::from(config.data_dir.to_string_lossy().into_owned()),
            listen: config.listen.to_string(),
            metrics: config
                .metrics
                .map_or_else(|| OFF.to_owned(), |address| address.to_string()),
            log: config.log.to_string(),
            pool: Pool {
                script: config.script.iter().map(|byte| format!("{byte:02x}")).collect(),
                tag: text(&config.tag),
                motd: text(&config.motd),
                min_diff: Some(config.min_diff.get()),
                shares_per_minute: Some(config.steering.map_or(0, |rule| rule.shares_per_minute.into())),
                min_diff_max: config.min_diff_max.get(),
                first_prime_id: config.first_prime_id.get().into(),
                resume_for_s: config.resume_for_s,
            },
            chain: match &config.chain {
                ChainConfig::Dev { network_difficulty } => Chain {
                    network_difficulty: Some(*network_difficulty),
                    ..Chain::default()
                },
                ChainConfig::Node(chain) => Chain {
                    name: chain.name.as_str().to_owned(),
                    network_difficulty: None,
                    target_shift: Some(chain.target_shift),
                    stale_grace_s: Some(chain.stale_grace_s),
                    difficulty_floor: Some(chain.difficulty_floor),
                },
            },
            nodes: match &config.chain {
                ChainConfig::Dev { .. } => Vec::new(),
                ChainConfig::Node(chain) => chain.nodes.iter().map(Node::from).collect(),
            },
            templates: match &config.chain {
                ChainConfig::Dev { .. } => None,
                ChainConfig::Node(chain) => Some(Templates {
                    check_one_in: chain.templates.check_one_in.into(),
                    unshown: alert_or_refuse(chain.templates.refuses_unshown),
                    transaction_bytes: chain.templates.transaction_bytes as u64,
                }),
            },
            split: Split {
                scheme: match config.scheme {
                    SchemeKind::Tides => TIDES,
                    SchemeKind::Pplns { .. } => PPLNS,
                    SchemeKind::Solo => SOLO,
                }
                .to_owned(),
                pplns_work: match config.scheme {
                    SchemeKind::Pplns { work } => work,
                    SchemeKind::Tides | SchemeKind::Solo => 0,
                },
                fee_ppm: config.split.fee_ppm.into(),
                minimum_payout_sat: config.split.minimum,
                without_payouts_max_percent: config.split_use.without_max_percent.into(),
                without_payouts_over_s: config.split_use.over_s,
                without_payouts: alert_or_refuse(config.split_use.refuse),
            },
            policy: Policy {
                rules: config.policy.iter().map(ToString::to_string).collect(),
            },
            shards: Shards {
                count: config.shards as u64,
                cores: config.cores.iter().map(|core| *core as u64).collect(),
            },
            limits: config.limits.into(),
            guards: Guards::of(&config.guards, config.memory_limit_bytes),
            ledger: Ledger {
                writer_core: config
                    .writer_core
                    .map_or_else(|| Core::Word(ANY.to_owned()), |core| Core::Number(core as u64)),
                ring_entries: config.ring_entries as u64,
                disk_floor_bytes: config.disk_floor_bytes,
                keep_days: config.keep_days,
                bundle_privacy: match config.bundle_privacy {
                    Privacy::Clear => CLEAR,
                    Privacy::Hashed => HASHED,
                }
                .to_owned(),
            },
        }
    }
}
