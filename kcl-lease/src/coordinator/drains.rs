//! Stopping: every lease is handed to a worker that lives, and left to the leader if there is none.

use std::cmp::Reverse;
use std::collections::BTreeMap;
use std::time::Duration;

use super::calls::Answer;
use super::driver::Driver;
use super::rows::CHILDREN_WHEN_STOPPING;
use crate::grant::Recall;
use crate::key::{LeaseKey, WorkerId};
use crate::leader_item::{HeartbeatAge, LeaderItem};
use crate::mutant::{self, Mutant};
use crate::planner::{self, Room, Snapshot};
use crate::roster::Life;
use crate::runtime::Moment;
use crate::worker_item::{PROTOCOL_VERSION, WorkerItem};
use crate::write;

/// Workers whose silence is told: every worker reads that item each second.
const TOLD_MAX: usize = 50;

/// A stop that is under way.
#[derive(Debug)]
pub(super) struct Drain {
    begun: Moment,
    /// How long to look for workers that live.
    patience: Duration,
    /// The table was read since it began.
    scanned: bool,
    /// The heartbeats that were read first since then: whoever shows a larger one lives.
    first_seen: BTreeMap<WorkerId, u64>,
}

impl Drain {
    /// A scan that was begun at `begun` was read: it found these workers.
    pub(super) fn saw_scan<'a>(
        &mut self,
        begun: Moment,
        workers: impl Iterator<Item = &'a WorkerItem>,
    ) {
        if begun < self.begun {
            return;
        }
        self.scanned = true;
        for worker in workers {
            let first = self.first_seen.entry(worker.id.clone());
            first.or_insert(worker.heartbeat);
        }
    }

    fn saw_alive(&self, worker: &WorkerItem) -> bool {
        let first = self.first_seen.get(&worker.id);
        first.is_some_and(|first| *first < worker.heartbeat)
    }
}

impl Driver {
    pub(super) fn on_shutdown(&mut self, budget: Duration, now: Moment) {
        if self.draining {
            return;
        }
        self.resign(now);
        self.draining = true;
        self.steps.clear();
        // Of what it finished a moment ago, somebody has to read on at once.
        let until = now.plus(CHILDREN_WHEN_STOPPING);
        for waits_until in self.own_children.values_mut() {
            *waits_until = until.min(*waits_until);
        }
        self.wanted.clone_from(&self.own_children);
        self.pending.clear();
        // Every living worker shows a heartbeat within a third of the lease duration.
        let proof = self.options.lease_duration / 3 + self.options.watch_interval;
        self.drain = Some(Drain {
            begun: now,
            patience: proof.min(budget / 4),
            scanned: false,
            first_seen: BTreeMap::new(),
        });
        if !self.busy.is_empty() || !self.expectations.is_empty() {
            self.announce_drain(now);
        }
    }

    /// Tells everybody that nothing may be given to this worker any more, and looks for those who may get what it has.
    pub(super) fn announce_drain(&mut self, now: Moment) {
        let Some(running) = self.running() else {
            return;
        };
        let drain = write::drain(&running.session.id);
        self.background += 1;
        self.calls.write(drain, Answer::Housekeeping);
        self.want_scan(now);
    }

    /// Names the deputy as leader, so that nobody has to notice that this one is gone.
    pub(super) fn resign(&mut self, now: Moment) {
        let Some(me) = self.running().map(|running| running.session.id.clone()) else {
            return;
        };
        let Some(round) = self.leadership.round_of(&me) else {
            return;
        };
        let write = match self.choose_heir(now) {
            Some(heir) => {
                let item = LeaderItem {
                    leader: heir.clone(),
                    deputy: None,
                    round: round.saturating_add(1),
                    ages: self.silences(&heir, now),
                };
                let write = write::lead(Some(round), &heir, None, &item.ages);
                self.leadership.resign();
                self.leadership.saw(Some(item), &me, now);
                write
            }
            None => {
                self.leadership.resign();
                write::abdicate(round)
            }
        };
        self.background += 1;
        self.calls.write(write, Answer::Housekeeping);
    }

    /// How long the next leader's heartbeat has been the same, and those of others that should have moved: nobody else has
    /// watched them if that one is dead, or was not the deputy.
    fn silences(&self, heir: &WorkerId, now: Moment) -> BTreeMap<WorkerId, HeartbeatAge> {
        let session = self.running().map(|running| &running.session);
        let Some(session) = session.filter(|_| self.leads()) else {
            return BTreeMap::new();
        };
        let since = session.undisturbed_since();
        let silence = |id: &WorkerId| {
            let heartbeat = self.liveness.heartbeat(id)?;
            let age = self.liveness.age(id, since, now)?;
            Some((id.clone(), HeartbeatAge { heartbeat, age }))
        };
        // Whoever lives shows a heartbeat that often.
        let due = self.options.lease_duration / 3;
        let others = self.roster.items().filter_map(|item| silence(&item.id));
        let mut silent: Vec<_> = others.filter(|(_, silence)| silence.age >= due).collect();
        silent.sort_by_key(|(_, silence)| Reverse(silence.age));
        silent.truncate(TOLD_MAX);
        silent.into_iter().chain(silence(heir)).collect()
    }

    /// Finds a receiver for each lease that has none, and asks holders to stop whose leases nobody can receive.
    pub(super) fn drive_drain(&mut self, now: Moment) {
        let Some(drain) = &self.drain else {
            return;
        };
        let patient = now.since(drain.begun) < drain.patience;
        if (!drain.scanned || self.has_unproven_receivers(now)) && patient {
            return;
        }
        let open: Vec<LeaseKey> = self
            .held
            .iter()
            .filter(|(key, held)| self.giving.target(key).is_none() && !held.shared.is_recalled())
            .map(|(key, _)| key.clone())
            .collect();
        if open.is_empty() {
            return;
        }
        let targets = match self.running().map(|running| running.session.id.clone()) {
            Some(me) => planner::drain(&self.drain_snapshot(&open), &me),
            None => Default::default(),
        };
        for key in open {
            match targets.get(&key) {
                Some(to) => {
                    let newcomer = self.roster.is_newcomer(to);
                    self.begin_giving(&key, to, newcomer, now);
                }
                None => {
                    if let Some(held) = self.held.get(&key) {
                        held.shared.recall(Recall::WorkerStops);
                    }
                }
            }
        }
    }

    /// When a drain goes on although it does not know everything.
    pub(super) fn next_drain(&self, now: Moment) -> Option<Moment> {
        let drain = self.drain.as_ref()?;
        let end = drain.begun.plus(drain.patience);
        (now < end).then_some(end)
    }

    /// Whether some worker may still show that it lives.
    fn has_unproven_receivers(&self, now: Moment) -> bool {
        self.roster.items().any(|item| {
            let life = self.life(&item.id, now);
            let may_live = life.is_some_and(|life| life != Life::Expired);
            may_live && !item.draining && !self.can_receive(item)
        })
    }

    /// A worker that showed its heartbeat since the stop began, and takes leases.
    fn can_receive(&self, item: &WorkerItem) -> bool {
        let lives = |drain: &Drain| drain.saw_alive(item);
        self.drain.as_ref().is_some_and(lives)
            && (!item.draining || mutant::is(Mutant::GiveToDraining))
            && item.protocol == PROTOCOL_VERSION
    }

    fn drain_snapshot(&self, open: &[LeaseKey]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        let Some(running) = self.running() else {
            return snapshot;
        };
        let me = &running.session.id;
        for known in self.view.rows().values().filter(|k| !k.lease.is_finished()) {
            if let Some(owner) = known.lease.owner.as_ref().filter(|owner| *owner != me) {
                let key = known.lease.key.clone();
                snapshot.leases.insert(key, Some(owner.clone()));
            }
        }
        for (key, held) in &self.held {
            let given = self.giving.target(key).or(held.next_owner());
            let owner = given.filter(|_| !open.contains(key)).unwrap_or(me);
            snapshot.leases.insert(key.clone(), Some(owner.clone()));
        }
        for item in self.roster.items() {
            let takes = self.can_receive(item);
            let max_leases = item.room();
            snapshot
                .workers
                .insert(item.id.clone(), Room { max_leases, takes });
        }
        snapshot
    }
}
