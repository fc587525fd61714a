//! What a coinbase pays, held to a split: each output on its own, so that one which is wrong says nothing of those
//! behind it.

use std::collections::HashMap;
use std::mem;

use super::LeftOut;
use crate::ledger::payments::{Payment, Payments};
use crate::ledger::report::address;
use crate::work::{Payout, is_leftover};

/// What came of it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct HeldToSplit {
    /// Outputs of the split that are paid in their place and to the satoshi.
    pub paid: usize,
    /// Those that are not paid at all: a coinbase may do so.
    pub left_out: Vec<LeftOut>,
    /// What it may not do, a line each.
    pub differences: Vec<String>,
}

impl HeldToSplit {
    /// `split`: each script once, as splits are.
    pub fn of(payments: &Payments<'_>, split: &[Payout], own_script: &[u8]) -> Self {
        let places: HashMap<&[u8], usize> = split.iter().zip(0..).map(|(due, at)| (&*due.script, at)).collect();
        let mut is_named = vec![false; split.len()];
        let mut last: Option<usize> = None;
        let mut held = Self {
            paid: 0,
            left_out: Vec::new(),
            differences: Vec::new(),
        };
        for Payment { value, script, .. } in &payments.payouts {
            let Some(&at) = places.get(script) else {
                // Coins of the pool are nobody else's.
                if *script != own_script {
                    held.differs(*value, script, "whom the split by the log does not pay");
                }
                continue;
            };
            if mem::replace(&mut is_named[at], true) {
                held.differs(*value, script, "and the split by the log pays that once");
                continue;
            }
            let mut is_paid = true;
            let due = split[at].value;
            if *value != due {
                is_paid = false;
                let by = value.abs_diff(due);
                let side = if *value > due { "more" } else { "less" };
                held.differs(
                    *value,
                    script,
                    &format!("{by} sat {side} than the {due} of the split by the log"),
                );
            }
            // Next to the one before it: so one that was moved is told of, and not all that it was moved past.
            if let Some(before) = last.replace(at).filter(|before| *before > at) {
                is_paid = false;
                let before = address(&split[before].script);
                held.differs(
                    *value,
                    script,
                    &format!("behind {before}, which the split by the log pays later"),
                );
            }
            held.paid += usize::from(is_paid);
        }
        if let Some(Payment { value, script, .. }) = payments.leftover
            && !is_leftover(value, script, own_script)
        {
            held.differs(value, script, "in the place of what is left to the pool");
        }
        let left_out = split.iter().zip(is_named).filter(|(_, is_named)| !is_named);
        held.left_out = left_out
            .map(|(due, _)| LeftOut {
                address: address(&due.script),
                value: due.value,
            })
            .collect();
        held
    }

    fn differs(&mut self, value: u64, script: &[u8], how: &str) {
        let whom = address(script);
        self.differences
            .push(format!("the coinbase pays {value} sat to {whom}, {how}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const OWN: &[u8] = &[0x51];

    /// A, B, C, D are due 400, 300, 200 and 100 sat.
    fn split() -> Vec<Payout> {
        let payout = |(payee, name)| Payout {
            payee,
            value: 400 - 100 * u64::from(payee),
            script: Box::from([name]),
        };
        (0..).zip(*b"ABCD").map(payout).collect()
    }

    /// As [`address`] writes a script that has none.
    fn name(script: u8) -> String {
        address(&[script])
    }

    fn held(outputs: &[(u64, u8)]) -> (usize, Vec<u64>, Vec<String>) {
        let payouts: Vec<_> = outputs
            .iter()
            .enumerate()
            .map(|(place, (value, script))| Payment {
                place,
                value: *value,
                script: std::slice::from_ref(script),
            })
            .collect();
        let leftover = Some(Payment {
            place: payouts.len(),
            value: 7,
            script: OWN,
        });
        let held = HeldToSplit::of(&Payments { payouts, leftover }, &split(), OWN);
        let left_out = held.left_out.iter().map(|due| due.value).collect();
        (held.paid, left_out, held.differences)
    }

    #[test]
    fn a_part_in_order_is_what_it_may_pay() {
        let all = [(400, b'A'), (300, b'B'), (200, b'C'), (100, b'D')];
        assert_eq!(held(&all), (4, vec![], vec![]));
        assert_eq!(held(&[all[0], all[2]]), (2, vec![300, 100], vec![]));
        assert_eq!(held(&[all[3]]), (1, vec![400, 300, 200], vec![]));
        assert_eq!(held(&[]), (0, vec![400, 300, 200, 100], vec![]));
        // To the pool more than once is to the pool.
        assert_eq!(held(&[all[0], (5, OWN[0])]), (1, vec![300, 200, 100], vec![]));
    }

    #[test]
    fn an_extra_output_and_a_wrong_value_say_nothing_of_those_behind_them() {
        let x = name(b'X');
        let extra = held(&[(50, b'X'), (400, b'A'), (300, b'B'), (200, b'C'), (100, b'D')]);
        let said = format!("the coinbase pays 50 sat to {x}, whom the split by the log does not pay");
        assert_eq!(extra, (4, vec![], vec![said]));
        let b = name(b'B');
        for (value, how) in [(301, "1 sat more"), (299, "1 sat less")] {
            let wrong = held(&[(400, b'A'), (value, b'B'), (200, b'C'), (100, b'D')]);
            let said = format!("the coinbase pays {value} sat to {b}, {how} than the 300 of the split by the log");
            assert_eq!(wrong, (3, vec![], vec![said]));
        }
    }

    #[test]
    fn what_was_moved_is_told_of_once() {
        let said = |value: u64, whom, before| {
            let (whom, before) = (name(whom), name(before));
            vec![format!(
                "the coinbase pays {value} sat to {whom}, behind {before}, which the split by the log pays later"
            )]
        };
        let swapped = held(&[(300, b'B'), (400, b'A'), (200, b'C'), (100, b'D')]);
        assert_eq!(swapped, (3, vec![], said(400, b'A', b'B')));
        let last_first = held(&[(100, b'D'), (400, b'A'), (300, b'B'), (200, b'C')]);
        assert_eq!(last_first, (3, vec![], said(400, b'A', b'D')));
        let first_last = held(&[(300, b'B'), (200, b'C'), (100, b'D'), (400, b'A')]);
        assert_eq!(first_last, (3, vec![], said(400, b'A', b'D')));
    }

    #[test]
    fn paid_twice_and_a_leftover_to_others() {
        let c = name(b'C');
        let twice = held(&[(400, b'A'), (200, b'C'), (200, b'C'), (100, b'D')]);
        let said = format!("the coinbase pays 200 sat to {c}, and the split by the log pays that once");
        assert_eq!(twice, (3, vec![300], vec![said]));
        let leftover = |value, script: &'static [u8]| {
            let leftover = Payment {
                place: 0,
                value,
                script,
            };
            let payments = Payments {
                payouts: Vec::new(),
                leftover: Some(leftover),
            };
            HeldToSplit::of(&payments, &[], OWN).differences
        };
        assert!(leftover(9, OWN).is_empty());
        assert!(leftover(0, &[0x6a, 0x01, 0x00]).is_empty());
        let x = name(b'X');
        let said = format!("the coinbase pays 9 sat to {x}, in the place of what is left to the pool");
        assert_eq!(leftover(9, b"X"), [said]);
    }
}
