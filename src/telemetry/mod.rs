//! What the pool counts and measures of itself.
//!
//! Each number belongs to the one thread that writes it: a shard's to its executor, the ledger's to its writer. Writing
//! is a plain relaxed load and store, with no lock, no allocation and no instruction that locks the bus; any other
//! thread may read at any time, and merges what belongs together then. Nothing is ever reset, so what is read is since
//! the process started.
//!
//! A reader may see one number of a pair before the other. Each by itself only grows, or is the last one set.

mod bound;
mod counter;
mod end;
mod histogram;
mod ledger;
mod memory;
mod node;
mod shard;
mod table;

use std::net::SocketAddr;
use std::sync::Arc;

pub use self::bound::Bound;
pub use self::counter::{Counter, Gauge};
pub use self::end::EndReason;
pub use self::histogram::{Histogram, Snapshot};
pub use self::ledger::LedgerTelemetry;
pub use self::memory::MemoryTelemetry;
pub use self::node::{
    BlockTelemetry, ChainTask, NodeTelemetry, TemplateOutcome, TemplateTelemetry, UnannouncedKind, ZmqTelemetry,
    ZmqTopic,
};
pub use self::shard::{POTS, ShardTelemetry};
pub use self::table::{Labelled, Table};

/// The numbers of all shards and of the ledger, for who reads them.
#[derive(Debug, Clone)]
pub struct Telemetry {
    /// By the shard's index.
    pub shards: Vec<Arc<ShardTelemetry>>,
    pub ledger: Arc<LedgerTelemetry>,
    /// With where each answers; none on the dev chain.
    pub nodes: Vec<(SocketAddr, Arc<NodeTelemetry>)>,
    pub blocks: Arc<BlockTelemetry>,
    pub templates: Arc<TemplateTelemetry>,
    pub memory: Arc<MemoryTelemetry>,
}

impl Telemetry {
    /// All zero.
    #[must_use]
    pub fn new(shards: usize) -> Self {
        Self {
            shards: (0..shards).map(|_| Arc::default()).collect(),
            ledger: Arc::default(),
            nodes: Vec::new(),
            blocks: Arc::default(),
            templates: Arc::default(),
            memory: Arc::default(),
        }
    }

    /// One number, added up over the shards.
    #[must_use]
    pub fn total(&self, of: impl Fn(&ShardTelemetry) -> u64) -> u64 {
        self.shards.iter().map(|shard| of(shard)).fold(0, u64::saturating_add)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn totals_are_of_all_shards() {
        let telemetry = Telemetry::new(3);
        for (shard, pings) in telemetry.shards.iter().zip([1, 20, 300]) {
            shard.pings.add(pings);
            shard.ends[EndReason::Silent].add(pings);
        }
        assert_eq!(telemetry.total(|shard| shard.pings.value()), 321);
        assert_eq!(telemetry.total(|shard| shard.ends.total()), 321);
        assert_eq!(telemetry.total(|shard| shard.writes.value()), 0);
    }
}
