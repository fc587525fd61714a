//! A gateway mines on a CONFIG before it says anything. Where its connection breaks before that, its work counts in a later
//! session all the same: its own, once, and whoever sends again what was recorded takes nothing of it away.

use std::net::{IpAddr, Ipv4Addr};

use crate::pool::Pool;
use crate::pool::gateway::Gateway;
use crate::pool::line::Line;
use crate::pool::session::Session;
use millrace::wire::Reason;

/// Had its CONFIG and is gone, its connection closed; what it sent.
fn broken(pool: &Pool, session: Session) -> Vec<u8> {
    let sent = session.line.sent.clone();
    let before = pool.ends("peer_closed");
    drop(session);
    pool.wait_for_ends("peer_closed", before + 1);
    sent
}

fn replay(pool: &Pool, recorded: &[u8]) {
    let mut line = Line::open(pool.address);
    line.write_unless_closed(recorded);
    line.wait_for_close();
}

#[test]
fn work_on_a_config_that_was_never_answered_counts_in_the_next_session_once() {
    // The pool may not have seen yet that the connection is gone, and the gateway may have been known before or not.
    for (half_open, known) in [(false, false), (true, false), (false, true), (true, true)] {
        let case = format!("half open {half_open}, known {known}");
        let pool = Pool::with(&["--shards", "2"]);
        let (gateway, thief) = (Gateway::new(), Gateway::new());
        if known {
            gateway.connect(&pool).assert_works(9);
        }
        let first = gateway.connect(&pool);
        let template = first.template(0, 1);
        let mut kept = Some(first);
        if !half_open {
            let recorded = broken(&pool, kept.take().expect("it is there"));
            for _ in 0..8 {
                replay(&pool, &recorded);
            }
            pool.wait_for_ends("hello_replayed", 8);
        }
        let mut stealing = thief.connect(&pool);
        let stolen = stealing.submit(&template.share(1).with_sections());
        assert_eq!(stolen, Err(Reason::MissingPoolTag), "it is one gateway's alone, {case}");

        let mut second = gateway.connect(&pool);
        assert_eq!(second.submit(&template.share(2).with_sections()), Ok(()), "{case}");
        assert_eq!(second.submit(&template.share(3).bare()), Ok(()), "{case}");
        drop(kept);
        drop(second);
        let mut third = gateway.connect(&pool);
        let again = third.submit(&template.share(3).with_sections());
        assert_eq!(again, Err(Reason::DuplicateWork), "{case}");
        assert_eq!(third.submit(&template.share(4).bare()), Ok(()), "{case}");
    }
}

/// Nobody knows a stranger before its session begins.
#[test]
fn of_a_first_hello_and_its_replay_that_are_under_way_together_one_begins_a_session() {
    let pool = Pool::start();
    let gateways: Vec<_> = (0..4).map(|_| Gateway::new()).collect();
    let mut greetings: Vec<_> = gateways.iter().map(|gateway| gateway.greet(&pool)).collect();
    let mut replays: Vec<_> = greetings.iter().map(|_| Line::open(pool.address)).collect();
    pool.wait_for_metric("millrace_handshakes_under_way", &[], 8);
    pool.signal("STOP");
    for (greeting, replay) in greetings.iter_mut().zip(&mut replays) {
        greeting.push_hello();
        replay.write(greeting.pushed());
        greeting.flush();
    }
    pool.signal("CONT");
    pool.wait_for_ends("hello_replayed", 4);
    pool.wait_for_metric("millrace_handshakes_total", &["result=\"ok\""], 4);
    assert_eq!(pool.metric("millrace_handshakes_total", &[]), 8);
}

/// The gateway's queue does not wait for the response: what it finds meanwhile comes under the key of the session that broke.
#[test]
fn early_frames_under_its_key_count_too() {
    let pool = Pool::start();
    let gateway = Gateway::new();
    let first = gateway.connect(&pool);
    let (key, template) = (first.key.clone(), first.template(0, 1));
    broken(&pool, first);
    let share = template.share(1);
    let mut second = gateway.connect_early(&pool, &[(&key, share.with_sections())]);
    assert_eq!(second.verdict(&share.bare()), Ok(()));
    // That one breaks as well, and says no more.
    broken(&pool, second);
    let mut third = gateway.connect(&pool);
    let again = third.submit(&template.share(1).with_sections());
    assert_eq!(again, Err(Reason::DuplicateWork));
    assert_eq!(third.submit(&template.share(2).bare()), Ok(()));
    assert_eq!(pool.stored(), 2);
}

/// What broke before the pool was killed counts as what broke with it.
#[test]
fn it_counts_after_a_restart_too_and_so_do_its_duplicates() {
    let mut pool = Pool::start();
    let gateway = Gateway::new();
    let first = gateway.connect(&pool);
    let (key, template) = (first.key.clone(), first.template(0, 1));
    broken(&pool, first);
    // Its end is in the ledger before what comes behind it.
    gateway_of_its_own(&pool);
    pool.kill();
    pool.restart();
    let share = template.share(1);
    let mut second = gateway.connect_early(&pool, &[(&key, share.with_sections())]);
    assert_eq!(second.verdict(&share.bare()), Ok(()));
    drop(second);
    pool.kill();
    pool.restart();
    let mut third = gateway.connect(&pool);
    let again = third.submit(&template.share(1).with_sections());
    assert_eq!(again, Err(Reason::DuplicateWork));
    assert_eq!(third.submit(&template.share(2).bare()), Ok(()));
    assert!(pool.terminate().success());
    pool.assert_verifies();
}

fn gateway_of_its_own(pool: &Pool) {
    Gateway::new().connect(pool).assert_works(1);
}

/// Only a few are kept of a gateway, the last; the ledger keeps no more of them.
#[test]
fn of_many_the_last_count_and_the_ledger_forgets_the_others() {
    let mut pool = Pool::start();
    let gateway = Gateway::new();
    let templates: Vec<_> = (0..6)
        .map(|_| {
            let session = gateway.connect(&pool);
            let template = session.template(0, 1);
            broken(&pool, session);
            template
        })
        .collect();
    let mut session = gateway.connect(&pool);
    for (number, template) in templates.iter().enumerate() {
        let counts = number >= 2;
        let verdict = session.submit(&template.share(1).with_sections());
        let expected = if counts { Ok(()) } else { Err(Reason::MissingPoolTag) };
        assert_eq!(verdict, expected, "{number}");
    }
    assert!(pool.terminate().success());
    pool.assert_verifies();
    let rows = pool.ledger_text(&["export", "--format", "jsonl", "--table", "sessions"]);
    assert_eq!(rows.lines().count(), 5, "{rows}");
}

/// Whoever was on the path of a gateway, and sends again what it had recorded, from there.
const AWAY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));

fn sent_again_from_away(pool: &Pool, recorded: &[Vec<u8>]) -> Vec<Line> {
    let again = |sent: &Vec<u8>| {
        let mut line = Line::open_from(AWAY, pool.address);
        line.write_unless_closed(sent);
        line
    };
    recorded.iter().map(again).collect()
}

/// A pool that has just begun knows nobody's address, and the gateway has its CONFIG and has said nothing yet.
#[test]
fn hellos_of_before_a_restart_begin_no_session_again() {
    for kill in [true, false] {
        let mut pool = Pool::with(&["--shards", "2"]);
        let gateway = Gateway::new();
        let recorded: Vec<_> = (0..6)
            .map(|n| {
                let mut session = gateway.connect(&pool);
                session.assert_works(n);
                session.line.sent.clone()
            })
            .collect();
        if kill {
            pool.kill();
        } else {
            assert!(pool.terminate().success());
        }
        pool.restart();
        let mut waiting = gateway.connect(&pool);
        let again = sent_again_from_away(&pool, &recorded);
        pool.wait_for_ends("hello_replayed", 6);
        waiting.assert_works(10);
        assert_eq!((pool.ends("unproved"), pool.metric("millrace_sessions", &[])), (0, 1));
        drop(again);
    }
}

/// The ledger keeps a few of those that nobody proved, and knows no other HELLO of that kind.
#[test]
fn hellos_that_nobody_knows_end_no_session_but_their_own() {
    let mut pool = Pool::start();
    let gateway = Gateway::new();
    let recorded: Vec<_> = (0..12)
        .map(|_| {
            let session = gateway.connect(&pool);
            broken(&pool, session)
        })
        .collect();
    // The ends are in the ledger before what comes behind them.
    gateway_of_its_own(&pool);
    pool.kill();
    pool.restart();
    let mut waiting = gateway.connect(&pool);
    let again = sent_again_from_away(&pool, &recorded);
    pool.wait_for_ends("hello_replayed", 4);
    pool.wait_for_ends("unproved", 4);
    waiting.assert_works(10);
    drop(again);
}
