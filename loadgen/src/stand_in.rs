//! A node for pools that are measured: it knows headers alone, so a block costs it nothing, and nothing is valid or not.
//!
//! What a pool and gateways ask of a bitcoind it answers over the same RPC and ZMQ, at once: what is measured is the pool.
//! Its template and its mempool are as large as they are told to be, and stay the same whatever becomes a block; its
//! blocks are as hard as `--bits` says. It notes when each block was brought to it.

use std::collections::HashMap;
use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bitcoin::hex::FromHex;
use clap::Parser;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use crate::sha256d;
use crate::template;
use crate::upstream::shown;

mod http;
mod offer;
mod publisher;

use self::http::Call;
use self::offer::Offer;
use self::publisher::Publisher;

/// Height of its first tip.
const FIRST_HEIGHT: u32 = 100_000;

/// bitcoind's words for what it does not have.
const NOT_FOUND: i32 = -5;
const NO_METHOD: i32 = -32_601;

/// A node that knows headers alone, for pools that are measured.
///
/// Prints `zmq tcp://ADDR` and `rpc ADDR`, each as soon as it is true, and serves until it is ended.
#[derive(Debug, Clone, Parser)]
#[command(name = "millrace-loadgen node", version)]
pub struct Args {
    /// Where to answer RPC; port 0 takes a free one
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:0")]
    pub rpc: SocketAddr,
    /// Where to publish new blocks
    #[arg(long, value_name = "ENDPOINT", default_value = "tcp://127.0.0.1:0")]
    pub zmq: String,
    /// Where to write the cookie
    #[arg(long, value_name = "FILE")]
    pub cookie: PathBuf,
    /// The compact target of its blocks: 1d00ffff for some that nobody finds, 207fffff for every second hash
    #[arg(long, value_name = "HEX", default_value = "1d00ffff", value_parser = bits)]
    pub bits: u32,
    /// Transactions of its template
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub transactions: u32,
    /// Bytes of these together, most of them witness
    #[arg(long, value_name = "B", default_value_t = 0)]
    pub bytes: usize,
    /// Transactions of its mempool beside those
    #[arg(long, value_name = "N", default_value_t = 0)]
    pub mempool: u32,
}

/// Serves for ever; an error is all that it returns.
pub fn main(args: &Args) -> ExitCode {
    let error = match serve(args) {
        Ok(never) => match never {},
        Err(error) => error,
    };
    eprintln!("millrace-loadgen node: {error}");
    ExitCode::FAILURE
}

struct Node {
    bits: u32,
    offer: Offer,
    publisher: Publisher,
    chain: Mutex<Chain>,
}

/// Blocks as hashed, the lowest first, and when those that were submitted had come in whole.
struct Chain {
    blocks: Vec<[u8; 32]>,
    arrivals: HashMap<[u8; 32], u64>,
}

/// What a call comes to: JSON, or a code and words.
type Answer = Result<Box<RawValue>, (i32, &'static str)>;

fn serve(args: &Args) -> Result<std::convert::Infallible, String> {
    let offer = Offer::new(args.transactions, args.bytes, args.mempool)?;
    let (publisher, endpoint) = Publisher::start(&args.zmq)?;
    println!("zmq {endpoint}");
    let listener = TcpListener::bind(args.rpc).map_err(|error| format!("{}: {error}", args.rpc))?;
    let address = listener.local_addr().map_err(|error| error.to_string())?;
    let node = Arc::new(Node {
        bits: args.bits,
        offer,
        publisher,
        chain: Mutex::new(Chain {
            blocks: vec![sha256d::hash(b"the first tip of a node that stands in")],
            arrivals: HashMap::new(),
        }),
    });
    let login = format!("__cookie__:{}", shown(&sha256d::hash(address.to_string().as_bytes())));
    fs::write(&args.cookie, &login).map_err(|error| format!("{}: {error}", args.cookie.display()))?;
    println!("rpc {address}");
    http::serve(&listener, &login, &Arc::new(move |call: &Call| node.answer(call)))
}

impl Node {
    fn answer(&self, call: &Call) -> Answer {
        let params = &call.params;
        match call.method.as_str() {
            "getblockchaininfo" => {
                let chain = self.chain();
                Ok(raw(&json!({
                    "chain": "regtest", "blocks": chain.height(), "headers": chain.height(),
                    "initialblockdownload": false, "bestblockhash": shown(&chain.tip()),
                })))
            }
            "getbestblockhash" => Ok(raw(&shown(&self.chain().tip()).into())),
            "getblockheader" => self.header(&params[0]).map(|header| raw(&header)),
            // Nothing is wrong with any block.
            "getblocktemplate" if params[0]["mode"] == "proposal" => Ok(raw(&Value::Null)),
            "getblocktemplate" => Ok(self.template()),
            "getrawmempool" => Ok(self.offer.txids.clone()),
            "getrawtransaction" => {
                let hex = params[0].as_str().and_then(|txid| self.offer.raw(txid));
                let hex = hex.ok_or((NOT_FOUND, "No such mempool transaction"))?;
                Ok(raw(&hex.into()))
            }
            "submitblock" => Ok(raw(&self.submit(&params[0], call.complete_ns))),
            "generatetoaddress" => Ok(raw(&json!([shown(&self.make_block())]))),
            "arrivals" => {
                let chain = self.chain();
                let arrivals = chain.arrivals.iter().map(|(hash, ns)| (shown(hash), Value::from(*ns)));
                Ok(raw(&Value::Object(arrivals.collect())))
            }
            _ => Err((NO_METHOD, "Method not found")),
        }
    }

    fn header(&self, hash: &Value) -> Result<Value, (i32, &'static str)> {
        let chain = self.chain();
        let at = chain.blocks.iter().position(|block| *hash == shown(block).as_str());
        let at = at.ok_or((NOT_FOUND, "Block not found"))?;
        let height = FIRST_HEIGHT + u32::try_from(at).unwrap_or(u32::MAX);
        let mut header = json!({
            "hash": hash, "confirmations": chain.blocks.len() - at, "height": height,
            "bits": format!("{:08x}", self.bits), "time": 1, "mediantime": 1, "chainwork": format!("{height:064x}"), "nTx": 1,
        });
        if let Some(previous) = at.checked_sub(1) {
            header["previousblockhash"] = shown(&chain.blocks[previous]).into();
        }
        Ok(header)
    }

    fn template(&self) -> Box<RawValue> {
        let (tip, height) = {
            let chain = self.chain();
            (chain.tip(), chain.height() + 1)
        };
        let rest = json!({
            "previousblockhash": shown(&tip), "height": height, "bits": format!("{:08x}", self.bits), "mintime": 2,
            "coinbasevalue": template::subsidy(height) + self.offer.fees,
            "default_witness_commitment": self.offer.commitment,
        });
        // Megabytes that stay the same are not written anew each time.
        let rest = rest.to_string();
        let whole = format!(
            "{},\"transactions\":{}}}",
            &rest[..rest.len() - 1],
            self.offer.transactions
        );
        RawValue::from_string(whole).expect("two parts of one object")
    }

    /// `complete_ns`: when the whole request was there.
    fn submit(&self, raw: &Value, complete_ns: u64) -> Value {
        let header = raw.as_str().and_then(|hex| hex.get(..160));
        let Some(header) = header.and_then(|hex| Vec::from_hex(hex).ok()) else {
            return "bad-blk-length".into();
        };
        let hash = sha256d::hash(&header);
        {
            let mut chain = self.chain();
            if chain.blocks.contains(&hash) {
                return "duplicate".into();
            }
            chain.arrivals.entry(hash).or_insert(complete_ns);
            if header[4..36] != chain.tip() {
                // Another stands at this height, or the parent is not known.
                return "inconclusive".into();
            }
            chain.blocks.push(hash);
        }
        self.publisher.tell(hash);
        Value::Null
    }

    fn make_block(&self) -> [u8; 32] {
        let hash = {
            let mut chain = self.chain();
            let hash = sha256d::hash(&chain.tip());
            chain.blocks.push(hash);
            hash
        };
        self.publisher.tell(hash);
        hash
    }

    fn chain(&self) -> MutexGuard<'_, Chain> {
        self.chain.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Chain {
    fn tip(&self) -> [u8; 32] {
        self.blocks[self.blocks.len() - 1]
    }

    /// Of the tip.
    fn height(&self) -> u32 {
        FIRST_HEIGHT - 1 + u32::try_from(self.blocks.len()).unwrap_or(u32::MAX - FIRST_HEIGHT)
    }
}

fn raw(value: &Value) -> Box<RawValue> {
    RawValue::from_string(value.to_string()).expect("a value is JSON")
}

fn bits(hex: &str) -> Result<u32, String> {
    match u32::from_str_radix(hex, 16) {
        Ok(bits) if hex.len() == 8 => Ok(bits),
        _ => Err("eight hex digits, such as 1d00ffff".into()),
    }
}

#[cfg(test)]
mod tests;
