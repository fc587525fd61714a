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
    use std::sync::Mutex;
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;
    use crate::ledger::HealthState;
    use crate::node::fixtures;
    use crate::shard::InboxFull;
    use crate::telemetry::Telemetry;

    /// What two shards were left, of which the first may be full: whether there is a new block, and when it was heard of.
    #[derive(Default)]
    struct World {
        is_full: AtomicBool,
        left: Mutex<[Vec<(bool, u64)>; 2]>,
    }

    impl World {
        fn pool(self: &Arc<Self>) -> Pool {
            let order = |shard: usize| -> super::super::pool::Order {
                let world = self.clone();
                Box::new(move |command| {
                    if shard == 0 && world.is_full.load(Ordering::Relaxed) {
                        return Err(InboxFull);
                    }
                    let ShardCommand::Chain(new) = command else {
                        panic!("nothing else is left");
                    };
                    world.left.lock().expect("no panic")[shard].push((new.new_block, new.heard_ns));
                    Ok(())
                })
            };
            let orders = vec![order(0), order(1)];
            Pool::of_parts(Telemetry::new(2), orders, Box::new(|| HealthState::Good))
        }

        fn left(&self) -> [Vec<(bool, u64)>; 2] {
            std::mem::take(&mut *self.left.lock().expect("no panic"))
        }
    }

    fn tip(is_new_block: bool, heard_ns: u64) -> NewTip {
        NewTip {
            is_new_block,
            heard_ns,
            ..fixtures::tip()
        }
    }

    #[test]
    fn a_full_shard_keeps_no_other_from_a_tip_and_gets_the_latest_when_it_has_room() {
        let world = Arc::new(World::default());
        let pool = world.pool();
        let mut publisher = Publisher::new(&pool);
        world.is_full.store(true, Ordering::Relaxed);
        for (is_new_block, heard_ns) in [(true, 1), (true, 2), (false, 3)] {
            let tip = tip(is_new_block, heard_ns);
            publisher.publish(&tip.chain, Some(&tip));
        }
        publisher.publish(&tip(false, 0).chain, None);
        publisher.offer_again();
        let [full, other] = world.left();
        assert!(full.is_empty() && publisher.owes());
        assert_eq!(other[..3], [(true, 1), (true, 2), (false, 3)]);
        world.is_full.store(false, Ordering::Relaxed);
        publisher.offer_again();
        assert!(!publisher.owes());
        assert_eq!(
            world.left(),
            [vec![(true, 2)], vec![]],
            "its gateways hear of the block"
        );
        // That is all that it was owed.
        publisher.publish(&tip(false, 0).chain, Some(&tip(false, 5)));
        assert_eq!(world.left(), [vec![(false, 5)], vec![(false, 5)]]);
    }
}
