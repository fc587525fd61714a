//! Coinbases that depart from the protocol's form are refused with its reason: what varies between shares laid over
//! what must not, pushes and outputs too many, tags and payments of somebody else.

use crate::pool::bench::Bench;
use crate::pool::gateway::Gateway;
use crate::pool::work::{
    Found, Job, Recipe, SUBSIDY, Template, extranonce_output_script, extranonce_push, find, witness_commitment,
};
use millrace::wire::{
    COINB1_MAX, COINB2_MAX, CoinbaseTransaction, CutCoinbase, ExtranoncePlace, Flags, Reason, SUBSIDY_ONLY_ID,
};

#[test]
fn honest_work_of_every_form_counts() {
    let mut bench = Bench::new();
    bench.works();
    let recipe = bench.recipe();
    bench.accepts_coinbase(&recipe.build());
    bench.accepts_coinbase(&recipe.build_with_extranonce_output());

    // A secondary tag of the gateway's own.
    let mut tagged = recipe.clone();
    tagged.tag.extend_from_slice(b"\x0fgateway");
    bench.accepts_coinbase(&tagged.build());

    // Transactions, and a quick change of difficulty.
    let mut template = bench.template();
    template.job.tx_count = 5;
    template.job.branches = vec![[1; 32], [2; 32], [3; 32]];
    bench.accepts(&template.share(1));
    let quick = Found {
        flags: Flags::QUICKDIFF,
        ..template.draft(2)
    };
    bench.accepts(&quick.mine());

    // Subsidy only: no commitment, no branches, the subsidy whatever the job's value.
    template.job.value = SUBSIDY + 1_000_000;
    template.coinbase_id = SUBSIDY_ONLY_ID;
    let mut subsidy = recipe.clone();
    subsidy.commitment = None;
    let template = template.with(&subsidy.build());
    let found = Found {
        flags: Flags::SUBSIDY_ONLY,
        ..template.draft(3)
    };
    bench.accepts(&found.mine());

    // Nothing is left over: the dead output stands in its place. Without payouts that is so for a value of 0 alone.
    let mut job = Job::new(0, 1);
    job.value = 0;
    let mut dead = bench.session.recipe(&job);
    dead.payments = vec![(0, vec![0x6a, 1, 0])];
    let mut template = Template::new(job, bench.session.terms());
    template = template.with(&dead.build());
    bench.accepts(&template.share(4));
}

#[test]
fn coinbases_above_the_size() {
    let mut bench = Bench::new();
    let mut template = bench.template();
    template.coinbase = CutCoinbase {
        target_index: 50,
        coinb1: vec![1; COINB1_MAX],
        coinb2: vec![1; COINB2_MAX + 1],
    };
    bench.refuses(&template.draft(0), Reason::CoinbaseTooLarge);
    // One less is judged by its content.
    template.coinbase.coinb2.pop();
    bench.refuses(&template.share(0), Reason::BadCoinbase);
}

/// Where `part` stands in a coinbase.
fn place_of(transaction: &CoinbaseTransaction, part: &[u8]) -> usize {
    find(&transaction.bytes, part).expect("it is in the transaction")
}

#[test]
fn the_pot_laid_over_something_else() {
    let mut bench = Bench::new();
    let recipe = bench.recipe();
    let payout = vec![0x51; 30];
    let good = recipe.build_with_extranonce_output();
    let in_coinb1 = {
        // A payout before the extranonce's output, as class 2 has them; nobody dictated it.
        let mut split = recipe.clone();
        let leftover = split.payments.pop().expect("the pool's");
        split.payments = vec![(1_000, payout.clone()), (leftover.0 - 1_000, leftover.1)];
        split.with_extranonce_in(ExtranoncePlace::Output(1))
    };
    let prime = good.target_at;
    let places = [
        (&good, place_of(&good, &recipe.tag), "the tag"),
        (&good, prime - 1, "the length of the push"),
        (&good, prime + 1, "the unique id"),
        (&good, prime + 3, "the prime_id"),
        (&good, prime + 6, "the end of the prime_id"),
        (&good, 4, "the count of inputs"),
        (&good, good.extranonce_at - 1, "the prefix"),
        (&in_coinb1, place_of(&in_coinb1, &payout), "the script of an output"),
        (&in_coinb1, place_of(&in_coinb1, &payout) - 9, "the value of an output"),
    ];
    for (transaction, target_at, what) in places {
        let moved = CoinbaseTransaction {
            target_at,
            ..transaction.clone()
        };
        let mut template = bench.template().with(&moved);
        template.coinbase_id = 2;
        let verdict = bench.session.submit(&template.share(0).with_sections());
        assert!(
            matches!(verdict, Err(Reason::TargetMismatch | Reason::BadCoinbase)),
            "{what}: {verdict:?}"
        );
        bench.works();
    }
    // Where nothing else is touched, the reason is that of the pot.
    for (transaction, target_at) in [
        (&good, prime + 1),
        (&good, prime + 3),
        (&in_coinb1, place_of(&in_coinb1, &payout)),
    ] {
        let moved = CoinbaseTransaction {
            target_at,
            ..transaction.clone()
        };
        bench.refuses_coinbase(&moved, Reason::TargetMismatch);
    }
    // Outside of coinb1 there is nothing to lay it over.
    let mut template = bench.template();
    for outside in [template.coinbase.coinb1.len(), 5_000, usize::from(u16::MAX)] {
        template.coinbase.target_index = u16::try_from(outside).expect("a u16");
        let found = Found {
            nonce: 7,
            ..template.draft(0)
        };
        bench.refuses(&found, Reason::TargetMismatch);
    }
    // With the pot in its place, all that is wrong with such a coinbase is the payout.
    let mut template = bench.template().with(&in_coinb1);
    template.coinbase_id = 2;
    bench.refuses(&template.share(0), Reason::BadCoinbaseOutputs);
}

#[test]
fn the_extranonce_laid_over_something_else() {
    let mut bench = Bench::new();
    let recipe = bench.recipe();
    let script = recipe.payments[0].1.clone();
    let good = recipe.build();
    let as_output = recipe.build_with_extranonce_output();
    for transaction in [&good, &as_output] {
        let find = |part: &[u8]| place_of(transaction, part);
        let push = find(&extranonce_push());
        let places = [
            (find(&recipe.tag), "the tag"),
            (transaction.target_at + 3, "the prime_id"),
            (transaction.target_at + 1, "the unique id"),
            (find(&script) - 9, "the value of an output"),
            (find(&script), "the script of an output"),
            (find(&script) + 1, "the script of an output, but for its first byte"),
            (find(&witness_commitment()) + 6, "the commitment"),
            (push + 1, "the prefix"),
            (push + 4, "what follows the push"),
            (transaction.bytes.len() - 12, "the end"),
        ];
        for (extranonce_at, what) in places {
            let moved = CoinbaseTransaction {
                extranonce_at,
                ..transaction.clone()
            };
            if moved.extranonce_at <= moved.target_at {
                // The pot's place is no longer in coinb1 then, which is refused before the form is looked at.
                let template = bench.template().with(&moved);
                bench.refuses(&template.draft(0), Reason::TargetMismatch);
                continue;
            }
            let template = bench.template().with(&moved);
            // The bytes that are laid over are what an attacker would write there, the honest ones first.
            for extranonce in [moved.bytes[extranonce_at..extranonce_at + 12].to_vec(), vec![3; 12]] {
                let found = Found {
                    extranonce,
                    ..template.draft(0)
                }
                .mine();
                let verdict = bench.session.submit(&found.with_sections());
                assert!(
                    matches!(verdict, Err(Reason::BadCoinbase | Reason::TargetMismatch)),
                    "{what}: {verdict:?}"
                );
            }
            bench.works();
        }
    }
}

#[test]
fn coinbases_of_another_form() {
    let mut bench = Bench::new();
    let recipe = bench.recipe();
    let pushes = recipe.pushes();
    let push = extranonce_push();
    let prime = recipe.prime_push();
    let height = pushes[..4].to_vec();
    let tag = pushes[4..pushes.len() - prime.len()].to_vec();

    let scripts = [
        ([&pushes[..], &prime, &push].concat(), "two prime pushes"),
        ([&pushes[..], &push, &push].concat(), "two extranonce pushes"),
        (
            [&pushes[..], &push, &prime].concat(),
            "a prime push behind the extranonce",
        ),
        ([&pushes[..], &push, &[0]].concat(), "a push of nothing behind it"),
        ([&pushes[..], &[1, 5], &push].concat(), "one push more"),
        (
            [&tag[..], &height, &prime, &push].concat(),
            "tag and height in another order",
        ),
        ([&height[..], &prime, &push].concat(), "no tag"),
        ([&height[..], &height, &tag, &prime, &push].concat(), "two heights"),
        (
            [&[4], &height[1..], &[0], &tag, &prime, &push].concat(),
            "a height with a byte too many",
        ),
        (pushes.clone(), "no extranonce at all"),
        (
            [&pushes[..], &push, &[0x51; 90]].concat(),
            "a scriptSig above 100 bytes",
        ),
    ];
    for (sig, what) in scripts {
        let transaction = recipe.around(&sig, &[]);
        let template = bench.template().with(&transaction);
        let verdict = bench.session.submit(&template.share(0).with_sections());
        assert_eq!(verdict, Err(Reason::BadCoinbase), "{what}");
        bench.works();
    }

    let good = recipe.build();
    let mut forms: Vec<(CoinbaseTransaction, &str)> = Vec::new();
    let mut spoilt = |at: usize, byte: u8, what| {
        let mut transaction = good.clone();
        assert_ne!(transaction.bytes[at], byte);
        transaction.bytes[at] = byte;
        forms.push((transaction, what));
    };
    spoilt(0, 2, "version 2");
    spoilt(4, 2, "two inputs");
    spoilt(5, 1, "an input that is not null");
    spoilt(37, 0, "an input with another index");
    spoilt(good.bytes.len() - 1, 1, "a lock time");
    spoilt(good.extranonce_at + 12, 0, "a sequence number");
    spoilt(good.extranonce_at + 12 + 4, 3, "more outputs than there are");
    spoilt(good.extranonce_at + 12 + 4, 1, "fewer outputs than there are");
    let mut trailing = good.clone();
    trailing.bytes.push(0);
    forms.push((trailing, "a trailing byte"));
    let mut cut = good.clone();
    cut.bytes.pop();
    forms.push((cut, "a byte too few"));
    forms.push((
        recipe.around(&[&pushes[..], &push].concat(), &[(0, &extranonce_output_script())]),
        "extranonce in both places",
    ));
    let with = |change: &dyn Fn(&mut Recipe)| {
        let mut other = recipe.clone();
        change(&mut other);
        other.build()
    };
    forms.push((with(&|recipe| recipe.commitment = None), "no commitment"));
    forms.push((with(&|recipe| recipe.height += 1), "another height"));
    forms.push((with(&|recipe| recipe.payments[0].0 -= 1), "less than the value"));
    forms.push((with(&|recipe| recipe.payments[0].0 += 1), "more than the value"));
    forms.push((with(&|recipe| recipe.payments.clear()), "no payment"));
    forms.push((
        with(&|recipe| recipe.payments.insert(0, (u64::MAX, vec![0x51]))),
        "a sum past 64 bits",
    ));
    for (transaction, what) in forms {
        let template = bench.template().with(&transaction);
        let verdict = bench.session.submit(&template.share(0).with_sections());
        assert_eq!(verdict, Err(Reason::BadCoinbase), "{what}");
        bench.works();
    }

    // A value that no block of the dev chain could have.
    let mut job = Job::new(0, 1);
    job.value = SUBSIDY + 50_000_000_001;
    let template = Template::new(job, bench.session.terms());
    bench.refuses(&template.share(0), Reason::BadCoinbase);
}

#[test]
fn tags_and_prime_ids_that_are_not_the_sessions() {
    let mut bench = Bench::new();
    let recipe = bench.recipe();
    for tag in [
        b"another".to_vec(),
        Vec::new(),
        [&recipe.tag[..], b"more"].concat(),
        recipe.tag[1..].to_vec(),
    ] {
        let other = Recipe { tag, ..recipe.clone() };
        bench.refuses_coinbase(&other.build(), Reason::MissingPoolTag);
    }
    let foreign = Gateway::new().connect(&bench.pool).prime_id();
    assert_ne!(foreign, recipe.prime_id);
    for prime_id in [foreign, 0, recipe.prime_id.wrapping_add(0x0100_0000), u32::MAX] {
        let other = Recipe {
            prime_id,
            ..recipe.clone()
        };
        bench.refuses_coinbase(&other.build(), Reason::MissingPoolTag);
    }
}

#[test]
fn outputs_that_were_not_dictated() {
    let mut bench = Bench::new();
    let recipe = bench.recipe();
    let script = recipe.payments[0].1.clone();
    let payments = [
        vec![(SUBSIDY, vec![0x51])],
        vec![(1_000, vec![0x51]), (SUBSIDY - 1_000, script.clone())],
        vec![(SUBSIDY - 1_000, script.clone()), (1_000, vec![0x51])],
        vec![(SUBSIDY - 1_000, script.clone()), (1_000, script.clone())],
        vec![(SUBSIDY, vec![0x6a, 1, 0])],
        vec![(SUBSIDY, [&script[..], &[0]].concat())],
    ];
    for payments in payments {
        let other = Recipe {
            payments,
            ..recipe.clone()
        };
        bench.refuses_coinbase(&other.build(), Reason::BadCoinbaseOutputs);
    }
}
