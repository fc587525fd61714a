//! Blocks with one thing wrong each: the node has the word for it, and takes the same block without the fault.

use bitcoin::opcodes::all::OP_CHECKSIG;
use bitcoin::script::Builder;
use bitcoin::{Amount, Block, CompactTarget, ScriptBuf, Sequence, TxOut, Witness};
use millrace::wire::SUBSIDY_ONLY_ID;
use millrace_consensus::{Coin, Kind, PADDING_MAX, Wallet};
use serde_json::json;

use super::assembly::assemble;
use super::chain::{Chain, coinbase_coin, finish, mine, transactions};
use super::node::Node;
use super::work::{Class, template_of, work};

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asked {
    Submit,
    Propose,
}

/// A chain with a spend of every kind in its mempool, and the block that is next on it.
struct Ready {
    chain: Chain,
    good: Block,
    /// Unspent ones in a block, one of each kind.
    others: Vec<Coin>,
}

impl Ready {
    fn new() -> Self {
        let mut chain = Chain::new();
        let others = chain.spread(&Kind::USUAL);
        for coin in chain.spread(&Kind::USUAL) {
            chain.send(&chain.spend(&coin, coin.kind, 1_000));
        }
        let good = chain.next_block();
        assert_eq!(good.txdata.len(), Kind::USUAL.len() + 1);
        Self { chain, good, others }
    }

    fn say(&self, asked: Asked, block: &Block) -> Option<String> {
        match asked {
            Asked::Submit => self.chain.submit(block),
            Asked::Propose => self.chain.propose(block),
        }
    }

    /// Both calls have this word for the good block with one fault.
    #[track_caller]
    fn refuses(&self, word: &str, fault: impl Fn(&mut Block)) {
        for asked in [Asked::Propose, Asked::Submit] {
            self.refuses_when(asked, word, &fault);
        }
    }

    #[track_caller]
    fn refuses_when(&self, asked: Asked, word: &str, fault: impl Fn(&mut Block)) {
        let mut block = self.good.clone();
        fault(&mut block);
        let said = self.say(asked, &block);
        let said = said.as_deref().unwrap_or("nothing");
        // Of a script that fails, the word goes on with why.
        assert!(
            said == word || word.ends_with('(') && said.contains(word),
            "{asked:?}: {said} where {word} was expected"
        );
        assert_eq!(self.chain.tip(), self.good.header.prev_blockhash, "the chain stays");
    }

    /// Nothing but the faults was wrong.
    #[track_caller]
    fn takes_the_good_one(&self) {
        assert_eq!(self.chain.propose(&self.good), None);
        assert_eq!(self.chain.submit(&self.good), None);
        assert_eq!(self.chain.tip(), self.good.block_hash());
        assert_eq!(self.chain.submit(&self.good).as_deref(), Some("duplicate"));
        assert_eq!(self.chain.propose(&self.good).as_deref(), Some("duplicate"));
    }
}

#[test]
fn coinbases() {
    let ready = Ready::new();
    ready.refuses("bad-cb-amount", |block| {
        block.txdata[0].output[0].value += Amount::from_sat(1);
        finish(block);
    });
    ready.refuses("bad-cb-height", |block| {
        let height = block.bip34_block_height().expect("a height") as i64;
        block.txdata[0].input[0].script_sig = Builder::new().push_int(height + 1).push_slice([0; 4]).into_script();
        finish(block);
    });
    ready.refuses("bad-cb-length", |block| {
        let mut script = block.txdata[0].input[0].script_sig.to_bytes();
        script.resize(101, 0);
        block.txdata[0].input[0].script_sig = ScriptBuf::from_bytes(script);
        finish(block);
    });
    ready.refuses("bad-cb-missing", |block| {
        block.txdata.remove(0);
        finish(block);
    });
    ready.refuses("bad-cb-multiple", |block| {
        block.txdata.push(block.txdata[0].clone());
        finish(block);
    });
    ready.takes_the_good_one();
}

#[test]
fn commitments() {
    let ready = Ready::new();
    ready.refuses("bad-witness-merkle-match", |block| {
        let script = &mut block.txdata[0].output[1].script_pubkey;
        let mut bytes = script.to_bytes();
        bytes[37] ^= 1;
        *script = ScriptBuf::from_bytes(bytes);
        finish(block);
    });
    ready.refuses("unexpected-witness", |block| {
        block.txdata[0].output.pop();
        finish(block);
    });
    ready.refuses("bad-witness-nonce-size", |block| {
        block.txdata[0].input[0].witness = Witness::from_slice(&[[0; 31]]);
        finish(block);
    });
    ready.refuses("bad-txnmrklroot", |block| {
        block.txdata.swap(1, 2);
        block.header.time += 1;
        mine(block);
    });
    ready.refuses("bad-txns-duplicate", |block| {
        // As many as make the same root with one twice.
        block.txdata.truncate(3);
        finish(block);
        block.txdata.push(block.txdata[2].clone());
    });
    // The header of the good block came with a wrong witness above. That is not held against it.
    assert_eq!(
        ready.chain.propose(&ready.good).as_deref(),
        Some("duplicate-inconclusive")
    );
    assert_eq!(ready.chain.submit(&ready.good), None);
    let mut mutated = ready.good.clone();
    mutated.txdata.swap(1, 2);
    assert_eq!(ready.chain.submit(&mutated).as_deref(), Some("bad-txnmrklroot"));
    assert_eq!(ready.chain.propose(&ready.good).as_deref(), Some("duplicate"));
}

/// A proposal must be whole; who submits may leave the coinbase's witness to the node.
#[test]
fn the_witness_of_a_coinbase() {
    let ready = Ready::new();
    let bare = |block: &mut Block| block.txdata[0].input[0].witness.clear();
    ready.refuses_when(Asked::Propose, "bad-witness-nonce-size", bare);
    let mut block = ready.good.clone();
    bare(&mut block);
    assert_eq!(ready.chain.submit(&block), None);
    assert_eq!(ready.chain.block(&block.block_hash()), ready.good);
}

#[test]
fn headers() {
    let ready = Ready::new();
    ready.refuses_when(Asked::Submit, "high-hash", |block| {
        while block.header.target().is_met_by(block.block_hash()) {
            block.header.nonce += 1;
        }
    });
    ready.refuses("bad-diffbits", |block| {
        block.header.bits = CompactTarget::from_consensus(0x207f_fffe);
        mine(block);
    });
    ready.refuses("time-too-old", |block| {
        block.header.time = 1_600_000_000;
        mine(block);
    });
    ready.refuses("time-too-new", |block| {
        block.header.time += 7_200 + 600;
        mine(block);
    });
    ready.refuses("bad-version(0x00000001)", |block| {
        block.header.version = bitcoin::block::Version::ONE;
        mine(block);
    });
    let stranger = |block: &mut Block| {
        block.header.prev_blockhash = bitcoin::hashes::Hash::all_zeros();
        mine(block);
    };
    ready.refuses_when(Asked::Submit, "prev-blk-not-found", stranger);
    ready.refuses_when(Asked::Propose, "inconclusive-not-best-prevblk", stranger);
    ready.takes_the_good_one();
}

#[test]
fn sizes() {
    let mut ready = Ready::new();
    ready.refuses("bad-blk-length", |block| {
        let script = [vec![0x6a], vec![0; 1_000_000]].concat();
        let output = TxOut {
            value: Amount::ZERO,
            script_pubkey: ScriptBuf::from_bytes(script),
        };
        block.txdata[0].output.insert(1, output);
        finish(block);
    });
    ready.refuses("bad-blk-sigops", |block| {
        let script = vec![OP_CHECKSIG.to_u8(); 20_001];
        block.txdata[0].output[0].script_pubkey = ScriptBuf::from_bytes(script);
        finish(block);
    });
    // Too heavy by its witnesses alone: 21 times nearly 200 kB.
    let heavy = ready.chain.spread(&[Kind::Padded { bytes: PADDING_MAX }; 21]);
    let spends: Vec<_> = heavy
        .iter()
        .map(|coin| ready.chain.spend(coin, Kind::P2wpkh, 200_000))
        .collect();
    ready.good = ready.chain.next_block();
    let with = |count: usize| {
        let mut block = ready.good.clone();
        block.txdata.truncate(1);
        block.txdata[0].output[0].value = Amount::from_sat(millrace_consensus::subsidy(0));
        block.txdata.extend_from_slice(&spends[..count]);
        commit(&mut block);
        block
    };
    ready.refuses("bad-blk-weight", |block| *block = with(21));
    let full = with(19);
    assert!(full.weight().to_wu() > 3_850_000);
    assert_eq!(ready.chain.propose(&full), None);
    assert_eq!(ready.chain.submit(&full), None);
}

#[test]
fn transactions_of_others() {
    let ready = Ready::new();
    let fee = 5_000;
    let add = |ready: &Ready, with: &dyn Fn(&mut bitcoin::Transaction), coin: &Coin| {
        let mut transaction = ready.chain.spend(coin, Kind::P2wpkh, fee);
        with(&mut transaction);
        move |block: &mut Block| {
            block.txdata.push(transaction.clone());
            commit(block);
        }
    };
    for at in 0..ready.others.len() {
        let coin = ready.others[at].clone();
        // A signature for other outputs.
        let forge = |transaction: &mut bitcoin::Transaction| transaction.output[0].value -= Amount::from_sat(1);
        ready.refuses("script-verify-flag-failed (", add(&ready, &forge, &coin));
    }
    let coin = ready.others[0].clone();
    let spent = ready.good.txdata[1].input[0].previous_output;
    ready.refuses(
        "bad-txns-inputs-missingorspent",
        add(
            &ready,
            &|transaction| transaction.input[0].previous_output = spent,
            &coin,
        ),
    );
    ready.refuses(
        "bad-txns-in-belowout",
        add(
            &ready,
            &|transaction| transaction.output[0].value += Amount::from_sat(2 * fee),
            &coin,
        ),
    );
    ready.refuses(
        "bad-txns-vout-empty",
        add(&ready, &|transaction| transaction.output.clear(), &coin),
    );
    ready.refuses(
        "bad-txns-nonfinal",
        add(
            &ready,
            &|transaction| {
                transaction.lock_time = bitcoin::absolute::LockTime::from_consensus(149);
                transaction.input[0].sequence = Sequence::ZERO;
            },
            &coin,
        ),
    );
    let young = coinbase_coin(&ready.chain.node, super::chain::START);
    ready.refuses("bad-txns-premature-spend-of-coinbase", add(&ready, &|_| {}, &young));
    ready.takes_the_good_one();
}

#[test]
fn bad_blocks_are_known_by_their_headers() {
    let ready = Ready::new();
    let greedy: fn(&mut Block) = |block| block.txdata[0].output[0].value += Amount::from_sat(1);
    let too_high: fn(&mut Block) = |block| {
        block.txdata[0].input[0].script_sig = Builder::new().push_int(1_000).push_slice([0; 4]).into_script();
    };
    // Found when it is connected, and before.
    for (fault, word) in [(greedy, "bad-cb-amount"), (too_high, "bad-cb-height")] {
        let mut bad = ready.good.clone();
        fault(&mut bad);
        finish(&mut bad);
        assert_eq!(ready.chain.submit(&bad).as_deref(), Some(word));
        assert_eq!(ready.chain.submit(&bad).as_deref(), Some("duplicate-invalid"));
        assert_eq!(ready.chain.propose(&bad).as_deref(), Some("duplicate-invalid"));
    }
    ready.takes_the_good_one();
}

/// What a gateway's block of this class is told at the heights from `first` on, one after another.
fn told_at(first: u32, coinbase_id: u8, words: &[Option<&str>]) {
    let chain = Chain {
        node: Node::start(),
        miner: Wallet::new("miner"),
        coins: Vec::new(),
    };
    let address = chain.miner.address(Kind::P2wpkh).to_string();
    chain.node.call("generatetoaddress", json!([first - 1, address]));
    for (height, word) in (first..).zip(words) {
        let offered = chain.template();
        let template = template_of(&offered);
        assert_eq!(template.height, height);
        let version = u32::try_from(offered["version"].as_u64().expect("a version")).expect("32 bits");
        let time = u32::try_from(offered["curtime"].as_u64().expect("a time")).expect("before 2106");
        let class = Class::new(coinbase_id);
        let worked = work(&template, version, time, class, &chain.miner.script(Kind::P2wpkh));
        let block = assemble(&worked.candidate, &transactions(&offered));
        assert_eq!(chain.submit(&block).as_deref(), *word, "height {height}");
        if word.is_some() {
            chain.mine();
        }
    }
}

/// Up to height 16 Core wants the height as one operation; the gateway pushes a byte. So a chain that a gateway works
/// on must begin at 17.
#[test]
fn gateways_push_small_heights_in_a_form_that_is_refused() {
    told_at(15, 0, &[Some("bad-cb-height"), Some("bad-cb-height"), None]);
    // The push of 127 is one byte, that of 128 two.
    told_at(127, 0, &[None, None]);
}

/// Subsidy-only work pays what mainnet has at this height; regtest has half of it from 150 on.
#[test]
fn gateways_know_one_halving() {
    told_at(149, SUBSIDY_ONLY_ID, &[None, Some("bad-cb-amount")]);
    told_at(149, 0, &[None, None]);
}

/// Commits to the transactions that are there now, and mines.
fn commit(block: &mut Block) {
    let root = block.witness_root().expect("there is a coinbase");
    let commitment = Block::compute_witness_commitment(&root, &[0; 32]);
    let script = [&[0x6a, 0x24, 0xaa, 0x21, 0xa9, 0xed][..], commitment.as_ref()].concat();
    block.txdata[0].output[1].script_pubkey = ScriptBuf::from_bytes(script);
    finish(block);
}
