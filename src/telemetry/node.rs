//! What is counted of nodes, and of blocks on their way to them. Only the control plane writes it.

use super::counter::{Counter, Gauge};
use super::histogram::Histogram;

/// The numbers of one node.
#[derive(Debug, Default)]
pub struct NodeTelemetry {
    /// 1 while it is well.
    pub up: Gauge,
    /// Of its tip.
    pub height: Gauge,
    /// Looks at it that found it not well.
    pub failures: Counter,
    /// Blocks submitted to it that it took, or had already.
    pub blocks_taken: Counter,
    /// Blocks that it refused.
    pub blocks_refused: Counter,
}

/// The numbers of blocks of ours.
#[derive(Debug)]
pub struct BlockTelemetry {
    /// From the verdict on the share that found a block to when that was submitted, in ns; to the millisecond.
    pub share_to_submission: Histogram,
}

impl Default for BlockTelemetry {
    fn default() -> Self {
        Self {
            share_to_submission: Histogram::of_times(),
        }
    }
}
