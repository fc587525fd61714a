//! A template as a node offers it in `getblocktemplate`.

use bitcoin::hex::FromHex;
use millrace::work::TemplateTransaction;
use serde_json::Value;

use super::Template;
use crate::sha256d;

/// What stands before the hash in the script of a witness commitment.
const COMMITMENT_START: usize = 6;

impl Template {
    /// Reads the answer of a node.
    ///
    /// # Errors
    /// What is missing, or no node would say.
    pub fn offered(node: &Value) -> Result<Self, String> {
        let list = node["transactions"].as_array().ok_or("no list of transactions")?;
        let transactions: Box<[_]> = list.iter().map(transaction).collect::<Result<_, _>>()?;
        let sum = |name: &str| list.iter().map(|one| number(one, name)).sum::<Result<u32, _>>();
        let bytes: usize = transactions.iter().map(|one| one.raw.len()).sum();
        let commitment = hex(node, "default_witness_commitment")?;
        let commitment = commitment.get(COMMITMENT_START..).and_then(|hash| hash.try_into().ok());
        Ok(Self {
            parent: hash(node, "previousblockhash")?,
            height: number(node, "height")?,
            value: node["coinbasevalue"].as_u64().ok_or("no coinbasevalue")?,
            nbits: text(node, "bits").and_then(|bits| u32::from_str_radix(bits, 16).map_err(|_| "bits".into()))?,
            min_time: number(node, "mintime")?,
            tx_count: u32::try_from(transactions.len()).map_err(|_| "too many transactions")?,
            weight: sum("weight")?,
            size: u32::try_from(bytes).map_err(|_| "too many bytes")?,
            sigops: sum("sigops")?,
            branches: branches(transactions.iter().map(|one| one.txid).collect()),
            commitment: commitment.ok_or("a default_witness_commitment of another form")?,
            transactions: Some(transactions),
        })
    }
}

/// Merkle branches of a coinbase beside these transactions, from the leaf up.
#[must_use]
pub fn branches(txids: Vec<[u8; 32]>) -> Vec<[u8; 32]> {
    // The first of each level depends on the coinbase.
    let mut level: Vec<Option<[u8; 32]>> = std::iter::once(None).chain(txids.into_iter().map(Some)).collect();
    let mut branches = Vec::new();
    while level.len() > 1 {
        if level.len() % 2 == 1 {
            level.push(level[level.len() - 1]);
        }
        branches.extend(level[1]);
        let node = |pair: &[Option<[u8; 32]>]| Some(sha256d::hash(&[pair[0]?, pair[1]?].concat()));
        level = level.chunks(2).map(node).collect();
    }
    branches
}

/// What a coinbase commits to for the witnesses of these transactions (BIP 141), its own witness being zeros.
#[must_use]
pub fn commitment(wtxids: &[[u8; 32]]) -> [u8; 32] {
    let root = sha256d::root([0; 32], &branches(wtxids.to_vec()));
    sha256d::hash(&[root, [0; 32]].concat())
}

fn transaction(one: &Value) -> Result<TemplateTransaction, String> {
    let raw = hex(one, "data")?;
    TemplateTransaction::read(&raw).ok_or_else(|| "a transaction that is none".into())
}

fn number(node: &Value, name: &str) -> Result<u32, String> {
    let number = node[name].as_u64().and_then(|number| u32::try_from(number).ok());
    number.ok_or_else(|| format!("no {name}"))
}

fn text<'a>(node: &'a Value, name: &str) -> Result<&'a str, String> {
    node[name].as_str().ok_or_else(|| format!("no {name}"))
}

fn hex(node: &Value, name: &str) -> Result<Vec<u8>, String> {
    Vec::from_hex(text(node, name)?).map_err(|_| format!("{name} is not hex"))
}

/// As hashed; people write it the other way round.
fn hash(node: &Value, name: &str) -> Result<[u8; 32], String> {
    let mut hash: [u8; 32] = hex(node, name)?
        .try_into()
        .map_err(|_| format!("{name} is not a hash"))?;
    hash.reverse();
    Ok(hash)
}
