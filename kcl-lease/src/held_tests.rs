use std::time::Duration;

use tokio::sync::{mpsc, oneshot, watch};

use super::*;
use crate::command_item::CommandItem;
use crate::coordinator::StreamIdentity;
use crate::item::{Item, Value};
use crate::lease::Lease;
use crate::orders::{Seek, StartPoint};
use crate::runtime::Runtime;
use crate::stream_item::StreamStart;
use crate::test_support::{at, lease, lease_item};
use crate::write::{self, Change, Edit, Held, RowWrite};

const ME: &str = "w/1";
const COUNTER: u64 = 7;

struct Scene {
    held: HeldLease,
    t0: Moment,
    validity: Validity,
    attempts: u64,
    _watch: watch::Sender<Validity>,
}

impl Scene {
    /// A lease that was granted at 0 ms, with a deadline at 10 s.
    fn new() -> Self {
        let runtime = Runtime::virtual_time(0);
        let t0 = runtime.now();
        let validity = Validity {
            deadline: t0.plus(Duration::from_secs(10)),
            chain_start: t0,
        };
        let (sender, receiver) = watch::channel(validity);
        let (commands, _) = mpsc::unbounded_channel();
        let stream = Arc::new(StreamIdentity {
            stream_arn: "arn".to_owned(),
            created_at: 1,
            start: StreamStart::TrimHorizon,
        });
        let row = Lease {
            owner: Some(ME.into()),
            counter: COUNTER,
            ..lease("s")
        };
        let shared = GrantShared::new(row, stream, 1, t0, runtime, receiver, commands);
        Self {
            held: HeldLease::new(Arc::new(shared), ME.into(), t0),
            t0,
            validity,
            attempts: 0,
            _watch: sender,
        }
    }

    fn at(&self, millis: u64) -> Moment {
        self.t0.plus(Duration::from_millis(millis))
    }

    /// The session lapsed and came back at this time.
    fn lapse(&mut self, millis: u64) {
        self.validity = Validity {
            deadline: self.at(millis + 9_000),
            chain_start: self.at(millis),
        };
    }

    /// What is sent now: the write's condition and what it sets.
    fn send(&mut self, millis: u64) -> Option<(u64, RowWrite)> {
        self.attempts += 1;
        let (now, attempt) = (self.at(millis), self.attempts);
        let call = self.held.next_call(self.validity, now, attempt, || 99)?;
        match call.request {
            Request::Write(write) => Some((call.attempt, write)),
            Request::Transact(writes) => writes.into_iter().next().map(|w| (call.attempt, w)),
        }
    }

    fn answer(&mut self, attempt: u64, response: Response, millis: u64) -> Fate {
        let now = self.at(millis);
        self.held.answered(attempt, response, self.validity, now)
    }

    fn unknown(&mut self, attempt: u64, millis: u64) {
        let error = GrantError::Unknown { key: "s".into() };
        let response = Response::Failed {
            error,
            may_be_applied: true,
        };
        self.answer(attempt, response, millis);
    }

    fn want(&mut self, checkpoint: u64) -> oneshot::Receiver<Result<(), GrantError>> {
        let (reply, answer) = oneshot::channel();
        self.held.want_checkpoint(0, at(checkpoint), reply);
        answer
    }
}

fn row(owner: Option<&str>, counter: u64, checkpoint: Checkpoint) -> Option<Item> {
    Some(lease_item(&Lease {
        owner: owner.map(Into::into),
        counter,
        checkpoint,
        ..lease("s")
    }))
}

fn held_under(counter: u64) -> Held {
    Held {
        key: "s".into(),
        counter,
        owner: ME.into(),
    }
}

#[tokio::test(start_paused = true)]
async fn one_write_at_a_time_and_the_newest_checkpoint_under_the_same_counter() {
    let mut scene = Scene::new();
    let mut older = scene.want(5);
    let (first, write) = scene.send(100).unwrap();
    assert_eq!(write, write::checkpoint(&held_under(COUNTER), &at(5), None));
    let mut newer = scene.want(9);
    assert!(scene.send(200).is_none(), "one is on its way");
    scene.unknown(first, 1_700);
    assert!(older.try_recv().unwrap().is_err());
    assert!(newer.try_recv().unwrap().is_err());
    let mut newest = scene.want(9);
    let (second, write) = scene.send(2_000).unwrap();
    assert_eq!(write, write::checkpoint(&held_under(COUNTER), &at(9), None));
    // The first was applied after all: one bump under my name. The second is sent under the new counter.
    scene.answer(
        second,
        Response::Refused(row(Some(ME), COUNTER + 1, at(5))),
        2_010,
    );
    assert!(newest.try_recv().is_err(), "not stored yet");
    let (third, write) = scene.send(2_020).unwrap();
    assert_eq!(
        write,
        write::checkpoint(&held_under(COUNTER + 1), &at(9), None)
    );
    assert!(matches!(
        scene.answer(third, Response::Applied, 2_030),
        Fate::Held
    ));
    assert!(newest.try_recv().unwrap().is_ok());
    assert!(scene.send(2_040).is_none());
}

#[tokio::test(start_paused = true)]
async fn an_answer_to_an_abandoned_call_says_nothing() {
    let mut scene = Scene::new();
    let _asked = scene.want(5);
    let (first, _) = scene.send(0).unwrap();
    scene.unknown(first, 1_700);
    let (second, _) = scene.send(2_000).unwrap();
    let fate = scene.answer(first, Response::Refused(None), 2_001);
    assert!(matches!(fate, Fate::Held));
    assert!(matches!(
        scene.answer(second, Response::Applied, 2_010),
        Fate::Held
    ));
    assert_eq!(scene.held.lease().checkpoint, at(5));
}

#[tokio::test(start_paused = true)]
async fn a_lapse_needs_a_re_grant_and_a_checkpoint_serves_as_one() {
    let mut scene = Scene::new();
    assert!(scene.send(0).is_none());
    scene.lapse(12_000);
    let (attempt, write) = scene.send(12_001).unwrap();
    assert_eq!(write, write::regrant(&held_under(COUNTER)));
    scene.answer(attempt, Response::Applied, 12_010);
    assert!(scene.send(12_020).is_none());

    let mut scene = Scene::new();
    scene.lapse(12_000);
    let _asked = scene.want(5);
    let (attempt, write) = scene.send(12_001).unwrap();
    assert_eq!(write, write::checkpoint(&held_under(COUNTER), &at(5), None));
    scene.answer(attempt, Response::Applied, 12_010);
    assert!(scene.send(12_020).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_write_sent_before_the_lapse_and_answered_after_it_confirms_nothing() {
    let mut scene = Scene::new();
    let _asked = scene.want(5);
    let (attempt, _) = scene.send(9_000).unwrap();
    scene.lapse(10_500);
    scene.answer(attempt, Response::Applied, 10_600);
    let (_, write) = scene.send(10_601).unwrap();
    assert_eq!(write, write::regrant(&held_under(COUNTER + 1)));
}

#[tokio::test(start_paused = true)]
async fn a_recovered_re_grant_counts_from_the_earliest_unresolved_write() {
    let mut scene = Scene::new();
    let _asked = scene.want(5);
    let (attempt, _) = scene.send(9_000).unwrap();
    scene.unknown(attempt, 10_600);
    scene.lapse(11_000);
    let (attempt, _) = scene.send(11_001).unwrap();
    // It may be the write from before the lapse that was applied: that does not confirm the lease now.
    scene.answer(
        attempt,
        Response::Refused(row(Some(ME), COUNTER + 1, at(5))),
        11_010,
    );
    let (attempt, write) = scene.send(11_020).unwrap();
    assert_eq!(write, write::regrant(&held_under(COUNTER + 1)));
    scene.answer(attempt, Response::Applied, 11_030);
    assert!(scene.send(11_040).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_release_after_a_lapse_waits_for_the_re_grant() {
    let mut scene = Scene::new();
    scene.held.want_release(0, Some(at(8)), None, None);
    assert!(scene.send(10_000).is_none(), "the session is not valid");
    scene.lapse(12_000);
    let (attempt, write) = scene.send(12_001).unwrap();
    assert_eq!(write, write::regrant(&held_under(COUNTER)));
    scene.answer(attempt, Response::Applied, 12_010);
    let (attempt, write) = scene.send(12_011).unwrap();
    assert_eq!(
        write,
        write::release(&held_under(COUNTER + 1), Some(&at(8)), None)
    );
    assert!(matches!(
        scene.answer(attempt, Response::Applied, 12_020),
        Fate::Released { .. }
    ));
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_release_is_sent_again_and_found_applied() {
    let mut scene = Scene::new();
    let _asked = scene.want(8);
    scene.held.want_release(0, None, None, None);
    let (attempt, write) = scene.send(0).unwrap();
    // The release carries the checkpoint that was wanted.
    assert_eq!(
        write,
        write::release(&held_under(COUNTER), Some(&at(8)), None)
    );
    scene.unknown(attempt, 1_700);
    scene.lapse(12_000);
    let (attempt, write) = scene.send(12_001).unwrap();
    assert!(
        matches!(write.change, Change::Update(edits) if edits.contains(&Edit::Remove("leaseOwner")))
    );
    let found = Response::Refused(row(None, COUNTER + 1, at(8)));
    assert!(matches!(
        scene.answer(attempt, found, 12_010),
        Fate::Released { .. }
    ));
}

#[tokio::test(start_paused = true)]
async fn an_unanswered_hand_over_is_sent_again_to_the_same_worker_and_found_applied() {
    let next = WorkerId::from("w/next");
    let mut scene = Scene::new();
    scene
        .held
        .want_release(0, Some(at(8)), Some(next.clone()), None);
    // Who asks later waits for the same hand-over.
    scene.held.want_release(0, Some(at(9)), None, None);
    let (attempt, write) = scene.send(0).unwrap();
    assert_eq!(
        write,
        write::hand_over(&held_under(COUNTER), &next, Some(&at(9)), None)
    );
    scene.unknown(attempt, 1_700);
    let (attempt, write) = scene.send(2_700).unwrap();
    assert_eq!(
        write,
        write::hand_over(&held_under(COUNTER), &next, Some(&at(9)), None)
    );
    let found = Response::Refused(row(Some("w/next"), COUNTER + 1, at(9)));
    let fate = scene.answer(attempt, found, 2_710);
    assert!(matches!(fate, Fate::Released { to: Some(to) } if to == next));
}

#[tokio::test(start_paused = true)]
async fn a_release_tells_what_is_stored_and_not_what_was_asked_for() {
    for (to, owner) in [(Some("w/next"), Some("w/next")), (None, None)] {
        let mut scene = Scene::new();
        let to = to.map(WorkerId::from);
        let _progress = scene.want(5);
        let (first, mut early) = oneshot::channel();
        scene
            .held
            .want_release(0, Some(at(8)), to.clone(), Some(first));
        let (attempt, _) = scene.send(0).unwrap();
        scene.unknown(attempt, 1_700);
        assert!(early.try_recv().unwrap().is_err());
        let (second, mut late) = oneshot::channel();
        scene.held.want_release(0, Some(at(9)), to, Some(second));
        let (attempt, _) = scene.send(2_700).unwrap();
        // The first attempt was applied, or the next owner took the lease where it stood.
        let found = Response::Refused(row(owner, COUNTER + 1, at(8)));
        scene.answer(attempt, found, 2_710);
        assert_eq!(late.try_recv().unwrap(), Ok(at(8)));
        assert_eq!(scene.held.lease().checkpoint, at(8));
    }
}

#[tokio::test(start_paused = true)]
async fn any_other_row_ends_the_grant() {
    for found in [
        None,
        row(Some("w/2"), COUNTER + 1, at(1)),
        row(Some(ME), COUNTER + 2, at(1)),
        row(None, COUNTER + 1, at(1)),
    ] {
        let mut scene = Scene::new();
        let _asked = scene.want(5);
        let (attempt, _) = scene.send(0).unwrap();
        let fate = scene.answer(attempt, Response::Refused(found), 10);
        assert!(matches!(fate, Fate::Lost(_)), "{fate:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_failed_write_is_tried_again_with_growing_pauses_up_to_a_second() {
    let mut scene = Scene::new();
    let _asked = scene.want(5);
    let (mut now, mut last) = (0, 0);
    for _ in 0..12 {
        let (attempt, _) = scene.send(now).unwrap();
        scene.unknown(attempt, now);
        let wait = scene.held.retry_at().unwrap().since(scene.at(now));
        let wait = u64::try_from(wait.as_millis()).unwrap();
        assert!(wait >= last && wait <= 1_000);
        assert!(scene.send(now + wait - 1).is_none());
        (now, last) = (now + wait, wait);
    }
    assert_eq!(last, 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_smaller_checkpoint_is_covered_by_a_larger_one_that_is_not_resolved() {
    let mut scene = Scene::new();
    let _larger = scene.want(9);
    let (attempt, _) = scene.send(0).unwrap();
    scene.unknown(attempt, 1_700);
    let mut smaller = scene.want(5);
    let (attempt, write) = scene.send(2_000).unwrap();
    assert_eq!(write, write::checkpoint(&held_under(COUNTER), &at(9), None));
    scene.answer(attempt, Response::Applied, 2_010);
    assert!(smaller.try_recv().unwrap().is_ok());
    // What is stored already is answered at once.
    assert!(scene.want(7).try_recv().unwrap().is_ok());
    assert!(scene.send(2_020).is_none());
}

#[tokio::test(start_paused = true)]
async fn only_a_checkpoint_at_or_past_it_ends_what_is_prepared() {
    let mut scene = Scene::new();
    let pending = PendingCheckpoint {
        checkpoint: at(8),
        state: Some(vec![1]),
    };
    let (reply, mut prepared) = oneshot::channel();
    scene.held.want_prepare(0, pending.clone(), reply);
    let (attempt, _) = scene.send(0).unwrap();
    scene.answer(attempt, Response::Applied, 0);
    assert_eq!(prepared.try_recv().unwrap(), Ok(()));
    let mut before = scene.want(7);
    let (attempt, write) = scene.send(0).unwrap();
    let held = held_under(COUNTER + 1);
    assert_eq!(write, write::checkpoint(&held, &at(7), Some(&pending)));
    assert_ne!(write, write::checkpoint(&held, &at(7), None));
    scene.answer(attempt, Response::Applied, 0);
    assert!(
        before.try_recv().unwrap().is_ok(),
        "it is stored all the same"
    );
    assert!(scene.want(6).try_recv().unwrap().is_ok());
    assert!(scene.send(0).is_none());
    let mut commit = scene.want(8);
    let (attempt, write) = scene.send(0).unwrap();
    let held = held_under(COUNTER + 2);
    assert_eq!(write, write::checkpoint(&held, &at(8), None));
    scene.answer(attempt, Response::Applied, 0);
    assert!(commit.try_recv().unwrap().is_ok());
    assert!(scene.send(0).is_none());
}

// --- commands -------------------------------------------------------------------------------------------------------

fn order(paused: bool, to: Option<StartPoint>) -> CommandItem {
    CommandItem {
        lease: "s".into(),
        command: "c1".into(),
        paused,
        stopped: None,
        seek: to.map(|to| Seek {
            id: "s1".into(),
            to,
        }),
    }
}

impl Scene {
    fn obey(&mut self) -> oneshot::Receiver<Result<u64, GrantError>> {
        let (reply, answer) = oneshot::channel();
        let orders = self.held.shared.orders().borrow().clone();
        self.held
            .want_obey(self.held.era, orders.unwrap().obey(), reply);
        answer
    }

    fn delivers(&self) -> bool {
        let orders = self.held.shared.orders().borrow();
        orders.as_ref().is_some_and(Orders::allow_delivery)
    }
}

#[tokio::test(start_paused = true)]
async fn a_seek_goes_before_progress_that_waits_and_ends_it() {
    let mut scene = Scene::new();
    let mut progress = scene.want(5);
    let (attempt, _) = scene.send(0).unwrap();
    scene.unknown(attempt, 100);
    assert!(progress.try_recv().unwrap().unwrap_err().is_retryable());
    let mut progress = scene.want(6);
    scene
        .held
        .saw_command(Some(order(false, Some(StartPoint::at_time(9)))));
    let mut obeyed = scene.obey();
    let refused = progress.try_recv().unwrap().unwrap_err();
    assert!(
        matches!(refused, GrantError::Repositioned { .. }),
        "{refused}"
    );
    let (attempt, write) = scene.send(2_000).unwrap();
    let Change::Update(edits) = &write.change else {
        panic!("{write:?}");
    };
    assert!(edits.contains(&Edit::Set("checkpoint", Value::text("AT_TIMESTAMP"))));
    assert!(edits.contains(&Edit::Set("soughtMoment", Value::number(9))));
    // The checkpoint of before was applied: the seek is sent again.
    let response = Response::Refused(row(Some(ME), COUNTER + 1, at(5)));
    scene.answer(attempt, response, 2_000);
    assert!(obeyed.try_recv().is_err() && !scene.delivers());
    let (attempt, _) = scene.send(2_000).unwrap();
    scene.answer(attempt, Response::Applied, 2_000);
    assert_eq!(obeyed.try_recv().unwrap(), Ok(1));
    assert!(scene.delivers());
    assert_eq!(scene.held.lease().start(), StartPoint::at_time(9));
    assert!(scene.send(2_000).is_none(), "no progress of before is left");
}

impl Scene {
    /// Seeks with the grant of this era.
    fn seek(&mut self, era: u64, to: u64) -> oneshot::Receiver<Result<u64, GrantError>> {
        let (reply, answer) = oneshot::channel();
        let obey = Obey {
            to: Some(StartPoint::at_time(to)),
            ..Obey::default()
        };
        self.held.want_obey(era, obey, reply);
        answer
    }

    fn want_in(&mut self, era: u64, checkpoint: u64) -> oneshot::Receiver<Result<(), GrantError>> {
        let (reply, answer) = oneshot::channel();
        self.held.want_checkpoint(era, at(checkpoint), reply);
        answer
    }

    fn apply(&mut self, millis: u64) {
        let (attempt, _) = self.send(millis).unwrap();
        self.answer(attempt, Response::Applied, millis);
    }
}

#[tokio::test(start_paused = true)]
async fn a_second_seek_to_the_same_place_is_another_one() {
    let mut scene = Scene::new();
    let mut first = scene.seek(0, 9);
    let (attempt, _) = scene.send(0).unwrap();
    scene.unknown(attempt, 100);
    assert!(first.try_recv().unwrap().unwrap_err().is_retryable());
    let mut again = scene.seek(0, 9);
    scene.apply(1_000);
    assert_eq!(again.try_recv().unwrap(), Ok(1), "asked again for the same");
    assert_eq!(scene.seek(0, 9).try_recv().unwrap(), Ok(1));
    assert!(scene.send(1_000).is_none());
    let mut progress = scene.want_in(1, 5);
    scene.apply(1_000);
    assert_eq!(progress.try_recv().unwrap(), Ok(()));
    // Back to the same place, while more progress is on its way.
    let mut progress = scene.want_in(1, 6);
    let mut second = scene.seek(1, 9);
    assert!(progress.try_recv().unwrap().is_err());
    scene.apply(1_000);
    assert_eq!(second.try_recv().unwrap(), Ok(2));
    assert_eq!(scene.held.lease().start(), StartPoint::at_time(9));
    let late = scene.want_in(1, 7).try_recv().unwrap().unwrap_err();
    assert!(matches!(late, GrantError::Repositioned { .. }), "{late}");
    // The row says it already, but a checkpoint is on its way that moves it.
    let _progress = scene.want_in(2, 6);
    let (attempt, _) = scene.send(1_000).unwrap();
    let mut third = scene.seek(2, 9);
    assert!(third.try_recv().is_err());
    scene.answer(attempt, Response::Applied, 1_000);
    scene.apply(1_000);
    assert_eq!(third.try_recv().unwrap(), Ok(3));
    assert_eq!(scene.held.lease().start(), StartPoint::at_time(9));
    assert!(scene.send(1_000).is_none());
}

#[tokio::test(start_paused = true)]
async fn a_pause_that_is_obeyed_meanwhile_does_not_replace_a_seek_of_the_holders_own() {
    let mut scene = Scene::new();
    let mut sought = scene.seek(0, 9);
    scene.held.saw_command(Some(order(true, None)));
    let orders = Orders::of(Some(&order(true, None)), scene.held.core.obeyed());
    let (reply, mut obeyed) = oneshot::channel();
    scene.held.want_obey(0, orders.obey(), reply);
    scene.apply(0);
    assert!(sought.try_recv().unwrap().is_ok() && obeyed.try_recv().unwrap().is_ok());
    assert_eq!(scene.held.lease().start(), StartPoint::at_time(9));
    assert_eq!(scene.held.lease().obeyed.command, Some("c1".into()));
}

#[tokio::test(start_paused = true)]
async fn nothing_is_delivered_while_a_seek_may_be_applied_although_its_command_is_gone() {
    let mut scene = Scene::new();
    scene
        .held
        .saw_command(Some(order(false, Some(StartPoint::oldest()))));
    let mut obeyed = scene.obey();
    let (attempt, _) = scene.send(0).unwrap();
    scene.unknown(attempt, 100);
    // It was applied, and the leader has tidied up.
    scene.held.saw_command(None);
    assert!(!scene.delivers());
    assert!(obeyed.try_recv().unwrap().unwrap_err().is_retryable());
    let mut obeyed = scene.obey();
    let (attempt, _) = scene.send(1_000).unwrap();
    let mut found = scene.held.lease();
    found.owner = Some(ME.into());
    found.counter += 1;
    found.obeyed.command = Some("c1".into());
    found.obeyed.seek = Some("s1".into());
    scene.answer(attempt, Response::Refused(Some(lease_item(&found))), 1_000);
    assert_eq!(obeyed.try_recv().unwrap(), Ok(1));
    assert!(scene.delivers() && scene.send(1_000).is_none());
}
