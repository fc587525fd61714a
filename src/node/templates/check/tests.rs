//! Every way that a gateway can answer.

use super::*;
use crate::wire::coinbase_transaction;
use crate::work::known::tests::transaction;
use crate::work::{TemplateClaim, merkle_branches};

const KEY: [u8; 16] = [9; 16];

/// A check of a template of these, whose coinbase and header are of no matter up to the node's word.
fn check(transactions: &[Arc<TemplateTransaction>]) -> Check {
    Check::new(GatewayClaim {
        gateway: [1; 32],
        short_id_key: KEY,
        claim: TemplateClaim {
            slot: 3,
            is_candidate: false,
            number: 7,
            tx_count: u32::try_from(transactions.len()).expect("few"),
            branches: merkle_branches(transactions.iter().map(|transaction| transaction.txid).collect()),
            header: [0; 80],
            coinbase: coinbase_transaction(&[], &[(0, &[0x51])]),
        },
        is_odd: true,
        has_unshown: false,
    })
}

/// Without witnesses, so that no commitment is needed.
fn some(count: u64) -> Vec<Arc<TemplateTransaction>> {
    (0..count).map(|value| transaction(value, false)).collect()
}

fn knowing(transactions: &[Arc<TemplateTransaction>]) -> Mutex<KnownTransactions> {
    let mut known = KnownTransactions::new(1 << 20);
    transactions
        .iter()
        .for_each(|transaction| known.learn(transaction.clone()));
    Mutex::new(known)
}

fn ids(transactions: &[Arc<TemplateTransaction>]) -> ValidateOutcome {
    let mut cross_check = CROSS_CHECK_START;
    let ids = transactions
        .iter()
        .map(|transaction| {
            cross_check.iter_mut().zip(transaction.wtxid).for_each(|(a, b)| *a ^= b);
            let id = short_id(&KEY, &transaction.wtxid).to_le_bytes();
            std::array::from_fn(|at| id[at])
        })
        .collect();
    ValidateOutcome::Answered(Answer::ShortIds {
        ids,
        cross_check: Some(cross_check),
    })
}

fn shown(transactions: &[Arc<TemplateTransaction>]) -> ValidateOutcome {
    let mut encoded = Vec::new();
    for transaction in transactions {
        Transactions::push(&transaction.raw, &mut encoded);
    }
    ValidateOutcome::Answered(Answer::Transactions(encoded))
}

#[track_caller]
fn asks(step: &Step, ask: &Ask) {
    assert!(matches!(step, Step::Ask(asked) if asked == ask), "{step:?}");
}

#[track_caller]
fn proposes(step: &Step, transactions: &[Arc<TemplateTransaction>]) {
    assert!(
        matches!(step, Step::Propose(proposed) if proposed.transactions() == transactions),
        "{step:?}"
    );
}

#[track_caller]
fn ends(step: &Step, outcome: TemplateOutcome) {
    assert!(
        matches!(step, Step::Done(verdict) if verdict.outcome == outcome && !verdict.why.is_empty()),
        "{step:?}"
    );
}

#[test]
fn a_template_without_transactions_needs_no_question() {
    proposes(&check(&[]).begin(None), &[]);
}

#[test]
fn what_is_known_is_not_asked_for() {
    let transactions = some(8);
    let known = knowing(&transactions);
    let mut check = check(&transactions);
    asks(&check.begin(None), &Ask::ShortIds);
    proposes(&check.hear(ids(&transactions), &known), &transactions);
}

#[test]
fn a_few_that_are_missing_are_asked_for_by_index() {
    let transactions = some(8);
    let known = knowing(&transactions[2..7]);
    let mut check = check(&transactions);
    asks(&check.begin(None), &Ask::ShortIds);
    let step = check.hear(ids(&transactions), &known);
    asks(&step, &Ask::ByIndex(vec![0, 1, 7]));
    let missing = [0, 1, 7].map(|at: usize| transactions[at].clone());
    proposes(&check.hear(shown(&missing), &known), &transactions);
    assert!(!check.had_wrong_ids());
}

#[test]
fn other_transactions_than_the_ids_named_lead_to_all_of_them() {
    let transactions = some(8);
    let known = knowing(&transactions[2..]);
    let mut check = check(&transactions);
    check.begin(None);
    check.hear(ids(&transactions), &known);
    let others = [transaction(100, false), transactions[1].clone()];
    asks(&check.hear(shown(&others), &known), &Ask::All);
    assert!(check.had_wrong_ids());
    proposes(&check.hear(shown(&transactions), &known), &transactions);
}

#[test]
fn most_missing_a_wrong_count_and_a_failed_cross_check_lead_to_all_of_them() {
    let transactions = some(8);
    let wrong_sum = match ids(&transactions) {
        ValidateOutcome::Answered(Answer::ShortIds { ids, .. }) => ValidateOutcome::Answered(Answer::ShortIds {
            ids,
            cross_check: Some([0; 32]),
        }),
        _ => unreachable!(),
    };
    for (known, said, wrong) in [
        (&transactions[..3], ids(&transactions), false),
        (&transactions[..], ids(&transactions[..7]), false),
        (&transactions[..], wrong_sum, true),
    ] {
        let (known, mut check) = (knowing(known), check(&transactions));
        check.begin(None);
        asks(&check.hear(said, &known), &Ask::All);
        assert_eq!(check.had_wrong_ids(), wrong);
        proposes(&check.hear(shown(&transactions), &known), &transactions);
    }
}

#[test]
fn a_slot_that_was_used_again_is_a_mismatch() {
    let (transactions, others) = (some(8), some(9)[1..].to_vec());
    let known = knowing(&others);
    let mut check = check(&transactions);
    check.begin(None);
    // Ids and transactions agree with each other, and not with the branches.
    asks(&check.hear(ids(&others), &known), &Ask::All);
    assert!(!check.had_wrong_ids());
    ends(&check.hear(shown(&others), &known), TemplateOutcome::Mismatch);
}

#[test]
fn two_transactions_of_one_id_are_both_asked_for() {
    let mut transactions = some(8);
    // The same one twice stands for two that share an id.
    transactions[5] = transactions[2].clone();
    let known = knowing(&transactions);
    let mut check = check(&transactions);
    check.begin(None);
    asks(&check.hear(ids(&transactions), &known), &Ask::ByIndex(vec![2, 5]));
}

#[test]
fn what_is_no_answer_has_an_outcome_of_its_own() {
    let transactions = some(4);
    for (heard, outcome) in [
        (ValidateOutcome::Late, TemplateOutcome::Late),
        (ValidateOutcome::Busy, TemplateOutcome::Busy),
        (ValidateOutcome::NoRoom, TemplateOutcome::Busy),
        (ValidateOutcome::SessionEnded, TemplateOutcome::SessionEnded),
        (ValidateOutcome::NoSession, TemplateOutcome::SessionEnded),
        (ValidateOutcome::Contradictory, TemplateOutcome::Contradictory),
        (ValidateOutcome::Refused { error: 0xf0 }, TemplateOutcome::Refused),
        (ValidateOutcome::Refused { error: 0xf1 }, TemplateOutcome::Refused),
        (ValidateOutcome::Refused { error: 0xf2 }, TemplateOutcome::Refused),
        (ValidateOutcome::Refused { error: 0xf4 }, TemplateOutcome::Refused),
        (
            ValidateOutcome::Answered(Answer::Transactions(vec![1, 0, 0, 0xff])),
            TemplateOutcome::Contradictory,
        ),
    ] {
        let mut check = check(&transactions);
        check.begin(None);
        ends(&check.hear(heard, &knowing(&[])), outcome);
    }
}

#[test]
fn a_template_that_a_block_is_of_is_asked_for_as_a_whole_unless_it_is_known() {
    let transactions = some(8);
    let body = Arc::new(TemplateBody::new(transactions.clone()));
    let of_block = || {
        let mut check = check(&transactions);
        check.claim.claim.is_candidate = true;
        check
    };
    proposes(&of_block().begin(Some(body.clone())), &transactions);
    asks(&of_block().begin(None), &Ask::All);
    // Another that has the same branches would have other witnesses.
    let other = Arc::new(TemplateBody::new(some(7)));
    asks(&of_block().begin(Some(other.clone())), &Ask::All);

    let mut check = of_block();
    check.begin(None);
    proposes(&check.hear_shown(Shown::All(body)), &transactions);
    ends(&of_block().hear_shown(Shown::All(other)), TemplateOutcome::Mismatch);
    let late = Shown::Not(ValidateOutcome::Late);
    ends(&of_block().hear_shown(late), TemplateOutcome::Late);
}
