//! The real millrace as a child process. `make` builds it before these tests, and its load generator; `MILLRACE_BIN` names
//! another, with a generator beside it.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::Instant;

use serde_json::Value;
use tempfile::TempDir;

use super::node::{Node, PATIENCE};

/// Lines of the pool's log that a failed test shows.
const LOG_LINES_SHOWN: usize = 40;

/// A pool that runs; killed when it goes out of scope.
pub struct Pool {
    home: TempDir,
    child: Child,
    /// 128 hex digits.
    pub key: String,
    pub address: String,
    metrics: String,
}

impl Pool {
    /// On the chain of this node, with every share of it a block.
    pub fn start(node: &Node) -> Self {
        Self::at_difficulty(node, 2)
    }

    /// The same with shares of which every other one is no block.
    pub fn start_with_shares(node: &Node) -> Self {
        Self::at_difficulty(node, 1)
    }

    fn at_difficulty(node: &Node, min_diff: u8) -> Self {
        let home = tempfile::tempdir().expect("a folder");
        let at = node.at();
        // Whose difficulty counts for more than its own, so that the window holds shares of many.
        let mut config = format!(
            "[pool]\nmin_diff = {min_diff}\n[chain]\nname = \"regtest\"\ntarget_shift = 32\nstale_grace_s = 600\n\
             difficulty_floor = 64\n[split]\nminimum_payout_sat = 546\n[templates]\ncheck_one_in = 1\n",
        );
        config += &format!(
            "[[nodes]]\nrpc = \"{}\"\ncookie_file = \"{}\"\n",
            at.rpc,
            at.cookie.display()
        );
        if node.publishes() {
            config += &format!("zmq = [\"{}\"]\n", at.zmq);
        }
        std::fs::write(home.path().join("pool.toml"), config).expect("a file");
        let keys = millrace(home.path(), &["keys", "new"]);
        assert!(keys.is_some(), "keys can be made");
        let (child, lines) = spawn(home.path());
        let mut pool = Self {
            home,
            child,
            key: String::new(),
            address: String::new(),
            metrics: String::new(),
        };
        pool.wait_until_up(&lines);
        pool
    }

    /// Ends it as a power cut would.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again on what it left, at a new port.
    pub fn restart(&mut self) {
        let (child, lines) = spawn(self.home.path());
        self.child = child;
        self.wait_until_up(&lines);
    }

    /// What `millrace ARGS --data-dir DATA` prints; none where it fails.
    pub fn says(&self, args: &[&str]) -> Option<String> {
        millrace(self.home.path(), args)
    }

    /// Every candidate and block as the ledger has them.
    pub fn blocks(&self) -> Vec<Value> {
        let text = self.says(&["ledger", "blocks", "--json"]).expect("the ledger is read");
        serde_json::from_str(&text).expect("a list")
    }

    /// Templates that came to this when they were held against the node, since the pool was started last.
    pub fn checked(&self, outcome: &str) -> u64 {
        self.metric("millrace_templates_checked_total", &format!("outcome=\"{outcome}\""))
    }

    /// A figure of the pool's, of all its shards together; `label`: what its labels must have.
    #[track_caller]
    pub fn metric(&self, name: &str, label: &str) -> u64 {
        let url = format!("http://{}/metrics", self.metrics);
        let text = ureq::get(url)
            .call()
            .and_then(|mut answer| answer.body_mut().read_to_string());
        let text = text.expect("the pool answers");
        let of_line = |line: &str| {
            let (series, value) = line.rsplit_once(' ')?;
            let labels = series.strip_prefix(name)?;
            let is_it = (labels.is_empty() || labels.starts_with('{')) && labels.contains(label);
            is_it.then(|| value.parse::<u64>().expect("a count"))
        };
        let values: Vec<_> = text.lines().filter_map(of_line).collect();
        assert!(!values.is_empty(), "the pool has no {name} with {label}");
        values.iter().sum()
    }

    /// A new file's path, in the pool's own folder.
    pub fn path(&self, name: &str) -> PathBuf {
        self.home.path().join(name)
    }

    fn wait_until_up(&mut self, lines: &Receiver<String>) {
        (self.key, self.address, self.metrics) = Default::default();
        while self.key.is_empty() || self.address.is_empty() || self.metrics.is_empty() {
            let line = lines.recv_timeout(PATIENCE).unwrap_or_else(|_| {
                panic!("the pool did not come up:\n{}", self.log());
            });
            match line.split_once(' ') {
                Some(("pool_pubkey", key)) => key.clone_into(&mut self.key),
                Some(("listening", address)) => address.clone_into(&mut self.address),
                Some(("metrics", address)) => address.clone_into(&mut self.metrics),
                _ => {}
            }
        }
    }

    /// All that it has logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let log = self.log();
            let lines: Vec<_> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
            eprintln!("the pool's log ends with:\n{}", shown.join("\n"));
        }
    }
}

/// Waits until `done`, and says `why` where that takes longer than anybody waits.
#[track_caller]
pub fn wait_until(mut done: impl FnMut() -> bool, why: impl FnOnce() -> String) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "{}", why());
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

/// Of the other workspace, whose target folder is the one that holds this one's.
pub fn binary() -> PathBuf {
    let built = || {
        let here = Path::new(env!("CARGO_BIN_EXE_regtest-node"));
        let target = here.ancestors().nth(3).expect("TARGET/consensus/release/regtest-node");
        target.join("release/millrace")
    };
    let binary = std::env::var_os("MILLRACE_BIN").map_or_else(built, PathBuf::from);
    assert!(
        binary.exists(),
        "there is no {}: `make build`, or name millrace by MILLRACE_BIN",
        binary.display()
    );
    binary
}

/// What `millrace ARGS --data-dir DATA` prints; none where it fails.
fn millrace(home: &Path, args: &[&str]) -> Option<String> {
    let output = Command::new(binary())
        .args(args)
        .arg("--data-dir")
        .arg(home.join("data"))
        .stdin(Stdio::null())
        .output()
        .expect("millrace runs");
    if !output.status.success() {
        eprintln!("{args:?}: {}", String::from_utf8_lossy(&output.stderr));
        return None;
    }
    Some(String::from_utf8(output.stdout).expect("text"))
}

fn spawn(home: &Path) -> (Child, Receiver<String>) {
    let log = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(home.join("log"));
    let mut child = Command::new(binary())
        .args([
            "serve",
            "--listen",
            "127.0.0.1:0",
            "--metrics",
            "127.0.0.1:0",
            "--config",
        ])
        .arg(home.join("pool.toml"))
        .arg("--data-dir")
        .arg(home.join("data"))
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log.expect("a file"))
        .spawn()
        .expect("millrace starts");
    let stdout = child.stdout.take().expect("it is piped");
    let (sender, lines) = mpsc::channel();
    // It reads to the end, so that the pool never meets a closed pipe.
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    (child, lines)
}
