//! The real binary as a child process, for tests of what it promises.
//!
//! Every pool has a data folder of its own and free ports; dropping it kills the process and removes the folder. What
//! it logged is shown where the test fails.

pub mod bench;
pub mod gateway;
pub mod in_process;
pub mod ledger;
pub mod line;
pub mod node;
pub mod preload;
pub mod publisher;
pub mod session;
pub mod shown;
pub mod split;
pub mod work;

use std::fs::OpenOptions;
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

/// The pool promises to stop within this.
pub const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Lines of the pool's log that a failed test shows.
const LOG_LINES_SHOWN: usize = 40;

pub struct Pool {
    process: Process,
    lines: Receiver<String>,
    /// Holds `data` and the log.
    home: TempDir,
    launch: Launch,
    pub key: PublicKeys,
    pub address: SocketAddr,
    metrics: SocketAddr,
}

/// How the process is started.
#[derive(Debug, Clone, Default)]
pub struct Launch {
    /// More arguments of `serve`.
    pub args: Vec<String>,
    /// TOML; none for `--dev`.
    pub config: Option<String>,
    /// No file may grow past so many blocks of 512 bytes: to the process that is a full disk.
    pub file_blocks: Option<u64>,
    /// File descriptors that the process may have.
    pub open_files: Option<u64>,
    /// A file that the process finds open as descriptor 3.
    pub descriptor: Option<PathBuf>,
    /// Added to its environment.
    pub env: Vec<(String, String)>,
}

impl Launch {
    pub fn dev(args: &[&str]) -> Self {
        Self {
            args: args.iter().map(|arg| (*arg).to_owned()).collect(),
            ..Self::default()
        }
    }

    /// From a file with this content. Where the pool is comes from the command line all the same.
    pub fn config(toml: &str) -> Self {
        Self {
            config: Some(toml.to_owned()),
            ..Self::default()
        }
    }
}

impl Pool {
    /// A pool on the dev chain with one shard.
    pub fn start() -> Self {
        Self::with(&["--shards", "1"])
    }

    /// A pool on the dev chain with more arguments of `serve`.
    pub fn with(args: &[&str]) -> Self {
        Self::launch(Launch::dev(args))
    }

    pub fn launch(launch: Launch) -> Self {
        Self::launch_on(launch, |_| {})
    }

    /// The same on a data folder in which something is already.
    pub fn launch_on(launch: Launch, prepare: impl FnOnce(&Path)) -> Self {
        let home = TempDir::new().expect("a folder for the test");
        let data = home.path().join("data");
        std::fs::create_dir(&data).expect("a folder for the pool");
        prepare(&data);
        let Started {
            process,
            lines,
            key,
            address,
            metrics,
        } = spawn(home.path(), &launch);
        Self {
            process,
            lines,
            home,
            launch,
            key,
            address,
            metrics,
        }
    }

    /// Starts the process again on the same data, at a new port.
    pub fn restart(&mut self) {
        let started = spawn(self.home.path(), &self.launch);
        assert_eq!(started.key, self.key, "the pool's key is on disk");
        self.process = started.process;
        self.lines = started.lines;
        self.address = started.address;
        self.metrics = started.metrics;
    }

    /// Waits until the process has begun again by itself, after a SIGUSR2.
    pub fn began_again(&mut self) {
        let up = up(self.home.path(), &self.lines);
        assert_eq!(up.key, self.key, "the pool's key is on disk");
        self.address = up.address;
        self.metrics = up.metrics;
    }

    /// What the file has that the pool reads when it begins again.
    pub fn write_config(&self, toml: &str) {
        std::fs::write(self.home.path().join("pool.toml"), toml).expect("the test's own file");
    }

    /// The same with other arguments.
    pub fn restart_with(&mut self, args: &[&str]) {
        self.launch = Launch::dev(args);
        self.restart();
    }

    pub fn data(&self) -> PathBuf {
        self.home.path().join("data")
    }

    pub fn pid(&self) -> u32 {
        self.process.0.id()
    }

    /// What the pool has logged so far, of all its starts.
    pub fn log(&self) -> String {
        std::fs::read_to_string(log_of(self.home.path())).expect("the log is text")
    }

    /// Ends the process as a power cut would.
    pub fn kill(&mut self) {
        self.process.0.kill().expect("the pool was running");
        self.process.0.wait().expect("the pool ends");
    }

    /// Asks the process to stop and waits until it has.
    pub fn terminate(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.wait()
    }

    pub fn signal(&self, name: &str) {
        let status = Command::new("kill")
            .args([&format!("-{name}"), &self.pid().to_string()])
            .status()
            .expect("kill runs");
        assert!(status.success());
    }

    pub fn wait(&mut self) -> ExitStatus {
        self.process.wait(PATIENCE)
    }

    /// The metrics as Prometheus text, without the HTTP header.
    pub fn metrics(&self) -> String {
        let answer = self.http("/metrics");
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let (_, body) = answer.split_once("\r\n\r\n").expect("a header and a body");
        body.to_owned()
    }

    /// The whole answer of the metrics address to a GET.
    pub fn http(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.metrics).expect("the metrics address answers");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout");
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nHost: pool\r\nConnection: close\r\n\r\n").as_bytes())
            .expect("the request is sent");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the answer is text");
        answer
    }

    /// The sum over all series of `name` whose labels hold every one of `labels`, as `key="value"`; there is one at
    /// least.
    pub fn metric(&self, name: &str, labels: &[&str]) -> u64 {
        let text = self.metrics();
        let values: Vec<u64> = text
            .lines()
            .filter(|line| {
                line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{']))
                    && labels.iter().all(|label| line.contains(label))
            })
            .map(|line| {
                line.rsplit(' ')
                    .next()
                    .and_then(|value| value.parse().ok())
                    .expect("a whole number")
            })
            .collect();
        assert!(!values.is_empty(), "no metric {name} {labels:?}:\n{text}");
        values.into_iter().sum()
    }

    /// Waits until the metric is at least `value`.
    pub fn wait_for_metric(&self, name: &str, labels: &[&str], value: u64) {
        wait_until(
            || self.metric(name, labels) >= value,
            || format!("{name} {labels:?} does not reach {value}:\n{}", self.metrics()),
        );
    }

    /// Sessions and handshakes that ended for `reason`.
    pub fn ends(&self, reason: &str) -> u64 {
        self.metric("millrace_session_ends_total", &[&format!("reason=\"{reason}\"")])
    }

    /// Waits until as many have ended for `reason`.
    pub fn wait_for_ends(&self, reason: &str, count: u64) {
        self.wait_for_metric("millrace_session_ends_total", &[&format!("reason=\"{reason}\"")], count);
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        if std::thread::panicking()
            && let Ok(log) = std::fs::read_to_string(log_of(self.home.path()))
        {
            let lines: Vec<&str> = log.lines().collect();
            let shown = &lines[lines.len().saturating_sub(LOG_LINES_SHOWN)..];
            eprintln!("the pool's log ends with:\n{}", shown.join("\n"));
        }
    }
}

/// A child that never outlives the test.
pub struct Process(pub Child);

impl Process {
    /// Waits for the end of it.
    pub fn wait(&mut self, patience: Duration) -> ExitStatus {
        let deadline = Instant::now() + patience;
        loop {
            if let Some(status) = self.0.try_wait().expect("a child can be waited for") {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "the process does not end within {patience:?}"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
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

struct Started {
    process: Process,
    lines: Receiver<String>,
    key: PublicKeys,
    address: SocketAddr,
    metrics: SocketAddr,
}

fn spawn(home: &Path, launch: &Launch) -> Started {
    let data = home.join("data");
    let mut command = command(launch);
    command.envs(launch.env.iter().cloned()).arg("serve");
    if let Some(toml) = &launch.config {
        let file = home.join("pool.toml");
        std::fs::write(&file, toml).expect("a file for the test");
        // Only `--dev` makes keys by itself. Where they are already, this does no harm.
        let made = Command::new(binary())
            .args(["keys", "new", "--data-dir"])
            .arg(&data)
            .output();
        made.expect("the binary runs");
        command.arg("--config").arg(file);
    } else {
        command.arg("--dev");
    }
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(log_of(home))
        .expect("a file for the log");
    let mut process = Process(
        command
            .args(["--listen", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--data-dir"])
            .arg(data)
            .args(&launch.args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()
            .expect("the binary starts"),
    );
    let lines = lines_of(process.0.stdout.take().expect("stdout is a pipe"));
    let Up { key, address, metrics } = up(home, &lines);
    Started {
        process,
        lines,
        key,
        address,
        metrics,
    }
}

/// What a pool says when it has begun.
struct Up {
    key: PublicKeys,
    address: SocketAddr,
    metrics: SocketAddr,
}

fn up(home: &Path, lines: &Receiver<String>) -> Up {
    let (mut key, mut address, mut metrics) = (None, None, None);
    loop {
        if let (Some(key), Some(address), Some(metrics)) = (key, address, metrics) {
            return Up { key, address, metrics };
        }
        let Ok(line) = lines.recv_timeout(PATIENCE) else {
            let log = std::fs::read_to_string(log_of(home)).unwrap_or_default();
            panic!("the pool did not come up: key {key:?}, address {address:?}, metrics {metrics:?}\n{log}");
        };
        match line.split_once(' ') {
            Some(("pool_pubkey", hex)) => key = Some(hex.parse().expect("128 hex digits")),
            Some(("listening", text)) => address = Some(text.parse().expect("an address")),
            Some(("metrics", text)) => metrics = Some(text.parse().expect("an address")),
            _ => {}
        }
    }
}

/// The binary itself, or a shell that becomes it with a limit on files, or with one more open.
fn command(launch: &Launch) -> Command {
    let (prepare, argument) = if let Some(files) = launch.open_files {
        ("ulimit -n \"$1\"", files.to_string())
    } else if let Some(blocks) = launch.file_blocks {
        // With the signal ignored, a write past the limit fails with an error, as on a full disk.
        ("trap '' XFSZ && ulimit -f \"$1\"", blocks.to_string())
    } else if let Some(file) = &launch.descriptor {
        ("exec 3<\"$1\"", file.display().to_string())
    } else {
        return Command::new(binary());
    };
    let mut shell = Command::new("sh");
    let script = format!("{prepare} && shift && exec \"$@\"");
    shell.args(["-c", &script, "sh", &argument]).arg(binary());
    shell
}

fn log_of(home: &Path) -> PathBuf {
    home.join("log")
}

/// Reads lines on a thread of its own, so that waiting for one can be given up. It reads to the end, so that the pool
/// never meets a closed pipe.
pub fn lines_of(stdout: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, lines) = mpsc::channel();
    std::thread::spawn(move || {
        for line in BufReader::new(stdout).lines().map_while(Result::ok) {
            let _ = sender.send(line);
        }
    });
    lines
}
