//! Calls of those who mine.

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Address, Network};
use serde_json::{Value, json};

use super::blocks;
use super::error::RpcError;
use super::params::{Params, from_hex};
use crate::node::{Proposed, Regtest};
use crate::{BLOCK_SIGOPS_MAX, BLOCK_WEIGHT_MAX, NBITS};

/// Blocks that one call mines at most.
const GENERATE_MAX: u64 = 1_000;

pub fn template(node: &mut Regtest, params: &Params<'_>) -> Result<Value, RpcError> {
    let request = params.at(0);
    let of_request = |name: &str| request.and_then(|request| request.get(name));
    match of_request("mode").map(|mode| mode.as_str()) {
        None | Some(Some("template")) => {}
        Some(Some("proposal")) => {
            let data = of_request("data").and_then(Value::as_str);
            let data = data.ok_or_else(|| RpcError::new(RpcError::TYPE, "Missing data String key for proposal"))?;
            let block =
                from_hex(data).ok_or_else(|| RpcError::new(RpcError::DESERIALIZATION, "Block decode failed"))?;
            return Ok(json!(node.propose(&block)?));
        }
        Some(_) => return Err(RpcError::new(RpcError::INVALID_PARAMETER, "Invalid mode")),
    }
    let rules = of_request("rules").and_then(Value::as_array);
    if !rules.is_some_and(|rules| rules.iter().any(|rule| rule == "segwit")) {
        let message = r#"getblocktemplate must be called with the segwit rule set (call with {"rules": ["segwit"]})"#;
        return Err(RpcError::new(RpcError::INVALID_PARAMETER, message));
    }

    let template = node.template();
    let place = |txid| template.entries.iter().position(|entry| entry.txid == txid);
    let transactions = template.entries.iter().map(|entry| {
        // Numbered from 1, as they stand in this list.
        let depends: Vec<_> = entry
            .depends
            .iter()
            .filter_map(|parent| Some(place(*parent)? + 1))
            .collect();
        json!({
            "data": serialize_hex(&*entry.transaction),
            "txid": entry.txid.to_string(),
            "hash": entry.wtxid.to_string(),
            "depends": depends,
            "fee": entry.fee,
            "sigops": entry.sigops,
            "weight": entry.weight,
        })
    });
    let transactions: Vec<_> = transactions.collect();
    let signals = if template.version & 1 << 28 == 0 {
        json!({})
    } else {
        json!({"testdummy": 28})
    };
    Ok(json!({
        "capabilities": ["proposal"],
        "version": template.version,
        "rules": ["csv", "!segwit", "taproot"],
        "vbavailable": signals,
        "vbrequired": 0,
        "previousblockhash": template.parent.to_string(),
        "transactions": transactions,
        "coinbaseaux": {},
        "coinbasevalue": template.value(),
        "longpollid": longpollid(node),
        "target": blocks::target(),
        "mintime": template.time_min,
        "mutable": ["time", "transactions", "prevblock"],
        "noncerange": "00000000ffffffff",
        "sigoplimit": BLOCK_SIGOPS_MAX,
        "sizelimit": BLOCK_WEIGHT_MAX,
        "weightlimit": BLOCK_WEIGHT_MAX,
        "curtime": template.time,
        "bits": format!("{NBITS:08x}"),
        "height": template.height,
        "default_witness_commitment": template.commitment().to_hex_string(),
    }))
}

/// What a miner who has the present template waits for the end of.
pub fn longpollid(node: &Regtest) -> String {
    format!("{}{}", node.index().tip_hash(), node.mempool().updates())
}

pub fn submit(node: &mut Regtest, params: &Params<'_>) -> Result<Value, RpcError> {
    let block = params.decoded(0, "Block")?;
    Ok(json!(node.submit(block)?))
}

pub fn take_proposed(node: &mut Regtest) -> Value {
    let shown = |one: Proposed| json!({"transactions": one.transactions, "weight": one.weight, "word": one.word});
    node.take_proposed().into_iter().map(shown).collect()
}

pub fn info(node: &Regtest) -> Value {
    let tip = node.index().tip();
    json!({
        "blocks": tip.height,
        "bits": format!("{NBITS:08x}"),
        "difficulty": tip.block.header.difficulty_float(),
        "target": blocks::target(),
        "networkhashps": 0,
        "pooledtx": node.mempool().len(),
        "chain": "regtest",
        "next": {"height": tip.height + 1, "bits": format!("{NBITS:08x}"), "target": blocks::target()},
        "warnings": [],
    })
}

pub fn generate(node: &mut Regtest, params: &Params<'_>) -> Result<Value, RpcError> {
    let count = params.number(0)?;
    if count > GENERATE_MAX {
        return Err(RpcError::new(
            RpcError::INVALID_PARAMETER,
            format!("{GENERATE_MAX} blocks at most"),
        ));
    }
    let address = params
        .text(1)?
        .parse::<Address<_>>()
        .ok()
        .and_then(|address| address.require_network(Network::Regtest).ok());
    let address = address.ok_or_else(|| RpcError::new(RpcError::INVALID_ADDRESS_OR_KEY, "Error: Invalid address"))?;
    let script = address.script_pubkey();
    let mut hashes = Vec::new();
    for _ in 0..count {
        hashes.push(node.generate(&script)?.to_string());
    }
    Ok(json!(hashes))
}
