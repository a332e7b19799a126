//! The keys of one shard whose records go to the dead-letter sink.

use std::collections::BTreeMap;

use tokio::time::Instant;

/// Parked keys under one grant, by their hashes: a key itself may be long, and is nobody's business.
#[derive(Debug)]
pub(crate) struct ParkedKeys {
    /// Until when; `None`: for as long as the grant.
    keys: BTreeMap<u128, Option<Instant>>,
    most: usize,
    /// How often a key was parked.
    parks: u64,
}

/// Which records of parked keys were taken out of the records that are worked on.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sorted {
    /// Those of all keys that had been parked when this was the number of times.
    parks: u64,
    /// And those of this key are still to be taken out, which was parked last.
    last: Option<Box<str>>,
}

impl Sorted {
    /// Notes a key that was parked while these records were worked on.
    pub(crate) fn parked(&mut self, key: &str, keys: &ParkedKeys) {
        // With a further key parked meanwhile, all are looked for.
        if self.last.is_none() && self.parks + 1 == keys.parks {
            self.last = Some(key.into());
        }
    }
}

impl ParkedKeys {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            keys: BTreeMap::new(),
            most,
            parks: 0,
        }
    }

    /// Parks a key from now on. False if too many are parked.
    pub(crate) fn park(&mut self, key: &str, until: Option<Instant>, now: Instant) -> bool {
        self.expire(now);
        let hash = kcl_aggregation::hash_key(key);
        if self.keys.len() >= self.most && !self.keys.contains_key(&hash) {
            return false;
        }
        self.keys.insert(hash, until);
        self.parks += 1;
        true
    }

    /// Forgets the keys whose time is over.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.keys
            .retain(|_, until| until.is_none_or(|until| now < until));
    }

    /// Tells which records are to be taken out of those that are worked on; `None` if no key was parked since the last time.
    ///
    /// One key that was parked since is compared as it is: a hash of each record's key after each record that is given up
    /// would hold up the thread.
    pub(crate) fn to_take_out(
        &self,
        sorted: &mut Sorted,
    ) -> Option<impl Fn(&str) -> bool + use<'_>> {
        let last = sorted.last.take();
        let known = std::mem::replace(&mut sorted.parks, self.parks);
        if known == self.parks || self.keys.is_empty() {
            return None;
        }
        let last = last.filter(|_| known + 1 == self.parks);
        Some(move |key: &str| match &last {
            Some(last) => **last == *key,
            None => self.contains(key),
        })
    }

    /// Whether a key's records are to be diverted.
    fn contains(&self, key: &str) -> bool {
        self.keys.contains_key(&kcl_aggregation::hash_key(key))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn keys_are_parked_for_their_time_and_no_more_of_them_than_allowed() {
        let mut parked = ParkedKeys::new(2);
        let now = Instant::now();
        let later = now + Duration::from_secs(10);
        assert!(parked.park("a", Some(later), now));
        assert!(parked.park("b", None, now));
        assert!(!parked.park("c", None, now), "two are parked");
        assert!(parked.park("a", Some(later), now), "known already");
        assert!(parked.contains("a") && parked.contains("b") && !parked.contains("c"));
        parked.expire(later);
        assert!(!parked.contains("a") && parked.contains("b"));
        assert!(parked.park("c", None, later));
    }

    #[tokio::test(start_paused = true)]
    async fn records_are_looked_at_again_only_when_a_key_was_parked_since() {
        let mut parked = ParkedKeys::new(9);
        let mut sorted = Sorted::default();
        let now = Instant::now();
        assert!(parked.to_take_out(&mut sorted).is_none());
        parked.park("a", None, now);
        sorted.parked("a", &parked);
        {
            let takes = parked.to_take_out(&mut sorted).unwrap();
            assert!(takes("a") && !takes("b"));
        }
        assert!(parked.to_take_out(&mut sorted).is_none());
        parked.park("b", None, now);
        sorted.parked("b", &parked);
        {
            let takes = parked.to_take_out(&mut sorted).unwrap();
            assert!(takes("b") && !takes("a"), "those of a are out already");
        }
        // Somebody else's records.
        parked.park("c", None, now);
        parked.park("d", None, now);
        sorted.parked("d", &parked);
        let takes = parked.to_take_out(&mut sorted).unwrap();
        assert!(takes("c") && takes("d") && !takes("e"));
    }
}
