//! Whole runs over real sockets, against the pool in memory.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::cli::Args;
use crate::mock::{Dictate, MockPool, MockSession};
use crate::report::Report;
use crate::run;
use clap::Parser;

/// Serves until it is dropped.
struct Server {
    pool: Arc<Mutex<MockPool>>,
    address: SocketAddr,
    pubkey: String,
    over: Arc<AtomicBool>,
    /// Reads until one of them ends its connection, unanswered.
    reads_to_cut: Arc<AtomicI64>,
}

impl Server {
    fn start() -> Self {
        let pool = MockPool::new(Dictate {
            script: vec![0x51],
            tag: b"millrace".to_vec(),
            pot: 0,
            payees: 300,
        });
        let pubkey = pool.keys.public().to_string();
        let pool = Arc::new(Mutex::new(pool));
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("an address");
        let over = Arc::new(AtomicBool::new(false));
        let reads_to_cut = Arc::new(AtomicI64::new(i64::MAX));
        let server = Self {
            pool: pool.clone(),
            address,
            pubkey,
            over: over.clone(),
            reads_to_cut: reads_to_cut.clone(),
        };
        thread::spawn(move || {
            for stream in listener.incoming() {
                if over.load(Ordering::SeqCst) {
                    return;
                }
                let (pool, mut stream) = (pool.clone(), stream.expect("a connection"));
                let reads_to_cut = reads_to_cut.clone();
                thread::spawn(move || {
                    let (mut session, mut buf) = (MockSession::new(), vec![0; 65_536]);
                    while let Ok(read @ 1..) = stream.read(&mut buf) {
                        if reads_to_cut.fetch_sub(1, Ordering::SeqCst) == 1 {
                            return;
                        }
                        let mut answers = Vec::new();
                        {
                            let mut pool = pool.lock().expect("nobody panicked");
                            let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
                            pool.now_s = now.expect("after 1970").as_secs();
                            session.feed(&buf[..read], &mut pool, &mut answers);
                        }
                        if stream.write_all(&answers).is_err() {
                            return;
                        }
                    }
                });
            }
        });
        server
    }

    fn run(&self, args: &str) -> Report {
        let line = format!("loadgen --pool {} --pubkey {} {args}", self.address, self.pubkey);
        let args = Args::parse_from(line.split(' '));
        args.check().expect("good arguments");
        run::run(&args).expect("the run begins")
    }

    fn accepted(&self) -> u64 {
        self.pool.lock().expect("nobody panicked").accepted()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.over.store(true, Ordering::SeqCst);
        // Wakes the listener, which then sees that it is over.
        let _ = std::net::TcpStream::connect_timeout(&self.address, Duration::from_secs(1));
    }
}

#[test]
fn a_closed_loop_counts_what_the_pool_counts() {
    let server = Server::start();
    let report = server.run("--gateways 8 --seconds 1 --bad 10 --threads 2 --tip-every 0.4 --job-every 0.2");
    assert!(report.ok, "{report}");
    assert_eq!(report.accepted, server.accepted());
    assert!(report.accepted > 0, "{report}");
    assert_eq!(report.reasons.len(), 19, "{report}");
    let splits = &report.splits;
    assert_eq!((splits.outputs_median, splits.outputs_max), (300, 300), "{report}");
    assert!(splits.asked >= 8 && splits.answered <= splits.asked, "{report}");
    assert!(splits.shares_paying > 0, "{report}");
    assert_eq!(
        splits.shares_paying,
        server.pool.lock().expect("nobody panicked").paying
    );
}

#[test]
fn miners_can_share_payees() {
    let server = Server::start();
    let report = server.run("--gateways 3 --rate 400 --seconds 1 --bad 0 --payees 50");
    assert!(report.ok, "{report}");
    assert_eq!(server.pool.lock().expect("nobody panicked").payees.len(), 50);
}

#[test]
fn an_open_loop_sends_what_is_due() {
    let server = Server::start();
    let report = server.run("--gateways 5 --rate 400 --seconds 1.5 --bad 5");
    assert!(report.ok, "{report}");
    let all = report.accepted + report.refused_as_meant;
    // All that was due, and what made a parent stale.
    assert!((599..700).contains(&all), "{report}");
    assert_eq!(report.unsent, 0);
}

#[test]
fn dropped_connections_come_back_and_nothing_is_missing() {
    let server = Server::start();
    let report = server.run("--gateways 5 --rate 1000 --seconds 3 --bad 2 --drop-every 0.7");
    assert!(report.ok, "{report}");
    assert!(report.reconnects >= 5, "{report}");
    let least = report.accepted;
    assert!(
        (least..=least + report.lost + report.early.lost).contains(&server.accepted()),
        "{report}"
    );
}

#[test]
fn a_storm_shakes_hands_again_and_again() {
    let server = Server::start();
    let report = server.run("--storm 4 --seconds 1");
    assert!(report.ok, "{report}");
    assert!(report.handshakes > 4, "{report}");
    assert_eq!(report.accepted, server.accepted());
    let report = server.run("--storm 4 --rate 20 --seconds 1");
    assert!(report.ok, "{report}");
    assert!((1..=21).contains(&report.handshakes), "{report}");
}

#[test]
fn held_gateways_send_a_little_and_stay() {
    let server = Server::start();
    let report = server.run("--gateways 20 --hold --seconds 1 --bad 0");
    assert!(report.ok, "{report}");
    assert_eq!(report.accepted, 160);
    assert_eq!(server.accepted(), 160);
}

#[test]
fn all_ask_at_a_tip() {
    let server = Server::start();
    let report = server.run("--gateways 20 --hold --seconds 1 --bad 0 --ask 0.2 --threads 2");
    assert!(report.ok, "{report}");
    let tip = report.at_tip.as_ref().expect("all asked");
    assert_eq!(
        (tip.requests, tip.answers, tip.late, tip.lost),
        (20, 20, 0, 0),
        "{report}"
    );
    assert!((0.15..5.0).contains(&tip.seconds), "{report}");
}

#[test]
fn nobody_there_is_said_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let address = listener.local_addr().expect("an address");
    drop(listener);
    let mut server = Server::start();
    let mock = std::mem::replace(&mut server.address, address);
    let report = server.run("--gateways 2 --seconds 1");
    server.address = mock;
    assert!(!report.ok);
    assert!(report.failures[0].contains("no pool answers"), "{report}");
}

#[test]
fn connections_that_the_pool_ends_are_a_failure_unless_meant() {
    let server = Server::start();
    for (more, ok) in [("", false), (" --may-cut", true)] {
        server.reads_to_cut.store(40, Ordering::SeqCst);
        let report = server.run(&format!("--storm 4 --seconds 3{more}"));
        assert_eq!((report.cut_off, report.ok), (1, ok), "{report}");
    }
}
