//! Calls about transactions.

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{OutPoint, Transaction, Txid};
use serde_json::{Map, Value, json};

use super::error::RpcError;
use super::params::{Params, from_hex};
use super::show::{self, bitcoins};
use crate::node::{Entry, Refusal, Regtest};

/// Transactions that one call makes at most: more than a gateway's template holds.
const FILL_MAX: u64 = 100_000;

pub fn send(node: &mut Regtest, params: &Params<'_>) -> Result<Value, RpcError> {
    let transaction: Transaction = params.decoded(0, "TX")?;
    let txid = transaction.compute_txid();
    node.accept(transaction)?;
    Ok(json!(txid.to_string()))
}

pub fn test(node: &mut Regtest, params: &Params<'_>) -> Result<Value, RpcError> {
    let list = params.required(0)?.as_array();
    let list = list.ok_or_else(|| RpcError::new(RpcError::TYPE, "JSON value is not of type array as expected"))?;
    let judge = |raw: &Value| {
        let transaction: Transaction = from_hex(raw.as_str().unwrap_or_default())
            .ok_or_else(|| RpcError::new(RpcError::DESERIALIZATION, "TX decode failed"))?;
        let (txid, wtxid) = (
            transaction.compute_txid().to_string(),
            transaction.compute_wtxid().to_string(),
        );
        Ok(match node.would_accept(transaction) {
            Ok(Some(entry)) => json!({
                "txid": txid, "wtxid": wtxid, "allowed": true, "vsize": vsize(&entry), "fees": {"base": bitcoins(entry.fee)},
            }),
            Ok(None) => json!({
                "txid": txid, "wtxid": wtxid, "allowed": false, "reject-reason": "txn-already-in-mempool",
            }),
            Err(refusal) => json!({"txid": txid, "wtxid": wtxid, "allowed": false, "reject-reason": word(&refusal)}),
        })
    };
    list.iter().map(judge).collect()
}

pub fn list(node: &Regtest, params: &Params<'_>) -> Result<Value, RpcError> {
    let mempool = node.mempool();
    if params.level(0, 0)? > 0 {
        let entries: Map<_, _> = mempool
            .iter()
            .map(|entry| (entry.txid.to_string(), shown_entry(node, entry)))
            .collect();
        return Ok(Value::Object(entries));
    }
    let txids: Vec<_> = mempool.iter().map(|entry| entry.txid.to_string()).collect();
    Ok(match params.level(1, 0)? {
        0 => json!(txids),
        _ => json!({"txids": txids, "mempool_sequence": mempool.updates()}),
    })
}

pub fn info(node: &Regtest) -> Value {
    let mempool = node.mempool();
    let total = |of: fn(&Entry) -> u64| mempool.iter().map(of).sum::<u64>();
    json!({
        "loaded": true,
        "size": mempool.len(),
        "bytes": total(vsize),
        "usage": total(|entry| entry.weight),
        "total_fee": bitcoins(total(|entry| entry.fee)),
        "maxmempool": 300_000_000,
        "mempoolminfee": 0.0,
        "minrelaytxfee": 0.0,
        "incrementalrelayfee": 0.0,
        "unbroadcastcount": 0,
        "fullrbf": false,
    })
}

pub fn entry(node: &Regtest, params: &Params<'_>) -> Result<Value, RpcError> {
    let not_there = || RpcError::new(RpcError::INVALID_ADDRESS_OR_KEY, "Transaction not in mempool");
    let entry = node.mempool().entry(&params.hash(0)?).ok_or_else(not_there)?;
    Ok(shown_entry(node, entry))
}

/// Of the mempool, or of the block that is named, or of the best chain: here all blocks are at hand.
pub fn transaction(node: &Regtest, params: &Params<'_>) -> Result<Value, RpcError> {
    let (txid, level): (Txid, _) = (params.hash(0)?, params.level(1, 0)?);
    let index = node.index();
    let in_block = |hash| {
        let known = index.known(&hash)?;
        let found = known
            .block
            .txdata
            .iter()
            .find(|transaction| transaction.compute_txid() == txid)?;
        Some((found, Some(known)))
    };
    let found = match params.at(2) {
        Some(_) => in_block(params.hash(2)?),
        None => match node.mempool().entry(&txid) {
            Some(entry) => Some((&*entry.transaction, None)),
            None => index.best().find_map(|known| in_block(known.block.block_hash())),
        },
    };
    let (transaction, known) = found.ok_or_else(|| {
        RpcError::new(
            RpcError::INVALID_ADDRESS_OR_KEY,
            "No such mempool or blockchain transaction",
        )
    })?;
    if level == 0 {
        return Ok(json!(serialize_hex(transaction)));
    }
    let mut shown = show::transaction(transaction);
    if let Some(known) = known {
        let hash = known.block.block_hash();
        shown["blockhash"] = json!(hash.to_string());
        if index.is_best(&hash) {
            shown["confirmations"] = json!(index.height() - known.height + 1);
            shown["time"] = json!(known.block.header.time);
            shown["blocktime"] = json!(known.block.header.time);
        }
    }
    Ok(shown)
}

pub fn unspent(node: &Regtest, params: &Params<'_>) -> Result<Value, RpcError> {
    let vout = u32::try_from(params.number(1)?)
        .map_err(|_| RpcError::new(RpcError::INVALID_PARAMETER, "vout is too large"))?;
    let outpoint = OutPoint {
        txid: params.hash(0)?,
        vout,
    };
    let with_mempool = params.level(2, 1)? > 0;
    let (index, mempool) = (node.index(), node.mempool());
    if with_mempool && mempool.spender(&outpoint).is_some() {
        return Ok(Value::Null);
    }
    let (output, confirmations, is_coinbase) = match node.coins().get(&outpoint) {
        Some(unspent) => (
            &unspent.output,
            index.height() - unspent.height + 1,
            unspent.is_coinbase,
        ),
        None => {
            let entry = with_mempool.then(|| mempool.entry(&outpoint.txid)).flatten();
            match entry.and_then(|entry| entry.transaction.output.get(vout as usize)) {
                Some(output) => (output, 0, false),
                None => return Ok(Value::Null),
            }
        }
    };
    let mut shown = show::output_value(output);
    shown["bestblock"] = json!(index.tip_hash().to_string());
    shown["confirmations"] = json!(confirmations);
    shown["coinbase"] = json!(is_coinbase);
    Ok(shown)
}

pub fn fill(node: &mut Regtest, params: &Params<'_>) -> Result<Value, RpcError> {
    let count = params.number(0)?;
    if count == 0 || count > FILL_MAX {
        return Err(RpcError::new(
            RpcError::INVALID_PARAMETER,
            format!("1 to {FILL_MAX} transactions"),
        ));
    }
    let weight = params.at(1).map(|_| params.number(1)).transpose()?;
    let txids = node
        .fill(usize::try_from(count).expect("a small number"), weight)
        .map_err(|error| RpcError::new(RpcError::MISC, error))?;
    Ok(txids.iter().map(|txid| json!(txid.to_string())).collect())
}

impl From<Refusal> for RpcError {
    fn from(refusal: Refusal) -> Self {
        let code = match refusal {
            Refusal::AlreadyInChain => Self::VERIFY_ALREADY_IN_CHAIN,
            Refusal::MissingInputs => Self::VERIFY,
            Refusal::Invalid(_) => Self::VERIFY_REJECTED,
        };
        Self::new(code, word(&refusal))
    }
}

fn word(refusal: &Refusal) -> &str {
    match refusal {
        Refusal::AlreadyInChain => "Transaction outputs already in utxo set",
        Refusal::MissingInputs => "bad-txns-inputs-missingorspent",
        Refusal::Invalid(word) => word,
    }
}

fn vsize(entry: &Entry) -> u64 {
    entry.weight.div_ceil(4)
}

/// Without ancestors and descendants beyond the nearest: nothing here chooses by them.
fn shown_entry(node: &Regtest, entry: &Entry) -> Value {
    let mempool = node.mempool();
    let depends: Vec<_> = entry
        .depends
        .iter()
        .filter(|parent| mempool.entry(parent).is_some())
        .map(Txid::to_string)
        .collect();
    let spent_by: Vec<_> = mempool.children(entry).map(Txid::to_string).collect();
    let fee = bitcoins(entry.fee);
    json!({
        "vsize": vsize(entry),
        "weight": entry.weight,
        "time": entry.time,
        "height": entry.height,
        "wtxid": entry.wtxid.to_string(),
        "fees": {"base": fee, "modified": fee},
        "depends": depends,
        "spentby": spent_by,
        "bip125-replaceable": false,
        "unbroadcast": false,
    })
}
