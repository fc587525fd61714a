//! What is in force on every shard: the latest keys, the latest policy. A shard that has no room when they change gets them as soon
//! as it has, so no change is lost on it.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::pool::{NOT_TAKEN_YET, OFFER_REST, Pool};
use crate::shard::ShardCommand;

#[derive(Debug, Clone, Copy)]
pub(super) enum InForce {
    Keys,
    Policy,
}

/// Shards that have still to hear of the latest.
#[derive(Debug, Default)]
pub(super) struct LeftOut {
    keys: Mutex<Offer>,
    policy: Mutex<Offer>,
}

#[derive(Debug, Default)]
struct Offer {
    /// By index.
    shards: Vec<usize>,
    /// A task goes on offering it to them.
    is_made: bool,
}

impl LeftOut {
    fn of(&self, what: InForce) -> MutexGuard<'_, Offer> {
        let offer = match what {
            InForce::Keys => &self.keys,
            InForce::Policy => &self.policy,
        };
        offer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pool {
    /// Leaves it with every shard, now or as soon as there is room. False: some had none.
    pub fn put_in_force(self: &Arc<Self>, what: InForce) -> bool {
        let Some(latest) = self.latest(what) else {
            return true;
        };
        let mut offer = self.left_out.of(what);
        offer.shards = self.order(&latest);
        let all_have_it = offer.shards.is_empty();
        if !all_have_it && !offer.is_made {
            offer.is_made = true;
            tokio::spawn(offer_until_taken(self.clone(), what));
        }
        all_have_it
    }

    /// The same, and waits until it is in force.
    ///
    /// # Errors
    /// Some shard has not taken it yet, and will.
    pub async fn bring_in_force(self: &Arc<Self>, what: InForce) -> Result<(), &'static str> {
        if !self.put_in_force(what) {
            return Err(NOT_TAKEN_YET);
        }
        self.all_is_taken().await
    }

    /// As it is now: an offer that was made before brings nothing older.
    fn latest(&self, what: InForce) -> Option<ShardCommand> {
        match what {
            InForce::Keys => self.keys.as_ref().map(|desk| ShardCommand::Keys(desk.ring())),
            InForce::Policy => self.policy.as_ref().map(|desk| ShardCommand::Policy(desk.policy())),
        }
    }
}

async fn offer_until_taken(pool: Arc<Pool>, what: InForce) {
    loop {
        tokio::time::sleep(OFFER_REST).await;
        let mut offer = pool.left_out.of(what);
        if let Some(latest) = pool.latest(what) {
            offer.shards = pool.order_these(&latest, std::mem::take(&mut offer.shards));
        }
        offer.is_made = !offer.shards.is_empty();
        if !offer.is_made {
            return;
        }
    }
}
