//! How long a record takes from the call that puts it to its processor.

use std::time::Duration;

use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::BenchReport;
use super::account::Account;
use super::error::BenchError;
use super::options::LatencyOptions;
use super::table;
use crate::clocks::boot_time;

/// Put in a second, in all shards together.
const RATE: u32 = 100;
/// Not counted: connections and pauses find their way.
const WARM_UP: Duration = Duration::from_secs(3);
/// What is under way in the end arrives.
const SETTLE: Duration = Duration::from_secs(2);

/// A way to read, and what 99 of 100 records take at most.
#[derive(Debug, Clone, Copy)]
struct Way {
    name: &'static str,
    options: &'static [&'static str],
    most_millis: f64,
}

const WAYS: [Way; 2] = [
    // A shard may be read five times a second, so a record waits 200 ms at most; the rest is for puts, reads and the machine.
    Way {
        name: "polling",
        options: &["--latency"],
        most_millis: 300.0,
    },
    // Nothing waits.
    Way {
        name: "fan-out",
        options: &["--latency", "--retrieval=fan-out"],
        most_millis: 100.0,
    },
];

/// Latencies in milliseconds.
#[derive(Debug, Clone, Copy)]
struct Latency {
    records: usize,
    p50: f64,
    p99: f64,
    most: f64,
}

pub(super) async fn measure(options: &LatencyOptions) -> Result<BenchReport, BenchError> {
    let mut all = Vec::new();
    for way in WAYS {
        all.push((way, one(options, way).await?));
    }
    Ok(BenchReport {
        tables: text(&all, options),
        broken: broken(&all),
    })
}

async fn one(options: &LatencyOptions, way: Way) -> Result<Latency, BenchError> {
    let account = Account::start(options.shards).await?;
    let mut worker = account.work("latency", way.options)?;
    let all = usize::try_from(options.shards).unwrap_or(usize::MAX);
    worker
        .until("it reads all shards", |state| {
            state.leases == all && state.caught_up
        })
        .await?;
    // Without a break between: a shard at rest is read once a second.
    let before = put(&account, WARM_UP).await?;
    let records = put(&account, options.time).await?;
    sleep(SETTLE).await;
    let mut latencies = worker.state().await?.latencies;
    worker.stop().await?;
    if latencies.len() != before + records {
        return Err(BenchError::Consumer {
            consumer: "latency".to_owned(),
            reason: format!(
                "{} records were put and {} came",
                before + records,
                latencies.len()
            ),
        });
    }
    latencies.drain(..before);
    latencies.sort_unstable();
    Ok(Latency {
        records,
        p50: quantile(&latencies, 0.5),
        p99: quantile(&latencies, 0.99),
        most: quantile(&latencies, 1.0),
    })
}

/// Puts records for so long, and tells how many.
async fn put(account: &Account, time: Duration) -> Result<usize, BenchError> {
    let mut ticks = interval(Duration::from_secs(1) / RATE);
    // A late record is no reason to put others too early.
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let began = Instant::now();
    let mut records = 0;
    while began.elapsed() < time {
        ticks.tick().await;
        let now = u64::try_from(boot_time().as_nanos()).unwrap_or(u64::MAX);
        account
            .put(format!("key-{records}"), now.to_le_bytes().to_vec())
            .await?;
        records += 1;
    }
    Ok(records)
}

/// In milliseconds, of sorted microseconds.
fn quantile(sorted: &[u64], part: f64) -> f64 {
    let last = sorted.len().saturating_sub(1);
    let place = (last as f64 * part).round() as usize;
    sorted
        .get(place)
        .map_or(f64::NAN, |micros| *micros as f64 / 1e3)
}

fn broken(all: &[(Way, Latency)]) -> Vec<String> {
    let too_slow = all
        .iter()
        .filter(|(way, latency)| latency.p99 > way.most_millis);
    let line = |(way, latency): &(Way, Latency)| {
        let (name, p99, most) = (way.name, latency.p99, way.most_millis);
        format!("{name}: 99 of 100 records within {p99:.0} ms, at most {most:.0}")
    };
    too_slow.map(line).collect()
}

fn text(all: &[(Way, Latency)], options: &LatencyOptions) -> String {
    let mut table = table::table(&[
        "retrieval",
        "shards",
        "records",
        "p50 ms",
        "p99 ms",
        "at most",
        "longest ms",
    ]);
    for (way, latency) in all {
        table.add_row([
            way.name.to_owned(),
            options.shards.to_string(),
            latency.records.to_string(),
            format!("{:.1}", latency.p50),
            format!("{:.1}", latency.p99),
            format!("{:.0}", way.most_millis),
            format!("{:.1}", latency.most),
        ]);
    }
    table::right(&mut table, 1);
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_of_the_sorted() {
        let micros: Vec<u64> = (0..=100).map(|milli| milli * 1000).collect();
        assert_eq!(quantile(&micros, 0.5), 50.0);
        assert_eq!(quantile(&micros, 0.99), 99.0);
        assert_eq!(quantile(&micros, 1.0), 100.0);
        assert!(quantile(&[], 0.5).is_nan());
    }
}
