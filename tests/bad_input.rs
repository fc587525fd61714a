//! Bad bytes end their own connection with a reason that is counted, and an honest session works on beside them.

use crate::pool::Pool;
use crate::pool::gateway::{Gateway, hello_header, keys, mining_header};
use crate::pool::line::{Line, noise};
use crate::pool::session::Session;
use millrace::wire::{HEADER_LEN, HELLO_MAX, Header, Hello, MINING_MAX, command};

/// A pool with an honest session on it, which must work after each mischief.
struct Honest {
    pool: Pool,
    session: Session,
    shares: u32,
}

impl Honest {
    fn new() -> Self {
        let pool = Pool::start();
        let session = Gateway::new().connect(&pool);
        let mut this = Self {
            pool,
            session,
            shares: 0,
        };
        this.works();
        this
    }

    fn works(&mut self) {
        self.session.assert_works(self.shares);
        self.shares += 1;
    }

    /// One connection that must end for `reason`, and for no other.
    fn survives(&mut self, reason: &str, mischief: impl FnOnce(&Pool)) {
        let ends = |pool: &Pool| pool.metric("millrace_session_ends_total", &[]);
        let (all_before, before) = (ends(&self.pool), self.pool.ends(reason));
        mischief(&self.pool);
        self.pool.wait_for_ends(reason, before + 1);
        self.works();
        assert_eq!(
            (self.pool.ends(reason), ends(&self.pool)),
            (before + 1, all_before + 1),
            "{reason}"
        );
    }
}

impl Drop for Honest {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.works();
            assert_eq!(
                self.pool.stored(),
                u64::from(self.shares),
                "nothing but honest shares counted"
            );
        }
    }
}

/// Sends `bytes` on a connection of their own and waits until the pool has closed it.
fn send(pool: &Pool, bytes: &[u8]) {
    let mut line = Line::open(pool.address);
    line.write_unless_closed(bytes);
    line.wait_for_close();
}

/// A session that has sent a good frame.
fn proven(pool: &Pool) -> Session {
    let mut session = Gateway::new().connect(pool);
    let template = session.template(0, 1);
    let bad = template.draft(0);
    // A job that was never sent: refused, so that it does not count.
    assert!(session.submit(&bad.bare()).is_err());
    session
}

/// Writes what was pushed and waits until the pool has closed the connection.
fn end(mut session: Session) {
    session.flush_unless_closed();
    session.line.wait_for_close();
}

#[test]
fn garbage_before_hello() {
    let mut honest = Honest::new();
    let http: &[u8] = b"GET / HTTP/1.1\r\nHost: pool\r\n\r\n";
    let tls: &[u8] = &[0x16, 3, 1, 2, 0, 1, 0, 1, 0xfc, 3, 3];
    let stratum: &[u8] = b"{\"id\":1,\"method\":\"mining.subscribe\",\"params\":[]}\n";
    for garbage in [http, tls, stratum, &[0; 64], &[0xff; 2_000]] {
        honest.survives("garbage", |pool| send(pool, garbage));
    }
    // Well masked, but nothing that begins a connection.
    for header in [
        Header {
            channel: true,
            ..hello_header(300)
        },
        Header {
            signed: false,
            ..hello_header(300)
        },
        Header {
            command: command::INFO,
            ..mining_header(300)
        },
    ] {
        honest.survives("garbage", |pool| {
            let gateway = Gateway::new();
            let mut greeting = gateway.greet(pool);
            greeting.push_frame(header, &noise(1, 300));
            greeting.flush_unless_closed();
            greeting.line.wait_for_close();
        });
    }
}

/// A HELLO frame with any plaintext, sealed to any key.
fn hello_frame(pool: &Pool, plain: &[u8], sealed_to: &[u8; 32]) {
    let gateway = Gateway::new();
    let mut greeting = gateway.greet(pool);
    let payload = Hello::seal(plain, sealed_to);
    greeting.push_frame(hello_header(payload.len()), &payload);
    greeting.flush_unless_closed();
    greeting.line.wait_for_close();
}

#[test]
fn hellos_that_prove_nothing() {
    let mut honest = Honest::new();
    let gateway = Gateway::new();
    let hello = gateway.greet(&honest.pool).hello.clone();
    // That connection is closed without a word.
    honest.pool.wait_for_ends("peer_closed", 1);
    let plain = hello.encode(&gateway.long_term);
    let of_pool = honest.pool.key.x25519;

    let mut forged = plain.clone();
    *forged.last_mut().expect("a signature") ^= 1;
    honest.survives("hello_signature", |pool| hello_frame(pool, &forged, &of_pool));

    let mut changed = plain.clone();
    changed[3 * 32] ^= 1;
    honest.survives("hello_signature", |pool| hello_frame(pool, &changed, &of_pool));

    let by_another = hello.encode(&keys());
    honest.survives("hello_signature", |pool| hello_frame(pool, &by_another, &of_pool));

    let another_pool = keys().public().x25519;
    honest.survives("hello_unsealable", |pool| hello_frame(pool, &plain, &another_pool));

    honest.survives("hello_unsealable", |pool| {
        let mut greeting = gateway.greet(pool);
        greeting.push_frame(hello_header(400), &noise(2, 400));
        greeting.flush_unless_closed();
        greeting.line.wait_for_close();
    });

    for cut in [0, 64, 200] {
        honest.survives("hello_malformed", |pool| hello_frame(pool, &plain[..cut], &of_pool));
    }

    // Everybody would know what is agreed with a key of low order.
    let mut weak = hello;
    weak.session.x25519 = [0; 32];
    let weak = weak.encode(&gateway.long_term);
    honest.survives("weak_key", |pool| hello_frame(pool, &weak, &of_pool));
}

#[test]
fn frames_that_are_cut_off() {
    let mut honest = Honest::new();
    // In the header, in HELLO, and in a frame of a session.
    for cut in [2, 100] {
        honest.survives("peer_closed", |pool| {
            let gateway = Gateway::new();
            let mut greeting = gateway.greet(pool);
            greeting.push_hello();
            greeting.cut_pushed(cut);
            greeting.flush();
            greeting.line.finish_writing();
            greeting.line.wait_for_close();
        });
    }
    for cut in [3, 40] {
        honest.survives("peer_closed", |pool| {
            let mut session = proven(pool);
            let template = session.template(0, 1);
            session.push(&template.draft(1).with_sections());
            session.cut_pushed(cut);
            session.flush();
            session.line.finish_writing();
            session.line.wait_for_close();
        });
    }
}

#[test]
fn frames_that_are_too_long() {
    let mut honest = Honest::new();
    let past_hello = HELLO_MAX + 1;
    honest.survives("hello_too_long", |pool| {
        let gateway = Gateway::new();
        let mut greeting = gateway.greet(pool);
        greeting.push_frame(hello_header(past_hello), &noise(3, past_hello));
        greeting.flush_unless_closed();
        greeting.line.wait_for_close();
    });
    let past_mining = MINING_MAX + 1;
    honest.survives("frame_too_long", |pool| {
        let gateway = Gateway::new();
        let mut greeting = gateway.greet(pool);
        greeting.push_frame(mining_header(past_mining), &noise(4, past_mining));
        greeting.flush_unless_closed();
        greeting.line.wait_for_close();
    });
    // The header alone is enough.
    for len in [past_mining, 4_194_303] {
        honest.survives("frame_too_long", |pool| {
            let mut session = proven(pool);
            session.push_raw(mining_header(len), &vec![0; len]);
            session.cut_pushed(HEADER_LEN);
            end(session);
        });
    }
}

#[test]
fn the_longest_frame_is_read_and_judged_by_its_content() {
    let mut honest = Honest::new();
    honest.survives("bad_message", |pool| {
        let mut session = proven(pool);
        session.push_plain(&noise(5, MINING_MAX - 16));
        end(session);
    });
}

#[test]
fn replayed_hellos_and_what_followed_them() {
    let mut honest = Honest::new();
    let gateway = Gateway::new();
    let mut victim = gateway.connect(&honest.pool);
    let template = victim.template(0, 1);
    let shares: Vec<_> = (0..3).map(|n| template.share(n)).collect();
    for share in &shares {
        assert_eq!(victim.submit(&share.with_sections()), Ok(()));
    }
    honest.shares += 3;
    let recorded = victim.line.sent.clone();

    // Half of it, then all: a session key of a gateway that has proved itself is good once.
    for (n, len) in [(10, recorded.len() / 2), (11, recorded.len())] {
        let mut line = Line::open(honest.pool.address);
        let before = honest.pool.ends("hello_replayed");
        // It may close before it has taken all of it.
        line.write_unless_closed(&recorded[..len]);
        honest.pool.wait_for_ends("hello_replayed", before + 1);
        // The victim is not displaced by it, and its work goes on.
        assert_eq!(victim.submit(&template.share(n).bare()), Ok(()));
        honest.shares += 1;
        honest.works();
        line.wait_for_close();
    }
    assert_eq!(honest.pool.ends("displaced"), 0);
    // What was replayed was refused as known, not counted again: `Honest` compares with the ledger at its end.
}

#[test]
fn a_replayed_hello_never_meets_the_same_keystream() {
    let honest = Honest::new();
    let gateway = Gateway::new();
    let mut greeting = gateway.greet(&honest.pool);
    greeting.push_hello();
    greeting.flush();
    let again = greeting.replayed(&honest.pool);
    let first = greeting.finish_unless_closed();
    match (first, again.finish_unless_closed()) {
        (Some(first), Some(second)) => {
            assert_ne!(first.pool_session, second.pool_session);
            assert_ne!(first.key.as_bytes(), second.key.as_bytes());
        }
        // Whichever came when the other was known.
        (Some(_), None) | (None, Some(_)) => honest.pool.wait_for_ends("hello_replayed", 1),
        (None, None) => panic!("both were turned away"),
    }
}

#[test]
fn random_bytes_inside_a_valid_channel() {
    let mut honest = Honest::new();
    for seed in 0..20 {
        honest.survives("bad_message", |pool| {
            let mut session = proven(pool);
            let mut plain = noise(seed, 1 + 37 * usize::try_from(seed).expect("small"));
            // A quarter of them begins as each message does.
            if let Some(first) = [0x27, 0x10, 0x50].get(usize::try_from(seed % 4).expect("small")) {
                plain[0] = *first;
                // A kind of 0x50 and lengths that point past the end.
                plain.truncate(60);
            }
            session.push_plain(&plain);
            end(session);
        });
    }
    honest.survives("bad_message", |pool| {
        let mut session = proven(pool);
        session.push_plain(&[]);
        end(session);
    });
}

#[test]
fn messages_that_are_cut_off_inside_a_valid_channel() {
    let mut honest = Honest::new();
    let session = proven(&honest.pool);
    let template = session.template(0, 1);
    let share = template.share(1);
    let plain = encoded(&share.with_sections());
    drop(session);
    honest.pool.wait_for_ends("peer_closed", 1);
    for len in [1, 5, 20, 30, 60, 90, 120, 200, plain.len() - 2] {
        honest.survives("bad_message", |pool| {
            let mut session = proven(pool);
            session.push_plain(&plain[..len]);
            end(session);
        });
    }
}

fn encoded(message: &impl millrace::wire::Encode) -> Vec<u8> {
    let mut plain = Vec::new();
    message.encode(&mut plain);
    plain
}

#[test]
fn a_bad_mac_after_the_first_good_frame() {
    let mut honest = Honest::new();
    honest.survives("bad_mac", |pool| {
        let mut session = proven(pool);
        let template = session.template(0, 1);
        session.push(&template.draft(1).with_sections());
        *session.pushed().last_mut().expect("a frame") ^= 1;
        end(session);
    });
    honest.survives("bad_mac", |pool| {
        let mut session = proven(pool);
        session.push_raw(mining_header(200), &noise(6, 200));
        end(session);
    });
    // Too short for a MAC.
    honest.survives("bad_mac", |pool| {
        let mut session = proven(pool);
        session.push_raw(mining_header(10), &noise(7, 10));
        end(session);
    });
    // The same frame twice: its nonce is used up.
    honest.survives("bad_mac", |pool| {
        let mut session = proven(pool);
        let template = session.template(0, 1);
        session.push(&template.draft(1).bare());
        let frame = session.pushed().to_vec();
        session.push_raw(mining_header(frame.len() - HEADER_LEN), &frame[HEADER_LEN..]);
        end(session);
    });
}

#[test]
fn headers_that_no_gateway_sends() {
    let mut honest = Honest::new();
    let mining = mining_header(50);
    let unexpected = [
        Header {
            command: command::HELLO,
            ..mining
        },
        Header {
            command: command::INFO,
            ..mining
        },
        Header { command: 31, ..mining },
        Header { signed: true, ..mining },
        Header { sealed: true, ..mining },
        Header {
            channel: false,
            ..mining
        },
    ];
    for header in unexpected {
        honest.survives("unexpected_command", |pool| {
            let mut session = proven(pool);
            session.push_raw(header, &noise(8, 50));
            end(session);
        });
    }
    honest.survives("bad_header", |pool| {
        let mut session = proven(pool);
        session.push_raw(mining, &noise(9, 50));
        // Bits 22 and 23 of a header are zero.
        session.pushed()[2] ^= 0x40;
        end(session);
    });
}
