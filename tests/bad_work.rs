//! Work that must not count comes back with the reason that the protocol has for it, and what is honest counts.

use millrace::wire::{BRANCHES_MAX, COINB1_MAX, COINB2_MAX, Flags, Reason, SUBSIDY_ONLY_ID};
use millrace::work::{COINBASE_BUDGET, NTIME_WINDOW_S, POT_MAX};
use crate::pool::Pool;
use crate::pool::gateway::{Gateway, Session};
use crate::pool::work::{
    Coinbase, Found, Job, Recipe, SUBSIDY, Template, Transaction, extranonce_push, extranonce_script,
    witness_commitment,
};

/// A pool with one session, which counts what it has accepted.
struct Bench {
    pool: Pool,
    session: Session,
    accepted: u64,
    /// Numbers for shares that are made here.
    next: u32,
}

impl Bench {
    fn new() -> Self {
        let pool = Pool::start();
        let session = Gateway::new().connect(&pool);
        Self {
            pool,
            session,
            accepted: 0,
            next: 1_000,
        }
    }

    /// An honest template upon a parent that all tests here share.
    fn template(&self) -> Template {
        self.session.template(0, 1)
    }

    fn recipe(&self) -> Recipe {
        self.session.recipe(&Job::new(0, 1))
    }

    /// A share with its sections is refused for `reason` and for nothing else: an honest one counts afterwards.
    fn refuses(&mut self, found: &Found<'_>, reason: Reason) {
        assert_eq!(self.session.submit(&found.with_sections()), Err(reason), "{found:?}");
        self.works();
    }

    /// The same for shares on a coinbase of another form.
    fn refuses_coinbase(&mut self, transaction: &Transaction, reason: Reason) {
        let template = self.template().with(transaction);
        self.refuses(&template.share(0), reason);
    }

    fn accepts(&mut self, found: &Found<'_>) {
        assert_eq!(self.session.submit(&found.with_sections()), Ok(()), "{found:?}");
        self.accepted += 1;
    }

    fn accepts_coinbase(&mut self, transaction: &Transaction) {
        let template = self.template().with(transaction);
        self.next += 1;
        self.accepts(&template.share(self.next));
    }

    fn works(&mut self) {
        let template = self.template();
        self.next += 1;
        self.accepts(&template.share(self.next));
    }

    fn refused(&self, reason: Reason) -> u64 {
        let label = format!("reason=\"{}\"", reason.label());
        self.pool.metric("millrace_shares_refused_total", &[&label])
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            assert_eq!(self.pool.stored(), self.accepted, "what counts is what was accepted");
        }
    }
}

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
    subsidy.commitment = false;
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
fn jobs_and_coinbases_that_never_came() {
    let mut bench = Bench::new();
    let template = bench.template();
    // 10: no such slot, and a slot without a job.
    bench.refuses(&template.in_slot(8).share(0), Reason::BadJobId);
    assert_eq!(
        bench.session.submit(&template.in_slot(3).share(0).bare()),
        Err(Reason::BadJobId)
    );

    // 18: the job alone; its share counts as soon as the coinbase is there.
    let other = template.in_slot(4);
    let found = other.share(1);
    let mut share = found.with_sections();
    share.coinbase = None;
    assert_eq!(bench.session.submit(&share), Err(Reason::CoinbaseMissing));
    share.job = None;
    share.coinbase = Some(other.coinbase_section());
    assert_eq!(bench.session.submit(&share), Ok(()));
    bench.accepted += 1;

    // 22: the section is of another id.
    let found = other.share(2);
    let mut share = found.with_sections();
    share.coinbase_id = 1;
    assert_eq!(bench.session.submit(&share), Err(Reason::CoinbaseIdMismatch));
    bench.works();
    assert_eq!(bench.refused(Reason::BadJobId), 2);
    assert_eq!(bench.refused(Reason::CoinbaseMissing), 1);
    assert_eq!(bench.refused(Reason::CoinbaseIdMismatch), 1);
}

#[test]
fn coinbase_ids_and_extranonces_of_other_kinds() {
    let mut bench = Bench::new();
    let template = bench.template();
    for (coinbase_id, flags) in [(6, 0), (0xfe, 0), (SUBSIDY_ONLY_ID, 0), (0, Flags::SUBSIDY_ONLY)] {
        let mut template = template.clone();
        template.coinbase_id = coinbase_id;
        let found = Found {
            flags,
            ..template.draft(0)
        };
        bench.refuses(&found, Reason::BadCoinbaseId);
    }
    for len in [0, 11, 13, 255] {
        let found = Found {
            extranonce: vec![1; len],
            ..template.draft(0)
        };
        bench.refuses(&found, Reason::BadExtranonce);
    }
    assert_eq!(bench.refused(Reason::BadCoinbaseId), 4);
    assert_eq!(bench.refused(Reason::BadExtranonce), 4);
}

#[test]
fn sections_keep_what_a_refused_share_brought() {
    let mut bench = Bench::new();
    let template = bench.template().in_slot(6);
    let bad = Found {
        version: 0,
        ..template.draft(0)
    }
    .mine();
    assert_eq!(bench.session.submit(&bad.with_sections()), Err(Reason::BadVersion));
    assert_eq!(bench.session.submit(&template.share(1).bare()), Ok(()));
    bench.accepted += 1;
}

#[test]
fn merkle_branches_that_do_not_fit() {
    let mut bench = Bench::new();
    for (tx_count, branches) in [(0, 1), (1, 0), (2, 1), (4, 2), (1 << 24, BRANCHES_MAX + 1)] {
        let mut template = bench.template();
        template.job.tx_count = tx_count;
        template.job.branches = vec![[7; 32]; branches];
        bench.refuses(&template.share(0), Reason::BadMerkleCount);
    }
    // As many as may be.
    let mut template = bench.template();
    template.job.tx_count = 1 << (BRANCHES_MAX - 1);
    template.job.branches = vec![[7; 32]; BRANCHES_MAX];
    bench.accepts(&template.share(0));
}

#[test]
fn coinbases_above_the_size() {
    let mut bench = Bench::new();
    let mut template = bench.template();
    template.coinbase = Coinbase {
        target_index: 50,
        coinb1: vec![1; COINB1_MAX],
        coinb2: vec![1; COINB2_MAX + 1],
    };
    bench.refuses(&template.draft(0), Reason::CoinbaseTooLarge);
    // One less is judged by its content.
    template.coinbase.coinb2.pop();
    bench.refuses(&template.share(0), Reason::BadCoinbase);
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
        split.payments = vec![
            (1_000, payout.clone()),
            (0, extranonce_script()),
            (leftover.0 - 1_000, leftover.1),
        ];
        let mut transaction = split.around(&split.pushes(), &[]);
        transaction.extranonce_at = transaction.find(&extranonce_push()) + 3;
        transaction
    };
    let prime = good.target_at;
    let places = [
        (&good, good.find(&recipe.tag), "the tag"),
        (&good, prime - 1, "the length of the push"),
        (&good, prime + 1, "the unique id"),
        (&good, prime + 3, "the prime_id"),
        (&good, prime + 6, "the end of the prime_id"),
        (&good, 4, "the count of inputs"),
        (&good, good.extranonce_at - 1, "the prefix"),
        (&in_coinb1, in_coinb1.find(&payout), "the script of an output"),
        (&in_coinb1, in_coinb1.find(&payout) - 9, "the value of an output"),
    ];
    for (transaction, target_at, what) in places {
        let moved = Transaction {
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
        (&in_coinb1, in_coinb1.find(&payout)),
    ] {
        let moved = Transaction {
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
        let push = transaction.find(&extranonce_push());
        let places = [
            (transaction.find(&recipe.tag), "the tag"),
            (transaction.target_at + 3, "the prime_id"),
            (transaction.target_at + 1, "the unique id"),
            (transaction.find(&script) - 9, "the value of an output"),
            (transaction.find(&script), "the script of an output"),
            (
                transaction.find(&script) + 1,
                "the script of an output, but for its first byte",
            ),
            (transaction.find(&witness_commitment()) + 6, "the commitment"),
            (push + 1, "the prefix"),
            (push + 4, "what follows the push"),
            (transaction.bytes.len() - 12, "the end"),
        ];
        for (extranonce_at, what) in places {
            let moved = Transaction {
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
    let mut forms: Vec<(Transaction, &str)> = Vec::new();
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
        recipe.around(&[&pushes[..], &push].concat(), &[(0, extranonce_script())]),
        "extranonce in both places",
    ));
    let with = |change: &dyn Fn(&mut Recipe)| {
        let mut other = recipe.clone();
        change(&mut other);
        other.build()
    };
    forms.push((with(&|recipe| recipe.commitment = false), "no commitment"));
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

#[test]
fn pots_times_and_versions_out_of_range() {
    let mut bench = Bench::new();
    let template = bench.template();
    let above = Found {
        pot: POT_MAX + 1,
        ..template.draft(0)
    };
    bench.refuses(&above, Reason::BadTarget);
    let far_above = Found {
        pot: u8::MAX,
        ..template.draft(0)
    };
    bench.refuses(&far_above, Reason::BadTarget);

    // A minute beyond and a minute within, so that the clock may move on.
    let now = template.ntime;
    let window = u32::try_from(NTIME_WINDOW_S).expect("two hours");
    for ntime in [0, now - window - 60, now + window + 60, u32::MAX] {
        let found = Found {
            ntime,
            ..template.draft(0)
        };
        bench.refuses(&found.mine(), Reason::BadNtime);
    }
    for (n, ntime) in [now - window + 60, now + window - 60].into_iter().enumerate() {
        let found = Found {
            ntime,
            ..template.draft(1 + u32::try_from(n).expect("0 or 1"))
        };
        bench.accepts(&found.mine());
    }

    for version in [0, 0x1fff_ffff, 0x4000_0000, 0x6000_0000, 0xe000_0000] {
        let found = Found {
            version,
            ..template.draft(0)
        };
        bench.refuses(&found.mine(), Reason::BadVersion);
    }
    // Nodes may signal any other bit, and miners may roll them.
    let rolled = Found {
        version: 0x3fff_ffff,
        ..template.draft(9)
    };
    bench.accepts(&rolled.mine());
}

#[test]
fn hashes_above_their_target() {
    let mut bench = Bench::new();
    let template = bench.template();
    let found = Found {
        pot: template.pot + 10,
        ..template.draft(0)
    };
    bench.refuses(&found.clone().mine_nothing(), Reason::HighHash);
    bench.accepts(&found.mine());
    // What a miner commits to cannot be claimed higher afterwards.
    let honest = Found {
        pot: template.pot + 1,
        ..template.draft(1)
    }
    .mine();
    let claimed = Found {
        pot: template.pot + 30,
        ..honest.clone()
    };
    bench.refuses(&claimed, Reason::HighHash);
    bench.accepts(&honest);
}

#[test]
fn usernames_that_mean_nobody() {
    let mut bench = Bench::new();
    let template = bench.template();
    let names: [&[u8]; 6] = [
        b"",
        b"satoshi",
        b".rig",
        b"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t5",
        b"\xff\xfe\xfd",
        b"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4.\x07",
    ];
    for username in names {
        let found = Found {
            username: username.to_vec(),
            ..template.draft(0)
        };
        bench.refuses(&found.mine(), Reason::BadUsername);
    }
    let (payees, workers) = (bench.pool.stat("payees"), bench.pool.stat("workers"));
    assert_eq!((payees, workers), (1, 1), "a refused share makes no payee");
    for (n, username) in [
        &b"BC1QW508D6QEJXTDG4Y5R3ZARVARY0C5XW7KV8F3T4.other"[..],
        b"tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx",
        b"1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa",
    ]
    .into_iter()
    .enumerate()
    {
        let found = Found {
            username: username.to_vec(),
            ..template.draft(1 + u32::try_from(n).expect("few"))
        };
        bench.accepts(&found.mine());
    }
    // One script is one payee, however it is written.
    assert_eq!(bench.pool.stat("payees"), 2);
    assert_eq!(bench.pool.stat("workers"), 4);
}

#[test]
fn the_same_work_again() {
    let mut bench = Bench::new();
    let template = bench.template();
    let shares: Vec<_> = (0..3).map(|n| template.share(n)).collect();
    for share in &shares {
        bench.accepts(share);
    }
    // As it was.
    for share in &shares {
        assert_eq!(bench.session.submit(&share.bare()), Err(Reason::DuplicateWork));
    }
    // The job section sent again with its old shares.
    for share in &shares {
        assert_eq!(bench.session.submit(&share.with_sections()), Err(Reason::DuplicateWork));
    }
    // The same job under another slot.
    let elsewhere = template.in_slot(5);
    for n in 0..3 {
        assert_eq!(
            bench.session.submit(&elsewhere.share(n).with_sections()),
            Err(Reason::DuplicateWork)
        );
    }
    // The same coinbase under another id, as classes 1 to 5 are where there is no split.
    let mut class = template.clone();
    class.coinbase_id = 3;
    for n in 0..3 {
        assert_eq!(
            bench.session.submit(&class.share(n).with_sections()),
            Err(Reason::DuplicateWork)
        );
    }
    // For another miner of the gateway.
    let renamed = Found {
        username: b"tb1qw508d6qejxtdg4y5r3zarvary0c5xw7kxpjzsx".to_vec(),
        ..shares[0].clone()
    };
    assert_eq!(
        bench.session.submit(&renamed.with_sections()),
        Err(Reason::DuplicateWork)
    );
    // New work under both slots counts, once.
    bench.accepts(&elsewhere.share(10));
    assert_eq!(
        bench.session.submit(&template.share(10).with_sections()),
        Err(Reason::DuplicateWork)
    );
    bench.accepts(&template.share(11));
    assert_eq!(bench.refused(Reason::DuplicateWork), 14);
}

#[test]
fn parents_that_are_stale() {
    let mut bench = Bench::new();
    let at = |bench: &Bench, parent: u8| bench.session.template(parent % 8, parent);
    // Five parents named: the first is too old, and stays so when it is named again.
    for parent in 1..=5 {
        let template = at(&bench, parent);
        bench.accepts(&template.share(0));
    }
    let first = at(&bench, 1);
    assert_eq!(
        bench.session.submit(&first.share(1).with_sections()),
        Err(Reason::StaleBlock)
    );
    assert_eq!(
        bench.session.submit(&first.share(0).with_sections()),
        Err(Reason::StaleBlock)
    );
    for parent in 2..=5 {
        let template = at(&bench, parent);
        bench.accepts(&template.share(1));
    }
    assert_eq!(
        bench.session.submit(&first.share(2).with_sections()),
        Err(Reason::StaleBlock)
    );
    assert_eq!(bench.refused(Reason::StaleBlock), 3);
}

#[test]
fn coinbases_past_the_budget() {
    /// What the largest takes when it is kept: whole blocks of 64 bytes, with what hashing appends.
    const LARGEST: usize = (100 + 12 + COINB2_MAX + 9).next_multiple_of(64);

    let mut bench = Bench::new();
    // Well-formed or not: what is kept costs memory. Slot 7 stays free.
    let mut left = COINBASE_BUDGET;
    for n in 0.. {
        let kept = left.min(LARGEST);
        let mut template = bench.template().in_slot(n % 7);
        template.coinbase_id = n / 7;
        template.coinbase = Coinbase {
            target_index: 50,
            coinb1: vec![1; 100],
            coinb2: vec![1; kept - 9 - 100 - 12],
        };
        let found = template.draft(0);
        let mut share = found.with_sections();
        // The slot's job stays, and the coinbases that it has.
        share.job = share.job.filter(|_| template.coinbase_id == 0);
        assert_eq!(bench.session.submit(&share), Err(Reason::BadCoinbase));
        left -= kept;
        if left == 0 {
            break;
        }
    }
    let template = bench.template().in_slot(7);
    assert_eq!(
        bench.session.submit(&template.share(0).with_sections()),
        Err(Reason::Other)
    );
    assert_eq!(bench.session.submit(&template.share(1).bare()), Err(Reason::Other));
    assert_eq!(
        bench
            .pool
            .metric("millrace_bound_hits_total", &["bound=\"coinbase_budget\""]),
        2
    );
    assert_eq!(bench.refused(Reason::Other), 2);
    // A new job lets the old coinbases of its slot go, and work goes on.
    bench.works();
    bench.accepts(&template.share(0));
}

#[test]
fn no_session_can_submit_another_ones_work() {
    let mut bench = Bench::new();
    let mut thief = Gateway::new().connect(&bench.pool);
    let template = bench.template();
    let found = template.share(0);
    assert_eq!(thief.submit(&found.with_sections()), Err(Reason::MissingPoolTag));
    bench.accepts(&found);
    assert_eq!(thief.submit(&found.bare()), Err(Reason::MissingPoolTag));
    assert_eq!(bench.session.submit(&found.bare()), Err(Reason::DuplicateWork));
}
