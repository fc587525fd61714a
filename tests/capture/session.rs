//! A session of the real pool allocates nothing for a share, from the socket to the answer: what its shard takes is the
//! runtime's, for each wait of a socket and each batch of the ledger.

use millrace::work::Chain;

use crate::allocations::watched;
use crate::pool::gateway::Gateway;
use crate::pool::in_process::InProcess;
use crate::pool::session::Session;
use crate::pool::work::{Found, Template};

/// Shares of one measurement.
const SHARES: usize = 512;

#[test]
fn a_session_allocates_nothing_for_a_share() {
    let pool = InProcess::start(1 << 20, Chain::dev(u64::MAX));
    let mut session = pool.connect(&Gateway::new());
    let template = session.template(0, 1);
    let mut next = 1;
    assert_eq!(session.submit(&template.share(0).with_sections()), Ok(()));
    let mut measure = |send: fn(&mut Session, &[Found<'_>])| {
        // Whatever grows has grown when the second half is sent.
        let [_, calls] = [(); 2].map(|()| {
            let shares = mine(&template, &mut next);
            watched::calls_of("shard-0", || send(&mut session, &shares))
        });
        calls
    };
    // What runs the session allocates for each wait, whatever the session does, but no bytes.
    let one_by_one = measure(send_broken);
    assert_eq!(
        one_by_one.buffers, 0,
        "{one_by_one:?} where each read ends within a frame"
    );
    assert!(one_by_one.all > 0, "nothing was counted at all");
    let together = measure(send_together);
    assert!(
        together.buffers == 0 && together.all < SHARES,
        "{together:?} for {SHARES} shares that come together"
    );
}

fn mine<'t>(template: &'t Template, next: &mut u32) -> Vec<Found<'t>> {
    let first = *next;
    *next += u32::try_from(SHARES).expect("few");
    (first..*next).map(|n| template.share(n)).collect()
}

/// A read for each, which brings the end of one and the beginning of the next.
fn send_broken(session: &mut Session, shares: &[Found<'_>]) {
    let ends: Vec<usize> = shares
        .iter()
        .map(|share| {
            session.push(&share.bare());
            session.pushed().len()
        })
        .collect();
    let wire = session.pushed().to_vec();
    session.cut_pushed(0);
    let mut sent = 0;
    for (at, share) in shares.iter().enumerate() {
        let next = ends
            .get(at + 1)
            .map_or(ends[at], |next| usize::midpoint(ends[at], *next));
        session.line.write(&wire[sent..next]);
        sent = next;
        assert_eq!(session.verdict(&share.bare()), Ok(()));
    }
}

fn send_together(session: &mut Session, shares: &[Found<'_>]) {
    shares.iter().for_each(|share| session.push(&share.bare()));
    session.flush();
    for share in shares {
        assert_eq!(session.verdict(&share.bare()), Ok(()));
    }
}
