//! Bundles of blocks that a real ledger has booked by itself.

use std::io::Cursor;
use std::time::Duration;

use bitcoin::absolute::LockTime;
use bitcoin::consensus::serialize;
use bitcoin::transaction::Version;
use bitcoin::{Amount, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxOut, Witness};
use sha2::{Digest, Sha256};
use tempfile::TempDir;

use super::*;
use crate::ledger::bundle::{self, ExportError, Privacy};
use crate::ledger::{AuditError, CandidateRow, LedgerBooks};
use crate::wire::SecretKeys;
use crate::work::{Booking, Candidate, Payout, PinnedSplit, Split, header_hash};

pub(super) const VALUE: u64 = 312_500_000;
const OWN: &[u8] = &[0x51];

#[test]
fn blocks_that_the_ledger_booked_are_proved_beside_the_pool() {
    let data = TempDir::new().expect("a folder");
    let keys = SecretKeys::from_seeds(&[3; 64]);
    let mut served = Served::open(data.path(), 1);
    served.shards[0].session(1, 1);
    let miners = [11, 7, 9].map(|payee| served.shards[0].miner(payee, "rig"));
    for hash in 0..500 {
        served.shards[0].share(miners[usize::try_from(hash % 7 % 3).expect("small")], 1, hash);
    }
    served.settle();

    let without = mine(&mut served, 1, &[], Booking::WithoutPayouts);
    prove(data.path(), &keys, &without);
    for hash in 500..600 {
        served.shards[0].share(miners[1], 1, hash);
    }
    served.settle();
    // After a block whose gains are booked, and not payable yet.
    let reader = LedgerReader::open(data.path()).expect("a ledger");
    let snapshot = LedgerBooks::load(&reader.db)
        .expect("books")
        .snapshot(OWN)
        .expect("terms");
    let booking = Booking::Pays(PinnedSplit {
        pin: snapshot.pin(),
        with_balances: true,
    });
    let paid = snapshot.payouts(VALUE, true);
    assert!(paid.len() >= 2, "{paid:?}");
    let pays = mine(&mut served, 2, &paid[1..], booking);
    for hash in 600..650 {
        served.shards[0].share(miners[2], 1, hash);
    }
    served.settle();
    prove(data.path(), &keys, &pays);
    prove(data.path(), &keys, &without);

    let reader = LedgerReader::open(data.path()).expect("a ledger");
    let error = bundle::export(&reader, &[1; 32], Privacy::Clear, &keys, Vec::new()).expect_err("no such block");
    assert!(matches!(error, ExportError::Audit(AuditError::NotRecorded)), "{error}");
    served.stop();
}

#[test]
fn how_payees_are_named_is_written_down_for_whoever_exports() {
    let data = TempDir::new().expect("a folder");
    let read = || {
        let reader = LedgerReader::open(data.path()).expect("a ledger");
        reader.bundle_privacy().expect("a row")
    };
    let ledger = Ledger::open(data.path(), &options()).expect("a ledger");
    assert_eq!(read(), Privacy::Clear, "nobody has said");
    for privacy in [Privacy::Hashed, Privacy::Hashed, Privacy::Clear] {
        ledger.note_bundle_privacy(privacy).expect("a write");
        assert_eq!(read(), privacy);
    }
    drop(ledger);
    let ledger = Ledger::open(data.path(), &options()).expect("a ledger");
    ledger.note_bundle_privacy(Privacy::Hashed).expect("a write");
    drop(ledger);
    assert_eq!(read(), Privacy::Hashed, "it outlives the process");
}

/// Exports and verifies, once the block is booked.
fn prove(data_dir: &Path, keys: &SecretKeys, block: &[u8; 32]) {
    for privacy in [Privacy::Clear, Privacy::Hashed] {
        let file = loop {
            let reader = LedgerReader::open(data_dir).expect("a ledger");
            match bundle::export(&reader, block, privacy, keys, Vec::new()) {
                Ok(file) => break file,
                Err(ExportError::Audit(AuditError::NotBooked)) => std::thread::sleep(Duration::from_millis(5)),
                Err(error) => panic!("{error}"),
            }
        };
        let verified = bundle::verify(Cursor::new(file), &keys.public(), Some(&[7; 22])).expect("it holds");
        assert_eq!(verified.value, VALUE);
        assert_eq!(verified.payees, 3);
        let own = verified.own.expect("a part");
        assert!(own.shares > 0 && own.earned > 0, "{own:?}");
    }
}

pub(super) fn mine(served: &mut Served, number: u8, paid: &[Payout], booking: Booking) -> [u8; 32] {
    let candidate = candidate(number, OWN, paid, booking);
    let hash = candidate.hash;
    let row = CandidateRow::new(candidate, [1; 32], NOW_S * 1_000);
    served.shards[0].push(Entry::Candidate(Box::new(row)));
    served.settle();
    hash
}

/// A block without transactions, which leaves the rest to `rest`.
pub(super) fn candidate(number: u8, rest: &[u8], paid: &[Payout], booking: Booking) -> Candidate {
    let left = VALUE - paid.iter().map(|payout| payout.value).sum::<u64>();
    let outputs = paid.iter().map(|payout| (payout.value, &*payout.script));
    let output = |(value, script): (u64, &[u8])| TxOut {
        value: Amount::from_sat(value),
        script_pubkey: ScriptBuf::from_bytes(script.to_vec()),
    };
    let coinbase = Transaction {
        version: Version::ONE,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            // Height, tag, and the push that names the session.
            script_sig: ScriptBuf::from_bytes(vec![1, number, 2, b't', 0, 7, 4, 0, 0, 1, 0, 0, 0]),
            sequence: Sequence::MAX,
            witness: Witness::new(),
        }],
        output: outputs.chain([(left, rest)]).map(output).collect(),
    };
    let coinbase = serialize(&coinbase);
    let mut header = [number; 80];
    header[36..68].copy_from_slice(&Sha256::digest(Sha256::digest(&coinbase)));
    Candidate {
        hash: header_hash(&header),
        header,
        coinbase,
        branches: Vec::new(),
        height: number.into(),
        value: VALUE,
        tx_count: 0,
        job_id: 0,
        coinbase_id: 0,
        flags: 0,
        target_pot: 4,
        verdict: Ok(()),
        username: Vec::new(),
        booking,
        dictated: None,
    }
}
