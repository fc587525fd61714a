//! The commands by name. Each has a file of its own here; what they print for programs goes to stdout, all else to
//! stderr.

pub mod audit;
pub mod check;
pub mod control;
pub mod guard;
pub mod keys;
pub mod ledger;
mod passphrase;
pub mod policy;
pub mod serve;

use std::error::Error;
use std::io;
use std::path::PathBuf;
use std::process::ExitCode;

pub use self::passphrase::PassphraseFrom;
use clap::{Args, Parser, Subcommand};
use millrace::config::DEFAULT_DATA_DIR;
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// What a command comes to: its exit status, or why there is none.
pub type Answered = Result<ExitCode, Box<dyn Error>>;

/// A DATUM pool engine: every share checked and on disk before it is acknowledged.
#[derive(Debug, Parser)]
#[command(version)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the pool
    Serve(serve::Serve),
    /// Say what is wrong with a configuration, and start nothing
    Check(check::Check),
    /// The pool's long-term keys, which gateways pin it by
    Keys(keys::Keys),
    /// Say something to the running pool
    Control(control::Control),
    /// Who may mine, told to the running pool
    Policy(policy::Policy),
    /// Whom the running pool has banned
    Guard(guard::Guard),
    /// Read the ledger, beside a running pool too
    Ledger(ledger::Ledger),
    /// Prove a block to somebody who does not trust the pool, or check such a proof
    Audit(audit::Audit),
}

/// Where a pool keeps its data.
#[derive(Debug, Args)]
pub struct DataDir {
    /// The pool's data folder
    #[arg(long = "data-dir", value_name = "DIR", default_value = DEFAULT_DATA_DIR)]
    pub path: PathBuf,
}

/// Raises the soft limit on file descriptors to the hard one, and says what holds now; none where nothing does.
pub fn raise_descriptor_limit() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    // Not raised, it is what it was.
    let _ = setrlimit(Resource::Nofile, raised);
    getrlimit(Resource::Nofile).current
}

/// Whether a command ended because nobody reads its output any more.
pub fn is_broken_pipe(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if error
            .downcast_ref::<io::Error>()
            .is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
        {
            return true;
        }
        cause = error.source();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::CommandFactory;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn serve_takes_a_file_or_dev_and_not_both() {
        let parse = |args: &[&str]| Cli::try_parse_from([&["millrace", "serve"], args].concat());
        assert!(parse(&["--dev"]).is_ok());
        assert!(parse(&["--config", "pool.toml", "--shards", "2"]).is_ok());
        assert!(parse(&["--dev", "--config", "pool.toml"]).is_err());
        assert!(parse(&[]).is_err());
    }
}
