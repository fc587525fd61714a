//! Attacks on a pool, one at a time and from one address: what its guards are for.
//!
//! One thread and no cryptography for each try: what is sent is made once. An attack goes on for its time, whatever the pool
//! does about it, and reports what it did. Floods of shares are the other generator's: `--bad 90 --rate max --may-cut`.

use std::collections::VecDeque;
use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use millrace::wire::{Agent, HELLO_MAX, Header, HeaderKey, Hello, PublicKeys, SecretKeys, command};
use mio::net::TcpStream;
use serde::Serialize;

use crate::socket;

/// Half-open tries at a time of an attack that is after speed.
const IN_FLIGHT: usize = 256;

/// How often connections that are held are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A slow sender's pause between two bytes.
const DRIP_EVERY: Duration = Duration::from_millis(500);

/// Attack a pool from one address, and say what came of it.
#[derive(Debug, Clone, Parser)]
#[command(name = "millrace-loadgen abuse", version)]
pub struct Args {
    pub attack: Attack,
    /// The pool's address
    #[arg(long, value_name = "ADDR")]
    pub pool: SocketAddr,
    /// The pool's public keys, as it prints them: 128 hex digits
    #[arg(long, value_name = "HEX")]
    pub pubkey: PublicKeys,
    /// The address that attacks
    #[arg(long, value_name = "ADDR", default_value = "127.0.9.9")]
    pub bind: IpAddr,
    /// How long
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    pub seconds: f64,
    /// Connections that are held, of an attack that holds them
    #[arg(long, value_name = "N", default_value_t = 5_000)]
    pub connections: usize,
    /// One JSON object on stdout
    #[arg(long)]
    pub json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Attack {
    /// Connections that say nothing
    HalfOpen,
    /// HELLO, a byte at a time
    SlowHello,
    /// A frame before HELLO, a byte at a time
    SlowEarly,
    /// A frame of a session, a byte at a time
    SlowFrame,
    /// A HELLO that does not open, as often as one core can send it
    BadHello,
    /// A good HELLO and frames behind it, recorded and sent again and again
    Replay,
}

/// What an attack did.
#[derive(Debug, Default, Serialize)]
pub struct Report {
    attack: String,
    seconds: f64,
    /// Connections that came to be.
    connected: u64,
    /// The same a second.
    connected_per_s: f64,
    /// Those to which the pool gave an answer of its own.
    answered: u64,
    /// Those that the pool has closed.
    closed_by_pool: u64,
    /// Those that could not be made.
    failed: u64,
    /// The most held at a time.
    held_max: usize,
    bytes: u64,
}

/// Attacks, and reports.
///
/// # Errors
/// The address cannot be connected from, or the system gives no randomness.
pub fn run(args: &Args) -> Result<Report, String> {
    socket::raise_open_files();
    let script = Script::new(args)?;
    let mut report = Report {
        attack: args
            .attack
            .to_possible_value()
            .map_or(String::new(), |name| name.get_name().to_owned()),
        ..Report::default()
    };
    let began = Instant::now();
    let until = began + Duration::from_secs_f64(args.seconds.clamp(0.1, 1e6));
    if script.drips || args.attack == Attack::HalfOpen {
        hold(args, &script, until, &mut report);
    } else {
        repeat(args, &script, until, &mut report);
    }
    report.seconds = began.elapsed().as_secs_f64();
    report.connected_per_s = report.connected as f64 / report.seconds;
    if report.connected == 0 {
        return Err(format!("no connection from {} to {}", args.bind, args.pool));
    }
    Ok(report)
}

/// What one connection says.
struct Script {
    /// At once.
    first: Vec<u8>,
    /// Then byte by byte.
    rest: Vec<u8>,
    drips: bool,
}

impl Script {
    fn new(args: &Args) -> Result<Self, String> {
        let hello = hello(&args.pubkey)?;
        let early = |key: HeaderKey| frame(command::MINING, key, &[0x5a; 300]);
        let (first, rest) = match args.attack {
            Attack::HalfOpen => (Vec::new(), Vec::new()),
            Attack::SlowHello => (Vec::new(), hello.bytes),
            Attack::SlowEarly => (Vec::new(), early(HeaderKey::FIRST)),
            // What follows HELLO opens under no key, which does not show before it is whole.
            Attack::SlowFrame => (hello.bytes, early(HeaderKey::gateway_to_pool(hello.nk))),
            Attack::BadHello => (frame(command::HELLO, HeaderKey::FIRST, &[0xa5; 500]), Vec::new()),
            Attack::Replay => (
                [hello.bytes, early(HeaderKey::gateway_to_pool(hello.nk))].concat(),
                Vec::new(),
            ),
        };
        Ok(Self {
            drips: !rest.is_empty(),
            first,
            rest,
        })
    }
}

struct Recorded {
    bytes: Vec<u8>,
    nk: u32,
}

/// A good HELLO, made once.
fn hello(pool: &PublicKeys) -> Result<Recorded, String> {
    let keys = || SecretKeys::generate().map_err(|error| error.to_string());
    let (long_term, session) = (keys()?, keys()?);
    let hello = Hello {
        long_term: long_term.public(),
        session: session.public(),
        agent: Agent::new("v0.4.1-beta/abuse"),
        nk: 0x0bad_cafe,
        padding: vec![0; 20],
    };
    let payload = Hello::seal(&hello.encode(&long_term), &pool.x25519);
    Ok(Recorded {
        bytes: frame(command::HELLO, HeaderKey::FIRST, &payload),
        nk: hello.nk,
    })
}

fn frame(command: u8, key: HeaderKey, payload: &[u8]) -> Vec<u8> {
    debug_assert!(payload.len() <= HELLO_MAX);
    let is_hello = command == command::HELLO;
    let header = Header {
        command,
        len: u32::try_from(payload.len()).expect("a short frame"),
        signed: is_hello,
        sealed: is_hello,
        channel: !is_hello,
    };
    [&header.encode(key), payload].concat()
}

/// One connection of the attack.
struct Line {
    stream: TcpStream,
    said: usize,
    answered: bool,
}

impl Line {
    fn open(args: &Args, report: &mut Report) -> Option<Self> {
        match socket::connect(args.pool, Some(args.bind)) {
            Ok(stream) => {
                // No port rests behind it.
                socket::reset_on_close(&stream);
                report.connected += 1;
                Some(Self {
                    stream,
                    said: 0,
                    answered: false,
                })
            }
            Err(_) => {
                report.failed += 1;
                None
            }
        }
    }

    /// Says `script` up to byte `until`. False where the connection has ended.
    fn say(&mut self, script: &Script, until: usize, report: &mut Report) -> bool {
        while self.said < until {
            let part = match self.said.checked_sub(script.first.len()) {
                None => &script.first[self.said..until.min(script.first.len())],
                Some(said) => &script.rest[said..until - script.first.len()],
            };
            match self.stream.write(part) {
                Ok(0) => return false,
                Ok(count) => {
                    self.said += count;
                    report.bytes += count as u64;
                }
                Err(error) => return matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected),
            }
        }
        true
    }

    /// Reads what there is. False where the connection has ended.
    fn listen(&mut self, report: &mut Report) -> bool {
        let mut bytes = [0; 4_096];
        loop {
            match self.stream.read(&mut bytes) {
                Ok(0) => return false,
                Ok(_) => {
                    report.answered += u64::from(!std::mem::replace(&mut self.answered, true));
                }
                Err(error) => return matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotConnected),
            }
        }
    }
}

/// Keeps as many connections as asked for, each saying a byte now and then.
fn hold(args: &Args, script: &Script, until: Instant, report: &mut Report) {
    let mut lines: Vec<(Instant, Line)> = Vec::new();
    while Instant::now() < until {
        let missing = args.connections.saturating_sub(lines.len());
        let opened = (0..missing).map_while(|_| Line::open(args, report).map(|line| (Instant::now(), line)));
        let opened: Vec<_> = opened.collect();
        lines.extend(opened);
        report.held_max = report.held_max.max(lines.len());
        std::thread::sleep(LOOK_EVERY);
        lines.retain_mut(|(since, line)| {
            let dripped = (since.elapsed().as_millis() / DRIP_EVERY.as_millis()) as usize;
            let due = script.first.len() + dripped.min(script.rest.len());
            let lives = line.say(script, due, report) && line.listen(report);
            report.closed_by_pool += u64::from(!lives);
            lives
        });
    }
}

/// Says all of it on one connection after another.
fn repeat(args: &Args, script: &Script, until: Instant, report: &mut Report) {
    let mut lines: VecDeque<Line> = VecDeque::new();
    while Instant::now() < until {
        if lines.len() >= IN_FLIGHT
            && let Some(mut line) = lines.pop_front()
        {
            line.say(script, script.first.len(), report);
            report.closed_by_pool += u64::from(!line.listen(report));
        }
        let Some(mut line) = Line::open(args, report) else {
            std::thread::sleep(Duration::from_millis(1));
            continue;
        };
        if line.say(script, script.first.len(), report) {
            lines.push_back(line);
        } else {
            report.closed_by_pool += 1;
        }
        report.held_max = report.held_max.max(lines.len());
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} for {:.1} s", self.attack, self.seconds)?;
        writeln!(
            f,
            "  connections      {} ({:.0}/s)",
            self.connected, self.connected_per_s
        )?;
        writeln!(f, "  answered         {}", self.answered)?;
        writeln!(f, "  closed by pool   {}", self.closed_by_pool)?;
        writeln!(f, "  not made         {}", self.failed)?;
        writeln!(f, "  held at most     {}", self.held_max)?;
        writeln!(f, "  bytes            {}", self.bytes)
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn attacks_say_what_they_should() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let pool = listener.local_addr().expect("an address");
        let heard = std::thread::spawn(move || {
            let mut heard = Vec::new();
            for stream in listener.incoming().take(10) {
                let mut bytes = Vec::new();
                // It ends with a reset.
                let _ = stream.expect("a connection").read_to_end(&mut bytes);
                heard.push(bytes);
            }
            heard
        });
        let pubkey = SecretKeys::generate().expect("randomness").public();
        let args = Args {
            attack: Attack::BadHello,
            pool,
            pubkey,
            bind: "127.0.9.9".parse().expect("an address"),
            seconds: 0.5,
            connections: 10,
            json: false,
        };
        let report = run(&args).expect("an attack");
        assert!(report.connected >= 10 && report.bytes >= 10 * 504, "{report}");
        let heard = heard.join().expect("it hears all of them");
        assert!(heard.iter().any(|bytes| bytes.len() == 504));
    }
}
