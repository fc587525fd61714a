//! The housekeeper: a thread of low priority that lets old shares go.
//!
//! Shares older than the operator asks for, and needed by nothing, become hourly work. The housekeeper reads and adds
//! up; the bookkeeper, which alone may move the window, agrees; the writer writes the rows and the new beginning of the
//! log in one batch. So a kill -9 leaves a step whole or absent, and no share is counted twice or not at all.
//!
//! Chunks before the beginning are dead, whether they are still on disk or not. Their files are deleted whole. A range
//! tombstone would free the rest of the file that the beginning lies in, some ten MB, and cost far more: it goes into the
//! same table file as the newest shares, which then spans the whole log, and merging that rewrites whatever it spans.
//! Shares that only ever append are never rewritten.

mod sessions;

use std::convert::Infallible;
use std::sync::Arc;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{self, Sender};
use rocksdb::DB;

use super::books::{BlockHash, OldShares, Work};
use super::error::LedgerError;
use super::health::Health;
use super::hours::HOUR_MS;
use super::kept::Kept;
use super::ledger_books::unix_ms;
use super::messages::Message;
use super::pace::{LEAST, Pace, READ_STEP, step_back};
use super::report::shown;
use super::restore::DUPLICATES_FOR_S;
use super::retention::{self, Needed, Retention, StepLimits};
use super::ring::{FailOnPanic, Rings};
use super::schema::{self, family};
use super::share_log::{self, OldWork};
use crate::telemetry::LedgerTelemetry;

const DAY_S: u64 = 86_400;

/// The fewest days for which shares are kept. What a start reads for duplicates is among them.
pub const KEEP_DAYS_MIN: u64 = 1;
const _: () = assert!(KEEP_DAYS_MIN * DAY_S > DUPLICATES_FOR_S);

/// How often it is looked for shares that may go: they go by whole hours.
const EVERY: Duration = Duration::from_secs(600);

/// How often a round begins anew where the books have changed: events come in bursts, when a block is found.
const TRIES: u32 = 8;

/// One step: 64 MiB of shares, or so many rows that the shares behind them wait a millisecond longer.
const STEP: StepLimits = StepLimits {
    shares: 1 << 20,
    rows: 512,
};

/// For how long shares are kept.
#[derive(Debug, Clone, Copy)]
pub struct Housekeeping {
    pub(super) keep_ms: u64,
    pub(super) step: StepLimits,
}

impl Housekeeping {
    /// Shares go when they are so many days old and nothing needs them; fewer than [`KEEP_DAYS_MIN`] count as that.
    #[must_use]
    pub fn keep_days(days: u64) -> Self {
        Self {
            keep_ms: days.max(KEEP_DAYS_MIN).saturating_mul(DAY_S * 1_000),
            step: STEP,
        }
    }
}

/// The thread, and the way to end it.
pub(super) struct Housekeeper {
    /// The thread ends when it is gone.
    stop: Option<Sender<Infallible>>,
    thread: Option<JoinHandle<()>>,
}

impl Housekeeper {
    /// `resume_for`: how long work under the terms of a session counts after its end.
    ///
    /// # Errors
    /// The system has no thread to give.
    pub fn start(
        housekeeping: Housekeeping,
        resume_for: Duration,
        db: Arc<DB>,
        books: Sender<Message>,
        rings: Arc<Rings>,
        health: Health,
        telemetry: Arc<LedgerTelemetry>,
    ) -> Result<Self, LedgerError> {
        let (stop, stopped) = channel::bounded(0);
        let mut rounds = Rounds {
            housekeeping,
            db,
            books,
            telemetry,
            pace: Pace::new(stopped),
            retention: Retention::default(),
            held_by: None,
            resume_for_ms: u64::try_from(resume_for.as_millis()).unwrap_or(u64::MAX / 2),
            sessions_next_ms: 0,
        };
        let thread = std::thread::Builder::new()
            .name("housekeeper".into())
            .spawn(move || {
                let _watch = FailOnPanic::new("the housekeeper", &rings, &health);
                step_back(LEAST);
                rounds.run();
            })
            .map_err(LedgerError::Thread)?;
        Ok(Self {
            stop: Some(stop),
            thread: Some(thread),
        })
    }

    /// Waits for the end of the thread. Call it while the bookkeeper still serves.
    pub fn stop(&mut self) {
        self.stop = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the thread owns.
struct Rounds {
    housekeeping: Housekeeping,
    db: Arc<DB>,
    books: Sender<Message>,
    telemetry: Arc<LedgerTelemetry>,
    pace: Pace,
    retention: Retention,
    /// The block that old shares are kept for, as the log was last told.
    held_by: Option<BlockHash>,
    resume_for_ms: u64,
    /// Sessions are looked at again when those that ended before this may go, ms since 1970.
    sessions_next_ms: u64,
}

impl Rounds {
    fn run(&mut self) {
        loop {
            match self.round() {
                Ok(()) => self.telemetry.housekeeping_rounds.add(1),
                Err(LedgerError::Closing) => return,
                Err(error) => {
                    // Old shares take room, and no share is lost or paid by them: the pool serves on.
                    self.telemetry.housekeeping_failures.add(1);
                    tracing::error!(%error, "old shares cannot be rolled up; it is tried again");
                }
            }
            if self.pace.stops_within(EVERY) {
                return;
            }
        }
    }

    /// Lets go what may go by now.
    fn round(&mut self) -> Result<(), LedgerError> {
        self.pace.since = Instant::now();
        let before = Kept::read(&self.db)?.from;
        // Where a step is refused the books have just changed, and what may go is found again.
        let mut tries = 0..TRIES;
        while tries.next().is_some() && !self.let_go()? {}
        let kept = Kept::read(&self.db)?.from;
        if kept > before {
            tracing::info!(
                shares = kept - before,
                kept_from = kept,
                "old shares were rolled up into hours"
            );
        }
        // Also what a former process did not live to delete.
        if let Some(last_gone) = kept.checked_sub(1) {
            let shares = family(&self.db, schema::SHARES);
            // Both ends included; files of the first level, which is small, stay until they have left it.
            self.db
                .delete_file_in_range_cf(shares, 0_u64.to_be_bytes(), last_gone.to_be_bytes())?;
        }
        self.let_sessions_go()
    }

    /// Step by step; false where the bookkeeper has refused one.
    fn let_go(&mut self) -> Result<bool, LedgerError> {
        let now_ms = unix_ms();
        let Some(cut_ms) = self.cut_ms(now_ms)? else {
            return Ok(true);
        };
        let needs = self.ask(Message::Needs)?;
        let mut log = PacedLog {
            db: &self.db,
            pace: &mut self.pace,
        };
        let needed = self.retention.first_needed(&needs, &self.db, &mut log, now_ms)?;
        self.tell_who_holds(needed);
        let step = self.housekeeping.step;
        loop {
            let rest = || self.pace.rest();
            let removal = retention::add_up(&self.db, needed.first, cut_ms, needs.events, step, rest)?;
            let Some(removal) = removal else {
                return Ok(true);
            };
            self.pace.rest()?;
            if !self.ask(|reply| Message::LetGo(Box::new(removal), reply))? {
                return Ok(false);
            }
        }
    }

    fn tell_who_holds(&mut self, needed: Needed) {
        if needed.by != std::mem::replace(&mut self.held_by, needed.by)
            && let Some(hash) = needed.by
        {
            tracing::info!(
                block = shown(&hash),
                from = needed.first,
                "old shares are kept for a block that is not final"
            );
        }
    }

    /// From which time on shares stay, in whole hours; none where the oldest is as young. An age is counted from the
    /// newest share: neither a clock that is wrong nor a pool that stood still loses any.
    fn cut_ms(&self, now_ms: u64) -> Result<Option<u64>, LedgerError> {
        let time_of = |share: Option<Result<_, LedgerError>>| -> Result<Option<u64>, LedgerError> {
            Ok(share
                .transpose()?
                .map(|(_, share): (u64, super::ShareRecord)| share.time_ms))
        };
        let oldest = time_of(share_log::shares(&self.db, 0)?.next())?;
        let end = share_log::next_sequence(&self.db)?;
        let newest = time_of(share_log::shares_before(&self.db, end)?.next())?;
        let (Some(oldest), Some(newest)) = (oldest, newest) else {
            return Ok(None);
        };
        let cut_ms = now_ms.min(newest).saturating_sub(self.housekeeping.keep_ms) / HOUR_MS * HOUR_MS;
        Ok(Some(cut_ms).filter(|cut_ms| oldest < *cut_ms))
    }

    /// Asks the bookkeeper, and waits for the answer or the end.
    fn ask<T>(&self, message: impl FnOnce(Sender<T>) -> Message) -> Result<T, LedgerError> {
        let (reply, answer) = channel::bounded(1);
        self.books.send(message(reply)).map_err(|_| LedgerError::Closing)?;
        channel::select! {
            recv(answer) -> answer => answer.map_err(|_| LedgerError::Closing),
            recv(self.pace.stopped) -> _ => Err(LedgerError::Closing),
        }
    }
}

/// The log, read with rests.
struct PacedLog<'a> {
    db: &'a DB,
    pace: &'a mut Pace,
}

impl OldShares for PacedLog<'_> {
    fn from(&mut self, from: u64) -> Result<OldWork<'_>, LedgerError> {
        Ok(paced(share_log::work_from(self.db, from)?, self.pace))
    }

    fn before(&mut self, before: u64) -> Result<OldWork<'_>, LedgerError> {
        Ok(paced(share_log::work_before(self.db, before)?, self.pace))
    }
}

fn paced<'a>(shares: impl Iterator<Item = Result<Work, LedgerError>> + 'a, pace: &'a mut Pace) -> OldWork<'a> {
    Box::new(shares.zip(1_u64..).map(move |(share, number)| {
        if number % READ_STEP == 0 {
            pace.rest()?;
        }
        share
    }))
}
