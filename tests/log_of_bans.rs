//! Who has many addresses does not fill the log with their bans: it names some of them, and says how many more there were.

use std::time::Instant;

use crate::guards::{banned, guarded, through_the_proxy};
use crate::pool::wait_until;

/// Lines that the log has for as many seconds.
const LINES: u64 = 10;
const SECONDS: u64 = 30;

#[test]
fn bans_of_many_addresses_are_counted_and_few_of_them_named() {
    const ADDRESSES: u8 = 60;
    let began = Instant::now();
    let pool = guarded("proxies = [\"127.0.0.7\"]\naddress_faults_per_min = 1\nban_s = 3600");
    for last in 1..=ADDRESSES {
        let is_banned = || {
            let mut line = through_the_proxy(&pool, last);
            line.write_unless_closed(&[0; 64]);
            line.wait_for_close();
            banned(&pool, "garbage") == u64::from(last)
        };
        wait_until(is_banned, || pool.metrics());
    }
    // None is left out: what was not named is said when there is room again.
    let (mut named, mut others) = (0, 0);
    let all_are_said = || {
        let log = pool.log();
        named = log.lines().filter(|line| line.contains("guard lift")).count() as u64;
        others = log.lines().filter_map(bans_more).sum();
        named + others == u64::from(ADDRESSES)
    };
    wait_until(all_are_said, || pool.log());
    let most = LINES * (began.elapsed().as_secs() / SECONDS + 1);
    assert!((LINES..=most).contains(&named), "{named} named and {others} others");
}

/// How many more there were, where the line says that.
fn bans_more(line: &str) -> Option<u64> {
    let (_, number) = line.split_once("bans=").filter(|_| line.contains("more were banned"))?;
    number.split(' ').next()?.parse().ok()
}
