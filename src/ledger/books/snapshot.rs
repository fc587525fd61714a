//! The books at one point of the log, ready to be split by any value.

use std::collections::HashSet;
use std::sync::Arc;

use super::scheme::Weights;
use super::split::{self, Room, SplitTerms};
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
    /// Places in `standings` with something payable, the largest first.
    by_payable: Vec<u32>,
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
        let mut by_payable: Vec<u32> = (0..)
            .zip(&standings)
            .filter(|(_, standing)| standing.payable > 0)
            .map(|(at, _)| at)
            .collect();
        by_payable.sort_unstable_by_key(|at| std::cmp::Reverse(standings[*at as usize].payable));
        Self {
            pin,
            terms,
            own_script: own_script.into(),
            total: weights.total(),
            standings,
            by_payable,
        }
    }

    #[must_use]
    pub fn payees(&self) -> usize {
        self.standings.len()
    }

    /// At least all that a split of the dividend can list: the threshold algorithm over the two orders. What was not
    /// looked at is due no more than the next of each order together.
    fn largest_dues(&self, dividend: u64, with_balances: bool) -> Vec<Payout> {
        let by_payable: &[u32] = if with_balances { &self.by_payable } else { &[] };
        let payable = |standing: &Standing| if with_balances { standing.payable } else { 0 };
        let earned = |standing: &Standing| split::earned(dividend, standing.weight, self.total);
        let mut dues: Vec<Payout> = Vec::new();
        // Where few have a balance, the weights alone are walked and nobody is met twice.
        let mut met = HashSet::new();
        let mut add = |at: usize, dues: &mut Vec<Payout>| {
            if !by_payable.is_empty() && !met.insert(at) {
                return;
            }
            let standing = &self.standings[at];
            let due = i128::from(payable(standing)) + i128::from(earned(standing));
            if due >= i128::from(self.terms.minimum) {
                dues.push(Payout {
                    payee: standing.payee,
                    value: u64::try_from(due).unwrap_or(u64::MAX),
                    script: standing.script.as_ref().into(),
                });
            }
        };
        let mut look_at = crate::wire::OUTPUTS_MAX;
        for at in 0..self.standings.len().max(by_payable.len()) {
            let heaviest = self.standings.get(at).map_or(0, earned);
            let richest = by_payable.get(at).map_or(0, |place| {
                u64::try_from(self.standings[*place as usize].payable).unwrap_or_default()
            });
            let bound = heaviest.saturating_add(richest);
            if bound < self.terms.minimum {
                break;
            }
            if dues.len() >= look_at {
                if self.is_full_above(&dues, bound) {
                    break;
                }
                // Where thousands are due the same none is above the bound for long, and each look is at all of them.
                look_at += look_at / LOOK_PART;
            }
            if at < self.standings.len() {
                add(at, &mut dues);
            }
            if let Some(place) = by_payable.get(at) {
                add(*place as usize, &mut dues);
            }
        }
        dues
    }

    /// Whether dues above `bound` alone fill a split.
    fn is_full_above(&self, dues: &[Payout], bound: u64) -> bool {
        let mut room = Room::new(&self.own_script);
        for due in dues.iter().filter(|due| due.value > bound) {
            room.take(&due.script);
        }
        room.is_full()
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
        dues.sort_unstable_by(|a, b| b.value.cmp(&a.value).then_with(|| a.script.cmp(&b.script)));
        split::outputs(dues, value, &self.terms, &self.own_script)
    }
}

/// The part by which dues grow between two looks at whether they are enough.
const LOOK_PART: usize = 8;
