//! The command line.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::str::FromStr;

use clap::Parser;
use millrace::wire::PublicKeys;

use crate::template::Spoilt;

/// Simulated DATUM gateways that put a millrace pool on its dev chain under load and check every answer.
///
/// `millrace-loadgen abuse --help` has the attacks that a pool must hold out against, `millrace-loadgen node --help` a node
/// for pools that are measured.
///
/// Exit status 1: an answer was missing, wrong or sent twice, the pool broke the protocol or ended a connection, a
/// gateway was not connected at the end, or, with --data-dir, the ledger does not hold exactly what was acknowledged.
#[derive(Debug, Clone, Parser)]
#[command(version)]
pub struct Args {
    /// The pool's address
    #[arg(long, value_name = "ADDR")]
    pub pool: SocketAddr,
    /// The pool's public keys, as it prints them: 128 hex digits
    #[arg(long, value_name = "HEX")]
    pub pubkey: PublicKeys,
    /// Gateways that connect
    #[arg(long, value_name = "N", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub gateways: u32,
    /// Shares a second of all gateways, or `max`: every gateway keeps --in-flight shares unanswered
    #[arg(long, value_name = "R|max", default_value = "max")]
    pub rate: Rate,
    /// How long to mine once all gateways are connected
    #[arg(long, value_name = "S", default_value_t = 10.0)]
    pub seconds: f64,
    /// Mine so long before what is measured
    #[arg(long, value_name = "S", default_value_t = 0.0)]
    pub warm_up: f64,
    /// And so long after it
    #[arg(long, value_name = "S", default_value_t = 0.0)]
    pub cool_down: f64,
    /// Unanswered shares of one gateway, at which it waits
    #[arg(long, value_name = "K", default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub in_flight: u32,
    /// Share of bad shares, each of which must come back with its reason
    #[arg(long, value_name = "PERCENT", default_value_t = 1.0)]
    pub bad: f64,
    /// Miners behind each gateway: their classes, usernames and pots differ
    #[arg(long, value_name = "M", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    pub asics: u8,
    /// Payees that all miners share, so that splits have many outputs; by default one for each gateway
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=1_000_000))]
    pub payees: Option<u32>,
    /// Merkle branches of a template, in turn
    #[arg(long, value_name = "MIN..MAX", default_value = "0..12")]
    pub branches: Branches,
    /// Shares of one gateway that are due together (with a rate)
    #[arg(long, value_name = "B", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=65_536))]
    pub burst: u32,
    /// A new template of every gateway this often
    #[arg(long, value_name = "S", default_value_t = 5.0)]
    pub job_every: f64,
    /// A new tip this often; every 60 s where nothing is said, and with --node when that has one
    #[arg(long, value_name = "S")]
    pub tip_every: Option<f64>,
    /// Take templates from the RPC of this node instead of making them up, and mine blocks on them: on regtest, with
    /// `target_shift = 32`
    #[arg(long, value_name = "ADDR", requires = "cookie", conflicts_with_all = ["storm", "ask"])]
    pub node: Option<SocketAddr>,
    /// The node's cookie
    #[arg(long, value_name = "FILE", requires = "node")]
    pub cookie: Option<PathBuf>,
    /// Leave blocks to the pool: else gateways bring them to the node first, as they do
    #[arg(long, requires = "node")]
    pub leave_blocks: bool,
    /// Spoil each template, or what is said of it: the pool must come to refuse the work by reason 26, but for `ids`
    #[arg(long, value_name = "HOW", requires = "leave_blocks", conflicts_with = "blocks")]
    pub spoil: Option<Spoilt>,
    /// So many of the gateways spoil theirs, and the others are honest; all of them where nothing is said
    #[arg(long, value_name = "N", requires = "spoil")]
    pub spoilers: Option<u32>,
    /// Pass blocks over, so that the tip stands: every share is of the least pot, and none is a block. On regtest the pool's
    /// `min_diff` is 1 then
    #[arg(long, requires = "node", conflicts_with = "blocks")]
    pub no_blocks: bool,
    /// End once so many blocks are found, and after --seconds at the latest
    #[arg(long, value_name = "N", requires = "node")]
    pub blocks: Option<usize>,
    /// End once stdin ends, and after --seconds at the latest
    #[arg(long)]
    pub until_eof: bool,
    /// Every gateway drops its connection this often and comes back at once, with early shares
    #[arg(long, value_name = "S")]
    pub drop_every: Option<f64>,
    /// The pool may end connections, as one that is restarted does: shares under way then may be lost, and early ones
    /// be unreadable
    #[arg(long)]
    pub may_cut: bool,
    /// Ask the pool for a planned restart (SIGUSR2 to --pid) this often, the last with half of that left: every session must
    /// mine again. Connections may end then, and what was sent on them and not answered is lost
    #[arg(long, value_name = "S", requires = "pid", conflicts_with_all = ["hold", "storm"])]
    pub restart_every: Option<f64>,
    /// The process of the pool
    #[arg(long, value_name = "PID", requires = "restart_every", value_parser = clap::value_parser!(i32).range(2..))]
    pub pid: Option<i32>,
    /// So many gateways connect, send one share and close, again and again; --rate is connections a second then
    #[arg(long, value_name = "N", conflicts_with_all = ["gateways", "hold", "drop_every"])]
    pub storm: Option<u32>,
    /// Every gateway sends a few shares and then stays connected without work
    #[arg(long, conflicts_with = "drop_every")]
    pub hold: bool,
    /// With --hold: when the time is over a tip comes, and all gateways ask for its split within so many seconds
    #[arg(long, value_name = "S", requires = "hold")]
    pub ask: Option<f64>,
    /// Threads, each with its part of the gateways
    #[arg(long, value_name = "T", default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub threads: u16,
    /// Connect from this address, or from so many from it on; by default from 127.0.1.1 on where one has too few ports
    #[arg(long, value_name = "ADDR[/COUNT]")]
    pub bind: Option<Sources>,
    /// Repeats the work of a run, but for its keys and times
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Compare what was acknowledged with the ledger in this folder; without it the summary says that nobody did
    #[arg(long, value_name = "DIR")]
    pub data_dir: Option<PathBuf>,
    /// Compare them one by one too, by their hashes
    #[arg(long, requires = "data_dir")]
    pub by_hash: bool,
    /// The millrace binary that reads the ledger; by default the one beside this program
    #[arg(long, value_name = "FILE")]
    pub millrace: Option<PathBuf>,
    /// The pool's metrics: its own latencies are shown at the end
    #[arg(long, value_name = "ADDR")]
    pub metrics: Option<SocketAddr>,
    /// One JSON object on stdout; what a person reads goes to stderr
    #[arg(long)]
    pub json: bool,
}

impl Args {
    /// What single arguments cannot tell.
    ///
    /// # Errors
    /// The argument that is wrong and why.
    pub fn check(&self) -> Result<(), String> {
        for (name, value, least) in [
            ("--seconds", self.seconds, 0.1),
            ("--job-every", self.job_every, 0.1),
            ("--tip-every", self.tip_every.unwrap_or(1.0), 0.1),
            ("--drop-every", self.drop_every.unwrap_or(1.0), 0.5),
            ("--restart-every", self.restart_every.unwrap_or(1.0), 1.0),
            ("--warm-up", self.warm_up, 0.0),
            ("--cool-down", self.cool_down, 0.0),
        ] {
            if !(least..=1e6).contains(&value) {
                return Err(format!("{name} {value}: from {least} s to 1,000,000 s"));
            }
        }
        if let Some(ask) = self.ask.filter(|ask| !(0.0..=60.0).contains(ask)) {
            return Err(format!("--ask {ask}: from 0 s to 60 s"));
        }
        if !(0.0..=90.0).contains(&self.bad) {
            return Err(format!("--bad {}: from 0 to 90 percent", self.bad));
        }
        if self.node.is_some() && self.bad > 0.0 {
            return Err(format!("--bad {}: a node's templates take --bad 0", self.bad));
        }
        if u32::from(self.threads) > self.count() {
            return Err(format!("--threads {}: more than gateways", self.threads));
        }
        Ok(())
    }

    /// How long gateways mine, measured or not, in s.
    pub fn mining_s(&self) -> f64 {
        self.warm_up + self.seconds + self.cool_down
    }

    /// Gateways of the run.
    pub fn count(&self) -> u32 {
        self.storm.unwrap_or(self.gateways).max(1)
    }
}

/// Shares a second.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Rate {
    /// Closed loop.
    Max,
    /// Open loop.
    PerSecond(f64),
}

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text == "max" {
            return Ok(Self::Max);
        }
        match text.parse::<f64>() {
            Ok(rate) if (0.001..=1e9).contains(&rate) => Ok(Self::PerSecond(rate)),
            _ => Err("a number above 0, or max".into()),
        }
    }
}

/// Fewest and most merkle branches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Branches(pub RangeInclusive<u8>);

impl FromStr for Branches {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (min, max) = text.split_once("..").unwrap_or((text, text));
        match (min.parse(), max.parse()) {
            (Ok(min), Ok(max)) if min <= max && max <= 24 => Ok(Self(min..=max)),
            _ => Err("a number up to 24, or two as in 0..12".into()),
        }
    }
}

/// Addresses to connect from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sources {
    first: IpAddr,
    count: u32,
}

impl Sources {
    /// From the loopback network.
    pub fn loopback(count: u32) -> Self {
        Self {
            first: IpAddr::from([127, 0, 1, 1]),
            count,
        }
    }

    /// The `n`th, in turn.
    pub fn address(&self, n: u64) -> IpAddr {
        let step = (n % u64::from(self.count)) as u32;
        match self.first {
            IpAddr::V4(first) => u32::from(first).wrapping_add(step).to_be_bytes().into(),
            IpAddr::V6(first) => u128::from(first).wrapping_add(u128::from(step)).to_be_bytes().into(),
        }
    }
}

impl FromStr for Sources {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (first, count) = text.split_once('/').unwrap_or((text, "1"));
        match (first.parse(), count.parse()) {
            (Ok(first), Ok(count @ 1..)) => Ok(Self { first, count }),
            _ => Err("an address, or one and how many from it on as in 127.0.5.1/16".into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Args::command().debug_assert();
    }

    #[test]
    fn sources_count_on_from_the_first() {
        let sources: Sources = "127.0.5.254/3".parse().expect("sources");
        let addresses: Vec<_> = (0..4).map(|n| sources.address(n).to_string()).collect();
        assert_eq!(addresses, ["127.0.5.254", "127.0.5.255", "127.0.6.0", "127.0.5.254"]);
        assert!("127.0.5.1/0".parse::<Sources>().is_err());
    }

    #[test]
    fn rates_and_branches() {
        assert_eq!("max".parse(), Ok(Rate::Max));
        assert_eq!("2.5".parse(), Ok(Rate::PerSecond(2.5)));
        assert!("0".parse::<Rate>().is_err());
        assert_eq!("12".parse(), Ok(Branches(12..=12)));
        assert!("3..2".parse::<Branches>().is_err());
    }
}
