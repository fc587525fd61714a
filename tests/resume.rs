//! Work in flight outlives its connection: a gateway that reconnects, to the same process or to one that took its
//! place, goes on with its old jobs under its old `prime_id`, and nothing counts twice.

use crate::pool::gateway::Gateway;
use crate::pool::session::Session;
use crate::pool::work::Template;
use crate::pool::{Launch, Pool};
use millrace::wire::Reason;

/// What happens between two connections.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Between {
    Nothing,
    Kill,
    Stop,
}

impl Between {
    fn happen(self, pool: &mut Pool) {
        match self {
            Self::Nothing => {}
            Self::Kill => {
                pool.kill();
                pool.restart();
            }
            Self::Stop => {
                assert!(pool.terminate().success());
                pool.restart();
            }
        }
    }
}

const ALL: [Between; 3] = [Between::Nothing, Between::Kill, Between::Stop];

fn counts(session: &mut Session, template: &Template, n: u32) {
    assert_eq!(session.submit(&template.share(n).with_sections()), Ok(()), "share {n}");
}

fn refused(session: &mut Session, template: &Template, n: u32, reason: Reason) {
    assert_eq!(
        session.submit(&template.share(n).with_sections()),
        Err(reason),
        "share {n}"
    );
}

#[test]
fn old_jobs_count_in_new_sessions_once() {
    for between in ALL {
        let mut pool = Pool::start();
        let gateway = Gateway::new();
        let mut first = gateway.connect(&pool);
        let template = first.template(3, 1);
        for n in 0..3 {
            counts(&mut first, &template, n);
        }
        drop(first);
        between.happen(&mut pool);

        let mut second = gateway.connect(&pool);
        assert_ne!(second.prime_id(), 0);
        // Its sections are sent again, with the old prime_id.
        counts(&mut second, &template, 3);
        assert_eq!(second.submit(&template.share(4).bare()), Ok(()));
        for n in 0..5 {
            refused(&mut second, &template, n, Reason::DuplicateWork);
        }
        let fresh = second.template(4, 1);
        counts(&mut second, &fresh, 0);
        drop(second);
        between.happen(&mut pool);

        // And in the session after that, for the work of both.
        let mut third = gateway.connect(&pool);
        for (template, known) in [(&template, 5), (&fresh, 1)] {
            for n in 0..known {
                refused(&mut third, template, n, Reason::DuplicateWork);
            }
            counts(&mut third, template, 10);
        }
        assert_eq!(pool.stored(), 8, "{between:?}");
        pool.assert_verifies();
    }
}

#[test]
fn a_session_that_proved_itself_by_a_refused_share_is_resumed_too() {
    for between in ALL {
        let mut pool = Pool::start();
        let gateway = Gateway::new();
        let mut first = gateway.connect(&pool);
        let template = first.template(0, 1);
        assert_eq!(first.submit(&template.share(0).bare()), Err(Reason::BadJobId));
        // One that counts makes it certain that what was pushed before it is on disk.
        Gateway::new().connect(&pool).assert_works(0);
        drop(first);
        between.happen(&mut pool);
        let mut second = gateway.connect(&pool);
        counts(&mut second, &template, 0);
    }
}

#[test]
fn another_gateways_prime_id_is_refused() {
    for between in ALL {
        let mut pool = Pool::start();
        let (honest, thief) = (Gateway::new(), Gateway::new());
        let mut session = honest.connect(&pool);
        let template = session.template(0, 1);
        counts(&mut session, &template, 0);
        let mut stealing = thief.connect(&pool);
        refused(&mut stealing, &template, 1, Reason::MissingPoolTag);
        drop((session, stealing));
        between.happen(&mut pool);

        let mut stealing = thief.connect(&pool);
        for n in 0..2 {
            refused(&mut stealing, &template, n, Reason::MissingPoolTag);
        }
        let mut session = honest.connect(&pool);
        counts(&mut session, &template, 1);
        assert_eq!(pool.stored(), 2);
    }
}

#[test]
fn parents_stay_stale() {
    for between in ALL {
        let mut pool = Pool::start();
        let gateway = Gateway::new();
        let mut session = gateway.connect(&pool);
        let templates: Vec<_> = (1..=6).map(|parent| session.template(parent, parent)).collect();
        for template in &templates {
            counts(&mut session, template, 0);
        }
        drop(session);
        between.happen(&mut pool);

        let mut session = gateway.connect(&pool);
        for template in &templates[..2] {
            refused(&mut session, template, 0, Reason::StaleBlock);
            refused(&mut session, template, 1, Reason::StaleBlock);
        }
        for template in &templates[2..] {
            refused(&mut session, template, 0, Reason::DuplicateWork);
            counts(&mut session, template, 1);
        }
        assert_eq!(pool.stored(), 10, "{between:?}");
    }
}

#[test]
fn a_new_connection_takes_the_place_of_the_old() {
    let pool = Pool::start();
    let gateway = Gateway::new();
    let mut first = gateway.connect(&pool);
    let template = first.template(0, 1);
    counts(&mut first, &template, 0);
    let mut second = gateway.connect(&pool);
    counts(&mut second, &template, 1);
    refused(&mut second, &template, 0, Reason::DuplicateWork);
    assert!(first.drain().is_empty());
    pool.wait_for_ends("displaced", 1);
    assert_eq!(pool.metric("millrace_sessions", &[]), 1);
    assert_eq!(pool.metric("millrace_gateways", &[]), 1);
}

/// Proof of a key is one frame, and costs nothing.
#[test]
fn gateways_that_prove_themselves_and_never_work_take_nothing_from_one_that_has_and_leave_nothing_behind() {
    const REMEMBERED: u64 = 8;
    const COME: u64 = 5 * REMEMBERED;
    for between in ALL {
        let mut pool = Pool::launch(Launch::config(&format!(
            "[shards]\ncount = 1\n[limits]\nsessions_per_shard = {REMEMBERED}\ngateways_per_shard = {REMEMBERED}\n"
        )));
        let gateway = Gateway::new();
        let mut first = gateway.connect(&pool);
        let template = first.template(3, 1);
        counts(&mut first, &template, 0);
        drop(first);
        for gone in 1..=COME {
            pool.wait_for_ends("peer_closed", gone);
            let mut idle = Gateway::new().connect(&pool);
            let nothing = idle.template(0, 1);
            assert_eq!(idle.submit(&nothing.share(0).bare()), Err(Reason::BadJobId));
        }
        pool.wait_for_ends("peer_closed", COME + 1);
        assert_eq!(pool.metric("millrace_gateways", &[]), REMEMBERED);
        between.happen(&mut pool);

        let mut second = gateway.connect(&pool);
        refused(&mut second, &template, 0, Reason::DuplicateWork);
        counts(&mut second, &template, 1);
        drop(second);
        assert!(pool.terminate().success());
        pool.ledger_text(&["verify"]);
        // Those that are remembered, and the two that worked.
        let sessions = pool.stat("sessions");
        assert!(sessions <= REMEMBERED + 2, "{sessions}");
        assert_eq!(pool.stored(), 2);
    }
}
