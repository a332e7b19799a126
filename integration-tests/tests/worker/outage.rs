//! The lease table fails for everybody, for minutes: afterwards all is as it was, and soon.

use std::time::Duration;

use integration_tests::Stage;
use kcl_emulator::Service;
use kcl_emulator::faults::{Fault, Rule};
use tokio::time::Instant;

use crate::crew::{Crew, LEASE, put_into_each};

const OUTAGE: Duration = Duration::from_secs(5 * 60);

/// The workers reach the table again one after the other, within this time: a sixth of the lease duration is what is promised.
const RETURN: Duration = Duration::from_millis(1_500);

/// Nobody reaches the table for five minutes, each call meeting this fault. Meanwhile each shard gets a record.
async fn heals_within_two_lease_durations(shards: u32, workers: u32, fault: Fault) {
    let stage = Stage::new(shards);
    // Reading idle shards is not what is measured, and takes most of the test's time.
    let idle = Duration::from_secs(5);
    let make = |name: &str| stage.worker(name).idle_between_reads(idle);
    let crew = Crew::new(&stage, workers as usize, make);
    crew.run(async |crew| {
        crew.balanced(shards as usize).await;
        tokio::time::sleep(LEASE).await;
        let (holders, owners) = (crew.holders(), crew.owners().await);
        assert_eq!(owners.len(), shards as usize);
        assert!(owners.values().all(Option::is_some), "{owners:?}");

        let names: Vec<String> = (0..workers).map(|n| format!("w{n}")).collect();
        for name in &names {
            let outage = Rule::new(fault.clone()).service(Service::DynamoDb);
            stage.emulator.faults().add(outage.caller(name).named(name));
        }
        tokio::time::sleep(OUTAGE).await;
        put_into_each(&stage, shards, "meanwhile").await;
        tokio::time::sleep(LEASE).await;
        assert_eq!(stage.log.records(), 0, "delivered without a lease");

        let healed = Instant::now();
        for name in &names {
            stage.emulator.faults().remove(name);
            tokio::time::sleep(RETURN / workers).await;
        }
        stage.wait_for_records(shards as usize).await;
        let took = healed.elapsed();
        assert!(took <= 2 * LEASE, "{took:?}");

        // Whoever was to lose a lease has lost it by then.
        tokio::time::sleep(2 * LEASE).await;
        assert_eq!(stage.log.data().len(), shards as usize, "each record once");
        assert_eq!(crew.holders(), holders, "a shard has moved");
        assert_eq!(crew.owners().await, owners, "a lease has moved");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_small_fleet_survives_a_table_that_is_silent_for_five_minutes() {
    heals_within_two_lease_durations(12, 3, Fault::Disconnect).await;
}

#[tokio::test(start_paused = true)]
async fn a_small_fleet_survives_five_minutes_of_throttling() {
    heals_within_two_lease_durations(12, 3, Fault::Throttle).await;
}

#[tokio::test(start_paused = true)]
#[cfg_attr(
    debug_assertions,
    ignore = "takes minutes without optimisation; run with --release"
)]
async fn a11_a_large_fleet_survives_a_table_that_is_silent_for_five_minutes() {
    heals_within_two_lease_durations(1_000, 20, Fault::Disconnect).await;
}
