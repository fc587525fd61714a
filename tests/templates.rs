//! Templates that gateways build are held against a node, and work of which no block can come is refused.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::MutexGuard;
use std::time::{Duration, Instant};

use millrace::wire::{CROSS_CHECK_START, FromGateway, Reason, Share, ValidationAnswer};
use millrace::work::Ask;
use tempfile::TempDir;

use crate::pool::gateway::{Gateway, mining_header};
use crate::pool::node::{FIRST, State, StubNode};
use crate::pool::session::{Heard, Session};
use crate::pool::shown::{Lie, Shown, transaction};
use crate::pool::work::Template;
use crate::pool::{Launch, PATIENCE, Pool, wait_until};

/// A miner's name on regtest.
const USERNAME: &[u8] = b"bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080.rig";

/// No hash here is a block.
const BLOCK_POT: u8 = 16;

/// Has every template checked.
const ALL: &str = "check_one_in = 1";

/// Has none checked but those that must be.
const ODD: &str = "check_one_in = 0";

/// A node, another perhaps, and a pool that holds templates against them.
struct World {
    node: StubNode,
    other: Option<StubNode>,
    pool: Pool,
    gateway: Gateway,
    session: Session,
    shares: u32,
    _folder: TempDir,
}

impl World {
    fn new(mempool: &[Vec<u8>]) -> Self {
        Self::by(ALL, mempool)
    }

    /// With these keys of `templates`.
    fn by(rule: &str, mempool: &[Vec<u8>]) -> Self {
        let folder = TempDir::new().expect("a folder");
        let node = StubNode::start(folder.path(), "a");
        Self::start(folder, node, None, rule, mempool)
    }

    /// With two nodes, of which the first is the one whose tip is followed: the other is well a moment later.
    fn with_another(mempool: &[Vec<u8>]) -> Self {
        let folder = TempDir::new().expect("a folder");
        let (node, other) = (StubNode::start(folder.path(), "a"), StubNode::start(folder.path(), "b"));
        other.state().refuses = true;
        let world = Self::start(folder, node, Some(other), ALL, mempool);
        world.another().refuses = false;
        wait_until(
            || world.pool.metric("millrace_node_up", &[]) == 2,
            || "the other is never well".into(),
        );
        world
    }

    fn start(folder: TempDir, node: StubNode, other: Option<StubNode>, rule: &str, mempool: &[Vec<u8>]) -> Self {
        let world = Self::launch(folder, node, other, rule, mempool);
        wait_until(
            || world.pool.metric("millrace_transactions_known", &[]) == mempool.len() as u64,
            || "the mempool is never known".into(),
        );
        world
    }

    /// The same where the mempool may not be known yet.
    fn launch(folder: TempDir, node: StubNode, other: Option<StubNode>, rule: &str, mempool: &[Vec<u8>]) -> Self {
        node.state().mempool = mempool.to_vec();
        let sections: String = [Some(&node), other.as_ref()]
            .into_iter()
            .flatten()
            .map(StubNode::section)
            .collect();
        let pool = Pool::launch(Launch::config(&format!(
            "[chain]\nname = \"regtest\"\ntarget_shift = 32\n[templates]\n{rule}\n{sections}",
        )));
        let gateway = Gateway::new();
        let session = gateway.connect(&pool);
        Self {
            node,
            other,
            pool,
            gateway,
            session,
            shares: 0,
            _folder: folder,
        }
    }

    fn another(&self) -> MutexGuard<'_, State> {
        self.other.as_ref().expect("there are two").state()
    }

    fn shows(&self, raw: &[Vec<u8>]) -> Shown {
        Shown::new(&self.pool, &self.gateway, raw)
    }

    /// The first share of a job in this slot, whose short ids the pool asks for, and gets.
    fn begin_and_show_ids(&mut self, shown: &Shown, slot: u8) -> Template {
        let template = shown.template(&self.session, slot, FIRST);
        assert_eq!(self.begin(&template), Ok(()));
        assert_eq!(shown.answer_next(&mut self.session), Ask::ShortIds);
        template
    }

    /// Sends the first share on a template, with its sections; the verdict on it.
    fn begin(&mut self, template: &Template) -> Result<(), Reason> {
        self.submit(template, true)
    }

    /// Sends another.
    fn go_on(&mut self, template: &Template) -> Result<(), Reason> {
        self.submit(template, false)
    }

    fn submit(&mut self, template: &Template, with_sections: bool) -> Result<(), Reason> {
        self.shares += 1;
        let mut share = template.draft(self.shares).mine_below(BLOCK_POT);
        share.username = USERNAME.to_vec();
        match with_sections {
            true => self.session.submit(&share.with_sections()),
            false => self.session.submit(&share.bare()),
        }
    }

    /// Work that is refused until it is seen counts then.
    fn shows_at_last(&mut self, raw: &[Vec<u8>], slot: u8) {
        let shown = self.shows(raw);
        let template = shown.template(&self.session, slot, FIRST);
        assert_eq!(self.begin(&template), Err(Reason::BadCoinbase));
        assert_eq!(shown.answer_next(&mut self.session), Ask::ShortIds);
        self.wait_for("valid", 1);
        // The shard hears of it a moment later.
        wait_until(|| self.go_on(&template) == Ok(()), || "it counts no more".into());
        let next = shown.template(&self.session, slot + 1, FIRST);
        assert_eq!(self.begin(&next), Ok(()), "nor is the next withheld");
    }

    fn outcome(&self, outcome: &str) -> u64 {
        let label = format!("outcome=\"{outcome}\"");
        self.pool.metric("millrace_templates_checked_total", &[&label])
    }

    fn wait_for(&self, outcome: &str, count: u64) {
        wait_until(
            || self.outcome(outcome) == count,
            || format!("{outcome} is never {count}:\n{}", self.pool.metrics()),
        );
    }

    /// The gateway comes back: its slots are empty.
    fn reconnect(&mut self) {
        self.session = self.gateway.connect(&self.pool);
    }

    fn unshown(&self) -> u64 {
        self.pool.metric("millrace_gateways_unshown_total", &["shard=\"0\""])
    }

    /// The line about a job's end in the gateway's log.
    fn hears_of_it(&mut self) -> String {
        self.hears("no block can come")
    }

    /// A line in the gateway's log that has this part.
    fn hears(&mut self, part: &str) -> String {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match self.session.next() {
                Heard::Info(line) if line.contains(part) => return line,
                Heard::Info(_) | Heard::Ping => assert!(Instant::now() < deadline, "it is never told"),
                other => panic!("{other:?}"),
            }
        }
    }
}

fn some(count: u64) -> Vec<Vec<u8>> {
    (1..=count).map(|value| transaction(value, 300)).collect()
}

#[test]
fn only_what_is_not_known_is_asked_for_and_the_node_has_the_last_word() {
    let raw = some(9);
    let mut world = World::new(&raw[..7]);
    let shown = world.shows(&raw);
    let template = world.begin_and_show_ids(&shown, 0);
    assert_eq!(shown.answer_next(&mut world.session), Ask::ByIndex(vec![7, 8]));
    world.wait_for("valid", 1);
    let block = world.node.state().proposed.pop().expect("a proposal");
    assert_eq!(block[80], 10, "transactions");
    assert!(block.ends_with(&raw.concat()));
    // What it has shown once it is not asked for again.
    let again = shown.template(&world.session, 1, FIRST);
    assert_eq!(world.begin(&again), Ok(()));
    assert_eq!(shown.answer_next(&mut world.session), Ask::ShortIds);
    world.wait_for("valid", 2);
    assert_eq!(world.pool.metric("millrace_transactions_asked_total", &[]), 2);
    assert_eq!(world.go_on(&template), Ok(()));
}

#[test]
fn the_first_templates_are_looked_at_when_the_mempool_is_known() {
    let raw = some(9);
    let folder = TempDir::new().expect("a folder");
    let node = StubNode::start(folder.path(), "a");
    node.state().slow_call = Some(("getrawmempool", Duration::from_secs(1)));
    let mut world = World::launch(folder, node, None, ALL, &raw);
    let shown = world.shows(&raw);
    // The share is answered at once, and the gateway asked when most of its transactions are known.
    world.begin_and_show_ids(&shown, 0);
    world.wait_for("valid", 1);
    assert_eq!(world.pool.metric("millrace_transactions_asked_total", &[]), 0);
}

#[test]
fn a_block_on_a_template_that_was_seen_has_nobody_asked() {
    let raw = some(3);
    let mut world = World::new(&raw);
    let shown = world.shows(&raw);
    let template = world.begin_and_show_ids(&shown, 0);
    world.wait_for("valid", 1);
    let mut block = template.draft(900);
    block.pot = BLOCK_POT;
    let mut block = block.mine();
    block.username = USERNAME.to_vec();
    assert_eq!(world.session.submit(&block.bare()), Ok(()));
    assert!(matches!(world.session.next_but_info(), Heard::NewBlock));
    // Its template is held against the node once more, as that of any block.
    world.wait_for("valid", 2);
    let block = world.node.state().submitted[0].clone();
    assert!(block.ends_with(&raw.concat()));
    // Whatever the verdict on work upon the block below.
    let _ = world.go_on(&template);
    world.session.assert_unasked();
}

#[test]
fn a_block_does_not_wait_for_the_short_ids_of_a_check() {
    let raw = some(3);
    let mut world = World::new(&[]);
    let shown = world.shows(&raw);
    let template = shown.template(&world.session, 0, FIRST);
    assert_eq!(world.begin(&template), Ok(()));
    let (job, ids) = world.session.question();
    assert_eq!(ids, Ask::ShortIds);
    let mut block = template.draft(900);
    block.pot = BLOCK_POT;
    let mut block = block.mine();
    block.username = USERNAME.to_vec();
    assert_eq!(world.session.submit(&block.bare()), Ok(()));
    assert_eq!(world.session.question(), (job, Ask::All));
    // A gateway answers in the order that it was asked in.
    shown.answer(&mut world.session, job, &ids);
    shown.answer(&mut world.session, job, &Ask::All);
    wait_until(
        || !world.node.state().submitted.is_empty(),
        || "the node never has the block".into(),
    );
    assert!(world.node.state().submitted[0].ends_with(&raw.concat()));
    // The check is made all the same, and its gateway was not late for it.
    assert_eq!(shown.answer_next(&mut world.session), Ask::ShortIds);
    world.wait_for("valid", 1);
    assert_eq!(world.outcome("late"), 0);
}

#[test]
fn where_most_is_unknown_or_the_cross_check_fails_all_is_asked_for() {
    let raw = some(9);
    let mut world = World::new(&raw[..4]);
    for (slot, lie) in [Lie::None, Lie::CrossCheck, Lie::Ids].into_iter().enumerate() {
        let mut shown = world.shows(&raw);
        shown.lie = lie;
        world.begin_and_show_ids(&shown, u8::try_from(slot).expect("few"));
        assert_eq!(shown.answer_next(&mut world.session), Ask::All);
        world.wait_for("valid", slot as u64 + 1);
    }
    assert_eq!(world.pool.metric("millrace_templates_wrong_ids_total", &[]), 2);
}

#[test]
fn a_template_that_the_node_refuses_is_told_and_its_shares_are_refused() {
    let raw = some(3);
    let mut world = World::new(&raw);
    world.node.state().says_of_proposals = Some("bad-txns-inputs-missingorspent");
    let shown = world.shows(&raw);
    let template = world.begin_and_show_ids(&shown, 0);
    let line = world.hears_of_it();
    assert!(line.contains("bad-txns-inputs-missingorspent"), "{line}");
    assert_eq!(world.go_on(&template), Err(Reason::BadCoinbase));
    assert_eq!(world.outcome("invalid"), 1);
    assert_eq!(world.pool.metric("millrace_jobs_condemned_total", &["shard=\"0\""]), 1);
    assert!(
        world.pool.log().contains("no block can come of a gateway's template"),
        "{}",
        world.pool.log()
    );
    // Its next one is judged by itself.
    world.node.state().says_of_proposals = None;
    let shown = world.shows(&some(2));
    let template = world.begin_and_show_ids(&shown, 1);
    world.wait_for("valid", 1);
    assert_eq!(world.go_on(&template), Ok(()));
}

#[test]
fn a_template_that_the_nodes_do_not_agree_on_is_not_condemned() {
    let raw = some(4);
    let mut world = World::with_another(&raw);
    world.node.state().says_of_proposals = Some("bad-txns-inputs-missingorspent");
    let shown = world.shows(&raw);
    let template = world.begin_and_show_ids(&shown, 0);
    world.wait_for("disputed", 1);
    assert_eq!(
        (world.node.state().proposed.len(), world.another().proposed.len()),
        (1, 1)
    );
    assert_eq!(world.go_on(&template), Ok(()));
    assert!(
        world.pool.log().contains("the nodes do not agree"),
        "{}",
        world.pool.log()
    );
    assert_eq!(world.pool.metric("millrace_jobs_condemned_total", &["shard=\"0\""]), 0);

    // Where the other says so too, it is.
    world.another().says_of_proposals = Some("bad-txns-inputs-missingorspent");
    let template = world.begin_and_show_ids(&shown, 1);
    world.hears_of_it();
    assert_eq!(world.go_on(&template), Err(Reason::BadCoinbase));

    // One that is on another tip is asked once more, and does not stand in the way.
    world.another().says_of_proposals = Some("inconclusive-not-best-prevblk");
    world.another().proposed.clear();
    let shown = world.shows(&raw[1..]);
    world.begin_and_show_ids(&shown, 2);
    world.hears_of_it();
    assert_eq!(world.another().proposed.len(), 2);
    assert_eq!(world.outcome("invalid"), 2);
}

#[test]
fn a_wrong_commitment_and_an_oversized_block_need_no_node_to_be_seen() {
    let raw = some(3);
    let mut world = World::new(&raw);
    let shown = world.shows(&raw);
    let honest = shown.template(&world.session, 0, FIRST);
    let mut recipe = world.session.recipe(&honest.job);
    recipe.commitment = Some([9; 32]);
    let template = honest.with(&recipe.build());
    assert_eq!(world.begin(&template), Ok(()));
    assert_eq!(shown.answer_next(&mut world.session), Ask::ShortIds);
    let line = world.hears_of_it();
    assert!(line.contains("does not commit to the witnesses"), "{line}");
    assert_eq!(world.go_on(&template), Err(Reason::BadCoinbase));

    let large: Vec<_> = (1..=3).map(|value| transaction(value, 340_000)).collect();
    let shown = world.shows(&large);
    let template = world.begin_and_show_ids(&shown, 1);
    assert_eq!(shown.answer_next(&mut world.session), Ask::All);
    let line = world.hears_of_it();
    assert!(line.contains("weight units"), "{line}");
    assert_eq!(world.go_on(&template), Err(Reason::BadCoinbase));
    assert!(world.node.state().proposed.is_empty());
    assert_eq!(world.outcome("invalid"), 2);
}

#[test]
fn a_coinbase_of_another_class_is_held_to_the_template_that_was_checked() {
    let raw = some(3);
    let mut world = World::new(&raw);
    let shown = world.shows(&raw);
    let template = world.begin_and_show_ids(&shown, 0);
    world.wait_for("valid", 1);
    let mut recipe = world.session.recipe(&template.job);
    for (class, commitment) in [(2, shown.commitment()), (3, [9; 32])] {
        recipe.commitment = Some(commitment);
        let mut other = template.with(&recipe.build());
        other.coinbase_id = class;
        let mut n = 1_000 * u32::from(class);
        let mut submit = |session: &mut Session| {
            n += 1;
            let mut share = other.draft(n).mine_below(BLOCK_POT);
            share.username = USERNAME.to_vec();
            session.submit(&Share {
                job: None,
                ..share.with_sections()
            })
        };
        if class == 2 {
            assert_eq!(submit(&mut world.session), Ok(()));
            assert_eq!(submit(&mut world.session), Ok(()));
        } else {
            // The shard hears of what was found a moment later.
            wait_until(
                || submit(&mut world.session) == Err(Reason::BadCoinbase),
                || "the coinbase is never held to its template".into(),
            );
        }
    }
    assert_eq!(world.go_on(&template), Ok(()), "what was checked counts on");
    assert_eq!(world.pool.metric("millrace_jobs_condemned_total", &["shard=\"0\""]), 0);
}

#[test]
fn a_condemned_template_and_a_suspicion_outlive_the_session() {
    let raw = some(6);
    let mut world = World::by(ODD, &raw);
    world.node.state().says_of_proposals = Some("bad-txns-inputs-missingorspent");
    let bad = world.shows(&raw[..3]);
    world.begin_and_show_ids(&bad, 0);
    world.hears_of_it();
    world.reconnect();
    // In another slot, and under the terms of another session.
    let again = bad.template(&world.session, 4, FIRST);
    assert_eq!(world.begin(&again), Err(Reason::BadCoinbase));
    assert_eq!(world.go_on(&again), Err(Reason::BadCoinbase));
    // Nobody looks at that again, and at each other one.
    world.node.state().says_of_proposals = None;
    for (count, slot) in (1..).zip([5, 6, 7]) {
        let good = world.shows(&raw[3 - usize::from(slot % 3)..]);
        let template = world.begin_and_show_ids(&good, slot);
        world.wait_for("valid", count);
        assert_eq!(world.go_on(&template), Ok(()));
    }
    assert_eq!(world.outcome("invalid"), 1);

    // Another gateway is not suspected, though its first is looked at.
    world.gateway = Gateway::new();
    world.reconnect();
    let good = world.shows(&raw[3..]);
    world.begin_and_show_ids(&good, 0);
    world.wait_for("valid", 4);
    let template = good.template(&world.session, 1, FIRST);
    assert_eq!((world.begin(&template), world.go_on(&template)), (Ok(()), Ok(())));
    assert_eq!(world.outcome("valid"), 4);
}

#[test]
fn a_verdict_that_comes_after_the_session_has_ended_is_one_on_the_next() {
    let raw = some(3);
    let mut world = World::new(&raw);
    world.node.state().says_of_proposals = Some("bad-txns-inputs-missingorspent");
    let bad = world.shows(&raw);
    let before = bad.template(&world.session, 0, FIRST);
    assert_eq!(world.begin(&before), Ok(()));
    // The answer is on its way when its session ends.
    assert_eq!(bad.answer_next(&mut world.session), Ask::ShortIds);
    world.reconnect();
    let again = bad.template(&world.session, 3, FIRST);
    // Counts, or is refused already.
    let _ = world.begin(&again);
    // Refused as soon as the node has said so, whichever session the question was asked in.
    wait_until(
        || world.go_on(&again) == Err(Reason::BadCoinbase),
        || "it is never refused".into(),
    );
}

#[test]
fn a_gateway_that_does_not_show_its_transactions_is_believed_twice() {
    let raw = some(5);
    let mut world = World::by(ODD, &raw);
    for (slot, lie) in [Lie::Missing, Lie::NoJob, Lie::Missing].into_iter().enumerate() {
        let mut shown = world.shows(&raw);
        let template = shown.template(&world.session, u8::try_from(slot).expect("few"), FIRST);
        shown.lie = lie;
        assert_eq!(world.begin(&template), Ok(()));
        // Each is looked at, since the one before it was not shown.
        assert_eq!(shown.answer_next(&mut world.session), Ask::ShortIds);
        if lie == Lie::Missing {
            assert_eq!(shown.answer_next(&mut world.session), Ask::All);
        }
        world.wait_for("mismatch", [1, 1, 2][slot]);
        world.wait_for("refused", [0, 1, 1][slot]);
        if slot == 2 {
            let line = world.hears("are not shown");
            assert!(line.contains("not those that the work commits to"), "{line}");
            assert_eq!(world.go_on(&template), Err(Reason::BadCoinbase));
        } else {
            assert_eq!(world.go_on(&template), Ok(()));
        }
    }
    assert_eq!(world.unshown(), 1);
    let refused = || world.pool.metric("millrace_bound_hits_total", &["bound=\"unshown\""]);
    assert_eq!(refused(), 1);
    assert!(
        world.pool.log().contains("does not show the transactions"),
        "{}",
        world.pool.log()
    );
    // From now on work counts once it is shown, and no share of it before.
    world.shows_at_last(&raw, 3);
    assert_eq!(world.pool.metric("millrace_jobs_condemned_total", &["shard=\"0\""]), 0);
}

#[test]
fn to_hang_up_or_to_have_too_many_is_to_show_nothing() {
    let raw = some(5);
    let mut world = World::by(ODD, &raw);
    // More than a gateway can name, so it cannot be blamed for the answer, but for the template.
    let many: Vec<_> = (1..=16_384).map(|value| transaction(value, 1)).collect();
    let mut shown = world.shows(&many);
    shown.lie = Lie::TooMany;
    world.begin_and_show_ids(&shown, 0);
    world.wait_for("too_large", 1);
    for count in 1..=2 {
        let template = world.shows(&raw).template(&world.session, 1, FIRST);
        assert_eq!(world.begin(&template), Ok(()));
        assert_eq!(world.session.question().1, Ask::ShortIds);
        world.reconnect();
        world.wait_for("session_ended", count);
    }
    wait_until(
        || world.unshown() == 1,
        || "it is never held against the gateway".into(),
    );
    world.shows_at_last(&raw, 2);
}

#[test]
fn where_an_alert_is_all_that_is_asked_for_work_counts_on() {
    let raw = some(5);
    let mut world = World::by("check_one_in = 0\nunshown = \"alert\"", &raw);
    for slot in 0..4 {
        let mut shown = world.shows(&raw);
        shown.lie = Lie::NoJob;
        let template = world.begin_and_show_ids(&shown, slot);
        world.wait_for("refused", u64::from(slot) + 1);
        assert_eq!(world.go_on(&template), Ok(()));
    }
    wait_until(|| world.unshown() == 1, || "nobody is alerted".into());
}

#[test]
fn slow_gateways_keep_no_others_from_being_checked() {
    /// More than are checked at the same time, and than answers of the greatest size find room.
    const SLOW: u8 = 24;
    const LONG: usize = 98_000;
    let raw = some(3);
    let mut world = World::new(&raw);
    let mut slow: Vec<_> = (0..SLOW)
        .map(|n| {
            let gateway = Gateway::new();
            let mut session = gateway.connect_from(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2 + n)), &world.pool);
            let template = Shown::new(&world.pool, &gateway, &raw).template(&session, 0, FIRST);
            let mut share = template.draft(u32::from(n) << 8).mine_below(BLOCK_POT);
            share.username = USERNAME.to_vec();
            assert_eq!(session.submit(&share.with_sections()), Ok(()));
            assert_eq!(session.question().1, Ask::ShortIds);
            // Half of them begin to answer, at great length.
            if n % 2 == 0 {
                session.push_raw(mining_header(LONG), &vec![0x5a; LONG]);
                session.cut_pushed(90_000);
                session.flush();
            }
            session
        })
        .collect();
    // An honest one, whose answer is large too, and then a bad one.
    let large: Vec<_> = (1..=4).map(|value| transaction(value, 100_000)).collect();
    let shown = world.shows(&large);
    let template = world.begin_and_show_ids(&shown, 0);
    assert_eq!(shown.answer_next(&mut world.session), Ask::All);
    world.wait_for("valid", 1);
    assert_eq!(world.go_on(&template), Ok(()));
    world.node.state().says_of_proposals = Some("bad-txns-inputs-missingorspent");
    let template = world.begin_and_show_ids(&world.shows(&raw), 1);
    world.hears_of_it();
    assert_eq!(world.go_on(&template), Err(Reason::BadCoinbase));
    assert_eq!(world.outcome("busy"), 0);
    slow.clear();
}

#[test]
fn an_answer_that_comes_a_byte_at_a_time_ends_its_session_and_keeps_nobody_waiting() {
    let raw = some(5);
    let mut world = World::new(&raw);
    let template = world.shows(&raw).template(&world.session, 0, FIRST);
    assert_eq!(world.begin(&template), Ok(()));
    assert_eq!(world.session.question().1, Ask::ShortIds);
    // While a question for short ids is open a frame may be as long as this.
    const LONG: usize = 98_000;
    world.session.push_raw(mining_header(LONG), &vec![0x5a; LONG]);
    world.session.cut_pushed(100);
    world.session.flush();

    let honest = Gateway::new();
    let mut session = honest.connect_from(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2)), &world.pool);
    let shown = Shown::new(&world.pool, &honest, &raw);
    let (began, mut answered) = (Instant::now(), 0);
    while world.pool.ends("frame_deadline") == 0 {
        assert!(began.elapsed() < PATIENCE, "it may go on for ever");
        world.session.line.write_unless_closed(&[0x5a]);
        let slot = u8::try_from(answered % 8).expect("a slot");
        let template = shown.template(&session, slot, FIRST);
        let mut share = template.draft(1_000 + answered).mine_below(BLOCK_POT);
        share.username = USERNAME.to_vec();
        assert_eq!(session.submit(&share.with_sections()), Ok(()));
        assert_eq!(shown.answer_next(&mut session), Ask::ShortIds);
        answered += 1;
        // The next is looked at where none is being checked.
        world.wait_for("valid", answered.into());
        std::thread::sleep(Duration::from_millis(250));
    }
    assert!(answered >= 3, "the other one was asked all the time");
}

#[test]
fn a_large_answer_that_comes_after_its_time_is_passed_over() {
    let mut world = World::new(&some(5));
    let template = world.shows(&some(5)).template(&world.session, 0, FIRST);
    assert_eq!(world.begin(&template), Ok(()));
    let (job, ask) = world.session.question();
    assert_eq!(ask, Ask::ShortIds);
    world.wait_for("late", 1);
    world.session.send(&FromGateway::Validation(ValidationAnswer::ShortIds {
        job,
        ids: &[[0x5a; 6]; 10_000],
        cross_check: Some(&CROSS_CHECK_START),
        padding: &[0; 9],
    }));
    wait_until(
        || world.pool.metric("millrace_validations_unasked_total", &[]) == 1,
        || "it is never heard".into(),
    );
    assert_eq!(world.go_on(&template), Ok(()));
    // And the next question is asked.
    let shown = world.shows(&some(5));
    world.begin_and_show_ids(&shown, 1);
    world.wait_for("valid", 1);
}

#[test]
fn no_node_and_another_tip_are_no_fault_of_the_gateway() {
    let raw = some(2);
    let mut world = World::new(&raw);
    let shown = world.shows(&raw);
    let template = shown.template(&world.session, 0, FIRST);
    world.node.state().says_of_proposals = Some("inconclusive-not-best-prevblk");
    assert_eq!(world.begin(&template), Ok(()));
    assert_eq!(shown.answer_next(&mut world.session), Ask::ShortIds);
    world.wait_for("undecided", 1);
    world.node.state().refuses = true;
    let template = world.begin_and_show_ids(&shown, 1);
    world.wait_for("no_node", 1);
    assert_eq!(world.go_on(&template), Ok(()));
    assert_eq!(world.pool.metric("millrace_jobs_condemned_total", &["shard=\"0\""]), 0);
}
