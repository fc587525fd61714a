//! A block whose gateway has gone is made of what is known, however late that became so.

use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::time::timeout;

use super::*;
use crate::node::fixtures::{candidate_of, showing};
use crate::work::known::tests::transaction;

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
        Arc::new(move |_, _, _, _| {
            count.fetch_add(1, Ordering::Relaxed);
            Box::pin(async { Heard::Outcome(ValidateOutcome::SessionEnded) })
        }),
        Handle::current(),
    );
    let body = Arc::new(TemplateBody::new(
        (0..3).map(|value| transaction(value, false)).collect(),
    ));
    let candidate = candidate_of(&body);
    let block = library.block(&candidate, [1; 32], None).await;
    assert!(block.is_err_and(|why| why.contains("SessionEnded")));
    assert_eq!(asked.load(Ordering::Relaxed), 1);
    // A check of its template, or of another gateway's, has ended meanwhile.
    learn(&library, &body);
    let block = library.block(&candidate, [1; 32], None).await.expect("all is known");
    assert_eq!(block, candidate.block(body).expect("it fits together"));
    assert_eq!(asked.load(Ordering::Relaxed), 1, "nobody is asked for it");
}

/// A gateway that answers the questions of a test in turn, and how many it had.
fn answering(answers: Vec<ValidateOutcome>) -> (Library, Arc<AtomicUsize>) {
    let asked = Arc::new(AtomicUsize::new(0));
    let count = asked.clone();
    let ask: AskGateway = Arc::new(move |_, _, ask, purpose| {
        assert_eq!((ask, purpose), (Ask::All, Purpose::Block));
        let answer = answers[count.fetch_add(1, Ordering::Relaxed)].clone();
        Box::pin(async {
            tokio::task::yield_now().await;
            Heard::Outcome(answer)
        })
    });
    (Library::new(1 << 20, ask, Handle::current()), asked)
}

#[tokio::test]
async fn what_a_gateway_shows_is_kept_and_what_it_does_not_is_asked_for_again() {
    let body = TemplateBody::new((0..3).map(|value| transaction(value, false)).collect());
    let other = TemplateBody::new((3..6).map(|value| transaction(value, false)).collect());
    let candidate = candidate_of(&body);
    let ids = ValidateOutcome::Answered(Answer::ShortIds {
        ids: Vec::new(),
        cross_check: None,
    });
    let nothing = ValidateOutcome::Answered(Answer::Transactions(vec![1, 0, 0, 0xaa]));
    let answers = vec![ValidateOutcome::Late, ids, nothing, showing(&other), showing(&body)];
    let (library, asked) = answering(answers);
    let gateway = [1; 32];
    for (times, why) in (1..).zip(["Late", "Contradictory", "Contradictory", "header commits"]) {
        let block = library.block(&candidate, gateway, None).await;
        assert!(block.as_ref().is_err_and(|said| said.contains(why)), "{block:?}");
        assert_eq!(asked.load(Ordering::Relaxed), times);
    }
    // Two at the same time, and one later.
    let first = library.show(gateway, 0, &candidate.branches);
    let second = library.show(gateway, 4, &candidate.branches);
    for showing in [first, second] {
        assert!(matches!(showing.wait().await, Shown::All(shown) if *shown == body));
    }
    let block = library.block(&candidate, gateway, None).await.expect("all is shown");
    assert_eq!(block, candidate.block(Arc::new(body)).expect("it fits together"));
    assert_eq!(asked.load(Ordering::Relaxed), 5);
    // Another gateway's answer is another.
    assert!(library.shown([2; 32], &candidate.branches).is_none());
    library.forget_shown(gateway, &candidate.branches);
    assert!(library.shown(gateway, &candidate.branches).is_none());
}

#[tokio::test]
async fn what_becomes_known_while_a_gateway_is_asked_ends_the_question() {
    let (busy, silent): (AskGateway, AskGateway) = (
        Arc::new(|_, _, _, _| Box::pin(async { Heard::Outcome(ValidateOutcome::Busy) })),
        Arc::new(|_, _, _, _| Box::pin(std::future::pending())),
    );
    for ask in [busy, silent] {
        let library = Library::new(1 << 20, ask, Handle::current());
        let body = Arc::new(TemplateBody::new(
            (0..3).map(|value| transaction(value, false)).collect(),
        ));
        let showing = library.show([1; 32], 0, body.branches());
        tokio::task::yield_now().await;
        learn(&library, &body);
        let shown = timeout(2 * BLOCK_PATIENCE, showing.wait()).await;
        assert!(matches!(shown, Ok(Shown::All(shown)) if shown == body));
    }
}
