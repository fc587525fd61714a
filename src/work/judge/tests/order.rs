//! The order of the reasons, and candidates whatever the verdict.

use super::*;

/// A way to be refused. All of them fit into one share.
type Bend = fn(&mut Draft);

/// In the order of protocol section 6.
const BENDS: [(Reason, Bend); 16] = [
    (Reason::BadJobId, |draft| draft.job_id = 8),
    (Reason::BadCoinbaseId, |draft| draft.flags |= Flags::SUBSIDY_ONLY),
    (Reason::BadExtranonce, |draft| draft.extranonce.push(0)),
    (Reason::CoinbaseMissing, |draft| draft.sends_coinbase = false),
    (Reason::CoinbaseIdMismatch, |draft| draft.section_id = 4),
    (Reason::BadMerkleCount, |draft| draft.tx_count = 99),
    (Reason::CoinbaseTooLarge, |draft| draft.coinb2.resize(17_000, 0)),
    (Reason::TargetMismatch, |draft| draft.target_index += 1),
    (Reason::BadCoinbase, |draft| draft.coinb1[0] = 2),
    (Reason::MissingPoolTag, |draft| draft.coinb1[48] ^= 1),
    (Reason::BadTarget, |draft| draft.pot = LEAST_POT - 1),
    (Reason::BadCoinbaseOutputs, |draft| draft.coinb2[16] ^= 1),
    (Reason::BadNtime, |draft| draft.ntime -= 10_000),
    (Reason::BadVersion, |draft| draft.version = 4),
    (Reason::StaleBlock, |draft| draft.parent = STALE),
    (Reason::BadUsername, |draft| draft.username.clear()),
];

/// From here on the share can be rebuilt.
const FIRST_REBUILT: Reason = Reason::BadCoinbase;

const STALE: [u8; 32] = [0x66; 32];

fn pool_with_a_stale_parent(mut pool: Pool) -> Pool {
    pool.memory.name_parent(&STALE).expect("room");
    for parent in 0..PARENTS_ACCEPTED {
        pool.memory.name_parent(&[parent as u8; 32]).expect("room");
    }
    pool
}

/// Sends the share's own sections ahead of it, so that the section it then brings is another's beside a known one.
fn send_own_sections_first(pool: &mut Pool, draft: Draft) -> Draft {
    let own = Draft {
        section_id: draft.coinbase_id,
        version: 0,
        ..draft.clone()
    };
    assert!(pool.judge(&own).verdict.is_err());
    Draft {
        sends_job: false,
        ..draft
    }
}

#[test]
fn the_first_that_fails_gives_the_reason() {
    for first in 0..BENDS.len() {
        let mut draft = Draft::good();
        BENDS[first..].iter().for_each(|(_, bend)| bend(&mut draft));
        let mut pool = pool_with_a_stale_parent(Pool::new());
        let mut draft = draft.unmined();
        if BENDS[first].0 == Reason::CoinbaseIdMismatch {
            draft = send_own_sections_first(&mut pool, draft);
        }
        assert_eq!(pool.verdict(&draft), Err(high_hash_before(BENDS[first].0)));
    }
}

/// The one reason that is no bend: the hash of these shares is too high, which comes before the username.
fn high_hash_before(reason: Reason) -> Reason {
    if reason == Reason::BadUsername {
        Reason::HighHash
    } else {
        reason
    }
}

#[test]
fn each_alone_gives_its_reason() {
    for (reason, bend) in BENDS {
        let mut pool = pool_with_a_stale_parent(Pool::new());
        let mut draft = bent(bend);
        if reason == Reason::CoinbaseIdMismatch {
            draft = send_own_sections_first(&mut pool, draft);
        }
        assert_eq!(pool.verdict(&draft), Err(reason));
    }
}

#[test]
fn a_duplicate_is_named_last() {
    let bends_of_the_same_work: [(Reason, Bend); 2] = [
        (Reason::BadUsername, |draft| draft.username.clear()),
        (Reason::CoinbaseIdMismatch, |draft| {
            (draft.section_id, draft.sends_job) = (4, false);
        }),
    ];
    let (mut pool, draft) = (Pool::new(), Draft::good().mined());
    assert_eq!(pool.verdict(&draft), Ok(()));
    for (reason, bend) in bends_of_the_same_work {
        let mut again = draft.clone();
        bend(&mut again);
        assert_eq!(pool.verdict(&again), Err(reason));
    }
    assert_eq!(pool.verdict(&draft), Err(Reason::DuplicateWork));
}

#[test]
fn a_block_is_a_candidate_whatever_its_verdict() {
    let from = BENDS
        .iter()
        .position(|(reason, _)| *reason == FIRST_REBUILT)
        .expect("it is there");
    let rebuilt_all_the_same: [(Reason, Bend); 2] = [
        (Reason::BadMerkleCount, |draft| draft.tx_count = 99),
        (Reason::TargetMismatch, |draft| draft.target_index += 1),
    ];
    for (reason, bend) in BENDS[from..].iter().chain(&rebuilt_all_the_same) {
        let mut pool = pool_with_a_stale_parent(Pool::of_blocks());
        let draft = bent(bend);
        let judged = pool.judge(&draft);
        assert_eq!(judged.verdict, Err((*reason).into()));
        assert_is_candidate(judged, &draft, Err(*reason));
    }
    let mut pool = Pool::of_blocks();
    let unmined = Draft::good().unmined();
    assert_is_candidate(pool.judge(&unmined), &unmined, Err(Reason::HighHash));
    let good = Draft {
        flags: Flags::BLOCK,
        ..Draft::good()
    }
    .mined();
    assert_is_candidate(pool.judge(&good), &good, Ok(()));
    // The coinbase came before, and the section that came with it is another's.
    let mismatch = Draft {
        section_id: 4,
        sends_job: false,
        nonce: 999,
        ..Draft::good()
    }
    .mined();
    assert_is_candidate(pool.judge(&mismatch), &mismatch, Err(Reason::CoinbaseIdMismatch));
    let subsidy_only = Draft::subsidy_only().mined();
    assert_is_candidate(pool.judge(&subsidy_only), &subsidy_only, Ok(()));
}

fn assert_is_candidate(judged: Judged, draft: &Draft, verdict: Result<(), Reason>) {
    let (header, hash, coinbase) = draft.rebuild();
    let subsidy_only = draft.flags & Flags::SUBSIDY_ONLY != 0;
    let expected = Candidate {
        hash,
        header,
        coinbase,
        branches: if subsidy_only {
            Vec::new()
        } else {
            draft.branches.clone()
        },
        height: draft.height,
        value: draft.value,
        tx_count: draft.tx_count,
        job_id: draft.job_id,
        coinbase_id: draft.coinbase_id,
        flags: draft.flags,
        target_pot: draft.pot,
        verdict,
        username: draft.username.clone(),
        booking: match verdict {
            Err(
                Reason::TargetMismatch
                | Reason::BadCoinbase
                | Reason::MissingPoolTag
                | Reason::BadCoinbaserId
                | Reason::BadCoinbaseOutputs,
            ) => Booking::ByHand { told: None },
            _ => Booking::WithoutPayouts,
        },
        dictated: None,
    };
    assert_eq!(judged.candidate, Some(Box::new(expected)));
}

#[test]
fn the_flag_of_a_block_makes_none() {
    let draft = Draft {
        flags: Flags::BLOCK,
        ..Draft::good()
    };
    assert!(Pool::new().judge(&draft.clone().mined()).candidate.is_none());
    assert!(
        Pool::of_blocks()
            .judge(&Draft { flags: 0, ..draft }.mined())
            .candidate
            .is_some()
    );
}

#[test]
fn a_candidate_that_comes_again_is_not_reported_again() {
    let (mut pool, draft) = (Pool::of_blocks(), Draft::good().mined());
    assert!(pool.judge(&draft).candidate.is_some());
    assert!(pool.judge(&draft).candidate.is_none());
    pool.reconnect();
    assert!(
        pool.judge(&Draft {
            job_id: 5,
            ..draft.clone()
        })
        .candidate
        .is_none()
    );
    let next = Draft {
        nonce: draft.nonce + 1,
        ..draft.bare()
    }
    .mined();
    assert!(pool.judge(&Draft { job_id: 5, ..next }).candidate.is_some());
}
