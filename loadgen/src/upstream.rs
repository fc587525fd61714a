//! The node that gateways take their templates from and bring their blocks to: one for all of them, as if it were each
//! gateway's own.
//!
//! A thread follows its tip. What it offers is shared by all gateways; what they find goes to it at once, from the thread
//! that found it, so that a block is with the node before its share is with the pool.

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use bitcoin::hex::DisplayHex;
use jsonrpc::bitreq_http::BitreqHttpTransport;
use jsonrpc::client::Client;
use serde_json::value::to_raw_value;
use serde_json::{Value, json};

use crate::clock;
use crate::template::Template;

/// How often the node is asked for its tip. A gateway hears of a new one by its node's own word, which is as fast.
const LOOK_EVERY: Duration = Duration::from_millis(50);

/// How long one call may take.
const CALL_PATIENCE: Duration = Duration::from_secs(60);

/// Whom blocks pay that the node is asked to make: the script of nobody's key.
const NOBODY: &str = "bcrt1qqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqqdku202";

/// A node, and what it offers now.
#[derive(Debug)]
pub struct Upstream {
    address: SocketAddr,
    cookie: PathBuf,
    /// Whether gateways bring their blocks to it, as they do; else that is left to the pool.
    brings_blocks: bool,
    template_every: Duration,
    template: Mutex<Arc<Template>>,
    /// Counts its tips, from 1.
    tip: AtomicU32,
    found: Mutex<Vec<Block>>,
    /// Blocks that it took from gateways.
    taken: AtomicU64,
    refusals: Mutex<Vec<String>>,
    is_over: AtomicBool,
}

/// A block that a gateway has found.
#[derive(Debug, Clone, Copy)]
pub struct Block {
    /// As hashed.
    pub hash: [u8; 32],
    /// 0 to 5, or that of subsidy-only work.
    pub coinbase_id: u8,
    /// When its share left for the pool, by [`clock::monotonic_ns`].
    pub sent_ns: u64,
}

/// What became of the blocks of a run.
#[derive(Debug, Default)]
pub struct Fate {
    pub found: u64,
    /// By coinbase id.
    pub by_class: BTreeMap<u8, u64>,
    pub taken: u64,
    /// Why blocks of gateways were refused.
    pub refusals: Vec<String>,
    /// From the share to the complete `submitblock`, in ns, of those that the pool brought; a stand-in node alone knows.
    pub to_node_ns: Vec<u64>,
}

/// The thread that follows a node; joined when dropped.
#[derive(Debug)]
pub struct Following {
    upstream: Arc<Upstream>,
    thread: Option<JoinHandle<()>>,
}

impl Upstream {
    /// Asks the node for its template, and follows it from now on.
    ///
    /// # Errors
    /// Why it has none.
    pub fn follow(
        address: SocketAddr,
        cookie: &Path,
        brings_blocks: bool,
        template_every: Duration,
    ) -> Result<Following, String> {
        let template = template(address, cookie)?;
        let upstream = Arc::new(Self {
            address,
            cookie: cookie.into(),
            brings_blocks,
            template_every,
            template: Mutex::new(Arc::new(template)),
            tip: AtomicU32::new(1),
            found: Mutex::default(),
            taken: AtomicU64::new(0),
            refusals: Mutex::default(),
            is_over: AtomicBool::new(false),
        });
        let thread = {
            let upstream = upstream.clone();
            thread::spawn(move || upstream.run())
        };
        Ok(Following {
            upstream,
            thread: Some(thread),
        })
    }

    pub fn template(&self) -> Arc<Template> {
        lock(&self.template).clone()
    }

    /// The number of its tip.
    pub fn tip(&self) -> u32 {
        self.tip.load(Ordering::Acquire)
    }

    /// A gateway has found a block whose share is about to leave.
    pub fn found(&self, hash: [u8; 32], coinbase_id: u8, raw: impl FnOnce() -> Vec<u8>) {
        if self.brings_blocks {
            // The node adds the coinbase's witness.
            match self.call("submitblock", json!([raw().to_lower_hex_string()])) {
                Ok(Value::Null) => {
                    self.taken.fetch_add(1, Ordering::Relaxed);
                }
                // Another gateway's stands at this height.
                Ok(word) if word == "inconclusive" || word == "duplicate" => {}
                Ok(word) => lock(&self.refusals).push(word.to_string()),
                Err(error) => lock(&self.refusals).push(error),
            }
        }
        let sent_ns = clock::monotonic_ns();
        lock(&self.found).push(Block {
            hash,
            coinbase_id,
            sent_ns,
        });
    }

    pub fn blocks_found(&self) -> usize {
        lock(&self.found).len()
    }

    /// Has the node make a block of its own.
    ///
    /// # Errors
    /// It does not.
    pub fn make_block(&self) -> Result<(), String> {
        self.call("generatetoaddress", json!([1, NOBODY])).map(drop)
    }

    /// What became of all blocks found.
    pub fn fate(&self) -> Fate {
        let found = lock(&self.found).clone();
        let arrivals: HashMap<String, u64> = match self.brings_blocks {
            // Bitcoin's own nodes have no such call.
            false => self.call("arrivals", json!([])).and_then(parsed).unwrap_or_default(),
            true => HashMap::new(),
        };
        let took = |block: &Block| Some(arrivals.get(&shown(&block.hash))?.saturating_sub(block.sent_ns));
        let mut by_class = BTreeMap::new();
        for block in &found {
            *by_class.entry(block.coinbase_id).or_default() += 1;
        }
        Fate {
            by_class,
            found: found.len() as u64,
            taken: self.taken.load(Ordering::Relaxed),
            refusals: lock(&self.refusals).clone(),
            to_node_ns: found.iter().filter_map(took).collect(),
        }
    }

    fn run(&self) {
        let mut fetched = Instant::now();
        while !self.is_over.load(Ordering::Relaxed) {
            thread::sleep(LOOK_EVERY);
            let parent = shown(&self.template().parent);
            let has_new_tip = match self.call("getbestblockhash", json!([])) {
                Ok(best) => best != parent.as_str(),
                // It is asked again: gateways go on with what they have.
                Err(_) => continue,
            };
            if !has_new_tip && fetched.elapsed() < self.template_every {
                continue;
            }
            let Ok(template) = template(self.address, &self.cookie) else {
                continue;
            };
            fetched = Instant::now();
            let is_new = {
                let mut kept = lock(&self.template);
                let is_new = kept.parent != template.parent;
                *kept = Arc::new(template);
                is_new
            };
            // Behind the template, so that who sees the tip finds its template.
            self.tip.fetch_add(u32::from(is_new), Ordering::Release);
        }
    }

    fn call(&self, method: &str, params: Value) -> Result<Value, String> {
        call(self.address, &self.cookie, method, params)
    }
}

impl Following {
    pub fn upstream(&self) -> &Arc<Upstream> {
        &self.upstream
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.upstream.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn template(address: SocketAddr, cookie: &Path) -> Result<Template, String> {
    let node = call(
        address,
        cookie,
        "getblocktemplate",
        json!([{"rules": ["segwit", "signet"]}]),
    )?;
    Template::offered(&node).map_err(|what| format!("the node at {address} offers a template with {what}"))
}

/// Logs in anew each time: a node that was restarted has another cookie.
fn call(address: SocketAddr, cookie: &Path, method: &str, params: Value) -> Result<Value, String> {
    let login = fs::read_to_string(cookie).map_err(|error| format!("{}: {error}", cookie.display()))?;
    let failed = |error: &dyn std::fmt::Display| format!("{method} at {address}: {error}");
    let transport = BitreqHttpTransport::builder()
        .timeout(CALL_PATIENCE)
        .url(&format!("http://{address}"))
        .map_err(|error| failed(&error))?
        .cookie_auth(login.trim_end())
        .build();
    let params = to_raw_value(&params).expect("values are JSON");
    Client::with_transport(transport)
        .call(method, Some(&params))
        .map_err(|error| failed(&error))
}

fn parsed<T: serde::de::DeserializeOwned>(value: Value) -> Result<T, String> {
    serde_json::from_value(value).map_err(|error| error.to_string())
}

/// A hash as people write it.
pub fn shown(hash: &[u8; 32]) -> String {
    let mut hash = *hash;
    hash.reverse();
    hash.to_lower_hex_string()
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
