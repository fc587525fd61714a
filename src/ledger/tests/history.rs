//! Random histories of a ledger as a whole (log, writer, bookkeeper, starts and crashes) beside the model of the books.
//!
//! `books::tests` has thousands of histories of the parts. What is here takes the way of a pool: shares and candidates
//! come from a shard, splits from what is published, and all else by order.

mod steps;

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::Duration;

use millrace_loadgen::coinbase::Secondary;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::Index;

use self::steps::{Step, steps};
use super::formed::{Class, Draft, PARENT, mined};
use super::*;
use crate::ledger::books::tests::history::terms;
use crate::ledger::books::tests::model::{self, Books};
use crate::ledger::books::{BlockHash, BlockState, Terms, Work};
use crate::ledger::{
    CandidateRow, ChainPlace, Done, LedgerBooks, Order, OrderError, Record, SplitRow, Whose, audit,
    ledger_books::unix_ms,
};
use crate::work::{Booking, Candidate, Payout, Pin, PinnedSplit, Split};

/// Each opens a ledger some times over and waits for its disk, so there are fewer than of the parts alone.
const HISTORIES: u32 = 64;

/// As many as not all classes have room for.
const PAYEES: u32 = 16;

/// The pool's script, which may be a payee's.
const OWN: &[u8] = &[0x51];
const TAG: &[u8] = b"tag";

proptest! {
    #![proptest_config(ProptestConfig { max_shrink_iters: 100, ..ProptestConfig::with_cases(HISTORIES) })]

    #[test]
    fn the_ledger_of_any_history_is_that_of_the_model(
        own in prop_oneof![Just(None), (0..PAYEES).prop_map(Some)],
        terms in terms(),
        steps in vec(steps(), 1..24),
    ) {
        let mut pool = Pool::new(own, terms);
        for step in steps {
            pool.go(step);
            pool.assert_agrees();
        }
        pool.assert_proved();
    }
}

/// A ledger that is served, and beside it the model.
struct Pool {
    data: TempDir,
    /// None between two processes.
    served: Option<Served>,
    /// By payee, as the shard numbers them: a process meets each with its first share.
    miners: BTreeMap<u32, u32>,
    /// By payee; so are the next.
    scripts: Vec<Arc<[u8]>>,
    usernames: Vec<Vec<u8>>,
    /// A payee with the pool's script.
    own: Option<u32>,
    log: Vec<Work>,
    /// By the number of the event that brought them.
    terms: Vec<(u64, Terms)>,
    /// After so many events.
    books: Vec<Books>,
    /// Splits that are out.
    out: Vec<Fetched>,
    blocks: Vec<Block>,
    found: u32,
}

#[derive(Debug, Clone)]
struct Fetched {
    split: PinnedSplit,
    value: u64,
    payouts: Vec<Payout>,
}

struct Block {
    hash: BlockHash,
    pin: Pin,
    finder: Option<u32>,
    /// What its coinbase pays payees, and what it leaves to the pool's script.
    paid: BTreeMap<u32, u64>,
    rest: u64,
    /// By its split, as its booking has it.
    pays_balances: bool,
    state: BlockState,
}

impl Pool {
    fn new(own: Option<u32>, terms: Terms) -> Self {
        let data = TempDir::new().expect("a folder");
        let mut scripts: Vec<Arc<[u8]>> = (0..PAYEES).map(script).collect();
        let usernames = scripts.iter().map(|script| username(script)).collect();
        if let Some(own) = own {
            scripts[own as usize] = OWN.into();
        }
        let mut served = open(&data, terms);
        served.shards[0].session(1, 1);
        served.settle();
        Self {
            data,
            served: Some(served),
            miners: BTreeMap::new(),
            scripts,
            usernames,
            own,
            log: Vec::new(),
            terms: vec![(0, terms)],
            books: vec![Books::default(); 2],
            out: Vec::new(),
            blocks: Vec::new(),
            found: 0,
        }
    }

    fn go(&mut self, step: Step) {
        match step {
            Step::Shares(shares) => self.push(&shares),
            Step::Difficulty(difficulty) => {
                let now = self.terms();
                if now.difficulty != difficulty {
                    self.change_terms(Terms { difficulty, ..now });
                }
                self.order(Order::Difficulty(difficulty)).expect("there are terms");
            }
            Step::Fetch { value, parent_is_known } => self.fetch(value, parent_is_known),
            Step::Found { split, class, finder } => {
                if let Some((candidate, block)) = self.draft(split, class, Some(finder)) {
                    self.announce(candidate);
                    self.wait_until_booked(block);
                }
            }
            Step::FoundWithoutPayouts { value, finder } => {
                let (candidate, block) = self.draft_without_payouts(value, finder);
                self.announce(candidate);
                self.wait_until_booked(block);
            }
            Step::FoundByHand {
                split,
                class,
                knows_split,
            } => self.find_by_hand(split, class, knows_split),
            Step::Unannounced { split, class } => self.find_in_chain(split, class),
            Step::Followed { block, becomes } => {
                if !self.blocks.is_empty() {
                    self.follow(block.index(self.blocks.len()), becomes);
                }
            }
            Step::Matured { block } => {
                if !self.blocks.is_empty() {
                    let block = block.index(self.blocks.len());
                    self.follow(block, BlockState::Maturing);
                    self.follow(block, BlockState::Mature);
                }
            }
            Step::BookedAgain { block } => {
                if !self.blocks.is_empty() {
                    self.book_again(block.index(self.blocks.len()));
                }
            }
            Step::PaidByHand { payee, amount } => self.pay_by_hand(payee, amount),
            Step::Restart {
                is_killed,
                found,
                terms,
            } => self.restart(is_killed, found, terms),
        }
    }

    fn push(&mut self, shares: &[(u32, u8)]) {
        let served = self.served.as_mut().expect("it is served");
        for (hash64, (payee, pot)) in (self.log.len() as u64..).zip(shares) {
            let shard = &mut served.shards[0];
            let script = &self.scripts[*payee as usize];
            let miner = *self
                .miners
                .entry(*payee)
                .or_insert_with(|| shard.miner_of(script, "rig"));
            let entry = ShareEntry {
                pot: *pot,
                ..share(miner, 1, hash64)
            };
            shard.push(Entry::Share(entry));
        }
        served.settle();
        let works = shares.iter().map(|(payee, pot)| Work {
            payee: *payee,
            pot: *pot,
        });
        self.log.extend(works);
    }

    /// By what is published, however old that is: the model gives the same for its pin.
    fn fetch(&mut self, value: u64, parent_is_known: bool) {
        let latest = self.served().writer.published().latest().expect("there are terms");
        assert!(latest.with_balances, "no block waits to be booked");
        let split = PinnedSplit {
            pin: latest.snapshot.pin(),
            with_balances: latest.with_balances && parent_is_known,
        };
        let payouts = latest.snapshot.payouts(value, split.with_balances);
        let PinnedSplit {
            pin: Pin { sequence, event },
            with_balances,
        } = split;
        let terms = *Terms::in_force(&self.terms, event).expect("the first event brought some");
        let parts = model::parts(&self.log[..at(sequence)], &terms, None);
        let then = &self.books[at(event)];
        let payable = |payee| match with_balances {
            true => then.account(payee).payable(),
            false => 0,
        };
        let mut expected = model::payouts(value, &terms.split, OWN, &parts, &self.scripts, payable);
        // Their numbers are the ledger's own.
        for (expected, paid) in expected.iter_mut().zip(&payouts) {
            expected.payee = paid.payee;
        }
        assert_eq!(payouts, expected, "pinned to {split:?}");
        let coinbaser_id = u8::try_from(self.out.len() % 255 + 1).expect("at most 255");
        self.enter(Entry::Split(Box::new(SplitRow {
            prime_id: 1,
            coinbaser_id,
            value,
            parent: PARENT,
            split,
            time_s: NOW_S,
        })));
        self.out.push(Fetched { split, value, payouts });
    }

    /// A block that pays of a split that is out; none is out at first.
    fn draft(&mut self, split: Index, class: Class, finder: Option<u32>) -> Option<(Candidate, Block)> {
        let fetched = (!self.out.is_empty()).then(|| split.get(&self.out).clone())?;
        let (mut candidate, paid) = self.block_of(fetched.value, &fetched.payouts, class, Booking::Pays(fetched.split));
        if paid.is_empty() {
            candidate.booking = Booking::WithoutPayouts;
        } else {
            candidate.dictated = Some(fetched.payouts.clone());
        }
        candidate.username = finder.map_or_else(Vec::new, |finder| self.usernames[finder as usize].clone());
        let block = self.block(&candidate, &paid, fetched.value, finder);
        Some((candidate, block))
    }

    fn draft_without_payouts(&mut self, value: u64, finder: u32) -> (Candidate, Block) {
        let class = Class {
            coinbase_id: 0,
            secondary: Secondary::None,
        };
        let (mut candidate, paid) = self.block_of(value, &[], class, Booking::WithoutPayouts);
        candidate.username = self.usernames[finder as usize].clone();
        let block = self.block(&candidate, &paid, value, Some(finder));
        (candidate, block)
    }

    fn block_of(&mut self, value: u64, split: &[Payout], class: Class, booking: Booking) -> (Candidate, Vec<Payout>) {
        self.found += 1;
        let draft = Draft {
            number: self.found,
            tag: TAG,
            own_script: OWN,
            value,
            split,
            class,
        };
        draft.block(booking)
    }

    /// What the model knows of it, as it is recorded now. `value`: satoshi of it that come to payees and the pool.
    fn block(&self, candidate: &Candidate, paid: &[Payout], value: u64, finder: Option<u32>) -> Block {
        let place = Pin {
            sequence: self.log.len() as u64,
            event: self.events(),
        };
        let paid: BTreeMap<u32, u64> = paid
            .iter()
            .map(|payout| (self.payee(&payout.script), payout.value))
            .collect();
        Block {
            hash: candidate.hash,
            pin: candidate.booking.pin(place),
            finder: finder.filter(|finder| Some(*finder) != self.own),
            rest: value - paid.values().sum::<u64>(),
            paid,
            pays_balances: matches!(candidate.booking, Booking::Pays(split) if split.with_balances),
            state: BlockState::Candidate,
        }
    }

    fn payee(&self, script: &[u8]) -> u32 {
        let at = self.scripts.iter().position(|known| **known == *script);
        u32::try_from(at.expect("a payee")).expect("few")
    }

    fn announce(&mut self, candidate: Candidate) {
        let row = CandidateRow::new(candidate, [1; 32], unix_ms());
        self.enter(Entry::Candidate(Box::new(row)));
    }

    /// It books itself, but for one of `solo` whose finder has never had a share accepted. A split that comes meanwhile pays no
    /// balances, or follows from the booking.
    fn wait_until_booked(&mut self, block: Block) {
        let meanwhile = self.served().writer.published().latest().expect("there are terms");
        if self.lacks_finder(&block) {
            return self.book_by_order(block);
        }
        while self.state(&block.hash).is_none() {
            std::thread::sleep(Duration::from_millis(1));
        }
        if block.pays_balances && meanwhile.with_balances {
            let pin = meanwhile.snapshot.pin();
            assert_eq!(pin.event, self.events() + 1, "the same carry would be paid again");
        }
        self.settle_in_model(&block);
        self.blocks.push(block);
    }

    fn lacks_finder(&self, block: &Block) -> bool {
        let terms = Terms::in_force(&self.terms, block.pin.event).expect("there are some");
        terms.scheme == SchemeKind::Solo && !block.finder.is_some_and(|finder| self.has_worked(finder))
    }

    fn has_worked(&self, payee: u32) -> bool {
        self.log.iter().any(|share| share.payee == payee)
    }

    fn book_by_order(&mut self, block: Block) {
        self.order(Order::Book { hash: block.hash }).expect("it is recorded");
        self.settle_in_model(&block);
        self.blocks.push(block);
    }

    fn find_by_hand(&mut self, split: Index, class: Class, knows_split: bool) {
        let Some(fetched) = (!self.out.is_empty()).then(|| split.get(&self.out).clone()) else {
            return;
        };
        // A coinbase that pays the last of its split a satoshi less, and somebody strange a little.
        let mut bent = fetched.payouts.clone();
        if let Some(last) = bent.last_mut() {
            last.value -= 1;
        }
        let left = fetched.value - bent.iter().map(|payout| payout.value).sum::<u64>();
        let stranger = Payout {
            payee: u32::MAX,
            value: left.min(1_000),
            script: [0x77; 22].into(),
        };
        if stranger.value > 0 {
            bent.push(stranger);
        }
        let told = knows_split.then_some(fetched.split);
        let (mut candidate, mut paid) = self.block_of(fetched.value, &bent, class, Booking::ByHand { told });
        candidate.dictated = told.is_some().then(|| fetched.payouts.clone());
        let to_strangers: u64 = paid
            .iter()
            .filter(|payout| payout.payee == u32::MAX)
            .map(|payout| payout.value)
            .sum();
        paid.retain(|payout| payout.payee != u32::MAX);
        let block = self.block(&candidate, &paid, fetched.value - to_strangers, None);
        let hash = candidate.hash;
        let by_hand = self.served().telemetry.blocks_by_hand.value();
        self.announce(candidate);
        // It is looked at and left alone.
        while self.served().telemetry.blocks_by_hand.value() == by_hand {
            std::thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(self.state(&hash), None);
        self.book_by_order(block);
    }

    fn find_in_chain(&mut self, split: Index, class: Class) {
        let Some((candidate, mut block)) = self.draft(split, class, None) else {
            return;
        };
        // Without payouts its place would be that of its header's time.
        if block.paid.is_empty() {
            return;
        }
        for record in [Record::Nothing, Record::Ours(ChainPlace::default())] {
            let (reply, whose) = mpsc::channel();
            let desk = self.served().writer.desk();
            desk.whose(mined(&candidate), NOW_S * 1_000 + 5_000, record, reply);
            assert!(matches!(whose.recv(), Ok(Whose::Ours { .. })));
        }
        // Of several splits that it pays, the latest pin is its own.
        let reader = LedgerReader::open(self.data.path()).expect("a ledger");
        let recorded = crate::ledger::reader::candidate(&reader.db, &candidate.hash).expect("a row");
        let (_, row) = recorded.expect("it is recorded");
        let of_it = self.out.iter().filter(|fetched| {
            let mut rest = fetched.payouts.iter();
            let is_paid = |(payee, value): (&u32, &u64)| {
                let script = &self.scripts[*payee as usize];
                rest.any(|payout| *payout.script == **script && payout.value == *value)
            };
            let mut by_value: Vec<(&u32, &u64)> = block.paid.iter().collect();
            by_value.sort_by(|a, b| {
                let script = |payee: &u32| self.scripts[*payee as usize].clone();
                b.1.cmp(a.1).then_with(|| script(a.0).cmp(&script(b.0)))
            });
            fetched.value == candidate.value && by_value.into_iter().all(is_paid)
        });
        let latest = of_it.max_by_key(|fetched| fetched.split.pin).expect("its own");
        let Booking::Pays(booked) = row.candidate.booking else {
            panic!("{:?}", row.candidate.booking);
        };
        assert_eq!(booked.pin, latest.split.pin);
        block.pin = booked.pin;
        let dictated = self.served().writer.published().latest().expect("there are terms");
        assert!(
            !(booked.with_balances && dictated.with_balances),
            "it waits for the operator"
        );
        self.book_by_order(block);
    }

    fn settle_in_model(&mut self, block: &Block) {
        let terms = *Terms::in_force(&self.terms, block.pin.event).expect("there are some");
        let finder = block.finder.filter(|finder| self.has_worked(*finder));
        let parts = model::parts(&self.log[..at(block.pin.sequence)], &terms, finder);
        let own = self.own.filter(|own| self.has_worked(*own));
        let mut paid = block.paid.clone();
        // What its coinbase pays to the pool's script lies there, whoever it is for.
        let to_pool = block.rest + self.own.and_then(|own| paid.remove(&own)).unwrap_or(0);
        let (fee_ppm, scripts) = (terms.split.fee_ppm, self.scripts.clone());
        self.change(|books| {
            books.settle(block.hash, &paid, to_pool, own, fee_ppm, &parts, &scripts);
        });
    }

    /// An event, as the model has it.
    fn change(&mut self, change: impl FnOnce(&mut Books)) {
        let mut books = self.books.last().expect("never none").clone();
        change(&mut books);
        self.books.push(books);
    }

    fn events(&self) -> u64 {
        self.books.len() as u64 - 1
    }

    fn terms(&self) -> Terms {
        self.terms.last().expect("never none").1
    }

    fn change_terms(&mut self, terms: Terms) {
        self.terms.push((self.events(), terms));
        self.change(|_| {});
    }

    fn follow(&mut self, at: usize, becomes: BlockState) {
        use BlockState::{Candidate, Mature, Maturing, Orphaned, Rejected};
        let Block { hash, state, .. } = self.blocks[at];
        let may = matches!(
            (state, becomes),
            (Candidate, Maturing | Orphaned | Rejected) | (Maturing, Mature | Orphaned) | (Mature, Orphaned)
        );
        let ordered = self.order(Order::Block { hash, becomes });
        assert_eq!(ordered.is_ok(), may, "{state} to {becomes}: {ordered:?}");
        if !may {
            return;
        }
        self.blocks[at].state = becomes;
        self.change(|books| match becomes {
            Mature => books.mature(hash),
            Orphaned | Rejected => books.remove(hash),
            Candidate | Maturing => {}
        });
    }

    fn book_again(&mut self, at: usize) {
        let Block { hash, state, .. } = self.blocks[at];
        let may = matches!(state, BlockState::Orphaned | BlockState::Rejected);
        let ordered = self.order(Order::Book { hash });
        assert_eq!(ordered.is_ok(), may, "{state}: {ordered:?}");
        if may {
            let mut block = self.blocks.remove(at);
            block.state = BlockState::Candidate;
            self.settle_in_model(&block);
            self.blocks.push(block);
        }
    }

    fn pay_by_hand(&mut self, payee: u32, amount: u64) {
        let script: Box<[u8]> = (&*self.scripts[payee as usize]).into();
        let txid = [u8::try_from(self.books.len() % 256).expect("a byte"); 32];
        let ordered = self.order(Order::PayByHand { script, amount, txid });
        let may = self.has_worked(payee) && amount > 0 && amount < u64::MAX;
        assert_eq!(ordered.is_ok(), may, "{ordered:?}");
        if may {
            self.change(|books| books.pay_by_hand(payee, amount));
        }
    }

    fn restart(&mut self, is_killed: bool, found: Option<(Index, Class)>, terms: Option<Terms>) {
        let found = found.and_then(|(split, class)| self.draft(split, class, None));
        let found = found.filter(|(_, block)| !self.lacks_finder(block));
        let recorded = found.map(|(candidate, block)| {
            self.announce(candidate);
            block
        });
        let (events, before, after) = (self.events(), self.terms(), terms.unwrap_or(self.terms()));
        self.open_again(is_killed, after);
        let mut changes_terms = before != after;
        if let Some(block) = recorded {
            while self.state(&block.hash).is_none() {
                std::thread::sleep(Duration::from_millis(1));
            }
            // Booked by the process that found it, or behind the terms of the next.
            let books = self.ledger_books();
            let settled_by = books.accounts.block(&block.hash).expect("it is booked").settled_by;
            if settled_by > events && changes_terms {
                self.change_terms(after);
                changes_terms = false;
            }
            self.settle_in_model(&block);
            self.blocks.push(block);
        }
        if changes_terms {
            self.change_terms(after);
        }
    }

    fn open_again(&mut self, is_killed: bool, terms: Terms) {
        let copy = is_killed.then(|| copy_of(self.data.path()));
        self.served.take().expect("it is served").stop();
        if let Some(copy) = copy {
            self.data = copy;
        }
        self.served = Some(open(&self.data, terms));
        self.miners.clear();
    }

    fn served(&self) -> &Served {
        self.served.as_ref().expect("it is served")
    }

    /// Waits until it is on disk.
    fn enter(&mut self, entry: Entry) {
        let served = self.served.as_mut().expect("it is served");
        served.shards[0].push(entry);
        served.settle();
    }

    fn order(&self, order: Order) -> Result<Done, OrderError> {
        let (reply, done) = mpsc::channel();
        self.served().writer.desk().order(order, reply);
        done.recv().expect("an answer")
    }

    fn state(&self, hash: &BlockHash) -> Option<BlockState> {
        let (reply, state) = mpsc::channel();
        self.served().writer.desk().ask(*hash, reply);
        state.recv().expect("an answer")
    }

    fn ledger_books(&self) -> LedgerBooks {
        let reader = LedgerReader::open(self.data.path()).expect("a ledger");
        LedgerBooks::load(&reader.db).expect("books")
    }

    /// What is on disk, to the satoshi.
    fn assert_agrees(&self) {
        let books = self.ledger_books();
        let model = self.books.last().expect("never none");
        assert_eq!(books.accounts.events, self.events());
        let (parts, front) = model::window(&self.log, self.terms().span());
        for (payee, script) in (0..).zip(&self.scripts) {
            let known = books.payee(script);
            assert_eq!(known.is_some(), self.has_worked(payee), "payee {payee}");
            let account = known.map(|known| books.accounts.of(known)).unwrap_or_default();
            assert_eq!(account, model.account(payee), "payee {payee}");
            let weight = known.and_then(|known| books.window().weights().get(known as usize));
            let expected = parts.get(&payee).copied().unwrap_or(0);
            assert_eq!(weight.copied().unwrap_or(0), expected, "payee {payee}");
        }
        assert_eq!(books.window().front(), front as u64);
        let sums = books.accounts.sums();
        assert_eq!(sums, model.sums(PAYEES));
        assert_eq!(sums.carry, sums.to_pool - sums.fees - sums.by_hand);
        let states: BTreeMap<_, _> = books
            .accounts
            .blocks()
            .map(|(hash, block)| (*hash, block.state))
            .collect();
        let expected = self.blocks.iter().map(|block| (block.hash, block.state));
        assert_eq!(states, expected.collect());
    }

    /// Every block can be recomputed from the log alone, and the log is sound.
    fn assert_proved(self) {
        let Self {
            data, served, blocks, ..
        } = self;
        served.expect("it is served").stop();
        assert_sound(data.path());
        let reader = LedgerReader::open(data.path()).expect("a ledger");
        for block in blocks {
            let audit = audit(&reader, &block.hash).expect("it is booked");
            assert_eq!(audit.differences, [""; 0], "{audit:?}");
            let paid: u64 = block.paid.values().sum();
            assert_eq!(audit.value, paid + block.rest);
        }
    }
}

fn open(data: &TempDir, terms: Terms) -> Served {
    let options = LedgerOptions { terms, ..options() };
    Served::open_with(data.path(), 1, &options, Housekeeping::keep_days(90))
}

/// Of a type that has addresses; one in four has a signature operation that is counted.
fn script(payee: u32) -> Arc<[u8]> {
    let hash: Vec<u8> = payee.wrapping_mul(0x9e37_79b1).to_be_bytes().repeat(8);
    match payee % 4 {
        0 => [&[0x76, 0xa9, 20], &hash[..20], &[0x88, 0xac]].concat().into(),
        1 => [&[0xa9, 20], &hash[..20], &[0x87]].concat().into(),
        2 => [&[0x00, 20], &hash[..20]].concat().into(),
        _ => [&[0x51, 32], &hash[..]].concat().into(),
    }
}

fn username(script: &[u8]) -> Vec<u8> {
    let script = bitcoin::Script::from_bytes(script);
    let address = bitcoin::Address::from_script(script, bitcoin::Network::Bitcoin).expect("a standard type");
    format!("{address}.rig").into_bytes()
}

/// A sequence or an event as a place in a list.
fn at(number: u64) -> usize {
    usize::try_from(number).expect("a list in memory")
}
