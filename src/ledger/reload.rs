//! Duplicates that shards have let go of, read back from the log: the chain came back to a parent of before.
//!
//! A thread of low priority reads. What waits for it is read in one go: where a chain comes back, all gateways ask.

use std::collections::HashMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::Instant;

use crossbeam::channel::{self, Receiver, Sender};
use rocksdb::DB;

use super::error::LedgerError;
use super::health::Health;
use super::ledger_books::unix_ms;
use super::pace::{LEAST, Pace, READ_STEP, step_back};
use super::reader;
use super::record::ShareRecord;
use super::restore::{CLOCK_SLACK_S, DUPLICATES_FOR_S};
use super::ring::{FailOnPanic, Rings};
use super::share_log;
use crate::work::{DUPLICATES_MAX, ReloadWanted};

/// Shares that are read back in one go: 128 MiB. What is beyond is answered with none, so its gateways need new sessions.
const SHARES_AT_ONCE: usize = 1 << 24;

/// A shard asks for the duplicates of one gateway on one parent. All shares that it wants must be durable when it is left.
pub struct Reload {
    /// Goes back with the answer.
    pub number: u64,
    pub wanted: ReloadWanted,
    /// Hears the answer, once; must not wait.
    pub answer: AnswerReload,
}

pub type AnswerReload = Arc<dyn Fn(Reloaded) + Send + Sync>;

/// What was read.
#[derive(Debug, PartialEq, Eq)]
pub struct Reloaded {
    pub number: u64,
    /// By the first 8 bytes of their hashes; none where the log could not be read, or they are more than a gateway may have.
    pub shares: Option<Vec<u64>>,
}

impl Reload {
    pub(super) fn fail(self) {
        let number = self.number;
        (self.answer)(Reloaded { number, shares: None });
    }
}

/// The thread, and the way to end it.
pub(super) struct Reloader {
    pub sender: Sender<Reload>,
    /// The thread ends when it is gone.
    stop: Option<Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Reloader {
    /// # Errors
    /// The system has no thread to give.
    pub fn start(db: Arc<DB>, rings: Arc<Rings>, health: Health) -> Result<Self, LedgerError> {
        // No more than shards may have under way.
        let (sender, asked) = channel::unbounded();
        let (stop, stopped) = channel::bounded(0);
        let thread = std::thread::Builder::new()
            .name("reloads".into())
            .spawn(move || {
                let _watch = FailOnPanic::new("the reader of duplicates", &rings, &health);
                step_back(LEAST);
                serve(&db, &asked, Pace::new(stopped));
            })
            .map_err(LedgerError::Thread)?;
        Ok(Self {
            sender,
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Waits for the end of the thread.
    pub fn stop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(db: &DB, asked: &Receiver<Reload>, mut pace: Pace) {
    loop {
        let first = channel::select! {
            recv(asked) -> first => first.ok(),
            recv(pace.stopped) -> _ => None,
        };
        let Some(first) = first else { return };
        let reloads: Vec<Reload> = std::iter::once(first).chain(asked.try_iter()).collect();
        pace.since = Instant::now();
        match read(db, &reloads, unix_ms() / 1_000, || pace.rest()) {
            Ok(found) => {
                tracing::info!(
                    gateways = reloads.len(),
                    "duplicates were read back: the chain came back to a block"
                );
                for (reload, shares) in reloads.into_iter().zip(found) {
                    let number = reload.number;
                    (reload.answer)(Reloaded { number, shares });
                }
            }
            Err(LedgerError::Closing) => return,
            Err(error) => {
                tracing::error!(%error, "duplicates cannot be read back; their gateways need new sessions");
                reloads.into_iter().for_each(Reload::fail);
            }
        }
    }
}

/// The shares of each, as [`Reloaded`] has them. What waits is read first: a share that is judged meanwhile is in the log then.
fn read(
    db: &DB,
    reloads: &[Reload],
    now_s: u64,
    mut rest: impl FnMut() -> Result<(), LedgerError>,
) -> Result<Vec<Option<Vec<u64>>>, LedgerError> {
    let mut found = Found::new(reloads);
    for waiting in reader::waiting(db) {
        found.take(&waiting?.1.record);
    }
    let first = share_log::first_since(db, oldest_ms(db, reloads, now_s)?)?;
    for (share, number) in share_log::shares(db, first)?.zip(1_u64..) {
        found.take(&share?.1);
        if number % READ_STEP == 0 {
            rest()?;
        }
    }
    Ok(found.shares)
}

/// When the first share that is wanted can have come. Older ones cannot come again, by the rule that a start goes by; and none came
/// before its session began, as far as clocks go.
fn oldest_ms(db: &DB, reloads: &[Reload], now_s: u64) -> Result<u64, LedgerError> {
    let oldest_ms = now_s.saturating_sub(DUPLICATES_FOR_S) * 1_000;
    let mut opened_ms = now_s * 1_000;
    for prime_id in reloads.iter().flat_map(|reload| &reload.wanted.prime_ids) {
        let row = reader::session(db, *prime_id)?;
        opened_ms = opened_ms.min(row.map_or(0, |row| row.opened_ms));
        if opened_ms <= oldest_ms {
            break;
        }
    }
    Ok(oldest_ms.max(opened_ms.saturating_sub(CLOCK_SLACK_S * 1_000)))
}

/// What was found of each of those that are wanted.
struct Found {
    /// Each once: few, and most shares are on none of them.
    parents: Vec<[u8; 32]>,
    by_terms: HashMap<(u32, [u8; 32]), usize>,
    shares: Vec<Option<Vec<u64>>>,
    count: usize,
}

impl Found {
    fn new(reloads: &[Reload]) -> Self {
        let mut parents: Vec<_> = reloads.iter().map(|reload| reload.wanted.parent).collect();
        parents.sort_unstable();
        parents.dedup();
        let by_terms = reloads.iter().enumerate().flat_map(|(at, reload)| {
            let ReloadWanted { parent, prime_ids } = &reload.wanted;
            prime_ids.iter().map(move |prime_id| ((*prime_id, *parent), at))
        });
        Self {
            parents,
            by_terms: by_terms.collect(),
            shares: vec![Some(Vec::new()); reloads.len()],
            count: 0,
        }
    }

    fn take(&mut self, share: &ShareRecord) {
        if !self.parents.contains(&share.parent) {
            return;
        }
        let Some(at) = self.by_terms.get(&(share.prime_id, share.parent)) else {
            return;
        };
        if let Some(shares) = &mut self.shares[*at] {
            shares.push(share.hash64);
            self.count += 1;
            if shares.len() > DUPLICATES_MAX || self.count > SHARES_AT_ONCE {
                self.count -= shares.len();
                self.shares[*at] = None;
            }
        }
    }
}
