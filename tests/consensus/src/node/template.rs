//! What to mine next.

use bitcoin::absolute::LockTime;
use bitcoin::hashes::Hash;
use bitcoin::script::Builder;
use bitcoin::transaction::Version;
use bitcoin::{
    Amount, Block, BlockHash, CompactTarget, OutPoint, ScriptBuf, Sequence, Transaction, TxIn, TxMerkleNode, TxOut,
    Witness, WitnessMerkleNode,
};

use super::mempool::{Entry, Mempool};
use crate::{BLOCK_SIGOPS_MAX, BLOCK_WEIGHT_MAX, NBITS, subsidy};

/// Weight and signature operations that are kept for header and coinbase, as bitcoind does.
const RESERVED_WEIGHT: u64 = 8_000;
const RESERVED_SIGOPS: u64 = 400;

/// Blocks that a soft fork's signalling counts, on regtest. In the first such period none is signalled, from then on
/// `testdummy`, the deployment that is always under way there.
const SIGNAL_PERIOD: u32 = 144;
const TOP_BITS: i32 = 0x2000_0000;
const TESTDUMMY: i32 = 1 << 28;

/// What the witness commitment commits to beside the transactions: the coinbase's only witness item.
pub const WITNESS_RESERVED: [u8; 32] = [0; 32];

/// Begins the script of a witness commitment.
const COMMITMENT_START: [u8; 6] = [0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed];

/// A block without its coinbase.
#[derive(Debug, Clone)]
pub struct Template {
    pub height: u32,
    pub parent: BlockHash,
    pub version: i32,
    /// s since 1970.
    pub time_min: u32,
    pub time: u32,
    /// Parents first.
    pub entries: Vec<Entry>,
}

impl Template {
    /// Takes transactions in the order they came, as many as fit.
    pub fn new(height: u32, parent: BlockHash, median_time: u32, now: u32, mempool: &Mempool) -> Self {
        let (mut weight, mut sigops) = (RESERVED_WEIGHT, RESERVED_SIGOPS);
        let mut taken = std::collections::HashSet::new();
        let fits = |entry: &&Entry| {
            let ready = entry
                .depends
                .iter()
                .all(|parent| taken.contains(parent) || mempool.entry(parent).is_none());
            let fits = weight + entry.weight <= BLOCK_WEIGHT_MAX && sigops + entry.sigops <= BLOCK_SIGOPS_MAX;
            if ready && fits {
                weight += entry.weight;
                sigops += entry.sigops;
                taken.insert(entry.txid);
            }
            ready && fits
        };
        let time_min = median_time + 1;
        Self {
            height,
            parent,
            version: if height < SIGNAL_PERIOD {
                TOP_BITS
            } else {
                TOP_BITS | TESTDUMMY
            },
            time_min,
            time: now.max(time_min),
            entries: mempool.iter().filter(fits).cloned().collect(),
        }
    }

    /// Subsidy and fees, in satoshi.
    pub fn value(&self) -> u64 {
        subsidy(self.height) + self.entries.iter().map(|entry| entry.fee).sum::<u64>()
    }

    /// The script of the output that commits to the witnesses.
    pub fn commitment(&self) -> ScriptBuf {
        let leaves = self.entries.iter().map(|entry| entry.wtxid.to_raw_hash());
        let root = bitcoin::merkle_tree::calculate_root(std::iter::once(Hash::all_zeros()).chain(leaves));
        let root = WitnessMerkleNode::from_raw_hash(root.expect("there is a coinbase"));
        let commitment = Block::compute_witness_commitment(&root, &WITNESS_RESERVED);
        ScriptBuf::from_bytes([&COMMITMENT_START[..], commitment.as_byte_array()].concat())
    }

    /// The block with a coinbase that pays all to `script`, mined. `salt` tells blocks apart that are alike otherwise.
    pub fn mine(&self, script: &ScriptBuf, salt: u64) -> Block {
        let sig = Builder::new()
            .push_int(i64::from(self.height))
            .push_slice(salt.to_le_bytes())
            .into_script();
        let output = |value, script_pubkey| TxOut {
            value: Amount::from_sat(value),
            script_pubkey,
        };
        let coinbase = Transaction {
            version: Version::TWO,
            lock_time: LockTime::ZERO,
            input: vec![TxIn {
                previous_output: OutPoint::null(),
                script_sig: sig,
                sequence: Sequence::MAX,
                witness: Witness::from_slice(&[WITNESS_RESERVED]),
            }],
            output: vec![output(self.value(), script.clone()), output(0, self.commitment())],
        };
        let mut txdata = vec![coinbase];
        txdata.extend(self.entries.iter().map(|entry| (*entry.transaction).clone()));
        let mut block = Block {
            header: bitcoin::block::Header {
                version: bitcoin::block::Version::from_consensus(self.version),
                prev_blockhash: self.parent,
                merkle_root: TxMerkleNode::all_zeros(),
                time: self.time,
                bits: CompactTarget::from_consensus(NBITS),
                nonce: 0,
            },
            txdata,
        };
        block.header.merkle_root = block.compute_merkle_root().expect("there is a coinbase");
        find_nonce(&mut block.header);
        block
    }
}

/// Goes on from the header's nonce to one that meets regtest's target, which every second does.
pub fn find_nonce(header: &mut bitcoin::block::Header) {
    let target = bitcoin::Target::from_compact(CompactTarget::from_consensus(NBITS));
    while !target.is_met_by(header.block_hash()) {
        header.nonce = header.nonce.wrapping_add(1);
    }
}
