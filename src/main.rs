//! The command line: what can be asked for, and who answers.

mod cli;

use std::io::Write;
use std::process::ExitCode;

use clap::Parser;
use mimalloc::MiMalloc;

#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    let answered = match cli::Cli::parse().command {
        cli::Command::Serve(args) => cli::serve::run(&args),
        cli::Command::Check(args) => cli::check::run(&args),
        cli::Command::Policy(args) => cli::policy::run(&args),
        cli::Command::Keys(args) => cli::keys::run(&args),
        cli::Command::Control(args) => cli::control::run(&args),
        cli::Command::Guard(args) => cli::guard::run(&args),
        cli::Command::Ledger(args) => cli::ledger::run(&args),
        cli::Command::Audit(args) => cli::audit::run(&args),
    };
    match answered {
        Ok(code) => code,
        // The reader of a pipe has enough.
        Err(error) if cli::is_broken_pipe(&*error) => ExitCode::SUCCESS,
        Err(error) => {
            // Nobody may be able to read it: then the status says what matters.
            let _ = writeln!(std::io::stderr(), "millrace: {error}");
            ExitCode::FAILURE
        }
    }
}
