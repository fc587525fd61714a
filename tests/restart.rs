//! A planned restart: the listening socket never closes, nothing acknowledged is lost or counted twice, and every gateway
//! mines again. The socket may be the supervisor's, too.

use std::collections::HashMap;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use crate::pool::gateway::Gateway;
use crate::pool::line::Line;
use crate::pool::preload;
use crate::pool::session::{Heard, Session};
use crate::pool::{Launch, PATIENCE, Pool, Process, STOP_WITHIN, binary, lines_of, wait_until};
use millrace::wire::{PublicKeys, Reason};
use tempfile::TempDir;

/// Gateways that mine through it.
const GATEWAYS: usize = 20;

/// Sends work until `over`, connects again at once where the session ends, and sends nothing twice. Gives back what was
/// acknowledged, as the ledger names it, and how many shares were never answered.
fn mine(
    number: usize,
    address: SocketAddr,
    key: PublicKeys,
    mining: &AtomicUsize,
    over: &AtomicBool,
) -> (Vec<u64>, u64) {
    let gateway = Gateway::new();
    let (mut acknowledged, mut lost, mut n) = (Vec::new(), 0, 0);
    let mut sessions = 0;
    let mut last: Option<Session> = None;
    while !over.load(Ordering::SeqCst) || sessions < 2 {
        // A HELLO that comes too late for the process that accepted it is made again.
        let Some(mut session) = gateway.try_connect_to(address, key) else {
            continue;
        };
        sessions += 1;
        // The job of the session before goes on under its prime_id, its sections sent again.
        let template = last
            .as_ref()
            .unwrap_or(&session)
            .template(0, 1 + u8::try_from(number).expect("few"));
        let mut sections = true;
        loop {
            if over.load(Ordering::SeqCst) && sessions > 1 {
                break;
            }
            n += 1;
            let share = template.share(n);
            let message = if sections { share.with_sections() } else { share.bare() };
            sections = false;
            session.push(&message);
            let sent = session.flush_unless_closed();
            match sent.then(|| session.next_but_info()) {
                Some(Heard::Answer(answer)) => {
                    assert_eq!(answer.reason, 0, "gateway {number}, session {sessions}, share {n}");
                    acknowledged.push(share.hash64());
                    if acknowledged.len() == 1 {
                        mining.fetch_add(1, Ordering::SeqCst);
                    }
                }
                None | Some(Heard::Closed) => {
                    lost += 1;
                    break;
                }
                Some(other) => panic!("an answer is due, not {other:?}"),
            }
        }
        drop(template);
        last = Some(session);
    }
    (acknowledged, lost)
}

#[test]
fn a_planned_restart_loses_nothing_that_was_acknowledged_and_refuses_nobody() {
    let mut pool = Pool::with(&["--shards", "2"]);
    let (address, key, pid) = (pool.address, pool.key, pool.pid());
    let (mining, over) = (AtomicUsize::new(0), AtomicBool::new(false));
    let outcomes: Vec<_> = thread::scope(|scope| {
        let miners: Vec<_> = (0..GATEWAYS)
            .map(|number| {
                let (mining, over) = (&mining, &over);
                scope.spawn(move || mine(number, address, key, mining, over))
            })
            .collect();
        // A session that nobody has proved yet is not one that goes on.
        wait_until(
            || mining.load(Ordering::SeqCst) == GATEWAYS,
            || "some gateway never mines".into(),
        );
        pool.signal("USR2");
        pool.began_again();
        assert_eq!((pool.address, pool.pid()), (address, pid), "same socket, same process");
        pool.wait_for_metric("millrace_sessions", &[], GATEWAYS as u64);
        pool.wait_for_metric("millrace_shares_accepted_total", &[], 100);
        over.store(true, Ordering::SeqCst);
        miners
            .into_iter()
            .map(|miner| miner.join().expect("it mines"))
            .collect()
    });
    assert!(pool.terminate().success());
    pool.assert_verifies();
    let mut stored: HashMap<u64, u32> = HashMap::new();
    for hash in pool.stored_hashes() {
        *stored.entry(hash).or_default() += 1;
    }
    let lost: u64 = outcomes.iter().map(|(_, lost)| lost).sum();
    let mut acknowledged = 0;
    for hash in outcomes.iter().flat_map(|(acknowledged, _)| acknowledged) {
        assert_eq!(stored.get(hash), Some(&1), "acknowledged is stored once");
        acknowledged += 1;
    }
    assert!(stored.values().all(|count| *count == 1), "nothing is counted twice");
    let more = stored.len() as u64 - acknowledged;
    assert!(
        more <= lost,
        "{more} stored and not acknowledged, {lost} lost on their way"
    );
}

/// Gateways of the generator, and how long they mine before the restart and after it: one whose connection has not lasted for
/// 20 s waits for that before it connects again.
const GENERATED: u64 = 40;
const RESTART_AFTER_S: u32 = 16;
const MINING_S: u32 = 32;

#[test]
fn the_generators_gateways_mine_through_a_restart_and_it_tells_when_the_last_did() {
    let mut pool = Pool::with(&["--shards", "2"]);
    let (address, key, pid) = (pool.address, pool.key.to_string(), pool.pid());
    let (data, millrace) = (pool.data(), binary());
    let args = format!(
        "millrace-loadgen --pool {address} --pubkey {key} --gateways {GENERATED} --rate 400 --seconds {MINING_S} --bad 0 \
         --restart-every {RESTART_AFTER_S} --pid {pid} --by-hash --data-dir {} --millrace {}",
        data.display(),
        millrace.display()
    );
    let report = millrace_loadgen::run(args.split_whitespace()).expect("it runs");
    assert!(report.ok, "{report}");
    pool.began_again();
    assert_eq!((pool.address, pool.pid()), (address, pid));

    let [restart] = &report.restarts[..] else {
        panic!("one restart was asked for: {report}");
    };
    assert_eq!((restart.cut, restart.again), (GENERATED, GENERATED), "{report}");
    assert!(restart.lost <= report.lost + report.early.lost, "{report}");
    assert_eq!(restart.after_signal_ms.count, GENERATED);
    assert_eq!(
        restart.after_signal.iter().map(|bar| bar.sessions).sum::<u64>(),
        GENERATED
    );
    let last_s = restart.last_after_signal_s;
    assert!((0.0..f64::from(MINING_S)).contains(&last_s), "{last_s}");
    assert!(restart.longest_after_loss_s <= last_s, "sessions end after the signal");
    let shown = report.to_string();
    assert!(shown.contains("40 mine again, the last"), "{shown}");

    let ledger = report.ledger.as_ref().expect("it was compared");
    let each = ledger.by_hash.expect("one by one");
    assert_eq!((each.gone, each.twice), (0, 0), "{report}");
    assert_eq!(pool.stored(), ledger.after);
    assert!(pool.terminate().success());
}

/// What ends a process between two connections of a gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Between {
    PlannedRestart,
    Stop,
    Kill,
}

impl Between {
    fn happen(self, pool: &mut Pool) {
        match self {
            Self::PlannedRestart => {
                pool.signal("USR2");
                pool.began_again();
            }
            Self::Stop => {
                assert!(pool.terminate().success());
                pool.restart();
            }
            Self::Kill => {
                pool.kill();
                pool.restart();
            }
        }
    }
}

/// It was connected, had its CONFIG, and had said nothing yet.
#[test]
fn work_on_a_config_that_was_never_answered_counts_after_the_restart_once() {
    for between in [Between::PlannedRestart, Between::Stop, Between::Kill] {
        let mut pool = Pool::with(&["--shards", "2"]);
        let (gateway, thief) = (Gateway::new(), Gateway::new());
        let first = gateway.connect(&pool);
        let template = first.template(0, 1);
        between.happen(&mut pool);
        // Who sends what was recorded, again and again, takes nothing away.
        for _ in 0..8 {
            let mut replay = Line::open(pool.address);
            replay.write_unless_closed(&first.line.sent);
            drop(replay);
        }
        let mut stealing = thief.connect(&pool);
        let stolen = stealing.submit(&template.share(1).with_sections());
        assert_eq!(stolen, Err(Reason::MissingPoolTag), "it is one gateway's alone");
        // What the gateway finds before it is connected comes under the key that it has.
        let early = template.share(2);
        let mut second = gateway.connect_early(&pool, &[(&first.key, early.with_sections())]);
        assert_eq!(second.verdict(&early.bare()), Ok(()), "{between:?}");
        second.assert_works(9);
        for n in [3, 4] {
            assert_eq!(second.submit(&template.share(n).with_sections()), Ok(()), "{between:?}");
        }
        assert_eq!(second.submit(&template.share(3).bare()), Err(Reason::DuplicateWork));
        drop(second);

        between.happen(&mut pool);
        let mut third = gateway.connect(&pool);
        assert_eq!(
            third.submit(&template.share(4).with_sections()),
            Err(Reason::DuplicateWork),
            "{between:?}"
        );
        assert_eq!(third.submit(&template.share(5).bare()), Ok(()));
        assert_eq!(third.submit(&early.bare()), Err(Reason::DuplicateWork));
        assert_eq!(pool.stored(), 5);
        assert!(pool.terminate().success());
        pool.assert_verifies();
    }
}

#[test]
fn a_handshake_under_way_is_finished() {
    let mut pool = Pool::with(&["--shards", "3"]);
    let gateways: Vec<_> = (0..30).map(|_| Gateway::new()).collect();
    for signal in ["USR2", "TERM"] {
        let mut greetings: Vec<_> = gateways.iter().map(|gateway| gateway.greet(&pool)).collect();
        // Accepted, all of them: who is not is served by the next process, where there is one.
        pool.wait_for_metric("millrace_handshakes_under_way", &[], 30);
        for greeting in &mut greetings {
            greeting.say_hello();
        }
        pool.signal(signal);
        let sessions: Vec<_> = greetings.into_iter().map(|greeting| greeting.finish()).collect();
        if signal == "USR2" {
            pool.began_again();
            for (gateway, session) in gateways.iter().zip(sessions) {
                let template = session.template(0, 1);
                let mut again = gateway.connect(&pool);
                again.assert_works(1);
                assert_eq!(again.submit(&template.share(2).with_sections()), Ok(()));
            }
        }
    }
    assert!(pool.wait().success());
    pool.assert_verifies();
}

#[test]
fn a_restart_that_would_not_start_changes_nothing() {
    let mut pool = Pool::launch(Launch::config("[shards]\ncount = 1\n"));
    let mut session = Gateway::new().connect(&pool);
    session.assert_works(1);
    pool.write_config("[shards]\ncount = 0\n");
    pool.signal("USR2");
    wait_until(
        || pool.log().contains("no restart"),
        || format!("it is not refused:\n{}", pool.log()),
    );
    assert!(pool.log().contains("shards.count"), "it says which key: {}", pool.log());
    session.assert_works(2);
    // Mended, it goes through.
    pool.write_config("[shards]\ncount = 2\n");
    pool.signal("USR2");
    pool.began_again();
    Gateway::new().connect(&pool).assert_works(3);
    assert!(pool.terminate().success());
}

#[test]
fn who_is_told_to_stop_during_a_restart_does() {
    for wait_ms in [0, 10, 30, 60, 100, 150] {
        let mut pool = Pool::start();
        let mut session = Gateway::new().connect(&pool);
        session.assert_works(1);
        pool.signal("USR2");
        wait_until(
            || pool.log().contains("another process takes its place"),
            || format!("it does not restart:\n{}", pool.log()),
        );
        thread::sleep(Duration::from_millis(wait_ms));
        pool.signal("TERM");
        // Between the two processes nobody catches it, and the system ends what there is.
        let status = pool.wait();
        assert!(
            status.success() || status.signal() == Some(15),
            "{wait_ms} ms: {status}"
        );
        pool.assert_verifies();
    }
}

/// A pool whose disk stands still while shares are under way and a restart has begun.
struct Stalled {
    pool: Pool,
    session: Session,
    stall: PathBuf,
    _folder: TempDir,
}

impl Stalled {
    const SHARES: u32 = 50;

    fn while_it_restarts() -> Self {
        let folder = TempDir::new().expect("a folder");
        let (env, stall) = preload::stalling_disk(folder.path());
        let pool = Pool::launch(Launch {
            env,
            ..Launch::dev(&["--shards", "1"])
        });
        let mut session = Gateway::new().connect(&pool);
        session.assert_works(0);
        let heard = pool.metric("millrace_frames_received_total", &[]);
        std::fs::File::create(&stall).expect("a file of the test's");
        let template = session.template(0, 1);
        for n in 0..Self::SHARES {
            let share = template.share(n);
            session.push(&if n == 0 { share.with_sections() } else { share.bare() });
        }
        session.flush();
        pool.wait_for_metric("millrace_frames_received_total", &[], heard + u64::from(Self::SHARES));
        pool.signal("USR2");
        wait_until(
            || pool.log().contains("draining"),
            || format!("it does not restart:\n{}", pool.log()),
        );
        Self {
            pool,
            session,
            stall,
            _folder: folder,
        }
    }

    fn disk_goes_on(&self) {
        std::fs::remove_file(&self.stall).expect("a file of the test's");
    }

    fn assert_began_again(mut self) {
        let pid = self.pool.pid();
        self.pool.began_again();
        assert_eq!(self.pool.pid(), pid);
        Gateway::new().connect(&self.pool).assert_works(1);
        assert!(self.pool.terminate().success());
        self.pool.assert_verifies();
    }
}

#[test]
fn a_pause_of_the_process_while_it_restarts_takes_nobodys_answer() {
    let mut stalled = Stalled::while_it_restarts();
    stalled.pool.signal("STOP");
    thread::sleep(STOP_WITHIN + Duration::from_secs(1));
    stalled.disk_goes_on();
    stalled.pool.signal("CONT");
    for _ in 0..Stalled::SHARES {
        assert_eq!(stalled.session.answer().expect("an answer").reason, 0);
    }
    assert_eq!(stalled.session.next_but_info(), Heard::Closed);
    stalled.assert_began_again();
}

#[test]
fn a_pool_that_does_not_stop_in_time_for_the_next_process_becomes_it_all_the_same() {
    let stalled = Stalled::while_it_restarts();
    wait_until(
        || stalled.pool.log().contains("ending as it is"),
        || format!("it waits for ever:\n{}", stalled.pool.log()),
    );
    stalled.disk_goes_on();
    stalled.assert_began_again();
}

#[test]
fn who_connects_while_nobody_accepts_waits_and_is_served() {
    let mut pool = Pool::start();
    let address = pool.address;
    let keep_going = AtomicBool::new(true);
    thread::scope(|scope| {
        let knocking = scope.spawn(|| {
            let mut knocks = 0;
            while keep_going.load(Ordering::SeqCst) {
                std::net::TcpStream::connect_timeout(&address, PATIENCE).expect("nobody is refused");
                knocks += 1;
                thread::sleep(Duration::from_millis(1));
            }
            knocks
        });
        for _ in 0..3 {
            pool.signal("USR2");
            pool.began_again();
        }
        keep_going.store(false, Ordering::SeqCst);
        assert!(knocking.join().expect("no refusal") > 0);
    });
    Gateway::new().connect(&pool).assert_works(1);
}

#[test]
fn a_supervisors_socket_is_used_and_left_open() {
    let socket = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = socket.local_addr().expect("bound");
    let home = TempDir::new().expect("a folder");
    let start = || {
        // As systemd does it: the socket is descriptor 3, and the process is told so by its id.
        let child = Command::new("sh")
            .args([
                "-c",
                "exec 3<&0 </dev/null; LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=millrace exec \"$@\"",
                "sh",
            ])
            .arg(binary())
            .args(["serve", "--dev", "--shards", "2", "--data-dir"])
            .arg(home.path())
            .stdin(Stdio::from(OwnedFd::from(socket.try_clone().expect("a descriptor"))))
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .expect("it starts");
        Process(child)
    };
    for round in 0..2 {
        // It connects before there is a pool.
        let waiting = std::net::TcpStream::connect(address).expect("the socket listens");
        let mut process = start();
        let lines = lines_of(process.0.stdout.take().expect("a pipe"));
        let mut key = None;
        loop {
            let line = lines.recv_timeout(PATIENCE).expect("it comes up");
            match line.split_once(' ') {
                Some(("pool_pubkey", hex)) => key = Some(hex.parse::<PublicKeys>().expect("128 hex digits")),
                Some(("listening", at)) => {
                    assert_eq!(at.parse(), Ok(address));
                    break;
                }
                _ => {}
            }
        }
        let mut session = Gateway::new().connect_to(address, key.expect("it comes first"));
        session.assert_works(round);
        drop(waiting);
        let pid = process.0.id().to_string();
        let signal = |name: &str| {
            let killed = Command::new("kill").args([name, &pid]).status();
            assert!(killed.expect("kill runs").success());
        };
        if round == 0 {
            // A planned restart in between: the socket is the supervisor's for the next process as well.
            signal("-USR2");
            while !lines
                .recv_timeout(PATIENCE)
                .expect("it comes up")
                .starts_with("listening")
            {}
        }
        signal("-TERM");
        assert!(process.wait(PATIENCE).success());
        std::net::TcpStream::connect(address).expect("it still listens");
    }
}
