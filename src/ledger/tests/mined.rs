//! Blocks that the chain has, as the books look at them: recorded for the operator, and given up to a share that comes.

use std::sync::mpsc;

use millrace_loadgen::coinbase::Secondary;

use super::bundle::candidate;
use super::formed::{Class, Draft, mined};
use super::*;
use crate::ledger::books::BlockState;
use crate::ledger::{CandidateRow, ChainPlace, Done, LedgerBooks, Order, OrderError, Record, Searched, Whose};
use crate::work::{Booking, Candidate, Payout, Pin, header_hash};

const OWN: &[u8] = &[0x51];
const STRANGE: &[u8] = &[0x52];

/// Pays all to `rest`, at the time of the shares.
fn block(number: u8, rest: &[u8]) -> Candidate {
    let mut block = candidate(number, rest, &[], Booking::WithoutPayouts);
    let time = u32::try_from(NOW_S).expect("before 2106");
    block.header[68..72].copy_from_slice(&time.to_le_bytes());
    block.hash = header_hash(&block.header);
    block
}

fn whose(served: &Served, candidate: &Candidate, records: bool) -> Whose {
    let (reply, whose) = mpsc::channel();
    let record = match records {
        true => Record::Ours(ChainPlace::default()),
        false => Record::Nothing,
    };
    ask(served, candidate, record, reply);
    whose.recv().expect("an answer")
}

fn ask(served: &Served, candidate: &Candidate, record: Record, reply: mpsc::Sender<Whose>) {
    let desk = served.writer.desk();
    desk.whose(mined(candidate), NOW_S * 1_000 + 5_000, record, reply);
}

fn book(served: &Served, hash: [u8; 32]) -> Result<Done, OrderError> {
    let (reply, done) = mpsc::channel();
    served.writer.desk().order(Order::Book { hash }, reply);
    done.recv().expect("an answer")
}

fn state(served: &Served, hash: [u8; 32]) -> Option<BlockState> {
    let (reply, state) = mpsc::channel();
    served.writer.desk().ask(hash, reply);
    state.recv().expect("an answer")
}

fn announce(served: &mut Served, candidate: &Candidate) {
    let row = CandidateRow::new(candidate.clone(), [1; 32], NOW_S * 1_000);
    served.shards[0].push(Entry::Candidate(Box::new(row)));
    served.settle();
}

fn recorded(data_dir: &Path) -> Vec<(Pin, CandidateRow)> {
    let reader = LedgerReader::open(data_dir).expect("a ledger");
    reader.candidates().collect::<Result<_, _>>().expect("candidates")
}

/// With a session that has the tag of [`candidate`], and ten shares.
fn served(data_dir: &Path) -> Served {
    let mut served = Served::open(data_dir, 1);
    let mut row = session(1, 1);
    row.terms = Terms::new(1, OWN, b"t", MinDiff::new(1).expect("a power of two"));
    let shard = &mut served.shards[0];
    shard.push(Entry::session(row));
    let key = ChannelKey::from_bytes([1; 32]);
    shard.mark(
        1,
        Mark::Proven {
            key: Box::new(key),
            replaces: None,
            adopts: Vec::new(),
        },
    );
    let miner = shard.miner(7, "");
    (0..10).for_each(|hash| shard.share(miner, 1, hash));
    served.settle();
    // What is durable the bookkeeper hears of a moment later.
    let to_payee = tagged(9, 1);
    while whose(&served, &to_payee, false) != (Whose::TagAlone { to_payees: 1 }) {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    served
}

/// A block with the tag of [`served`] that pays its payee so many satoshi, and the rest to a stranger.
fn tagged(number: u8, to_payee: u64) -> Candidate {
    let paid = [Payout {
        payee: 0,
        value: to_payee,
        script: vec![7; 22].into(),
    }];
    let mut tagged = candidate(number, STRANGE, &paid, Booking::ByHand { told: None });
    let time = u32::try_from(NOW_S).expect("before 2106");
    tagged.header[68..72].copy_from_slice(&time.to_le_bytes());
    tagged.hash = header_hash(&tagged.header);
    tagged
}

#[test]
fn whose_a_block_is_shows_in_its_coinbase() {
    let data = TempDir::new().expect("a folder");
    let mut served = served(data.path());
    let ours = block(1, OWN);
    let Whose::Ours { to_pool } = whose(&served, &ours, false) else {
        panic!("it pays the pool");
    };
    assert_eq!(to_pool, ours.value);
    assert_eq!(recorded(data.path()), [], "only where that is asked for");
    let tagged = block(2, STRANGE);
    assert_eq!(whose(&served, &tagged, true), Whose::TagAlone { to_payees: 0 });
    let mut nobodys = tagged.clone();
    let at = nobodys.coinbase.windows(3).position(|push| push == [2, b't', 0]);
    nobodys.coinbase[at.expect("a tag") + 1] = b'u';
    let root = crate::ledger::verify::merkle_root(&nobodys.coinbase, &[]);
    nobodys.header[36..68].copy_from_slice(&root);
    nobodys.hash = header_hash(&nobodys.header);
    assert_eq!(whose(&served, &nobodys, true), Whose::Nobodys);
    announce(&mut served, &ours);
    assert_eq!(whose(&served, &ours, true), Whose::Recorded);
    assert_eq!(recorded(data.path()).len(), 1);
    served.stop();
    assert_sound(data.path());
}

#[test]
fn one_of_ours_waits_for_the_operator_over_a_crash_and_is_booked_as_it_was_mined() {
    let data = TempDir::new().expect("a folder");
    let served = served(data.path());
    let ours = block(1, OWN);
    assert!(matches!(whose(&served, &ours, true), Whose::Ours { .. }));
    assert_eq!(whose(&served, &ours, true), Whose::Recorded);
    assert_eq!(state(&served, ours.hash), None);
    let searched = Searched {
        hash: ours.hash,
        height: 1,
    };
    served.writer.desk().searched(searched);
    let noted = || {
        let reader = LedgerReader::open(data.path()).expect("a ledger");
        crate::ledger::reader::searched(&reader.db).expect("a row") == Some(searched)
    };
    while !noted() {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    let copy = copy_of(data.path());
    served.stop();

    let ledger = Ledger::open(copy.path(), &options()).expect("a ledger");
    assert!(ledger.had_sessions());
    assert_eq!(ledger.searched().expect("a row"), Some(searched));
    assert_eq!(ledger.open_blocks(0).expect("blocks").len(), 1);
    drop(ledger);
    let served = Served::open(copy.path(), 1);
    let (place, row) = recorded(copy.path()).pop().expect("a candidate");
    assert_eq!(place, Pin { sequence: 10, event: 1 });
    assert_eq!((row.announced, row.gateway), (false, [1; 32]));
    assert_eq!(state(&served, ours.hash), None, "it does not book itself");
    book(&served, ours.hash).expect("booked");
    assert_eq!(state(&served, ours.hash), Some(BlockState::Candidate));
    let again = book(&served, ours.hash).expect_err("once");
    assert!(again.to_string().contains("booked already"), "{again}");
    // A share that comes now changes nothing.
    let mut served = served;
    announce(&mut served, &ours);
    assert_eq!(state(&served, ours.hash), Some(BlockState::Candidate));
    served.stop();
    assert!(!recorded(copy.path())[0].1.announced);
    let reader = LedgerReader::open(copy.path()).expect("a ledger");
    let audit = crate::ledger::audit(&reader, &ours.hash).expect("an audit");
    assert_eq!((audit.differences, audit.to_pool, audit.fee), (vec![], ours.value, 0));
    assert_sound(copy.path());
}

#[test]
fn the_height_of_a_block_is_the_chains_whatever_its_coinbase_says() {
    let data = TempDir::new().expect("a folder");
    let served = served(data.path());
    let ours = block(2, OWN);
    let (reply, answer) = mpsc::channel();
    let place = ChainPlace {
        height: 7,
        branches: Vec::new(),
    };
    ask(&served, &ours, Record::Ours(place), reply);
    assert!(matches!(answer.recv(), Ok(Whose::Ours { .. })));
    assert_eq!(recorded(data.path())[0].1.candidate.height, 7);
    served.stop();
}

#[test]
fn a_block_with_the_tag_alone_that_pays_payees_is_booked_where_the_operator_says_so() {
    let data = TempDir::new().expect("a folder");
    let served = served(data.path());
    let tagged = tagged(2, 1_000_000);
    let alone = Whose::TagAlone { to_payees: 1_000_000 };
    assert_eq!(whose(&served, &tagged, true), alone);
    assert_eq!(recorded(data.path()), [], "anybody may have written it");
    let (reply, answer) = mpsc::channel();
    ask(&served, &tagged, Record::ByHand(ChainPlace::default()), reply);
    assert_eq!(answer.recv(), Ok(alone));
    assert_eq!(whose(&served, &tagged, true), Whose::Recorded);
    book(&served, tagged.hash).expect("booked");
    served.stop();
    let reader = LedgerReader::open(data.path()).expect("a ledger");
    let audit = crate::ledger::audit(&reader, &tagged.hash).expect("an audit");
    // All that the block brought its payees is shared out: the one who mined had it already.
    assert_eq!((audit.to_pool, audit.value), (0, 1_000_000));
    // It is no split of the log's, and says so; the books are what they must be.
    assert!(audit.by_hand && audit.split_outputs == 0, "{audit:?}");
    assert_eq!((audit.departures, audit.differences), (vec![], vec![]));
    let books = LedgerBooks::load(&reader.db).expect("books");
    let payee = books.payee(&[7; 22]).expect("a payee");
    assert_eq!(books.accounts.of(payee).balance, 0);
    assert_sound(data.path());
}

/// Whoever is told a split before the share of a block comes must not be paid what that block paid.
#[test]
fn what_a_block_of_the_chain_pays_of_balances_is_not_dictated_while_its_share_may_come() {
    let data = TempDir::new().expect("a folder");
    let mut served = served(data.path());
    // The pool's script is a payee's too: whatever lies there is of its balance.
    let miner = served.shards[0].miner_of(OWN, "");
    (10..20).for_each(|hash| served.shards[0].share(miner, 1, hash));
    served.settle();
    let with_balances = |served: &Served| served.writer.published().latest().expect("a snapshot").with_balances;
    while served
        .writer
        .published()
        .latest()
        .expect("a snapshot")
        .snapshot
        .payees()
        < 2
    {
        std::thread::sleep(std::time::Duration::from_millis(5));
    }
    assert!(with_balances(&served));
    let draft = Draft {
        number: 1,
        tag: b"t",
        own_script: OWN,
        value: 312_500_000,
        split: &[],
        class: Class {
            coinbase_id: 0,
            secondary: Secondary::None,
        },
    };
    let (ours, _) = draft.block(Booking::WithoutPayouts);
    let seen_ms = crate::ledger::unix_ms();
    let ask = |served: &Served, record| {
        let (reply, whose) = mpsc::channel();
        served.writer.desk().whose(mined(&ours), seen_ms, record, reply);
        whose.recv().expect("an answer")
    };
    assert!(matches!(ask(&served, Record::Nothing), Whose::Ours { .. }));
    assert!(!with_balances(&served), "the books have not what it pays");
    // Nor once it is recorded without one, until the operator books it, or as long as the chain has it.
    assert!(matches!(
        ask(&served, Record::Ours(ChainPlace::default())),
        Whose::Ours { .. }
    ));
    assert!(!with_balances(&served));
    for is_in_chain in [false, true] {
        served.writer.desk().follow(ours.hash, is_in_chain);
        // What is asked behind it is answered behind it.
        assert_eq!(state(&served, ours.hash), None);
        assert_eq!(with_balances(&served), !is_in_chain);
    }
    book(&served, ours.hash).expect("booked");
    assert!(with_balances(&served));
    served.stop();
    assert_sound(data.path());
}

#[test]
fn a_late_share_takes_the_place_of_what_the_chain_had() {
    let data = TempDir::new().expect("a folder");
    let mut served = served(data.path());
    let ours = block(1, OWN);
    assert!(matches!(whose(&served, &ours, true), Whose::Ours { .. }));
    announce(&mut served, &ours);
    announce(&mut served, &ours);
    assert_eq!(state(&served, ours.hash), Some(BlockState::Candidate));
    assert_eq!(whose(&served, &ours, true), Whose::Recorded);
    served.stop();
    let rows = recorded(data.path());
    assert_eq!(rows.len(), 1);
    assert!(rows[0].1.announced);
    assert_sound(data.path());
}

#[test]
fn a_block_is_booked_by_the_terms_of_its_time() {
    let data = TempDir::new().expect("a folder");
    let mut served = served(data.path());
    let early = block(1, OWN);
    let (mut by_hand, mut late) = (block(2, OWN), block(3, OWN));
    by_hand.booking = Booking::ByHand { told: None };
    announce(&mut served, &by_hand);
    served.stop();

    // A tenth is kept from an hour later on.
    let mut dearer = options();
    dearer.now_s += 3_600;
    dearer.terms.split.fee_ppm = 100_000;
    let mut served = Served::open_with(data.path(), 1, &dearer, Housekeeping::keep_days(90));
    let time = u32::try_from(dearer.now_s).expect("before 2106");
    late.header[68..72].copy_from_slice(&time.to_le_bytes());
    late.hash = header_hash(&late.header);
    for (block, seen_s) in [(&early, NOW_S), (&late, dearer.now_s)] {
        let (reply, whose) = mpsc::channel();
        let desk = served.writer.desk();
        desk.whose(
            mined(block),
            seen_s * 1_000 + 5_000,
            Record::Ours(ChainPlace::default()),
            reply,
        );
        assert!(matches!(whose.recv(), Ok(Whose::Ours { .. })));
    }
    let mut announced = block(4, OWN);
    announced.booking = Booking::ByHand { told: None };
    announce(&mut served, &announced);
    let blocks = [(&by_hand, 0), (&early, 0), (&late, 10), (&announced, 10)];
    for (block, percent) in blocks {
        book(&served, block.hash).expect("booked");
        let reader = LedgerReader::open(data.path()).expect("a ledger");
        let audit = crate::ledger::audit(&reader, &block.hash).expect("an audit");
        assert_eq!(audit.differences, [""; 0]);
        assert_eq!(audit.fee, block.value / 100 * percent, "block {}", block.height);
    }
    served.stop();

    // As schema 4 had candidates: what is booked stays as it was.
    let path = schema::path(data.path());
    let db = rocksdb::DB::open_cf_descriptors(&schema::primary(), &path, schema::families()).expect("a database");
    let candidates = schema::family(&db, schema::CANDIDATES);
    for row in db.iterator_cf(candidates, rocksdb::IteratorMode::Start) {
        let (hash, row) = row.expect("a row");
        let old = [&[row[0] - 4], &row[1..9], &row[17..74], &row[76..]].concat();
        db.put_cf(candidates, hash, old).expect("a write");
    }
    db.put(schema::meta::SCHEMA, 4_u32.to_le_bytes()).expect("a write");
    drop(db);
    Served::open_with(data.path(), 1, &dearer, Housekeeping::keep_days(90)).stop();
    let reader = LedgerReader::open(data.path()).expect("a ledger");
    for (block, percent) in blocks {
        let audit = crate::ledger::audit(&reader, &block.hash).expect("an audit");
        // Schema 4 went by the terms of when a block was booked.
        assert_eq!(audit.differences.is_empty(), percent == 10, "{audit:?}");
    }
    assert_sound(data.path());
}
