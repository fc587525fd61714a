//! What a coinbase is held to: any split that was dictated to its gateway for its value and parent, and is still good.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::mined::{paying, payout};
use super::*;
use crate::wire::Output;
use crate::work::{LOOKS_MAX, Payout, Pin, PinnedSplit, SPLIT_KNOWN_FOR_S, SPLITS_MAX, Split};

/// Pays the same whatever it is asked for, and counts how often.
#[derive(Debug)]
struct Fixed {
    pin: Pin,
    payouts: Vec<Payout>,
    looks: Arc<AtomicU32>,
}

impl Split for Fixed {
    fn pin(&self) -> Pin {
        self.pin
    }

    fn each_payout(&self, _: u64, _: bool, pay: &mut dyn FnMut(u32, Output<'_>)) {
        self.looks.fetch_add(1, Ordering::Relaxed);
        for Payout { payee, value, script } in &self.payouts {
            pay(*payee, Output { value: *value, script });
        }
    }
}

/// A gateway to which splits were dictated, and how many of them were computed.
struct Gateway {
    pool: Pool,
    looks: Arc<AtomicU32>,
}

impl Gateway {
    fn new() -> Self {
        Self {
            pool: Pool::new(),
            looks: Arc::default(),
        }
    }

    /// Number `n` of them, which pays what no other does.
    fn dictate(&mut self, n: u64, time_s: u64) {
        self.dictate_as(n, n, u8::try_from(n % 255 + 1).expect("small"), time_s);
    }

    /// What the split `n` pays, under an id and a pin.
    fn dictate_as(&mut self, n: u64, sequence: u64, coinbaser_id: u8, time_s: u64) {
        let Draft { value, parent, .. } = Draft::good();
        self.pool.memory.learn_split(Dictated {
            coinbaser_id,
            value,
            parent,
            with_balances: true,
            time_s,
            split: Arc::new(Fixed {
                pin: Pin { sequence, event: 0 },
                payouts: split(n),
                looks: self.looks.clone(),
            }),
        });
    }

    /// With sections of its own: the first share of a coinbase.
    fn verdict(&mut self, draft: &Draft) -> Result<(), Reason> {
        self.pool.verdict(draft)
    }

    fn looks(&self) -> u32 {
        self.looks.swap(0, Ordering::Relaxed)
    }
}

fn split(n: u64) -> Vec<Payout> {
    vec![payout(9_000 + n, 1), payout(5_000, 2)]
}

/// Mined work whose coinbase pays these.
fn work(payouts: &[Payout]) -> Draft {
    bent(|draft| draft.cook(&paying(payouts, Place::Push)))
}

#[test]
fn a_coinbase_may_pay_any_split_that_is_still_good() {
    let mut gateway = Gateway::new();
    let kept = SPLITS_MAX as u64;
    (0..kept).for_each(|n| gateway.dictate(n, NOW_S));
    for n in (0..kept).step_by(51).chain([kept - 2]) {
        assert_eq!(gateway.verdict(&work(&split(n))), Ok(()), "split {n}");
        assert_eq!(gateway.verdict(&work(&split(n)[..1])), Ok(()), "a part of split {n}");
        gateway.pool.memory.splits.allow_looks();
    }
    assert_eq!(gateway.verdict(&work(&split(kept))), Err(Reason::BadCoinbaseOutputs));
    // One more, and the oldest is gone.
    gateway.dictate(kept, NOW_S);
    gateway.pool.memory.splits.allow_looks();
    assert_eq!(gateway.verdict(&work(&split(kept))), Ok(()));
    assert_eq!(gateway.verdict(&work(&split(0))), Err(Reason::BadCoinbaseOutputs));
    assert_eq!(gateway.verdict(&work(&split(1))), Ok(()));
}

#[test]
fn the_split_that_is_named_is_looked_at_first_and_the_same_one_once() {
    let mut gateway = Gateway::new();
    (0..100).for_each(|n| gateway.dictate(n, NOW_S));
    let named = Draft {
        coinbaser_id: 8,
        ..work(&split(7))
    };
    assert_eq!(gateway.verdict(&named), Ok(()));
    assert_eq!(gateway.looks(), 1);
    assert_eq!(gateway.verdict(&work(&split(99))), Ok(()));
    assert_eq!(gateway.looks(), 1, "the newest");
    assert_eq!(gateway.verdict(&work(&split(90))), Ok(()));
    assert_eq!(gateway.looks(), 10);
    // Later shares of a coinbase ask nobody.
    assert_eq!(gateway.verdict(&next(&work(&split(90)))), Ok(()));
    assert_eq!(gateway.looks(), 0);

    // By the same books, which a gateway may ask for as often as it likes.
    let mut gateway = Gateway::new();
    gateway.dictate(1, NOW_S);
    (2..100).for_each(|id| gateway.dictate_as(2, 2, id, NOW_S));
    assert_eq!(gateway.verdict(&work(&split(1))), Ok(()));
    assert_eq!(gateway.looks(), 2);
}

#[test]
fn looks_in_vain_are_bounded_and_come_back() {
    let mut gateway = Gateway::new();
    (0..SPLITS_MAX as u64).for_each(|n| gateway.dictate(n, NOW_S));
    let mut refused = |n: u64| {
        let judged = gateway.pool.judge(&work(&split(1_000 + n)));
        judged.verdict.expect_err("it pays no split")
    };
    let whole = u64::from(LOOKS_MAX) / SPLITS_MAX as u64;
    for n in 0..whole {
        assert_eq!(refused(n), Reason::BadCoinbaseOutputs.into());
    }
    assert_eq!(refused(whole), WorkBound::SplitLooks.into());
    assert_eq!(gateway.looks(), LOOKS_MAX);
    // What is found needs none of them, once there is one.
    gateway.pool.steady_s += 1;
    assert_eq!(gateway.verdict(&work(&split(255))), Ok(()));
    // One that was not looked for is no worse for it.
    let last = work(&split(0));
    assert_eq!(gateway.verdict(&last), Err(Reason::Other));
    gateway.pool.steady_s += 60;
    assert_eq!(gateway.verdict(&next(&last)), Ok(()));
}

#[test]
fn a_block_is_looked_through_all_splits_whatever_was_looked_at_before() {
    let mut gateway = Gateway::new();
    (0..SPLITS_MAX as u64).for_each(|n| gateway.dictate(n, NOW_S));
    for n in 0..4 {
        gateway.verdict(&work(&split(1_000 + n))).expect_err("it pays no split");
    }
    gateway.pool.chain = Chain::dev(1);
    let judged = gateway.pool.judge(&work(&split(0)));
    assert!(judged.verdict.is_ok(), "{:?}", judged.verdict);
    let pin = Pin { sequence: 0, event: 0 };
    let booking = Booking::Pays(PinnedSplit {
        pin,
        with_balances: true,
    });
    assert_eq!(judged.candidate.expect("a block").booking, booking);
}

#[test]
fn a_block_keeps_what_was_dictated_as_long_as_that_is_at_hand() {
    let mut gateway = Gateway::new();
    gateway.dictate(7, NOW_S);
    gateway.pool.chain = Chain::dev(1);
    let dictated = |gateway: &mut Gateway, draft: &Draft| {
        let judged = gateway.pool.judge(draft);
        judged.candidate.expect("a block").dictated
    };
    let block = work(&split(7));
    let outputs = dictated(&mut gateway, &block).expect("it is at hand");
    assert_eq!(outputs, split(7), "all of it, whatever the coinbase pays of it");
    // The work is still known for what it pays.
    gateway.pool.memory.splits = crate::work::splits::Splits::default();
    assert_eq!(dictated(&mut gateway, &next(&block)), None);
    assert_eq!(dictated(&mut gateway, &work(&[])), None, "it pays nobody");
}

#[test]
fn a_block_that_keeps_to_no_split_keeps_the_one_that_its_job_was_told() {
    let mut gateway = Gateway::new();
    (7..=9).for_each(|n| gateway.dictate(n, NOW_S));
    gateway.pool.chain = Chain::dev(1);
    let kept = |gateway: &mut Gateway, draft: &Draft| {
        let candidate = gateway.pool.judge(draft).candidate.expect("a block");
        (candidate.booking, candidate.dictated)
    };
    let told = |n| Booking::ByHand {
        told: Some(PinnedSplit {
            pin: Pin { sequence: n, event: 0 },
            with_balances: true,
        }),
    };
    let unnamed = work(&split(1_000));
    assert_eq!(kept(&mut gateway, &unnamed), (told(9), Some(split(9))), "the newest");
    let named = Draft {
        coinbaser_id: 8,
        ..work(&split(1_001))
    };
    assert_eq!(kept(&mut gateway, &named), (told(7), Some(split(7))));
    // What is good no more says whose it was, and not what it paid.
    gateway.pool.steady_s += SPLIT_GOOD_FOR_S + 1;
    gateway.pool.memory.forget_splits(gateway.pool.steady_s);
    let late = work(&split(9));
    assert_eq!(kept(&mut gateway, &late), (told(9), None));
    // Where nobody was told anything there is nothing to keep.
    let mut gateway = Gateway::new();
    gateway.pool.chain = Chain::dev(1);
    assert_eq!(
        kept(&mut gateway, &work(&split(1))),
        (Booking::ByHand { told: None }, None)
    );
}

#[test]
fn a_split_that_is_too_old_is_refused_as_such_by_whatever_id() {
    let mut gateway = Gateway::new();
    gateway.dictate(7, NOW_S - SPLIT_GOOD_FOR_S);
    let unnamed = work(&split(7));
    assert_eq!(gateway.verdict(&unnamed), Ok(()));
    gateway.pool.steady_s += 1;
    assert_eq!(gateway.verdict(&next(&unnamed)), Err(Reason::BadCoinbaserId));
    // With sections that nobody has looked at yet.
    gateway.pool.reconnect();
    assert_eq!(gateway.verdict(&unnamed), Err(Reason::BadCoinbaserId));
    let named = Draft {
        coinbaser_id: 8,
        ..unnamed.clone()
    };
    assert_eq!(gateway.verdict(&named), Err(Reason::BadCoinbaserId));
    // Behind a newer one, of the same value and parent, that it does not pay.
    gateway.dictate(9, NOW_S + 1);
    assert_eq!(gateway.verdict(&unnamed), Err(Reason::BadCoinbaserId));
    // Nobody was ever told to pay on another parent.
    let elsewhere = bent(|draft| {
        draft.cook(&paying(&split(7), Place::Push));
        draft.parent = [0x98; 32];
    });
    assert_eq!(gateway.verdict(&elsewhere), Err(Reason::BadCoinbaseOutputs));
    let known_until_s = NOW_S - SPLIT_GOOD_FOR_S + SPLIT_KNOWN_FOR_S;
    gateway.pool.memory.forget_splits(known_until_s);
    assert_eq!(gateway.verdict(&unnamed), Err(Reason::BadCoinbaserId));
    gateway.pool.memory.forget_splits(known_until_s + 1);
    assert_eq!(gateway.verdict(&unnamed), Err(Reason::BadCoinbaseOutputs));
}

#[test]
fn what_was_dictated_again_is_good_for_longer() {
    let mut gateway = Gateway::new();
    gateway.dictate_as(7, 1, 1, NOW_S);
    let first = work(&split(7));
    assert_eq!(gateway.verdict(&first), Ok(()));
    gateway.dictate_as(7, 2, 2, NOW_S + 300);
    gateway.pool.steady_s += SPLIT_GOOD_FOR_S + 1;
    let second = next(&first);
    assert_eq!(gateway.verdict(&second), Ok(()), "of the same coinbase");
    gateway.pool.steady_s += 300;
    assert_eq!(gateway.verdict(&next(&second)), Err(Reason::BadCoinbaserId));
}
