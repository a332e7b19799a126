//! Token buckets: what a shard takes and gives per second.

use crate::Timestamp;

/// A bucket that fills by `rate` tokens a second, up to one second's worth. It may go below zero: whoever takes more
/// than there is makes those after him wait.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    rate: i64,
    /// Thousandths of a token, so that a millisecond fills a whole number of them.
    level: i64,
    filled: Timestamp,
}

impl Bucket {
    pub(super) fn new(rate: i64) -> Self {
        Self {
            rate,
            level: rate * 1000,
            filled: Timestamp(i64::MIN),
        }
    }

    fn fill(&mut self, now: Timestamp) {
        let elapsed = now.since(self.filled).max(0);
        self.level = self
            .level
            .saturating_add(elapsed.saturating_mul(self.rate))
            .min(self.rate * 1000);
        self.filled = now;
    }

    /// Whether `amount` may be taken now: there is that much, or all that the bucket holds.
    pub(super) fn has(&mut self, now: Timestamp, amount: i64) -> bool {
        self.fill(now);
        self.level >= amount.min(self.rate) * 1000
    }

    /// Whether anything at all may be taken now.
    pub(super) fn has_any(&mut self, now: Timestamp) -> bool {
        self.fill(now);
        self.level > 0
    }

    /// Takes `amount`, whether it is there or not.
    pub(super) fn take(&mut self, now: Timestamp, amount: i64) {
        self.fill(now);
        self.level -= amount * 1000;
    }

    /// Takes `amount`; if that is more than a second's worth, what was saved up does not count towards it.
    pub(super) fn take_in_full(&mut self, now: Timestamp, amount: i64) {
        self.fill(now);
        if amount > self.rate {
            self.level = self.level.min(0);
        }
        self.take(now, amount);
    }

    /// Tokens that are there now.
    pub(super) fn level(&mut self, now: Timestamp) -> i64 {
        self.fill(now);
        self.level / 1000
    }

    /// When `amount` (or all that the bucket holds) will be there.
    pub(super) fn when(&self, amount: i64) -> Timestamp {
        let lacking = (amount.min(self.rate) * 1000 - self.level).max(0);
        self.filled.plus((lacking + self.rate - 1) / self.rate)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_holds_one_second() {
        let mut bucket = Bucket::new(5);
        let now = Timestamp(1_000);
        for _ in 0..5 {
            assert!(bucket.has(now, 1));
            bucket.take(now, 1);
        }
        assert!(!bucket.has(now, 1));
        assert_eq!(bucket.when(1), Timestamp(1_200));
        assert!(bucket.has(Timestamp(1_200), 1));
        assert_eq!(bucket.level(Timestamp(60_000)), 5);
    }

    #[test]
    fn more_than_a_second_is_paid_in_full() {
        let mut bucket = Bucket::new(2);
        bucket.take_in_full(Timestamp(0), 10);
        assert!(!bucket.has_any(Timestamp(5_000)));
        assert!(bucket.has_any(Timestamp(5_001)));
    }

    #[test]
    fn more_than_it_holds_is_taken_when_it_is_full() {
        let mut bucket = Bucket::new(10);
        assert!(bucket.has(Timestamp(0), 50));
        bucket.take(Timestamp(0), 50);
        assert_eq!(bucket.when(50), Timestamp(5_000));
    }
}
