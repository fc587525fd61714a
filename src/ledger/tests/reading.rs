//! Verify, export, and what is refused.

use rocksdb::DB;
use tempfile::TempDir;

use super::*;
use crate::ledger::schema::{family, meta};
use crate::ledger::{Format, LedgerError, Table, check_opens, export, rows};

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
            let total = rows::Total {
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
            let key = rows::session::key(1, rows::session::PROVEN);
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
    let newer = check_opens(data.path()).expect_err("nor could a pool");
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
