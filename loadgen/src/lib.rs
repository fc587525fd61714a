//! Simulated DATUM gateways and their miners: they put a millrace pool under load and check every answer.
//!
//! The binary is [`main`]. What makes templates, coinbases and shares is public: benches measure with them, and the consensus
//! tests hold them to Bitcoin Core.

mod abuse;
mod asic;
mod check;
mod cli;
mod clock;
pub mod coinbase;
mod connection;
pub mod draft;
mod driver;
mod gateway;
mod line;
mod mix;
#[cfg(test)]
mod mock;
mod payee;
mod progress;
mod report;
mod restart;
mod rng;
mod run;
mod schedule;
mod scrape;
mod sha256d;
mod slots;
mod socket;
mod stand_in;
mod summary;
mod tally;
pub mod template;
mod tip;
mod upstream;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::Parser;

pub use crate::report::Report;

/// A run with these arguments, the program's name first.
///
/// # Errors
/// The argument that is wrong, or why the run could not be made.
pub fn run(args: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<Report, String> {
    let args = cli::Args::try_parse_from(args).map_err(|error| error.to_string())?;
    args.check()?;
    run::run(&args)
}

/// An attack with these arguments, the name of the command first. What it did, and whether nobody but the attacker was harmed.
///
/// # Errors
/// The argument that is wrong, or why nothing could be attacked.
pub fn attack(args: impl IntoIterator<Item = impl Into<OsString> + Clone>) -> Result<(String, bool), String> {
    let args = abuse::Args::try_parse_from(args).map_err(|error| error.to_string())?;
    abuse::run(&args).map(|report| (report.to_string(), report.ok()))
}

/// The command line.
#[must_use]
pub fn main() -> ExitCode {
    // Threads wait for each other: one that panics must not leave the others waiting.
    let default_hook = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |panic| {
        default_hook(panic);
        std::process::exit(101);
    }));
    let what = std::env::args_os().nth(1);
    let rest = std::env::args_os().skip(1);
    if what.as_ref().is_some_and(|what| what == "abuse") {
        return attacked(&abuse::Args::parse_from(rest));
    }
    if what.as_ref().is_some_and(|what| what == "node") {
        return stand_in::main(&stand_in::Args::parse_from(rest));
    }
    let args = cli::Args::parse();
    let report = match args.check().and_then(|()| run::run(&args)) {
        Ok(report) => report,
        Err(error) => {
            eprintln!("millrace-loadgen: {error}");
            return ExitCode::FAILURE;
        }
    };
    if args.json {
        eprint!("{report}");
        println!("{}", serde_json::to_string(&report).expect("a report is plain data"));
    } else {
        print!("{report}");
    }
    if report.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}

fn attacked(args: &abuse::Args) -> ExitCode {
    match abuse::run(args) {
        Ok(report) => {
            if args.json {
                println!("{}", serde_json::to_string(&report).expect("a report is plain data"));
            } else {
                print!("{report}");
            }
            if report.ok() {
                return ExitCode::SUCCESS;
            }
            eprintln!("millrace-loadgen: the attack harmed a gateway");
        }
        Err(error) => eprintln!("millrace-loadgen: {error}"),
    }
    ExitCode::FAILURE
}
