//! The transactions that a stand-in node has, made of nothing: each spends a coin that never was.

use std::collections::HashMap;

use bitcoin::hex::DisplayHex;
use millrace::work::{BLOCK_WEIGHT_MAX, TemplateTransaction};
use serde_json::value::RawValue;

use crate::template;
use crate::upstream::shown;

/// Weight that a template leaves to header and coinbase: the largest class, and some.
const LEFT_WEIGHT: u64 = 68_000;

/// Satoshi that each transaction of the template pays.
const FEE: u64 = 1_000;

/// Bytes of witness where nothing is said: a signature and a key.
const USUAL_WITNESS: usize = 107;

pub struct Offer {
    /// Those of the template as a list of JSON.
    pub transactions: Box<RawValue>,
    /// All txids, of template and mempool, as a list of JSON.
    pub txids: Box<RawValue>,
    /// The script of the template's commitment, in hex.
    pub commitment: String,
    /// Satoshi of the template's.
    pub fees: u64,
    by_txid: HashMap<String, Box<[u8]>>,
}

impl Offer {
    /// # Errors
    /// The template would be too large for a block.
    pub fn new(count: u32, bytes: usize, mempool: u32) -> Result<Self, String> {
        let plain = raw(0, 0).len();
        let witness = match (bytes / count.max(1) as usize).saturating_sub(plain) {
            0 => USUAL_WITNESS,
            witness => witness,
        };
        let mut offer = Self {
            transactions: RawValue::from_string("[]".into()).expect("JSON"),
            txids: RawValue::from_string("[]".into()).expect("JSON"),
            commitment: String::new(),
            fees: FEE * u64::from(count),
            by_txid: HashMap::new(),
        };
        let (mut list, mut txids, mut wtxids, mut weight) = (Vec::new(), Vec::new(), Vec::new(), 0);
        for number in 0..count.saturating_add(mempool) {
            let is_offered = number < count;
            let raw = raw(number, if is_offered { witness } else { USUAL_WITNESS });
            let read = TemplateTransaction::read(&raw).ok_or("a transaction that is none")?;
            let txid = shown(&read.txid);
            if is_offered {
                // Four for each byte outside the witness, whose two bytes of mark count as witness.
                let own = 3 * (plain_len(&raw, witness) as u64) + raw.len() as u64;
                weight += own;
                wtxids.push(read.wtxid);
                list.push(format!(
                    "{{\"data\":\"{}\",\"txid\":\"{txid}\",\"hash\":\"{}\",\"depends\":[],\"fee\":{FEE},\"sigops\":1,\"weight\":{own}}}",
                    raw.to_lower_hex_string(),
                    shown(&read.wtxid)
                ));
            }
            txids.push(format!("\"{txid}\""));
            offer.by_txid.insert(txid, raw.into());
        }
        if weight + LEFT_WEIGHT > BLOCK_WEIGHT_MAX {
            return Err(format!(
                "{count} transactions of {bytes} bytes have a weight of {weight}: a block has no room for them"
            ));
        }
        let list_of = |parts: &[String]| RawValue::from_string(format!("[{}]", parts.join(","))).expect("JSON");
        offer.transactions = list_of(&list);
        offer.txids = list_of(&txids);
        offer.commitment = format!("6a24aa21a9ed{}", template::commitment(&wtxids).to_lower_hex_string());
        Ok(offer)
    }

    /// In hex.
    pub fn raw(&self, txid: &str) -> Option<String> {
        self.by_txid.get(txid).map(|raw| raw.to_lower_hex_string())
    }
}

/// One input, one output to a P2WPKH script, and so many bytes of witness.
fn raw(number: u32, witness: usize) -> Vec<u8> {
    let mut raw = vec![2, 0, 0, 0, 0, 1, 1];
    raw.extend_from_slice(&crate::sha256d::hash(&number.to_le_bytes()));
    raw.extend_from_slice(&[0, 0, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 1]);
    raw.extend_from_slice(&10_000_u64.to_le_bytes());
    raw.extend_from_slice(&[22, 0, 20]);
    raw.extend_from_slice(&[0x5a; 20]);
    raw.push(1);
    raw.extend_from_slice(&bitcoin::consensus::serialize(&bitcoin::VarInt::from(witness)));
    raw.resize(raw.len() + witness, 0x77);
    raw.extend_from_slice(&[0; 4]);
    raw
}

/// Bytes outside the witness.
fn plain_len(raw: &[u8], witness: usize) -> usize {
    raw.len() - witness - bitcoin::VarInt::from(witness).size() - 1 - 2
}
