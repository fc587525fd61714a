//! Rows of sessions: which of them are forgotten, and which stay.

use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::bundle::candidate;
use super::*;
use crate::ledger::hours::HOUR_MS;
use crate::ledger::lasting::Told;
use crate::ledger::log::Step;
use crate::ledger::open::durably;
use crate::ledger::{CandidateRow, LedgerBooks, WaitingEntry};
use crate::work::{BlockFacts, Booking, Pin, TERMS_MAX};

fn sessions(data_dir: &Path) -> Vec<u32> {
    let reader = LedgerReader::open(data_dir).expect("a ledger");
    let sessions = reader.sessions();
    sessions
        .map(|session| session.expect("a session").row.terms.prime_id)
        .collect()
}

fn proven(adopts: Vec<u32>) -> Mark {
    Mark::Proven {
        key: Box::new(ChannelKey::from_bytes([1; 32])),
        replaces: None,
        adopts,
    }
}

/// A session that was proved when it began, at these times in ms since 1970; one without an end is open.
fn past(shard: &mut Shard, gateway: u8, prime_id: u32, began_ms: u64, ended_ms: Option<u64>) {
    let row = SessionRow {
        opened_ms: began_ms,
        ..session(gateway, prime_id)
    };
    shard.push(Entry::session(row));
    let marks = [(proven(Vec::new()), Some(began_ms)), (ENDED, ended_ms)];
    for (mark, time_ms) in marks {
        if let Some(time_ms) = time_ms {
            shard.push(Entry::Mark(SessionMark {
                prime_id,
                mark,
                time_ms,
            }));
        }
    }
}

/// So many seconds before the start, in ms since 1970.
fn ago(seconds: u64) -> u64 {
    (NOW_S - seconds) * 1_000
}

#[test]
fn a_session_without_a_share_is_forgotten_whatever_is_heard_of_it_later() {
    let data = TempDir::new().expect("a folder");
    let mut served = Served::open(data.path(), 1);
    // The first stays for the script and the tag; one that nobody proved does not.
    served.shards[0].push(Entry::session(session(6, 200)));
    served.shards[0].mark(200, Mark::Abandoned);
    for prime_id in 1..=5_u8 {
        served.shards[0].session(prime_id, prime_id.into());
    }
    let miner = served.shards[0].miner(1, "");
    served.shards[0].share(miner, 3, 33);
    for prime_id in [1, 2] {
        served.shards[0].mark(prime_id, Mark::Abandoned);
    }
    // At once, and when it is gone from the disk.
    for _ in 0..2 {
        for mark in [
            proven(Vec::new()),
            Mark::Adopted { adopts: vec![2] },
            ENDED,
            Mark::Abandoned,
        ] {
            served.shards[0].mark(2, mark);
        }
        served.shards[0].mark(4, proven(vec![2]));
        served.settle();
        let killed = copy_of(data.path());
        assert_eq!(sessions(killed.path()), [1, 3, 4, 5]);
        assert_sound(killed.path());
        let ids = Ledger::open(killed.path(), &options()).expect("a ledger").prime_ids();
        assert_eq!(ids.next(), Some(201), "no id is given again");
    }
    // All of a session at once.
    for prime_id in 6..200 {
        served.shards[0].session(9, prime_id);
        served.shards[0].mark(prime_id, ENDED);
        served.shards[0].mark(prime_id, Mark::Abandoned);
    }
    served.settle();
    assert_eq!(served.telemetry.channel_keys.value(), 3);
    served.stop();
    assert_eq!(sessions(data.path()), [1, 3, 4, 5]);
    assert_eq!(hashes(data.path()), [33]);
    assert_sound(data.path());
}

#[test]
fn sessions_that_a_block_was_found_in_stay_and_those_of_its_finder() {
    let data = TempDir::new().expect("a folder");
    let mut served = Served::open(data.path(), 1);
    let shard = &mut served.shards[0];
    for (gateway, prime_id) in [(5, 9), (1, 1), (2, 2), (7, 3)] {
        shard.session(gateway, prime_id);
    }
    // Its coinbase names session 1.
    let block = candidate(1, &[0x51], &[], Booking::WithoutPayouts);
    shard.push(Entry::Candidate(Box::new(CandidateRow::new(
        block,
        [7; 32],
        NOW_S * 1_000,
    ))));
    // The first that would go stays, for the script and the tag.
    for prime_id in [9, 1, 2, 3] {
        shard.mark(prime_id, Mark::Abandoned);
    }
    served.settle();
    served.stop();
    assert_eq!(sessions(data.path()), [1, 3, 9]);
    let mut again = Served::open(data.path(), 1);
    for (gateway, prime_id) in [(7, 10), (8, 11)] {
        again.shards[0].session(gateway, prime_id);
        again.shards[0].mark(prime_id, Mark::Abandoned);
    }
    for prime_id in [1, 3] {
        again.shards[0].mark(prime_id, Mark::Abandoned);
    }
    again.settle();
    again.stop();
    assert_eq!(sessions(data.path()), [1, 3, 9, 10]);
    assert_sound(data.path());
}

#[test]
fn what_a_block_of_the_chain_names_is_not_recorded_of_a_session_that_has_just_gone() {
    let found = |number| CandidateRow {
        announced: false,
        ..CandidateRow::new(
            candidate(number, &[0x51], &[], Booking::WithoutPayouts),
            [1; 32],
            NOW_S * 1_000,
        )
    };
    let place = Pin { sequence: 0, event: 1 };
    for goes_first in [false, true] {
        let data = TempDir::new().expect("a folder");
        let mut served = Served::open(data.path(), 1);
        for prime_id in [1, 9] {
            served.shards[0].session(1, prime_id);
        }
        served.settle();
        served.stop();
        let Ledger { db, mut log, .. } = Ledger::open(data.path(), &options()).expect("a ledger");
        // As where the other stays for the script.
        log.lasting.told = Told::default();
        log.lasting.told.keep_if_needed(&session(1, 9).terms);
        let mut chunk = Vec::new();
        let mut step = Step::begin(&db, &mut log, &mut chunk);
        if goes_first {
            step.forget_session(1).expect("a read");
        }
        step.note(place, found(1)).expect("a read");
        step.forget_session(1).expect("a read");
        db.write_opt(step.finish().0, &durably()).expect("a write");
        drop((db, log));
        let reader = LedgerReader::open(data.path()).expect("a ledger");
        let (_, row) = reader.candidates().next().expect("it is recorded").expect("a row");
        let recorded = (row.gateway, row.candidate.booking);
        let (expected, stay): (_, &[u32]) = match goes_first {
            false => (([1; 32], Booking::WithoutPayouts), &[1, 9]),
            true => (([0; 32], Booking::ByHand { told: None }), &[9]),
        };
        assert_eq!(recorded, expected);
        assert_eq!(sessions(data.path()), stay);
        assert_sound(data.path());
    }
}

#[test]
fn the_pools_scripts_and_tags_outlive_the_sessions_that_were_told_them() {
    let data = TempDir::new().expect("a folder");
    let told = |prime_id, script: &[u8], tag: &[u8]| SessionRow {
        terms: Terms::new(prime_id, script, tag, MinDiff::new(1).expect("a power of two")),
        ..session(1, prime_id)
    };
    let mut prime_id = 0;
    for script in [[0x51], [0x52]] {
        let mut served = Served::open(data.path(), 1);
        for tag in [b"a", b"b", b"a"] {
            prime_id += 1;
            served.shards[0].push(Entry::session(told(prime_id, &script, tag)));
            served.shards[0].mark(prime_id, proven(Vec::new()));
            served.shards[0].mark(prime_id, Mark::Abandoned);
        }
        served.settle();
        served.stop();
    }
    assert_eq!(sessions(data.path()), [1, 2, 4]);
    let reader = LedgerReader::open(data.path()).expect("a ledger");
    let books = LedgerBooks::load(&reader.db).expect("books");
    assert_eq!(books.pool_scripts().collect::<Vec<_>>(), [[0x51], [0x52]]);
    assert_eq!(books.pool_tags().collect::<Vec<_>>(), [b"a", b"b"]);
}

#[test]
fn a_start_forgets_sessions_without_a_share_and_tells_of_others_that_have_none() {
    const HOUR: u64 = 3_600;
    let data = TempDir::new().expect("a folder");
    let mut served = Served::open(data.path(), 1);
    let shard = &mut served.shards[0];
    past(shard, 1, 1, ago(3 * HOUR), Some(ago(2 * HOUR)));
    past(shard, 2, 2, ago(3 * HOUR), Some(ago(2 * HOUR)));
    past(shard, 3, 3, ago(3 * HOUR), Some(ago(2 * HOUR)));
    past(shard, 4, 4, ago(3 * HOUR), Some(ago(2 * HOUR)));
    // Longer ago than shares are read back.
    past(shard, 5, 5, ago(5 * HOUR), Some(ago(2 * HOUR)));
    past(shard, 6, 6, ago(HOUR / 2), Some(ago(600)));
    past(shard, 7, 7, ago(HOUR / 2), Some(ago(600)));
    past(shard, 8, 8, ago(5 * HOUR), None);
    let miner = shard.miner(1, "");
    for (prime_id, ago_s) in [(3, 2 * HOUR + 60), (7, 700)] {
        let share = ShareEntry {
            time_ms: ago(ago_s),
            ..share(miner, prime_id, prime_id.into())
        };
        shard.push(Entry::Share(share));
    }
    let facts = BlockFacts {
        nbits: 0x1d00_ffff,
        height: 100,
        value: 0,
        ntime: 0,
    };
    let share = share(miner, 4, 4);
    shard.push(Entry::Waiting(Box::new(WaitingEntry { share, facts })));
    served.settle();
    let killed = copy_of(data.path());
    served.stop();
    for _ in 0..2 {
        let again = Served::open(killed.path(), 1);
        let mut unnamed = Vec::new();
        for mut gateway in again.restored.into_iter() {
            gateway.memory.forget_all_terms();
            unnamed.push((gateway.key[0], gateway.memory.has_work(), gateway.memory.take_unnamed()));
        }
        unnamed.sort_unstable();
        assert_eq!(unnamed, [(6, false, vec![6]), (7, true, vec![]), (8, true, vec![])]);
        again.writer.stop();
        // The first was told the script.
        assert_eq!(sessions(killed.path()), [1, 3, 4, 5, 6, 7, 8]);
        assert_sound(killed.path());
    }
}

#[test]
fn of_more_sessions_than_a_gateway_keeps_terms_of_a_start_forgets_those_without_a_share() {
    let data = TempDir::new().expect("a folder");
    let mut served = Served::open(data.path(), 1);
    let shard = &mut served.shards[0];
    let last = u32::try_from(TERMS_MAX).expect("few") + 6;
    for prime_id in 1..=last {
        past(shard, 1, prime_id, ago(1_000), Some(ago(600)));
    }
    let miner = shard.miner(1, "");
    let early = ShareEntry {
        time_ms: ago(900),
        ..share(miner, 2, 22)
    };
    shard.push(Entry::Share(early));
    served.settle();
    served.stop();
    for _ in 0..2 {
        let mut again = Served::open(data.path(), 1);
        let memory = &mut again.restored[0].memory;
        assert!(memory.has_share(&[9; 32], 22) && memory.take_unnamed().is_empty());
        again.stop();
        let kept: Vec<u32> = [1, 2].into_iter().chain(7..=last).collect();
        assert_eq!(sessions(data.path()), kept);
        assert_sound(data.path());
    }
}

#[test]
fn a_start_reads_back_as_many_gateways_as_may_be_and_whoever_worked_before_others() {
    let data = TempDir::new().expect("a folder");
    let mut served = Served::open(data.path(), 1);
    let shard = &mut served.shards[0];
    for prime_id in 1..=5_u8 {
        past(shard, prime_id, prime_id.into(), ago(1_000), Some(ago(500)));
    }
    past(shard, 6, 6, ago(1_000), None);
    shard.push(Entry::session(session(7, 7)));
    let miner = shard.miner(1, "");
    let worked = ShareEntry {
        time_ms: ago(900),
        ..share(miner, 2, 22)
    };
    shard.push(Entry::Share(worked));
    served.settle();
    served.stop();
    let few = LedgerOptions {
        gateways_max: 3,
        ..options()
    };
    for most in [usize::MAX, 3] {
        let options = LedgerOptions {
            gateways_max: most,
            ..options()
        };
        let killed = copy_of(data.path());
        let mut ledger = Ledger::open(killed.path(), &options).expect("a ledger");
        let restored: Vec<u8> = ledger.take_restored().iter().map(|gateway| gateway.key[0]).collect();
        drop(ledger);
        // Who is to go first for others comes first.
        let (expected, rows): (&[u8], &[u32]) = match most {
            3 => (&[5, 6, 2], &[1, 2, 5, 6]),
            _ => (&[7, 1, 3, 4, 5, 6, 2], &[1, 2, 3, 4, 5, 6, 7]),
        };
        assert_eq!(restored, expected);
        assert_eq!(sessions(killed.path()), rows, "nobody can work under the others");
        assert_sound(killed.path());
    }
    // Whoever worked is read back with what was taken, and the keys of those that are left out are gone.
    let served = Served::open_with(data.path(), 1, &few, Housekeeping::keep_days(90));
    assert!(served.restored[2].memory.has_share(&[9; 32], 22));
    assert_eq!(served.telemetry.channel_keys.value(), 3);
    served.stop();
}

#[test]
fn sessions_of_which_no_share_is_kept_and_none_can_come_are_forgotten() {
    /// The beginning of an hour, long ago.
    const START_MS: u64 = 1_600_000_000_000 / HOUR_MS * HOUR_MS;
    let hour = |hours: u64| START_MS + hours * HOUR_MS;
    let data = TempDir::new().expect("a folder");
    let mut opened = options();
    opened.now_s = START_MS / 1_000;
    opened.terms.difficulty = 8;
    let mut served = Served::open_with(data.path(), 1, &opened, Housekeeping::keep_days(90));
    let shard = &mut served.shards[0];
    let told_first = 1;
    for prime_id in [told_first, 2, 3] {
        past(shard, 1, prime_id, hour(0), Some(hour(10)));
    }
    past(shard, 4, 4, hour(0), None);
    // Its gateway has found a block.
    past(shard, 5, 5, hour(0), Some(hour(10)));
    let block = candidate(1, &[0x51], &[], Booking::ByHand { told: None });
    shard.push(Entry::Candidate(Box::new(CandidateRow::new(block, [5; 32], START_MS))));
    // Adopted long after its end.
    past(shard, 6, 6, hour(0), Some(hour(10)));
    shard.push(Entry::Mark(SessionMark {
        prime_id: 6,
        mark: proven(Vec::new()),
        time_ms: hour(299),
    }));
    let miner = shard.miner(1, "");
    for at in 0..300 {
        // A chunk for each.
        let prime_id = if at < 10 { 2 } else { 4 };
        let share = ShareEntry {
            time_ms: hour(at),
            ..share(miner, prime_id, at)
        };
        shard.push(Entry::Share(share));
        shard.settle();
    }
    served.stop();
    let housekeeping = Housekeeping {
        keep_ms: 24 * HOUR_MS,
        ..Housekeeping::keep_days(1)
    };
    opened.now_s = hour(300) / 1_000;
    let all: Vec<u32> = (1..=6).collect();
    assert_eq!(sessions(data.path()), all);
    for _ in 0..2 {
        let served = Served::open_with(data.path(), 1, &opened, housekeeping);
        let began = Instant::now();
        while served.telemetry.housekeeping_rounds.value() == 0 {
            assert!(began.elapsed() < Duration::from_secs(60), "it never happens");
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(served.telemetry.housekeeping_failures.value(), 0);
        let killed = copy_of(data.path());
        served.stop();
        for folder in [data.path(), killed.path()] {
            let reader = LedgerReader::open(folder).expect("a ledger");
            assert!(reader.kept().expect("a row").from > 100);
            assert_eq!(sessions(folder), [told_first, 4, 5, 6]);
            assert_sound(folder);
        }
    }
}

#[test]
fn sessions_stay_whose_shares_may_be_among_those_that_are_kept() {
    let data = TempDir::new().expect("a folder");
    let mut served = Served::open(data.path(), 1);
    let shard = &mut served.shards[0];
    let day_s = 86_400;
    past(shard, 1, 1, ago(9 * day_s), Some(ago(8 * day_s)));
    // The first share that is kept is of now; a day and an hour are allowed for.
    for (prime_id, before_s) in [(2, 3_600 + day_s - 1), (3, 3_600 + day_s + 1)] {
        past(shard, 1, prime_id, ago(9 * day_s), Some(ago(before_s)));
    }
    past(shard, 1, 4, ago(9 * day_s), None);
    let miner = shard.miner(1, "");
    shard.share(miner, 4, 1);
    served.settle();
    served.stop();
    let served = Served::open(data.path(), 1);
    let began = Instant::now();
    while served.telemetry.housekeeping_rounds.value() == 0 {
        assert!(began.elapsed() < Duration::from_secs(60), "it never happens");
        std::thread::sleep(Duration::from_millis(1));
    }
    served.stop();
    assert_eq!(sessions(data.path()), [1, 2, 4]);
    assert_sound(data.path());
}
