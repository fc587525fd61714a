//! Nodes: the tip and the rules of the next block, and blocks of ours that must reach the network.
//!
//! Control plane: everything here runs on its runtime and answers in its own time. Shards get what they need as an
//! immutable [`crate::work::Chain`], anew with each tip.

mod blocks;
mod claims;
mod delivery;
mod fate;
#[cfg(test)]
pub(crate) mod fixtures;
mod follow;
mod rpc;
mod search;
mod store;
mod submission;
mod templates;
mod tips;
mod watch;
mod words;
mod zmq;

pub use self::blocks::Blocks;
pub use self::fate::WATCHED_FOR;
pub use self::follow::{Followed, Follower, NewTip};
pub use self::rpc::RpcError;
pub use self::search::{ChainBlocks, SEARCHED_BACK_MAX, Search};
pub use self::store::BlockStore;
pub use self::templates::{AskGateway, CLAIMS_MAX, Heard, Library, Say, Templates, Word};

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;
use thiserror::Error;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet, spawn_blocking};
use tokio::time::{Instant, sleep, timeout_at};

use self::rpc::{BlockchainInfo, Rpc};
use crate::config::{NodeChain, NodeConfig};
use crate::telemetry::NodeTelemetry;

/// How long a start waits for nodes that answer and are not ready: bitcoind that has just been started reads its blocks.
pub const START_PATIENCE: Duration = Duration::from_secs(30);

/// How long it rests between two questions.
const START_REST: Duration = Duration::from_secs(1);

/// Where one can be used, how long is waited for what others say: one of them may be on another chain.
const OTHERS_PATIENCE: Duration = Duration::from_secs(2);

/// One bitcoind, as the rest of this module asks it.
pub struct Node {
    rpc: Rpc,
    zmq: Vec<String>,
    telemetry: Arc<NodeTelemetry>,
}

/// Why a pool does not start with its nodes.
#[derive(Debug, Error)]
pub enum NodeError {
    #[error("the node at {rpc} is on the chain `{found}`, and chain.name is `{asked}`: correct one of them")]
    WrongChain {
        rpc: String,
        found: String,
        asked: &'static str,
    },
    #[error("no node can be used: {}", .0.join("; "))]
    NoneReady(Vec<String>),
}

impl Node {
    fn new(config: &NodeConfig, telemetry: Arc<NodeTelemetry>) -> Self {
        Self {
            rpc: Rpc::new(config.rpc, config.login.clone()),
            zmq: config.zmq.clone(),
            telemetry,
        }
    }

    /// What it says of itself, where it can be used; else why not, with a remedy.
    async fn look(&self) -> Result<BlockchainInfo, String> {
        let info: BlockchainInfo = self
            .rpc
            .call("getblockchaininfo", &[])
            .await
            .map_err(|error| format!("{}: {error}", self.rpc.address()))?;
        if info.initial_block_download {
            return Err(format!(
                "{}: still downloading the chain, {} of {} blocks; wait until it has caught up",
                self.rpc.address(),
                info.blocks,
                info.headers
            ));
        }
        Ok(info)
    }

    /// Calls, and does `then` with the answer, on a thread of its own: to read megabytes of JSON takes tens of ms.
    async fn call_aside<T, R>(
        self: &Arc<Self>,
        method: &'static str,
        params: Vec<Value>,
        then: impl FnOnce(T) -> R + Send + 'static,
    ) -> Result<R, RpcError>
    where
        T: serde::de::DeserializeOwned + Send + 'static,
        R: Send + 'static,
    {
        let (node, runtime) = (self.clone(), tokio::runtime::Handle::current());
        aside(move || runtime.block_on(node.rpc.call(method, &params)).map(then)).await
    }
}

/// Runs what takes long on a thread of its own.
async fn aside<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    done(spawn_blocking(work).await)
}

/// What came of a task that nobody aborts; its panic goes on.
fn done<T>(ended: Result<T, JoinError>) -> T {
    ended.unwrap_or_else(|error| std::panic::resume_unwind(error.into_panic()))
}

/// The nodes of a configuration, as soon as one says that it can be used. All are asked together, so that one that hangs keeps no
/// other from being used.
///
/// # Errors
/// One is on another chain; or none is ready within `patience`.
pub async fn connect(
    chain: &NodeChain,
    telemetry: &[Arc<NodeTelemetry>],
    patience: Duration,
) -> Result<Vec<Arc<Node>>, NodeError> {
    let configs = chain.nodes.iter().zip(telemetry);
    let nodes: Vec<Arc<Node>> = configs
        .map(|(config, telemetry)| Arc::new(Node::new(config, telemetry.clone())))
        .collect();
    let (tell, mut told) = mpsc::channel(nodes.len().max(1));
    // Who has not answered by the end is asked no more.
    let mut looks = JoinSet::new();
    for (index, node) in nodes.iter().cloned().enumerate() {
        let tell = tell.clone();
        looks.spawn(async move {
            loop {
                let looked = node.look().await;
                let is_well = looked.is_ok();
                if tell.send((index, looked)).await.is_err() || is_well {
                    return;
                }
                sleep(START_REST).await;
            }
        });
    }
    let mut until = Instant::now() + patience;
    let mut said = vec![None; nodes.len()];
    while let Ok(Some((index, looked))) = timeout_at(until, told.recv()).await {
        said[index] = Some(match looked {
            Ok(info) if info.chain != chain.name.as_str() => {
                return Err(NodeError::WrongChain {
                    rpc: nodes[index].rpc.address().to_string(),
                    found: info.chain,
                    asked: chain.name.as_str(),
                });
            }
            Ok(_) => {
                until = until.min(Instant::now() + OTHERS_PATIENCE);
                Ok(())
            }
            Err(why) => {
                tracing::warn!("a node cannot be used: {why}");
                Err(why)
            }
        });
        if said.iter().all(Option::is_some) && said.iter().flatten().any(Result::is_ok) {
            return Ok(nodes);
        }
    }
    if said.iter().flatten().any(Result::is_ok) {
        return Ok(nodes);
    }
    let wrong = said.into_iter().zip(&nodes).map(|(said, node)| match said {
        Some(Err(why)) => why,
        Some(Ok(())) | None => format!("{}: does not answer in time", node.rpc.address()),
    });
    Err(NodeError::NoneReady(wrong.collect()))
}

#[cfg(test)]
mod tests;
