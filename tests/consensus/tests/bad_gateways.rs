//! Gateways whose templates are bad, or what they say of them, each beside honest ones before the real pool and the engine.
//!
//! Nobody finds a block here, but in the last test: the tip stands, so that what the pool finds out is of work that is still
//! done. Gateways mine until the pool has come to what it promises, however long that takes.

use millrace_consensus::{BLOCK_WEIGHT_MAX, Kind};
use serde_json::{Value, json};

use super::chain::Chain;
use super::generator::Mining;
use super::millrace::{Pool, wait_until};
use super::spender::Spender;

/// Of an honest block: a coinbase, and a spend of each kind.
const TRANSACTIONS: usize = 1 + Kind::USUAL.len();

/// Templates in a row that are not shown, until the work is refused.
const UNSHOWN: u64 = 3;

/// Shares that are waited for once a gateway is found out: of it to be refused, and of the others to count.
const SHARES_AFTER: u64 = 10;

/// A pool on a node whose mempool has some real spends.
struct World {
    chain: Chain,
    pool: Pool,
}

impl World {
    fn new() -> Self {
        let mut chain = Chain::new();
        Spender::new(&mut chain).spend_all(&chain);
        Self {
            pool: Pool::start_with_shares(&chain.node),
            chain,
        }
    }

    /// One gateway is bad in this way, beside two that are honest, until it is found out; from then on its work is refused,
    /// where it is to be, and that of the others counts. What the generator reports: it has seen to it that no share of the
    /// honest ones was refused.
    #[track_caller]
    fn mine_beside(&self, how: &str, is_refused: bool, is_found_out: impl Fn(&Pool) -> bool) -> Value {
        let (pool, height) = (&self.pool, self.chain.height());
        let gateways = ["--gateways", "3", "--spoilers", "1", "--rate", "6", "--job-every", "2"];
        let these = ["--leave-blocks", "--no-blocks", "--spoil", how];
        let mining = Mining::start(pool, &self.chain.node, &[&gateways[..], &these].concat());
        wait_until(|| is_found_out(pool), || format!("{how} is not found out"));
        if is_refused {
            wait_until(|| refused(pool) >= SHARES_AFTER, || format!("{how} is not refused"));
        }
        let accepted = || pool.metric("millrace_shares_accepted_total", "");
        let before = accepted();
        let has_gone_on = || accepted() >= before + SHARES_AFTER && pool.checked("valid") > 0;
        wait_until(has_gone_on, || format!("beside {how} nobody can mine"));
        let report = mining.end();
        assert_eq!(report["refused_as_meant"].as_u64() > Some(0), is_refused, "{report}");
        assert_eq!(pool.checked("disputed"), 0);
        assert_eq!(pool.metric("millrace_candidates_total", ""), 0);
        assert_eq!(self.chain.height(), height);
        self.assert_books_are_sound();
        report
    }

    /// No block can come of a template of it, and one line that it is told says why.
    #[track_caller]
    fn is_condemned(&self, how: &str, why: &str) {
        let report = self.mine_beside(how, true, |pool| pool.checked("invalid") > 0);
        assert!(is_told(&report, &["no block can come", why]), "{report}");
        assert!(self.pool.metric("millrace_jobs_condemned_total", "") > 0);
        assert_eq!(self.pool.metric("millrace_gateways_unshown_total", ""), 0);
        self.assert_logged("no block can come of a gateway's template");
    }

    /// It does not show what its work is made of, and one line that it is told says so.
    #[track_caller]
    fn is_withheld(&self, how: &str, outcome: &str, why: &str) {
        let is_unshown = |pool: &Pool| pool.metric("millrace_gateways_unshown_total", "") > 0;
        let report = self.mine_beside(how, true, is_unshown);
        assert!(self.pool.checked(outcome) >= UNSHOWN, "it is believed before");
        assert!(is_told(&report, &["are not shown", why]), "{report}");
        assert_eq!(self.pool.metric("millrace_gateways_unshown_total", ""), 1);
        assert_eq!(self.pool.metric("millrace_jobs_condemned_total", ""), 0);
        assert!(self.pool.metric("millrace_bound_hits_total", "bound=\"unshown\"") >= SHARES_AFTER);
        self.assert_logged("a gateway does not show the transactions");
        self.assert_engine_saw_good_ones_alone();
    }

    /// The engine was asked about honest templates, and about no other: the pool has found it out by itself.
    #[track_caller]
    fn assert_engine_saw_good_ones_alone(&self) {
        for block in self.proposed() {
            assert_eq!(
                (&block["word"], block["transactions"].as_u64()),
                (&Value::Null, Some(TRANSACTIONS as u64)),
                "{block}"
            );
            assert!(block["weight"].as_u64() <= Some(BLOCK_WEIGHT_MAX), "{block}");
        }
    }

    /// What the engine was asked about; nothing, and a line that says so, where it is bitcoind's.
    fn proposed(&self) -> Vec<Value> {
        if self.chain.node.is_bitcoind() {
            eprintln!("left out: bitcoind does not tell what was proposed to it");
            return Vec::new();
        }
        let proposed = self.chain.node.call("takeproposed", json!([]));
        let proposed = proposed.as_array().expect("a list").clone();
        assert!(!proposed.is_empty(), "honest templates are held against the engine");
        proposed
    }

    #[track_caller]
    fn assert_logged(&self, part: &str) {
        assert!(self.pool.log().contains(part), "{}", self.pool.log());
    }

    #[track_caller]
    fn assert_books_are_sound(&self) {
        let verified = self.pool.says(&["ledger", "verify"]).expect("it verifies");
        assert!(verified.starts_with("sound"), "{verified}");
    }
}

/// Shares refused by reason 26.
fn refused(pool: &Pool) -> u64 {
    pool.metric("millrace_shares_refused_total", "reason=\"bad_coinbase\"")
}

/// Whether a gateway was told a line that has all these parts.
fn is_told(report: &Value, parts: &[&str]) -> bool {
    let said = report["samples"].as_array().expect("what it heard");
    let mut lines = said.iter().filter_map(Value::as_str);
    lines.any(|line| parts.iter().all(|part| line.contains(part)))
}

#[test]
fn an_invalid_transaction_is_what_the_engine_finds() {
    const WORD: &str = "bad-txns-inputs-missingorspent";
    let world = World::new();
    world.is_condemned("spend", WORD);
    let proposed = world.proposed();
    let (good, bad): (Vec<_>, Vec<_>) = proposed.iter().partition(|block| block["word"].is_null());
    assert!(
        good.iter().all(|block| block["transactions"] == TRANSACTIONS),
        "{proposed:?}"
    );
    let is_meant = |block: &&Value| block["word"] == WORD && block["transactions"] == TRANSACTIONS + 1;
    assert!(bad.iter().all(is_meant), "{proposed:?}");
    assert!(!bad.is_empty() || world.chain.node.is_bitcoind());
}

#[test]
fn a_wrong_commitment_is_found_before_the_engine_is_asked() {
    let world = World::new();
    world.is_condemned("commitment", "does not commit to the witnesses");
    world.assert_engine_saw_good_ones_alone();
}

#[test]
fn too_much_weight_is_found_before_the_engine_is_asked() {
    let world = World::new();
    world.is_condemned("weight", "weight units");
    world.assert_engine_saw_good_ones_alone();
}

#[test]
fn transactions_that_are_left_out_are_not_shown() {
    World::new().is_withheld("missing", "mismatch", "not those that the work commits to");
}

#[test]
fn transactions_that_are_refused_are_not_shown() {
    World::new().is_withheld("refuse", "refused", "it answers with error");
}

#[test]
fn wrong_short_ids_are_seen_through_and_the_work_counts() {
    let world = World::new();
    let sees_through = |pool: &Pool| pool.metric("millrace_templates_wrong_ids_total", "") > 0;
    let report = world.mine_beside("ids", false, sees_through);
    assert!(!is_told(&report, &["millrace:"]), "{report}");
    world.assert_logged("a gateway's short ids are not those of its transactions");
    // All of its transactions were asked for, and its template is as good as the others.
    for outcome in ["invalid", "mismatch", "refused", "contradictory"] {
        assert_eq!(world.pool.checked(outcome), 0, "{outcome}");
    }
    assert_eq!(refused(&world.pool), 0);
    world.assert_engine_saw_good_ones_alone();
}

#[test]
fn blocks_on_a_bad_template_are_refused_by_the_engine_and_pay_nobody() {
    let world = World::new();
    let pool = &world.pool;
    let alone = ["--gateways", "1", "--rate", "2", "--leave-blocks", "--spoil", "spend"];
    let mining = Mining::start(pool, &world.chain.node, &alone);
    let is_rejected = |block: &Value| block["state"] == "rejected";
    let is_found_out = || refused(pool) >= SHARES_AFTER && pool.blocks().iter().any(is_rejected);
    wait_until(is_found_out, || "it is not found out".into());
    let report = mining.end();
    // The engine has said so when the block came, or when it was asked.
    let whys = ["duplicate-invalid", "bad-txns-inputs-missingorspent"];
    let is_told = |why: &&str| is_told(&report, &["no block can come", why]);
    assert!(whys.iter().any(is_told), "{report}");
    let took = pool.blocks().into_iter().filter(|block| block["state"] == "maturing");
    assert_eq!(took.count(), 0, "{:#?}", pool.blocks());
    world.assert_books_are_sound();
}
