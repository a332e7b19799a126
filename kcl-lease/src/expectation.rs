//! Leases that this worker should soon own by a hand-over: how eagerly it looks for them.
//!
//! An expectation is a reason to look more often, nothing else. The lease is granted by the accepting write only.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::key::{LeaseKey, WorkerId};
use crate::lease::Lease;
use crate::runtime::Moment;

/// From this time on the receiver looks at the row itself: the giver may have died before its hint.
const OWN_LOOKS_AFTER: Duration = Duration::from_secs(2);
const OWN_LOOK_EACH: Duration = Duration::from_secs(1);
/// More rows than this are read by one scan instead.
const MANY: usize = 20;

/// All hand-overs that were announced to this worker, by lease and giver.
#[derive(Debug, Clone, Default)]
pub(crate) struct Expectations {
    /// One per lease and origin: a later announcement does not replace an earlier one of somebody else.
    open: BTreeMap<(LeaseKey, WorkerId), Expectation>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Expectation {
    /// The row's counter when the giver announced it.
    counter: u64,
    since: Moment,
    looked: Option<Moment>,
}

/// What to read because hints may have been lost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Look {
    /// Nothing yet.
    Nothing,
    /// These rows, strongly consistent.
    Rows(Vec<LeaseKey>),
    /// The whole table, strongly consistent.
    Scan,
}

impl Expectations {
    /// A giver announced a hand-over.
    pub(crate) fn expect(&mut self, key: LeaseKey, from: WorkerId, counter: u64, now: Moment) {
        let expectation = Expectation {
            counter,
            since: now,
            looked: None,
        };
        self.open.insert((key, from), expectation);
    }

    /// Whether the inbox should be read more often than usual.
    pub(crate) fn is_empty(&self) -> bool {
        self.open.is_empty()
    }

    /// The lease was accepted: whoever announced it, the wait is over.
    pub(crate) fn accepted(&mut self, key: &LeaseKey) {
        self.open.retain(|(open, _), _| open != key);
    }

    /// A row was read: a wait for it ends if it went to somebody else after it was announced.
    pub(crate) fn saw_row(&mut self, lease: &Lease, me: &WorkerId) {
        self.open.retain(|(key, giver), expectation| {
            let owner = lease.owner.as_ref();
            let elsewhere = owner.is_some_and(|owner| owner != giver && owner != me);
            *key != lease.key || lease.counter < expectation.counter || !elsewhere
        });
    }

    /// Ends what was announced longer than `patience` ago: the leader finds what is left.
    pub(crate) fn expire(&mut self, patience: Duration, now: Moment) {
        self.open
            .retain(|_, expectation| now.since(expectation.since) < patience);
    }

    /// When to look at rows next.
    pub(crate) fn next_look(&self) -> Option<Moment> {
        self.open.values().map(Expectation::due).min()
    }

    /// What to look at now; asking counts as having looked.
    pub(crate) fn look(&mut self, now: Moment) -> Look {
        let mut due = Vec::new();
        for ((key, _), expectation) in &mut self.open {
            if expectation.due() <= now {
                expectation.looked = Some(now);
                due.push(key.clone());
            }
        }
        due.dedup();
        match due.len() {
            0 => Look::Nothing,
            1..=MANY => Look::Rows(due),
            _ => Look::Scan,
        }
    }
}

impl Expectation {
    fn due(&self) -> Moment {
        match self.looked {
            Some(looked) => looked.plus(OWN_LOOK_EACH),
            None => self.since.plus(OWN_LOOKS_AFTER),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::runtime::Runtime;
    use crate::test_support::lease;

    fn after(start: Moment, millis: u64) -> Moment {
        start.plus(Duration::from_millis(millis))
    }

    #[tokio::test(start_paused = true)]
    async fn rows_are_looked_at_after_two_seconds_and_then_each_second() {
        let t0 = Runtime::virtual_time(0).now();
        let mut expectations = Expectations::default();
        let key = LeaseKey::from("shard-1");
        expectations.expect(key.clone(), "w/1".into(), 5, t0);
        assert_eq!(expectations.look(after(t0, 1_999)), Look::Nothing);
        assert_eq!(expectations.next_look(), Some(after(t0, 2_000)));
        assert_eq!(
            expectations.look(after(t0, 2_000)),
            Look::Rows(vec![key.clone()])
        );
        assert_eq!(expectations.look(after(t0, 2_999)), Look::Nothing);
        assert_eq!(expectations.look(after(t0, 3_000)), Look::Rows(vec![key]));
        for n in 0..30 {
            let key = LeaseKey::from(format!("shard-{n}"));
            expectations.expect(key, "w/1".into(), 5, t0);
        }
        assert_eq!(expectations.look(after(t0, 4_000)), Look::Scan);
        expectations.expire(Duration::from_secs(10), after(t0, 10_000));
        assert!(expectations.is_empty());
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_ends_only_when_the_lease_went_elsewhere_after_it_was_announced() {
        let t0 = Runtime::virtual_time(0).now();
        let me = WorkerId::from("w/me");
        for (owner, counter, over) in [
            (Some("w/giver"), 9, false),
            (Some("w/me"), 9, false),
            (None, 9, false),
            (Some("w/other"), 4, false),
            (Some("w/other"), 5, true),
        ] {
            let mut expectations = Expectations::default();
            expectations.expect("shard-1".into(), "w/giver".into(), 5, t0);
            let mut row = lease("shard-1");
            row.owner = owner.map(WorkerId::from);
            row.counter = counter;
            expectations.saw_row(&row, &me);
            assert_eq!(expectations.is_empty(), over, "{owner:?} {counter}");
        }
    }
}
