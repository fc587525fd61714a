//! Who was on the path of a gateway has all that it ever sent, and no keys: it is worth nothing.

use crate::pool::{Pool, wait_until};

#[test]
fn a_gateway_of_which_all_is_sent_again_mines_on_and_comes_back() {
    let pool = Pool::with(&["--shards", "2"]);
    let args = format!(
        "abuse replay --pool {} --pubkey {} --bind 127.0.64.1/64 --seconds 3",
        pool.address, pool.key
    );
    let (report, harmless) = millrace_loadgen::attack(args.split_whitespace()).expect("it attacks");
    assert!(harmless, "{report}");
    // All of it is known again, and begins no session.
    assert!(pool.ends("hello_replayed") > 0, "{report}");
    assert_eq!(pool.ends("unproved"), 0, "{report}");
    let early = |outcome: &str| pool.metric("millrace_early_frames_total", &[&format!("outcome=\"{outcome}\"")]);
    // The gateway's own, while it was recorded.
    assert!(early("opened") > 0);
    wait_until(|| pool.metric("millrace_gateways", &[]) == 1, || pool.metrics());
}
