//! The keys that a running pool serves with, and who is on which.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{Identity, KEYS_MAX};
use crate::telemetry::Gauge;
use crate::wire::{Opener, PublicKeys, SecretKeys};

/// For how long a HELLO to a retired key is told from one to nobody's: gateways that have it come back every few seconds
/// until their operators have changed the setting.
pub const RETIRED_KNOWN_FOR: Duration = Duration::from_secs(86_400);

/// The keys of a pool at one moment, newest first; never empty. Shards get it as an immutable snapshot.
#[derive(Debug)]
pub struct KeyRing {
    keys: Vec<Arc<PoolKey>>,
    /// The latest first; with those that serve [`KEYS_MAX`] at most, which is what a HELLO may cost.
    retired: Vec<Arc<RetiredKey>>,
}

/// What is left of a key that was retired while the pool ran: none of it is on disk.
#[derive(Debug)]
pub struct RetiredKey {
    opener: Opener,
    public: PublicKeys,
    until: Instant,
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

    /// The keys as they are now; those that stay keep their counts, and those that are gone are known for a while.
    #[must_use]
    pub fn renewed(&self, identity: &Identity, now: Instant) -> Self {
        let shards = self.newest().tally.sessions.len();
        let fresh = Self::new(identity, shards);
        let mut ring = Self::made(identity, |public, _| {
            let known = self.find(&public).or_else(|| fresh.find(&public));
            known.expect("it was made of the same identity").tally.clone()
        });
        let gone = self.keys.iter().map(|key| {
            Arc::new(RetiredKey {
                opener: key.secret.opener(),
                public: key.tally.public,
                until: now + RETIRED_KNOWN_FOR,
            })
        });
        let retired = gone.chain(self.retired.iter().cloned());
        let retired = retired.filter(|key| now < key.until && ring.find(&key.public).is_none());
        ring.retired = retired.take(KEYS_MAX - ring.keys.len()).collect();
        ring
    }

    /// The same keys without the retired ones whose time is up; none where there is no such.
    #[must_use]
    pub fn without_old(&self, now: Instant) -> Option<Self> {
        let mut retired = self.retired.clone();
        retired.retain(|key| now < key.until);
        (retired.len() < self.retired.len()).then(|| Self {
            keys: self.keys.clone(),
            retired,
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

    /// Keys that serve no more, and whose gateways are known.
    pub fn retired(&self) -> impl Iterator<Item = &Opener> {
        self.retired.iter().map(|key| &key.opener)
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
            retired: Vec::new(),
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
