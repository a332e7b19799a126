//! What a worker that does not lead keeps of workers that are gone.

use super::*;
use crate::coordinator::driver::{Driver, Seat};
use crate::view::{OwnerCheck, OwnerFound};
use crate::worker_item::WorkerItem;

/// A driver that the test steps itself; it goes on while the senders live.
fn driver(name: &str, table: &Arc<MemoryLeaseTable>) -> (Driver, mpsc::UnboundedSender<Command>) {
    let (commands, received) = mpsc::unbounded_channel();
    let (events, _) = mpsc::unbounded_channel();
    let mut rng = fastrand::Rng::with_seed(3);
    let first = WorkerId::generate(name, &mut rng).unwrap();
    let seat = Seat {
        options: CoordinatorOptions::default(),
        runtime: Runtime::virtual_time(7),
        rng,
        worker: watch::channel(first).0,
        commands: commands.downgrade(),
        received,
        events,
    };
    (Driver::new(seat, Path::new(table)), commands)
}

async fn step_for(driver: &mut Driver, time: Duration) {
    let end = Instant::now() + time;
    while tokio::time::timeout_at(end, driver.step()).await.is_ok() {}
}

#[tokio::test(start_paused = true)]
async fn a_follower_keeps_nothing_of_workers_that_are_long_gone() {
    let table = table();
    let leader = Worker::running("a", &table, 1).await;
    let deputy = Worker::start("b", &table);
    deputy.open(&listing(1)).await;
    tokio::time::sleep(Duration::from_secs(10)).await;
    let (mut follower, _commands) = driver("c", &table);
    step_for(&mut follower, Duration::from_secs(15)).await;
    assert_eq!(follower.leadership.deputy(), Some(&deputy.handle.worker()));
    let now = follower.runtime.now();
    let gone: Vec<WorkerId> = (0..1_000)
        .map(|number| WorkerId::from(format!("w/{number:032x}").as_str()))
        .collect();
    for worker in &gone {
        follower.see_worker_item(WorkerItem::new(worker.clone(), L), now);
        let (sent, found) = (now, OwnerFound::Nothing);
        let check = OwnerCheck { sent, found };
        follower.view.saw_owner(worker.clone(), check);
        let until = now.plus(Duration::from_secs(1));
        let shard = crate::LeaseKey::from(worker.as_str());
        follower.wanted.insert(shard.clone(), until);
        follower.not_before.insert(shard, until);
    }
    step_for(&mut follower, Duration::from_secs(110)).await;
    assert_eq!(follower.leadership.leader(), Some(&leader.handle.worker()));
    assert!(follower.roster.ids().len() <= 2, "leader and deputy");
    for worker in &gone {
        assert_eq!(follower.liveness.heartbeat(worker), None);
        assert!(follower.view.owner(worker).is_none());
    }
    assert!(follower.wanted.is_empty() && follower.not_before.is_empty());
}
