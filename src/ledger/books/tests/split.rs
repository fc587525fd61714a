//! Whom a value pays: order, limits, and what happens where dues exceed it.

use proptest::collection::vec;
use proptest::prelude::*;

use super::model;
use super::*;
use crate::wire::{BLOB_MAX, OUTPUT_SCRIPT_MAX, OUTPUTS_MAX};
use crate::work::{Payout, Pin, Split};

const TERMS: SplitTerms = SplitTerms {
    fee_ppm: 10_000,
    minimum: 1_000,
};

#[test]
fn what_rounding_leaves_over_is_in_no_output() {
    let split = Crowd::new(Type::Taproot, &[(1, 0), (1, 0), (1, 0)]).snapshot(&TERMS);
    assert_eq!(values(&split.payouts(100_000, true)), [33_000; 3]);
    assert_eq!(values(&split.payouts(100_001, true)), [33_000; 3]);
    assert_eq!(values(&split.payouts(100_004, true)), [33_001; 3]);
}

#[test]
fn a_fee_is_rounded_down() {
    let fee = |fee_ppm, value| SplitTerms { fee_ppm, ..TERMS }.fee(value);
    assert_eq!(fee(10_000, 199), 1);
    assert_eq!(fee(0, u64::MAX), 0);
    assert_eq!(fee(1_000_000, u64::MAX), u64::MAX);
}

#[test]
fn balances_count_unless_the_parent_is_unknown() {
    let split = Crowd::new(Type::Taproot, &[(1, -40_000), (1, 600), (0, 5_000)]).snapshot(&TERMS);
    let (with, without) = (split.payouts(100_000, true), split.payouts(100_000, false));
    assert_eq!(named(&with), [(1, 50_100), (0, 9_500), (2, 5_000)]);
    assert_eq!(values(&without), [49_500; 2]);
}

#[test]
fn who_is_due_less_than_the_minimum_waits() {
    let split = Crowd::new(Type::Taproot, &[(999, 0), (1, 0), (0, 999), (0, 1_000), (1, -5_000)]).snapshot(&TERMS);
    let paid = split.payouts(101_111, true);
    assert_eq!(named(&paid), [(0, 99_900), (3, 1_000)]);
}

#[test]
fn dues_above_the_value_are_cut_in_proportion_and_small_ones_dropped() {
    let split = Crowd::new(Type::Taproot, &[(0, 300_000), (0, 99_000), (0, 1_000)]).snapshot(&TERMS);
    // The third would get 250, which stays due: nobody else gets it.
    assert_eq!(named(&split.payouts(100_000, true)), [(0, 75_000), (1, 24_750)]);
    assert_eq!(split.payouts(1, true), []);
    assert_eq!(split.payouts(0, true), []);
}

#[test]
fn those_with_the_same_due_are_in_the_order_of_their_scripts() {
    let crowd = Crowd::new(Type::WitnessPubkeyHash, &[(1, 0); 40]);
    let paid = crowd.snapshot(&TERMS).payouts(4_000_000, true);
    assert_eq!(paid.len(), 40);
    assert!(paid.is_sorted_by(|a, b| a.script < b.script));
}

#[test]
fn the_limit_of_signature_operations_passes_over_but_ends_nothing() {
    let mut crowd = Crowd::new(Type::PubkeyHash, &[(10, 0); 150]);
    crowd.add(Type::Taproot, &[(1, 0); 10]);
    let count = |paid: &[Payout]| paid.iter().filter(|paid| model::is_pubkey_hash(&paid.script)).count();
    let paid = crowd.snapshot(&TERMS).payouts(100_000_000, true);
    assert_eq!((count(&paid), paid.len()), (100, 110));
    crowd.own_script = script(Type::PubkeyHash, u32::MAX);
    let paid = crowd.snapshot(&TERMS).payouts(100_000_000, true);
    assert_eq!((count(&paid), paid.len()), (99, 109));
}

#[test]
fn a_split_has_no_more_outputs_than_a_gateway_takes() {
    let crowd = Crowd::new(Type::Taproot, &vec![(1, 0); OUTPUTS_MAX + 1]);
    assert_eq!(crowd.snapshot(&TERMS).payouts(10_000_000, true).len(), OUTPUTS_MAX);
}

#[test]
fn a_split_has_no_more_bytes_than_a_gateway_takes() {
    let paid = Crowd::new(Type::Longest, &[(1, 0); 500])
        .snapshot(&TERMS)
        .payouts(10_000_000, true);
    assert_eq!(paid.len(), (BLOB_MAX - 1) / (9 + OUTPUT_SCRIPT_MAX));
    assert!(bytes(&paid) <= BLOB_MAX);
}

#[test]
fn a_script_that_gateways_do_not_take_is_passed_over() {
    let mut crowd = Crowd::new(Type::Taproot, &[(1, 0), (2, 0), (1, 0)]);
    crowd.scripts[1] = vec![0x6a; OUTPUT_SCRIPT_MAX + 1].into();
    let mut paid = named(&crowd.snapshot(&TERMS).payouts(100_000, true));
    paid.sort_unstable();
    assert_eq!(paid, [(0, 24_750), (2, 24_750)]);
}

#[test]
fn the_largest_value_and_the_largest_weight_fit() {
    let split = Crowd::new(Type::Taproot, &[(u64::MAX, 0)]).snapshot(&SplitTerms { fee_ppm: 0, ..TERMS });
    assert_eq!(values(&split.payouts(u64::MAX, true)), [u64::MAX]);
}

#[test]
fn a_split_knows_what_it_is_pinned_to_and_who_can_be_paid() {
    let split = Crowd::new(Type::Taproot, &[(1, -9), (0, 1), (0, 0), (0, -1)]).snapshot(&TERMS);
    assert_eq!(split.pin(), PIN);
    assert_eq!(split.payees(), 2, "neither work nor anything payable is nothing to pay");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(600))]

    #[test]
    fn a_split_is_what_sorting_everybody_gives(
        crowd in crowds(), terms in terms(), values in vec(values_to_split(), 1..4), with_balances: bool,
    ) {
        let split = crowd.snapshot(&terms);
        let parts = (0..).zip(&crowd.weights).map(|(payee, weight)| (payee, u128::from(*weight))).collect();
        for value in values {
            let payable = |payee: u32| if with_balances { crowd.payable[payee as usize] } else { 0 };
            let expected = model::payouts(value, &terms, &crowd.own_script, &parts, &crowd.scripts, payable);
            let paid = split.payouts(value, with_balances);
            prop_assert_eq!(&paid, &expected);

            prop_assert!(paid.is_sorted_by(|a, b| a.value > b.value || a.value == b.value && a.script < b.script));
            prop_assert!(paid.len() <= OUTPUTS_MAX && bytes(&paid) <= BLOB_MAX);
            let scripts = paid.iter().map(|paid| &*paid.script).chain([&*crowd.own_script]);
            prop_assert!(scripts.filter(|script| model::is_pubkey_hash(script)).count() <= LEGACY_SIGOPS_MAX);
            prop_assert!(paid.iter().all(|paid| paid.value >= terms.minimum));
            let sum: u128 = paid.iter().map(|paid| u128::from(paid.value)).sum();
            prop_assert!(sum <= u128::from(value));
        }
    }
}

const PIN: Pin = Pin { sequence: 7, event: 3 };

/// Payees with their weights and what is payable to them.
#[derive(Debug, Clone)]
struct Crowd {
    own_script: Arc<[u8]>,
    scripts: Vec<Arc<[u8]>>,
    weights: Vec<u64>,
    payable: Vec<i64>,
}

impl Crowd {
    fn new(script_type: Type, standings: &[(u64, i64)]) -> Self {
        let mut crowd = Self {
            own_script: script(Type::WitnessPubkeyHash, u32::MAX),
            scripts: Vec::new(),
            weights: Vec::new(),
            payable: Vec::new(),
        };
        crowd.add(script_type, standings);
        crowd
    }

    fn add(&mut self, script_type: Type, standings: &[(u64, i64)]) {
        for (weight, payable) in standings {
            let number = u32::try_from(self.scripts.len()).expect("a list in memory");
            self.scripts.push(script(script_type, number));
            self.weights.push(*weight);
            self.payable.push(*payable);
        }
    }

    fn snapshot(&self, terms: &SplitTerms) -> Snapshot {
        let window = window_of(&self.weights);
        let payable = |payee: u32| self.payable[payee as usize];
        let weights = Weights::Window(&window);
        Snapshot::new(PIN, *terms, &self.own_script, &weights, &self.scripts, payable)
    }
}

fn values(paid: &[Payout]) -> Vec<u64> {
    paid.iter().map(|paid| paid.value).collect()
}

fn named(paid: &[Payout]) -> Vec<(u32, u64)> {
    paid.iter().map(|paid| (paid.payee, paid.value)).collect()
}

/// Of the blob that a gateway gets.
fn bytes(paid: &[Payout]) -> usize {
    1 + paid.iter().map(|paid| 8 + 1 + paid.script.len()).sum::<usize>()
}

fn terms() -> impl Strategy<Value = SplitTerms> {
    let fees = prop_oneof![Just(0), Just(10_000), 0..=1_000_000_u32, Just(1_000_000)];
    let minima = prop_oneof![Just(DUST), DUST..5_000, DUST..1_000_000];
    (fees, minima).prop_map(|(fee_ppm, minimum)| SplitTerms { fee_ppm, minimum })
}

fn values_to_split() -> impl Strategy<Value = u64> {
    prop_oneof![
        2 => 0..10_000_u64,
        4 => 10_000..20_000_000_u64,
        4 => 300_000_000..400_000_000_u64,
        1 => 0..2_100_000_000_000_000_u64,
    ]
}

/// Few, as many as fit, and many; alike, or of all sorts.
fn crowds() -> impl Strategy<Value = Crowd> {
    let sizes = prop_oneof![2 => 0..20_usize, 2 => 400..700_usize, 1 => 1_000..2_500_usize];
    let types = prop_oneof![
        Just(vec![Type::PubkeyHash, Type::WitnessPubkeyHash]),
        Just(vec![Type::Taproot]),
        Just(vec![Type::Longest, Type::WitnessScriptHash]),
        Just(ALL.to_vec()),
    ];
    (
        sizes,
        types,
        prop::sample::select(vec![Type::Taproot, Type::PubkeyHash]),
    )
        .prop_flat_map(|(size, types, own)| {
            let standing = (prop::sample::select(types), weights(), payables());
            (vec(standing, size), Just(own), 0..3_u8)
        })
        .prop_map(|(standings, own, few)| {
            let mut crowd = Crowd::new(Type::Taproot, &[]);
            crowd.own_script = script(own, u32::MAX);
            for (script_type, weight, payable) in standings {
                // Most crowds are quiet on one side: few balances, or little work.
                let payable = if few == 1 && weight % 16 != 1 { 0 } else { payable };
                let weight = if few == 2 && payable % 16 != 1 { 0 } else { weight };
                crowd.add(script_type, &[(weight, payable)]);
            }
            crowd
        })
}

const ALL: [Type; 6] = [
    Type::PubkeyHash,
    Type::ScriptHash,
    Type::WitnessPubkeyHash,
    Type::WitnessScriptHash,
    Type::Taproot,
    Type::Longest,
];

fn weights() -> impl Strategy<Value = u64> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(1 << 20),
        1..10_u64,
        1..1_000_000_u64,
        (0..44_u32, any::<u64>()).prop_map(|(bits, random)| random & ((1 << bits) - 1)),
    ]
}

fn payables() -> impl Strategy<Value = i64> {
    prop_oneof![
        Just(0),
        Just(1),
        Just(50_000),
        -5..5_i64,
        -100_000..0_i64,
        0..3_000_i64,
        0..1_000_000_i64,
        (0..34_u32, any::<i64>()).prop_map(|(bits, random)| random & ((1 << bits) - 1)),
    ]
}
