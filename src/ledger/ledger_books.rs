//! The books as a ledger holds them: the window at the log's end, the accounts after all events, everybody's script.

use std::collections::HashMap;
use std::ops::ControlFlow;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bitcoin::Transaction;
use bitcoin::consensus::deserialize;
use rocksdb::{DB, Direction, IteratorMode};

use super::books::{
    Accounts, Block, Event, Mined, Scheme, SchemeKind, Settlement, Snapshot, Span, Terms, What, Window, Work, settle,
};
use super::entry::CandidateRow;
use super::error::{Damage, LedgerError};
use super::event_rows;
use super::kept::{Kept, WindowGone};
use super::lasting::Told;
use super::retention::{Needs, Removal};
use super::schema::{self, family};
use super::share_log::{self, Ahead, ReadAhead};
use crate::work::{Candidate, MONEY_MAX, NewMiner, Pin};

/// Everything that a split or a settlement depends on, as of the end of the log.
pub struct LedgerBooks {
    pub accounts: Accounts,
    window: Window,
    /// From where on shares are kept.
    kept: Kept,
    /// What will leave the window next.
    ahead: Ahead,
    /// By payee.
    scripts: Vec<Arc<[u8]>>,
    payees: HashMap<Arc<[u8]>, u32>,
    /// Terms by the number of the event that brought them, in order.
    terms: Vec<(u64, Terms)>,
    /// When the last of these came, ms since 1970.
    terms_since_ms: u64,
    /// Scripts of which coins are the pool's own, and tags by which a coinbase names it: those that any session was told.
    told: Told,
}

impl LedgerBooks {
    /// As a ledger has them. Without terms yet there is no window.
    ///
    /// # Errors
    /// RocksDB's, or rows that cannot be what was written.
    pub fn load(db: &DB) -> Result<Self, LedgerError> {
        let mut books = Self::load_payees(db)?;
        for event in events(db) {
            books.note(&event?, db)?;
        }
        let span = books.span_at(books.accounts.events);
        books.window = Window::at(share_log::next_sequence(db)?, span, &mut &*db)?;
        Ok(books)
    }

    /// All but the events and what follows from them.
    fn load_payees(db: &DB) -> Result<Self, LedgerError> {
        let mut books = Self {
            accounts: Accounts::default(),
            window: Window::at(0, NOTHING, &mut &*db)?,
            kept: Kept::read(db)?,
            ahead: Ahead::default(),
            scripts: Vec::new(),
            payees: HashMap::new(),
            terms: Vec::new(),
            terms_since_ms: 0,
            told: Told::read(db)?,
        };
        for row in super::log::numbered(db, schema::PAYEES) {
            books.add_payee(super::rows::payee::decode(&row?.1)?.into());
        }
        Ok(books)
    }

    pub fn window(&self) -> &Window {
        &self.window
    }

    /// By payee.
    pub fn scripts(&self) -> &[Arc<[u8]>] {
        &self.scripts
    }

    pub fn payee(&self, script: &[u8]) -> Option<u32> {
        self.payees.get(script).copied()
    }

    /// Terms in force after so many events.
    pub fn terms_at(&self, event: u64) -> Option<&Terms> {
        Terms::in_force(&self.terms, event)
    }

    /// From where on shares are kept.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// Shares have gone; none that the window has.
    pub(super) fn let_go(&mut self, kept: Kept) {
        assert!(kept.from <= self.window.front(), "the window's shares are kept");
        self.kept = kept;
    }

    /// Whether shares may go, as [`Self::needs`] told it: nothing has changed since but that there are more shares.
    pub(super) fn may_let_go(&self, removal: &Removal) -> bool {
        removal.events == self.accounts.events
            && removal.from == self.kept.from
            && removal.upto <= self.window.front()
            && self.window_is_full()
    }

    /// Which shares must stay.
    pub(super) fn needs(&self) -> Needs {
        Needs {
            events: self.accounts.events,
            span: self.window.span(),
            window_from: self.window.front(),
            window_is_full: self.window_is_full(),
            blocks: self.accounts.blocks().map(|(hash, block)| (*hash, *block)).collect(),
            terms: self.terms.clone(),
            terms_since_ms: self.terms_since_ms,
        }
    }

    fn window_is_full(&self) -> bool {
        self.window.total() == self.window.span().limit
    }

    pub fn add_payee(&mut self, script: Arc<[u8]>) {
        let number = u32::try_from(self.scripts.len()).expect("payees are bounded far below 2^32");
        self.payees.insert(script.clone(), number);
        self.scripts.push(script);
    }

    /// Scripts of which coins are the pool's own.
    pub fn pool_scripts(&self) -> impl Iterator<Item = &[u8]> {
        self.told.scripts().iter().map(|script| &**script)
    }

    pub fn add_pool_script(&mut self, script: &[u8]) {
        self.told.add_script(script);
    }

    /// Tags by which a coinbase names the pool.
    pub fn pool_tags(&self) -> impl Iterator<Item = &[u8]> {
        self.told.tags().iter().map(|tag| &**tag)
    }

    pub fn add_pool_tag(&mut self, tag: &[u8]) {
        self.told.add_tag(tag);
    }

    /// What sessions were told, as of the log's end.
    pub(super) fn told(&self) -> &Told {
        &self.told
    }

    /// Takes shares that the log holds by now.
    ///
    /// # Errors
    /// RocksDB's, or damage.
    pub fn push(&mut self, shares: &[Work], db: &DB) -> Result<(), LedgerError> {
        let ahead = &mut self.ahead;
        self.window.push(shares, &mut ReadAhead { db, ahead })
    }

    /// Applies an event that the log holds by now.
    ///
    /// # Errors
    /// RocksDB's, or damage.
    pub fn apply(&mut self, event: &Event, db: &DB) -> Result<(), LedgerError> {
        self.follow(event, db)?;
        self.catch_up(u64::MAX, db)?;
        Ok(())
    }

    /// The same, but that the window is not settled where other terms have it hold other shares: [`Self::catch_up`] has then
    /// to be called until it is. Shares may be pushed meanwhile.
    ///
    /// # Errors
    /// RocksDB's, or damage.
    pub(super) fn follow(&mut self, event: &Event, db: &DB) -> Result<(), LedgerError> {
        self.note(event, db)?;
        self.window.follow(self.span_at(self.accounts.events));
        Ok(())
    }

    /// Reads `most` shares at most that the window gains or loses. True: it is settled.
    ///
    /// # Errors
    /// RocksDB's, or damage.
    pub(super) fn catch_up(&mut self, most: u64, db: &DB) -> Result<bool, LedgerError> {
        self.window.catch_up(most, &mut &*db)
    }

    fn note(&mut self, event: &Event, db: &DB) -> Result<(), LedgerError> {
        if let What::Terms(terms) = &event.what {
            self.terms.push((self.accounts.events, *terms));
            self.terms_since_ms = event.time_ms;
        }
        apply(&mut self.accounts, event, db)
    }

    fn span_at(&self, event: u64) -> Span {
        self.terms_at(event).map_or(NOTHING, Terms::span)
    }

    /// What is dictated from now on. None before there are terms.
    pub fn snapshot(&self, own_script: &[u8]) -> Option<Snapshot> {
        let pin = Pin {
            sequence: self.window.end(),
            event: self.accounts.events,
        };
        self.snapshot_at(pin, own_script)
    }

    /// The same for books that were loaded at a pin.
    pub fn snapshot_at(&self, pin: Pin, own_script: &[u8]) -> Option<Snapshot> {
        self.snapshot_of(pin, &self.window, &self.accounts, own_script)
    }

    /// The payee that a username means.
    pub fn finder(&self, username: &[u8]) -> Option<u32> {
        self.payee(&NewMiner::parse(username).ok()?.script)
    }

    /// Whether a block is its finder's, and the log knows no payee that found it. Nobody has a part in it then, so all of it
    /// would be the pool's fee.
    pub fn lacks_finder(&self, row: &CandidateRow, place: Pin) -> bool {
        let candidate = &row.candidate;
        let terms = self.terms_at(candidate.booking.pin(place).event);
        terms.is_some_and(|terms| terms.scheme == SchemeKind::Solo) && self.finder(&candidate.username).is_none()
    }

    fn snapshot_of(&self, pin: Pin, window: &Window, accounts: &Accounts, own_script: &[u8]) -> Option<Snapshot> {
        let terms = self.terms_at(pin.event)?;
        let weights = terms.scheme.weights(window, None);
        let payable = |payee| accounts.of(payee).payable();
        Some(Snapshot::new(
            pin,
            terms.split,
            own_script,
            &weights,
            &self.scripts,
            payable,
        ))
    }

    /// The snapshots of former pins, which must come with the latest first.
    ///
    /// # Errors
    /// RocksDB's, or damage.
    pub fn former_snapshots(
        &self,
        pins: &[Pin],
        own_script: &[u8],
        db: &DB,
    ) -> Result<HashMap<Pin, Arc<Snapshot>>, LedgerError> {
        let mut snapshots = HashMap::new();
        self.each_former_snapshot(pins, own_script, db, |pin, snapshot| {
            snapshots.insert(pin, Arc::new(snapshot));
            ControlFlow::Continue(())
        })?;
        Ok(snapshots)
    }

    /// Shows the same one by one, so that only one of them is held, until `see` has seen enough.
    pub(super) fn each_former_snapshot(
        &self,
        pins: &[Pin],
        own_script: &[u8],
        db: &DB,
        mut see: impl FnMut(Pin, Snapshot) -> ControlFlow<()>,
    ) -> Result<(), LedgerError> {
        let mut window = self.window.clone();
        let mut accounts = (self.accounts.events, self.accounts.clone());
        for pin in pins {
            window = window.rewound(pin.sequence, self.span_at(pin.event), &mut &*db)?;
            if let Err(gone) = self.kept.check(&window) {
                tracing::warn!(%gone, "a split that work may still pay is not known any more");
                continue;
            }
            if pin.event != accounts.0 {
                accounts = (pin.event, accounts_at(db, pin.event)?);
            }
            if let Some(snapshot) = self.snapshot_of(*pin, &window, &accounts.1, own_script)
                && see(*pin, snapshot).is_break()
            {
                break;
            }
        }
        Ok(())
    }

    /// How a candidate is to be booked, by the window and the terms of its split, or of its place in the log.
    ///
    /// # Errors
    /// Its coinbase is no transaction, or pays what cannot be, or the log cannot be read.
    pub fn settlement(&self, row: &CandidateRow, place: Pin, db: &DB) -> Result<Settlement, SettleError> {
        let candidate = &row.candidate;
        let pin = candidate.booking.pin(place);
        let terms = self.terms_at(pin.event).ok_or(SettleError::NoTerms)?;
        let coinbase: Transaction = deserialize(&candidate.coinbase).map_err(|_| SettleError::NoCoinbase)?;
        let worth = coinbase.output.iter().map(|output| output.value.to_sat());
        if worth.fold(0, u64::saturating_add) > MONEY_MAX {
            return Err(SettleError::TooMuch);
        }
        let mined = self.mined(&coinbase);
        let window = self.window.rewound(pin.sequence, terms.span(), &mut &*db)?;
        self.kept.check(&window)?;
        let finder = self.finder(&candidate.username);
        let weights = terms.scheme.weights(&window, finder);
        let payees = self
            .scripts
            .iter()
            .zip(0_u32..)
            .map(|(script, payee)| (payee, self.accounts.of(payee).balance, &**script));
        Ok(settle(
            candidate.hash,
            pin.sequence,
            &mined,
            &terms.split,
            &weights,
            payees,
        ))
    }

    /// Satoshi that a coinbase leaves at the pool's scripts, and at those of payees alone.
    pub(super) fn coins(&self, coinbase: &[u8]) -> (u64, u64) {
        let coinbase = deserialize::<Transaction>(coinbase);
        let mined = coinbase.map_or_else(|_| Mined::default(), |coinbase| self.mined(&coinbase));
        let to_payees = mined.paid.values().fold(0, |sum: u64, paid| sum.saturating_add(*paid));
        (mined.to_pool, to_payees)
    }

    /// Whether the coinbase pays a script that is both the pool's and a payee's.
    pub(super) fn pays_a_payee_as_the_pool(&self, coinbase: &[u8]) -> bool {
        let coinbase = deserialize::<Transaction>(coinbase);
        coinbase.is_ok_and(|coinbase| !self.mined(&coinbase).shared.is_empty())
    }

    /// What the coinbase pays, to payees and to the pool.
    pub(super) fn mined(&self, coinbase: &Transaction) -> Mined {
        Mined::of(coinbase, self.told.scripts(), |script| self.payee(script))
    }

    /// Only the first `count` payees are known: as it was at a former event.
    fn forget_payees_from(&mut self, count: u32) {
        self.scripts.truncate(count as usize);
        self.payees.retain(|_, payee| *payee < count);
    }
}

/// One block and the books around it, for whoever checks them; by one walk through the events.
pub struct BookedBlock {
    pub block: Block,
    pub settlement: Settlement,
    /// Of its split; where it pays none that is known, its place in the log.
    pub pin: Pin,
    /// The books at the pin, and the payees that there were when it was booked.
    pub books: LedgerBooks,
    /// The accounts before it was booked.
    pub before: Accounts,
}

impl BookedBlock {
    /// `place`: the candidate's in the log. None where it is not booked.
    ///
    /// # Errors
    /// RocksDB's, damage, or shares of its window are no longer kept.
    pub fn load(db: &DB, candidate: &Candidate, place: Pin) -> Result<Option<Self>, SettleError> {
        let mut books = LedgerBooks::load_payees(db)?;
        let pin = candidate.booking.pin(place);
        let (mut at_pin, mut booked) = (None, None);
        for event in events(db) {
            let event = event?;
            if pin.event == books.accounts.events {
                at_pin = Some(books.accounts.clone());
            }
            if let What::Settled(settlement) = &event.what
                && settlement.block == candidate.hash
            {
                booked = Some((books.accounts.clone(), settlement.clone()));
            }
            books.note(&event, db)?;
        }
        let (Some(block), Some((before, settlement))) = (books.accounts.block(&candidate.hash), booked) else {
            return Ok(None);
        };
        books.forget_payees_from(settlement.payees);
        // Nothing is pinned to what comes behind the end.
        books.accounts = at_pin.unwrap_or(books.accounts);
        books.window = Window::at(pin.sequence, books.span_at(pin.event), &mut &*db)?;
        books.kept.check(&books.window)?;
        Ok(Some(Self {
            block,
            settlement,
            pin,
            books,
            before,
        }))
    }
}

/// Why a block cannot be booked.
#[derive(Debug, thiserror::Error)]
pub enum SettleError {
    #[error("there are no terms to share it by")]
    NoTerms,
    #[error("its coinbase is no transaction")]
    NoCoinbase,
    #[error("its coinbase pays more than all the money there is: no chain takes it")]
    TooMuch,
    #[error(transparent)]
    Gone(#[from] WindowGone),
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// No scheme: nothing counts.
const NOTHING: Span = Span { limit: 0, share_max: 0 };

/// The accounts after the first `count` events.
///
/// # Errors
/// RocksDB's, or damage.
pub(super) fn accounts_at(db: &DB, count: u64) -> Result<Accounts, LedgerError> {
    let mut accounts = Accounts::default();
    for event in events(db).take(usize::try_from(count).unwrap_or(usize::MAX)) {
        apply(&mut accounts, &event?, db)?;
    }
    Ok(accounts)
}

pub(super) fn apply(accounts: &mut Accounts, event: &Event, db: &DB) -> Result<(), LedgerError> {
    let settlement = match event.what.block().and_then(|hash| accounts.block(hash)) {
        Some(block) => Some(settlement(db, block.settled_by)?),
        None => None,
    };
    accounts.apply(event, |_| {
        settlement.expect("events were checked before they were written")
    });
    Ok(())
}

/// The events in their order; a gap is damage.
pub(super) fn events(db: &DB) -> impl Iterator<Item = Result<Event, LedgerError>> + use<'_> {
    let rows = db.iterator_cf(family(db, schema::EVENTS), IteratorMode::From(&[], Direction::Forward));
    (0_u64..).zip(rows).map(|(number, row)| {
        let (key, row) = row?;
        if *key != number.to_be_bytes() {
            return Err(Damage::Value {
                what: schema::EVENTS,
                field: "key",
            }
            .into());
        }
        Ok(event_rows::event::decode(&row)?)
    })
}

/// Events that stood in the log before what happened at a time (ms since 1970) behind so many shares. The first, which are
/// the first terms, always do.
///
/// # Errors
/// RocksDB's, or damage.
pub(super) fn events_before(db: &DB, sequence: u64, time_ms: u64) -> Result<u64, LedgerError> {
    let mut count = 0;
    for event in events(db) {
        let event = event?;
        if count > 0 && (event.sequence > sequence || event.time_ms > time_ms) {
            break;
        }
        count += 1;
    }
    Ok(count)
}

/// The settlement that an event was.
pub(super) fn settlement(db: &DB, event: u64) -> Result<Settlement, LedgerError> {
    let row = db.get_cf(family(db, schema::EVENTS), event.to_be_bytes())?;
    match row.map(|row| event_rows::event::decode(&row)).transpose()? {
        Some(Event {
            what: What::Settled(settlement),
            ..
        }) => Ok(settlement),
        _ => Err(Damage::Value {
            what: schema::EVENTS,
            field: "settlement",
        }
        .into()),
    }
}

/// Ms since 1970.
#[must_use]
pub fn unix_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
