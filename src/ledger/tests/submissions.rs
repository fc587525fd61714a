//! What nodes say of blocks: durable beside the books, shown with its block, and new to a ledger of schema 6.

use super::bundle::candidate;
use super::*;
use crate::ledger::{CandidateRow, SubmissionRow, Submitted, report};
use crate::work::Booking;

fn word(block: [u8; 32], time_ms: u64, port: u16, outcome: Submitted, words: &str) -> SubmissionRow {
    SubmissionRow::new(block, time_ms, ([127, 0, 0, 1], port).into(), outcome, words)
}

fn written(data_dir: &Path) -> Vec<SubmissionRow> {
    let reader = LedgerReader::open(data_dir).expect("a ledger");
    reader.submissions().collect::<Result<_, _>>().expect("words")
}

#[test]
fn words_of_nodes_are_durable_and_shown_with_their_block() {
    let data = TempDir::new().expect("a folder");
    let mut served = Served::open(data.path(), 1);
    let block = candidate(1, &[0x51], &[], Booking::WithoutPayouts);
    let row = CandidateRow::new(block.clone(), [1; 32], NOW_S * 1_000);
    served.shards[0].push(Entry::Candidate(Box::new(row)));
    served.settle();
    let first = word(block.hash, 5, 1, Submitted::Undecided, "bad-prevblk");
    let other = word(block.hash, 5, 2, Submitted::Rejected, "bad-cb-amount");
    let later = word(block.hash, 256, 1, Submitted::Accepted, "");
    for row in [&later, &first, &other] {
        served.writer.desk().submission(row.clone());
    }
    while written(data.path()).len() < 3 {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    // As a crash would leave it.
    let copy = copy_of(data.path());
    served.stop();
    assert_eq!(written(copy.path()), [first, other, later]);
    let blocks = report::blocks(&LedgerReader::open(copy.path()).expect("a ledger")).expect("blocks");
    let said: Vec<_> = blocks[0]
        .submissions
        .iter()
        .map(|said| (&*said.node, said.outcome, &*said.words))
        .collect();
    assert_eq!(
        said,
        [
            ("127.0.0.1:1", "undecided", "bad-prevblk"),
            ("127.0.0.1:2", "rejected", "bad-cb-amount"),
            ("127.0.0.1:1", "accepted", "")
        ]
    );
    assert_sound(copy.path());
}

#[test]
fn a_word_on_a_block_that_was_not_recorded_is_found() {
    let data = TempDir::new().expect("a folder");
    let served = Served::open(data.path(), 1);
    served
        .writer
        .desk()
        .submission(word([9; 32], 5, 1, Submitted::Accepted, ""));
    while written(data.path()).is_empty() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    served.stop();
    let findings = verify(&LedgerReader::open(data.path()).expect("a ledger")).expect("it can be read");
    assert_eq!(findings.problems.len(), 1, "{:?}", findings.problems);
}

#[test]
fn a_ledger_of_schema_6_gets_the_family() {
    let data = TempDir::new().expect("a folder");
    Served::open(data.path(), 1).stop();
    let path = schema::path(data.path());
    let mut db = rocksdb::DB::open_cf_descriptors(&schema::primary(), &path, schema::families()).expect("a database");
    db.drop_cf(schema::SUBMISSIONS).expect("it is empty");
    db.put(schema::meta::SCHEMA, 6_u32.to_le_bytes()).expect("a write");
    drop(db);
    let older = LedgerReader::open(data.path()).err().expect("it is of an older schema");
    assert!(older.to_string().contains("schema 6"), "{older}");
    Served::open(data.path(), 1).stop();
    assert_eq!(written(data.path()), []);
    assert_sound(data.path());
}
