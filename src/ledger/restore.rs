//! What gateways may still submit after a restart: their terms, their parents, their duplicates.
//!
//! A share can come again only under a `prime_id` that is still good, and with a header time within
//! [`NTIME_WINDOW_S`] of now. When it first came that time lay within the window of then. So no share older than two
//! windows can be taken twice, and that much of the log, read in order, gives all duplicates that matter.

use std::collections::HashMap;

use bitcoin::hex::DisplayHex;
use rocksdb::DB;

use super::entry::SplitRow;
use super::error::LedgerError;
use super::ledger_books::LedgerBooks;
use super::open::LedgerOptions;
use super::reader;
use super::rows;
use super::schema::{self, family};
use super::share_log;
use crate::wire::ChannelKey;
use crate::work::{Dictated, GatewayMemory, NTIME_WINDOW_S, Pin, SPLIT_GOOD_FOR_S};

/// How far the clock may have been set back between then and now.
const CLOCK_SLACK_S: u64 = 600;

/// Shares so old cannot come again: what a start reads back for duplicates.
pub(super) const DUPLICATES_FOR_S: u64 = 2 * NTIME_WINDOW_S + CLOCK_SLACK_S;

/// A gateway as the ledger knows it.
pub struct RestoredGateway {
    /// The gateway's long-term Ed25519 key.
    pub key: [u8; 32],
    pub memory: GatewayMemory,
    /// The last of its sessions that was proven, and the channel key of it.
    pub former: Option<(u32, ChannelKey)>,
}

/// Gateways with a session that was proven and still open, or ended at most `resume_for_s` ago; and what is left of
/// others.
pub(super) struct Restored {
    pub gateways: Vec<RestoredGateway>,
    pub left: Left,
}

/// Sessions by `prime_id` whose rows do not say what became of them.
#[derive(Default)]
pub(super) struct Left {
    /// Proven, and not ended.
    pub open: Vec<u32>,
    pub unproven: Vec<u32>,
    /// Ended so long ago that no frame under their channel key can matter.
    pub useless_keys: Vec<u32>,
}

pub(super) fn restore(db: &DB, books: &LedgerBooks, options: &LedgerOptions) -> Result<Restored, LedgerError> {
    let LedgerOptions {
        resume_for_s, now_s, ..
    } = *options;
    let since_ms = now_s.saturating_sub(resume_for_s) * 1_000;
    let mut left = Left::default();
    let mut gateways: Vec<RestoredGateway> = Vec::new();
    let mut by_key: HashMap<[u8; 32], usize> = HashMap::new();
    let mut by_prime_id: HashMap<u32, usize> = HashMap::new();
    for session in reader::sessions(db) {
        let session = session?;
        let row = session.row;
        let prime_id = row.terms.prime_id;
        if session.proven_ms.is_none() {
            left.unproven.push(prime_id);
            continue;
        }
        if session.ended_ms.is_none() {
            left.open.push(prime_id);
        }
        let channel_key = channel_key(db, prime_id)?;
        if session.ended_ms.is_some_and(|ended_ms| ended_ms < since_ms) {
            left.useless_keys.extend(channel_key.map(|_| prime_id));
            continue;
        }
        let key = row.gateway.ed25519;
        let at = *by_key.entry(key).or_insert_with(|| {
            gateways.push(RestoredGateway {
                key,
                memory: GatewayMemory::new(),
                former: None,
            });
            gateways.len() - 1
        });
        by_prime_id.insert(prime_id, at);
        if let Some(channel_key) = channel_key {
            gateways[at].former = Some((prime_id, channel_key));
        }
        gateways[at].memory.learn_terms(row.terms, row.opened_ms / 1_000);
    }

    let mut over_bound = vec![false; gateways.len()];
    if !gateways.is_empty() {
        let oldest_s = now_s.saturating_sub(DUPLICATES_FOR_S);
        let first = share_log::first_since(db, oldest_s * 1_000)?;
        for share in share_log::shares(db, first)? {
            let (_, share) = share?;
            if let Some(at) = by_prime_id.get(&share.prime_id) {
                over_bound[*at] |= gateways[*at].memory.restore_share(&share.parent, share.hash64).is_err();
            }
        }
    }
    // They were answered, so they are taken, whatever becomes of them.
    for waiting in reader::waiting(db) {
        let share = waiting?.1.record;
        if let Some(at) = by_prime_id.get(&share.prime_id) {
            over_bound[*at] |= gateways[*at].memory.restore_share(&share.parent, share.hash64).is_err();
        }
    }
    restore_splits(db, books, options, |prime_id, dictated| {
        if let Some(at) = by_prime_id.get(&prime_id) {
            gateways[*at].memory.learn_split(dictated);
        }
    })?;
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
    Ok(Restored { gateways, left })
}

/// Splits that a job may still use, the oldest first, each with the books as they stood when it was dictated.
fn restore_splits(
    db: &DB,
    books: &LedgerBooks,
    options: &LedgerOptions,
    mut learn: impl FnMut(u32, Dictated),
) -> Result<(), LedgerError> {
    let since_s = options.now_s.saturating_sub(SPLIT_GOOD_FOR_S);
    let rows: Vec<SplitRow> = reader::splits(db, since_s).collect::<Result<_, _>>()?;
    let mut pins: Vec<Pin> = rows.iter().map(|row| row.pin).collect();
    pins.sort_unstable_by(|a, b| b.cmp(a));
    pins.dedup();
    let snapshots = books.former_snapshots(&pins, &options.own_script, db)?;
    for row in rows {
        if let Some(snapshot) = snapshots.get(&row.pin) {
            let dictated = Dictated {
                coinbaser_id: row.coinbaser_id,
                value: row.value,
                parent: row.parent,
                with_balances: row.with_balances,
                time_s: row.time_s,
                split: snapshot.clone(),
            };
            learn(row.prime_id, dictated);
        }
    }
    Ok(())
}

fn channel_key(db: &DB, prime_id: u32) -> Result<Option<ChannelKey>, LedgerError> {
    let row = db.get_cf(
        family(db, schema::SESSIONS),
        rows::session::key(prime_id, rows::session::KEY),
    )?;
    Ok(row.map(|row| rows::session::decode_channel_key(&row)).transpose()?)
}
