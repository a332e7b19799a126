//! A leader that stops while its deputy, or the leader before it, is dead: nobody else has watched that one.

use super::*;

const SHARDS: u32 = 6;
/// A dead worker's leases are taken within the lease duration and this.
const PATIENCE: Duration = Duration::from_millis(3_500);

async fn listen(workers: [&mut Worker; 2], time: Duration) {
    let [first, second] = workers;
    tokio::join!(first.listen(time), second.listen(time));
}

/// Three workers with as many leases each, of which the first leads and the second is its deputy.
async fn three() -> [Worker; 3] {
    let table = table();
    let mut leader = Worker::cooperating("a", &table);
    leader.open(&listing(SHARDS)).await;
    leader.wait_granted(SHARDS as usize).await;
    let mut deputy = Worker::cooperating("b", &table);
    deputy.open(&listing(SHARDS)).await;
    listen([&mut leader, &mut deputy], L).await;
    let mut third = Worker::cooperating("c", &table);
    third.open(&listing(SHARDS)).await;
    tokio::join!(
        listen([&mut leader, &mut deputy], 3 * L),
        third.listen(3 * L)
    );
    assert_eq!((leader.held(), deputy.held(), third.held()), (2, 2, 2));
    [leader, deputy, third]
}

/// The deputy dies, and the leader stops so much later. Returns how long after the death the third has the deputy's leases.
async fn taken_after(silent: Duration) -> Duration {
    let [mut leader, deputy, mut third] = three().await;
    let orphans: Vec<u32> = (0..SHARDS).filter(|n| deputy.serves(*n)).collect();
    deputy.path.cut();
    let died = Instant::now();
    listen([&mut leader, &mut third], silent).await;
    leader.handle.shutdown(5 * L / 2);
    while !orphans.iter().all(|number| third.serves(*number)) {
        listen([&mut leader, &mut third], Duration::from_millis(100)).await;
        assert!(died.elapsed() < 5 * L, "{silent:?}: never taken");
    }
    died.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_dead_deputys_leases_are_taken_in_time_although_its_leader_stops() {
    for millis in (0..=10_000).step_by(1_000) {
        let silent = Duration::from_millis(millis);
        let took = taken_after(silent).await;
        assert!(took <= L + PATIENCE, "{silent:?}: {took:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_leader_that_died_is_not_named_again_by_its_successor() {
    for millis in (3_250..=6_000).step_by(250) {
        let [leader, mut deputy, mut third] = three().await;
        let orphans: Vec<u32> = (0..SHARDS).filter(|n| leader.serves(*n)).collect();
        leader.path.cut();
        let died = Instant::now();
        listen([&mut deputy, &mut third], Duration::from_millis(millis)).await;
        deputy.handle.shutdown(5 * L / 2);
        listen([&mut deputy, &mut third], Duration::from_millis(50)).await;
        let named = leader.path.table.items()["SessionLeader"]["leader"].clone();
        let dead = Value::text(leader.handle.worker().as_str());
        let led = named != dead || millis < 4_250;
        assert!(
            led,
            "after {millis} ms the deputy had led, and named {named:?}"
        );
        while !orphans
            .iter()
            .all(|n| deputy.serves(*n) || third.serves(*n))
        {
            listen([&mut deputy, &mut third], Duration::from_millis(50)).await;
            assert!(died.elapsed() <= L + PATIENCE, "stopped after {millis} ms");
        }
    }
}
