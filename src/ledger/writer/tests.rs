//! The ledger as a whole: what is pushed is there after a stop, after a crash at any byte, and no more than that.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::task::{Wake, Waker};
use std::thread::Thread;

use proptest::prelude::*;
use tempfile::TempDir;

use super::*;
use crate::ledger::entry::{CandidateRow, Mark, MinerRow, SessionMark, SessionRow, ShareEntry};
use crate::ledger::schema::{self, family, meta};
use crate::ledger::{Format, LedgerOptions, LedgerReader, ShareRecord, Stats, Table, export, stats, verify};
use crate::wire::PublicKeys;
use crate::work::{Candidate, MinDiff, Terms};

const NOW_S: u64 = 1_800_000_000;
const RING: usize = 256;

fn options() -> LedgerOptions {
    LedgerOptions {
        chain: "dev",
        first_prime_id: 1,
        disk_floor_bytes: 0,
        resume_for_s: 3_600,
        now_s: NOW_S,
    }
}

/// A ledger that is served, and a shard's ends of it.
struct Served {
    writer: Writer,
    shards: Vec<Shard>,
    restored: Vec<crate::ledger::RestoredGateway>,
}

struct Shard {
    ledger: ShardLedger,
    pushed: u64,
    miners: u32,
}

impl Served {
    fn open(data_dir: &Path, shards: usize) -> Self {
        let mut ledger = Ledger::open(data_dir, &options()).expect("a ledger");
        let restored = ledger.take_restored();
        let options = WriterOptions {
            shards,
            ring_entries: RING,
            core: None,
            telemetry: Arc::default(),
        };
        let (writer, ledgers) = Writer::start(ledger, options).expect("a thread");
        let shards = ledgers
            .into_iter()
            .map(|ledger| Shard {
                ledger,
                pushed: 0,
                miners: 0,
            })
            .collect();
        Self {
            writer,
            shards,
            restored,
        }
    }

    /// Waits until all that was pushed is on disk.
    fn settle(&mut self) {
        self.shards.iter_mut().for_each(Shard::settle);
    }

    fn stop(mut self) {
        self.shards.clear();
        self.writer.stop();
    }
}

impl Shard {
    fn push(&mut self, entry: Entry) {
        if self.pushed - self.ledger.durable() == RING as u64 {
            self.settle();
        }
        self.ledger.push(entry).expect("room");
        self.pushed += 1;
        self.ledger.wake_writer();
    }

    fn settle(&mut self) {
        struct Unpark(Thread);
        impl Wake for Unpark {
            fn wake(self: Arc<Self>) {
                self.0.unpark();
            }
        }
        self.ledger
            .register(&Waker::from(Arc::new(Unpark(std::thread::current()))));
        while self.ledger.durable() < self.pushed {
            assert!(!self.ledger.failed());
            std::thread::park();
        }
        assert_eq!(self.ledger.durable(), self.pushed);
    }

    fn session(&mut self, gateway: u8, prime_id: u32) {
        self.push(Entry::Session(Box::new(session(gateway, prime_id))));
        self.mark(prime_id, Mark::Proven);
    }

    fn mark(&mut self, prime_id: u32, mark: Mark) {
        let time_ms = NOW_S * 1_000;
        self.push(Entry::Mark(SessionMark {
            prime_id,
            mark,
            time_ms,
        }));
    }

    fn miner(&mut self, payee: u8, worker: &str) -> u32 {
        let row = MinerRow {
            script: [payee; 22].into(),
            worker: worker.as_bytes().into(),
        };
        let local = self.miners;
        self.miners += 1;
        self.push(Entry::Miner {
            local,
            miner: Box::new(row),
        });
        local
    }

    fn share(&mut self, miner: u32, prime_id: u32, hash64: u64) {
        self.push(Entry::Share(share(miner, prime_id, hash64)));
    }
}

fn share(miner: u32, prime_id: u32, hash64: u64) -> ShareEntry {
    ShareEntry {
        prime_id,
        hash64,
        parent: [9; 32],
        pot: u8::try_from(hash64 % 5).expect("small"),
        miner,
        time_ms: NOW_S * 1_000,
        enqueued_ns: monotonic_ns(),
    }
}

fn session(gateway: u8, prime_id: u32) -> SessionRow {
    let keys = PublicKeys {
        ed25519: [gateway; 32],
        x25519: [!gateway; 32],
    };
    let terms = Terms::new(prime_id, &[0x51], b"tag", MinDiff::new(1).expect("a power of two"));
    SessionRow::new(&keys, &terms, NOW_S * 1_000)
}

fn logged(data_dir: &Path) -> Vec<ShareRecord> {
    let reader = LedgerReader::open(data_dir).expect("a ledger");
    let shares = reader.shares(0).expect("a log");
    (0..)
        .zip(shares)
        .map(|(at, share)| {
            share.map(|(sequence, share)| {
                assert_eq!(sequence, at);
                share
            })
        })
        .collect::<Result<_, _>>()
        .expect("a sound log")
}

fn hashes(data_dir: &Path) -> Vec<u64> {
    logged(data_dir).iter().map(|share| share.hash64).collect()
}

fn count(data_dir: &Path) -> Stats {
    stats(&LedgerReader::open(data_dir).expect("a ledger")).expect("counts")
}

fn assert_sound(data_dir: &Path) {
    let findings = verify(&LedgerReader::open(data_dir).expect("a ledger")).expect("a walk");
    assert!(findings.is_sound(), "{:#?}", findings.problems);
}

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
    assert_eq!(sessions.len(), 4);
    assert!(sessions.iter().all(|session| session.ended_ms.is_some()));
    let ids = Ledger::open(crashed.path(), &options()).expect("a ledger").prime_ids();
    assert_eq!(ids.next(), Some(5));
    served.stop();
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
    let header = [3; 80];
    let mut candidate = Candidate {
        hash: crate::work::header_hash(&header),
        header,
        coinbase: vec![1; 200],
        branches: vec![[2; 32]; 3],
        height: 5,
        value: 50,
        tx_count: 7,
        job_id: 1,
        coinbase_id: 2,
        flags: 0,
        target_pot: 3,
        verdict: Ok(()),
        username: b"somebody".to_vec(),
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

#[test]
fn verify_finds_what_is_wrong() {
    type Damage = fn(&DB);
    let damage: [(&str, Damage); 6] = [
        ("shares are missing", |db| {
            db.delete_cf(family(db, schema::SHARES), 1_u64.to_be_bytes())
                .expect("a write");
        }),
        ("stands in the log twice", |db| {
            let first = db
                .get_cf(family(db, schema::SHARES), 0_u64.to_be_bytes())
                .expect("a read")
                .expect("a chunk");
            db.put_cf(family(db, schema::SHARES), 3_u64.to_be_bytes(), first)
                .expect("a write");
        }),
        ("the total of payee 0", |db| {
            let total = crate::ledger::rows::Total {
                as_of: 3,
                shares: 4,
                work: 9,
            };
            db.put_cf(family(db, schema::TOTALS), 0_u32.to_be_bytes(), total.encode())
                .expect("a write");
        }),
        ("names worker 0", |db| {
            db.delete_cf(family(db, schema::WORKERS), 0_u32.to_be_bytes())
                .expect("a write");
        }),
        ("names proven session 1", |db| {
            let key = crate::ledger::rows::session::mark_key(1, Mark::Proven);
            db.delete_cf(family(db, schema::SESSIONS), key).expect("a write");
        }),
        ("version 77", |db| {
            db.put_cf(family(db, schema::PAYEES), 0_u32.to_be_bytes(), [77, 1])
                .expect("a write");
        }),
    ];
    let data = TempDir::new().expect("a folder");
    let mut served = Served::open(data.path(), 1);
    served.shards[0].session(1, 1);
    let miner = served.shards[0].miner(1, "rig");
    for hash in 0..3 {
        served.shards[0].share(miner, 1, hash);
        served.settle();
    }
    served.stop();
    assert_sound(data.path());
    for (expected, damage) in damage {
        let damaged = copy_of(data.path());
        let path = schema::path(damaged.path());
        let db = DB::open_cf_descriptors(&schema::primary(), &path, schema::families()).expect("a database");
        damage(&db);
        drop(db);
        let findings = verify(&LedgerReader::open(damaged.path()).expect("a ledger")).expect("a walk");
        assert!(
            findings.problems.iter().any(|problem| problem.contains(expected)),
            "{expected}: {:#?}",
            findings.problems
        );
    }
}

#[test]
fn what_is_no_ledger_of_ours_is_refused_with_a_remedy() {
    let data = TempDir::new().expect("a folder");
    let open = |options: &LedgerOptions| Ledger::open(data.path(), options).map(|_| ());
    let missing = LedgerReader::open(data.path()).err().expect("nothing there");
    assert!(matches!(missing, LedgerError::Missing(_)));
    open(&options()).expect("a new ledger");

    let other = open(&LedgerOptions {
        chain: "mainnet",
        ..options()
    })
    .expect_err("another chain");
    assert!(other.to_string().contains("belongs to the chain dev"), "{other}");
    let low = open(&LedgerOptions {
        disk_floor_bytes: u64::MAX,
        ..options()
    })
    .expect_err("no disk is so large");
    assert!(low.to_string().contains("ledger.disk_floor_bytes"), "{low}");

    let holder = Ledger::open(data.path(), &options()).expect("a ledger");
    let in_use = open(&options()).expect_err("somebody has it");
    assert!(matches!(in_use, LedgerError::InUse(_)), "{in_use}");
    holder.db.put(meta::SCHEMA, 99_u32.to_le_bytes()).expect("a write");
    drop(holder);
    let newer = open(&options()).expect_err("a later schema");
    assert!(matches!(newer, LedgerError::Schema { found: 99, .. }), "{newer}");
    let newer = LedgerReader::open(data.path()).err().expect("a later schema");
    assert!(matches!(newer, LedgerError::Schema { found: 99, .. }), "{newer}");

    let elsewhere = TempDir::new().expect("a folder");
    let mut rocks = rocksdb::Options::default();
    rocks.create_if_missing(true);
    drop(DB::open(&rocks, schema::path(elsewhere.path())).expect("a database"));
    let foreign = Ledger::open(elsewhere.path(), &options()).err().expect("no ledger");
    assert!(matches!(foreign, LedgerError::Foreign(_)), "{foreign}");
}

#[test]
fn exports_have_a_row_a_share_in_both_formats() {
    let data = TempDir::new().expect("a folder");
    let mut served = Served::open(data.path(), 1);
    served.shards[0].session(1, 1);
    // A name that needs quotes in CSV and escapes in JSON.
    let miner = served.shards[0].miner(1, "rig, \"one\"");
    for hash in 0..5 {
        served.shards[0].share(miner, 1, hash);
    }
    served.settle();
    served.stop();
    let reader = LedgerReader::open(data.path()).expect("a ledger");
    let text = |table, format, from| {
        let mut out = Vec::new();
        let rows = export(&reader, table, format, from, &mut out).expect("an export");
        (rows, String::from_utf8(out).expect("text"))
    };
    let (rows, json) = text(Table::Shares, Format::Jsonl, 2);
    assert_eq!(rows, 3);
    let lines: Vec<serde_json::Value> = json
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), 3);
    assert_eq!(
        (lines[0]["sequence"].as_u64(), lines[0]["worker"].as_str()),
        (Some(2), Some("rig, \"one\""))
    );
    assert_eq!(lines[0]["script"].as_str(), Some("01".repeat(22).as_str()));
    let (rows, csv) = text(Table::Shares, Format::Csv, 0);
    assert_eq!(rows, 5);
    let mut csv = csv::Reader::from_reader(csv.as_bytes());
    assert_eq!(csv.headers().expect("names").get(5), Some("worker"));
    assert!(
        csv.records()
            .all(|row| row.expect("a row").get(5) == Some("rig, \"one\""))
    );
    for table in [Table::Payees, Table::Workers, Table::Sessions] {
        assert_eq!(text(table, Format::Csv, 0).0, 1);
        assert_eq!(text(table, Format::Jsonl, 0).1.lines().count(), 1);
    }
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

/// The data folder as it lies on disk while its writer rests: what a kill -9 would leave.
fn copy_of(data_dir: &Path) -> TempDir {
    let copy = TempDir::new().expect("a folder");
    let (from, to) = (schema::path(data_dir), schema::path(copy.path()));
    fs::create_dir_all(&to).expect("a folder");
    for entry in fs::read_dir(from).expect("a folder") {
        let entry = entry.expect("an entry");
        if entry.file_name() != "LOCK" {
            fs::copy(entry.path(), to.join(entry.file_name())).expect("a copy");
        }
    }
    copy
}
