//! The chain for the rest of the pool: each new tip to the shards, to the books, and to the blocks of ours; its rivals to the first
//! two.

use std::sync::{Arc, mpsc as replies};
use std::time::Duration;

use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet, spawn_blocking};
use tokio::time::{Instant, timeout_at};

use super::pool::Pool;
use super::publisher::Publisher;
use crate::ledger::{CandidateRow, Found, Order, OrderDesk, Searched, step_back};
use crate::node::{
    AskGateway, BlockStore, Blocks, CLAIMS_MAX, ChainBlocks, Followed, Follower, Heard, Library, NewTip, Node, Say,
    Search, Templates, WATCHED_FOR, Word,
};
use crate::shard::{LARGE_ANSWER_DEADLINE_MS, Reply, ReplyTo, ShardCommand, TellClaim, Validate};
use crate::telemetry::{BlockTelemetry, ChainTask, Labelled, Telemetry};
use crate::work::{GatewayClaim, PARENTS_KNOWN, ValidateOutcome};

/// How long it rests before a shard whose inbox was full is offered a new chain again.
const OFFER_REST: Duration = Duration::from_millis(5);

/// So often is a shard told something that it may as well not hear: its inbox has been full for a second by then.
const SAYS_MAX: u32 = 200;

/// How often shares that wait are looked at while there is no new tip: a shard may have judged by the old one for a moment
/// longer, and none may wait for ever.
const JUDGE_EVERY: Duration = Duration::from_secs(1);

/// Blocks that the chain loses at once from which on something is wrong: so many confirmations are taken for final.
const DEEP_REORGANISATION: usize = 6;

/// What a gateway may take to answer, and what may pass before its shard has asked it.
const ASK_PATIENCE: Duration = Duration::from_millis(LARGE_ANSWER_DEADLINE_MS + 5_000);

/// How far what is done about templates stands back: not to the end, since gateways wait for what comes of their templates.
const TEMPLATES_NICE: i32 = 5;

/// A chain that nodes follow, and blocks that may still become part of it.
pub struct ChainSource {
    met: MetNodes,
    store: BlockStore,
    /// Of a former process, and not yet settled.
    open: Vec<CandidateRow>,
    /// Up to where the chain was searched for blocks of ours that no share announced; none where it never was.
    searched: Option<Searched>,
    tell_tips: watch::Sender<NewTip>,
    /// Bytes that the transactions of templates may take.
    transaction_bytes: usize,
    /// Candidates that are durable from now on.
    found: mpsc::UnboundedReceiver<CandidateRow>,
    claims: mpsc::Receiver<GatewayClaim>,
}

/// Nodes that can be used, and the tip that they have.
pub struct MetNodes {
    pub nodes: Vec<Arc<Node>>,
    pub follower: Follower,
    pub tip: NewTip,
}

/// What the rest of the pool tells of blocks and templates, on any thread.
pub struct ChainTold {
    pub found: Found,
    pub claim: TellClaim,
}

impl ChainSource {
    #[must_use]
    pub fn new(
        met: MetNodes,
        store: BlockStore,
        open: Vec<CandidateRow>,
        searched: Option<Searched>,
        transaction_bytes: usize,
    ) -> (Self, ChainTold) {
        let (tell_found, found) = mpsc::unbounded_channel();
        let (tell_claim, claims) = mpsc::channel(CLAIMS_MAX);
        let source = Self {
            tell_tips: watch::channel(met.tip.clone()).0,
            met,
            store,
            open,
            searched,
            transaction_bytes,
            found,
            claims,
        };
        // Where nobody listens the pool is stopping, and the next start reads blocks from the ledger.
        let told = ChainTold {
            found: Arc::new(move |row| drop(tell_found.send(row.clone()))),
            claim: Box::new(move |claim| tell_claim.try_send(claim).is_ok()),
        };
        (source, told)
    }

    /// The blocks of the chain, for the operator who names one.
    pub(super) fn blocks(&self, desk: &OrderDesk, telemetry: &Telemetry) -> ChainBlocks {
        let tips = self.tell_tips.subscribe();
        ChainBlocks::new(self.met.nodes.clone(), desk.clone(), tips, telemetry.blocks.clone())
    }
}

/// Runs for as long as the runtime does. Where it ends all the same, the tip stands still or blocks of ours stay with us; says why.
pub(super) async fn follow(source: ChainSource, pool: Arc<Pool>, desk: OrderDesk) -> String {
    let ChainSource {
        met: MetNodes {
            nodes,
            mut follower,
            tip: _,
        },
        store,
        open,
        searched,
        tell_tips: tell_others,
        transaction_bytes,
        found,
        claims,
    } = source;
    let tips = tell_others.subscribe();
    let for_blocks = runtime_for_blocks();
    let runs_blocks = for_blocks
        .as_ref()
        .map_or_else(Handle::current, |runtime| runtime.handle().clone());
    let library = Library::new(transaction_bytes, ask(pool.clone()), runs_blocks);
    let blocks = Blocks::new(
        nodes.clone(),
        desk.clone(),
        library.clone(),
        store,
        tips.clone(),
        found,
        pool.telemetry.blocks.clone(),
    );
    let tending = tend_aside(for_blocks, blocks.tend(open));
    let mut beside = Vec::new();
    if let Some(in_chain) = pool.chain.clone() {
        beside.push((ChainTask::Search, tokio::spawn(Search::new(in_chain, searched).run())));
    }
    let templates = Templates::new(
        nodes,
        library,
        tips,
        claims,
        say_to_shards(pool.clone()),
        pool.telemetry.templates.clone(),
    );
    let (rounds, checks) = templates.tasks();
    let behind = behind_others(tell_others.subscribe());
    beside.push((ChainTask::Mempool, behind.spawn(rounds)));
    beside.push((ChainTask::Templates, behind.spawn(checks)));
    let (say, said) = mpsc::channel(1);
    let following = tokio::spawn(async move { while say.send(follower.next().await).await.is_ok() {} });
    tokio::select! {
        why = loss(following, tending) => why,
        () = tell(&pool, &desk, &tell_others, said) => "nobody tells of it".to_owned(),
        () = note_failures(beside, &pool.telemetry.blocks) => "nothing of it is left".to_owned(),
    }
}

/// Tells everybody what the follower says, for as long as the runtime does.
async fn tell(pool: &Pool, desk: &OrderDesk, tell_others: &watch::Sender<NewTip>, mut said: mpsc::Receiver<Followed>) {
    let mut chain = tell_others.borrow().chain.clone();
    pool.telemetry.blocks.tip_height.set(tell_others.borrow().height.into());
    let mut publisher = Publisher::new(pool);
    let mut judge_at = Instant::now() + JUDGE_EVERY;
    loop {
        let until = match publisher.owes() {
            true => judge_at.min(Instant::now() + OFFER_REST),
            false => judge_at,
        };
        let tip = match timeout_at(until, said.recv()).await {
            Ok(Some(Followed::NewTip(tip))) => tip,
            Ok(Some(Followed::ByNode(node))) => {
                // Who was told of a tip asks this one from now on, and what the other did not answer once more.
                tell_others.send_modify(|tip| tip.node = node);
                continue;
            }
            Ok(Some(Followed::Rivals(with_rivals))) => {
                chain = with_rivals;
                publisher.publish(&chain, None);
                desk.judge_again(chain.clone());
                // For whoever looks a parent up; nobody has anything to do for it.
                tell_others.send_if_modified(|tip| {
                    tip.chain = chain.clone();
                    false
                });
                continue;
            }
            // Whoever looks after the follower knows why it has ended.
            Ok(None) => return std::future::pending().await,
            Err(_) => {
                publisher.offer_again();
                if Instant::now() < judge_at {
                    continue;
                }
                judge_at = Instant::now() + JUDGE_EVERY;
                if pool.telemetry.ledger.waiting.value() > 0 {
                    desk.judge_again(chain.clone());
                }
                continue;
            }
        };
        chain = tip.chain.clone();
        publisher.publish(&chain, Some(&tip));
        note_lost(&tip, &pool.telemetry.blocks);
        pool.telemetry.blocks.tip_height.set(tip.height.into());
        tracing::info!(
            height = tip.height,
            difficulty = tip.difficulty,
            new_block = tip.is_new_block,
            "the tip is another"
        );
        // Behind the shards, who judge by it from now on, but for one that has no room for it: what that takes for unknown is judged
        // again. The books ask for nothing back.
        desk.order(Order::Difficulty(tip.difficulty), replies::channel().0);
        desk.chain(tip.chain.clone());
        let _ = tell_others.send(tip);
    }
}

/// Waits until the chain is lost to the pool, since who follows it or who tends blocks of ours has failed; why.
async fn loss(following: JoinHandle<()>, tending: JoinHandle<()>) -> String {
    let (what, ended) = tokio::select! {
        ended = following => ("its follower has ended", ended),
        ended = tending => ("who tends blocks of ours has ended", ended),
    };
    match ended {
        Ok(()) => what.to_owned(),
        Err(error) => format!("{what}: {error}"),
    }
}

/// Says what of this has failed: the pool goes on without it. What ends by itself has nobody left to serve, since the pool stops.
/// Never ends.
async fn note_failures(tasks: Vec<(ChainTask, JoinHandle<()>)>, telemetry: &BlockTelemetry) {
    let mut ends = JoinSet::new();
    for (task, running) in tasks {
        ends.spawn(async move { (task, running.await) });
    }
    while let Some(Ok((task, ended))) = ends.join_next().await {
        let Err(error) = ended else {
            continue;
        };
        telemetry.tasks_failed[task].add(1);
        let without = match task {
            ChainTask::Block => "nobody looks at a block of ours",
            ChainTask::Search => "nobody looks for blocks of ours that no share announced",
            ChainTask::Mempool => "of each template all transactions are asked for",
            ChainTask::Templates => "no template is held against a node",
        };
        let task = task.label();
        tracing::error!(task, %error, "a task of the pool has failed: until a restart {without}");
    }
    std::future::pending().await
}

/// Where templates are checked, for as long as somebody follows the chain. What takes long of it, megabytes to be read, is done on
/// threads that step back for those that shares, tips and blocks wait for, where they have no core of their own.
fn behind_others(mut tips: watch::Receiver<NewTip>) -> Handle {
    let mut builder = Builder::new_current_thread();
    // Not its own thread: that does little, and holds locks for moments that shards and blocks take.
    builder.on_thread_start(|| step_back(TEMPLATES_NICE));
    let Some(runtime) = of_its_own(&mut builder, "templates are checked among all else") else {
        return Handle::current();
    };
    let handle = runtime.handle().clone();
    run_aside(runtime, async move { while tips.changed().await.is_ok() {} });
    handle
}

/// What tends blocks has a runtime of its own: a block goes out while metrics are written and templates come in.
fn runtime_for_blocks() -> Option<Runtime> {
    let mut builder = Builder::new_current_thread();
    of_its_own(&mut builder, "blocks of ours have no thread of their own")
}

/// Runs what tends blocks, on a thread of its own where it has a runtime.
fn tend_aside(runtime: Option<Runtime>, tending: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    match runtime {
        Some(runtime) => run_aside(runtime, tending),
        None => tokio::spawn(tending),
    }
}

/// A runtime; where there is none the log says what comes of it.
fn of_its_own(builder: &mut Builder, without: &'static str) -> Option<Runtime> {
    let made = builder.enable_all().build();
    made.inspect_err(|error| tracing::warn!(%error, "{without}")).ok()
}

/// Has the runtime run on a thread of its own until the future has ended. That is with `follow`, and the control plane's runtime
/// waits for it.
fn run_aside(runtime: Runtime, until: impl Future<Output = ()> + Send + 'static) -> JoinHandle<()> {
    spawn_blocking(move || {
        runtime.block_on(until);
        runtime.shutdown_background();
    })
}

/// A reorganisation is for people to see.
fn note_lost(tip: &NewTip, telemetry: &BlockTelemetry) {
    if tip.lost == Some(0) {
        return;
    }
    telemetry.reorganisations.add(1);
    let blocks = tip.lost.unwrap_or(PARENTS_KNOWN);
    let most = telemetry.reorganised_most.value().max(blocks as u64);
    telemetry.reorganised_most.set(most);
    match tip.lost {
        Some(blocks) if blocks < DEEP_REORGANISATION => {
            tracing::warn!(blocks, height = tip.height, "the chain has lost blocks for a new tip");
        }
        Some(blocks) => tracing::error!(
            blocks,
            height = tip.height,
            "a deep reorganisation: see whether the nodes are on the chain that they should be on"
        ),
        None => tracing::error!(
            more_than = PARENTS_KNOWN,
            watched = WATCHED_FOR,
            height = tip.height,
            "a reorganisation deeper than what is known of the chain: see whether the nodes are on the chain that they should be \
             on. Blocks of ours further below the tip than are watched stay in the books as they are; `control block HASH orphaned` \
             undoes one"
        ),
    }
}

/// Leaves a command with every shard, and some more times with those whose inbox is full.
async fn offer(pool: &Pool, command: &ShardCommand) {
    let mut left = pool.order(command);
    for _ in 0..SAYS_MAX {
        if left.is_empty() {
            return;
        }
        tokio::time::sleep(OFFER_REST).await;
        left = pool.order_these(command, left);
    }
}

/// Asks the one shard that has the gateway, by asking them all.
fn ask(pool: Arc<Pool>) -> AskGateway {
    Arc::new(move |gateway, job, ask, purpose| {
        let (tell, mut replies) = mpsc::unbounded_channel();
        let full = pool.order(&ShardCommand::Validate(Validate {
            gateway,
            job,
            ask,
            purpose,
            // One from each shard, and who asked may have given up.
            reply: ReplyTo::new(move |reply| drop(tell.send(reply))),
        }));
        Box::pin(async move {
            let deadline = Instant::now() + ASK_PATIENCE;
            loop {
                return Heard::Outcome(match timeout_at(deadline, replies.recv()).await {
                    Ok(Some(Reply::Outcome(ValidateOutcome::NoSession))) => continue,
                    Ok(Some(Reply::Outcome(outcome))) => outcome,
                    Ok(Some(Reply::Sealed(sealed))) => return Heard::Sealed(Box::new(move || sealed.open())),
                    Ok(None) if full.is_empty() => ValidateOutcome::NoSession,
                    // The gateway's may have been the one that had no room for the question, or takes none.
                    Ok(None) | Err(_) => ValidateOutcome::Busy,
                });
            }
        })
    })
}

/// Brings to the shards what is found out of templates, to one whose inbox is full as soon as there is room.
fn say_to_shards(pool: Arc<Pool>) -> Say {
    Box::new(move |word| {
        let command = match word {
            Word::Own(own) => ShardCommand::OwnTemplate(own),
            Word::Checked(checked) => ShardCommand::Checked(Box::new(checked)),
        };
        let pool = pool.clone();
        tokio::spawn(async move { offer(&pool, &command).await });
    })
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::sync::atomic::Ordering;

    use super::super::tests::StandIn;
    use super::*;
    use crate::node::fixtures;

    #[tokio::test]
    async fn a_shard_that_takes_nothing_keeps_a_tip_from_nobody_else() {
        let shards = StandIn::new(2);
        shards.full[0].store(true, Ordering::Relaxed);
        let pool = shards.pool();
        let (tell_others, mut others) = watch::channel(fixtures::tip());
        let desk = OrderDesk::unheard();
        let (say, said) = mpsc::channel(1);
        let telling = async {
            for heard_ns in 1..=3 {
                let tip = NewTip {
                    heard_ns,
                    ..fixtures::tip()
                };
                say.send(Followed::NewTip(tip)).await.expect("somebody listens");
                others.changed().await.expect("it is told");
                assert_eq!(others.borrow_and_update().heard_ns, heard_ns);
            }
        };
        tokio::select! {
            () = tell(&pool, &desk, &tell_others, said) => panic!("it goes on"),
            () = tokio::time::sleep(Duration::from_secs(60)) => panic!("somebody was kept from a tip"),
            () = telling => {}
        }
        let heard = shards.heard(|command| match command {
            ShardCommand::Chain(new) => Some(new.heard_ns),
            _ => None,
        });
        assert_eq!(heard, [vec![], vec![1, 2, 3]]);
    }

    #[tokio::test]
    async fn the_end_of_whoever_follows_or_tends_blocks_is_the_loss_of_the_chain() {
        let fails = || async { panic!("a block too many") };
        // On a thread of its own, as blocks are tended, and without.
        for runtime in [runtime_for_blocks(), None] {
            let why = loss(tokio::spawn(pending()), tend_aside(runtime, fails())).await;
            assert!(
                why.contains("tends blocks") && why.contains("a block too many"),
                "{why}"
            );
        }
        let why = loss(tokio::spawn(pending()), tend_aside(runtime_for_blocks(), async {})).await;
        assert!(why.contains("tends blocks"), "{why}");
        let why = loss(tokio::spawn(fails()), tokio::spawn(pending())).await;
        assert!(why.contains("follower") && why.contains("a block too many"), "{why}");
    }

    #[tokio::test]
    async fn the_failure_of_what_the_pool_can_go_on_without_is_counted() {
        let telemetry = BlockTelemetry::default();
        let tasks = vec![
            (ChainTask::Search, tokio::spawn(pending())),
            (
                ChainTask::Mempool,
                tokio::spawn(async { panic!("a transaction too many") }),
            ),
            (ChainTask::Templates, tokio::spawn(async {})),
        ];
        let failed = |task| telemetry.tasks_failed[task].value();
        let counted = async {
            while failed(ChainTask::Mempool) == 0 {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::select! {
            () = note_failures(tasks, &telemetry) => panic!("the pool goes on"),
            () = counted => {}
        }
        assert_eq!((failed(ChainTask::Search), failed(ChainTask::Templates)), (0, 0));
    }
}
