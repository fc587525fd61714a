//! Fuzz of the live state machine: whole sessions of the real binary, from a PROXY header to the verdicts, over sockets.
//!
//! A seed makes the run; what it does ends for a reason that is counted, the process lives, and an honest gateway works on
//! beside it. `MILLRACE_FUZZ_SECONDS=3600 cargo test --release --test promises live_fuzz` plays for an hour; a failed run says
//! its seed, and `MILLRACE_FUZZ_SEED` makes the same choices again, with other keys and at other moments.

use std::time::{Duration, Instant};

use crate::pool::gateway::{Gateway, mining_header};
use crate::pool::line::{Line, noise};
use crate::pool::session::Session;
use crate::pool::{Launch, Pool, wait_until};
use millrace::wire::{CoinbaserRequest, Encode, Header, MINING_MAX, command};

const PROXY: std::net::IpAddr = std::net::IpAddr::V4(std::net::Ipv4Addr::new(127, 0, 0, 7));

/// Where nothing else is said: a test takes seconds.
const SECONDS: u64 = 3;

/// Shares of one honest gateway, then another goes on: the pool remembers four times as many of each.
const WORKS_MAX: u32 = 1 << 16;

/// Numbers that the seed makes.
struct Dice(u64);

impl Dice {
    fn below(&mut self, most: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ mixed >> 29) % most
    }

    fn bytes(&mut self, most: u64) -> Vec<u8> {
        let len = self.below(most) as usize;
        noise(self.below(u64::MAX), len)
    }

    fn spoil(&mut self, bytes: &mut [u8]) {
        for _ in 0..self.below(4) {
            if !bytes.is_empty() {
                let at = self.below(bytes.len() as u64) as usize;
                bytes[at] ^= 1 << self.below(8);
            }
        }
    }
}

fn number(name: &str) -> Option<u64> {
    std::env::var(name).ok()?.parse().ok()
}

#[test]
fn live_sessions_hold_out_against_anything() {
    let seed = number("MILLRACE_FUZZ_SEED").unwrap_or_else(|| u64::from(std::process::id()));
    println!("MILLRACE_FUZZ_SEED={seed}");
    let mut dice = Dice(seed);
    let pool = Pool::launch(Launch::config("[guards]\nproxies = [\"127.0.0.7\"]\n"));
    let mut honest = Gateway::new().connect(&pool);
    let until = Instant::now() + Duration::from_secs(number("MILLRACE_FUZZ_SECONDS").unwrap_or(SECONDS));
    let mut works = 0;
    while Instant::now() < until {
        match dice.below(4) {
            0 => before_hello(&pool, &mut dice),
            1 => proxied(&pool, &mut dice),
            _ => session(&pool, &mut dice),
        }
        honest.assert_works(works);
        works += 1;
        if works == WORKS_MAX {
            (honest, works) = (Gateway::new().connect(&pool), 0);
        }
    }
    // Nothing of it is left.
    wait_until(
        || pool.metric("millrace_sessions", &[]) == 1 && pool.metric("millrace_handshakes_under_way", &[]) == 0,
        || pool.metrics(),
    );
    assert!(!pool.log().contains("panicked"), "{}", pool.log());
}

/// Frames before HELLO, and HELLO, of which some bits are wrong and some bytes are missing.
fn before_hello(pool: &Pool, dice: &mut Dice) {
    let gateway = Gateway::new();
    let mut greeting = gateway.greet(pool);
    for _ in 0..dice.below(4) {
        let payload = dice.bytes(2_000);
        greeting.push_frame(mining_header(payload.len()), &payload);
    }
    greeting.push_hello();
    dice.spoil(greeting.pushed());
    let len = dice.below(2_000) as usize;
    greeting.cut_pushed_at(len);
    greeting.flush_unless_closed();
}

/// A PROXY header, of which the same holds, and a HELLO or noise behind it.
fn proxied(pool: &Pool, dice: &mut Dice) {
    let mut header = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    header.extend([198, 51, 100, dice.below(256) as u8, 192, 0, 2, 1, 0x10, 0, 0x70, 0xf3]);
    dice.spoil(&mut header);
    header.extend(dice.bytes(1_500));
    let mut line = Line::open_from(PROXY, pool.address);
    line.write_unless_closed(&header);
}

/// A session with good messages and bad ones, in any order.
fn session(pool: &Pool, dice: &mut Dice) {
    let mut session = Gateway::new().connect(pool);
    let template = session.template(dice.below(8) as u8, dice.below(6) as u8);
    for n in 0..dice.below(20) {
        message(&mut session, &template, n as u32, dice);
        if dice.below(3) == 0 {
            dice.spoil(session.pushed());
        }
        if !session.flush_unless_closed() {
            return;
        }
    }
}

fn message(session: &mut Session, template: &crate::pool::work::Template, n: u32, dice: &mut Dice) {
    let mut plain = Vec::new();
    match dice.below(6) {
        0 => template.share(n).with_sections().encode(&mut plain),
        1 => template.draft(n).bare().encode(&mut plain),
        2 => CoinbaserRequest {
            value: dice.below(6_000_000_000),
            prev_block_hash: &[1; 32],
            padding: &[0],
        }
        .encode(&mut plain),
        3 => plain = dice.bytes(600),
        4 => {
            let payload = dice.bytes(MINING_MAX as u64);
            return session.push_raw(mining_header(payload.len()), &payload);
        }
        _ => {
            let payload = dice.bytes(100);
            let header = Header {
                command: if dice.below(2) == 0 {
                    command::HELLO
                } else {
                    dice.below(32) as u8
                },
                ..mining_header(payload.len())
            };
            return session.push_raw(header, &payload);
        }
    }
    dice.spoil(&mut plain);
    let len = (dice.below(4) * plain.len() as u64) as usize;
    if len < plain.len() {
        plain.truncate(len.max(1));
    }
    session.push_plain(&plain);
}
