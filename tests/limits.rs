//! Bounds and deadlines: what hits one ends with its reason and harms nobody else, and a pool that cannot store shares
//! says so and stops.

use std::io::Read;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::pool::gateway::{Gateway, Greeting};
use crate::pool::line::Line;
use crate::pool::preload;
use crate::pool::session::{Heard, Session};
use crate::pool::{Launch, PATIENCE, Pool, Process, STOP_WITHIN, binary};
use millrace::wire::{CoinbaserRequest, Reason};
use socket2::SockRef;
use tempfile::TempDir;

#[test]
fn a_session_that_does_not_read_its_answers_ends_and_harms_nobody() {
    /// Requests a write, and writes at most: their answers are some 30 MB, more than any socket holds.
    const BURST: u32 = 1_000;
    const BURSTS: u32 = 1_000;

    let pool = Pool::start();
    let mut honest = Gateway::new().connect(&pool);
    honest.assert_works(0);
    let mut deaf = Gateway::new().connect(&pool);
    // Whatever it may still hold, it takes no more.
    SockRef::from(deaf.line.stream())
        .set_recv_buffer_size(4_096)
        .expect("a socket");
    let mut bursts = 0;
    // Of a value that no block has: those are answered at once, each of them.
    let request = CoinbaserRequest {
        value: 0,
        prev_block_hash: &[1; 32],
        padding: &[0],
    };
    while bursts < BURSTS {
        for _ in 0..BURST {
            deaf.push(&request);
        }
        if !deaf.flush_unless_closed() {
            break;
        }
        bursts += 1;
        if bursts % 20 == 0 {
            honest.assert_works(bursts);
            if pool.ends("unsent_output") > 0 {
                break;
            }
        }
    }
    pool.wait_for_ends("unsent_output", 1);
    assert_eq!(
        pool.metric("millrace_bound_hits_total", &["bound=\"unsent_output\""]),
        1
    );
    honest.assert_works(BURSTS + 1);
    assert_eq!(pool.metric("millrace_sessions", &[]), 1);
}

#[test]
fn ping_after_4_s_of_silence() {
    let began = Instant::now();
    let pool = Pool::start();
    let mut session = Gateway::new().connect(&pool);
    for pings in 1..=2 {
        assert_eq!(session.next(), Heard::Ping);
        assert!(began.elapsed() >= pings * Duration::from_secs(4));
    }
    assert!(pool.metric("millrace_pings_total", &[]) >= 2);
    session.assert_works(0);
}

#[test]
fn a_slow_hello_ends_after_10_s() {
    let pool = Pool::start();
    let began = Instant::now();
    let mut mute = Line::open(pool.address);
    // One that keeps sending is no better: half a HELLO, and early frames without an end.
    let gateway = Gateway::new();
    let mut halfway = gateway.greet(&pool);
    halfway.push_hello();
    halfway.cut_pushed(100);
    halfway.flush();
    mute.wait_for_close();
    halfway.line.wait_for_close();
    assert!(began.elapsed() >= Duration::from_secs(10));
    pool.wait_for_ends("hello_deadline", 2);
    assert_eq!(pool.metric("millrace_handshakes_total", &["result=\"failed\""]), 2);
    gateway.connect(&pool).assert_works(0);
}

/// The rest of it lies in the kernel while the pool has no core, and there are too many for the deadline not to be over while they are
/// proved one after the other.
#[test]
fn a_hello_that_came_in_time_is_in_time_however_late_the_pool_reads_it() {
    const GATEWAYS: u64 = 40;
    let pool = Pool::launch(Launch::config("[guards]\naddress_faults_per_min = 1\n"));
    let gateways: Vec<_> = (0..GATEWAYS).map(|_| Gateway::new()).collect();
    let mut late: Vec<_> = gateways
        .iter()
        .map(|gateway| {
            let mut greeting = gateway.greet(&pool);
            greeting.push_hello();
            greeting
        })
        .collect();
    let rest: Vec<_> = late
        .iter_mut()
        .map(|greeting| {
            let rest = greeting.pushed()[100..].to_vec();
            greeting.cut_pushed(100);
            greeting.flush();
            rest
        })
        .collect();
    pool.wait_for_metric("millrace_bytes_received_total", &[], GATEWAYS * 100);
    pool.signal("STOP");
    for (greeting, rest) in late.iter_mut().zip(&rest) {
        greeting.line.write(rest);
    }
    std::thread::sleep(Duration::from_secs(11));
    pool.signal("CONT");
    let sessions: Vec<_> = late.into_iter().map(|greeting| greeting.finish()).collect();
    assert_eq!(pool.ends("hello_deadline"), 0);
    drop(sessions);
    gateways[0].connect(&pool).assert_works(0);
}

/// Places for handshakes are few, and a disk may hang for longer than a gateway waits.
#[test]
fn a_newcomer_that_finds_no_room_in_the_ring_is_let_go_and_not_blamed() {
    const RING: usize = 64;
    const TOO_MANY: usize = 16;
    let folder = TempDir::new().expect("a folder");
    let (env, stall) = preload::stalling_disk(folder.path());
    let pool = Pool::launch(Launch {
        env,
        ..Launch::config(&format!(
            "[ledger]\nring_entries = {RING}\n[guards]\naddress_faults_per_min = 1\n"
        ))
    });
    let gateways: Vec<_> = (0..RING + TOO_MANY).map(|_| Gateway::new()).collect();
    let mut greetings: Vec<_> = gateways.iter().map(|gateway| gateway.greet(&pool)).collect();
    greetings.iter_mut().for_each(Greeting::push_hello);
    std::fs::File::create(&stall).expect("a file of the test's");
    greetings.iter_mut().for_each(Greeting::flush);
    pool.wait_for_ends("shard_full", TOO_MANY as u64);
    let begun = pool.metric("millrace_handshakes_total", &["result=\"ok\""]);
    assert_eq!(begun, RING as u64);
    std::fs::remove_file(&stall).expect("a file of the test's");
    drop(greetings);
    assert!(pool.metric("millrace_bound_hits_total", &["bound=\"ring_full\""]) >= TOO_MANY as u64);
    assert_eq!(pool.metric("millrace_guard_refused_total", &["rule=\"banned\""]), 0);
    // Nor did they use up an id, which are never given again.
    let mut session = gateways[0].connect(&pool);
    let given = u32::try_from(RING).expect("few") + 1;
    assert_eq!(session.prime_id(), given);
    assert_eq!(pool.metric("millrace_prime_ids_left", &[]), u64::from(u32::MAX - given));
    session.assert_works(0);
}

#[test]
fn a_frame_that_was_started_must_be_complete_within_30_s() {
    let pool = Pool::start();
    let mut session = Gateway::new().connect(&pool);
    session.assert_works(0);
    let template = session.template(0, 1);
    let began = Instant::now();
    session.push(&template.share(0).with_sections());
    session.cut_pushed(80);
    session.flush();
    assert_eq!(session.next_but_info(), Heard::Closed);
    assert!(began.elapsed() >= Duration::from_secs(30));
    pool.wait_for_ends("frame_deadline", 1);
    assert_eq!(
        session.infos.len(),
        1,
        "the gateway's log says why: {:?}",
        session.infos
    );
}

/// As a HELLO that came in time: the pool had no core when the deadline was over.
#[test]
fn a_frame_that_was_complete_in_time_is_heard_however_late_the_pool_reads_it() {
    const FIRST: usize = 80;
    let pool = Pool::start();
    let mut session = Gateway::new().connect(&pool);
    let template = session.template(0, 1);
    let share = template.share(1);
    session.push(&share.with_sections());
    let rest = session.pushed()[FIRST..].to_vec();
    session.cut_pushed(FIRST);
    let before = pool.metric("millrace_bytes_received_total", &[]);
    session.flush();
    pool.wait_for_metric("millrace_bytes_received_total", &[], before + FIRST as u64);
    pool.signal("STOP");
    session.line.write(&rest);
    std::thread::sleep(Duration::from_secs(31));
    pool.signal("CONT");
    assert_eq!(session.verdict(&share.bare()), Ok(()));
    assert_eq!(pool.ends("frame_deadline"), 0);
}

#[test]
fn sessions_past_the_limit_are_turned_away_where_all_mine() {
    let pool = Pool::launch(Launch::config("[limits]\nsessions_per_shard = 3\n"));
    let gateways: Vec<_> = (0..4).map(|_| Gateway::new()).collect();
    let mut sessions: Vec<_> = gateways[..3].iter().map(|gateway| gateway.connect(&pool)).collect();
    sessions.iter_mut().for_each(|session| session.assert_works(0));
    let mut past = gateways[3].greet(&pool);
    past.say_hello();
    past.line.wait_for_close();
    pool.wait_for_ends("shard_full", 1);
    assert_eq!(pool.metric("millrace_bound_hits_total", &["bound=\"sessions\""]), 1);
    for session in &mut sessions {
        session.assert_works(1);
    }
    // Where one leaves there is room again.
    drop(sessions.pop());
    pool.wait_for_ends("peer_closed", 1);
    gateways[3].connect(&pool).assert_works(0);
}

#[test]
fn shares_below_the_least_difficulty_are_refused() {
    let pool = Pool::launch(Launch::config("[pool]\nmin_diff = 16\n"));
    let mut session = Gateway::new().connect(&pool);
    assert_eq!(session.terms().min_diff.get(), 16);
    let mut template = session.template(0, 1);
    assert_eq!(template.pot, 4);
    assert_eq!(session.submit(&template.share(0).with_sections()), Ok(()));
    for pot in 0..4 {
        template.pot = pot;
        assert_eq!(session.submit(&template.share(1).bare()), Err(Reason::BadTarget));
    }
    template.pot = 5;
    assert_eq!(session.submit(&template.share(1).bare()), Ok(()));
}

#[test]
fn a_full_ring_slows_gateways_down_and_loses_nothing() {
    const SHARES: u32 = 2_000;
    let pool = Pool::launch(Launch::config("[ledger]\nring_entries = 64\n"));
    let mut session = Gateway::new().connect(&pool);
    let template = session.template(0, 1);
    let shares: Vec<_> = (0..SHARES).map(|n| template.share(n)).collect();
    session.push(&template.share(SHARES).with_sections());
    for share in &shares {
        session.push(&share.bare());
    }
    session.flush();
    let mut idle = Gateway::new().connect(&pool);
    for share in &shares {
        assert_eq!(session.verdict(&share.bare()), Ok(()));
    }
    assert_eq!(pool.stored(), u64::from(SHARES) + 1);
    assert!(pool.metric("millrace_bound_hits_total", &["bound=\"ring_full\""]) > 0);
    idle.assert_works(0);
}

#[test]
fn a_disk_below_its_floor_is_not_started_on() {
    let home = TempDir::new().expect("a folder for the test");
    let data = home.path().join("data");
    let made = Command::new(binary())
        .args(["keys", "new", "--data-dir"])
        .arg(&data)
        .output();
    assert!(made.expect("the binary runs").status.success());
    let file = home.path().join("pool.toml");
    std::fs::write(&file, format!("[ledger]\ndisk_floor_bytes = {}\n", 1_u64 << 50)).expect("a file for the test");
    let mut process = Process(
        Command::new(binary())
            .args(["serve", "--listen", "127.0.0.1:0", "--config"])
            .arg(&file)
            .arg("--data-dir")
            .arg(&data)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts"),
    );
    assert!(!process.wait(PATIENCE).success());
    let mut text = String::new();
    process
        .0
        .stdout
        .take()
        .expect("a pipe")
        .read_to_string(&mut text)
        .expect("text");
    process
        .0
        .stderr
        .take()
        .expect("a pipe")
        .read_to_string(&mut text)
        .expect("text");
    assert!(!text.contains("listening"), "{text}");
    assert!(text.contains("disk_floor_bytes"), "the remedy names the key: {text}");
}

#[test]
fn a_full_disk_ends_the_pool_and_loses_nothing_that_was_acknowledged() {
    const IN_FLIGHT: u32 = 200;
    /// Far above what fits.
    const SHARES: u32 = 50_000;

    // Half a mebibyte a file.
    let mut pool = Pool::launch(Launch {
        file_blocks: Some(1_024),
        ..Launch::dev(&["--shards", "1"])
    });
    let gateway = Gateway::new();
    let mut session = gateway.connect(&pool);
    let mut idle = Gateway::new().connect(&pool);
    let template = session.template(0, 1);
    let mut acknowledged = Vec::new();
    let mut sent = 0;
    let mut under_way = Vec::new();
    while sent < SHARES {
        while under_way.len() < IN_FLIGHT as usize {
            let share = template.share(sent);
            session.push(&if sent == 0 { share.with_sections() } else { share.bare() });
            under_way.push((share.nonce, sent));
            sent += 1;
        }
        session.flush_unless_closed();
        let Some(answer) = session.answer() else { break };
        assert_eq!(answer.reason, 0);
        let at = under_way
            .iter()
            .position(|(nonce, _)| *nonce == answer.nonce)
            .expect("an answer to what was sent");
        acknowledged.push(under_way.swap_remove(at).1);
    }
    let closed = Instant::now();
    assert!(sent < SHARES, "the disk was full by then");
    assert!(
        acknowledged.len() > 100,
        "only {} shares were acknowledged before",
        acknowledged.len()
    );
    assert!(says_why(&session), "{:?}", session.infos);
    assert_eq!(idle.next_but_info(), Heard::Closed);
    assert!(says_why(&idle), "{:?}", idle.infos);
    assert!(!pool.wait().success());
    assert!(closed.elapsed() < STOP_WITHIN, "ended after {:?}", closed.elapsed());

    // All of it is in the ledger, and no longer accepted once there is room again.
    pool.assert_verifies();
    let stored = pool.exported_hashes();
    let missing = acknowledged
        .iter()
        .filter(|n| !stored.contains(&template.share(**n).hash64()))
        .count();
    assert_eq!(missing, 0);
    pool.restart_with(&["--shards", "1"]);
    let mut session = gateway.connect(&pool);
    for n in [acknowledged[0], acknowledged[acknowledged.len() - 1]] {
        assert_eq!(
            session.submit(&template.share(n).with_sections()),
            Err(Reason::DuplicateWork)
        );
    }
    assert_eq!(session.submit(&template.share(SHARES).bare()), Ok(()));
    pool.assert_verifies();
}

#[test]
fn a_ledger_that_fails_while_the_pool_drains_is_a_failure() {
    const SHARES: u32 = 2_000;

    // There is no limit to speak of yet; but files may be cut short without the process being killed for it.
    let mut pool = Pool::launch(Launch {
        file_blocks: Some(1 << 22),
        ..Launch::dev(&["--shards", "1"])
    });
    let mut session = Gateway::new().connect(&pool);
    let template = session.template(0, 1);
    session.push(&template.share(0).with_sections());
    (1..SHARES).for_each(|n| session.push(&template.share(n).bare()));
    session.flush();
    (0..SHARES).for_each(|_| assert_eq!(session.answer().expect("an answer").reason, 0));

    // No file may grow past what the ledger's log has: the pool can say so in its own, and cannot save the totals.
    let log_of_ledger = pool.largest_ledger_log();
    assert!(log_of_ledger > 2 * pool.log().len() as u64, "{log_of_ledger} bytes");
    let limited = Command::new("prlimit")
        .args([&format!("--pid={}", pool.pid()), &format!("--fsize={log_of_ledger}")])
        .status();
    assert!(limited.expect("prlimit runs").success());
    let asked = Instant::now();
    assert!(!pool.terminate().success());
    assert!(asked.elapsed() < STOP_WITHIN, "ended after {:?}", asked.elapsed());
    assert!(pool.log().contains("the ledger failed while the pool stopped"));
    // What was acknowledged is there all the same.
    pool.assert_verifies();
    assert_eq!(pool.stored(), u64::from(SHARES));
}

fn says_why(session: &Session) -> bool {
    session.infos.iter().any(|line| line.contains("cannot store shares"))
}
