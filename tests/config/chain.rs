//! The chain, and the nodes that it is known from.

use millrace::config::{ChainConfig, Config, NodeChain, NodeChainName, NodeLogin};

use super::{defaults, parse, refused, taken};

const NODE_EXAMPLE: &str = include_str!("../../tuning/node.example.toml");

/// A pool on a chain that a node follows; `chain` and `node` are more lines of their sections.
fn with_node(name: &str, chain: &str, node: &str) -> String {
    let script = match name {
        "main" => "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
        "regtest" => "00204ae81572f06e1b88fd5ced7a1a000945432e83e1551e6f721ee9c00b8cc33260",
        _ => "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx",
    };
    format!("[pool]\nscript = \"{script}\"\n[chain]\nname = \"{name}\"\n{chain}\n[[nodes]]\n{node}\n")
}

const COOKIE: &str = "rpc = \"127.0.0.1:8332\"\ncookie_file = \"/var/lib/bitcoind/.cookie\"";

fn node_chain(config: &Config) -> &NodeChain {
    match &config.chain {
        ChainConfig::Node(chain) => chain,
        ChainConfig::Dev { .. } => panic!("the dev chain"),
    }
}

#[test]
fn the_example_with_a_node_has_its_every_key() {
    let config = taken(NODE_EXAMPLE);
    let chain = node_chain(&config);
    assert_eq!(
        (chain.name, chain.target_shift, chain.nodes.len()),
        (NodeChainName::Main, 0, 2)
    );
    assert_eq!((chain.stale_grace_s, chain.difficulty_floor), (5, 1));
    let text = config.to_string();
    assert_eq!(taken(&text), config);
    for key in [
        "rpc",
        "cookie_file",
        "zmq",
        "user",
        "password_file",
        "stale_grace_s",
        "difficulty_floor",
    ] {
        assert!(NODE_EXAMPLE.contains(&format!("\n{key} = ")), "{key} is in the example");
        assert!(text.contains(&format!("{key} = ")), "{key} is in the text");
    }
}

#[test]
fn what_is_not_said_of_difficulties_depends_on_the_chain() {
    let rule = |config: &Config| {
        config
            .steering
            .map(|rule| (rule.shares_per_minute, rule.least.get(), rule.most.get()))
    };
    assert_eq!(rule(&taken(NODE_EXAMPLE)), Some((30, 16_384, 1 << 40)));
    let of = |name| taken(&with_node(name, "", COOKIE));
    assert_eq!(rule(&of("main")), Some((30, 16_384, 1 << 40)));
    for name in ["test", "testnet4", "signet"] {
        assert_eq!(rule(&of(name)), Some((30, 1, 1 << 40)), "{name}");
    }
    assert_eq!((rule(&of("regtest")), of("regtest").min_diff.get()), (None, 1));
    let said = with_node("main", "", COOKIE).replace("[chain]", "min_diff = 8\n[chain]");
    assert_eq!(rule(&taken(&said)), Some((30, 8, 1 << 40)));
}

#[test]
fn a_chain_is_dev_or_has_a_node() {
    for name in ["Dev", ""] {
        refused(
            &format!("[chain]\nname = \"{name}\""),
            "chain.name",
            &["there is no chain", "`main`"],
        );
    }
    for name in ["main", "test", "testnet4", "signet", "regtest"] {
        assert_eq!(node_chain(&taken(&with_node(name, "", COOKIE))).name.as_str(), name);
        assert_eq!(taken(&with_node(name, "", COOKIE)).motd, b"millrace");
        let text = with_node(name, "", COOKIE);
        let without = text.split("[[nodes]]").next().expect("a part");
        refused(without, "nodes", &["needs a node", "[[nodes]]"]);
    }
    refused(
        &format!("[[nodes]]\n{COOKIE}"),
        "nodes",
        &["the dev chain has no node", "Remove"],
    );
    refused("[chain]\nstale_grace_s = 5", "chain.stale_grace_s", &["no node"]);
    refused(
        &with_node("main", "network_difficulty = 5", COOKIE),
        "chain.network_difficulty",
        &["only the dev chain", "Remove"],
    );
    refused(
        &with_node("main", "stale_grace_s = 601", COOKIE),
        "chain.stale_grace_s",
        &["above"],
    );
    refused(
        &with_node("main", "difficulty_floor = 0", COOKIE),
        "chain.difficulty_floor",
        &["below"],
    );
}

#[test]
fn what_a_chain_leaves_over_is_not_for_anybody() {
    let text = with_node("main", "", COOKIE);
    let anybody = text.replace(
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
        "00204ae81572f06e1b88fd5ced7a1a000945432e83e1551e6f721ee9c00b8cc33260",
    );
    refused(&anybody, "pool.script", &["anybody", "of the pool's own"]);
    let foreign = text.replace(
        "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4",
        "tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx",
    );
    refused(&foreign, "pool.script", &["no address of the chain `main`"]);
}

#[test]
fn what_becomes_of_a_gateway_that_shows_nothing_is_said() {
    let rule = |what: &str| with_node("main", &format!("[templates]\nunshown = \"{what}\""), COOKIE);
    assert!(
        node_chain(&taken(&with_node("main", "", COOKIE)))
            .templates
            .refuses_unshown
    );
    assert!(node_chain(&taken(&rule("refuse"))).templates.refuses_unshown);
    assert!(!node_chain(&taken(&rule("alert"))).templates.refuses_unshown);
    refused(&rule("ignore"), "templates.unshown", &["alert", "refuse"]);
}

#[test]
fn a_node_is_reached_in_one_way() {
    let node = |text: &str| with_node("main", "", text);
    let rpc = "rpc = \"127.0.0.1:8332\"";
    let config = taken(&node(&format!(
        "{rpc}\nuser = \"pool\"\npassword_file = \"/etc/pw\"\nzmq = [\"tcp://127.0.0.1:1\"]"
    )));
    let first = &node_chain(&config).nodes[0];
    assert_eq!(first.zmq, ["tcp://127.0.0.1:1"]);
    let login = NodeLogin::Password {
        user: "pool".into(),
        file: "/etc/pw".into(),
    };
    assert_eq!(first.login, login);
    refused(&node(rpc), "nodes.cookie_file", &["one way to log in", "password_file"]);
    refused(
        &node(&format!("{COOKIE}\nuser = \"x\"")),
        "nodes.cookie_file",
        &["one way"],
    );
    refused(
        &node("cookie_file = \"x\"\nrpc = \"localhost\""),
        "nodes.rpc",
        &["127.0.0.1:8332"],
    );
    refused(
        &node(&format!("{COOKIE}\nzmq = [\"127.0.0.1:1\"]")),
        "nodes.zmq",
        &["no endpoint", "tcp://"],
    );
    let many = format!("[[nodes]]\n{COOKIE}\n").repeat(16);
    refused(
        &format!("{}{many}", with_node("main", "", COOKIE)),
        "nodes",
        &["17 nodes", "16"],
    );
    let unknown = parse(&node(&format!("{COOKIE}\ncookiefile = \"x\""))).expect_err("no such key");
    assert!(
        unknown
            .to_string()
            .contains("`cookiefile`, expected one of `rpc`, `cookie_file`"),
        "{unknown}"
    );
}

#[test]
fn only_test_chains_take_a_target_shift() {
    taken("[chain]\ntarget_shift = 32");
    let shifted = |name, shift: u32| with_node(name, &format!("target_shift = {shift}"), COOKIE);
    assert_eq!(node_chain(&taken(&shifted("regtest", 20))).target_shift, 20);
    assert_eq!(node_chain(&taken(&shifted("main", 0))).target_shift, 0);
    refused(&shifted("regtest", 33), "chain.target_shift", &["above"]);
    refused(
        &shifted("main", 32),
        "chain.target_shift",
        &[":5:", "worth real work", "Remove"],
    );
    refused(
        "[chain]\ntarget_shift = 31",
        "chain.target_shift",
        &["32 bits, not 31", "Write 32"],
    );
    refused("[chain]\ntarget_shift = 0", "chain.target_shift", &["Write 32"]);
}

#[test]
fn a_network_difficulty_is_a_number_that_can_be_divided_by() {
    let difficulty = |difficulty: u64| format!("[chain]\nnetwork_difficulty = {difficulty}");
    let of_dev = |network_difficulty| ChainConfig::Dev { network_difficulty };
    assert_eq!(defaults().chain, of_dev(1 << 20));
    for number in [1, 3, 1 << 62] {
        assert_eq!(taken(&difficulty(number)).chain, of_dev(number));
    }
    refused(&difficulty(0), "chain.network_difficulty", &["below the limit of 1"]);
    refused(&difficulty((1 << 62) + 1), "chain.network_difficulty", &["above"]);
}
