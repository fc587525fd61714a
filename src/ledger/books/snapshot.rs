//! The books at one point of the log, ready to be split by any value.

use std::cmp::{Ordering, Reverse};
use std::sync::Arc;

use super::proportion::Proportion;
use super::scheme::Weights;
use super::split::{self, Due, LEGACY_SIGOPS_MAX, SplitTerms};
use crate::wire::{OUTPUT_SCRIPT_MAX, OUTPUTS_MAX, Output};
use crate::work::{Pin, Split};

/// Everybody who can be paid, at one [`Pin`].
#[derive(Debug)]
pub struct Snapshot {
    pin: Pin,
    terms: SplitTerms,
    /// What is left over goes there, and its output counts against the limits.
    own_script: Box<[u8]>,
    total: u128,
    /// Those whose output takes its place in any split that has room.
    free: Ranking,
    /// Those whose signature operations are limited too: each has one at least.
    counted: Ranking,
}

impl Snapshot {
    /// `scripts` by payee; `payable` gives what may be paid to one now. Those with neither work nor balance are left out, and
    /// those whose script no gateway takes.
    #[must_use]
    pub fn new(
        pin: Pin,
        terms: SplitTerms,
        own_script: &[u8],
        weights: &Weights<'_>,
        scripts: &[Arc<[u8]>],
        payable: impl Fn(u32) -> i64,
    ) -> Self {
        let ranked = scripts
            .iter()
            .zip(0_u32..)
            .filter(|(script, _)| script.len() <= OUTPUT_SCRIPT_MAX)
            .map(|(script, number)| {
                let standing = Standing {
                    weight: weights.of(number),
                    payable: payable(number),
                };
                (standing, script, number)
            })
            .filter(|(standing, ..)| standing.weight > 0 || standing.payable > 0)
            .map(|(standing, script, number)| (standing, Payee::new(number, script.clone())));
        let (free, counted) = ranked.partition(|(_, payee)| payee.sigops == 0);
        Self {
            pin,
            terms,
            own_script: own_script.into(),
            total: weights.total(),
            free: Ranking::new(free, OUTPUTS_MAX),
            counted: Ranking::new(counted, LEGACY_SIGOPS_MAX),
        }
    }

    #[must_use]
    pub fn payees(&self) -> usize {
        self.free.payees.len() + self.counted.payees.len()
    }

    /// Floor shares alone: satoshi that rounding leaves over are booked when the block is settled, to the largest due,
    /// and are paid with its next ones. Knowing them here would take a look at every payee.
    fn outputs(&self, value: u64, with_balances: bool) -> Vec<ToPay<'_>> {
        let dividend = value - self.terms.fee(value);
        let earned = Proportion::new(dividend, self.total);
        let mut largest = Largest::above(self.terms.minimum, self.free.listed_max);
        self.free.show_largest(&earned, with_balances, &mut largest);
        // What is below as many as a split lists is in none, whatever it is.
        let mut largest_counted = Largest::above(largest.least, self.counted.listed_max);
        self.counted.show_largest(&earned, with_balances, &mut largest_counted);
        let mut dues = largest.into_dues();
        dues.append(&mut largest_counted.into_dues());
        dues.sort_unstable_by(ToPay::cmp_order);
        split::outputs(dues, value, &self.terms, &self.own_script)
    }
}

impl Split for Snapshot {
    fn pin(&self) -> Pin {
        self.pin
    }

    fn each_payout(&self, value: u64, with_balances: bool, pay: &mut dyn FnMut(u32, Output<'_>)) {
        for ToPay { value, payee } in self.outputs(value, with_balances) {
            let script = &payee.script;
            pay(payee.number, Output { value, script });
        }
    }
}

/// Payees that compete for the same places, in such orders that their largest dues are found by a look at few of them.
#[derive(Debug)]
struct Ranking {
    /// No split lists more of them.
    listed_max: usize,
    /// Those with work by that, the heaviest first, ties by script: where balances do not count this is the order of dues.
    /// Behind them those without, by what is payable, the most first, ties by script: of these that is the order of dues.
    standings: Box<[Standing]>,
    /// By place in `standings`.
    payees: Box<[Payee]>,
    /// How many have work.
    working: usize,
    /// Places of those who have work and can be paid something beside it, by that, the most first, ties by place.
    by_payable: Box<[u32]>,
}

/// What one payee is due for: all that a walk through them looks at, two in a line of the cache.
#[derive(Debug, Clone, Copy)]
struct Standing {
    /// Work in the window.
    weight: u128,
    /// Satoshi that may be paid now: the balance without what immature blocks still promise.
    payable: i64,
}

impl Ranking {
    fn new(mut ranked: Vec<(Standing, Payee)>, listed_max: usize) -> Self {
        ranked.sort_unstable_by(|(a, of_a), (b, of_b)| {
            let by_weight = b.weight.cmp(&a.weight);
            by_weight
                .then_with(|| match a.weight {
                    0 => b.payable.cmp(&a.payable),
                    _ => Ordering::Equal,
                })
                .then_with(|| of_a.cmp_script(of_b))
        });
        let (standings, payees): (Vec<Standing>, Vec<Payee>) = ranked.into_iter().unzip();
        let working = standings.partition_point(|standing| standing.weight > 0);
        let payable = |place: &u32| standings[*place as usize].payable;
        let mut by_payable: Vec<u32> = (0..).take(working).filter(|place| payable(place) > 0).collect();
        by_payable.sort_unstable_by_key(|place| (Reverse(payable(place)), *place));
        Self {
            listed_max,
            working,
            by_payable: by_payable.into(),
            standings: standings.into(),
            payees: payees.into(),
        }
    }

    /// Shows at least all that a split can list. `earned` is of the dividend.
    fn show_largest<'s>(&'s self, earned: &Proportion, with_balances: bool, largest: &mut Largest<'s>) {
        if with_balances {
            self.show_gone(largest);
        }
        self.show_working(earned, with_balances, largest);
    }

    /// Those without work, in the order of their dues.
    fn show_gone<'s>(&'s self, largest: &mut Largest<'s>) {
        let gone = self.standings[self.working..].iter().zip(&self.payees[self.working..]);
        for (standing, payee) in gone.take(self.listed_max) {
            let value = u64::try_from(standing.payable).unwrap_or(0);
            if value < largest.least {
                break;
            }
            largest.push(ToPay { value, payee });
        }
    }

    /// Those with work, walked by that and by what is payable at once (Fagin's threshold algorithm): who was not looked at on
    /// either way is due no more than what the next on the one earns and what is payable to the next on the other.
    fn show_working<'s>(&'s self, earned: &Proportion, with_balances: bool, largest: &mut Largest<'s>) {
        let working = &self.standings[..self.working];
        let by_payable = if with_balances { &*self.by_payable } else { &[] };
        let payable = |standing: &Standing| if with_balances { standing.payable } else { 0 };
        let due_at_most = |weight, payable| earned.at_least(weight).saturating_add(1).saturating_add_signed(payable);
        let look = |place: usize, largest: &mut Largest<'s>| {
            let standing = &working[place];
            let payable = payable(standing);
            // Nearly all are passed over here, without the exact number.
            if due_at_most(standing.weight, payable) < largest.least {
                return;
            }
            // Nobody is due less than nothing, or more than there is money.
            let value = earned.of(standing.weight).saturating_add_signed(payable);
            let payee = &self.payees[place];
            largest.push(ToPay { value, payee });
        };
        // Those before these places were looked at: in `working`, and in `by_payable`, which ends there with `last`.
        let (mut walked, mut seen) = (0, 0);
        let mut last = None;
        while walked < working.len() {
            let next_payable = by_payable.get(seen).map_or(0, |place| working[*place as usize].payable);
            let weight = working[walked].weight;
            if due_at_most(weight, next_payable) < largest.least {
                break;
            }
            if next_payable == 0
                && walked > 0
                && working[walked - 1].weight == weight
                && largest.is_behind_last(earned.of(weight), &self.payees[walked])
            {
                // Those with the same work come by script, and nothing else tells them apart.
                walked += working[walked..].partition_point(|standing| standing.weight == weight);
                continue;
            }
            let until = working.len().min(walked + LOOKS);
            for (place, standing) in (walked..).zip(&working[walked..until]) {
                let is_seen = last.is_some_and(|last| (Reverse(standing.payable), place) <= last);
                if !is_seen {
                    look(place, largest);
                }
            }
            walked = until;
            for place in by_payable[seen..].iter().take(LOOKS) {
                let place = *place as usize;
                if place >= walked {
                    look(place, largest);
                }
                last = Some((Reverse(working[place].payable), place));
                seen += 1;
            }
        }
    }
}

#[derive(Debug)]
struct Payee {
    number: u32,
    /// Signature operations of an output to it.
    sigops: u32,
    /// The first bytes of its script as a number: the order of scripts, without a look at them where these differ.
    head: u64,
    script: Arc<[u8]>,
}

impl Payee {
    fn new(number: u32, script: Arc<[u8]>) -> Self {
        let mut head = [0; 8];
        let len = script.len().min(head.len());
        head[..len].copy_from_slice(&script[..len]);
        Self {
            number,
            sigops: u32::try_from(split::legacy_sigops(&script)).unwrap_or(u32::MAX),
            head: u64::from_be_bytes(head),
            script,
        }
    }

    fn cmp_script(&self, other: &Self) -> Ordering {
        // A script that ends within the head is as one with zeros behind it: then the bytes decide.
        self.head.cmp(&other.head).then_with(|| self.script.cmp(&other.script))
    }
}

/// What one payee is due, or is paid.
#[derive(Debug, Clone, Copy)]
struct ToPay<'s> {
    /// Satoshi.
    value: u64,
    payee: &'s Payee,
}

impl ToPay<'_> {
    /// The largest first, ties by script.
    fn cmp_order(&self, other: &Self) -> Ordering {
        let by_value = other.value.cmp(&self.value);
        by_value.then_with(|| self.cmp_script(other))
    }
}

impl Due for ToPay<'_> {
    fn value(&self) -> u64 {
        self.value
    }

    fn set_value(&mut self, value: u64) {
        self.value = value;
    }

    fn script_len(&self) -> usize {
        self.payee.script.len()
    }

    fn sigops(&self) -> usize {
        self.payee.sigops as usize
    }

    fn cmp_script(&self, other: &Self) -> Ordering {
        self.payee.cmp_script(other.payee)
    }
}

/// The largest dues among those seen so far.
struct Largest<'s> {
    /// Satoshi: whoever is due less is in no split. The least that is paid at first; then what as many as a split lists are due
    /// at least.
    least: u64,
    /// A split lists so many of these at most.
    listed_max: usize,
    dues: Vec<ToPay<'s>>,
    /// The last of those after the last look through all: what comes behind it is in no split.
    last: Option<ToPay<'s>>,
    /// So many in `dues` are looked through again.
    cut_at: usize,
}

impl<'s> Largest<'s> {
    fn above(least: u64, listed_max: usize) -> Self {
        Self {
            least,
            listed_max,
            dues: Vec::with_capacity(2 * listed_max),
            last: None,
            cut_at: listed_max,
        }
    }

    /// Takes it where it may be listed.
    fn push(&mut self, due: ToPay<'s>) {
        if due.value < self.least || self.is_behind_last(due.value, due.payee) {
            return;
        }
        self.dues.push(due);
        if self.dues.len() == self.cut_at {
            self.cut();
            // The first time to know the least early; then looks must not add up.
            self.cut_at = 2 * self.listed_max;
        }
    }

    fn is_behind_last(&self, value: u64, payee: &Payee) -> bool {
        self.last
            .is_some_and(|last| ToPay { value, payee }.cmp_order(&last).is_gt())
    }

    /// Lets go of those behind the last that can be listed.
    fn cut(&mut self) {
        let last = self.listed_max - 1;
        let (_, last, _) = self.dues.select_nth_unstable_by(last, ToPay::cmp_order);
        self.least = last.value;
        self.last = Some(*last);
        self.dues.truncate(self.listed_max);
    }

    fn into_dues(mut self) -> Vec<ToPay<'s>> {
        if self.dues.len() > self.listed_max {
            self.cut();
        }
        self.dues
    }
}

/// Payees that are looked at on one way before the next look at whether anybody further on can be among the largest dues.
const LOOKS: usize = 16;
