//! The chain for the rest of the pool: each new tip to the shards, to the books, and to the blocks of ours.

use std::sync::{Arc, mpsc as replies};
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::spawn_blocking;
use tokio::time::timeout;

use super::pool::Pool;
use crate::ledger::{CandidateRow, Order, OrderDesk, monotonic_ns};
use crate::node::{AskAll, BlockStore, Blocks, Follower, NewTip, Node};
use crate::shard::{ANSWER_DEADLINE_MS, Answer, Ask, NewChain, ShardCommand, Validate, ValidateOutcome};
use crate::wire::Transactions;

/// How long it rests before a shard whose inbox was full is offered a new chain again.
const OFFER_REST: Duration = Duration::from_millis(5);

/// How often shares that wait are looked at while there is no new tip: a shard may have judged by the old one for a moment
/// longer, and none may wait for ever.
const JUDGE_EVERY: Duration = Duration::from_secs(1);

/// What a gateway may take to answer, and what may pass before its shard has asked it.
const ASK_PATIENCE: Duration = Duration::from_millis(ANSWER_DEADLINE_MS + 5_000);

/// A chain that nodes follow, and blocks that may still become part of it.
pub struct ChainSource {
    pub nodes: Vec<Arc<Node>>,
    pub follower: Follower,
    /// What the pool was started with.
    pub tip: NewTip,
    pub store: BlockStore,
    /// Candidates that are durable from now on.
    pub found: mpsc::UnboundedReceiver<CandidateRow>,
    /// Of a former process, and not yet settled.
    pub open: Vec<CandidateRow>,
}

/// Runs for as long as the runtime does.
pub(super) async fn follow(source: ChainSource, pool: Arc<Pool>, desk: OrderDesk) {
    let ChainSource {
        nodes,
        mut follower,
        tip,
        store,
        found,
        open,
    } = source;
    let (tell_blocks, tips) = watch::channel(tip);
    let blocks = Blocks::new(
        nodes,
        desk.clone(),
        ask_all(pool.clone()),
        store,
        tips,
        found,
        pool.telemetry.blocks.clone(),
    );
    tokio::spawn(blocks.tend(open));
    let (say, mut said) = mpsc::channel(1);
    tokio::spawn(async move { while say.send(follower.next().await).await.is_ok() {} });
    let mut chain = tell_blocks.borrow().chain.clone();
    loop {
        let tip = match timeout(JUDGE_EVERY, said.recv()).await {
            Ok(Some(tip)) => tip,
            Ok(None) => return,
            Err(_) => {
                if pool.telemetry.ledger.waiting.value() > 0 {
                    desk.judge_again(chain.clone());
                }
                continue;
            }
        };
        chain = tip.chain.clone();
        publish(&pool, &tip).await;
        tracing::info!(
            height = tip.height,
            difficulty = tip.difficulty,
            new_block = tip.is_new_block,
            "the tip is another"
        );
        // Behind the shards, who judge by it from now on; the books ask for nothing back.
        desk.order(Order::Difficulty(tip.difficulty), replies::channel().0);
        desk.chain(tip.chain.clone());
        let _ = tell_blocks.send(tip);
    }
}

/// Leaves the chain with every shard. A shard whose inbox is full gets it as soon as there is room: it must not go on
/// judging by an old one.
async fn publish(pool: &Pool, tip: &NewTip) {
    let new = |left_ns| {
        ShardCommand::Chain(NewChain {
            chain: tip.chain.clone(),
            new_block: tip.is_new_block,
            heard_ns: tip.heard_ns,
            left_ns,
        })
    };
    let mut left = pool.order(&new(monotonic_ns()));
    while !left.is_empty() {
        tokio::time::sleep(OFFER_REST).await;
        left = pool.order_these(&new(monotonic_ns()), left);
    }
}

/// Asks the one shard that has the gateway, by asking them all.
fn ask_all(pool: Arc<Pool>) -> AskAll {
    Box::new(move |gateway, job| {
        let (reply, outcomes) = replies::channel();
        let full = pool.order(&ShardCommand::Validate(Validate {
            gateway,
            job,
            ask: Ask::All,
            reply,
        }));
        let answer = spawn_blocking(move || {
            let mut last = ValidateOutcome::NoSession;
            while let Ok(outcome) = outcomes.recv_timeout(ASK_PATIENCE) {
                last = outcome;
                if last != ValidateOutcome::NoSession {
                    break;
                }
            }
            last
        });
        Box::pin(async move {
            match answer.await {
                Ok(ValidateOutcome::Answered(Answer::Transactions(encoded))) => {
                    let transactions = Transactions::new(&encoded).map_err(|error| error.to_string())?;
                    Ok(transactions.iter().map(<[u8]>::to_vec).collect())
                }
                Ok(ValidateOutcome::NoSession) if !full.is_empty() => {
                    Err("the gateway's shard may have had no room for the question".to_owned())
                }
                Ok(ValidateOutcome::NoSession) => Err("the gateway that has them is not connected".to_owned()),
                Ok(outcome) => Err(format!("its gateway was asked: {outcome:?}")),
                Err(error) => Err(error.to_string()),
            }
        })
    })
}
