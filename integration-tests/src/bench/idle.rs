//! What a worker costs that has nothing to do.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::BenchReport;
use super::account::Account;
use super::error::BenchError;
use super::options::IdleOptions;
use super::table;

/// Pauses have grown to what they stay at, and what the start left behind is gone.
const SETTLE: Duration = Duration::from_secs(15);

/// The bounds go for this many leases.
const MANY: u32 = 10_000;
const MOST_MEMORY: u64 = 500_000_000;
/// Of one core.
const MOST_CPU: f64 = 0.5;
/// Threads for names of hosts and files come and go.
const THREADS_TO_SPARE: usize = 2;

/// A worker with so many leases.
#[derive(Debug, Clone)]
struct Idle {
    leases: u32,
    /// Until it had all of them and had read each shard.
    took: Duration,
    memory: u64,
    peak_memory: u64,
    threads: usize,
    /// Of one core.
    cpu: f64,
    kinesis_per_second: f64,
    dynamodb_per_second: f64,
}

pub(super) async fn measure(options: &IdleOptions) -> Result<BenchReport, BenchError> {
    let mut all = Vec::new();
    for leases in &options.leases {
        all.push(one(*leases, options.time).await?);
    }
    Ok(BenchReport {
        tables: text(&all),
        broken: broken(&all),
    })
}

async fn one(leases: u32, time: Duration) -> Result<Idle, BenchError> {
    let account = Account::start(leases).await?;
    let mut worker = account.work("idle", &[])?;
    let began = Instant::now();
    let all = usize::try_from(leases).unwrap_or(usize::MAX);
    worker
        .until("it has read all shards", |state| {
            state.leases == all && state.caught_up
        })
        .await?;
    let took = began.elapsed();
    sleep(SETTLE).await;
    let (before, calls_before) = (worker.state().await?, account.calls());
    let began = Instant::now();
    sleep(time).await;
    let (after, calls_after) = (worker.state().await?, account.calls());
    let seconds = began.elapsed().as_secs_f64();
    if after.leases != all {
        return Err(BenchError::Consumer {
            consumer: format!("worker with {leases} leases"),
            reason: format!("it has {} leases in the end", after.leases),
        });
    }
    let rate = |after: u64, before: u64| (after - before) as f64 / seconds;
    Ok(Idle {
        leases,
        took,
        memory: after.memory,
        peak_memory: after.peak_memory,
        threads: after.threads,
        cpu: after.cpu.saturating_sub(before.cpu).as_secs_f64() / seconds,
        kinesis_per_second: rate(calls_after.kinesis, calls_before.kinesis),
        dynamodb_per_second: rate(calls_after.dynamodb, calls_before.dynamodb),
    })
}

fn broken(all: &[Idle]) -> Vec<String> {
    let mut broken = Vec::new();
    let fewest = all.iter().map(|idle| idle.threads).min().unwrap_or(0);
    for idle in all {
        let leases = idle.leases;
        if leases <= MANY && idle.memory > MOST_MEMORY {
            let megabytes = idle.memory / 1_000_000;
            broken.push(format!(
                "{leases} leases: {megabytes} MB of memory, at most {}",
                MOST_MEMORY / 1_000_000
            ));
        }
        if leases <= MANY && idle.cpu > MOST_CPU {
            let cpu = idle.cpu;
            broken.push(format!(
                "{leases} leases: {cpu:.2} cores, at most {MOST_CPU}"
            ));
        }
        if idle.threads > fewest + THREADS_TO_SPARE {
            let threads = idle.threads;
            broken.push(format!(
                "{leases} leases: {threads} threads, with fewer {fewest}"
            ));
        }
    }
    broken
}

fn text(all: &[Idle]) -> String {
    let mut table = table::table(&[
        "leases",
        "all read after s",
        "memory MB",
        "peak MB",
        "threads",
        "cores",
        "Kinesis calls / s",
        "DynamoDB calls / s",
    ]);
    for idle in all {
        table.add_row([
            idle.leases.to_string(),
            format!("{:.1}", idle.took.as_secs_f64()),
            format!("{:.0}", idle.memory as f64 / 1e6),
            format!("{:.0}", idle.peak_memory as f64 / 1e6),
            idle.threads.to_string(),
            format!("{:.3}", idle.cpu),
            format!("{:.1}", idle.kinesis_per_second),
            format!("{:.1}", idle.dynamodb_per_second),
        ]);
    }
    table::right(&mut table, 0);
    let megabytes = MOST_MEMORY / 1_000_000;
    format!(
        "{table}\nat most, up to {MANY} leases: {megabytes} MB, {MOST_CPU} cores; threads do not depend on leases"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bound_can_break() {
        let good = Idle {
            leases: 10_000,
            took: Duration::ZERO,
            memory: 400_000_000,
            peak_memory: 600_000_000,
            threads: 5,
            cpu: 0.4,
            kinesis_per_second: 0.0,
            dynamodb_per_second: 0.0,
        };
        let few = Idle {
            leases: 1,
            threads: 4,
            ..good.clone()
        };
        assert_eq!(broken(&[few.clone(), good.clone()]), [""; 0]);
        let bad = Idle {
            memory: 501_000_000,
            cpu: 0.6,
            threads: 7,
            ..good
        };
        assert_eq!(broken(&[few, bad]).len(), 3);
    }
}
