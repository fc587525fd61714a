//! Somebody sets the time of day, by hours and either way: nobody is banned, cut off or kept waiting for it, bans and deadlines
//! go on as they were, and the books say what they said. Shares are refused as their ntime asks for, until it is undone.
//!
//! The pool's time of day is moved by a library that is loaded before the system's (`tests/pool/clock.c`); the pool has no part
//! in it.

use std::fs::OpenOptions;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;
use std::time::{Duration, Instant};

use crate::pool::gateway::Gateway;
use crate::pool::line::Line;
use crate::pool::preload;
use crate::pool::session::Session;
use crate::pool::split::{self, MINERS, Paid, ask, ask_until};
use crate::pool::work::SUBSIDY;
use crate::pool::{Launch, Pool, wait_until};
use millrace::wire::Reason;
use tempfile::TempDir;

const ATTACKER: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 9));

const HOUR_S: i64 = 3_600;

/// Far beyond what a share's time may be off, and beyond `resume_for`.
const JUMPS_S: [i64; 4] = [6 * HOUR_S, -6 * HOUR_S, 100 * HOUR_S, -3 * HOUR_S];

/// Shares refused for their time in one jump: what an honest gateway sends in some minutes.
const REFUSED: u32 = 30;

/// The time of day of a pool, to be set.
struct Clock {
    folder: TempDir,
}

impl Clock {
    fn new() -> Self {
        let folder = TempDir::new().expect("a folder");
        preload::build("clock", folder.path());
        std::fs::write(folder.path().join("ahead"), [b' '; 64]).expect("a file");
        let clock = Self { folder };
        clock.set(0);
        clock
    }

    /// So many seconds ahead of the system's.
    fn set(&self, ahead_s: i64) {
        let file = OpenOptions::new().write(true).open(self.path("ahead"));
        let mut file = file.expect("the test's own file");
        // In one write, and no shorter than before.
        file.write_all(format!("{ahead_s:<63}\n").as_bytes())
            .expect("the test's own file");
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn launch(&self, toml: &str) -> Pool {
        let text = |name: &str| self.path(name).to_str().expect("a plain path").to_owned();
        Pool::launch(Launch {
            env: vec![
                ("LD_PRELOAD".into(), text("clock.so")),
                ("MILLRACE_TEST_CLOCK".into(), text("ahead")),
            ],
            ..Launch::config(toml)
        })
    }
}

/// A share whose time is so far ahead of the system's.
fn submit_at(session: &mut Session, ahead_s: i64, n: u32) -> Result<(), Reason> {
    let mut template = session.template(0, 1);
    let ntime = i64::from(template.ntime) + ahead_s;
    template.ntime = u32::try_from(ntime).expect("before 2106");
    session.submit(&template.share(n).with_sections())
}

fn is_banned(pool: &Pool) -> bool {
    let refused = || pool.metric("millrace_guard_refused_total", &["rule=\"banned\""]);
    let before = refused();
    let mut line = Line::open_from(ATTACKER, pool.address);
    line.write_unless_closed(&[0; 64]);
    line.wait_for_close();
    refused() > before
}

/// Shares that were accepted since may stand in it by now, all of one payee: the others' parts are as they were to each other,
/// and as much is paid, but for what rounding leaves over.
fn assert_same_payees(outputs: &[Paid], due: &[Paid]) {
    let sum = |outputs: &[Paid]| outputs.iter().map(|(value, _)| value).sum::<u64>();
    let scripts = |outputs: &[Paid]| outputs.iter().map(|(_, script)| script.clone()).collect::<Vec<_>>();
    assert_eq!(scripts(outputs), scripts(due));
    assert!(
        sum(outputs).abs_diff(sum(due)) < MINERS.len() as u64,
        "{outputs:?} instead of {due:?}"
    );
    let (of_three, of_one) = (outputs[1].0, outputs[2].0);
    assert!(of_three.abs_diff(3 * of_one) <= 3, "{outputs:?} instead of {due:?}");
}

#[test]
fn the_time_of_day_jumps_and_nobody_is_cut_off_or_paid_otherwise() {
    let clock = Clock::new();
    let mut pool = clock.launch("[guards]\naddress_faults_per_min = 12\nban_s = 3600\n");
    let mut session = Gateway::new().connect(&pool);
    split::work(&mut session);
    let mut accepted = MINERS.iter().map(|(_, shares)| u64::from(*shares)).sum::<u64>();
    let dictated = ask_until(&mut session, 1, MINERS.len());
    let due = &dictated.outputs;
    // One that is not there meanwhile, and has work in flight.
    let resting = Gateway::new();
    let in_flight = {
        let mut session = resting.connect(&pool);
        let template = session.template(0, 1);
        assert_eq!(session.submit(&template.share(0).with_sections()), Ok(()));
        template
    };
    accepted += 1;
    wait_until(|| is_banned(&pool), || pool.metrics());
    // One that shakes hands across all of them, and whose time for it is not over.
    let gateway = Gateway::new();
    let mut half_open = gateway.greet(&pool);
    half_open.push_hello();
    let began = Instant::now();

    let mut number = 1_000;
    let mut next = || {
        number += 1;
        number
    };
    for ahead_s in JUMPS_S {
        clock.set(ahead_s);
        for _ in 0..REFUSED {
            assert_eq!(
                submit_at(&mut session, 0, next()),
                Err(Reason::BadNtime),
                "{ahead_s} s ahead"
            );
        }
        assert_same_payees(&ask(&mut session, SUBSIDY, 1).outputs, due);
        assert!(is_banned(&pool), "{ahead_s} s ahead");
        // The pool is as quick as ever, and takes newcomers.
        assert_eq!(submit_at(&mut session, ahead_s, next()), Ok(()), "{ahead_s} s ahead");
        let mut newcomer = Gateway::new().connect(&pool);
        assert_eq!(submit_at(&mut newcomer, ahead_s, next()), Ok(()), "{ahead_s} s ahead");
        clock.set(0);
        assert_eq!(submit_at(&mut session, 0, next()), Ok(()), "back from {ahead_s} s");
        assert_eq!(submit_at(&mut newcomer, 0, next()), Ok(()), "back from {ahead_s} s");
        accepted += 4;
    }
    // What was dictated before the time was set is as good after it, and so is work of before.
    clock.set(HOUR_S);
    let paying = split::template(&session, 0, 1, due, dictated.coinbaser_id);
    assert_eq!(split::submit(&mut session, &paying, next()), Ok(()));
    let mut back = resting.connect(&pool);
    assert_eq!(back.submit(&in_flight.share(1).with_sections()), Ok(()));
    assert_eq!(back.submit(&in_flight.share(0).bare()), Err(Reason::DuplicateWork));
    clock.set(0);
    accepted += 2;
    let is_in_time = began.elapsed() < Duration::from_secs(8);
    if is_in_time {
        half_open.flush();
        let mut session = half_open.finish();
        assert_eq!(submit_at(&mut session, 0, next()), Ok(()));
        accepted += 1;
    }

    assert_eq!(pool.metric("millrace_guard_cut_total", &[]), 0);
    assert_eq!(pool.metric("millrace_guard_slowed_total", &[]), 0);
    assert_eq!(pool.metric("millrace_guard_banned_total", &[]), 1, "the attacker, once");
    for reason in ["silent", "frame_deadline", "refused_shares"] {
        assert_eq!(pool.ends(reason), 0, "{reason}");
    }
    assert!(pool.ends("hello_deadline") <= u64::from(!is_in_time));
    assert_eq!(pool.stored(), accepted);
    // What it wrote down across the jumps is read back as well.
    assert!(pool.terminate().success());
    pool.assert_verifies();
    pool.restart();
    assert_eq!(pool.stored(), accepted);
    Gateway::new().connect(&pool).assert_works(0);
}
