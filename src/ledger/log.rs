//! The end of the log, as the writer knows it: what comes next, who is numbered, what each payee did.

mod candidates;
mod sessions;

use std::collections::{HashMap, HashSet, VecDeque};

use rocksdb::{DB, IteratorMode, WriteBatch};

use super::books::{Event, What, Work};
use super::entry::{MinerRow, Searched, SessionRow, ShareEntry, SplitRow, WaitingEntry};
use super::error::{Damage, LedgerError};
use super::event_rows;
use super::kept::Kept;
use super::lasting::Lasting;
use super::messages::Batch;
use super::reader;
use super::record::{RECORD_LEN, ShareRecord};
use super::retention::Removal;
use super::rows::{self, Total};
use super::schema::{self, family, meta};
use super::share_log;
use super::waiting::{Judged, Waiting, WaitingRow};
use crate::work::Chain;

/// Shares of one chunk: one more insertion for so many is nothing, and a block of 64 KiB holds it.
const CHUNK_SHARES: usize = 1_024;

/// Shares by which the row of a payee's total may lag. A payee that works on costs one row in so many; a start counts
/// them again, 16 MiB of the log.
const TOTALS_LAG: u64 = 1 << 18;

/// Rows of totals that go along with one batch, beside one for each eight of its shares.
const TOTALS_PER_BATCH: usize = 32;

/// Held in memory: the payees and workers of all time, some 100 bytes each.
#[derive(Default)]
pub(super) struct Log {
    /// The sequence of the next share.
    pub sequence: u64,
    /// The number of the next event of the books.
    pub events: u64,
    /// Every `prime_id` up to this one was given.
    pub last_prime_id: u32,
    /// From where on shares are kept.
    pub kept: Kept,
    /// Shares that wait for their parent.
    pub waiting: Waiting,
    /// Sessions whose rows stay.
    pub lasting: Lasting,
    payees: HashMap<Box<[u8]>, u32>,
    workers: HashMap<(u32, Box<[u8]>), u32>,
    /// By payee.
    totals: Vec<Total>,
    /// Payees whose row on disk lags, with the first share it lacks; the oldest first.
    lagging: VecDeque<(u32, u64)>,
    /// By payee: whether it is among those.
    lags: Vec<bool>,
    /// By shard and by its numbers for usernames: payee and worker.
    miners: Vec<Vec<(u32, u32)>>,
}

impl Log {
    /// # Errors
    /// RocksDB's, or rows that cannot be what was written.
    pub fn load(db: &DB) -> Result<Self, LedgerError> {
        let mut log = Self {
            sequence: share_log::next_sequence(db)?,
            events: reader::next_event(db)?,
            last_prime_id: reader::last_prime_id(db)?,
            kept: Kept::read(db)?,
            waiting: Waiting::restored(reader::waiting(db).collect::<Result<Vec<_>, _>>()?),
            ..Self::default()
        };
        for row in numbered(db, schema::PAYEES) {
            let (id, row) = row?;
            log.payees.insert(rows::payee::decode(&row)?.into(), id);
            log.totals.push(Total::default());
            log.lags.push(false);
        }
        for row in numbered(db, schema::WORKERS) {
            let (id, row) = row?;
            let (payee, name) = rows::worker::decode(&row)?;
            log.workers.insert((payee, name.into()), id);
        }
        for row in db.iterator_cf(family(db, schema::TOTALS), IteratorMode::Start) {
            let (key, row) = row?;
            let id = number(schema::TOTALS, &key)?;
            let total = log.totals.get_mut(id as usize).ok_or(Damage::Value {
                what: schema::TOTALS,
                field: "payee",
            })?;
            *total = Total::decode(&row)?;
        }
        log.catch_up(db)?;
        Ok(log)
    }

    /// Counts the shares at the end of the log that the rows of totals lack.
    fn catch_up(&mut self, db: &DB) -> Result<(), LedgerError> {
        let from = reader::totals_from(db)?;
        if from < self.kept.from {
            // What they lack is nowhere else.
            return Err(Damage::Value {
                what: schema::TOTALS,
                field: "beginning before the shares that are kept",
            }
            .into());
        }
        for share in share_log::shares(db, from)? {
            let (sequence, share) = share?;
            let total = self.totals.get(share.payee as usize).ok_or(Damage::Unknown {
                sequence,
                what: "payee",
                id: share.payee,
            })?;
            if sequence >= total.as_of {
                self.count(share.payee, sequence, share.work());
            }
        }
        Ok(())
    }

    pub fn serve_shards(&mut self, shards: usize) {
        self.miners = vec![Vec::new(); shards];
    }

    /// Ids that no session was given yet.
    pub fn prime_ids_left(&self) -> u32 {
        u32::MAX - self.last_prime_id
    }

    pub fn payees(&self) -> usize {
        self.payees.len()
    }

    pub fn workers(&self) -> usize {
        self.workers.len()
    }

    /// What all payees did.
    pub fn total(&self) -> Total {
        self.totals.iter().fold(
            Total {
                as_of: self.sequence,
                ..Total::default()
            },
            |all, total| Total {
                shares: all.shares + total.shares,
                work: all.work + total.work,
                ..all
            },
        )
    }

    fn count(&mut self, payee: u32, sequence: u64, work: u128) {
        let at = payee as usize;
        self.totals[at].add(work);
        if !std::mem::replace(&mut self.lags[at], true) {
            self.lagging.push_back((payee, sequence));
        }
    }
}

/// What became of shares that waited.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct JudgedCount {
    pub good: u64,
    pub lost: u64,
}

/// One write batch while it is filled: the log's next step.
pub(super) struct Step<'a> {
    db: &'a DB,
    log: &'a mut Log,
    batch: WriteBatch,
    /// What the bookkeeper hears of, once it is durable.
    heard: Batch,
    chunk: &'a mut Vec<u8>,
    /// The sequence of the chunk's first share.
    first: u64,
    /// The sequence that the step began with.
    began: u64,
    /// Hashes of the candidates in the batch.
    candidates: Vec<[u8; 32]>,
    /// Sessions that begin with the batch, by `prime_id`.
    opened: HashMap<u32, SessionRow>,
    /// Sessions that are proven with it.
    proven: HashSet<u32>,
    /// Sessions whose rows go with it.
    removed: HashSet<u32>,
}

impl<'a> Step<'a> {
    /// `chunk` lends its memory.
    pub fn begin(db: &'a DB, log: &'a mut Log, chunk: &'a mut Vec<u8>) -> Self {
        chunk.clear();
        Self {
            first: log.sequence,
            began: log.sequence,
            db,
            log,
            batch: WriteBatch::default(),
            heard: Batch::default(),
            chunk,
            candidates: Vec::new(),
            opened: HashMap::new(),
            proven: HashSet::new(),
            removed: HashSet::new(),
        }
    }

    pub fn share(&mut self, shard: usize, entry: &ShareEntry) {
        let record = self.record(shard, entry);
        self.append(&record);
    }

    /// A share that is answered and stands in no window yet.
    pub fn waiting(&mut self, shard: usize, entry: &WaitingEntry) {
        let row = WaitingRow {
            record: self.record(shard, &entry.share),
            facts: entry.facts,
        };
        let number = self.log.waiting.push(row);
        self.batch
            .put_cf(family(self.db, schema::WAITING), number.to_be_bytes(), row.encode());
    }

    /// Shares that waited enter the log here where they count, and go where they never will.
    pub fn judge(&mut self, chain: &Chain, now_ms: u64) -> JudgedCount {
        let mut count = JudgedCount::default();
        for (number, row, judged) in self.log.waiting.judge(chain, now_ms) {
            self.batch
                .delete_cf(family(self.db, schema::WAITING), number.to_be_bytes());
            match judged {
                Judged::Good => {
                    self.append(&row.record);
                    count.good += 1;
                }
                Judged::Lost => count.lost += 1,
            }
        }
        self.heard.judged = true;
        count
    }

    fn record(&self, shard: usize, entry: &ShareEntry) -> ShareRecord {
        let (payee, worker) = self.log.miners[shard][entry.miner as usize];
        ShareRecord {
            pot: entry.pot,
            prime_id: entry.prime_id,
            payee,
            worker,
            hash64: entry.hash64,
            time_ms: entry.time_ms,
            parent: entry.parent,
        }
    }

    fn append(&mut self, record: &ShareRecord) {
        let payee = record.payee;
        record.encode(self.chunk);
        self.heard.shares.push(Work { payee, pot: record.pot });
        self.log.count(payee, self.log.sequence, record.work());
        self.log.sequence += 1;
        if self.chunk.len() == CHUNK_SHARES * RECORD_LEN {
            self.end_chunk();
        }
    }

    /// Numbers a payee and a worker where they are new, and notes whom the shard's own number means.
    pub fn miner(&mut self, shard: usize, local: u32, row: MinerRow) {
        let log = &mut *self.log;
        let next = u32::try_from(log.payees.len()).expect("payees are bounded far below 2^32");
        let payee = *log.payees.entry(row.script).or_insert_with_key(|script| {
            self.batch.put_cf(
                family(self.db, schema::PAYEES),
                next.to_be_bytes(),
                rows::payee::encode(script),
            );
            self.heard.payees.push((&**script).into());
            log.totals.push(Total::default());
            log.lags.push(false);
            next
        });
        let next = u32::try_from(log.workers.len()).expect("workers are bounded far below 2^32");
        let worker = *log
            .workers
            .entry((payee, row.worker))
            .or_insert_with_key(|(payee, name)| {
                let row = rows::worker::encode(*payee, name);
                self.batch
                    .put_cf(family(self.db, schema::WORKERS), next.to_be_bytes(), row);
                next
            });
        let miners = &mut log.miners[shard];
        // What came under a number before it was given to another is in the log by now: entries come in their order.
        match miners.get_mut(local as usize) {
            Some(forgotten) => *forgotten = (payee, worker),
            None => {
                let next = miners.len();
                assert_eq!(local as usize, next, "a shard numbers its usernames without a gap");
                miners.push((payee, worker));
            }
        }
    }

    /// So far the chain was searched.
    pub fn searched(&mut self, searched: &Searched) {
        self.batch.put(meta::SEARCHED, rows::searched::encode(searched));
        self.heard.noted = true;
    }

    pub fn event(&mut self, what: What, time_ms: u64) {
        let event = Event {
            sequence: self.log.sequence,
            time_ms,
            what,
        };
        let key = self.log.events.to_be_bytes();
        self.batch
            .put_cf(family(self.db, schema::EVENTS), key, event_rows::event::encode(&event));
        self.log.events += 1;
        self.heard.events.push(event);
    }

    /// Old shares become hourly work, and the log begins behind them.
    pub fn let_go(&mut self, removal: &Removal, time_ms: u64) {
        assert_eq!(
            removal.from, self.log.kept.from,
            "one step of them is under way at a time"
        );
        let hours = family(self.db, schema::HOURS);
        for row in &removal.rows {
            self.batch.put_cf(hours, row.key(), row.value());
        }
        let kept = Kept {
            from: removal.upto,
            log_end: self.log.sequence,
            work_gone: self.log.kept.work_gone + removal.work,
            time_ms,
        };
        self.batch.put(meta::KEPT, kept.encode());
        self.log.kept = kept;
        self.heard.kept = Some(kept);
    }

    /// Lets go of the splits that were dictated before a time, s since 1970: no job may use them, and nobody is told so, any
    /// more.
    pub fn forget_splits(&mut self, before_s: u64) {
        let splits = family(self.db, schema::SPLITS);
        self.batch
            .delete_range_cf(splits, 0_u64.to_be_bytes(), before_s.to_be_bytes());
    }

    pub fn split(&mut self, row: &SplitRow) {
        let key = event_rows::split::key(row);
        self.batch
            .put_cf(family(self.db, schema::SPLITS), key, event_rows::split::encode(row));
    }

    /// Adds the rows of totals that lag too far, and gives the batch, what the bookkeeper hears of it, and how many
    /// shares it holds.
    pub fn finish(mut self) -> (WriteBatch, Batch, u64) {
        let heard = std::mem::take(&mut self.heard);
        let shares = self.log.sequence - self.began;
        let most = TOTALS_PER_BATCH + usize::try_from(shares / 8).unwrap_or(usize::MAX);
        let upto = self.log.sequence.saturating_sub(TOTALS_LAG);
        let lagging = self.log.lagging.iter().take(most);
        let due = lagging.take_while(|(_, since)| *since < upto).count();
        (self.with_totals(due), heard, shares)
    }

    /// The same with all that lag: the last batch of a process leaves nothing to count again.
    pub fn finish_all(self) -> WriteBatch {
        let due = self.log.lagging.len();
        self.with_totals(due)
    }

    fn with_totals(mut self, due: usize) -> WriteBatch {
        self.end_chunk();
        for (payee, _) in self.log.lagging.drain(..due) {
            let total = &mut self.log.totals[payee as usize];
            total.as_of = self.log.sequence;
            self.log.lags[payee as usize] = false;
            self.batch
                .put_cf(family(self.db, schema::TOTALS), payee.to_be_bytes(), total.encode());
        }
        if due > 0 {
            let from = self.log.lagging.front().map_or(self.log.sequence, |(_, since)| *since);
            self.batch.put(meta::TOTALS_FROM, from.to_le_bytes());
        }
        self.batch
    }

    fn end_chunk(&mut self) {
        if !self.chunk.is_empty() {
            self.batch
                .put_cf(family(self.db, schema::SHARES), self.first.to_be_bytes(), &*self.chunk);
            self.chunk.clear();
        }
        self.first = self.log.sequence;
    }
}

/// The rows of a family that is numbered from 0 without a gap.
pub(super) fn numbered(db: &DB, name: &'static str) -> impl Iterator<Item = Result<(u32, Box<[u8]>), LedgerError>> {
    let rows = db.iterator_cf(family(db, name), IteratorMode::Start);
    rows.zip(0_u32..).map(move |(row, expected)| {
        let (key, row) = row?;
        let found = number(name, &key)?;
        if found != expected {
            return Err(Damage::Numbering {
                what: name,
                expected,
                found,
            }
            .into());
        }
        Ok((found, row))
    })
}

/// A key that is a number.
pub(super) fn number(what: &'static str, key: &[u8]) -> Result<u32, Damage> {
    let bytes = key.try_into().map_err(|_| Damage::Value { what, field: "key" })?;
    Ok(u32::from_be_bytes(bytes))
}
