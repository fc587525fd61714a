//! Follows the tip of the best chain that the nodes know, and says when it changes.

use std::panic::resume_unwind;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::hex::FromHex;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};

use super::claims::{Claim, Claims, STANDS_FOR, Word};
use super::rpc::{Header, RpcError, Shown, Template};
use super::tips::{Advanced, NextRules, Tips};
use super::{Node, zmq};
use crate::config::NodeChain;
use crate::ledger::{Searched, monotonic_ns, unix_ms};
use crate::work::{Chain, PARENTS_KNOWN, header_hash};

/// How often a node is asked where its ZMQ says nothing, or it has none.
const POLL: Duration = Duration::from_secs(1);

/// After how long a node that is being looked at counts as one that says nothing, until it answers: another is asked meanwhile.
/// No longer are the others kept waiting for all that there is to ask of a tip that a node claims.
const SLOW_AFTER: Duration = Duration::from_secs(4);

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

/// What is followed from now on.
#[derive(Debug)]
pub enum Followed {
    NewTip(NewTip),
    /// The same tip, by this node: the one before has it no longer, or is not well.
    ByNode(usize),
}

pub struct Follower {
    nodes: Vec<Arc<Node>>,
    target_shift: u32,
    difficulty_floor: u64,
    tips: Tips,
    claims: Claims,
    /// By node: headers from the tip that it claimed last down as far as they were fetched, so that another try goes on with them.
    headers: Vec<Vec<Header>>,
    said: mpsc::Receiver<Said>,
    /// One a node.
    watches: JoinSet<()>,
    /// The node that the last one who asked was told of.
    in_use: Option<usize>,
    /// The log was told that only nodes which lag are left.
    is_warned: bool,
}

/// What a look at a node came to.
struct Said {
    node: usize,
    look: Look,
    heard_ns: u64,
}

struct Look {
    word: Word,
    /// Of the tip that it has, where that is another than before.
    head: Option<Header>,
}

impl Look {
    const NOTHING: Self = Self {
        word: Word::Nothing,
        head: None,
    };
}

impl Follower {
    /// Looks at the nodes from now on. Needs the runtime.
    #[must_use]
    pub fn new(chain: &NodeChain, nodes: Vec<Arc<Node>>) -> Self {
        let (say, said) = mpsc::channel(CLAIMS_MAX);
        let mut watches = JoinSet::new();
        for (index, node) in nodes.iter().enumerate() {
            let changed = Arc::new(zmq::Stir::default());
            node.telemetry.zmq.publishers.set(node.zmq.len() as u64);
            for endpoint in &node.zmq {
                tokio::spawn(zmq::listen(endpoint.clone(), changed.clone(), node.telemetry.clone()));
            }
            watches.spawn(watch(index, node.clone(), chain.name.as_str(), changed, say.clone()));
        }
        Self {
            claims: Claims::new(nodes.len()),
            headers: vec![Vec::new(); nodes.len()],
            nodes,
            target_shift: chain.target_shift,
            difficulty_floor: chain.difficulty_floor,
            tips: Tips::new(chain),
            said,
            watches,
            in_use: None,
            is_warned: false,
        }
    }

    /// Waits for the first tip.
    pub async fn first(&mut self) -> NewTip {
        loop {
            if let Followed::NewTip(tip) = self.next().await {
                return tip;
            }
        }
    }

    /// Waits for the next tip, or until another node is asked about the one that is followed.
    ///
    /// # Panics
    /// Where what looks at a node has: nobody would hear of its tips any more.
    pub async fn next(&mut self) -> Followed {
        loop {
            // They go on for as long as there is a follower.
            let said = tokio::select! {
                said = self.said.recv() => said,
                Some(Err(ended)) = self.watches.join_next() => match ended.try_into_panic() {
                    Ok(panic) => resume_unwind(panic),
                    Err(_) => None,
                },
            };
            let Some(Said { node, look, heard_ns }) = said else {
                // The runtime ends.
                return std::future::pending().await;
            };
            if let Some(head) = look.head
                && self.headers[node].first().is_none_or(|known| known.hash != head.hash)
            {
                self.headers[node] = vec![head];
            }
            let mut wanted = self.claims.hear(node, look.word, monotonic_ns());
            let mut new_tip = None;
            while let Some((claim, node)) = wanted {
                match self.advance(node, &claim).await {
                    Ok(advanced) => {
                        self.note_given_up(&claim);
                        self.claims.follow(claim, node, monotonic_ns());
                        new_tip = Some(self.new_tip(node, advanced, heard_ns));
                        break;
                    }
                    // It is claimed again, by the next look at the latest, and followed then. Until then the others are heard.
                    Err(error) => {
                        let rpc = self.nodes[node].rpc.address();
                        tracing::warn!(%rpc, tip = %claim.tip, %error, "a node does not tell of the tip that it claims");
                        wanted = self.claims.hear(node, Word::Nothing, monotonic_ns());
                    }
                }
            }
            self.show();
            let before = std::mem::replace(&mut self.in_use, self.claims.in_use());
            if let Some(tip) = new_tip {
                return Followed::NewTip(tip);
            }
            if let (Some(_), Some(node)) = (before, self.in_use.filter(|_| before != self.in_use)) {
                let rpc = self.nodes[node].rpc.address();
                tracing::info!(%rpc, "another node is asked about the tip from now on");
                return Followed::ByNode(node);
            }
        }
    }

    /// Says who has the tip, and once that none has where only nodes are left that lag.
    fn show(&mut self) {
        for (index, node) in self.nodes.iter().enumerate() {
            node.telemetry.has_tip.set(u64::from(self.claims.has_tip(index)));
            node.telemetry
                .in_use
                .set(u64::from(self.claims.in_use() == Some(index)));
        }
        let Some(followed) = self.claims.followed() else {
            return;
        };
        let lagging = self.claims.lagging();
        let is_confirmed = self.nodes.iter().any(|node| node.telemetry.has_tip.value() == 1);
        if !lagging.is_empty() && !self.is_warned {
            self.is_warned = true;
            let lagging: Vec<_> = lagging.iter().map(|node| self.nodes[*node].rpc.address()).collect();
            tracing::warn!(
                tip = %followed.tip,
                ?lagging,
                stands_for = ?STANDS_FOR,
                "no node that is well has the tip, and some have another of no more work: the tip stands, and work on it counts"
            );
        } else if is_confirmed && self.is_warned {
            self.is_warned = false;
            tracing::info!(tip = %followed.tip, "a node has the tip again");
        }
    }

    /// Where a chain of less work takes the place of a tip.
    fn note_given_up(&self, claim: &Claim) {
        if let Some(former) = self.claims.followed()
            && claim.work < former.work
        {
            tracing::warn!(
                given_up = %former.tip,
                tip = %claim.tip,
                "a chain of less work is followed: a node has left the tip for it, or none has had the tip for long"
            );
        }
    }

    /// Follows a tip that a node claims, as long as that does not keep the others waiting for long.
    async fn advance(&mut self, node: usize, claim: &Claim) -> Result<Advanced, RpcError> {
        let until = Instant::now() + SLOW_AFTER;
        let former = self.tips.tip();
        let rules = timeout_at(until, self.fetch(node, claim)).await;
        let rules = rules.map_err(|_| RpcError::Unreachable("it does not tell all of it in time".to_owned()))??;
        let headers = &mut self.headers[node];
        let mut advanced = self.tips.advance(headers, rules, unix_ms() / 1_000);
        headers.truncate(1);
        if advanced.lost.is_none()
            && let Some(former) = former
            && let Ok(Ok(header)) = timeout_at(until, self.nodes[node].header(&former)).await
            && header.confirmations >= 1
        {
            // No reorganisation: nobody was asked for a long time.
            advanced.lost = Some(0);
        }
        Ok(advanced)
    }

    /// Fetches the headers that the tip's chain lacks, and the rules of the block after it where they must be asked for. What
    /// came of it before it failed, or was given up, is kept.
    async fn fetch(&mut self, node: usize, claim: &Claim) -> Result<Option<NextRules>, RpcError> {
        let (headers, node, tips) = (&mut self.headers[node], &self.nodes[node], &self.tips);
        if headers.first().is_none_or(|head| head.hash != claim.tip) {
            *headers = vec![node.header(&claim.tip).await?];
        }
        let stands_on_known = |header: &Header| header.previous.is_some_and(|previous| tips.has(&previous));
        // Some of them may have become known by another node meanwhile.
        if let Some(lowest) = headers.iter().position(stands_on_known) {
            headers.truncate(lowest + 1);
        }
        while let Some(lowest) = headers.last()
            && let Some(previous) = lowest.previous
            && (headers.len() < PARENTS_KNOWN || headers.len() < HEADERS_MAX && !tips.is_low_enough(lowest))
            && !tips.has(&previous)
            && !tips.has(&claim.tip)
        {
            let header = node.header(&previous).await?;
            headers.push(header);
        }
        match tips.needs_rules(&headers[0]) {
            true => Ok(Some(node.rules_on(&claim.tip).await?)),
            false => Ok(None),
        }
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
    let mut last: Option<Claim> = None;
    let mut was_well = None;
    let mut heard_ns = monotonic_ns();
    loop {
        let mut looking = pin!(look(&node, chain, last));
        let looked = match timeout(SLOW_AFTER, &mut looking).await {
            Ok(looked) => looked,
            Err(_) => {
                let said = Said {
                    node: index,
                    look: Look::NOTHING,
                    heard_ns,
                };
                if say.send(said).await.is_err() {
                    return;
                }
                looking.await
            }
        };
        let is_well = looked.is_ok();
        node.telemetry.up.set(u64::from(is_well));
        let look = match looked {
            Ok(look) => {
                if was_well == Some(false) {
                    tracing::info!(rpc = %node.rpc.address(), "a node is well again");
                }
                look
            }
            Err(why) => {
                node.telemetry.failures.add(1);
                if was_well != Some(false) {
                    tracing::warn!("a node is not well: {why}");
                }
                Look::NOTHING
            }
        };
        was_well = Some(is_well);
        if last.is_some() && look.head.is_some() {
            changed.find_tip();
        }
        if let Word::Has(claim) | Word::Left { claim, .. } = look.word {
            last = Some(claim);
        }
        let said = Said {
            node: index,
            look,
            heard_ns,
        };
        // Again and again, since the follower may have failed to follow it.
        if say.send(said).await.is_err() {
            return;
        }
        heard_ns = changed.wait(POLL).await;
    }
}

/// The tip that a node has; `last`: that which it had when it was last well.
async fn look(node: &Node, chain: &str, last: Option<Claim>) -> Result<Look, String> {
    let info = node.look().await?;
    let rpc = node.rpc.address();
    if info.chain != chain {
        return Err(format!("{rpc}: it is on the chain `{}` now", info.chain));
    }
    node.telemetry.height.set(info.blocks.into());
    if let Some(last) = last.filter(|last| last.tip == info.best_block) {
        return Ok(Look {
            word: Word::Has(last),
            head: None,
        });
    }
    let head = node
        .header(&info.best_block)
        .await
        .map_err(|error| format!("{rpc}: its tip {} has no header: {error}", info.best_block))?;
    if head.confirmations < 1 {
        return Err(format!(
            "{rpc}: its tip {} is not in its own best chain",
            info.best_block
        ));
    }
    let claim = Claim {
        tip: info.best_block,
        work: head.chain_work,
    };
    let word = match last.filter(|last| claim.work <= last.work) {
        Some(last) if has_left(node, &last.tip).await? => Word::Left { tip: last.tip, claim },
        _ => Word::Has(claim),
    };
    Ok(Look { word, head: Some(head) })
}

/// Whether a node knows the tip that it had and is on another chain now. One that does not know it has lost what it had, to an
/// unclean end or an old copy, and lags until it has caught up.
async fn has_left(node: &Node, tip: &Shown) -> Result<bool, String> {
    match node.header(tip).await {
        Ok(header) => Ok(header.confirmations < 1),
        Err(error) if error.is_not_found() => Ok(false),
        Err(error) => Err(format!("{}: {error}", node.rpc.address())),
    }
}
