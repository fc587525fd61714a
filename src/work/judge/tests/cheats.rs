//! What a gateway or a miner might try: work counted twice, somebody else's work, and proofs that a later share of
//! the same section would not bear out.

use super::*;

#[test]
fn every_other_form_of_coinbase_is_bad() {
    let bad = |draft: Draft, what: &str| assert_eq!(verdict(&draft.mined()), Err(Reason::BadCoinbase), "{what}");
    let good_sig = Draft::good().target_index as usize;
    let with = |bend: &dyn Fn(&mut Draft)| {
        let mut draft = Draft::good();
        bend(&mut draft);
        draft
    };
    bad(with(&|draft| draft.coinb1[0] = 2), "version 2");
    bad(with(&|draft| draft.coinb1[4] = 2), "two inputs");
    bad(with(&|draft| draft.coinb1[5] = 1), "an input that spends");
    bad(with(&|draft| draft.coinb1[37] = 0), "an output index of 0");
    bad(with(&|draft| draft.coinb2[0] = 0xfe), "a sequence");
    bad(with(&|draft| draft.coinb1[41] += 1), "a script that ends later");
    bad(with(&|draft| draft.coinb1[41] -= 1), "a script that ends earlier");
    bad(with(&|draft| draft.height += 1), "another height");
    bad(with(&|draft| draft.coinb1[42] = 0), "no height");
    bad(with(&|draft| draft.coinb1[42] = 6), "a height of 6 bytes");
    bad(with(&|draft| draft.coinb1[46] = 0), "an empty tag push");
    bad(with(&|draft| draft.coinb1[46] = 0x4d), "a tag push of two length bytes");
    bad(with(&|draft| draft.coinb1[good_sig - 1] = 8), "a push of 8");
    bad(with(&|draft| draft.coinb1[good_sig + 7] = 13), "a push of 13");
    bad(with(&|draft| draft.coinb2.push(0)), "a byte behind the end");
    bad(
        with(&|draft| draft.coinb2.truncate(draft.coinb2.len() - 1)),
        "a byte too few",
    );
    bad(
        with(&|draft| *draft.coinb2.last_mut().expect("a lock time") = 1),
        "a lock time",
    );
    bad(with(&|draft| draft.coinb2[4] = 3), "an output announced and missing");
    bad(with(&|draft| draft.coinb2[4] = 1), "an output more than announced");
    bad(
        with(&|draft| {
            draft.coinb2.splice(4..5, [0xfd, 2, 0]);
        }),
        "a count that could be shorter",
    );
    bad(with(&|draft| draft.value += 1), "less than the value");
    bad(with(&|draft| draft.value -= 1), "more than the value");
    bad(with(&|draft| draft.value = u64::MAX), "a value that no chain has");

    let cooked = |bend: &dyn Fn(&mut Recipe)| cooked(|recipe| bend(recipe));
    bad(cooked(&|recipe| recipe.commitment = false), "no commitment");
    bad(cooked(&|recipe| recipe.payments.clear()), "no payment");
    bad(
        cooked(&|recipe| recipe.place = Place::Output(1)),
        "an extranonce behind the leftover",
    );
    bad(
        cooked(&|recipe| recipe.place = Place::Output(1)).of_class(2),
        "the same in class 2",
    );
    bad(
        cooked(&|recipe| recipe.payments[0] = (u64::MAX, script())),
        "a sum beyond the value",
    );
    bad(
        cooked(&|recipe| recipe.payments = vec![(u64::MAX, script()), (2, script())]),
        "a sum beyond 64 bits",
    );
    let extranonce_output = || (0, extranonce_script([1; 2]).to_vec());
    bad(
        cooked(&|recipe| recipe.payments.insert(0, extranonce_output())),
        "an extranonce in both places",
    );
    bad(
        cooked(&|recipe| {
            recipe.place = Place::Output(0);
            recipe.payments.insert(0, extranonce_output());
        }),
        "two outputs of extranonce",
    );
    let commitment = || (0, commitment_script(&[0x5a; 32]).to_vec());
    bad(cooked(&|recipe| recipe.payments.push(commitment())), "two commitments");
    bad(
        cooked(&|recipe| recipe.payments.insert(0, commitment())),
        "a commitment before the payment",
    );

    let mut subsidy_only = Draft::subsidy_only();
    subsidy_only.cook(&Recipe {
        payments: vec![(Chain::subsidy(840_000), script())],
        ..Recipe::good()
    });
    bad(subsidy_only, "subsidy-only work with a commitment");
    let mut subsidy_only = Draft::subsidy_only();
    subsidy_only.cook(&Recipe {
        commitment: false,
        ..Recipe::good()
    });
    bad(subsidy_only, "subsidy-only work that takes fees");
}

#[test]
fn the_value_may_lie_500_coins_above_the_subsidy_and_no_higher() {
    let of_value = |value: u64| {
        let mut draft = cooked(|recipe| recipe.payments[0].0 = value);
        draft.value = value;
        verdict(&draft.mined())
    };
    let most = Chain::subsidy(840_000) + 50_000_000_000;
    assert_eq!(of_value(most), Ok(()));
    assert_eq!(of_value(most + 1), Err(Reason::BadCoinbase));
    assert_eq!(of_value(0), Ok(()));
}

#[test]
fn parts_of_a_coinbase_have_their_own_limits() {
    let split = |coinb1: usize| {
        bent(|draft| {
            draft.coinb1.resize(coinb1, 0);
            draft.coinb2.resize(16_384 + 512 - coinb1, 0);
        })
    };
    for coinb1 in [511, 512, 513] {
        assert_eq!(verdict(&split(coinb1)), Err(Reason::BadCoinbase));
    }
}

/// Two 7-byte pushes, in any order and place, never make one share count under two ids.
#[test]
fn a_second_prime_push_is_no_prime_push() {
    let mut pool = Pool::new();
    pool.memory.learn_terms(terms(9, LEAST_POT), NOW_S);
    let push = |prime_id: u32| [&[7, 0xff, 0x34, 0x12][..], &prime_id.to_le_bytes()].concat();
    let at = usize::from(Draft::good().target_index);
    for (place, sees) in [(at - 1, 0), (at + 7, 0), (at - 1, 8), (at + 7, 8)] {
        let draft = bent(|draft| {
            draft.coinb1.splice(place..place, push(9));
            draft.coinb1[41] += 8;
            draft.target_index += sees;
        });
        let verdict = pool.verdict(&draft);
        let expected = if sees == 0 {
            Reason::BadCoinbase
        } else {
            Reason::TargetMismatch
        };
        assert_eq!(verdict, Err(expected), "pushed at {place}, target {sees} behind");
    }
    // Within the tag it is not one either.
    let mut draft = cooked(|recipe| {
        recipe.tag = [TAG, &[0x0f][..], &push(9), &[1, 0]].concat();
        recipe.tag.retain(|byte| *byte != 0);
        recipe.tag.push(0);
    });
    assert_eq!(pool.verdict(&draft), Ok(()));
    draft.target_index -= 12;
    assert_eq!(pool.verdict(&draft.mined()), Err(Reason::TargetMismatch));
}

/// Wherever a pot may lie but in its place, the share is refused for that.
#[test]
fn a_pot_lies_over_nothing_else() {
    for place in [Place::Push, Place::Output(0)] {
        let good = cooked(|recipe| recipe.place = place);
        for index in (0..good.coinb1.len() as u16).filter(|index| *index != good.target_index) {
            let draft = Draft {
                target_index: index,
                ..good.clone()
            }
            .mined();
            assert_eq!(verdict(&draft), Err(Reason::TargetMismatch), "{index}");
        }
    }
}

/// A pot that stands for the length of the tag, which as sent is `FF`, makes no 7-byte push where there is none.
#[test]
fn a_pot_makes_no_structure() {
    let mut draft = Draft::good();
    draft.target_index = 46;
    draft.pot = draft.coinb1[46];
    draft.coinb1[46] = 0xff;
    assert_eq!(verdict(&draft), Err(Reason::BadCoinbase));
}

/// Wherever the 12 bytes of extranonce may be cut out but from their place, the share is refused, though the
/// transaction is the very same.
#[test]
fn an_extranonce_lies_over_nothing_else() {
    for place in [Place::Push, Place::Output(0)] {
        let good = cooked(|recipe| recipe.place = place);
        let (_, _, tx) = good.rebuild();
        for cut in (0..=tx.len() - EXTRANONCE_LEN).filter(|cut| *cut != good.coinb1.len()) {
            let draft = Draft {
                coinb1: tx[..cut].to_vec(),
                extranonce: tx[cut..cut + EXTRANONCE_LEN].to_vec(),
                coinb2: tx[cut + EXTRANONCE_LEN..].to_vec(),
                ..good.clone()
            };
            assert_eq!(draft.rebuild(), good.rebuild());
            let refused = if cut <= usize::from(good.target_index) {
                Reason::TargetMismatch
            } else {
                Reason::BadCoinbase
            };
            assert_eq!(verdict(&draft), Err(refused), "{cut}");
        }
    }
}

/// A coinbase with one bit changed counts only where that bit is the gateway's to choose.
#[test]
fn every_bit_that_is_not_free_is_proved() {
    for place in [Place::Push, Place::Output(0)] {
        let good = cooked(|recipe| recipe.place = place);
        let (target, coinb1, coinb2) = (usize::from(good.target_index), good.coinb1.len(), good.coinb2.len());
        let mut free: Vec<usize> = vec![target, target + 1, target + 2, coinb1 - 2, coinb1 - 1];
        // What the commitment commits to.
        free.extend(coinb1 + coinb2 - 36..coinb1 + coinb2 - 4);
        for bit in 0..8 * (coinb1 + coinb2) {
            let mut draft = good.clone();
            let (at, flip) = (bit / 8, 1 << (bit % 8));
            if at < coinb1 {
                draft.coinb1[at] ^= flip;
            } else {
                draft.coinb2[at - coinb1] ^= flip;
            }
            assert_eq!(verdict(&draft.mined()).is_ok(), free.contains(&at), "bit {bit}");
        }
    }
}

#[test]
fn work_of_another_gateway_does_not_count() {
    let (mut ours, mut theirs) = (Pool::new(), Pool::new());
    theirs.memory = GatewayMemory::new();
    theirs.memory.learn_terms(terms(PRIME_ID + 1, LEAST_POT), NOW_S);
    let draft = Draft::good().mined();
    assert_eq!(theirs.verdict(&draft), Err(Reason::MissingPoolTag));
    assert_eq!(ours.verdict(&draft), Ok(()));
}

/// The same header, however it is dressed up, is the same work.
#[test]
fn work_counts_once() {
    let good = Draft::good().mined();
    let mut pool = Pool::new();
    assert_eq!(pool.verdict(&good), Ok(()));
    let again = |pool: &mut Pool, draft: Draft, what: &str| {
        assert_eq!(draft.rebuild().1, good.rebuild().1);
        assert_eq!(pool.verdict(&draft), Err(Reason::DuplicateWork), "{what}");
    };
    again(&mut pool, good.clone().bare(), "as it was");
    again(&mut pool, good.clone(), "with its sections");
    again(
        &mut pool,
        Draft {
            sends_job: false,
            ..good.clone()
        },
        "with its coinbase",
    );
    again(
        &mut pool,
        Draft {
            flags: Flags::BLOCK,
            ..good.clone()
        },
        "as a block",
    );
    again(
        &mut pool,
        Draft {
            flags: 0xf8,
            ..good.clone()
        },
        "with flags that nobody knows",
    );
    for slot in 0..8 {
        again(
            &mut pool,
            Draft {
                job_id: slot,
                ..good.clone()
            },
            "in another slot",
        );
    }
    for coinbase_id in 0..6 {
        again(
            &mut pool,
            good.clone().of_class(coinbase_id),
            "under another coinbase id",
        );
    }
    let username = b"1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa".to_vec();
    again(
        &mut pool,
        Draft {
            username,
            ..good.clone()
        },
        "by another miner",
    );
    again(
        &mut pool,
        Draft {
            tx_count: 4,
            ..good.clone()
        },
        "over other transactions",
    );
    // Another parent between, and this one named anew.
    assert_eq!(pool.verdict(&bent(|draft| draft.parent = [1; 32])), Ok(()));
    again(&mut pool, good.clone(), "after another parent");
    pool.reconnect();
    again(&mut pool, good.clone(), "in another session");
    pool.memory.learn_terms(terms(9, LEAST_POT), NOW_S);
    again(&mut pool, good.clone(), "under newer terms");
}

/// With the job sent again, shares of the slot are judged by the new one alone.
#[test]
fn a_job_sent_again_leaves_no_proof_behind() {
    let (mut pool, good) = (Pool::new(), Draft::good().mined());
    assert_eq!(pool.verdict(&good), Ok(()));
    let moved = Draft {
        target_index: good.target_index + 1,
        ..good.clone()
    };
    assert_eq!(
        pool.verdict(&Draft {
            sends_coinbase: false,
            ..moved.clone()
        }),
        Err(Reason::CoinbaseMissing)
    );
    assert_eq!(pool.verdict(&good.clone().bare()), Err(Reason::CoinbaseMissing));
    assert_eq!(pool.verdict(&moved), Err(Reason::TargetMismatch));
    assert_eq!(pool.verdict(&good.clone().bare()), Err(Reason::TargetMismatch));
    let higher = Draft {
        height: good.height + 1,
        ..good.clone()
    };
    assert_eq!(pool.verdict(&higher), Err(Reason::BadCoinbase));
    assert_eq!(pool.verdict(&good.clone().bare()), Err(Reason::BadCoinbase));
    assert_eq!(pool.verdict(&good), Err(Reason::DuplicateWork));
}

/// A coinbase sent again is proved again, and one slot may hold coinbases under several terms.
#[test]
fn a_coinbase_sent_again_is_proved_again() {
    let (mut pool, good) = (Pool::new(), Draft::good().mined());
    pool.memory.learn_terms(terms(9, LEAST_POT), NOW_S);
    let steals = Draft {
        sends_job: false,
        ..cooked(|recipe| recipe.payments[0].1 = vec![0x51; 22])
    };
    let newer = Draft {
        sends_job: false,
        ..cooked(|recipe| recipe.prime_id = 9)
    };
    assert_eq!(pool.verdict(&good), Ok(()));
    assert_eq!(pool.verdict(&steals), Err(Reason::BadCoinbaseOutputs));
    assert_eq!(pool.verdict(&steals.clone().bare()), Err(Reason::BadCoinbaseOutputs));
    assert_eq!(pool.verdict(&newer.clone().of_class(2)), Ok(()));
    assert_eq!(
        pool.verdict(&Draft {
            sends_job: false,
            ..good.clone()
        }),
        Err(Reason::DuplicateWork)
    );
    let accepted = pool
        .judge(
            &Draft {
                pot: LEAST_POT,
                ..newer
            }
            .of_class(2)
            .bare()
            .mined(),
        )
        .verdict;
    assert_eq!(accepted.expect("good work under the newer terms").prime_id, 9);
}

/// Terms may become known after the first share that names them.
#[test]
fn a_proof_waits_for_its_terms() {
    let mut pool = Pool::new();
    let draft = cooked(|recipe| recipe.prime_id = 9);
    assert_eq!(pool.verdict(&draft), Err(Reason::MissingPoolTag));
    pool.memory.learn_terms(terms(9, LEAST_POT), NOW_S);
    assert_eq!(pool.verdict(&draft.clone().bare()), Ok(()));
    pool.memory.learn_terms(terms(10, LEAST_POT), NOW_S + 1);
    pool.memory.forget_terms(NOW_S + 2);
    let next = Draft {
        nonce: draft.nonce + 1,
        ..draft.bare()
    }
    .mined();
    assert_eq!(pool.verdict(&next), Err(Reason::MissingPoolTag));
}
