//! The bounds: what hits one is refused by reason 30, and nothing that counted before is forgotten.

use super::*;
use crate::work::jobs::SECTION_BYTES;
use crate::work::{
    COINBASE_BUDGET, DUPLICATES_MAX, MINER_EACH_S, MINERS_PER_GATEWAY_MAX, STALE_PARENTS_MAX, WORKERS_PER_PAYEE_MAX,
};

fn refusal(pool: &mut Pool, draft: &Draft) -> Refusal {
    pool.judge(draft).verdict.expect_err("a bound")
}

#[test]
fn the_bound_on_coinbases_refuses_a_good_share_that_may_be_a_block() {
    let mut pool = Pool::of_blocks();
    let mut filler = 0;
    while pool.jobs.bytes() + SECTION_BYTES + 192 <= COINBASE_BUDGET {
        let room = COINBASE_BUDGET - pool.jobs.bytes() - SECTION_BYTES;
        // In whole blocks of SHA-256.
        let kept = room.min(16_640) / 64 * 64;
        let draft = Draft {
            job_id: filler / 6,
            sends_job: filler % 6 == 0,
            coinb1: vec![0; 100],
            // 12 bytes of extranonce, and 9 that SHA-256 appends.
            coinb2: vec![0; kept - 121],
            ..Draft::good()
        };
        pool.judge(&draft.of_class(filler % 6));
        filler += 1;
    }
    let beyond = Draft {
        job_id: 7,
        ..Draft::good()
    }
    .mined();
    let faulty = Draft {
        version: 0,
        ..beyond.clone()
    };
    assert_eq!(
        refusal(&mut pool, &faulty),
        Reason::BadVersion.into(),
        "what is wrong with the share comes first"
    );
    let judged = pool.judge(&beyond);
    assert_eq!(judged.verdict, Err(WorkBound::CoinbaseBudget.into()));
    let candidate = judged.candidate.expect("a block is a block");
    assert_eq!((candidate.header, candidate.hash, candidate.coinbase), beyond.rebuild());
    assert_eq!(candidate.verdict, Err(Reason::Other));
    assert_eq!(
        refusal(&mut pool, &beyond.clone().bare()),
        WorkBound::CoinbaseBudget.into()
    );
    // It was not taken: where another job has given up its room it counts.
    assert_eq!(pool.verdict(&Draft { job_id: 0, ..beyond }), Ok(()));
}

#[test]
fn the_bound_on_duplicates_refuses_and_never_lets_through() {
    let (mut pool, first) = (Pool::new(), Draft::good().mined());
    assert_eq!(pool.verdict(&first), Ok(()));
    for hash in 1..DUPLICATES_MAX as u64 {
        pool.memory.restore_share(&first.parent, hash).expect("room");
    }
    let next = Draft {
        nonce: first.nonce + 1,
        ..first.clone()
    }
    .mined();
    assert_eq!(refusal(&mut pool, &next), WorkBound::Duplicates.into());
    assert_eq!(pool.verdict(&first), Err(Reason::DuplicateWork));
    assert_eq!(
        refusal(&mut pool, &bent(|draft| draft.parent = [1; 32])),
        WorkBound::Duplicates.into()
    );
}

#[test]
fn the_bound_on_stale_parents_refuses_new_ones_alone() {
    let (mut pool, draft) = (Pool::new(), Draft::good().mined());
    let parent = |n: usize| {
        let mut parent = [0x42; 32];
        parent[..8].copy_from_slice(&(n as u64).to_le_bytes());
        parent
    };
    for n in 0..STALE_PARENTS_MAX + PARENTS_ACCEPTED - 1 {
        pool.memory.name_parent(&parent(n)).expect("room");
    }
    assert_eq!(pool.verdict(&draft), Ok(()));
    let beyond = bent(|draft| draft.parent = [1; 32]);
    assert_eq!(refusal(&mut pool, &beyond), WorkBound::StaleParents.into());
    assert_eq!(
        pool.verdict(&bent(|draft| draft.parent = parent(0))),
        Err(Reason::StaleBlock)
    );
    assert_eq!(pool.verdict(&draft), Err(Reason::DuplicateWork), "it is still accepted");
}

#[test]
fn the_bound_on_new_usernames_of_a_gateway_refuses_before_the_share_is_taken() {
    let (mut pool, draft) = (Pool::new(), Draft::good().mined());
    for _ in 0..MINERS_PER_GATEWAY_MAX {
        pool.memory.learn_miner(NOW_S);
    }
    assert_eq!(refusal(&mut pool, &draft), WorkBound::MinersPerGateway.into());
    // Another gateway brings the name.
    pool.miners.learn(USERNAME.as_bytes()).expect("room");
    assert_eq!(pool.verdict(&draft), Ok(()), "the same work was not taken yet");
    assert_eq!(pool.verdict(&draft), Err(Reason::DuplicateWork));
}

/// Months of a large site: as many names come on and on as one is forgiven, however many there were.
#[test]
fn a_gateway_may_bring_another_username_now_and_then_for_ever() {
    let mut pool = Pool::new();
    (0..MINERS_PER_GATEWAY_MAX).for_each(|_| pool.memory.learn_miner(NOW_S));
    for times in 1..=2 * u64::from(MINERS_PER_GATEWAY_MAX) {
        pool.steady_s = NOW_S + times * MINER_EACH_S;
        pool.memory.learn_miner(pool.steady_s);
    }
    let draft = Draft::good().mined();
    assert_eq!(refusal(&mut pool, &draft), WorkBound::MinersPerGateway.into());
    pool.steady_s += MINER_EACH_S - 1;
    assert_eq!(refusal(&mut pool, &draft), WorkBound::MinersPerGateway.into());
    pool.steady_s += 1;
    assert_eq!(pool.verdict(&draft), Ok(()));
}

#[test]
fn the_bound_on_workers_refuses_before_the_share_is_taken() {
    let (mut pool, draft) = (Pool::new(), Draft::good().mined());
    let (address, _) = USERNAME.split_once('.').expect("a worker");
    for worker in 0..WORKERS_PER_PAYEE_MAX {
        pool.miners
            .learn(format!("{address}.{worker}").as_bytes())
            .expect("room");
    }
    assert_eq!(refusal(&mut pool, &draft), WorkBound::WorkersPerPayee.into());
    let known = Draft {
        username: format!("{address}.7").into_bytes(),
        ..draft
    };
    assert_eq!(
        pool.verdict(&known),
        Ok(()),
        "the same work under a known name was not taken yet"
    );
}
