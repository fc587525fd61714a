//! Work that must not count comes back with the reason that the protocol has for it, and what is honest counts.

use crate::pool::bench::Bench;
use crate::pool::gateway::Gateway;
use crate::pool::work::{Coinbase, Found};
use millrace::wire::{BRANCHES_MAX, COINB2_MAX, Flags, Reason, SUBSIDY_ONLY_ID, USERNAME_MAX};
use millrace::work::{COINBASE_BUDGET, NTIME_WINDOW_S, POT_MAX, WORKER_MAX};

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

    // 22: its own is known, and the section that it brings is of another id.
    let found = other.share(2);
    let mut share = found.with_sections();
    share.job = None;
    share.coinbase.iter_mut().for_each(|section| section.coinbase_id = 1);
    assert_eq!(bench.session.submit(&share), Err(Reason::CoinbaseIdMismatch));
    // 18 again, where the job is new and its own never came.
    let mut share = found.with_sections();
    share.coinbase.iter_mut().for_each(|section| section.coinbase_id = 1);
    assert_eq!(bench.session.submit(&share), Err(Reason::CoinbaseMissing));
    bench.works();
    assert_eq!(bench.refused(Reason::BadJobId), 2);
    assert_eq!(bench.refused(Reason::CoinbaseMissing), 2);
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
        b"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4\x07.rig",
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
fn a_workers_name_costs_no_work() {
    const ADDRESS: &[u8] = b"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4.";
    let mut bench = Bench::new();
    let template = bench.template();
    bench.accepts(&template.share(0));
    let workers = bench.pool.stat("workers");
    let longest = USERNAME_MAX - ADDRESS.len();
    let names = [
        vec![0x07],
        vec![0xff, 0xfe],
        "вышка".into(),
        vec![b'w'; WORKER_MAX],
        vec![b'w'; longest],
    ];
    for (n, name) in names.iter().enumerate() {
        let found = Found {
            username: [ADDRESS, name].concat(),
            ..template.draft(1 + u32::try_from(n).expect("few"))
        };
        bench.accepts(&found.mine());
    }
    // The last two share all bytes that count.
    assert_eq!(bench.pool.stat("workers"), workers + 4);
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
    /// What the largest takes of a transaction when it is kept: whole blocks of 64 bytes, with what hashing appends.
    const LARGEST: usize = (100 + 12 + COINB2_MAX + 9).next_multiple_of(64);
    /// Less than any good coinbase takes.
    const SMALLEST: usize = 192;

    let mut bench = Bench::new();
    // Well-formed or not: what is kept costs memory, and so does what is known of it. As many of the largest as may fit, then
    // two of each half as large: less than the smallest takes is left. Slot 7 stays free.
    let largest = std::iter::repeat_n(LARGEST, COINBASE_BUDGET / LARGEST);
    let halves = std::iter::successors(Some(LARGEST / 2), |size| Some(size / 2)).take_while(|size| *size > SMALLEST);
    let sizes = halves.chain([SMALLEST]).flat_map(|size| [size / 64 * 64; 2]);
    for (n, kept) in (0_u8..).zip(largest.chain(sizes)) {
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
