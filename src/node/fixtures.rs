//! What tests of several parts of the node's side stand on.

use std::sync::Arc;

use super::follow::NewTip;
use crate::wire::{Reason, Transactions, coinbase_transaction};
use crate::work::known::tests::header_over;
use crate::work::{Answer, Booking, Candidate, Chain, TemplateBody, ValidateOutcome};

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

/// The same of these transactions.
pub fn candidate_of(body: &TemplateBody) -> Candidate {
    let coinbase = coinbase_transaction(&[], &[(0, &[0x51])]);
    let header = header_over(&coinbase, body.branches());
    let tx_count = u32::try_from(body.transactions().len()).expect("few");
    candidate(header, coinbase, body.branches().to_vec(), tx_count)
}

/// What a gateway answers that shows these.
pub fn showing(body: &TemplateBody) -> ValidateOutcome {
    let mut encoded = Vec::new();
    let transactions = body.transactions().iter();
    transactions.for_each(|transaction| Transactions::push(&transaction.raw, &mut encoded));
    ValidateOutcome::Answered(Answer::Transactions(encoded))
}
