//! From headers to what shards judge by: the tip, the blocks below it, and tips that were. Pure.

use super::rpc::{Header, Shown};
use crate::config::{NodeChain, NodeChainName};
use crate::work::{Chain, PARENTS_KNOWN, Parent};

/// Blocks between two retargets.
const RETARGET_BLOCKS: u32 = 2_016;

/// Blocks between two halvings on regtest; elsewhere it is mainnet's.
const REGTEST_HALVING_BLOCKS: u32 = 150;

/// What the pool knows of the chain.
#[derive(Debug)]
pub(super) struct Tips {
    name: NodeChainName,
    target_shift: u32,
    grace_s: u64,
    /// The best chain, the tip first.
    best: Vec<Parent>,
    /// Blocks that a reorganisation left behind, the latest first.
    left: Vec<Parent>,
}

/// What headers alone do not say of the block after one: at a retarget, and on testnets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NextRules {
    pub nbits: u32,
    pub min_time: u32,
}

impl Tips {
    pub fn new(chain: &NodeChain) -> Self {
        Self {
            name: chain.name,
            target_shift: chain.target_shift,
            grace_s: chain.stale_grace_s,
            best: Vec::new(),
            left: Vec::new(),
        }
    }

    /// Whether this block is in the best chain as known: headers need not be fetched below it.
    pub fn has(&self, hash: &Shown) -> bool {
        self.best.iter().any(|parent| parent.hash == hash.0)
    }

    /// Whether the rules of the block after this one must be asked for.
    pub fn needs_rules(&self, header: &Header) -> bool {
        match self.name {
            NodeChainName::Regtest => false,
            NodeChainName::Testnet4 => true,
            NodeChainName::Main | NodeChainName::Signet => (header.height + 1).is_multiple_of(RETARGET_BLOCKS),
        }
    }

    /// A new tip. `headers`: from it down to the first whose parent the best chain has, or as far as was fetched; at least
    /// one. `rules`: of the block after the tip, where [`Self::needs_rules`]. True: it is a new block, and not one that the
    /// chain has come back to.
    pub fn advance(&mut self, headers: &[Header], rules: Option<NextRules>, now_s: u64) -> bool {
        let tip = &headers[0];
        let is_new = !self.has(&tip.hash) && !self.left.iter().any(|parent| parent.hash == tip.hash.0);
        let good_until_s = now_s + self.grace_s;
        if let Some(former) = self.best.first_mut() {
            former.good_until_s = Some(good_until_s);
        }
        let below = headers.last().and_then(|lowest| lowest.previous);
        // Where the tip itself is known, the chain has gone back to it.
        let stays_from = match self.best.iter().position(|parent| parent.hash == tip.hash.0) {
            Some(at) => Some(at + 1),
            None => below.and_then(|below| self.best.iter().position(|parent| parent.hash == below.0)),
        };
        let stay = match stays_from {
            Some(at) => self.best.split_off(at),
            None => Vec::new(),
        };
        let left = std::mem::take(&mut self.best);
        let new = headers.iter().enumerate().map(|(depth, header)| {
            let mut parent = self.parent_of(header, rules.filter(|_| depth == 0));
            // Blocks that came together with the tip were never one.
            parent.good_until_s = (depth > 0).then_some(0);
            parent
        });
        self.best = new.chain(stay).take(PARENTS_KNOWN).collect();
        let best = &self.best;
        let mut left: Vec<Parent> = left.into_iter().chain(std::mem::take(&mut self.left)).collect();
        left.retain(|parent| !best.iter().any(|known| known.hash == parent.hash));
        left.truncate(PARENTS_KNOWN / 2);
        self.left = left;
        is_new
    }

    /// What shards judge by. Call once there is a tip.
    pub fn chain(&self) -> Chain {
        // Those left behind may be followed again, and gateways may still stand on them: they come before old ones.
        let recent = PARENTS_KNOWN - self.left.len();
        let parents: Vec<Parent> = self.best.iter().take(recent).chain(&self.left).copied().collect();
        Chain::of_node(self.name.kind(), self.target_shift, &parents)
    }

    fn parent_of(&self, header: &Header, rules: Option<NextRules>) -> Parent {
        let next_height = header.height + 1;
        Parent {
            hash: header.hash.0,
            next_height,
            next_nbits: rules.map_or(header.bits.0, |rules| rules.nbits),
            min_time: rules.map_or(header.median_time.saturating_add(1), |rules| rules.min_time),
            subsidy: match self.name {
                NodeChainName::Regtest => Chain::subsidy_halved(next_height, REGTEST_HALVING_BLOCKS),
                _ => Chain::subsidy(next_height),
            },
            good_until_s: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rpc::{Bits, ChainWork};
    use super::*;
    use crate::config::TemplateRule;

    fn tips(name: NodeChainName) -> Tips {
        Tips::new(&NodeChain {
            name,
            target_shift: 0,
            stale_grace_s: 10,
            difficulty_floor: 1,
            nodes: Vec::new(),
            templates: TemplateRule {
                check_one_in: 0,
                transaction_bytes: 0,
            },
        })
    }

    fn header(hash: u8, height: u32, previous: u8) -> Header {
        Header {
            hash: Shown([hash; 32]),
            confirmations: 1,
            height,
            bits: Bits(0x1d00_ffff),
            median_time: 1_000,
            chain_work: ChainWork([0; 32]),
            previous: Some(Shown([previous; 32])),
        }
    }

    fn good_until(tips: &Tips, hash: u8) -> Option<Option<u64>> {
        tips.chain().parent(&[hash; 32]).map(|parent| parent.good_until_s)
    }

    #[test]
    fn a_new_block_gives_the_old_tip_its_grace() {
        let mut tips = tips(NodeChainName::Main);
        assert!(tips.advance(&[header(2, 101, 1), header(1, 100, 0)], None, 50));
        assert_eq!(
            tips.chain().tip().map(|tip| (tip.hash, tip.next_height)),
            Some(([2; 32], 102))
        );
        assert_eq!(good_until(&tips, 1), Some(Some(0)), "never a tip of ours");
        assert!(tips.advance(&[header(3, 102, 2)], None, 60));
        assert_eq!(good_until(&tips, 3), Some(None));
        assert_eq!(good_until(&tips, 2), Some(Some(70)));
        assert_eq!(good_until(&tips, 1), Some(Some(0)));
        assert_eq!(good_until(&tips, 9), None);
    }

    #[test]
    fn a_reorganisation_leaves_blocks_behind_and_may_come_back_to_them() {
        let mut tips = tips(NodeChainName::Main);
        tips.advance(&[header(1, 100, 0)], None, 0);
        tips.advance(&[header(2, 101, 1)], None, 10);
        // A longer branch from 1.
        assert!(tips.advance(&[header(13, 102, 12), header(12, 101, 1)], None, 20));
        assert_eq!(tips.chain().tip().map(|tip| tip.hash), Some([13; 32]));
        assert_eq!(good_until(&tips, 2), Some(Some(30)));
        assert!(!tips.has(&Shown([2; 32])) && tips.has(&Shown([1; 32])));
        // Back to the first branch, one block longer again.
        assert!(tips.advance(&[header(4, 103, 3), header(3, 102, 2), header(2, 101, 1)], None, 40));
        assert_eq!(good_until(&tips, 13), Some(Some(50)));
        assert_eq!(good_until(&tips, 2), Some(Some(0)));
        assert_eq!(tips.best.len(), 4);
        // The tip is taken back: what was below it is the tip again, which is no new block.
        assert!(!tips.advance(&[header(3, 102, 2)], None, 60));
        assert_eq!(good_until(&tips, 3), Some(None));
        assert_eq!(good_until(&tips, 4), Some(Some(70)));
        assert_eq!(tips.best.len(), 3);
        assert!(
            !tips.advance(&[header(4, 103, 3)], None, 80),
            "known, though left behind meanwhile"
        );
    }

    #[test]
    fn rules_are_those_of_the_node_where_headers_do_not_say_them() {
        let mut main = tips(NodeChainName::Main);
        assert!(main.needs_rules(&header(1, 2_015, 0)) && !main.needs_rules(&header(1, 2_016, 0)));
        let rules = NextRules {
            nbits: 0x1c00_ffff,
            min_time: 5_000,
        };
        main.advance(&[header(1, 2_015, 0)], Some(rules), 0);
        let tip = *main.chain().tip().expect("a tip");
        assert_eq!((tip.next_nbits, tip.min_time), (0x1c00_ffff, 5_000));
        main.advance(&[header(2, 2_016, 1)], None, 0);
        let tip = *main.chain().tip().expect("a tip");
        assert_eq!(
            (tip.next_nbits, tip.min_time, tip.subsidy),
            (0x1d00_ffff, 1_001, 5_000_000_000)
        );
        assert!(tips(NodeChainName::Testnet4).needs_rules(&header(1, 7, 0)));
        let mut regtest = tips(NodeChainName::Regtest);
        assert!(!regtest.needs_rules(&header(1, 2_015, 0)));
        regtest.advance(&[header(1, 149, 0)], None, 0);
        assert_eq!(regtest.chain().tip().map(|tip| tip.subsidy), Some(2_500_000_000));
    }

    #[test]
    fn what_is_kept_is_bounded() {
        let mut tips = tips(NodeChainName::Signet);
        for n in 0..600_u32 {
            let hash = |n: u32| {
                let mut hash = [0; 32];
                hash[..4].copy_from_slice(&n.to_le_bytes());
                Shown(hash)
            };
            let mut next = header(0, n, 0);
            next.hash = hash(n + 1);
            // Every third block replaces the one before it.
            next.previous = Some(hash(if n % 3 == 0 { n.saturating_sub(1) } else { n }));
            tips.advance(&[next], None, u64::from(n));
            assert!(tips.best.len() <= PARENTS_KNOWN && tips.left.len() <= PARENTS_KNOWN / 2);
        }
    }
}
