//! Bitcoin Core's consensus code as a regtest node for tests.
//!
//! [`Regtest`] is the node: an engine that judges every block, the chain it chose, its coins and a mempool. [`serve`]
//! puts JSON-RPC and ZMQ before it. Arrows point down: `serve` -> `rpc`, `zmq` -> `node` -> `engine`.

mod engine;
mod node;
mod rpc;
mod serve;
mod wallet;
mod zmq;

pub use self::engine::{Engine, EngineError, Found, Judged, Verdict};
pub use self::node::{Event, NodeError, Regtest};
pub use self::serve::{Serve, ServeError, serve};
pub use self::wallet::{Coin, Kind, PADDING_MAX, Wallet};

/// Blocks after which a coinbase may be spent, by consensus.
pub const MATURITY: u32 = 100;

/// Weight of a block, by consensus.
pub const BLOCK_WEIGHT_MAX: u64 = 4_000_000;

/// Signature operations of a block in their weighted count, by consensus.
pub const BLOCK_SIGOPS_MAX: u64 = 80_000;

/// Target of every regtest block, in its compact form.
pub const NBITS: u32 = 0x207f_ffff;

/// Satoshi that the block at `height` creates on regtest.
#[must_use]
pub fn subsidy(height: u32) -> u64 {
    const HALVING_BLOCKS: u32 = 150;
    5_000_000_000_u64.checked_shr(height / HALVING_BLOCKS).unwrap_or(0)
}
