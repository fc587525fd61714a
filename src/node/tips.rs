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

    /// Whether headers down to this one say all, where nothing below it is known. On testnets the real difficulty may stand some
    /// blocks below.
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
        // From the lowest up, since each may hang on the one below it.
        let mut new: Vec<Parent> = Vec::with_capacity(headers.len());
        for (depth, header) in headers.iter().enumerate().rev() {
            let above = depth.checked_sub(1).map(|above| &headers[above]);
            let below = new.last().or(stay.first());
            let mut parent = self.parent_of(header, above, below, rules.filter(|_| depth == 0));
            // Blocks that came together with the tip were never one.
            parent.good_until_s = (depth > 0).then_some(0);
            new.push(parent);
        }
        let had_none = left.is_empty() && stay.is_empty();
        self.best = new.into_iter().rev().chain(stay).take(PARENTS_KNOWN).collect();
        let best = &self.best;
        let mut left: Vec<Parent> = left.into_iter().chain(std::mem::take(&mut self.left)).collect();
        left.retain(|parent| !best.iter().any(|known| known.hash == parent.hash));
        left.truncate(PARENTS_KNOWN / 2);
        for parent in &mut left {
            parent.is_in_chain = false;
        }
        self.left = left;
        Advanced {
            is_new_block,
            lost: match (fork, had_none) {
                (Some(blocks), _) => Some(blocks),
                (None, true) => Some(0),
                (None, false) => None,
            },
        }
    }

    /// What shards judge by. Call once there is a tip.
    pub fn chain(&self) -> Chain {
        // Those left behind may be followed again, and gateways may still stand on them: they come before old ones.
        let recent = PARENTS_KNOWN - self.left.len();
        let parents: Vec<Parent> = self.best.iter().take(recent).chain(&self.left).copied().collect();
        Chain::of_node(self.name.kind(), self.target_shift, &parents)
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
                refuses_unshown: true,
                transaction_bytes: 0,
            },
        })
    }

    const NEW: Advanced = losing(0);

    /// Of a new block for which the chain lost so many.
    const fn losing(blocks: usize) -> Advanced {
        Advanced {
            is_new_block: true,
            lost: Some(blocks),
        }
    }

    fn header(hash: u8, height: u32, previous: u8) -> Header {
        Header {
            hash: Shown([hash; 32]),
            confirmations: 1,
            height,
            bits: Bits(0x1c00_ffff),
            time: 1_500,
            median_time: 1_000,
            tx_count: 1,
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
        assert_eq!(tips.advance(&[header(2, 101, 1), header(1, 100, 0)], None, 50), NEW);
        assert_eq!(
            tips.chain().tip().map(|tip| (tip.hash, tip.next_height)),
            Some(([2; 32], 102))
        );
        assert_eq!(good_until(&tips, 1), Some(Some(0)), "never a tip of ours");
        assert_eq!(tips.advance(&[header(3, 102, 2)], None, 60), NEW);
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
        let branch = [header(13, 102, 12), header(12, 101, 1)];
        assert_eq!(tips.advance(&branch, None, 20), losing(1));
        assert_eq!(tips.chain().tip().map(|tip| tip.hash), Some([13; 32]));
        assert_eq!(good_until(&tips, 2), Some(Some(30)));
        assert!(!tips.has(&Shown([2; 32])) && tips.has(&Shown([1; 32])));
        // Back to the first branch, one block longer again.
        let longer = [header(4, 103, 3), header(3, 102, 2), header(2, 101, 1)];
        assert_eq!(tips.advance(&longer, None, 40), losing(2));
        assert_eq!(good_until(&tips, 13), Some(Some(50)));
        assert_eq!(good_until(&tips, 2), Some(Some(0)));
        let in_chain = |hash| tips.chain().has(&[hash; 32]);
        assert!(in_chain(2) && in_chain(4) && !in_chain(13) && !in_chain(12));
        assert_eq!(tips.best.len(), 4);
        // The tip is taken back: what was below it is the tip again, which is no new block.
        let back = Advanced {
            is_new_block: false,
            lost: Some(1),
        };
        assert_eq!(tips.advance(&[header(3, 102, 2)], None, 60), back);
        assert_eq!(good_until(&tips, 3), Some(None));
        assert_eq!(good_until(&tips, 4), Some(Some(70)));
        assert_eq!(tips.best.len(), 3);
        assert!(
            !tips.advance(&[header(4, 103, 3)], None, 80).is_new_block,
            "known, though left behind meanwhile"
        );
    }

    #[test]
    fn a_retarget_is_as_the_node_says() {
        let mut main = tips(NodeChainName::Main);
        assert!(main.needs_rules(&header(1, 2_015, 0)) && !main.needs_rules(&header(1, 2_016, 0)));
        let rules = NextRules {
            nbits: 0x1b00_ffff,
            min_time: 5_000,
        };
        main.advance(&[header(1, 2_015, 0)], Some(rules), 0);
        let tip = *main.chain().tip().expect("a tip");
        assert_eq!((tip.next_nbits, tip.min_time), (0x1b00_ffff, 5_000));
        main.advance(&[header(2, 2_016, 1)], None, 0);
        let tip = *main.chain().tip().expect("a tip");
        assert_eq!(
            (tip.next_nbits, tip.min_time, tip.subsidy, tip.easy_after_s),
            (0x1c00_ffff, 1_001, 5_000_000_000, None)
        );
        for name in [NodeChainName::Testnet3, NodeChainName::Testnet4, NodeChainName::Signet] {
            assert!(tips(name).needs_rules(&header(1, 2_015, 0)) && !tips(name).needs_rules(&header(1, 7, 0)));
        }
        let mut regtest = tips(NodeChainName::Regtest);
        assert!(!regtest.needs_rules(&header(1, 2_015, 0)));
        regtest.advance(&[header(1, 149, 0)], None, 0);
        assert_eq!(regtest.chain().tip().map(|tip| tip.subsidy), Some(2_500_000_000));
    }

    #[test]
    fn a_reorganisation_across_a_retarget_has_the_bits_of_its_own_branch() {
        let bits = |mut header: Header, bits| {
            header.bits = Bits(bits);
            header
        };
        let next = |tips: &Tips, hash: u8| tips.chain().parent(&[hash; 32]).map(|parent| parent.next_nbits);
        let rules = |nbits| Some(NextRules { nbits, min_time: 0 });
        let mut main = tips(NodeChainName::Main);
        main.advance(&[header(1, 2_014, 0)], None, 0);
        main.advance(&[header(2, 2_015, 1)], rules(0x1b00_aaaa), 0);
        main.advance(&[bits(header(3, 2_016, 2), 0x1b00_aaaa)], None, 0);
        assert_eq!(next(&main, 3), Some(0x1b00_aaaa));
        // Another last block of the period, with another time, so the next period has another target.
        let branch = [
            bits(header(14, 2_017, 13), 0x1b00_bbbb),
            bits(header(13, 2_016, 12), 0x1b00_bbbb),
            header(12, 2_015, 1),
        ];
        assert!(!main.needs_rules(&branch[0]));
        assert_eq!(main.advance(&branch, None, 0), losing(2));
        assert_eq!(next(&main, 14), Some(0x1b00_bbbb), "the tip's");
        assert_eq!(
            next(&main, 12),
            Some(0x1b00_bbbb),
            "told by the block on it, not by its own header"
        );
        assert_eq!(
            next(&main, 2),
            Some(0x1b00_aaaa),
            "gateways may be on the other branch yet"
        );
        // And back, to the last block of the period alone: the node is asked again.
        assert!(main.needs_rules(&header(2, 2_015, 1)));
        main.advance(&[header(2, 2_015, 1)], rules(0x1b00_aaaa), 0);
        assert_eq!(next(&main, 2), Some(0x1b00_aaaa));
        assert_eq!(main.chain().tip().map(|tip| tip.next_height), Some(2_016));
    }

    #[test]
    fn testnets_go_back_to_the_real_difficulty_after_a_block_of_the_least() {
        let least = |mut header: Header| {
            header.bits = Bits(TESTNET_LEAST_NBITS);
            header
        };
        let tip = |tips: &Tips| *tips.chain().tip().expect("a tip");
        for name in [NodeChainName::Testnet3, NodeChainName::Testnet4] {
            let mut test = tips(name);
            assert!(test.is_low_enough(&header(1, 100, 0)), "it says what the next has");
            assert!(!test.is_low_enough(&least(header(3, 102, 2))), "it hides that");
            assert!(
                test.is_low_enough(&least(header(1, 4_032, 0))),
                "the first of a period has it"
            );
            // A start in the midst of easy blocks: headers are fetched down to a real one.
            let headers = [least(header(3, 102, 2)), least(header(2, 101, 1)), header(1, 100, 0)];
            test.advance(&headers, None, 0);
            assert_eq!(
                (tip(&test).next_nbits, tip(&test).easy_after_s),
                (0x1c00_ffff, Some(1_500 + 1_200))
            );
            // Another easy one, alone: what is below it is known.
            test.advance(&[least(header(4, 103, 3))], None, 0);
            assert_eq!(tip(&test).next_nbits, 0x1c00_ffff);
            // A branch of easy ones from far below.
            test.advance(&[least(header(15, 104, 14)), least(header(14, 103, 2))], None, 0);
            assert_eq!(tip(&test).next_nbits, 0x1c00_ffff);
        }
        // At a retarget there is no such rule, and a first block that has the least gives it to its period.
        let mut test = tips(NodeChainName::Testnet3);
        let rules = NextRules {
            nbits: TESTNET_LEAST_NBITS,
            min_time: 0,
        };
        test.advance(&[header(1, 2_015, 0)], Some(rules), 0);
        assert_eq!(
            (tip(&test).next_nbits, tip(&test).easy_after_s),
            (TESTNET_LEAST_NBITS, None)
        );
        test.advance(&[least(header(2, 2_016, 1))], None, 0);
        test.advance(&[least(header(3, 2_017, 2))], None, 0);
        assert_eq!(tip(&test).next_nbits, TESTNET_LEAST_NBITS);
        // A signet has no such rule at all.
        let mut signet = tips(NodeChainName::Signet);
        signet.advance(&[least(header(3, 102, 2)), header(2, 101, 1)], None, 0);
        assert_eq!(
            (tip(&signet).next_nbits, tip(&signet).easy_after_s),
            (TESTNET_LEAST_NBITS, None)
        );
    }

    #[test]
    fn blocks_that_the_chain_loses_are_counted_as_far_as_they_are_known() {
        let hash = |branch: u8, n: u32| {
            let mut hash = [branch; 32];
            hash[..4].copy_from_slice(&n.to_le_bytes());
            Shown(hash)
        };
        let block = |branch, n: u32, on| {
            let mut next = header(0, n, 0);
            (next.hash, next.previous) = (hash(branch, n), Some(hash(on, n - 1)));
            next
        };
        let mut tips = tips(NodeChainName::Regtest);
        for n in 1..=200 {
            assert_eq!(tips.advance(&[block(1, n, 1)], None, 0), NEW);
        }
        for (branch, depth) in [(2, 10), (3, 120)] {
            // From `depth` below the tip, and one longer; then the first branch is one longer again.
            let from = 201 - depth;
            let other: Vec<Header> = (from..=201)
                .rev()
                .map(|n| block(branch, n, if n == from { 1 } else { branch }))
                .collect();
            assert_eq!(tips.advance(&other, None, 0), losing(depth as usize), "{depth}");
            let back: Vec<Header> = (from..=202).rev().map(|n| block(1, n, 1)).collect();
            assert_eq!(tips.advance(&back, None, 0), losing(depth as usize + 1));
            assert_eq!(tips.best.len(), PARENTS_KNOWN);
            // As it was before, for the next depth.
            let expected = Advanced {
                is_new_block: false,
                lost: Some(2),
            };
            assert_eq!(tips.advance(&[block(1, 200, 1)], None, 0), expected);
        }
        // One from below all that is known.
        let other: Vec<Header> = (60..=300).rev().map(|n| block(4, n, 4)).take(PARENTS_KNOWN).collect();
        let unknown = Advanced {
            is_new_block: true,
            lost: None,
        };
        assert_eq!(tips.advance(&other, None, 0), unknown);
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
