//! An application of several streams: which there are, and what becomes of those that it does not read any more.

use std::collections::BTreeSet;

use super::*;
use crate::grant::Recall;
use crate::stream_item::StreamItem;
use crate::test_support::at;

pub(super) const SECOND: Duration = Duration::from_secs(1);
pub(super) const GRACE: Duration = Duration::from_secs(120);
const SHARDS: u32 = 2;

pub(super) fn orders() -> StreamKey {
    StreamKey::new("111122223333", "orders", 1_700_000_000)
}

pub(super) fn bills() -> StreamKey {
    StreamKey::new("111122223333", "bills", 1_600_000_000)
}

fn identity_of(stream: &StreamKey) -> StreamIdentity {
    let name = stream.name().unwrap();
    StreamIdentity {
        stream_arn: format!("arn:aws:kinesis:eu-west-1:111122223333:stream/{name}"),
        created_at: 1_700_000_000_000,
        start: StreamStart::TrimHorizon,
    }
}

/// A worker, and what its user does for it.
pub(super) struct Member {
    pub(super) worker: Worker,
    pub(super) list: Vec<StreamKey>,
    unclear: BTreeSet<String>,
    /// It cannot find out which streams there are.
    pub(super) is_blind: bool,
    /// It says so when it is asked.
    has_no_list: bool,
    told: Vec<CoordinatorEvent>,
}

impl Member {
    pub(super) async fn start(
        name: &str,
        table: &Arc<MemoryLeaseTable>,
        list: &[StreamKey],
    ) -> Self {
        let worker = Worker::start_with(name, table, |options| {
            options.many_streams = true;
            options.former_streams_after = GRACE;
        });
        let mut member = Self {
            worker: Worker {
                holders: Some(Vec::new()),
                ..worker
            },
            list: list.to_vec(),
            unclear: BTreeSet::new(),
            is_blind: false,
            has_no_list: false,
            told: Vec::new(),
        };
        if member.worker.handle.looks_for_streams().await.unwrap() {
            member.look().await;
        }
        member
    }

    /// Opens every stream of the list, makes their leases, and says that these are kept.
    pub(super) async fn look(&mut self) {
        let handle = &self.worker.handle;
        if self.has_no_list {
            return handle.keep_all_streams();
        }
        for stream in &self.list {
            let identity = identity_of(stream);
            let opened = handle.open_stream(stream.clone(), identity).await.unwrap();
            let synced = handle.sync_shards(stream.clone(), listing(SHARDS), opened.fresh);
            let synced = synced.await;
            if synced.is_err_and(|error| !error.allows_fresh_start()) {
                let all = handle.sync_shards(stream.clone(), listing(SHARDS), false);
                all.await.unwrap();
            }
        }
        let streams = self.list.iter().cloned().collect();
        handle.keep_streams(streams, self.unclear.clone());
    }

    async fn do_what_is_wanted(&mut self) {
        for event in self.worker.listen(Duration::ZERO).await {
            match event {
                CoordinatorEvent::StreamsWanted { .. } if self.is_blind => {}
                CoordinatorEvent::StreamsWanted { .. } => self.look().await,
                CoordinatorEvent::ListingWanted { stream, .. } => {
                    let handle = &self.worker.handle;
                    let _ = handle.sync_shards(stream, listing(SHARDS), false).await;
                }
                other => self.told.push(other),
            }
        }
    }

    pub(super) fn held_of(&self, stream: &StreamKey) -> usize {
        let grants = self.worker.grants.values();
        let held = grants.filter(|grant| grant.loss().is_none());
        held.filter(|grant| grant.lease_key().stream_key() == *stream)
            .count()
    }

    fn was_told_of_the_removal_of(&self, stream: &StreamKey) -> bool {
        let mut told = self.told.iter();
        told.any(
            |event| matches!(event, CoordinatorEvent::StreamRemoved { stream: s } if s == stream),
        )
    }
}

pub(super) async fn run(members: &mut [&mut Member], time: Duration) {
    let end = Instant::now() + time;
    while Instant::now() < end {
        for member in members.iter_mut() {
            member.do_what_is_wanted().await;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

pub(super) fn rows_of(table: &MemoryLeaseTable, stream: &StreamKey) -> usize {
    let items = table.items();
    let prefix = format!("{}:", stream.as_str().unwrap());
    items.keys().filter(|key| key.starts_with(&prefix)).count()
}

pub(super) fn has_item(table: &MemoryLeaseTable, stream: &StreamKey) -> bool {
    table.items().contains_key(&StreamItem::key_of(stream))
}

#[tokio::test(start_paused = true)]
async fn shards_of_the_same_name_are_leased_side_by_side() {
    let table = table();
    let mut a = Member::start("a", &table, &[orders(), bills()]).await;
    run(&mut [&mut a], 3 * SECOND).await;
    assert_eq!((a.held_of(&orders()), a.held_of(&bills())), (2, 2));
    for grant in a.worker.grants.values() {
        let expected = identity_of(&grant.lease_key().stream_key());
        assert_eq!(*grant.stream(), expected);
    }
    let key = orders().lease_key(&id(0));
    assert_eq!(
        key.as_str(),
        "111122223333:orders:1700000000:shardId-000000000000"
    );
    let item = &table.items()[key.as_str()];
    assert_eq!(
        item[attribute::STREAM_NAME],
        Value::text("111122223333:orders:1700000000")
    );
}

#[tokio::test(start_paused = true)]
async fn a_worker_that_knows_no_list_shares_the_leases_of_all_streams() {
    let table = table();
    let mut a = Member::start("a", &table, &[orders(), bills()]).await;
    run(&mut [&mut a], 3 * SECOND).await;
    let mut b = Member::start("b", &table, &[]).await;
    run(&mut [&mut a, &mut b], 10 * SECOND).await;
    assert_eq!((a.worker.held(), b.worker.held()), (2, 2));
    for grant in b.worker.grants.values() {
        let expected = identity_of(&grant.lease_key().stream_key());
        assert_eq!(*grant.stream(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_is_not_read_any_more_is_given_up_after_the_grace_time() {
    let table = table();
    let mut a = Member::start("a", &table, &[orders(), bills()]).await;
    let mut b = Member::start("b", &table, &[]).await;
    run(&mut [&mut a, &mut b], 15 * SECOND).await;
    let recalled: Vec<Grant> = [&a, &b]
        .iter()
        .flat_map(|member| member.worker.grants.values().cloned())
        .filter(|grant| grant.loss().is_none() && grant.lease_key().stream_key() == bills())
        .collect();
    let counters = || {
        let keys = (0..SHARDS).map(|n| orders().lease_key(&id(n)));
        let rows = keys.map(|key| Lease::from_item(&table.items()[key.as_str()]));
        rows.map(|row| row.unwrap().unwrap().counter).collect()
    };
    let before: Vec<u64> = counters();
    a.list = vec![orders()];
    // It learns of that within a minute.
    run(&mut [&mut a, &mut b], GRACE).await;
    assert_eq!(a.held_of(&bills()) + b.held_of(&bills()), 2);
    run(&mut [&mut a, &mut b], 90 * SECOND).await;
    assert_eq!(rows_of(&table, &bills()), 0);
    assert!(!has_item(&table, &bills()));
    assert!(a.was_told_of_the_removal_of(&bills()));
    assert_eq!(a.held_of(&bills()) + b.held_of(&bills()), 0);
    for grant in &recalled {
        assert_eq!(grant.recall(), Some(Recall::StreamRemoved));
    }
    assert_eq!(recalled.len(), 2);
    // The other stream was left alone: at most one of its leases moved, to even out.
    assert_eq!(a.held_of(&orders()) + b.held_of(&orders()), 2);
    let moved = before.iter().zip(counters()).filter(|(b, a)| *b != a);
    assert!(moved.count() <= 1);
    assert_eq!(a.worker.held(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_comes_back_in_time_keeps_its_leases() {
    let table = table();
    let mut a = Member::start("a", &table, &[orders(), bills()]).await;
    run(&mut [&mut a], 3 * SECOND).await;
    let before = table.items()[bills().lease_key(&id(0)).as_str()].clone();
    a.list = vec![orders()];
    run(&mut [&mut a], GRACE).await;
    a.list = vec![orders(), bills()];
    run(&mut [&mut a], GRACE * 3).await;
    assert_eq!(a.held_of(&bills()), 2);
    assert_eq!(table.items()[bills().lease_key(&id(0)).as_str()], before);
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_comes_back_later_is_read_as_a_new_one() {
    let table = table();
    let mut a = Member::start("a", &table, &[orders(), bills()]).await;
    run(&mut [&mut a], 3 * SECOND).await;
    let old = a.worker.grants[bills().lease_key(&id(0)).as_str()].clone();
    old.checkpoint(at(5)).await.unwrap();
    a.list = vec![orders()];
    run(&mut [&mut a], GRACE * 2).await;
    assert_eq!(rows_of(&table, &bills()), 0);
    a.list = vec![orders(), bills()];
    run(&mut [&mut a], 90 * SECOND).await;
    assert_eq!(a.held_of(&bills()), 2);
    let new = &a.worker.grants[bills().lease_key(&id(0)).as_str()];
    assert_eq!(*new.start(), kcl_checkpoint::Checkpoint::TrimHorizon);
    assert!(new.epoch() > old.epoch());
}

#[tokio::test(start_paused = true)]
async fn leases_of_a_dead_worker_are_removed_only_once_it_expired() {
    let table = table();
    let mut a = Member::start("a", &table, &[orders(), bills()]).await;
    let mut b = Member::start("b", &table, &[]).await;
    run(&mut [&mut a, &mut b], 15 * SECOND).await;
    assert!(b.held_of(&bills()) > 0);
    a.list = vec![orders()];
    a.look().await;
    run(&mut [&mut a, &mut b], GRACE - 2 * SECOND).await;
    b.worker.path.rule(|_| Act::Swallow);
    let cut_off = Instant::now();
    while rows_of(&table, &bills()) > 0 {
        assert!(cut_off.elapsed() < 60 * SECOND);
        run(&mut [&mut a], SECOND).await;
    }
    assert!(cut_off.elapsed() > L, "{:?}", cut_off.elapsed());
    let alive = b.worker.grants.values().filter(|grant| grant.is_current());
    assert_eq!(alive.count(), 0, "it could not work on them any more");
}

#[tokio::test(start_paused = true)]
async fn a_removal_that_was_cut_short_leaves_nothing_unread() {
    let table = table();
    let mut a = Member::start("a", &table, &[orders(), bills()]).await;
    run(&mut [&mut a], 15 * SECOND).await;
    a.list = vec![orders()];
    // The leader deletes one row, and dies before the next.
    a.worker.path.rule(
        move |call| match call.key == bills().lease_key(&id(1)).as_str() {
            true => Act::Swallow,
            false => Act::Pass,
        },
    );
    while rows_of(&table, &bills()) > 1 {
        run(&mut [&mut a], SECOND).await;
    }
    a.worker.path.rule(|_| Act::Swallow);
    let mut b = Member::start("b", &table, &[orders(), bills()]).await;
    run(&mut [&mut b], 60 * SECOND).await;
    assert_eq!((b.held_of(&orders()), b.held_of(&bills())), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_stream_without_leases_is_opened_as_a_new_one_beside_others() {
    let table = table();
    let mut a = Member::start("a", &table, &[orders()]).await;
    run(&mut [&mut a], 3 * SECOND).await;
    for (stream, fresh) in [(bills(), true), (orders(), false)] {
        let opened = a
            .worker
            .handle
            .open_stream(stream.clone(), identity_of(&stream));
        assert_eq!(opened.await.unwrap().fresh, fresh, "{stream}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_listing_of_a_stream_that_nobody_opened_is_refused() {
    let table = table();
    let mut a = Member::start("a", &table, &[orders()]).await;
    run(&mut [&mut a], 3 * SECOND).await;
    let synced = a.worker.handle.sync_shards(bills(), listing(SHARDS), false);
    let refused = timeout(5 * SECOND, synced).await.expect("an answer");
    assert!(matches!(
        refused,
        Err(CoordinatorError::NoStreamItem { .. })
    ));
}

#[tokio::test(start_paused = true)]
async fn no_row_is_deleted_before_it_is_noted_that_rows_will_be_missing() {
    let table = table();
    let mut a = Member::start("a", &table, &[orders(), bills()]).await;
    run(&mut [&mut a], 15 * SECOND).await;
    a.list = vec![orders()];
    let item = StreamItem::key_of(&bills());
    let rule = move |call: &Seen| match call.operation == "write" && call.key == item {
        true => Act::Swallow,
        false => Act::Pass,
    };
    a.worker.path.rule(rule);
    run(&mut [&mut a], GRACE * 2).await;
    assert_eq!((rows_of(&table, &bills()), a.held_of(&bills())), (2, 2));
    a.worker.path.rule(|_| Act::Pass);
    run(&mut [&mut a], 60 * SECOND).await;
    assert_eq!(rows_of(&table, &bills()), 0);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_cannot_list_the_streams_plans_and_removes_nothing() {
    let table = table();
    let mut a = Member::start("a", &table, &[orders(), bills()]).await;
    let mut b = Member::start("b", &table, &[]).await;
    run(&mut [&mut a, &mut b], 15 * SECOND).await;
    b.has_no_list = true;
    a.is_blind = true;
    a.worker.path.rule(|_| Act::Swallow);
    run(&mut [&mut a, &mut b], GRACE * 3).await;
    assert_eq!((b.held_of(&orders()), b.held_of(&bills())), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_stream_that_could_not_be_looked_at_is_not_taken_for_a_former_one() {
    let table = table();
    let mut a = Member::start("a", &table, &[orders(), bills()]).await;
    run(&mut [&mut a], 3 * SECOND).await;
    a.list = vec![orders()];
    a.unclear = ["bills".to_owned()].into();
    run(&mut [&mut a], GRACE * 3).await;
    assert_eq!(a.held_of(&bills()), 2);
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_was_one_before_does_not_judge_by_an_old_list() {
    let table = table();
    let mut a = Member::start("a", &table, &[orders()]).await;
    let mut b = Member::start("b", &table, &[orders(), bills()]).await;
    run(&mut [&mut a, &mut b], 15 * SECOND).await;
    a.is_blind = true;
    a.worker.path.rule(|_| Act::Swallow);
    run(&mut [&mut a, &mut b], 30 * SECOND).await;
    assert_eq!(rows_of(&table, &bills()), 2);
    a.worker.path.rule(|_| Act::Pass);
    run(&mut [&mut a, &mut b], 30 * SECOND).await;
    b.is_blind = true;
    b.worker.path.rule(|_| Act::Swallow);
    run(&mut [&mut a, &mut b], GRACE * 3).await;
    assert_eq!((a.held_of(&orders()), a.held_of(&bills())), (2, 2));
}

#[tokio::test(start_paused = true)]
async fn a_stream_item_that_was_deleted_by_hand_is_stored_again() {
    let table = table();
    let mut a = Member::start("a", &table, &[orders(), bills()]).await;
    run(&mut [&mut a], 15 * SECOND).await;
    let item = table.items()[&StreamItem::key_of(&bills())].clone();
    let delete = RowWrite {
        key: StreamItem::key_of(&bills()),
        condition: Vec::new(),
        change: crate::write::Change::Delete,
    };
    table.write(delete).await.unwrap();
    run(&mut [&mut a], 15 * SECOND).await;
    assert_eq!(table.items()[&StreamItem::key_of(&bills())], item);
}

#[tokio::test(start_paused = true)]
async fn where_reading_begins_is_read_again_before_the_first_lease_of_a_stream() {
    let table = table();
    let mut a = Member::start("a", &table, &[orders(), bills()]).await;
    let mut b = Member::start("b", &table, &[]).await;
    run(&mut [&mut a, &mut b], 15 * SECOND).await;
    assert_eq!(b.worker.held(), 2);
    // All leases of the stream go, and it is opened again elsewhere in time.
    a.list = vec![orders()];
    run(&mut [&mut a, &mut b], GRACE * 2).await;
    assert_eq!(rows_of(&table, &bills()), 0);
    let start = StreamStart::AtTimestamp { moment_ms: 77 };
    let again = StreamIdentity {
        start,
        ..identity_of(&bills())
    };
    a.worker.handle.open_stream(bills(), again).await.unwrap();
    a.list = vec![orders(), bills()];
    run(&mut [&mut a, &mut b], 90 * SECOND).await;
    let grants = b.worker.grants.values();
    let held = grants.filter(|g| g.loss().is_none() && g.lease_key().stream_key() == bills());
    let starts: Vec<StreamStart> = held.map(|grant| grant.stream().start).collect();
    assert!(!starts.is_empty());
    assert!(starts.iter().all(|found| *found == start), "{starts:?}");
}

#[tokio::test(start_paused = true)]
async fn a_table_of_an_application_of_the_other_kind_is_refused_and_left_alone() {
    let of_one = table();
    drop(Worker::running("one", &of_one, 2).await);
    let before = of_one.items();
    let mut several = Worker::start_with("several", &of_one, |o| o.many_streams = true);
    let fatal = |event: &CoordinatorEvent| {
        matches!(
            event,
            CoordinatorEvent::Fatal(CoordinatorError::OtherKind { several: false, .. })
        )
    };
    several.wait_event(fatal).await;
    let leases = |items: BTreeMap<String, Item>| {
        let keep = |key: &String| key.starts_with("shardId") || key.starts_with("SessionStream");
        items
            .into_iter()
            .filter(|(key, _)| keep(key))
            .collect::<Vec<_>>()
    };
    assert_eq!(leases(of_one.items()), leases(before));

    let of_several = table();
    let mut a = Member::start("a", &of_several, &[orders()]).await;
    run(&mut [&mut a], 3 * SECOND).await;
    let mut one = Worker::start("one", &of_several);
    let fatal = |event: &CoordinatorEvent| {
        matches!(
            event,
            CoordinatorEvent::Fatal(CoordinatorError::OtherKind { several: true, .. })
        )
    };
    one.wait_event(fatal).await;
    run(&mut [&mut a], 30 * SECOND).await;
    assert_eq!(a.held_of(&orders()), 2);
}

#[tokio::test(start_paused = true)]
async fn a_stray_item_of_the_other_kind_does_not_stop_who_works() {
    let table = table();
    let mut a = Member::start("a", &table, &[orders()]).await;
    run(&mut [&mut a], 15 * SECOND).await;
    put_lease(&table, &lease_of(7));
    run(&mut [&mut a], 30 * SECOND).await;
    let told = a.told.iter().filter(
        |event| matches!(event, CoordinatorEvent::RowUnreadable { key, .. } if *key == id(7).as_str()),
    );
    assert_eq!(told.count(), 1);
    assert_eq!(a.worker.held(), 2);
}

#[tokio::test(start_paused = true)]
async fn whoever_comes_to_lead_is_asked_which_streams_there_are_and_then_each_minute() {
    let table = table();
    let mut a = Member::start("a", &table, &[orders(), bills()]).await;
    run(&mut [&mut a], 15 * SECOND).await;
    let mut b = Member::start("b", &table, &[orders(), bills()]).await;
    run(&mut [&mut a, &mut b], 5 * SECOND).await;
    let mut asked = Vec::new();
    a.worker.path.rule(|_| Act::Swallow);
    for _ in 0..1_500 {
        let events = b.worker.listen(100 * Duration::from_millis(1)).await;
        for event in events {
            if matches!(event, CoordinatorEvent::StreamsWanted { .. }) {
                asked.push(Instant::now());
                b.look().await;
            }
        }
    }
    assert_eq!(asked.len(), 3, "at once, and after one and two minutes");
    assert_eq!(b.worker.held(), 4);
}
