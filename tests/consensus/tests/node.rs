//! A node as a child process: `regtest-node`, or the bitcoind that `MILLRACE_BITCOIND` names.

use std::fmt;
use std::io::{BufRead, BufReader};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine as _;
use serde_json::{Value, json};
use tempfile::TempDir;

/// How long a node may take to come up, to answer and to stop. A bound for what hangs, no measure.
pub const PATIENCE: Duration = Duration::from_secs(120);

/// Bytes of an answer: a block of 4 MB in hex digits, with all that is around it.
const ANSWER_MAX: u64 = 64 << 20;

/// Which program it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Program {
    RegtestNode,
    Bitcoind(PathBuf),
}

impl Program {
    /// The one that these tests run against.
    pub fn chosen() -> Self {
        std::env::var_os("MILLRACE_BITCOIND").map_or(Self::RegtestNode, |path| Self::Bitcoind(path.into()))
    }
}

/// One that runs; killed when it goes out of scope.
pub struct Node {
    program: Program,
    child: Child,
    folder: TempDir,
    at: Address,
    agent: ureq::Agent,
}

/// Where it is reached.
#[derive(Debug, Clone)]
pub struct Address {
    /// `127.0.0.1:PORT`
    pub rpc: String,
    pub cookie: PathBuf,
    /// `tcp://127.0.0.1:PORT`
    pub zmq: String,
}

/// What a call failed with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    pub code: i64,
    pub message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.message, self.code)
    }
}

impl Node {
    /// A new chain, of the genesis block alone.
    pub fn start() -> Self {
        Self::start_in(tempfile::tempdir().expect("a folder"), &[])
    }

    /// The same with what bitcoind has not: its own calls, and arguments. None, and a line that says so, where the tests
    /// run against bitcoind.
    pub fn start_regtest_node(args: &[&str]) -> Option<Self> {
        if Program::chosen() != Program::RegtestNode {
            eprintln!("left out: it needs regtest-node");
            return None;
        }
        Some(Self::start_in(tempfile::tempdir().expect("a folder"), args))
    }

    fn start_in(folder: TempDir, args: &[&str]) -> Self {
        let program = Program::chosen();
        let (child, at) = match &program {
            Program::RegtestNode => start_regtest_node(folder.path(), args),
            Program::Bitcoind(path) => start_bitcoind(path, folder.path()),
        };
        let agent = ureq::Agent::config_builder()
            .http_status_as_error(false)
            .timeout_global(Some(PATIENCE))
            .build()
            .into();
        let node = Self {
            program,
            child,
            folder,
            at,
            agent,
        };
        node.wait_until_ready();
        node
    }

    pub fn at(&self) -> &Address {
        &self.at
    }

    pub fn is_bitcoind(&self) -> bool {
        self.program != Program::RegtestNode
    }

    /// Whether it has ZMQ: a bitcoind may be built without. Says so where it has none.
    pub fn publishes(&self) -> bool {
        let publishes = self.try_call("getzmqnotifications", json!([])).is_ok();
        if !publishes {
            eprintln!("left out: this bitcoind was built without ZMQ");
        }
        publishes
    }

    /// Kills it without warning, and starts it again on what it left.
    pub fn restart(mut self) -> Self {
        self.kill();
        let folder = std::mem::replace(&mut self.folder, tempfile::tempdir().expect("a folder"));
        drop(self);
        Self::start_in(folder, &[])
    }

    /// A call that must be answered well.
    #[track_caller]
    pub fn call(&self, method: &str, params: Value) -> Value {
        self.try_call(method, params)
            .unwrap_or_else(|failure| panic!("{method}: {failure}"))
    }

    /// A call that must be refused.
    #[track_caller]
    pub fn refuse(&self, method: &str, params: Value) -> Failure {
        self.try_call(method, params).expect_err(method)
    }

    pub fn try_call(&self, method: &str, params: Value) -> Result<Value, Failure> {
        let request = json!({"jsonrpc": "1.0", "id": "test", "method": method, "params": params});
        let (status, answer) = self.post(&self.login(), &request.to_string());
        let mut answer: Value =
            serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{method}: HTTP {status}: {answer}"));
        match &answer["error"] {
            Value::Null => Ok(answer["result"].take()),
            error => Err(Failure {
                code: error["code"].as_i64().expect("a code"),
                message: error["message"].as_str().expect("a message").to_owned(),
            }),
        }
    }

    /// Status and body.
    pub fn post(&self, login: &str, body: &str) -> (u16, String) {
        let login = base64::engine::general_purpose::STANDARD.encode(login);
        let mut answer = self
            .agent
            .post(format!("http://{}/", self.at.rpc))
            .header("Authorization", format!("Basic {login}"))
            .header("Content-Type", "application/json")
            .send(body)
            .expect("the node answers");
        let text = answer
            .body_mut()
            .with_config()
            .limit(ANSWER_MAX)
            .read_to_string()
            .expect("text");
        (answer.status().as_u16(), text)
    }

    /// `user:password`
    pub fn login(&self) -> String {
        std::fs::read_to_string(&self.at.cookie).expect("a cookie")
    }

    /// Whether it ended well by itself within [`PATIENCE`].
    pub fn ends(&mut self) -> bool {
        let start = Instant::now();
        while start.elapsed() < PATIENCE {
            if let Some(status) = self.child.try_wait().expect("a child") {
                return status.success();
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        false
    }

    fn wait_until_ready(&self) {
        let start = Instant::now();
        while !self.at.cookie.exists() || std::net::TcpStream::connect(&self.at.rpc).is_err() {
            assert!(start.elapsed() < PATIENCE, "the node does not come up");
            std::thread::sleep(Duration::from_millis(50));
        }
        while let Err(failure) = self.try_call("getblockcount", json!([])) {
            assert!(start.elapsed() < PATIENCE, "the node does not come up: {failure}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

fn start_regtest_node(folder: &Path, args: &[&str]) -> (Child, Address) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_regtest-node"));
    command.arg("--datadir").arg(folder);
    if !args.contains(&"--start-height") {
        command.args(["--start-height", "0"]);
    }
    let mut child = command
        .args(args)
        .stdout(Stdio::piped())
        .stdin(Stdio::null())
        .spawn()
        .expect("regtest-node starts");
    let mut lines = BufReader::new(child.stdout.take().expect("it is piped")).lines();
    let mut said = |word: &str| {
        let line = lines
            .next()
            .and_then(Result::ok)
            .unwrap_or_else(|| panic!("regtest-node ended before it said {word}"));
        line.strip_prefix(word)
            .unwrap_or_else(|| panic!("{line:?} where {word} was expected"))
            .trim()
            .to_owned()
    };
    let cookie = said("cookie").into();
    let (zmq, rpc) = (said("zmq"), said("rpc"));
    said("ready");
    (child, Address { rpc, cookie, zmq })
}

fn start_bitcoind(program: &Path, folder: &Path) -> (Child, Address) {
    // Taken by nobody at this moment. bitcoind takes no port 0.
    let port = || {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.local_addr().expect("it is bound").port()
    };
    let at = Address {
        rpc: format!("127.0.0.1:{}", port()),
        cookie: folder.join("regtest/.cookie"),
        zmq: format!("tcp://127.0.0.1:{}", port()),
    };
    let _ = std::fs::remove_file(&at.cookie);
    let rpc_port = at.rpc.split_once(':').expect("it has a port").1;
    let mut command = Command::new(program);
    command.arg(format!("-datadir={}", folder.display()));
    command.args([
        "-regtest",
        "-server",
        "-listen=0",
        "-txindex",
        "-printtoconsole=0",
        "-disablewallet",
    ]);
    command.args(["-acceptnonstdtxn", "-minrelaytxfee=0", "-blockmintxfee=0"]);
    command.args([
        format!("-rpcport={rpc_port}"),
        "-rpcbind=127.0.0.1".to_owned(),
        "-rpcallowip=127.0.0.1".to_owned(),
    ]);
    for topic in ["hashblock", "rawblock", "sequence"] {
        command.arg(format!("-zmqpub{topic}={}", at.zmq));
    }
    let child = command.stdin(Stdio::null()).spawn().expect("bitcoind starts");
    (child, at)
}
