//! Follows the tip of the best chain that the nodes know, and its rivals, and says when these change.

use std::panic::resume_unwind;
use std::sync::Arc;
use std::time::Duration;

use bitcoin::hex::FromHex;
use serde_json::json;
use tokio::sync::mpsc;
use tokio::task::{JoinError, JoinSet};
use tokio::time::{Instant, timeout_at};

use super::claims::{Claim, Claims, Rival, STANDS_FOR, Word};
use super::rpc::{Header, RpcError, Shown, Template};
use super::tips::{Advanced, NextRules, Tips};
use super::watch::{Said, watch};
use super::{Node, zmq};
use crate::config::NodeChain;
use crate::ledger::{Searched, monotonic_ns, unix_ms};
use crate::work::{Chain, PARENTS_KNOWN, header_hash};

/// After how long a node that is being looked at counts as one that says nothing, until it answers: another is asked meanwhile.
/// No longer are the others kept waiting for all that there is to ask of a tip that a node claims.
pub(super) const SLOW_AFTER: Duration = Duration::from_secs(4);

/// How long a node that did not tell of the tip that it claims is not asked again about that: others are heard meanwhile. It claims the
/// tip once a second, and each time they might wait for [`SLOW_AFTER`].
const UNTOLD_REST: Duration = Duration::from_secs(4);

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
    /// The same tip, with other rivals.
    Rivals(Arc<Chain>),
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
    /// What is under way to be told of rivals, beside the following of tips; and by node whether it is being asked.
    rivals: JoinSet<ToldOfRival>,
    asked_of_rival: Vec<bool>,
    /// By node, the tip of which it has not told, and until when it is not asked again about that.
    rests: Vec<Option<(Shown, Instant)>>,
    /// Who asked last was not told of the rivals that there are by now.
    has_new_rivals: bool,
    /// The node that the last one who asked was told of.
    in_use: Option<usize>,
    /// The log was told that only nodes which lag are left.
    is_warned: bool,
}

/// What a node tells of a rival that it has as its tip.
struct ToldOfRival {
    node: usize,
    claim: Claim,
    told: Result<(Vec<Header>, Option<NextRules>), RpcError>,
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
            rivals: JoinSet::new(),
            asked_of_rival: vec![false; nodes.len()],
            rests: vec![None; nodes.len()],
            has_new_rivals: false,
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

    /// Waits for the next tip, or until it has other rivals, or another node is asked about it.
    ///
    /// # Panics
    /// Where what looks at a node has: nobody would hear of its tips any more.
    pub async fn next(&mut self) -> Followed {
        loop {
            if let Some(untold) = self.untold() {
                return untold;
            }
            tokio::select! {
                said = self.said.recv() => match said {
                    Some(said) => if let Some(tip) = self.hear(said).await {
                        return Followed::NewTip(tip);
                    },
                    // The runtime ends.
                    None => return std::future::pending().await,
                },
                // They go on for as long as there is a follower.
                Some(Err(ended)) = self.watches.join_next() => raise(ended),
                Some(told) = self.rivals.join_next() => match told {
                    Ok(told) => self.hear_of_rival(told),
                    Err(ended) => raise(ended),
                },
            }
        }
    }

    /// A node was looked at. Gives the tip that is followed from now on, where it is another.
    async fn hear(&mut self, said: Said) -> Option<NewTip> {
        let Said { node, look, heard_ns } = said;
        if let Some(head) = look.head
            && self.headers[node].first().is_none_or(|known| known.hash != head.hash)
        {
            self.headers[node] = vec![head];
        }
        let mut wanted = self.claims.hear(node, look.word, monotonic_ns());
        let mut followed = None;
        while let Some((claim, node)) = wanted {
            // Where no other is well there is nobody to keep waiting.
            if self.rests(node, &claim) && self.claims.others_are_well(node) {
                wanted = self.claims.hear(node, Word::Nothing, monotonic_ns());
                continue;
            }
            match self.advance(node, &claim).await {
                Ok(advanced) => {
                    self.note_given_up(&claim);
                    self.claims.follow(claim, node, monotonic_ns());
                    followed = Some((node, advanced));
                    break;
                }
                // It is claimed again, by the next look at the latest, and followed then. Until then the others are heard.
                Err(error) => {
                    self.note_untold(node, &claim, &error);
                    wanted = self.claims.hear(node, Word::Nothing, monotonic_ns());
                }
            }
        }
        self.meet_rivals();
        self.show();
        let (node, advanced) = followed?;
        // It comes with the node and the rivals.
        self.in_use = self.claims.in_use();
        self.has_new_rivals = false;
        Some(self.new_tip(node, advanced, heard_ns))
    }

    /// What has changed beside the tip since somebody was told.
    fn untold(&mut self) -> Option<Followed> {
        if std::mem::take(&mut self.has_new_rivals) {
            return Some(Followed::Rivals(Arc::new(self.tips.chain())));
        }
        let before = std::mem::replace(&mut self.in_use, self.claims.in_use());
        let node = self.in_use.filter(|_| before.is_some() && before != self.in_use)?;
        let rpc = self.nodes[node].rpc.address();
        tracing::info!(%rpc, "another node is asked about the tip from now on");
        Some(Followed::ByNode(node))
    }

    /// Lets go of rivals that are none any more, and has the nodes that have others tell of them: one of each at a time.
    fn meet_rivals(&mut self) {
        let rivals = self.claims.rivals();
        let is_rival = |hash: &Shown| rivals.iter().any(|rival| rival.claim.tip == *hash);
        self.has_new_rivals |= self.tips.keep_rivals(is_rival, unix_ms() / 1_000);
        for Rival { claim, node } in rivals {
            let is_known = self.tips.has_rival(&claim.tip) || self.tips.has(&claim.tip);
            let may_be_asked = |node: &usize| !is_known && !self.asked_of_rival[*node] && !self.rests(*node, &claim);
            let Some(node) = node.filter(may_be_asked) else {
                continue;
            };
            self.asked_of_rival[node] = true;
            let (asked, tips, mut headers) = (self.nodes[node].clone(), self.tips.clone(), self.headers[node].clone());
            self.rivals.spawn(async move {
                let told = fetch(&asked, &tips, &claim, &mut headers, 1);
                let told = timeout_at(Instant::now() + SLOW_AFTER, told).await;
                let told = told
                    .unwrap_or_else(|_| Err(not_in_time()))
                    .map(|rules| (headers, rules));
                ToldOfRival { node, claim, told }
            });
        }
    }

    /// Where its node did not tell of it, that is asked again after its next look.
    fn hear_of_rival(&mut self, told: ToldOfRival) {
        let ToldOfRival { node, claim, told } = told;
        self.asked_of_rival[node] = false;
        let is_rival = self.claims.rivals().iter().any(|rival| rival.claim == claim);
        match told {
            Ok((headers, rules)) if is_rival && !self.tips.has_rival(&claim.tip) => {
                self.tips.add_rival(&headers, rules);
                self.has_new_rivals = true;
                let rpc = self.nodes[node].rpc.address();
                tracing::info!(%rpc, rival = %claim.tip, "a node has another tip of as much work: shares on it count as well");
            }
            // The chain has gone on meanwhile.
            Ok(_) => {}
            Err(error) => self.note_untold(node, &claim, &error),
        }
    }

    /// Whether the node has just failed to tell of this tip.
    fn rests(&self, node: usize, claim: &Claim) -> bool {
        self.rests[node].is_some_and(|(tip, until)| tip == claim.tip && Instant::now() < until)
    }

    /// What it claims again meanwhile must not hold up what others say.
    fn note_untold(&mut self, node: usize, claim: &Claim, error: &RpcError) {
        self.rests[node] = Some((claim.tip, Instant::now() + UNTOLD_REST));
        let rpc = self.nodes[node].rpc.address();
        tracing::warn!(%rpc, tip = %claim.tip, %error, "a node does not tell of the tip that it claims");
    }

    /// Says who has the tip, and once that none has where only nodes are left that lag.
    fn show(&mut self) {
        for (index, node) in self.nodes.iter().enumerate() {
            node.telemetry.has_tip.set(u64::from(self.claims.has_tip(index)));
            node.telemetry.has_rival.set(u64::from(self.claims.has_rival(index)));
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
        let (asked, headers) = (&self.nodes[node], &mut self.headers[node]);
        // What comes of it before it fails, or is given up, is kept.
        let rules = timeout_at(until, fetch(asked, &self.tips, claim, headers, PARENTS_KNOWN)).await;
        let rules = rules.map_err(|_| not_in_time())??;
        let mut advanced = self.tips.advance(headers, rules, unix_ms() / 1_000);
        headers.truncate(1);
        if advanced.lost.is_none()
            && let Some(former) = former
            && let Ok(Ok(header)) = timeout_at(until, asked.header(&former)).await
            && header.confirmations >= 1
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

/// Fetches the headers that the chain of a node's tip lacks, `most` of them and more where the target of the next block stands below,
/// and the rules of the block after it where they must be asked for. `headers`: those that are there, from the tip down.
async fn fetch(
    node: &Arc<Node>,
    tips: &Tips,
    claim: &Claim,
    headers: &mut Vec<Header>,
    most: usize,
) -> Result<Option<NextRules>, RpcError> {
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
        && (headers.len() < most || headers.len() < HEADERS_MAX && !tips.is_low_enough(lowest))
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

fn not_in_time() -> RpcError {
    RpcError::Unreachable("it does not tell all of it in time".to_owned())
}

/// What runs beside the follower must not end by a panic.
fn raise(ended: JoinError) {
    if let Ok(panic) = ended.try_into_panic() {
        resume_unwind(panic);
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
    async fn rules_on(self: &Arc<Self>, tip: &Shown) -> Result<NextRules, RpcError> {
        let request = json!({"rules": ["segwit", "signet"]});
        let read = |template: Template| template;
        let template = self.call_aside("getblocktemplate", vec![request], read).await?;
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
