//! Tips that come, go and rival each other.

use super::*;
use crate::config::TemplateRule;
use crate::node::rpc::{Bits, ChainWork};

fn tips(name: NodeChainName) -> Tips {
    Tips::new(&NodeChain {
        name,
        target_shift: 0,
        stale_grace_s: 10,
        difficulty_floor: 1,
        nodes: Vec::new(),
        templates: TemplateRule {
            check_one_in: 0,
            refuses_unshown: true,
            transaction_bytes: 0,
        },
    })
}

const NEW: Advanced = losing(0);

/// Of a new block for which the chain lost so many.
const fn losing(blocks: usize) -> Advanced {
    Advanced {
        is_new_block: true,
        lost: Some(blocks),
    }
}

fn header(hash: u8, height: u32, previous: u8) -> Header {
    Header {
        hash: Shown([hash; 32]),
        confirmations: 1,
        height,
        bits: Bits(0x1c00_ffff),
        time: 1_500,
        median_time: 1_000,
        tx_count: 1,
        chain_work: ChainWork([0; 32]),
        previous: Some(Shown([previous; 32])),
    }
}

fn good_until(tips: &Tips, hash: u8) -> Option<Option<u64>> {
    tips.chain().parent(&[hash; 32]).map(|parent| parent.good_until_s)
}

#[test]
fn a_new_block_gives_the_old_tip_its_grace() {
    let mut tips = tips(NodeChainName::Main);
    assert_eq!(tips.advance(&[header(2, 101, 1), header(1, 100, 0)], None, 50), NEW);
    assert_eq!(
        tips.chain().tip().map(|tip| (tip.hash, tip.next_height)),
        Some(([2; 32], 102))
    );
    assert_eq!(good_until(&tips, 1), Some(Some(0)), "never a tip of ours");
    assert_eq!(tips.advance(&[header(3, 102, 2)], None, 60), NEW);
    assert_eq!(good_until(&tips, 3), Some(None));
    assert_eq!(good_until(&tips, 2), Some(Some(70)));
    assert_eq!(good_until(&tips, 1), Some(Some(0)));
    assert_eq!(good_until(&tips, 9), None);
}

#[test]
fn a_reorganisation_leaves_blocks_behind_and_may_come_back_to_them() {
    let mut tips = tips(NodeChainName::Main);
    tips.advance(&[header(1, 100, 0)], None, 0);
    tips.advance(&[header(2, 101, 1)], None, 10);
    // A longer branch from 1.
    let branch = [header(13, 102, 12), header(12, 101, 1)];
    assert_eq!(tips.advance(&branch, None, 20), losing(1));
    assert_eq!(tips.chain().tip().map(|tip| tip.hash), Some([13; 32]));
    assert_eq!(good_until(&tips, 2), Some(Some(30)));
    assert!(!tips.has(&Shown([2; 32])) && tips.has(&Shown([1; 32])));
    // Back to the first branch, one block longer again.
    let longer = [header(4, 103, 3), header(3, 102, 2), header(2, 101, 1)];
    assert_eq!(tips.advance(&longer, None, 40), losing(2));
    assert_eq!(good_until(&tips, 13), Some(Some(50)));
    assert_eq!(good_until(&tips, 2), Some(Some(0)));
    let in_chain = |hash| tips.chain().has(&[hash; 32]);
    assert!(in_chain(2) && in_chain(4) && !in_chain(13) && !in_chain(12));
    assert_eq!(tips.best.len(), 4);
    // The tip is taken back: what was below it is the tip again, which is no new block.
    let back = Advanced {
        is_new_block: false,
        lost: Some(1),
    };
    assert_eq!(tips.advance(&[header(3, 102, 2)], None, 60), back);
    assert_eq!(good_until(&tips, 3), Some(None));
    assert_eq!(good_until(&tips, 4), Some(Some(70)));
    assert_eq!(tips.best.len(), 3);
    assert!(
        !tips.advance(&[header(4, 103, 3)], None, 80).is_new_block,
        "known, though left behind meanwhile"
    );
}

#[test]
fn a_retarget_is_as_the_node_says() {
    let mut main = tips(NodeChainName::Main);
    assert!(main.needs_rules(&header(1, 2_015, 0)) && !main.needs_rules(&header(1, 2_016, 0)));
    let rules = NextRules {
        nbits: 0x1b00_ffff,
        min_time: 5_000,
    };
    main.advance(&[header(1, 2_015, 0)], Some(rules), 0);
    let tip = *main.chain().tip().expect("a tip");
    assert_eq!((tip.next_nbits, tip.min_time), (0x1b00_ffff, 5_000));
    main.advance(&[header(2, 2_016, 1)], None, 0);
    let tip = *main.chain().tip().expect("a tip");
    assert_eq!(
        (tip.next_nbits, tip.min_time, tip.subsidy, tip.easy_after_s),
        (0x1c00_ffff, 1_001, 5_000_000_000, None)
    );
    for name in [NodeChainName::Testnet3, NodeChainName::Testnet4, NodeChainName::Signet] {
        assert!(tips(name).needs_rules(&header(1, 2_015, 0)) && !tips(name).needs_rules(&header(1, 7, 0)));
    }
    let mut regtest = tips(NodeChainName::Regtest);
    assert!(!regtest.needs_rules(&header(1, 2_015, 0)));
    regtest.advance(&[header(1, 149, 0)], None, 0);
    assert_eq!(regtest.chain().tip().map(|tip| tip.subsidy), Some(2_500_000_000));
}

#[test]
fn a_reorganisation_across_a_retarget_has_the_bits_of_its_own_branch() {
    let bits = |mut header: Header, bits| {
        header.bits = Bits(bits);
        header
    };
    let next = |tips: &Tips, hash: u8| tips.chain().parent(&[hash; 32]).map(|parent| parent.next_nbits);
    let rules = |nbits| Some(NextRules { nbits, min_time: 0 });
    let mut main = tips(NodeChainName::Main);
    main.advance(&[header(1, 2_014, 0)], None, 0);
    main.advance(&[header(2, 2_015, 1)], rules(0x1b00_aaaa), 0);
    main.advance(&[bits(header(3, 2_016, 2), 0x1b00_aaaa)], None, 0);
    assert_eq!(next(&main, 3), Some(0x1b00_aaaa));
    // Another last block of the period, with another time, so the next period has another target.
    let branch = [
        bits(header(14, 2_017, 13), 0x1b00_bbbb),
        bits(header(13, 2_016, 12), 0x1b00_bbbb),
        header(12, 2_015, 1),
    ];
    assert!(!main.needs_rules(&branch[0]));
    assert_eq!(main.advance(&branch, None, 0), losing(2));
    assert_eq!(next(&main, 14), Some(0x1b00_bbbb), "the tip's");
    assert_eq!(
        next(&main, 12),
        Some(0x1b00_bbbb),
        "told by the block on it, not by its own header"
    );
    assert_eq!(
        next(&main, 2),
        Some(0x1b00_aaaa),
        "gateways may be on the other branch yet"
    );
    // And back, to the last block of the period alone: the node is asked again.
    assert!(main.needs_rules(&header(2, 2_015, 1)));
    main.advance(&[header(2, 2_015, 1)], rules(0x1b00_aaaa), 0);
    assert_eq!(next(&main, 2), Some(0x1b00_aaaa));
    assert_eq!(main.chain().tip().map(|tip| tip.next_height), Some(2_016));
}

#[test]
fn testnets_go_back_to_the_real_difficulty_after_a_block_of_the_least() {
    let least = |mut header: Header| {
        header.bits = Bits(TESTNET_LEAST_NBITS);
        header
    };
    let tip = |tips: &Tips| *tips.chain().tip().expect("a tip");
    for name in [NodeChainName::Testnet3, NodeChainName::Testnet4] {
        let mut test = tips(name);
        assert!(test.is_low_enough(&header(1, 100, 0)), "it says what the next has");
        assert!(!test.is_low_enough(&least(header(3, 102, 2))), "it hides that");
        assert!(
            test.is_low_enough(&least(header(1, 4_032, 0))),
            "the first of a period has it"
        );
        // A start in the midst of easy blocks: headers are fetched down to a real one.
        let headers = [least(header(3, 102, 2)), least(header(2, 101, 1)), header(1, 100, 0)];
        test.advance(&headers, None, 0);
        assert_eq!(
            (tip(&test).next_nbits, tip(&test).easy_after_s),
            (0x1c00_ffff, Some(1_500 + 1_200))
        );
        // Another easy one, alone: what is below it is known.
        test.advance(&[least(header(4, 103, 3))], None, 0);
        assert_eq!(tip(&test).next_nbits, 0x1c00_ffff);
        // A branch of easy ones from far below.
        test.advance(&[least(header(15, 104, 14)), least(header(14, 103, 2))], None, 0);
        assert_eq!(tip(&test).next_nbits, 0x1c00_ffff);
    }
    // At a retarget there is no such rule, and a first block that has the least gives it to its period.
    let mut test = tips(NodeChainName::Testnet3);
    let rules = NextRules {
        nbits: TESTNET_LEAST_NBITS,
        min_time: 0,
    };
    test.advance(&[header(1, 2_015, 0)], Some(rules), 0);
    assert_eq!(
        (tip(&test).next_nbits, tip(&test).easy_after_s),
        (TESTNET_LEAST_NBITS, None)
    );
    test.advance(&[least(header(2, 2_016, 1))], None, 0);
    test.advance(&[least(header(3, 2_017, 2))], None, 0);
    assert_eq!(tip(&test).next_nbits, TESTNET_LEAST_NBITS);
    // A signet has no such rule at all.
    let mut signet = tips(NodeChainName::Signet);
    signet.advance(&[least(header(3, 102, 2)), header(2, 101, 1)], None, 0);
    assert_eq!(
        (tip(&signet).next_nbits, tip(&signet).easy_after_s),
        (TESTNET_LEAST_NBITS, None)
    );
}

#[test]
fn blocks_that_the_chain_loses_are_counted_as_far_as_they_are_known() {
    let hash = |branch: u8, n: u32| {
        let mut hash = [branch; 32];
        hash[..4].copy_from_slice(&n.to_le_bytes());
        Shown(hash)
    };
    let block = |branch, n: u32, on| {
        let mut next = header(0, n, 0);
        (next.hash, next.previous) = (hash(branch, n), Some(hash(on, n - 1)));
        next
    };
    let mut tips = tips(NodeChainName::Regtest);
    for n in 1..=200 {
        assert_eq!(tips.advance(&[block(1, n, 1)], None, 0), NEW);
    }
    for (branch, depth) in [(2, 10), (3, 120)] {
        // From `depth` below the tip, and one longer; then the first branch is one longer again.
        let from = 201 - depth;
        let other: Vec<Header> = (from..=201)
            .rev()
            .map(|n| block(branch, n, if n == from { 1 } else { branch }))
            .collect();
        assert_eq!(tips.advance(&other, None, 0), losing(depth as usize), "{depth}");
        let back: Vec<Header> = (from..=202).rev().map(|n| block(1, n, 1)).collect();
        assert_eq!(tips.advance(&back, None, 0), losing(depth as usize + 1));
        assert_eq!(tips.best.len(), PARENTS_KNOWN);
        // As it was before, for the next depth.
        let expected = Advanced {
            is_new_block: false,
            lost: Some(2),
        };
        assert_eq!(tips.advance(&[block(1, 200, 1)], None, 0), expected);
    }
    // One from below all that is known.
    let other: Vec<Header> = (60..=300).rev().map(|n| block(4, n, 4)).take(PARENTS_KNOWN).collect();
    let unknown = Advanced {
        is_new_block: true,
        lost: None,
    };
    assert_eq!(tips.advance(&other, None, 0), unknown);
}

#[test]
fn a_rival_is_as_good_as_the_tip_until_the_chain_goes_on() {
    let mut tips = tips(NodeChainName::Main);
    tips.advance(&[header(2, 101, 1), header(1, 100, 0)], None, 0);
    let tip = *tips.chain().tip().expect("a tip");
    tips.add_rival(&[header(12, 101, 1)], None);
    assert!(tips.has_rival(&Shown([12; 32])) && !tips.has_rival(&Shown([2; 32])));
    let chain = tips.chain();
    assert_eq!(chain.tip(), Some(&tip), "the first stays");
    let rival = Parent {
        hash: [12; 32],
        is_in_chain: false,
        ..tip
    };
    assert_eq!(chain.parent(&[12; 32]), Some(&rival));
    // Said again it is there once.
    tips.add_rival(&[header(12, 101, 1)], None);
    assert_eq!(tips.rivals.len(), 1);
    // The chain goes on, on the tip: both have the same grace.
    let mut other = tips.clone();
    assert_eq!(tips.advance(&[header(3, 102, 2)], None, 60), NEW);
    assert_eq!([2, 12].map(|hash| good_until(&tips, hash)), [Some(Some(70)); 2]);
    assert!(!tips.has_rival(&Shown([12; 32])) && !tips.chain().has(&[12; 32]));
    // Or on the rival, and others of its branch were never a tip.
    let branch = [header(13, 102, 12), header(12, 101, 1)];
    assert_eq!(other.advance(&branch, None, 60), losing(1));
    assert_eq!([2, 12].map(|hash| good_until(&other, hash)), [Some(Some(70)); 2]);
    assert!(other.chain().has(&[12; 32]) && !other.chain().has(&[2; 32]));
    assert_eq!(other.left.len(), 1, "it is not among those left");
}

#[test]
fn a_rival_that_its_nodes_leave_keeps_its_grace_and_may_come_back() {
    let mut tips = tips(NodeChainName::Main);
    tips.advance(&[header(2, 101, 1), header(1, 100, 0)], None, 0);
    tips.add_rival(&[header(12, 101, 1)], None);
    tips.add_rival(&[header(22, 101, 1)], None);
    assert!(!tips.keep_rivals(|_| true, 10));
    assert!(tips.keep_rivals(|hash| hash.0 == [22; 32], 20));
    assert_eq!(
        [12, 22].map(|hash| good_until(&tips, hash)),
        [Some(Some(30)), Some(None)]
    );
    tips.add_rival(&[header(12, 101, 1)], None);
    assert_eq!(good_until(&tips, 12), Some(None));
    assert_eq!((tips.rivals.len(), tips.left.len()), (2, 0));
    // It takes the tip's place, which has its grace then, and no block of the chain is a rival.
    assert_eq!(tips.advance(&[header(12, 101, 1)], None, 40), losing(1));
    assert_eq!(
        tips.chain().tip().map(|tip| (tip.hash, tip.is_in_chain)),
        Some(([12; 32], true))
    );
    assert_eq!([2, 22].map(|hash| good_until(&tips, hash)), [Some(Some(50)); 2]);
    tips.add_rival(&[header(12, 101, 1)], None);
    assert!(!tips.has_rival(&Shown([12; 32])));
}

#[test]
fn a_rival_asks_for_what_its_own_branch_does() {
    let rival = |tips: &Tips| *tips.chain().parent(&[12; 32]).expect("it is known");
    // At a retarget its node says what.
    let mut main = tips(NodeChainName::Main);
    let rules = |nbits, min_time| Some(NextRules { nbits, min_time });
    main.advance(&[header(2, 2_015, 1)], rules(0x1b00_aaaa, 7), 0);
    assert!(main.needs_rules(&header(12, 2_015, 1)));
    main.add_rival(&[header(12, 2_015, 1)], rules(0x1b00_bbbb, 8));
    assert_eq!((rival(&main).next_nbits, rival(&main).min_time), (0x1b00_bbbb, 8));
    assert_eq!(main.chain().tip().map(|tip| tip.next_nbits), Some(0x1b00_aaaa));
    // A branch may have fewer blocks of more work, and another subsidy then.
    let mut regtest = tips(NodeChainName::Regtest);
    regtest.advance(&[header(2, 149, 1)], None, 0);
    regtest.add_rival(&[header(12, 148, 1)], None);
    assert_eq!(
        (rival(&regtest).next_height, rival(&regtest).subsidy),
        (149, 5_000_000_000)
    );
    // On testnets the target may stand below it: in a block of the chain, or in one of its branch.
    let least = |mut header: Header| {
        header.bits = Bits(TESTNET_LEAST_NBITS);
        header
    };
    let mut test = tips(NodeChainName::Testnet4);
    test.advance(&[header(2, 102, 1), header(1, 101, 0)], None, 0);
    test.add_rival(&[least(header(12, 102, 1))], None);
    assert_eq!(rival(&test).next_nbits, 0x1c00_ffff);
    test.keep_rivals(|_| false, 0);
    test.add_rival(&[least(header(12, 102, 11)), header(11, 101, 10)], None);
    assert_eq!(rival(&test).next_nbits, 0x1c00_ffff);
}

#[test]
fn what_is_kept_is_bounded() {
    let mut tips = tips(NodeChainName::Signet);
    for n in 0..600_u32 {
        let hash = |n: u32| {
            let mut hash = [0; 32];
            hash[..4].copy_from_slice(&n.to_le_bytes());
            Shown(hash)
        };
        let mut next = header(0, n, 0);
        next.hash = hash(n + 1);
        // Every third block replaces the one before it.
        next.previous = Some(hash(if n % 3 == 0 { n.saturating_sub(1) } else { n }));
        tips.advance(&[next], None, u64::from(n));
        assert!(tips.best.len() <= PARENTS_KNOWN && tips.left.len() <= PARENTS_KNOWN / 2);
    }
}
