//! Coinbases of every class, judged by the pool and connected by Bitcoin Core.

use bitcoin::hashes::Hash;
use bitcoin::{Amount, Block, Witness};
use millrace::wire::SUBSIDY_ONLY_ID;
use millrace::work::Booking;
use millrace_consensus::{Kind, PADDING_MAX, subsidy};
use millrace_loadgen::coinbase::Secondary;

use super::assembly::assemble;
use super::chain::{Chain, transactions};
use super::spender::Spender;
use super::work::{Class, template_of, work};

/// More than any class but the largest pays.
const MANY: usize = 350;

/// Works on what the node offers, and brings the block to it. Both the pool and the node must take it.
#[track_caller]
fn mined(chain: &Chain, class: Class) -> Block {
    let offered = chain.template();
    let template = template_of(&offered);
    let version = u32::try_from(offered["version"].as_u64().expect("a version")).expect("32 bits");
    let time = u32::try_from(offered["curtime"].as_u64().expect("a time")).expect("before 2106");
    let pool_script = chain.miner.script(Kind::P2wpkh);
    let worked = work(&template, version, time, class, &pool_script);
    assert_eq!(worked.verdict, Ok(()), "{class:?}");
    let booked_as_paying = matches!(worked.candidate.booking, Booking::Pays(_));
    assert_eq!(
        booked_as_paying,
        !worked.paid.is_empty(),
        "{class:?}: {:?}",
        worked.candidate.booking
    );

    let others = transactions(&offered);
    let is_subsidy_only = class.coinbase_id == SUBSIDY_ONLY_ID;
    let block = assemble(&worked.candidate, &others);
    assert_eq!(block.txdata[0].input[0].witness.is_empty(), is_subsidy_only);
    assert_eq!(chain.propose(&block), None, "{class:?}");
    // A gateway submits it without the witness of its coinbase, which the node adds.
    let mut as_gateways_do = block.clone();
    as_gateways_do.txdata[0].input[0].witness = Witness::new();
    let submitted = if class.quickdiff { &as_gateways_do } else { &block };
    assert_eq!(chain.submit(submitted), None, "{class:?}");
    let hash = block.block_hash();
    assert_eq!(chain.tip(), hash, "{class:?}");

    let stored = chain.block(&hash);
    assert_eq!(stored.block_hash().to_byte_array(), worked.candidate.hash);
    assert_eq!(stored.txdata.len(), if is_subsidy_only { 1 } else { others.len() + 1 });
    let coinbase = &stored.txdata[0];
    let outputs: Vec<_> = coinbase
        .output
        .iter()
        .map(|output| (output.value.to_sat(), output.script_pubkey.clone()))
        .collect();
    let mut rest = outputs.iter();
    assert!(
        worked.paid.iter().all(|paid| rest.any(|output| output == paid)),
        "{class:?}: paid in order, each its value"
    );
    let total: Amount = coinbase.output.iter().map(|output| output.value).sum();
    let value = if is_subsidy_only {
        subsidy(template.height)
    } else {
        template.value
    };
    assert_eq!(total.to_sat(), value, "{class:?}: all that there is");
    // A commitment is there, and with it a witness, wherever there are transactions.
    assert_eq!(coinbase.input[0].witness.is_empty(), is_subsidy_only, "{class:?}");
    stored
}

#[test]
fn every_class_is_connected_with_spends_of_every_kind() {
    let mut chain = Chain::new();
    let mut spender = Spender::new(&mut chain);
    for coinbase_id in (0..=5).chain([SUBSIDY_ONLY_ID]) {
        for (payees, quickdiff) in [(0, true), (12, false), (MANY, true)] {
            if coinbase_id != SUBSIDY_ONLY_ID {
                spender.spend_all(&chain);
            }
            let class = Class {
                payees,
                quickdiff,
                ..Class::new(coinbase_id)
            };
            let block = mined(&chain, class);
            let spends = block.txdata.len() - 1;
            assert_eq!(
                spends,
                if coinbase_id == SUBSIDY_ONLY_ID {
                    0
                } else {
                    Kind::USUAL.len()
                }
            );
        }
    }
}

#[test]
fn every_place_of_the_extranonce_is_connected() {
    let mut chain = Chain::new();
    let mut spender = Spender::new(&mut chain);
    for coinbase_id in 0..=5 {
        for (secondary, payees) in [(Secondary::None, 9), (Secondary::Long, 0), (Secondary::Long, 9)] {
            spender.spend_all(&chain);
            let class = Class {
                secondary,
                payees,
                ..Class::new(coinbase_id)
            };
            mined(&chain, class);
        }
    }
}

#[test]
fn a_split_that_leaves_nothing_is_connected() {
    let mut chain = Chain::new();
    let mut spender = Spender::new(&mut chain);
    spender.spend_all(&chain);
    let class = Class {
        payees: 4,
        takes_all: true,
        ..Class::new(3)
    };
    let block = mined(&chain, class);
    let dead = block.txdata[0]
        .output
        .iter()
        .filter(|output| output.script_pubkey.as_bytes() == [0x6a, 0x01, 0x00]);
    assert_eq!(dead.count(), 1);
}

#[test]
fn an_empty_template_is_connected() {
    let chain = Chain::new();
    for coinbase_id in [0, 2, 4] {
        let class = Class {
            payees: 20,
            ..Class::new(coinbase_id)
        };
        assert_eq!(mined(&chain, class).txdata.len(), 1);
    }
}

/// 300 transactions need 9 branches; the tree has odd levels.
#[test]
fn many_transactions_are_connected() {
    let mut chain = Chain::new();
    let kinds: Vec<_> = Kind::USUAL.into_iter().cycle().take(300).collect();
    let coins = chain.spread(&kinds);
    let mut coins = coins.iter();
    for count in [1, 2, 3, 292] {
        for coin in coins.by_ref().take(count) {
            chain.send(&chain.spend(coin, Kind::P2tr, 2_000));
        }
        let class = Class {
            payees: 40,
            ..Class::new(4)
        };
        assert_eq!(mined(&chain, class).txdata.len(), count + 1);
    }
}

/// The gateway gives the coinbase what room the transactions leave: here less than its class would take.
#[test]
fn a_full_block_is_connected() {
    let mut chain = Chain::new();
    // 19 of the heaviest, and one that fills up to 3.6 kB of coinbase.
    let mut kinds = vec![Kind::Padded { bytes: PADDING_MAX }; 19];
    kinds.push(Kind::Padded { bytes: 95_000 });
    for coin in chain.spread(&kinds) {
        chain.send(&chain.spend(&coin, Kind::P2wpkh, 200_000));
    }
    let class = Class {
        payees: MANY,
        ..Class::new(4)
    };
    let block = mined(&chain, class);
    let (weight, outputs) = (block.weight().to_wu(), block.txdata[0].output.len());
    assert!((3_999_000..=4_000_000).contains(&weight), "{weight}");
    assert!((50..MANY).contains(&outputs), "{outputs} of {MANY} payouts");
    assert_eq!(block.txdata.len(), kinds.len() + 1);
}
