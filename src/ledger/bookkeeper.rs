//! The bookkeeper: a thread that follows the log with the window and the accounts, off the way of a share.
//!
//! The writer hands it what each batch made durable. It publishes snapshots, which shards split by whatever value a
//! gateway asks for, and turns candidates and the operator's orders into events, which the writer writes. So there is
//! one order of everything, that of the log, and one thread that writes it.

mod mined;
mod published;

use std::collections::VecDeque;
use std::sync::{Arc, mpsc};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam::channel::{Receiver, RecvTimeoutError, Sender};
use rocksdb::DB;

use self::published::Unbooked;
pub use self::published::{Latest, Published};
use super::books::{BlockHash, BlockState, BookError, PaidByHand, Settlement, Snapshot, Terms, What};
use super::entry::{CandidateRow, Searched};
use super::error::LedgerError;
use super::health::Health;
use super::ledger_books::{LedgerBooks, SettleError, unix_ms};
use super::messages::{BatchDesk, Done, Message, MinedAsk, Order, OrderError, Reply};
use super::reader;
use super::report::shown;
use super::retention::Removal;
use super::ring::{FailOnPanic, Ordered, Rings};
use super::submissions::SubmissionRow;
use super::writer::Found;
use crate::telemetry::LedgerTelemetry;
use crate::work::{Chain, Pin, Split};

/// While the window moves a snapshot is published so often at most.
const SNAPSHOT_EVERY: Duration = Duration::from_secs(1);

/// Payees for whom it may be so often. Of twice as many one comes half as often: each is kept for as long as a split of it may
/// be used, and takes 64 B a payee. So all of them take some 100 MB, whatever the number; and of 50,000 payees, whose snapshot
/// takes some 10 ms, one comes every 20 s.
const SNAPSHOT_PAYEES: usize = 2_500;

/// Shares that are read at once where the window follows another difficulty: some 30 ms, then what waits is taken.
const CATCH_UP_SHARES: u64 = 262_144;

/// Batches that may wait for the bookkeeper; behind them the writer waits.
const BATCHES_MAX: usize = 4_096;

/// The thread and the ways to it.
pub(super) struct Bookkeeper {
    pub sender: Sender<Message>,
    pub published: Published,
    thread: Option<JoinHandle<()>>,
}

impl Bookkeeper {
    /// Gives the writer's way to it as well.
    ///
    /// # Errors
    /// The system has no thread to give, or unbooked candidates cannot be read.
    pub fn start(
        books: LedgerBooks,
        own_script: Vec<u8>,
        db: Arc<DB>,
        rings: Arc<Rings>,
        health: Health,
        telemetry: Arc<LedgerTelemetry>,
        found: Option<Found>,
    ) -> Result<(Self, BatchDesk), LedgerError> {
        let (sender, receiver) = crossbeam::channel::unbounded();
        let (batches, places) = BatchDesk::new(sender.clone(), BATCHES_MAX);
        let published = Published::default();
        let to_book = unbooked(&db, &books)?;
        let mut unbooked = Unbooked::default();
        for (_, row) in &to_book {
            unbooked.hear(row, &books);
        }
        let mut desk = Desk {
            to_book,
            unbooked,
            balances_stood: true,
            books,
            own_script,
            db,
            rings: rings.clone(),
            receiver,
            places,
            published: published.clone(),
            telemetry,
            orders: VecDeque::new(),
            asks: VecDeque::new(),
            chain: None,
            judged: false,
            mined: VecDeque::new(),
            searched: None,
            submissions: VecDeque::new(),
            noted: false,
            found,
            removal: None,
            over: None,
            was_short: false,
            is_due: false,
            published_at: Instant::now(),
            published_every: SNAPSHOT_EVERY,
        };
        desk.publish();
        let thread = std::thread::Builder::new()
            .name("books".into())
            .spawn(move || {
                // What is wrong with the books must stop the pool: nothing may be paid by them.
                let _watch = FailOnPanic::new("the bookkeeper", &rings, &health);
                if let Err(error) = desk.run() {
                    tracing::error!(%error, "the books cannot be kept; stopping");
                    health.fail(format!("the books cannot be kept: {error}"));
                    rings.fail();
                }
            })
            .map_err(LedgerError::Thread)?;
        let bookkeeper = Self {
            sender,
            published,
            thread: Some(thread),
        };
        Ok((bookkeeper, batches))
    }

    /// Waits for the end of the thread; the writer has stopped, and everybody else let go of the way to it.
    pub fn join(&mut self) {
        let (closed, _) = crossbeam::channel::bounded(0);
        self.sender = closed;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// What the thread owns.
struct Desk {
    books: LedgerBooks,
    own_script: Vec<u8>,
    db: Arc<DB>,
    rings: Arc<Rings>,
    receiver: Receiver<Message>,
    /// One is taken with each batch.
    places: Receiver<()>,
    published: Published,
    telemetry: Arc<LedgerTelemetry>,
    /// Candidates that are recorded and not booked, with the place of each in the log.
    to_book: VecDeque<(Pin, CandidateRow)>,
    /// Those of them that pay of balances, until they are booked.
    unbooked: Unbooked,
    /// Whether the last snapshot's balances might be paid: the log is told of each change.
    balances_stood: bool,
    orders: VecDeque<(Order, Reply)>,
    asks: VecDeque<(BlockHash, mpsc::Sender<Option<BlockState>>)>,
    /// The chain that shares which wait are to be judged by, and whether it is a new one.
    chain: Option<(Arc<Chain>, bool)>,
    /// Shares that waited were judged as ordered.
    judged: bool,
    /// Blocks of the chain that may be ours.
    mined: VecDeque<Box<MinedAsk>>,
    /// Up to where it was searched for those.
    searched: Option<Searched>,
    /// Words of nodes on blocks of ours that are to be written down.
    submissions: VecDeque<Box<SubmissionRow>>,
    /// What was ordered beside events is durable.
    noted: bool,
    /// Hears of each candidate that the operator books.
    found: Option<Found>,
    /// What the one housekeeper wants to go.
    removal: Option<(Box<Removal>, Sender<bool>)>,
    /// Sessions that it wants to go.
    over: Option<(Vec<u32>, Sender<()>)>,
    /// Whether the log was told that the window lacks shares.
    was_short: bool,
    /// A snapshot is due as soon as the window is settled.
    is_due: bool,
    published_at: Instant,
    published_every: Duration,
}

impl Desk {
    fn run(&mut self) -> Result<(), LedgerError> {
        loop {
            // A window that follows another difficulty does so in steps. Shares go on meanwhile, splits are those of before, and
            // what is to be booked waits: it is recorded.
            if self.books.catch_up(CATCH_UP_SHARES, &self.db)? && self.is_due {
                self.publish();
            }
            while self.is_settled()
                && let Some(ask) = self.mined.pop_front()
            {
                self.hear_mined(*ask)?;
            }
            while self.is_settled()
                && let Some((place, row)) = self.to_book.pop_front()
            {
                self.book_by_itself(&row, place)?;
            }
            while self.is_settled()
                && let Some((order, reply)) = self.orders.pop_front()
            {
                let done = self.obey(order)?;
                let _ = reply.send(done);
            }
            // Behind all that was found and ordered before, so not while some of it waits.
            if self.has_done_what_came_first() {
                for (block, reply) in self.asks.drain(..) {
                    let _ = reply.send(self.books.accounts.block(&block).map(|block| block.state));
                }
                if let Some(searched) = self.searched.take() {
                    self.note(Ordered::Searched(searched))?;
                }
            }
            while let Some(row) = self.submissions.pop_front() {
                self.note(Ordered::Submission(row))?;
            }
            if let Some((chain, is_new)) = self.chain.take() {
                self.judge_waiting(chain)?;
                if is_new {
                    self.publish();
                }
            }
            if let Some((removal, reply)) = self.removal.take() {
                let _ = reply.send(self.let_go(removal)?);
            }
            if let Some((over, reply)) = self.over.take() {
                self.note(Ordered::ForgetSessions(over))?;
                let _ = reply.send(());
            }
            let heard = match self.until_due() {
                Some(wait) => self.receiver.recv_timeout(wait),
                None => self.receiver.recv().map_err(RecvTimeoutError::from),
            };
            match heard {
                Ok(message) => self.take(message)?,
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            while (self.to_book.is_empty() || !self.is_settled())
                && let Ok(message) = self.receiver.try_recv()
            {
                self.take(message)?;
            }
            if self.is_behind() && self.until_snapshot().is_zero() {
                self.publish();
            }
        }
    }

    fn take(&mut self, message: Message) -> Result<(), LedgerError> {
        let batch = match message {
            Message::Batch(batch) => {
                let _ = self.places.try_recv();
                batch
            }
            Message::Order(order, reply) => {
                self.orders.push_back((order, reply));
                return Ok(());
            }
            Message::Ask(block, reply) => {
                self.asks.push_back((block, reply));
                return Ok(());
            }
            Message::Mined(ask) => {
                self.mined.push_back(ask);
                return Ok(());
            }
            Message::Follow { block, is_in_chain } => {
                self.unbooked.follow(&block, is_in_chain);
                self.publish_balances();
                return Ok(());
            }
            Message::Searched(searched) => {
                self.searched = Some(searched);
                return Ok(());
            }
            Message::Submission(row) => {
                self.submissions.push_back(row);
                return Ok(());
            }
            Message::Chain { chain, is_new } => {
                let is_new = is_new || self.chain.take().is_some_and(|(_, is_new)| is_new);
                self.chain = Some((chain, is_new));
                return Ok(());
            }
            Message::Needs(reply) => {
                let _ = reply.send(self.books.needs());
                return Ok(());
            }
            Message::LetGo(removal, reply) => {
                self.removal = Some((removal, reply));
                return Ok(());
            }
            Message::ForgetSessions(over, reply) => {
                self.over = Some((over, reply));
                return Ok(());
            }
        };
        batch.payees.into_iter().for_each(|script| self.books.add_payee(script));
        for script in batch.pool_scripts {
            self.books.add_pool_script(&script);
        }
        for tag in batch.pool_tags {
            self.books.add_pool_tag(&tag);
        }
        self.books.push(&batch.shares, &self.db)?;
        for event in &batch.events {
            self.books.follow(event, &self.db)?;
            if let What::Settled(settlement) = &event.what {
                self.unbooked.is_booked(&settlement.block);
            }
        }
        // Most windows are followed by one step.
        self.books.catch_up(CATCH_UP_SHARES, &self.db)?;
        if let Some(kept) = batch.kept {
            self.books.let_go(kept);
        }
        self.judged |= batch.judged;
        self.noted |= batch.noted;
        for (_, row) in &batch.candidates {
            self.unbooked.hear(row, &self.books);
        }
        // At once: a snapshot may be long in coming, where the window follows another difficulty.
        let balances_stand = self.unbooked.is_empty_at(unix_ms());
        self.published
            .candidates_are_heard_of(batch.candidates.len(), balances_stand);
        self.to_book.extend(batch.candidates);
        if !batch.events.is_empty() {
            self.publish();
        }
        Ok(())
    }

    /// A candidate books itself where its coinbase is one that we could have dictated.
    fn book_by_itself(&mut self, row: &CandidateRow, place: Pin) -> Result<(), LedgerError> {
        let hash = row.candidate.hash;
        let block = shown(&hash);
        if self.books.accounts.block(&hash).is_some() {
            // The operator was faster than its share.
            return Ok(());
        }
        if row.announced && self.take_over(row, place)? {
            // It comes again, from the place that it took.
            return Ok(());
        }
        if !row.books_itself() {
            self.telemetry.blocks_by_hand.add(1);
            if row.announced {
                tracing::error!(
                    block,
                    "a candidate whose coinbase was not dictated: it is booked by hand, or not at all"
                );
            } else {
                tracing::warn!(
                    block,
                    height = row.candidate.height,
                    to_pool = self.books.coins(&row.candidate.coinbase).0,
                    booking = ?row.candidate.booking,
                    all_is_fee = self.books.lacks_finder(row, place),
                    "the chain has a block of ours that no share announced: `millrace control book HASH` books it"
                );
            }
            return Ok(());
        }
        if self.books.lacks_finder(row, place) {
            self.telemetry.blocks_by_hand.add(1);
            let finder = String::from_utf8_lossy(&row.candidate.username).into_owned();
            tracing::error!(
                block,
                finder,
                "a candidate of `solo` whose finder is no payee: nobody has a part in it. `millrace control book HASH` books it, and \
                 all of it as the pool's fee where its finder has still no share that was accepted"
            );
            return Ok(());
        }
        match self.books.settlement(row, place, &self.db) {
            Ok(settlement) => match self.write(What::Settled(settlement))? {
                Ok(done) => tracing::info!(block, event = done.event, "booked"),
                Err(OrderError::Book(BookError::BookedAlready)) => {}
                Err(error) => tracing::warn!(block, %error, "not booked"),
            },
            Err(SettleError::Ledger(error)) => return Err(error),
            Err(error) => {
                self.telemetry.blocks_by_hand.add(1);
                tracing::error!(block, %error, "a candidate cannot be booked");
            }
        }
        Ok(())
    }

    fn obey(&mut self, order: Order) -> Result<Result<Done, OrderError>, LedgerError> {
        let what = match order {
            Order::Difficulty(difficulty) => match self.books.accounts.terms {
                Some(terms) if terms.difficulty == difficulty => {
                    return Ok(Ok(Done {
                        event: self.books.accounts.events.saturating_sub(1),
                    }));
                }
                Some(terms) => What::Terms(Terms { difficulty, ..terms }),
                None => return Ok(Err(SettleError::NoTerms.into())),
            },
            Order::Block { hash, becomes } => match becomes {
                BlockState::Candidate => return Ok(Err(OrderError::NoSuchState)),
                BlockState::Maturing => What::Accepted(hash),
                BlockState::Mature => What::Matured(hash),
                BlockState::Orphaned => What::Orphaned(hash),
                BlockState::Rejected => What::Rejected(hash),
            },
            Order::Book { hash } => {
                let Some((place, row)) = reader::candidate(&self.db, &hash)? else {
                    return Ok(Err(OrderError::NotRecorded));
                };
                let settlement = match self.books.settlement(&row, place, &self.db) {
                    Ok(settlement) => settlement,
                    Err(SettleError::Ledger(error)) => return Err(error),
                    Err(error) => return Ok(Err(error.into())),
                };
                let paid: u64 = settlement.postings.iter().map(|posting| posting.paid).sum();
                let Settlement {
                    value, to_pool, fee, ..
                } = settlement;
                let done = self.write(What::Settled(settlement))?;
                if done.is_ok() {
                    let block = shown(&hash);
                    tracing::warn!(block, value, paid, to_pool, fee, "booked by hand, as its coinbase pays");
                }
                if let (Ok(_), Some(found)) = (&done, &self.found) {
                    // It may have been left alone by now.
                    found(&row);
                }
                return Ok(done);
            }
            Order::PayByHand { script, amount, txid } => {
                let Some(payee) = self.books.payee(&script) else {
                    return Ok(Err(BookError::UnknownPayee.into()));
                };
                let paid = PaidByHand { payee, amount, txid };
                if self.books.accounts.is_paid_by_hand(&paid) {
                    return Ok(Err(BookError::PaidAlready.into()));
                }
                What::PaidByHand(paid)
            }
        };
        self.write(what)
    }

    /// Has the writer write an event, and waits until it is durable and applied: there is one under way at a time.
    fn write(&mut self, what: What) -> Result<Result<Done, OrderError>, LedgerError> {
        if let Err(error) = self.books.accounts.check(&what) {
            return Ok(Err(error.into()));
        }
        let event = self.books.accounts.events;
        self.rings.order(Ordered::Event(what));
        while self.books.accounts.events == event {
            match self.receiver.recv() {
                Ok(message) => self.take(message)?,
                Err(_) => return Ok(Err(OrderError::Closed)),
            }
        }
        Ok(Ok(Done { event }))
    }

    /// Has the writer judge the shares that wait, and waits until that is durable.
    fn judge_waiting(&mut self, chain: Arc<Chain>) -> Result<(), LedgerError> {
        self.judged = false;
        self.rings.order(Ordered::Judge(chain));
        while !self.judged {
            match self.receiver.recv() {
                Ok(message) => self.take(message)?,
                Err(_) => return Ok(()),
            }
        }
        Ok(())
    }

    /// Has the writer let shares go where nothing has come to need them, and waits until that is durable: no window can
    /// reach for them meanwhile.
    fn let_go(&mut self, removal: Box<Removal>) -> Result<bool, LedgerError> {
        if !self.books.may_let_go(&removal) {
            return Ok(false);
        }
        let upto = removal.upto;
        self.rings.order(Ordered::LetGo(removal));
        while self.books.kept().from < upto {
            match self.receiver.recv() {
                Ok(message) => self.take(message)?,
                Err(_) => return Ok(false),
            }
        }
        Ok(true)
    }

    fn is_settled(&self) -> bool {
        self.books.window().is_settled()
    }

    /// At once, or as soon as the window is what its terms ask for.
    fn publish(&mut self) {
        self.is_due = !self.is_settled();
        if self.is_due {
            return;
        }
        let began = Instant::now();
        let snapshot = self.books.snapshot(&self.own_script);
        let payees = snapshot.as_ref().map_or(0, Snapshot::payees);
        self.telemetry.split_payees.set(payees as u64);
        self.telemetry.events.set(self.books.accounts.events);
        let took_ns = u64::try_from(began.elapsed().as_nanos()).unwrap_or(u64::MAX);
        self.telemetry.snapshot.record(took_ns);
        let window = self.books.window();
        self.telemetry.window_shares.set(window.end() - window.front());
        let is_short = window.is_short();
        self.telemetry.window_short.set(is_short.into());
        if is_short && !self.was_short {
            tracing::warn!(
                work = %window.total(),
                wanted = %window.span().limit,
                kept_from = self.books.kept().from,
                "the window reaches back beyond the shares that are kept: blocks are shared over what is left"
            );
        }
        self.was_short = is_short;
        let balances_stand = self.balances_stand();
        self.published.publish(snapshot, balances_stand);
        self.published_at = Instant::now();
        self.published_every = spacing(payees);
    }

    /// Where that is not what it was, with a snapshot of its own.
    fn publish_balances(&mut self) {
        if self.unbooked.is_empty_at(unix_ms()) != self.balances_stood {
            self.publish();
        }
    }

    /// Whether they may be paid; the log is told of each change.
    fn balances_stand(&mut self) -> bool {
        let balances_stand = self.unbooked.is_empty_at(unix_ms());
        if balances_stand != self.balances_stood {
            self.balances_stood = balances_stand;
            self.tell_of_balances();
        }
        balances_stand
    }

    fn tell_of_balances(&self) {
        if self.balances_stood {
            tracing::info!("no block of the chain that pays of balances waits to be booked: splits pay balances again");
        } else {
            tracing::warn!(
                "a block that pays of balances is found and not booked: splits pay no balances until it is, or the chain has left \
                 it. Where the log asks for `millrace control book HASH`, it waits for that"
            );
        }
    }

    /// Whether there are shares that the latest snapshot has not seen.
    fn is_behind(&self) -> bool {
        let seen = self.published.latest().map(|latest| latest.snapshot.pin().sequence);
        seen != Some(self.books.window().end())
    }

    /// Whether nothing of what is done before all else came while something was written, when its turn was over.
    fn has_done_what_came_first(&self) -> bool {
        self.mined.is_empty() && self.to_book.is_empty() && self.orders.is_empty()
    }

    /// How long nothing needs to be done that is known of by now. None: until something comes.
    fn until_due(&self) -> Option<Duration> {
        let is_done = self.has_done_what_came_first()
            && self.asks.is_empty()
            && self.chain.is_none()
            && self.searched.is_none()
            && self.submissions.is_empty()
            && self.removal.is_none()
            && self.over.is_none();
        if !is_done || !self.is_settled() {
            return Some(Duration::ZERO);
        }
        self.is_behind().then(|| self.until_snapshot())
    }

    fn until_snapshot(&self) -> Duration {
        self.published_every.saturating_sub(self.published_at.elapsed())
    }
}

/// Between two snapshots of so many payees.
fn spacing(payees: usize) -> Duration {
    let parts = u32::try_from(payees.div_ceil(SNAPSHOT_PAYEES)).unwrap_or(u32::MAX);
    SNAPSHOT_EVERY * parts.max(1)
}

/// Candidates that a former process recorded and did not live to book.
fn unbooked(db: &DB, books: &LedgerBooks) -> Result<VecDeque<(Pin, CandidateRow)>, LedgerError> {
    let mut unbooked = VecDeque::new();
    for row in reader::candidates(db) {
        let (place, row) = row?;
        if books.accounts.block(&row.candidate.hash).is_none() {
            unbooked.push_back((place, row));
        }
    }
    unbooked
        .make_contiguous()
        .sort_by_key(|(place, row)| (*place, row.time_ms));
    Ok(unbooked)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn snapshots_of_many_payees_come_less_often_and_take_as_much_memory() {
        for (payees, every_s) in [
            (0, 1),
            (3, 1),
            (2_500, 1),
            (2_501, 2),
            (50_000, 20),
            (usize::MAX, u64::from(u32::MAX)),
        ] {
            assert_eq!(spacing(payees), Duration::from_secs(every_s), "{payees} payees");
        }
    }
}
