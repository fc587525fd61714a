//! A chain to test on: a miner with mature coins of every usual kind, all by RPC.

use bitcoin::consensus::encode::{deserialize_hex, serialize_hex};
use bitcoin::{Block, BlockHash, OutPoint, Transaction, TxOut};
use millrace_consensus::{Coin, Kind, NBITS, Wallet, subsidy};
use serde_json::{Value, json};

use super::node::Node;

/// Where tests begin: ten coinbases are mature, and the halving is far.
pub const START: u32 = 110;

/// A node, and the key whom its first blocks paid.
pub struct Chain {
    pub node: Node,
    pub miner: Wallet,
    /// Mature ones that nobody has spent yet.
    pub coins: Vec<Coin>,
}

impl Chain {
    pub fn new() -> Self {
        Self::on(Node::start())
    }

    /// Grows a new node's chain.
    pub fn on(node: Node) -> Self {
        let miner = Wallet::new("miner");
        node.call(
            "generatetoaddress",
            json!([START, miner.address(Kind::P2wpkh).to_string()]),
        );
        assert_eq!(node.call("getblockcount", json!([])), START);
        let coins = (1..=START - 100).map(|height| coinbase_coin(&node, height)).collect();
        Self { node, miner, coins }
    }

    /// What a gateway's node says to mine on.
    pub fn template(&self) -> Value {
        self.node.call("getblocktemplate", json!([{"rules": ["segwit"]}]))
    }

    /// A block as the node itself would mine it, to an address of the miner's.
    pub fn next_block(&self) -> Block {
        block_of(&self.template(), &self.miner.output(0, Kind::P2wpkh))
    }

    /// The word for it; none where it was taken.
    pub fn submit(&self, block: &Block) -> Option<String> {
        word(&self.node.call("submitblock", json!([serialize_hex(block)])))
    }

    /// The word for it; none where it would be good.
    pub fn propose(&self, block: &Block) -> Option<String> {
        word(&self.node.call(
            "getblocktemplate",
            json!([{"mode": "proposal", "rules": ["segwit"], "data": serialize_hex(block)}]),
        ))
    }

    pub fn send(&self, transaction: &Transaction) {
        let txid = self
            .node
            .call("sendrawtransaction", json!([serialize_hex(transaction)]));
        assert_eq!(txid, transaction.compute_txid().to_string());
    }

    /// Mines what the mempool has.
    pub fn mine(&self) -> BlockHash {
        self.mine_to(Kind::P2wpkh)
    }

    /// The same, to another address: bitcoind makes the same block again where nothing else differs.
    pub fn mine_to(&self, kind: Kind) -> BlockHash {
        let hashes = self
            .node
            .call("generatetoaddress", json!([1, self.miner.address(kind).to_string()]));
        hashes[0].as_str().expect("a hash").parse().expect("a hash")
    }

    pub fn tip(&self) -> BlockHash {
        let hash = self.node.call("getbestblockhash", json!([]));
        hash.as_str().expect("a hash").parse().expect("a hash")
    }

    pub fn height(&self) -> u64 {
        self.node.call("getblockcount", json!([])).as_u64().expect("a height")
    }

    pub fn block(&self, hash: &BlockHash) -> Block {
        let block = self.node.call("getblock", json!([hash.to_string(), 0]));
        deserialize_hex(block.as_str().expect("hex digits")).expect("a block")
    }

    /// A mature coin.
    pub fn coin(&mut self) -> Coin {
        self.coins.pop().expect("the test wants more coins than there are")
    }

    /// Coins of these kinds in a block of their own, spread from one mature coin in equal parts.
    pub fn spread(&mut self, kinds: &[Kind]) -> Vec<Coin> {
        let coin = self.coin();
        let value = (coin.value - 100_000) / kinds.len() as u64;
        let outputs = kinds.iter().map(|kind| self.miner.output(value, *kind)).collect();
        let transaction = self.miner.spend(&[coin], outputs);
        self.send(&transaction);
        self.mine();
        let txid = transaction.compute_txid();
        let coin = |(vout, kind): (u32, &Kind)| Coin {
            outpoint: OutPoint { txid, vout },
            value,
            kind: *kind,
        };
        (0..).zip(kinds).map(coin).collect()
    }

    /// Spends one coin to the miner, for a fee.
    pub fn spend(&self, coin: &Coin, to: Kind, fee: u64) -> Transaction {
        self.miner.spend(
            std::slice::from_ref(coin),
            vec![self.miner.output(coin.value - fee, to)],
        )
    }
}

/// The coinbase of a height, which pays P2WPKH.
pub fn coinbase_coin(node: &Node, height: u32) -> Coin {
    let hash = node.call("getblockhash", json!([height]));
    let block = node.call("getblock", json!([hash, 1]));
    let txid = block["tx"][0].as_str().expect("a txid").parse().expect("a txid");
    Coin {
        outpoint: OutPoint { txid, vout: 0 },
        value: subsidy(height),
        kind: Kind::P2wpkh,
    }
}

/// The block that a template describes, its whole value to the script of `output`.
pub fn block_of(template: &Value, output: &TxOut) -> Block {
    use bitcoin::absolute::LockTime;
    use bitcoin::hashes::Hash;
    use bitcoin::script::Builder;
    use bitcoin::{Amount, CompactTarget, ScriptBuf, Sequence, TxIn, TxMerkleNode, Witness, block, transaction};

    let height = template["height"].as_i64().expect("a height");
    let commitment = template["default_witness_commitment"].as_str().expect("hex digits");
    let coinbase = Transaction {
        version: transaction::Version::TWO,
        lock_time: LockTime::ZERO,
        input: vec![TxIn {
            previous_output: OutPoint::null(),
            script_sig: Builder::new().push_int(height).push_slice([0; 4]).into_script(),
            sequence: Sequence::MAX,
            witness: Witness::from_slice(&[[0; 32]]),
        }],
        output: vec![
            TxOut {
                value: Amount::from_sat(template["coinbasevalue"].as_u64().expect("satoshi")),
                script_pubkey: output.script_pubkey.clone(),
            },
            TxOut {
                value: Amount::ZERO,
                script_pubkey: ScriptBuf::from_hex(commitment).expect("a script"),
            },
        ],
    };
    let mut txdata = vec![coinbase];
    txdata.extend(transactions(template));
    let header = block::Header {
        version: block::Version::from_consensus(template["version"].as_i64().expect("a version") as i32),
        prev_blockhash: template["previousblockhash"]
            .as_str()
            .expect("a hash")
            .parse()
            .expect("a hash"),
        merkle_root: TxMerkleNode::all_zeros(),
        time: u32::try_from(template["curtime"].as_u64().expect("a time")).expect("before 2106"),
        bits: CompactTarget::from_consensus(NBITS),
        nonce: 0,
    };
    let mut block = Block { header, txdata };
    finish(&mut block);
    block
}

/// The transactions of a template.
pub fn transactions(template: &Value) -> Vec<Transaction> {
    let list = template["transactions"].as_array().expect("a list");
    list.iter()
        .map(|one| deserialize_hex(one["data"].as_str().expect("hex digits")).expect("a transaction"))
        .collect()
}

/// Gives a block the merkle root of its transactions, and mines it.
pub fn finish(block: &mut Block) {
    block.header.merkle_root = block.compute_merkle_root().expect("there is a coinbase");
    mine(block);
}

/// Goes on to a nonce that meets the target that the header names.
pub fn mine(block: &mut Block) {
    while !block.header.target().is_met_by(block.block_hash()) {
        block.header.nonce = block.header.nonce.wrapping_add(1);
    }
}

fn word(answer: &Value) -> Option<String> {
    match answer {
        Value::Null => None,
        word => Some(word.as_str().expect("a word").to_owned()),
    }
}
