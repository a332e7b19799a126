//! Whether the leases of another stream may be deleted: not while anybody works on them.

use std::collections::BTreeSet;

use crate::key::WorkerId;
use crate::lease::Lease;
use crate::liveness::Liveness;
use crate::runtime::Moment;

/// What the decision depends on. The rows and the workers' items were read strongly consistent after the reset began.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Situation<'a> {
    pub(crate) me: &'a WorkerId,
    pub(crate) leases: &'a [&'a Lease],
    /// Workers that have an item, and whether they count even if no row names them.
    pub(crate) workers: &'a [(WorkerId, bool)],
    pub(crate) liveness: &'a Liveness,
    pub(crate) undisturbed_since: Moment,
    pub(crate) begun: Moment,
    pub(crate) now: Moment,
}

/// What to do now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// Look again: until then nobody can be told dead from alive.
    Watch,
    /// This worker lives and holds leases.
    Refuse(WorkerId),
    /// Nobody works on the leases any more.
    Delete,
}

/// Judges all owners of leases. A worker that holds nothing does not count: it may be about to reset, too.
pub(crate) fn judge(situation: Situation<'_>) -> Verdict {
    let Situation {
        me, liveness, now, ..
    } = situation;
    let with_item: BTreeSet<&WorkerId> = situation.workers.iter().map(|(id, _)| id).collect();
    let holders = situation.workers.iter().filter(|(_, holds)| *holds);
    let unfinished = || situation.leases.iter().filter(|lease| !lease.is_finished());
    let owners = unfinished().filter_map(|lease| lease.owner.as_ref());
    let sessions: BTreeSet<&WorkerId> = owners
        .filter(|owner| with_item.contains(owner))
        .chain(holders.map(|(id, _)| id))
        .filter(|id| *id != me)
        .collect();
    if let Some(alive) = sessions.iter().find(|id| liveness.was_alive(id)) {
        return Verdict::Refuse((*alive).clone());
    }
    let still_counts = |expires: Option<Moment>| expires.is_none_or(|expires| now < expires);
    let undisturbed = situation.undisturbed_since;
    let mut watch = sessions
        .iter()
        .any(|id| still_counts(liveness.worker_expires(id, undisturbed)));
    // An owner without an item of ours is a Java worker: its counters move while it lives. Ours register first.
    for lease in unfinished() {
        let Some(owner) = lease.owner.as_ref().filter(|owner| !owner.is_session()) else {
            continue;
        };
        if liveness.row_moved_since(&lease.key, situation.begun) {
            return Verdict::Refuse(owner.clone());
        }
        watch |= still_counts(liveness.row_expires(&lease.key, undisturbed));
    }
    match watch {
        true => Verdict::Watch,
        false => Verdict::Delete,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::runtime::Runtime;
    use crate::test_support::lease;
    use crate::worker_item::WorkerItem;

    const L: Duration = Duration::from_secs(10);
    const OTHER: &str = "b/0123456789abcdef0123456789abcdef";

    struct Scene {
        begun: Moment,
        liveness: Liveness,
        lease: Lease,
        workers: Vec<(WorkerId, bool)>,
    }

    impl Scene {
        fn new(owner: Option<&str>) -> Self {
            Self {
                begun: Runtime::virtual_time(0).now(),
                liveness: Liveness::new(L, Duration::from_millis(250)),
                lease: Lease {
                    owner: owner.map(WorkerId::from),
                    ..lease("s")
                },
                workers: Vec::new(),
            }
        }

        fn saw(&mut self, heartbeat: u64, second: u64) {
            let item = WorkerItem {
                heartbeat,
                ..WorkerItem::new(OTHER.into(), L)
            };
            self.liveness.saw_worker(&item, self.at(second));
        }

        fn saw_row(&mut self, counter: u64, second: u64) {
            self.lease.counter = counter;
            let now = self.at(second);
            self.liveness.saw_row(&self.lease, now);
        }

        fn at(&self, second: u64) -> Moment {
            self.begun.plus(Duration::from_secs(second))
        }

        fn judge(&self, second: u64) -> Verdict {
            judge(Situation {
                me: &WorkerId::from("a/0123456789abcdef0123456789abcdef"),
                leases: &[&self.lease],
                workers: &self.workers,
                liveness: &self.liveness,
                undisturbed_since: self.begun,
                begun: self.begun,
                now: self.at(second),
            })
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_holds_leases_is_waited_for_and_respected() {
        for names_it in [true, false] {
            let mut scene = Scene::new(names_it.then_some(OTHER));
            scene.workers = vec![(OTHER.into(), !names_it)];
            scene.saw(5, 0);
            assert_eq!(scene.judge(10), Verdict::Watch);
            assert_eq!(scene.judge(11), Verdict::Delete);
            scene.saw(6, 4);
            assert_eq!(scene.judge(4), Verdict::Refuse(OTHER.into()));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_worker_that_holds_nothing_does_not_count() {
        let mut scene = Scene::new(None);
        scene.workers = vec![(OTHER.into(), false)];
        scene.saw(5, 0);
        scene.saw(6, 3);
        assert_eq!(scene.judge(3), Verdict::Delete);
    }

    #[tokio::test(start_paused = true)]
    async fn an_owner_without_an_item_is_gone_unless_it_is_a_java_worker() {
        assert_eq!(Scene::new(Some(OTHER)).judge(0), Verdict::Delete);
        let mut java = Scene::new(Some("java"));
        java.saw_row(3, 0);
        assert_eq!(java.judge(10), Verdict::Watch);
        assert_eq!(java.judge(11), Verdict::Delete);
        java.saw_row(4, 3);
        assert_eq!(java.judge(3), Verdict::Refuse("java".into()));
    }
}
