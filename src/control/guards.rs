//! Who is banned, over all shards, and how that is ended.

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::time::Duration;

use serde::Serialize;

use super::bans;
use super::pool::Pool;
use crate::guard::{Banned, Subject};
use crate::shard::{AskGuards, InboxFull, Lift, ShardCommand};

/// How long the shards may take: each answers in its next turn.
const PATIENCE: Duration = Duration::from_secs(10);

/// Bans that one answer lists.
const SHOWN_MAX: usize = 1_000;

/// The guards of all shards.
#[derive(Debug, Serialize)]
pub(super) struct Guards {
    /// Those that last longest first, a thousand at most.
    bans: Vec<Shown>,
    /// All that there are.
    banned: usize,
    /// Bans that were lifted just now.
    lifted: usize,
    /// Addresses known, on the shard that knows most.
    addresses: usize,
}

#[derive(Debug, Serialize)]
struct Shown {
    /// An IPv4 address, or an IPv6 network.
    address: String,
    /// The rule.
    why: &'static str,
    seconds_left: u64,
    /// Bans before it that are not forgotten.
    strikes: u8,
}

/// An address whose ban is to be lifted, or `all`.
pub(super) fn read_lift(text: &str) -> Result<Lift, String> {
    if text == "all" {
        return Ok(Lift::All);
    }
    let subject = bans::subject(text);
    let subject = subject.ok_or_else(|| format!("`{text}` is no address; write one that is banned, or `all`"))?;
    Ok(Lift::One(subject))
}

/// What the guards of all shards know.
pub(super) struct Gathered {
    /// Bans, over or not, that are not forgotten.
    pub bans: BTreeMap<Subject, Banned>,
    lifted: usize,
    addresses: usize,
    /// The clock that bans are written by.
    now_ms: u64,
}

/// Asks every shard, and shows the bans that hold. What was lifted stays so when the pool begins again.
pub(super) fn ask(pool: &Pool, lift: Option<Lift>) -> Result<Guards, String> {
    let gathered = gather(pool, lift)?;
    if lift.is_some()
        && let Some(desk) = &pool.bans
    {
        desk.note_lifted();
        desk.save(pool)
            .map_err(|error| format!("lifted, but not on disk: {error}"))?;
    }
    let left_ms = |banned: &Banned| banned.ban.until_ms.saturating_sub(gathered.now_ms);
    let holding = gathered.bans.values().filter(|banned| left_ms(banned) > 0);
    let mut bans: Vec<Shown> = holding
        .map(|banned| Shown {
            address: banned.subject.to_string(),
            why: banned.ban.why.label(),
            seconds_left: left_ms(banned).div_ceil(1_000),
            strikes: banned.ban.strikes,
        })
        .collect();
    let banned = bans.len();
    bans.sort_by_key(|shown| std::cmp::Reverse(shown.seconds_left));
    bans.truncate(SHOWN_MAX);
    Ok(Guards {
        bans,
        banned,
        lifted: gathered.lifted,
        addresses: gathered.addresses,
    })
}

/// Asks every shard.
pub(super) fn gather(pool: &Pool, lift: Option<Lift>) -> Result<Gathered, String> {
    let (reply, answers) = mpsc::channel();
    let without_room = pool.order(&ShardCommand::Guards(AskGuards { lift, reply }));
    if !without_room.is_empty() {
        return Err(format!("shards {without_room:?}: {InboxFull}"));
    }
    let mut gathered = Gathered {
        bans: BTreeMap::new(),
        lifted: 0,
        addresses: 0,
        now_ms: 0,
    };
    for _ in 0..pool.shards() {
        let shown = answers.recv_timeout(PATIENCE);
        let shown = shown.map_err(|_| "a shard has not answered; ask again".to_owned())?;
        gathered.addresses = gathered.addresses.max(shown.addresses);
        // A ban is known to all shards.
        gathered.lifted = gathered.lifted.max(shown.lifted);
        gathered.now_ms = gathered.now_ms.max(shown.now_ms);
        for banned in shown.bans {
            let known = gathered.bans.entry(banned.subject).or_insert(banned);
            if known.ban.until_ms < banned.ban.until_ms {
                *known = banned;
            }
        }
    }
    Ok(gathered)
}
