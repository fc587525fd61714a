//! Blocks and transactions as bitcoind shows them.

use bitcoin::consensus::encode::serialize_hex;
use bitcoin::{Address, Block, Network, Transaction, TxOut};
use serde_json::{Value, json};

use super::error::RpcError;
use super::params::Params;

/// Satoshi as bitcoind writes them: bitcoin, with as many digits as it takes.
pub fn bitcoins(satoshi: u64) -> Value {
    // Exact: below 2^53 satoshi, the shortest digits that give the number back have at most 8 behind the point.
    json!(satoshi as f64 / 1e8)
}

/// A transaction, without what depends on where it stands.
pub fn transaction(transaction: &Transaction) -> Value {
    let inputs = transaction.input.iter().map(|input| {
        let mut shown = if transaction.is_coinbase() {
            json!({"coinbase": input.script_sig.to_hex_string()})
        } else {
            json!({
                "txid": input.previous_output.txid.to_string(),
                "vout": input.previous_output.vout,
                "scriptSig": {"asm": input.script_sig.to_asm_string(), "hex": input.script_sig.to_hex_string()},
            })
        };
        if !input.witness.is_empty() {
            shown["txinwitness"] = input.witness.iter().map(hex).collect();
        }
        shown["sequence"] = json!(input.sequence.0);
        shown
    });
    let outputs = (0..).zip(&transaction.output).map(|(n, output): (u32, _)| {
        let mut shown = output_value(output);
        shown["n"] = json!(n);
        shown
    });
    json!({
        "txid": transaction.compute_txid().to_string(),
        "hash": transaction.compute_wtxid().to_string(),
        "version": transaction.version.0,
        "size": transaction.total_size(),
        "vsize": transaction.vsize(),
        "weight": transaction.weight().to_wu(),
        "locktime": transaction.lock_time.to_consensus_u32(),
        "vin": inputs.collect::<Vec<_>>(),
        "vout": outputs.collect::<Vec<_>>(),
        "hex": serialize_hex(transaction),
    })
}

/// Value and script.
pub fn output_value(output: &TxOut) -> Value {
    let script = &output.script_pubkey;
    let mut shown = json!({"asm": script.to_asm_string(), "hex": script.to_hex_string(), "type": script_type(output)});
    if let Ok(address) = Address::from_script(script, Network::Regtest) {
        shown["address"] = json!(address.to_string());
    }
    json!({"value": bitcoins(output.value.to_sat()), "scriptPubKey": shown})
}

/// Sizes of a block.
pub fn sizes(block: &Block) -> [(&'static str, Value); 3] {
    let stripped: usize = block.txdata.iter().map(Transaction::base_size).sum();
    let beside = block.total_size() - block.txdata.iter().map(Transaction::total_size).sum::<usize>();
    [
        ("size", json!(block.total_size())),
        ("strippedsize", json!(stripped + beside)),
        ("weight", json!(block.weight().to_wu())),
    ]
}

pub fn validate_address(params: &Params<'_>) -> Result<Value, RpcError> {
    let text = params.text(0)?;
    let address = text
        .parse::<Address<_>>()
        .ok()
        .and_then(|address| address.require_network(Network::Regtest).ok());
    Ok(match address {
        Some(address) => {
            let script = address.script_pubkey();
            let mut shown = json!({
                "isvalid": true,
                "address": address.to_string(),
                "scriptPubKey": script.to_hex_string(),
                "isscript": script.is_p2sh() || script.is_p2wsh(),
                "iswitness": script.is_witness_program(),
            });
            if let Some(program) = address.witness_program() {
                shown["witness_version"] = json!(program.version().to_num());
                shown["witness_program"] = hex(program.program().as_bytes());
            }
            shown
        }
        None => json!({"isvalid": false, "error_locations": [], "error": "Invalid or unsupported address"}),
    })
}

fn hex(bytes: &[u8]) -> Value {
    use bitcoin::hex::DisplayHex;
    json!(bytes.to_lower_hex_string())
}

fn script_type(output: &TxOut) -> &'static str {
    let script = &output.script_pubkey;
    match () {
        () if script.is_p2pkh() => "pubkeyhash",
        () if script.is_p2sh() => "scripthash",
        () if script.is_p2wpkh() => "witness_v0_keyhash",
        () if script.is_p2wsh() => "witness_v0_scripthash",
        () if script.is_p2tr() => "witness_v1_taproot",
        () if script.is_p2pk() => "pubkey",
        () if script.is_op_return() => "nulldata",
        () if script.is_witness_program() => "witness_unknown",
        () => "nonstandard",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn satoshi_are_exact() {
        for satoshi in [
            0,
            1,
            3,
            99_999_999,
            100_000_000,
            2_099_999_999_999_999,
            5_000_000_001,
            123_456_789_012_345,
        ] {
            let text = bitcoins(satoshi).to_string();
            let value: f64 = text.parse().expect("a number");
            assert_eq!((value * 1e8).round() as u64, satoshi, "{text}");
            assert!(
                !text.contains('.') || text.contains('e') || text.split_once('.').expect("it has one").1.len() <= 8,
                "{text}"
            );
        }
    }
}
