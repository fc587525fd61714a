//! A stand-in for bitcoind's JSON-RPC, which knows headers alone: its chain is what a test says, and a block that is
//! submitted on the tip is the next. What real consensus says of our blocks is for the crate `tests/consensus`.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use millrace::work::{TemplateTransaction, header_hash};
use serde_json::{Value, json};

use super::work::{HEIGHT, NBITS, SUBSIDY};

/// The hash of its first tip, which the tests' jobs name by this byte.
pub const FIRST: u8 = 1;

pub struct StubNode {
    state: Arc<Mutex<State>>,
    address: SocketAddr,
    cookie: PathBuf,
    ended: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

/// What it says of itself.
pub struct State {
    pub chain: &'static str,
    pub initial_block_download: bool,
    /// Does not answer calls.
    pub refuses: bool,
    /// Answers nothing as long as this holds.
    pub hangs: bool,
    /// Answers so much later.
    pub slow: Duration,
    /// A call that it answers so much later, or as soon as this is none.
    pub slow_call: Option<(&'static str, Duration)>,
    /// Blocks whose headers it gives so much later, each so many times.
    pub slow_headers: Vec<([u8; 32], Duration, u32)>,
    /// Whom it answers: `user:password`.
    login: String,
    /// What it was asked, by method and parameters, the oldest first.
    pub asked: Vec<(String, Value)>,
    /// The tip that it claims to have, where that is not its own.
    pub lies: Option<[u8; 32]>,
    /// The best chain from the lowest block it knows; as hashed.
    pub best: Vec<[u8; 32]>,
    /// Blocks beside it, with their heights.
    pub beside: Vec<([u8; 32], u32)>,
    /// Whether it is about to connect the blocks beside it, as after an unclean end; else they are invalid to it.
    pub is_catching_up: bool,
    /// Blocks on the tip of which it has the header alone.
    pub headers: Vec<[u8; 32]>,
    /// Raw blocks that were submitted and taken.
    pub submitted: Vec<Vec<u8>>,
    /// What it says of blocks that are submitted to it, and does not take; else it takes them.
    pub says_of_blocks: Option<&'static str>,
    /// Raw blocks that somebody else brought it.
    pub brought: Vec<Vec<u8>>,
    /// Raw transactions.
    pub mempool: Vec<Vec<u8>>,
    /// Raw blocks that were proposed, and what it says of each such; nothing, where it would take them.
    pub proposed: Vec<Vec<u8>>,
    pub says_of_proposals: Option<&'static str>,
}

impl StubNode {
    /// On a regtest chain whose tip is [`FIRST`], at the height below that of the tests' jobs. `folder` gets its cookie.
    pub fn start(folder: &Path, name: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let address = listener.local_addr().expect("bound");
        let cookie = folder.join(format!("{name}.cookie"));
        let login = "__cookie__:secret".to_owned();
        std::fs::write(&cookie, &login).expect("a file");
        let state = Arc::new(Mutex::new(State {
            chain: "regtest",
            initial_block_download: false,
            refuses: false,
            hangs: false,
            slow: Duration::ZERO,
            slow_call: None,
            slow_headers: Vec::new(),
            login,
            asked: Vec::new(),
            lies: None,
            best: vec![[FIRST; 32]],
            beside: Vec::new(),
            is_catching_up: false,
            headers: Vec::new(),
            submitted: Vec::new(),
            says_of_blocks: None,
            brought: Vec::new(),
            mempool: Vec::new(),
            proposed: Vec::new(),
            says_of_proposals: None,
        }));
        let ended = Arc::new(AtomicBool::new(false));
        let thread = {
            let (state, ended) = (state.clone(), ended.clone());
            std::thread::spawn(move || {
                for stream in listener.incoming().map_while(Result::ok) {
                    if ended.load(Ordering::Relaxed) {
                        return;
                    }
                    let _ = serve(stream, &state);
                }
            })
        };
        Self {
            state,
            address,
            cookie,
            ended,
            thread: Some(thread),
        }
    }

    /// Its section of a configuration.
    pub fn section(&self) -> String {
        format!(
            "[[nodes]]\nrpc = \"{}\"\ncookie_file = \"{}\"\n",
            self.address,
            self.cookie.display()
        )
    }

    /// It goes, and its cookie with it.
    pub fn stop(&self) {
        self.state().refuses = true;
        std::fs::remove_file(&self.cookie).expect("it was there");
    }

    /// It is there again, with another cookie.
    pub fn start_again(&self, secret: &str) {
        let login = format!("__cookie__:{secret}");
        std::fs::write(&self.cookie, &login).expect("a file");
        let mut state = self.state();
        state.login = login;
        state.refuses = false;
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// So many more blocks of somebody else's on the tip.
    pub fn grow(&self, blocks: u8) {
        let mut state = self.state();
        for _ in 0..blocks {
            let mut next = [0xcc; 32];
            next[..4].copy_from_slice(&state.height().to_le_bytes());
            next[4] = u8::try_from(state.beside.len()).expect("few");
            state.best.push(next);
        }
    }
}

impl Drop for StubNode {
    fn drop(&mut self) {
        self.ended.store(true, Ordering::Relaxed);
        self.state().hangs = false;
        let _ = TcpStream::connect(self.address);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl State {
    pub fn tip(&self) -> [u8; 32] {
        *self.best.last().expect("a tip")
    }

    /// Of the tip.
    pub fn height(&self) -> u32 {
        HEIGHT - 2 + u32::try_from(self.best.len()).expect("few blocks")
    }

    /// Nobody's login is good.
    pub fn forget_login(&mut self) {
        self.login.clear();
    }

    fn holds(&self, call: &Value) -> bool {
        self.slow_call.is_some_and(|(method, _)| call["method"] == *method)
    }

    fn slow_for(&mut self, call: &Value) -> Duration {
        if let Some((_, slow)) = self.slow_call.filter(|_| self.holds(call)) {
            return slow;
        }
        let is_of = |hash: &[u8; 32]| call["method"] == "getblockheader" && call["params"] == json!([shown(hash)]);
        let slow = self
            .slow_headers
            .iter_mut()
            .find(|(hash, _, times)| *times > 0 && is_of(hash));
        slow.map_or(self.slow, |(_, slow, times)| {
            *times -= 1;
            *slow
        })
    }

    /// Somebody brings it a block, which is the next tip.
    pub fn bring(&mut self, raw: Vec<u8>) {
        self.best.push(block_hash(&raw));
        self.brought.push(raw);
    }

    /// The tip is left, and so many blocks of another branch take its place and more.
    pub fn leave_tip(&mut self, branch: u8) {
        let height = self.height();
        let left = self.best.pop().expect("a tip");
        self.beside.push((left, height));
        self.best.extend((0..branch).map(|n| [0xd0 + n; 32]));
    }

    /// So many blocks are left for a branch that is one longer, whose hashes have this byte.
    pub fn leave(&mut self, blocks: usize, branch: u8) {
        let kept = self.best.len() - blocks;
        let lost = self.best.split_off(kept);
        let above = self.height() + 1;
        self.beside.extend(lost.into_iter().zip(above..));
        for at in 0..=u32::try_from(blocks).expect("few") {
            let mut next = [branch; 32];
            next[..4].copy_from_slice(&(above + at).to_le_bytes());
            self.best.push(next);
        }
    }

    /// So many blocks turn out to be invalid, or are yet to be connected: it knows them, and stands on the one below.
    pub fn step_back(&mut self, blocks: usize) {
        let kept = self.best.len() - blocks;
        let lost = self.best.split_off(kept);
        let above = self.height() + 1;
        self.beside.extend(lost.into_iter().zip(above..));
    }

    /// Back to what [`Self::leave`] left.
    pub fn come_back(&mut self) {
        let lost = std::mem::take(&mut self.beside);
        let (_, lowest) = *lost.first().expect("blocks that were left");
        let kept = self.best.len() - usize::try_from(self.height() + 1 - lowest).expect("few");
        self.best.truncate(kept);
        self.best.extend(lost.into_iter().map(|(block, _)| block));
    }

    fn answer(&mut self, method: &str, params: &Value) -> Result<Value, (i32, &'static str)> {
        match method {
            "getblockchaininfo" => Ok(json!({
                "chain": self.chain, "blocks": self.height(), "headers": self.height(),
                "initialblockdownload": self.initial_block_download, "bestblockhash": shown(&self.lies.unwrap_or_else(|| self.tip())),
            })),
            "getblockheader" => self.header(&as_hashed(&params[0])).ok_or((-5, "Block not found")),
            "getchaintips" => Ok(self.chain_tips()),
            "getblocktemplate" if params[0]["mode"] == "proposal" => {
                self.proposed.push(bytes(&params[0]["data"]));
                Ok(self.says_of_proposals.into())
            }
            // It would mine nothing of its mempool.
            "getblocktemplate" => Ok(json!({
                "previousblockhash": shown(&self.tip()), "bits": format!("{NBITS:08x}"), "mintime": 2,
                "coinbasevalue": SUBSIDY, "transactions": [],
            })),
            "getrawmempool" => Ok(self.mempool.iter().map(|raw| Value::from(shown(&txid(raw)))).collect()),
            "getrawtransaction" => {
                let wanted = as_hashed(&params[0]);
                let raw = self.mempool.iter().find(|raw| txid(raw) == wanted);
                raw.map(|raw| hex(raw).into())
                    .ok_or((-5, "No such mempool transaction"))
            }
            "submitblock" => Ok(self.submit(&bytes(&params[0]))),
            "getblock" => {
                let hash = as_hashed(&params[0]);
                let mut blocks = self.submitted.iter().chain(&self.brought);
                let raw = blocks.find(|raw| block_hash(raw) == hash);
                raw.map(|raw| hex(raw).into()).ok_or((-5, "Block not found"))
            }
            _ => Err((-32_601, "Method not found")),
        }
    }

    /// The status and the body of the answer.
    fn call(&mut self, call: &Value) -> (&'static str, Value) {
        let method = call["method"].as_str().unwrap_or_default();
        self.asked.push((method.to_owned(), call["params"].clone()));
        match self.answer(method, &call["params"]) {
            Ok(result) => ("200 OK", json!({"result": result, "error": null, "id": call["id"]})),
            Err((code, message)) => (
                "500 Internal Server Error",
                json!({"result": null, "error": {"code": code, "message": message}, "id": call["id"]}),
            ),
        }
    }

    fn header(&self, hash: &[u8; 32]) -> Option<Value> {
        let at = self.best.iter().position(|block| block == hash);
        let mut tx_count = 1;
        let (height, confirmations, previous) = match at {
            Some(at) => {
                let below = u32::try_from(self.best.len() - 1 - at).expect("few");
                (
                    self.height() - below,
                    i64::from(below) + 1,
                    at.checked_sub(1).map(|at| self.best[at]),
                )
            }
            None if self.headers.contains(hash) => {
                tx_count = 0;
                (self.height() + 1, -1, Some(self.tip()))
            }
            None => {
                let (_, height) = self.beside.iter().find(|(block, _)| block == hash)?;
                (*height, -1, self.best.first().copied())
            }
        };
        let mut header = json!({
            "hash": shown(hash), "confirmations": confirmations, "height": height, "bits": format!("{NBITS:08x}"),
            "time": 1, "mediantime": 1, "chainwork": format!("{height:064x}"), "nTx": tx_count,
        });
        if let Some(previous) = previous {
            header["previousblockhash"] = shown(&previous).into();
        }
        Some(header)
    }

    /// The highest beside it stands for all of them.
    fn chain_tips(&self) -> Value {
        let tip = |hash: &[u8; 32], height: u32, status: &str| json!({"height": height, "hash": shown(hash), "status": status});
        let status = if self.is_catching_up { "valid-fork" } else { "invalid" };
        let beside = self.beside.iter().max_by_key(|(_, height)| height);
        let beside = beside.map(|(hash, height)| tip(hash, *height, status));
        let own = tip(&self.tip(), self.height(), "active");
        std::iter::once(own).chain(beside).collect()
    }

    fn submit(&mut self, raw: &[u8]) -> Value {
        let hash = block_hash(raw);
        if let Some(word) = self.says_of_blocks {
            return word.into();
        }
        if self.best.contains(&hash) {
            return "duplicate".into();
        }
        if raw[4..36] != self.tip() {
            return "bad-prevblk".into();
        }
        self.best.push(hash);
        self.submitted.push(raw.to_vec());
        Value::Null
    }
}

/// One call a connection.
fn serve(stream: TcpStream, state: &Mutex<State>) -> std::io::Result<()> {
    let mut reader = BufReader::new(stream);
    let (mut length, mut login) = (0, None);
    loop {
        let mut line = String::new();
        if reader.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let Some((name, value)) = line.trim().split_once(':') else {
            match line.trim().is_empty() {
                true => break,
                false => continue,
            }
        };
        match name.to_ascii_lowercase().as_str() {
            "content-length" => length = value.trim().parse().map_err(std::io::Error::other)?,
            "authorization" => login = value.trim().strip_prefix("Basic ").map(str::to_owned),
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body)?;
    let call: Value = serde_json::from_slice(&body)?;
    let lock = || state.lock().unwrap_or_else(PoisonError::into_inner);
    let is_held = lock().holds(&call);
    let until = Instant::now() + lock().slow_for(&call);
    while let left = until.saturating_duration_since(Instant::now())
        && !left.is_zero()
        && (!is_held || lock().holds(&call))
    {
        std::thread::sleep(left.min(Duration::from_millis(10)));
    }
    let mut state = loop {
        let state = lock();
        if !state.hangs {
            break state;
        }
        drop(state);
        std::thread::sleep(Duration::from_millis(10));
    };
    if state.refuses {
        return Ok(());
    }
    let is_ours = login.is_some_and(|login| login == STANDARD.encode(&state.login));
    let (status, answer) = match &call {
        _ if !is_ours => ("401 Unauthorized", Value::Null),
        Value::Array(calls) => ("200 OK", calls.iter().map(|call| state.call(call).1).collect()),
        call => state.call(call),
    };
    drop(state);
    let body = answer.to_string();
    let mut stream = reader.into_inner();
    write!(
        stream,
        "HTTP/1.1 {status}\r\nContent-Type: application/json\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn block_hash(raw: &[u8]) -> [u8; 32] {
    header_hash(raw[..80].try_into().expect("a header"))
}

fn txid(raw: &[u8]) -> [u8; 32] {
    TemplateTransaction::read(raw).expect("a transaction").txid
}

/// As people write it.
pub fn shown(hash: &[u8; 32]) -> String {
    let mut hash = *hash;
    hash.reverse();
    hex(&hash)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn bytes(text: &Value) -> Vec<u8> {
    let text = text.as_str().expect("hex digits");
    (0..text.len() / 2)
        .map(|at| u8::from_str_radix(&text[2 * at..2 * at + 2], 16).expect("hex digits"))
        .collect()
}

fn as_hashed(text: &Value) -> [u8; 32] {
    let mut hash: [u8; 32] = bytes(text).try_into().expect("a hash");
    hash.reverse();
    hash
}
