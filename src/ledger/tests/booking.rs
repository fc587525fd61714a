//! How blocks are booked, and that whoever recomputes a booking comes to the same.

use std::io::Cursor;
use std::sync::mpsc;
use std::time::Duration;

use tempfile::TempDir;

use super::bundle::{VALUE, candidate, mine};
use super::*;
use crate::ledger::books::{Account, BlockState};
use crate::ledger::bundle::{self, Privacy};
use crate::ledger::{Audit, CandidateRow, Done, LedgerBooks, Order, OrderError, unix_ms};
use crate::wire::SecretKeys;
use crate::work::{Booking, NewMiner, Payout, PinnedSplit, Split};

const OWN: &[u8] = &[0x51];

fn order_book(served: &Served, hash: &[u8; 32]) -> Result<Done, OrderError> {
    let (reply, done) = mpsc::channel();
    served.writer.desk().order(Order::Book { hash: *hash }, reply);
    done.recv().expect("an answer")
}

fn book(served: &Served, hash: &[u8; 32]) {
    order_book(served, hash).expect("booked");
}

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

/// With a hundred shares, of which the second miner has every fourth.
fn with_two_miners(data_dir: &Path) -> (Served, [u32; 2]) {
    let mut served = Served::open(data_dir, 1);
    served.shards[0].session(1, 1);
    let miners = [7, 9].map(|payee| served.shards[0].miner(payee, "rig"));
    for hash in 0..100 {
        served.shards[0].share(miners[usize::from(hash % 4 == 0)], 1, hash);
    }
    served.settle();
    (served, miners)
}

/// The split that is dictated now, and how a block is booked that pays it.
fn dictated(data_dir: &Path) -> (Vec<Payout>, Booking) {
    let snapshot = books(data_dir).snapshot(OWN).expect("terms");
    let booking = Booking::Pays(PinnedSplit {
        pin: snapshot.pin(),
        with_balances: true,
    });
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
    let others: Vec<Payout> = split.into_iter().filter(|payout| &*payout.script != OWN).collect();
    let pays = mine(&mut served, 3, &others, booking);
    assert_eq!(audited(&served, data.path(), &pays).differences, [""; 0]);
    assert_eq!(account(&books(data.path()), OWN).balance, 0);
    served.stop();
    assert_sound(data.path());
}

#[test]
fn a_block_booked_by_hand_pays_whom_its_coinbase_pays() {
    let data = TempDir::new().expect("a folder");
    let (mut served, _) = with_two_miners(data.path());
    // Of a split that is not known any more; and to somebody who is no payee.
    let (split, _) = dictated(data.path());
    assert_eq!(split.len(), 2);
    let stranger = Payout {
        payee: 99,
        value: 1_000,
        script: [8; 22].into(),
    };
    let mut paid = split.clone();
    paid[0].value -= stranger.value;
    paid.push(stranger);
    let block = mine(&mut served, 1, &paid, Booking::ByHand { told: None });
    assert_eq!(state(&served, &block), None, "the operator books it");
    book(&served, &block);
    let audit = audited(&served, data.path(), &block);
    assert!(audit.by_hand && audit.departures.is_empty(), "{audit:?}");
    assert_eq!(audit.differences, [""; 0]);
    assert_eq!(audit.value, VALUE - 1_000, "what a stranger gets is no part of it");
    let after = books(data.path());
    for payout in &paid[..2] {
        let Account { balance, paid, .. } = account(&after, &payout.script);
        assert_eq!(paid, payout.value);
        assert!(balance.abs() <= 1_000, "nobody is owed it again: {balance}");
    }
    assert_eq!(after.payee(&[8; 22]), None);

    // No sum of what it says may run over.
    let mut candidate = candidate(2, OWN, &[], Booking::ByHand { told: None });
    let mut coinbase: bitcoin::Transaction =
        bitcoin::consensus::deserialize(&candidate.coinbase).expect("a transaction");
    coinbase.output[0].value = bitcoin::Amount::from_sat(u64::MAX - 1_000);
    coinbase.output.push(coinbase.output[0].clone());
    candidate.coinbase = bitcoin::consensus::serialize(&coinbase);
    candidate.header[36..68].copy_from_slice(&crate::ledger::verify::merkle_root(&candidate.coinbase, &[]));
    candidate.hash = crate::work::header_hash(&candidate.header);
    let hash = candidate.hash;
    let row = CandidateRow::new(candidate, [1; 32], NOW_S * 1_000);
    served.shards[0].push(Entry::Candidate(Box::new(row)));
    served.settle();
    let refused = order_book(&served, &hash).expect_err("no block");
    assert!(refused.to_string().contains("all the money"), "{refused}");

    // The stranger works from now on, and was none when the block was booked.
    let stranger = served.shards[0].miner(8, "rig");
    served.shards[0].share(stranger, 1, 1_000);
    served.settle();
    assert!(books(data.path()).payee(&[8; 22]).is_some());
    assert_eq!(audited(&served, data.path(), &block), audit);
    served.stop();
    assert_sound(data.path());

    // As schema 4 had what was booked.
    {
        let path = schema::path(data.path());
        let db = rocksdb::DB::open_cf_descriptors(&schema::primary(), &path, schema::families()).expect("a database");
        let events = schema::family(&db, schema::EVENTS);
        for row in db.iterator_cf(events, rocksdb::IteratorMode::Start) {
            let (key, row) = row.expect("a row");
            if row[1] == 1 {
                let mut row = [&row[..82], &row[86..]].concat();
                row[0] = 1;
                db.put_cf(events, key, row).expect("a write");
            }
        }
        db.put(schema::meta::SCHEMA, 4_u32.to_le_bytes()).expect("a write");
    }
    let served = Served::open(data.path(), 1);
    let again = books(data.path());
    assert_eq!(account(&again, &[9; 22]), account(&after, &[9; 22]));
    served.stop();
    assert_sound(data.path());
}

#[test]
fn a_block_booked_by_hand_is_shared_and_audited_by_the_split_that_its_job_was_told() {
    let data = TempDir::new().expect("a folder");
    let (mut served, miners) = with_two_miners(data.path());
    let (split, told) = dictated(data.path());
    let told = told.split();
    let pin = told.expect("a split").pin;
    // Work that came since has no part in it.
    for hash in 100..400 {
        served.shards[0].share(miners[1], 1, hash);
    }
    served.settle();
    // One satoshi moved from the first to the pool.
    let mut paid = split.clone();
    paid[0].value -= 1;
    let mut block = candidate(1, OWN, &paid, Booking::ByHand { told });
    block.dictated = Some(split.clone());
    let hash = block.hash;
    let row = CandidateRow::new(block, [1; 32], NOW_S * 1_000);
    served.shards[0].push(Entry::Candidate(Box::new(row)));
    served.settle();
    book(&served, &hash);
    let audit = audited(&served, data.path(), &hash);
    assert_eq!(audit.differences, [""; 0]);
    assert_eq!(audit.window_end, pin.sequence);
    assert_eq!(
        (audit.split_outputs, audit.dictated_outputs, audit.paid_outputs),
        (2, Some(2), 1)
    );
    let [departure] = &audit.departures[..] else {
        panic!("{:?}", audit.departures);
    };
    assert!(departure.contains("1 sat less than"), "{departure}");
    assert!(departure.contains(&split[0].value.to_string()), "{departure}");
    // It is owed that satoshi, beside what rounding leaves.
    let after = books(data.path());
    assert!((1..=2).contains(&account(&after, &split[0].script).balance));

    // What its row says was dictated is held to the log, though the coinbase is held to nothing.
    let mut other = candidate(2, OWN, &paid, Booking::ByHand { told });
    let mut wrong = split.clone();
    wrong[1].value += 7;
    other.dictated = Some(wrong);
    let hash = other.hash;
    let row = CandidateRow::new(other, [1; 32], NOW_S * 1_000);
    served.shards[0].push(Entry::Candidate(Box::new(row)));
    served.settle();
    book(&served, &hash);
    let reader = LedgerReader::open(data.path()).expect("a ledger");
    let audit = crate::ledger::audit(&reader, &hash).expect("an audit");
    assert!(
        matches!(&audit.differences[..], [line] if line.contains("was dictated")),
        "{:?}",
        audit.differences
    );
    served.stop();
    assert_sound(data.path());
}

#[test]
fn a_solo_block_that_nobody_known_has_found_is_not_silently_the_pools() {
    let data = TempDir::new().expect("a folder");
    let mut solo = options();
    solo.terms.scheme = SchemeKind::Solo;
    solo.terms.split.fee_ppm = 10_000;
    let open = || Served::open_with(data.path(), 1, &solo, Housekeeping::keep_days(90));
    let mut served = open();
    served.shards[0].session(1, 1);
    let username = b"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4.rig";
    let finder = NewMiner::parse(username).expect("an address").script;
    let find = |served: &mut Served, number| {
        let mut candidate = candidate(number, OWN, &[], Booking::WithoutPayouts);
        candidate.username = username.to_vec();
        let hash = candidate.hash;
        let row = CandidateRow::new(candidate, [1; 32], NOW_S * 1_000);
        served.shards[0].push(Entry::Candidate(Box::new(row)));
        served.settle();
        hash
    };
    let [first, second] = [1, 2].map(|number| find(&mut served, number));
    // The bookkeeper hears of a batch after it is durable.
    while served.telemetry.blocks_by_hand.value() < 2 {
        std::thread::sleep(Duration::from_millis(5));
    }
    for block in [&first, &second] {
        assert_eq!(state(&served, block), None, "nobody is known to have found it");
    }
    // By the operator's word it is all fee; so it stays, whoever works later.
    book(&served, &first);
    let audit = audited(&served, data.path(), &first);
    assert_eq!((audit.fee, audit.value), (VALUE, VALUE));

    let miner = served.shards[0].miner_of(&finder, "rig");
    served.shards[0].share(miner, 1, 1);
    let third = find(&mut served, 3);
    for block in [&first, &second, &third] {
        let booked = block != &second;
        if booked {
            let audit = audited(&served, data.path(), block);
            assert_eq!(audit.differences, [""; 0]);
        }
        assert_eq!(state(&served, block).is_some(), booked);
    }
    let due = VALUE / 100 * 99;
    assert_eq!(account(&books(data.path()), &finder).balance.unsigned_abs(), due);
    served.stop();

    // Its finder is known by now, so the next start books what was left.
    let served = open();
    assert_eq!(audited(&served, data.path(), &second).fee, VALUE / 100);
    assert_eq!(account(&books(data.path()), &finder).balance.unsigned_abs(), 2 * due);
    served.stop();
    assert_sound(data.path());
}

/// Records a block that does not book itself, as the chain has it.
fn record(served: &mut Served, number: u8, paid: &[Payout], booking: Booking, time_ms: u64) -> [u8; 32] {
    let candidate = candidate(number, OWN, paid, booking);
    let hash = candidate.hash;
    let by_hand = served.telemetry.blocks_by_hand.value();
    let row = CandidateRow {
        announced: false,
        ..CandidateRow::new(candidate, [1; 32], time_ms)
    };
    served.shards[0].push(Entry::Candidate(Box::new(row)));
    served.settle();
    while served.telemetry.blocks_by_hand.value() == by_hand {
        std::thread::sleep(Duration::from_millis(5));
    }
    hash
}

#[test]
fn what_a_recorded_block_pays_of_balances_is_not_dictated_again_before_it_is_booked() {
    let data = TempDir::new().expect("a folder");
    let (mut served, miners) = with_two_miners(data.path());
    let order = |served: &Served, hash, becomes| {
        let (reply, done) = mpsc::channel();
        let desk = served.writer.desk();
        desk.order(Order::Block { hash, becomes }, reply);
        done.recv().expect("an answer").expect("it may become that");
    };
    // All of a block is owed.
    let owed = mine(&mut served, 1, &[], Booking::WithoutPayouts);
    audited(&served, data.path(), &owed);
    // What is owed and what is earned stand in different proportions: so a split shows whether it pays balances.
    for hash in 100..200 {
        served.shards[0].share(miners[1], 1, hash);
    }
    served.settle();
    order(&served, owed, BlockState::Maturing);
    order(&served, owed, BlockState::Mature);
    let dictates_balances = |served: &Served| served.writer.published().latest().expect("a snapshot").with_balances;
    assert!(dictates_balances(&served));
    // Of one that is recorded nothing is known before the bookkeeper hears of it.
    let published = served.writer.published();
    published.candidates_are_recorded(1);
    assert!(!dictates_balances(&served));
    published.candidates_are_heard_of(1, true);
    assert!(dictates_balances(&served));
    let (split, booking) = dictated(data.path());
    let pin = booking.split().expect("it pays one").pin;

    // What pays nobody's balance, what follows no split, and what is too old to be booked changes nothing.
    let without = Booking::Pays(PinnedSplit {
        pin,
        with_balances: false,
    });
    let now_ms = unix_ms();
    record(&mut served, 2, &split, without, now_ms);
    record(&mut served, 3, &split, Booking::ByHand { told: None }, now_ms);
    record(&mut served, 4, &[], Booking::WithoutPayouts, now_ms);
    record(&mut served, 5, &split, booking, now_ms - 14 * 86_400_000);
    assert!(dictates_balances(&served));

    let block = record(&mut served, 6, &split, booking, now_ms);
    assert!(!dictates_balances(&served), "its carry is paid already");
    let with = |served: &Served| {
        let latest = served.writer.published().latest().expect("a snapshot");
        let value_of = |with_balances| {
            let payouts = latest.snapshot.payouts(VALUE / 8, with_balances);
            payouts.iter().map(|payout| payout.value).collect::<Vec<_>>()
        };
        (value_of(true), value_of(latest.with_balances), latest.snapshot.pin())
    };
    let (paid_again, told, before) = with(&served);
    assert_ne!(paid_again, told);
    // Nor by the next snapshot, nor after a restart.
    served.shards[0].share(miners[0], 1, 1_000);
    served.settle();
    while with(&served).2 == before {
        std::thread::sleep(Duration::from_millis(5));
    }
    assert!(!dictates_balances(&served));
    served.stop();
    let served = Served::open(data.path(), 1);
    assert!(!dictates_balances(&served));
    book(&served, &block);
    assert!(dictates_balances(&served), "what it pays has left the balances");
    assert_eq!(audited(&served, data.path(), &block).differences, [""; 0]);
    served.stop();
    assert_sound(data.path());
}
