//! Attacks on a pool, one at a time, from one address or from many: what its guards are for.
//!
//! One thread. What needs no session is made once and sent again and again; what needs one has a real gateway behind it
//! ([`crate::gateway`]). An attack goes on for its time, whatever the pool does about it, and reports what it did. Floods of
//! shares are the other generator's: `--bad 90 --rate max --may-cut`.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use millrace::wire::PublicKeys;
use mio::net::TcpStream;
use serde::Serialize;

use crate::cli::Sources;
use crate::socket;

mod actor;
mod hold;
mod repeat;
mod replay;
mod script;
#[cfg(test)]
mod tests;

/// Attack a pool, and say what came of it.
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
    /// The address that attacks, or so many from it on
    #[arg(long, value_name = "ADDR[/COUNT]", default_value = "127.0.9.9")]
    pub bind: Sources,
    /// The address of the gateway whose sessions are recorded, of an attack that sends them again
    #[arg(long, value_name = "ADDR", default_value = "127.0.8.8")]
    pub victim: IpAddr,
    /// How long, once there is something to attack with
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
    /// The header of a proxy, a byte at a time; of an address that the pool takes for one
    SlowProxy,
    /// A frame before HELLO, a byte at a time
    SlowEarly,
    /// HELLO, a byte at a time
    SlowHello,
    /// A handshake, and then nothing
    SlowStart,
    /// A session with a good share, and then a frame of it a byte at a time
    SlowFrame,
    /// A session that sends shares and asks for splits, and reads nothing
    Deaf,
    /// A session that gives the pool as many coinbases to keep as it takes
    Hoard,
    /// A HELLO that does not open, or is not signed, as often as one core can send it
    BadHello,
    /// What a real gateway has sent on many connections, HELLO and early frames and all, again and again: while it lives, and
    /// when it is gone
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
    /// Of what is sent whole: how often, and the same a second.
    sent: u64,
    sent_per_s: f64,
    /// Sessions that got as far as CONFIG.
    sessions: u64,
    /// Those to which the pool gave an answer of its own.
    answered: u64,
    /// Those that the pool has closed.
    closed_by_pool: u64,
    /// Those that could not be made.
    failed: u64,
    /// The most held at a time.
    held_max: usize,
    bytes: u64,
    victim: Option<Victim>,
}

/// The gateway whose sessions were recorded.
#[derive(Debug, Default, Serialize)]
struct Victim {
    /// Connections of it that were recorded.
    recorded: u64,
    /// Its own shares, and those acknowledged.
    sent: u64,
    acknowledged: u64,
    /// Sessions of it that the pool ended, and those that it could not begin.
    cut_off: u64,
}

/// Attacks, and reports.
///
/// # Errors
/// The address cannot be connected from, the system gives no randomness, or no session could be recorded.
pub fn run(args: &Args) -> Result<Report, String> {
    socket::raise_open_files();
    let mut report = Report {
        attack: args
            .attack
            .to_possible_value()
            .map_or(String::new(), |name| name.get_name().to_owned()),
        ..Report::default()
    };
    let mut began = Instant::now();
    let lasts = Duration::from_secs_f64(args.seconds.clamp(0.1, 1e6));
    let until = began + lasts;
    match args.attack {
        Attack::BadHello => repeat::bad_hellos(args, until, &mut report)?,
        Attack::Replay => began = replay::run(args, lasts, &mut report)?,
        Attack::HalfOpen | Attack::SlowProxy | Attack::SlowEarly | Attack::SlowHello => {
            let script = script::slow(args.attack, &args.pubkey)?;
            let open = || hold::Mute::new(&script);
            hold::hold(args, open, until, &mut report);
        }
        Attack::SlowStart | Attack::SlowFrame | Attack::Deaf | Attack::Hoard => {
            let stage = std::cell::RefCell::new(actor::Stage::new(args.pubkey));
            let open = || hold::Acting::new(args.attack, &stage);
            hold::hold(args, open, until, &mut report);
        }
    }
    report.seconds = began.elapsed().as_secs_f64();
    report.connected_per_s = report.connected as f64 / report.seconds;
    report.sent_per_s = report.sent as f64 / report.seconds;
    if report.connected == 0 {
        return Err(format!("no connection to {} could be made", args.pool));
    }
    Ok(report)
}

impl Report {
    /// Whether nobody but the attacker was harmed, as far as an attack can tell.
    pub fn ok(&self) -> bool {
        self.victim
            .as_ref()
            .is_none_or(|victim| victim.cut_off == 0 && victim.acknowledged == victim.sent)
    }

    /// Connects from the next address.
    fn connect(&mut self, args: &Args) -> Option<TcpStream> {
        match socket::connect(args.pool, Some(args.bind.address(self.connected + self.failed))) {
            Ok(stream) => {
                // No port rests behind it.
                socket::reset_on_close(&stream);
                self.connected += 1;
                Some(stream)
            }
            Err(_) => {
                self.failed += 1;
                None
            }
        }
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
        writeln!(f, "  sent whole       {} ({:.0}/s)", self.sent, self.sent_per_s)?;
        writeln!(f, "  sessions         {}", self.sessions)?;
        writeln!(f, "  answered         {}", self.answered)?;
        writeln!(f, "  closed by pool   {}", self.closed_by_pool)?;
        writeln!(f, "  not made         {}", self.failed)?;
        writeln!(f, "  held at most     {}", self.held_max)?;
        writeln!(f, "  bytes            {}", self.bytes)?;
        if let Some(victim) = &self.victim {
            writeln!(
                f,
                "  whose was replayed: {} connections; shares sent meanwhile {}, acknowledged {}, cut off {}",
                victim.recorded, victim.sent, victim.acknowledged, victim.cut_off
            )?;
        }
        Ok(())
    }
}
