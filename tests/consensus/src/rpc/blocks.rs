//! Calls about the chain.

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::hex::DisplayHex;
use bitcoin::{BlockHash, Target};
use serde_json::{Value, json};

use super::error::RpcError;
use super::faults::Faults;
use super::params::Params;
use super::show;
use crate::NBITS;
use crate::node::{Known, Regtest, Validity, now_s};

/// A tip older than this means that blocks are still being downloaded, as bitcoind sees it; s.
const TIP_AGE_MAX_S: u64 = 24 * 3_600;

pub fn chain_info(node: &Regtest, faults: &Faults) -> Value {
    let tip = node.index().tip();
    let time = tip.block.header.time;
    let downloading = now_s().saturating_sub(time.into()) > TIP_AGE_MAX_S;
    json!({
        "chain": faults.chain.as_deref().unwrap_or("regtest"),
        "blocks": tip.height,
        "headers": tip.height,
        "bestblockhash": best_hash(node, faults),
        "bits": format!("{NBITS:08x}"),
        "target": target(),
        "difficulty": tip.block.header.difficulty_float(),
        "time": time,
        "mediantime": node.index().median_time(&node.index().tip_hash()),
        "verificationprogress": 1.0,
        "initialblockdownload": faults.initial_block_download.unwrap_or(downloading),
        "chainwork": work(tip),
        "size_on_disk": 0,
        "pruned": false,
        "warnings": [],
    })
}

pub fn best_hash(node: &Regtest, faults: &Faults) -> Value {
    let truth = || node.index().tip_hash().to_string();
    json!(faults.best_block.clone().unwrap_or_else(truth))
}

pub fn hash_at(node: &Regtest, params: &Params<'_>) -> Result<Value, RpcError> {
    let out_of_range = || RpcError::new(RpcError::INVALID_PARAMETER, "Block height out of range");
    let height = u32::try_from(params.number(0)?).map_err(|_| out_of_range())?;
    let hash = node.index().at_height(height).ok_or_else(out_of_range)?;
    Ok(json!(hash.to_string()))
}

pub fn header(node: &Regtest, params: &Params<'_>) -> Result<Value, RpcError> {
    let known = known(node, params)?;
    match params.level(1, 1)? {
        0 => Ok(json!(serialize_hex(&known.block.header))),
        _ => Ok(shown_header(node, known)),
    }
}

pub fn block(node: &Regtest, params: &Params<'_>) -> Result<Value, RpcError> {
    let known = known(node, params)?;
    let level = params.level(1, 1)?;
    if level == 0 {
        return Ok(json!(serialize_hex(&*known.block)));
    }
    let mut shown = shown_header(node, known);
    for (name, size) in show::sizes(&known.block) {
        shown[name] = size;
    }
    let transactions = known.block.txdata.iter();
    shown["tx"] = match level {
        1 => transactions
            .map(|transaction| json!(transaction.compute_txid().to_string()))
            .collect(),
        _ => transactions.map(show::transaction).collect(),
    };
    Ok(shown)
}

pub fn tips(node: &Regtest) -> Value {
    let index = node.index();
    let tip = |hash: BlockHash| {
        let known = index.known(&hash)?;
        let mut fork = known;
        while !index.is_best(&fork.block.block_hash()) {
            fork = index.known(&fork.block.header.prev_blockhash)?;
        }
        let status = match known.validity {
            _ if hash == index.tip_hash() => "active",
            _ if node.is_withheld(&hash) => "invalid",
            Validity::Invalid => "invalid",
            // It was on the best chain before.
            Validity::Valid => "valid-fork",
            Validity::Unchecked => "valid-headers",
        };
        Some(json!({
            "height": known.height,
            "hash": hash.to_string(),
            "branchlen": known.height - fork.height,
            "status": status,
        }))
    };
    let mut ends = index.ends();
    // The tip is one, though withheld blocks may stand on it.
    if !ends.contains(&index.tip_hash()) {
        ends.push(index.tip_hash());
    }
    ends.into_iter().filter_map(tip).collect()
}

pub fn invalidate(node: &mut Regtest, params: &Params<'_>) -> Result<Value, RpcError> {
    node.invalidate(params.hash(0)?)?;
    Ok(Value::Null)
}

pub fn reconsider(node: &mut Regtest, params: &Params<'_>) -> Result<Value, RpcError> {
    node.reconsider(params.hash(0)?)?;
    Ok(Value::Null)
}

pub fn prefer(node: &mut Regtest, params: &Params<'_>) -> Result<Value, RpcError> {
    node.prefer(params.hash(0)?)?;
    Ok(Value::Null)
}

/// The target of every block.
pub fn target() -> String {
    Target::from_compact(bitcoin::CompactTarget::from_consensus(NBITS))
        .to_be_bytes()
        .to_lower_hex_string()
}

fn known<'a>(node: &'a Regtest, params: &Params<'_>) -> Result<&'a Known, RpcError> {
    let hash = params.hash(0)?;
    let not_found = || RpcError::new(RpcError::INVALID_ADDRESS_OR_KEY, "Block not found");
    node.index().known(&hash).ok_or_else(not_found)
}

fn work(known: &Known) -> String {
    known.work.to_be_bytes().to_lower_hex_string()
}

fn shown_header(node: &Regtest, known: &Known) -> Value {
    let (index, header) = (node.index(), &known.block.header);
    let hash = header.block_hash();
    let is_best = index.is_best(&hash);
    let confirmations = if is_best {
        i64::from(index.height() - known.height) + 1
    } else {
        -1
    };
    let mut shown = json!({
        "hash": hash.to_string(),
        "confirmations": confirmations,
        "height": known.height,
        "version": header.version.to_consensus(),
        "versionHex": format!("{:08x}", header.version.to_consensus()),
        "merkleroot": header.merkle_root.to_string(),
        "time": header.time,
        "mediantime": index.median_time(&hash),
        "nonce": header.nonce,
        "bits": format!("{:08x}", header.bits.to_consensus()),
        "target": target(),
        "difficulty": header.difficulty_float(),
        "chainwork": work(known),
        "nTx": known.block.txdata.len(),
    });
    if known.height > 0 {
        shown["previousblockhash"] = json!(header.prev_blockhash.to_string());
    }
    if is_best && let Some(next) = index.at_height(known.height + 1) {
        shown["nextblockhash"] = json!(next.to_string());
    }
    shown
}
