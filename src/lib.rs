//! millrace: a DATUM pool engine.
//!
//! Arrows point down only: `control`, `shard`, `node` -> `ledger` -> `work` -> `wire`. Without the feature `engine` the
//! library is `wire`, `work` and `guard` alone: no runtime, no database, no clock and no socket.

pub mod guard;
pub mod wire;
pub mod work;

#[cfg(feature = "engine")]
pub mod config;
#[cfg(feature = "engine")]
pub mod control;
#[cfg(feature = "engine")]
pub mod identity;
#[cfg(feature = "engine")]
pub mod ledger;
#[cfg(feature = "engine")]
pub mod node;
#[cfg(feature = "engine")]
pub mod shard;
#[cfg(feature = "engine")]
pub mod telemetry;
