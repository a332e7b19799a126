use super::*;
use crate::lease::Lease;
use crate::runtime::Runtime;
use crate::test_support::lease;
use crate::view::OwnerCheck;
use crate::worker_item::WorkerItem;

const L: Duration = Duration::from_secs(10);
const M: Duration = Duration::from_millis(250);
const OTHER: &str = "b/0123456789abcdef0123456789abcdef";

struct Scene {
    me: WorkerId,
    t0: Moment,
    view: View,
    liveness: Liveness,
    busy: BTreeSet<LeaseKey>,
    not_before: BTreeMap<LeaseKey, Moment>,
    undisturbed_since: Moment,
    wanted: BTreeMap<LeaseKey, Moment>,
    room: usize,
}

impl Scene {
    fn new() -> Self {
        let t0 = Runtime::virtual_time(0).now();
        Self {
            me: WorkerId::from("a/0123456789abcdef0123456789abcdef"),
            t0,
            view: View::default(),
            liveness: Liveness::new(L, M),
            busy: BTreeSet::new(),
            not_before: BTreeMap::new(),
            undisturbed_since: t0,
            wanted: BTreeMap::new(),
            room: 100,
        }
    }

    fn at(&self, millis: u64) -> Moment {
        self.t0.plus(Duration::from_millis(millis))
    }

    fn row(&mut self, name: &str, owner: Option<&str>, read_at: u64) {
        let row = Lease {
            owner: owner.map(WorkerId::from),
            ..lease(name)
        };
        let now = self.at(read_at);
        self.wanted.insert(row.key.clone(), self.at(1_000_000));
        self.liveness.saw_row(&row, now);
        self.view.saw_row(row, Consistency::Eventual, now);
    }

    fn heartbeat(&mut self, heartbeat: u64, seen_at: u64) {
        let item = WorkerItem {
            heartbeat,
            ..WorkerItem::new(OTHER.into(), L)
        };
        let now = self.at(seen_at);
        self.liveness.saw_worker(&item, now);
    }

    fn checked(&mut self, found: OwnerFound, sent: u64) {
        let sent = self.at(sent);
        self.view
            .saw_owner(OTHER.into(), OwnerCheck { sent, found });
    }

    fn judge(&self, name: &str, now: u64) -> Judgement {
        let situation = self.situation(now);
        judge(&situation, self.view.row(&LeaseKey::from(name)).unwrap())
    }

    fn situation(&self, now: u64) -> Situation<'_> {
        Situation {
            me: &self.me,
            now: self.at(now),
            undisturbed_since: self.undisturbed_since,
            check_ages_after: L / 2,
            view: &self.view,
            liveness: &self.liveness,
            busy: &self.busy,
            not_before: &self.not_before,
            wanted: &self.wanted,
            room: self.room,
        }
    }
}

fn take() -> Judgement {
    Judgement::Do(Step::Take("s".into()))
}

fn check_owner() -> Judgement {
    Judgement::Do(Step::CheckOwner(OTHER.into()))
}

#[tokio::test(start_paused = true)]
async fn unowned_is_taken_named_is_accepted_finished_is_left() {
    let mut scene = Scene::new();
    scene.row("s", None, 0);
    assert_eq!(scene.judge("s", 0), take());
    let me = scene.me.clone();
    scene.row("s", Some(me.as_str()), 0);
    assert_eq!(scene.judge("s", 0), Judgement::Do(Step::Accept("s".into())));
    scene.busy.insert("s".into());
    assert_eq!(scene.judge("s", 0), Judgement::Leave);
    let finished = Lease {
        checkpoint: kcl_checkpoint::Checkpoint::ShardEnd,
        ..lease("f")
    };
    scene.view.saw_row(finished, Consistency::Strong, scene.t0);
    assert_eq!(scene.judge("f", 0), Judgement::Leave);
}

#[tokio::test(start_paused = true)]
async fn an_owner_is_expired_by_age_and_then_by_a_consistent_look_after_the_row_was_read() {
    let mut scene = Scene::new();
    scene.heartbeat(5, 1_000);
    scene.row("s", Some(OTHER), 2_000);
    assert_eq!(scene.judge("s", 11_249), Judgement::Wait(scene.at(11_250)));
    assert_eq!(scene.judge("s", 11_250), check_owner());
    // A look from before the row was read says nothing (row, then heartbeat, then take).
    scene.checked(OwnerFound::Heartbeat(5), 1_999);
    assert_eq!(scene.judge("s", 11_250), check_owner());
    scene.checked(OwnerFound::Heartbeat(5), 11_260);
    assert_eq!(scene.judge("s", 11_270), take());
    // Nor does one that has aged, nor one for a row that was read again.
    assert_eq!(scene.judge("s", 16_261), check_owner());
    scene.row("s", Some(OTHER), 11_300);
    assert_eq!(scene.judge("s", 11_300), check_owner());
}

#[tokio::test(start_paused = true)]
async fn a_look_from_before_the_owner_expired_says_nothing_however_old_its_heartbeat_is_told_to_be()
{
    let mut scene = Scene::new();
    scene.row("s", Some(OTHER), 0);
    scene.checked(OwnerFound::Heartbeat(5), 9_000);
    scene.heartbeat(5, 9_000);
    // Somebody else has seen this heartbeat since 0: it expires at 10.25 s.
    let (age, told) = (Duration::from_millis(9_100), scene.at(9_100));
    scene.liveness.told_of_worker(&OTHER.into(), 5, age, told);
    assert_eq!(scene.judge("s", 10_249), Judgement::Wait(scene.at(10_250)));
    // The holder may have come back after the look.
    assert_eq!(scene.judge("s", 10_250), check_owner());
    scene.checked(OwnerFound::Heartbeat(5), 10_250);
    assert_eq!(scene.judge("s", 10_260), take());
}

#[tokio::test(start_paused = true)]
async fn a_heartbeat_that_moved_begins_a_new_age() {
    let mut scene = Scene::new();
    scene.heartbeat(5, 0);
    scene.row("s", Some(OTHER), 0);
    scene.heartbeat(6, 11_000);
    scene.checked(OwnerFound::Heartbeat(6), 10_990);
    assert_eq!(scene.judge("s", 11_001), Judgement::Wait(scene.at(21_250)));
}

#[tokio::test(start_paused = true)]
async fn an_owner_without_item_is_gone_at_once_if_the_look_came_after_the_row() {
    let mut scene = Scene::new();
    scene.row("s", Some(OTHER), 100);
    assert_eq!(scene.judge("s", 100), check_owner());
    scene.checked(OwnerFound::Nothing, 99);
    assert_eq!(scene.judge("s", 110), check_owner());
    scene.checked(OwnerFound::Nothing, 100);
    assert_eq!(scene.judge("s", 110), take());
}

#[tokio::test(start_paused = true)]
async fn no_age_counts_from_before_an_interruption() {
    let mut scene = Scene::new();
    scene.heartbeat(5, 0);
    scene.row("s", Some(OTHER), 0);
    scene.checked(OwnerFound::Heartbeat(5), 14_000);
    scene.undisturbed_since = scene.at(13_000);
    assert_eq!(scene.judge("s", 14_001), Judgement::Wait(scene.at(23_250)));
}

#[tokio::test(start_paused = true)]
async fn a_java_row_needs_its_age_and_a_consistent_look_after_it() {
    let mut scene = Scene::new();
    scene.row("s", Some("java"), 0);
    assert_eq!(scene.judge("s", 10_249), Judgement::Wait(scene.at(10_250)));
    let read = Judgement::Do(Step::ReadRow("s".into()));
    assert_eq!(scene.judge("s", 10_250), read);
    let known = scene.view.row(&"s".into()).unwrap().lease.clone();
    scene
        .view
        .saw_row(known.clone(), Consistency::Strong, scene.at(10_249));
    assert_eq!(scene.judge("s", 10_260), read);
    scene
        .view
        .saw_row(known, Consistency::Strong, scene.at(10_250));
    assert_eq!(scene.judge("s", 10_260), take());
}

#[tokio::test(start_paused = true)]
async fn a_row_in_doubt_is_read_before_anything_else() {
    let mut scene = Scene::new();
    scene.row("s", None, 0);
    scene.view.doubt_row(&"s".into());
    assert_eq!(
        scene.judge("s", 0),
        Judgement::Do(Step::ReadRow("s".into()))
    );
    scene.row("s", None, 5);
    assert_eq!(scene.judge("s", 5), take());
}

#[tokio::test(start_paused = true)]
async fn the_plan_respects_the_room_but_accepts_what_names_it() {
    let mut scene = Scene::new();
    let me = scene.me.clone();
    for name in ["s1", "s2", "s3", "s4"] {
        scene.row(name, None, 0);
    }
    scene.row("mine", Some(me.as_str()), 0);
    scene.room = 2;
    let plan = plan(&scene.situation(0));
    assert_eq!(plan.steps.len(), 3);
    assert_eq!(plan.steps[0], Step::Accept("mine".into()));
    scene.room = 0;
    assert_eq!(
        super::plan(&scene.situation(0)).steps,
        [Step::Accept("mine".into())]
    );
}

#[tokio::test(start_paused = true)]
async fn one_look_serves_all_rows_of_an_owner_and_workers_differ_in_their_order() {
    let mut scene = Scene::new();
    for n in 0..50 {
        scene.row(&format!("s{n}"), Some(OTHER), 0);
    }
    assert_eq!(
        plan(&scene.situation(0)).steps,
        [Step::CheckOwner(OTHER.into())]
    );
    scene.checked(OwnerFound::Nothing, 0);
    let mine = plan(&scene.situation(0)).steps;
    scene.me = WorkerId::from("c/0123456789abcdef0123456789abcdef");
    let theirs = plan(&scene.situation(0)).steps;
    assert_eq!(mine.len(), 50);
    assert_ne!(mine, theirs);
}

#[tokio::test(start_paused = true)]
async fn a_parent_that_is_not_in_the_view_is_read_first() {
    let mut scene = Scene::new();
    let child = Lease {
        parents: ["p".into()].into(),
        ..lease("c")
    };
    scene.view.saw_row(child, Consistency::Strong, scene.t0);
    scene.wanted.insert("c".into(), scene.at(1_000));
    assert_eq!(
        scene.judge("c", 0),
        Judgement::Do(Step::ReadRow("p".into()))
    );
    scene.view.saw_no_row("p".into(), scene.t0);
    assert_eq!(scene.judge("c", 0), Judgement::NeedsListing);
    assert_eq!(
        plan(&scene.situation(0)).listings_wanted,
        [StreamKey::ONLY].into()
    );
}
