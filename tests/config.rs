//! A configuration that the pool cannot run with is refused, by key and with the remedy; the example has every key.

mod chain;
mod values;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use millrace::config::{ChainConfig, Config, ConfigError, LogFormat, Overrides};
use millrace::guard::Rate;
use millrace::ledger::books::SchemeKind;
use millrace::ledger::bundle::Privacy;
use toml::{Table, Value};

const EXAMPLE: &str = include_str!("../tuning/millrace.example.toml");

fn parse(text: &str) -> Result<Config, ConfigError> {
    Config::parse(text, Path::new("pool.toml"), &Overrides::default())
}

fn defaults() -> Config {
    Config::dev(&Overrides::default()).expect("the defaults are good")
}

/// That `text` is refused for `key`, with a message that has all of `parts`.
#[track_caller]
fn refused(text: &str, key: &str, parts: &[&str]) -> ConfigError {
    let error = parse(text).expect_err(text);
    says(&error, key, parts);
    let message = error.to_string();
    assert!(message.starts_with("pool.toml"), "the file is named: {message}");
    error
}

#[track_caller]
fn says(error: &ConfigError, key: &str, parts: &[&str]) {
    let message = error.to_string();
    assert_eq!(error.key(), Some(key), "{message}");
    assert!(message.contains(key), "the key is named: {message}");
    for part in parts {
        assert!(message.contains(part), "no `{part}` in: {message}");
    }
}

#[track_caller]
fn taken(text: &str) -> Config {
    parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

/// Every key of a document by section (none for those above the first) and name.
fn keys(document: &Table) -> Vec<(Option<String>, String)> {
    let mut keys = Vec::new();
    for (name, value) in document {
        match value {
            Value::Table(section) => keys.extend(section.keys().map(|key| (Some(name.clone()), key.clone()))),
            _ => keys.push((None, name.clone())),
        }
    }
    keys.sort();
    keys
}

fn example() -> Table {
    EXAMPLE.parse().expect("the example is TOML")
}

fn without(document: &Table, section: Option<&str>, key: &str) -> String {
    let mut document = document.clone();
    let removed = match section {
        None => document.remove(key),
        Some(section) => document[section].as_table_mut().and_then(|section| section.remove(key)),
    };
    assert!(removed.is_some(), "{section:?} {key} is in the example");
    document.to_string()
}

// The example.

#[test]
fn the_example_is_the_default_key_by_key() {
    assert_eq!(taken(EXAMPLE), defaults());
    assert_eq!(taken(""), defaults());
    for (section, key) in keys(&example()) {
        let text = without(&example(), section.as_deref(), &key);
        assert_eq!(taken(&text), defaults(), "the default of {section:?} {key}");
    }
}

#[test]
fn the_example_has_every_key_and_no_other() {
    let known: Table = defaults().to_string().parse().expect("a configuration as TOML");
    assert_eq!(keys(&example()), keys(&known));
    assert!(keys(&known).len() >= 19, "{known}");
}

#[test]
fn every_key_of_the_example_is_commented() {
    let mut commented = false;
    let mut seen = 0;
    for (at, line) in EXAMPLE.lines().enumerate() {
        if line.contains(" = ") && !line.starts_with('#') {
            assert!(commented, "line {} has no comment: {line}", at + 1);
            seen += 1;
        }
        commented = line.starts_with('#');
    }
    assert_eq!(seen, keys(&example()).len());
}

#[test]
fn a_configuration_as_text_is_the_same_one() {
    let other = taken(OTHER);
    assert_eq!(taken(&other.to_string()), other);
    assert_eq!(taken(&defaults().to_string()), defaults());
}

/// Every key away from its default.
const OTHER: &str = r#"
data_dir = "/var/lib/millrace"
listen = "[::]:28916"
metrics = "127.0.0.1:9150"
log = "json"

[pool]
script = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"
tag = "Mühle"
motd = ""
min_diff = 65536
shares_per_minute = 12
min_diff_max = 131072
first_prime_id = 4_294_967_295
resume_for_s = 120

[chain]
name = "dev"
network_difficulty = 1
target_shift = 32

[split]
scheme = "pplns"
pplns_work = 5
fee_ppm = 20_000
minimum_payout_sat = 546
without_payouts_max_percent = 30
without_payouts_over_s = 86_400
without_payouts = "refuse"

[policy]
rules = ["deny-agent v0.1"]

[shards]
count = 2
cores = [2, 3]

[limits]
sessions_per_shard = 10
handshakes_per_shard = 11
gateways_per_shard = 12

[guards]
address_connections_per_s = 1
address_handshakes = 2
address_sessions = 3
address_early_bytes_per_s = 4
address_early_frames_per_s = 5
address_bytes_per_s = 6
address_frames_per_s = 7
address_answer_bytes_per_s = 20
address_faults_per_min = 8
connections_per_s = 9
early_bytes_per_s = 10
early_frames_per_s = 11
bytes_per_s = 12
frames_per_s = 13
refused_shares_per_s = 14
session_shares_per_s = 19
ban_s = 15
ban_max_s = 16
ban_forget_s = 17
addresses_per_shard = 18
memory_limit_bytes = 268_435_456
allow = ["10.0.0.0/8", "2001:db8::1/128"]
proxies = ["192.0.2.1/32"]

[ledger]
writer_core = 1
ring_entries = 1024
disk_floor_bytes = 67108864
keep_days = 1
bundle_privacy = "hashed"
"#;

#[test]
fn every_key_reaches_the_configuration() {
    let config = taken(OTHER);
    assert_eq!(config.data_dir, PathBuf::from("/var/lib/millrace"));
    assert_eq!(config.socket_path(), PathBuf::from("/var/lib/millrace/control.sock"));
    assert_eq!(config.listen, "[::]:28916".parse().expect("an address"));
    assert_eq!(config.metrics, "127.0.0.1:9150".parse::<SocketAddr>().ok());
    assert_eq!(config.log, LogFormat::Json);
    // BIP173's own example of an address and its script.
    assert_eq!(
        config.script,
        [&[0, 20][..], &hex("751e76e8199196d454941c45d1b3a323f1433bd6")].concat()
    );
    assert_eq!(config.tag, "Mühle".as_bytes());
    assert_eq!(config.motd, b"");
    assert_eq!(config.min_diff.get(), 65_536);
    let steering = config.steering.expect("it is steered");
    assert_eq!(steering.shares_per_minute, 12);
    assert_eq!((steering.least.get(), steering.most.get()), (65_536, 131_072));
    assert_eq!(config.first_prime_id.get(), u32::MAX);
    assert_eq!(config.resume_for_s, 120);
    assert_eq!(config.chain, ChainConfig::Dev { network_difficulty: 1 });
    assert_eq!(config.scheme, SchemeKind::Pplns { work: 5 });
    assert_eq!((config.split.fee_ppm, config.split.minimum), (20_000, 546));
    assert_eq!(
        (
            config.split_use.without_max_percent,
            config.split_use.over_s,
            config.split_use.refuse
        ),
        (30, 86_400, true)
    );
    assert_eq!(config.policy, ["deny-agent v0.1".parse().expect("a rule")]);
    assert_eq!((config.shards, &config.cores[..]), (2, &[2, 3][..]));
    assert_eq!(config.limits.sessions_per_shard, 10);
    assert_eq!(config.limits.handshakes_per_shard, 11);
    assert_eq!(config.limits.gateways_per_shard, 12);
    assert_eq!(config.guards.address.connections, Rate { per_s: 1, burst: 10 });
    assert_eq!((config.guards.handshakes, config.guards.sessions), (2, 3));
    assert_eq!(config.guards.address.early_bytes.per_s, 4);
    assert_eq!(config.guards.address.early_frames.per_s, 5);
    assert_eq!(config.guards.address.bytes.per_s, 6);
    assert_eq!(config.guards.address.frames.per_s, 7);
    assert_eq!(config.guards.answers, Rate { per_s: 20, burst: 800 });
    assert_eq!(config.guards.bans.faults_per_min, 8);
    assert_eq!(config.guards.all.connections.per_s, 9);
    assert_eq!(config.guards.all.early_bytes.per_s, 10);
    assert_eq!(config.guards.all.early_frames.per_s, 11);
    assert_eq!(config.guards.all.bytes.per_s, 12);
    assert_eq!(config.guards.all.frames, Rate { per_s: 13, burst: 52 });
    assert_eq!(config.guards.refused.per_s, 140);
    assert_eq!(config.guards.session_shares_per_s, 19);
    let bans = config.guards.bans;
    assert_eq!((bans.first_ms, bans.most_ms, bans.forget_ms), (15_000, 16_000, 17_000));
    assert_eq!(config.guards.addresses, 18);
    assert_eq!(config.memory_limit_bytes, 256 << 20);
    assert!(config.guards.allows("10.1.2.3".parse().expect("an address")));
    assert!(config.guards.is_proxy("192.0.2.1".parse().expect("an address")));
    assert_eq!(config.writer_core, Some(1));
    assert_eq!(config.ring_entries, 1_024);
    assert_eq!(config.disk_floor_bytes, 64 << 20);
    assert_eq!(config.keep_days, 1);
    assert_eq!(config.bundle_privacy, Privacy::Hashed);
    // No key of the example was left out above.
    let other: Table = OTHER.parse().expect("TOML");
    assert_eq!(keys(&other), keys(&example()));
}

fn hex(digits: &str) -> Vec<u8> {
    let pairs = digits
        .as_bytes()
        .chunks(2)
        .map(|pair| std::str::from_utf8(pair).expect("ASCII"));
    pairs.map(|pair| u8::from_str_radix(pair, 16).expect("hex")).collect()
}

#[test]
fn the_default_script_is_spendable_by_anybody() {
    use bitcoin::{Address, ScriptBuf};
    let op_true = ScriptBuf::from_bytes(vec![0x51]);
    assert_eq!(defaults().script, op_true.to_p2wsh().into_bytes());
    let named = EXAMPLE
        .lines()
        .find_map(|line| line.strip_prefix("# bcrt1"))
        .expect("the example names its address");
    let address: Address<_> = format!("bcrt1{}", named.trim_end_matches('.'))
        .parse()
        .expect("an address");
    assert_eq!(address.assume_checked().script_pubkey(), op_true.to_p2wsh());
}

// The command line, and the file itself.

#[test]
fn the_command_line_goes_before_the_file() {
    let overrides = Overrides {
        data_dir: Some(PathBuf::from("elsewhere")),
        listen: Some("127.0.0.1:1".to_owned()),
        shards: Some(1),
        metrics: Some("off".to_owned()),
        network_difficulty: Some(7),
        log: Some("human".to_owned()),
    };
    let config = Config::parse(OTHER, Path::new("pool.toml"), &overrides).expect("good");
    assert_eq!(config.data_dir, PathBuf::from("elsewhere"));
    assert_eq!(config.listen, "127.0.0.1:1".parse().expect("an address"));
    assert_eq!(
        (config.shards, &config.cores[..]),
        (1, &[2][..]),
        "the first of the file's cores"
    );
    assert_eq!(config.metrics, None);
    assert_eq!(config.chain, ChainConfig::Dev { network_difficulty: 7 });
    assert_eq!(config.log, LogFormat::Human);
    assert_eq!(config.tag, "Mühle".as_bytes(), "the rest is the file's");
    // What it replaces need not be good.
    Config::parse("listen = \"nowhere\"", Path::new("pool.toml"), &overrides).expect("replaced");
}

#[test]
fn a_refused_flag_is_named_instead_of_the_file() {
    let cases: [(Overrides, &str, &str); 6] = [
        (
            Overrides {
                data_dir: Some(PathBuf::new()),
                ..Overrides::default()
            },
            "data_dir",
            "--data-dir",
        ),
        (
            Overrides {
                listen: Some("127.0.0.1".to_owned()),
                ..Overrides::default()
            },
            "listen",
            "--listen",
        ),
        (
            Overrides {
                metrics: Some("on".to_owned()),
                ..Overrides::default()
            },
            "metrics",
            "--metrics",
        ),
        (
            Overrides {
                log: Some("xml".to_owned()),
                ..Overrides::default()
            },
            "log",
            "--log",
        ),
        (
            Overrides {
                shards: Some(3),
                ..Overrides::default()
            },
            "shards.count",
            "--shards",
        ),
        (
            Overrides {
                network_difficulty: Some(0),
                ..Overrides::default()
            },
            "chain.network_difficulty",
            "--network-difficulty",
        ),
    ];
    for (overrides, key, flag) in cases {
        let error = Config::parse(OTHER, Path::new("pool.toml"), &overrides).expect_err(flag);
        says(&error, key, &[]);
        assert!(error.to_string().starts_with(&format!("{flag}: {key}: ")), "{error}");
        assert_eq!(error.line(), None);
    }
    let overrides = Overrides {
        shards: Some(0),
        ..Overrides::default()
    };
    says(
        &Config::dev(&overrides).expect_err("no shards"),
        "shards.count",
        &["--shards", "below"],
    );
}

#[test]
fn a_file_is_read_and_a_missing_one_named() {
    let folder = tempfile::TempDir::new().expect("a folder for the test");
    let path = folder.path().join("pool.toml");
    let load = || Config::load(&path, &Overrides::default());
    let error = load().expect_err("no file").to_string();
    assert!(
        error.contains("pool.toml") && error.contains("cannot be read"),
        "{error}"
    );
    std::fs::write(&path, OTHER).expect("writable");
    assert_eq!(load().expect("good"), taken(OTHER));
    std::fs::write(&path, b"[pool]\ntag = \"\xff\"").expect("writable");
    let error = load().expect_err("no UTF-8").to_string();
    assert!(error.contains("byte 14") && error.contains("UTF-8"), "{error}");
    std::fs::write(&path, "#".repeat(1 << 20)).expect("writable");
    let error = load().expect_err("too large").to_string();
    assert!(error.contains("more than 262144 bytes"), "{error}");
}
