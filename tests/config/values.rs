//! Keys and values that the pool cannot run with, each refused with the remedy, and what lies just inside the limit.

use millrace::config::{self, LogFormat};
use millrace::ledger::books::SchemeKind;
use millrace::ledger::bundle::Privacy;

use super::{defaults, parse, refused, taken};

// Keys and kinds.

#[test]
fn an_unknown_key_is_named_with_the_one_that_was_meant() {
    refused("[pool]\ntga = \"x\"", "pool.tga", &[":2:", "no such key", "pool.tag"]);
    refused(
        "[pool]\nresume_for_ms = 5",
        "pool.resume_for_ms",
        &["pool.resume_for_s", "seconds"],
    );
    refused(
        "[pool]\nresume_for = 5",
        "pool.resume_for",
        &["pool.resume_for_s", "seconds"],
    );
    refused(
        "[ledger]\ndisk_floor = 5",
        "ledger.disk_floor",
        &["ledger.disk_floor_bytes", "bytes"],
    );
    refused("[pool]\nlisten = \"[::]:1\"", "pool.listen", &["above the first"]);
    refused("tag = \"x\"", "tag", &[":1:", "[pool]"]);
    refused("[polo]\ntag = \"x\"", "polo", &["no such key", "pool"]);
    refused(
        "[pool]\nfee_percent = 1",
        "pool.fee_percent",
        &["Remove it", "millrace.example.toml"],
    );
    refused("pool.tga = \"x\"", "pool.tga", &["pool.tag"]);
    refused("pool = { tga = \"x\" }", "pool.tga", &["pool.tag"]);
}

#[test]
fn a_value_of_the_wrong_kind_or_unit_is_named_with_the_remedy() {
    refused(
        "[pool]\nresume_for_s = \"1h\"",
        "pool.resume_for_s",
        &[":2:", "1h", "seconds", "resume_for_s = 3600"],
    );
    refused(
        "[pool]\nresume_for_s = 1.5",
        "pool.resume_for_s",
        &["1.5", "whole number of seconds"],
    );
    refused(
        "[pool]\nresume_for_s = -1",
        "pool.resume_for_s",
        &["-1", "whole number"],
    );
    refused(
        "[ledger]\ndisk_floor_bytes = \"1 GiB\"",
        "ledger.disk_floor_bytes",
        &["1 GiB", "whole number of bytes", "1073741824"],
    );
    refused("[pool]\ntag = 5", "pool.tag", &["tag = \"millrace\""]);
    refused("pool = 3", "pool", &["expected a section", "[pool]"]);
    refused("[shards]\ncores = 2", "shards.cores", &["list of whole numbers"]);
    refused("[shards]\ncores = [0, \"1\"]", "shards.cores", &["whole number"]);
    refused("[ledger]\nwriter_core = 1.5", "ledger.writer_core", &["any"]);
    refused(
        "[chain]\ntarget_shift = \"32\"",
        "chain.target_shift",
        &["whole number", "target_shift = 32"],
    );
    for text in [
        "[pool]\nresume_for_s = -1",
        "[chain]\ntarget_shift = -1",
        "[pool]\nmin_diff = true",
    ] {
        let message = parse(text).expect_err(text).to_string();
        assert!(
            !message.contains("u64") && !message.contains("u32"),
            "no types of Rust: {message}"
        );
    }
}

#[test]
fn what_is_no_toml_is_refused_with_its_line() {
    for (text, line) in [
        ("[pool]\ntag = millrace", 2),
        ("[pool]\n\n[pool", 3),
        ("listen = \"127.0.0.1:1\"\nlisten = \"127.0.0.1:2\"", 2),
        ("[pool]\ntag = \"a\\q\"", 2),
    ] {
        let error = parse(text).expect_err(text);
        assert_eq!(error.line(), Some(line), "{error}");
        assert!(error.to_string().contains("Mend"), "{error}");
    }
    let error = parse("listen = \"127.0.0.1:1\"\nlisten = \"127.0.0.1:2\"").expect_err("twice");
    assert!(error.to_string().contains("`listen`"), "the key is named: {error}");
}

#[test]
fn a_refused_value_is_found_in_the_file() {
    let text = "# one\n\n[pool]\nmotd = \"\"\n  tag = \"\\u0000\"\n";
    assert_eq!(refused(text, "pool.tag", &["pool.toml:5: pool.tag: "]).line(), Some(5));
    assert_eq!(
        refused("pool = { min_diff = 3 }", "pool.min_diff", &[":1:"]).line(),
        Some(1)
    );
}

// What gateways break on.

#[test]
fn a_tag_has_83_bytes_at_most_and_no_nul() {
    let tag = |tag: &str| format!("[pool]\ntag = \"{tag}\"");
    assert_eq!(taken(&tag(&"x".repeat(83))).tag.len(), 83);
    assert_eq!(taken(&tag("")).tag, b"");
    refused(&tag(&"x".repeat(84)), "pool.tag", &["84 bytes", "at most 83"]);
    // Bytes, not letters.
    refused(&tag(&"ü".repeat(42)), "pool.tag", &["84 bytes", "at most 83"]);
    refused(&tag("a\\u0000b"), "pool.tag", &["NUL", "Remove"]);
    refused(&tag("a\\u000fb"), "pool.tag", &["0x0F", "Remove"]);
}

#[test]
fn a_script_has_1_to_64_bytes_and_can_be_spent() {
    let script = |script: &str| format!("[pool]\nscript = \"{script}\"");
    assert_eq!(taken(&script("51")).script, [0x51]);
    assert_eq!(taken(&script(&"51".repeat(64))).script.len(), 64);
    assert_eq!(taken(&script("mzjP9Hn7aqaCLM5pSgMSQzgs3gnxSFv91B")).script.len(), 25);
    assert_eq!(
        taken(&script("BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4"))
            .script
            .len(),
        22
    );
    refused(&script(""), "pool.script", &["empty", "Write an address"]);
    refused(&script(&"51".repeat(65)), "pool.script", &["65 bytes", "64", "P2WSH"]);
    refused(&script("5"), "pool.script", &["neither", "hex"]);
    refused(
        &script("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5"),
        "pool.script",
        &["neither"],
    );
    refused(&script("6a0100"), "pool.script", &["OP_RETURN", "spent"]);
}

#[test]
fn a_motd_has_510_bytes_at_most_and_no_nul() {
    let motd = |motd: &str| format!("[pool]\nmotd = \"{motd}\"");
    assert_eq!(taken(&motd(&"x".repeat(510))).motd.len(), 510);
    refused(&motd(&"x".repeat(511)), "pool.motd", &["511 bytes", "at most 510"]);
    refused(&motd("\\u0000"), "pool.motd", &["NUL", "Remove"]);
}

#[test]
fn a_prime_id_is_4_bytes_and_not_0() {
    let first = |id: &str| format!("[pool]\nfirst_prime_id = {id}");
    assert_eq!(taken(&first("1")).first_prime_id.get(), 1);
    refused(&first("0"), "pool.first_prime_id", &["0 is no prime_id", "Write 1"]);
    refused(&first("4294967296"), "pool.first_prime_id", &["4 bytes", "4294967295"]);
}

#[test]
fn a_least_difficulty_is_a_power_of_two() {
    let min_diff = |difficulty: u64| format!("[pool]\nmin_diff = {difficulty}");
    for pot in [0, 1, 20, 62] {
        assert_eq!(taken(&min_diff(1 << pot)).min_diff.get(), 1 << pot);
    }
    refused(&min_diff(0), "pool.min_diff", &["not a power of two", "1, 2, 4"]);
    refused(&min_diff(3), "pool.min_diff", &["not a power of two", "2 or 4"]);
    refused(&min_diff(65_535), "pool.min_diff", &["32768 or 65536"]);
    refused(
        &min_diff((1 << 62) + 1),
        "pool.min_diff",
        &["4611686018427387904 or less"],
    );
    let steered = |most: u64| format!("[pool]\nmin_diff = 8\nshares_per_minute = 30\nmin_diff_max = {most}");
    assert_eq!(taken(&steered(8)).steering.map(|rule| rule.most.get()), Some(8));
    refused(&steered(4), "pool.min_diff_max", &["is 8", "8 or more"]);
    refused(&steered(12), "pool.min_diff_max", &["not a power of two"]);
}

#[test]
fn work_is_resumed_within_the_limit() {
    let resume = |seconds: u64| format!("[pool]\nresume_for_s = {seconds}");
    let (least, most) = (config::RESUME_FOR_MIN_S, config::RESUME_FOR_MAX_S);
    assert_eq!(taken(&resume(least)).resume_for_s, least);
    assert_eq!(taken(&resume(most)).resume_for_s, most);
    refused(
        &resume(least - 1),
        "pool.resume_for_s",
        &["119 is below the limit of 120", "from 120 to 86400"],
    );
    refused(
        &resume(most + 1),
        "pool.resume_for_s",
        &["86401 is above the limit of 86400", "from 120 to 86400"],
    );
}

// Whom blocks pay.

#[test]
fn a_split_is_one_that_can_be_paid() {
    let split = |text: &str| format!("[split]\n{text}");
    assert_eq!(defaults().scheme, SchemeKind::Tides);
    assert_eq!(taken(&split("scheme = \"solo\"")).scheme, SchemeKind::Solo);
    refused(&split("scheme = \"pps\""), "split.scheme", &["tides", "pplns", "solo"]);
    refused(
        &split("scheme = \"pplns\""),
        "split.pplns_work",
        &["below the limit of 1"],
    );
    refused(&split("pplns_work = 5"), "split.pplns_work", &["pplns", "tides"]);
    refused(
        &split("without_payouts = \"no\""),
        "split.without_payouts",
        &["alert", "refuse"],
    );
    refused(
        &split("without_payouts_max_percent = 101"),
        "split.without_payouts_max_percent",
        &["above"],
    );
    refused(
        &split("without_payouts_over_s = 0"),
        "split.without_payouts_over_s",
        &["below the limit of 1"],
    );
    let split_use = defaults().split_use;
    assert_eq!(
        (split_use.without_max_percent, split_use.over_s, split_use.refuse),
        (50, 600, false),
        "the alert is on"
    );
    refused(&split("fee_ppm = 1_000_001"), "split.fee_ppm", &["above"]);
    refused(
        &split("minimum_payout_sat = 545"),
        "split.minimum_payout_sat",
        &["below the limit of 546"],
    );
    refused(
        &split("minimum_payout_sat = 100_000_001"),
        "split.minimum_payout_sat",
        &["above"],
    );
}

// Where.

#[test]
fn an_address_has_a_port() {
    let listen = |address: &str| format!("listen = \"{address}\"");
    for good in ["127.0.0.1:0", "0.0.0.0:28915", "[::1]:28915"] {
        assert_eq!(taken(&listen(good)).listen, good.parse().expect("an address"));
    }
    refused(&listen("127.0.0.1"), "listen", &["has no port", "127.0.0.1:28915"]);
    refused(&listen("::1"), "listen", &["has no port", "[::1]:28915"]);
    refused(
        &listen("localhost:28915"),
        "listen",
        &["not an IP address", "127.0.0.1:28915"],
    );
    refused(&listen("127.0.0.1:65536"), "listen", &["not an IP address and a port"]);
    refused(&listen(""), "listen", &["not an IP address"]);
    assert_eq!(taken("metrics = \"off\"").metrics, None);
    refused(
        "metrics = \"127.0.0.1\"",
        "metrics",
        &["has no port", "127.0.0.1:9150", "`off`"],
    );
    refused("metrics = \"on\"", "metrics", &["not an IP address", "`off`"]);
}

#[test]
fn metrics_and_gateways_have_ports_of_their_own() {
    let both = |listen: &str, metrics: &str| format!("listen = \"{listen}\"\nmetrics = \"{metrics}\"");
    taken(&both("127.0.0.1:0", "127.0.0.1:0"));
    taken(&both("127.0.0.1:5000", "127.0.0.1:5001"));
    taken(&both("127.0.0.1:5000", "127.0.0.2:5000"));
    for (listen, metrics) in [
        ("127.0.0.1:5000", "127.0.0.1:5000"),
        ("0.0.0.0:5000", "127.0.0.1:5000"),
        ("127.0.0.1:5000", "[::]:5000"),
    ] {
        refused(
            &both(listen, metrics),
            "metrics",
            &[":2:", "where gateways connect", "another port"],
        );
    }
}

#[test]
fn a_data_folder_leaves_room_for_the_socket() {
    let folder = |len: usize| format!("data_dir = \"/{}\"", "d".repeat(len - 1));
    let longest = config::SOCKET_PATH_MAX - "/control.sock".len();
    let socket = taken(&folder(longest)).socket_path();
    assert_eq!(socket.as_os_str().len(), config::SOCKET_PATH_MAX);
    refused(&folder(longest + 1), "data_dir", &["108 bytes", "shorter"]);
    refused("data_dir = \"\"", "data_dir", &["empty", "Name a folder"]);
}

#[test]
fn a_log_is_human_or_json() {
    assert_eq!(taken("log = \"json\"").log, LogFormat::Json);
    refused("log = \"xml\"", "log", &["`xml`", "`human` or `json`"]);
}

// What runs where, and how much of it.

#[test]
fn each_shard_has_a_core_or_none_has() {
    let shards = |count: u64, cores: &str| format!("[shards]\ncount = {count}\ncores = [{cores}]");
    assert_eq!(taken(&shards(3, "5, 1, 1023")).cores, [5, 1, 1_023]);
    assert_eq!(taken(&shards(256, "")).cores, [] as [usize; 0]);
    refused(
        &shards(2, "1, 1"),
        "shards.cores",
        &["core 1", "twice", "core of its own"],
    );
    refused(&shards(3, "1, 2"), "shards.count", &["3 shards", "2 cores", "or none"]);
    refused(&shards(1, "1, 2"), "shards.cores", &["2 cores", "count = 2"]);
    refused(&shards(1, "1024"), "shards.cores", &["1024 is above the limit of 1023"]);
    refused(
        &shards(0, ""),
        "shards.count",
        &["0 is below the limit of 1", "from 1 to 256"],
    );
    refused(&shards(257, ""), "shards.count", &["257 is above the limit of 256"]);
}

#[test]
fn the_writer_has_a_core_of_its_own() {
    let writer = |core: &str| format!("[shards]\ncount = 2\ncores = [2, 3]\n[ledger]\nwriter_core = {core}");
    assert_eq!(taken(&writer("1")).writer_core, Some(1));
    assert_eq!(taken(&writer("\"any\"")).writer_core, None);
    refused(
        &writer("3"),
        "ledger.writer_core",
        &["core 3 is a shard's", "shards.cores"],
    );
    refused(&writer("1024"), "ledger.writer_core", &["above the limit of 1023"]);
    refused(
        &writer("\"1\""),
        "ledger.writer_core",
        &["`1` is no core", "without quotes"],
    );
}

#[test]
fn limits_have_limits_and_sessions_are_remembered() {
    for (key, most) in [
        ("sessions_per_shard", config::SESSIONS_PER_SHARD_MAX),
        ("handshakes_per_shard", config::HANDSHAKES_PER_SHARD_MAX),
        ("gateways_per_shard", config::GATEWAYS_PER_SHARD_MAX),
    ] {
        let name = format!("limits.{key}");
        refused(&format!("[limits]\n{key} = 0"), &name, &["below the limit of 1"]);
        let above = format!("above the limit of {most}");
        refused(&format!("[limits]\n{key} = {}", most + 1), &name, &[&above]);
    }
    let limits = |sessions: u64, gateways: u64| {
        format!("[limits]\nsessions_per_shard = {sessions}\ngateways_per_shard = {gateways}")
    };
    assert_eq!(taken(&limits(100, 100)).limits.gateways_per_shard, 100);
    refused(
        &limits(100, 99),
        "limits.gateways_per_shard",
        &["99 gateways", "100", "fewer sessions"],
    );
}

#[test]
fn a_ring_is_a_power_of_two_within_bounds() {
    let ring = |entries: u64| format!("[ledger]\nring_entries = {entries}");
    assert_eq!(
        taken(&ring(config::RING_ENTRIES_MAX)).ring_entries as u64,
        config::RING_ENTRIES_MAX
    );
    refused(
        &ring(3_000),
        "ledger.ring_entries",
        &["not a power of two", "2048 or 4096"],
    );
    refused(&ring(32), "ledger.ring_entries", &["below the limit of 64"]);
    refused(&ring(2_097_152), "ledger.ring_entries", &["above the limit of 1048576"]);
}

#[test]
fn shares_are_kept_for_a_day_at_least() {
    let keep = |days: u64| format!("[ledger]\nkeep_days = {days}");
    assert_eq!(taken(&keep(1)).keep_days, 1);
    assert_eq!(taken(&keep(config::KEEP_DAYS_MAX)).keep_days, config::KEEP_DAYS_MAX);
    refused(&keep(0), "ledger.keep_days", &["below the limit of 1"]);
    refused(&keep(36_501), "ledger.keep_days", &["above the limit of 36500"]);
    let named = |privacy: &str| format!("[ledger]\nbundle_privacy = \"{privacy}\"");
    assert_eq!(defaults().bundle_privacy, Privacy::Clear);
    assert_eq!(taken(&named("hashed")).bundle_privacy, Privacy::Hashed);
    refused(&named("secret"), "ledger.bundle_privacy", &["clear", "hashed"]);
    refused("[ledger]\nkeep_s = 5", "ledger.keep_s", &["ledger.keep_days", "days"]);
}

#[test]
fn a_disk_floor_is_a_floor() {
    let floor = |bytes: u64| format!("[ledger]\ndisk_floor_bytes = {bytes}");
    let (least, most) = (config::DISK_FLOOR_MIN_BYTES, config::DISK_FLOOR_MAX_BYTES);
    assert_eq!(taken(&floor(least)).disk_floor_bytes, least);
    assert_eq!(taken(&floor(most)).disk_floor_bytes, most);
    refused(&floor(0), "ledger.disk_floor_bytes", &["below the limit of 67108864"]);
    refused(&floor(most + 1), "ledger.disk_floor_bytes", &["above the limit"]);
}

#[test]
fn guards_have_limits_and_are_wide_on_the_dev_chain_alone() {
    refused(
        "[guards]\naddress_sessions = 0",
        "guards.address_sessions",
        &["below the limit of 1"],
    );
    refused(
        "[guards]\nban_s = 20\nban_max_s = 10",
        "guards.ban_max_s",
        &["guards.ban_s"],
    );
    refused(
        "[guards]\nallow = [\"10.0.0\"]",
        "guards.allow",
        &["`10.0.0` is no network"],
    );
    refused(
        "[guards]\nmemory_limit_bytes = 1",
        "guards.memory_limit_bytes",
        &["below the limit of 16777216"],
    );
    let real = include_str!("../../tuning/node.example.toml");
    let without =
        real.split("[guards]").next().expect("a part").to_owned() + &real[real.find("[[nodes]]").expect("nodes")..];
    let real = taken(real);
    assert_eq!(taken(&without).guards, real.guards, "the example has the defaults");
    assert_eq!((real.guards.handshakes, real.guards.sessions), (128, 1_000));
    assert!(defaults().guards.sessions > 100_000);
}
