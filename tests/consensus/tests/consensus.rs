//! millrace's blocks before Bitcoin Core's consensus code, and the node that stands before it.
//!
//! All tests speak RPC alone, so they hold for `regtest-node` and, with `MILLRACE_BITCOIND=PATH`, for a real bitcoind.
//! Those that need what bitcoind does not have say so and end.

mod chain;
mod generator;
mod millrace;
mod node;
mod spender;
mod work;

mod assembly;
mod bad_gateways;
mod calls;
mod classes;
mod mempool;
mod misbehaviour;
mod mutants;
mod pool_chain;
mod published;
mod reorganisation;
