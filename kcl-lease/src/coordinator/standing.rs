//! Standing for leader: reading the leader item, writing it when it is time to, and what follows when the lead changes.

use super::calls::{Answer, CallError};
use super::driver::Driver;
use super::event::CoordinatorEvent;
use crate::item::Item;
use crate::key::WorkerId;
use crate::leader_item::{LEADER_KEY, LeaderItem};
use crate::leadership::{Candidacy, Leadership};
use crate::roster::Life;
use crate::runtime::Moment;
use crate::table::{Consistency, Written};
use crate::write;

/// A round that stands still for so many look-outs has no leader any more.
const PATIENCE: u32 = 3;

/// What the leader item says that this worker is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Leader,
    Deputy,
    Follower,
}

/// When this worker read and wrote the leader item.
#[derive(Debug, Default)]
pub(super) struct Stand {
    read: Option<Moment>,
    read_on_its_way: bool,
    written: Option<Moment>,
    write_on_its_way: bool,
}

impl Stand {
    /// Has the leader item read again at once.
    pub(super) fn look_again(&mut self) {
        self.read = None;
    }
}

impl Driver {
    /// Whether this worker leads, as far as it knows.
    pub(super) fn leads(&self) -> bool {
        self.leadership.leads() && !self.draining && !self.newer_protocol
    }

    /// When to read the leader item.
    pub(super) fn leader_due(&self) -> Option<Moment> {
        let each = self.watch_each();
        let due = self.lookout.stand.read.map(|read| read.plus(each));
        (!self.lookout.stand.read_on_its_way).then(|| due.unwrap_or(self.lookout.registered))
    }

    pub(super) fn read_leader(&mut self, now: Moment) {
        if self.leader_due().is_none_or(|due| now < due) {
            return;
        }
        let consistency = match self.lookout.stand.read {
            None => Consistency::Strong,
            Some(_) => Consistency::Eventual,
        };
        self.lookout.stand.read = Some(now);
        self.lookout.stand.read_on_its_way = true;
        let key = LEADER_KEY.to_owned();
        self.calls
            .get(key, consistency, move |result| Answer::Leader {
                sent: now,
                consistency,
                result,
            });
    }

    pub(super) fn on_leader(
        &mut self,
        sent: Moment,
        consistency: Consistency,
        result: Result<Option<Item>, CallError>,
        now: Moment,
    ) {
        self.heard(&result, now);
        self.lookout.stand.read_on_its_way = false;
        if let Ok(item) = result {
            self.see_leader(item.as_ref(), sent, consistency, now);
        }
        if self.draining {
            // It was named by a leader that stopped, and will not lead.
            self.resign(now);
        }
        // A read that was on its way before may tell of the one that is gone.
        if self.lookout.stand.read.is_some() {
            self.tell_who_leads(now);
        }
    }

    fn see_leader(
        &mut self,
        item: Option<&Item>,
        sent: Moment,
        consistency: Consistency,
        now: Moment,
    ) {
        let me = self.worker.borrow().clone();
        let before = self.standing();
        match item.map(LeaderItem::from_item) {
            None => self.leadership.saw(None, &me, now),
            Some(Ok(Some(item))) => {
                self.judge_earlier_round(&item, sent, consistency);
                for (worker, told) in &item.ages {
                    self.liveness
                        .told_of_worker(worker, told.heartbeat, told.age, now);
                }
                self.leadership.saw(Some(item), &me, now);
            }
            // Nobody can follow such an item: everybody plans for himself, which is harmless.
            Some(_) => {
                if self.leadership.saw_unreadable() {
                    self.tell(CoordinatorEvent::RowUnreadable {
                        key: LEADER_KEY.to_owned(),
                        error: "the leader item cannot be read; delete it".to_owned(),
                    });
                }
            }
        }
        self.note_standing(before, now);
    }

    /// An earlier round than a known one was read: the read is old, or the rounds began anew, because a leader without a
    /// successor deletes the item when it stops.
    fn judge_earlier_round(&mut self, item: &LeaderItem, sent: Moment, consistency: Consistency) {
        let Some(since) = self.leadership.knows_later_round(item) else {
            return;
        };
        match consistency {
            Consistency::Strong if sent >= since => self.leadership = Leadership::default(),
            Consistency::Strong => {}
            Consistency::Eventual => self.lookout.stand.look_again(),
        }
    }

    fn standing(&self) -> Standing {
        if self.leadership.leads() {
            Standing::Leader
        } else if self.leadership.is_deputy(&self.worker.borrow()) {
            Standing::Deputy
        } else {
            Standing::Follower
        }
    }

    /// What follows from a change of the lead.
    fn note_standing(&mut self, before: Standing, now: Moment) {
        let standing = self.standing();
        if standing == before {
            return;
        }
        match standing {
            Standing::Leader => {
                tracing::debug!("this worker leads");
                self.doubt_list();
                self.want_stream_checked(now);
                self.lead_since = now;
                self.scan_due = now;
                self.replan = true;
            }
            // Whoever joined before told the deputy of that time.
            Standing::Deputy => self.want_scan(now),
            Standing::Follower => {}
        }
        if before == Standing::Leader {
            self.pending.clear();
            self.forget_former();
            let known: Vec<_> = self.streams.keys().cloned().collect();
            for stream in known {
                self.forget_unused_stream(&stream);
            }
        }
    }

    /// When to write the leader item.
    pub(super) fn next_stand(&self, now: Moment) -> Option<Moment> {
        if !self.may_lead(now) || self.lookout.stand.write_on_its_way {
            return None;
        }
        let again = self
            .lookout
            .stand
            .written
            .map(|at| at.plus(self.options.watch_interval));
        match self.candidacy(now)? {
            Candidacy::Unknown => None,
            Candidacy::Later(at) => Some(at),
            Candidacy::Now(_) if self.leads_blindly(now) => None,
            // Alone there is nobody who waits for a sign of the leader.
            Candidacy::Now(_) if self.leadership.leads() && self.roster.is_alone() => None,
            Candidacy::Now(_) => Some(again.unwrap_or(now)),
        }
    }

    /// This worker leads and could not look at the stream so far, without which nothing is planned: after a while it shows no
    /// sign of itself any more, and somebody else leads who can.
    fn leads_blindly(&self, now: Moment) -> bool {
        let patience = self.options.watch_interval * PATIENCE;
        let knows = self.streams.is_open() && !self.streams.is_unchecked();
        self.leadership.leads()
            && !knows
            && !self.roster.is_alone()
            && now >= self.lead_since.plus(patience)
    }

    fn candidacy(&self, now: Moment) -> Option<Candidacy> {
        let session = &self.running()?.session;
        let patience = self.options.watch_interval * PATIENCE;
        // A worker that does not know the stream cannot plan for others, and a leader that is alone and has not seen it yet
        // writes no rounds.
        let patience = match self.streams.was_open() {
            true => patience,
            false => patience.max(self.options.lease_duration),
        };
        let undisturbed = session.undisturbed_since();
        let leadership = &self.leadership;
        Some(leadership.candidacy(&session.id, undisturbed, patience, now))
    }

    fn may_lead(&self, now: Moment) -> bool {
        let valid = |running: &super::sessions::Running| running.session.may_take(now);
        !self.draining && !self.newer_protocol && self.running().is_some_and(valid)
    }

    /// Writes the leader item when it is time to.
    pub(super) fn stand(&mut self, now: Moment) {
        if self.next_stand(now).is_none_or(|at| now < at) {
            return;
        }
        let Some(Candidacy::Now(round)) = self.candidacy(now) else {
            return;
        };
        let me = self.worker.borrow().clone();
        let deputy = self.choose_deputy(now);
        self.lookout.stand.written = Some(now);
        self.lookout.stand.write_on_its_way = true;
        let write = write::lead(round, &me, deputy.as_ref(), &Default::default());
        self.calls.write(write, Answer::Led);
    }

    /// The smallest id of those who live, and know the stream: without it they could not plan for others.
    pub(super) fn choose_deputy(&self, now: Moment) -> Option<WorkerId> {
        self.deputies(now).next().cloned()
    }

    /// Who leads when this worker stops: the one who would be deputy, but not one that seems to be dead by now, or from whom
    /// this worker has the lead because it was silent.
    pub(super) fn choose_heir(&self, now: Moment) -> Option<WorkerId> {
        let since = self.running()?.session.undisturbed_since();
        let heard = |id: &&WorkerId| {
            let age = self.liveness.age(id, since, now);
            let is_heard = age.is_some_and(|age| age < self.options.lease_duration / 2);
            is_heard && !self.leadership.silenced(id)
        };
        let heir = self.deputies(now).find(heard);
        heir.cloned().or_else(|| self.choose_deputy(now))
    }

    fn deputies(&self, now: Moment) -> impl Iterator<Item = &WorkerId> {
        self.roster
            .items()
            .filter(|item| !item.draining && item.room() > 0)
            .map(|item| &item.id)
            .filter(move |id| self.life(id, now) == Some(Life::Alive))
    }

    pub(super) fn on_led(&mut self, result: Result<Written, CallError>, now: Moment) {
        self.heard(&result, now);
        self.lookout.stand.write_on_its_way = false;
        let me = self.worker.borrow().clone();
        let before = self.standing();
        match result {
            Ok(Written::Applied(item)) => match LeaderItem::from_item(&item) {
                Ok(Some(item)) if item.leader == me => self.leadership.won(item, now),
                _ => self.leadership.resign(),
            },
            Ok(Written::Refused(item)) => {
                let found = item.as_ref().map(LeaderItem::from_item);
                let found = found.and_then(|item| item.ok().flatten());
                self.leadership.lost(found, &me, now);
            }
            // A worker that never had a lease and may not write is no use: better it says so and stops.
            Err(error) if self.grants == 0 && error.is_denied() => self.fail(error.into()),
            // It may have been applied: then the next read names us.
            Err(_) => {}
        }
        if self.draining && self.leadership.leads() {
            // The write was on its way when the stop began.
            return self.resign(now);
        }
        self.note_standing(before, now);
    }
}
