//! What a start reads back, and what is recorded once.

use tempfile::TempDir;

use super::*;
use crate::ledger::verify::merkle_root;
use crate::ledger::{CandidateRow, Order, OrderDesk, WaitingEntry, reader, rows, unix_ms};
use crate::work::{BlockFacts, Candidate, Chain, NetworkKind, Parent};

#[test]
fn gateways_come_back_with_their_terms_and_duplicates() {
    let data = TempDir::new().expect("a folder");
    let mut served = Served::open(data.path(), 1);
    let shard = &mut served.shards[0];
    shard.session(1, 1);
    shard.session(2, 2);
    // Ended longer ago than work in flight counts, and never proven.
    shard.session(3, 3);
    shard.push(Entry::Mark(SessionMark {
        prime_id: 3,
        mark: Mark::Ended,
        time_ms: (NOW_S - 3_601) * 1_000,
    }));
    shard.push(Entry::Session(Box::new(session(4, 4))));
    let miner = shard.miner(1, "");
    for hash in 0..50 {
        shard.share(miner, 1 + u32::try_from(hash % 2).expect("small"), hash);
    }
    served.settle();
    let crashed = copy_of(data.path());
    let again = Served::open(crashed.path(), 1);
    let mut keys: Vec<_> = again.restored.iter().map(|gateway| gateway.key[0]).collect();
    keys.sort_unstable();
    assert_eq!(keys, [1, 2]);
    for gateway in &again.restored {
        let of_gateway = u32::from(gateway.key[0]);
        for prime_id in 1..=4 {
            assert_eq!(gateway.memory.has_terms(prime_id), prime_id == of_gateway);
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
    // Nothing is kept of the one that nobody proved, but its id is not given again.
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
        min_time: 0,
        subsidy: 0,
        good_until_s: None,
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
        key: ChannelKey::from_bytes([key; 32]),
        replaces,
    };
    for prime_id in 1..=3 {
        shard.push(Entry::Session(Box::new(session(7, prime_id))));
    }
    shard.mark(1, proven(11, None));
    shard.mark(1, Mark::Ended);
    shard.mark(2, proven(12, Some(1)));
    shard.mark(3, Mark::Abandoned);
    served.settle();
    served.stop();
    let kept = |data_dir: &Path| {
        let reader = LedgerReader::open(data_dir).expect("a ledger");
        let rows = reader.db.iterator_cf(
            schema::family(&reader.db, schema::SESSIONS),
            rocksdb::IteratorMode::Start,
        );
        let keys = rows.map(|row| rows::session::decode_key(&row.expect("a row").0).expect("a key"));
        keys.filter(|(_, kind)| *kind == rows::session::KEY)
            .map(|(prime_id, _)| prime_id)
            .collect::<Vec<_>>()
    };
    assert_eq!(kept(data.path()), [2]);
    let again = Served::open(data.path(), 1);
    let former = again.restored[0]
        .former
        .as_ref()
        .map(|(prime_id, key)| (*prime_id, *key.as_bytes()));
    assert_eq!(former, Some((2, [12; 32])));
    again.stop();
    // It ended with the process before: an hour later nothing can come under it any more.
    let later = LedgerOptions {
        now_s: NOW_S + 3_601,
        ..options()
    };
    let mut ledger = Ledger::open(data.path(), &later).expect("a ledger");
    assert!(ledger.take_restored().is_empty());
    drop(ledger);
    assert!(kept(data.path()).is_empty());
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
        booking: crate::work::Booking::ByHand,
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
    assert_eq!(candidates, [(1, CandidateRow::new(candidate, [1; 32], 1))]);
    assert_sound(data.path());
}
