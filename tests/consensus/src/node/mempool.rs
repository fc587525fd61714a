//! Transactions that wait for a block: no policy, only what lets them into one.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bitcoin::absolute::LockTime;
use bitcoin::{OutPoint, Transaction, TxOut, Txid, Wtxid};

use super::coins::{Coins, Unspent};
use crate::engine::check_scripts;
use crate::{BLOCK_SIGOPS_MAX, BLOCK_WEIGHT_MAX, MATURITY};

/// Transactions that are kept; what comes past it is refused as bitcoind does it.
const ENTRIES_MAX: usize = 200_000;

#[derive(Debug, Clone)]
pub struct Entry {
    pub transaction: Arc<Transaction>,
    pub txid: Txid,
    pub wtxid: Wtxid,
    /// Satoshi.
    pub fee: u64,
    pub weight: u64,
    /// In their weighted count.
    pub sigops: u64,
    /// When it came, s since 1970.
    pub time: u64,
    /// Of the tip when it came.
    pub height: u32,
    /// Of the parents that are in the mempool too.
    pub depends: Vec<Txid>,
}

/// Why a transaction is not taken, as bitcoind's calls say it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refusal {
    /// Code -27.
    AlreadyInChain,
    /// Code -25.
    MissingInputs,
    /// Code -26 and the word.
    Invalid(String),
}

/// The chain that a transaction is to be mined on.
pub struct Chain<'a> {
    pub coins: &'a Coins,
    pub tip_height: u32,
    pub tip_median_time: u32,
}

#[derive(Debug, Default)]
pub struct Mempool {
    /// In the order they came, which parents begin.
    entries: BTreeMap<u64, Entry>,
    numbers: HashMap<Txid, u64>,
    next_number: u64,
    /// By whom an output is spent.
    spent: HashMap<OutPoint, Txid>,
    /// Goes up with each that comes or goes.
    updates: u64,
}

impl Mempool {
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.entries.values()
    }

    pub fn entry(&self, txid: &Txid) -> Option<&Entry> {
        self.entries.get(self.numbers.get(txid)?)
    }

    pub fn spender(&self, outpoint: &OutPoint) -> Option<&Txid> {
        self.spent.get(outpoint)
    }

    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// Those that spend it, children first to last.
    pub fn children<'a>(&'a self, entry: &'a Entry) -> impl Iterator<Item = &'a Txid> {
        (0..entry.transaction.output.len()).filter_map(|vout| {
            let vout = u32::try_from(vout).ok()?;
            self.spent.get(&OutPoint { txid: entry.txid, vout })
        })
    }

    /// Takes a transaction in. Its entry where it is new, none where it was there.
    ///
    /// # Errors
    /// It cannot stand in the next block.
    pub fn accept(&mut self, transaction: Transaction, time: u64, chain: &Chain<'_>) -> Result<Option<Entry>, Refusal> {
        let Some(entry) = self.check(transaction, time, chain)? else {
            return Ok(None);
        };
        let number = self.next_number;
        self.next_number += 1;
        self.updates += 1;
        for input in &entry.transaction.input {
            self.spent.insert(input.previous_output, entry.txid);
        }
        self.numbers.insert(entry.txid, number);
        self.entries.insert(number, entry.clone());
        Ok(Some(entry))
    }

    /// What [`Self::accept`] would take in.
    ///
    /// # Errors
    /// It cannot stand in the next block.
    pub fn check(&self, transaction: Transaction, time: u64, chain: &Chain<'_>) -> Result<Option<Entry>, Refusal> {
        let invalid = |word: &str| Err(Refusal::Invalid(word.to_owned()));
        let txid = transaction.compute_txid();
        if transaction.is_coinbase() {
            return invalid("coinbase");
        }
        if transaction.input.is_empty() {
            return invalid("bad-txns-vin-empty");
        }
        if transaction.output.is_empty() {
            return invalid("bad-txns-vout-empty");
        }
        if self.numbers.contains_key(&txid) {
            return Ok(None);
        }
        let outputs = 0..u32::try_from(transaction.output.len()).unwrap_or(u32::MAX);
        if outputs
            .map(|vout| OutPoint { txid, vout })
            .any(|outpoint| chain.coins.get(&outpoint).is_some())
        {
            return Err(Refusal::AlreadyInChain);
        }
        if self.entries.len() >= ENTRIES_MAX {
            return invalid("mempool full");
        }
        let mut spent = Vec::with_capacity(transaction.input.len());
        let mut depends = Vec::new();
        for input in &transaction.input {
            let outpoint = input.previous_output;
            if self.spent.contains_key(&outpoint) {
                return invalid("txn-mempool-conflict");
            }
            let unspent = match chain.coins.get(&outpoint) {
                Some(unspent) => unspent.clone(),
                None => {
                    let parent = self.entry(&outpoint.txid).ok_or(Refusal::MissingInputs)?;
                    let output = parent
                        .transaction
                        .output
                        .get(outpoint.vout as usize)
                        .ok_or(Refusal::MissingInputs)?;
                    if !depends.contains(&parent.txid) {
                        depends.push(parent.txid);
                    }
                    Unspent {
                        output: output.clone(),
                        height: chain.tip_height + 1,
                        is_coinbase: false,
                    }
                }
            };
            if unspent.is_coinbase && chain.tip_height + 1 < unspent.height + MATURITY {
                return invalid("bad-txns-premature-spend-of-coinbase");
            }
            spent.push(unspent.output);
        }
        if !is_final(&transaction, chain) {
            return invalid("non-final");
        }
        if transaction.version.0 >= 2
            && transaction
                .input
                .iter()
                .any(|input| input.sequence.is_relative_lock_time())
        {
            return invalid("relative lock times are beyond this node");
        }
        let sum = |outputs: &[TxOut]| {
            outputs
                .iter()
                .try_fold(0_u64, |sum, output| sum.checked_add(output.value.to_sat()))
        };
        let (Some(value_in), Some(value_out)) = (sum(&spent), sum(&transaction.output)) else {
            return invalid("bad-txns-txouttotal-toolarge");
        };
        let Some(fee) = value_in.checked_sub(value_out) else {
            return invalid("bad-txns-in-belowout");
        };
        let weight = transaction.weight().to_wu();
        let sigops = sigops(&transaction, &spent);
        if weight > BLOCK_WEIGHT_MAX || sigops > BLOCK_SIGOPS_MAX {
            return invalid("bad-txns-oversize");
        }
        check_scripts(&transaction, &spent)
            .map_err(|why| Refusal::Invalid(format!("mandatory-script-verify-flag-failed ({why})")))?;
        Ok(Some(Entry {
            wtxid: transaction.compute_wtxid(),
            transaction: Arc::new(transaction),
            txid,
            fee,
            weight,
            sigops,
            time,
            height: chain.tip_height,
            depends,
        }))
    }

    /// Lets go of one that stands in a block now. What is still there and spends the same goes too, with all that
    /// stands on it: those are given back.
    pub fn mined(&mut self, transaction: &Transaction) -> Vec<Txid> {
        let txid = transaction.compute_txid();
        if self.take(&txid) {
            return Vec::new();
        }
        let rivals: Vec<_> = transaction
            .input
            .iter()
            .filter_map(|input| self.spent.get(&input.previous_output).copied())
            .collect();
        rivals
            .into_iter()
            .flat_map(|rival| self.remove_with_descendants(rival))
            .collect()
    }

    /// Takes all out, in the order they came.
    pub fn drain(&mut self) -> Vec<Entry> {
        let entries = std::mem::take(&mut self.entries);
        self.numbers.clear();
        self.spent.clear();
        entries.into_values().collect()
    }

    fn remove_with_descendants(&mut self, txid: Txid) -> Vec<Txid> {
        let (mut removed, mut due) = (Vec::new(), vec![txid]);
        while let Some(txid) = due.pop() {
            if let Some(entry) = self.entry(&txid) {
                due.extend(self.children(entry).copied());
                self.take(&txid);
                removed.push(txid);
            }
        }
        removed
    }

    fn take(&mut self, txid: &Txid) -> bool {
        let Some(entry) = self
            .numbers
            .remove(txid)
            .and_then(|number| self.entries.remove(&number))
        else {
            return false;
        };
        for input in &entry.transaction.input {
            self.spent.remove(&input.previous_output);
        }
        self.updates += 1;
        true
    }
}

fn is_final(transaction: &Transaction, chain: &Chain<'_>) -> bool {
    let reached = match transaction.lock_time {
        LockTime::Blocks(height) => height.to_consensus_u32() < chain.tip_height + 1,
        // BIP113: the time of a block is the median before it.
        LockTime::Seconds(time) => time.to_consensus_u32() < chain.tip_median_time,
    };
    reached
        || transaction
            .input
            .iter()
            .all(|input| input.sequence == bitcoin::Sequence::MAX)
}

fn sigops(transaction: &Transaction, spent: &[TxOut]) -> u64 {
    let outputs: HashMap<_, _> = transaction
        .input
        .iter()
        .map(|input| input.previous_output)
        .zip(spent)
        .collect();
    transaction.total_sigop_cost(|outpoint| outputs.get(outpoint).map(|output| (*output).clone())) as u64
}
