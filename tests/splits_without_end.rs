//! Who asks for splits without end, each time as soon as it has the last, is told so much and no more; who mines beside it at the same
//! address, or asks at another, is held up by none of it.

use std::time::Instant;

use crate::guards::{ATTACKER, banned, guarded, honest};
use crate::pool::gateway::Gateway;
use crate::pool::session::Session;
use crate::pool::split::ask;
use crate::pool::work::SUBSIDY;

#[test]
fn who_asks_for_splits_without_end_is_slowed_down_and_nobody_else_is() {
    const BYTES_PER_S: u64 = 400;
    const BURST: u64 = 40 * BYTES_PER_S;
    let pool = guarded(&format!("address_answer_bytes_per_s = {BYTES_PER_S}"));
    let mut session = honest(&pool);
    let began = Instant::now();
    let mut greedy = Gateway::new().connect_from(ATTACKER, &pool);
    let mut neighbour = Gateway::new().connect_from(ATTACKER, &pool);
    let slowed = || pool.metric("millrace_guard_slowed_total", &["rule=\"answers\""]);
    let mut least_bytes = 0;
    let mut marks = 1..;
    while slowed() < 5 {
        let split = ask(&mut greedy, SUBSIDY, 1);
        // What is on the wire beside the outputs is left out.
        least_bytes += split
            .outputs
            .iter()
            .map(|(_, script)| 9 + script.len() as u64)
            .sum::<u64>()
            + 4;
        assert!(least_bytes < 10 * BURST, "it is slowed down: {}", pool.metrics());
        let mark = marks.next().expect("few");
        if mark % 8 == 0 {
            ask(&mut session, SUBSIDY, 1);
            session.assert_works(mark);
            neighbour.assert_works(mark);
        }
    }
    let most_bytes = BURST + BYTES_PER_S * (began.elapsed().as_secs() + 1) + 1_024;
    assert!(least_bytes <= most_bytes, "{least_bytes} of {most_bytes}");
    let told = |session: &Session| session.infos.iter().any(|line| line.contains("more slowly"));
    assert!(
        told(&greedy) && !told(&session) && !told(&neighbour),
        "{:?}",
        greedy.infos
    );
    // For as long as it waits; what is said to all comes all the same.
    ask(&mut session, SUBSIDY, 1);
    session.assert_works(1_000_000);
    assert_eq!(banned(&pool, "answers"), 0);
    greedy.assert_works(1_000_000);
}
