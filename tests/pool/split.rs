//! A gateway's part in splits: asking for them, coinbases that pay them, blocks found on those.

use millrace::wire::{CoinbaserRequest, ExtranoncePlace, Reason};

use super::session::{Heard, Session};
use super::wait_until;
use super::work::{Job, Recipe, SUBSIDY, Template};

/// A hash in so many is a block.
pub const DIFFICULTY_POT: u8 = 16;

/// Miners, and the shares that each has sent.
pub const MINERS: [(&str, u32); 3] = [
    ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", 5),
    ("1BvBMSEYstWetqTFn5Au4m4GFg7xJaNVN2", 3),
    ("bc1qrp33g0q5c5txsp9arysrx4k6zdkfs4nce4xj0gdcccefvpysxf3qccfmv3", 1),
];

/// Satoshi and output script.
pub type Paid = (u64, Vec<u8>);

pub struct Split {
    pub coinbaser_id: u8,
    pub outputs: Vec<Paid>,
}

pub fn ask(session: &mut Session, value: u64, parent: u8) -> Split {
    session.send(&CoinbaserRequest {
        value,
        prev_block_hash: &[parent; 32],
        padding: &[0],
    });
    match session.next_but_info() {
        Heard::Split {
            value: echoed,
            coinbaser_id,
            outputs,
        } => {
            assert_eq!(echoed, value, "the value pairs an answer with its question");
            assert_ne!(coinbaser_id, 0);
            Split { coinbaser_id, outputs }
        }
        other => panic!("a split is due, not {other:?}"),
    }
}

/// Asks until the split knows so many payees: a snapshot is a second old at most.
pub fn ask_until(session: &mut Session, parent: u8, payees: usize) -> Split {
    let mut latest = None;
    wait_until(
        || {
            let split = ask(session, SUBSIDY, parent);
            let enough = split.outputs.len() == payees;
            latest = Some(split);
            enough
        },
        || format!("no split ever pays {payees}"),
    );
    latest.expect("asked at least once")
}

/// A template whose coinbase makes these payments, before the rest to the pool.
pub fn template(session: &Session, slot: u8, parent: u8, payouts: &[Paid], coinbaser_id: u8) -> Template {
    paying(session, slot, parent, payouts, coinbaser_id, ExtranoncePlace::Push)
}

/// The same with the extranonce in any place.
pub fn paying(
    session: &Session,
    slot: u8,
    parent: u8,
    payouts: &[Paid],
    coinbaser_id: u8,
    place: ExtranoncePlace,
) -> Template {
    let mut job = Job::new(slot, parent);
    job.coinbaser_id = coinbaser_id;
    let mut recipe = Recipe::new(&job, session.terms());
    let paid: u64 = payouts.iter().map(|(value, _)| value).sum();
    recipe.payments[0].0 -= paid;
    recipe.payments.splice(0..0, payouts.iter().cloned());
    let transaction = recipe.with_extranonce_in(place);
    Template::new(job, session.terms()).with(&transaction)
}

/// Mines what counts as work and is no block.
pub fn work(session: &mut Session) {
    let template = session.template(0, 1);
    let mut number = 0;
    for (address, shares) in MINERS {
        for _ in 0..shares {
            number += 1;
            let mut share = template.draft(number).mine_below(DIFFICULTY_POT);
            share.username = format!("{address}.rig").into_bytes();
            assert_eq!(session.submit(&share.with_sections()), Ok(()));
        }
    }
}

pub fn submit(session: &mut Session, template: &Template, n: u32) -> Result<(), Reason> {
    let share = template.draft(n).mine_below(DIFFICULTY_POT);
    session.submit(&share.with_sections())
}

/// Finds a block on the template; its hash as people write it.
pub fn find_block(session: &mut Session, template: &Template, n: u32) -> String {
    let mut share = template.draft(n);
    share.pot = DIFFICULTY_POT;
    let share = share.mine();
    assert_eq!(session.submit(&share.with_sections()), Ok(()));
    let mut hash = share.hash();
    hash.reverse();
    hash.iter().map(|byte| format!("{byte:02x}")).collect()
}
