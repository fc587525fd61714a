//! Scripts of a transaction that is in no block yet, checked by the engine.

use bitcoin::consensus::serialize;
use bitcoin::{Transaction, TxOut};
use bitcoinkernel::{KernelError, PrecomputedTransactionData, ScriptPubkey, VERIFY_ALL, prelude::*, verify};

/// Whether every input may spend what it spends, under all rules of consensus. `spent`: in the order of the inputs.
///
/// # Errors
/// Which input fails, and why, in the engine's words.
pub fn check_scripts(transaction: &Transaction, spent: &[TxOut]) -> Result<(), String> {
    let failed = |at: usize, error: &KernelError| format!("input {at}: {error}");
    let spending = bitcoinkernel::Transaction::new(&serialize(transaction)).map_err(|error| failed(0, &error))?;
    let outputs = spent
        .iter()
        .map(|output| {
            let script = ScriptPubkey::new(output.script_pubkey.as_bytes())?;
            let value = i64::try_from(output.value.to_sat()).expect("coins of the chain are below 21 million");
            Ok(bitcoinkernel::TxOut::new(&script, value))
        })
        .collect::<Result<Vec<_>, KernelError>>()
        .map_err(|error| failed(0, &error))?;
    let precomputed = PrecomputedTransactionData::new(&spending, &outputs).map_err(|error| failed(0, &error))?;
    for (at, output) in outputs.iter().enumerate() {
        let script = output.script_pubkey();
        verify(
            &script,
            Some(output.value()),
            &spending,
            at,
            Some(VERIFY_ALL),
            &precomputed,
        )
        .map_err(|error| failed(at, &error))?;
    }
    Ok(())
}
