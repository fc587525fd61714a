//! `millrace serve --dev` needs nothing, says where it is, configures gateways, answers them, logs, and stops in time.

use std::collections::HashSet;
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

use crate::pool::gateway::Gateway;
use crate::pool::line::Line;
use crate::pool::session::Heard;
use crate::pool::work::SUBSIDY;
use crate::pool::{PATIENCE, Pool, Process, STOP_WITHIN, binary, lines_of};
use millrace::wire::{CoinbaserRequest, MOTD_MAX, PublicKeys, TAG_MAX};
use tempfile::TempDir;

/// Runs the binary to its end, which must come by itself.
fn run(folder: &Path, args: &[&str]) -> Output {
    let child = Command::new(binary())
        .args(args)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut process = Process(child);
    process.wait(PATIENCE);
    let (stdout, stderr) = (process.0.stdout.take(), process.0.stderr.take());
    let read = |pipe: &mut dyn std::io::Read| {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).expect("the pipe can be read");
        bytes
    };
    Output {
        status: process.wait(PATIENCE),
        stdout: read(&mut stdout.expect("a pipe")),
        stderr: read(&mut stderr.expect("a pipe")),
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn dev_needs_nothing_and_stdout_says_where_the_pool_is() {
    let folder = TempDir::new().expect("a folder for the test");
    let child = Command::new(binary())
        .args(["serve", "--dev", "--listen", "127.0.0.1:0"])
        .current_dir(&folder)
        .env("HOME", folder.path())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("the binary starts");
    let mut process = Process(child);
    let lines = lines_of(process.0.stdout.take().expect("a pipe"));
    let line = || lines.recv_timeout(PATIENCE).expect("a line on stdout");

    let key = line();
    let key: PublicKeys = key
        .strip_prefix("pool_pubkey ")
        .expect("the key comes first")
        .parse()
        .expect("128 digits");
    let address = line();
    let address = address.strip_prefix("listening ").expect("then the address");
    let mut connection = Line::open(address.parse().expect("an address"));
    assert_ne!(key.ed25519, key.x25519);

    let pid = process.0.id().to_string();
    assert!(
        Command::new("kill")
            .args(["-TERM", &pid])
            .status()
            .expect("kill runs")
            .success()
    );
    assert!(process.wait(PATIENCE).success());
    connection.wait_for_close();
    // Nothing else belongs on stdout: the log has stderr.
    assert_eq!(lines.recv_timeout(PATIENCE).ok(), None);
}

#[test]
fn the_key_stays_and_the_command_line_shows_it() {
    let mut pool = Pool::start();
    assert!(pool.terminate().success());
    let data = pool.data();
    let shown = run(&data, &["keys", "show", "--data-dir", data.to_str().expect("text")]);
    assert!(shown.status.success(), "{}", text(&shown.stderr));
    assert!(
        text(&shown.stdout).contains(&pool.key.to_string()),
        "{}",
        text(&shown.stdout)
    );
    // Asserts that the key is the same.
    pool.restart();
}

#[test]
fn config_is_what_gateways_bear_and_every_session_has_its_own() {
    let mut pool = Pool::start();
    let gateway = Gateway::new();
    let mut prime_ids = HashSet::new();
    let mut session_keys = HashSet::new();
    for restart in [false, false, true, false] {
        if restart {
            pool.kill();
            pool.restart();
        }
        // Opened and its signature checked on the way.
        let session = gateway.connect(&pool);
        let terms = session.terms();
        assert!((1..=64).contains(&terms.script.len()));
        assert!(terms.tag.len() <= TAG_MAX && !terms.tag.contains(&0));
        assert_ne!(terms.prime_id, 0);
        assert!(prime_ids.insert(terms.prime_id), "a prime_id is given once");
        assert!(
            session_keys.insert(session.pool_session),
            "the pool's session key is fresh"
        );
        assert!(!session.motd.is_empty() && session.motd.len() <= MOTD_MAX);
    }
}

#[test]
fn a_split_is_dictated_once_without_outputs_and_never_as_id_0() {
    let pool = Pool::start();
    let mut session = Gateway::new().connect(&pool);
    for request in 0..300_u64 {
        let value = SUBSIDY + request;
        session.send(&CoinbaserRequest {
            value,
            prev_block_hash: &[1; 32],
            padding: &[7; 9],
        });
        let Heard::Split {
            value: echoed,
            coinbaser_id,
            outputs,
        } = session.next()
        else {
            panic!("a request is answered first of all");
        };
        assert_eq!((echoed, outputs), (value, Vec::new()));
        assert_ne!(coinbaser_id, 0);
    }
    assert_eq!(pool.metric("millrace_coinbaser_requests_total", &[]), 300);
}

/// Processor time of each thread of a process, in ticks of 10 ms.
fn ticks_by_thread(pid: u32) -> Vec<(String, u64)> {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task")).expect("the process is there");
    let stats = tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("stat")).ok());
    let ticks = stats.map(|stat| {
        let (name, fields) = stat.rsplit_once(") ").expect("a name in parentheses");
        let used = fields
            .split(' ')
            .skip(11)
            .take(2)
            .map(|ticks| ticks.parse::<u64>().expect("a number"));
        (name.to_owned(), used.sum())
    });
    ticks.collect()
}

#[test]
fn a_pool_that_has_nothing_to_do_does_nothing() {
    let pool = Pool::start();
    // Its start, and the one snapshot of books that are empty, are over.
    std::thread::sleep(Duration::from_secs(2));
    let before = ticks_by_thread(pool.pid());
    std::thread::sleep(Duration::from_secs(2));
    for (name, ticks) in ticks_by_thread(pool.pid()) {
        let before = before
            .iter()
            .find(|(known, _)| *known == name)
            .map_or(0, |(_, ticks)| *ticks);
        // A thread that spins has used up to 200 by now, and on a machine as busy as can be some dozens.
        assert!(
            ticks - before < 20,
            "thread {name}): {} ms of 2,000",
            10 * (ticks - before)
        );
    }
}

#[test]
fn sigterm_answers_what_is_under_way_and_stops_in_time() {
    stops_on("TERM");
}

#[test]
fn sigint_does_the_same() {
    stops_on("INT");
}

fn stops_on(signal: &str) {
    const SHARES: u32 = 300;
    let mut pool = Pool::start();
    let mut session = Gateway::new().connect(&pool);
    let template = session.template(0, 1);
    for n in 0..SHARES {
        let share = template.share(n);
        session.push(&if n == 0 { share.with_sections() } else { share.bare() });
    }
    // One that never says a word and one in the middle of a frame must not hold the pool up.
    let mut mute = Line::open(pool.address);
    let mut halfway = Gateway::new().connect(&pool);
    halfway.push(&template.share(SHARES).with_sections());
    halfway.cut_pushed(50);
    halfway.flush();
    session.flush();
    assert!(session.answer().is_some(), "work is under way");

    let asked = Instant::now();
    pool.signal(signal);
    let answered = 1 + session.drain().len() as u64;
    mute.wait_for_close();
    assert_eq!(halfway.next_but_info(), Heard::Closed);
    let status = pool.wait();
    assert!(asked.elapsed() < STOP_WITHIN, "stopped after {:?}", asked.elapsed());
    assert!(status.success(), "{status}");
    assert!(
        session.infos.iter().any(|line| line.contains("stop")),
        "gateways are told: {:?}",
        session.infos
    );
    // What was accepted is on disk, and what is on disk was answered.
    assert_eq!(pool.stored(), answered);
    pool.assert_verifies();
}

#[test]
fn the_log_is_on_stderr_for_people_or_as_json() {
    let mut pool = Pool::with(&["--shards", "1", "--log", "human"]);
    Gateway::new().connect(&pool).assert_works(0);
    assert!(pool.terminate().success());
    let log = pool.log();
    assert!(log.lines().count() > 0);
    assert!(log.lines().all(|line| !line.starts_with('{')), "{log}");
    assert!(!log.contains('\x1b'), "a file has no colours: {log}");

    let mut pool = Pool::with(&["--shards", "1", "--log", "json"]);
    Gateway::new().connect(&pool).assert_works(0);
    assert!(pool.terminate().success());
    let log = pool.log();
    assert!(log.lines().count() > 0);
    for line in log.lines() {
        let entry: serde_json::Value = serde_json::from_str(line).unwrap_or_else(|_| panic!("not JSON: {line}"));
        assert!(entry["level"].is_string(), "{line}");
    }
}

#[test]
fn what_cannot_be_served_ends_non_zero_and_says_why() {
    let folder = TempDir::new().expect("a folder for the test");
    let data = folder.path().join("data");
    let data = data.to_str().expect("text");

    for args in [
        &["serve"][..],
        &["serve", "--dev", "--no-such-flag"],
        &["no-such-command"],
    ] {
        let ended = run(folder.path(), args);
        assert!(!ended.status.success(), "{args:?}");
        assert!(!ended.stderr.is_empty(), "{args:?}");
    }

    // A listener without SO_REUSEPORT holds the port.
    let taken = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = taken.local_addr().expect("an address").to_string();
    let ended = run(
        folder.path(),
        &["serve", "--dev", "--data-dir", data, "--listen", &address],
    );
    assert!(!ended.status.success());
    assert!(text(&ended.stderr).contains(&address), "{}", text(&ended.stderr));

    // Two pools never write one ledger.
    let pool = Pool::start();
    let held = pool.data();
    let held = held.to_str().expect("text");
    let ended = run(
        folder.path(),
        &["serve", "--dev", "--data-dir", held, "--listen", "127.0.0.1:0"],
    );
    assert!(!ended.status.success());
    assert!(text(&ended.stderr).contains(held), "{}", text(&ended.stderr));
    Gateway::new().connect(&pool).assert_works(0);
}
