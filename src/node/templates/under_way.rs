//! The checks under way: how many there may be at a time, and which gives way where there are as many.
//!
//! A gateway that does not answer costs a place for as long as it is waited for. So one whose answer is long in coming goes for the
//! check of another, and gateways that did not show a template before have half of the places among themselves.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use crate::work::GatewayClaim;

/// Checks under way, of which the most wait for their gateway. Each holds its claim, and once ids were named 16 bytes for each
/// transaction: 300 kB at most, and some 70 of an honest full block.
pub(super) const CHECKS_MAX: usize = 512;

/// Of these, templates that were drawn: the others are for those that have to be looked at.
pub(super) const DRAWN_MAX: usize = CHECKS_MAX / 2;

/// Of these, such as are of gateways that did not show a template before, and have not made up for that.
pub(super) const UNSHOWN_MAX: usize = CHECKS_MAX / 2;

/// Gateways whose templates are being checked: one of each at a time.
#[derive(Clone, Default)]
pub(super) struct Checks(Arc<Mutex<HashMap<[u8; 32], Running>>>);

/// A check of a gateway's template, until it ends, be it by a panic.
pub(super) struct UnderWay {
    checks: Checks,
    gateway: [u8; 32],
}

struct Running {
    has_unshown: bool,
    state: State,
}

enum State {
    Works,
    /// For its gateway's answer.
    Waits {
        since: Instant,
        /// From when it may have to.
        gives_way_from: Instant,
        give_way: Arc<Notify>,
    },
    /// It ends as soon as it hears of that, and takes no place any more.
    GaveWay,
}

impl Checks {
    /// None where another template of the gateway's is being checked, or as many as may be, and none of them gives way. A block's
    /// is like one of a gateway that has shown all.
    pub fn begin(&self, claim: &GatewayClaim, now: Instant) -> Option<UnderWay> {
        let mut running = self.running();
        if running.contains_key(&claim.gateway) {
            return None;
        }
        let has_unshown = claim.has_unshown && !claim.claim.is_candidate;
        let placed = || running.values().filter(|check| !matches!(check.state, State::GaveWay));
        let taken = placed().count();
        let is_room = if !claim.is_odd {
            taken < DRAWN_MAX
        } else if has_unshown {
            let unshown = placed().filter(|check| check.has_unshown).count();
            taken < CHECKS_MAX && unshown < UNSHOWN_MAX || give_way(&mut running, true, now)
        } else {
            taken < CHECKS_MAX || give_way(&mut running, false, now)
        };
        if !is_room {
            return None;
        }
        let state = State::Works;
        running.insert(claim.gateway, Running { has_unshown, state });
        Some(UnderWay {
            checks: self.clone(),
            gateway: claim.gateway,
        })
    }

    #[cfg(test)]
    pub fn len(&self) -> usize {
        self.running().len()
    }

    fn running(&self) -> MutexGuard<'_, HashMap<[u8; 32], Running>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has the check give way that has waited for longest of those that may have to: of gateways that did not show a template before, and
/// where there is none such and not `only_unshown`, of the others. False: there is none.
fn give_way(running: &mut HashMap<[u8; 32], Running>, only_unshown: bool, now: Instant) -> bool {
    let longest = running
        .values_mut()
        .filter(|check| check.has_unshown || !only_unshown)
        .filter_map(|check| match check.state {
            State::Waits {
                since, gives_way_from, ..
            } if gives_way_from <= now => Some(((!check.has_unshown, since), check)),
            _ => None,
        })
        .min_by_key(|(order, _)| *order);
    let Some((_, check)) = longest else {
        return false;
    };
    if let State::Waits { give_way, .. } = std::mem::replace(&mut check.state, State::GaveWay) {
        give_way.notify_one();
    }
    true
}

impl UnderWay {
    /// Waits for what its gateway answers. None: after this patience there was another to be checked, and no place for it.
    pub async fn wait<T>(&self, patience: Duration, answer: impl Future<Output = T>) -> Option<T> {
        let give_way = Arc::new(Notify::new());
        let since = Instant::now();
        self.turn_to(State::Waits {
            since,
            gives_way_from: since + patience,
            give_way: give_way.clone(),
        });
        let answer = tokio::select! {
            biased;
            () = give_way.notified() => None,
            answer = answer => Some(answer),
        };
        // Its place may have gone in the moment that the answer came.
        answer.filter(|_| self.turn_to(State::Works))
    }

    /// False: it has given way, and that is for good.
    fn turn_to(&self, state: State) -> bool {
        let mut running = self.checks.running();
        let Some(check) = running.get_mut(&self.gateway) else {
            unreachable!("it is there for as long as this");
        };
        let goes_on = !matches!(check.state, State::GaveWay);
        if goes_on {
            check.state = state;
        }
        goes_on
    }
}

impl Drop for UnderWay {
    fn drop(&mut self) {
        self.checks.running().remove(&self.gateway);
    }
}

#[cfg(test)]
mod tests {
    use std::future::{pending, ready};
    use std::pin::{Pin, pin};
    use std::task::{Context, Poll, Waker};

    use super::*;
    use crate::work::TemplateClaim;

    const PATIENCE: Duration = Duration::from_secs(10);

    /// What a claim of this gateway is like.
    #[derive(Clone, Copy)]
    enum Of {
        Fresh,
        Unshown,
        Drawn,
        Block,
    }

    fn claim(number: usize, of: Of) -> GatewayClaim {
        let mut gateway = [0; 32];
        gateway[..8].copy_from_slice(&number.to_le_bytes());
        GatewayClaim {
            gateway,
            short_id_key: [9; 16],
            is_odd: !matches!(of, Of::Drawn),
            has_unshown: matches!(of, Of::Unshown | Of::Block),
            claim: TemplateClaim {
                slot: 0,
                is_candidate: matches!(of, Of::Block),
                number: 1,
                tx_count: 1,
                branches: Vec::new(),
                header: [0; 80],
                coinbase: Vec::new(),
            },
        }
    }

    type Wait = Pin<Box<dyn Future<Output = Option<()>>>>;

    /// Checks that wait for gateways that never answer, and by number those that have given way.
    #[derive(Default)]
    struct World {
        checks: Checks,
        waiting: Vec<(usize, Wait)>,
        began: usize,
    }

    impl World {
        /// Whether it has a place; it waits from now on.
        fn begin(&mut self, of: Of, now: Instant) -> bool {
            self.began += 1;
            let Some(under_way) = self.checks.begin(&claim(self.began, of), now) else {
                return false;
            };
            let mut wait: Wait = Box::pin(async move { under_way.wait(PATIENCE, pending()).await });
            let mut context = Context::from_waker(Waker::noop());
            assert!(wait.as_mut().poll(&mut context).is_pending());
            self.waiting.push((self.began, wait));
            true
        }

        fn given_way(&mut self) -> Vec<usize> {
            let mut context = Context::from_waker(Waker::noop());
            let mut gone = Vec::new();
            self.waiting
                .retain_mut(|(number, wait)| match wait.as_mut().poll(&mut context) {
                    Poll::Ready(answer) => {
                        assert!(answer.is_none());
                        gone.push(*number);
                        false
                    }
                    Poll::Pending => true,
                });
            gone
        }
    }

    fn later() -> Instant {
        Instant::now() + PATIENCE
    }

    #[test]
    fn who_is_waited_for_long_goes_for_another() {
        let mut world = World::default();
        let now = Instant::now();
        for _ in 0..CHECKS_MAX {
            assert!(world.begin(Of::Fresh, now));
        }
        assert!(!world.begin(Of::Fresh, now), "none is waited for long");
        assert!(world.given_way().is_empty());
        for oldest in 1..=3 {
            assert!(world.begin(Of::Fresh, later()));
            assert_eq!(world.given_way(), [oldest]);
            assert_eq!(world.checks.len(), CHECKS_MAX);
        }
        // One that need not be looked at goes for nobody's.
        assert!(!world.begin(Of::Drawn, later()));
        assert!(world.begin(Of::Block, later()));
        assert_eq!(world.given_way(), [4]);
        assert!(
            !world.begin(Of::Unshown, later()),
            "nor for those that have never been silent"
        );
    }

    #[test]
    fn who_did_not_show_a_template_before_goes_first_and_takes_half_of_the_places() {
        let mut world = World::default();
        let now = Instant::now();
        for _ in 0..CHECKS_MAX - UNSHOWN_MAX {
            assert!(world.begin(Of::Fresh, now));
        }
        for _ in 0..UNSHOWN_MAX {
            assert!(world.begin(Of::Unshown, now));
        }
        let first_unshown = CHECKS_MAX - UNSHOWN_MAX + 1;
        assert!(world.begin(Of::Fresh, later()));
        assert_eq!(world.given_way(), [first_unshown], "the older ones stay");
        // Among themselves they change places too.
        assert!(world.begin(Of::Unshown, later()));
        assert_eq!(world.given_way(), [first_unshown + 1]);

        let mut world = World::default();
        for _ in 0..UNSHOWN_MAX {
            assert!(world.begin(Of::Unshown, now));
        }
        assert!(!world.begin(Of::Unshown, now), "the other places are for others");
        assert!(!world.begin(Of::Drawn, now));
        assert!(world.begin(Of::Fresh, now) && world.begin(Of::Block, now));
        assert!(world.given_way().is_empty());
    }

    #[test]
    fn one_of_a_gateway_at_a_time_until_it_has_ended() {
        let checks = Checks::default();
        let now = Instant::now();
        let under_way = checks.begin(&claim(1, Of::Fresh), now);
        assert!(under_way.is_some() && checks.begin(&claim(1, Of::Block), now).is_none());
        drop(under_way);
        assert!(checks.begin(&claim(1, Of::Fresh), now).is_some());
    }

    #[tokio::test]
    async fn one_that_works_gives_no_way_and_one_that_has_given_way_hears_no_answer() {
        let checks = Checks::default();
        let under_way = checks.begin(&claim(0, Of::Fresh), Instant::now()).expect("room");
        assert_eq!(under_way.wait(Duration::ZERO, ready(1)).await, Some(1));
        let others: Vec<_> = (1..CHECKS_MAX)
            .map(|number| checks.begin(&claim(number, Of::Fresh), Instant::now()).expect("room"))
            .collect();
        assert!(checks.begin(&claim(CHECKS_MAX, Of::Fresh), later()).is_none());
        // The answer comes in the moment that another takes the place.
        let mut wait = pin!(under_way.wait(Duration::ZERO, async {
            let taken = checks.begin(&claim(CHECKS_MAX, Of::Fresh), Instant::now());
            taken.expect("it gives way")
        }));
        assert!(wait.as_mut().await.is_none());
        drop(others);
    }
}
