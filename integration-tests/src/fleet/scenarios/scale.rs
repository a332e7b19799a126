//! What a few workers cost on many idle shards.

use std::collections::BTreeMap;
use std::time::Duration;

use kcl_emulator::{Calls, Service};

use super::Stage;
use crate::APPLICATION;
use crate::fleet::cluster::Cluster;
use crate::fleet::error::FleetError;
use crate::fleet::report::count_of;
use crate::fleet::table_watch::{Snapshot, look};

pub(super) const SHARDS: u32 = 2_000;
const WORKERS: usize = 4;
/// Creating and taking so many leases takes a while in a debug build.
const START_LIMIT: Duration = Duration::from_secs(240);
/// After the last take everybody reads the table once more, and idle shards are read ever more seldom.
const COOL_DOWN: Duration = Duration::from_secs(20);
/// Write units per second of the whole fleet.
const WRITES: f64 = 4.0;
/// The whole table is read once in a scan interval, by one worker: with a little room for where the measurement begins.
const SCAN_INTERVAL: f64 = 10.0;
const ROOM: f64 = 1.25;
/// Reads by key do not depend on the number of leases: each worker reads its own item and two of the leader's each
/// second, and leader and deputy read everybody's.
const KEYS_PER_WORKER: f64 = 5.0;

/// Read units of 4 KB in an eventually consistent read.
const EVENTUAL: f64 = 0.5;

/// Units per second, and what they are made of.
pub(super) struct Cost {
    pub(super) reads: f64,
    pub(super) writes: f64,
    scans: f64,
    keys: f64,
    /// Read units of one scan.
    scan_units: f64,
}

pub(super) async fn play(stage: &mut Stage<'_>) -> Result<(), FleetError> {
    let workers = stage.options.workers.unwrap_or(WORKERS);
    let cost = measure(stage, workers).await?;
    stage
        .report
        .at_most("write units", "/s", cost.writes, WRITES);
    stage.report.tell("read units", "/s", cost.reads);
    stage
        .report
        .tell("read units of one scan", "", cost.scan_units);
    stage.report.at_most(
        "scans by the whole fleet",
        "/s",
        cost.scans,
        ROOM / SCAN_INTERVAL,
    );
    let limit = KEYS_PER_WORKER * count_of(workers);
    stage
        .report
        .at_most("items read by key", "/s", cost.keys, limit);
    Ok(())
}

/// Starts workers without load, and measures them at rest.
pub(super) async fn measure(stage: &mut Stage<'_>, workers: usize) -> Result<Cost, FleetError> {
    stage.cluster.add_workers(workers).await?;
    all_owned(stage).await?;
    stage.cluster.calm(COOL_DOWN).await?;
    let calls = stage.cluster.emulator.calls();
    let used = stage.cluster.usage()?;
    let time = stage.options.measure;
    stage.cluster.calm(time).await?;
    let rates = rates(&calls, &stage.cluster.emulator.calls(), time);
    let table = look(&stage.cluster.emulator, APPLICATION);
    for ((service, operation), rate) in &rates {
        stage
            .report
            .tell(format!("{} {operation}", service.name()), "/s", *rate);
    }
    let using = stage.cluster.usage()?;
    let resident = using.iter().map(|usage| usage.memory).max();
    stage.report.tell(
        "memory of the largest worker",
        "MiB",
        mebibytes(resident.unwrap_or(0)),
    );
    let spent = used.iter().zip(&using);
    let spent = spent
        .map(|(before, after)| after.cpu.saturating_sub(before.cpu))
        .max();
    let share = spent.unwrap_or_default().as_secs_f64() / time.as_secs_f64();
    stage
        .report
        .tell("processor time of the busiest worker", "s/s", share);
    end(&mut stage.cluster).await?;
    Ok(cost(&rates, &table))
}

/// Waits until every lease is owned, without looking at a large table all the time.
async fn all_owned(stage: &mut Stage<'_>) -> Result<(), FleetError> {
    let end = tokio::time::Instant::now() + START_LIMIT;
    let expected = stage.shards as usize;
    loop {
        let table = look(&stage.cluster.emulator, APPLICATION);
        let open = table.leases.values().filter(|row| !row.is_finished());
        let owned = open.clone().filter(|row| row.owner.is_some()).count();
        if owned >= expected && owned == open.count() {
            stage.report.tell("leases owned", "", count_of(owned));
            return Ok(());
        }
        if tokio::time::Instant::now() >= end {
            let what = "every shard has an owner".to_owned();
            return Err(FleetError::TooLate {
                what,
                limit: START_LIMIT,
            });
        }
        stage.cluster.calm(Duration::from_millis(500)).await?;
    }
}

async fn end(cluster: &mut Cluster) -> Result<(), FleetError> {
    for name in cluster.running() {
        cluster.terminate(&name)?;
    }
    cluster.all_left().await
}

type Rates = BTreeMap<(Service, String), f64>;

/// Calls per second of the workers, by operation.
fn rates(before: &Calls, after: &Calls, time: Duration) -> Rates {
    let mut rates = Rates::new();
    let workers = |calls: &Calls, sign: f64, rates: &mut Rates| {
        for (key, count) in calls
            .iter()
            .filter(|(key, _)| key.caller.0.starts_with('w'))
        {
            let rate =
                sign * count_of(usize::try_from(count).unwrap_or(usize::MAX)) / time.as_secs_f64();
            *rates
                .entry((key.service, key.operation.clone()))
                .or_default() += rate;
        }
    };
    workers(after, 1.0, &mut rates);
    workers(before, -1.0, &mut rates);
    // What is left of a difference of equal floats is no call.
    rates.retain(|_, rate| *rate > 1e-6);
    rates
}

/// Capacity units from calls, by the service's rules and rounded up. At rest every read is eventually consistent (half a
/// unit for 4 KB), as coordination asks for it: counters of calls do not tell. An item read or written by key counts as at
/// most 4 KB or 1 KB, a scan as the whole table, a transaction as two units for each of four rows.
fn cost(rates: &Rates, table: &Snapshot) -> Cost {
    let of = |operation: &str| {
        let key = (Service::DynamoDb, operation.to_owned());
        rates.get(&key).copied().unwrap_or(0.0)
    };
    let pages = usize::try_from(table.bytes.div_ceil(4096)).unwrap_or(usize::MAX);
    let scan_units = count_of(pages) * EVENTUAL;
    let keys = of("GetItem") + of("BatchGetItem");
    let writes = of("UpdateItem") + of("PutItem") + of("DeleteItem");
    Cost {
        reads: keys * EVENTUAL + of("Scan") * scan_units,
        writes: writes + of("TransactWriteItems") * 8.0,
        scans: of("Scan"),
        keys,
        scan_units,
    }
}

fn mebibytes(bytes: u64) -> f64 {
    count_of(usize::try_from(bytes >> 10).unwrap_or(usize::MAX)) / 1024.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_follow_calls_and_the_size_of_the_table() {
        let rate = |operation: &str, rate: f64| ((Service::DynamoDb, operation.to_owned()), rate);
        let rates = Rates::from([
            rate("Scan", 0.1),
            rate("GetItem", 2.0),
            rate("UpdateItem", 0.3),
            rate("TransactWriteItems", 0.5),
            ((Service::Kinesis, "GetRecords".to_owned()), 100.0),
        ]);
        let table = Snapshot {
            bytes: 40_961,
            ..Snapshot::default()
        };
        let cost = cost(&rates, &table);
        assert!((cost.reads - (1.0 + 0.1 * 5.5)).abs() < 1e-9);
        assert!((cost.writes - 4.3).abs() < 1e-9);
    }
}
