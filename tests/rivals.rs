//! Two blocks at one height: the pool follows one of them, and work on the other counts as long as a node of the pool has it for its
//! tip. The next block decides.

use millrace::wire::{Reason, Status};
use serde_json::Value;
use tempfile::TempDir;

use crate::follows_nodes::{BLOCK_POT, USERNAME, find_block, pool, submit, wait_for_state};
use crate::node_failover::{of, on_tip_of, status, wait_for};
use crate::pool::gateway::Gateway;
use crate::pool::node::StubNode;
use crate::pool::session::{Heard, Session};
use crate::pool::work::{Job, Template};
use crate::pool::{Pool, wait_until};

/// The block that one node has in place of the other's.
const RIVAL: [u8; 32] = [0xbb; 32];

/// Two nodes on one tip, of which the first gets a block more; the pool follows that.
fn begin(folder: &TempDir) -> (StubNode, StubNode, Pool, Session) {
    let (a, b) = (StubNode::start(folder.path(), "a"), StubNode::start(folder.path(), "b"));
    let pool = pool(&[&a, &b]);
    wait_for(&pool, "millrace_node_up", &b, 1);
    let mut session = Gateway::new().connect(&pool);
    a.grow(1);
    assert!(matches!(session.next_but_info(), Heard::NewBlock));
    wait_for(&pool, "millrace_node_in_use", &a, 1);
    (a, b, pool, session)
}

/// What a gateway mines whose own node has the rival.
fn on_rival(node: &StubNode, session: &Session) -> Template {
    let mut job = Job::new(2, 0);
    job.parent = RIVAL;
    job.height = node.state().height() + 1;
    Template::new(job, session.terms())
}

/// How a share is answered that is not refused.
fn taken(session: &mut Session, template: &Template, n: u32) -> Status {
    let mut share = template.draft(n).mine_below(BLOCK_POT);
    share.username = USERNAME.to_vec();
    session.send(&share.with_sections());
    session.answer().expect("the session goes on").status
}

/// Blocks that the session's gateway was told of.
fn told(pool: &Pool) -> u64 {
    pool.metric("millrace_block_to_gateway_seconds_count", &["shard=\"0\""])
}

#[test]
fn work_on_a_tip_of_as_much_work_counts_until_the_chain_goes_on() {
    let folder = TempDir::new().expect("a folder");
    let (a, b, pool, mut session) = begin(&folder);
    let tip = on_tip_of(&a, &session);
    let rival = on_rival(&a, &session);
    assert_eq!(submit(&mut session, tip.draft(1).mine_below(BLOCK_POT)), Ok(()));
    // No node of ours has seen it yet.
    assert_eq!(taken(&mut session, &rival, 1), Status::Tentative);
    assert_eq!(of(&pool, "millrace_node_has_rival", &b), 0, "one that lags has none");
    assert_eq!(pool.stored(), 1);

    b.state().best.push(RIVAL);
    wait_for(&pool, "millrace_node_has_rival", &b, 1);
    assert_eq!(of(&pool, "millrace_node_has_rival", &a), 0);
    wait_until(|| pool.stored() == 2, || "what waited does not count".into());
    assert_eq!(taken(&mut session, &rival, 2), Status::Accepted);
    assert_eq!(
        submit(&mut session, tip.draft(2).mine_below(BLOCK_POT)),
        Ok(()),
        "the tip stays"
    );
    let shown = status(&pool);
    assert_eq!(shown["nodes"][1]["has_rival"], true, "{shown}");
    assert_eq!(shown["tip"]["confirmed"], true, "{shown}");

    // Its height is that of its own branch, and its node may be away.
    let mut low = rival.job.clone();
    low.height -= 1;
    let low = Template::new(low, session.terms());
    assert_eq!(
        submit(&mut session, low.draft(3).mine_below(BLOCK_POT)),
        Err(Reason::BadCoinbase)
    );
    b.state().refuses = true;
    wait_for(&pool, "millrace_node_up", &b, 0);
    assert_eq!(of(&pool, "millrace_node_has_rival", &b), 0);
    assert_eq!(taken(&mut session, &rival, 4), Status::Accepted);

    // The chain goes on without it: gateways hear of that block, and have heard of no other.
    assert_eq!(told(&pool), 1);
    a.grow(1);
    assert!(matches!(session.next_but_info(), Heard::NewBlock));
    let mut n = 10;
    wait_until(
        || {
            n += 1;
            submit(&mut session, rival.draft(n).mine_below(BLOCK_POT)) == Err(Reason::StaleBlock)
        },
        || "work on it never turns stale".into(),
    );
    // Back with it, its node lags.
    b.state().refuses = false;
    wait_for(&pool, "millrace_node_up", &b, 1);
    assert_eq!(of(&pool, "millrace_node_has_rival", &b), 0);
    assert_eq!(
        submit(&mut session, rival.draft(9).mine_below(BLOCK_POT)),
        Err(Reason::StaleBlock)
    );
    assert_eq!(told(&pool), 2);
}

#[test]
fn a_block_on_a_tip_of_as_much_work_decides_for_it() {
    let folder = TempDir::new().expect("a folder");
    let (a, b, pool, mut session) = begin(&folder);
    let tip = on_tip_of(&a, &session);
    let rival = on_rival(&a, &session);
    b.state().best.push(RIVAL);
    wait_for(&pool, "millrace_node_has_rival", &b, 1);
    let mut n = 100;
    wait_until(
        || {
            n += 1;
            taken(&mut session, &rival, n) == Status::Accepted
        },
        || "the rival is never known".into(),
    );
    let hash = find_block(&mut session, &rival, 1);
    wait_for_state(&pool, &hash, "maturing");
    assert!(b.state().best.contains(&hash) && !a.state().best.contains(&hash));
    assert!(matches!(session.next_but_info(), Heard::NewBlock));
    wait_for(&pool, "millrace_node_in_use", &b, 1);
    assert_eq!(pool.metric("millrace_chain_reorganised_most", &[]), 1);
    // The block that was the tip is stale in its time.
    wait_until(
        || {
            n += 1;
            submit(&mut session, tip.draft(n).mine_below(BLOCK_POT)) == Err(Reason::StaleBlock)
        },
        || "work on the former tip never turns stale".into(),
    );
    let blocks: Value = serde_json::from_str(&pool.ledger_text(&["blocks", "--json"])).expect("JSON");
    assert_eq!(blocks.as_array().map(Vec::len), Some(1), "{blocks}");
    let verified = pool.ledger_text(&["verify"]);
    assert!(verified.starts_with("sound"), "{verified}");
}
