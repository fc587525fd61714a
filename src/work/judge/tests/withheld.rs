//! Work of a gateway that does not show its templates, and of one that had a bad one.

use super::*;
use crate::work::{Checked, CoinbaseRoom, Finding, OwnTemplate, TemplateBody, TemplateChoice, TemplateId, UNSHOWN_MAX};

/// A session of a pool with a node, which checks nothing but what it must. Jobs are counted from `first`.
fn session(first: u64) -> Jobs {
    Jobs::checked(TemplateChoice::new(0, 7), first)
}

fn checked(draft: &Draft, number: u64, found: Finding) -> Checked {
    Checked {
        gateway: [1; 32],
        slot: draft.job_id,
        number,
        template: TemplateId::of(&draft.parent, &draft.branches),
        tx_count: draft.tx_count,
        found,
    }
}

#[test]
fn what_is_not_shown_counts_no_more_until_it_is() {
    let mut pool = Pool::new();
    pool.jobs = session(0);
    let first = Draft::good().mined();
    let claim = pool.judge(&first).claim.expect("the first of a session");
    assert_eq!(
        (claim.number, claim.template()),
        (1, checked(&first, 1, Finding::Unjudged).template)
    );
    for _ in 0..UNSHOWN_MAX {
        let unshown = checked(&first, 1, Finding::Unshown("".into()));
        pool.memory.templates.note(&unshown, true);
    }
    assert!(pool.jobs.withhold(first.job_id, 1));
    let second = next(&first);
    let judged = pool.judge(&second);
    let refusal = judged.verdict.expect_err("it is withheld");
    assert_eq!(
        (refusal.reason, refusal.bound),
        (Reason::BadCoinbase, Some(WorkBound::Unshown))
    );
    assert!(judged.claim.is_none(), "this one was looked at");

    // Its next session has the same template: no share counts, and each that would has somebody look, once.
    pool.jobs = session(100);
    let mut cheap = first.clone();
    cheap.pot = LEAST_POT - 1;
    let judged = pool.judge(&cheap);
    assert_eq!(judged.verdict.map_err(|refusal| refusal.bound), Err(None));
    assert!(judged.claim.is_none(), "one that costs nothing has nobody look");
    let judged = pool.judge(&second);
    assert_eq!(
        judged.verdict.map_err(|refusal| refusal.bound),
        Err(Some(WorkBound::Unshown))
    );
    let claim = judged.claim.expect("one that would count has");
    assert!(pool.judge(&second).claim.is_none());
    let room = CoinbaseRoom::beside(&TemplateBody::new(Vec::new()));
    pool.memory
        .templates
        .note(&checked(&first, claim.number, Finding::Shown(room)), true);
    assert!(!pool.memory.templates.is_withheld());
}

#[test]
fn work_that_came_before_our_template_is_looked_at_when_it_turns_out_to_be_odd() {
    for (fees, odd) in [(0, false), (50_000_000, true)] {
        let mut pool = Pool::new();
        pool.jobs = session(0);
        let first = Draft::good().mined();
        assert!(pool.judge(&first).claim.is_some(), "the first of a session");
        let job = Draft {
            job_id: first.job_id + 1,
            nonce: first.nonce + 1,
            ..Draft::good()
        };
        let job = job.mined();
        let judged = pool.judge(&job);
        assert!(
            judged.verdict.is_ok() && judged.claim.is_none(),
            "nothing is known of it"
        );
        let own = OwnTemplate {
            parent: job.parent,
            subsidy: Chain::subsidy(job.height),
            value: job.value + fees,
        };
        pool.own_template = Some(own);
        let second = next(&job);
        let judged = pool.judge(&second);
        assert!(judged.verdict.is_ok());
        assert_eq!(
            (judged.claim.is_some(), pool.jobs.is_odd(job.job_id)),
            (odd, odd),
            "{fees}"
        );
        assert!(pool.judge(&next(&second)).claim.is_none(), "once");
    }
}

#[test]
fn a_condemned_template_is_refused_in_the_next_session() {
    let mut pool = Pool::new();
    pool.jobs = session(0);
    let first = Draft::good().mined();
    assert!(pool.judge(&first).claim.is_some());
    let condemned = checked(&first, 1, Finding::Condemned("".into()));
    pool.memory.templates.note(&condemned, true);
    assert_eq!(pool.jobs.condemn(&condemned.template), 1);
    assert_eq!(pool.verdict(&next(&first)), Err(Reason::BadCoinbase));
    pool.jobs = session(100);
    let again = Draft {
        nonce: first.nonce + 2,
        job_id: first.job_id + 1,
        ..first.clone()
    }
    .mined();
    let judged = pool.judge(&again);
    assert_eq!(
        judged.verdict.map_err(|refusal| refusal.reason),
        Err(Reason::BadCoinbase)
    );
    assert!(judged.claim.is_none(), "that is known");
    // Each other one is looked at from now on.
    for (at, byte) in [0xd1, 0xd2].into_iter().enumerate() {
        let mut other = Draft::good();
        other.branches[0] = [byte; 32];
        other.nonce = 1_000 * at as u32;
        let judged = pool.judge(&other.mined());
        assert!(judged.verdict.is_ok() && judged.claim.is_some());
    }
}

#[test]
fn subsidy_only_work_needs_nobody_to_see_a_template() {
    let mut pool = Pool::new();
    pool.jobs = session(0);
    let unshown = checked(&Draft::good(), 1, Finding::Unshown("".into()));
    for _ in 0..UNSHOWN_MAX {
        pool.memory.templates.note(&unshown, true);
    }
    let share = Draft::subsidy_only().mined();
    assert_eq!(pool.verdict(&share), Ok(()));
}
