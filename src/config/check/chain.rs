//! The chain that gateways build on, and the nodes that know it.

use super::{DIFFICULTY_MAX, Fault, address, refuses, within};
use crate::config::shape::{self, DEV, DEV_NETWORK_DIFFICULTY, DEV_TARGET_SHIFT};
use crate::config::{ChainConfig, NodeChain, NodeChainName, NodeConfig, NodeLogin, TemplateRule};

/// Regtest's targets can lie as far above the real ones as the dev chain's do.
const REGTEST_SHIFT_MAX: u64 = DEV_TARGET_SHIFT as u64;

/// Ten minutes: by then most gateways have the next block as well.
const STALE_GRACE_MAX_S: u64 = 600;

/// What a chain with nodes has where nothing is said: a miner's last shares on the old block are on their way, in s.
const STALE_GRACE_S: u64 = 5;

/// Nodes of a pool: a new tip is asked of each, and each block submitted to each.
const NODES_MAX: usize = 16;

/// ZMQ publishers of one node: it has a few topics.
const ZMQ_MAX: usize = 8;

/// One in a million is as good as none.
const CHECK_ONE_IN_MAX: u64 = 1_000_000;

/// Room for a few blocks of 4 MB.
const TRANSACTION_MIN_BYTES: u64 = 16 << 20;

/// More than any mempool takes.
const TRANSACTION_MAX_BYTES: u64 = 16 << 30;

const SHIFT: &str = "chain.target_shift";

pub(super) fn check(
    chain: &shape::Chain,
    nodes: Vec<shape::Node>,
    templates: Option<shape::Templates>,
) -> Result<ChainConfig, Fault> {
    const NAME: &str = "chain.name";
    if chain.name == DEV {
        return dev_chain(chain, &nodes, templates.is_some());
    }
    let name = NodeChainName::ALL.into_iter().find(|name| name.as_str() == chain.name);
    let name = name.ok_or_else(|| {
        Fault::new(
            NAME,
            format!("there is no chain `{}`", chain.name),
            "Write `dev`, `main`, `test` (which is testnet3), `testnet4`, `signet` or `regtest`",
        )
    })?;
    if chain.network_difficulty.is_some() {
        let wrong = format!("only the dev chain takes it, and `{NAME}` is `{}`", chain.name);
        return Err(Fault::new(
            "chain.network_difficulty",
            wrong,
            "Remove it: the nodes know",
        ));
    }
    let target_shift = match (name, chain.target_shift) {
        (NodeChainName::Regtest, Some(shift)) => within(SHIFT, shift.into(), 0..=REGTEST_SHIFT_MAX)?,
        (_, None | Some(0)) => 0,
        (_, Some(_)) => {
            let wrong = format!("`{NAME}` is `{}`, whose shares are worth real work", chain.name);
            return Err(Fault::new(SHIFT, wrong, "Remove it"));
        }
    };
    if nodes.is_empty() {
        let wrong = format!("a pool on `{}` needs a node", chain.name);
        let remedy = "Add a section `[[nodes]]` with `rpc` and `cookie_file`";
        return Err(Fault::new("nodes", wrong, remedy));
    }
    if nodes.len() > NODES_MAX {
        let wrong = format!("{} nodes are above the limit of {NODES_MAX}", nodes.len());
        return Err(Fault::new("nodes", wrong, "Remove some"));
    }
    Ok(ChainConfig::Node(NodeChain {
        name,
        target_shift,
        stale_grace_s: within(
            "chain.stale_grace_s",
            chain.stale_grace_s.unwrap_or(STALE_GRACE_S),
            0..=STALE_GRACE_MAX_S,
        )?,
        difficulty_floor: within(
            "chain.difficulty_floor",
            chain.difficulty_floor.unwrap_or(1),
            1..=DIFFICULTY_MAX,
        )?,
        nodes: nodes.into_iter().map(node).collect::<Result<_, _>>()?,
        templates: template_rule(&templates.unwrap_or_default())?,
    }))
}

fn dev_chain(chain: &shape::Chain, nodes: &[shape::Node], has_templates: bool) -> Result<ChainConfig, Fault> {
    if let Some(shift) = chain.target_shift.filter(|shift| *shift != DEV_TARGET_SHIFT) {
        let wrong = format!("the dev chain's targets are shifted by {DEV_TARGET_SHIFT} bits, not {shift}");
        return Err(Fault::new(
            SHIFT,
            wrong,
            format!("Write {DEV_TARGET_SHIFT}, or remove the key"),
        ));
    }
    let of_nodes = [
        ("chain.stale_grace_s", chain.stale_grace_s.is_some()),
        ("chain.difficulty_floor", chain.difficulty_floor.is_some()),
        ("nodes", !nodes.is_empty()),
        ("templates", has_templates),
    ];
    if let Some((key, _)) = of_nodes.into_iter().find(|(_, given)| *given) {
        let remedy = "Remove it, or name the chain that the nodes follow";
        return Err(Fault::new(key, "the dev chain has no node", remedy));
    }
    Ok(ChainConfig::Dev {
        network_difficulty: within(
            "chain.network_difficulty",
            chain.network_difficulty.unwrap_or(DEV_NETWORK_DIFFICULTY),
            1..=DIFFICULTY_MAX,
        )?,
    })
}

fn template_rule(templates: &shape::Templates) -> Result<TemplateRule, Fault> {
    Ok(TemplateRule {
        check_one_in: within("templates.check_one_in", templates.check_one_in, 0..=CHECK_ONE_IN_MAX)?,
        refuses_unshown: refuses("templates.unshown", &templates.unshown)?,
        transaction_bytes: within(
            "templates.transaction_bytes",
            templates.transaction_bytes,
            TRANSACTION_MIN_BYTES..=TRANSACTION_MAX_BYTES,
        )?,
    })
}

fn node(node: shape::Node) -> Result<NodeConfig, Fault> {
    let rpc = address("nodes.rpc", &node.rpc, "127.0.0.1:8332").map_err(|fault| Fault {
        remedy: "Write the IP address and the port where the node answers RPC, such as `127.0.0.1:8332`".to_owned(),
        ..fault
    })?;
    let login = match (node.cookie_file, node.user, node.password_file) {
        (Some(cookie), None, None) => NodeLogin::Cookie(cookie),
        (None, Some(user), Some(file)) => NodeLogin::Password { user, file },
        _ => {
            return Err(Fault::new(
                "nodes.cookie_file",
                format!("the node at {rpc} needs one way to log in"),
                "Write either `cookie_file`, or `user` and `password_file`",
            ));
        }
    };
    if node.zmq.len() > ZMQ_MAX {
        let wrong = format!("{} publishers are above the limit of {ZMQ_MAX}", node.zmq.len());
        return Err(Fault::new("nodes.zmq", wrong, "Remove some"));
    }
    if let Some(wrong) = node.zmq.iter().find(|endpoint| !endpoint.starts_with("tcp://")) {
        return Err(Fault::new(
            "nodes.zmq",
            format!("`{wrong}` is no endpoint"),
            "Write what bitcoind's -zmqpubhashblock says, such as `tcp://127.0.0.1:28332`",
        ));
    }
    Ok(NodeConfig {
        rpc,
        login,
        zmq: node.zmq,
    })
}
