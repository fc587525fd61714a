//! Who is banned, over all shards, and how that is ended.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::mpsc;
use std::time::Duration;

use serde::Serialize;

use super::pool::Pool;
use crate::shard::{AskGuards, InboxFull, Lift, ShardCommand};

/// How long the shards may take: each answers in its next turn.
const PATIENCE: Duration = Duration::from_secs(2);

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
    // As it is shown: an IPv6 network with its length.
    let address = text.strip_suffix("/64").unwrap_or(text);
    let address: Result<IpAddr, _> = address.parse();
    let address = address.map_err(|_| format!("`{text}` is no address; write one that is banned, or `all`"))?;
    Ok(Lift::One(address.into()))
}

/// Asks every shard.
pub(super) fn ask(pool: &Pool, lift: Option<Lift>) -> Result<Guards, String> {
    let (reply, answers) = mpsc::channel();
    let without_room = pool.order(&ShardCommand::Guards(AskGuards { lift, reply }));
    if !without_room.is_empty() {
        return Err(format!("shards {without_room:?}: {InboxFull}"));
    }
    let mut bans = BTreeMap::new();
    let (mut lifted, mut addresses) = (BTreeMap::new(), 0);
    for shard in 0..pool.shards() {
        let shown = answers.recv_timeout(PATIENCE);
        let shown = shown.map_err(|_| "a shard has not answered; ask again".to_owned())?;
        addresses = addresses.max(shown.addresses);
        lifted.insert(shard, shown.lifted);
        for banned in shown.bans {
            let left_ms = banned.ban.until_ms.saturating_sub(shown.now_ms);
            let shown = Shown {
                address: banned.subject.to_string(),
                why: banned.ban.why.label(),
                seconds_left: left_ms.div_ceil(1_000),
                strikes: banned.ban.strikes,
            };
            bans.insert(banned.subject, shown);
        }
    }
    let banned = bans.len();
    let mut bans: Vec<Shown> = bans.into_values().collect();
    bans.sort_by_key(|shown| std::cmp::Reverse(shown.seconds_left));
    bans.truncate(SHOWN_MAX);
    Ok(Guards {
        bans,
        banned,
        // A ban is known to all shards.
        lifted: lifted.into_values().max().unwrap_or(0),
        addresses,
    })
}
