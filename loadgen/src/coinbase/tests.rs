//! Coinbases of all classes, read back as transactions.

use super::*;
use crate::template::{Templates, VARIANTS};
use bitcoin::Transaction;
use bitcoin::consensus::deserialize;

/// Bytes that a coinbase of a class has at most, as measured (protocol section 4).
const MEASURED: [usize; 6] = [254, 503, 760, 6_505, 16_005, 2_255];

type Paid = (u64, Vec<u8>);

/// Of the lengths that miners' scripts have, the largest value first.
fn split(count: u64) -> Vec<Paid> {
    let len = |n: u64| [22, 25, 23, 34][n as usize % 4];
    (0..count)
        .map(|n| ((count - n) * 1_000, vec![n as u8; len(n)]))
        .collect()
}

fn payouts(paid: &[Paid]) -> Payouts {
    paid.iter()
        .map(|(value, script)| Payout { value: *value, script })
        .collect()
}

fn terms(tag: usize, script: usize) -> Terms {
    Terms {
        prime_id: 0x0403_0201,
        script: vec![0x51; script].into(),
        tag: vec![b't'; tag].into(),
        min_pot: 0,
    }
}

fn recipe<'a>(coinbase_id: u8, template: &'a Template, terms: &'a Terms, payouts: &'a Payouts) -> Recipe<'a> {
    Recipe {
        coinbase_id,
        template,
        terms,
        secondary: Secondary::None,
        unique_id: 0x0605,
        payouts,
    }
}

fn transaction(coinbase: &Coinbase) -> Transaction {
    deserialize(&coinbase.cut.rebuild(0, false, &[0xee; EXTRANONCE_LEN])).expect("a transaction")
}

fn outputs(tx: &Transaction) -> Vec<Paid> {
    let paid = |output: &bitcoin::TxOut| (output.value.to_sat(), output.script_pubkey.to_bytes());
    tx.output.iter().map(paid).collect()
}

/// Neither extranonce nor what follows the payouts.
fn paid(tx: &Transaction) -> Vec<Paid> {
    let mut paid = outputs(tx);
    paid.truncate(paid.len() - 2);
    paid.retain(|(_, script)| !script.starts_with(&[0x6a, 14]));
    paid
}

#[test]
fn every_class_pays_the_whole_value_in_its_size_and_in_order_what_fits() {
    let template = Templates::new(1, 3..=3).template(1, 0);
    for tag in [0, 8, 40, 69, 70, 75, 83] {
        for secondary in [Secondary::None, Secondary::Short, Secondary::Long] {
            for (count, script) in [(0, 22), (1, 64), (9, 25), (60, 34), (300, 22), (512, 64)] {
                let (split, terms) = (split(count), terms(tag, script));
                let payouts = payouts(&split);
                for (coinbase_id, max) in MEASURED.into_iter().enumerate() {
                    let recipe = Recipe {
                        secondary,
                        ..recipe(coinbase_id as u8, &template, &terms, &payouts)
                    };
                    let coinbase = recipe.build();
                    let (tx, len) = (transaction(&coinbase), coinbase.cut.bytes());
                    let what = format!("class {coinbase_id}, tag {tag}, {count} payouts");
                    let sum: u64 = tx.output.iter().map(|output| output.value.to_sat()).sum();
                    assert_eq!(sum, template.value, "{what}");
                    assert!(tx.input[0].script_sig.len() <= SCRIPT_SIG_MAX, "{what}");
                    assert_eq!(
                        coinbase.cut.coinb1[usize::from(coinbase.cut.target_index)],
                        0xff,
                        "{what}"
                    );
                    let paid = paid(&tx);
                    assert_eq!(coinbase.pays, !paid.is_empty(), "{what}");
                    let mut dictated = split.iter();
                    assert!(paid.iter().all(|paid| dictated.any(|one| one == paid)), "{what}");
                    if paid.is_empty() {
                        assert!(coinbase_id == 0 || count == 0, "{what}");
                    } else {
                        assert!(len <= max, "{len} in {what}");
                    }
                    // Room that is left is below the longest payout.
                    assert!(
                        coinbase_id == 0 || paid.len() == split.len() || len > max - 50,
                        "{len} in {what}"
                    );
                }
            }
        }
    }
}

#[test]
fn what_does_not_fit_is_passed_over() {
    let template = Templates::new(1, 3..=3).template(1, 0);
    let terms = terms(8, 22);
    let mut split = vec![(9_000, vec![1; 34]); 8];
    split.extend([(100, vec![2; 22]), (90, vec![3; 22])]);
    let payouts = payouts(&split);
    // 500 - 119 - 22 - 21 leaves 338: 7 of 43, and of the others one of 31.
    let coinbase = recipe(1, &template, &terms, &payouts).build();
    let mut fits = split;
    fits.drain(7..8);
    fits.pop();
    assert_eq!(paid(&transaction(&coinbase)), fits);
}

#[test]
fn full_templates_leave_room_for_less_or_none() {
    let mut templates = Templates::new(1, 3..=3);
    let (split, terms) = (split(300), terms(8, 22));
    let payouts = payouts(&split);
    let mut counts = std::collections::BTreeSet::new();
    for variant in 0..VARIANTS {
        let template = templates.template(1, variant);
        let coinbase = recipe(4, &template, &terms, &payouts).build();
        assert!(!coinbase.pays || coinbase.cut.bytes() <= template.coinbase_room() + 5);
        counts.insert(paid(&transaction(&coinbase)).len());
    }
    let counts: Vec<_> = counts.into_iter().collect();
    assert!(matches!(counts[..], [0, 8..20, 300]), "{counts:?}");
}

#[test]
fn without_payouts_the_classes_are_copies() {
    let template = Templates::new(1, 3..=3).template(1, 0);
    let terms = terms(8, 22);
    let build = |coinbase_id| recipe(coinbase_id, &template, &terms, &NO_PAYOUTS).build();
    for coinbase_id in 1..6 {
        assert_eq!(build(coinbase_id), build(0));
    }
}

#[test]
fn the_extranonce_moves_to_an_output_where_the_tag_is_long_and_in_class_2_with_a_split() {
    let template = Templates::new(1, 3..=3).template(1, 0);
    let place = |coinbase_id, tag, count| {
        let (terms, payouts) = (terms(tag, 22), payouts(&split(count)));
        let tx = transaction(&recipe(coinbase_id, &template, &terms, &payouts).build());
        outputs(&tx)
            .iter()
            .position(|(_, script)| script.starts_with(&[0x6a, 14]))
    };
    assert_eq!(place(0, 8, 0), None);
    assert_eq!(place(0, 83, 0), Some(0));
    assert_eq!(place(3, 8, 5), None);
    assert_eq!(place(3, 83, 5), Some(0));
    // Behind those that fit into coinb1.
    assert_eq!(place(2, 8, 0), None);
    assert_eq!(place(2, 8, 1), Some(1));
    assert_eq!(place(2, 8, 5), Some(2));
    assert_eq!(place(2, 83, 5), Some(0));
}

#[test]
fn nothing_left_makes_a_dead_output() {
    let template = Templates::new(1, 0..=0).template(1, 0);
    let (all, terms) = (payouts(&[(template.value, vec![0; 22])]), terms(8, 22));
    let tx = transaction(&recipe(3, &template, &terms, &all).build());
    assert_eq!(outputs(&tx)[1], (0, DEAD_SCRIPT.to_vec()));
}
