//! How the pool is, in one answer of `control.sock`.

use std::net::SocketAddr;
use std::sync::Arc;

use serde::Serialize;

use super::pool::Pool;
use crate::ledger::{HealthState, monotonic_ns};
use crate::telemetry::NodeTelemetry;

#[derive(Debug, Serialize)]
pub(super) struct Status {
    version: &'static str,
    uptime_s: u64,
    /// `good`, `disk_low` or `failed`.
    health: &'static str,
    shards: usize,
    sessions: u64,
    gateways: u64,
    shares_accepted: u64,
    shares_refused: u64,
    candidates: u64,
    /// Sequence that the next share gets.
    sequence: u64,
    payees: u64,
    workers: u64,
    queue_age_ns: u64,
    disk_free_bytes: u64,
    /// None on the dev chain.
    #[serde(skip_serializing_if = "Option::is_none")]
    tip: Option<Tip>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    nodes: Vec<Node>,
}

/// The tip that is followed.
#[derive(Debug, Serialize)]
struct Tip {
    height: u64,
    /// Whether a node that is well has it. Else it stands for a while, whatever those say that lag.
    confirmed: bool,
}

#[derive(Debug, Serialize)]
struct Node {
    rpc: SocketAddr,
    up: bool,
    /// Of its own tip when it was last well.
    height: u64,
    has_tip: bool,
    /// Whether it has another tip of as much work.
    has_rival: bool,
    /// Whether it is the one that is asked about the tip.
    in_use: bool,
    /// None where it has no publisher, and is polled alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    zmq: Option<Zmq>,
}

#[derive(Debug, Serialize)]
struct Zmq {
    publishers: u64,
    connected: u64,
    messages: u64,
    /// Since the last message; none where there was none.
    heard_s_ago: Option<u64>,
}

impl Status {
    pub fn of(pool: &Pool) -> Self {
        let telemetry = &pool.telemetry;
        let ledger = &telemetry.ledger;
        let nodes: Vec<_> = telemetry.nodes.iter().map(Node::of).collect();
        Self {
            version: env!("CARGO_PKG_VERSION"),
            uptime_s: pool.uptime().as_secs(),
            health: match pool.health() {
                HealthState::Good => "good",
                HealthState::DiskLow { .. } => "disk_low",
                HealthState::Failed(_) => "failed",
            },
            shards: telemetry.shards.len(),
            sessions: telemetry.total(|shard| shard.sessions.value()),
            gateways: telemetry.total(|shard| shard.gateways.value()),
            shares_accepted: telemetry.total(|shard| shard.shares_accepted.value()),
            shares_refused: telemetry.total(|shard| shard.shares_refused.total()),
            candidates: telemetry.total(|shard| shard.candidates.value()),
            sequence: ledger.sequence.value(),
            payees: ledger.payees.value(),
            workers: ledger.workers.value(),
            queue_age_ns: ledger.queue_age_ns(monotonic_ns()),
            disk_free_bytes: ledger.disk_free_bytes.value(),
            tip: (!nodes.is_empty()).then(|| Tip {
                height: telemetry.blocks.tip_height.value(),
                confirmed: nodes.iter().any(|node| node.has_tip),
            }),
            nodes,
        }
    }
}

impl Node {
    fn of((rpc, node): &(SocketAddr, Arc<NodeTelemetry>)) -> Self {
        let zmq = &node.zmq;
        Self {
            rpc: *rpc,
            up: node.up.value() == 1,
            height: node.height.value(),
            has_tip: node.has_tip.value() == 1,
            has_rival: node.has_rival.value() == 1,
            in_use: node.in_use.value() == 1,
            zmq: (zmq.publishers.value() > 0).then(|| Zmq {
                publishers: zmq.publishers.value(),
                connected: zmq.connected.value(),
                messages: zmq.messages.total(),
                heard_s_ago: match zmq.heard_ns.value() {
                    0 => None,
                    heard_ns => Some(monotonic_ns().saturating_sub(heard_ns) / 1_000_000_000),
                },
            }),
        }
    }
}
