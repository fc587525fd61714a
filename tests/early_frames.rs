//! Frames that come before the response: those before HELLO are passed over, those behind it are opened under the keys
//! of the gateway's former sessions, and only the first frame under the new key proves who is there.

use crate::pool::Pool;
use crate::pool::gateway::{Gateway, Greeting, mining_header};
use crate::pool::line::{Line, noise};
use crate::pool::session::{Heard, Session};
use millrace::wire::{ChannelKey, HEADER_LEN, MINING_MAX, Reason, SKIPPED_BYTES_MAX, SKIPPED_FRAMES_MAX};

fn early(pool: &Pool, outcome: &str) -> u64 {
    pool.metric("millrace_early_frames_total", &[&format!("outcome=\"{outcome}\"")])
}

/// A session of `gateway` that has proved itself.
fn proven(gateway: &Gateway, pool: &Pool) -> Session {
    let mut session = gateway.connect(pool);
    prove(&mut session);
    session
}

/// A good frame that counts for nothing.
fn prove(session: &mut Session) {
    let template = session.template(5, 0xaa);
    assert_eq!(session.submit(&template.draft(0).bare()), Err(Reason::BadJobId));
}

#[test]
fn frames_before_hello_are_passed_over_and_counted() {
    let pool = Pool::start();
    let gateway = Gateway::new();
    let former = proven(&gateway, &pool);
    drop(former);
    let mut greeting = gateway.greet(&pool);
    for (seed, len) in [(1, 150), (2, 0), (3, 2_500), (4, MINING_MAX)] {
        greeting.push_frame(mining_header(len), &noise(seed, len));
    }
    greeting.say_hello();
    greeting.finish().assert_works(0);
    assert_eq!((early(&pool, "skipped"), early(&pool, "opened")), (4, 0));
}

#[test]
fn frames_before_hello_may_come_in_pieces() {
    let pool = Pool::start();
    let gateway = Gateway::new();
    let mut greeting = gateway.greet(&pool);
    greeting.push_frame(mining_header(300), &noise(1, 300));
    greeting.push_hello();
    greeting.flush_in_pieces(7);
    greeting.finish().assert_works(0);
    assert_eq!(early(&pool, "skipped"), 1);
}

#[test]
fn shares_under_the_former_key_are_opened_and_answered() {
    let pool = Pool::start();
    let gateway = Gateway::new();
    let former = proven(&gateway, &pool);
    let key = former.key.clone();
    let template = former.template(0, 1);
    drop(former);

    let first = template.share(1);
    let shares: Vec<_> = (2..40).map(|n| template.share(n)).collect();
    let mut frames = vec![(&key, first.with_sections())];
    frames.extend(shares.iter().map(|share| (&key, share.bare())));
    let mut session = gateway.connect_early(&pool, &frames);
    for share in shares.iter().chain([&first]) {
        assert_eq!(session.verdict(&share.bare()), Ok(()));
    }
    // The only copy of the sections came early; later shares refer to them.
    let later = template.share(100);
    assert_eq!(session.submit(&later.bare()), Ok(()));
    assert_eq!(session.submit(&first.bare()), Err(Reason::DuplicateWork));
    assert_eq!((early(&pool, "skipped"), early(&pool, "opened")), (0, 39));
    assert_eq!(pool.stored(), 40);
}

/// The gateway's queue does not know that the pool was restarted: what it sends while it reconnects comes under the key
/// of a session with a process that is gone.
#[test]
fn the_former_key_outlives_the_pools_process() {
    let mut pool = Pool::start();
    let gateway = Gateway::new();
    let mut former = gateway.connect(&pool);
    // The proof is on disk before the first share that counts: a refused one would not make sure of it.
    former.assert_works(0);
    let key = former.key.clone();
    let template = former.template(0, 1);
    for killed in [true, false] {
        if killed {
            pool.kill();
        } else {
            assert!(pool.terminate().success());
        }
        pool.restart();
        let share = template.share(if killed { 1 } else { 2 });
        // It ends without a frame under its own key, so the former one is still the last that was proven.
        let mut session = gateway.connect_early(&pool, &[(&key, share.with_sections())]);
        assert_eq!(session.verdict(&share.bare()), Ok(()));
        assert_eq!((early(&pool, "skipped"), early(&pool, "opened")), (0, 1));
    }
    assert_eq!(pool.stored(), 3);
}

#[test]
fn frames_that_no_key_opens_are_skipped_and_counted() {
    let pool = Pool::start();
    let gateway = Gateway::new();
    let former = proven(&gateway, &pool);
    let template = former.template(0, 1);
    let key = former.key.clone();
    drop(former);
    let unknown = ChannelKey::from_bytes([9; 32]);

    let shares = [1, 2, 3, 4].map(|n| template.share(n));
    let mut session = gateway.connect_early(
        &pool,
        &[
            (&unknown, shares[0].with_sections()),
            (&key, shares[1].with_sections()),
            (&unknown, shares[2].bare()),
            (&key, shares[3].bare()),
        ],
    );
    assert_eq!(session.verdict(&shares[1].bare()), Ok(()));
    assert_eq!(session.verdict(&shares[3].bare()), Ok(()));
    session.assert_works(0);
    assert_eq!((early(&pool, "skipped"), early(&pool, "opened")), (2, 2));
    assert_eq!(pool.stored(), 3);
}

#[test]
fn a_gateway_that_is_new_has_no_former_key() {
    let pool = Pool::start();
    let other = proven(&Gateway::new(), &pool);
    let template = other.template(0, 1);
    let gateway = Gateway::new();
    // Another gateway's key opens nothing here.
    let share = template.share(1);
    let mut session = gateway.connect_early(&pool, &[(&other.key, share.with_sections())]);
    session.assert_works(0);
    assert_eq!((early(&pool, "skipped"), early(&pool, "opened")), (1, 0));
    assert_eq!(pool.stored(), 1);
}

#[test]
fn the_keys_kept_are_the_last_proven_and_few_of_those_begun_since() {
    let pool = Pool::start();
    let gateway = Gateway::new();
    let session = proven(&gateway, &pool);
    let template = session.template(0, 1);
    let proven_key = session.key.clone();
    drop(session);
    // Sessions that never sent a good frame: its gateway may have had the response to any of them.
    let keys: Vec<_> = (0..6).map(|_| gateway.connect(&pool).key).collect();

    let shares: Vec<_> = (0..7).map(|n| template.share(n)).collect();
    let mut frames = vec![(&proven_key, shares[6].with_sections())];
    frames.extend(keys.iter().zip(&shares).map(|(key, share)| (key, share.bare())));
    let mut session = gateway.connect_early(&pool, &frames);
    for share in &shares[2..] {
        assert_eq!(session.verdict(&share.bare()), Ok(()));
    }
    session.assert_works(10);
    assert_eq!((early(&pool, "skipped"), early(&pool, "opened")), (2, 5));
}

#[test]
fn early_frames_prove_nothing_and_a_bad_mac_is_fatal_only_behind_the_first_good_one() {
    let pool = Pool::start();
    let gateway = Gateway::new();
    let mut former = proven(&gateway, &pool);
    let template = former.template(0, 1);
    let key = former.key.clone();

    // The former session is still there: early frames of the new one do not displace it.
    let share = template.share(1);
    let mut session = gateway.connect_early(&pool, &[(&key, share.with_sections())]);
    assert_eq!(session.verdict(&share.bare()), Ok(()));
    former.assert_works(0);
    assert_eq!(pool.ends("displaced"), 0);

    // Noise and late frames under the former key do no harm until then.
    session.push_under(&ChannelKey::from_bytes([9; 32]), &template.share(9).bare());
    session.push_under(&key, &template.share(2).bare());
    session.flush();
    assert_eq!(session.verdict(&template.share(2).bare()), Ok(()));

    // The first good frame displaces the former session.
    session.assert_works(1);
    assert_eq!(former.next_but_info(), Heard::Closed);
    pool.wait_for_ends("displaced", 1);

    // From now on the former key opens nothing.
    session.push_under(&key, &template.share(3).bare());
    session.flush_unless_closed();
    assert_eq!(session.next_but_info(), Heard::Closed);
    pool.wait_for_ends("bad_mac", 1);
    assert_eq!(pool.stored(), 4);
}

#[test]
fn frames_passed_over_are_bounded_by_count_before_hello_and_after() {
    let pool = Pool::start();
    let gateway = Gateway::new();
    let unknown = ChannelKey::from_bytes([9; 32]);

    // As many as may be, half of them before HELLO.
    let half = SKIPPED_FRAMES_MAX / 2;
    let mut greeting = skipping(&gateway, &pool, half);
    greeting.push_hello();
    let template = gateway.connect(&pool).template(0, 1);
    let frame = template.draft(0);
    for _ in half..SKIPPED_FRAMES_MAX {
        greeting.push_early(&unknown, &frame.bare());
    }
    greeting.flush();
    let mut session = greeting.finish();
    session.assert_works(0);
    assert_eq!(pool.metric("millrace_bound_hits_total", &["bound=\"early_frames\""]), 0);

    // One more, behind HELLO.
    let mut greeting = skipping(&gateway, &pool, half);
    greeting.push_hello();
    for _ in half..=SKIPPED_FRAMES_MAX {
        greeting.push_early(&unknown, &frame.bare());
    }
    greeting.flush_unless_closed();
    greeting.line.wait_for_close();
    pool.wait_for_ends("too_many_early_frames", 1);

    // One more, before HELLO.
    let mut greeting = skipping(&gateway, &pool, SKIPPED_FRAMES_MAX + 1);
    greeting.push_hello();
    greeting.flush_unless_closed();
    greeting.line.wait_for_close();
    pool.wait_for_ends("too_many_early_frames", 2);
    assert_eq!(pool.metric("millrace_bound_hits_total", &["bound=\"early_frames\""]), 2);
    session.assert_works(1);
}

/// A connection with so many frames pushed before HELLO.
fn skipping<'g>(gateway: &'g Gateway, pool: &Pool, frames: u32) -> Greeting<'g> {
    let mut greeting = gateway.greet(pool);
    for _ in 0..frames {
        greeting.push_frame(mining_header(20), &[0; 20]);
    }
    greeting
}

#[test]
fn frames_passed_over_are_bounded_by_bytes() {
    let pool = Pool::start();
    let gateway = Gateway::new();
    let fit = usize::try_from(SKIPPED_BYTES_MAX).expect("8 MiB") / (HEADER_LEN + MINING_MAX);
    for (frames, ends) in [(fit, 0), (fit + 1, 1)] {
        let mut greeting = gateway.greet(&pool);
        for _ in 0..frames {
            greeting.push_frame(mining_header(MINING_MAX), &[0; MINING_MAX]);
        }
        greeting.push_hello();
        if ends == 0 {
            greeting.flush();
            greeting.finish().assert_works(0);
        } else {
            greeting.flush_unless_closed();
            greeting.line.wait_for_close();
            pool.wait_for_ends("too_many_early_frames", 1);
        }
        assert_eq!(pool.ends("too_many_early_frames"), ends);
    }
}

/// What was recorded of a gateway is worth nothing to whoever sends it again, and costs nobody a session.
#[test]
fn a_replayed_hello_with_its_early_frames_is_turned_away_and_evicts_nobody() {
    let pool = Pool::start();
    let gateway = Gateway::new();
    let former = proven(&gateway, &pool);
    let template = former.template(0, 1);
    let key = former.key.clone();
    drop(former);
    let share = template.share(1);
    let mut session = gateway.connect_early(&pool, &[(&key, share.with_sections())]);
    let recorded = session.line.sent.clone();
    assert_eq!(session.verdict(&share.bare()), Ok(()));
    session.assert_works(0);
    for _ in 0..20 {
        let mut replay = Line::open(pool.address);
        replay.write_unless_closed(&recorded);
        replay.wait_for_close();
    }
    pool.wait_for_ends("hello_replayed", 20);
    assert_eq!((pool.ends("displaced"), pool.ends("unproved")), (0, 0));
    session.assert_works(1);
    assert_eq!(pool.metric("millrace_sessions", &[]), 1);
    assert_eq!(pool.metric("millrace_sessions_resumed_total", &[]), 1);
    assert_eq!(pool.stored(), 3);
}

/// Connections that a gateway left half-open are bounded, and a proven session is none of them.
#[test]
fn sessions_that_nobody_proves_are_bounded_and_evict_no_proven_one() {
    let pool = Pool::start();
    let gateway = Gateway::new();
    let mut session = proven(&gateway, &pool);
    let mut half_open: Vec<_> = (0..6).map(|_| gateway.connect(&pool)).collect();
    pool.wait_for_ends("unproved", 2);
    for mut oldest in half_open.drain(..2) {
        assert_eq!(oldest.next_but_info(), Heard::Closed);
    }
    session.assert_works(0);
    assert_eq!(pool.ends("displaced"), 0);
    // Any of those that are left may be the one.
    half_open[0].assert_works(1);
    pool.wait_for_ends("displaced", 1);
}
