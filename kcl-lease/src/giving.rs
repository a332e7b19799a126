//! The leases that this worker is handing over: how far each is.
//!
//! The receiver is told first. Once it showed a heartbeat after that, it lives, and it knows: a heartbeat's answer brings
//! the inbox. Then the holder is asked to stop; its last write names the new owner.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crate::key::{LeaseKey, WorkerId};
use crate::runtime::Moment;

/// All hand-overs of this worker that are not written yet.
#[derive(Debug, Clone, Default)]
pub(crate) struct Giving {
    entries: BTreeMap<LeaseKey, Entry>,
}

#[derive(Debug, Clone)]
struct Entry {
    to: WorkerId,
    /// The hint by which the receiver is told.
    announcement: String,
    notice: Notice,
    begun: Moment,
    stage: Stage,
}

/// What has to happen between the announcement and the recall of the holder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Notice {
    /// The receiver shows that it lives.
    Heartbeat,
    /// The receiver is known to live: it gets so much time to read its inbox.
    Time(Duration),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// The announcement was not answered yet: the holder delivers on.
    Announcing,
    /// The receiver was told when its heartbeat was this one; the holder delivers on until there is a larger one.
    Unproven(u64),
    /// The receiver knows; the holder delivers on until then.
    Told(Moment),
    /// The holder was asked to stop.
    Recalled,
}

impl Giving {
    /// Begins to hand `key` over, unless that is under way.
    pub(crate) fn begin(
        &mut self,
        key: LeaseKey,
        to: WorkerId,
        announcement: String,
        notice: Notice,
        now: Moment,
    ) -> bool {
        if self.entries.contains_key(&key) {
            return false;
        }
        let entry = Entry {
            to,
            announcement,
            notice,
            begun: now,
            stage: Stage::Announcing,
        };
        self.entries.insert(key, entry);
        true
    }

    /// `worker` was told these hints while its heartbeat was `heartbeat`.
    pub(crate) fn told(
        &mut self,
        worker: &WorkerId,
        hints: &BTreeSet<String>,
        heartbeat: u64,
        now: Moment,
    ) {
        for entry in self.entries.values_mut() {
            let announced = entry.to == *worker && hints.contains(&entry.announcement);
            if announced && entry.stage == Stage::Announcing {
                entry.stage = match entry.notice {
                    Notice::Heartbeat => Stage::Unproven(heartbeat),
                    Notice::Time(time) => Stage::Told(now.plus(time)),
                };
            }
        }
    }

    /// `worker` showed this heartbeat, and whether it stops.
    pub(crate) fn saw_heartbeat(
        &mut self,
        worker: &WorkerId,
        heartbeat: u64,
        now: Moment,
        draining: bool,
    ) {
        if draining {
            return;
        }
        for entry in self.entries.values_mut().filter(|e| e.to == *worker) {
            if matches!(entry.stage, Stage::Unproven(told) if told < heartbeat) {
                entry.stage = Stage::Told(now);
            }
        }
    }

    /// The workers to which something is handed over.
    pub(crate) fn receivers(&self) -> BTreeSet<WorkerId> {
        self.entries.values().map(|e| e.to.clone()).collect()
    }

    /// Gives up what did not get as far as a recall within `patience`.
    pub(crate) fn expire(&mut self, patience: Duration, now: Moment) {
        self.entries
            .retain(|_, entry| entry.stage == Stage::Recalled || now.since(entry.begun) < patience);
    }

    /// The leases whose holders should stop now; asking counts as having recalled them.
    pub(crate) fn recall(&mut self, now: Moment) -> Vec<LeaseKey> {
        let mut recalled = Vec::new();
        for (key, entry) in &mut self.entries {
            if matches!(entry.stage, Stage::Told(at) if at <= now) {
                entry.stage = Stage::Recalled;
                recalled.push(key.clone());
            }
        }
        recalled
    }

    /// When the next holder should stop.
    pub(crate) fn next_recall(&self) -> Option<Moment> {
        let told = |entry: &Entry| match entry.stage {
            Stage::Told(at) => Some(at),
            _ => None,
        };
        self.entries.values().filter_map(told).min()
    }

    /// To whom the lease goes, if it is being handed over.
    pub(crate) fn target(&self, key: &LeaseKey) -> Option<&WorkerId> {
        self.entries.get(key).map(|entry| &entry.to)
    }

    /// Whether more hand-overs to this worker will follow soon.
    pub(crate) fn has_more_for(&self, worker: &WorkerId) -> bool {
        self.entries.values().any(|entry| entry.to == *worker)
    }

    /// The lease was handed over, or its grant is over in another way.
    pub(crate) fn done(&mut self, key: &LeaseKey) {
        self.entries.remove(key);
    }

    /// `worker` cannot receive anything: returns the leases that were meant for it. Holders that were asked to stop
    /// already go on to do so.
    pub(crate) fn cancel(&mut self, worker: &WorkerId) -> BTreeSet<LeaseKey> {
        let keys: BTreeSet<LeaseKey> = self
            .entries
            .iter()
            .filter(|(_, entry)| entry.to == *worker)
            .map(|(key, _)| key.clone())
            .collect();
        self.entries.retain(|key, _| !keys.contains(key));
        keys
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Runtime;

    fn after(start: Moment, millis: u64) -> Moment {
        start.plus(Duration::from_millis(millis))
    }

    #[tokio::test(start_paused = true)]
    async fn a_holder_is_recalled_only_when_the_receiver_knows() {
        let t0 = Runtime::virtual_time(0).now();
        let (key, to) = (LeaseKey::from("s"), WorkerId::from("w/2"));
        let hints = BTreeSet::from(["expect".to_owned()]);
        let begin = |giving: &mut Giving, notice| {
            giving.begin(key.clone(), to.clone(), "expect".to_owned(), notice, t0)
        };
        let mut giving = Giving::default();
        assert!(begin(&mut giving, Notice::Heartbeat));
        assert!(!begin(&mut giving, Notice::Heartbeat), "once at a time");
        giving.saw_heartbeat(&to, 9, t0, false);
        giving.told(&to, &BTreeSet::from(["other".to_owned()]), 4, t0);
        assert!(giving.recall(after(t0, 9_000)).is_empty(), "not told yet");
        giving.told(&to, &hints, 4, t0);
        giving.saw_heartbeat(&to, 4, after(t0, 1_000), false);
        giving.saw_heartbeat(&to, 5, after(t0, 1_000), true);
        giving.saw_heartbeat(&"w/3".into(), 5, after(t0, 1_000), false);
        assert!(giving.recall(after(t0, 9_000)).is_empty(), "it may be dead");
        giving.saw_heartbeat(&to, 5, after(t0, 3_000), false);
        assert_eq!(giving.recall(after(t0, 3_000)), std::slice::from_ref(&key));
        assert!(giving.recall(after(t0, 3_000)).is_empty(), "recalled once");

        let mut draining = Giving::default();
        begin(&mut draining, Notice::Time(Duration::from_secs(1)));
        draining.told(&to, &hints, 4, t0);
        assert!(draining.recall(after(t0, 999)).is_empty());
        assert_eq!(draining.recall(after(t0, 1_000)).len(), 1);
    }

    #[tokio::test(start_paused = true)]
    async fn what_nobody_answers_is_given_up_until_the_holder_was_recalled() {
        let t0 = Runtime::virtual_time(0).now();
        let patience = Duration::from_secs(10);
        let mut giving = Giving::default();
        for name in ["a", "b"] {
            let key = LeaseKey::from(name);
            giving.begin(
                key,
                "w/2".into(),
                name.to_owned(),
                Notice::Time(patience / 2),
                t0,
            );
        }
        giving.told(&"w/2".into(), &BTreeSet::from(["b".to_owned()]), 0, t0);
        giving.recall(after(t0, 5_000));
        giving.expire(patience, after(t0, 10_000));
        assert_eq!(giving.target(&"a".into()), None);
        assert_eq!(giving.target(&"b".into()), Some(&"w/2".into()));
        assert_eq!(giving.cancel(&"w/2".into()).len(), 1);
        assert_eq!(giving.target(&"b".into()), None);
    }
}
