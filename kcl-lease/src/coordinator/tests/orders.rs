//! Commands of operators: paused leases, seeks, and who learns of them when.

use std::time::SystemTime;

use super::*;
use crate::grant::GrantError;
use crate::operator::{Commanded, Operator, SeekTo, Shards, Standing};
use crate::orders::{Orders, StartPoint};
use crate::{CommandItem, LeaseKey, write};

fn operator(table: &Arc<MemoryLeaseTable>) -> Operator {
    let table: Arc<dyn LeaseTable> = Path::new(table);
    Operator::new(table, Runtime::virtual_time(99))
}

fn key(number: u32) -> LeaseKey {
    LeaseKey::of_shard(&id(number))
}

fn only(number: u32) -> Shards {
    Shards::Of(vec![key(number)])
}

/// What the holder knows of its orders, once it knows anything.
async fn known(grant: &Grant) -> Orders {
    let mut orders = grant.orders();
    let known = orders.wait_for(Option::is_some);
    let known = timeout(L, known).await.expect("known in time").unwrap();
    known.clone().unwrap()
}

/// Waits until the orders are as wanted.
async fn wait_orders(grant: &Grant, wanted: impl Fn(&Orders) -> bool) -> Orders {
    let mut orders = grant.orders();
    let seen = orders.wait_for(|orders| orders.as_ref().is_some_and(&wanted));
    let seen = timeout(Duration::from_secs(30), seen).await;
    seen.expect("ordered in time").unwrap().clone().unwrap()
}

async fn standing(operator: &Operator, commanded: &Commanded) -> Standing {
    operator.standing(&commanded.commands[0]).await.unwrap()
}

fn command(table: &MemoryLeaseTable, number: u32) -> Option<CommandItem> {
    let item = table
        .items()
        .get(&CommandItem::key_of(&key(number)))
        .cloned()?;
    CommandItem::from_item(&item).unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_grant_knows_its_orders_after_one_read_and_not_before() {
    let table = table();
    let mut worker = Worker::running("a", &table, 1).await;
    let grant = worker.grant(0);
    assert!(grant.is_current() && !grant.is_ordered_to_deliver());
    let begun = Instant::now();
    assert_eq!(known(&grant).await, Orders::default());
    assert!(begun.elapsed() <= 2 * LATENCY, "one read");
    assert!(grant.is_ordered_to_deliver());
    // No poll follows: within a minute nobody reads the command again.
    worker.path.rule(|seen| {
        assert!(!seen.key.starts_with("SessionCommand"), "{seen:?}");
        Act::Pass
    });
    worker.listen(Duration::from_secs(60)).await;
}

#[tokio::test(start_paused = true)]
async fn a_pause_reaches_the_holder_at_once_and_is_reported_when_it_obeys() {
    let table = table();
    let mut worker = Worker::running("a", &table, 2).await;
    let operator = operator(&table);
    known(&worker.grant(0)).await;
    let begun = Instant::now();
    let paused = operator.pause(&only(0)).await.unwrap();
    let orders = wait_orders(&worker.grant(0), |orders| orders.paused).await;
    assert!(
        begun.elapsed() < Duration::from_millis(2_500),
        "{:?}",
        begun.elapsed()
    );
    assert!(!worker.grant(0).is_ordered_to_deliver() && worker.grant(0).is_current());
    assert_eq!(standing(&operator, &paused).await, Standing::Waiting);
    let counter = row(&table, 0).unwrap().counter;
    worker.grant(0).obey(&orders).await.unwrap();
    assert_eq!(standing(&operator, &paused).await, Standing::Obeyed);
    assert_eq!(row(&table, 0).unwrap().counter, counter + 1, "one bump");
    // The other shard is not concerned; the item stays as long as the pause.
    assert!(known(&worker.grant(1)).await.allow_delivery());
    worker.listen(Duration::from_secs(60)).await;
    let first = command(&table, 0).unwrap();
    let resumed = operator.resume(&Shards::All).await.unwrap();
    assert_eq!(resumed.commands.len(), 2);
    let orders = wait_orders(&worker.grant(0), |orders| !orders.paused).await;
    worker.grant(0).obey(&orders).await.unwrap();
    assert!(worker.grant(0).is_ordered_to_deliver());
    let within = Duration::from_secs(1);
    operator
        .obeyed(&resumed.commands[..1], within)
        .await
        .unwrap();
    // It stays although it says nothing more: a repeated request to store the first one is refused.
    assert_eq!(operator.commands().await.unwrap(), []);
    worker.listen(Duration::from_secs(25)).await;
    let again = write::command(&first, None);
    assert!(matches!(
        table.write(again).await.unwrap(),
        Written::Refused(_)
    ));
    assert_eq!(worker.held(), 2, "no write of an operator costs a lease");
}

#[tokio::test(start_paused = true)]
async fn a_lost_hint_is_repaired_by_the_leader() {
    let table = table();
    let mut worker = Worker::running("a", &table, 1).await;
    known(&worker.grant(0)).await;
    let path = Path::new(&table);
    path.rule(|seen| match seen.key.starts_with("a/") {
        true => Act::Deny,
        false => Act::Pass,
    });
    let operator = Operator::new(path, Runtime::virtual_time(99));
    operator.pause(&only(0)).await.unwrap();
    worker.listen(Duration::from_secs(11)).await;
    assert!(!worker.grant(0).is_ordered_to_deliver());
}

#[tokio::test(start_paused = true)]
async fn another_holder_is_reminded_by_the_leader_too() {
    let table = table();
    let mut leader = Worker::cooperating("a", &table);
    leader.open(&listing(2)).await;
    leader.wait_granted(2).await;
    let mut other = Worker::start("b", &table);
    other.open(&listing(2)).await;
    let (_, ()) = tokio::join!(
        leader.listen(Duration::from_secs(30)),
        other.wait_granted(1)
    );
    let number = (0..2).find(|n| other.serves(*n)).unwrap();
    known(&other.grant(number)).await;
    let path = Path::new(&table);
    path.rule(|seen| match seen.key.starts_with("b/") {
        true => Act::Deny,
        false => Act::Pass,
    });
    let operator = Operator::new(path, Runtime::virtual_time(99));
    operator.pause(&only(number)).await.unwrap();
    let grant = other.grant(number);
    let waited = wait_orders(&grant, |orders| orders.paused);
    tokio::join!(leader.listen(Duration::from_secs(13)), waited);
}

#[tokio::test(start_paused = true)]
async fn a_pause_outlives_its_holder() {
    let table = table();
    let mut first = Worker::running("a", &table, 1).await;
    let operator = operator(&table);
    operator.pause(&only(0)).await.unwrap();
    let orders = wait_orders(&first.grant(0), |orders| orders.paused).await;
    first.grant(0).obey(&orders).await.unwrap();
    first.listen(Duration::from_secs(12)).await;
    first.path.cut();
    let mut second = Worker::running("b", &table, 1).await;
    assert!(!second.grant(0).is_ordered_to_deliver());
    let orders = known(&second.grant(0)).await;
    assert!(
        orders.paused && !orders.are_new(),
        "the row says already that it is obeyed"
    );
    second.listen(Duration::from_secs(12)).await;
}

#[tokio::test(start_paused = true)]
async fn a_seek_moves_the_checkpoint_back_and_ends_the_progress_of_before() {
    let table = table();
    let mut worker = Worker::running("a", &table, 1).await;
    let grant = worker.grant(0);
    grant.checkpoint(checkpoint_at(7)).await.unwrap();
    let bytes = Some(vec![1]);
    grant.prepare(checkpoint_at(8), bytes).await.unwrap();
    let operator = operator(&table);
    let sought = operator.seek(&only(0), SeekTo::Oldest).await.unwrap();
    let orders = wait_orders(&grant, |orders| orders.seek.is_some()).await;
    assert!(!grant.is_ordered_to_deliver());
    let next = grant.obey(&orders).await.unwrap();
    let stored = row(&table, 0).unwrap();
    assert_eq!(*next.start(), kcl_checkpoint::Checkpoint::TrimHorizon);
    assert_eq!(
        (stored.checkpoint, stored.pending),
        (next.start().clone(), None)
    );
    assert_eq!(standing(&operator, &sought).await, Standing::Obeyed);
    // Whoever still works on what was before cannot store it.
    let late = grant.checkpoint(checkpoint_at(9)).await.unwrap_err();
    assert!(matches!(late, GrantError::Repositioned { .. }), "{late}");
    let late = grant.prepare(checkpoint_at(9), None).await.unwrap_err();
    assert!(matches!(late, GrantError::Repositioned { .. }), "{late}");
    next.checkpoint(checkpoint_at(3)).await.unwrap();
    assert_eq!(row(&table, 0).unwrap().checkpoint, checkpoint_at(3));
    assert!(!known(&next).await.are_new());
    worker.listen(Duration::from_secs(25)).await;
    assert_eq!(operator.commands().await.unwrap(), []);
    // Nor by giving the lease away.
    grant.release(Some(checkpoint_at(9))).await.unwrap();
    assert_eq!(row(&table, 0).unwrap().checkpoint, checkpoint_at(3));
}

#[tokio::test(start_paused = true)]
async fn a_seek_is_applied_once_whatever_happens_to_answers_and_holders() {
    let table = table();
    let mut first = Worker::running("a", &table, 1).await;
    let operator = operator(&table);
    operator.pause(&only(0)).await.unwrap();
    let time = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000);
    operator.seek(&only(0), SeekTo::Time(time)).await.unwrap();
    let grant = first.grant(0);
    let orders = wait_orders(&grant, |orders| orders.seek.is_some()).await;
    assert!(orders.paused, "a seek leaves the pause");
    // The answer is lost: the write was applied.
    let shard = id(0);
    let mut answers = 0;
    first.path.rule(
        move |seen| match seen.operation == "write" && seen.key == shard.as_str() {
            true if answers == 0 => {
                answers += 1;
                Act::LoseAnswer
            }
            _ => Act::Pass,
        },
    );
    let lost = grant.obey(&orders).await.unwrap_err();
    assert!(lost.is_retryable(), "{lost}");
    let next = grant.obey(&orders).await.unwrap();
    assert_eq!(*next.start_point(), StartPoint::at_time(1_000_000));
    next.checkpoint(checkpoint_at(5)).await.unwrap();
    // It dies at once: who comes after it finds the order still there, and does not follow it again.
    first.path.cut();
    assert!(command(&table, 0).is_some_and(|item| item.seek.is_some()));
    let second = Worker::running("b", &table, 1).await;
    let orders = known(&second.grant(0)).await;
    assert!(orders.paused && orders.seek.is_none(), "{orders:?}");
    assert_eq!(*second.grant(0).start(), checkpoint_at(5));
    drop(first.listen(Duration::ZERO).await);
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_seeks_by_itself_does_not_bring_an_old_order_back() {
    let table = table();
    let worker = Worker::running("a", &table, 1).await;
    let operator = operator(&table);
    operator.pause(&only(0)).await.unwrap();
    operator.seek(&only(0), SeekTo::Oldest).await.unwrap();
    let orders = wait_orders(&worker.grant(0), |orders| orders.seek.is_some()).await;
    let grant = worker.grant(0).obey(&orders).await.unwrap();
    let grant = grant.seek(StartPoint::at_time(5)).await.unwrap();
    assert_eq!(*grant.start_point(), StartPoint::at_time(5));
    assert_eq!(row(&table, 0).unwrap().start(), StartPoint::at_time(5));
    assert_eq!(known(&grant).await.seek, None);
    let nowhere = StartPoint {
        moment_ms: None,
        ..StartPoint::at_time(0)
    };
    let error = grant.seek(nowhere).await.unwrap_err();
    assert!(matches!(error, GrantError::NoFixedPlace { .. }), "{error}");
}

#[tokio::test(start_paused = true)]
async fn latest_is_the_moment_of_the_command() {
    let table = table();
    let worker = Worker::running("a", &table, 1).await;
    let operator = operator(&table);
    let now = Runtime::virtual_time(99).wall_time();
    let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap();
    operator.seek(&only(0), SeekTo::Latest).await.unwrap();
    let orders = wait_orders(&worker.grant(0), |orders| orders.seek.is_some()).await;
    let to = orders.seek.unwrap().to;
    let moment = Duration::from_millis(to.moment_ms.unwrap());
    assert!(
        moment < now && now - moment < Duration::from_secs(2),
        "{moment:?} {now:?}"
    );
}

#[tokio::test(start_paused = true)]
async fn finished_and_unknown_shards_are_named() {
    let table = table();
    put_lease(
        &table,
        &Lease {
            checkpoint: kcl_checkpoint::Checkpoint::ShardEnd,
            ..lease_of(0)
        },
    );
    put_lease(&table, &lease_of(1));
    let operator = operator(&table);
    let both = Shards::Of(vec![key(0), key(1), key(2)]);
    let done = operator.seek(&both, SeekTo::Oldest).await.unwrap();
    assert_eq!((done.finished, done.missing), (vec![key(0)], vec![key(2)]));
    assert_eq!(
        done.commands.len(),
        1,
        "a lease that nobody holds obeys later"
    );
    let all = operator.seek(&Shards::All, SeekTo::Oldest).await.unwrap();
    assert_eq!((all.finished, all.commands.len()), (vec![key(0)], 1));
    assert_eq!(
        operator.standing(&done.commands[0]).await.unwrap(),
        Standing::Replaced
    );
    assert_eq!(operator.commands().await.unwrap().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_command_delivers_nothing_and_is_told() {
    let table = table();
    let item = [
        (
            attribute::ENTITY_TYPE.to_owned(),
            Value::text("SESSION_COMMAND"),
        ),
        (attribute::COMMAND.to_owned(), Value::number(1)),
    ];
    table.put(&CommandItem::key_of(&key(0)), Item::from(item));
    let mut worker = Worker::running("a", &table, 1).await;
    let told = worker.listen(Duration::from_secs(5)).await;
    let unreadable =
        |event: &CoordinatorEvent| matches!(event, CoordinatorEvent::RowUnreadable { .. });
    assert!(told.iter().any(unreadable), "{told:?}");
    assert!(!worker.grant(0).is_ordered_to_deliver());
    // Mended by hand: the holder finds out by itself.
    let paused = CommandItem {
        lease: key(0),
        command: "0123456789abcdef0123456789abcdef".into(),
        paused: false,
        stopped: None,
        seek: None,
    };
    table.put(&CommandItem::key_of(&key(0)), paused.to_item());
    worker.listen(Duration::from_secs(12)).await;
    assert!(worker.grant(0).is_ordered_to_deliver());
}

/// Items at the key of a command that nobody can read.
fn unreadable() -> [Item; 4] {
    let good = CommandItem {
        lease: key(0),
        command: "0123456789abcdef0123456789abcdef".into(),
        paused: false,
        stopped: None,
        seek: None,
    };
    let with = |name: &str, value: Value| {
        let mut item = good.to_item();
        item.insert(name.to_owned(), value);
        item
    };
    [
        with(attribute::ENTITY_TYPE, Value::text("SESSION_COMMAND_2")),
        with(attribute::COMMAND, Value::Bool(true)),
        with(attribute::SEEK, Value::text("later")),
        Item::from([(
            attribute::KEY.to_owned(),
            Value::text(CommandItem::key_of(&key(0))),
        )]),
    ]
}

#[tokio::test(start_paused = true)]
async fn an_operator_replaces_what_cannot_be_read_and_the_lease_goes_on() {
    for item in unreadable() {
        let table = table();
        let command_key = CommandItem::key_of(&key(0));
        table.put(&command_key, item.clone());
        let mut worker = Worker::running("a", &table, 2).await;
        worker.listen(Duration::from_secs(5)).await;
        assert!(!worker.grant(0).is_ordered_to_deliver());
        let operator = operator(&table);
        // A seek says nothing of whether the lease is to be delivered.
        let begun = Instant::now();
        let done = operator.seek(&Shards::All, SeekTo::Oldest).await.unwrap();
        assert!(done.failed.is_empty() && done.replaced.len() == 1);
        let (replaced, error) = &done.replaced[0];
        assert_eq!(*replaced, key(0), "{error}");
        let grant = worker.grant(0);
        let orders = wait_orders(&grant, |orders| orders.seek.is_some()).await;
        assert!(orders.paused && !orders.allow_delivery());
        assert!(begun.elapsed() < L / 4, "{:?}", begun.elapsed());
        let grant = grant.obey(&orders).await.unwrap();
        let done = operator.resume(&only(0)).await.unwrap();
        assert!(done.replaced.is_empty(), "it is a command by now");
        wait_orders(&grant, Orders::allow_delivery).await;
        // Without a seek: resumed at once, at the place where the lease stands.
        table.put(&command_key, item.clone());
        let done = operator.resume(&only(0)).await.unwrap();
        assert_eq!((done.commands.len(), done.replaced.len()), (1, 1));
        let orders = wait_orders(&grant, Orders::are_new).await;
        assert!(orders.allow_delivery());
        let grant = grant.obey(&orders).await.unwrap();
        assert_eq!(*grant.start_point(), StartPoint::oldest());
    }
}

#[tokio::test(start_paused = true)]
async fn an_item_that_cannot_be_read_is_replaced_as_it_was_read_only() {
    for item in unreadable() {
        let table = table();
        put_lease(&table, &lease_of(0));
        let command_key = CommandItem::key_of(&key(0));
        table.put(&command_key, item);
        // Somebody stores a pause between the read and the write.
        let path = Path::new(&table);
        let (other, mut writes) = (Arc::clone(&table), 0);
        let paused = crate::orders::unreadable(&key(0), "f".repeat(32).as_str().into());
        path.rule(move |seen| {
            if seen.operation == "write" {
                writes += 1;
                if writes == 1 {
                    other.put(&CommandItem::key_of(&key(0)), paused.to_item());
                }
            }
            Act::Pass
        });
        let operator = Operator::new(path, Runtime::virtual_time(99));
        let done = operator.seek(&only(0), SeekTo::Oldest).await.unwrap();
        assert!(done.replaced.is_empty(), "{done:?}");
        assert!(command(&table, 0).unwrap().paused);
        assert_eq!(done.commands.len(), 1);
    }
}

#[tokio::test(start_paused = true)]
async fn a_read_that_fails_is_repeated() {
    let table = table();
    let worker = Worker::start("a", &table);
    let mut failures = 0;
    worker
        .path
        .rule(move |seen| match seen.key.starts_with("SessionCommand") {
            true if failures < 3 => {
                failures += 1;
                Act::Reject
            }
            _ => Act::Pass,
        });
    worker.open(&listing(1)).await;
    let mut worker = worker;
    worker.wait_granted(1).await;
    assert!(known(&worker.grant(0)).await.allow_delivery());
}

#[tokio::test(start_paused = true)]
async fn operators_repeat_what_was_not_answered_and_command_beside_one_another() {
    let table = table();
    put_lease(&table, &lease_of(0));
    let path = Path::new(&table);
    let mut answers = 0;
    path.rule(move |seen| match seen.operation == "write" {
        true if answers == 0 => {
            answers += 1;
            Act::LoseAnswer
        }
        _ => Act::Pass,
    });
    let first = Operator::new(path, Runtime::virtual_time(1));
    let second = Operator::new(Path::new(&table), Runtime::virtual_time(2));
    let shards = only(0);
    let (paused, sought) = tokio::join!(first.pause(&shards), second.seek(&shards, SeekTo::Oldest));
    let (paused, sought) = (paused.unwrap(), sought.unwrap());
    assert_eq!((paused.commands.len(), sought.commands.len()), (1, 1));
    let item = command(&table, 0).unwrap();
    assert!(
        item.paused && item.seek.is_some(),
        "both are in force: {item:?}"
    );
}
