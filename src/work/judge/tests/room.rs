//! A template that was checked with the coinbase of one class holds those of the others, whenever they come.

use super::*;
use crate::work::CoinbaseRoom;
use crate::work::template::{BLOCK_SIGOPS_MAX, BLOCK_WEIGHT_MAX};

/// What drafts commit to.
const COMMITMENT: [u8; 32] = [0x5a; 32];

/// The first job of a session, in the slot of all drafts.
const NUMBER: u64 = 1;

/// Weight of a draft's coinbase in a block: four units a byte, and 36 of its witness.
fn weight(draft: &Draft) -> u64 {
    4 * draft.rebuild().2.len() as u64 + 36
}

/// As much as the coinbase of this draft takes, and not one unit more.
fn room_for(draft: &Draft) -> CoinbaseRoom {
    CoinbaseRoom {
        weight: BLOCK_WEIGHT_MAX - weight(draft),
        sigops: BLOCK_SIGOPS_MAX / 4,
        commitment: COMMITMENT,
        needs_commitment: true,
    }
}

/// Class 0, and one that is some bytes longer, since its extranonce stands in an output; neither sent before.
fn short_and_long() -> (Draft, Draft) {
    let long = cooked(|recipe| recipe.place = Place::Output(0)).of_class(2);
    let long = Draft {
        sends_job: false,
        ..long
    };
    let short = Draft::good().mined();
    assert!(weight(&long) > weight(&short));
    (short, long)
}

#[test]
fn a_coinbase_that_comes_after_the_check_must_fit() {
    let (short, long) = short_and_long();
    let mut pool = Pool::new();
    assert_eq!(pool.verdict(&short), Ok(()));
    assert!(pool.jobs.hold_to(short.job_id, NUMBER, room_for(&short)));
    assert_eq!(pool.verdict(&next(&short)), Ok(()), "what was checked fits to the unit");
    assert_eq!(pool.verdict(&long), Err(Reason::BadCoinbase));
    assert_eq!(pool.verdict(&next(&long)), Err(Reason::BadCoinbase));
    // Where there is room for it, it counts.
    let mut pool = Pool::new();
    assert_eq!(pool.verdict(&short), Ok(()));
    assert!(pool.jobs.hold_to(short.job_id, NUMBER, room_for(&long)));
    assert_eq!(pool.verdict(&long), Ok(()));
}

#[test]
fn a_coinbase_that_was_there_before_must_fit_as_well() {
    let (short, long) = short_and_long();
    let mut pool = Pool::new();
    assert_eq!(pool.verdict(&short), Ok(()));
    assert_eq!(pool.verdict(&long), Ok(()));
    assert!(pool.jobs.hold_to(short.job_id, NUMBER, room_for(&short)));
    assert_eq!(pool.verdict(&next(&long)), Err(Reason::BadCoinbase));
    assert_eq!(pool.verdict(&next(&short)), Ok(()));
}

#[test]
fn commitment_and_signature_operations_are_held_as_well() {
    let (short, long) = short_and_long();
    let room = room_for(&long);
    let another = CoinbaseRoom {
        commitment: [0x5b; 32],
        ..room
    };
    let crowded = CoinbaseRoom {
        sigops: room.sigops + 1,
        ..room
    };
    for room in [another, crowded] {
        let mut pool = Pool::new();
        assert_eq!(pool.verdict(&short), Ok(()));
        assert!(pool.jobs.hold_to(short.job_id, NUMBER, room));
        assert_eq!(pool.verdict(&long), Err(Reason::BadCoinbase), "{room:?}");
    }
}

#[test]
fn another_job_in_the_slot_and_work_without_the_transactions_are_not_held_to_it() {
    let (short, long) = short_and_long();
    let none = CoinbaseRoom {
        weight: BLOCK_WEIGHT_MAX,
        ..room_for(&short)
    };
    let mut pool = Pool::new();
    assert_eq!(pool.verdict(&short), Ok(()));
    assert!(!pool.jobs.hold_to(short.job_id, NUMBER + 1, none));
    assert!(!pool.jobs.hold_to(short.job_id + 1, NUMBER, none));
    assert_eq!(pool.verdict(&long), Ok(()));
    assert!(pool.jobs.hold_to(short.job_id, NUMBER, none));
    let alone = Draft {
        sends_job: false,
        ..Draft::subsidy_only()
    };
    assert_eq!(pool.verdict(&alone.mined()), Ok(()));
    // The same job sent again is no other; one with other transactions is.
    let again = Draft {
        nonce: short.nonce + 1,
        ..short.clone()
    };
    assert_eq!(pool.verdict(&again.mined()), Err(Reason::BadCoinbase));
    let mut other = short.clone();
    other.branches[0] = [0x20; 32];
    assert_eq!(pool.verdict(&other.mined()), Ok(()));
}
