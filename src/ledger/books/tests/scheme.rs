//! Who has a part in a block, scheme by scheme.

use super::*;
use crate::work::{Pin, Split};

const TERMS: SplitTerms = SplitTerms {
    fee_ppm: 20_000,
    minimum: DUST,
};

#[test]
fn tides_counts_the_newest_shares_up_to_eight_difficulties() {
    let window = window_by(SchemeKind::Tides, 4, &[share(0, 2); 9]);
    assert_eq!((window.total(), window.front()), (32, 1));
    let weights = SchemeKind::Tides.weights(&window, Some(3));
    assert_eq!((weights.of(0), weights.of(3), weights.total()), (32, 0, 32));
}

#[test]
fn pplns_counts_the_newest_shares_up_to_its_work_whatever_the_difficulty() {
    let scheme = SchemeKind::Pplns { work: 10 };
    let shares = [share(0, 3), share(1, 2), share(2, 2)];
    for difficulty in [8, 100, u64::MAX] {
        assert_eq!(window_by(scheme, difficulty, &shares).weights(), [2, 4, 4]);
    }
    // A share still counts as the difficulty at most.
    assert_eq!(window_by(scheme, 3, &shares).weights(), [3; 3]);
    assert_eq!(window_by(scheme, 100, &[share(0, 20)]).weights(), [10]);
}

#[test]
fn a_solo_block_is_the_finders() {
    let window = window_by(SchemeKind::Solo, 4, &[share(0, 2), share(1, 2)]);
    assert_eq!(window.total(), 0);
    let weights = SchemeKind::Solo.weights(&window, Some(1));
    assert_eq!((weights.of(0), weights.of(1), weights.total()), (0, 1, 1));
    let mined = Mined {
        to_pool: 1_000,
        ..Mined::default()
    };
    let scripts = scripts();
    let payees = (0..).zip(&scripts).map(|(payee, script)| (payee, 0, &**script));
    let settlement = settle([1; 32], 2, &mined, &TERMS, &weights, payees);
    assert_eq!((settlement.fee, settlement.to_pool), (20, 1_000));
    let all = Posting {
        payee: 1,
        earned: 980,
        paid: 0,
    };
    assert_eq!(settlement.postings, [all]);
}

#[test]
fn a_solo_split_pays_balances_alone() {
    let window = window_by(SchemeKind::Solo, 4, &[share(0, 2), share(1, 2)]);
    let weights = SchemeKind::Solo.weights(&window, None);
    assert_eq!((weights.of(0), weights.total()), (0, 0));
    let balance = |payee: u32| if payee == 1 { 5_000 } else { 0 };
    let split = Snapshot::new(Pin::default(), TERMS, &[], &weights, &scripts(), balance);
    let paid = split.payouts(1_000_000, true);
    assert_eq!(paid.len(), 1);
    assert_eq!((paid[0].payee, paid[0].value), (1, 5_000));
    assert_eq!(split.payouts(1_000_000, false), []);
}

fn window_by(scheme: SchemeKind, difficulty: u64, shares: &[Work]) -> Window {
    let mut log = Log(shares.to_vec());
    Window::at(shares.len() as u64, scheme.span(difficulty), &mut log).expect("a log")
}

fn scripts() -> Vec<Arc<[u8]>> {
    (0..2).map(|number| script(Type::Taproot, number)).collect()
}
