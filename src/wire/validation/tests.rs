use super::*;
use crate::wire::laws::{encoded, gateway_error, gateway_is_heard, hear_from_gateway, pool_error, pool_is_heard};
use crate::wire::{FromGateway, FromPool};
use proptest::collection::vec;
use proptest::prelude::*;

proptest! {
    #[test]
    fn a_question_is_heard(job: u8, numbers in vec(any::<u16>(), 0..300)) {
        pool_is_heard(&FromPool::Ask(ValidationAsk::ShortIds { job }));
        pool_is_heard(&FromPool::Ask(ValidationAsk::All { job }));
        let indexes = Indexes::Numbers(&numbers);
        prop_assert_eq!(indexes.iter().collect::<Vec<_>>(), numbers.clone());
        pool_is_heard(&FromPool::Ask(ValidationAsk::ByIndex { job, indexes }));
    }

    #[test]
    fn short_ids_are_heard(
        job: u8,
        ids in vec(any::<[u8; 6]>(), 0..100),
        check: [u8; 32],
        padding in vec(any::<u8>(), 0..=100),
    ) {
        gateway_is_heard(&FromGateway::Validation(ValidationAnswer::ShortIds {
            job,
            ids: &ids,
            cross_check: (!ids.is_empty()).then_some(&check),
            padding: &padding,
        }));
    }

    #[test]
    fn transactions_are_heard(
        job: u8,
        raws in vec(vec(any::<u8>(), 0..60), 0..40),
        padding in vec(any::<u8>(), 0..=111),
    ) {
        let mut encoded = Vec::new();
        raws.iter().for_each(|raw| Transactions::push(raw, &mut encoded));
        let transactions = Transactions::new(&encoded).expect("a whole list");
        prop_assert_eq!(transactions.len(), raws.len());
        prop_assert_eq!(transactions.is_empty(), raws.is_empty());
        prop_assert_eq!(transactions.iter().map(<[u8]>::to_vec).collect::<Vec<_>>(), raws);
        gateway_is_heard(&FromGateway::Validation(ValidationAnswer::All { job, transactions }));
        gateway_is_heard(&FromGateway::Validation(ValidationAnswer::ByIndex { job, transactions, padding: &padding }));
    }

    #[test]
    fn a_refusal_is_heard(job: u8, kind in 0x90..=0x92_u8, error in 0..5_usize, padding in vec(any::<u8>(), 0..=100)) {
        let error = ValidationError::ALL[error];
        gateway_is_heard(&FromGateway::Validation(ValidationAnswer::Error { kind, job, error, padding: &padding }));
    }

    #[test]
    fn any_answer_is_an_error_or_made_of_all_its_bytes(
        kind in 0x8f..=0x93_u8,
        state in prop_oneof![Just(1_u8), 0xef..=0xf5_u8],
        count in 0..20_u16,
        rest in vec(prop_oneof![Just(0_u8), any::<u8>()], 0..120),
    ) {
        let mut bytes = vec![0x50, kind, 3, state];
        bytes.extend_from_slice(&count.to_le_bytes());
        bytes.extend_from_slice(&rest);
        hear_from_gateway(&bytes);
        if let Ok(transactions) = Transactions::new(&rest) {
            let mut again = Vec::new();
            transactions.iter().for_each(|raw| Transactions::push(raw, &mut again));
            prop_assert_eq!(again, rest);
        }
    }
}

#[test]
fn an_answer_says_what_is_wrong_with_it() {
    let error = |bytes: &[u8]| gateway_error(&[&[0x50], bytes].concat());
    assert_eq!(error(&[0x93, 0, 1]), DecodeError::new("answer.kind", Fault::Unknown));
    assert_eq!(
        error(&[0x90, 0, 0xf5]),
        DecodeError::new("answer.state", Fault::Unknown)
    );
    assert_eq!(
        error(&[0x90, 0, 1, 2, 0, 0]),
        DecodeError::new("answer.ids", Fault::Truncated)
    );
    assert_eq!(
        error(&[0x92, 0, 1, 255, 255]),
        DecodeError::new("transaction.size", Fault::Truncated)
    );
    let huge = [0x92, 0, 1, 1, 0, 255, 255, 255, 1];
    assert_eq!(error(&huge), DecodeError::new("transaction", Fault::Truncated));
    assert_eq!(
        error(&[0x92, 0, 1, 0, 0]),
        DecodeError::new("answer.end", Fault::Truncated)
    );
    assert_eq!(
        error(&[0x92, 0, 1, 0, 0, 0xfe, 0]),
        DecodeError::new("answer.end", Fault::Trailing)
    );
    assert_eq!(
        error(&[0x91, 0, 1, 0, 0, 0xfd]),
        DecodeError::new("answer.end", Fault::Unknown)
    );
    // The slot was out of range: the answer names FF.
    let refused = FromGateway::decode(&[0x50, 0x91, 0xff, 0xf3, 9]);
    let Ok(FromGateway::Validation(answer)) = refused else {
        panic!("{refused:?}");
    };
    assert_eq!(answer.job(), 0xff);
}

#[test]
fn a_question_says_what_is_wrong_with_it() {
    assert_eq!(
        pool_error(&[0x50, 0x13, 0]),
        DecodeError::new("ask.kind", Fault::Unknown)
    );
    assert_eq!(
        pool_error(&[0x50, 0x11, 0, 2, 0, 1, 0]),
        DecodeError::new("ask.indexes", Fault::Truncated)
    );
    assert_eq!(
        pool_error(&[0x50, 0x12, 0, 0]),
        DecodeError::new("ask.end", Fault::Trailing)
    );
}

#[test]
fn a_list_of_more_than_a_count_says_is_refused() {
    let most = vec![0; 3 * 0xffff];
    assert_eq!(Transactions::new(&most).map(|list| list.len()), Ok(0xffff));
    let more = vec![0; 3 * 0x1_0000];
    assert_eq!(
        Transactions::new(&more),
        Err(DecodeError::new("transactions.count", Fault::TooLong))
    );
}

#[test]
fn ids_do_not_go_without_their_cross_check() {
    let answer = ValidationAnswer::ShortIds {
        job: 0,
        ids: &[[0; 6]],
        cross_check: None,
        padding: &[],
    };
    assert!(std::panic::catch_unwind(|| encoded(&answer)).is_err());
}

#[test]
fn a_short_id_is_the_low_48_bits_of_siphash() {
    // The published vector of SipHash-2-4 for 32 bytes: both key and input count up from 0.
    let key = std::array::from_fn(|at| u8::try_from(at).expect("16 bytes"));
    let wtxid = std::array::from_fn(|at| u8::try_from(at).expect("32 bytes"));
    assert_eq!(short_id(&key, &wtxid), 0x7127_512f_72f2_7cce & 0xffff_ffff_ffff);
    let (gateway, pool) = ([0xf0; 32], [0x0f; 32]);
    assert_eq!(short_id_key(&gateway, &pool), [0xaa; 16]);
}
