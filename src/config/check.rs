//! From what is written to what a pool can run with. The first thing that is wrong is said.

mod chain;

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr};
use std::num::NonZeroU32;
use std::ops::RangeInclusive;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use bitcoin::address::NetworkUnchecked;
use bitcoin::{Address, ScriptBuf};

use super::error::Fault;
use super::guards;
use super::shape::{
    self, ALERT, ANY, ANYONE_CAN_SPEND, CLEAR, Core, DEV_MOTD, HASHED, OFF, PPLNS, REFUSE, SOLO, Shape, TIDES,
};
use super::{ChainConfig, Config, Limits, NodeChainName, SOCKET_NAME, SplitUseRule};
use crate::ledger::KEEP_DAYS_MIN;
use crate::ledger::books::{DUST, SchemeKind, SplitTerms};
use crate::ledger::bundle::Privacy;
use crate::wire::{MOTD_MAX, SCRIPT_MAX, TAG_MAX};
use crate::work::{MinDiff, Policy, Rule, RuleError, SteerRule};

/// Shards of a pool: more than any one machine has cores for.
pub const SHARDS_MAX: u64 = 256;

/// The highest core: the system's own masks of cores end there.
pub const CORE_MAX: u64 = 1_023;

/// Sessions of one shard: each is a file descriptor, and a service has 262,144 (`tuning/`).
pub const SESSIONS_PER_SHARD_MAX: u64 = 131_072;

/// Connections of one shard between accept and session: each may hold a HELLO and the frames behind it.
pub const HANDSHAKES_PER_SHARD_MAX: u64 = 65_536;

/// Gateways that one shard remembers, duplicates and all.
pub const GATEWAYS_PER_SHARD_MAX: u64 = 1_048_576;

/// A gateway sends shares on old jobs until its next template, up to 120 s after it came back (section 3): a pool that
/// forgets sooner refuses them, and puts it into a loop of reconnects.
pub const RESUME_FOR_MIN_S: u64 = 120;

/// A day. All that gateways did so long is held in memory, and read back at each start.
pub const RESUME_FOR_MAX_S: u64 = 86_400;

/// Records of a ring: with fewer, batches are too small for what an fsync costs.
pub const RING_ENTRIES_MIN: u64 = 64;

/// At 50,000 shares a second more than 20 s of them: a disk that far behind is not one to acknowledge shares from.
pub const RING_ENTRIES_MAX: u64 = 1_048_576;

/// Room to finish what is under way: RocksDB's log and a few files that it is about to merge.
pub const DISK_FLOOR_MIN_BYTES: u64 = 64 << 20;

/// 1 PiB: more is a slip of the unit.
pub const DISK_FLOOR_MAX_BYTES: u64 = 1 << 50;

/// A century: for ever, as far as a disk can tell.
pub const KEEP_DAYS_MAX: u64 = 36_500;

/// Bytes of a Unix socket's path: what the system's structure for it holds besides the NUL.
pub const SOCKET_PATH_MAX: usize = 107;

/// The highest difficulty that TOML can write as a power of two.
const DIFFICULTY_MAX: u64 = 1 << 62;

/// The least difficulty on main where nothing is said: what the public gateway holds its own miners to (`vardiff_min`), so that none
/// sends less often for it. At 1 a single machine of 200 TH/s may send 46,000 shares a second.
const MAIN_MIN_DIFF: u64 = 16_384;

/// What a gateway sends on a real chain where nothing is said: of 20,000 that is 10,000 shares a second.
const SHARES_PER_MINUTE: u64 = 30;

/// 100 a second.
const SHARES_PER_MINUTE_MAX: u64 = 6_000;

/// All of it.
const FEE_MAX_PPM: u64 = 1_000_000;

/// 1 BTC: nobody would be paid for long.
const MINIMUM_PAYOUT_MAX_SAT: u64 = 100_000_000;

/// Sessions are judged over work intervals of gateways, of 5 to 120 s; less is for trying it out.
const WITHOUT_OVER_MIN_S: u64 = 1;
const WITHOUT_OVER_MAX_S: u64 = 86_400;

/// The byte between a pool's tag and a gateway's own (section 5).
const TAG_SEPARATOR: char = '\x0f';

pub(super) fn check(shape: Shape) -> Result<Config, Fault> {
    let chain = chain::check(&shape.chain, shape.nodes, shape.templates)?;
    let listen = address("listen", &shape.listen, "127.0.0.1:28915")?;
    let (shards, cores) = cores(&shape.shards)?;
    let least = min_diff(
        MIN_DIFF,
        shape.pool.min_diff.unwrap_or_else(|| default_min_diff(&chain)),
    )?;
    let most = min_diff(MIN_DIFF_MAX, shape.pool.min_diff_max)?;
    let (guards, memory_limit_bytes) = guards::check(&shape.guards, matches!(chain, ChainConfig::Dev { .. }))?;
    Ok(Config {
        data_dir: data_dir(shape.data_dir)?,
        listen,
        metrics: metrics(&shape.metrics, listen)?,
        log: shape
            .log
            .parse()
            .map_err(|wrong: String| Fault::new("log", wrong, "Write one of the two"))?,
        script: script(&shape.pool.script, &chain)?,
        tag: tag(shape.pool.tag)?,
        motd: motd(shape.pool.motd, &chain)?,
        min_diff: least,
        min_diff_max: most,
        steering: steering(shape.pool.shares_per_minute, &chain, least, most)?,
        first_prime_id: first_prime_id(shape.pool.first_prime_id)?,
        resume_for_s: within(
            "pool.resume_for_s",
            shape.pool.resume_for_s,
            RESUME_FOR_MIN_S..=RESUME_FOR_MAX_S,
        )?,
        chain,
        scheme: scheme(&shape.split)?,
        split: SplitTerms {
            fee_ppm: within("split.fee_ppm", shape.split.fee_ppm, 0..=FEE_MAX_PPM)?,
            minimum: within(
                "split.minimum_payout_sat",
                shape.split.minimum_payout_sat,
                DUST..=MINIMUM_PAYOUT_MAX_SAT,
            )?,
        },
        split_use: SplitUseRule {
            without_max_percent: within(
                "split.without_payouts_max_percent",
                shape.split.without_payouts_max_percent,
                0..=100,
            )?,
            over_s: within(
                "split.without_payouts_over_s",
                shape.split.without_payouts_over_s,
                WITHOUT_OVER_MIN_S..=WITHOUT_OVER_MAX_S,
            )?,
            refuse: refuses("split.without_payouts", &shape.split.without_payouts)?,
        },
        policy: policy(&shape.policy.rules)?,
        limits: limits(&shape.limits)?,
        guards,
        memory_limit_bytes,
        writer_core: writer_core(&shape.ledger.writer_core, &cores)?,
        shards,
        cores,
        ring_entries: ring_entries(shape.ledger.ring_entries)?,
        disk_floor_bytes: within(
            "ledger.disk_floor_bytes",
            shape.ledger.disk_floor_bytes,
            DISK_FLOOR_MIN_BYTES..=DISK_FLOOR_MAX_BYTES,
        )?,
        keep_days: within(
            "ledger.keep_days",
            shape.ledger.keep_days,
            KEEP_DAYS_MIN..=KEEP_DAYS_MAX,
        )?,
        bundle_privacy: bundle_privacy(&shape.ledger.bundle_privacy)?,
    })
}

// Where.

fn data_dir(path: PathBuf) -> Result<PathBuf, Fault> {
    const KEY: &str = "data_dir";
    if path.as_os_str().is_empty() {
        return Err(Fault::new(
            KEY,
            "it is empty",
            "Name a folder, such as `/var/lib/millrace`",
        ));
    }
    let socket = Path::new(&path).join(SOCKET_NAME).as_os_str().as_bytes().len();
    if socket > SOCKET_PATH_MAX {
        return Err(Fault::new(
            KEY,
            format!("the path of `{SOCKET_NAME}` in it has {socket} bytes, and the system takes {SOCKET_PATH_MAX}"),
            "Name a folder with a shorter path",
        ));
    }
    Ok(path)
}

fn address(key: &'static str, text: &str, example: &str) -> Result<SocketAddr, Fault> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let wrong = if text.parse::<IpAddr>().is_ok() {
        format!("`{text}` has no port")
    } else {
        format!("`{text}` is not an IP address and a port")
    };
    let remedy = format!("Write both, such as `{example}` or `[::1]:28915`; port 0 takes a free one");
    Err(Fault::new(key, wrong, remedy))
}

fn metrics(text: &str, listen: SocketAddr) -> Result<Option<SocketAddr>, Fault> {
    const KEY: &str = "metrics";
    if text == OFF {
        return Ok(None);
    }
    let metrics = address(KEY, text, "127.0.0.1:9150").map_err(|fault| Fault {
        remedy: format!("{}; or `{OFF}` for none", fault.remedy),
        ..fault
    })?;
    let overlap = metrics.ip() == listen.ip() || metrics.ip().is_unspecified() || listen.ip().is_unspecified();
    if metrics.port() != 0 && metrics.port() == listen.port() && overlap {
        return Err(Fault::new(
            KEY,
            format!("`{metrics}` is where gateways connect (`listen` is `{listen}`)"),
            "Give one of the two another port",
        ));
    }
    Ok(Some(metrics))
}

// What gateways are told.

fn script(text: &str, chain: &ChainConfig) -> Result<Vec<u8>, Fault> {
    const KEY: &str = "pool.script";
    if let ChainConfig::Node(chain) = chain
        && chain.name != NodeChainName::Regtest
        && text == ANYONE_CAN_SPEND
    {
        let wrong = "what blocks leave over could be spent by anybody";
        return Err(Fault::new(KEY, wrong, "Write an address of the pool's own"));
    }
    let script = match text.parse::<Address<NetworkUnchecked>>() {
        Ok(address) => {
            // The dev chain takes addresses of any network.
            if let ChainConfig::Node(chain) = chain
                && !address.is_valid_for_network(chain.name.kind().into())
            {
                let wrong = format!("`{text}` is no address of the chain `{}`", chain.name.as_str());
                return Err(Fault::new(KEY, wrong, "Write one that is"));
            }
            address.assume_checked().script_pubkey()
        }
        Err(_) => ScriptBuf::from_hex(text).map_err(|_| {
            Fault::new(
                KEY,
                format!("`{text}` is neither an address nor hex digits"),
                "Write the address that is to get what a split leaves over, or its output script in hex",
            )
        })?,
    };
    if script.is_empty() {
        let wrong = "it is empty, which ends every gateway";
        return Err(Fault::new(KEY, wrong, "Write an address, or an output script in hex"));
    }
    if script.len() > SCRIPT_MAX {
        return Err(Fault::new(
            KEY,
            format!(
                "the script has {} bytes, and more than {SCRIPT_MAX} overflow a buffer in gateways",
                script.len()
            ),
            "Pay to its hash instead: a P2WSH script has 34 bytes",
        ));
    }
    if script.is_op_return() {
        let wrong = "a script that begins with OP_RETURN burns what it gets";
        return Err(Fault::new(KEY, wrong, "Write one that can be spent"));
    }
    Ok(script.into_bytes())
}

fn tag(text: String) -> Result<Vec<u8>, Fault> {
    const KEY: &str = "pool.tag";
    if text.contains(TAG_SEPARATOR) {
        let wrong = "it holds byte 0x0F, which stands between a pool's tag and a gateway's own";
        return Err(Fault::new(KEY, wrong, "Remove it"));
    }
    c_string(KEY, text, TAG_MAX, "gateways end or corrupt their memory above")
}

fn motd(text: String, chain: &ChainConfig) -> Result<Vec<u8>, Fault> {
    let text = match chain {
        // What is true of the dev chain alone.
        ChainConfig::Node(_) if text == DEV_MOTD => "millrace".to_owned(),
        _ => text,
    };
    c_string("pool.motd", text, MOTD_MAX, "gateways break above")
}

/// What a gateway reads up to a NUL.
fn c_string(key: &'static str, text: String, max: usize, why: &str) -> Result<Vec<u8>, Fault> {
    if text.contains('\0') {
        return Err(Fault::new(
            key,
            "it holds a NUL, where gateways take it to end",
            "Remove the NUL",
        ));
    }
    if text.len() > max {
        return Err(Fault::new(
            key,
            format!("it has {} bytes, and {why} {max}", text.len()),
            format!("Shorten it to at most {max} bytes; a letter beyond ASCII takes two to four"),
        ));
    }
    Ok(text.into_bytes())
}

const MIN_DIFF: &str = "pool.min_diff";
const MIN_DIFF_MAX: &str = "pool.min_diff_max";

/// Only main has miners whom nobody knows and who are many machines each.
fn default_min_diff(chain: &ChainConfig) -> u64 {
    match chain {
        ChainConfig::Node(chain) if chain.name == NodeChainName::Main => MAIN_MIN_DIFF,
        _ => 1,
    }
}

/// Load on the dev chain and on regtest is what it is asked to be, so difficulties are not steered there unless it is said.
fn steering(
    shares: Option<u64>,
    chain: &ChainConfig,
    least: MinDiff,
    most: MinDiff,
) -> Result<Option<SteerRule>, Fault> {
    let is_real = matches!(chain, ChainConfig::Node(chain) if chain.name != NodeChainName::Regtest);
    let shares = shares.unwrap_or(if is_real { SHARES_PER_MINUTE } else { 0 });
    let shares_per_minute = within("pool.shares_per_minute", shares, 0..=SHARES_PER_MINUTE_MAX)?;
    if shares_per_minute > 0 && most < least {
        let (least, most) = (least.get(), most.get());
        let wrong = format!("{most} is below `{MIN_DIFF}`, which is {least}");
        return Err(Fault::new(MIN_DIFF_MAX, wrong, format!("Write {least} or more")));
    }
    Ok((shares_per_minute > 0).then_some(SteerRule {
        shares_per_minute,
        least,
        most,
    }))
}

fn min_diff(key: &'static str, difficulty: u64) -> Result<MinDiff, Fault> {
    MinDiff::new(difficulty).ok_or_else(|| {
        let remedy = match difficulty
            .checked_next_power_of_two()
            .filter(|above| *above <= DIFFICULTY_MAX)
        {
            None => format!("Write {DIFFICULTY_MAX} or less"),
            Some(1) => "Write 1, 2, 4 and so on".to_owned(),
            Some(above) => format!("Write {} or {above}", above / 2),
        };
        Fault::new(
            key,
            format!("{difficulty} is not a power of two, and gateways would round it"),
            remedy,
        )
    })
}

fn first_prime_id(id: u64) -> Result<NonZeroU32, Fault> {
    const KEY: &str = "pool.first_prime_id";
    if id == 0 {
        let wrong = "0 is no prime_id: gateways break on it";
        return Err(Fault::new(
            KEY,
            wrong,
            "Write 1, or a higher number to keep apart from another pool",
        ));
    }
    u32::try_from(id).ok().and_then(NonZeroU32::new).ok_or_else(|| {
        let wrong = format!("{id} does not fit the 4 bytes that a coinbase has for it");
        Fault::new(
            KEY,
            wrong,
            format!("Write a number from 1 to {}, and leave room above it", u32::MAX),
        )
    })
}

// Whom blocks pay.

fn scheme(split: &shape::Split) -> Result<SchemeKind, Fault> {
    const WORK: &str = "split.pplns_work";
    if split.scheme != PPLNS && split.pplns_work != 0 {
        let wrong = format!(
            "only the scheme `{PPLNS}` takes it, and `split.scheme` is `{}`",
            split.scheme
        );
        return Err(Fault::new(
            WORK,
            wrong,
            format!("Remove it, or write `{PPLNS}` for the scheme"),
        ));
    }
    match split.scheme.as_str() {
        TIDES => Ok(SchemeKind::Tides),
        SOLO => Ok(SchemeKind::Solo),
        PPLNS => Ok(SchemeKind::Pplns {
            work: within(WORK, split.pplns_work, 1..=DIFFICULTY_MAX)?,
        }),
        other => Err(Fault::new(
            "split.scheme",
            format!("`{other}` is no scheme"),
            format!("Write `{TIDES}`, `{PPLNS}` or `{SOLO}`"),
        )),
    }
}

// What runs where, and how much of it.

fn cores(shards: &shape::Shards) -> Result<(usize, Vec<usize>), Fault> {
    const KEY: &str = "shards.cores";
    let count: usize = within("shards.count", shards.count, 1..=SHARDS_MAX)?;
    let mut seen = HashSet::new();
    let mut cores = Vec::new();
    for core in &shards.cores {
        if !seen.insert(core) {
            let wrong = format!("core {core} stands in it twice, and two shards on a core wait for each other");
            return Err(Fault::new(KEY, wrong, "Give each shard a core of its own"));
        }
        cores.push(self::core(KEY, *core)?);
    }
    let listed = cores.len();
    if listed != 0 && listed < count {
        let wrong = format!("{count} shards, and `{KEY}` lists {listed} cores");
        let remedy = "List a core for each shard, or none to leave all unpinned";
        return Err(Fault::new("shards.count", wrong, remedy));
    }
    if listed > count {
        let wrong = format!("{listed} cores, and `shards.count` is {count}");
        return Err(Fault::new(
            KEY,
            wrong,
            format!("Write `count = {listed}`, or list as many cores as shards"),
        ));
    }
    Ok((count, cores))
}

// Who may mine.

fn policy(rules: &[String]) -> Result<Vec<Rule>, Fault> {
    const KEY: &str = "policy.rules";
    let fault = |error: RuleError| Fault::new(KEY, error.to_string(), "Correct the rule, or remove it");
    let rules: Vec<Rule> = rules
        .iter()
        .map(|rule| rule.parse())
        .collect::<Result<_, _>>()
        .map_err(fault)?;
    Policy::new(&rules).map_err(fault)?;
    Ok(rules)
}

fn bundle_privacy(name: &str) -> Result<Privacy, Fault> {
    match name {
        CLEAR => Ok(Privacy::Clear),
        HASHED => Ok(Privacy::Hashed),
        other => Err(Fault::new(
            "ledger.bundle_privacy",
            format!("payees cannot be named in the way of `{other}`"),
            format!("Write `{CLEAR}` for addresses, or `{HASHED}` for salted hashes of them"),
        )),
    }
}

fn writer_core(core: &Core, shards: &[usize]) -> Result<Option<usize>, Fault> {
    const KEY: &str = "ledger.writer_core";
    let number = match core {
        Core::Word(word) if word == ANY => return Ok(None),
        Core::Word(word) => {
            let wrong = format!("`{word}` is no core");
            return Err(Fault::new(
                KEY,
                wrong,
                format!("Write its number without quotes, or \"{ANY}\""),
            ));
        }
        Core::Number(number) => self::core(KEY, *number)?,
    };
    if shards.contains(&number) {
        let wrong = format!("core {number} is a shard's, and the two would wait for each other");
        return Err(Fault::new(
            KEY,
            wrong,
            format!("Name a core that `shards.cores` does not list, or \"{ANY}\""),
        ));
    }
    Ok(Some(number))
}

fn core(key: &'static str, core: u64) -> Result<usize, Fault> {
    within(key, core, 0..=CORE_MAX)
}

fn limits(limits: &shape::Limits) -> Result<Limits, Fault> {
    const GATEWAYS: &str = "limits.gateways_per_shard";
    let checked = Limits {
        sessions_per_shard: within(
            "limits.sessions_per_shard",
            limits.sessions_per_shard,
            1..=SESSIONS_PER_SHARD_MAX,
        )?,
        handshakes_per_shard: within(
            "limits.handshakes_per_shard",
            limits.handshakes_per_shard,
            1..=HANDSHAKES_PER_SHARD_MAX,
        )?,
        gateways_per_shard: within(GATEWAYS, limits.gateways_per_shard, 1..=GATEWAYS_PER_SHARD_MAX)?,
    };
    if checked.gateways_per_shard < checked.sessions_per_shard {
        let (gateways, sessions) = (checked.gateways_per_shard, checked.sessions_per_shard);
        let wrong =
            format!("{gateways} gateways, and `limits.sessions_per_shard` is {sessions}: the rest would lose work");
        return Err(Fault::new(
            GATEWAYS,
            wrong,
            format!("Write {sessions} or more, or allow fewer sessions"),
        ));
    }
    Ok(checked)
}

fn ring_entries(entries: u64) -> Result<usize, Fault> {
    const KEY: &str = "ledger.ring_entries";
    let checked: usize = within(KEY, entries, RING_ENTRIES_MIN..=RING_ENTRIES_MAX)?;
    if !checked.is_power_of_two() {
        let above = checked.next_power_of_two();
        let wrong = format!("{entries} is not a power of two");
        return Err(Fault::new(KEY, wrong, format!("Write {} or {above}", above / 2)));
    }
    Ok(checked)
}

/// Whether work is refused for what `key` is about, or an alert raised alone.
fn refuses(key: &'static str, what: &str) -> Result<bool, Fault> {
    match what {
        ALERT => Ok(false),
        REFUSE => Ok(true),
        other => Err(Fault::new(
            key,
            format!("`{other}` is nothing that can be done about it"),
            format!("Write `{ALERT}` or `{REFUSE}`"),
        )),
    }
}

pub(super) fn within<T: TryFrom<u64>>(key: &'static str, number: u64, range: RangeInclusive<u64>) -> Result<T, Fault> {
    let (least, most) = (range.start(), range.end());
    let fault = || {
        let bound = if number < *least { "below" } else { "above" };
        let limit = if number < *least { least } else { most };
        let remedy = format!("Write a number from {least} to {most}");
        Fault::new(key, format!("{number} is {bound} the limit of {limit}"), remedy)
    };
    if !range.contains(&number) {
        return Err(fault());
    }
    T::try_from(number).map_err(|_| fault())
}
