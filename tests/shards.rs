//! A gateway belongs to one shard, whichever of them its connection reaches: all it did before is known there, and
//! nothing of what came behind its HELLO is lost on the way.

use std::collections::HashSet;

use crate::pool::Pool;
use crate::pool::gateway::Gateway;
use millrace::wire::Reason;

const SHARDS: usize = 3;

fn pool() -> Pool {
    Pool::with(&["--shards", "3"])
}

/// A metric by shard.
fn by_shard(pool: &Pool, name: &str) -> Vec<u64> {
    (0..SHARDS)
        .map(|shard| pool.metric(name, &[&format!("shard=\"{shard}\"")]))
        .collect()
}

#[test]
fn one_gateway_finds_its_state_wherever_it_connects() {
    let pool = pool();
    let gateway = Gateway::new();
    let mut first = gateway.connect(&pool);
    let template = first.template(0, 1);
    assert_eq!(first.submit(&template.share(0).with_sections()), Ok(()));
    drop(first);
    let mut owner = None;
    let mut n = 1_u32;
    // The kernel spreads connections as it likes; go on until every shard has taken some of this gateway's.
    while n < 200 && (n < 10 || by_shard(&pool, "millrace_connections_accepted_total").contains(&0)) {
        let mut session = gateway.connect(&pool);
        // All shares before, and work under the first session's prime_id.
        for known in n.saturating_sub(3)..n {
            assert_eq!(
                session.submit(&template.share(known).with_sections()),
                Err(Reason::DuplicateWork)
            );
        }
        assert_eq!(session.submit(&template.share(n).with_sections()), Ok(()));
        n += 1;

        let accepted = by_shard(&pool, "millrace_shares_accepted_total");
        let on: Vec<usize> = (0..SHARDS).filter(|shard| accepted[*shard] > 0).collect();
        assert_eq!(on.len(), 1, "one shard owns the gateway: {accepted:?}");
        assert_eq!(*owner.get_or_insert(on[0]), on[0]);
        assert_eq!(accepted[on[0]], u64::from(n));
    }
    let accepted = by_shard(&pool, "millrace_connections_accepted_total");
    assert!(!accepted.contains(&0), "every shard accepts connections: {accepted:?}");
    assert_eq!(by_shard(&pool, "millrace_gateways").iter().sum::<u64>(), 1);
    assert_eq!(pool.stored(), u64::from(n));
}

#[test]
fn what_came_behind_hello_moves_with_the_connection() {
    let pool = pool();
    let gateway = Gateway::new();
    let mut session = gateway.connect(&pool);
    session.assert_works(0);
    let template = session.template(0, 1);
    let mut key = session.key.clone();
    drop(session);
    let mut n = 0;
    for round in 0_u32..30 {
        let mut greeting = gateway.greet(&pool);
        greeting.push_hello();
        // From a few bytes to more than any shard reads at once; on some the last frame is cut off in HELLO's write.
        let first = n;
        for share in 0..round * 4 {
            let found = template.share(n);
            greeting.push_early(
                &key,
                &if share == 0 {
                    found.with_sections()
                } else {
                    found.bare()
                },
            );
            n += 1;
        }
        greeting.flush_in_two(round as usize * 131);
        let mut session = greeting.finish();
        for share in first..n {
            assert_eq!(session.verdict(&template.share(share).bare()), Ok(()), "round {round}");
        }
        session.assert_works(round + 1);
        key = session.key.clone();
    }
    assert_eq!(
        pool.metric("millrace_early_frames_total", &["outcome=\"opened\""]),
        u64::from(n)
    );
    assert_eq!(pool.metric("millrace_early_frames_total", &["outcome=\"skipped\""]), 0);
    assert_eq!(pool.stored(), u64::from(n) + 31);
}

#[test]
fn gateways_are_spread_over_the_shards_and_keep_apart() {
    let pool = pool();
    let gateways: Vec<_> = (0..24).map(|_| Gateway::new()).collect();
    let mut sessions: Vec<_> = gateways.iter().map(|gateway| gateway.connect(&pool)).collect();
    let prime_ids: HashSet<u32> = sessions.iter().map(|session| session.prime_id()).collect();
    assert_eq!(
        prime_ids.len(),
        sessions.len(),
        "no two sessions have one prime_id, on different shards either"
    );
    for session in &mut sessions {
        session.assert_works(0);
    }
    let owned = by_shard(&pool, "millrace_gateways");
    assert_eq!(owned.iter().sum::<u64>(), 24);
    // That one shard gets none of 24 happens once in 5,000 runs; that one gets all never.
    assert!(owned.iter().all(|count| *count < 24), "{owned:?}");
    assert_eq!(by_shard(&pool, "millrace_sessions"), owned);
    assert_eq!(by_shard(&pool, "millrace_shares_accepted_total"), owned);
}

#[test]
fn state_is_found_again_after_a_kill_with_another_number_of_shards() {
    let mut pool = pool();
    let gateways: Vec<_> = (0..6).map(|_| Gateway::new()).collect();
    let templates: Vec<_> = gateways
        .iter()
        .map(|gateway| {
            let mut session = gateway.connect(&pool);
            let template = session.template(0, 1);
            assert_eq!(session.submit(&template.share(0).with_sections()), Ok(()));
            template
        })
        .collect();
    for shards in ["1", "2", "3"] {
        pool.kill();
        pool.restart_with(&["--shards", shards]);
        for (gateway, template) in gateways.iter().zip(&templates) {
            let mut session = gateway.connect(&pool);
            assert_eq!(
                session.submit(&template.share(0).with_sections()),
                Err(Reason::DuplicateWork)
            );
        }
    }
    assert_eq!(pool.stored(), 6);
    pool.assert_verifies();
}
