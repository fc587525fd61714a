//! The books at one point of the log, ready to be split by any value.

use std::cmp::{Ordering, Reverse};
use std::sync::Arc;

use super::proportion::Proportion;
use super::scheme::Weights;
use super::split::{self, Due, SplitTerms};
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
    /// By weight, the heaviest first, ties by script: where balances do not count this is the order of dues.
    standings: Box<[Standing]>,
    /// By place in `standings`.
    payees: Box<[Payee]>,
}

/// What one payee is due for: all that a walk through them looks at, two in a line of the cache.
#[derive(Debug, Clone, Copy)]
struct Standing {
    /// Work in the window.
    weight: u128,
    /// Satoshi that may be paid now: the balance without what immature blocks still promise.
    payable: i64,
    /// The most that is payable to any from here on.
    most_payable: i64,
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

impl Snapshot {
    /// `scripts` by payee; `payable` gives what may be paid to one now. Those with neither work nor balance are left out.
    #[must_use]
    pub fn new(
        pin: Pin,
        terms: SplitTerms,
        own_script: &[u8],
        weights: &Weights<'_>,
        scripts: &[Arc<[u8]>],
        payable: impl Fn(u32) -> i64,
    ) -> Self {
        let mut sorted: Vec<(Standing, Payee)> = scripts
            .iter()
            .zip(0_u32..)
            .map(|(script, number)| (script, number, weights.of(number), payable(number)))
            .filter(|(_, _, weight, payable)| *weight > 0 || *payable > 0)
            .map(|(script, number, weight, payable)| {
                let standing = Standing {
                    weight,
                    payable,
                    most_payable: payable,
                };
                (standing, Payee::new(number, script.clone()))
            })
            .collect();
        sorted.sort_unstable_by(|(a, of_a), (b, of_b)| {
            let by_weight = b.weight.cmp(&a.weight);
            by_weight.then_with(|| of_a.cmp_script(of_b))
        });
        let (mut standings, payees): (Vec<_>, Vec<_>) = sorted.into_iter().unzip();
        for at in (1..standings.len()).rev() {
            standings[at - 1].most_payable = standings[at - 1].most_payable.max(standings[at].most_payable);
        }
        Self {
            pin,
            terms,
            own_script: own_script.into(),
            total: weights.total(),
            standings: standings.into(),
            payees: payees.into(),
        }
    }

    #[must_use]
    pub fn payees(&self) -> usize {
        self.standings.len()
    }

    /// At least all that a split of the dividend can list. Walked by weight; whoever was not looked at is due no more than
    /// the next one earns and the most that is payable from there on.
    fn largest_dues(&self, dividend: u64, with_balances: bool) -> Vec<ToPay<'_>> {
        let earned = Proportion::new(dividend, self.total);
        let payable = |satoshi: i64| if with_balances { satoshi } else { 0 };
        let mut largest = Largest::above(self.terms.minimum);
        let due_at_most = |weight, payable| earned.at_least(weight).saturating_add(1).saturating_add_signed(payable);
        for (standings, payees) in self.standings.chunks(LOOKS).zip(self.payees.chunks(LOOKS)) {
            let first = &standings[0];
            if due_at_most(first.weight, payable(first.most_payable).max(0)) < largest.least {
                break;
            }
            for (standing, payee) in standings.iter().zip(payees) {
                let payable = payable(standing.payable);
                // Nearly all are passed over here, without the exact number.
                if due_at_most(standing.weight, payable) < largest.least {
                    continue;
                }
                // Nobody is due less than nothing, or more than there is money.
                let value = earned.of(standing.weight).saturating_add_signed(payable);
                if value >= largest.least {
                    largest.push(ToPay { value, payee });
                }
            }
        }
        largest.into_dues()
    }

    /// Floor shares alone: satoshi that rounding leaves over are booked when the block is settled, to the largest due,
    /// and are paid with its next ones. Knowing them here would take a look at every payee.
    fn outputs(&self, value: u64, with_balances: bool) -> Vec<ToPay<'_>> {
        let dividend = value - self.terms.fee(value);
        let mut dues = self.largest_dues(dividend, with_balances);
        // Most splits are full long before the last of them; only where scripts are passed over are the rest wanted.
        let rest = if dues.len() > SORTED_FIRST {
            dues.select_nth_unstable_by(SORTED_FIRST, ToPay::cmp_order);
            dues.split_off(SORTED_FIRST)
        } else {
            Vec::new()
        };
        dues.sort_unstable_by(ToPay::cmp_order);
        let rest = std::iter::once_with(|| {
            let mut rest = rest;
            rest.sort_unstable_by(ToPay::cmp_order);
            rest
        });
        let ordered = dues.into_iter().chain(rest.flatten());
        split::outputs(ordered, value, &self.terms, &self.own_script)
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

    /// Whether an output to it takes its place in any split that has room: no limit but that on outputs passes it over.
    fn always_fits(&self) -> bool {
        self.sigops == 0 && self.script.len() <= OUTPUT_SCRIPT_MAX
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
    /// Satoshi: whoever is due less is in no split. The least that is paid at first; then what as many as a split can have
    /// are due at least, of those who are never passed over. More can only make it larger.
    least: u64,
    /// Those who always fit, and the others.
    dues: Vec<ToPay<'s>>,
    others: Vec<ToPay<'s>>,
    /// So many in `dues` are looked through again.
    look_at: usize,
}

impl<'s> Largest<'s> {
    fn above(minimum: u64) -> Self {
        Self {
            least: minimum,
            dues: Vec::with_capacity(DUES_KEPT),
            others: Vec::new(),
            look_at: OUTPUTS_MAX,
        }
    }

    fn push(&mut self, due: ToPay<'s>) {
        if !due.payee.always_fits() {
            self.others.push(due);
            return;
        }
        self.dues.push(due);
        if self.dues.len() == self.look_at {
            self.raise();
        }
    }

    fn raise(&mut self) {
        let by_value = |due: &ToPay<'_>| Reverse(due.value);
        let (_, last, _) = self.dues.select_nth_unstable_by_key(OUTPUTS_MAX - 1, by_value);
        let least = last.value;
        self.least = least;
        // Ties with the last stay: their scripts have the word.
        self.dues.retain(|due| due.value >= least);
        self.others.retain(|due| due.value >= least);
        // Where thousands are due the same, looks must not add up.
        self.look_at = DUES_KEPT.max(2 * self.dues.len());
    }

    fn into_dues(mut self) -> Vec<ToPay<'s>> {
        if self.dues.len() > OUTPUTS_MAX {
            self.raise();
        }
        self.dues.append(&mut self.others);
        self.dues
    }
}

/// Payees that are looked at before the next look at whether anybody further on can be among the largest dues.
const LOOKS: usize = 16;

/// Dues that are kept before the smaller half of them is let go of.
const DUES_KEPT: usize = 2 * OUTPUTS_MAX;

/// Dues sorted at once.
const SORTED_FIRST: usize = 2 * OUTPUTS_MAX;
