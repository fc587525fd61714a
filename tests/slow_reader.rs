//! A gateway that does not read what it is told keeps one split of ours in memory at most, and nobody else waits for it.

use bitcoin::hashes::{Hash, hash160};
use bitcoin::{Address, KnownHrp, WitnessProgram, WitnessVersion};
use millrace::wire::{CoinbaserRequest, OUTPUTS_MAX};

use crate::pool::Pool;
use crate::pool::gateway::Gateway;
use crate::pool::session::{Heard, Session};
use crate::pool::split::{ask, ask_until};
use crate::pool::work::SUBSIDY;

/// Requests after which the kernel's buffers are full, whatever they hold: each answer has 16 kB.
const REQUESTS_MAX: u64 = 4_000;

/// So many requests in a row without a byte sent for them show it.
const UNANSWERED: u32 = 20;

/// The bound that ended a session like this one, had its splits been encoded as they were asked for.
const UNSENT: [&str; 1] = ["bound=\"unsent_output\""];

#[test]
fn a_gateway_that_does_not_read_holds_one_split_and_is_served_when_it_does() {
    let pool = Pool::with(&["--shards", "1", "--network-difficulty", "4294967296"]);
    let mut session = Gateway::new().connect(&pool);
    work_for_many(&mut session);
    let mut id = ask_until(&mut session, 1, OUTPUTS_MAX).coinbaser_id;
    let asked = ask_until_it_takes_no_more(&pool, &mut session);
    // Others are served meanwhile.
    let mut other = Gateway::new().connect(&pool);
    assert_eq!(ask(&mut other, SUBSIDY, 1).outputs.len(), OUTPUTS_MAX);

    // What it gets when it reads is in order, each once, and the last is for its newest request.
    push_request(&mut session, 1_000_000_000);
    let (mut answered, mut last) = (0, SUBSIDY);
    while last != 1_000_000_000 {
        let Heard::Split {
            value, coinbaser_id, ..
        } = session.next_but_info()
        else {
            panic!("a split is due");
        };
        assert!(value < last, "{value} after {last}");
        assert_ne!(coinbaser_id, id, "another split, another id");
        (last, id) = (value, coinbaser_id);
        answered += 1;
    }
    assert!(
        answered <= asked + 1 - u64::from(UNANSWERED) + 1,
        "{answered} of {asked}"
    );
    assert_eq!(pool.metric("millrace_bound_hits_total", &UNSENT), 0);
    session.assert_works(9_999);
}

#[test]
fn who_reads_nothing_keeps_no_restart_waiting_for_all_that_a_drain_may_take() {
    let mut pool = Pool::with(&["--shards", "1", "--network-difficulty", "4294967296"]);
    let mut session = Gateway::new().connect(&pool);
    work_for_many(&mut session);
    ask_until(&mut session, 1, OUTPUTS_MAX);
    ask_until_it_takes_no_more(&pool, &mut session);
    pool.signal("USR2");
    pool.began_again();
    let log = pool.log();
    assert!(!log.contains("not all sessions ended in time"), "{log}");
    Gateway::new().connect(&pool).assert_works(1);
}

/// Asks and reads nothing until the kernel holds all that it may. How often it asked.
fn ask_until_it_takes_no_more(pool: &Pool, session: &mut Session) -> u64 {
    let before = pool.metric("millrace_coinbaser_requests_total", &[]);
    let (mut asked, mut unanswered, mut sent) = (0, 0, 0);
    while unanswered < UNANSWERED {
        asked += 1;
        assert!(asked < REQUESTS_MAX, "the pool's answers end up nowhere");
        push_request(session, SUBSIDY - asked);
        pool.wait_for_metric("millrace_coinbaser_requests_total", &[], before + asked);
        let now_sent = pool.metric("millrace_bytes_sent_total", &[]);
        unanswered = if now_sent == sent { unanswered + 1 } else { 0 };
        sent = now_sent;
    }
    asked
}

fn push_request(session: &mut Session, value: u64) {
    session.send(&CoinbaserRequest {
        value,
        prev_block_hash: &[1; 32],
        padding: &[0],
    });
}

/// A share for each of as many payees as a split can pay.
fn work_for_many(session: &mut Session) {
    let template = session.template(0, 1);
    let shares: Vec<_> = (0..OUTPUTS_MAX)
        .map(|number| {
            let hash = hash160::Hash::hash(&number.to_le_bytes());
            let program = WitnessProgram::new(WitnessVersion::V0, hash.as_byte_array()).expect("20 bytes");
            let mut share = template.share(u32::try_from(number).expect("small"));
            share.username = Address::from_witness_program(program, KnownHrp::Mainnet)
                .to_string()
                .into_bytes();
            share
        })
        .collect();
    for share in &shares {
        assert_eq!(session.submit(&share.with_sections()), Ok(()));
    }
}
