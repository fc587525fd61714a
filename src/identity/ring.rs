//! The keys that a running pool serves with, and who is on which.

use std::sync::Arc;

use super::Identity;
use crate::telemetry::Gauge;
use crate::wire::{PublicKeys, SecretKeys};

/// The keys of a pool at one moment, newest first; never empty. Shards get it as an immutable snapshot.
#[derive(Debug)]
pub struct KeyRing {
    keys: Vec<Arc<PoolKey>>,
}

/// One key that serves.
#[derive(Debug)]
pub struct PoolKey {
    secret: Arc<SecretKeys>,
    tally: Arc<KeyTally>,
}

/// Sessions whose gateways have one of the pool's keys. It outlives the key, for those that go on after it was retired.
#[derive(Debug)]
pub struct KeyTally {
    public: PublicKeys,
    added_s: u64,
    /// By shard, each written by it alone.
    sessions: Box<[Gauge]>,
}

/// One session on a key, for as long as it lives.
#[derive(Debug)]
pub struct KeyUse {
    tally: Arc<KeyTally>,
    shard: usize,
}

impl KeyRing {
    #[must_use]
    pub fn new(identity: &Identity, shards: usize) -> Self {
        Self::made(identity, |public, added_s| {
            Arc::new(KeyTally {
                public,
                added_s,
                sessions: (0..shards).map(|_| Gauge::default()).collect(),
            })
        })
    }

    /// The keys as they are now; those that stay keep their counts.
    #[must_use]
    pub fn renewed(&self, identity: &Identity) -> Self {
        let shards = self.newest().tally.sessions.len();
        let fresh = Self::new(identity, shards);
        Self::made(identity, |public, _| {
            let known = self.find(&public).or_else(|| fresh.find(&public));
            known.expect("it was made of the same identity").tally.clone()
        })
    }

    /// What gateways are to have.
    ///
    /// # Panics
    /// Never: an identity has a key.
    #[must_use]
    pub fn newest(&self) -> &Arc<PoolKey> {
        &self.keys[0]
    }

    /// Newest first.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<PoolKey>> {
        self.keys.iter()
    }

    #[must_use]
    pub fn find(&self, public: &PublicKeys) -> Option<&Arc<PoolKey>> {
        self.keys.iter().find(|key| key.tally.public == *public)
    }

    fn made(identity: &Identity, tally: impl Fn(PublicKeys, u64) -> Arc<KeyTally>) -> Self {
        let key = |entry: &super::Entry| {
            Arc::new(PoolKey {
                secret: entry.secret.clone(),
                tally: tally(entry.secret.public(), entry.added_s),
            })
        };
        Self {
            keys: identity.keys.iter().map(key).collect(),
        }
    }
}

impl PoolKey {
    #[must_use]
    pub fn secret(&self) -> &SecretKeys {
        &self.secret
    }

    #[must_use]
    pub fn tally(&self) -> &Arc<KeyTally> {
        &self.tally
    }
}

impl KeyTally {
    #[must_use]
    pub fn public(&self) -> PublicKeys {
        self.public
    }

    /// When it was added, s since 1970; 0 where that is not known.
    #[must_use]
    pub fn added_s(&self) -> u64 {
        self.added_s
    }

    /// For metrics and logs: the first 16 hex digits of what gateways have.
    #[must_use]
    pub fn name(&self) -> String {
        let mut name = self.public.to_string();
        name.truncate(16);
        name
    }

    /// Sessions now, of all shards.
    #[must_use]
    pub fn sessions(&self) -> u64 {
        self.sessions.iter().map(Gauge::value).sum()
    }
}

impl KeyUse {
    /// Called on the shard's own thread, as is the drop.
    #[must_use]
    pub fn begin(tally: Arc<KeyTally>, shard: usize) -> Self {
        let sessions = &tally.sessions[shard];
        sessions.set(sessions.value() + 1);
        Self { tally, shard }
    }

    #[must_use]
    pub fn public(&self) -> PublicKeys {
        self.tally.public
    }
}

impl Drop for KeyUse {
    fn drop(&mut self) {
        let sessions = &self.tally.sessions[self.shard];
        sessions.set(sessions.value() - 1);
    }
}
