//! How many instructions the framework takes for a record beside a bare loop, counted by `valgrind`.

use std::process::Stdio;

use kcl_core::Wire;
use tokio::process::Command;

use super::BenchReport;
use super::case::Case;
use super::count::{COUNT, Counted};
use super::error::BenchError;
use super::in_process::WasRead;
use super::options::{InstructionsOptions, name};
use super::result::MOST_FRAMEWORK_COST;
use super::table;

/// Answers of each shard in the shorter and in the longer run. What the longer one executes more is what answers take, without
/// start and first answers.
const ANSWERS: [u64; 2] = [30, 90];

#[derive(Debug, Clone, Copy)]
struct Job {
    case: Case,
    wire: Wire,
    shards: u32,
}

/// Instructions for a user record.
#[derive(Debug, Clone, Copy)]
struct Cost {
    job: Job,
    limit: u16,
    bare: f64,
    framework: f64,
}

impl Cost {
    fn ratio(&self) -> f64 {
        self.framework / self.bare
    }
}

pub(super) async fn measure(options: &InstructionsOptions) -> Result<BenchReport, BenchError> {
    let mut costs = Vec::new();
    for case in super::options::cases(&options.case) {
        for wire in [Wire::Json, Wire::Cbor] {
            for shards in &options.shards {
                let shards = *shards;
                costs.push(one(Job { case, wire, shards }).await?);
            }
        }
    }
    Ok(BenchReport {
        tables: text(&costs),
        broken: broken(&costs),
    })
}

async fn one(job: Job) -> Result<Cost, BenchError> {
    let (framework, limit) = per_record(job, Counted::Framework, job.case.limit()).await?;
    let (bare, _) = per_record(job, Counted::Bare, limit).await?;
    let (serve, _) = per_record(job, Counted::Serve, limit).await?;
    Ok(Cost {
        job,
        limit,
        bare: bare - serve,
        framework: framework - serve,
    })
}

/// Instructions for a user record, and how many Kinesis records an answer had.
async fn per_record(job: Job, what: Counted, limit: u16) -> Result<(f64, u16), BenchError> {
    let [short, long] = ANSWERS.map(|answers| answers * u64::from(job.shards));
    let (short, read_in_short) = count(job, what, limit, short).await?;
    let (long, read_in_long) = count(job, what, limit, long).await?;
    let records = read_in_long.records - read_in_short.records;
    let answers = read_in_long.answers - read_in_short.answers;
    let kinesis_records = records / job.case.users() as u64;
    let per_answer = u16::try_from(kinesis_records / answers.max(1)).unwrap_or(u16::MAX);
    let instructions = long.saturating_sub(short) as f64 / records.max(1) as f64;
    Ok((instructions, per_answer.max(1)))
}

/// Runs a process that reads so many answers. Returns the instructions it executed.
async fn count(
    job: Job,
    what: Counted,
    limit: u16,
    answers: u64,
) -> Result<(u64, WasRead), BenchError> {
    let program = std::env::current_exe()
        .map_err(|error| BenchError::system("cannot find this program", error))?;
    let done = Command::new("valgrind")
        .args(["--tool=callgrind", "--callgrind-out-file=/dev/null"])
        .arg(program)
        .arg(COUNT)
        .arg(format!("--what={}", name(&what)))
        .arg(format!("--case={}", job.case.name()))
        .args((job.wire == Wire::Cbor).then_some("--cbor"))
        .arg(format!("--shards={}", job.shards))
        .arg(format!("--limit={limit}"))
        .arg(format!("--answers={answers}"))
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .map_err(|error| BenchError::system("cannot run valgrind, which counts", error))?;
    let said = String::from_utf8_lossy(&done.stderr);
    let read = serde_json::from_slice(&done.stdout).ok();
    collected(&said)
        .zip(read)
        .ok_or_else(|| BenchError::Consumer {
            consumer: format!("{} under valgrind", name(&what)),
            reason: said.into_owned(),
        })
}

/// What `valgrind` says in the end: `==1== Collected : 123`.
fn collected(said: &str) -> Option<u64> {
    let line = said.lines().find(|line| line.contains("Collected :"))?;
    line.rsplit(' ').next()?.parse().ok()
}

fn broken(costs: &[Cost]) -> Vec<String> {
    let too_dear = costs
        .iter()
        .filter(|cost| cost.ratio() > MOST_FRAMEWORK_COST);
    let line = |cost: &Cost| {
        let Job { case, wire, shards } = cost.job;
        let (case, ratio) = (case.name(), cost.ratio());
        format!(
            "{case} {wire:?}, {shards} shards: {ratio:.3} times the instructions of a bare loop, at most {MOST_FRAMEWORK_COST}"
        )
    };
    too_dear.map(line).collect()
}

fn text(costs: &[Cost]) -> String {
    let mut table = table::table(&[
        "records",
        "answer",
        "wire",
        "shards",
        "bare loop / record",
        "worker / record",
        "ratio",
        "at most",
    ]);
    for cost in costs {
        table.add_row([
            cost.job.case.name().to_owned(),
            cost.limit.to_string(),
            format!("{:?}", cost.job.wire),
            cost.job.shards.to_string(),
            format!("{:.1}", cost.bare),
            format!("{:.1}", cost.framework),
            format!("{:.3}", cost.ratio()),
            format!("{MOST_FRAMEWORK_COST:.2}"),
        ]);
    }
    table::right(&mut table, 3);
    table.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_number_is_found() {
        let said = "==7== Callgrind\n==7== Events    : Ir\n==7== Collected : 285732\n==7== \n";
        assert_eq!(collected(said), Some(285_732));
        assert_eq!(collected("valgrind: no such program"), None);
    }

    #[test]
    fn a_dear_worker_breaks_the_bound() {
        let cost = |framework| Cost {
            job: Job {
                case: Case::Bytes100,
                wire: Wire::Cbor,
                shards: 1,
            },
            limit: 1000,
            bare: 100.0,
            framework,
        };
        assert_eq!(broken(&[cost(110.0)]), [""; 0]);
        assert_eq!(broken(&[cost(111.0)]).len(), 1);
    }
}
