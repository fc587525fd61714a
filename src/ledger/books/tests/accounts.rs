//! Blocks booked into accounts, one after the other by hand.

use super::history::{FOLLOWS, Follow, Pool, TERMS, block_hash};
use super::*;

#[test]
fn a_block_without_payouts_is_carried_until_it_is_mature_and_then_paid() {
    let mut pool = Pool::new();
    pool.share(0, 3);
    pool.share(1, 3);
    let block = pool.find_without_payouts(100_001, 0);
    assert_eq!(pool.balances(2), [49_501, 49_500].map(i64::from));
    assert_eq!(pool.sums(), sums(99_001, 100_001, 1_000, 0));
    assert_eq!(pool.fetch(1_000_000, true).payouts.len(), 2);
    assert_eq!(pool.accounts.of(0).payable(), 0, "it may yet be orphaned");
    pool.follow(block, What::Accepted).expect("a candidate");
    pool.follow(block, What::Matured).expect("it matures");
    assert_eq!(pool.accounts.of(0).payable(), 49_501);
    let split = pool.fetch(1_000_000, true);
    let paid: Vec<u64> = split.payouts.iter().map(|paid| paid.value).collect();
    assert_eq!(paid, [544_501, 544_500].map(|all: u64| all * 1_000_000 / 1_089_001));
}

#[test]
fn what_rounding_leaves_over_is_the_largest_dues() {
    let mut pool = Pool::new();
    for payee in [0, 1, 2] {
        pool.share(payee, 3);
    }
    let first_by_script = (0..3)
        .min_by_key(|payee| pool.scripts[*payee as usize].clone())
        .expect("three");
    pool.find_without_payouts(5, 0);
    assert_eq!(pool.accounts.of(first_by_script).balance, 3);
    let other = (first_by_script + 1) % 3;
    pool.share(other, 3);
    pool.find_without_payouts(5, 0);
    assert_eq!(
        pool.accounts.of(first_by_script).balance,
        5,
        "the due counts, not what the block alone gives"
    );
    pool.pay_by_hand(first_by_script, 100).expect("an amount");
    pool.find_without_payouts(5, 0);
    assert_eq!(pool.accounts.of(other).balance, 1 + 2 + 3);
}

#[test]
fn who_is_paid_the_same_carry_twice_owes_it_to_the_next_dues() {
    let mut pool = Pool::new();
    pool.share(0, 3);
    pool.find_mature(10_000);
    assert_eq!(pool.accounts.of(0).payable(), 9_900);
    // Both splits were out before either block was booked.
    let (first, second) = (pool.fetch(3_000_000, true), pool.fetch(3_000_000, true));
    assert_eq!(first.payouts[0].value, 2_970_000 + 9_900);
    for (split, balance) in [(first, 0), (second, -9_900)] {
        pool.find(&split, usize::MAX, u64::MAX, 0, 0);
        assert_eq!(pool.accounts.of(0).balance, balance);
        assert_eq!(pool.accounts.of(0).payable(), balance, "a net payment counts at once");
    }
    let third = pool.fetch(3_000_000, true);
    assert_eq!(third.payouts[0].value, 2_970_000 - 9_900);
    pool.find(&third, usize::MAX, u64::MAX, 0, 0);
    assert_eq!(pool.accounts.of(0).balance, 0);
    assert_eq!(
        pool.accounts.of(0).payable(),
        -9_900,
        "the gain of the third is not mature"
    );
}

#[test]
fn a_block_before_any_share_is_the_pools() {
    let mut pool = Pool::new();
    pool.find_without_payouts(5_000, 0);
    assert_eq!(pool.sums(), sums(0, 5_000, 5_000, 0));
}

#[test]
fn a_block_of_which_nobody_earns_a_satoshi_stays_with_the_pool() {
    let mut pool = Pool::new();
    for payee in 0..4 {
        pool.share(payee, 3);
    }
    pool.find_without_payouts(3, 0);
    assert_eq!(pool.sums(), sums(0, 3, 3, 0));
    pool.find_without_payouts(0, 0);
    assert_eq!(pool.sums(), sums(0, 3, 3, 0));
}

#[test]
fn an_orphan_takes_back_what_was_paid_and_what_was_promised_mature_or_not() {
    for mature in [false, true] {
        let mut pool = Pool::new();
        pool.share(0, 3);
        pool.share(1, 3);
        let split = pool.fetch(1_000_000, true);
        // The coinbase pays one of two.
        let block = pool.find(&split, usize::MAX, 1, 0, 0);
        assert_eq!(pool.accounts.of(split.payouts[0].payee).paid, 495_000);
        pool.follow(block, What::Accepted).expect("a candidate");
        if mature {
            pool.follow(block, What::Matured).expect("it matures");
        }
        pool.follow(block, What::Orphaned).expect("the chain drops it");
        assert_eq!(pool.sums(), Sums::default());
        for payee in 0..2 {
            assert_eq!(pool.accounts.of(payee), Account::default());
        }
    }
}

#[test]
fn what_was_paid_by_hand_out_of_an_orphan_is_owed() {
    let mut pool = Pool::new();
    pool.share(0, 3);
    let block = pool.find_without_payouts(1_000_000, 0);
    pool.pay_by_hand(0, 990_000).expect("an amount");
    assert_eq!(pool.accounts.of(0).balance, 0);
    assert_eq!(pool.accounts.of(0).payable(), -990_000);
    pool.follow(block, What::Rejected).expect("a candidate");
    assert_eq!(pool.accounts.of(0).balance, -990_000);
    assert_eq!(pool.sums(), sums(-990_000, 0, 0, 990_000));
}

#[test]
fn a_payment_by_hand_is_a_satoshi_at_least_and_all_money_at_most() {
    let pool = Pool::new();
    let paid = |amount| {
        What::PaidByHand(PaidByHand {
            payee: 0,
            amount,
            txid: [0; 32],
        })
    };
    let check = |amount| pool.accounts.check(&paid(amount));
    assert_eq!(check(0), Err(BookError::BadAmount));
    assert_eq!(check(1), Ok(()));
    assert_eq!(check(2_100_000_000_000_000), Ok(()));
    assert_eq!(check(2_100_000_000_000_001), Err(BookError::BadAmount));
    assert_eq!(check(u64::MAX), Err(BookError::BadAmount));
}

#[test]
fn a_block_goes_one_way_and_is_booked_again_only_where_its_postings_are_gone() {
    use BlockState::{Candidate, Mature, Maturing, Orphaned, Rejected};
    let ways: [(BlockState, &[Follow]); 5] = [
        (Candidate, &[]),
        (Maturing, &[What::Accepted]),
        (Mature, &[What::Accepted, What::Matured]),
        (Orphaned, &[What::Accepted, What::Orphaned]),
        (Rejected, &[What::Rejected]),
    ];
    for (state, way) in ways {
        let mut pool = Pool::new();
        pool.share(0, 3);
        let number = pool.find_without_payouts(1_000, 0);
        for follow in way {
            pool.follow(number, *follow).expect("a way");
        }
        let block = pool.blocks[number];
        assert_eq!(pool.accounts.block(&block).map(|block| block.state), Some(state));
        let again = What::Settled(pool.settlement(number));
        let expected = match state {
            Orphaned | Rejected => Ok(()),
            Candidate | Maturing | Mature => Err(BookError::BookedAlready),
        };
        assert_eq!(pool.accounts.check(&again), expected);
        for (to, follow) in FOLLOWS {
            let goes = matches!(
                (state, to),
                (Candidate, Maturing | Orphaned | Rejected) | (Maturing, Mature | Orphaned) | (Mature, Orphaned)
            );
            let expected = if goes {
                Ok(())
            } else {
                Err(BookError::NotFrom { from: state, to })
            };
            assert_eq!(pool.accounts.check(&follow(block)), expected);
            assert_eq!(pool.accounts.check(&follow([0xee; 32])), Err(BookError::UnknownBlock));
        }
    }
}

#[test]
fn terms_may_change_at_any_time() {
    let pool = Pool::new();
    assert_eq!(pool.accounts.check(&What::Terms(TERMS)), Ok(()));
    assert_eq!(Accounts::default().check(&What::Terms(TERMS)), Ok(()));
}

#[test]
#[should_panic(expected = "what was paid and what the pool got is the block's value")]
fn a_settlement_that_pays_more_than_the_value_stops_the_books() {
    book_damaged(|settlement| settlement.postings[0].paid += 1);
}

#[test]
#[should_panic(expected = "C = P - F - S")]
fn a_settlement_that_earns_more_than_the_value_stops_the_books() {
    book_damaged(|settlement| settlement.postings[0].earned += 1);
}

#[test]
#[should_panic(expected = "an event was checked before it was written")]
fn an_event_that_cannot_be_next_stops_the_books() {
    book_damaged(|settlement| settlement.block = block_hash(0));
}

fn book_damaged(damage: impl FnOnce(&mut Settlement)) {
    let mut pool = Pool::new();
    pool.share(0, 3);
    let number = pool.find_without_payouts(1_000, 0);
    let mut settlement = pool.settlement(number);
    settlement.block = block_hash(1);
    damage(&mut settlement);
    let event = Event {
        sequence: 1,
        time_ms: 0,
        what: What::Settled(settlement),
    };
    pool.accounts.apply(&event, |_| unreachable!("nothing is undone"));
}

fn sums(carry: i128, to_pool: i128, fees: i128, by_hand: i128) -> Sums {
    Sums {
        carry,
        to_pool,
        fees,
        by_hand,
    }
}
