//! How blocks are booked, and that whoever recomputes a booking comes to the same.

use std::io::Cursor;
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;

use super::bundle::{VALUE, mine};
use super::*;
use crate::ledger::books::{Account, BlockState};
use crate::ledger::bundle::{self, Privacy};
use crate::ledger::{Audit, LedgerBooks};
use crate::wire::SecretKeys;
use crate::work::{Booking, Payout, Split};

const OWN: &[u8] = &[0x51];

/// Waits until the block is booked, and recomputes it: by its audit, and by its bundle in both forms.
fn audited(served: &Served, data_dir: &Path, block: &[u8; 32]) -> Audit {
    while state(served, block).is_none() {
        std::thread::sleep(Duration::from_millis(5));
    }
    let reader = LedgerReader::open(data_dir).expect("a ledger");
    let audit = crate::ledger::audit(&reader, block).expect("an audit");
    let keys = SecretKeys::from_seeds(&[3; 64]);
    for privacy in [Privacy::Clear, Privacy::Hashed] {
        let file = bundle::export(&reader, block, privacy, &keys, Vec::new()).expect("a bundle");
        let verified = bundle::verify(Cursor::new(file), &keys.public(), None).expect("it holds");
        assert_eq!(
            (verified.value, verified.to_pool, verified.fee, verified.paid),
            (audit.value, audit.to_pool, audit.fee, audit.paid)
        );
    }
    audit
}

fn state(served: &Served, block: &[u8; 32]) -> Option<BlockState> {
    let (reply, state) = mpsc::channel();
    served.writer.desk().ask(*block, reply);
    state.recv().expect("an answer")
}

fn books(data_dir: &Path) -> LedgerBooks {
    let reader = LedgerReader::open(data_dir).expect("a ledger");
    LedgerBooks::load(&reader.db).expect("books")
}

fn account(books: &LedgerBooks, script: &[u8]) -> Account {
    books.accounts.of(books.payee(script).expect("a payee"))
}

/// The split that is dictated now, and how a block is booked that pays it.
fn dictated(data_dir: &Path) -> (Vec<Payout>, Booking) {
    let snapshot = books(data_dir).snapshot(OWN).expect("terms");
    let booking = Booking::Pays {
        pin: snapshot.pin(),
        with_balances: true,
    };
    (snapshot.payouts(VALUE, true), booking)
}

#[test]
fn a_payee_with_the_pools_script_is_paid_by_what_lies_there() {
    let data = TempDir::new().expect("a folder");
    let mut served = Served::open(data.path(), 1);
    served.shards[0].session(1, 1);
    let own = served.shards[0].miner_of(OWN, "rig");
    let other = served.shards[0].miner(7, "rig");
    for hash in 0..100 {
        served.shards[0].share(if hash % 4 == 0 { own } else { other }, 1, hash);
    }
    served.settle();

    let without = mine(&mut served, 1, &[], Booking::WithoutPayouts);
    let audit = audited(&served, data.path(), &without);
    assert_eq!(audit.differences, [""; 0]);
    let after = books(data.path());
    let (owner, miner) = (account(&after, OWN), account(&after, &[7; 22]));
    assert!(owner.paid > 0 && miner.balance > 0);
    assert_eq!((owner.balance, owner.promised), (0, 0));
    assert_eq!((audit.paid, audit.to_pool), (owner.paid, VALUE - owner.paid));
    assert_eq!(
        miner.balance.unsigned_abs(),
        audit.to_pool,
        "the pool holds what it owes, and no more"
    );

    // It stands in the split as everybody does, and what comes to its script beside that is the pool's.
    let (split, booking) = dictated(data.path());
    assert!(split.iter().any(|payout| &*payout.script == OWN), "{split:?}");
    let pays = mine(&mut served, 2, &split, booking);
    let audit = audited(&served, data.path(), &pays);
    assert_eq!(audit.differences, [""; 0]);
    // But for what rounding leaves over.
    assert!(audit.to_pool <= 1 && audit.paid + audit.to_pool == VALUE, "{audit:?}");
    assert_eq!(account(&books(data.path()), OWN).balance, 0);

    // Where a coinbase leaves its output out the rest pays it all the same.
    let (split, booking) = dictated(data.path());
    let others: Vec<Payout> = split
        .into_iter()
        .filter(|payout| &*payout.script != OWN)
        .collect();
    let pays = mine(&mut served, 3, &others, booking);
    assert_eq!(audited(&served, data.path(), &pays).differences, [""; 0]);
    assert_eq!(account(&books(data.path()), OWN).balance, 0);
    served.stop();
    assert_sound(data.path());
}
