//! Who may mine: rules of the configuration and rules given to a running pool hold for new and for live sessions, are told to
//! the gateway, and outlive the pool.

use std::process::{Command, Output};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use millrace::wire::Reason;
use serde_json::Value;

use crate::pool::gateway::Gateway;
use crate::pool::session::Session;
use crate::pool::work::USERNAME;
use crate::pool::{Launch, Pool, binary, wait_until};

/// The address in [`USERNAME`].
const PAYEE: &str = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4";
const OTHER: &[u8] = b"1A1zP1eP5QGefi2DMPTfTL5SLmv7DivfNa.rig";

fn policy(pool: &Pool, args: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.arg("policy").arg("--data-dir").arg(pool.data()).args(args);
    command.output().expect("the binary runs")
}

fn done(pool: &Pool, args: &[&str]) -> String {
    let output = policy(pool, args);
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

fn refused(pool: &Pool, args: &[&str]) -> String {
    let output = policy(pool, args);
    assert!(!output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stderr).expect("text")
}

/// Sends share `n` in this name; the verdict on it.
fn submit(session: &mut Session, n: u32, username: &[u8]) -> Result<(), Reason> {
    let template = session.template(0, 1);
    let mut share = template.draft(n);
    share.username = username.to_vec();
    session.submit(&share.mine().with_sections())
}

#[test]
fn a_payee_is_denied_and_admitted_again_while_the_gateway_mines() {
    let pool = Pool::start();
    let mut session = Gateway::new().connect(&pool);
    assert_eq!(submit(&mut session, 1, USERNAME), Ok(()));
    let shown = done(&pool, &["add", "deny-payee", PAYEE]);
    assert!(shown.contains(&format!("deny-payee {PAYEE}")), "{shown}");
    let other_worker = [PAYEE.as_bytes(), b".another"].concat();
    for (n, name) in [(2, USERNAME), (3, &other_worker), (4, USERNAME)] {
        assert_eq!(submit(&mut session, n, name), Err(Reason::BadUsername));
    }
    assert_eq!(submit(&mut session, 5, OTHER), Ok(()));
    let told: Vec<_> = session.infos.iter().filter(|line| line.contains(PAYEE)).collect();
    assert_eq!(told.len(), 1, "once a payee: {told:?}");
    assert_eq!(pool.metric("millrace_shares_denied_total", &["shard=\"0\""]), 3);

    done(&pool, &["remove", "deny-payee", PAYEE]);
    assert_eq!(submit(&mut session, 6, USERNAME), Ok(()));
}

/// A rule is in force when the command is done, and not soon after: on every shard, whatever it has to do.
#[test]
fn a_rule_holds_from_the_moment_its_command_is_done() {
    let pool = Pool::with(&["--shards", "3"]);
    let mut sessions: Vec<_> = (0..6).map(|_| Gateway::new().connect(&pool)).collect();
    let (address, key) = (pool.address, pool.key);
    let busy = AtomicBool::new(true);
    thread::scope(|scope| {
        // Handshakes stand in the same line as what shards are told.
        for _ in 0..2 {
            scope.spawn(|| {
                while busy.load(Ordering::SeqCst) {
                    drop(Gateway::new().connect_to(address, key));
                }
            });
        }
        let _over = Over(&busy);
        for round in 0..10 {
            for (n, verb, verdict) in [(1, "add", Err(Reason::BadUsername)), (2, "remove", Ok(()))] {
                done(&pool, &[verb, "deny-payee", PAYEE]);
                for session in &mut sessions {
                    assert_eq!(submit(session, 10 * round + n, USERNAME), verdict, "round {round}");
                }
            }
        }
    });
}

/// Ends what runs beside a test, where it fails too.
struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(false, Ordering::SeqCst);
    }
}

#[test]
fn a_private_pool_pays_those_it_names_alone() {
    let pool = Pool::launch(Launch::config(&format!(
        "[policy]\nrules = [\"allow-payee {PAYEE}\"]\n"
    )));
    let mut session = Gateway::new().connect(&pool);
    assert_eq!(submit(&mut session, 1, USERNAME), Ok(()));
    assert_eq!(submit(&mut session, 2, OTHER), Err(Reason::BadUsername));
    let said = refused(&pool, &["remove", "allow-payee", PAYEE]);
    assert!(said.contains("stands in the configuration"), "{said}");

    // Who takes the last one off the list has opened the pool, and is told so.
    let pool = Pool::start();
    let mut session = Gateway::new().connect(&pool);
    done(&pool, &["add", "allow-payee", PAYEE]);
    assert_eq!(submit(&mut session, 1, OTHER), Err(Reason::BadUsername));
    assert!(!pool.log().contains("open to all"));
    done(&pool, &["remove", "allow-payee", PAYEE]);
    assert_eq!(submit(&mut session, 2, OTHER), Ok(()));
    assert!(pool.log().contains("open to all"), "{}", pool.log());
}

#[test]
fn gateways_are_denied_by_program_and_version_with_a_word_for_their_log() {
    let pool = Pool::start();
    // Their agent is `v0.4.1-beta/test`.
    let mut session = Gateway::new().connect(&pool);
    assert_eq!(submit(&mut session, 1, USERNAME), Ok(()));
    done(&pool, &["add", "least-version", "0.4.1"]);
    assert_eq!(submit(&mut session, 2, USERNAME), Ok(()));
    done(&pool, &["add", "least-version", "v0.4.2"]);
    let words = session.last_words();
    assert!(
        words.iter().any(|line| line.contains("only newer versions")),
        "{words:?}"
    );
    done(&pool, &["remove", "least-version", "0.4.2"]);

    let mut session = Gateway::new().connect(&pool);
    done(&pool, &["add", "deny-agent", "v0.4.1-beta/t"]);
    let words = session.last_words();
    assert!(
        words.iter().any(|line| line.contains("this gateway's program")),
        "{words:?}"
    );
    pool.wait_for_ends("denied_version", 1);
    pool.wait_for_ends("denied_agent", 1);
    // One that comes anew hears as much, and gets no session for it.
    let handshakes = pool.metric("millrace_handshakes_total", &["result=\"ok\""]);
    let words = Gateway::new().greet(&pool).dismissed().expect("a handshake response");
    assert!(
        words.iter().any(|line| line.contains("this gateway's program")),
        "{words:?}"
    );
    pool.wait_for_ends("denied_agent", 2);
    assert_eq!(pool.metric("millrace_handshakes_total", &["result=\"ok\""]), handshakes);
}

/// To say why keeps a place for handshakes: an address may have it now and then.
#[test]
fn a_denied_program_that_comes_too_often_is_turned_away_without_a_word() {
    let pool = Pool::launch(Launch::config("[policy]\nrules = [\"deny-agent v0.4.1-beta/t\"]\n"));
    let gateway = Gateway::new();
    let words = gateway.greet(&pool).dismissed().expect("a handshake response");
    assert!(
        words.iter().any(|line| line.contains("this gateway's program")),
        "{words:?}"
    );
    let is_unheard = || gateway.greet(&pool).dismissed().is_none();
    wait_until(is_unheard, || pool.metrics());
    wait_until(|| !is_unheard(), || pool.metrics());
    assert_eq!(pool.metric("millrace_handshakes_total", &["result=\"ok\""]), 0);
}

#[test]
fn an_address_is_denied_with_a_word_for_its_log_and_after_a_restart() {
    let mut pool = Pool::start();
    let mut session = Gateway::new().connect(&pool);
    assert_eq!(submit(&mut session, 1, USERNAME), Ok(()));
    done(&pool, &["add", "deny-address", "127.0.0.0/8"]);
    let words = session.last_words();
    assert!(words.iter().any(|line| line.contains("network address")), "{words:?}");
    pool.kill();
    pool.restart();
    let gateway = Gateway::new();
    let words = gateway.greet(&pool).dismissed().expect("a handshake response");
    assert!(words.iter().any(|line| line.contains("network address")), "{words:?}");
    pool.wait_for_ends("denied_address", 1);
    assert_eq!(pool.metric("millrace_handshakes_total", &["result=\"failed\""]), 1);
    assert_eq!(pool.metric("millrace_handshakes_total", &["result=\"ok\""]), 0);
    // It is told now and then, and else turned away before anything is read: it costs no more than others, but less.
    let is_unheard = || gateway.greet(&pool).dismissed().is_none();
    wait_until(is_unheard, || pool.metrics());
    wait_until(|| !is_unheard(), || pool.metrics());
    // The operator hears of it too, and not of each.
    for _ in 0..30 {
        drop(gateway.greet(&pool));
    }
    let ended = || pool.ends("denied_address") + pool.ends("peer_closed") >= 33;
    wait_until(ended, || pool.metrics());
    let log = pool.log();
    let said = log.lines().filter(|line| line.contains("denies this network address"));
    assert!((1..10).contains(&said.count()), "{log}");

    let shown: Value = serde_json::from_str(&done(&pool, &["show", "--json"])).expect("JSON");
    assert_eq!(shown["rules"][0]["rule"], "deny-address 127.0.0.0/8");
    assert_eq!(shown["rules"][0]["from"], "given");
    done(&pool, &["remove", "deny-address", "127.0.0.0/8"]);
    assert!(done(&pool, &["show"]).contains("everybody may mine"));
    let mut session = gateway.connect(&pool);
    assert_eq!(submit(&mut session, 2, USERNAME), Ok(()));
}

#[test]
fn what_is_no_rule_is_refused_with_what_one_is() {
    let pool = Pool::start();
    for (args, said) in [
        (["add", "deny-address", "nowhere"], "no address or range"),
        (["add", "deny-payee", "nobody"], "can be paid"),
        (["add", "deny-agent", ""], "would deny every gateway"),
        (["add", "least-version", "4"], "no version"),
        (["remove", "least-version", "0.4.0"], "there is no rule"),
    ] {
        let output = refused(&pool, &args);
        assert!(output.contains(said), "{args:?}: {output}");
    }
}
