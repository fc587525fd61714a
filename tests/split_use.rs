//! A session whose work hardly pays anybody, although it was told whom to pay in time, raises an alert, and is refused where
//! the operator has said so.

use millrace::wire::Reason;

use crate::pool::gateway::Gateway;
use crate::pool::session::Session;
use crate::pool::split::{Split, ask_until, submit, template, work};
use crate::pool::{Launch, Pool, wait_until};

/// What is said in the gateway's log.
const ALERT: &str = "does not pay the splits";

fn launch(without_payouts: &str) -> Pool {
    Pool::launch(Launch::config(&format!(
        "[split]\nwithout_payouts = \"{without_payouts}\"\nwithout_payouts_over_s = 1\n[chain]\nnetwork_difficulty = 65536\n"
    )))
}

/// Work that pays nobody, until there is an alert; the verdict on the last of it.
fn pay_nobody(session: &mut Session, numbers: &mut impl Iterator<Item = u32>) {
    let plain = session.template(2, 1);
    let before = alerts(session);
    wait_until(
        || {
            let n = numbers.next().expect("numbers enough");
            assert_eq!(submit(session, &plain, n), Ok(()), "the alert comes before any refusal");
            alerts(session) > before
        },
        || "no alert, whatever the work pays".to_owned(),
    );
}

fn alerts(session: &Session) -> usize {
    session.infos.iter().filter(|info| info.contains(ALERT)).count()
}

#[test]
fn work_that_pays_nobody_raises_an_alert_and_counts() {
    let pool = launch("alert");
    let mut session = Gateway::new().connect(&pool);
    work(&mut session);
    let mut numbers = 1_000..;
    // Nobody has told it whom to pay.
    let plain = session.template(2, 1);
    for n in numbers.by_ref().take(80) {
        assert_eq!(submit(&mut session, &plain, n), Ok(()));
    }
    std::thread::sleep(std::time::Duration::from_millis(1_100));
    assert_eq!(submit(&mut session, &plain, 999), Ok(()));
    assert_eq!(alerts(&session), 0);
    ask_until(&mut session, 1, 3);
    pay_nobody(&mut session, &mut numbers);
    pool.wait_for_metric("millrace_split_use_alerts_total", &[], 1);
    let n = numbers.next().expect("numbers enough");
    assert_eq!(
        submit(&mut session, &plain, n),
        Ok(()),
        "the operator has not said otherwise"
    );
}

#[test]
fn such_work_is_refused_until_the_session_pays_again_where_the_operator_has_said_so() {
    let pool = launch("refuse");
    let mut session = Gateway::new().connect(&pool);
    work(&mut session);
    let Split { coinbaser_id, outputs } = ask_until(&mut session, 1, 3);
    let mut numbers = 1_000..;
    pay_nobody(&mut session, &mut numbers);
    let mut next = || numbers.next().expect("numbers enough");
    let plain = session.template(2, 1);
    assert_eq!(submit(&mut session, &plain, next()), Err(Reason::BadCoinbaseOutputs));
    let paying = template(&session, 1, 1, &outputs, coinbaser_id);
    assert_eq!(
        submit(&mut session, &paying, next()),
        Ok(()),
        "what pays counts as ever"
    );
    // Another session is another matter.
    let mut other = Gateway::new().connect(&pool);
    let others = other.template(2, 1);
    assert_eq!(submit(&mut other, &others, next()), Ok(()));
    wait_until(
        || {
            for _ in 0..8 {
                assert_eq!(submit(&mut session, &paying, next()), Ok(()));
            }
            submit(&mut session, &plain, next()).is_ok()
        },
        || "what pays again is never trusted again".to_owned(),
    );
    assert_eq!(alerts(&session), 1);
}
