//! A lease whose holder could not work on it goes to somebody else, and not straight back.

use super::*;

const SECOND: Duration = Duration::from_secs(1);
const SHARDS: u32 = 4;

/// Two workers with half of the leases each. The first one leads.
async fn both(table: &Arc<MemoryLeaseTable>) -> [Worker; 2] {
    let mut first = Worker::cooperating("a", table);
    first.open(&listing(SHARDS)).await;
    first.wait_granted(SHARDS as usize).await;
    let mut second = Worker::cooperating("b", table);
    second.open(&listing(SHARDS)).await;
    listen_both(&mut first, &mut second, 2 * L).await;
    assert_eq!((first.held(), second.held()), (2, 2));
    [first, second]
}

async fn listen_both(first: &mut Worker, second: &mut Worker, time: Duration) {
    tokio::join!(first.listen(time), second.listen(time));
}

#[tokio::test(start_paused = true)]
async fn a12_a_lease_that_was_given_up_goes_to_another_worker_and_stays_there() {
    for leader_gives_up in [true, false] {
        let table = table();
        let [mut leader, mut other] = both(&table).await;
        let (giver, taker) = match leader_gives_up {
            true => (&mut leader, &mut other),
            false => (&mut other, &mut leader),
        };
        let number = (0..SHARDS).find(|number| giver.serves(*number)).unwrap();
        giver.grant(number).release(None).await.unwrap();
        listen_both(giver, taker, 4 * SECOND).await;
        assert!(taker.serves(number), "leader gives up: {leader_gives_up}");
        // The fleet is balanced again, with other leases.
        for _ in 0..10 {
            listen_both(giver, taker, L).await;
            assert!(taker.serves(number), "leader gives up: {leader_gives_up}");
        }
        assert_eq!((giver.held(), taker.held()), (2, 2));
    }
}
