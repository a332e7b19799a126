use super::*;
use crate::lease::Lease;
use crate::runtime::Runtime;
use crate::test_support::lease;
use crate::view::OwnerCheck;
use crate::worker_item::WorkerItem;

const L: Duration = Duration::from_secs(10);
const M: Duration = Duration::from_millis(250);

/// The id of a worker of this name, in the form of sessions.
fn id(name: &str) -> WorkerId {
    WorkerId::from(format!("{name}/0123456789abcdef0123456789abcdef"))
}

/// Takes as (worker, lease), and hand-overs as (giver, receiver, lease).
type Orders = (Vec<(String, String)>, Vec<(String, String, String)>);

struct Scene {
    me: WorkerId,
    my_heartbeat: u64,
    t0: Moment,
    view: View,
    liveness: Liveness,
    roster: Roster,
    pending: BTreeMap<LeaseKey, Pending>,
    refused: BTreeMap<LeaseKey, Refusal>,
    busy: BTreeSet<LeaseKey>,
    removed: BTreeSet<StreamKey>,
}

impl Scene {
    fn new() -> Self {
        Self {
            me: id("me"),
            my_heartbeat: 100,
            t0: Runtime::virtual_time(0).now(),
            view: View::default(),
            liveness: Liveness::new(L, M),
            roster: Roster::default(),
            pending: BTreeMap::new(),
            refused: BTreeMap::new(),
            busy: BTreeSet::new(),
            removed: BTreeSet::new(),
        }
    }

    fn at(&self, seconds: u64) -> Moment {
        self.t0.plus(Duration::from_secs(seconds))
    }

    fn row(&mut self, name: &str, owner: Option<&str>, read_at: u64) {
        let row = Lease {
            owner: owner.map(id),
            ..lease(name)
        };
        self.view
            .saw_row(row, Consistency::Strong, self.at(read_at));
    }

    /// A worker's heartbeat is read; from the second one on it is known to live.
    fn heartbeat(&mut self, name: &str, heartbeat: u64, seen_at: u64) {
        self.item(name, heartbeat, seen_at, |_| {});
    }

    fn item(
        &mut self,
        name: &str,
        heartbeat: u64,
        seen_at: u64,
        change: impl FnOnce(&mut WorkerItem),
    ) {
        let mut item = WorkerItem {
            heartbeat,
            ..WorkerItem::new(id(name), L)
        };
        change(&mut item);
        self.liveness.saw_worker(&item, self.at(seen_at));
        self.roster.saw(item);
    }

    fn lives(&mut self, name: &str) {
        self.heartbeat(name, 1, 0);
        self.heartbeat(name, 2, 0);
    }

    fn advise(&self, now: u64) -> Advice {
        advise(&Situation {
            me: &self.me,
            now: self.at(now),
            undisturbed_since: self.t0,
            view: &self.view,
            liveness: &self.liveness,
            roster: &self.roster,
            pending: &self.pending,
            refused: &self.refused,
            heartbeat: self.my_heartbeat,
            busy: &self.busy,
            max_leases: 100,
            removed: &self.removed,
        })
    }

    /// Who was advised to take what, and who to give what to whom.
    fn orders(&self, now: u64) -> Orders {
        let (mut takes, mut gives) = (Vec::new(), Vec::new());
        let name = |worker: &WorkerId| worker.name().to_owned();
        for order in self.advise(now).orders {
            match order {
                Order::Take { to, key, .. } => takes.push((name(&to), key.to_string())),
                Order::Give { from, to, key, .. } => {
                    gives.push((name(&from), name(&to), key.to_string()));
                }
            }
        }
        (takes, gives)
    }
}

#[tokio::test(start_paused = true)]
async fn leases_without_owner_are_shared_by_those_who_live() {
    let mut scene = Scene::new();
    scene.lives("other");
    scene.heartbeat("unproven", 7, 0);
    for name in ["a", "b", "c", "d"] {
        scene.row(name, None, 0);
    }
    let (takes, gives) = scene.orders(0);
    let mine = takes.iter().filter(|(to, _)| to == "me").count();
    let others = takes.iter().filter(|(to, _)| to == "other").count();
    assert_eq!((mine, others, gives.len()), (2, 2, 0), "{takes:?}");
}

#[tokio::test(start_paused = true)]
async fn nothing_moves_from_a_living_owner_before_everybody_is_known_to_live_or_not() {
    let mut scene = Scene::new();
    for name in ["a", "b", "c", "d"] {
        scene.row(name, Some("me"), 0);
        scene.busy.insert(name.into());
    }
    scene.lives("other");
    scene.heartbeat("unproven", 7, 0);
    assert_eq!(scene.orders(1).1.len(), 0);
    assert_eq!(scene.advise(1).wake, Some(scene.t0.plus(L + M)));
    scene.heartbeat("unproven", 8, 2);
    assert_eq!(scene.orders(2).1.len(), 2);
    // A give that is under way is not repeated, and counts as done.
    for (_, to, key) in scene.orders(2).1 {
        let pending = Pending {
            to: id(&to),
            from: Some(id("me")),
            gives: true,
            until: scene.at(12),
        };
        scene.pending.insert(key.as_str().into(), pending);
    }
    assert_eq!(scene.orders(3), (vec![], vec![]));
}

#[tokio::test(start_paused = true)]
async fn an_expired_owners_leases_are_taken_with_what_is_known_of_it() {
    let mut scene = Scene::new();
    scene.lives("dead");
    scene.row("a", Some("dead"), 0);
    assert_eq!(scene.orders(10), (vec![], vec![]));
    let advice = scene.advise(11);
    let [
        Order::Take {
            to,
            dead: Some(dead),
            ..
        },
    ] = advice.orders.as_slice()
    else {
        panic!("{advice:?}");
    };
    assert_eq!(
        (to, &dead.owner, dead.heartbeat),
        (&scene.me, &id("dead"), 2)
    );
    assert_eq!(dead.age, Duration::from_secs(11));
}

#[tokio::test(start_paused = true)]
async fn a_newcomer_gets_an_expired_owners_leases_only_once_it_can_judge() {
    let mut scene = Scene::new();
    scene.lives("dead");
    for name in ["a", "b", "c"] {
        scene.row(name, Some("dead"), 0);
    }
    scene.heartbeat("new", 1, 7);
    scene.heartbeat("new", 2, 10);
    let (takes, _) = scene.orders(11);
    assert_eq!(takes.len(), 3);
    assert!(takes.iter().all(|(to, _)| to == "me"), "{takes:?}");
    scene.heartbeat("new", 3, 10);
    let (takes, _) = scene.orders(11);
    assert!(takes.iter().any(|(to, _)| to == "new"), "{takes:?}");
}

#[tokio::test(start_paused = true)]
async fn workers_that_started_together_share_what_an_earlier_fleet_left() {
    let mut scene = Scene::new();
    scene.lives("dead");
    for name in ["a", "b", "c", "d"] {
        scene.row(name, Some("dead"), 0);
    }
    scene.my_heartbeat = 3;
    scene.heartbeat("peer", 1, 7);
    scene.heartbeat("peer", 2, 10);
    let (takes, _) = scene.orders(11);
    let peers = takes.iter().filter(|(to, _)| to == "peer").count();
    assert_eq!((takes.len(), peers), (4, 2), "{takes:?}");
}

#[tokio::test(start_paused = true)]
async fn an_owner_without_an_item_is_looked_for_once_before_its_leases_are_free() {
    let mut scene = Scene::new();
    scene.row("a", Some("gone"), 0);
    let advice = scene.advise(0);
    assert_eq!(advice.owners_to_check, BTreeSet::from([id("gone")]));
    let mut check = OwnerCheck {
        sent: scene.at(1),
        found: OwnerFound::Unreadable,
    };
    scene.view.saw_owner(id("gone"), check);
    assert!(
        scene.advise(2).owners_to_check.is_empty(),
        "not all the time"
    );
    assert_eq!(scene.advise(6).owners_to_check.len(), 1);
    check.found = OwnerFound::Nothing;
    scene.view.saw_owner(id("gone"), check);
    assert_eq!(scene.orders(2).0.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn draining_workers_and_newer_versions_get_nothing_and_keep_what_they_have() {
    let mut scene = Scene::new();
    scene.lives("leaving");
    scene.item("leaving", 3, 0, |item| item.draining = true);
    scene.lives("newer");
    scene.item("newer", 3, 0, |item| item.protocol = PROTOCOL_VERSION + 1);
    for name in ["a", "b", "c"] {
        scene.row(name, Some("leaving"), 0);
    }
    for name in ["d", "e"] {
        scene.row(name, None, 0);
    }
    let (takes, gives) = scene.orders(0);
    assert!(takes.iter().all(|(to, _)| to == "me"));
    assert_eq!((takes.len(), gives.len()), (2, 0));
}

#[tokio::test(start_paused = true)]
async fn advice_that_was_not_followed_is_given_again_after_a_new_look() {
    let mut scene = Scene::new();
    scene.lives("other");
    scene.row("a", None, 0);
    scene.busy.insert("b".into());
    scene.row("b", Some("me"), 0);
    let pending = Pending {
        to: id("other"),
        from: None,
        gives: false,
        until: scene.at(4),
    };
    scene.pending.insert("a".into(), pending);
    assert_eq!(scene.orders(3), (vec![], vec![]));
    let late = scene.advise(5);
    assert!(
        late.orders.is_empty() && late.scan_wanted,
        "the view may be old"
    );
    scene.row("a", None, 5);
    assert_eq!(scene.orders(5).0, [("other".to_owned(), "a".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn a_giver_that_dies_is_not_waited_for() {
    let mut scene = Scene::new();
    scene.lives("dead");
    scene.row("a", Some("dead"), 0);
    let pending = Pending {
        to: id("me"),
        from: Some(id("dead")),
        gives: true,
        until: scene.at(30),
    };
    scene.pending.insert("a".into(), pending);
    assert_eq!(scene.orders(9).0.len(), 0);
    assert_eq!(scene.orders(11).0.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_taker_that_stops_is_not_waited_for() {
    let mut scene = Scene::new();
    scene.lives("stops");
    scene.row("a", None, 0);
    let pending = Pending {
        to: id("stops"),
        from: None,
        gives: false,
        until: scene.at(4),
    };
    scene.pending.insert("a".into(), pending);
    assert_eq!(scene.orders(1).0.len(), 0);
    scene.item("stops", 2, 0, |item| item.draining = true);
    assert_eq!(scene.orders(1).0, [("me".to_owned(), "a".to_owned())]);
    // A read that is older than its stop changes nothing.
    scene.item("stops", 2, 0, |item| item.draining = false);
    assert_eq!(scene.orders(1).0, [("me".to_owned(), "a".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn children_are_left_to_the_worker_that_finished_the_parent_for_a_while() {
    let mut scene = Scene::new();
    scene.lives("finisher");
    let parent = Lease {
        owner: Some(id("finisher")),
        checkpoint: kcl_checkpoint::Checkpoint::ShardEnd,
        ..lease("p")
    };
    let child = Lease {
        parents: ["p".into()].into(),
        ..lease("c")
    };
    for row in [parent, child] {
        scene.view.saw_row(row, Consistency::Strong, scene.at(0));
    }
    assert_eq!(scene.orders(1), (vec![], vec![]));
    assert_eq!(scene.orders(2).0.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_a_worker_could_not_work_on_goes_to_another_one_and_does_not_come_straight_back()
 {
    let mut scene = Scene::new();
    scene.lives("other");
    for name in ["a", "b", "c"] {
        scene.row(name, Some("other"), 0);
    }
    for name in ["d", "e"] {
        scene.row(name, Some("me"), 0);
    }
    scene.row("stuck", None, 0);
    let take = |to: &str| vec![(to.to_owned(), "stuck".to_owned())];
    assert_eq!(scene.orders(1).0, take("me"), "it has fewer");
    let refusal = Refusal {
        worker: id("me"),
        until: scene.at(300),
    };
    scene.refused.insert("stuck".into(), refusal);
    assert_eq!(scene.orders(1), (take("other"), vec![]));
    // Two more than the other one: a lease moves, but not this one.
    scene.row("stuck", Some("other"), 2);
    for now in [2, 4] {
        scene.heartbeat("other", 2 + now, now);
        let (takes, gives) = scene.orders(now);
        assert_eq!((takes.len(), gives.len()), (0, 1));
        assert_ne!(gives[0].2, "stuck");
    }
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_is_alone_gets_back_what_it_could_not_work_on() {
    let mut scene = Scene::new();
    scene.row("stuck", None, 0);
    let refusal = Refusal {
        worker: id("me"),
        until: scene.at(300),
    };
    scene.refused.insert("stuck".into(), refusal);
    assert_eq!(scene.orders(1).0, [("me".to_owned(), "stuck".to_owned())]);
}

#[tokio::test(start_paused = true)]
async fn nobody_is_advised_to_have_leases_that_are_being_deleted() {
    let mut scene = Scene::new();
    let former = StreamKey::new("1", "former", 1);
    let row = Lease {
        key: former.lease_key(&"s".into()),
        ..lease("s")
    };
    let at = scene.at(0);
    scene.view.saw_row(row, Consistency::Strong, at);
    scene.row("s", None, 0);
    scene.removed.insert(former);
    let (takes, _) = scene.orders(1);
    assert_eq!(takes, [("me".to_owned(), "s".to_owned())]);
}
