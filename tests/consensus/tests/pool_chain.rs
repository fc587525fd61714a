//! Gateways mine a chain through the real pool, and every block of it is real: taken by the engine, paid as the pool
//! dictated, booked, and proved to others.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

use bitcoin::BlockHash;
use millrace_consensus::Kind;
use serde_json::{Value, json};

use super::chain::Chain;
use super::generator::mine;
use super::millrace::{Pool, wait_until};
use super::spender::Spender;

/// Blocks of ours that the chain must have in the end.
const BLOCKS: usize = 20;

/// Coinbases of gateways: six classes, and subsidy-only work.
const CLASSES: usize = 7;

/// The public gateway knows mainnet's halving alone, so it must end before regtest's first at 150.
const HEIGHT_MAX: u64 = 145;

/// A node with a chain, a pool on it, and what came of the runs so far.
struct World {
    chain: Chain,
    spender: Spender,
    pool: Pool,
    classes: BTreeSet<String>,
}

impl World {
    fn new() -> Self {
        let mut chain = Chain::new();
        Self {
            spender: Spender::new(&mut chain),
            pool: Pool::start(&chain.node),
            chain,
            classes: BTreeSet::new(),
        }
    }

    /// Gateways find so many blocks, while others spend what they have.
    #[track_caller]
    fn mine(&mut self, blocks: usize, more: &[&str]) -> Value {
        let is_over = AtomicBool::new(false);
        let (chain, spender, pool) = (&self.chain, &mut self.spender, &self.pool);
        let report = std::thread::scope(|scope| {
            scope.spawn(|| {
                while !is_over.load(Ordering::Relaxed) {
                    if chain.node.call("getrawmempool", json!([])) == json!([]) {
                        spender.spend_all(chain);
                    }
                    std::thread::sleep(std::time::Duration::from_millis(100));
                }
            });
            // Ends the other thread where this one panics, too.
            let _over = Over(&is_over);
            mine(pool, &chain.node, blocks, more)
        });
        assert!(report["blocks"]["found"].as_u64() >= Some(blocks as u64), "{report}");
        let classes = report["blocks"]["by_class"].as_object().expect("a table");
        self.classes.extend(classes.keys().cloned());
        report
    }

    /// Those that were held against the engine since the pool was started last.
    #[track_caller]
    fn assert_templates_are_valid(&self) {
        wait_until(
            || self.pool.checked("valid") > 0,
            || "no template is found valid".into(),
        );
        // With a block every half second a slot may be used again before its gateway is asked: that is a mismatch.
        for outcome in ["invalid", "disputed"] {
            assert_eq!(self.pool.checked(outcome), 0, "{outcome}");
        }
    }

    fn confirmations(&self, block: &Value) -> i64 {
        let header = self.chain.node.try_call("getblockheader", json!([block["hash"]]));
        header.map_or(-1, |header| header["confirmations"].as_i64().expect("a number"))
    }

    /// Waits until the books say of every block of ours what the chain does; those in the chain.
    #[track_caller]
    fn settled(&self) -> Vec<Value> {
        let agrees = |block: &Value| match self.confirmations(block) {
            1.. => block["state"] == "maturing",
            // What lost against another block of its height is given up once the chain is past it.
            _ => block["state"] != "maturing",
        };
        wait_until(
            || self.pool.blocks().iter().all(agrees),
            || format!("the books and the chain differ: {:#?}", self.pool.blocks()),
        );
        let blocks = self.pool.blocks().into_iter();
        blocks.filter(|block| self.confirmations(block) >= 1).collect()
    }

    /// What a block's coinbase pays is what the books have of it, and anybody can check why.
    #[track_caller]
    fn assert_paid(&self, block: &Value) {
        let hash = block["hash"].as_str().expect("a hash");
        let stored = self.chain.block(&hash.parse::<BlockHash>().expect("a hash"));
        assert_eq!(stored.block_hash().to_string(), hash);
        let outputs = &stored.txdata[0].output;
        let total: u64 = outputs.iter().map(|output| output.value.to_sat()).sum();
        assert_eq!(block["value"], total, "{block}");
        let payouts = block["payouts"].as_u64().expect("a number");
        let paying = outputs.iter().filter(|output| output.value.to_sat() > 0).count() as u64;
        let to_pool = block["to_pool"].as_u64().expect("satoshi");
        assert_eq!(paying, payouts + u64::from(to_pool > 0), "{block}");
        let audited = self.pool.says(&["ledger", "audit", hash]).expect("it is audited");
        assert!(audited.starts_with("holds"), "{audited}");
        let bundle = self.pool.path(&format!("{hash}.bundle"));
        let bundle = bundle.to_str().expect("text");
        let exported = self.pool.says(&["audit", "export", hash, "--out", bundle]);
        assert!(exported.is_some(), "{block}");
    }
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

#[test]
fn a_chain_mined_through_the_pool_is_real_paid_and_proved() {
    let mut world = World::new();
    // The pool alone brings these. Every miner of one gateway finds one, and all classes are among them.
    let report = world.mine(12, &["--gateways", "1", "--leave-blocks"]);
    assert_eq!(report["blocks"]["taken_first"], 0, "{report}");
    world.assert_templates_are_valid();
    // The power fails while the last may be on its way.
    world.pool.kill();
    world.pool.restart();
    let before = world.settled().len();
    // Gateways bring these first, as they do.
    let report = world.mine(10, &["--gateways", "2"]);
    assert!(report["blocks"]["taken_first"].as_u64() >= Some(1), "{report}");
    assert!(world.settled().len() > before);

    // Before the node is told that a good block is none.
    world.assert_templates_are_valid();

    // The chain turns away from a block of ours.
    let left = world.settled().pop().expect("there are some");
    let hash = left["hash"].as_str().expect("a hash").to_owned();
    world.chain.node.call("invalidateblock", json!([hash]));
    for kind in [Kind::P2pkh, Kind::P2wsh] {
        world.chain.mine_to(kind);
    }
    let state = |world: &World| {
        let blocks = world.pool.blocks().into_iter();
        blocks
            .filter(|block| block["hash"] == hash.as_str())
            .collect::<Vec<_>>()[0]["state"]
            .clone()
    };
    wait_until(
        || state(&world) == "orphaned",
        || format!("{hash} is {} where the chain has left it", state(&world)),
    );
    // Mining goes on on the other branch, as long as it takes.
    world.mine(2, &["--gateways", "1"]);
    while world.settled().len() < BLOCKS || world.classes.len() < CLASSES {
        assert!(world.chain.height() < HEIGHT_MAX, "{:?}", world.classes);
        world.mine(2, &["--gateways", "1", "--leave-blocks"]);
    }

    let ours = world.settled();
    assert!(
        ours.iter().any(|block| block["payouts"].as_u64() > Some(5)),
        "{ours:#?}"
    );
    ours.iter().for_each(|block| world.assert_paid(block));
    let with_spends = ours.iter().filter(|block| {
        let hash = block["hash"].as_str().expect("a hash").parse::<BlockHash>();
        world.chain.block(&hash.expect("a hash")).txdata.len() > 1
    });
    assert!(with_spends.count() >= 5, "blocks with real spends");
    let verified = world.pool.says(&["ledger", "verify"]).expect("it verifies");
    assert!(verified.starts_with("sound"), "{verified}");
}
