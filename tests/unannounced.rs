//! Blocks of ours that no share announced: the pool finds them in the chain, says so, and books them when its operator does.

use std::path::PathBuf;

use millrace::wire::Reason;
use serde_json::Value;
use tempfile::TempDir;

use crate::pool::gateway::Gateway;
use crate::pool::node::{FIRST, StubNode, shown};
use crate::pool::session::{Heard, Session};
use crate::pool::split::{Paid, Split, ask_until};
use crate::pool::work::{Found, Recipe, Template, extranonce_push};
use crate::pool::{Launch, Pool, wait_until};

/// A miner's name on regtest.
const USERNAME: &[u8] = b"bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080.rig";

/// A hash in 2^16 is a block.
const BLOCK_POT: u8 = 16;

struct World {
    node: StubNode,
    pool: Pool,
    session: Session,
    _folder: TempDir,
}

impl World {
    /// A miner has done some work, and the next block pays it.
    fn new() -> (Self, Split) {
        let folder = TempDir::new().expect("a folder");
        let node = StubNode::start(folder.path(), "a");
        let pool = Pool::launch(Launch::config(&format!(
            "[chain]\nname = \"regtest\"\ntarget_shift = 32\n{}",
            node.section()
        )));
        let session = Gateway::new().connect(&pool);
        let mut world = Self {
            node,
            pool,
            session,
            _folder: folder,
        };
        let template = world.session.template(0, FIRST);
        for n in 1..4 {
            assert_eq!(world.submit(template.draft(n).mine_below(BLOCK_POT)), Ok(()));
        }
        let split = ask_until(&mut world.session, FIRST, 1);
        (world, split)
    }

    fn submit(&mut self, mut share: Found<'_>) -> Result<(), Reason> {
        share.username = USERNAME.to_vec();
        self.session.submit(&share.with_sections())
    }

    /// A template on the first block whose coinbase makes these payments, before the rest to `rest`.
    fn template(&self, payouts: &[Paid], rest: &[u8]) -> Template {
        let honest = self.session.template(1, FIRST);
        let mut recipe = Recipe::new(&honest.job, self.session.terms());
        let paid: u64 = payouts.iter().map(|(value, _)| value).sum();
        recipe.payments = [payouts, &[(honest.job.value - paid, rest.to_vec())][..]].concat();
        honest.with(&recipe.build())
    }

    /// The chain has the block, and its share is kept from the pool.
    fn bring(&self, share: &Found<'_>) -> [u8; 32] {
        self.node.state().bring(share.block());
        share.hash()
    }

    /// The pool has found it, and waits for the operator.
    fn wait_until_found(&self, hash: &[u8; 32]) {
        self.wait_for_state(hash, "unannounced");
        self.wait_for_unsettled(1);
    }

    fn wait_until_booked(&self, hash: &[u8; 32]) {
        self.wait_for_state(hash, "maturing");
        self.wait_for_unsettled(0);
    }

    fn hears_of_a_block(&mut self) {
        assert!(matches!(self.session.next_but_info(), Heard::NewBlock));
    }

    fn own_script(&self) -> Vec<u8> {
        self.session.terms().script.to_vec()
    }

    fn unannounced(&self, kind: &str) -> u64 {
        let label = format!("kind=\"{kind}\"");
        self.pool.metric("millrace_blocks_unannounced_total", &[&label])
    }

    fn wait_for_unsettled(&self, count: u64) {
        wait_until(
            || self.pool.metric("millrace_blocks_unsettled", &[]) == count,
            || format!("never {count} unsettled"),
        );
    }

    fn block(&self, hash: &[u8; 32]) -> Value {
        let blocks: Value = serde_json::from_str(&self.pool.ledger_text(&["blocks", "--json"])).expect("JSON");
        let mut blocks = blocks.as_array().expect("a list").iter();
        let block = blocks.find(|block| block["hash"] == shown(hash).as_str());
        block.cloned().unwrap_or_default()
    }

    fn wait_for_state(&self, hash: &[u8; 32], state: &str) {
        wait_until(
            || self.block(hash)["state"] == state,
            || format!("{} is never {state}, but {}", shown(hash), self.block(hash)["state"]),
        );
    }

    /// What `millrace control book` answers.
    fn book(&self, hash: &[u8; 32]) -> (bool, String) {
        let output = self.pool.control(&["book", &shown(hash)]);
        let text = String::from_utf8(output.stdout).expect("text");
        (output.status.success(), text)
    }

    /// Where the raw block lies.
    fn raw(&self, hash: &[u8; 32]) -> PathBuf {
        self.pool.data().join("blocks").join(format!("{}.block", shown(hash)))
    }

    fn told_of(&self, hash: &[u8; 32], words: &str) -> usize {
        let (log, hash) = (self.pool.log(), shown(hash));
        log.lines()
            .filter(|line| line.contains(words) && line.contains(&hash))
            .count()
    }
}

/// A share that is a block, and is kept from the pool.
fn find_block(template: &Template, n: u32) -> Found<'_> {
    let mut share = template.draft(n);
    share.pot = BLOCK_POT;
    share.mine()
}

#[test]
fn the_operator_books_what_the_chain_has_and_no_share_announced() {
    let (world, split) = World::new();
    let template = world.template(&split.outputs, &world.own_script());
    let share = find_block(&template, 100);
    let hash = world.bring(&share);
    world.wait_until_found(&hash);
    assert_eq!((world.unannounced("ours"), world.unannounced("tag_alone")), (1, 0));
    let found = world.block(&hash);
    assert_eq!((&found["announced"], &found["verdict"]), (&false.into(), &Value::Null));
    assert_eq!(found["event"], Value::Null, "nobody has booked it");
    wait_until(
        || world.told_of(&hash, "no share announced") == 1,
        || "nobody is told".into(),
    );

    let (done, answer) = world.book(&hash);
    assert!(done && answer.contains("event"), "{answer}");
    world.wait_until_booked(&hash);
    let booked = world.block(&hash);
    assert_eq!(
        booked["payouts"], 1,
        "the split that was dictated is known by its session and parent"
    );
    assert_eq!(booked["value"], template.job.value);
    let audit = world.pool.ledger_text(&["audit", &shown(&hash)]);
    assert!(audit.starts_with("holds"), "{audit}");
    let (again, why) = world.book(&hash);
    assert!(!again && why.contains("booked already"), "{why}");
    wait_until(|| world.raw(&hash).is_file(), || "the raw block is never kept".into());

    world.node.grow(99);
    world.wait_for_state(&hash, "mature");
    // The chain may lose it yet.
    assert!(world.raw(&hash).is_file());
    world.node.grow(102);
    wait_until(|| !world.raw(&hash).exists(), || "the raw block stays".into());
    assert_eq!(world.told_of(&hash, "no share announced"), 1, "once");
    world.pool.assert_verifies();
}

#[test]
fn a_block_of_no_gateways_form_has_the_chains_height_and_is_watched_until_it_is_mature() {
    let (world, _) = World::new();
    let honest = world.session.template(1, FIRST);
    let recipe = Recipe::new(&honest.job, world.session.terms());
    // Something before the height: the coinbase pays the pool, and tells nothing.
    let sig = [&[0x51][..], &recipe.pushes(), &extranonce_push()].concat();
    let template = honest.with(&recipe.around(&sig, &[]));
    let share = find_block(&template, 100);
    let hash = world.bring(&share);
    world.wait_until_found(&hash);
    assert_eq!(world.block(&hash)["height"], template.job.height);
    assert!(world.book(&hash).0);
    world.wait_until_booked(&hash);
    world.node.grow(99);
    world.wait_for_state(&hash, "mature");
    world.pool.assert_verifies();
}

#[test]
fn a_tag_alone_is_nothing_to_book() {
    let (world, _) = World::new();
    let template = world.template(&[], &[0x51]);
    let share = find_block(&template, 100);
    let hash = world.bring(&share);
    wait_until(|| world.unannounced("tag_alone") == 1, || "nobody sees it".into());
    assert_eq!(world.told_of(&hash, "it pays nothing to the pool"), 1);
    let (done, why) = world.book(&hash);
    assert!(!done && why.contains("anybody can write"), "{why}");

    // And what neither pays the pool nor names it.
    let mut recipe = Recipe::new(&template.job, world.session.terms());
    recipe.tag = b"another".to_vec();
    recipe.payments[0].1 = vec![0x51];
    let mut strange = template.with(&recipe.build());
    strange.job.parent = hash;
    let share = find_block(&strange, 200);
    let strange = world.bring(&share);
    let (done, why) = world.book(&strange);
    assert!(!done && why.contains("not the pool's"), "{why}");
    let (done, why) = world.book(&[9; 32]);
    assert!(!done && why.contains("no candidate of this hash"), "{why}");
    assert_eq!((world.block(&hash), world.block(&strange)), (Value::Null, Value::Null));
    assert_eq!(world.unannounced("ours"), 0);
}

#[test]
fn what_came_while_the_pool_was_down_is_found_by_the_next_start() {
    let (mut world, _) = World::new();
    let template = world.template(&[], &world.own_script());
    let share = find_block(&template, 100);
    let hash = share.hash();
    wait_until(
        || world.pool.metric("millrace_chain_searched_height", &[]) > 0,
        || "the chain is never searched".into(),
    );
    world.pool.kill();
    world.node.state().bring(share.block());
    world.node.grow(3);
    world.pool.restart();
    world.wait_until_found(&hash);
    // The stand-in has no more of these than their headers.
    assert_eq!(world.pool.metric("millrace_chain_blocks_unread_total", &[]), 3);
    // It is there after another kill too, and is not found again.
    world.pool.kill();
    world.pool.restart();
    world.wait_for_unsettled(1);
    assert!(world.book(&hash).0);
    world.wait_until_booked(&hash);
    let booked = world.block(&hash);
    assert_eq!((&booked["to_pool"], &booked["payouts"]), (&booked["value"], &0.into()));
    assert!(
        booked["fee"].as_u64() < booked["value"].as_u64(),
        "the window has a part of it"
    );
    world.pool.assert_verifies();
}

#[test]
fn a_share_that_comes_late_takes_its_block_over() {
    let (mut world, split) = World::new();
    let template = world.template(&split.outputs, &world.own_script());
    let share = find_block(&template, 100);
    let hash = world.bring(&share);
    world.wait_until_found(&hash);
    world.hears_of_a_block();
    // Whether it still counts as work or not.
    let _ = world.submit(share);
    world.wait_until_booked(&hash);
    let booked = world.block(&hash);
    assert_eq!((&booked["announced"], &booked["payouts"]), (&true.into(), &1.into()));
    world.pool.assert_verifies();
}

#[test]
fn a_block_that_its_gateway_brought_first_is_nothing_strange_and_is_kept() {
    let (mut world, split) = World::new();
    let template = world.template(&split.outputs, &world.own_script());
    let share = find_block(&template, 100);
    let (hash, raw) = (share.hash(), share.block());
    world.node.state().bring(raw.clone());
    world.hears_of_a_block();
    let _ = world.submit(share);
    world.wait_for_state(&hash, "maturing");
    wait_until(|| world.raw(&hash).is_file(), || "the raw block is never kept".into());
    assert_eq!(std::fs::read(world.raw(&hash)).expect("a block"), raw);
    let height = u64::from(world.node.state().height());
    wait_until(
        || world.pool.metric("millrace_chain_searched_height", &[]) == height,
        || "the search never comes to it".into(),
    );
    world.wait_for_unsettled(0);
    assert_eq!(world.block(&hash)["announced"], true);
    assert!(world.node.state().submitted.is_empty(), "the node had it");
    world.node.grow(99);
    world.wait_for_state(&hash, "mature");
    // The chain may lose it yet.
    assert!(world.raw(&hash).is_file());
    world.node.grow(102);
    wait_until(|| !world.raw(&hash).exists(), || "the raw block stays".into());
}
