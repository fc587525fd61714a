//! When what a session reads may have come: what waited in the kernel while we did not read, or had no turn, is older than its
//! reading.

use super::pulse::Stall;

/// What lies in the kernel when a stall ends is read within this time, in ns: what is read first after it came after the stall.
const READ_WITHIN_NS: u64 = 1_000_000_000;

/// When bytes came, ns of the shard's clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Came {
    /// They were read then.
    pub read_ns: u64,
    /// No earlier than this did their sender send them; the same as `read_ns` where nothing held them up.
    pub since_ns: u64,
}

/// Follows the reads of one socket.
#[derive(Debug)]
pub(super) struct Arrivals {
    last: Came,
    /// The kernel may hold what has come since then; none where it held nothing when it was last looked at.
    unread_since_ns: Option<u64>,
    /// When that was.
    empty_ns: u64,
}

impl Arrivals {
    /// Of a connection that was accepted at `accepted_ns`, and may have been kept waiting since.
    pub fn new(accepted_ns: u64, now_ns: u64) -> Self {
        Self {
            last: Came {
                read_ns: now_ns,
                since_ns: accepted_ns,
            },
            unread_since_ns: Some(accepted_ns),
            empty_ns: accepted_ns,
        }
    }

    /// What the last read brought.
    pub fn last(&self) -> Came {
        self.last
    }

    /// A read brought something; `filled`: as much as was asked for, so that there may be more. `stall`: the shard's last.
    pub fn read(&mut self, filled: bool, now_ns: u64, stall: Stall) {
        let since_ns = match self.unread_since_ns {
            Some(since_ns) => since_ns,
            None if self.empty_ns < stall.ended_ns && now_ns.saturating_sub(stall.ended_ns) < READ_WITHIN_NS => {
                self.empty_ns.max(stall.began_ns)
            }
            None => now_ns,
        };
        self.last = Came {
            read_ns: now_ns,
            since_ns,
        };
        match filled {
            true => self.unread_since_ns = Some(since_ns),
            false => self.nothing_came(now_ns),
        }
    }

    /// There was nothing to read.
    pub fn nothing_came(&mut self, now_ns: u64) {
        self.unread_since_ns = None;
        self.empty_ns = now_ns;
    }

    /// Reading stops for a while.
    pub fn hold(&mut self) {
        self.unread_since_ns.get_or_insert(self.last.read_ns);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn served() -> Arrivals {
        let mut arrivals = Arrivals::new(0, 10);
        arrivals.nothing_came(10);
        arrivals
    }

    fn since(arrivals: &mut Arrivals, filled: bool, now_ns: u64) -> u64 {
        arrivals.read(filled, now_ns, Stall::default());
        assert_eq!(arrivals.last().read_ns, now_ns);
        arrivals.last().since_ns
    }

    #[test]
    fn what_is_read_as_it_comes_is_as_old_as_its_reading() {
        let mut arrivals = served();
        assert_eq!(since(&mut arrivals, false, 20), 20);
        assert_eq!(since(&mut arrivals, false, 30), 30);
    }

    #[test]
    fn what_waited_is_as_old_as_the_wait_until_the_socket_was_empty_once() {
        let mut arrivals = served();
        assert_eq!(since(&mut arrivals, false, 20), 20);
        arrivals.hold();
        arrivals.hold();
        assert_eq!(since(&mut arrivals, true, 70), 20);
        assert_eq!(since(&mut arrivals, true, 71), 20, "there was more");
        // Held again before it was empty.
        arrivals.hold();
        assert_eq!(since(&mut arrivals, false, 90), 20);
        assert_eq!(since(&mut arrivals, false, 91), 91, "it was empty");
        arrivals.hold();
        assert_eq!(since(&mut arrivals, true, 99), 91);
        arrivals.nothing_came(99);
        assert_eq!(since(&mut arrivals, false, 100), 100);
    }

    #[test]
    fn what_is_read_first_after_a_stall_may_be_as_old_as_that() {
        let stall = Stall {
            began_ns: 20,
            ended_ns: 70,
        };
        let since = |arrivals: &mut Arrivals, filled, now_ns| {
            arrivals.read(filled, now_ns, stall);
            arrivals.last().since_ns
        };
        let mut arrivals = served();
        assert_eq!(since(&mut arrivals, true, 70), 20);
        assert_eq!(since(&mut arrivals, false, 71), 20, "there was more");
        assert_eq!(since(&mut arrivals, false, 72), 72, "it was empty after the stall");

        let mut arrivals = served();
        arrivals.nothing_came(30);
        assert_eq!(since(&mut arrivals, false, 80), 30, "it was empty in the midst of it");
        let mut arrivals = served();
        let long_after = stall.ended_ns + READ_WITHIN_NS;
        assert_eq!(
            since(&mut arrivals, false, long_after),
            long_after,
            "nobody had looked since"
        );
        let mut arrivals = served();
        arrivals.nothing_came(75);
        assert_eq!(since(&mut arrivals, false, 80), 80);
    }

    #[test]
    fn what_a_handshake_kept_waiting_is_as_old_as_its_connection() {
        let mut arrivals = Arrivals::new(3, 10);
        assert_eq!(
            arrivals.last(),
            Came {
                read_ns: 10,
                since_ns: 3
            }
        );
        assert_eq!(since(&mut arrivals, false, 20), 3);
        assert_eq!(since(&mut arrivals, false, 30), 30);
    }
}
