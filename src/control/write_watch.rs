//! How long the ledger has been at one write, for as long as this process had a turn to see it.

use std::time::Duration;

/// How long one write may take. A disk that hangs gives no error, and a pool that pings but never accepts would keep
/// miners working for nothing.
pub(super) const DISK_PATIENCE: Duration = Duration::from_secs(20);

/// What one look counts at most: where nobody looked for longer, the process may have had no turn, and the writer neither.
const LOOK_COUNTS: Duration = Duration::from_millis(500);

/// The write that was under way when it was last looked at.
#[derive(Debug, Default)]
pub(super) struct WriteWatch {
    /// Which: see [`crate::telemetry::LedgerTelemetry::waiting_since_ns`].
    since_ns: u64,
    looked_ns: u64,
    /// How long it has been seen under way.
    seen: Duration,
}

impl WriteWatch {
    /// Looks at what is written since `since_ns`; 0 for nothing.
    pub fn look(&mut self, since_ns: u64, now_ns: u64) {
        let passed = Duration::from_nanos(now_ns.saturating_sub(self.looked_ns));
        self.seen = match since_ns != 0 && since_ns == self.since_ns {
            true => self.seen + passed.min(LOOK_COUNTS),
            false => Duration::ZERO,
        };
        self.since_ns = since_ns;
        self.looked_ns = now_ns;
    }

    /// For how long the write has been seen under way, where that is longer than any takes.
    pub fn hangs_for(&self) -> Option<Duration> {
        (self.seen > DISK_PATIENCE).then_some(self.seen)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: u64 = 1_000_000;
    const PATIENCE_MS: u64 = DISK_PATIENCE.as_millis() as u64;

    /// Looks each 100 ms, and gives when it first says that the write hangs.
    fn hangs_after_ms(watch: &mut WriteWatch, since_ns: u64, from_ms: u64, until_ms: u64) -> Option<u64> {
        (from_ms..=until_ms).step_by(100).find(|ms| {
            watch.look(since_ns, ms * MS);
            watch.hangs_for().is_some()
        })
    }

    #[test]
    fn one_write_that_takes_longer_than_any_hangs_and_many_do_not() {
        let mut watch = WriteWatch::default();
        for write in 1..3_000 {
            watch.look(write, write * 100 * MS);
            assert_eq!(watch.hangs_for(), None);
        }
        let mut watch = WriteWatch::default();
        assert_eq!(
            hangs_after_ms(&mut watch, 0, 0, 10 * PATIENCE_MS),
            None,
            "nothing is written"
        );
        let hung = hangs_after_ms(&mut watch, 7, 0, 10 * PATIENCE_MS);
        assert_eq!(hung, Some(PATIENCE_MS + 100));
        watch.look(8, PATIENCE_MS * MS);
        assert_eq!(watch.hangs_for(), None, "it was done after all");
    }

    #[test]
    fn a_pause_of_the_process_is_none_of_the_disk() {
        let mut watch = WriteWatch::default();
        assert_eq!(hangs_after_ms(&mut watch, 7, 0, 1_000), None);
        // It was stopped for an hour in the midst of the write, which the writer has not had the time to end.
        let again_ms = 1_000 + 3_600_000;
        let hung = hangs_after_ms(&mut watch, 7, again_ms, again_ms + 10 * PATIENCE_MS);
        let counted = 1_000 + LOOK_COUNTS.as_millis() as u64;
        assert_eq!(hung, Some(again_ms + PATIENCE_MS - counted + 100));
    }
}
