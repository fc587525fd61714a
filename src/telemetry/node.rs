//! What is counted of nodes, and of blocks on their way to them. Each number has one writer: the control plane, or the thread that tends
//! blocks.

use super::counter::{Counter, Gauge};
use super::histogram::Histogram;
use super::table::{Labelled, Table};

/// The numbers of one node.
#[derive(Debug, Default)]
pub struct NodeTelemetry {
    /// 1 while it is well.
    pub up: Gauge,
    /// Of its tip.
    pub height: Gauge,
    /// Looks at it that found it not well.
    pub failures: Counter,
    /// 1 while it is well and has the tip that the pool follows.
    pub has_tip: Gauge,
    /// 1 while it is well and has another tip of as much work.
    pub has_rival: Gauge,
    /// 1 where it is the one that is asked about that tip, for transactions and what the next block is like.
    pub in_use: Gauge,
    pub zmq: ZmqTelemetry,
    /// Blocks submitted to it that it took, or had already.
    pub blocks_taken: Counter,
    /// Those of them that it had already, and those that it has beside its best chain.
    pub blocks_duplicate: Counter,
    pub blocks_inconclusive: Counter,
    /// Blocks that it refused.
    pub blocks_refused: Counter,
}

/// The numbers of a node's ZMQ publishers.
#[derive(Debug, Default)]
pub struct ZmqTelemetry {
    /// In the configuration.
    pub publishers: Gauge,
    /// Those of them that are connected.
    pub connected: Gauge,
    /// Messages heard, those that tell of no block too.
    pub messages: Table<ZmqTopic>,
    /// When the last was, by the system's monotonic clock; 0 for never.
    pub heard_ns: Gauge,
}

/// What may be published that tells of blocks; its label is the name that bitcoind has for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ZmqTopic {
    HashBlock,
    RawBlock,
    Sequence,
}

impl Labelled for ZmqTopic {
    const KEYS: &'static [Self] = &[Self::HashBlock, Self::RawBlock, Self::Sequence];

    fn index(self) -> usize {
        self as usize
    }

    fn label(self) -> &'static str {
        match self {
            Self::HashBlock => "hashblock",
            Self::RawBlock => "rawblock",
            Self::Sequence => "sequence",
        }
    }
}

/// The numbers of blocks of ours.
#[derive(Debug)]
pub struct BlockTelemetry {
    /// From the complete frame of the share that found a block to when a node's socket had taken the last byte of it,
    /// in ns, for each node. Not of blocks of a former process.
    pub share_to_submission: Histogram,
    /// Blocks in the chain that no share announced, by whose they are.
    pub unannounced: Table<UnannouncedKind>,
    /// Young blocks of ours that no node has taken, and one may yet.
    pub open: Gauge,
    /// Blocks of ours in the chain that only the operator can book, and has not yet.
    pub unsettled: Gauge,
    /// Blocks of the chain that no node gave: nobody looked whether they are ours.
    pub unread: Counter,
    /// Height up to which the chain was searched for blocks of ours.
    pub searched_height: Gauge,
    /// Of the tip that the pool follows.
    pub tip_height: Gauge,
    /// Blocks of ours that the chain lost when they were mature.
    pub mature_lost: Counter,
    /// New tips for which the chain lost blocks, and the most that it lost for one since the pool began.
    pub reorganisations: Counter,
    pub reorganised_most: Gauge,
    /// What has failed, and the pool goes on without.
    pub tasks_failed: Table<ChainTask>,
}

/// What the pool does about the chain, and goes on without where it has failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ChainTask {
    /// Tends one block of ours.
    Block,
    /// Looks for blocks of ours that no share announced.
    Search,
    /// Keeps what is known close to a node's mempool.
    Mempool,
    /// Holds templates against the nodes.
    Templates,
}

impl ChainTask {
    const ALL: [Self; 4] = [Self::Block, Self::Search, Self::Mempool, Self::Templates];
}

impl Labelled for ChainTask {
    const KEYS: &'static [Self] = &Self::ALL;

    fn index(self) -> usize {
        self as usize
    }

    fn label(self) -> &'static str {
        match self {
            Self::Block => "block",
            Self::Search => "search",
            Self::Mempool => "mempool",
            Self::Templates => "templates",
        }
    }
}

/// Whose a block in the chain is that no share announced.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UnannouncedKind {
    /// It pays the pool, or a split that was dictated.
    Ours,
    /// It has the pool's tag and pays neither: anybody can write a tag.
    TagAlone,
}

impl UnannouncedKind {
    const ALL: [Self; 2] = [Self::Ours, Self::TagAlone];
}

impl Labelled for UnannouncedKind {
    const KEYS: &'static [Self] = &Self::ALL;

    fn index(self) -> usize {
        self as usize
    }

    fn label(self) -> &'static str {
        match self {
            Self::Ours => "ours",
            Self::TagAlone => "tag_alone",
        }
    }
}

impl Default for BlockTelemetry {
    fn default() -> Self {
        Self {
            share_to_submission: Histogram::of_times(),
            unannounced: Table::default(),
            open: Gauge::default(),
            unsettled: Gauge::default(),
            unread: Counter::default(),
            searched_height: Gauge::default(),
            tip_height: Gauge::default(),
            mature_lost: Counter::default(),
            reorganisations: Counter::default(),
            reorganised_most: Gauge::default(),
            tasks_failed: Table::default(),
        }
    }
}

/// What comes of holding a template against a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TemplateOutcome {
    Valid,
    /// No block can come of it.
    Invalid,
    /// One node says so, and another would take the block.
    Disputed,
    /// What the gateway shows is not what its work commits to.
    Mismatch,
    /// The gateway answers with another error, `F0` to `F4`.
    Refused,
    /// More transactions than the gateway can name (`F2`).
    TooLarge,
    /// The gateway answers something else than it was asked.
    Contradictory,
    /// The gateway does not answer in time.
    Late,
    /// The gateway had other questions to answer all the while, or the pool other templates to check.
    Busy,
    SessionEnded,
    /// The node's last word says nothing of the template: it has another tip by now, say.
    Undecided,
    /// No node could be asked.
    NoNode,
}

impl TemplateOutcome {
    const ALL: [Self; 12] = [
        Self::Valid,
        Self::Invalid,
        Self::Disputed,
        Self::Mismatch,
        Self::Refused,
        Self::TooLarge,
        Self::Contradictory,
        Self::Late,
        Self::Busy,
        Self::SessionEnded,
        Self::Undecided,
        Self::NoNode,
    ];
}

impl Labelled for TemplateOutcome {
    const KEYS: &'static [Self] = &Self::ALL;

    fn index(self) -> usize {
        self as usize
    }

    fn label(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Invalid => "invalid",
            Self::Disputed => "disputed",
            Self::Mismatch => "mismatch",
            Self::Refused => "refused",
            Self::TooLarge => "too_large",
            Self::Contradictory => "contradictory",
            Self::Late => "late",
            Self::Busy => "busy",
            Self::SessionEnded => "session_ended",
            Self::Undecided => "undecided",
            Self::NoNode => "no_node",
        }
    }
}

/// The numbers of templates that are held against a node.
#[derive(Debug)]
pub struct TemplateTelemetry {
    pub outcomes: Table<TemplateOutcome>,
    /// Gateways whose short ids were not those of their transactions.
    pub wrong_ids: Counter,
    /// Transactions asked of gateways, beyond those that were known.
    pub asked: Counter,
    /// When the node's own was last had, or the pool began to ask for it, by the system's monotonic clock; 0 before.
    pub own_ns: Gauge,
    /// Transactions known, and what they take in bytes.
    pub known: Gauge,
    pub known_bytes: Gauge,
    /// A template's short ids looked up among all transactions known, in ns.
    pub matching: Histogram,
    /// From the claim to the verdict, in ns.
    pub check: Histogram,
}

impl Default for TemplateTelemetry {
    fn default() -> Self {
        Self {
            outcomes: Table::default(),
            wrong_ids: Counter::default(),
            asked: Counter::default(),
            own_ns: Gauge::default(),
            known: Gauge::default(),
            known_bytes: Gauge::default(),
            matching: Histogram::of_times(),
            check: Histogram::of_times(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::table::tests::check_keys;

    #[test]
    fn outcomes_are_dense_and_labels_differ() {
        check_keys::<TemplateOutcome>();
        check_keys::<UnannouncedKind>();
        check_keys::<ChainTask>();
        check_keys::<ZmqTopic>();
    }
}
