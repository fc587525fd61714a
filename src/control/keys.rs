//! The pool's long-term keys while it runs: reading them again, and who is on which.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use tokio::time::{MissedTickBehavior, interval};

use super::in_force::InForce;
use super::pool::Pool;
use crate::identity::{Identity, IdentityError, KeyRing, KeyTally};

/// Retired keys whose last sessions are still counted; past it the oldest are no longer shown.
const RETIRED_MAX: usize = 16;

/// How often it is looked whether the time of a retired key is up.
const LOOK_EVERY: Duration = Duration::from_secs(60);

/// What the control plane knows of the keys.
#[derive(Debug)]
pub struct KeyDesk(Mutex<State>);

#[derive(Debug)]
struct State {
    /// Reads the file again without a passphrase.
    identity: Identity,
    ring: Arc<KeyRing>,
    /// Keys that serve no more and still have sessions, the latest first.
    retired: Vec<Arc<KeyTally>>,
}

/// One key for people and their programs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct KeyCount {
    /// As gateways have it.
    pub pool_pubkey: String,
    /// `newest`, `former` or `retired`.
    pub state: &'static str,
    /// s since 1970; 0 where that is not known.
    pub added_s: u64,
    pub sessions: u64,
}

impl KeyDesk {
    #[must_use]
    pub fn new(identity: Identity, shards: usize) -> Self {
        let ring = Arc::new(KeyRing::new(&identity, shards));
        Self(Mutex::new(State {
            identity,
            ring,
            retired: Vec::new(),
        }))
    }

    /// The keys that serve.
    #[must_use]
    pub fn ring(&self) -> Arc<KeyRing> {
        self.state().ring.clone()
    }

    /// The keys as they are on disk now, for the shards. Where they cannot be read those of before serve on.
    ///
    /// # Errors
    /// See [`Identity::again`].
    pub fn reload(&self) -> Result<Arc<KeyRing>, IdentityError> {
        let mut state = self.state();
        let identity = state.identity.again()?;
        let ring = Arc::new(state.ring.renewed(&identity, Instant::now()));
        let gone = state.ring.iter().map(|key| key.tally());
        let gone = gone.filter(|tally| ring.find(&tally.public()).is_none()).cloned();
        let mut retired: Vec<_> = gone.chain(state.retired.iter().cloned()).collect();
        // One that serves again counts there.
        retired.retain(|tally| tally.sessions() > 0 && ring.find(&tally.public()).is_none());
        retired.truncate(RETIRED_MAX);
        *state = State {
            identity,
            ring: ring.clone(),
            retired,
        };
        Ok(ring)
    }

    /// The keys for the shards without retired ones whose time is up, where there are such: what is left of them is wiped
    /// when the last has dropped it.
    pub(super) fn forget_retired(&self, now: Instant) -> Option<Arc<KeyRing>> {
        let mut state = self.state();
        let ring = Arc::new(state.ring.without_old(now)?);
        state.ring = ring.clone();
        Some(ring)
    }

    /// Newest first; those that are retired last, as long as they have sessions.
    #[must_use]
    pub fn counts(&self) -> Vec<KeyCount> {
        let state = self.state();
        let newest = state.ring.newest().tally().public();
        let serving = state.ring.iter().map(|key| {
            let state = if key.tally().public() == newest {
                "newest"
            } else {
                "former"
            };
            (state, key.tally())
        });
        let retired = state.retired.iter().filter(|tally| tally.sessions() > 0);
        serving
            .chain(retired.map(|tally| ("retired", tally)))
            .map(|(state, tally)| KeyCount {
                pool_pubkey: tally.public().to_string(),
                state,
                added_s: tally.added_s(),
                sessions: tally.sessions(),
            })
            .collect()
    }

    /// One log line a key.
    pub fn log(&self) {
        for count in self.counts() {
            let KeyCount {
                pool_pubkey,
                state,
                sessions,
                ..
            } = count;
            tracing::info!(pool_pubkey, state, sessions, "key");
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Has shards forget retired keys in time, for as long as the runtime lives.
pub(super) async fn watch(pool: Arc<Pool>) {
    let Some(desk) = pool.keys.clone() else {
        return;
    };
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if desk.forget_retired(Instant::now()).is_some() {
            pool.put_in_force(InForce::Keys);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::identity::{Editor, KeyUse};
    use crate::wire::SecretKeys;

    #[test]
    fn a_retired_key_is_shown_while_it_has_sessions_and_a_bad_file_changes_nothing() {
        let folder = tempfile::tempdir().expect("a folder for the test");
        let unasked = || Err("nobody should ask".into());
        let identity = Identity::create(folder.path(), None, None).expect("keys");
        let first = identity.public();
        let desk = KeyDesk::new(identity, 1);
        let on_first = KeyUse::begin(desk.ring().newest().tally().clone(), 0);
        let edit = |change: &dyn Fn(&mut Editor)| {
            let mut editor = Editor::open(folder.path(), unasked).expect("nobody else");
            change(&mut editor);
            editor.save().expect("writable");
        };
        let shown = || -> Vec<_> { desk.counts().iter().map(|key| (key.state, key.sessions)).collect() };
        edit(&|editor| editor.add_newest(SecretKeys::from_seeds(&[1; 64])).expect("room"));
        assert_eq!(shown(), [("newest", 1)], "nobody has told it yet");
        desk.reload().expect("readable");
        let on_second = KeyUse::begin(desk.ring().newest().tally().clone(), 0);
        assert_eq!(shown(), [("newest", 1), ("former", 1)]);

        edit(&|editor| editor.retire(&first).expect("not the last"));
        desk.reload().expect("readable");
        desk.reload().expect("readable");
        assert_eq!(shown(), [("newest", 1), ("retired", 1)]);
        drop(on_first);
        assert_eq!(shown(), [("newest", 1)]);

        // Its HELLOs are known for a while, and then what is left of it goes.
        let now = Instant::now();
        assert_eq!(desk.ring().retired().count(), 1);
        assert!(desk.forget_retired(now).is_none());
        let ring = desk
            .forget_retired(now + crate::identity::RETIRED_KNOWN_FOR)
            .expect("its time is up");
        assert_eq!((ring.retired().count(), ring.iter().count()), (0, 1));
        assert_eq!(desk.ring().retired().count(), 0);

        std::fs::write(folder.path().join("identity"), "nothing").expect("writable");
        desk.reload().expect_err("damaged");
        assert_eq!(desk.ring().newest().tally().public(), on_second.public());
    }
}
