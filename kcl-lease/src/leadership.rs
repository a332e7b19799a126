//! Who leads the fleet, as far as this worker knows, and whether it may write that it does.
//!
//! The leader has no authority: it reads for all and gives advice. Two of them are harmless, so nothing here needs to be
//! exact; it needs to end in one leader soon.

use std::time::Duration;

use crate::key::WorkerId;
use crate::leader_item::LeaderItem;
use crate::mutant::{self, Mutant};
use crate::runtime::Moment;

/// What this worker knows of the lead.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Leadership {
    seen: Option<Seen>,
    /// A read found no leader item, and nothing was seen since.
    absent: bool,
    /// The round under which this worker leads: the condition of its next write.
    leading: Option<u64>,
    /// The leader that was seen has no session any more.
    vacant: bool,
    /// The leader item cannot be read: nobody can be followed, so everybody leads himself.
    unreadable: bool,
    /// Who led before this worker, and let go of the lead without a word.
    silenced: Option<WorkerId>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    item: LeaderItem,
    /// Since when the round has been the same.
    since: Moment,
}

/// On what condition this worker may write that it leads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Candidacy {
    /// The item has this round; none exists if `None`.
    Now(Option<u64>),
    /// Not before this moment, if nothing else happens.
    Later(Moment),
    /// Nothing is known: the item has to be read.
    Unknown,
}

impl Leadership {
    /// The leader item was read; `None` if there is none.
    pub(crate) fn saw(&mut self, item: Option<LeaderItem>, me: &WorkerId, now: Moment) {
        self.unreadable = false;
        let Some(item) = item else {
            // Our own item cannot be missing, unless it was deleted or the read is older than it.
            self.absent = self.leading.is_none();
            if self.absent {
                self.seen = None;
            }
            return;
        };
        let known = self.seen.as_ref().map(|seen| seen.item.round);
        if known.is_some_and(|known| item.round < known) {
            return;
        }
        if self.leading.is_some_and(|round| item.round >= round) && item.leader != *me {
            self.leading = None;
        }
        self.absent = false;
        let moved = known != Some(item.round);
        let since = self.seen.as_ref().filter(|_| !moved).map(|seen| seen.since);
        self.vacant &= !moved;
        self.seen = Some(Seen {
            item,
            since: since.unwrap_or(now),
        });
    }

    /// Since when a later round than that of `item` is known, if one is.
    pub(crate) fn knows_later_round(&self, item: &LeaderItem) -> Option<Moment> {
        let seen = self.seen.as_ref()?;
        (item.round < seen.item.round).then_some(seen.since)
    }

    /// The leader item was read and cannot be used. Returns whether that is new.
    pub(crate) fn saw_unreadable(&mut self) -> bool {
        let known = std::mem::replace(&mut self.unreadable, true);
        self.leading = None;
        self.seen = None;
        self.absent = false;
        !known
    }

    /// The leader has no session any more: nobody else has to be waited for.
    pub(crate) fn is_vacant(&mut self, leader: &WorkerId) {
        self.vacant |= self.leader() == Some(leader);
    }

    /// The worker that leads, as far as is known.
    pub(crate) fn leader(&self) -> Option<&WorkerId> {
        self.seen.as_ref().map(|seen| &seen.item.leader)
    }

    /// The worker that watches besides the leader.
    pub(crate) fn deputy(&self) -> Option<&WorkerId> {
        self.seen.as_ref()?.item.deputy.as_ref()
    }

    /// Whether this worker leads.
    pub(crate) fn leads(&self) -> bool {
        self.leading.is_some() || self.unreadable
    }

    /// Whether this worker is the deputy.
    pub(crate) fn is_deputy(&self, me: &WorkerId) -> bool {
        !self.leads() && self.deputy() == Some(me)
    }

    /// Whether this worker may write the leader item. `patience` is how long a round stays the same before its leader
    /// counts as gone; all but the deputy wait a little longer, so that it comes first.
    pub(crate) fn candidacy(
        &self,
        me: &WorkerId,
        undisturbed_since: Moment,
        patience: Duration,
        now: Moment,
    ) -> Candidacy {
        if let Some(round) = self.leading {
            return Candidacy::Now(Some(round));
        }
        let Some(seen) = &self.seen else {
            return match self.absent {
                true => Candidacy::Now(None),
                false => Candidacy::Unknown,
            };
        };
        let round = Some(seen.item.round);
        // Named by the leader before, or by a write of ours whose answer was lost.
        if seen.item.leader == *me || self.vacant {
            return Candidacy::Now(round);
        }
        let patience = match self.deputy() == Some(me) {
            true => patience,
            false => patience + patience / 3,
        };
        let due = seen.since.max(undisturbed_since).plus(patience);
        match now < due {
            true => Candidacy::Later(due),
            false if mutant::is(Mutant::NeverSucceed) => Candidacy::Later(now.plus(patience)),
            false => Candidacy::Now(round),
        }
    }

    /// Our write on the condition of `seen` was applied; `item` is what is stored.
    pub(crate) fn won(&mut self, item: LeaderItem, now: Moment) {
        if self.leading.is_none() {
            let before = self.seen.take().map(|seen| seen.item.leader);
            self.silenced = before.filter(|before| *before != item.leader);
        }
        self.leading = Some(item.round);
        self.absent = false;
        self.vacant = false;
        self.seen = Some(Seen { item, since: now });
    }

    /// Our write was refused: somebody else leads. It is never repeated with the round just read: that one waits first.
    pub(crate) fn lost(&mut self, item: Option<LeaderItem>, me: &WorkerId, now: Moment) {
        let known = self.leading.take();
        self.seen = None;
        self.absent = false;
        self.vacant = false;
        // An earlier attempt of our own was applied.
        let mine = |item: &LeaderItem| item.leader == *me && known.is_some_and(|r| item.round > r);
        self.leading = item
            .as_ref()
            .filter(|item| mine(item))
            .map(|item| item.round);
        self.saw(item, me, now);
    }

    /// Whether this worker took the lead from that one, because it had gone silent.
    pub(crate) fn silenced(&self, worker: &WorkerId) -> bool {
        self.leads() && self.silenced.as_ref() == Some(worker)
    }

    /// The round under which this worker leads, or was named as the next leader.
    pub(crate) fn round_of(&self, me: &WorkerId) -> Option<u64> {
        let named = || self.seen.as_ref().filter(|seen| seen.item.leader == *me);
        self.leading.or_else(|| Some(named()?.item.round))
    }

    /// This worker's session is over, or it gave the lead away.
    pub(crate) fn resign(&mut self) {
        self.leading = None;
        self.vacant = false;
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::runtime::Runtime;

    const R: Duration = Duration::from_secs(3);

    fn item(leader: &str, deputy: Option<&str>, round: u64) -> LeaderItem {
        LeaderItem {
            leader: leader.into(),
            deputy: deputy.map(WorkerId::from),
            round,
            ages: BTreeMap::new(),
        }
    }

    fn after(start: Moment, millis: u64) -> Moment {
        start.plus(Duration::from_millis(millis))
    }

    #[tokio::test(start_paused = true)]
    async fn without_an_item_anybody_may_lead_at_once() {
        let t0 = Runtime::virtual_time(0).now();
        let me = WorkerId::from("w/1");
        let mut lead = Leadership::default();
        assert_eq!(lead.candidacy(&me, t0, R, t0), Candidacy::Unknown);
        lead.saw(None, &me, t0);
        assert_eq!(lead.candidacy(&me, t0, R, t0), Candidacy::Now(None));
        lead.won(item("w/1", None, 1), t0);
        assert!(lead.leads());
        assert_eq!(lead.candidacy(&me, t0, R, t0), Candidacy::Now(Some(1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_round_that_stands_still_makes_the_deputy_lead_first() {
        let t0 = Runtime::virtual_time(0).now();
        let (deputy, other) = (WorkerId::from("w/2"), WorkerId::from("w/3"));
        let mut lead = Leadership::default();
        lead.saw(Some(item("w/1", Some("w/2"), 7)), &other, t0);
        lead.saw(Some(item("w/1", Some("w/2"), 7)), &other, after(t0, 2_000));
        let at = |me: &WorkerId, millis| lead.candidacy(me, t0, R, after(t0, millis));
        assert_eq!(at(&deputy, 2_999), Candidacy::Later(after(t0, 3_000)));
        assert_eq!(at(&deputy, 3_000), Candidacy::Now(Some(7)));
        assert_eq!(at(&other, 3_000), Candidacy::Later(after(t0, 4_000)));
        assert_eq!(at(&other, 4_000), Candidacy::Now(Some(7)));
        // After an interruption of our own the wait begins anew.
        assert_eq!(
            lead.candidacy(&deputy, after(t0, 9_000), R, after(t0, 9_001)),
            Candidacy::Later(after(t0, 12_000))
        );
        // A round that moves shows that the leader lives.
        lead.saw(Some(item("w/1", Some("w/2"), 8)), &other, after(t0, 3_500));
        assert_eq!(
            lead.candidacy(&deputy, t0, R, after(t0, 4_000)),
            Candidacy::Later(after(t0, 6_500))
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_leader_without_session_is_followed_at_once() {
        let t0 = Runtime::virtual_time(0).now();
        let me = WorkerId::from("w/2");
        let mut lead = Leadership::default();
        lead.saw(Some(item("w/1", None, 7)), &me, t0);
        lead.is_vacant(&WorkerId::from("w/9"));
        assert!(matches!(
            lead.candidacy(&me, t0, R, t0),
            Candidacy::Later(_)
        ));
        lead.is_vacant(&WorkerId::from("w/1"));
        assert_eq!(lead.candidacy(&me, t0, R, t0), Candidacy::Now(Some(7)));
        // Somebody was faster.
        lead.lost(Some(item("w/3", None, 8)), &me, t0);
        assert!(!lead.leads());
        assert!(matches!(
            lead.candidacy(&me, t0, R, t0),
            Candidacy::Later(_)
        ));
    }

    #[tokio::test(start_paused = true)]
    async fn the_lead_ends_when_somebody_else_has_it() {
        let t0 = Runtime::virtual_time(0).now();
        let me = WorkerId::from("w/1");
        let mut lead = Leadership::default();
        lead.won(item("w/1", None, 5), t0);
        // An old read, and our own later write, change nothing.
        lead.saw(Some(item("w/0", None, 4)), &me, t0);
        lead.saw(Some(item("w/1", None, 6)), &me, t0);
        lead.saw(None, &me, t0);
        assert!(lead.leads());
        lead.saw(Some(item("w/2", None, 7)), &me, t0);
        assert!(!lead.leads());
        assert_eq!(lead.leader(), Some(&WorkerId::from("w/2")));
    }

    #[tokio::test(start_paused = true)]
    async fn the_lead_can_be_handed_to_the_deputy() {
        let t0 = Runtime::virtual_time(0).now();
        let deputy = WorkerId::from("w/2");
        let mut lead = Leadership::default();
        lead.saw(Some(item("w/2", None, 9)), &deputy, t0);
        assert_eq!(lead.candidacy(&deputy, t0, R, t0), Candidacy::Now(Some(9)));
    }
}
