//! On the way of a share without sections nothing is allocated: from ciphertext to verdict, and from verdict to
//! ciphertext.

#[path = "capture/allocations.rs"]
mod allocations;
#[cfg(feature = "engine")]
#[allow(dead_code)] // Most of it is for the promises.
mod pool;
#[cfg(feature = "engine")]
#[path = "capture/session.rs"]
mod session;
#[path = "../benches/work/mod.rs"]
mod work;

use allocations::{Allocated, Counting, allocated};
use millrace::wire::Reason;
use work::{Kind, SHARES, Stream};

#[global_allocator]
static COUNTING: Counting = Counting;

#[test]
fn a_share_allocates_nothing_but_room_for_duplicates() {
    for kind in [Kind::over(0), Kind::over(12), Kind::over(12).of_class(4, 508)] {
        let stream = Stream::new(kind);
        let mut allocating = 0;
        stream.time(SHARES, |session, frame| {
            let (taken, used) = allocated(|| session.take(frame, &stream.key));
            allocating += usize::from(used != Allocated::default());
            taken.is_ok()
        });
        // The table of duplicates had 32 places and doubled as it filled up.
        let doublings = (2 * SHARES / 32).ilog2() as usize;
        assert!(allocating <= doublings, "{allocating} of {SHARES} shares allocated");
        assert!(allocating > 0, "nothing was counted at all");
    }
}

#[test]
fn a_refused_share_allocates_nothing() {
    for reason in [Reason::BadVersion, Reason::BadUsername] {
        let stream = Stream::refused(Kind::over(12).of_class(2, 17), reason);
        let mut refused = 0;
        stream.time(SHARES, |session, frame| {
            let (taken, used) = allocated(|| session.take(frame, &stream.key));
            // A name is read with its first share, and refused by that from then on.
            let is_read = refused == 0 && reason == Reason::BadUsername;
            assert!(is_read || used == Allocated::default(), "{used:?} for share {refused}");
            refused += usize::from(taken.is_err());
            false
        });
        assert_eq!(refused, SHARES);
    }
}

#[test]
fn a_proof_takes_no_more_than_is_counted_however_many_outputs_it_is_of() {
    let stream = Stream::new(Kind::over(0).of_class(4, 400));
    let mut session = stream.fresh();
    let mut first = stream.first.clone();
    // What is left of the first share: the job in its slot, its section, and the first places for duplicates.
    let (taken, used) = allocated(|| session.take(&mut first, &stream.key));
    assert!(taken.is_ok(), "{taken:?}");
    let counted = session.coinbase_bytes();
    assert!(counted > stream.coinbase.bytes());
    assert!(
        used.bytes < counted + 4_096,
        "{used:?}, and {counted} bytes are counted"
    );
}

#[test]
fn an_answer_allocates_nothing_where_the_buffer_has_room() {
    let stream = Stream::new(Kind::over(0));
    let mut session = stream.session();
    let mut out = Vec::with_capacity(64 * 100);
    let ((), used) = allocated(|| (0..100).for_each(|nonce| session.answer(nonce, &stream.key, &mut out)));
    assert_eq!(used, Allocated::default());
    assert!(!out.is_empty());
}
