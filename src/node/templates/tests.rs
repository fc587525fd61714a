//! Checks of many gateways at a time, some of which are slow. No node answers here, so a template that is shown ends unjudged.

use std::collections::HashMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::runtime::Handle;
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};
use tokio::time::timeout;

use super::under_way::{CHECKS_MAX, DRAWN_MAX};
use super::*;
use crate::node::fixtures;
use crate::wire::{Transactions, coinbase_transaction};
use crate::work::known::tests::{header_over, transaction};
use crate::work::{TemplateClaim, merkle_branches};

/// Only reached where a test fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// How one gateway answers.
#[derive(Clone, Copy)]
enum Manner {
    Never,
    /// Not before its shard gives it up.
    Late,
    Busy,
    /// Is busy for so long, and then never answers.
    BusyUntil(Instant),
    /// Shows all of its transactions, in an answer that has to be opened.
    Shows,
    /// Shows another template's.
    Lies,
    Leaves,
}

/// Checks under way, and what is said of them.
struct World {
    shared: Arc<Shared>,
    said: UnboundedReceiver<Checked>,
    manners: Arc<Mutex<HashMap<[u8; 32], Manner>>>,
    asked: Arc<Mutex<Vec<Ask>>>,
    /// Answers that were being opened at the same time: now, and at most.
    opening: Arc<(AtomicUsize, AtomicUsize)>,
    number: u64,
}

impl World {
    fn new(within: Duration) -> Self {
        let manners: Arc<Mutex<HashMap<[u8; 32], Manner>>> = Arc::default();
        let opening: Arc<(AtomicUsize, AtomicUsize)> = Arc::default();
        let asked: Arc<Mutex<Vec<Ask>>> = Arc::default();
        let (known, counts, questions) = (manners.clone(), opening.clone(), asked.clone());
        let ask: AskGateway = Arc::new(move |gateway, _, ask, _| {
            questions.lock().expect("no panic").push(ask);
            let manner = known.lock().expect("no panic")[&gateway];
            let counts = counts.clone();
            Box::pin(async move {
                match manner {
                    Manner::BusyUntil(until) if Instant::now() < until => Heard::Outcome(ValidateOutcome::Busy),
                    Manner::Never | Manner::BusyUntil(_) => std::future::pending().await,
                    Manner::Late => Heard::Outcome(ValidateOutcome::Late),
                    Manner::Busy => Heard::Outcome(ValidateOutcome::Busy),
                    Manner::Leaves => Heard::Outcome(ValidateOutcome::SessionEnded),
                    Manner::Shows => Heard::Sealed(Box::new(move || counted(&counts, 0..4))),
                    Manner::Lies => Heard::Sealed(Box::new(move || counted(&counts, 5..9))),
                }
            })
        });
        let (tell, said) = unbounded_channel();
        let shared = Arc::new(Shared {
            nodes: Vec::new(),
            library: Library::new(1 << 20, ask, Handle::current()),
            tips: watch::channel(fixtures::tip()).1,
            say: Box::new(move |word| {
                if let Word::Checked(checked) = word {
                    tell.send(checked).expect("somebody listens");
                }
            }),
            telemetry: Arc::default(),
            places: Arc::new(Semaphore::new(PLACES)),
            within,
            patience: Patience {
                ids: PATIENCE,
                transactions: PATIENCE,
            },
            checks: Checks::default(),
        });
        Self {
            shared,
            said,
            manners,
            asked,
            opening,
            number: 0,
        }
    }

    /// A gateway of its own has a template to be checked, by this number.
    fn claim(&mut self, manner: Manner, is_odd: bool) -> u64 {
        let claim = self.made(manner, is_odd, false);
        self.shared.take(claim);
        self.number
    }

    fn made(&mut self, manner: Manner, is_odd: bool, is_candidate: bool) -> GatewayClaim {
        self.number += 1;
        let mut gateway = [0; 32];
        gateway[..8].copy_from_slice(&self.number.to_le_bytes());
        self.manners.lock().expect("no panic").insert(gateway, manner);
        let txids = (0..4).map(|value| transaction(value, false).txid);
        let branches = merkle_branches(txids.collect());
        let coinbase = coinbase_transaction(&[], &[(0, &[0x51])]);
        GatewayClaim {
            gateway,
            short_id_key: [9; 16],
            is_odd,
            has_unshown: false,
            claim: TemplateClaim {
                slot: 3,
                is_candidate,
                number: self.number,
                tx_count: 4,
                header: header_over(&coinbase, &branches),
                branches,
                coinbase,
            },
        }
    }

    fn asked(&self) -> Vec<Ask> {
        self.asked.lock().expect("no panic").clone()
    }

    /// What is said next of any template.
    async fn next(&mut self) -> (u64, Finding) {
        let checked = timeout(PATIENCE, self.said.recv()).await.expect("something is said");
        let checked = checked.expect("the checks go on");
        (checked.number, checked.found)
    }

    fn count(&self, outcome: TemplateOutcome) -> u64 {
        self.shared.telemetry.outcomes[outcome].value()
    }

    async fn wait_for(&self, outcome: TemplateOutcome, count: u64) {
        let counted = async {
            while self.count(outcome) < count {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, counted).await.expect("it is counted");
    }
}

/// Transactions without witnesses, by value, opened in a while.
fn counted(counts: &(AtomicUsize, AtomicUsize), values: std::ops::Range<u64>) -> ValidateOutcome {
    let now = counts.0.fetch_add(1, Ordering::SeqCst) + 1;
    counts.1.fetch_max(now, Ordering::SeqCst);
    std::thread::sleep(Duration::from_millis(2));
    counts.0.fetch_sub(1, Ordering::SeqCst);
    let mut encoded = Vec::new();
    values.for_each(|value| Transactions::push(&transaction(value, false).raw, &mut encoded));
    ValidateOutcome::Answered(Answer::Transactions(encoded))
}

#[tokio::test]
async fn gateways_that_do_not_answer_keep_nobody_from_being_checked() {
    let mut world = World::new(PATIENCE);
    for _ in 0..DRAWN_MAX - 2 {
        world.claim(Manner::Never, true);
    }
    for _ in 0..3 {
        let honest = world.claim(Manner::Shows, false);
        assert!(matches!(world.next().await, (number, Finding::Shown(_)) if number == honest));
        world.wait_for(TemplateOutcome::NoNode, 1).await;
        let liar = world.claim(Manner::Lies, true);
        assert!(matches!(world.next().await, (number, Finding::Unshown(_)) if number == liar));
    }
    assert_eq!(
        (
            world.count(TemplateOutcome::Mismatch),
            world.count(TemplateOutcome::Busy)
        ),
        (3, 0)
    );
}

#[tokio::test]
async fn what_was_drawn_leaves_room_for_what_must_be_looked_at() {
    let mut world = World::new(PATIENCE);
    for _ in 0..DRAWN_MAX {
        world.claim(Manner::Never, false);
    }
    world.claim(Manner::Shows, false);
    assert_eq!(
        world.count(TemplateOutcome::Busy),
        1,
        "one that was drawn need not be looked at"
    );
    let odd = world.claim(Manner::Shows, true);
    assert!(matches!(world.next().await, (number, Finding::Shown(_)) if number == odd));
    assert!(matches!(world.next().await, (number, Finding::Unjudged) if number == odd));
    // Past all room nobody looks, and the session is told.
    for _ in world.shared.checks.len()..CHECKS_MAX {
        world.claim(Manner::Never, true);
    }
    assert_eq!(world.shared.checks.len(), CHECKS_MAX);
    let odd = world.claim(Manner::Shows, true);
    assert!(matches!(world.next().await, (number, Finding::Unjudged) if number == odd));
    assert!(world.said.is_empty());
}

#[tokio::test]
async fn gateways_that_are_silent_go_for_others_and_their_silence_counts() {
    let mut world = World::new(PATIENCE);
    let ids = Duration::from_millis(100);
    Arc::get_mut(&mut world.shared)
        .expect("nobody else has it")
        .patience
        .ids = ids;
    // As many as may be: some have other questions to answer, and the others say nothing.
    let mut manners: HashMap<u64, Manner> = HashMap::new();
    for number in 0..CHECKS_MAX {
        let manner = if number % 2 == 0 { Manner::Busy } else { Manner::Never };
        manners.insert(world.claim(manner, true), manner);
    }
    assert_eq!(world.shared.checks.len(), CHECKS_MAX);
    tokio::time::sleep(2 * ids).await;
    for _ in 0..8 {
        let honest = world.claim(Manner::Shows, true);
        let mut is_seen = false;
        let mut gone = None;
        while !is_seen || gone.is_none() {
            match world.next().await {
                (number, Finding::Shown(_)) if number == honest => is_seen = true,
                (number, found) if manners.contains_key(&number) => gone = Some((number, found)),
                // No node has a word on those that are seen.
                (_, found) => assert!(matches!(found, Finding::Unjudged), "{found:?}"),
            }
        }
        // Who says nothing is held to it as if it had been waited for.
        let (number, found) = gone.expect("one went");
        match (manners.remove(&number), found) {
            (Some(Manner::Never), Finding::Unshown(_)) | (Some(Manner::Busy), Finding::Unjudged) => {}
            (manner, found) => panic!("{found:?} of one that is there: {}", manner.is_some()),
        }
        // Another takes the place that is free when the honest one has been checked.
        while world.shared.checks.len() >= CHECKS_MAX {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        manners.insert(world.claim(Manner::Never, true), Manner::Never);
    }
    let (late, busy) = (world.count(TemplateOutcome::Late), world.count(TemplateOutcome::Busy));
    assert_eq!(late + busy, 8);
}

#[tokio::test]
async fn a_check_ends_in_its_time_and_says_whose_fault_that_is() {
    let mut world = World::new(Duration::from_millis(300));
    let slow = world.claim(Manner::Late, true);
    assert!(matches!(world.next().await, (number, Finding::Unshown(_)) if number == slow));
    assert_eq!(world.count(TemplateOutcome::Late), 1);
    // The time of the check ends first, and was waited for nobody else.
    let silent = world.claim(Manner::Never, true);
    assert!(matches!(world.next().await, (number, Finding::Unshown(_)) if number == silent));
    assert_eq!(world.count(TemplateOutcome::Late), 2);
    // It was asked a moment before that.
    let mut calm = World::new(Duration::from_secs(60));
    let claim = calm.made(Manner::Never, true, false);
    let mut waited = Duration::ZERO;
    let now = Instant::now();
    let under_way = calm.shared.checks.begin(&claim, now).expect("there is room");
    let until = now + Duration::from_millis(10);
    let told = calm.shared.ask(&claim, &under_way, Ask::All, until, &mut waited).await;
    drop(under_way);
    assert!(matches!(told, Ok(Told::Heard(Heard::Outcome(ValidateOutcome::Busy)))));
    assert!(waited >= Duration::from_millis(10));
    let gone = world.claim(Manner::Leaves, true);
    assert!(matches!(world.next().await, (number, Finding::Unshown(_)) if number == gone));
    // One that was drawn and not looked at is one of many.
    world.claim(Manner::Busy, false);
    world.wait_for(TemplateOutcome::Busy, 1).await;
    let busy = world.claim(Manner::Busy, true);
    assert!(matches!(world.next().await, (number, Finding::Unjudged) if number == busy));
    // The same where others work all the while.
    let places = world
        .shared
        .places
        .clone()
        .acquire_many_owned(4)
        .await
        .expect("they are free");
    let honest = world.claim(Manner::Shows, true);
    assert!(matches!(world.next().await, (number, Finding::Unjudged) if number == honest));
    drop(places);
    let honest = world.claim(Manner::Shows, true);
    assert!(matches!(world.next().await, (number, Finding::Shown(_)) if number == honest));
    while world.shared.checks.len() > 0 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn the_time_in_which_a_gateway_answers_something_else_is_not_held_against_it() {
    let within = Duration::from_secs(10);
    let world = &mut World::new(within);
    let busy = world.claim(Manner::BusyUntil(Instant::now() + within * 9 / 10), true);
    assert!(matches!(world.next().await, (number, Finding::Unjudged) if number == busy));
    assert_eq!(world.count(TemplateOutcome::Busy), 1);
}

#[tokio::test]
async fn the_transactions_of_a_block_are_asked_for_once_whoever_needs_them() {
    // Its check first, then who makes the block, and the other way round; and a check that was under way before.
    for checks_first in [true, false] {
        let mut world = World::new(PATIENCE);
        let claim = world.made(Manner::Shows, true, true);
        let (gateway, branches) = (claim.gateway, claim.claim.branches.clone());
        let library = world.shared.library.clone();
        if checks_first {
            world.shared.take(claim.clone());
        }
        let showing = library.show(gateway, 3, &branches);
        assert!(matches!(showing.wait().await, Shown::All(body) if body.branches() == branches));
        if !checks_first {
            world.shared.take(claim.clone());
        }
        assert!(matches!(world.next().await.1, Finding::Shown(_)));
        world.wait_for(TemplateOutcome::NoNode, 1).await;
        assert_eq!(world.asked(), [Ask::All], "{checks_first}");
    }
    let mut world = World::new(PATIENCE);
    let claim = world.made(Manner::Shows, false, false);
    let library = world.shared.library.clone();
    let asked = library.show(claim.gateway, 3, &claim.claim.branches);
    world.shared.take(claim);
    world.wait_for(TemplateOutcome::NoNode, 1).await;
    assert!(matches!(asked.wait().await, Shown::All(_)));
    assert_eq!(world.asked(), [Ask::All]);
}

#[tokio::test]
async fn a_block_on_a_template_that_is_known_has_nobody_asked() {
    let mut world = World::new(PATIENCE);
    let claim = world.made(Manner::Never, true, true);
    let body = Arc::new(TemplateBody::new(
        (0..4).map(|value| transaction(value, false)).collect(),
    ));
    {
        let mut known = world.shared.library.known();
        let transactions = body.transactions().iter();
        transactions.for_each(|transaction| known.learn(transaction.clone()));
        known.learn_template(body);
    }
    world.shared.take(claim);
    assert!(matches!(world.next().await.1, Finding::Shown(_)));
    world.wait_for(TemplateOutcome::NoNode, 1).await;
    assert_eq!(world.asked(), []);
}

#[tokio::test]
async fn few_answers_are_opened_at_a_time() {
    let mut world = World::new(PATIENCE);
    let claims = 40;
    for _ in 0..claims {
        world.claim(Manner::Shows, true);
    }
    world.wait_for(TemplateOutcome::NoNode, claims).await;
    let most = world.opening.1.load(Ordering::SeqCst);
    assert!((1..=PLACES).contains(&most), "{most}");
}

#[tokio::test]
async fn claims_wait_for_the_first_round_and_no_longer_than_it_takes() {
    // It ends; nobody makes any; it takes too long.
    for (ends, within) in [
        (Some(true), PATIENCE),
        (Some(false), PATIENCE),
        (None, Duration::from_millis(50)),
    ] {
        let mut world = World::new(PATIENCE);
        let (tell, claims) = mpsc::channel(CLAIMS_MAX);
        let (over, first_round) = oneshot::channel();
        let shared = world.shared.clone();
        tokio::spawn(Templates { shared, claims }.take_behind(first_round, within));
        for _ in 0..CLAIMS_MAX {
            let claim = world.made(Manner::Shows, true, false);
            assert!(tell.try_send(claim).is_ok());
        }
        let beyond = world.made(Manner::Shows, true, false);
        assert!(tell.try_send(beyond).is_err(), "it is said again");
        if let Some(is_told) = ends {
            tokio::time::sleep(Duration::from_millis(100)).await;
            assert_eq!(world.asked(), [], "none is taken before");
            match is_told {
                true => over.send(()).expect("it is waited for"),
                false => drop(over),
            }
        }
        world.wait_for(TemplateOutcome::NoNode, CLAIMS_MAX as u64).await;
    }
}

#[test]
fn every_outcome_that_shows_nothing_is_held_against_the_gateway_and_none_that_is_not_its_fault() {
    for (outcome, expected) in [
        (TemplateOutcome::Valid, Meaning::Good),
        (TemplateOutcome::Disputed, Meaning::Good),
        (TemplateOutcome::Invalid, Meaning::Condemned),
        (TemplateOutcome::Mismatch, Meaning::Unshown),
        (TemplateOutcome::Refused, Meaning::Unshown),
        (TemplateOutcome::TooLarge, Meaning::Unshown),
        (TemplateOutcome::Contradictory, Meaning::Unshown),
        (TemplateOutcome::Late, Meaning::Unshown),
        (TemplateOutcome::SessionEnded, Meaning::Unshown),
        (TemplateOutcome::Busy, Meaning::Unjudged),
        (TemplateOutcome::Undecided, Meaning::Unjudged),
        (TemplateOutcome::NoNode, Meaning::Unjudged),
    ] {
        assert_eq!(meaning(outcome), expected, "{outcome:?}");
    }
}

#[tokio::test]
async fn a_check_that_panics_gives_its_gateway_and_its_place_back() {
    let mut world = World::new(PATIENCE);
    // Nobody hears what is said of it.
    world.said.close();
    for _ in 0..=PLACES {
        world.claim(Manner::Lies, true);
        let ended = async {
            while world.shared.checks.len() > 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        timeout(PATIENCE, ended)
            .await
            .expect("its gateway may be checked again");
    }
    assert_eq!(world.count(TemplateOutcome::Mismatch), PLACES as u64 + 1);
    assert_eq!(world.shared.places.available_permits(), PLACES);
}
