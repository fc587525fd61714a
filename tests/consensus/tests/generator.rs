//! Gateways of the load generator, as a child process, that mine on the node's templates.

use std::process::{Child, Command, Output, Stdio};

use serde_json::Value;

use super::millrace::{Pool, binary};
use super::node::Node;

/// Longer than any test waits for what it waits for.
const SECONDS_MAX: &str = "1000";

/// Mines until so many blocks are found; what the generator reports.
#[track_caller]
pub fn mine(pool: &Pool, node: &Node, blocks: usize, more: &[&str]) -> Value {
    let blocks = blocks.to_string();
    let mut command = command(pool, node);
    command.args(["--seconds", "120", "--rate", "2", "--blocks", &blocks]);
    command.args(more).stdin(Stdio::null());
    report(&command.output().expect("the generator runs"))
}

/// Gateways that mine until they are told to end, or nobody is left to tell them.
pub struct Mining(Child);

impl Mining {
    pub fn start(pool: &Pool, node: &Node, more: &[&str]) -> Self {
        let mut command = command(pool, node);
        command.args(["--seconds", SECONDS_MAX, "--until-eof"]).args(more);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        Self(command.spawn().expect("the generator starts"))
    }

    /// Ends it; what it reports.
    #[track_caller]
    pub fn end(self) -> Value {
        // Its stdin ends with this.
        report(&self.0.wait_with_output().expect("the generator ends"))
    }
}

fn command(pool: &Pool, node: &Node) -> Command {
    let at = node.at();
    let mut command = Command::new(binary().with_file_name("millrace-loadgen"));
    command.args(["--pool", &pool.address, "--pubkey", &pool.key, "--bad", "0", "--json"]);
    command.args(["--asics", "12", "--payees", "12", "--node", &at.rpc, "--cookie"]);
    command.arg(&at.cookie);
    command
}

/// All answers were what they had to be: else it fails.
#[track_caller]
fn report(output: &Output) -> Value {
    assert!(
        output.status.success(),
        "the generator fails:\n{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("one JSON object")
}
