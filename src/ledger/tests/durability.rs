//! What is pushed is there after a stop, and after a crash at any byte.

use std::fs;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::ledger::LedgerError;

#[test]
fn what_two_shards_push_is_there_beside_the_writer_and_after_it() {
    let data = TempDir::new().expect("a folder");
    let mut served = Served::open(data.path(), 2);
    for (at, shard) in served.shards.iter_mut().enumerate() {
        let prime_id = 1 + u32::try_from(at).expect("small");
        shard.session(7, prime_id);
        let miner = shard.miner(1, "rig");
        for hash in 0..2_000 {
            shard.share(miner, prime_id, (hash << 1) + at as u64);
        }
    }
    served.settle();
    let mut served = Some(served);
    // Beside the writer, then after it.
    for _ in 0..2 {
        let mut found = hashes(data.path());
        for parity in 0..2 {
            let of_shard: Vec<_> = found.iter().copied().filter(|hash| hash % 2 == parity).collect();
            assert!(
                of_shard.is_sorted() && of_shard.len() == 2_000,
                "a shard's shares keep their order"
            );
        }
        found.sort_unstable();
        assert!(found.into_iter().eq(0..4_000));
        let counts = count(data.path());
        // One payee and one worker, though either shard numbers its usernames by itself.
        assert_eq!((counts.payees, counts.workers, counts.sessions), (1, 1, 2));
        assert_eq!((counts.shares, counts.sequence), (4_000, 4_000));
        assert_eq!(counts.work, (0..4_000_u64).map(|hash| 1 << (hash % 5)).sum::<u128>());
        assert_sound(data.path());
        if let Some(served) = served.take() {
            served.stop();
        }
    }
}

/// A shard forgets a username and gives its number to another: what came before is the former's, in the same batch too, and a name
/// that comes back under any number is the one that it was.
#[test]
fn a_number_that_a_shard_gives_again_means_another_from_there_on() {
    let data = TempDir::new().expect("a folder");
    let mut served = Served::open(data.path(), 2);
    let [shard, other] = &mut served.shards[..] else {
        panic!("two shards");
    };
    let introduce = |shard: &mut Shard, local: u32, payee: u8, worker: &str| {
        let miner = MinerRow {
            script: [payee; 22].into(),
            worker: worker.as_bytes().into(),
        };
        shard.push(Entry::Miner {
            local,
            miner: Box::new(miner),
        });
    };
    shard.session(7, 1);
    other.session(8, 2);
    let (one, two) = (shard.miner(1, "rig"), shard.miner(2, ""));
    let of_other = other.miner(9, "");
    assert_eq!(one, of_other, "each shard numbers by itself");
    let mut expected = Vec::new();
    for round in 0..100 {
        // Whom the two numbers mean changes round after round; now and then the writer has made all of it durable by then.
        let (first, second) = if round % 2 == 0 { (1, 2) } else { (2, 3) };
        for (at, (local, payee)) in [(one, first), (two, second)].into_iter().enumerate() {
            introduce(shard, local, payee, if payee == 2 { "" } else { "rig" });
            let hash = round * 2 + at as u64;
            shard.share(local, 1, hash);
            expected.push((hash, payee));
        }
        other.share(of_other, 2, 1_000 + round);
        expected.push((1_000 + round, 9));
        if round % 10 == 0 {
            shard.settle();
            other.settle();
        }
    }
    served.settle();
    served.stop();
    let scripts: Vec<u8> = {
        let reader = LedgerReader::open(data.path()).expect("a ledger");
        reader.payees().map(|row| row.expect("a row").1[0]).collect()
    };
    let mut found: Vec<_> = logged(data.path())
        .iter()
        .map(|share| (share.hash64, scripts[share.payee as usize]))
        .collect();
    found.sort_unstable();
    expected.sort_unstable();
    assert_eq!(found, expected);
    let counts = count(data.path());
    assert_eq!((counts.payees, counts.workers, counts.shares), (4, 4, 300));
    assert_sound(data.path());
}

#[test]
fn a_start_goes_on_where_the_last_ended() {
    let data = TempDir::new().expect("a folder");
    for round in 0..3_u32 {
        let mut served = Served::open(data.path(), 1);
        let shard = &mut served.shards[0];
        shard.session(7, round + 1);
        // More payees than one batch brings totals of, some of them known from before.
        for payee in 0..100 {
            let miner = shard.miner(payee, "");
            shard.share(miner, round + 1, u64::from(round) << 32 | u64::from(payee));
        }
        served.settle();
        served.stop();
        let counts = count(data.path());
        assert_eq!((counts.shares, counts.payees), (100 * (u64::from(round) + 1), 100));
        assert_sound(data.path());
    }
}

#[test]
fn a_crash_at_any_byte_of_the_last_write_loses_what_was_torn_alone() {
    let data = TempDir::new().expect("a folder");
    let mut served = Served::open(data.path(), 1);
    served.shards[0].session(7, 1);
    let miner = served.shards[0].miner(1, "rig");
    let ledger = schema::path(data.path());
    let log_of_writes = || {
        let logs = fs::read_dir(&ledger)
            .expect("a folder")
            .map(|entry| entry.expect("an entry").path());
        logs.filter(|path| path.extension().is_some_and(|end| end == "log"))
            .max()
            .expect("a log of writes")
    };
    let mut lengths = Vec::new();
    for hash in 0..20 {
        served.shards[0].share(miner, 1, hash);
        served.settle();
        lengths.push(fs::metadata(log_of_writes()).expect("a file").len());
    }
    assert!(lengths.is_sorted_by(|a, b| a < b));
    // What another process would find if this one were killed now, and its last write were on disk in part.
    let (before, whole) = (lengths[18], lengths[19]);
    for len in before..=whole {
        let crashed = copy_of(data.path());
        let log = schema::path(crashed.path()).join(log_of_writes().file_name().expect("a name"));
        fs::OpenOptions::new()
            .write(true)
            .open(&log)
            .and_then(|log| log.set_len(len))
            .expect("a file");
        Served::open(crashed.path(), 1).stop();
        let expected = if len == whole { 20 } else { 19 };
        assert!(
            hashes(crashed.path()).into_iter().eq(0..expected),
            "cut at {len} of {before}..{whole}"
        );
        assert_sound(crashed.path());
    }
    served.stop();
}

#[test]
fn damage_inside_the_log_of_writes_is_refused_and_not_skipped() {
    let data = TempDir::new().expect("a folder");
    let mut served = Served::open(data.path(), 1);
    served.shards[0].session(7, 1);
    let miner = served.shards[0].miner(1, "rig");
    for hash in 0..100 {
        served.shards[0].share(miner, 1, hash);
        served.settle();
    }
    let crashed = copy_of(data.path());
    served.stop();
    let logs = fs::read_dir(schema::path(crashed.path())).expect("a folder");
    let log = logs
        .map(|entry| entry.expect("an entry").path())
        .filter(|path| path.extension().is_some_and(|end| end == "log"))
        .max_by_key(|path| fs::metadata(path).expect("a file").len())
        .expect("a log of writes");
    let mut bytes = fs::read(&log).expect("a file");
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&log, bytes).expect("a file");
    let error = Ledger::open(crashed.path(), &options()).err().expect("damage is seen");
    assert!(matches!(error, LedgerError::Open { .. }), "{error}");
}

#[test]
fn totals_that_lagged_are_counted_again_after_a_crash() {
    let data = TempDir::new().expect("a folder");
    let mut served = Served::open(data.path(), 1);
    served.shards[0].session(7, 1);
    for payee in 0..200 {
        let miner = served.shards[0].miner(payee, "");
        served.shards[0].share(miner, 1, u64::from(payee));
    }
    served.settle();
    let crashed = copy_of(data.path());
    for _ in 0..2 {
        let counts = count(crashed.path());
        assert_eq!((counts.shares, counts.work), (200, 40 * (1 + 2 + 4 + 8 + 16)));
        assert_sound(crashed.path());
        Served::open(crashed.path(), 1).stop();
    }
    served.stop();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Any history of shards, miners, stops and crashes leaves exactly what was durable.
    #[test]
    fn histories(rounds in proptest::collection::vec((1..3_usize, 0..400_u64, any::<bool>()), 1..5)) {
        let mut data = TempDir::new().expect("a folder");
        let (mut expected, mut hash) = (Vec::new(), 0);
        for (prime_id, (shards, shares, crash)) in (1..).zip(rounds) {
            let mut served = Served::open(data.path(), shards);
            let mut miners = Vec::new();
            for shard in &mut served.shards {
                shard.session(1, prime_id);
                miners.push((0..3).map(|worker| shard.miner(worker, "rig")).collect::<Vec<_>>());
            }
            // Sessions are a shard's own in a pool; here both use the one, so that rows repeat.
            for at in 0..usize::try_from(shares).expect("small") {
                let shard = at % shards;
                served.shards[shard].share(miners[shard][at % 3], prime_id, hash);
                expected.push(hash);
                hash += 1;
            }
            served.settle();
            if crash {
                let crashed = copy_of(data.path());
                served.stop();
                data = crashed;
            } else {
                served.stop();
            }
        }
        let mut found = hashes(data.path());
        found.sort_unstable();
        prop_assert_eq!(found, expected);
        assert_sound(data.path());
    }
}
