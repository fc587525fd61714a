//! Fuzz of the live state machine: whole sessions of the real binary, from a PROXY header to the verdicts, over sockets. Some are
//! there at once; gateways come back with early frames while their last session lives, are replayed, and go in the midst of it all;
//! and now and then the pool is restarted under them.
//!
//! A seed makes the run; every connection ends for a reason that is counted, the process lives, an honest gateway works on beside it,
//! and the ledger has all that this was told it has. `MILLRACE_FUZZ_SECONDS=3600 cargo test --release --test promises live_fuzz`
//! plays for an hour; a failed run says its seed, and `MILLRACE_FUZZ_SEED` makes the same choices again, with other keys and at other
//! moments.

use std::net::Shutdown;
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

/// How long the pool serves between two planned restarts.
const RESTART_EVERY: Duration = Duration::from_secs(60);

/// Gateways that come back again and again, and sessions of others that are open at a time.
const REGULARS: u64 = 6;
const CROWD_MAX: usize = 12;

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
    let mut pool = Pool::launch(Launch::config("[guards]\nproxies = [\"127.0.0.7\"]\n"));
    let mut honest = Honest::connect(&pool);
    let mut lasts = Duration::from_secs(number("MILLRACE_FUZZ_SECONDS").unwrap_or(SECONDS));
    while !lasts.is_zero() {
        let round = lasts.min(RESTART_EVERY);
        lasts -= round;
        play(&pool, &mut dice, &mut honest, Instant::now() + round);
        assert_all_is_counted(&pool);
        pool.signal("USR2");
        pool.began_again();
        honest.come_back(&pool);
    }
    honest.work();
    assert!(pool.terminate().success());
    assert!(!pool.log().contains("panicked"), "{}", pool.log());
    pool.assert_verifies();
    assert!(
        pool.stored() >= honest.accepted,
        "{} were acknowledged",
        honest.accepted
    );
}

fn play(pool: &Pool, dice: &mut Dice, honest: &mut Honest, until: Instant) {
    let mut regulars: Vec<Regular> = (0..REGULARS).map(|_| Regular::default()).collect();
    let mut crowd: Vec<Session> = Vec::new();
    while Instant::now() < until {
        match dice.below(8) {
            0 | 1 => before_hello(pool, dice),
            2 => proxied(pool, dice),
            3 => regulars[dice.below(REGULARS) as usize].come(pool, dice),
            4 if crowd.len() < CROWD_MAX => crowd.extend(some_messages(Gateway::new().connect(pool), dice)),
            5 if !crowd.is_empty() => {
                let session = crowd.swap_remove(dice.below(crowd.len() as u64) as usize);
                // Now and then it goes instead.
                if dice.below(3) > 0 {
                    crowd.extend(some_messages(session, dice));
                }
            }
            _ => drop(some_messages(Gateway::new().connect(pool), dice)),
        }
        honest.work();
        if honest.accepted.is_multiple_of(u64::from(WORKS_MAX)) {
            honest.begin_anew(pool);
        }
    }
}

/// Nothing but the honest session is left, and each of the others ended for a reason.
fn assert_all_is_counted(pool: &Pool) {
    wait_until(
        || {
            let ended = pool.metric("millrace_session_ends_total", &[]);
            pool.metric("millrace_sessions", &[]) == 1
                && pool.metric("millrace_handshakes_under_way", &[]) == 0
                && pool.metric("millrace_connections_accepted_total", &[]) == ended + 1
        },
        || pool.metrics(),
    );
}

/// A gateway whose every share is to be accepted.
struct Honest {
    gateway: Gateway,
    session: Session,
    works: u32,
    accepted: u64,
}

impl Honest {
    fn connect(pool: &Pool) -> Self {
        let gateway = Gateway::new();
        Self {
            session: gateway.connect(pool),
            gateway,
            works: 0,
            accepted: 0,
        }
    }

    fn work(&mut self) {
        self.session.assert_works(self.works);
        self.works += 1;
        self.accepted += 1;
    }

    fn come_back(&mut self, pool: &Pool) {
        self.session = self.gateway.connect(pool);
    }

    /// Another takes its place.
    fn begin_anew(&mut self, pool: &Pool) {
        *self = Self {
            accepted: self.accepted,
            ..Self::connect(pool)
        };
    }
}

/// A gateway that comes again and again, with its last session, which may live.
struct Regular {
    gateway: Gateway,
    last: Option<Session>,
    n: u32,
}

impl Default for Regular {
    fn default() -> Self {
        Self {
            gateway: Gateway::new(),
            last: None,
            n: 0,
        }
    }
}

impl Regular {
    /// Comes with early frames under the key of its last session, or under another; perhaps goes before it has heard anything, and is
    /// sent again.
    fn come(&mut self, pool: &Pool, dice: &mut Dice) {
        if let Some(last) = &self.last
            && dice.below(2) == 0
        {
            let _ = last.line.stream().shutdown(Shutdown::Both);
        }
        let mut greeting = self.gateway.greet(pool);
        greeting.push_hello();
        let hello = greeting.pushed().len();
        if let Some(last) = &self.last {
            let template = last.template(dice.below(8) as u8, dice.below(3) as u8);
            for _ in 0..dice.below(5) {
                self.n += 1;
                match dice.below(4) {
                    0 => greeting.push_early(
                        &millrace::wire::ChannelKey::from_bytes([7; 32]),
                        &template.share(self.n).bare(),
                    ),
                    1 => greeting.push_early(&last.key, &template.draft(self.n).bare()),
                    _ => greeting.push_early(&last.key, &template.share(self.n).with_sections()),
                }
            }
        }
        // What is wrong with HELLO is tried elsewhere.
        if dice.below(3) == 0 {
            dice.spoil(&mut greeting.pushed()[hello..]);
        }
        if !greeting.flush_unless_closed() {
            return;
        }
        match dice.below(4) {
            0 => {}
            1 => drop(greeting.replayed(pool)),
            _ => {
                let session = greeting.finish_unless_closed();
                self.last = session
                    .and_then(|session| some_messages(session, dice))
                    .or(self.last.take());
            }
        }
    }
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

/// Good messages and bad ones, in any order. The session, where the pool has not ended it for them by then.
fn some_messages(mut session: Session, dice: &mut Dice) -> Option<Session> {
    let template = session.template(dice.below(8) as u8, dice.below(6) as u8);
    for n in 0..dice.below(20) {
        message(&mut session, &template, n as u32, dice);
        if dice.below(3) == 0 {
            dice.spoil(session.pushed());
        }
        if !session.flush_unless_closed() {
            return None;
        }
    }
    Some(session)
}

fn message(session: &mut Session, template: &crate::pool::work::Template, n: u32, dice: &mut Dice) {
    let mut plain = Vec::new();
    match dice.below(7) {
        0 => template.share(n).with_sections().encode(&mut plain),
        1 => template.draft(n).bare().encode(&mut plain),
        2 => CoinbaserRequest {
            value: dice.below(6_000_000_000),
            prev_block_hash: &[1; 32],
            padding: &[0],
        }
        .encode(&mut plain),
        3 => plain = dice.bytes(600),
        // An answer that nobody asked for.
        4 => {
            plain = vec![0x50, 0x90 + dice.below(4) as u8, dice.below(9) as u8];
            plain.extend(dice.bytes(2_000));
        }
        5 => {
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
