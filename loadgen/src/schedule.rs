//! The open loop: when every share is due, whether or not the pool keeps up.
//!
//! Gateways take turns, each with a burst. What a gateway cannot send in time stays due from when it was, so its wait
//! counts as latency: nothing hides a slow pool (coordinated omission).

/// Due times in ns of the run, for the gateways of one thread.
#[derive(Debug, Clone)]
pub struct Schedule {
    start_ns: u64,
    gateways: u64,
    burst: u64,
    /// Shares a second of all these gateways.
    rate: f64,
    /// Bursts that were handed out by [`Schedule::next_due`].
    bursts: u64,
}

impl Schedule {
    /// `rate` shares a second over all of `gateways`, `burst` of one at a time.
    pub fn new(start_ns: u64, gateways: usize, rate: f64, burst: u32) -> Self {
        Self {
            start_ns,
            gateways: gateways as u64,
            burst: u64::from(burst),
            rate,
            bursts: 0,
        }
    }

    /// The gateway whose burst became due by `now_ns`, and how many shares were due of it since the start.
    pub fn next_due(&mut self, now_ns: u64) -> Option<(usize, u64)> {
        if self.burst_due_ns(self.bursts) > now_ns {
            return None;
        }
        let gateway = self.bursts % self.gateways;
        let of_gateway = (self.bursts / self.gateways + 1) * self.burst;
        self.bursts += 1;
        Some((gateway as usize, of_gateway))
    }

    /// When the next burst is due.
    pub fn next_ns(&self) -> u64 {
        self.burst_due_ns(self.bursts)
    }

    /// When a gateway's share is due, the `n`th from 0.
    pub fn due_ns(&self, gateway: usize, n: u64) -> u64 {
        self.burst_due_ns(n / self.burst * self.gateways + gateway as u64)
    }

    fn burst_due_ns(&self, burst: u64) -> u64 {
        // Exact far beyond any run: 2^53 ns are 100 days.
        self.start_ns + (burst as f64 * self.burst as f64 * 1e9 / self.rate) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_come_due_at_the_rate_by_turns() {
        let mut schedule = Schedule::new(500, 3, 1_000.0, 2);
        let mut due = [0; 3];
        while let Some((gateway, count)) = schedule.next_due(500 + 1_000_000_000) {
            assert_eq!(count, due[gateway] + 2);
            assert!(schedule.due_ns(gateway, count - 1) <= 500 + 1_000_000_000);
            due[gateway] = count;
        }
        // One burst more than fits: the first is due at once.
        assert_eq!(due.iter().sum::<u64>(), 1_002);
        assert_eq!(schedule.next_ns(), 500 + 1_002_000_000);
    }

    #[test]
    fn a_burst_is_due_at_one_time_and_the_next_a_turn_later() {
        let schedule = Schedule::new(0, 10, 100.0, 5);
        assert_eq!(schedule.due_ns(0, 0), 0);
        assert_eq!(schedule.due_ns(0, 4), 0);
        assert_eq!(schedule.due_ns(1, 0), 50_000_000);
        assert_eq!(schedule.due_ns(0, 5), 500_000_000);
    }

    #[test]
    fn late_shares_keep_the_time_they_were_due() {
        let mut schedule = Schedule::new(0, 1, 10.0, 1);
        let mut last = 0;
        while let Some((_, count)) = schedule.next_due(1_000_000_000) {
            last = count;
        }
        let due: Vec<u64> = (0..last).map(|n| schedule.due_ns(0, n) / 1_000_000).collect();
        assert_eq!(due, [0, 100, 200, 300, 400, 500, 600, 700, 800, 900, 1_000]);
    }
}
