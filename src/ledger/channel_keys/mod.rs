//! Channel keys of gateways that may come back, on disk so that they can be wiped.
//!
//! What a database was told is in its log, in tables that were merged away, and in blocks that nobody has written over
//! since. So a channel key lies in the ledger sealed, under bytes of its own that lie beside it in a small file: a *place*.
//! Places are made and synced ahead of need, so sealing asks nothing of the disk, and a key is as durable as the row it
//! stands in. To wipe a key other bytes are written over its place; what the database still holds of it is noise then.

mod file;
mod seal;
mod wiper;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) use self::seal::{SEALED_LEN, SealedKey};

use self::file::PlaceFile;
use self::seal::Place;
use self::wiper::Wiper;
use super::error::LedgerError;
use crate::telemetry::LedgerTelemetry;
use crate::wire::ChannelKey;

/// Places of the file, 32 bytes each: keys that are kept at a time.
pub const CHANNEL_KEYS_MAX: u32 = 1 << 18;

/// Places that wait for a key. A burst of sessions takes them faster than the disk makes others.
const READY: usize = 1_024;

/// Places that are made at once, where there are fewer.
const MADE_AT_ONCE: u32 = 1_024;

/// While more keys than this are kept, those go whose session has ended and whose gateway never had a share accepted: the rest of the
/// places is for gateways that work.
const IDLE_UP_TO: usize = CHANNEL_KEYS_MAX as usize / 4 * 3;

/// Keys whose time is up, and as many of those, that go with one batch.
const DUE_AT_ONCE: usize = 1_024;

/// A key that still matters.
struct KeptAtRest {
    place: u32,
    /// For so long.
    left: Duration,
    is_idle: bool,
}

/// The file as a start finds it: which of its places hold a key that still matters is found out.
pub(super) struct ChannelKeysAtRest {
    file: PlaceFile,
    /// What lay in its places.
    found: Vec<Place>,
    /// Of those, the ones that are not to be wiped; by `prime_id`.
    kept: HashMap<u32, KeptAtRest>,
    used: HashSet<u32>,
    ready: Vec<Place>,
    made: u32,
}

impl ChannelKeysAtRest {
    /// Opens the file of a data folder, or makes it.
    ///
    /// # Errors
    /// Others may read it, it is another program's, or the system's own.
    pub fn open(data_dir: &Path) -> Result<Self, LedgerError> {
        let (file, found) = PlaceFile::open(&data_dir.join(file::NAME))?;
        Ok(Self {
            made: u32::try_from(found.len()).expect("no more are read than there may be"),
            file,
            found,
            kept: HashMap::new(),
            used: HashSet::new(),
            ready: Vec::new(),
        })
    }

    /// The key of a session, for `left` from now on. None: it was wiped, or the file is not the one that it was sealed with.
    pub fn read(&mut self, prime_id: u32, sealed: &SealedKey, left: Duration) -> Option<ChannelKey> {
        let place = self.found.get(sealed.place as usize)?;
        let key = place.open(prime_id, sealed)?;
        self.used.insert(sealed.place).then(|| {
            let kept = KeptAtRest {
                place: sealed.place,
                left,
                is_idle: false,
            };
            self.kept.insert(prime_id, kept);
            key
        })
    }

    /// The key of this session is of a gateway that never had a share accepted, as far as is known.
    pub fn note_idle(&mut self, prime_id: u32) {
        if let Some(kept) = self.kept.get_mut(&prime_id) {
            kept.is_idle = true;
        }
    }

    /// Seals a key that lay in the ledger as it is. None: there is no place left for it.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn seal(&mut self, prime_id: u32, key: &ChannelKey) -> Result<Option<SealedKey>, LedgerError> {
        if self.ready.is_empty() {
            let more = self.made..CHANNEL_KEYS_MAX.min(self.made + MADE_AT_ONCE);
            self.made = more.end;
            let made = self.file.renew(more)?;
            self.found.extend(made.iter().map(Place::again));
            self.ready = made;
        }
        Ok(self.ready.pop().map(|place| place.seal(prime_id, key)))
    }

    /// Writes over all places but those of keys that were read, and makes some ahead of need. What a former process was about
    /// to wipe is wiped now.
    ///
    /// # Errors
    /// The file cannot be written.
    pub fn wipe_others(&mut self) -> Result<(), LedgerError> {
        let least = u32::try_from(self.used.len() + READY).unwrap_or(CHANNEL_KEYS_MAX);
        self.made = self.made.max(least.min(CHANNEL_KEYS_MAX));
        let others = (0..self.made).filter(|number| !self.used.contains(number));
        self.ready = self.file.renew(others)?;
        self.found = Vec::new();
        Ok(())
    }

    /// Starts the thread that wipes; a session's key is kept for `resume_for` after its end.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn serve(self, resume_for: Duration, telemetry: Arc<LedgerTelemetry>) -> Result<ChannelKeys, LedgerError> {
        let now = Instant::now();
        let mut keys = ChannelKeys {
            ready: self.ready,
            made: self.made,
            on_their_way: 0,
            kept: HashMap::new(),
            due: BTreeSet::new(),
            idle: BTreeSet::new(),
            leaving: Vec::new(),
            resume_for,
            wiper: Wiper::start(self.file, telemetry.clone())?,
            telemetry,
        };
        for (prime_id, KeptAtRest { place, left, is_idle }) in self.kept {
            keys.kept.insert(prime_id, Kept { place, until: None });
            keys.end_at(prime_id, now + left.min(resume_for), !is_idle);
        }
        keys.count();
        Ok(keys)
    }
}

/// The keys that are kept now; the ledger's writer has it.
pub(super) struct ChannelKeys {
    ready: Vec<Place>,
    /// Places that there are, or will be when the thread has made them.
    made: u32,
    /// Of those, the ones that the thread has.
    on_their_way: usize,
    /// By `prime_id`.
    kept: HashMap<u32, Kept>,
    /// Those whose session has ended, by when they go.
    due: BTreeSet<(Instant, u32)>,
    /// Those of them whose gateways never had a share accepted.
    idle: BTreeSet<(Instant, u32)>,
    /// Places whose keys go with the batch that is being made.
    leaving: Vec<u32>,
    resume_for: Duration,
    wiper: Wiper,
    telemetry: Arc<LedgerTelemetry>,
}

struct Kept {
    place: u32,
    /// None while the session lives.
    until: Option<Instant>,
}

impl ChannelKeys {
    /// Seals the key of a session, in place of one that it has already. None: no place is ready, so that it will not outlive
    /// the process; that is counted.
    pub fn keep(&mut self, prime_id: u32, key: &ChannelKey) -> Option<SealedKey> {
        self.let_go(prime_id);
        let Some(place) = self.ready.pop() else {
            self.telemetry.channel_keys_not_kept.add(1);
            return None;
        };
        let sealed = place.seal(prime_id, key);
        let kept = Kept {
            place: sealed.place,
            until: None,
        };
        self.kept.insert(prime_id, kept);
        Some(sealed)
    }

    /// The same of a session that nobody has proved. Anybody can begin as many as the guards let through, so of the places that
    /// are ready, and of all that there may be, one half is left to those that are proved.
    pub fn keep_unproved(&mut self, prime_id: u32, key: &ChannelKey) -> Option<SealedKey> {
        let has_room = self.ready.len() > READY / 2 && self.kept.len() < CHANNEL_KEYS_MAX as usize / 2;
        has_room.then(|| self.keep(prime_id, key)).flatten()
    }

    /// Whether the key of this session is kept.
    pub fn holds(&self, prime_id: u32) -> bool {
        self.kept.contains_key(&prime_id)
    }

    /// The session has ended; `has_work`: a share of its gateway was ever accepted.
    pub fn end(&mut self, prime_id: u32, has_work: bool, now: Instant) {
        self.end_at(prime_id, now + self.resume_for, has_work);
    }

    fn end_at(&mut self, prime_id: u32, until: Instant, has_work: bool) {
        if let Some(kept) = self.kept.get_mut(&prime_id)
            && kept.until.is_none()
        {
            kept.until = Some(until);
            self.due.insert((until, prime_id));
            if !has_work {
                self.idle.insert((until, prime_id));
            }
        }
    }

    /// Its key is not needed any more: once the batch under way is durable its place is written over. False: none was kept.
    pub fn let_go(&mut self, prime_id: u32) -> bool {
        let Some(kept) = self.kept.remove(&prime_id) else {
            return false;
        };
        if let Some(until) = kept.until {
            self.due.remove(&(until, prime_id));
            self.idle.remove(&(until, prime_id));
        }
        self.leaving.push(kept.place);
        true
    }

    /// Sessions whose keys have had their time, and those whose keys give their places up, the oldest first; so many at once.
    pub fn due(&self, now: Instant) -> Vec<u32> {
        let due = self.due.iter().take_while(|(until, _)| *until <= now);
        let beyond = self.kept.len().saturating_sub(IDLE_UP_TO).min(DUE_AT_ONCE);
        let gone = due.take(DUE_AT_ONCE).chain(self.idle.iter().take(beyond));
        gone.map(|(_, prime_id)| *prime_id).collect()
    }

    /// The batch is durable: whose keys left with it, their places are wiped. Sees to it that others are ready.
    pub fn batch_is_durable(&mut self) {
        let fresh = self.wiper.take_fresh();
        self.on_their_way -= fresh.len();
        self.ready.extend(fresh);
        let mut order = std::mem::take(&mut self.leaving);
        if self.ready.len() + self.on_their_way + order.len() < READY {
            let more = self.made..CHANNEL_KEYS_MAX.min(self.made + MADE_AT_ONCE);
            self.made = more.end;
            order.extend(more);
        }
        if !order.is_empty() {
            self.on_their_way += order.len();
            self.wiper.renew(order);
        }
        self.count();
    }

    fn count(&self) {
        self.telemetry.channel_keys.set(self.kept.len() as u64);
    }
}

#[cfg(test)]
mod tests;
