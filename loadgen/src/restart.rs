//! Planned restarts of the pool under the gateways: when each was asked for, and how every session came back.
//!
//! A session mines again when a share of it was acknowledged on a connection made since. So the time until then has in it
//! what a miner loses: the pool's drain and start, the handshake, and the wait for the next share that is due.

use std::io;
use std::sync::Mutex;

use hdrhistogram::Histogram;
use serde::Serialize;

use crate::report::Latency;
use crate::tally::histogram;

/// Ends of the bars in which the times until sessions mine again are shown, in ms.
const BARS_MS: [u64; 11] = [100, 200, 500, 1_000, 2_000, 3_000, 5_000, 7_500, 10_000, 20_000, 60_000];

/// When the pool is asked for restarts, and when it was.
#[derive(Debug, Default)]
pub struct Restarts {
    pid: i32,
    every_ns: u64,
    /// Of the run, in order.
    asked_ns: Mutex<Vec<u64>>,
}

/// What became of the sessions that ended since one restart was asked for, of one thread or of all together.
#[derive(Debug, Clone)]
pub struct Comeback {
    /// Sessions that ended.
    pub cut: u64,
    /// Of these, those that mine again.
    pub again: u64,
    /// Their shares that were sent and not answered.
    pub lost: u64,
    /// From the signal to the first share acknowledged on a new connection, and from the end of the old one.
    pub from_signal_ns: Histogram<u64>,
    pub from_loss_ns: Histogram<u64>,
}

/// One restart, as the report has it.
#[derive(Debug, Serialize)]
pub struct RestartShown {
    /// When it was asked for, after mining began.
    pub asked_s: f64,
    pub cut: u64,
    pub again: u64,
    pub lost: u64,
    /// From the signal until the last session mined again.
    pub last_after_signal_s: f64,
    /// The longest that one session was without: from the end of its connection.
    pub longest_after_loss_s: f64,
    pub after_signal_ms: Latency,
    pub after_loss_ms: Latency,
    /// Sessions that mined again by the time after the signal, each bar without the one before it.
    pub after_signal: Vec<Bar>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Bar {
    /// None for what is beyond all the others.
    pub up_to_ms: Option<u64>,
    pub sessions: u64,
}

impl Restarts {
    /// `pid`: the pool's. None are asked for where `every_ns` is 0.
    pub fn new(pid: i32, every_ns: u64) -> Self {
        Self {
            pid,
            every_ns,
            asked_ns: Mutex::default(),
        }
    }

    pub fn are_planned(&self) -> bool {
        self.every_ns > 0
    }

    /// Asks the pool where it is time. Mining goes on from `start_ns` to `end_ns`, the half of the time between two restarts
    /// behind the last.
    ///
    /// # Errors
    /// There is no such process, or it is not ours.
    pub fn ask_when_due(&self, start_ns: u64, end_ns: u64, now_ns: u64) -> io::Result<()> {
        if !self.are_planned() {
            return Ok(());
        }
        let mut asked_ns = self.asked_ns.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        let due_ns = start_ns + self.every_ns * (asked_ns.len() as u64 + 1);
        if now_ns < due_ns || now_ns + self.every_ns / 2 > end_ns {
            return Ok(());
        }
        asked_ns.push(now_ns);
        // SAFETY: the call takes no pointers, and touches no memory of this process.
        match unsafe { libc::kill(self.pid, libc::SIGUSR2) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    }

    /// The newest, by its number from 0.
    pub fn newest(&self) -> Option<usize> {
        self.asked_ns().len().checked_sub(1)
    }

    /// When each was asked for, ns of the run.
    pub fn asked_ns(&self) -> Vec<u64> {
        let asked_ns = self.asked_ns.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
        asked_ns.clone()
    }
}

impl Default for Comeback {
    fn default() -> Self {
        Self {
            cut: 0,
            again: 0,
            lost: 0,
            from_signal_ns: histogram(),
            from_loss_ns: histogram(),
        }
    }
}

impl Comeback {
    /// Takes another thread's in.
    pub fn merge(&mut self, other: &Self) {
        self.cut += other.cut;
        self.again += other.again;
        self.lost += other.lost;
        for (ours, theirs) in [
            (&mut self.from_signal_ns, &other.from_signal_ns),
            (&mut self.from_loss_ns, &other.from_loss_ns),
        ] {
            ours.add(theirs).expect("both histograms have the same bounds");
        }
    }

    /// A session mines again.
    pub fn mines_again(&mut self, signal_ns: u64, lost_ns: u64, now_ns: u64) {
        self.again += 1;
        self.from_signal_ns
            .saturating_record(now_ns.saturating_sub(signal_ns).max(1));
        self.from_loss_ns
            .saturating_record(now_ns.saturating_sub(lost_ns).max(1));
    }
}

impl RestartShown {
    /// `asked_s`: after mining began.
    pub fn new(asked_s: f64, comeback: &Comeback) -> Self {
        let longest_s = |histogram: &Histogram<u64>| histogram.max() as f64 / 1e9;
        Self {
            asked_s,
            cut: comeback.cut,
            again: comeback.again,
            lost: comeback.lost,
            last_after_signal_s: longest_s(&comeback.from_signal_ns),
            longest_after_loss_s: longest_s(&comeback.from_loss_ns),
            after_signal_ms: Latency::new(&comeback.from_signal_ns),
            after_loss_ms: Latency::new(&comeback.from_loss_ns),
            after_signal: bars(&comeback.from_signal_ns),
        }
    }

    /// What is not as it should be.
    pub fn failure(&self) -> Option<String> {
        let Self {
            asked_s, cut, again, ..
        } = *self;
        match cut {
            0 => Some(format!("the restart asked for at {asked_s:.1} s ended no session")),
            _ if again < cut => Some(format!(
                "{} of {cut} sessions that the restart at {asked_s:.1} s ended do not mine again",
                cut - again
            )),
            _ => None,
        }
    }
}

fn bars(histogram: &Histogram<u64>) -> Vec<Bar> {
    let mut before = 0;
    let mut bar = |up_to_ms: Option<u64>| {
        let all = up_to_ms.map_or(histogram.len(), |ms| histogram.count_between(0, ms * 1_000_000));
        let sessions = all.saturating_sub(std::mem::replace(&mut before, all));
        Bar { up_to_ms, sessions }
    };
    let bars = BARS_MS.map(Some).into_iter().chain([None]).map(&mut bar);
    bars.filter(|bar| bar.sessions > 0).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND_NS: u64 = 1_000_000_000;

    #[test]
    fn a_restart_is_told_by_when_its_sessions_mine_again() {
        let mut comeback = Comeback {
            cut: 3,
            lost: 7,
            ..Comeback::default()
        };
        for (lost_ns, now_ns) in [(SECOND_NS, SECOND_NS + SECOND_NS / 2), (SECOND_NS, 4 * SECOND_NS)] {
            comeback.mines_again(SECOND_NS / 2, lost_ns, now_ns);
        }
        let shown = RestartShown::new(25.0, &comeback);
        assert!((3.49..3.51).contains(&shown.last_after_signal_s), "{shown:?}");
        assert!((2.99..3.01).contains(&shown.longest_after_loss_s), "{shown:?}");
        assert_eq!((shown.cut, shown.again, shown.lost), (3, 2, 7));
        let of = |up_to_ms| Bar { up_to_ms, sessions: 1 };
        assert_eq!(shown.after_signal, [of(Some(1_000)), of(Some(5_000))]);
        assert!(shown.failure().is_some_and(|why| why.contains("1 of 3")));
    }

    #[test]
    fn one_that_ends_no_session_was_none() {
        let shown = RestartShown::new(1.0, &Comeback::default());
        assert!(shown.failure().is_some_and(|why| why.contains("no session")));
    }

    #[test]
    fn nobody_is_asked_where_none_is_planned_or_time_is_short() {
        // No process has this id.
        let mut all = Vec::new();
        let restarts = Restarts::new(i32::MAX, 10 * SECOND_NS);
        for second in 0..24 {
            if restarts.ask_when_due(0, 24 * SECOND_NS, second * SECOND_NS).is_err() {
                all.push(second);
            }
        }
        // At 20 s there are only 4 left.
        assert_eq!((all, restarts.newest()), (vec![10], Some(0)));
        let none = Restarts::default();
        assert!(none.ask_when_due(0, u64::MAX, u64::MAX / 2).is_ok());
        assert_eq!(none.newest(), None);
    }
}
