//! The window: what leaves, what comes back, and the part of the oldest share that fits.

use proptest::collection::vec;
use proptest::prelude::*;

use super::model::{self, Parts};
use super::*;
use crate::ledger::error::Damage;

#[test]
fn the_oldest_share_counts_for_the_part_that_fits() {
    let mut log = Log(vec![share(0, 3), share(1, 2), share(2, 2)]);
    let mut window = Window::at(0, span(10, 8), &mut log).expect("a log");
    let shares = log.0.clone();
    window.push(&shares, &mut log).expect("a log");
    assert_eq!(window.weights(), [2, 4, 4]);
    assert_eq!((window.front(), window.end(), window.total()), (0, 3, 10));
    log.0.push(share(1, 0));
    window.push(&[share(1, 0)], &mut log).expect("a log");
    assert_eq!(window.weights(), [1, 5, 4]);
    log.0.push(share(1, 0));
    window.push(&[share(1, 0)], &mut log).expect("a log");
    assert_eq!(window.weights(), [0, 6, 4]);
    assert_eq!(window.front(), 1, "nothing of the first counts");
}

#[test]
fn a_share_counts_as_the_difficulty_at_most() {
    let mut log = Log(vec![share(0, 63), share(1, 3), share(2, 2)]);
    let window = Window::at(3, span(80, 10), &mut log).expect("a log");
    assert_eq!(window.weights(), [10, 8, 4]);
    let window = Window::at(3, span(20, 10), &mut log).expect("a log");
    assert_eq!(
        window.weights(),
        [8, 8, 4],
        "first what it counts as, then what fits of that"
    );
}

#[test]
fn the_largest_shares_of_the_largest_difficulty_fit() {
    let span = SchemeKind::Tides.span(u64::MAX);
    let mut log = Log(vec![share(0, 63); 20]);
    let mut window = Window::at(0, span, &mut log).expect("a log");
    let shares = log.0.clone();
    window.push(&shares, &mut log).expect("a log");
    assert_eq!(window.total(), 8 * u128::from(u64::MAX));
    assert_agrees(&window, &log.0, span);
}

#[test]
fn a_window_without_room_counts_nobody() {
    let mut log = Log(Vec::new());
    let mut window = Window::at(0, span(0, 8), &mut log).expect("a log");
    for end in 1..=3 {
        log.0.extend([share(0, 1), share(1, 2)]);
        window.push(&[share(0, 1), share(1, 2)], &mut log).expect("a log");
        assert_eq!((window.total(), window.front(), window.end()), (0, 2 * end, 2 * end));
    }
    window.resize(span(7, 8), &mut log).expect("a log");
    assert_eq!(window.weights(), [2, 5], "and it fills up when it gets some");
}

#[test]
fn a_longer_window_reaches_back_into_shares_that_had_left() {
    let mut log = Log((0..6).map(|payee| share(payee, 2)).collect());
    let mut window = Window::at(6, span(6, 4), &mut log).expect("a log");
    assert_eq!((window.front(), window.total()), (4, 6));
    window.resize(span(17, 4), &mut log).expect("a log");
    assert_eq!(window.weights(), [0, 1, 4, 4, 4, 4]);
    window.resize(span(100, 3), &mut log).expect("a log");
    assert_eq!(window.weights(), [3; 6], "there is no more than the log holds");
    window.resize(span(4, 4), &mut log).expect("a log");
    assert_eq!((window.front(), window.total()), (5, 4));
}

#[test]
fn a_log_that_cannot_be_read_is_an_error() {
    struct Torn;
    impl OldShares for Torn {
        fn from(&mut self, _: u64) -> Result<Box<dyn Iterator<Item = Result<Work, LedgerError>> + '_>, LedgerError> {
            Ok(Box::new(std::iter::once(Err(gap()))))
        }

        fn before(&mut self, _: u64) -> Result<Box<dyn Iterator<Item = Result<Work, LedgerError>> + '_>, LedgerError> {
            Err(gap())
        }
    }
    fn gap() -> LedgerError {
        Damage::Gap { expected: 1, found: 2 }.into()
    }

    let mut log = Log(vec![share(0, 2); 4]);
    let mut window = Window::at(4, span(8, 4), &mut log).expect("a log");
    assert!(Window::at(4, span(8, 4), &mut Torn).is_err());
    assert!(window.rewound(3, span(8, 4), &mut Torn).is_err());
    assert!(window.resize(span(9, 4), &mut Torn).is_err());
    assert_agrees(&window, &log.0, span(8, 4));
    assert!(window.push(&[share(0, 2)], &mut Torn).is_err());
}

#[test]
fn a_change_of_difficulty_reads_what_is_gained_or_lost_and_no_more() {
    /// Counts what is read.
    struct Counted<'a>(&'a mut Log, usize);
    impl OldShares for Counted<'_> {
        fn from(&mut self, from: u64) -> Result<Box<dyn Iterator<Item = Result<Work, LedgerError>> + '_>, LedgerError> {
            let count = &mut self.1;
            Ok(Box::new(self.0.from(from)?.inspect(|_| *count += 1)))
        }

        fn before(&mut self, to: u64) -> Result<Box<dyn Iterator<Item = Result<Work, LedgerError>> + '_>, LedgerError> {
            let count = &mut self.1;
            Ok(Box::new(self.0.before(to)?.inspect(|_| *count += 1)))
        }
    }

    let mut log = Log((0..4_000).map(|at| share(at % 7, 2)).collect());
    let tides = |difficulty| SchemeKind::Tides.span(difficulty);
    let mut window = Window::at(4_000, tides(1_000), &mut log).expect("a log");
    assert_eq!(window.end() - window.front(), 2_000);
    let mut read = |window: &mut Window, span| {
        let mut counted = Counted(&mut log, 0);
        window.resize(span, &mut counted).expect("a log");
        let read = counted.1;
        assert_agrees(window, &log.0, span);
        read
    };
    // Beside what comes or goes, the share at the edge.
    assert!((100..=102).contains(&read(&mut window, tides(1_050))));
    assert!((200..=202).contains(&read(&mut window, tides(950))));
    assert_eq!(read(&mut window, tides(950)), 0);
    // A share counts as less from here on: all of them are looked at again.
    assert!(read(&mut window, span(7_600, 3)) > 1_900);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn a_window_is_the_newest_shares_after_any_batches_and_difficulties(
        first in spans(), steps in vec(steps(), 0..12), is_log_ahead: bool,
    ) {
        let mut span = first;
        let mut shares = Vec::new();
        let mut log = Log(if is_log_ahead { all_of(&steps) } else { Vec::new() });
        let mut window = Window::at(0, span, &mut log).expect("a log");
        for step in &steps {
            match step {
                Step::Push(batch) => {
                    shares.extend(batch);
                    if !is_log_ahead {
                        log.0.extend(batch);
                    }
                    window.push(batch, &mut log).expect("a log");
                }
                Step::Resize(to) => {
                    span = *to;
                    window.resize(span, &mut log).expect("a log");
                }
            }
            assert_agrees(&window, &shares, span);
        }
    }

    #[test]
    fn a_window_that_follows_in_steps_is_the_same_in_the_end(
        first in spans(), before in vec(batches(), 0..8),
        changes in vec((spans(), vec((1..5_u64, batches()), 0..4)), 1..4),
    ) {
        let mut log = Log(before.concat());
        let mut window = Window::at(log.0.len() as u64, first, &mut log).expect("a log");
        for (span, steps) in changes {
            window.follow(span);
            for (most, batch) in steps {
                window.catch_up(most, &mut log).expect("a log");
                log.0.extend(&batch);
                window.push(&batch, &mut log).expect("a log");
            }
            // Where it has not come to its end yet, another change may come.
        }
        let mut steps = 0;
        while !window.catch_up(2, &mut log).expect("a log") {
            steps += 1;
            prop_assert!(steps <= log.0.len() + 1, "it ends");
        }
        let span = window.span();
        assert_agrees(&window, &log.0, span);
        let read = Window::at(window.end(), span, &mut log).expect("a log");
        prop_assert_eq!(window.front_part(), read.front_part());
        let mut rewound = window.rewound(window.end() / 2, first, &mut log).expect("a log");
        assert_agrees(&rewound, &log.0[..at(window.end() / 2)], first);
        let rest = log.0[at(window.end() / 2)..].to_vec();
        rewound.push(&rest, &mut log).expect("a log");
        assert_agrees(&rewound, &log.0, first);
    }

    #[test]
    fn a_rewound_window_is_the_one_of_then_and_goes_on_from_there(
        then in spans(), now in spans(), batches in vec(batches(), 0..8), ends in vec(any::<prop::sample::Index>(), 4),
    ) {
        let mut log = Log(Vec::new());
        let mut window = Window::at(0, now, &mut log).expect("a log");
        for batch in &batches {
            log.0.extend(batch);
            window.push(batch, &mut log).expect("a log");
        }
        for end in ends {
            let end = end.index(log.0.len() + 1);
            for span in [now, then] {
                let mut rewound = window.rewound(end as u64, span, &mut log).expect("a log");
                assert_agrees(&rewound, &log.0[..end], span);
                let read = Window::at(end as u64, span, &mut log).expect("a log");
                assert_agrees(&read, &log.0[..end], span);
                prop_assert_eq!(rewound.span(), read.span());
                let since = log.0[end..].to_vec();
                rewound.push(&since, &mut log).expect("a log");
                assert_agrees(&rewound, &log.0, span);
            }
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Push(Vec<Work>),
    Resize(Span),
}

fn steps() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => batches().prop_map(Step::Push),
        1 => spans().prop_map(Step::Resize),
    ]
}

fn batches() -> impl Strategy<Value = Vec<Work>> {
    let payees = prop_oneof![8 => 0..5_u32, 1 => 0..200_u32];
    let pots = prop_oneof![8 => 0..8_u8, 1 => 0..=63_u8];
    vec((payees, pots).prop_map(|(payee, pot)| share(payee, pot)), 0..12)
}

/// Shorter than a batch, longer than all, and what schemes ask for.
fn spans() -> impl Strategy<Value = Span> {
    let limits = prop_oneof![Just(0), 1..40_u128, 1..2_000_u128, Just(u128::MAX)];
    let share_max = prop_oneof![Just(1), 1..300_u128, Just(u128::from(u64::MAX))];
    prop_oneof![
        (limits, share_max).prop_map(|(limit, share_max)| span(limit, share_max)),
        (1..300_u64).prop_map(|difficulty| SchemeKind::Tides.span(difficulty)),
    ]
}

fn span(limit: u128, share_max: u128) -> Span {
    Span { limit, share_max }
}

fn all_of(steps: &[Step]) -> Vec<Work> {
    let batches = steps.iter().filter_map(|step| match step {
        Step::Push(batch) => Some(batch),
        Step::Resize(_) => None,
    });
    batches.flatten().copied().collect()
}

#[track_caller]
fn assert_agrees(window: &Window, shares: &[Work], span: Span) {
    let (parts, front) = model::window(shares, span);
    let weights: Parts = (0..)
        .zip(window.weights().iter().copied())
        .filter(|(_, weight)| *weight > 0)
        .collect();
    assert_eq!(weights, parts);
    assert_eq!(window.total(), parts.values().sum::<u128>());
    assert_eq!((at(window.front()), at(window.end())), (front, shares.len()));
    assert_eq!(window.span(), span);
}
