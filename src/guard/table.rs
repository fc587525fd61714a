//! The addresses that a shard knows: a fixed number of them, the one that has rested longest goes first.

use std::cell::Cell;
use std::collections::{HashMap, VecDeque};
use std::hash::BuildHasher;
use std::rc::Rc;

use siphasher::sip::SipHasher24;

use super::bucket::Bucket;
use super::limits::{Limits, Traffic};
use super::standing::Standing;
use super::subject::Subject;

/// Addresses looked at for one that may go. Each that may not goes to the back, so that the next look finds others.
const LOOKS: usize = 32;

/// An address is one that mines for so long after it was last said to: an uplink that is away for that time finds the pool as it was.
const MINED_FOR_MS: u64 = 3_600_000;

/// How often it is said of an address whose sessions go on mining.
const MINED_TOLD_MS: u64 = 900_000;

/// What is known of one address. Whoever holds it keeps it in the table: it rests while the table alone does.
#[derive(Debug)]
pub(super) struct Row {
    pub subject: Subject,
    pub meters: Cell<Meters>,
    /// Bytes of answers.
    pub answers: Cell<Bucket>,
    pub standing: Cell<Standing>,
    pub handshakes: Cell<u32>,
    pub sessions: Cell<u32>,
    /// When it was last said to mine.
    mined_ms: Cell<Option<u64>>,
    /// Its place in the order of rest.
    turn: Cell<u64>,
}

impl Row {
    /// A session of it mines. Whether that was last said so long ago that all shards should hear it again.
    pub fn mines(&self, now_ms: u64) -> bool {
        let is_news = self
            .since_mined_ms(now_ms)
            .is_none_or(|passed_ms| passed_ms >= MINED_TOLD_MS);
        if is_news {
            self.mined_ms.set(Some(now_ms));
        }
        is_news
    }

    /// Whether a session of it mines, or did until lately.
    pub fn has_mined(&self, now_ms: u64) -> bool {
        self.since_mined_ms(now_ms)
            .is_some_and(|passed_ms| passed_ms < MINED_FOR_MS)
    }

    fn since_mined_ms(&self, now_ms: u64) -> Option<u64> {
        Some(now_ms.saturating_sub(self.mined_ms.get()?))
    }
}

/// What has come from one address, or from all.
#[derive(Debug, Clone, Copy)]
pub(super) struct Meters {
    pub connections: Bucket,
    pub told: Bucket,
    pub early_bytes: Bucket,
    pub early_frames: Bucket,
    pub bytes: Bucket,
    pub frames: Bucket,
}

impl Meters {
    pub fn new(traffic: &Traffic, now_ms: u64) -> Self {
        Self {
            connections: Bucket::full(traffic.connections, now_ms),
            told: Bucket::full(traffic.told, now_ms),
            early_bytes: Bucket::full(traffic.early_bytes, now_ms),
            early_frames: Bucket::full(traffic.early_frames, now_ms),
            bytes: Bucket::full(traffic.bytes, now_ms),
            frames: Bucket::full(traffic.frames, now_ms),
        }
    }
}

#[derive(Debug)]
pub(super) struct Table {
    rows: HashMap<Subject, Rc<Row>, Keyed>,
    /// Subjects in the order in which they last came, each with its turn then. Older turns of one are void.
    order: VecDeque<(Subject, u64)>,
    turns: u64,
    capacity: usize,
}

impl Table {
    /// `secret` keys the hash: addresses are free to choose for who has an IPv6 network, and must not be aimed at one place.
    pub fn new(capacity: usize, secret: [u8; 16]) -> Self {
        Self {
            rows: HashMap::with_hasher(Keyed(secret)),
            order: VecDeque::new(),
            // Above that of a row which has not come yet.
            turns: 1,
            capacity: capacity.max(1),
        }
    }

    pub fn len(&self) -> usize {
        self.rows.len()
    }

    #[cfg(test)]
    pub fn find(&self, subject: Subject) -> Option<&Rc<Row>> {
        self.rows.get(&subject)
    }

    /// The row of an address, made where there is none; it has come just now. None where none of those that were looked at
    /// may go.
    pub fn touch(&mut self, subject: Subject, limits: &Limits, now_ms: u64) -> Option<Rc<Row>> {
        if !self.rows.contains_key(&subject) {
            if self.rows.len() >= self.capacity && !self.make_room(now_ms) {
                return None;
            }
            let row = Row {
                subject,
                meters: Cell::new(Meters::new(&limits.address, now_ms)),
                answers: Cell::new(Bucket::full(limits.answers, now_ms)),
                standing: Cell::new(Standing::good(&limits.bans, now_ms)),
                handshakes: Cell::new(0),
                sessions: Cell::new(0),
                mined_ms: Cell::new(None),
                turn: Cell::new(0),
            };
            self.rows.insert(subject, Rc::new(row));
        }
        let row = self.rows.get(&subject)?.clone();
        // Who came last stands last already: one address that comes again and again must not fill the order.
        if row.turn.get() != self.turns {
            self.queue(&row);
        }
        Some(row)
    }

    pub fn iter(&self) -> impl Iterator<Item = &Rc<Row>> {
        self.rows.values()
    }

    /// Forgets the address that has rested longest; one that is banned or has mined only where all that were looked at are such.
    fn make_room(&mut self, now_ms: u64) -> bool {
        let mut last_resort = None;
        let mut looks = 0;
        while looks < LOOKS {
            let Some((subject, turn)) = self.order.pop_front() else {
                break;
            };
            let Some(row) = self.rows.get(&subject).filter(|row| row.turn.get() == turn).cloned() else {
                continue;
            };
            looks += 1;
            // The table and this look hold it.
            let rests = Rc::strong_count(&row) == 2;
            let is_worth_knowing = row.standing.get().ban(now_ms).is_some() || row.has_mined(now_ms);
            if rests && !is_worth_knowing {
                self.rows.remove(&subject);
                return true;
            }
            if rests && last_resort.is_none() {
                last_resort = Some(subject);
            }
            self.queue(&row);
        }
        last_resort.is_some_and(|subject| self.rows.remove(&subject).is_some())
    }

    fn queue(&mut self, row: &Row) {
        self.turns += 1;
        row.turn.set(self.turns);
        self.order.push_back((row.subject, self.turns));
        if self.order.len() > 2 * self.capacity + LOOKS {
            let rows = &self.rows;
            self.order
                .retain(|(subject, turn)| rows.get(subject).is_some_and(|row| row.turn.get() == *turn));
        }
    }
}

/// Makes hashers under a secret.
#[derive(Debug)]
struct Keyed([u8; 16]);

impl BuildHasher for Keyed {
    type Hasher = SipHasher24;

    fn build_hasher(&self) -> SipHasher24 {
        SipHasher24::new_with_key(&self.0)
    }
}
