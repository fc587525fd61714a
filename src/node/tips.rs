//! From headers to what shards judge by: the tip, the blocks below it, and tips that were. Pure.

use super::rpc::{Header, Shown};
use crate::config::{NodeChain, NodeChainName};
use crate::work::{Chain, PARENTS_KNOWN, Parent, TESTNET_LEAST_NBITS};

/// Blocks between two retargets.
const RETARGET_BLOCKS: u32 = 2_016;

/// Seconds without a block, by the blocks' own times, after which testnets let one of the least difficulty follow.
const TESTNET_PATIENCE_S: u32 = 20 * 60;

/// Blocks between two halvings on regtest; elsewhere it is mainnet's.
const REGTEST_HALVING_BLOCKS: u32 = 150;

/// What the pool knows of the chain.
#[derive(Debug, Clone)]
pub(super) struct Tips {
    name: NodeChainName,
    target_shift: u32,
    grace_s: u64,
    /// The best chain, the tip first.
    best: Vec<Parent>,
    /// Tips of nodes of as much work as the best chain's.
    rivals: Vec<Parent>,
    /// Blocks that a reorganisation left behind and rivals that are none any more, the latest first.
    left: Vec<Parent>,
}

/// What headers alone do not say of the block after one, at a retarget.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NextRules {
    pub nbits: u32,
    pub min_time: u32,
}

/// What a new tip does to the chain.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Advanced {
    /// Not one that the chain has come back to.
    pub is_new_block: bool,
    /// How many blocks the best chain has lost for it; none where it stands on no block that was known.
    pub lost: Option<usize>,
}

impl Tips {
    pub fn new(chain: &NodeChain) -> Self {
        Self {
            name: chain.name,
            target_shift: chain.target_shift,
            grace_s: chain.stale_grace_s,
            best: Vec::new(),
            rivals: Vec::new(),
            left: Vec::new(),
        }
    }

    /// Whether this block is in the best chain as known: headers need not be fetched below it.
    pub fn has(&self, hash: &Shown) -> bool {
        self.best.iter().any(|parent| parent.hash == hash.0)
    }

    pub fn tip(&self) -> Option<Shown> {
        self.best.first().map(|tip| Shown(tip.hash))
    }

    /// Whether the rules of the block after this one must be asked for.
    pub fn needs_rules(&self, header: &Header) -> bool {
        self.retargets_after(header.height)
    }

    /// Whether headers down to this one say all that is asked of the block after the first, where nothing below it is known. On
    /// testnets the real difficulty may stand some blocks below.
    pub fn is_low_enough(&self, lowest: &Header) -> bool {
        !self.hides_the_target(lowest)
    }

    /// A new tip. `headers`: from it down to the first whose parent the best chain has, or as far as was fetched; at least
    /// one. `rules`: of the block after the tip, where [`Self::needs_rules`].
    pub fn advance(&mut self, headers: &[Header], rules: Option<NextRules>, now_s: u64) -> Advanced {
        let tip = &headers[0];
        let is_new_block = !self.has(&tip.hash) && !self.left.iter().any(|parent| parent.hash == tip.hash.0);
        let good_until_s = now_s + self.grace_s;
        if let Some(former) = self.best.first_mut() {
            former.good_until_s = Some(good_until_s);
        }
        let mut rivals = std::mem::take(&mut self.rivals);
        for former in &mut rivals {
            former.good_until_s = Some(good_until_s);
        }
        let below = headers.last().and_then(|lowest| lowest.previous);
        // Where the tip itself is known, the chain has gone back to it.
        let known = self.best.iter().position(|parent| parent.hash == tip.hash.0);
        let fork = known.or_else(|| below.and_then(|below| self.best.iter().position(|parent| parent.hash == below.0)));
        let stay = match (known, fork) {
            (Some(at), _) => self.best.split_off(at + 1),
            (None, Some(at)) => self.best.split_off(at),
            (None, None) => Vec::new(),
        };
        let left = std::mem::take(&mut self.best);
        let mut new = self.parents_of(headers, rules, stay.first());
        for parent in new.iter_mut().skip(1) {
            // Blocks that came together with the tip were never one, but for a rival.
            let rival = rivals.iter().find(|rival| rival.hash == parent.hash);
            parent.good_until_s = rival.map_or(Some(0), |rival| rival.good_until_s);
        }
        let had_none = left.is_empty() && stay.is_empty();
        self.best = new.into_iter().chain(stay).take(PARENTS_KNOWN).collect();
        self.leave(rivals.into_iter().chain(left).collect());
        Advanced {
            is_new_block,
            lost: match (fork, had_none) {
                (Some(blocks), _) => Some(blocks),
                (None, true) => Some(0),
                (None, false) => None,
            },
        }
    }

    /// Whether this block is known as a rival of the tip.
    pub fn has_rival(&self, hash: &Shown) -> bool {
        self.rivals.iter().any(|rival| rival.hash == hash.0)
    }

    /// A rival of the tip: from now on shares on it count as on that. `headers`: from it down to one of which
    /// [`Self::is_low_enough`] holds or whose parent the best chain has; at least one. `rules`: of the block after it, where
    /// [`Self::needs_rules`]. No more are to be there than [`Self::keep_rivals`] is told of.
    pub fn add_rival(&mut self, headers: &[Header], rules: Option<NextRules>) {
        let hash = headers[0].hash.0;
        if self.has(&headers[0].hash) {
            return;
        }
        let below = headers.last().and_then(|lowest| lowest.previous);
        let below = below.and_then(|below| self.best.iter().find(|parent| parent.hash == below.0));
        let rival = self.parents_of(headers, rules, below)[0];
        self.left.retain(|parent| parent.hash != hash);
        self.rivals.retain(|parent| parent.hash != hash);
        self.rivals.push(Parent {
            is_in_chain: false,
            ..rival
        });
    }

    /// Those that are no rivals any more keep their grace. True: there were such.
    pub fn keep_rivals(&mut self, is_rival: impl Fn(&Shown) -> bool, now_s: u64) -> bool {
        let rivals = std::mem::take(&mut self.rivals).into_iter();
        let (rivals, mut left): (Vec<_>, Vec<_>) = rivals.partition(|rival| is_rival(&Shown(rival.hash)));
        self.rivals = rivals;
        for former in &mut left {
            former.good_until_s = Some(now_s + self.grace_s);
        }
        let is_less = !left.is_empty();
        self.leave(left);
        is_less
    }

    /// What shards judge by. Call once there is a tip.
    pub fn chain(&self) -> Chain {
        // Those beside the chain may be followed yet, and gateways stand on them: they come before old ones.
        let recent = PARENTS_KNOWN - self.rivals.len() - self.left.len();
        let best = self.best.iter().take(recent);
        let parents: Vec<Parent> = best.chain(&self.rivals).chain(&self.left).copied().collect();
        Chain::of_node(self.name.kind(), self.target_shift, &parents)
    }

    /// These come first of those that are left, as far as the best chain has them not.
    fn leave(&mut self, mut left: Vec<Parent>) {
        left.append(&mut self.left);
        left.retain(|parent| !self.best.iter().any(|known| known.hash == parent.hash));
        left.truncate(PARENTS_KNOWN / 2);
        for parent in &mut left {
            parent.is_in_chain = false;
        }
        self.left = left;
    }

    /// In the same order. `below`: the block that the lowest stands on, where that is known; `rules`: of the block after the first.
    fn parents_of(&self, headers: &[Header], rules: Option<NextRules>, below: Option<&Parent>) -> Vec<Parent> {
        // From the lowest up, since each may hang on the one below it.
        let mut parents: Vec<Parent> = Vec::with_capacity(headers.len());
        for (depth, header) in headers.iter().enumerate().rev() {
            let above = depth.checked_sub(1).map(|above| &headers[above]);
            let below = parents.last().or(below);
            parents.push(self.parent_of(header, above, below, rules.filter(|_| depth == 0)));
        }
        parents.reverse();
        parents
    }

    /// `above`: the block on it in the same chain; `below`: the one that it stands on, where that is known.
    fn parent_of(
        &self,
        header: &Header,
        above: Option<&Header>,
        below: Option<&Parent>,
        rules: Option<NextRules>,
    ) -> Parent {
        let next_height = header.height + 1;
        let retargets = self.retargets_after(header.height);
        let next_nbits = match (rules, above, below) {
            (Some(rules), ..) => rules.nbits,
            // A retarget is told by the first block that has it.
            (None, Some(above), _) if retargets => above.bits.0,
            (None, _, Some(below)) if self.hides_the_target(header) => below.next_nbits,
            (None, ..) => header.bits.0,
        };
        let may_be_easy = self.is_testnet() && !retargets;
        Parent {
            hash: header.hash.0,
            next_height,
            next_nbits,
            easy_after_s: may_be_easy.then(|| header.time.saturating_add(TESTNET_PATIENCE_S)),
            min_time: rules.map_or(header.median_time.saturating_add(1), |rules| rules.min_time),
            subsidy: match self.name {
                NodeChainName::Regtest => Chain::subsidy_halved(next_height, REGTEST_HALVING_BLOCKS),
                _ => Chain::subsidy(next_height),
            },
            good_until_s: None,
            is_in_chain: true,
        }
    }

    fn retargets_after(&self, height: u32) -> bool {
        self.name != NodeChainName::Regtest && (height + 1).is_multiple_of(RETARGET_BLOCKS)
    }

    /// Chains on which a block of the least difficulty may follow when none came for long.
    fn is_testnet(&self) -> bool {
        matches!(self.name, NodeChainName::Testnet3 | NodeChainName::Testnet4)
    }

    /// Whether a block came by that rule, so that the target of its period stands in one below it. The first of a period always
    /// has it.
    fn hides_the_target(&self, header: &Header) -> bool {
        self.is_testnet()
            && header.bits.0 == TESTNET_LEAST_NBITS
            && header.height > 0
            && !header.height.is_multiple_of(RETARGET_BLOCKS)
    }
}

#[cfg(test)]
mod tests;
