//! A block whose gateway has gone is made of what is known, however late that became so.

use std::sync::atomic::{AtomicUsize, Ordering};

use super::*;
use crate::wire::{Reason, coinbase_transaction};
use crate::work::Booking;
use crate::work::known::tests::{header_over, transaction};

/// A candidate on these.
fn candidate(body: &TemplateBody) -> Candidate {
    let coinbase = coinbase_transaction(&[], &[(0, &[0x51])]);
    Candidate {
        hash: [1; 32],
        header: header_over(&coinbase, body.branches()),
        coinbase,
        branches: body.branches().to_vec(),
        height: 1,
        value: 0,
        tx_count: u32::try_from(body.transactions().len()).expect("few"),
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

fn learn(library: &Library, body: &Arc<TemplateBody>) {
    let mut known = library.known();
    let transactions = body.transactions().iter();
    transactions.for_each(|transaction| known.learn(transaction.clone()));
    known.learn_template(body.clone());
}

#[tokio::test]
async fn what_became_known_since_the_last_offer_is_used_where_the_gateway_has_gone() {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let library = Library::new(
        1 << 20,
        Arc::new(move |_, _, _| {
            count.fetch_add(1, Ordering::Relaxed);
            Box::pin(async { Heard::Outcome(ValidateOutcome::SessionEnded) })
        }),
    );
    let body = Arc::new(TemplateBody::new(
        (0..3).map(|value| transaction(value, false)).collect(),
    ));
    let candidate = candidate(&body);
    let block = library.block(&candidate, [1; 32]).await;
    assert!(block.is_err_and(|why| why.contains("SessionEnded")));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    // A check of its template, or of another gateway's, has ended meanwhile.
    learn(&library, &body);
    let block = library.block(&candidate, [1; 32]).await.expect("all is known");
    assert_eq!(block, candidate.block(body).expect("it fits together"));
    assert_eq!(asked.load(Ordering::Relaxed), 1, "nobody is asked for it");
}
