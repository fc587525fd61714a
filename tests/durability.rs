//! What was acknowledged is on disk: at that moment, and after every kill -9 under load.

use std::collections::HashSet;
use std::sync::Barrier;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::pool::gateway::Gateway;
use crate::pool::session::Session;
use crate::pool::work::Template;
use crate::pool::{Pool, wait_until};
use millrace::wire::Reason;

const KILLS: u8 = 10;
const GATEWAYS: usize = 4;

/// Shares that a gateway keeps unanswered.
const IN_FLIGHT: u32 = 64;

/// Acknowledged shares of all gateways after which the process is killed: more each time, so that it happens in the
/// first batches and in later ones.
const KILL_AFTER: u32 = 40;

#[test]
fn a_share_that_was_accepted_is_on_disk_at_that_moment() {
    let pool = Pool::start();
    let mut session = Gateway::new().connect(&pool);
    let template = session.template(0, 1);
    let mut hashes = Vec::new();
    for n in 0..10 {
        let found = template.share(n);
        assert_eq!(session.submit(&found.with_sections()), Ok(()));
        hashes.push(found.hash64());
        // Another process reads the disk beside the running pool.
        assert_eq!(pool.stored(), u64::from(n) + 1);
    }
    assert_eq!(pool.exported_hashes(), hashes);
    pool.assert_verifies();
}

#[test]
fn kill_9_under_load_loses_nothing_that_was_acknowledged() {
    let mut pool = Pool::start();
    let gateways: Vec<_> = (0..GATEWAYS).map(|_| Gateway::new()).collect();
    let mut acknowledged: HashSet<u64> = HashSet::new();
    for round in 1..=KILLS {
        let loads = load_until_killed(&mut pool, &gateways, round);
        for load in &loads {
            for n in &load.acknowledged {
                assert!(
                    acknowledged.insert(load.template.share(*n).hash64()),
                    "a share is acknowledged once"
                );
            }
        }

        pool.assert_verifies();
        let stored = pool.exported_hashes();
        let known: HashSet<u64> = stored.iter().copied().collect();
        assert_eq!(known.len(), stored.len(), "nothing is on disk twice");
        assert_eq!(
            acknowledged.difference(&known).count(),
            0,
            "round {round}: what was acknowledged is on disk"
        );
        assert_eq!(pool.stored(), u64::try_from(stored.len()).expect("a count"));

        pool.restart();
        for (gateway, load) in gateways.iter().zip(&loads) {
            let mut session = gateway.connect(&pool);
            assert!(!load.acknowledged.is_empty(), "every gateway was under way");
            let duplicate = resubmit(&mut session, &load.template, 0..load.sent);
            let on_disk = |n: &u32| known.contains(&load.template.share(*n).hash64());
            let expected: Vec<u32> = (0..load.sent).filter(on_disk).collect();
            assert_eq!(
                duplicate, expected,
                "round {round}: exactly what is on disk is a duplicate"
            );
            // Those that were not on disk count now.
            acknowledged.extend((0..load.sent).map(|n| load.template.share(n).hash64()));
        }
        assert_eq!(pool.stored(), u64::try_from(acknowledged.len()).expect("a count"));
    }
    pool.assert_verifies();
}

/// What one gateway did until its pool was gone.
struct Load {
    template: Template,
    /// Numbers of the shares that were answered `50`.
    acknowledged: Vec<u32>,
    /// Shares sent, numbered from 0.
    sent: u32,
}

/// All gateways submit until the process is killed beneath them.
fn load_until_killed(pool: &mut Pool, gateways: &[Gateway], round: u8) -> Vec<Load> {
    let total = AtomicU32::new(0);
    let ready = Barrier::new(gateways.len() + 1);
    let sessions: Vec<_> = gateways.iter().map(|gateway| gateway.connect(pool)).collect();
    std::thread::scope(|scope| {
        let loads: Vec<_> = sessions
            .into_iter()
            .map(|session| {
                let (total, ready) = (&total, &ready);
                // A parent of its own each round: the fifth last turns stale.
                scope.spawn(move || load(session, round, total, ready))
            })
            .collect();
        ready.wait();
        let enough = KILL_AFTER * u32::from(round);
        wait_until(
            || total.load(Ordering::Relaxed) >= enough,
            || {
                format!(
                    "{} shares are acknowledged, not {enough}",
                    total.load(Ordering::Relaxed)
                )
            },
        );
        pool.kill();
        loads
            .into_iter()
            .map(|load| load.join().expect("the gateway ends with its pool"))
            .collect()
    })
}

fn load(mut session: Session, parent: u8, total: &AtomicU32, ready: &Barrier) -> Load {
    let template = session.template(parent % 8, parent);
    let mut load = Load {
        template: template.clone(),
        acknowledged: Vec::new(),
        sent: 0,
    };
    // The first counts before the load begins, so that the kill finds every gateway with something to lose.
    let mut under_way: Vec<(u32, u32)> = Vec::new();
    loop {
        while under_way.len() < IN_FLIGHT as usize {
            let found = template.share(load.sent);
            session.push(&if load.sent == 0 {
                found.with_sections()
            } else {
                found.bare()
            });
            under_way.push((found.nonce, load.sent));
            load.sent += 1;
        }
        session.flush_unless_closed();
        let Some(answer) = session.answer() else {
            if load.acknowledged.is_empty() {
                ready.wait();
            }
            return load;
        };
        assert_eq!(answer.reason, 0);
        let at = under_way
            .iter()
            .position(|(nonce, _)| *nonce == answer.nonce)
            .expect("an answer to what was sent");
        let (_, n) = under_way.swap_remove(at);
        load.acknowledged.push(n);
        if load.acknowledged.len() == 1 {
            ready.wait();
        }
        total.fetch_add(1, Ordering::Relaxed);
    }
}

/// Sends shares again, all at once: the numbers of those that were duplicates. The others count.
fn resubmit(session: &mut Session, template: &Template, numbers: std::ops::Range<u32>) -> Vec<u32> {
    let shares: Vec<_> = numbers.clone().map(|n| template.share(n)).collect();
    for (n, found) in numbers.clone().zip(&shares) {
        session.push(&if n == 0 { found.with_sections() } else { found.bare() });
    }
    session.flush();
    let mut duplicates = Vec::new();
    for (n, found) in numbers.zip(&shares) {
        match session.verdict(&found.bare()) {
            Ok(()) => {}
            Err(Reason::DuplicateWork) => duplicates.push(n),
            other => panic!("share {n}: {other:?}"),
        }
    }
    duplicates
}
