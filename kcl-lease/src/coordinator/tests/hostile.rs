//! Items that nobody should have written.

use super::*;
use crate::LossReason;
use crate::key::StreamKey;
use crate::test_support::at;

#[tokio::test(start_paused = true)]
async fn rows_that_cannot_be_read_are_told_once_and_left_alone() {
    let table = table();
    put_lease(&table, &lease_of(0));
    put_lease(&table, &lease_of(1));
    change(
        &table,
        id(1).as_str(),
        &[(attribute::COUNTER, Value::text("many"))],
    );
    table.put("", Item::new());
    table.put(
        "worker/0123456789abcdef0123456789abcdef",
        Item::from([(
            attribute::ENTITY_TYPE.to_owned(),
            Value::text("SESSION_WORKER"),
        )]),
    );
    let before = table.items()[id(1).as_str()].clone();
    let mut worker = Worker::start("w", &table);
    worker.open(&listing(2)).await;
    let told = worker.listen(L * 5).await;
    let unreadable = told
        .iter()
        .filter(|event| matches!(event, CoordinatorEvent::RowUnreadable { .. }))
        .count();
    assert_eq!(unreadable, 3, "{told:?}");
    assert_eq!(worker.held(), 1);
    assert_eq!(table.items()[id(1).as_str()], before);
}

#[tokio::test(start_paused = true)]
async fn a_lease_whose_row_is_damaged_or_deleted_is_lost() {
    for damaged in [true, false] {
        let table = table();
        let mut worker = Worker::running("w", &table, 2).await;
        let grant = worker.grant(0);
        if damaged {
            change(
                &table,
                id(0).as_str(),
                &[(attribute::COUNTER, Value::Bool(true))],
            );
        } else {
            let delete = RowWrite {
                key: id(0).as_str().to_owned(),
                condition: vec![],
                change: crate::write::Change::Delete,
            };
            table.write(delete).await.unwrap();
        }
        let error = grant.checkpoint(at(1)).await.unwrap_err();
        let expected = match damaged {
            true => LossReason::RowUnreadable,
            false => LossReason::RowMissing,
        };
        let lost = matches!(error, crate::GrantError::Lost { reason, .. } if reason == expected);
        assert!(lost, "{error}");
        worker.listen(L * 2).await;
        assert!(worker.grant(1).is_current());
    }
}

#[tokio::test(start_paused = true)]
async fn an_owner_whose_item_cannot_be_read_is_not_robbed_and_costs_little() {
    let table = table();
    let owner = "bad/0123456789abcdef0123456789abcdef";
    put_lease(&table, &lease_of(0));
    owned_by(&table, 0, owner, 3);
    table.put(
        owner,
        Item::from([(
            attribute::ENTITY_TYPE.to_owned(),
            Value::text("SESSION_WORKER"),
        )]),
    );
    let mut worker = Worker::start("w", &table);
    worker.open(&listing(1)).await;
    worker.path.reads.store(0, Ordering::Relaxed);
    worker.listen(L * 10).await;
    assert_eq!(worker.held(), 0);
    assert!(worker.path.reads.load(Ordering::Relaxed) < 300);
}

#[tokio::test(start_paused = true)]
async fn a_counter_at_its_end_neither_panics_nor_spins() {
    let table = table();
    put_lease(&table, &lease_of(0));
    change(
        &table,
        id(0).as_str(),
        &[(attribute::COUNTER, Value::number(i64::MAX as u64))],
    );
    let mut worker = Worker::start("w", &table);
    worker.open(&listing(1)).await;
    worker.listen(L * 10).await;
    assert!(worker.path.writes.load(Ordering::Relaxed) < 1_000);
}

#[tokio::test(start_paused = true)]
async fn shards_that_are_their_own_ancestors_create_nothing() {
    let table = table();
    put_lease(&table, &lease_of(0));
    let mut worker = Worker::start("w", &table);
    worker
        .handle
        .open_stream(StreamKey::ONLY, identity())
        .await
        .unwrap();
    let mut loops = vec![shard(5, &[6], 0, 1), shard(6, &[5], 0, 1)];
    loops[1].open = false;
    let _ = worker
        .handle
        .sync_shards(StreamKey::ONLY, loops, false)
        .await;
    worker.listen(L).await;
    assert_eq!(worker.held(), 1);
}
