//! `millrace check`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;
use millrace::config::{Config, Overrides};

use super::Answered;

#[derive(Debug, Args)]
pub struct Check {
    /// The configuration
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

/// Prints the configuration in force, every key of it.
pub fn run(args: &Check) -> Answered {
    let config = Config::load(&args.config, &Overrides::default())?;
    print!("{config}");
    eprintln!("{}: good", args.config.display());
    Ok(ExitCode::SUCCESS)
}
