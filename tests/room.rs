//! Honest gateways get in while somebody holds the places: sessions, memory, and what all may have of connections and early
//! frames. Attackers are at 127.0.0.9.

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use crate::guards::{ATTACKER, banned, guarded, honest, refused, through_the_proxy};
use crate::pool::gateway::{Gateway, mining_header};
use crate::pool::in_process::InProcess;
use crate::pool::line::{Line, noise};
use crate::pool::{Launch, Pool, wait_until};
use millrace::guard::Pressure;
use millrace::work::Chain;

/// Idle sessions of an address, one more than is nothing unusual.
const IDLE: usize = 17;

/// To hold a session costs a HELLO and a small frame now and then.
#[test]
fn idle_sessions_make_room_for_newcomers_and_miners_do_not() {
    const HERE: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let pool = Pool::launch(Launch::config(&format!(
        "[limits]\nsessions_per_shard = {}\n",
        2 + IDLE
    )));
    let mut miners: Vec<_> = (0..2).map(|_| Gateway::new().connect(&pool)).collect();
    miners.iter_mut().for_each(|miner| miner.assert_works(0));
    let began = Instant::now();
    let mut idle: Vec<_> = (0..IDLE)
        .map(|_| Gateway::new().connect_from(ATTACKER, &pool))
        .collect();
    let gateway = Gateway::new();
    let mut newcomer = None;
    wait_until(
        || {
            newcomer = gateway.try_connect_from(HERE, &pool);
            newcomer.is_some()
        },
        || pool.metrics(),
    );
    assert!(began.elapsed() >= Duration::from_secs(30), "they have time to begin");
    let mut newcomer = newcomer.expect("it came in");
    newcomer.assert_works(0);
    pool.wait_for_ends("idle", 1);
    assert!(pool.metric("millrace_bound_hits_total", &["bound=\"sessions\""]) > 0);
    let told = idle.remove(0).last_words();
    assert!(told.iter().any(|line| line.contains("takes its place")), "{told:?}");
    // Those that are left have more time, being no more than many a site has.
    let before = pool.ends("shard_full");
    assert!(Gateway::new().try_connect_from(HERE, &pool).is_none());
    pool.wait_for_ends("shard_full", before + 1);
    assert_eq!(
        (pool.ends("idle"), pool.metric("millrace_sessions", &[])),
        (1, 2 + IDLE as u64)
    );
    miners.iter_mut().for_each(|miner| miner.assert_works(1));
}

/// Whoever hoards memory up to where no newcomer comes in keeps out nobody that has worked.
#[test]
fn near_the_memory_limit_a_gateway_that_has_mined_comes_back_for_an_idle_session() {
    let pool = InProcess::start(1 << 32, Chain::dev(1 << 32));
    let gateway = Gateway::new();
    pool.connect(&gateway).assert_works(0);
    let mut miner = pool.connect(&Gateway::new());
    miner.assert_works(0);
    let mut idle: Vec<_> = (0..IDLE).map(|_| pool.connect(&Gateway::new())).collect();
    pool.press(Pressure::RefuseNew);
    let mut back = None;
    wait_until(
        || {
            assert!(pool.try_connect(&Gateway::new()).is_none(), "nobody knows it");
            back = pool.try_connect(&gateway);
            back.is_some()
        },
        || "no idle session goes for a miner".into(),
    );
    let mut back = back.expect("it came in");
    back.assert_works(1);
    let told = idle.remove(0).last_words();
    assert!(told.iter().any(|line| line.contains("takes its place")), "{told:?}");
    miner.assert_works(1);
    // Those that are left are no more than many a site has, and young.
    drop(back);
    assert!(pool.try_connect(&gateway).is_none());
    pool.press(Pressure::None);
    assert!(pool.try_connect(&Gateway::new()).is_some());
    drop(idle);
}

/// What somebody's frames before HELLO owe is not waited for by whoever sends none.
#[test]
fn early_frames_of_others_hold_up_no_hello() {
    let pool = guarded("early_frames_per_s = 1");
    let slowed = || pool.metric("millrace_guard_slowed_total", &["rule=\"all_early\""]);
    let flooding = Gateway::new();
    let mut flood = flooding.greet(&pool);
    for seed in 0..40 {
        flood.push_frame(mining_header(1), &noise(seed, 1));
    }
    flood.flush();
    wait_until(|| slowed() > 0, || pool.metrics());
    let before = slowed();
    let sessions: Vec<_> = (0..5).map(|_| Gateway::new().connect(&pool)).collect();
    assert_eq!(slowed(), before);
    drop(sessions);
}

/// Whoever is banned takes nothing of what all may have, behind a proxy as anywhere else.
#[test]
fn connections_of_a_banned_host_behind_a_proxy_keep_nobody_out() {
    let pool = guarded("proxies = [\"127.0.0.7\"]\naddress_faults_per_min = 1\nconnections_per_s = 1");
    let banned_host = || {
        let mut line = through_the_proxy(&pool, 66);
        line.write_unless_closed(&noise(1, 64));
        line.wait_for_close();
    };
    (0..3).for_each(|_| banned_host());
    wait_until(|| banned(&pool, "garbage") == 1, || pool.metrics());
    let before = refused(&pool, "banned");
    (0..30).for_each(|_| banned_host());
    wait_until(|| refused(&pool, "banned") == before + 30, || pool.metrics());
    Gateway::new().connect(&pool).assert_works(0);
    Gateway::new()
        .connect_over(through_the_proxy(&pool, 1), &pool)
        .assert_works(0);
    assert_eq!(refused(&pool, "all_connections"), 0);
}

/// On whichever shard they are accepted.
#[test]
fn strangers_that_use_up_the_connections_of_all_leave_some_to_addresses_that_mine() {
    let pool = Pool::launch(Launch {
        args: vec!["--shards".into(), "2".into()],
        ..Launch::config("[guards]\nconnections_per_s = 1\n")
    });
    let mut session = honest(&pool);
    // What is read after its first share shows that it mines, and has been told long before all is used up.
    (1..4).for_each(|mark| session.assert_works(mark));
    let used_up = |shard: u8| {
        let shard = format!("shard=\"{shard}\"");
        pool.metric("millrace_guard_refused_total", &["rule=\"all_connections\"", &shard]) >= 5
    };
    wait_until(
        || {
            drop(Line::open_from(ATTACKER, pool.address));
            used_up(0) && used_up(1)
        },
        || pool.metrics(),
    );
    for _ in 0..2 {
        Gateway::new().connect(&pool).assert_works(0);
    }
}
