//! The keys of one shard whose records go to the dead-letter sink.

use std::collections::BTreeMap;

use tokio::time::Instant;

/// Parked keys under one grant, by their hashes: a key itself may be long, and is nobody's business.
#[derive(Debug)]
pub(crate) struct ParkedKeys {
    /// Until when; `None`: for as long as the grant.
    keys: BTreeMap<u128, Option<Instant>>,
    most: usize,
}

impl ParkedKeys {
    pub(crate) fn new(most: usize) -> Self {
        Self {
            keys: BTreeMap::new(),
            most,
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
        true
    }

    /// Forgets the keys whose time is over.
    pub(crate) fn expire(&mut self, now: Instant) {
        self.keys
            .retain(|_, until| until.is_none_or(|until| now < until));
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Whether a key's records are to be diverted.
    pub(crate) fn contains(&self, key: &str) -> bool {
        !self.is_empty() && self.keys.contains_key(&kcl_aggregation::hash_key(key))
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
}
