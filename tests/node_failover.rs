//! Nodes that go, lag, and come back: the tip stands while the node that had it is away, another that has it is asked at once,
//! and what each says and does shows.

use std::time::{Duration, Instant};

use millrace::wire::Reason;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::follows_nodes::{BLOCK_POT, block, config, find_block, pool, submit, wait_for_state};
use crate::pool::gateway::Gateway;
use crate::pool::node::{FIRST, StubNode, shown};
use crate::pool::publisher::Publisher;
use crate::pool::session::{Heard, Session};
use crate::pool::work::Template;
use crate::pool::{Launch, Pool, wait_until};

/// What a gateway would mine on the tip of this node.
pub fn on_tip_of(node: &StubNode, session: &Session) -> Template {
    let mut job = session.template(1, FIRST).job;
    let state = node.state();
    job.parent = state.tip();
    job.height = state.height() + 1;
    Template::new(job, session.terms())
}

/// Of a node, what a metric of it says.
pub fn of(pool: &Pool, metric: &str, node: &StubNode) -> u64 {
    pool.metric(metric, &[&format!("node=\"{}\"", node.address())])
}

pub fn wait_for(pool: &Pool, metric: &str, node: &StubNode, value: u64) {
    wait_until(
        || of(pool, metric, node) == value,
        || format!("{metric} is never {value}, but {}", of(pool, metric, node)),
    );
}

pub fn status(pool: &Pool) -> Value {
    serde_json::from_slice(&pool.control(&["status"]).stdout).expect("one JSON object")
}

fn times(pool: &Pool, line: &str) -> usize {
    pool.log().matches(line).count()
}

const NOBODY_HAS_IT: &str = "no node that is well has the tip";

#[test]
fn the_tip_stands_while_its_node_is_away_and_another_lags() {
    let folder = TempDir::new().expect("a folder");
    let (a, b) = (StubNode::start(folder.path(), "a"), StubNode::start(folder.path(), "b"));
    let pool = pool(&[&a, &b]);
    wait_for(&pool, "millrace_node_up", &b, 1);
    let mut session = Gateway::new().connect(&pool);
    let old = session.template(0, FIRST);
    a.grow(1);
    assert!(matches!(session.next_but_info(), Heard::NewBlock));
    wait_for(&pool, "millrace_node_in_use", &a, 1);
    assert_eq!(of(&pool, "millrace_node_has_tip", &b), 0);
    let tip = on_tip_of(&a, &session);

    for (n, is_downloading) in [(1_u32, false), (2, true)] {
        match is_downloading {
            true => a.state().initial_block_download = true,
            false => a.state().refuses = true,
        }
        wait_until(
            || times(&pool, NOBODY_HAS_IT) == n as usize,
            || format!("nobody noticed:\n{}", pool.log()),
        );
        // Some more looks at the one that lags change nothing.
        std::thread::sleep(Duration::from_millis(2_500));
        assert_eq!(times(&pool, NOBODY_HAS_IT), n as usize, "it is said once");
        assert_eq!(submit(&mut session, tip.draft(n).mine_below(BLOCK_POT)), Ok(()));
        assert_eq!(
            submit(&mut session, old.draft(n).mine_below(BLOCK_POT)),
            Err(Reason::StaleBlock),
            "the block below is old"
        );
        let status = status(&pool);
        let height = u64::from(a.state().height());
        assert_eq!(status["tip"], json!({"height": height, "confirmed": false}), "{status}");
        assert_eq!(status["nodes"][1]["height"], height - 1, "{status}");
        assert_eq!(status["nodes"][1]["has_tip"], false, "{status}");
        a.state().refuses = false;
        a.state().initial_block_download = false;
        wait_for(&pool, "millrace_node_has_tip", &a, 1);
    }
    wait_until(
        || times(&pool, "a node has the tip again") == 2,
        || format!("nobody says so:\n{}", pool.log()),
    );
    assert_eq!(status(&pool)["tip"]["confirmed"], true);

    // The other's next blocks are followed all the same, though they come of the block that lacked.
    a.state().refuses = true;
    b.grow(2);
    assert!(matches!(session.next_but_info(), Heard::NewBlock));
    wait_for(&pool, "millrace_node_in_use", &b, 1);
    let next = on_tip_of(&b, &session);
    assert_eq!(submit(&mut session, next.draft(3).mine_below(BLOCK_POT)), Ok(()));
}

#[test]
fn a_node_that_has_lost_its_last_blocks_takes_no_tip_along_and_one_that_left_them_does() {
    let folder = TempDir::new().expect("a folder");
    let node = StubNode::start(folder.path(), "a");
    let pool = pool(&[&node]);
    let mut session = Gateway::new().connect(&pool);
    let first = session.template(0, FIRST);
    node.grow(2);
    assert!(matches!(session.next_but_info(), Heard::NewBlock));
    let tip = on_tip_of(&node, &session);
    let height = u64::from(node.state().height());
    wait_until(
        || pool.metric("millrace_chain_tip_height", &[]) == height,
        || "the tip is not followed".into(),
    );
    // Restored from an old copy: it has never heard of its last two blocks.
    let whole = node.state().best.clone();
    node.state().best.truncate(1);
    wait_for(&pool, "millrace_node_height", &node, height - 2);
    wait_until(
        || times(&pool, NOBODY_HAS_IT) == 1,
        || format!("nobody noticed:\n{}", pool.log()),
    );
    assert_eq!(submit(&mut session, tip.draft(1).mine_below(BLOCK_POT)), Ok(()));
    node.state().best = whole;
    wait_for(&pool, "millrace_node_has_tip", &node, 1);
    // After an unclean end it knows them, and has yet to connect them once more.
    {
        let mut state = node.state();
        state.is_catching_up = true;
        state.step_back(2);
    }
    wait_until(
        || times(&pool, NOBODY_HAS_IT) == 2,
        || format!("nobody noticed:\n{}", pool.log()),
    );
    assert_eq!(submit(&mut session, tip.draft(2).mine_below(BLOCK_POT)), Ok(()));
    {
        let mut state = node.state();
        state.is_catching_up = false;
        state.come_back();
    }
    wait_for(&pool, "millrace_node_has_tip", &node, 1);
    // Now they are invalid to it.
    node.state().step_back(2);
    let mut n = 10;
    wait_until(
        || {
            n += 1;
            submit(&mut session, tip.draft(n).mine_below(BLOCK_POT)) == Err(Reason::StaleBlock)
        },
        || "the pool does not follow its node back".into(),
    );
    assert_eq!(submit(&mut session, first.draft(1).mine_below(BLOCK_POT)), Ok(()));
    assert_eq!(times(&pool, "a chain of less work is followed"), 1);
}

#[test]
fn where_the_node_in_use_goes_another_that_has_the_tip_is_asked_at_once() {
    let folder = TempDir::new().expect("a folder");
    let (a, b) = (StubNode::start(folder.path(), "a"), StubNode::start(folder.path(), "b"));
    let pool = pool(&[&a, &b]);
    let mut session = Gateway::new().connect(&pool);
    let first = session.template(0, FIRST);
    let ours = find_block(&mut session, &first, 1);
    wait_for_state(&pool, &ours, "maturing");
    assert!(matches!(session.next_but_info(), Heard::NewBlock));
    for node in [&a, &b] {
        wait_until(|| node.state().best.contains(&ours), || "a node lacks the block".into());
        wait_for(&pool, "millrace_node_has_tip", node, 1);
    }
    // Whoever said first that it has the tip.
    let (used, other) = match of(&pool, "millrace_node_in_use", &a) {
        1 => (&a, &b),
        _ => (&b, &a),
    };
    assert_eq!(of(&pool, "millrace_node_in_use", used), 1);
    assert_eq!(of(&pool, "millrace_node_in_use", other), 0);

    // No new tip comes: what was asked of the one is asked of the other now.
    used.state().refuses = true;
    other.state().asked.clear();
    wait_for(&pool, "millrace_node_in_use", other, 1);
    assert_eq!(of(&pool, "millrace_node_in_use", used), 0);
    let of_our_block = json!([shown(&ours)]);
    let is_asked = |method: &str, params: Option<&Value>| {
        let state = other.state();
        let mut asked = state.asked.iter();
        asked.any(|(name, with)| name == method && params.is_none_or(|params| params == with))
    };
    for (method, params) in [
        ("getblocktemplate", None),
        ("getrawmempool", None),
        ("getblockheader", Some(&of_our_block)),
    ] {
        wait_until(
            || is_asked(method, params),
            || format!("{method} is never asked of the other"),
        );
    }
    assert_eq!(times(&pool, "another node is asked about the tip"), 1);
    let in_use = status(&pool)["nodes"].as_array().cloned().unwrap_or_default();
    let in_use: Vec<_> = in_use.iter().filter(|node| node["in_use"] == true).collect();
    assert_eq!(in_use.len(), 1);
    assert_eq!(in_use[0]["rpc"], other.address().to_string());

    // The first is back, and the other goes on until it goes.
    used.state().refuses = false;
    wait_for(&pool, "millrace_node_has_tip", used, 1);
    assert_eq!(of(&pool, "millrace_node_in_use", other), 1);
    other.state().chain = "main";
    wait_for(&pool, "millrace_node_in_use", used, 1);
    let next = on_tip_of(used, &session);
    assert_eq!(submit(&mut session, next.draft(2).mine_below(BLOCK_POT)), Ok(()));

    // One that hangs is not waited for until its call has failed.
    other.state().chain = "regtest";
    wait_for(&pool, "millrace_node_has_tip", other, 1);
    used.state().slow = Duration::from_secs(10);
    wait_for(&pool, "millrace_node_in_use", other, 1);
    assert_eq!(of(&pool, "millrace_node_up", used), 1, "it may answer yet");
    used.state().slow = Duration::ZERO;
    wait_for(&pool, "millrace_node_has_tip", used, 1);
}

#[test]
fn a_node_that_hangs_over_the_headers_of_its_tip_keeps_nobody_waiting_and_is_followed_later() {
    let folder = TempDir::new().expect("a folder");
    let node = StubNode::start(folder.path(), "a");
    let pool = pool(&[&node]);
    let mut session = Gateway::new().connect(&pool);
    {
        // Two blocks at once, of which the lower one's header is asked for when the upper is to be followed.
        let mut state = node.state();
        state.best.push([0xb1; 32]);
        state.best.push([0xb2; 32]);
        state.slow_headers = vec![([0xb1; 32], Duration::from_secs(9), 1)];
    }
    wait_until(
        || times(&pool, "a node does not tell of the tip that it claims") == 1,
        || format!("it is waited for:\n{}", pool.log()),
    );
    assert!(
        matches!(session.next_but_info(), Heard::NewBlock),
        "it answers in the end"
    );
    let tip = on_tip_of(&node, &session);
    assert_eq!(submit(&mut session, tip.draft(1).mine_below(BLOCK_POT)), Ok(()));
}

#[test]
fn a_node_that_hangs_over_the_headers_of_its_tip_again_and_again_does_not_keep_another_from_being_followed() {
    let folder = TempDir::new().expect("a folder");
    let (hangs, well) = (StubNode::start(folder.path(), "a"), StubNode::start(folder.path(), "b"));
    let pool = pool(&[&hangs, &well]);
    wait_for(&pool, "millrace_node_up", &well, 1);
    let mut session = Gateway::new().connect(&pool);
    {
        let mut state = hangs.state();
        state.best.extend([[0xb1; 32], [0xb2; 32], [0xb3; 32]]);
        state.slow_headers = vec![([0xb2; 32], Duration::from_secs(9), u32::MAX)];
    }
    let not_told = || times(&pool, "a node does not tell of the tip that it claims");
    wait_until(|| not_told() == 1, || format!("it is waited for:\n{}", pool.log()));
    // It claims its tip once a second. Each look at that takes 4 s, in which nobody else is heard, and between two of them others are for
    // as long.
    let (began, before) = (Instant::now(), not_told());
    std::thread::sleep(Duration::from_secs(22));
    let looks = (not_told() - before) as u64;
    assert!(
        looks <= began.elapsed().as_secs() / 7 + 1,
        "{looks} looks:\n{}",
        pool.log()
    );
    well.grow(1);
    assert!(matches!(session.next_but_info(), Heard::NewBlock));
    let tip = on_tip_of(&well, &session);
    assert_eq!(submit(&mut session, tip.draft(1).mine_below(BLOCK_POT)), Ok(()));
}

#[test]
fn a_tip_whose_headers_come_slowly_one_by_one_keeps_nobody_waiting_and_is_followed_in_some_tries() {
    let folder = TempDir::new().expect("a folder");
    let node = StubNode::start(folder.path(), "a");
    let pool = pool(&[&node]);
    let mut session = Gateway::new().connect(&pool);
    {
        let mut state = node.state();
        // None takes as long as the pool waits, all of them together do.
        state.best.extend((0xb1..=0xb5).map(|byte| [byte; 32]));
        state.slow_headers = (0xb1..=0xb4)
            .map(|byte| ([byte; 32], Duration::from_millis(1_500), u32::MAX))
            .collect();
    }
    let not_told = || times(&pool, "a node does not tell of the tip that it claims");
    assert!(matches!(session.next_but_info(), Heard::NewBlock), "in the end");
    assert!(not_told() >= 1, "all of it is waited for:\n{}", pool.log());
    let tip = on_tip_of(&node, &session);
    assert_eq!(submit(&mut session, tip.draft(1).mine_below(BLOCK_POT)), Ok(()));
}

#[test]
fn a_node_that_begins_again_with_another_cookie_is_used_again() {
    let folder = TempDir::new().expect("a folder");
    let node = StubNode::start(folder.path(), "a");
    let pool = pool(&[&node]);
    let mut session = Gateway::new().connect(&pool);
    for secret in ["another", "and another"] {
        node.stop();
        wait_for(&pool, "millrace_node_up", &node, 0);
        let tip = on_tip_of(&node, &session);
        assert_eq!(submit(&mut session, tip.draft(1).mine_below(BLOCK_POT)), Ok(()));
        node.state().asked.clear();
        node.start_again(secret);
        wait_for(&pool, "millrace_node_up", &node, 1);
        // A block is brought to it, and its mempool read.
        let tip = on_tip_of(&node, &session);
        let hash = find_block(&mut session, &tip, 2);
        wait_for_state(&pool, &hash, "maturing");
        assert!(matches!(session.next_but_info(), Heard::NewBlock));
        wait_until(
            || node.state().asked.iter().any(|(method, _)| method == "getrawmempool"),
            || "its mempool is not asked for".into(),
        );
    }
    assert!(!pool.log().contains("refuses the login"), "{}", pool.log());
    // One whose file has what the node does not know says what to do.
    node.state().refuses = true;
    wait_for(&pool, "millrace_node_up", &node, 0);
    std::fs::write(folder.path().join("a.cookie"), "__cookie__:wrong").expect("a file");
    node.state().forget_login();
    node.state().refuses = false;
    let failures = of(&pool, "millrace_node_failures_total", &node);
    wait_until(
        || of(&pool, "millrace_node_failures_total", &node) > failures + 1,
        || "it is not asked".into(),
    );
    node.start_again("the last");
    wait_for(&pool, "millrace_node_up", &node, 1);
}

#[test]
fn a_publisher_that_goes_is_seen_and_heard_again_when_it_is_back_and_polling_covers_meanwhile() {
    let folder = TempDir::new().expect("a folder");
    let node = StubNode::start(folder.path(), "a");
    let publisher = Publisher::start();
    let endpoint = publisher.endpoint.clone();
    let pool = Pool::launch(Launch::config(&format!("{}zmq = [\"{endpoint}\"]\n", config(&[&node]))));
    let mut session = Gateway::new().connect(&pool);
    assert_eq!(of(&pool, "millrace_node_zmq_publishers", &node), 1);
    wait_for(&pool, "millrace_node_zmq_connected", &node, 1);
    let heard = |topic: &str| {
        let labels = [format!("node=\"{}\"", node.address()), format!("topic=\"{topic}\"")];
        pool.metric(
            "millrace_node_zmq_messages_total",
            &labels.each_ref().map(String::as_str),
        )
    };
    // Until the subscription has reached it, nobody hears.
    let hear_of = |publisher: &Publisher, topic: &str, body: Vec<u8>| {
        let before = heard(topic);
        wait_until(
            || {
                publisher.tell(topic, body.clone());
                heard(topic) > before
            },
            || format!("{topic} is never heard"),
        );
    };
    hear_of(&publisher, "sequence", [&[7; 32][..], b"A"].concat());
    assert_eq!(heard("hashblock"), 0);
    node.grow(1);
    hear_of(&publisher, "hashblock", vec![7; 32]);
    assert!(matches!(session.next_but_info(), Heard::NewBlock));
    let shown = status(&pool);
    let zmq = &shown["nodes"][0]["zmq"];
    assert_eq!(
        (&zmq["publishers"], &zmq["connected"]),
        (&json!(1), &json!(1)),
        "{shown}"
    );
    assert!(
        zmq["messages"].as_u64() >= Some(2) && zmq["heard_s_ago"].is_u64(),
        "{shown}"
    );

    drop(publisher);
    wait_for(&pool, "millrace_node_zmq_connected", &node, 0);
    assert_eq!(status(&pool)["nodes"][0]["zmq"]["connected"], 0);
    node.grow(1);
    assert!(matches!(session.next_but_info(), Heard::NewBlock), "it is polled");

    let publisher = Publisher::at(&endpoint);
    wait_for(&pool, "millrace_node_zmq_connected", &node, 1);
    node.grow(1);
    hear_of(&publisher, "rawblock", vec![7; 300]);
    assert!(matches!(session.next_but_info(), Heard::NewBlock));
    let log = pool.log();
    assert!(
        log.contains("ZMQ publisher is not heard") && log.contains("is heard again"),
        "{log}"
    );
}

#[test]
fn a_publisher_that_says_nothing_of_a_block_is_connected_anew() {
    let folder = TempDir::new().expect("a folder");
    let node = StubNode::start(folder.path(), "a");
    let publisher = Publisher::start();
    let endpoint = &publisher.endpoint;
    let pool = Pool::launch(Launch::config(&format!("{}zmq = [\"{endpoint}\"]\n", config(&[&node]))));
    wait_for(&pool, "millrace_node_zmq_connected", &node, 1);
    // Longer than what is published may have been missed for, and than it may take.
    std::thread::sleep(Duration::from_millis(5_500));
    assert_eq!(times(&pool, "ZMQ publisher is not heard"), 0);
    node.grow(1);
    let says_nothing = "it says nothing of a block that its node has";
    wait_until(
        || times(&pool, says_nothing) == 1 && times(&pool, "ZMQ publisher is heard again") == 1,
        || format!("it is still waited for:\n{}", pool.log()),
    );
    wait_for(&pool, "millrace_node_zmq_connected", &node, 1);
}

#[test]
fn what_each_node_says_of_a_block_is_written_down_and_shown() {
    let folder = TempDir::new().expect("a folder");
    let nodes = ["a", "b", "c"].map(|name| StubNode::start(folder.path(), name));
    let [a, b, c] = &nodes;
    let mut pool = pool(&[a, b, c]);
    for node in &nodes {
        wait_for(&pool, "millrace_node_up", node, 1);
    }
    b.state().says_of_blocks = Some("bad-cb-amount");
    c.state().refuses = true;
    wait_for(&pool, "millrace_node_up", c, 0);
    let mut session = Gateway::new().connect(&pool);
    let first = session.template(0, FIRST);
    let taken = find_block(&mut session, &first, 1);
    wait_for_state(&pool, &taken, "maturing");
    let said = |pool: &Pool, hash: &[u8; 32], node: &StubNode| -> Vec<(String, String)> {
        let block = block(pool, hash);
        let submissions = block["submissions"].as_array().cloned().unwrap_or_default();
        let of_node = submissions
            .iter()
            .filter(|said| said["node"] == node.address().to_string());
        let text = |said: &Value, name: &str| said[name].as_str().expect("text").to_owned();
        of_node
            .map(|said| (text(said, "outcome"), text(said, "words")))
            .collect()
    };
    let pair = |outcome: &str, words: &str| vec![(outcome.to_owned(), words.to_owned())];
    wait_until(
        || {
            said(&pool, &taken, a) == pair("accepted", "")
                && said(&pool, &taken, b) == pair("rejected", "bad-cb-amount")
        },
        || format!("{}", block(&pool, &taken)),
    );
    wait_until(
        || {
            said(&pool, &taken, c)
                .first()
                .is_some_and(|(outcome, _)| outcome == "unanswered")
        },
        || format!("{}", block(&pool, &taken)),
    );

    // The one that was away is brought it when it is back.
    assert!(matches!(session.next_but_info(), Heard::NewBlock));
    c.state().refuses = false;
    wait_until(
        || said(&pool, &taken, c).last() == pair("accepted", "").last(),
        || format!("{}", block(&pool, &taken)),
    );

    // Refused by all: on the books as well. And they outlive the process.
    b.state().best.push(taken);
    for node in &nodes {
        node.state().says_of_blocks = Some("bad-txns-vout-toolarge");
        wait_for(&pool, "millrace_node_has_tip", node, 1);
    }
    let next = on_tip_of(a, &session);
    let refused = find_block(&mut session, &next, 2);
    wait_for_state(&pool, &refused, "rejected");
    for node in &nodes {
        wait_until(
            || said(&pool, &refused, node) == pair("rejected", "bad-txns-vout-toolarge"),
            || format!("{}", block(&pool, &refused)),
        );
    }
    pool.kill();
    let text = pool.ledger_text(&["blocks"]);
    let line = format!("node {} time_ms ", b.address());
    assert!(
        text.contains(&line) && text.contains(" rejected bad-cb-amount\n"),
        "{text}"
    );
    let verified = pool.ledger_text(&["verify"]);
    assert!(verified.starts_with("sound"), "{verified}");
    // The next process brings it to them once more, and what they say then comes behind.
    for node in &nodes {
        node.state().says_of_blocks = None;
    }
    pool.restart();
    let again = [pair("rejected", "bad-cb-amount"), pair("duplicate", "duplicate")].concat();
    wait_until(
        || said(&pool, &taken, b) == again,
        || format!("{}", block(&pool, &taken)),
    );
}

#[test]
fn a_node_that_was_away_when_a_block_was_found_gets_it_of_the_pool_though_the_one_that_took_it_is_gone() {
    let folder = TempDir::new().expect("a folder");
    let (a, b) = (StubNode::start(folder.path(), "a"), StubNode::start(folder.path(), "b"));
    let pool = pool(&[&a, &b]);
    wait_for(&pool, "millrace_node_has_tip", &b, 1);
    b.state().refuses = true;
    wait_for(&pool, "millrace_node_up", &b, 0);
    let mut session = Gateway::new().connect(&pool);
    let first = session.template(0, FIRST);
    let ours = find_block(&mut session, &first, 1);
    wait_for_state(&pool, &ours, "maturing");
    a.state().refuses = true;
    wait_for(&pool, "millrace_node_up", &a, 0);
    b.state().refuses = false;
    wait_until(
        || b.state().best.contains(&ours),
        || format!("it never got the block:\n{}", pool.log()),
    );
    b.grow(3);
    let height = u64::from(b.state().height());
    wait_until(
        || pool.metric("millrace_chain_tip_height", &[]) == height,
        || "its tip is not followed".into(),
    );
    assert_eq!(block(&pool, &ours)["state"], "maturing");
}

#[test]
fn a_node_that_has_lost_a_block_of_ours_is_offered_it_before_the_block_is_given_up() {
    let folder = TempDir::new().expect("a folder");
    let node = StubNode::start(folder.path(), "a");
    let pool = pool(&[&node]);
    let mut session = Gateway::new().connect(&pool);
    let first = session.template(0, FIRST);
    let ours = find_block(&mut session, &first, 1);
    wait_for_state(&pool, &ours, "maturing");
    wait_for(&pool, "millrace_node_has_tip", &node, 1);
    {
        // Restored from an old copy, and brought the blocks of others since.
        let mut state = node.state();
        state.best.truncate(1);
        state.submitted.clear();
        state.asked.clear();
    }
    node.grow(5);
    wait_for_state(&pool, &ours, "orphaned");
    let offered = |state: &crate::pool::node::State| state.asked.iter().any(|(method, _)| method == "submitblock");
    assert!(offered(&node.state()), "nobody asked what it makes of the block");
}

#[test]
fn a_pool_whose_nodes_are_all_away_stays_as_it_is_when_a_restart_is_asked_for() {
    let folder = TempDir::new().expect("a folder");
    let node = StubNode::start(folder.path(), "a");
    let mut pool = pool(&[&node]);
    let mut session = Gateway::new().connect(&pool);
    let template = session.template(0, FIRST);
    node.state().refuses = true;
    pool.signal("USR2");
    wait_until(
        || times(&pool, "no restart") == 1,
        || format!("it is not refused:\n{}", pool.log()),
    );
    assert_eq!(submit(&mut session, template.draft(1).mine_below(BLOCK_POT)), Ok(()));
    node.state().refuses = false;
    pool.signal("USR2");
    pool.began_again();
    assert!(pool.terminate().success());
}
