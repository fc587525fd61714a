//! Audits of blocks that a real ledger has booked, and whose coinbases are not what was dictated.

use std::io::Cursor;
use std::time::Duration;

use tempfile::TempDir;

use super::bundle::{VALUE, candidate, mine};
use super::*;
use crate::ledger::bundle::{self, BundleError, Mismatch, Privacy};
use crate::ledger::report::address;
use crate::ledger::{Audit, AuditError, CandidateRow, LedgerBooks, audit};
use crate::wire::SecretKeys;
use crate::work::{Booking, Payout, Pin, PinnedSplit, Split};

const OWN: &[u8] = &[0x51];

/// Three payees with work, and what a block of [`VALUE`] pays them.
struct Pool {
    data: TempDir,
    served: Served,
    split: Vec<Payout>,
    pin: Pin,
    blocks: u8,
}

impl Pool {
    fn new() -> Self {
        let data = TempDir::new().expect("a folder");
        let mut served = Served::open(data.path(), 1);
        served.shards[0].session(1, 1);
        let miners = [11, 7, 9].map(|payee| served.shards[0].miner(payee, "rig"));
        for hash in 0..500 {
            served.shards[0].share(miners[usize::try_from(hash % 7 % 3).expect("small")], 1, hash);
        }
        served.settle();
        let (split, pin) = dictated(data.path());
        assert_eq!(split.len(), 3);
        Self {
            data,
            served,
            split,
            pin,
            blocks: 0,
        }
    }

    /// A block that says it pays the split of `pin`.
    fn audit(&mut self, pin: Pin, paid: &[Payout]) -> Audit {
        self.blocks += 1;
        let booking = Booking::Pays(PinnedSplit {
            pin,
            with_balances: true,
        });
        let hash = mine(&mut self.served, self.blocks, paid, booking);
        self.audited(&hash)
    }

    /// A block that pays all of the split, of which its row has that it was dictated.
    fn mine_as_dictated(&mut self, dictated: Option<Vec<Payout>>) -> [u8; 32] {
        self.blocks += 1;
        let booking = Booking::Pays(PinnedSplit {
            pin: self.pin,
            with_balances: true,
        });
        let mut block = candidate(self.blocks, OWN, &self.split, booking);
        block.dictated = dictated;
        let hash = block.hash;
        let row = CandidateRow::new(block, [1; 32], NOW_S * 1_000);
        self.served.shards[0].push(Entry::Candidate(Box::new(row)));
        self.served.settle();
        hash
    }

    /// Once it is booked.
    fn audited(&self, hash: &[u8; 32]) -> Audit {
        loop {
            let reader = LedgerReader::open(self.data.path()).expect("a ledger");
            match audit(&reader, hash) {
                Ok(audit) => return audit,
                Err(AuditError::NotBooked) => std::thread::sleep(Duration::from_millis(5)),
                Err(error) => panic!("{error}"),
            }
        }
    }
}

fn dictated(data_dir: &Path) -> (Vec<Payout>, Pin) {
    let reader = LedgerReader::open(data_dir).expect("a ledger");
    let books = LedgerBooks::load(&reader.db).expect("books");
    let snapshot = books.snapshot(OWN).expect("terms");
    (snapshot.payouts(VALUE, true), snapshot.pin())
}

fn left_out(audit: &Audit) -> Vec<(String, u64)> {
    let outputs = audit.left_out.iter();
    outputs.map(|output| (output.address.clone(), output.value)).collect()
}

fn named(payout: &Payout) -> (String, u64) {
    (address(&payout.script), payout.value)
}

#[test]
fn each_output_that_differs_is_told_of_to_the_satoshi_and_no_other() {
    let mut pool = Pool::new();
    let (pin, split) = (pool.pin, pool.split.clone());
    let [a, b, c] = [0, 1, 2].map(|at| split[at].clone());
    let ((of_a, sat_a), (of_b, sat_b)) = (named(&a), named(&b));

    let whole = pool.audit(pin, &split);
    assert_eq!((whole.paid_outputs, whole.split_outputs), (3, 3));
    assert_eq!((whole.differences.as_slice(), left_out(&whole)), (&[][..], vec![]));

    let missing = pool.audit(pin, &[b.clone(), c.clone()]);
    assert_eq!((missing.paid_outputs, missing.differences.as_slice()), (2, &[][..]));
    assert_eq!(left_out(&missing), [named(&a)]);

    let stranger = Payout {
        payee: 99,
        value: 12_345,
        script: [0x77; 22].into(),
    };
    let mut short = c.clone();
    short.value -= 12_345;
    let extra = pool.audit(pin, &[stranger.clone(), a.clone(), b.clone(), short.clone()]);
    let of_stranger = address(&stranger.script);
    assert_eq!(
        extra.differences,
        [
            format!("the coinbase pays 12345 sat to {of_stranger}, whom the split by the log does not pay"),
            format!(
                "the coinbase pays {} sat to {}, 12345 sat less than the {} of the split by the log",
                short.value,
                named(&c).0,
                c.value
            ),
        ]
    );
    assert_eq!((extra.paid_outputs, left_out(&extra)), (2, vec![]));

    let mut less = b.clone();
    less.value -= 3;
    let wrong = pool.audit(pin, &[a.clone(), less, c.clone()]);
    let said = format!(
        "the coinbase pays {} sat to {of_b}, 3 sat less than the {sat_b} of the split by the log",
        sat_b - 3
    );
    assert_eq!((wrong.paid_outputs, wrong.differences), (2, vec![said]));

    let swapped = pool.audit(pin, &[b.clone(), a.clone(), c.clone()]);
    let said = format!("the coinbase pays {sat_a} sat to {of_a}, behind {of_b}, which the split by the log pays later");
    assert_eq!((swapped.paid_outputs, swapped.differences), (2, vec![said]));
    pool.served.stop();
}

#[test]
fn a_block_that_pays_another_split_than_it_was_booked_by_is_told_of_by_each_output() {
    let mut pool = Pool::new();
    let (former, former_pin) = (pool.split.clone(), pool.pin);
    // All that is new is one payee's.
    let miner = pool.served.shards[0].miner(13, "rig");
    for hash in 500..700 {
        pool.served.shards[0].share(miner, 1, hash);
    }
    pool.served.settle();
    let (latter, latter_pin) = dictated(pool.data.path());
    assert_eq!((former_pin.event, latter.len()), (latter_pin.event, 4));

    let audit = pool.audit(latter_pin, &former);
    let mut expected = Vec::new();
    for paid in &former {
        let due = latter
            .iter()
            .find(|due| due.script == paid.script)
            .expect("it still works");
        assert!(due.value < paid.value);
        expected.push(format!(
            "the coinbase pays {} sat to {}, {} sat more than the {} of the split by the log",
            paid.value,
            address(&paid.script),
            paid.value - due.value,
            due.value
        ));
    }
    assert_eq!(audit.differences, expected);
    let new = latter.iter().find(|due| *due.script == [13; 22]).expect("it works");
    assert_eq!((audit.paid_outputs, left_out(&audit)), (0, vec![named(new)]));
    // By the split that it does pay it would hold.
    let right = pool.audit(former_pin, &former);
    assert_eq!((right.paid_outputs, right.differences.as_slice()), (3, &[][..]));
    pool.served.stop();
}

#[test]
fn what_was_dictated_is_kept_and_held_to_the_log_by_audit_and_bundle() {
    let mut pool = Pool::new();
    let split = pool.split.clone();
    let mut more = split.clone();
    more[1].value += 7;
    let whole = pool.mine_as_dictated(Some(split.clone()));
    let lied = pool.mine_as_dictated(Some(more.clone()));
    let unknown = pool.mine_as_dictated(None);

    let audit = pool.audited(&whole);
    assert_eq!((audit.dictated_outputs, audit.differences), (Some(3), vec![]));
    let audit = pool.audited(&unknown);
    assert_eq!((audit.dictated_outputs, audit.differences), (None, vec![]));
    let (whom, value) = named(&split[1]);
    let said = format!("{whom} was dictated {} sat, and comes to {value} by the log", value + 7);
    assert_eq!(pool.audited(&lied).differences, [said]);

    let reader = LedgerReader::open(pool.data.path()).expect("a ledger");
    let keys = SecretKeys::from_seeds(&[3; 64]);
    for privacy in [Privacy::Clear, Privacy::Hashed] {
        let verify = |block| {
            let file = bundle::export(&reader, block, privacy, &keys, Vec::new()).expect("a bundle");
            bundle::verify(Cursor::new(file), &keys.public(), None)
        };
        assert!(verify(&whole).expect("it holds").is_dictated);
        assert!(!verify(&unknown).expect("it holds").is_dictated);
        let error = verify(&lied).expect_err("it was dictated otherwise");
        let BundleError::Mismatch(Mismatch::Dictated { dictated, comes_to, .. }) = error else {
            panic!("{error}");
        };
        assert_eq!((dictated, comes_to), (value + 7, value));
    }
    pool.served.stop();
    assert_sound(pool.data.path());
}
