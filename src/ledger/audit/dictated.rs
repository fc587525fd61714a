//! What was dictated, held to the split that the log gives again.

use std::collections::{BTreeMap, BTreeSet};

use crate::ledger::report::address;
use crate::work::Payout;

pub(super) fn differences(dictated: &[Payout], split: &[Payout]) -> Vec<String> {
    let by_script = |payouts: &[Payout]| {
        let mut values = BTreeMap::new();
        for Payout { value, script, .. } in payouts {
            let sum: &mut u64 = values.entry(script.clone()).or_default();
            *sum = sum.saturating_add(*value);
        }
        values
    };
    let (was, again) = (by_script(dictated), by_script(split));
    let scripts: BTreeSet<&Box<[u8]>> = was.keys().chain(again.keys()).collect();
    let mut differences = Vec::new();
    for script in scripts {
        let [was, comes_to] = [&was, &again].map(|values| values.get(script).copied().unwrap_or_default());
        if was != comes_to {
            let whom = address(script);
            differences.push(format!(
                "{whom} was dictated {was} sat, and comes to {comes_to} by the log"
            ));
        }
    }
    if differences.is_empty() && dictated != split {
        differences.push(
            "the outputs were dictated in another order, or to other numbers of payees, than the log gives".into(),
        );
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_output_is_compared_to_the_satoshi() {
        let payout = |payee: u32, value| Payout {
            payee,
            value,
            script: [u8::try_from(payee).expect("small"); 22].into(),
        };
        let split = [payout(1, 300), payout(2, 200), payout(3, 100)];
        let said = |payee, was, comes_to| {
            let whom = address(&payout(payee, 0).script);
            format!("{whom} was dictated {was} sat, and comes to {comes_to} by the log")
        };
        assert_eq!(differences(&split, &split), [""; 0]);
        let altered = [payout(1, 301), payout(2, 200), payout(4, 99)];
        assert_eq!(
            differences(&altered, &split),
            [said(1, 301, 300), said(3, 0, 100), said(4, 99, 0)]
        );
        assert_eq!(differences(&split[..2], &split), [said(3, 0, 100)]);
        let swapped = [payout(2, 200), payout(1, 300), payout(3, 100)];
        let mut renumbered = split.clone();
        renumbered[0].payee = 9;
        for dictated in [&swapped, &renumbered] {
            let differs = differences(dictated, &split);
            assert!(
                differs.len() == 1 && differs[0].contains("another order"),
                "{differs:?}"
            );
        }
    }
}
