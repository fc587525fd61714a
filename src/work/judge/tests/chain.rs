//! A chain that a node knows: what it asks of work, and work on a parent that it has not seen.

use super::*;
use crate::work::{BlockFacts, NetworkKind, Parent};

const TIP: [u8; 32] = [0x11; 32];
const OLD: [u8; 32] = [0x22; 32];
const UNSEEN: [u8; 32] = [0x33; 32];

/// Every second hash is a block.
const NBITS: u32 = 0x207f_ffff;

/// A pool on a chain whose tip asks for what good drafts have.
fn pool() -> Pool {
    let good = Draft::good();
    let tip = Parent {
        hash: TIP,
        next_height: good.height,
        next_nbits: NBITS,
        easy_after_s: None,
        min_time: good.ntime,
        subsidy: Chain::subsidy(good.height),
        good_until_s: None,
        is_in_chain: true,
    };
    let old = Parent {
        hash: OLD,
        next_height: good.height - 1,
        good_until_s: Some(NOW_S),
        ..tip
    };
    Pool {
        // As far above the real ones as the dev chain's, or no test would find a share.
        chain: Chain::of_node(NetworkKind::Main, 32, &[tip, old]),
        miners: Miners::new([5; 16], Some(NetworkKind::Main)),
        ..Pool::new()
    }
}

fn on(parent: [u8; 32], with: impl FnOnce(&mut Draft)) -> Draft {
    bent(|draft| {
        (draft.parent, draft.nbits) = (parent, NBITS);
        with(draft);
    })
}

/// Another height, in the job and in the coinbase.
fn rise(draft: &mut Draft, blocks: i32) {
    draft.height = draft.height.saturating_add_signed(blocks);
    draft.cook(&Recipe {
        height: draft.height,
        ..Recipe::good()
    });
}

#[test]
fn work_on_the_tip_counts() {
    let accepted = pool().judge(&on(TIP, |_| {})).verdict.expect("a good share");
    assert_eq!((accepted.parent, accepted.waits_for), (TIP, None));
}

#[test]
fn what_the_node_does_not_ask_for_is_refused_by_reason() {
    let refused = |parent, with: fn(&mut Draft)| pool().verdict(&on(parent, with));
    assert_eq!(refused(OLD, |draft| rise(draft, -1)), Err(Reason::StaleBlock));
    assert_eq!(refused(TIP, |draft| rise(draft, 1)), Err(Reason::BadCoinbase));
    assert_eq!(refused(TIP, |draft| draft.ntime -= 1), Err(Reason::BadNtime));
    assert_eq!(refused(TIP, |draft| draft.nbits -= 1), Err(Reason::Other));
    // An address of another network than the chain's.
    let regtest = "bcrt1qft5p2uhsdcdc3l2ua4ap5qqfg4pjaqlp250x7us7a8qqhrxrxfsqseac85";
    let mut draft = on(TIP, |_| {});
    draft.username = regtest.into();
    assert_eq!(pool().verdict(&draft), Err(Reason::BadUsername));
}

#[test]
fn where_targets_are_real_the_top_word_is_zero_first() {
    let mut pool = pool();
    let tip = *pool.chain.tip().expect("a tip");
    pool.chain = Chain::of_node(NetworkKind::Main, 0, &[tip]);
    let mut draft = on(TIP, |_| {});
    assert_eq!(pool.verdict(&draft), Err(Reason::HNotZero));
    draft.username = b"nobody".to_vec();
    assert_eq!(pool.verdict(&draft), Err(Reason::HNotZero));
}

#[test]
fn work_on_a_parent_not_seen_waits_and_is_known_again() {
    let mut pool = pool();
    let draft = on(UNSEEN, |_| {});
    let accepted = pool.judge(&draft).verdict.expect("it may count");
    let facts = BlockFacts {
        nbits: NBITS,
        height: draft.height,
        value: draft.value,
        ntime: draft.ntime,
    };
    assert_eq!(accepted.waits_for, Some(facts));
    assert_eq!(pool.verdict(&draft), Err(Reason::DuplicateWork));
    // Its node comes to see it: what waited is confirmed by the same rules.
    let tip = *pool.chain.tip().expect("a tip");
    let seen = Parent { hash: UNSEEN, ..tip };
    let chain = Chain::of_node(NetworkKind::Main, 32, &[seen, tip]);
    assert_eq!(chain.confirm(&seen, &facts), Ok(()));
    let confirm = |facts| chain.confirm(&seen, &facts);
    let height = facts.height + 1;
    assert_eq!(confirm(BlockFacts { height, ..facts }), Err(Reason::BadCoinbase));
    let value = Chain::subsidy(facts.height) + 50_000_000_001;
    assert_eq!(confirm(BlockFacts { value, ..facts }), Err(Reason::BadCoinbase));
    let ntime = facts.ntime - 1;
    assert_eq!(confirm(BlockFacts { ntime, ..facts }), Err(Reason::BadNtime));
    assert_eq!(
        confirm(BlockFacts {
            nbits: 0x1d00_ffff,
            ..facts
        }),
        Err(Reason::Other)
    );
}

#[test]
fn no_more_may_wait_than_there_is_room_for() {
    let mut pool = pool();
    pool.may_wait = false;
    let refused = pool.judge(&on(UNSEEN, |_| {})).verdict.expect_err("no room");
    assert_eq!(refused, WorkBound::Waiting.into());
    assert_eq!(pool.verdict(&on(TIP, |_| {})), Ok(()));
}

#[test]
fn a_candidate_meets_the_target_of_its_parent_and_not_of_its_job() {
    let is_candidate = |parent, nbits| {
        let draft = on(parent, |draft| draft.nbits = nbits);
        let mut hash = draft.rebuild().1;
        hash.reverse();
        (pool().judge(&draft).candidate.is_some(), hash[0] < 0x80)
    };
    // What the job asks for is less than any hash meets, or more.
    for nbits in [NBITS, 0x0100_0001, 0x1d00_ffff] {
        let (candidate, meets) = is_candidate(TIP, nbits);
        assert_eq!(candidate, meets);
    }
    let (candidate, meets) = is_candidate(UNSEEN, NBITS);
    assert_eq!(candidate, meets);
    assert!(!is_candidate(UNSEEN, 0x0100_0001).0);
}

/// The chain has this tip now, and has left these.
fn move_tip(pool: &mut Pool, hash: [u8; 32], left: &[[u8; 32]]) {
    let former = *pool.chain.tip().expect("a tip");
    let left = left.iter().map(|hash| Parent {
        hash: *hash,
        good_until_s: Some(NOW_S),
        ..former
    });
    let parents: Vec<Parent> = [Parent { hash, ..former }].into_iter().chain(left).collect();
    pool.chain = Chain::of_node(NetworkKind::Main, 32, &parents);
}

#[test]
fn a_chain_that_comes_back_finds_the_duplicates_of_its_parent() {
    let mut pool = pool();
    let taken = on(TIP, |_| {});
    assert_eq!(pool.verdict(&taken), Ok(()));
    move_tip(&mut pool, OLD, &[TIP]);
    assert_eq!(pool.verdict(&on(OLD, |_| {})), Ok(()));
    move_tip(&mut pool, TIP, &[OLD]);
    assert_eq!(pool.verdict(&taken), Err(Reason::DuplicateWork));
    assert_eq!(pool.verdict(&on(TIP, |draft| draft.nonce = 9_000)), Ok(()));
    // What the gateway names beside the tip, and no node has seen, does not push it out.
    for unseen in 0x80..0x90 {
        pool.verdict(&on([unseen; 32], |_| {})).expect("it may count");
    }
    assert_eq!(pool.verdict(&taken), Err(Reason::DuplicateWork));
    assert_eq!(pool.verdict(&on(TIP, |draft| draft.nonce = 9_500)), Ok(()));
}

/// A pool whose chain left a parent for so many others that it was forgotten, and came back to it; and a share on that parent.
fn back_at_the_tip() -> (Pool, Draft) {
    let mut pool = pool();
    let taken = on(TIP, |_| {});
    assert_eq!(pool.verdict(&taken), Ok(()));
    let mut left = vec![TIP];
    for tip in 0x80..0x80 + PARENTS_ACCEPTED as u8 {
        move_tip(&mut pool, [tip; 32], &left);
        assert_eq!(pool.verdict(&on([tip; 32], |draft| draft.job_id = 7)), Ok(()));
        assert_eq!(pool.verdict(&taken.clone().bare()), Err(Reason::StaleBlock));
        left.push([tip; 32]);
    }
    assert!(!pool.memory.accepts_parent(&TIP), "there was no room for it");
    move_tip(&mut pool, TIP, &left[1..]);
    (pool, taken)
}

#[test]
fn a_chain_that_comes_back_to_a_parent_long_left_takes_work_once_its_duplicates_were_read() {
    let (mut pool, taken) = back_at_the_tip();
    let of_before = on(TIP, |draft| draft.nonce = 9_000);
    assert_eq!(pool.verdict(&taken), Err(Reason::StaleBlock));
    let wanted = pool.memory.begin_reload(1).expect("due");
    assert_eq!((wanted.parent, wanted.prime_ids), (TIP, vec![PRIME_ID]));
    assert_eq!(pool.verdict(&taken), Err(Reason::StaleBlock));
    assert_eq!(pool.verdict(&of_before), Err(Reason::StaleBlock));
    let (_, hash, _) = taken.rebuild();
    assert!(pool.memory.end_reload(1, Some(&[hash64(&hash)]), |_| true));
    assert_eq!(pool.verdict(&taken), Err(Reason::DuplicateWork));
    assert_eq!(pool.verdict(&of_before), Ok(()));
    assert_eq!(pool.verdict(&of_before), Err(Reason::DuplicateWork));
}

#[test]
fn a_parent_long_left_whose_duplicates_cannot_be_read_takes_work_under_new_terms_alone() {
    let (mut pool, taken) = back_at_the_tip();
    assert_eq!(pool.verdict(&taken), Err(Reason::StaleBlock));
    pool.memory.begin_reload(1).expect("due");
    assert!(!pool.memory.end_reload(1, None, |_| true));
    // Nobody knows which work under these terms was taken.
    for nonce in [taken.nonce, 9_000] {
        let refused = pool.judge(&on(TIP, |draft| draft.nonce = nonce)).verdict;
        assert_eq!(refused, Err(WorkBound::ForgottenDuplicates.into()));
    }
    assert!(pool.memory.needs_new_terms(PRIME_ID));
    pool.reconnect();
    pool.memory.learn_terms(terms(9, LEAST_POT), NOW_S);
    assert!(!pool.memory.needs_new_terms(9));
    let next = on(TIP, |draft| {
        draft.cook(&Recipe {
            prime_id: 9,
            ..Recipe::good()
        });
    });
    assert_eq!(pool.verdict(&next), Ok(()));
    assert_eq!(pool.verdict(&next), Err(Reason::DuplicateWork));
    assert_eq!(pool.judge(&taken).verdict, Err(WorkBound::ForgottenDuplicates.into()));
}

#[test]
fn testnets_take_a_block_of_the_least_difficulty() {
    let mut pool = pool();
    let good = Draft::good();
    let tip = *pool.chain.tip().expect("a tip");
    let easy_after = |after_s| {
        let tip = Parent {
            next_nbits: 0x1c00_ffff,
            easy_after_s: Some(after_s),
            ..tip
        };
        Chain::of_node(NetworkKind::Test, 32, &[tip])
    };
    pool.miners = Miners::new([5; 16], None);
    pool.chain = easy_after(good.ntime);
    assert_eq!(
        pool.verdict(&on(TIP, |draft| draft.nbits = 0x1d00_ffff)),
        Err(Reason::Other)
    );
    pool.chain = easy_after(good.ntime - 1);
    assert_eq!(pool.verdict(&on(TIP, |draft| draft.nbits = 0x1d00_ffff)), Ok(()));
    assert_eq!(pool.verdict(&on(TIP, |draft| draft.nbits = 0x1c00_ffff)), Ok(()));
    assert_eq!(
        pool.verdict(&on(TIP, |draft| draft.nbits = 0x1c00_fffe)),
        Err(Reason::Other)
    );
}
