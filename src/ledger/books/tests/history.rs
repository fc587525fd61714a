//! Random histories of a pool, beside the model.

use std::collections::{BTreeMap, HashMap};

use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::{Index, subsequence};

use super::model::{self, Books};
use super::*;
use crate::ledger::event_rows;
use crate::work::{Payout, Pin, Split};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(4_000))]

    #[test]
    fn the_books_of_any_history_are_those_of_the_model(own in owns(), steps in vec(steps(), 0..60)) {
        let mut pool = Pool::with_own(own);
        for step in steps {
            pool.go(step);
            pool.assert_agrees();
        }
        pool.assert_replays();
    }
}

/// Payees of a history. Some work, some are small, some only have been.
const PAYEES: u32 = 8;

pub const TERMS: Terms = Terms {
    scheme: SchemeKind::Tides,
    split: SplitTerms {
        fee_ppm: 10_000,
        minimum: DUST,
    },
    difficulty: 8,
};

pub type Follow = fn(BlockHash) -> What;

pub const FOLLOWS: [(BlockState, Follow); 4] = [
    (BlockState::Maturing, What::Accepted),
    (BlockState::Mature, What::Matured),
    (BlockState::Orphaned, What::Orphaned),
    (BlockState::Rejected, What::Rejected),
];

#[derive(Debug, Clone)]
enum Step {
    Shares(Vec<Work>),
    Terms(Terms),
    Fetch {
        value: u64,
        with_balances: bool,
    },
    /// A block that pays one of the splits that are out, or a part of it.
    Found {
        split: Index,
        first: usize,
        mask: u64,
        stray: u64,
        finder: u32,
    },
    FoundWithoutPayouts {
        value: u64,
        finder: u32,
    },
    Followed {
        block: Index,
        follow: Index,
    },
    /// Accepted, and mature.
    Matured {
        block: Index,
    },
    PaidByHand {
        payee: u32,
        amount: u64,
    },
    /// The pool ends without a word and starts again, perhaps with other terms.
    Restart {
        /// What it found just before, and had only recorded.
        found: Option<Box<Step>>,
        terms: Option<Terms>,
    },
}

fn steps() -> impl Strategy<Value = Step> {
    let restarts =
        (prop::option::of(simple_steps()), prop::option::of(terms())).prop_map(|(found, terms)| Step::Restart {
            found: found.map(Box::new),
            terms,
        });
    prop_oneof![9 => simple_steps(), 1 => restarts]
}

/// All but restarts.
fn simple_steps() -> impl Strategy<Value = Step> {
    let payees = || 0..PAYEES;
    prop_oneof![
        6 => vec((payees(), prop_oneof![0..4_u8, 0..12_u8, 0..=63_u8]), 1..12)
            .prop_map(|shares| Step::Shares(shares.into_iter().map(|(payee, pot)| share(payee, pot)).collect())),
        2 => terms().prop_map(Step::Terms),
        5 => (values(), prop::bool::weighted(0.8))
            .prop_map(|(value, with_balances)| Step::Fetch { value, with_balances }),
        5 => (any::<Index>(), prop_oneof![Just(usize::MAX), 0..9_usize], masks(), strays(), payees())
            .prop_map(|(split, first, mask, stray, finder)| Step::Found { split, first, mask, stray, finder }),
        2 => (values(), payees()).prop_map(|(value, finder)| Step::FoundWithoutPayouts { value, finder }),
        3 => (any::<Index>(), any::<Index>()).prop_map(|(block, follow)| Step::Followed { block, follow }),
        3 => any::<Index>().prop_map(|block| Step::Matured { block }),
        1 => (payees(), prop_oneof![0..2_000_u64, 0..400_000_000_u64, Just(u64::MAX)])
            .prop_map(|(payee, amount)| Step::PaidByHand { payee, amount }),
    ]
}

/// Of any scheme.
pub(in crate::ledger) fn terms() -> impl Strategy<Value = Terms> {
    let schemes = prop_oneof![
        4 => Just(SchemeKind::Tides),
        2 => prop_oneof![0..200_u64, any::<u64>()].prop_map(|work| SchemeKind::Pplns { work }),
        1 => Just(SchemeKind::Solo),
    ];
    let fees = prop_oneof![Just(0), Just(10_000), 0..=1_000_000_u32];
    let minima = prop_oneof![Just(DUST), DUST..100_000, DUST..200_000_000];
    let difficulties = prop_oneof![1..100_u64, 1..5_000_u64, Just(1 << 50)];
    (schemes, fees, minima, difficulties).prop_map(|(scheme, fee_ppm, minimum, difficulty)| Terms {
        scheme,
        split: SplitTerms { fee_ppm, minimum },
        difficulty,
    })
}

fn values() -> impl Strategy<Value = u64> {
    prop_oneof![
        0..20_u64,
        500..20_000_u64,
        1..2_000_000_u64,
        312_500_000..330_000_000_u64
    ]
}

fn masks() -> impl Strategy<Value = u64> {
    prop_oneof![
        2 => Just(u64::MAX),
        1 => subsequence((0..PAYEES).collect::<Vec<_>>(), 0..=PAYEES as usize)
            .prop_map(|kept| kept.into_iter().map(|at| 1 << at).sum()),
    ]
}

/// The payee that has the pool's script, where one has.
fn owns() -> impl Strategy<Value = Option<u32>> {
    prop_oneof![1 => Just(None), 1 => (0..PAYEES).prop_map(Some)]
}

/// Satoshi that a block which the operator books pays to others.
fn strays() -> impl Strategy<Value = u64> {
    prop_oneof![4 => Just(0), 1 => 0..1_000_000_u64]
}

/// A pool by the code under test, and beside it the model.
pub struct Pool {
    pub scripts: Vec<Arc<[u8]>>,
    own_script: Arc<[u8]>,
    /// A payee with the pool's script.
    own: Option<u32>,
    log: Log,
    window: Window,
    pub accounts: Accounts,
    events: Vec<Event>,
    /// Splits that are out.
    out: Vec<Fetched>,
    /// By number.
    pub blocks: Vec<BlockHash>,
    terms: Terms,
    model: Books,
    /// What the model says of each block.
    states: HashMap<BlockHash, BlockState>,
}

#[derive(Debug, Clone)]
pub struct Fetched {
    pin: Pin,
    terms: Terms,
    value: u64,
    with_balances: bool,
    pub payouts: Vec<Payout>,
}

/// A block that is recorded, as it will be booked.
struct Candidate {
    /// Of its window.
    end: u64,
    terms: Terms,
    paid: BTreeMap<u32, u64>,
    /// What it leaves to the pool's script.
    rest: u64,
    finder: u32,
}

impl Pool {
    pub fn new() -> Self {
        Self::with_own(None)
    }

    /// With a payee that has the pool's script.
    pub fn with_own(own: Option<u32>) -> Self {
        let types = [Type::Taproot, Type::PubkeyHash, Type::ScriptHash];
        let mut log = Log(Vec::new());
        let span = TERMS.scheme.span(TERMS.difficulty);
        let scripts: Vec<_> = (0..PAYEES)
            .zip(types.into_iter().cycle())
            .map(|(number, script_type)| script(script_type, number))
            .collect();
        let mut pool = Self {
            own_script: own.map_or_else(
                || script(Type::WitnessPubkeyHash, u32::MAX),
                |own| scripts[own as usize].clone(),
            ),
            own,
            scripts,
            window: Window::at(0, span, &mut log).expect("a log in memory"),
            log,
            accounts: Accounts::default(),
            events: Vec::new(),
            out: Vec::new(),
            blocks: Vec::new(),
            terms: TERMS,
            model: Books::default(),
            states: HashMap::new(),
        };
        pool.change_terms(TERMS);
        pool
    }

    fn go(&mut self, step: Step) {
        if let Some(candidate) = self.candidate(&step) {
            self.book(candidate);
            return;
        }
        match step {
            Step::Shares(shares) => self.push(&shares),
            Step::Terms(terms) => self.change_terms(terms),
            Step::Fetch { value, with_balances } => {
                self.fetch(value, with_balances);
            }
            // No split is out that it could pay.
            Step::Found { .. } | Step::FoundWithoutPayouts { .. } => {}
            Step::Followed { block, follow } => {
                if !self.blocks.is_empty() {
                    let follow = follow.get(&FOLLOWS).1;
                    // What is refused changes nothing, and the model has the same rule.
                    let _ = self.follow(block.index(self.blocks.len()), follow);
                }
            }
            Step::Matured { block } => {
                if !self.blocks.is_empty() {
                    let block = block.index(self.blocks.len());
                    let _ = self.follow(block, What::Accepted);
                    let _ = self.follow(block, What::Matured);
                }
            }
            Step::PaidByHand { payee, amount } => {
                let paid = self.pay_by_hand(payee, amount);
                assert_eq!(paid.is_ok(), amount > 0 && amount < u64::MAX);
            }
            Step::Restart { found, terms } => {
                let candidate = found.and_then(|found| self.candidate(&found));
                self.restart();
                if let Some(terms) = terms {
                    self.change_terms(terms);
                }
                if let Some(candidate) = candidate {
                    self.book(candidate);
                }
            }
        }
    }

    /// What a step finds.
    fn candidate(&self, step: &Step) -> Option<Candidate> {
        match step {
            Step::Found {
                split,
                first,
                mask,
                stray,
                finder,
            } => {
                let split = (!self.out.is_empty()).then(|| split.get(&self.out))?;
                Some(split.candidate(*first, *mask, *stray, *finder))
            }
            Step::FoundWithoutPayouts { value, finder } => Some(self.candidate_without_payouts(*value, *finder)),
            _ => None,
        }
    }

    /// All that is not in the log is gone, and read from it again; so are the splits that are out.
    fn restart(&mut self) {
        let rows = self.events.iter().map(event_rows::event::encode);
        let events: Vec<Event> = rows
            .map(|row| event_rows::event::decode(&row).expect("what was written"))
            .collect();
        assert_eq!(events, self.events);
        let accounts = replayed(&events);
        assert_eq!(accounts, self.accounts);
        let terms = accounts.terms.expect("the first event");
        let window = Window::at(self.log.0.len() as u64, terms.span(), &mut self.log).expect("a log in memory");
        assert_eq!(
            (window.front(), window.front_part(), window.end(), window.total()),
            (
                self.window.front(),
                self.window.front_part(),
                self.window.end(),
                self.window.total()
            )
        );
        let weight = |window: &Window, payee: u32| window.weights().get(payee as usize).copied().unwrap_or(0);
        for payee in 0..PAYEES {
            assert_eq!(weight(&window, payee), weight(&self.window, payee), "payee {payee}");
        }
        for fetched in &self.out {
            let pin = fetched.pin;
            let then = replayed(&events[..at(pin.event)]);
            assert_eq!(then.terms, Some(fetched.terms));
            let span = fetched.terms.span();
            let window = window
                .rewound(pin.sequence, span, &mut self.log)
                .expect("a log in memory");
            let weights = fetched.terms.scheme.weights(&window, None);
            let payable = |payee| then.of(payee).payable();
            let split = Snapshot::new(
                pin,
                fetched.terms.split,
                &self.own_script,
                &weights,
                &self.scripts,
                payable,
            );
            assert_eq!(split.payouts(fetched.value, fetched.with_balances), fetched.payouts);
        }
        (self.events, self.accounts, self.window, self.terms) = (events, accounts, window, terms);
    }

    pub fn share(&mut self, payee: u32, pot: u8) {
        self.push(&[share(payee, pot)]);
    }

    fn push(&mut self, shares: &[Work]) {
        self.log.0.extend(shares);
        self.window.push(shares, &mut self.log).expect("a log in memory");
    }

    fn change_terms(&mut self, terms: Terms) {
        self.terms = terms;
        self.apply(What::Terms(terms)).expect("terms");
        let span = terms.scheme.span(terms.difficulty);
        self.window.resize(span, &mut self.log).expect("a log in memory");
    }

    /// The split that a gateway gets now; the model gives the same.
    pub fn fetch(&mut self, value: u64, with_balances: bool) -> Fetched {
        let pin = Pin {
            sequence: self.window.end(),
            event: self.accounts.events,
        };
        let terms = self.terms;
        let weights = terms.scheme.weights(&self.window, None);
        let payable = |payee| self.accounts.of(payee).payable();
        let split = Snapshot::new(pin, terms.split, &self.own_script, &weights, &self.scripts, payable);
        let payouts = split.payouts(value, with_balances);

        let parts = model::parts(&self.log.0, &terms, None);
        let payable = |payee| match with_balances {
            true => self.model.account(payee).payable(),
            false => 0,
        };
        let expected = model::payouts(value, &terms.split, &self.own_script, &parts, &self.scripts, payable);
        assert_eq!(payouts, expected);
        let fetched = Fetched {
            pin,
            terms,
            value,
            with_balances,
            payouts,
        };
        self.out.push(fetched.clone());
        fetched
    }

    /// Books a block that pays of a split the first outputs, of these those in the mask. Gives its number.
    pub fn find(&mut self, split: &Fetched, first: usize, mask: u64, stray: u64, finder: u32) -> usize {
        self.book(split.candidate(first, mask, stray, finder))
    }

    pub fn find_without_payouts(&mut self, value: u64, finder: u32) -> usize {
        self.book(self.candidate_without_payouts(value, finder))
    }

    fn candidate_without_payouts(&self, value: u64, finder: u32) -> Candidate {
        Candidate {
            end: self.window.end(),
            terms: self.terms,
            paid: BTreeMap::new(),
            rest: value,
            finder,
        }
    }

    pub fn find_mature(&mut self, value: u64) {
        let block = self.find_without_payouts(value, 0);
        self.follow(block, What::Accepted).expect("a candidate");
        self.follow(block, What::Matured).expect("it matures");
    }

    fn book(&mut self, candidate: Candidate) -> usize {
        let Candidate {
            end,
            terms,
            mut paid,
            rest,
            finder,
        } = candidate;
        // What its coinbase pays to the pool's script lies there, whoever it is for.
        let to_pool = rest + self.own.and_then(|own| paid.remove(&own)).unwrap_or(0);
        let number = self.blocks.len();
        let block = block_hash(number);
        let span = terms.scheme.span(terms.difficulty);
        let window = self.window.rewound(end, span, &mut self.log).expect("a log in memory");
        let weights = terms.scheme.weights(&window, Some(finder));
        let mined = Mined {
            paid: paid.clone().into_iter().collect(),
            to_pool,
            shared: self.own.map(|own| (own, to_pool)).into_iter().collect(),
        };
        let payees = (0..)
            .zip(&self.scripts)
            .map(|(payee, script)| (payee, self.accounts.of(payee).balance, &**script));
        let settlement = settle(block, end, &mined, &terms.split, &weights, payees);

        let parts = model::parts(&self.log.0[..at(end)], &terms, Some(finder));
        let fee_ppm = terms.split.fee_ppm;
        let model = &mut self.model;
        let (fee, to_pool) = model.settle(block, &paid, to_pool, self.own, fee_ppm, &parts, &self.scripts);
        let booked: Vec<Posting> = self
            .model
            .of_block(block)
            .map(|line| Posting {
                payee: line.payee,
                earned: line.earned,
                paid: line.paid,
            })
            .collect();
        assert_eq!(settlement.postings, booked);
        assert_eq!((settlement.fee, settlement.to_pool), (fee, to_pool));
        assert_eq!(settlement.window_end, end);
        let sum = |part: fn(&Posting) -> u64| settlement.postings.iter().map(part).sum::<u64>();
        assert_eq!(sum(|posting| posting.paid) + to_pool, settlement.value);
        assert_eq!(sum(|posting| posting.earned) + fee, settlement.value);

        self.apply(What::Settled(settlement)).expect("a new block");
        self.blocks.push(block);
        self.states.insert(block, BlockState::Candidate);
        number
    }

    pub fn follow(&mut self, number: usize, follow: Follow) -> Result<(), BookError> {
        use BlockState::{Candidate, Mature, Maturing, Orphaned, Rejected};
        let block = self.blocks[number];
        let what = follow(block);
        let state = match (&what, self.states[&block]) {
            (What::Accepted(_), Candidate) => Some(Maturing),
            (What::Matured(_), Maturing) => Some(Mature),
            (What::Orphaned(_), Candidate | Maturing | Mature) => Some(Orphaned),
            (What::Rejected(_), Candidate) => Some(Rejected),
            _ => None,
        };
        let applied = self.apply(what);
        assert_eq!(applied.is_ok(), state.is_some());
        match state {
            Some(Mature) => self.model.mature(block),
            Some(Orphaned | Rejected) => self.model.remove(block),
            _ => {}
        }
        if let Some(state) = state {
            self.states.insert(block, state);
        }
        applied
    }

    pub fn pay_by_hand(&mut self, payee: u32, amount: u64) -> Result<(), BookError> {
        let paid = PaidByHand {
            payee,
            amount,
            txid: [9; 32],
        };
        self.apply(What::PaidByHand(paid))?;
        self.model.pay_by_hand(payee, amount);
        Ok(())
    }

    fn apply(&mut self, what: What) -> Result<(), BookError> {
        self.accounts.check(&what)?;
        let event = Event {
            sequence: self.window.end(),
            time_ms: 0,
            what,
        };
        self.accounts
            .apply(&event, |number| settlement_in(&self.events, number));
        self.events.push(event);
        Ok(())
    }

    fn assert_agrees(&self) {
        for payee in 0..PAYEES {
            assert_eq!(self.accounts.of(payee), self.model.account(payee), "payee {payee}");
        }
        let sums = self.accounts.sums();
        assert_eq!(sums, self.model.sums(PAYEES));
        assert_eq!(sums.carry, sums.to_pool - sums.fees - sums.by_hand);
        assert_eq!(self.accounts.events, self.events.len() as u64);
        assert_eq!(self.accounts.terms, Some(self.terms));
        let states = self.accounts.blocks().map(|(block, found)| (*block, found.state));
        assert_eq!(states.collect::<HashMap<_, _>>(), self.states);
    }

    /// The events alone give the books again.
    fn assert_replays(&self) {
        assert_eq!(replayed(&self.events), self.accounts);
    }

    pub fn settlement(&self, number: usize) -> Settlement {
        let block = self.accounts.block(&self.blocks[number]).expect("it is booked");
        settlement_in(&self.events, block.settled_by)
    }

    pub fn balances(&self, payees: u32) -> Vec<i64> {
        (0..payees).map(|payee| self.accounts.of(payee).balance).collect()
    }

    pub fn sums(&self) -> Sums {
        self.accounts.sums()
    }
}

impl Fetched {
    /// A block that pays the first outputs, of these those in the mask.
    fn candidate(&self, first: usize, mask: u64, stray: u64, finder: u32) -> Candidate {
        let listed = self.payouts.iter().take(first).enumerate();
        let paid: BTreeMap<u32, u64> = listed
            .filter(|(at, _)| mask >> at & 1 == 1)
            .map(|(_, payout)| (payout.payee, payout.value))
            .collect();
        let rest = self.value - paid.values().sum::<u64>();
        Candidate {
            end: self.pin.sequence,
            terms: self.terms,
            paid,
            rest: rest.saturating_sub(stray),
            finder,
        }
    }
}

fn replayed(events: &[Event]) -> Accounts {
    let mut accounts = Accounts::default();
    for event in events {
        accounts.apply(event, |number| settlement_in(events, number));
    }
    accounts
}

pub fn block_hash(number: usize) -> BlockHash {
    let mut hash = [7; 32];
    hash[..8].copy_from_slice(&(number as u64).to_le_bytes());
    hash
}

fn settlement_in(events: &[Event], number: u64) -> Settlement {
    match &events[at(number)].what {
        What::Settled(settlement) => settlement.clone(),
        other => panic!("{other:?} books no block"),
    }
}
