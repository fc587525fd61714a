//! The pool follows its nodes: it starts with those that can be used, tells gateways of each new block, brings blocks of
//! ours to every node, and books what becomes of them.

use std::process::Stdio;
use std::time::Duration;

use millrace::wire::Reason;
use millrace::work::Ask;
use serde_json::Value;
use tempfile::TempDir;

use crate::node_failover::wait_for;
use crate::pool::gateway::Gateway;
use crate::pool::node::{FIRST, StubNode, shown};
use crate::pool::session::{Heard, Session};
use crate::pool::shown::{Shown, transaction};
use crate::pool::work::{Found, Template};
use crate::pool::{Launch, Pool, binary, wait_until};

/// A miner's name on regtest.
pub const USERNAME: &[u8] = b"bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080.rig";

/// A hash in 2^16 is a block.
pub const BLOCK_POT: u8 = 16;

pub fn config(nodes: &[&StubNode]) -> String {
    let sections: String = nodes.iter().map(|node| node.section()).collect();
    format!("[chain]\nname = \"regtest\"\ntarget_shift = 32\nstale_grace_s = 1\n{sections}")
}

pub fn pool(nodes: &[&StubNode]) -> Pool {
    Pool::launch(Launch::config(&config(nodes)))
}

/// Sends a share; its verdict.
pub fn submit(session: &mut Session, mut share: Found<'_>) -> Result<(), Reason> {
    share.username = USERNAME.to_vec();
    session.submit(&share.with_sections())
}

/// Finds a block on the template; its hash as hashed.
pub fn find_block(session: &mut Session, template: &Template, n: u32) -> [u8; 32] {
    let mut share = template.draft(n);
    share.pot = BLOCK_POT;
    let share = share.mine();
    let hash = share.hash();
    assert_eq!(submit(session, share), Ok(()));
    hash
}

pub fn block(pool: &Pool, hash: &[u8; 32]) -> Value {
    let blocks: Value = serde_json::from_str(&pool.ledger_text(&["blocks", "--json"])).expect("JSON");
    let blocks = blocks.as_array().expect("a list");
    let block = blocks.iter().find(|block| block["hash"] == shown(hash).as_str());
    block.cloned().unwrap_or_default()
}

pub fn wait_for_state(pool: &Pool, hash: &[u8; 32], state: &str) {
    wait_until(
        || block(pool, hash)["state"] == state,
        || format!("{} is never {state}, but {}", shown(hash), block(pool, hash)["state"]),
    );
}

/// What `serve` says on stderr where it does not start.
fn does_not_start(config: &str) -> String {
    let home = TempDir::new().expect("a folder");
    let path = home.path().join("pool.toml");
    let data = home.path().join("data");
    std::fs::write(&path, config).expect("a file");
    let keys = std::process::Command::new(binary())
        .args(["keys", "new", "--data-dir"])
        .arg(&data)
        .stdout(Stdio::null())
        .status();
    assert!(keys.expect("the binary runs").success());
    let output = std::process::Command::new(binary())
        .args(["serve", "--listen", "127.0.0.1:0", "--config"])
        .arg(&path)
        .arg("--data-dir")
        .arg(&data)
        .output()
        .expect("the binary runs");
    assert!(!output.status.success());
    String::from_utf8(output.stderr).expect("text")
}

#[test]
fn a_node_on_another_chain_is_refused_and_one_not_ready_waited_for() {
    let folder = TempDir::new().expect("a folder");
    let node = StubNode::start(folder.path(), "a");
    node.state().chain = "main";
    let said = does_not_start(&config(&[&node]));
    assert!(
        said.contains("on the chain `main`, and chain.name is `regtest`"),
        "{said}"
    );

    node.state().chain = "regtest";
    node.state().initial_block_download = true;
    let pool = std::thread::scope(|scope| {
        let asked = || {
            node.state()
                .asked
                .iter()
                .filter(|(method, _)| method == "getblockchaininfo")
                .count()
        };
        let before = asked();
        let starts = scope.spawn(|| pool(&[&node]));
        wait_until(|| asked() > before, || "it is never asked".into());
        node.state().initial_block_download = false;
        starts.join().expect("it starts once the node is ready")
    });
    assert!(pool.log().contains("still downloading the chain"), "{}", pool.log());
    assert_eq!(pool.metric("millrace_node_up", &[]), 1);
}

#[test]
fn gateways_hear_of_a_new_block_once_and_old_work_turns_stale() {
    let folder = TempDir::new().expect("a folder");
    let node = StubNode::start(folder.path(), "a");
    let pool = pool(&[&node]);
    let mut session = Gateway::new().connect(&pool);
    let template = session.template(0, FIRST);
    assert_eq!(submit(&mut session, template.draft(1).mine_below(BLOCK_POT)), Ok(()));
    let mut foreign = template.draft(2).mine_below(BLOCK_POT);
    foreign.username = b"bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4".to_vec();
    assert_eq!(session.submit(&foreign.with_sections()), Err(Reason::BadUsername));

    node.grow(1);
    assert!(matches!(session.next_but_info(), Heard::NewBlock));
    let mut n = 10;
    wait_until(
        || {
            n += 1;
            submit(&mut session, template.draft(n).mine_below(BLOCK_POT)) == Err(Reason::StaleBlock)
        },
        || "work on the old block never turns stale".into(),
    );
    // Work on the new one counts, and nothing but answers came between.
    let mut next = template.clone();
    next.job.parent = node.state().tip();
    next.job.height += 1;
    let next = Template::new(next.job, session.terms());
    assert_eq!(submit(&mut session, next.draft(9_000).mine_below(BLOCK_POT)), Ok(()));
    assert_eq!(
        pool.metric("millrace_block_to_gateway_seconds_count", &["shard=\"0\""]),
        1
    );

    // Its header is asked for once before that, and once more when the chain is searched for blocks of ours.
    let height = u64::from(node.state().height());
    wait_until(
        || pool.metric("millrace_chain_searched_height", &[]) == height,
        || "the chain is not searched".into(),
    );
    let tip = serde_json::json!([shown(&node.state().tip())]);
    let state = node.state();
    let asked = state
        .asked
        .iter()
        .filter(|(method, with)| method == "getblockheader" && *with == tip);
    assert_eq!(asked.count(), 2);
}

#[test]
fn a_block_goes_to_every_node_and_its_fate_is_booked() {
    let folder = TempDir::new().expect("a folder");
    let (a, b) = (StubNode::start(folder.path(), "a"), StubNode::start(folder.path(), "b"));
    let mut pool = pool(&[&a, &b]);
    let mut session = Gateway::new().connect(&pool);
    let template = session.template(0, FIRST);
    let hash = find_block(&mut session, &template, 1);
    wait_for_state(&pool, &hash, "maturing");
    for node in [&a, &b] {
        wait_until(
            || node.state().best.contains(&hash),
            || "a node never got the block".into(),
        );
        let state = node.state();
        // The header, one transaction, and its coinbase with the witness of BIP 141.
        assert_eq!(state.submitted[0][80], 1);
        assert_eq!(state.submitted[0][85..87], [0, 1]);
    }
    assert!(matches!(session.next_but_info(), Heard::NewBlock));

    // Both nodes leave it for another branch, then come back to it.
    let at = a.state().best.len();
    for node in [&a, &b] {
        node.state().leave_tip(2);
    }
    wait_for_state(&pool, &hash, "orphaned");
    pool.kill();
    for node in [&a, &b] {
        let mut state = node.state();
        state.best.truncate(at - 1);
        state.best.push(hash);
        state.beside.clear();
    }
    for node in [&a, &b] {
        node.grow(3);
    }
    pool.restart();
    wait_for_state(&pool, &hash, "maturing");
    for node in [&a, &b] {
        node.grow(96);
    }
    wait_for_state(&pool, &hash, "mature");
    let verified = pool.ledger_text(&["verify"]);
    assert!(verified.starts_with("sound"), "{verified}");
}

#[test]
fn a_chain_that_comes_back_to_an_old_block_takes_no_share_twice_and_mining_goes_on() {
    let folder = TempDir::new().expect("a folder");
    let node = StubNode::start(folder.path(), "a");
    let pool = pool(&[&node]);
    let gateway = Gateway::new();
    let mut session = gateway.connect(&pool);
    let first = session.template(0, FIRST);
    let taken = first.draft(1).mine_below(BLOCK_POT);
    assert_eq!(submit(&mut session, taken.clone()), Ok(()));
    // One block after the other, until the gateway's memory of the first is gone.
    let mine_on_the_next = |session: &mut Session| {
        node.grow(1);
        assert!(matches!(session.next_but_info(), Heard::NewBlock));
        let mut job = first.job.clone();
        job.slot = 1;
        job.parent = node.state().tip();
        job.height = node.state().height() + 1;
        let next = Template::new(job, session.terms());
        assert_eq!(submit(session, next.draft(2).mine_below(BLOCK_POT)), Ok(()));
    };
    (0..3).for_each(|_| mine_on_the_next(&mut session));
    let mut n = 10;
    wait_until(
        || {
            n += 1;
            let mut share = first.draft(n).mine_below(BLOCK_POT);
            share.username = USERNAME.to_vec();
            session.submit(&share.bare()) == Err(Reason::StaleBlock)
        },
        || "work on the first block never turns stale".into(),
    );
    mine_on_the_next(&mut session);
    // Its blocks turn out to be invalid.
    let came_back = {
        let mut state = node.state();
        let blocks = state.best.len() - 1;
        state.step_back(blocks);
        state.tip()
    };
    assert_eq!(came_back, [FIRST; 32]);
    let mut verdict = Ok(());
    wait_until(
        || {
            verdict = submit(&mut session, taken.clone());
            verdict != Err(Reason::StaleBlock)
        },
        || "the pool never follows its node back".into(),
    );
    // Its duplicates were read back, and nothing of what is under way is lost.
    assert_eq!(verdict, Err(Reason::DuplicateWork));
    let of_before = first.draft(5_000).mine_below(BLOCK_POT);
    assert_eq!(submit(&mut session, of_before.clone()), Ok(()));
    assert_eq!(submit(&mut session, of_before), Err(Reason::DuplicateWork));
    let reloads = |outcome| pool.metric("millrace_duplicate_reloads_total", &[outcome]);
    assert_eq!((reloads("outcome=\"done\""), reloads("outcome=\"failed\"")), (1, 0));
    assert_eq!(pool.metric("millrace_duplicate_reloads_under_way", &["shard=\"0\""]), 0);
    assert_eq!(
        pool.metric("millrace_session_ends_total", &["reason=\"forgotten_duplicates\""]),
        0
    );
}

/// A block with a transaction that the pool does not know, of which nodes with `headers` have the header before its share comes.
/// It must be with all of them.
fn a_gateway_shows_what_its_block_is_of(nodes: &[&StubNode], headers: &[&StubNode]) {
    let pool = pool(nodes);
    let gateway = Gateway::new();
    let mut session = gateway.connect(&pool);
    let raw = transaction(1, 300);
    let shown = Shown::new(&pool, &gateway, std::slice::from_ref(&raw));
    let template = shown.template(&session, 3, FIRST);
    let mut share = template.draft(1);
    share.pot = BLOCK_POT;
    let share = share.mine();
    let hash = share.hash();
    for node in headers {
        node.state().headers.push(hash);
    }
    assert_eq!(submit(&mut session, share), Ok(()));
    // For the block, and to hold the template against the node.
    assert_eq!(shown.answer_next(&mut session), Ask::All);
    wait_for_state(&pool, &hash, "maturing");
    for node in nodes {
        wait_until(
            || !node.state().submitted.is_empty(),
            || "a node never got the block".into(),
        );
        let block = node.state().submitted[0].clone();
        assert_eq!(block[80], 2);
        assert!(block.ends_with(&raw));
    }
    wait_until(
        || pool.metric("millrace_templates_checked_total", &["outcome=\"valid\""]) == 1,
        || "its template is not held against a node".into(),
    );
    assert!(matches!(session.next_but_info(), Heard::NewBlock));
    let mut next = session.template(4, FIRST).job;
    (next.parent, next.height) = (hash, next.height + 1);
    let next = Template::new(next, session.terms());
    assert_eq!(submit(&mut session, next.draft(2).mine_below(BLOCK_POT)), Ok(()));
    session.assert_unasked();
}

#[test]
fn a_block_with_transactions_is_put_together_with_what_its_gateway_answers() {
    let folder = TempDir::new().expect("a folder");
    let node = StubNode::start(folder.path(), "a");
    a_gateway_shows_what_its_block_is_of(&[&node], &[]);
}

#[test]
fn a_block_of_unknown_transactions_is_with_the_others_while_a_node_hangs() {
    let folder = TempDir::new().expect("a folder");
    let (hangs, well) = (StubNode::start(folder.path(), "a"), StubNode::start(folder.path(), "b"));
    let pool = pool(&[&hangs, &well]);
    let gateway = Gateway::new();
    let mut session = gateway.connect(&pool);
    let shown = Shown::new(&pool, &gateway, &[transaction(1, 300)]);
    let template = shown.template(&session, 3, FIRST);
    let mut share = template.draft(1);
    share.pot = BLOCK_POT;
    let share = share.mine();
    let hash = share.hash();
    hangs.state().hangs = true;
    assert_eq!(submit(&mut session, share), Ok(()));
    assert_eq!(shown.answer_next(&mut session), Ask::All);
    // It says nothing before the other has the block.
    wait_until(|| well.state().best.contains(&hash), || "it never got the block".into());
    assert!(hangs.state().submitted.is_empty());
    wait_for_state(&pool, &hash, "maturing");
    hangs.state().hangs = false;
    wait_until(
        || hangs.state().best.contains(&hash),
        || "it never got the block".into(),
    );
}

#[test]
fn a_node_that_has_the_header_of_a_block_alone_is_brought_the_block() {
    let folder = TempDir::new().expect("a folder");
    let (a, b) = (StubNode::start(folder.path(), "a"), StubNode::start(folder.path(), "b"));
    a_gateway_shows_what_its_block_is_of(&[&a, &b], &[&a]);
    let c = StubNode::start(folder.path(), "c");
    a_gateway_shows_what_its_block_is_of(&[&c], &[&c]);
}

#[test]
fn a_node_that_fails_is_left_out_until_it_is_well() {
    let folder = TempDir::new().expect("a folder");
    let (a, b) = (StubNode::start(folder.path(), "a"), StubNode::start(folder.path(), "b"));
    let pool = pool(&[&a, &b]);
    let mut session = Gateway::new().connect(&pool);
    a.state().refuses = true;
    wait_until(|| pool.log().contains("a node is not well"), || "nobody noticed".into());
    // The other's blocks are followed.
    b.grow(1);
    assert!(matches!(session.next_but_info(), Heard::NewBlock));
    // Back, and behind: it is not followed, so work on the other's tip still counts.
    a.state().refuses = false;
    wait_until(
        || pool.log().contains("a node is well again"),
        || "never well again".into(),
    );
    let mut job = session.template(0, FIRST).job;
    job.parent = b.state().tip();
    job.height += 1;
    let template = Template::new(job, session.terms());
    assert_eq!(submit(&mut session, template.draft(1).mine_below(BLOCK_POT)), Ok(()));
    // With no node at all mining goes on as well.
    a.state().refuses = true;
    b.state().refuses = true;
    for node in [&a, &b] {
        wait_for(&pool, "millrace_node_up", node, 0);
    }
    assert_eq!(submit(&mut session, template.draft(2).mine_below(BLOCK_POT)), Ok(()));
}

#[test]
fn a_node_that_lies_about_its_tip_or_is_slow_holds_up_nobody() {
    let folder = TempDir::new().expect("a folder");
    let (a, b) = (StubNode::start(folder.path(), "a"), StubNode::start(folder.path(), "b"));
    let pool = pool(&[&a, &b]);
    let mut session = Gateway::new().connect(&pool);
    // One that has no such block, then one of another branch.
    let aside = [0xee; 32];
    for known in [false, true] {
        if known {
            // What they grow next has the same hashes where they have as many beside.
            for node in [&a, &b] {
                let mut state = node.state();
                let height = state.height();
                state.beside.push((aside, height + 5));
            }
        }
        a.state().lies = Some(aside);
        wait_until(|| pool.metric("millrace_node_up", &[]) == 1, || "nobody noticed".into());
        for node in [&a, &b] {
            node.grow(1);
        }
        assert!(matches!(session.next_but_info(), Heard::NewBlock), "of the honest one");
        a.state().lies = None;
        wait_until(
            || pool.metric("millrace_node_up", &[]) == 2,
            || "never well again".into(),
        );
    }
    let log = pool.log();
    assert!(
        log.contains("has no header") && log.contains("is not in its own best chain"),
        "{log}"
    );

    // A block of ours is with the one long before the other has answered anything.
    b.state().slow = Duration::from_millis(900);
    let mut job = session.template(0, FIRST).job;
    job.parent = a.state().tip();
    job.height += 2;
    let template = Template::new(job, session.terms());
    let hash = find_block(&mut session, &template, 1);
    wait_for_state(&pool, &hash, "maturing");
    assert!(matches!(session.next_but_info(), Heard::NewBlock));
    wait_until(
        || b.state().best.contains(&hash),
        || "the slow one never got the block".into(),
    );
}

#[test]
fn a_node_that_hangs_keeps_no_other_from_a_block() {
    let folder = TempDir::new().expect("a folder");
    let (a, b) = (StubNode::start(folder.path(), "a"), StubNode::start(folder.path(), "b"));
    let pool = pool(&[&a, &b]);
    let mut session = Gateway::new().connect(&pool);
    let template = session.template(0, FIRST);
    b.state().slow_call = Some(("submitblock", Duration::from_secs(12)));
    // The word of one that lacks the parent.
    a.state().says_of_blocks = Some("bad-prevblk");
    let hash = find_block(&mut session, &template, 1);
    let is_offered = || a.state().asked.iter().any(|(method, _)| method == "submitblock");
    wait_until(is_offered, || "it is never offered".into());
    wait_until(
        || pool.metric("millrace_blocks_open", &[]) == 1,
        || "nobody sees that no node has it".into(),
    );
    a.state().says_of_blocks = None;
    for node in [&a, &b] {
        // Until the other has it.
        if node.address() == b.address() {
            b.state().slow_call = None;
        }
        let of_node = format!("node=\"{}\"", node.address());
        wait_until(
            || pool.metric("millrace_node_blocks_taken_total", &[&of_node]) == 1,
            || format!("a node's word is lost:\n{}", pool.log()),
        );
    }
    wait_for_state(&pool, &hash, "maturing");
    let log = pool.log();
    let said = |node: &StubNode, outcome: &str| {
        let address = node.address().to_string();
        let is_it = |line: &str| line.contains("word on a block") && line.contains(&address) && line.contains(outcome);
        log.lines()
            .position(is_it)
            .unwrap_or_else(|| panic!("{address} never said {outcome}:\n{log}"))
    };
    assert!(said(&a, "undecided") < said(&a, "accepted"));
    assert_eq!(pool.metric("millrace_blocks_open", &[]), 0);
    assert!(said(&a, "accepted") < said(&b, "accepted"), "it was waited for:\n{log}");
    let is_with_none = |line: &str| line.contains("not with any node") && line.contains("bad-prevblk");
    assert_eq!(log.lines().filter(|line| is_with_none(line)).count(), 1, "{log}");
}

#[test]
fn the_age_of_the_nodes_own_template_shows() {
    let folder = TempDir::new().expect("a folder");
    let node = StubNode::start(folder.path(), "a");
    let pool = pool(&[&node]);
    let age_s = || pool.metric("millrace_node_template_age_seconds", &[]);
    wait_until(
        || node.state().asked.iter().any(|(method, _)| method == "getrawmempool"),
        || "its template is never asked for".into(),
    );
    node.state().refuses = true;
    // Longer than from one round to the next.
    wait_until(|| age_s() >= 13, || format!("{} s", age_s()));
    node.state().refuses = false;
    wait_until(|| age_s() < 13, || format!("{} s", age_s()));
}
