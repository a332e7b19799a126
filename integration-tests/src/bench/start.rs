//! How long a worker takes from its start to the first record.

use std::time::Duration;

use super::BenchReport;
use super::account::Account;
use super::error::BenchError;
use super::options::StartOptions;
use super::result::median;
use super::table;

/// The bound goes for this many shards, and fewer, on a table that exists.
const MANY: u32 = 1_000;
const LONGEST: Duration = Duration::from_secs(2);

/// Starts of one kind.
#[derive(Debug, Clone)]
struct Starts {
    shards: u32,
    kind: Kind,
    rounds: Vec<Start>,
}

#[derive(Debug, Clone, Copy)]
struct Start {
    first: Duration,
    all: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// There is no table, and nobody ever ran.
    Cold,
    /// A worker ran before, and was stopped.
    Warm,
}

impl Kind {
    fn name(self) -> &'static str {
        match self {
            Self::Cold => "cold",
            Self::Warm => "warm",
        }
    }
}

pub(super) async fn measure(options: &StartOptions) -> Result<BenchReport, BenchError> {
    let mut all = Vec::new();
    for shards in &options.shards {
        let (mut cold, mut warm) = (Vec::new(), Vec::new());
        for _ in 0..options.rounds {
            let account = Account::start(*shards).await?;
            cold.push(one(&account, *shards).await?);
            warm.push(one(&account, *shards).await?);
        }
        for (kind, rounds) in [(Kind::Cold, cold), (Kind::Warm, warm)] {
            all.push(Starts {
                shards: *shards,
                kind,
                rounds,
            });
        }
    }
    Ok(BenchReport {
        tables: text(&all),
        broken: broken(&all),
    })
}

/// One start; a record waits in every shard.
async fn one(account: &Account, shards: u32) -> Result<Start, BenchError> {
    account.put_into_each().await?;
    let mut worker = account.work("start", &[])?;
    let all = usize::try_from(shards).unwrap_or(usize::MAX);
    let state = worker
        .until("records of all shards came", |state| state.shards == all)
        .await?;
    // What it has done is stored when it stops.
    worker.stop().await?;
    let missing = || BenchError::Consumer {
        consumer: format!("worker with {shards} shards"),
        reason: "it had no record".to_owned(),
    };
    Ok(Start {
        first: state.first_record.ok_or_else(missing)?,
        all: state.last_shard.ok_or_else(missing)?,
    })
}

impl Starts {
    fn first(&self) -> f64 {
        median(self.rounds.iter().map(|start| start.first.as_secs_f64()))
    }

    fn all(&self) -> f64 {
        median(self.rounds.iter().map(|start| start.all.as_secs_f64()))
    }

    fn is_bound(&self) -> bool {
        self.kind == Kind::Warm && self.shards <= MANY
    }
}

fn broken(all: &[Starts]) -> Vec<String> {
    let too_slow = all
        .iter()
        .filter(|starts| starts.is_bound() && starts.first() > LONGEST.as_secs_f64());
    let line = |starts: &Starts| {
        let (kind, shards, first) = (starts.kind.name(), starts.shards, starts.first());
        format!(
            "{kind} start with {shards} shards: first record after {first:.2} s, at most {LONGEST:?}"
        )
    };
    too_slow.map(line).collect()
}

fn text(all: &[Starts]) -> String {
    let mut table = table::table(&[
        "start",
        "shards",
        "first record ms",
        "slowest round ms",
        "at most",
        "records of all shards ms",
    ]);
    let millis = |seconds: f64| format!("{:.0}", seconds * 1e3);
    for starts in all {
        let slowest = starts.rounds.iter().map(|start| start.first).max();
        let bound = starts.is_bound().then(|| millis(LONGEST.as_secs_f64()));
        table.add_row([
            starts.kind.name().to_owned(),
            starts.shards.to_string(),
            millis(starts.first()),
            millis(slowest.unwrap_or_default().as_secs_f64()),
            bound.unwrap_or_default(),
            millis(starts.all()),
        ]);
    }
    table::right(&mut table, 1);
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_start_on_a_table_that_exists_breaks_the_bound() {
        let starts = |kind, seconds| Starts {
            shards: 1_000,
            kind,
            rounds: vec![Start {
                first: Duration::from_secs(seconds),
                all: Duration::from_secs(60),
            }],
        };
        assert_eq!(
            broken(&[starts(Kind::Warm, 2), starts(Kind::Cold, 3)]),
            [""; 0]
        );
        assert_eq!(broken(&[starts(Kind::Warm, 3)]).len(), 1);
    }
}
