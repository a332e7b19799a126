//! The keys of one shard whose records go to the dead-letter sink.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;

/// Parked keys under one grant, as one lane sees them.
#[derive(Debug)]
pub(crate) struct ParkedKeys {
    /// Those of all lanes, which have room for so many together.
    keys: Arc<Mutex<Keys>>,
    most: usize,
    /// How often a key was parked in this lane.
    parks: u64,
}

/// Keys by their hashes, as a key itself may be long, and is nobody's business. Until when each is parked; `None`: for as
/// long as the grant.
type Keys = BTreeMap<u128, Option<Instant>>;

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
            keys: Arc::default(),
            most,
            parks: 0,
        }
    }

    /// The same keys for another lane, which has parked none itself.
    pub(crate) fn for_lane(&self) -> Self {
        Self {
            keys: Arc::clone(&self.keys),
            most: self.most,
            parks: 0,
        }
    }

    /// Parks a key from now on. False if too many are parked.
    pub(crate) fn park(&mut self, key: &str, until: Option<Instant>, now: Instant) -> bool {
        self.expire(now);
        let hash = kcl_aggregation::hash_key(key);
        {
            let mut keys = self.lock();
            if keys.len() >= self.most && !keys.contains_key(&hash) {
                return false;
            }
            keys.insert(hash, until);
        }
        self.parks += 1;
        true
    }

    /// Forgets the keys whose time is over.
    pub(crate) fn expire(&self, now: Instant) {
        self.lock()
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
        if known == self.parks || self.lock().is_empty() {
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
        self.lock().contains_key(&kcl_aggregation::hash_key(key))
    }

    fn lock(&self) -> MutexGuard<'_, Keys> {
        self.keys.lock().unwrap_or_else(PoisonError::into_inner)
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
    async fn lanes_share_the_room_and_a_key_that_is_over_in_one_makes_room_in_another() {
        let now = Instant::now();
        let later = now + Duration::from_secs(10);
        let shard = ParkedKeys::new(3);
        let (mut one, mut other) = (shard.for_lane(), shard.for_lane());
        assert!(one.park("a", Some(later), now) && one.park("b", None, now));
        assert!(one.park("c", None, now), "all the room may be one lane's");
        assert!(!other.park("d", None, now));
        assert!(other.to_take_out(&mut Sorted::default()).is_none());
        assert!(other.park("d", None, later));
        assert!(!one.park("e", None, later));
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
