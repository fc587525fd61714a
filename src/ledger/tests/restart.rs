//! What a start reads back, and what is recorded once.

use std::path::PathBuf;

use tempfile::TempDir;

use super::*;
use crate::ledger::verify::merkle_root;
use crate::ledger::{CandidateRow, Order, OrderDesk, SplitRow, WaitingEntry, reader, rows, unix_ms};
use crate::work::{BlockFacts, Candidate, Chain, NetworkKind, Parent, Pin, PinnedSplit};

#[test]
fn gateways_come_back_with_their_terms_and_duplicates() {
    let data = TempDir::new().expect("a folder");
    let mut served = Served::open(data.path(), 1);
    let shard = &mut served.shards[0];
    shard.session(1, 1);
    shard.session(2, 2);
    // Ended longer ago than work in flight counts, without a share; and never proven.
    shard.session(3, 3);
    shard.push(Entry::Mark(SessionMark {
        prime_id: 3,
        mark: ENDED,
        time_ms: (NOW_S - 3_601) * 1_000,
    }));
    shard.push(Entry::session(session(4, 4)));
    let miner = shard.miner(1, "");
    for hash in 0..50 {
        shard.share(miner, 1 + u32::try_from(hash % 2).expect("small"), hash);
    }
    served.settle();
    let crashed = copy_of(data.path());
    let again = Served::open(crashed.path(), 1);
    let mut keys: Vec<_> = again.restored.iter().map(|gateway| gateway.key[0]).collect();
    keys.sort_unstable();
    assert_eq!(keys, [1, 2, 4]);
    for gateway in &again.restored {
        let of_gateway = u32::from(gateway.key[0]);
        for prime_id in 1..=4 {
            let is_proven = of_gateway < 4;
            assert_eq!(gateway.memory.has_terms(prime_id), prime_id == of_gateway && is_proven);
        }
        for hash in 0..50 {
            let known = gateway.memory.has_share(&[9; 32], hash);
            assert_eq!(
                known,
                u32::try_from(hash % 2).expect("small") + 1 == of_gateway,
                "{hash}"
            );
        }
    }
    again.stop();
    // Sessions that the crash ended are marked so, and the next ids are new ones.
    let reader = LedgerReader::open(crashed.path()).expect("a ledger");
    let sessions: Vec<_> = reader.sessions().collect::<Result<_, _>>().expect("sessions");
    assert_eq!(sessions.len(), 3);
    assert!(sessions.iter().all(|session| session.ended_ms.is_some()));
    let ids = Ledger::open(crashed.path(), &options()).expect("a ledger").prime_ids();
    assert_eq!(ids.next(), Some(5));
    served.stop();
}

#[test]
fn what_waits_outlives_a_crash_and_is_judged_once() {
    let data = TempDir::new().expect("a folder");
    let mut served = Served::open(data.path(), 1);
    let shard = &mut served.shards[0];
    shard.session(1, 1);
    let miner = shard.miner(1, "");
    shard.share(miner, 1, 1);
    for (hash64, height) in [(2, 100), (3, 101), (4, 100)] {
        let facts = BlockFacts {
            nbits: 0x1d00_ffff,
            height,
            value: 0,
            ntime: 0,
        };
        // Not older than it may wait by the clock of the test's writer.
        let share = ShareEntry {
            time_ms: unix_ms(),
            ..share(miner, 1, hash64)
        };
        shard.push(Entry::Waiting(Box::new(WaitingEntry { share, facts })));
    }
    served.settle();
    assert_eq!(hashes(data.path()), [1]);
    let crashed = copy_of(data.path());
    served.stop();
    let again = Served::open(crashed.path(), 1);
    for hash in 1..=4 {
        assert!(
            again.restored[0].memory.has_share(&[9; 32], hash),
            "{hash} was answered"
        );
    }
    // Its parent asks for a height of 100.
    let parent = Parent {
        hash: [9; 32],
        next_height: 100,
        next_nbits: 0x1d00_ffff,
        easy_after_s: None,
        min_time: 0,
        subsidy: 0,
        good_until_s: None,
        is_in_chain: true,
    };
    let chain = Arc::new(Chain::of_node(NetworkKind::Main, 0, &[parent]));
    let desk = again.writer.desk();
    for _ in 0..2 {
        desk.chain(chain.clone());
        judged(&desk);
    }
    assert_eq!(hashes(crashed.path()), [1, 2, 4]);
    assert_sound(crashed.path());
    drop(desk);
    again.stop();
    let reader = LedgerReader::open(crashed.path()).expect("a ledger");
    assert_eq!(reader::waiting(&reader.db).count(), 0);
    assert_eq!(count(crashed.path()).shares, 3);
}

/// Waits until the books have done what they were told before: an order is obeyed before, the next behind it.
fn judged(desk: &OrderDesk) {
    for _ in 0..2 {
        let (reply, done) = std::sync::mpsc::channel();
        let same = options().terms.difficulty;
        desk.order(Order::Difficulty(same), reply);
        done.recv().expect("an answer").expect("nothing changes");
    }
}

#[test]
fn the_channel_key_of_the_last_proven_session_comes_back_and_no_other_is_kept() {
    let data = TempDir::new().expect("a folder");
    let mut served = Served::open(data.path(), 1);
    let shard = &mut served.shards[0];
    let proven = |key: u8, replaces| Mark::Proven {
        key: Box::new(ChannelKey::from_bytes([key; 32])),
        replaces,
        adopts: Vec::new(),
    };
    for prime_id in 1..=3 {
        shard.push(Entry::session(session(7, prime_id)));
    }
    shard.mark(1, proven(11, None));
    shard.mark(1, ENDED);
    shard.mark(2, proven(12, Some(1)));
    shard.mark(3, Mark::Abandoned);
    // What its connection left may come behind that.
    shard.mark(3, ENDED);
    served.settle();
    served.stop();
    assert_eq!(key_rows(data.path()), [2]);
    let again = Served::open(data.path(), 1);
    let former = again.restored[0]
        .former
        .as_ref()
        .map(|(prime_id, key)| (*prime_id, *key.as_bytes()));
    assert_eq!(former, Some((2, [12; 32])));
    again.stop();
    // It ended with the process before: an hour later nothing can come under it any more.
    assert_nobody_comes_back_later(data.path());
    assert!(key_rows(data.path()).is_empty());
}

#[test]
fn splits_come_back_while_they_are_good_and_are_known_for_as_long_again() {
    let data = TempDir::new().expect("a folder");
    let mut served = Served::open(data.path(), 1);
    let shard = &mut served.shards[0];
    shard.session(7, 1);
    let miner = shard.miner(7, "");
    (0..10).for_each(|hash| shard.share(miner, 1, hash));
    for (coinbaser_id, age_s) in [(1, 1_201), (2, 1_200), (3, 601), (4, 600), (5, 0)] {
        shard.push(Entry::Split(Box::new(SplitRow {
            prime_id: 1,
            coinbaser_id,
            value: 312_500_000,
            parent: [9; 32],
            split: PinnedSplit {
                pin: Pin { sequence: 10, event: 1 },
                with_balances: true,
            },
            time_s: NOW_S - age_s,
        })));
    }
    served.settle();
    served.stop();
    let served = Served::open(data.path(), 1);
    assert_eq!(served.restored[0].memory.splits_known(), (2, 2));
    served.stop();
}

/// A start an hour later, when nothing of any gateway can matter any more.
fn assert_nobody_comes_back_later(data_dir: &Path) {
    let later = LedgerOptions {
        now_s: NOW_S + 3_601,
        ..options()
    };
    let mut ledger = Ledger::open(data_dir, &later).expect("a ledger");
    assert!(ledger.take_restored().is_empty());
}

/// By gateway: the `prime_id`s of what it left unproved, and the key under which early frames of it may come.
fn unproved(restored: &[RestoredGateway]) -> Vec<(u8, Vec<u32>, Option<u8>)> {
    let of = |gateway: &RestoredGateway| {
        let ids = gateway.unproved.terms.iter().map(|terms| terms.prime_id).collect();
        let key = gateway.unproved.key.as_ref().map(|key| key.as_bytes()[0]);
        (gateway.key[0], ids, key)
    };
    restored.iter().map(of).collect()
}

#[test]
fn sessions_that_a_process_leaves_unproved_come_back_until_their_time_is_up() {
    let data = TempDir::new().expect("a folder");
    let mut served = Served::open(data.path(), 1);
    let shard = &mut served.shards[0];
    let begun = |gateway, prime_id: u32| {
        let key = ChannelKey::from_bytes([100 + u8::try_from(prime_id).expect("few"); 32]);
        Entry::Session(Box::new(session(gateway, prime_id)), Some(Box::new(key)))
    };
    // One that was proved before; one with more than there may be; one whose key found no place; one that is abandoned.
    shard.session(7, 1);
    shard.mark(1, ENDED);
    shard.push(begun(7, 2));
    for prime_id in 3..=8 {
        shard.push(begun(8, prime_id));
    }
    shard.push(Entry::session(session(9, 9)));
    shard.push(begun(10, 10));
    // Some broke, and the others ended with their process.
    for prime_id in [2, 3, 8, 10] {
        shard.mark(prime_id, ENDED);
    }
    shard.mark(10, Mark::Abandoned);
    served.settle();
    served.stop();
    assert_eq!(key_rows(data.path()), [1, 2, 3, 4, 5, 6, 7, 8]);
    for _ in 0..2 {
        // The last has a proven session; of those before it the newest is the last.
        let again = Served::open(data.path(), 1);
        let expected = [
            (8, vec![5, 6, 7, 8], Some(108)),
            (9, vec![9], None),
            (7, vec![2], Some(102)),
        ];
        assert_eq!(unproved(&again.restored), expected);
        assert!(again.restored[2].former.is_some());
        again.stop();
        assert_eq!(key_rows(data.path()), [1, 2, 8]);
        assert_sound(data.path());
    }

    // Its gateway proves another: from then on what it left is as good, and its key is not needed.
    let mut again = Served::open(data.path(), 1);
    let shard = &mut again.shards[0];
    shard.push(Entry::session(session(8, 11)));
    let proven = Mark::Proven {
        key: Box::new(ChannelKey::from_bytes([111; 32])),
        replaces: None,
        adopts: vec![5, 6, 7, 8],
    };
    shard.mark(11, proven);
    let miner = shard.miner(1, "");
    shard.share(miner, 6, 77);
    again.settle();
    again.stop();
    assert_eq!(key_rows(data.path()), [1, 2, 11]);
    assert_sound(data.path());
    let again = Served::open(data.path(), 1);
    let gateway = again.restored.iter().find(|gateway| gateway.key[0] == 8);
    let gateway = gateway.expect("it is remembered");
    assert!((5..=8).all(|prime_id| gateway.memory.has_terms(prime_id)));
    assert!(gateway.memory.has_share(&[9; 32], 77) && gateway.unproved.terms.is_empty());
    again.stop();

    assert_nobody_comes_back_later(data.path());
    let reader = LedgerReader::open(data.path()).expect("a ledger");
    let kept = reader
        .sessions()
        .map(|session| session.expect("a session").row.terms.prime_id);
    assert_eq!(
        kept.collect::<Vec<_>>(),
        [1, 6],
        "the first, which was told the script, and the one with a share"
    );
    assert_eq!(key_rows(data.path()), [0; 0]);
}

/// Sessions with a row for their channel key.
fn key_rows(data_dir: &Path) -> Vec<u32> {
    let reader = LedgerReader::open(data_dir).expect("a ledger");
    let rows = reader.db.iterator_cf(
        schema::family(&reader.db, schema::SESSIONS),
        rocksdb::IteratorMode::Start,
    );
    let keys = rows.map(|row| rows::session::decode_key(&row.expect("a row").0).expect("a key"));
    keys.filter(|(_, kind)| *kind == rows::session::KEY)
        .map(|(prime_id, _)| prime_id)
        .collect()
}

/// Files of the folder in which these bytes stand.
fn holding(folder: &Path, bytes: &[u8]) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).expect("a folder");
    let paths = entries.map(|entry| entry.expect("an entry").path());
    paths
        .flat_map(|path| {
            if path.is_dir() {
                return holding(&path, bytes);
            }
            let content = fs::read(&path).expect("a file");
            let found = content.windows(bytes.len()).any(|window| window == bytes);
            found.then_some(path).into_iter().collect()
        })
        .collect()
}

/// A key that a database which does not know better would compress away to nothing is not looked for.
fn noisy(seed: u8) -> [u8; 32] {
    let mut bytes = [0; 32];
    let mut state = u64::from(seed) + 1;
    for byte in &mut bytes {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        *byte = (state >> 56) as u8;
    }
    bytes
}

#[test]
fn no_file_ever_holds_a_channel_key_and_it_is_gone_when_nothing_can_come_under_it() {
    let data = TempDir::new().expect("a folder");
    let soon = LedgerOptions {
        resume_for_s: 1,
        ..options()
    };
    let mut served = Served::open_with(data.path(), 1, &soon, Housekeeping::keep_days(90));
    let shard = &mut served.shards[0];
    for prime_id in 1..=3_u8 {
        shard.push(Entry::session(session(prime_id, prime_id.into())));
        let proven = Mark::Proven {
            key: Box::new(ChannelKey::from_bytes(noisy(prime_id))),
            replaces: None,
            adopts: Vec::new(),
        };
        shard.mark(prime_id.into(), proven);
    }
    served.settle();
    let kept = || served.telemetry.channel_keys.value();
    assert_eq!(kept(), 3);
    for prime_id in 1..=3 {
        assert!(holding(data.path(), &noisy(prime_id)).is_empty(), "{prime_id}");
    }
    served.shards[0].mark(2, ENDED);
    served.settle();
    // A second after its end; nobody else writes.
    let began = std::time::Instant::now();
    while served.telemetry.channel_keys.value() == 3 {
        assert!(began.elapsed().as_secs() < 60, "it stays");
        std::thread::sleep(std::time::Duration::from_millis(10));
    }
    served.stop();
    assert_eq!(key_rows(data.path()), [1, 3]);
}

#[test]
fn a_ledger_in_which_channel_keys_lay_open_holds_none_after_its_migration() {
    let data = TempDir::new().expect("a folder");
    let mut served = Served::open(data.path(), 1);
    for gateway in 1..=50 {
        served.shards[0].session(gateway, gateway.into());
    }
    served.settle();
    served.stop();
    let path = schema::path(data.path());
    for round in 0..2 {
        // As schema 3 had it; in tables and in the log of writes.
        let db = rocksdb::DB::open_cf_descriptors(&schema::primary(), &path, schema::families()).expect("a database");
        let sessions = schema::family(&db, schema::SESSIONS);
        for gateway in 1..=50 {
            let open = [&[1], &noisy(gateway)[..]].concat();
            db.put_cf(sessions, rows::session::key(gateway.into(), rows::session::KEY), open)
                .expect("a write");
            if round == 0 && gateway == 25 {
                db.flush_cf(sessions).expect("a flush");
            }
        }
        db.put(schema::meta::SCHEMA, 3_u32.to_le_bytes()).expect("a write");
        drop(db);
        assert!(!holding(data.path(), &noisy(1)).is_empty() && !holding(data.path(), &noisy(50)).is_empty());

        let mut ledger = Ledger::open(data.path(), &options()).expect("it is migrated");
        let restored = ledger.take_restored();
        assert_eq!(restored.len(), 50);
        for gateway in restored {
            let former = gateway.former.map(|(prime_id, key)| (prime_id, *key.as_bytes()));
            assert_eq!(former, Some((gateway.key[0].into(), noisy(gateway.key[0]))));
        }
        for gateway in 1..=50 {
            assert!(holding(data.path(), &noisy(gateway)).is_empty(), "{gateway}");
        }
    }
    assert_sound(data.path());
}

#[test]
fn a_ledger_without_its_file_of_channel_keys_goes_on_without_them() {
    let data = TempDir::new().expect("a folder");
    let mut served = Served::open(data.path(), 1);
    served.shards[0].session(1, 1);
    served.settle();
    served.stop();
    fs::remove_file(data.path().join("channel_keys")).expect("a file");
    let mut ledger = Ledger::open(data.path(), &options()).expect("a ledger");
    let restored = ledger.take_restored();
    assert!(restored.len() == 1 && restored[0].former.is_none());
    drop(ledger);
    assert_eq!(key_rows(data.path()), [0; 0]);
}

#[test]
fn shares_too_old_to_come_again_are_not_read_back() {
    let data = TempDir::new().expect("a folder");
    let mut served = Served::open(data.path(), 1);
    let shard = &mut served.shards[0];
    shard.session(1, 1);
    let miner = shard.miner(1, "");
    for age_s in (0..20_000).rev().step_by(100) {
        let mut share = share(miner, 1, age_s);
        share.time_ms = (NOW_S - age_s) * 1_000;
        shard.push(Entry::Share(share));
        // A chunk is read back whole: here each holds one share.
        shard.settle();
    }
    served.stop();
    let again = Served::open(data.path(), 1);
    let memory = &again.restored[0].memory;
    let oldest = (0..20_000)
        .rev()
        .step_by(100)
        .filter(|age_s| memory.has_share(&[9; 32], *age_s))
        .max();
    let needed = 2 * crate::work::NTIME_WINDOW_S;
    assert!(
        oldest.is_some_and(|oldest| (needed..needed + 2_000).contains(&oldest)),
        "{oldest:?}"
    );
    again.stop();
}

#[test]
fn the_first_record_of_a_candidate_stays() {
    let data = TempDir::new().expect("a folder");
    let mut served = Served::open(data.path(), 1);
    let shard = &mut served.shards[0];
    shard.session(1, 1);
    let miner = shard.miner(1, "");
    shard.share(miner, 1, 1);
    let (coinbase, branches) = (vec![1; 200], vec![[2; 32]; 3]);
    let mut header = [3; 80];
    header[36..68].copy_from_slice(&merkle_root(&coinbase, &branches));
    let mut candidate = Candidate {
        hash: crate::work::header_hash(&header),
        header,
        coinbase,
        branches,
        height: 5,
        value: 50,
        tx_count: 7,
        job_id: 1,
        coinbase_id: 2,
        flags: 0,
        target_pot: 3,
        verdict: Ok(()),
        username: b"somebody".to_vec(),
        booking: crate::work::Booking::ByHand { told: None },
        dictated: None,
    };
    shard.push(Entry::Candidate(Box::new(CandidateRow::new(
        candidate.clone(),
        [1; 32],
        1,
    ))));
    candidate.verdict = Err(crate::wire::Reason::DuplicateWork);
    for _ in 0..3 {
        shard.push(Entry::Candidate(Box::new(CandidateRow::new(
            candidate.clone(),
            [1; 32],
            2,
        ))));
    }
    served.settle();
    served.stop();
    let reader = LedgerReader::open(data.path()).expect("a ledger");
    let candidates: Vec<_> = reader.candidates().collect::<Result<_, _>>().expect("candidates");
    candidate.verdict = Ok(());
    let place = Pin { sequence: 1, event: 1 };
    assert_eq!(candidates, [(place, CandidateRow::new(candidate, [1; 32], 1))]);
    assert_sound(data.path());
}
