//! A booking, held to the one that the log gives again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use crate::ledger::books::Settlement;
use crate::ledger::report::address;

/// `scripts` by payee.
pub(super) fn differences(booked: &Settlement, again: &Settlement, scripts: &[Arc<[u8]>]) -> Vec<String> {
    let mut differences = Vec::new();
    for (what, booked, again) in [
        ("value", booked.value, again.value),
        ("fee", booked.fee, again.fee),
        ("the pool's part", booked.to_pool, again.to_pool),
        ("the end of the window", booked.window_end, again.window_end),
    ] {
        if booked != again {
            differences.push(format!("{what} is booked as {booked}, and comes to {again}"));
        }
    }
    let by_payee = |settlement: &Settlement| -> BTreeMap<u32, (u64, u64)> {
        let postings = settlement.postings.iter();
        postings
            .map(|posting| (posting.payee, (posting.earned, posting.paid)))
            .collect()
    };
    let (booked, again) = (by_payee(booked), by_payee(again));
    let payees: BTreeSet<u32> = booked.keys().chain(again.keys()).copied().collect();
    for payee in payees {
        let was = booked.get(&payee).copied().unwrap_or_default();
        let comes_to = again.get(&payee).copied().unwrap_or_default();
        if was != comes_to {
            let script = scripts.get(payee as usize);
            let address = script.map_or_else(String::new, |script| address(script));
            differences.push(format!(
                "{address} is booked with {} sat earned and {} paid, and comes to {} and {}",
                was.0, was.1, comes_to.0, comes_to.1
            ));
        }
    }
    differences
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ledger::books::Posting;

    #[test]
    fn every_number_of_a_booking_is_compared() {
        let posting = |payee, earned, paid| Posting { payee, earned, paid };
        let again = Settlement {
            block: [1; 32],
            window_end: 9,
            value: 1_000,
            to_pool: 300,
            fee: 10,
            payees: 3,
            postings: vec![posting(0, 600, 500), posting(1, 390, 200)],
        };
        let scripts: Vec<Arc<[u8]>> = (0..3_u8).map(|payee| Arc::from([payee; 22])).collect();
        let name = |payee: usize| address(&scripts[payee]);
        assert_eq!(differences(&again, &again, &scripts), [""; 0]);
        let altered = |alter: &dyn Fn(&mut Settlement)| {
            let mut booked = again.clone();
            alter(&mut booked);
            differences(&booked, &again, &scripts)
        };
        assert_eq!(
            altered(&|booked| booked.value = 1_001),
            ["value is booked as 1001, and comes to 1000"]
        );
        assert_eq!(
            altered(&|booked| booked.fee = 9),
            ["fee is booked as 9, and comes to 10"]
        );
        assert_eq!(
            altered(&|booked| booked.to_pool = 299),
            ["the pool's part is booked as 299, and comes to 300"]
        );
        assert_eq!(
            altered(&|booked| booked.window_end = 8),
            ["the end of the window is booked as 8, and comes to 9"]
        );
        let said = |payee, was: (u64, u64), is: (u64, u64)| {
            let (address, earned, paid) = (name(payee), was.0, was.1);
            format!(
                "{address} is booked with {earned} sat earned and {paid} paid, and comes to {} and {}",
                is.0, is.1
            )
        };
        // One more here is one less there; nobody else is named.
        let moved = altered(&|booked| {
            booked.postings[0].earned += 1;
            booked.postings[1].paid -= 1;
        });
        assert_eq!(
            moved,
            [said(0, (601, 500), (600, 500)), said(1, (390, 199), (390, 200))]
        );
        let missing = altered(&|booked| {
            booked.postings.remove(0);
        });
        assert_eq!(missing, [said(0, (0, 0), (600, 500))]);
        let extra = altered(&|booked| booked.postings.push(posting(2, 5, 0)));
        assert_eq!(extra, [said(2, (5, 0), (0, 0))]);
    }
}
