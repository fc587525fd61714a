//! The books at one point of the log, ready to be split by any value.

use std::sync::Arc;

use super::scheme::Weights;
use super::split::{self, Room, SplitTerms};
use crate::wire::OUTPUTS_MAX;
use crate::work::{Payout, Pin, Split};

/// One payee at that point.
#[derive(Debug, Clone)]
pub struct Standing {
    pub payee: u32,
    pub script: Arc<[u8]>,
    /// Work in the window.
    pub weight: u128,
    /// Satoshi that may be paid now: the balance without what immature blocks still promise.
    pub payable: i64,
}

/// Everybody who can be paid, at one [`Pin`].
#[derive(Debug)]
pub struct Snapshot {
    pin: Pin,
    terms: SplitTerms,
    /// What is left over goes there, and its output counts against the limits.
    own_script: Box<[u8]>,
    total: u128,
    /// By weight, the heaviest first.
    standings: Vec<Standing>,
    /// By place in `standings`: the most that is payable to any from there on.
    most_payable_from: Vec<i64>,
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
        let mut standings: Vec<Standing> = scripts
            .iter()
            .zip(0_u32..)
            .map(|(script, payee)| (script, payee, weights.of(payee), payable(payee)))
            .filter(|(_, _, weight, payable)| *weight > 0 || *payable > 0)
            .map(|(script, payee, weight, payable)| Standing {
                payee,
                script: script.clone(),
                weight,
                payable,
            })
            .collect();
        standings.sort_unstable_by(|a, b| b.weight.cmp(&a.weight).then(a.payee.cmp(&b.payee)));
        let mut most_payable_from: Vec<i64> = standings.iter().map(|standing| standing.payable).collect();
        for at in (1..most_payable_from.len()).rev() {
            most_payable_from[at - 1] = most_payable_from[at - 1].max(most_payable_from[at]);
        }
        Self {
            pin,
            terms,
            own_script: own_script.into(),
            total: weights.total(),
            standings,
            most_payable_from,
        }
    }

    #[must_use]
    pub fn payees(&self) -> usize {
        self.standings.len()
    }

    /// Places of at least all that a split of the dividend can list, with what each is due. Walked by weight; whoever was not
    /// looked at is due no more than the next one earns and the most that is payable from there on.
    fn largest_dues(&self, dividend: u64, with_balances: bool) -> Vec<(u64, u32)> {
        let mut dues = Vec::new();
        let mut look_at = OUTPUTS_MAX;
        for (at, standing) in (0_u32..).zip(&self.standings) {
            let earned = split::earned(dividend, standing.weight, self.total);
            let payable = |satoshi: i64| if with_balances { i128::from(satoshi) } else { 0 };
            let bound = i128::from(earned) + payable(self.most_payable_from[at as usize]).max(0);
            if bound < i128::from(self.terms.minimum) {
                break;
            }
            if dues.len() >= look_at {
                if self.is_full_above(&dues, bound) {
                    break;
                }
                // Where thousands are due the same none is above the bound for long, and each look is at all of them.
                look_at += look_at / LOOK_PART;
            }
            let due = i128::from(earned) + payable(standing.payable);
            if due >= i128::from(self.terms.minimum) {
                dues.push((u64::try_from(due).unwrap_or(u64::MAX), at));
            }
        }
        dues
    }

    /// Whether dues above `bound` alone fill a split.
    fn is_full_above(&self, dues: &[(u64, u32)], bound: i128) -> bool {
        let mut room = Room::new(&self.own_script);
        for (_, at) in dues.iter().filter(|(due, _)| i128::from(*due) > bound) {
            room.take(&self.standings[*at as usize].script);
        }
        room.is_full()
    }

    /// The largest first, ties by script.
    fn sort(&self, dues: &mut [(u64, u32)]) {
        let script = |at: u32| &self.standings[at as usize].script;
        dues.sort_unstable_by(|a, b| b.0.cmp(&a.0).then_with(|| script(a.1).cmp(script(b.1))));
    }
}

impl Split for Snapshot {
    fn pin(&self) -> Pin {
        self.pin
    }

    /// Floor shares alone: satoshi that rounding leaves over are booked when the block is settled, to the largest due,
    /// and are paid with its next ones. Knowing them here would take a look at every payee.
    fn payouts(&self, value: u64, with_balances: bool) -> Vec<Payout> {
        let dividend = value - self.terms.fee(value);
        let mut dues = self.largest_dues(dividend, with_balances);
        // Most splits are full long before the last of them; only where scripts are passed over are the rest wanted.
        let first = dues.len().min(2 * OUTPUTS_MAX);
        let rest = if first < dues.len() {
            dues.select_nth_unstable_by(first, |a, b| b.cmp(a));
            let cut = dues[first].0;
            // Ties with the cut are sorted together with it.
            let end = first + partition(&mut dues[first..], |due| due.0 == cut);
            dues.split_off(end)
        } else {
            Vec::new()
        };
        self.sort(&mut dues);
        let rest = std::iter::once_with(|| {
            let mut rest = rest;
            self.sort(&mut rest);
            rest
        });
        let ordered = dues.into_iter().chain(rest.flatten());
        let payouts = ordered.map(|(value, at)| {
            let standing = &self.standings[at as usize];
            Payout {
                payee: standing.payee,
                value,
                script: standing.script.as_ref().into(),
            }
        });
        split::outputs(payouts, value, &self.terms, &self.own_script)
    }
}

/// Moves what `belongs` to the front; says how much does.
fn partition<T>(items: &mut [T], belongs: impl Fn(&T) -> bool) -> usize {
    let mut end = 0;
    for at in 0..items.len() {
        if belongs(&items[at]) {
            items.swap(at, end);
            end += 1;
        }
    }
    end
}

/// The part by which dues grow between two looks at whether they are enough.
const LOOK_PART: usize = 8;
