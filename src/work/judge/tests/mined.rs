//! Work of a gateway's read back from the chain: what its coinbase shows is what its share would have.

use std::sync::Arc;

use bitcoin::consensus::encode::serialize;

use super::draft::{Draft, PRIME_ID, Place, Recipe, TAG, script, terms};
use crate::work::{CoinbaseMark, FormedCoinbase, MinedBlock, Payout, TemplateTransaction, merkle_branches};

/// The coinbase of a share with its extranonce and pot.
fn coinbase(recipe: &Recipe) -> Vec<u8> {
    let mut draft = Draft::good();
    draft.cook(recipe);
    let (_, _, coinbase) = draft.rebuild();
    coinbase
}

pub fn payout(value: u64, byte: u8) -> Payout {
    Payout {
        payee: byte.into(),
        value,
        script: [byte; 22].into(),
    }
}

/// Pays these, and the rest to the pool.
pub fn paying(payouts: &[Payout], place: Place) -> Recipe {
    let mut recipe = Recipe::good();
    recipe.payments[0].0 -= payouts.iter().map(|payout| payout.value).sum::<u64>();
    let paid = payouts.iter().map(|payout| (payout.value, payout.script.to_vec()));
    recipe.payments.splice(0..0, paid);
    recipe.place = place;
    recipe
}

fn pays_a_part_of(formed: &FormedCoinbase, split: &[Payout]) -> bool {
    let split: Box<[Payout]> = split.into();
    formed.pays_a_part_of(&split, formed.value(), true)
}

#[test]
fn a_coinbase_of_the_form_is_read_wherever_its_extranonce_stands() {
    let split = [payout(9_000, 1), payout(8_000, 2), payout(7_000, 3)];
    for place in [Place::Push, Place::Output(0), Place::Output(1)] {
        let formed = FormedCoinbase::read(&coinbase(&paying(&split[1..], place))).expect("the form");
        assert!(formed.keeps(&terms(PRIME_ID, 0)) && formed.has_payouts());
        assert_eq!(formed.value(), Recipe::good().payments[0].0);
        assert!(pays_a_part_of(&formed, &split));
        assert!(!pays_a_part_of(&formed, &split[..2]) && !pays_a_part_of(&formed, &[]));
        assert!(!formed.keeps(&terms(PRIME_ID + 1, 0)));
    }
    let without = FormedCoinbase::read(&coinbase(&Recipe::good())).expect("the form");
    assert!(!without.has_payouts() && pays_a_part_of(&without, &[]));
    // Subsidy-only work commits to nothing.
    let subsidy_only = Recipe {
        commitment: false,
        ..Recipe::good()
    };
    assert!(FormedCoinbase::read(&coinbase(&subsidy_only)).is_some());
}

#[test]
fn what_departs_from_the_form_or_the_terms_is_none_of_ours_by_it() {
    let mut recipe = Recipe::good();
    recipe.payments[0].1[3] ^= 1;
    let elsewhere = FormedCoinbase::read(&coinbase(&recipe)).expect("the form");
    assert!(!elsewhere.keeps(&terms(PRIME_ID, 0)), "the rest goes to somebody else");
    let recipe = Recipe {
        tag: b"another\0".to_vec(),
        ..Recipe::good()
    };
    assert!(
        !FormedCoinbase::read(&coinbase(&recipe))
            .expect("the form")
            .keeps(&terms(PRIME_ID, 0))
    );
    let mut longer = coinbase(&Recipe::good());
    longer.push(0);
    assert!(FormedCoinbase::read(&longer).is_none());
    let good = coinbase(&Recipe::good());
    for len in 0..good.len() {
        assert!(FormedCoinbase::read(&good[..len]).is_none());
        let _ = CoinbaseMark::of(&good[..len]);
    }
}

#[test]
fn a_mark_names_a_pool_by_its_tag_as_gateways_write_it() {
    let marked = |tag: &[u8]| {
        coinbase(&Recipe {
            tag: tag.to_vec(),
            ..Recipe::good()
        })
    };
    let names = |pushed: &[u8], tag: &[u8]| CoinbaseMark::of(&marked(pushed)).expect("a mark").has_tag(tag);
    let with_secondary = [TAG, b"\x0fsomebody\0"].concat();
    assert!(names(&[TAG, b"\0"].concat(), TAG) && names(&with_secondary, TAG));
    assert!(!names(&[TAG, b" and more\0"].concat(), TAG) && !names(b"another\0", TAG));
    assert!(!names(b"\0", b""), "an empty tag names nobody");
    let good = coinbase(&Recipe::good());
    let mark = CoinbaseMark::of(&good).expect("a mark");
    assert_eq!((mark.prime_id, mark.target_pot), (PRIME_ID, 3));
    assert!(CoinbaseMark::of(&script()).is_none());
}

#[test]
fn a_block_is_read_as_far_as_its_coinbase_and_whole_where_it_must_be() {
    let others: Vec<_> = (1..=4).map(other).collect();
    let coinbase = coinbase(&Recipe::good());
    let branches = merkle_branches(others.iter().map(|other| other.txid).collect());
    let parsed: bitcoin::Transaction = bitcoin::consensus::encode::deserialize(&coinbase).expect("a transaction");
    let root = branches.iter().fold(*parsed.compute_txid().as_ref(), |node, branch| {
        crate::work::sha256d::node(&node, branch)
    });
    let mut header = [7; 80];
    header[36..68].copy_from_slice(&root);
    header[68..72].copy_from_slice(&1_750_000_123_u32.to_le_bytes());
    let mut witnessed = parsed.clone();
    witnessed.input[0].witness.push([0; 32]);
    let mut raw = [&header[..], &[5], &serialize(&witnessed)].concat();
    others.iter().for_each(|other| raw.extend_from_slice(&other.raw));

    let block = MinedBlock::read(&raw).expect("a block");
    assert_eq!((&block.coinbase, block.tx_count), (&coinbase, 4), "without its witness");
    assert_eq!((block.parent(), block.time_s()), ([7; 32], 1_750_000_123));
    assert_eq!(block.branches(&raw), Some(branches));
    assert_eq!(MinedBlock::read(&raw[..raw.len() - 9]), Some(block.clone()));
    assert_eq!(block.branches(&raw[..raw.len() - 9]), None);
    raw.push(0);
    assert_eq!(block.branches(&raw), None);
    raw[0] ^= 1;
    assert_eq!(block.branches(&raw), None, "another block");
    assert_eq!(MinedBlock::read(&[&header[..], &[1], &others[0].raw].concat()), None);
    assert_eq!(MinedBlock::read(&raw[..100]), None);
}

fn other(value: u8) -> Arc<TemplateTransaction> {
    let mut raw = vec![2, 0, 0, 0, 1];
    raw.extend([7; 32]);
    raw.extend([
        0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1, value, 0, 0, 0, 0, 0, 0, 0, 1, 0x51, 0, 0, 0, 0,
    ]);
    Arc::new(TemplateTransaction::read(&raw).expect("a transaction"))
}
