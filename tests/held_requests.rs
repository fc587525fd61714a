//! A request for a split that had to wait for the pool is answered in time or not at all, and never twice: the gateway would
//! take a late answer for that to its next request.

use std::fs::File;
use std::time::Duration;

use millrace::wire::CoinbaserRequest;
use tempfile::TempDir;

use crate::pool::gateway::Gateway;
use crate::pool::preload;
use crate::pool::session::Session;
use crate::pool::split::{DIFFICULTY_POT, ask, ask_until, work};
use crate::pool::work::SUBSIDY;
use crate::pool::{Launch, Pool, wait_until};

/// What a gateway waits for a split.
const GATEWAY_WAITS: Duration = Duration::from_secs(5);

/// Several times what the ring holds.
const SHARES: u32 = 300;

const VALUE: u64 = SUBSIDY + 1;

fn request(session: &mut Session) {
    session.send(&CoinbaserRequest {
        value: VALUE,
        prev_block_hash: &[1; 32],
        padding: &[0],
    });
}

#[test]
fn what_lay_unread_while_the_disk_stalled_is_not_answered_late_and_the_next_is_answered_once() {
    let folder = TempDir::new().expect("a folder");
    let (env, stall) = preload::stalling_disk(folder.path());
    let pool = Pool::launch(Launch {
        env,
        ..Launch::config("[ledger]\nring_entries = 64\n[chain]\nnetwork_difficulty = 65536\n")
    });
    let mut session = Gateway::new().connect(&pool);
    work(&mut session);
    let before = ask_until(&mut session, 1, 3);

    let template = session.template(0, 1);
    let shares: Vec<_> = (100..100 + SHARES)
        .map(|n| template.draft(n).mine_below(DIFFICULTY_POT))
        .collect();
    let full = || pool.metric("millrace_bound_hits_total", &["bound=\"ring_full\""]);
    let full_before = full();
    File::create(&stall).expect("a file of the test's");
    session.push(&shares[0].with_sections());
    shares[1..].iter().for_each(|share| session.push(&share.bare()));
    session.flush();
    wait_until(|| full() > full_before, || pool.metrics());
    // It is not read now. The gateway gives up, and asks the same again.
    request(&mut session);
    std::thread::sleep(GATEWAY_WAITS + Duration::from_millis(500));
    request(&mut session);
    std::fs::remove_file(&stall).expect("a file of the test's");
    // No split comes between the verdicts.
    for share in &shares {
        assert_eq!(session.verdict(&share.bare()), Ok(()));
    }
    pool.wait_for_metric("millrace_splits_unsaid_total", &["reason=\"late\""], 1);

    let after = ask(&mut session, VALUE, 1);
    assert_eq!(
        after.coinbaser_id,
        before.coinbaser_id + 1,
        "nothing was dictated in vain"
    );
    let last = ask(&mut session, VALUE, 1);
    assert_eq!(last.coinbaser_id, after.coinbaser_id + 1, "one answer for each request");
}

#[test]
fn nor_is_what_came_while_the_pool_had_no_turn() {
    let pool = Pool::launch(Launch::config("[chain]\nnetwork_difficulty = 65536\n"));
    let mut session = Gateway::new().connect(&pool);
    work(&mut session);
    let before = ask_until(&mut session, 1, 3);
    pool.signal("STOP");
    request(&mut session);
    std::thread::sleep(GATEWAY_WAITS + Duration::from_millis(500));
    pool.signal("CONT");
    pool.wait_for_metric("millrace_splits_unsaid_total", &["reason=\"late\""], 1);
    for round in 1..=2 {
        let after = ask(&mut session, VALUE, 1);
        assert_eq!(
            after.coinbaser_id,
            before.coinbaser_id + round,
            "one answer for each request"
        );
    }
}
