//! Duplicates that a shard has let go of, read back beside the writer.

use std::sync::mpsc;

use super::*;
use crate::ledger::{Reload, Reloaded, WaitingEntry, unix_ms};
use crate::work::{BlockFacts, ReloadWanted};

const BACK: [u8; 32] = [9; 32];

/// The answers to as many reloads, by number.
fn reload(shard: &Shard, wanted: Vec<ReloadWanted>) -> Vec<Reloaded> {
    let (sender, answers) = mpsc::channel();
    let count = wanted.len();
    for (number, wanted) in (0..).zip(wanted) {
        let sender = sender.clone();
        shard.ledger.reload(Reload {
            number,
            wanted,
            answer: Arc::new(move |reloaded| sender.send(reloaded).expect("somebody hears it")),
        });
    }
    drop(sender);
    let mut answers: Vec<_> = answers.iter().take(count).collect();
    answers.sort_by_key(|answer| answer.number);
    answers
}

fn wanted(prime_ids: &[u32], parent: [u8; 32]) -> ReloadWanted {
    ReloadWanted {
        parent,
        prime_ids: prime_ids.to_vec(),
    }
}

#[test]
fn what_can_come_again_of_a_gateway_on_a_parent_is_read_back() {
    let data = TempDir::new().expect("a folder");
    let mut served = Served::open(data.path(), 1);
    let shard = &mut served.shards[0];
    let now_ms = unix_ms();
    for (gateway, prime_id) in [(1, 1), (1, 2), (2, 3)] {
        shard.push(Entry::session(SessionRow {
            opened_ms: now_ms - 5 * 3_600_000,
            ..session(gateway, prime_id)
        }));
    }
    let miner = shard.miner(1, "rig");
    let of = |prime_id, hash64, parent, age_s: u64| ShareEntry {
        parent,
        time_ms: now_ms - age_s * 1_000,
        ..share(miner, prime_id, hash64)
    };
    let shares = [
        of(1, 10, BACK, 6 * 3_600),
        of(1, 11, BACK, 4 * 3_600),
        of(1, 12, [8; 32], 3_600),
        of(2, 13, BACK, 60),
        of(3, 14, BACK, 0),
        of(4, 15, BACK, 0),
    ];
    for share in shares {
        // A chunk of its own for each: old ones are found by chunks.
        shard.push(Entry::Share(share));
        shard.settle();
    }
    // Answered, and not in the log yet.
    let facts = BlockFacts {
        nbits: 0,
        height: 0,
        value: 0,
        ntime: 0,
    };
    let share = of(2, 16, BACK, 0);
    shard.push(Entry::Waiting(Box::new(WaitingEntry { share, facts })));
    shard.settle();
    let asked = vec![wanted(&[1, 2], BACK), wanted(&[3], BACK), wanted(&[1, 2], [7; 32])];
    let read: Vec<_> = reload(shard, asked)
        .into_iter()
        .map(|reloaded| {
            let mut shares = reloaded.shares.expect("it can be read");
            shares.sort_unstable();
            shares
        })
        .collect();
    assert_eq!(read, [vec![11, 13, 16], vec![14], vec![]]);
    served.stop();
}

#[test]
fn a_shard_that_asks_when_nobody_reads_any_more_hears_so() {
    let data = TempDir::new().expect("a folder");
    let Served { writer, shards, .. } = Served::open(data.path(), 1);
    writer.stop();
    let unread = Reloaded {
        number: 0,
        shares: None,
    };
    assert_eq!(reload(&shards[0], vec![wanted(&[1], BACK)]), [unread]);
}
