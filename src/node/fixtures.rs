//! What tests of several parts of the node's side stand on.

use std::sync::Arc;

use super::follow::NewTip;
use crate::wire::Reason;
use crate::work::{Booking, Candidate, Chain};

/// The first block of the dev chain, with the first node.
pub fn tip() -> NewTip {
    NewTip {
        chain: Arc::new(Chain::dev(1)),
        is_new_block: true,
        difficulty: 1,
        lost: Some(0),
        height: 1,
        node: 0,
        heard_ns: 0,
    }
}

/// A block of so many transactions in slot 0, to be booked by hand.
pub fn candidate(header: [u8; 80], coinbase: Vec<u8>, branches: Vec<[u8; 32]>, tx_count: u32) -> Candidate {
    Candidate {
        hash: [1; 32],
        header,
        coinbase,
        branches,
        height: 1,
        value: 0,
        tx_count,
        job_id: 0,
        coinbase_id: 0,
        flags: 0,
        target_pot: 0,
        verdict: Err(Reason::Other),
        username: Vec::new(),
        booking: Booking::ByHand { told: None },
        dictated: None,
    }
}
