//! A gateway against the real judge, in memory.

use super::*;
use crate::mix::{How, TABLE};
use crate::mock::{Dictate, MockPool, MockSession};
use crate::payee::ANY_NETWORK;
use crate::template::Templates;
use millrace::wire::{Flags, Reason, SUBSIDY_ONLY_ID};

const UNIX_S: u32 = 1_750_000_000;

/// A gateway, its pool, and what lies between them.
struct Rig {
    pool: MockPool,
    session: MockSession,
    gateway: Gateway,
    world: World,
    /// Bytes under way to the pool.
    out: Vec<u8>,
}

fn dictate(tag: &str, pot: u8) -> Dictate {
    Dictate {
        script: [&[0x00, 0x14][..], &[0xab; 20]].concat(),
        tag: tag.as_bytes().to_vec(),
        pot,
        payees: 300,
    }
}

impl Rig {
    fn new(index: usize, dictate: Dictate, bad_percent: f64, behaviour: Behaviour) -> Self {
        let mut pool = MockPool::new(dictate);
        pool.now_s = u64::from(UNIX_S);
        let mut world = World {
            setup: Setup {
                pool: pool.keys.public(),
                asics: 12,
                payees: Payees::OfGateway,
                networks: ANY_NETWORK,
                in_flight_max: 1_000,
                job_every_ns: 5 * SECOND_NS,
                behaviour,
                spoils: None,
                spoilers: 0,
                no_blocks: false,
                by_hash: false,
            },
            now_ns: SECOND_NS,
            unix_s: UNIX_S,
            tip: 1,
            all_ask: false,
            measuring: true,
            source: Source::MadeUp(Templates::new(index as u64, 0..=12)),
            tally: Tally::default(),
            mix: Mix::new(bad_percent),
            rng: Rng::new(index as u64),
        };
        let mut rig = Self {
            pool,
            session: MockSession::new(),
            gateway: Gateway::new(index, &world.setup, &mut world.rng),
            world,
            out: Vec::new(),
        };
        rig.connect();
        rig
    }

    fn connect(&mut self) {
        self.session = MockSession::new();
        self.gateway.greet(self.world.now_ns, &mut self.world, &mut self.out);
        self.exchange();
    }

    /// Moves bytes until nobody has more to say.
    fn exchange(&mut self) {
        while !self.out.is_empty() {
            let mut answers = Vec::new();
            self.session
                .feed(&std::mem::take(&mut self.out), &mut self.pool, &mut answers);
            let used = self
                .gateway
                .receive(&mut answers, &mut self.world, &mut self.out)
                .expect("the mock keeps to the protocol");
            assert_eq!(used, answers.len());
        }
    }

    fn mine(&mut self, shares: usize) {
        for _ in 0..shares {
            assert!(self.gateway.share(self.world.now_ns, &mut self.world, &mut self.out));
            self.exchange();
        }
    }

    /// Lets time pass, and with it jobs and now and then tips.
    fn pass(&mut self, seconds: u64) {
        self.world.now_ns += seconds * SECOND_NS;
        let mut ping = Vec::new();
        self.session.ping(&mut ping);
        self.gateway
            .receive(&mut ping, &mut self.world, &mut self.out)
            .expect("a good frame");
        self.gateway
            .tick(&mut self.world, &mut self.out)
            .expect("the pool is alive");
        self.exchange();
    }

    fn expect_all_right(&self) {
        let tally = &self.world.tally;
        assert_eq!(
            (tally.wrong, tally.unasked, tally.faults),
            (0, 0, 0),
            "{:?}",
            tally.samples
        );
        assert_eq!(self.gateway.in_flight(), 0);
        assert_eq!(tally.accepted, self.pool.accepted());
        assert_eq!(tally.accepted_paying, self.pool.paying);
    }
}

#[test]
fn shares_of_every_class_and_every_count_of_branches_are_accepted() {
    for (index, tag) in [
        (0, "millrace"),
        (1, ""),
        (2, &*"t".repeat(83)),
        (3, "millrace"),
        (7, &"t".repeat(70)),
    ] {
        for (pot, payees) in [(0, 300), (3, 2), (1, 512), (0, 0)] {
            let dictate = Dictate {
                payees,
                ..dictate(tag, pot)
            };
            let mut rig = Rig::new(index, dictate, 0.0, Behaviour::Mine);
            for round in 0..40 {
                rig.world.tip = 1 + round / 10;
                // Before and after the split of the job is there.
                rig.world.now_ns += 6 * SECOND_NS;
                rig.gateway.tick(&mut rig.world, &mut rig.out).expect("alive");
                let asked = std::mem::take(&mut rig.out);
                for _ in 0..40 {
                    assert!(rig.gateway.share(rig.world.now_ns, &mut rig.world, &mut rig.out));
                }
                let shares = std::mem::replace(&mut rig.out, asked);
                rig.out.extend_from_slice(&shares);
                rig.exchange();
                rig.mine(24);
            }
            rig.expect_all_right();
            assert_eq!(rig.world.tally.accepted, 40 * 64);
            assert_eq!(rig.world.tally.split_outputs.max(), u64::from(payees));
            assert_eq!(rig.pool.paying > 500, payees > 0, "{}", rig.pool.paying);
            let classes = &rig.pool.classes;
            for coinbase_id in 0..6 {
                let quickdiff = classes.contains_key(&(coinbase_id, Flags::QUICKDIFF));
                assert!(classes.contains_key(&(coinbase_id, 0)), "{coinbase_id} in {classes:?}");
                assert!(quickdiff || coinbase_id > 3, "{coinbase_id} in {classes:?}");
            }
            assert!(
                classes.contains_key(&(SUBSIDY_ONLY_ID, Flags::SUBSIDY_ONLY)),
                "{classes:?}"
            );
        }
    }
}

#[test]
fn every_bad_share_comes_back_with_its_reason() {
    for (index, tag) in [(0, "millrace"), (1, "m"), (3, "millrace"), (5, "")] {
        let mut rig = Rig::new(index, dictate(tag, 2), 20.0, Behaviour::Mine);
        for round in 0..60 {
            rig.world.tip = 1 + round / 7;
            rig.mine(50);
            rig.pass(6);
        }
        rig.expect_all_right();
        for bad in TABLE {
            let seen = rig.world.tally.refused[usize::from(bad.reason.code())];
            assert!(seen > 0, "{:?} never came up", bad.reason);
            assert_eq!(rig.pool.verdicts.get(&Some(bad.reason)), Some(&seen));
        }
        let without = [Reason::HNotZero, Reason::Other];
        for reason in Reason::ALL {
            let there = TABLE.iter().any(|bad| bad.reason == reason);
            assert_eq!(there, !without.contains(&reason), "{reason:?}");
        }
    }
}

#[test]
fn each_way_to_tamper_with_a_split_is_refused_as_meant() {
    let mut rig = Rig::new(0, dictate("millrace", 0), 0.0, Behaviour::Mine);
    rig.mine(12);
    while rig.gateway.slots.newest().expect("a job").template.coinbase_room() < 10_000 {
        rig.pass(6);
    }
    let ways: Vec<_> = TABLE
        .into_iter()
        .filter(|bad| matches!(bad.how, How::Split(_) | How::SplitId))
        .collect();
    assert_eq!(ways.len(), 4);
    for bad in ways {
        let refused = |rig: &Rig| rig.world.tally.refused[usize::from(bad.reason.code())];
        let before = refused(&rig);
        for _ in 0..50 {
            let now_ns = rig.world.now_ns;
            assert!(rig.gateway.bad_share(bad, now_ns, &mut rig.world, &mut rig.out));
            rig.exchange();
        }
        assert_eq!(refused(&rig), before + 50);
    }
    rig.mine(24);
    rig.expect_all_right();
}

#[test]
fn where_no_split_pays_anybody_none_is_named_or_tampered_with() {
    let dictate = Dictate {
        payees: 0,
        ..dictate("millrace", 0)
    };
    let mut rig = Rig::new(0, dictate, 20.0, Behaviour::Mine);
    for _ in 0..20 {
        rig.mine(50);
        rig.pass(6);
    }
    rig.expect_all_right();
    assert_eq!(rig.world.tally.accepted_paying, 0);
    assert_eq!(rig.world.tally.sent_bad[usize::from(Reason::BadCoinbaserId.code())], 0);
    assert!(rig.world.tally.refused[usize::from(Reason::BadCoinbaseOutputs.code())] > 0);
}

#[test]
fn a_split_is_paid_from_its_answer_on_by_the_job_that_asked() {
    let mut rig = Rig::new(0, dictate("millrace", 0), 0.0, Behaviour::Mine);
    rig.world.now_ns += 6 * SECOND_NS;
    rig.gateway.tick(&mut rig.world, &mut rig.out).expect("alive");
    let asked = std::mem::take(&mut rig.out);
    let job = |rig: &Rig| {
        let job = rig.gateway.slots.newest()?;
        Some((job.coinbaser_id, job.coinbase(4, Secondary::None).pays))
    };
    assert_eq!(job(&rig), Some((0, false)));
    // The first template of a tip has none, and the one before the newest has its own.
    let newest_waits = rig.world.tally.accepted_paying;
    rig.out = asked;
    rig.exchange();
    assert_eq!(job(&rig), Some((2, true)));
    rig.mine(12);
    assert!(rig.world.tally.accepted_paying > newest_waits);
    // What a drop of the connection leaves unasked stays without.
    rig.world.now_ns += 6 * SECOND_NS;
    rig.gateway.tick(&mut rig.world, &mut rig.out).expect("alive");
    rig.out.clear();
    rig.gateway.close(&mut rig.world);
    rig.connect();
    assert_eq!(job(&rig), Some((0, false)));
    let paying = rig.world.tally.accepted_paying;
    rig.mine(48);
    rig.expect_all_right();
    let by_those_who_lag = rig.world.tally.accepted_paying - paying;
    assert!((1..24).contains(&by_those_who_lag), "{by_those_who_lag}");
}

#[test]
fn a_split_above_its_value_is_a_fault_and_cut() {
    let mut rig = Rig::new(0, dictate("millrace", 0), 0.0, Behaviour::Mine);
    rig.world.now_ns += 6 * SECOND_NS;
    rig.gateway.tick(&mut rig.world, &mut rig.out).expect("alive");
    rig.out.clear();
    let value = rig.gateway.slots.newest().expect("a job").template.value;
    let payouts = [value - 5, 6, 7].map(|value| Payout {
        value,
        script: &[0x51; 22],
    });
    rig.gateway.split(value, 9, payouts.into_iter(), &mut rig.world);
    assert_eq!(rig.world.tally.faults, 1, "{:?}", rig.world.tally.samples);
    let job = rig.gateway.slots.newest().expect("a job");
    let paid: Vec<_> = job.recipe(4, Secondary::None).payouts.iter().collect();
    assert_eq!(paid, payouts[..1]);
}

#[test]
fn a_split_of_another_value_is_a_fault_and_none() {
    let mut rig = Rig::new(0, dictate("millrace", 0), 0.0, Behaviour::Mine);
    rig.world.now_ns += 6 * SECOND_NS;
    rig.gateway.tick(&mut rig.world, &mut rig.out).expect("alive");
    rig.out.clear();
    let value = rig.gateway.slots.newest().expect("a job").template.value + 1;
    let all = Payout {
        value,
        script: &[0x51; 22],
    };
    rig.gateway.split(value, 9, [all].into_iter(), &mut rig.world);
    assert_eq!(rig.world.tally.faults, 1, "{:?}", rig.world.tally.samples);
    let job = rig.gateway.slots.newest().expect("a job");
    assert_eq!((job.coinbaser_id, job.coinbase(4, Secondary::None).pays), (0, false));
}

#[test]
fn an_id_that_was_never_dictated_is_found_as_long_as_there_is_one() {
    let mut ids = DictatedIds::default();
    assert_eq!(ids.other(), Some(255));
    for id in [255, 254, 63, 64, 1] {
        ids.add(id);
    }
    assert_eq!(ids.other(), Some(253));
    (1..=255).for_each(|id| ids.add(id));
    assert_eq!(ids.other(), None);
}

#[test]
fn old_jobs_go_on_after_a_reconnect_with_their_sections_and_prime_id() {
    let mut rig = Rig::new(0, dictate("millrace", 0), 5.0, Behaviour::Mine);
    rig.mine(50);
    for _ in 0..5 {
        rig.gateway.close(&mut rig.world);
        rig.connect();
        rig.mine(50);
        rig.pass(1);
    }
    rig.pass(6);
    rig.mine(50);
    rig.expect_all_right();
    assert_eq!(rig.world.tally.lost, 0);
}

#[test]
fn new_terms_apply_with_the_next_job_and_the_least_pot_at_once() {
    let mut rig = Rig::new(0, dictate("millrace", 0), 3.0, Behaviour::Mine);
    rig.mine(50);
    for round in 0..12_u8 {
        rig.pool.dictate.pot = round % 5;
        rig.pool.dictate.script.push(round);
        let mut config = Vec::new();
        rig.session.configure(&mut rig.pool, &mut config);
        rig.gateway
            .receive(&mut config, &mut rig.world, &mut rig.out)
            .expect("CONFIG");
        let prime_id = |gateway: &Gateway| {
            let job = gateway.slots.newest().expect("a job");
            job.recipe(0, gateway.secondary).terms.prime_id
        };
        let before = prime_id(&rig.gateway);
        rig.mine(30);
        assert_eq!(prime_id(&rig.gateway), before);
        rig.pass(6);
        assert!(prime_id(&rig.gateway) > before);
        rig.mine(30);
    }
    rig.expect_all_right();
}

#[test]
fn shares_leave_early_under_the_former_key_and_are_answered() {
    let mut rig = Rig::new(3, dictate("millrace", 0), 0.0, Behaviour::Mine);
    rig.mine(50);
    rig.gateway.close(&mut rig.world);
    rig.session = MockSession::new();
    rig.gateway.greet(rig.world.now_ns, &mut rig.world, &mut rig.out);
    for _ in 0..20 {
        assert!(rig.gateway.has_room(&rig.world));
        assert!(rig.gateway.share(rig.world.now_ns, &mut rig.world, &mut rig.out));
    }
    rig.exchange();
    rig.mine(20);
    rig.expect_all_right();
    assert_eq!((rig.pool.early_opened, rig.world.tally.answered_early), (20, 20));
    assert_eq!((rig.world.tally.lost_early, rig.world.tally.unread_early), (0, 0));
}

#[test]
fn early_shares_that_a_pool_cannot_read_are_told_apart_from_missing_ones() {
    let mut rig = Rig::new(0, dictate("millrace", 0), 0.0, Behaviour::Mine);
    rig.mine(50);
    rig.gateway.close(&mut rig.world);
    rig.pool.forget_former_keys();
    rig.session = MockSession::new();
    rig.gateway.greet(rig.world.now_ns, &mut rig.world, &mut rig.out);
    for _ in 0..20 {
        rig.gateway.share(rig.world.now_ns, &mut rig.world, &mut rig.out);
    }
    rig.exchange();
    rig.mine(20);
    assert_eq!(rig.pool.early_skipped, 20);
    // The jobs of those 20 are unknown, until there is a new one.
    assert!(rig.world.tally.unread_early > 0);
    assert_eq!(rig.gateway.in_flight(), 20);
    rig.pass(11);
    rig.pass(1);
    let unread = rig.world.tally.unread_early;
    let accepted = rig.world.tally.accepted;
    rig.pass(6);
    rig.mine(48);
    rig.expect_all_right();
    assert!(unread >= 20);
    assert!(rig.world.tally.accepted > accepted);
}

#[test]
fn an_idle_gateway_asks_for_a_split_now_and_then() {
    let mut rig = Rig::new(0, dictate("millrace", 0), 0.0, Behaviour::Hold);
    rig.mine(8);
    let asked = rig.world.tally.splits_asked;
    for _ in 0..24 {
        rig.pass(30);
    }
    assert_eq!(rig.world.tally.splits_asked, asked + 12);
    rig.expect_all_right();
}

#[test]
fn a_pool_that_never_accepts_is_left() {
    let mut rig = Rig::new(0, dictate("millrace", 0), 0.0, Behaviour::Mine);
    rig.pool.now_s += 10_000;
    let mut left = None;
    for _ in 0..100 {
        rig.mine(1);
        rig.world.now_ns += SECOND_NS;
        left = rig.gateway.tick(&mut rig.world, &mut rig.out).err();
        rig.exchange();
        if left.is_some() {
            break;
        }
    }
    assert_eq!(left, Some(Broken::NothingAccepted));
}

#[test]
fn a_silent_pool_is_left() {
    let mut rig = Rig::new(0, dictate("millrace", 0), 0.0, Behaviour::Mine);
    rig.mine(8);
    rig.world.now_ns += SILENCE_NS;
    assert_eq!(rig.gateway.tick(&mut rig.world, &mut rig.out), Ok(()));
    rig.world.now_ns += 1;
    assert_eq!(rig.gateway.tick(&mut rig.world, &mut rig.out), Err(Broken::Silent));
}

#[test]
fn a_storm_gateway_sends_one_share_of_its_own_job() {
    let mut rig = Rig::new(0, dictate("millrace", 0), 0.0, Behaviour::Storm);
    for _ in 0..20 {
        assert!(rig.gateway.is_ready());
        rig.mine(1);
        rig.gateway.close(&mut rig.world);
        rig.connect();
    }
    rig.expect_all_right();
    assert_eq!(rig.world.tally.accepted, 20);
}
