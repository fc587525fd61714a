//! What the pool promises, kept by the real binary: one file a promise.
//!
//! All of them are one test binary, because linking the engine takes longer than running most of them.

mod pool;

mod bad_coinbase;
mod bad_input;
mod bad_work;
mod books;
mod clock_jumps;
mod coinbase_classes;
mod config;
mod control_socket;
mod durability;
mod early_frames;
mod follows_nodes;
mod growth;
mod guards;
mod held_requests;
mod keys;
mod ledger_commands;
mod limits;
mod live_fuzz;
mod log_of_bans;
mod metrics;
mod node_failover;
mod policy;
mod proof;
mod recorded;
mod reorganisations;
mod restart;
mod resume;
mod rivals;
mod room;
mod serves;
mod shards;
mod slow_reader;
mod split_use;
mod splits_without_end;
mod steering;
mod templates;
mod unannounced;
mod unknown_parent;
mod unproved;
