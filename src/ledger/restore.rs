//! What gateways may still submit after a restart: their terms, their parents, their duplicates.
//!
//! A share can come again only under a `prime_id` that is still good, and with a header time within
//! [`NTIME_WINDOW_S`] of now. When it first came that time lay within the window of then. So no share older than two
//! windows can be taken twice, and that much of the log, read in order, gives all duplicates that matter.

mod chosen;

use std::cmp::Reverse;
use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use bitcoin::hex::DisplayHex;
use rocksdb::DB;

use self::chosen::{Chosen, Rank};
use super::channel_keys::ChannelKeysAtRest;
use super::entry::{HelloName, SessionRow};
use super::error::LedgerError;
use super::ledger_books::LedgerBooks;
use super::open::LedgerOptions;
use super::reader::{self, Session};
use super::record::ShareRecord;
use super::rows;
use super::schema::{self, family};
use super::share_log;
use crate::wire::ChannelKey;
use crate::work::{Dictated, GatewayMemory, NTIME_WINDOW_S, Pin, SPLIT_GOOD_FOR_S, SPLIT_KNOWN_FOR_S, Terms};

/// How far the clock may have been set back between then and now.
pub(super) const CLOCK_SLACK_S: u64 = 600;

/// By so much more than the shares that are read reach back must a session be younger, where none of them is its own, for it to have
/// none: its beginning was written by a clock that may have been ahead by an hour, as for a zone that was set wrong, and set back since.
/// Older ones go by the housekeeper's rule, which allows a day.
const SESSION_SLACK_S: u64 = 3_600;

const _: () = assert!(SESSION_SLACK_S < DUPLICATES_FOR_S);

/// Shares so old cannot come again: what a start reads back for duplicates.
pub(super) const DUPLICATES_FOR_S: u64 = 2 * NTIME_WINDOW_S + CLOCK_SLACK_S;

/// Sessions of one gateway that are begun and not proved. A gateway has one connection at a time, and proves it with its
/// first message; the others are of those that broke, or somebody replays what was recorded.
pub const UNPROVED_MAX: usize = 4;

/// A gateway as the ledger knows it.
pub struct RestoredGateway {
    /// The gateway's long-term Ed25519 key.
    pub key: [u8; 32],
    pub memory: GatewayMemory,
    /// The last of its sessions that was proven, and the channel key of it.
    pub former: Option<(u32, ChannelKey)>,
    pub unproved: Unproved,
    /// The HELLOs that began those of its sessions which were open, or ended at most `resume_for_s` ago: whoever sends one of
    /// them again has it from the wire.
    pub hellos: Vec<HelloName>,
}

impl RestoredGateway {
    fn rank(&self) -> Rank {
        let proven = self.memory.newest_terms();
        let terms = self.unproved.terms.iter().chain(proven);
        Rank {
            has_work: self.memory.has_work(),
            is_proven: proven.is_some(),
            last: terms.map(|terms| terms.prime_id).max().unwrap_or_default(),
        }
    }
}

/// What is left of sessions that nobody had proved when the process before ended. Their gateway may have had its CONFIG, so
/// they count once a frame of it comes.
#[derive(Default)]
pub struct Unproved {
    /// Those begun last, [`UNPROVED_MAX`] of them; oldest first.
    pub terms: Vec<Terms>,
    /// The channel key of the last, where the process ended in order.
    pub key: Option<ChannelKey>,
}

/// Gateways with a session that was still open, or ended at most `resume_for_s` ago, no more than may be remembered: whoever is to
/// go first for others stands first; and what is left of others.
pub(super) struct Restored {
    pub gateways: Vec<RestoredGateway>,
    pub left: Left,
}

/// Sessions by `prime_id` whose rows do not say what became of them.
#[derive(Default)]
pub(super) struct Left {
    /// Not ended.
    pub open: Vec<u32>,
    /// Of no use any more, and without a share: never proved, or proved and ended too long ago. With their gateways' Ed25519 keys.
    pub useless: Vec<(u32, [u8; 32])>,
    /// Those that still have a channel key, and ended so long ago that no frame under it can matter, or it does not open.
    pub useless_keys: Vec<u32>,
}

/// What a start looks back to.
struct Horizon {
    /// A session that ended before is over.
    since_ms: u64,
    /// Shares from before are not read.
    oldest_ms: u64,
}

impl Horizon {
    fn of(options: &LedgerOptions) -> Self {
        Self {
            since_ms: options.now_s.saturating_sub(options.resume_for_s) * 1_000,
            oldest_ms: options.now_s.saturating_sub(DUPLICATES_FOR_S) * 1_000,
        }
    }

    /// Whether its gateway may go on with its terms.
    fn goes_on(&self, session: &Session) -> bool {
        session.ended_ms.is_none_or(|ended_ms| ended_ms >= self.since_ms)
    }

    /// Whether every share of a session is among those that are read.
    fn has_all_shares_of(&self, session: &SessionRow) -> bool {
        session.opened_ms >= self.oldest_ms + SESSION_SLACK_S * 1_000
    }
}

pub(super) fn restore(
    db: &DB,
    books: &LedgerBooks,
    options: &LedgerOptions,
    keys: &mut ChannelKeysAtRest,
) -> Result<Restored, LedgerError> {
    let horizon = Horizon::of(options);
    let chosen = Chosen::read(db, &horizon, options.gateways_max)?;
    // Those that nobody can work under any more, with their gateways; until a share of them is found.
    let mut over: HashMap<u32, [u8; 32]> = HashMap::new();
    let mut left = Left::default();
    let mut found = Found::default();
    let mut by_prime_id: HashMap<u32, usize> = HashMap::new();
    let mut unproved: Vec<Session> = Vec::new();
    let mut sealed = SealedKeys {
        db,
        keys,
        options,
        lost: 0,
    };
    for session in reader::sessions(db) {
        let session = session?;
        let prime_id = session.row.terms.prime_id;
        let gateway = session.row.gateway.ed25519;
        if !horizon.goes_on(&session) || !chosen.has(&gateway) {
            if session.proven_ms.is_none() {
                left.useless.push((prime_id, gateway));
                continue;
            }
            if session.ended_ms.is_none() {
                left.open.push(prime_id);
            }
            if horizon.has_all_shares_of(&session.row) {
                over.insert(prime_id, gateway);
            }
            if sealed.is_there(prime_id)? {
                left.useless_keys.push(prime_id);
            }
            continue;
        }
        if session.proven_ms.is_none() {
            unproved.push(session);
            continue;
        }
        if session.ended_ms.is_none() {
            left.open.push(prime_id);
        }
        let at = found.gateway(&session.row);
        by_prime_id.insert(prime_id, at);
        if let Some(channel_key) = sealed.open(&session, &mut left)? {
            found.gateways[at].former = Some((prime_id, channel_key));
        }
        let row = session.row;
        let may_be_idle = horizon.has_all_shares_of(&row);
        let memory = &mut found.gateways[at].memory;
        memory.learn_terms(row.terms, row.opened_ms / 1_000);
        // One that is open ends with this start.
        memory.end_terms(session.ended_ms.map_or(options.now_s, |ended_ms| ended_ms / 1_000));
        if !may_be_idle {
            // As far as it is known.
            memory.note_work(prime_id);
        }
    }
    // The last first: of those that a gateway has too many of the oldest go.
    for session in unproved.into_iter().rev() {
        let prime_id = session.row.terms.prime_id;
        let at = found.gateway(&session.row);
        let unproved = &mut found.gateways[at].unproved;
        if unproved.terms.len() == UNPROVED_MAX {
            left.useless.push((prime_id, session.row.gateway.ed25519));
            continue;
        }
        if session.ended_ms.is_none() {
            left.open.push(prime_id);
        }
        if unproved.terms.is_empty() {
            unproved.key = sealed.open(&session, &mut left)?;
        } else if sealed.is_there(prime_id)? {
            left.useless_keys.push(prime_id);
        }
        unproved.terms.insert(0, session.row.terms);
    }
    if sealed.lost > 0 {
        tracing::warn!(
            keys = sealed.lost,
            "channel keys do not open: what gateways send before their new session is made is passed over"
        );
    }
    let mut gateways = found.gateways;

    for gateway in &mut gateways {
        // Of more terms than are kept the oldest went, before it is known whether there are shares under them.
        let gone = gateway.memory.take_unnamed();
        over.extend(gone.into_iter().map(|prime_id| (prime_id, gateway.key)));
    }

    let mut over_bound = vec![false; gateways.len()];
    let reads_shares = !gateways.is_empty() || !over.is_empty();
    let mut take = |share: &ShareRecord| {
        over.remove(&share.prime_id);
        if let Some(at) = by_prime_id.get(&share.prime_id) {
            let memory = &mut gateways[*at].memory;
            memory.note_work(share.prime_id);
            over_bound[*at] |= memory.restore_share(&share.parent, share.hash64).is_err();
        }
    };
    if reads_shares {
        let first = share_log::first_since(db, horizon.oldest_ms)?;
        for share in share_log::shares(db, first)? {
            take(&share?.1);
        }
    }
    // They were answered, so they are taken, whatever becomes of them.
    for waiting in reader::waiting(db) {
        take(&waiting?.1.record);
    }
    left.useless.extend(over);
    for gateway in gateways.iter().filter(|gateway| !gateway.memory.has_work()) {
        let proven = gateway.former.iter().map(|(prime_id, _)| *prime_id);
        let unproved = gateway.unproved.terms.last().map(|terms| terms.prime_id);
        proven
            .chain(unproved)
            .for_each(|prime_id| sealed.keys.note_idle(prime_id));
    }
    restore_splits(db, books, options, &mut gateways, &by_prime_id)?;
    // Where not every duplicate is known none of the old work may count: the gateway begins anew.
    let mut over_bound = over_bound.into_iter();
    gateways.retain(|gateway| {
        let over_bound = over_bound.next() == Some(true);
        if over_bound {
            let gateway = gateway.key[..8].to_lower_hex_string();
            tracing::warn!(gateway, "more shares than its bound: the gateway begins anew");
        }
        !over_bound
    });
    gateways.sort_by_key(RestoredGateway::rank);
    Ok(Restored { gateways, left })
}

/// Splits that a job may still use, each with the books as they stood when it was dictated, and before them those that it
/// could use until lately.
fn restore_splits(
    db: &DB,
    books: &LedgerBooks,
    options: &LedgerOptions,
    gateways: &mut [RestoredGateway],
    by_prime_id: &HashMap<u32, usize>,
) -> Result<(), LedgerError> {
    let known_since_s = options.now_s.saturating_sub(SPLIT_KNOWN_FOR_S);
    let good_since_s = options.now_s.saturating_sub(SPLIT_GOOD_FOR_S);
    let mut rows = Vec::new();
    for row in reader::splits(db, known_since_s) {
        let row = row?;
        if row.time_s >= good_since_s {
            rows.push(row);
        } else if let Some(at) = by_prime_id.get(&row.prime_id) {
            let memory = &mut gateways[*at].memory;
            memory.learn_expired_split(row.value, row.parent, row.time_s, row.split);
        }
    }
    // By the pool's script of then, since the operator may have changed it between two starts. Pins with the latest first.
    let mut pins: HashMap<Box<[u8]>, BTreeSet<Reverse<Pin>>> = HashMap::new();
    let mut dictated = Vec::new();
    for row in rows {
        if let Some(at) = by_prime_id.get(&row.prime_id)
            && let Some(session) = reader::session(db, row.prime_id)?
        {
            let script = session.terms.script;
            pins.entry(script.clone()).or_default().insert(Reverse(row.split.pin));
            dictated.push((*at, script, row));
        }
    }
    let mut snapshots = HashMap::new();
    for (script, pins) in pins {
        let pins: Vec<Pin> = pins.into_iter().map(|Reverse(pin)| pin).collect();
        let of_script = books.former_snapshots(&pins, &script, db)?;
        snapshots.insert(script, of_script);
    }
    for (at, script, row) in dictated {
        if let Some(snapshot) = snapshots
            .get(&script)
            .and_then(|of_script| of_script.get(&row.split.pin))
        {
            gateways[at].memory.learn_split(Dictated {
                coinbaser_id: row.coinbaser_id,
                value: row.value,
                parent: row.parent,
                with_balances: row.split.with_balances,
                time_s: row.time_s,
                split: snapshot.clone(),
            });
        }
    }
    Ok(())
}

/// Gateways in the order in which they were found.
#[derive(Default)]
struct Found {
    gateways: Vec<RestoredGateway>,
    by_key: HashMap<[u8; 32], usize>,
}

impl Found {
    /// That of a session.
    fn gateway(&mut self, session: &SessionRow) -> usize {
        let key = session.gateway.ed25519;
        let at = *self.by_key.entry(key).or_insert_with(|| {
            self.gateways.push(RestoredGateway {
                key,
                memory: GatewayMemory::new(),
                former: None,
                unproved: Unproved::default(),
                hellos: Vec::new(),
            });
            self.gateways.len() - 1
        });
        let hellos = &mut self.gateways[at].hellos;
        // Terms that followed are a row of their own, of the same HELLO.
        hellos.extend(session.hello.filter(|hello| hellos.last() != Some(hello)));
        at
    }
}

/// Reads channel keys back.
struct SealedKeys<'a> {
    db: &'a DB,
    keys: &'a mut ChannelKeysAtRest,
    options: &'a LedgerOptions,
    /// Keys that did not open.
    lost: u64,
}

impl SealedKeys<'_> {
    fn is_there(&self, prime_id: u32) -> Result<bool, LedgerError> {
        Ok(self.row(prime_id)?.is_some())
    }

    /// The key of a session, for as long as it matters.
    fn open(&mut self, session: &Session, left: &mut Left) -> Result<Option<ChannelKey>, LedgerError> {
        let prime_id = session.row.terms.prime_id;
        let Some(row) = self.row(prime_id)? else {
            return Ok(None);
        };
        let LedgerOptions {
            resume_for_s, now_s, ..
        } = *self.options;
        // One that is open ends with this start.
        let ended_s = session.ended_ms.map_or(now_s, |ended_ms| ended_ms / 1_000);
        let time_left = Duration::from_secs((ended_s + resume_for_s).saturating_sub(now_s));
        let sealed = rows::session::decode_sealed_key(&row)?;
        let key = self.keys.read(prime_id, &sealed, time_left);
        if key.is_none() {
            left.useless_keys.push(prime_id);
            self.lost += 1;
        }
        Ok(key)
    }

    fn row(&self, prime_id: u32) -> Result<Option<Vec<u8>>, LedgerError> {
        let key = rows::session::key(prime_id, rows::session::KEY);
        Ok(self.db.get_cf(family(self.db, schema::SESSIONS), key)?)
    }
}
