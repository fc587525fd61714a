//! The unspent outputs of the best chain.

use std::collections::HashMap;

use bitcoin::{Block, OutPoint, TxOut};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unspent {
    pub output: TxOut,
    pub height: u32,
    pub is_coinbase: bool,
}

#[derive(Debug, Default)]
pub struct Coins {
    unspent: HashMap<OutPoint, Unspent>,
}

impl Coins {
    pub fn get(&self, outpoint: &OutPoint) -> Option<&Unspent> {
        self.unspent.get(outpoint)
    }

    /// In no order.
    pub fn iter(&self) -> impl Iterator<Item = (&OutPoint, &Unspent)> {
        self.unspent.iter()
    }

    /// Takes in the next block of the best chain, which the engine found valid.
    pub fn connect(&mut self, block: &Block, height: u32) {
        // Nobody can spend the genesis block's.
        if height == 0 {
            return;
        }
        for transaction in &block.txdata {
            let is_coinbase = transaction.is_coinbase();
            if !is_coinbase {
                for input in &transaction.input {
                    self.unspent.remove(&input.previous_output);
                }
            }
            let txid = transaction.compute_txid();
            for (vout, output) in (0..).zip(&transaction.output) {
                if !output.script_pubkey.is_op_return() {
                    let unspent = Unspent {
                        output: output.clone(),
                        height,
                        is_coinbase,
                    };
                    self.unspent.insert(OutPoint { txid, vout }, unspent);
                }
            }
        }
    }
}
