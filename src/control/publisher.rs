//! The chain for the shards: each gets the latest there is. One whose inbox is full gets it as soon as there is room, since it must not
//! go on judging by an old one; nobody else waits for that.

use std::sync::Arc;

use super::pool::Pool;
use crate::ledger::monotonic_ns;
use crate::node::NewTip;
use crate::shard::{NewChain, ShardCommand};
use crate::work::Chain;

pub(super) struct Publisher<'a> {
    pool: &'a Pool,
    /// By shard, what it had no room for.
    owed: Vec<Option<NewChain>>,
}

impl<'a> Publisher<'a> {
    pub fn new(pool: &'a Pool) -> Self {
        Self {
            pool,
            owed: vec![None; pool.shards()],
        }
    }

    /// Leaves the chain with every shard that has room for it. `tip`: none where that is the same as before, and gateways have nothing
    /// to hear.
    pub fn publish(&mut self, chain: &Arc<Chain>, tip: Option<&NewTip>) {
        let new_block = tip.is_some_and(|tip| tip.is_new_block);
        let heard_ns = tip.map_or_else(monotonic_ns, |tip| tip.heard_ns);
        for shard in 0..self.owed.len() {
            let mut new = NewChain {
                chain: chain.clone(),
                new_block,
                heard_ns,
                left_ns: 0,
            };
            // A block that its gateways have not heard of they hear of with this.
            if let Some(owed) = self.owed[shard].take_if(|owed| owed.new_block && !new_block) {
                new.new_block = true;
                new.heard_ns = owed.heard_ns;
            }
            self.owed[shard] = self.leave(shard, new).err();
        }
    }

    /// Whether some shard has not got it yet.
    pub fn owes(&self) -> bool {
        self.owed.iter().any(Option::is_some)
    }

    /// Offers it once more to those.
    pub fn offer_again(&mut self) {
        for shard in 0..self.owed.len() {
            if let Some(owed) = self.owed[shard].take() {
                self.owed[shard] = self.leave(shard, owed).err();
            }
        }
    }

    fn leave(&self, shard: usize, mut new: NewChain) -> Result<(), NewChain> {
        new.left_ns = monotonic_ns();
        let left = self.pool.order_these(&ShardCommand::Chain(new.clone()), [shard]);
        left.is_empty().then_some(()).ok_or(new)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::Ordering;

    use super::super::tests::StandIn;
    use super::*;
    use crate::node::fixtures;

    fn tip(is_new_block: bool, heard_ns: u64) -> NewTip {
        NewTip {
            is_new_block,
            heard_ns,
            ..fixtures::tip()
        }
    }

    #[test]
    fn a_full_shard_keeps_no_other_from_a_tip_and_gets_the_latest_when_it_has_room() {
        let shards = StandIn::new(2);
        let pool = shards.pool();
        // Whether there is a new block, and when it was heard of.
        let left = || {
            shards.heard(|command| match command {
                ShardCommand::Chain(new) => Some((new.new_block, new.heard_ns)),
                _ => None,
            })
        };
        let mut publisher = Publisher::new(&pool);
        shards.full[0].store(true, Ordering::Relaxed);
        for (is_new_block, heard_ns) in [(true, 1), (true, 2), (false, 3)] {
            let tip = tip(is_new_block, heard_ns);
            publisher.publish(&tip.chain, Some(&tip));
        }
        publisher.publish(&tip(false, 0).chain, None);
        publisher.offer_again();
        let so_far = left();
        assert!(so_far[0].is_empty() && publisher.owes());
        assert_eq!(so_far[1][..3], [(true, 1), (true, 2), (false, 3)]);
        shards.full[0].store(false, Ordering::Relaxed);
        publisher.offer_again();
        assert!(!publisher.owes());
        assert_eq!(left(), [vec![(true, 2)], vec![]], "its gateways hear of the block");
        // That is all that it was owed.
        publisher.publish(&tip(false, 0).chain, Some(&tip(false, 5)));
        assert_eq!(left(), [vec![(false, 5)], vec![(false, 5)]]);
    }
}
