//! The real binary as a child process, for tests of what it promises.
//!
//! Every pool has a data folder of its own and free ports; dropping it kills the process and removes the folder.

#![allow(dead_code)] // Each test file uses the part it needs.

pub mod gateway;
pub mod work;

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use millrace::wire::PublicKeys;
use tempfile::TempDir;

/// How long a test waits for what must happen: long, since it is only reached where the test fails.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Pool {
    child: Child,
    data: TempDir,
    args: Vec<String>,
    pub key: PublicKeys,
    pub address: SocketAddr,
    metrics: SocketAddr,
}

impl Pool {
    /// A pool on the dev chain with one shard.
    pub fn start() -> Self {
        Self::with(&["--shards", "1"])
    }

    /// A pool on the dev chain with more arguments of `serve`.
    pub fn with(args: &[&str]) -> Self {
        let data = TempDir::new().expect("a folder for the test");
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        let (child, key, address, metrics) = spawn(data.path(), &args);
        Self {
            child,
            data,
            args,
            key,
            address,
            metrics,
        }
    }

    /// Starts the process again on the same data, at a new port.
    pub fn restart(&mut self) {
        let (child, key, address, metrics) = spawn(self.data.path(), &self.args);
        assert_eq!(key, self.key, "the pool's key is on disk");
        self.child = child;
        self.address = address;
        self.metrics = metrics;
    }

    pub fn data(&self) -> &Path {
        self.data.path()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends the process as a power cut would.
    pub fn kill(&mut self) {
        self.child.kill().expect("the pool was running");
        self.child.wait().expect("the pool ends");
    }

    /// Asks the process to stop and waits until it has.
    pub fn terminate(&mut self) -> ExitStatus {
        signal(self.child.id(), "TERM");
        self.wait()
    }

    pub fn wait(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().expect("the pool can be waited for") {
                return status;
            }
            assert!(Instant::now() < deadline, "the pool does not end");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// The metrics as Prometheus text.
    pub fn metrics(&self) -> String {
        let mut stream = TcpStream::connect(self.metrics).expect("the metrics address answers");
        stream
            .write_all(b"GET /metrics HTTP/1.1\r\nHost: pool\r\nConnection: close\r\n\r\n")
            .expect("the request is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the answer is text");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        answer
    }

    /// The sum over all series of `name` whose labels hold every one of `labels`, as `key="value"`.
    pub fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        let text = self.metrics();
        let series = text.lines().filter(|line| {
            line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']))
                && labels.iter().all(|label| line.contains(label))
        });
        series
            .map(|line| line.rsplit(' ').next().and_then(|value| value.parse::<u64>().ok()).expect("a whole number"))
            .sum()
    }

    /// Waits until the metric is at least `value`.
    pub fn wait_for_metric(&self, name: &str, labels: &[&str], value: u64) {
        wait_until(
            || self.metric(name, labels) >= value,
            || format!("{name} {labels:?} does not reach {value}:\n{}", self.metrics()),
        );
    }

    /// `millrace ledger COMMAND --json` on the pool's data, running or not.
    pub fn ledger(&self, command: &str) -> serde_json::Value {
        let output = Command::new(binary())
            .args(["ledger", command, "--json", "--data-dir"])
            .arg(self.data.path())
            .output()
            .expect("the binary runs");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(
            output.status.success(),
            "ledger {command}: {text}{}",
            String::from_utf8_lossy(&output.stderr)
        );
        serde_json::from_str(&text).expect("one JSON object")
    }

    /// Shares on disk.
    pub fn stored(&self) -> u64 {
        self.ledger("stats")["shares"].as_u64().expect("a count of shares")
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn binary() -> PathBuf {
    PathBuf::from(env!("CARGO_BIN_EXE_millrace"))
}

/// Waits until `done`, and says `why` where that takes longer than anybody waits.
pub fn wait_until(mut done: impl FnMut() -> bool, why: impl FnOnce() -> String) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "{}", why());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .status()
        .expect("kill runs");
    assert!(status.success());
}

fn spawn(data: &Path, args: &[String]) -> (Child, PublicKeys, SocketAddr, SocketAddr) {
    let mut child = Command::new(binary())
        .args(["serve", "--dev", "--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--data-dir"])
        .arg(data)
        .args(args)
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let lines = lines_of(child.stdout.take().expect("stdout is a pipe"));
    let (mut key, mut address, mut metrics) = (None, None, None);
    while key.is_none() || address.is_none() || metrics.is_none() {
        let line = match lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(_) => {
                let _ = child.kill();
                panic!("the pool did not come up: key {key:?}, address {address:?}, metrics {metrics:?}");
            }
        };
        match line.split_once(' ') {
            Some(("pool_pubkey", hex)) => key = Some(hex.parse().expect("128 hex digits")),
            Some(("listening", text)) => address = Some(text.parse().expect("an address")),
            Some(("metrics", text)) => metrics = Some(text.parse().expect("an address")),
            _ => {}
        }
    }
    let (Some(key), Some(address), Some(metrics)) = (key, address, metrics) else {
        unreachable!("the loop ends when all are known")
    };
    (child, key, address, metrics)
}

/// Reads lines on a thread of its own, so that waiting for one can be given up.
fn lines_of(stdout: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            if sender.send(line).is_err() {
                return;
            }
        }
    });
    lines
}
