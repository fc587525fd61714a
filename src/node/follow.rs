//! Follows the tip of the best chain that the nodes know, and says when it changes.

use std::sync::Arc;
use std::time::Duration;

use bitcoin::hex::FromHex;
use serde_json::json;
use tokio::sync::mpsc;

use super::claims::{Claim, Claims};
use super::rpc::{Header, RpcError, Shown, Template};
use super::tips::{Advanced, NextRules, Tips};
use super::{Node, zmq};
use crate::config::NodeChain;
use crate::ledger::{Searched, monotonic_ns, unix_ms};
use crate::work::{Chain, PARENTS_KNOWN, header_hash};

/// How often a node is asked where its ZMQ says nothing, or it has none.
const POLL: Duration = Duration::from_secs(1);

/// Headers fetched for a new tip at most. More than the blocks that a chain names only on testnets, where the target of a period of
/// 2,016 blocks may stand below some of the least difficulty.
const HEADERS_MAX: usize = PARENTS_KNOWN + 2_016;

/// Claims that may wait for the follower; there is one a node and poll.
const CLAIMS_MAX: usize = 64;

/// Another tip is followed from now on.
#[derive(Debug, Clone)]
pub struct NewTip {
    pub chain: Arc<Chain>,
    /// Not where the chain has gone back to a block that was the tip before.
    pub is_new_block: bool,
    /// Of blocks on it, in whole units of pot 0, at least the floor.
    pub difficulty: u64,
    /// Blocks that the chain lost for it; none for more than [`PARENTS_KNOWN`].
    pub lost: Option<usize>,
    /// The tip's height.
    pub height: u32,
    /// The node that knows it, by its place in the configuration.
    pub node: usize,
    /// When the pool heard of it, by [`monotonic_ns`].
    pub heard_ns: u64,
}

impl NewTip {
    /// The tip as the end of a search.
    #[must_use]
    pub fn searched(&self) -> Searched {
        let tip = self.chain.tip().expect("a node's chain has one");
        Searched {
            hash: tip.hash,
            height: self.height,
        }
    }
}

pub struct Follower {
    nodes: Vec<Arc<Node>>,
    target_shift: u32,
    difficulty_floor: u64,
    tips: Tips,
    claims: Claims,
    said: mpsc::Receiver<Said>,
}

/// What a look at a node came to.
struct Said {
    node: usize,
    claim: Option<Claim>,
    heard_ns: u64,
}

impl Follower {
    /// Looks at the nodes from now on. Needs the runtime.
    #[must_use]
    pub fn new(chain: &NodeChain, nodes: Vec<Arc<Node>>) -> Self {
        let (say, said) = mpsc::channel(CLAIMS_MAX);
        for (index, node) in nodes.iter().enumerate() {
            let changed = Arc::new(zmq::Stir::default());
            for endpoint in &node.zmq {
                tokio::spawn(zmq::listen(endpoint.clone(), changed.clone()));
            }
            tokio::spawn(watch(index, node.clone(), chain.name.as_str(), changed, say.clone()));
        }
        Self {
            claims: Claims::new(nodes.len()),
            nodes,
            target_shift: chain.target_shift,
            difficulty_floor: chain.difficulty_floor,
            tips: Tips::new(chain),
            said,
        }
    }

    /// Waits for the next tip.
    pub async fn next(&mut self) -> NewTip {
        loop {
            let Some(said) = self.said.recv().await else {
                // The tasks that say something live as long as the runtime.
                return std::future::pending().await;
            };
            let Some(claim) = self.claims.hear(said.node, said.claim) else {
                continue;
            };
            // Another node's may be the best now.
            let node = self.claims.who_has(&claim, said.node).unwrap_or(said.node);
            match self.advance(node, &claim).await {
                Ok(advanced) => {
                    self.claims.follow(claim);
                    return self.new_tip(node, advanced, said.heard_ns);
                }
                // It is claimed again, by the next look at the latest, and followed then.
                Err(error) => {
                    let rpc = self.nodes[node].rpc.address();
                    tracing::warn!(%rpc, tip = %claim.tip, %error, "a node does not tell of the tip that it claims");
                    self.claims.hear(node, None);
                }
            }
        }
    }

    async fn advance(&mut self, node: usize, claim: &Claim) -> Result<Advanced, RpcError> {
        let node = &self.nodes[node];
        let former = self.tips.tip();
        let mut headers = vec![node.header(&claim.tip).await?];
        while let Some(lowest) = headers.last()
            && let Some(previous) = lowest.previous
            && (headers.len() < PARENTS_KNOWN || headers.len() < HEADERS_MAX && !self.tips.is_low_enough(lowest))
            && !self.tips.has(&previous)
            && !self.tips.has(&claim.tip)
        {
            headers.push(node.header(&previous).await?);
        }
        let rules = match self.tips.needs_rules(&headers[0]) {
            true => Some(node.rules_on(&claim.tip).await?),
            false => None,
        };
        let mut advanced = self.tips.advance(&headers, rules, unix_ms() / 1_000);
        if advanced.lost.is_none()
            && let Some(former) = former
            && node.header(&former).await.is_ok_and(|header| header.confirmations >= 1)
        {
            // No reorganisation: nobody was asked for a long time.
            advanced.lost = Some(0);
        }
        Ok(advanced)
    }

    fn new_tip(&self, node: usize, advanced: Advanced, heard_ns: u64) -> NewTip {
        let chain = Arc::new(self.tips.chain());
        let tip = chain.tip().expect("a node's chain has one");
        NewTip {
            is_new_block: advanced.is_new_block,
            lost: advanced.lost,
            difficulty: tip.difficulty(self.target_shift).max(self.difficulty_floor),
            height: tip.next_height - 1,
            chain,
            node,
            heard_ns,
        }
    }
}

impl Node {
    /// # Errors
    /// The node has no such header, or no good answer.
    pub(super) async fn header(&self, hash: &Shown) -> Result<Header, RpcError> {
        let header: Header = self.rpc.call("getblockheader", &[(*hash).into()]).await?;
        if header.hash != *hash {
            return Err(RpcError::Nonsense(format!(
                "asked for the header {hash}, it gave {}",
                header.hash
            )));
        }
        Ok(header)
    }

    /// A whole block, raw.
    ///
    /// # Errors
    /// The node does not have it, or has pruned it, or gives no good answer.
    pub(super) async fn block(self: &Arc<Self>, hash: &Shown) -> Result<Vec<u8>, RpcError> {
        let hash = *hash;
        let read = move |raw: String| {
            let raw = Vec::from_hex(&raw).ok()?;
            let header = raw.first_chunk()?;
            (header_hash(header) == hash.0).then_some(raw)
        };
        let raw = self.call_aside("getblock", vec![hash.into(), json!(0)], read).await?;
        raw.ok_or_else(|| RpcError::Nonsense(format!("asked for the block {hash}, it gave something else")))
    }

    /// What the block after this tip must be.
    async fn rules_on(&self, tip: &Shown) -> Result<NextRules, RpcError> {
        let template: Template = self
            .rpc
            .call("getblocktemplate", &[json!({"rules": ["segwit", "signet"]})])
            .await?;
        if template.previous != *tip {
            // It has gone on: the next look brings that.
            return Err(RpcError::Nonsense(format!(
                "a template on {} where {tip} was its tip",
                template.previous
            )));
        }
        Ok(NextRules {
            nbits: template.bits.0,
            min_time: template.min_time,
        })
    }
}

/// Looks at one node when its ZMQ says so, and once a second, and says what it claims.
async fn watch(index: usize, node: Arc<Node>, chain: &'static str, changed: Arc<zmq::Stir>, say: mpsc::Sender<Said>) {
    let mut last: Option<Option<Claim>> = None;
    let mut heard_ns = monotonic_ns();
    loop {
        let looked = claim(&node, chain, last.flatten()).await;
        node.telemetry.up.set(u64::from(looked.is_ok()));
        if let Err(why) = &looked {
            node.telemetry.failures.add(1);
            if last.is_none_or(|last| last.is_some()) {
                tracing::warn!("a node is not well: {why}");
            }
        } else if last == Some(None) {
            tracing::info!(rpc = %node.rpc.address(), "a node is well again");
        }
        let claim = looked.ok();
        last = Some(claim);
        let said = Said {
            node: index,
            claim,
            heard_ns,
        };
        // Again and again, since the follower may have failed to follow it.
        if say.send(said).await.is_err() {
            return;
        }
        heard_ns = changed.wait(POLL).await;
    }
}

/// The tip that a node has; `last` where that is still it.
async fn claim(node: &Node, chain: &str, last: Option<Claim>) -> Result<Claim, String> {
    let info = node.look().await?;
    let rpc = node.rpc.address();
    if info.chain != chain {
        return Err(format!("{rpc}: it is on the chain `{}` now", info.chain));
    }
    node.telemetry.height.set(info.blocks.into());
    if let Some(last) = last.filter(|last| last.tip == info.best_block) {
        return Ok(last);
    }
    let header = node
        .header(&info.best_block)
        .await
        .map_err(|error| format!("{rpc}: its tip {} has no header: {error}", info.best_block))?;
    if header.confirmations < 1 {
        return Err(format!(
            "{rpc}: its tip {} is not in its own best chain",
            info.best_block
        ));
    }
    Ok(Claim {
        tip: info.best_block,
        work: header.chain_work,
    })
}
