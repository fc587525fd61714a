//! Lines of the log about what strangers can have happen as often as they like: so many in a while, and then how many more there were.

use std::cell::Cell;

/// Lines about one kind of thing, of one shard.
#[derive(Debug)]
pub(super) struct LogLines {
    /// In one while.
    most: u32,
    while_ms: u64,
    /// When the while began, ms of the shard's clock; none before the first.
    since_ms: Cell<Option<u64>>,
    said: Cell<u32>,
    unsaid: Cell<u64>,
}

impl LogLines {
    /// `most` lines in so many ms.
    pub fn new(most: u32, while_ms: u64) -> Self {
        Self {
            most,
            while_ms,
            since_ms: Cell::new(None),
            said: Cell::new(0),
            unsaid: Cell::new(0),
        }
    }

    /// It happened once more. How often since the log last spoke of it, this time included, where the log is to say so.
    pub fn count(&self, now_ms: u64) -> Option<u64> {
        if self.is_over(now_ms) {
            self.since_ms.set(Some(now_ms));
            self.said.set(0);
        }
        if self.said.get() == self.most {
            self.unsaid.set(self.unsaid.get() + 1);
            return None;
        }
        self.said.set(self.said.get() + 1);
        Some(self.unsaid.take() + 1)
    }

    /// How often it happened without a word, once the while is over and where it did; each time is said once.
    pub fn take_unsaid(&self, now_ms: u64) -> Option<u64> {
        let is_due = self.unsaid.get() > 0 && self.is_over(now_ms);
        is_due.then(|| self.unsaid.take())
    }

    fn is_over(&self, now_ms: u64) -> bool {
        let since_ms = self.since_ms.get();
        since_ms.is_none_or(|since_ms| now_ms >= since_ms + self.while_ms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_speaks_of_the_first_and_then_of_all_in_turn() {
        let lines = LogLines::new(1, 10_000);
        assert_eq!(lines.count(5), Some(1));
        for _ in 0..100 {
            assert_eq!(lines.count(10_004), None);
        }
        assert_eq!(lines.count(10_005), Some(101));
        assert_eq!(lines.count(10_005), None);
    }

    #[test]
    fn of_more_than_may_be_said_the_number_is_and_once() {
        let lines = LogLines::new(3, 10_000);
        assert_eq!(lines.take_unsaid(0), None);
        assert_eq!([0, 1, 2].map(|now_ms| lines.count(now_ms)), [Some(1); 3]);
        assert_eq!(lines.take_unsaid(20_000), None, "all was said");
        assert_eq!(
            [20_000; 5].map(|now_ms| lines.count(now_ms)),
            [Some(1), Some(1), Some(1), None, None]
        );
        assert_eq!(lines.take_unsaid(29_999), None);
        assert_eq!(lines.take_unsaid(30_000), Some(2));
        assert_eq!(lines.take_unsaid(30_000), None);
        assert_eq!(lines.count(30_000), Some(1));
    }

    #[test]
    fn however_often_it_happens_no_more_than_so_many_lines_come_and_nothing_is_left_out() {
        let lines = LogLines::new(10, 30_000);
        let (mut said, mut counted) = (0, 0);
        for now_ms in 0..300_000 {
            let of_one = lines.count(now_ms);
            let of_others = lines.take_unsaid(now_ms);
            said += usize::from(of_one.is_some()) + usize::from(of_others.is_some());
            counted += of_one.unwrap_or(0) + of_others.unwrap_or(0);
        }
        counted += lines.take_unsaid(330_000).unwrap_or(0);
        assert_eq!((said, counted), (100, 300_000));
    }
}
