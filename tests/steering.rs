//! A gateway that sends more shares than the pool wants is told a higher difficulty; what it mined before still counts.

use std::time::Duration;

use millrace::wire::Reason;
use millrace::work::{MinDiff, Terms};

use crate::pool::gateway::Gateway;
use crate::pool::session::{Heard, Session};
use crate::pool::work::{Job, Template};
use crate::pool::{Launch, Pool};

/// Sends shares until CONFIG comes again; says how many were sent and what it says.
fn mine_until_told(session: &mut Session, template: &Template) -> (u32, Terms) {
    for n in 0..2_000 {
        session.send(&template.share(n).with_sections());
        match session.next_but_info() {
            Heard::Answer(_) => {}
            Heard::Config(terms) => return (n + 1, terms),
            other => panic!("{other:?}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    panic!("the difficulty never rises");
}

#[test]
fn the_difficulty_follows_and_former_work_counts() {
    let mut pool = Pool::launch(Launch::config("[pool]\nshares_per_minute = 1\nmin_diff_max = 256\n"));
    let gateway = Gateway::new();
    let mut session = gateway.connect(&pool);
    let before = session.template(0, 1);
    let first = session.terms().clone();
    let (sent, told) = mine_until_told(&mut session, &before);
    assert!(told.prime_id != first.prime_id && told.min_diff > first.min_diff);
    assert!((8..=256).contains(&told.min_diff.get()), "{:?}", told.min_diff);
    // The share that CONFIG came before is still to be answered.
    assert_eq!(session.verdict(&before.share(sent - 1).bare()), Ok(()));

    assert_eq!(
        session.submit(&before.share(5_000).bare()),
        Ok(()),
        "old terms, old difficulty"
    );
    let after = Template::new(Job::new(1, 1), &told);
    assert_eq!(
        session.submit(&after.share(0).with_sections()),
        Ok(()),
        "new terms, new difficulty"
    );
    let easy = Terms::new(
        told.prime_id,
        &told.script,
        &told.tag,
        MinDiff::new(1).expect("a power of two"),
    );
    let easy = Template::new(Job::new(2, 1), &easy);
    assert_eq!(
        session.submit(&easy.share(0).with_sections()),
        Err(Reason::BadTarget),
        "new terms, old difficulty"
    );
    assert!(pool.metric("millrace_min_diff_changes_total", &["direction=\"up\""]) >= 1);

    drop(session);
    for kill in [false, true] {
        if kill {
            pool.kill();
            pool.restart();
        }
        let mut again = gateway.connect(&pool);
        assert_eq!(again.terms().min_diff, told.min_diff, "it goes on where it was");
        let n = if kill { 7_000 } else { 6_000 };
        assert_eq!(
            again.submit(&before.share(n).with_sections()),
            Ok(()),
            "the first terms"
        );
        assert_eq!(again.submit(&after.share(n).with_sections()), Ok(()), "the second");
        assert_eq!(
            again.submit(&after.share(0).with_sections()),
            Err(Reason::DuplicateWork)
        );
    }
}
