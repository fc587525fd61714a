//! From a candidate to the block that goes to the network.
//!
//! This is where the pool's own assembly belongs once it is part of the library that is compiled without the engine:
//! [`assemble`] is then a call of it, and every test here holds it to Bitcoin Core. Until then it is done here, in the
//! plainest way.

use bitcoin::consensus::deserialize;
use bitcoin::{Block, Transaction};
use millrace::work::Candidate;

/// The block of a candidate. Its coinbase has no witness: `submitblock` adds the usual one.
pub fn assemble(candidate: &Candidate, transactions: Vec<Transaction>) -> Block {
    let header = deserialize(&candidate.header).expect("80 bytes");
    let coinbase = deserialize(&candidate.coinbase).expect("a coinbase that was judged is a transaction");
    // Subsidy-only work has none, whatever its template had.
    let is_subsidy_only = candidate.flags & millrace::wire::Flags::SUBSIDY_ONLY != 0;
    let others = if is_subsidy_only { Vec::new() } else { transactions };
    Block {
        header,
        txdata: std::iter::once(coinbase).chain(others).collect(),
    }
}
