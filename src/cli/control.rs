//! `millrace control`: says something to the running pool, through its control socket.

use std::error::Error;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, Subcommand};
use millrace::control::SOCKET_NAME;
use serde_json::{Value, json};

use super::{Answered, DataDir};

/// A pool that is alive answers at once, but for its books, which may read the log back first; one that drains has
/// closed the socket.
const PATIENCE: Duration = Duration::from_secs(70);

#[derive(Debug, Args)]
pub struct Control {
    #[command(flatten)]
    data_dir: DataDir,
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// How it is
    Status,
    /// Say a line in the log of every gateway
    Info { line: String },
    /// Stop as SIGTERM does
    Drain,
    /// Say what has become of a block of ours; on the dev chain nobody else does
    Block {
        /// As people write it: 64 hex digits
        hash: String,
        #[arg(value_parser = ["maturing", "mature", "orphaned", "rejected"])]
        state: String,
    },
    /// Book a block that does not book itself: a recorded candidate, or one in the chain that no share announced
    Book {
        /// As people write it: 64 hex digits
        hash: String,
    },
}

pub fn run(args: &Control) -> Answered {
    let request = match &args.what {
        What::Status => json!({ "cmd": "status" }),
        What::Info { line } => json!({ "cmd": "info", "line": line }),
        What::Drain => json!({ "cmd": "drain" }),
        What::Block { hash, state } => json!({ "cmd": "block", "hash": hash, "state": state }),
        What::Book { hash } => json!({ "cmd": "book", "hash": hash }),
    };
    say(&args.data_dir, &request)
}

/// Says a line to the running pool and prints what it answers.
pub fn say(data_dir: &DataDir, request: &Value) -> Answered {
    let answer = exchange(data_dir, request)?;
    print!("{answer}");
    let answer: Value = serde_json::from_str(&answer)?;
    Ok(if answer["ok"] == true {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Says a line to the running pool and gives the line that it answers.
pub fn exchange(data_dir: &DataDir, request: &Value) -> Result<String, Box<dyn Error>> {
    let path = data_dir.path.join(SOCKET_NAME);
    let mut socket =
        UnixStream::connect(&path).map_err(|error| format!("{}: {error}; is the pool running?", path.display()))?;
    socket.set_read_timeout(Some(PATIENCE))?;
    writeln!(socket, "{request}")?;
    let mut answer = String::new();
    BufReader::new(socket).read_line(&mut answer)?;
    Ok(answer)
}
