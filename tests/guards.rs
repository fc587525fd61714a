//! Guards: who takes more than an address may is refused, slowed down, cut off and banned, each time for a reason that is
//! counted, while a gateway at another address works on. Attackers are at 127.0.0.9, honest gateways at 127.0.0.1.

use std::net::{IpAddr, Ipv4Addr};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::pool::gateway::Gateway;
use crate::pool::line::{Line, noise};
use crate::pool::session::{Heard, Session};
use crate::pool::{Launch, Pool, binary, wait_until};
use millrace::wire::{CoinbaserRequest, Reason};
use serde_json::Value;

pub const ATTACKER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));
const PROXY: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 7));

pub fn guarded(keys: &str) -> Pool {
    Pool::launch(Launch::config(&format!("[guards]\n{keys}\n")))
}

pub fn refused(pool: &Pool, rule: &str) -> u64 {
    pool.metric("millrace_guard_refused_total", &[&format!("rule=\"{rule}\"")])
}

pub fn banned(pool: &Pool, rule: &str) -> u64 {
    pool.metric("millrace_guard_banned_total", &[&format!("rule=\"{rule}\"")])
}

/// Whether the pool closes a connection from there that says this.
fn attack(pool: &Pool, bytes: &[u8]) {
    let mut line = Line::open_from(ATTACKER, pool.address);
    line.write_unless_closed(bytes);
    line.wait_for_close();
}

/// What a command of the binary prints for programs.
fn guard(pool: &Pool, args: &[&str]) -> String {
    let output = Command::new(binary())
        .args(["guard", "--data-dir"])
        .arg(pool.data())
        .args(args)
        .output()
        .expect("the binary runs");
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).expect("text")
}

pub fn honest(pool: &Pool) -> Session {
    let mut session = Gateway::new().connect(pool);
    session.assert_works(0);
    session
}

#[test]
fn an_address_that_talks_garbage_is_banned_shown_and_lifted() {
    let pool = guarded("address_faults_per_min = 12");
    let mut session = honest(&pool);
    // Twenty faults are forgiven; more come faster than they are forgotten.
    wait_until(
        || {
            attack(&pool, b"GET / HTTP/1.1\r\n\r\n");
            refused(&pool, "banned") > 0
        },
        || pool.metrics(),
    );
    assert_eq!(banned(&pool, "garbage"), 1);
    session.assert_works(1);
    let shown: Value = serde_json::from_str(&guard(&pool, &["show", "--json"])).expect("JSON");
    assert_eq!(
        (&shown["bans"][0]["address"], &shown["bans"][0]["why"], &shown["banned"]),
        (&"127.0.0.9".into(), &"garbage".into(), &1.into())
    );
    assert!(guard(&pool, &["show"]).contains("127.0.0.9"));
    let lifted: Value = serde_json::from_str(&guard(&pool, &["lift", "127.0.0.9"])).expect("JSON");
    assert_eq!(lifted["lifted"], 1);
    Gateway::new().connect_from(ATTACKER, &pool).assert_works(0);
    assert!(pool.log().contains("banned"), "the log says so");
}

#[test]
fn a_ban_outlives_the_process_and_lifting_it_does_too() {
    let mut pool = guarded("address_faults_per_min = 12\nban_s = 3600\nban_max_s = 86400");
    wait_until(
        || {
            attack(&pool, &[0; 64]);
            banned(&pool, "garbage") > 0
        },
        || pool.metrics(),
    );
    // What a crash can lose are the last few seconds.
    let file = pool.data().join("bans");
    let on_disk = || std::fs::read_to_string(&file).is_ok_and(|text| text.contains("127.0.0.9 "));
    wait_until(on_disk, || pool.log());
    let seconds_left = |pool: &Pool| {
        let shown: Value = serde_json::from_str(&guard(pool, &["show", "--json"])).expect("JSON");
        assert_eq!(
            (&shown["banned"], &shown["bans"][0]["why"]),
            (&1.into(), &"garbage".into())
        );
        shown["bans"][0]["seconds_left"].as_u64().expect("a number")
    };
    let mut left = seconds_left(&pool);
    assert!(left <= 3_600);
    for between in ["kill", "stop", "restart"] {
        match between {
            "kill" => {
                pool.kill();
                pool.restart();
            }
            "stop" => {
                assert!(pool.terminate().success());
                pool.restart();
            }
            _ => {
                pool.signal("USR2");
                pool.began_again();
            }
        }
        let before = refused(&pool, "banned");
        attack(&pool, &[0; 64]);
        wait_until(|| refused(&pool, "banned") > before, || pool.metrics());
        assert_eq!(banned(&pool, "garbage"), 0, "{between}: nobody gave it anew");
        let now = seconds_left(&pool);
        assert!(now <= left && now > 0, "{between}: {now} of {left}");
        left = now;
        honest(&pool);
    }
    let lifted: Value = serde_json::from_str(&guard(&pool, &["lift", "all"])).expect("JSON");
    assert_eq!(lifted["lifted"], 1);
    pool.kill();
    pool.restart();
    Gateway::new().connect_from(ATTACKER, &pool).assert_works(0);
}

/// The next ban is twice as long, in another process too.
#[test]
fn a_ban_that_is_over_is_remembered_by_the_next_process() {
    let mut pool = guarded("address_faults_per_min = 12\nban_s = 1\nban_max_s = 3600");
    for strikes in [0, 1] {
        let given = || {
            attack(&pool, &[0; 64]);
            banned(&pool, "garbage") > 0
        };
        wait_until(given, || pool.metrics());
        let expected = format!(" garbage {strikes}\n");
        let file = pool.data().join("bans");
        let on_disk = || std::fs::read_to_string(&file).is_ok_and(|text| text.ends_with(&expected));
        wait_until(on_disk, || pool.log());
        assert!(pool.terminate().success());
        pool.restart();
    }
}

#[test]
fn a_ban_on_one_shard_holds_on_all() {
    let pool = Pool::launch(Launch {
        args: vec!["--shards".into(), "3".into()],
        ..Launch::config("[guards]\naddress_faults_per_min = 12\n")
    });
    wait_until(
        || {
            attack(&pool, &[0; 64]);
            banned(&pool, "garbage") > 0
        },
        || pool.metrics(),
    );
    // By then every shard has heard of it, in a few tries each is met.
    for shard in 0..3 {
        wait_until(
            || {
                attack(&pool, &[0; 64]);
                pool.metric(
                    "millrace_guard_refused_total",
                    &["rule=\"banned\"", &format!("shard=\"{shard}\"")],
                ) > 0
            },
            || pool.metrics(),
        );
    }
    assert_eq!(banned(&pool, "garbage"), 1, "one gave it, the others heard it");
    Gateway::new().connect(&pool).assert_works(0);
}

#[test]
fn half_open_connections_are_counted_by_address() {
    let pool = guarded("address_handshakes = 5");
    let mut session = honest(&pool);
    let half_open: Vec<_> = (0..30).map(|_| Line::open_from(ATTACKER, pool.address)).collect();
    wait_until(|| refused(&pool, "handshakes") == 25, || pool.metrics());
    session.assert_works(1);
    Gateway::new().connect(&pool).assert_works(0);
    drop(half_open);
    wait_until(
        || pool.metric("millrace_handshakes_under_way", &[]) == 0,
        || pool.metrics(),
    );
    Gateway::new().connect_from(ATTACKER, &pool).assert_works(0);
}

#[test]
fn connections_come_no_faster_than_they_may() {
    let pool = guarded("address_connections_per_s = 1");
    let mut session = honest(&pool);
    let all: Vec<_> = (0..40).map(|_| Line::open_from(ATTACKER, pool.address)).collect();
    // Ten at once, and some more for every second that this took.
    wait_until(|| refused(&pool, "connections") >= 1, || pool.metrics());
    session.assert_works(1);
    drop(all);
}

#[test]
fn a_connection_that_closes_before_it_says_anything_is_counted_as_well() {
    let pool = guarded("address_connections_per_s = 1\naddress_faults_per_min = 1");
    let mut session = honest(&pool);
    wait_until(
        || {
            for _ in 0..200 {
                drop(Line::open_from(ATTACKER, pool.address));
            }
            banned(&pool, "connections") > 0
        },
        || pool.metrics(),
    );
    assert!(refused(&pool, "connections") >= 1_000, "a point each");
    session.assert_works(1);
}

#[test]
fn a_session_whose_shares_are_refused_is_slowed_down_and_then_cut_off() {
    let pool = guarded("refused_shares_per_s = 1");
    let mut session = honest(&pool);
    let mut flood = Gateway::new().connect_from(ATTACKER, &pool);
    let template = flood.template(0, 1);
    let mut sent = 0;
    loop {
        flood.push(&template.draft(sent).bare());
        if !flood.flush_unless_closed() || flood.answer().is_none() {
            break;
        }
        sent += 1;
        assert!(sent < 1_000, "it is cut off");
    }
    assert!(sent >= 60, "a minute of them is nothing unusual: {sent}");
    pool.wait_for_ends("refused_shares", 1);
    let of = |name: &str| pool.metric(name, &["rule=\"refused_shares\""]);
    assert_eq!(of("millrace_guard_cut_total"), 1);
    assert!(of("millrace_guard_slowed_total") >= 1);
    assert!(
        flood.infos.iter().any(|line| line.contains("more slowly")),
        "{:?}",
        flood.infos
    );
    assert!(
        flood.infos.iter().any(|line| line.contains("refused")),
        "{:?}",
        flood.infos
    );
    session.assert_works(1);
}

/// Floods: as many good shares as it can send, whatever it is told, until it is cut off. How many were taken before.
fn flood_with_shares(pool: &Pool) -> u32 {
    let mut flood = Gateway::new().connect_from(ATTACKER, pool);
    let template = flood.template(0, 1);
    let mut taken = 0;
    loop {
        flood.push(&template.share(taken).with_sections());
        if !flood.flush_unless_closed() {
            break;
        }
        // It pays no heed to a higher difficulty.
        let heard = std::iter::repeat_with(|| flood.next_but_info()).find(|heard| !matches!(heard, Heard::Config(_)));
        match heard {
            Some(Heard::Answer(_)) => taken += 1,
            _ => break,
        }
        assert!(taken < 5_000, "it is cut off");
    }
    let said = |part: &str| flood.infos.iter().any(|line| line.contains(part));
    assert!(said("more slowly") && said("far more shares came"), "{:?}", flood.infos);
    taken
}

/// Above what its difficulty implies, where the pool steers; above what any gateway finds, where it does not.
#[test]
fn a_flood_of_shares_is_slowed_down_cut_off_and_banned_for_longer_each_time() {
    const STEERED: &str = "[pool]\nshares_per_minute = 1\nmin_diff_max = 1_099_511_627_776\n";
    for (steering, least) in [(STEERED, 300), ("", 20)] {
        let guards = "[guards]\nsession_shares_per_s = 2\naddress_faults_per_min = 1\nban_s = 8\nban_max_s = 3600\n";
        let pool = Pool::launch(Launch::config(&format!("{steering}{guards}")));
        let mut session = honest(&pool);
        for strikes in [0, 1] {
            let before = pool.metric("millrace_guard_slowed_total", &["rule=\"share_rate\""]);
            let taken = flood_with_shares(&pool);
            assert!(taken >= least, "time to settle, or ten seconds at once: {taken}");
            pool.wait_for_ends("share_flood", strikes + 1);
            let of = |name: &str| pool.metric(name, &["rule=\"share_rate\""]);
            assert_eq!(of("millrace_guard_slowed_total"), before + 4);
            assert_eq!(of("millrace_guard_cut_total"), strikes + 1);
            // The session is ended first and then counted against its address.
            wait_until(|| banned(&pool, "share_rate") == strikes + 1, || pool.metrics());
            let turned_away = refused(&pool, "banned");
            attack(&pool, &[0; 64]);
            wait_until(|| refused(&pool, "banned") > turned_away, || pool.metrics());
            let shown: Value = serde_json::from_str(&guard(&pool, &["show", "--json"])).expect("JSON");
            let ban = &shown["bans"][0];
            assert_eq!(
                (&ban["address"], &ban["why"], &ban["strikes"]),
                (&"127.0.0.9".into(), &"share_rate".into(), &strikes.into())
            );
            let left_s = ban["seconds_left"].as_u64().expect("a number");
            assert!(
                (1..=8 << strikes).contains(&left_s),
                "twice as long each time: {left_s}"
            );
            session.assert_works(u32::try_from(strikes).expect("few") + 1);
            if strikes == 0 {
                let is_over = || guard(&pool, &["show", "--json"]).contains("\"banned\":0");
                wait_until(is_over, || guard(&pool, &["show"]));
            }
        }
        let lifted: Value = serde_json::from_str(&guard(&pool, &["lift", "127.0.0.9"])).expect("JSON");
        assert_eq!(lifted["lifted"], 1);
        Gateway::new().connect_from(ATTACKER, &pool).assert_works(0);
    }
}

#[test]
fn frames_past_what_an_address_may_send_wait_and_none_is_lost() {
    let pool = guarded("address_frames_per_s = 100");
    let mut flood = Gateway::new().connect_from(ATTACKER, &pool);
    let mut session = honest(&pool);
    let template = flood.template(0, 1);
    let shares: Vec<_> = (0..500).map(|n| template.share(n)).collect();
    flood.push(&template.share(1_000).with_sections());
    shares.iter().for_each(|share| flood.push(&share.bare()));
    flood.flush();
    session.assert_works(1);
    for share in &shares {
        assert_eq!(flood.verdict(&share.bare()), Ok(()));
    }
    assert!(pool.metric("millrace_guard_slowed_total", &["rule=\"frames\""]) > 0);
    session.assert_works(2);
}

#[test]
fn replayed_sessions_evict_nobody_and_take_no_seat() {
    let pool = guarded("address_sessions = 3");
    let gateway = Gateway::new();
    let mut session = gateway.connect(&pool);
    session.assert_works(0);
    let recorded = session.line.sent.clone();
    let mut replays: Vec<_> = (0..10).map(|_| Line::open_from(ATTACKER, pool.address)).collect();
    for line in &mut replays {
        line.write_unless_closed(&recorded);
    }
    pool.wait_for_ends("hello_replayed", 10);
    session.assert_works(1);
    assert_eq!(pool.metric("millrace_sessions", &[]), 1);
    assert_eq!(pool.ends("displaced"), 0);
    assert_eq!(pool.stored(), 2, "what was replayed counts for nothing");
    drop(replays);
    wait_until(|| pool.metric("millrace_sessions", &[]) == 1, || pool.metrics());
    session.assert_works(2);
}

#[test]
fn sessions_that_prove_nothing_are_faults() {
    let pool = guarded("address_faults_per_min = 12");
    let mut session = honest(&pool);
    let recorded = session.line.sent.clone();
    wait_until(
        || {
            let mut line = Line::open_from(ATTACKER, pool.address);
            line.write_unless_closed(&recorded);
            drop(line);
            banned(&pool, "unproven") > 0
        },
        || pool.metrics(),
    );
    session.assert_works(1);
}

/// Their uplink goes between CONFIG and their first frame, comes back, and goes again.
#[test]
fn gateways_of_one_address_whose_connections_break_before_they_say_anything_are_not_banned() {
    const GATEWAYS: u64 = 30;
    let pool = guarded("address_faults_per_min = 12");
    let gateways: Vec<_> = (0..GATEWAYS).map(|_| Gateway::new()).collect();
    for times in 1..=3 {
        let sessions: Vec<_> = gateways
            .iter()
            .map(|gateway| gateway.connect_from(ATTACKER, &pool))
            .collect();
        drop(sessions);
        pool.wait_for_ends("peer_closed", times * GATEWAYS);
    }
    for gateway in &gateways {
        gateway.connect_from(ATTACKER, &pool).assert_works(0);
    }
    assert_eq!((banned(&pool, "broken"), refused(&pool, "banned")), (0, 0));
}

/// What they weigh adds up all the same.
#[test]
fn whoever_makes_keys_and_leaves_again_and_again_is_banned() {
    let pool = guarded("address_faults_per_min = 1");
    let mut session = honest(&pool);
    wait_until(
        || {
            drop(Gateway::new().try_connect_from(ATTACKER, &pool));
            banned(&pool, "broken") > 0
        },
        || pool.metrics(),
    );
    session.assert_works(1);
}

/// What a proxy says of this host behind it.
fn proxy_header(last: u8) -> Vec<u8> {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend([198, 51, 100, last, 192, 0, 2, 1, 0x10, 0, 0x70, 0xf3]);
    header
}

/// A connection of it, with that.
pub fn through_the_proxy(pool: &Pool, last: u8) -> Line {
    let mut line = Line::open_from(PROXY, pool.address);
    line.write_unless_closed(&proxy_header(last));
    line
}

#[test]
fn a_proxy_says_whose_a_connection_is() {
    let pool = guarded("proxies = [\"127.0.0.7\"]\naddress_faults_per_min = 12");
    let open = |last: u8| through_the_proxy(&pool, last);
    Gateway::new().connect_over(open(1), &pool).assert_works(0);
    wait_until(
        || {
            let mut line = open(66);
            line.write_unless_closed(&noise(1, 64));
            line.wait_for_close();
            refused(&pool, "banned") > 0
        },
        || pool.metrics(),
    );
    let shown = guard(&pool, &["show", "--json"]);
    assert!(
        shown.contains("198.51.100.66") && !shown.contains("127.0.0.7"),
        "{shown}"
    );
    Gateway::new().connect_over(open(1), &pool).assert_works(1);
    // Without a header, or with a slow one, from there; and with one from anywhere else.
    let mut without = Line::open_from(PROXY, pool.address);
    without.write_unless_closed(&noise(2, 64));
    without.wait_for_close();
    let began = Instant::now();
    let mut slow = Line::open_from(PROXY, pool.address);
    slow.write(&proxy_header(1)[..20]);
    slow.wait_for_close();
    assert!(began.elapsed() >= Duration::from_secs(3));
    pool.wait_for_ends("proxy_header", 2);
    let before = pool.ends("garbage");
    attack(&pool, &proxy_header(1));
    pool.wait_for_ends("garbage", before + 1);
}

#[test]
fn an_allowed_address_is_not_held_to_any_of_it() {
    let pool = guarded(
        "allow = [\"127.0.0.8/31\"]\naddress_faults_per_min = 1\naddress_handshakes = 1\naddress_connections_per_s = 1",
    );
    for _ in 0..50 {
        attack(&pool, &[0; 64]);
    }
    let open: Vec<_> = (0..20).map(|_| Line::open_from(ATTACKER, pool.address)).collect();
    Gateway::new().connect_from(ATTACKER, &pool).assert_works(0);
    assert_eq!(pool.metric("millrace_guard_refused_total", &[]), 0);
    drop(open);
}

#[test]
fn few_descriptors_are_shared_out_and_never_run_out() {
    let pool = Pool::launch(Launch {
        open_files: Some(1_000),
        ..Launch::dev(&["--shards", "1"])
    });
    let mut session = honest(&pool);
    let half_open: Vec<_> = (0..400).map(|_| Line::open_from(ATTACKER, pool.address)).collect();
    wait_until(|| pool.ends("crowded") > 0, || pool.metrics());
    session.assert_works(1);
    // Whoever says nothing keeps no newcomer out.
    Gateway::new().connect(&pool).assert_works(0);
    assert_eq!(pool.ends("shard_full"), 0);
    assert_eq!(pool.metric("millrace_bound_hits_total", &["bound=\"descriptors\""]), 0);
    drop(half_open);
    wait_until(
        || pool.metric("millrace_handshakes_under_way", &[]) == 0,
        || pool.metrics(),
    );
    Gateway::new().connect(&pool).assert_works(0);
}

#[test]
fn a_process_at_its_memory_limit_takes_no_new_session() {
    // Below what any process like this takes.
    let pool = guarded("memory_limit_bytes = 16_777_216");
    pool.wait_for_metric("millrace_memory_pressure", &[], 3);
    assert!(pool.metric("millrace_memory_resident_bytes", &[]) > 16 << 20);
    wait_until(
        || {
            attack(&pool, &[0; 64]);
            refused(&pool, "memory") > 0
        },
        || pool.metrics(),
    );
    assert!(pool.ends("memory_limit") > 0);
    assert!(pool.log().contains("memory is near its limit"));
}

#[test]
fn every_reason_at_once_harms_nobody_else() {
    let pool = guarded("refused_shares_per_s = 5");
    let mut session = honest(&pool);
    let mut flood = Gateway::new().connect_from(ATTACKER, &pool);
    let mut template = flood.template(0, 1);
    // A coinbase that was never sent, a target that is none, a job that is none, and so on.
    let mut reasons = std::collections::BTreeSet::new();
    for n in 0..200 {
        template.pot = if n % 3 == 0 { 64 } else { 0 };
        let draft = template.draft(n);
        let mut share = if n == 0 { draft.with_sections() } else { draft.bare() };
        match n % 4 {
            1 => share.job_id = 9,
            2 => share.coinbase_id = 77,
            3 => share.extranonce = &[0; 3],
            _ => {}
        }
        flood.push(&share);
        if !flood.flush_unless_closed() {
            break;
        }
        let Some(answer) = flood.answer() else { break };
        reasons.extend(Reason::from_code(answer.reason));
    }
    assert!(reasons.len() >= 4, "{reasons:?}");
    session.assert_works(1);
    session.send(&CoinbaserRequest {
        value: 0,
        prev_block_hash: &[1; 32],
        padding: &[0],
    });
    assert!(matches!(session.next_but_info(), Heard::Split { .. }));
}
