//! Workers that are killed at any moment, with many records in flight that complete in any order: nothing below a stored
//! checkpoint is incomplete, and whoever follows processes the rest.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::time::Duration;

use aws_sdk_kinesis::primitives::Blob;
use aws_sdk_kinesis::types::PutRecordsRequestEntry;
use futures_util::{StreamExt, TryStreamExt, stream};
use kcl_aggregation::{HashKeyRange, PackLimits, Packer, looks_aggregated};
use kcl_core::{Checkpoint, Position, SequenceNumber};
use kcl_emulator::Emulator;
use rustix::process::Signal;

use super::Stage;
use crate::STREAM;
use crate::fleet::cluster::Cluster;
use crate::fleet::error::FleetError;
use crate::fleet::journal::{self, Line, What};
use crate::fleet::process::WorkerProcess;
use crate::fleet::producer;
use crate::fleet::table_watch::{Row, look};

pub(super) const SHARDS: u32 = 2;
/// Kinesis records in each shard. Every third one is an aggregate of [`USER_RECORDS`].
const RECORDS: usize = 600;
const USER_RECORDS: usize = 10;
/// A kill comes at most so long after the first record was complete, some time after the last one.
const LATEST_KILL: Duration = Duration::from_millis(900);
/// A worker process has its first record within this time, on a busy machine too.
const START_LIMIT: Duration = Duration::from_secs(120);
/// Who follows a killed worker is done within this time.
const FOLLOW_LIMIT: Duration = Duration::from_secs(120);
const LOOK: Duration = Duration::from_millis(5);

/// User records by shard, in order.
type Records = BTreeMap<String, Vec<Position>>;
/// The rows of a lease table by shard.
type Rows = BTreeMap<String, Row>;
/// What workers wrote down as complete.
type Completed = BTreeSet<(String, Position)>;

pub(super) async fn play(stage: &mut Stage<'_>) -> Result<(), FleetError> {
    let records = put_all(&stage.cluster, stage.shards).await?;
    let (kills, take_overs) = (stage.options.kills, stage.options.take_overs);
    let cluster = &stage.cluster;
    let records = &records;
    let rounds = stream::iter(0..kills + take_overs).map(|number| async move {
        let round = Round::play(cluster, records, number, number >= kills).await?;
        if number.is_multiple_of(50) {
            tracing::info!(number, "killed");
        }
        Ok::<_, FleetError>(round)
    });
    let rounds: Vec<Round> = rounds
        .buffer_unordered(stage.options.parallel.max(1))
        .try_collect()
        .await?;
    let sum = |of: fn(&Round) -> usize| rounds.iter().map(of).sum::<usize>();
    let in_the_middle = sum(|round| usize::from(round.at_kill.is_in_the_middle()));
    let report = &mut stage.report;
    report.count_at_least("kills", rounds.len(), kills + take_overs);
    report.count_at_least(
        "shards with a stored checkpoint",
        sum(|r| r.at_kill.shards),
        kills / 2,
    );
    report.count_at_least(
        "killed with later records complete",
        in_the_middle,
        kills / 2,
    );
    report.tell_count("records completed", sum(|round| round.at_kill.complete));
    let incomplete = sum(|round| round.at_kill.incomplete_below);
    report.count_at_most("incomplete below a checkpoint", incomplete, 0);
    report.tell_count("taken over", take_overs);
    report.count_at_most("missing after a take-over", sum(|round| round.missing), 0);
    report.tell_count("completed twice", sum(|round| round.twice));
    Ok(())
}

/// One worker that was killed, under an application of its own.
#[derive(Debug, Default)]
struct Round {
    at_kill: Standing,
    /// Records that were not complete after another worker had followed.
    missing: usize,
    /// Records that both completed.
    twice: usize,
}

impl Round {
    async fn play(
        cluster: &Cluster,
        records: &Records,
        number: usize,
        is_followed: bool,
    ) -> Result<Self, FleetError> {
        let application = format!("kills-{number}");
        let launch = cluster.launch_acknowledging(&application);
        let mut worker = launch.start(&format!("{application}-1"))?;
        has_completed(&mut worker).await?;
        let moment = fastrand::Rng::with_seed(number as u64).f64();
        tokio::time::sleep(LATEST_KILL.mul_f64(moment)).await;
        worker.signal(Signal::KILL)?;
        worker.wait(START_LIMIT).await?;
        // A write that was on its way when the process died has landed: the emulator answers at once.
        let rows = look(&cluster.emulator, &application).leases;
        let first = completed(&worker.journal)?;
        let mut round = Self {
            at_kill: Standing::of(records, &rows, &first),
            ..Self::default()
        };
        if is_followed {
            let mut next = launch.start(&format!("{application}-2"))?;
            has_followed(&cluster.emulator, &application, records, &mut next).await?;
            next.signal(Signal::TERM)?;
            next.wait(FOLLOW_LIMIT).await?;
            let second = completed(&next.journal)?;
            round.missing = missing(records, &first, &second);
            round.twice = first.intersection(&second).count();
            clean_up(&next)?;
        }
        clean_up(&worker)?;
        cluster.remove_consumer(&application).await?;
        Ok(round)
    }
}

/// What the table and the log of a killed worker say.
#[derive(Debug, Default, PartialEq, Eq)]
struct Standing {
    /// Shards with a stored checkpoint.
    shards: usize,
    complete: usize,
    /// Records at or before a stored checkpoint that were not complete. None may be.
    incomplete_below: usize,
    /// Records behind one that was not complete. Without any, the kill shows little.
    complete_above: usize,
}

impl Standing {
    fn of(records: &Records, rows: &Rows, completed: &Completed) -> Self {
        let mut standing = Self {
            complete: completed.len(),
            ..Self::default()
        };
        for (shard, positions) in records {
            let is_complete =
                |position: &Position| completed.contains(&(shard.clone(), position.clone()));
            let stored = rows.get(shard).and_then(checkpoint);
            let below = positions.iter().filter(|position| {
                stored
                    .as_ref()
                    .is_some_and(|stored| Checkpoint::At((*position).clone()) <= *stored)
            });
            let below: Vec<&Position> = below.collect();
            standing.shards += usize::from(!below.is_empty());
            standing.incomplete_below += below.iter().filter(|p| !is_complete(p)).count();
            let behind_a_gap = positions
                .iter()
                .skip_while(|position| is_complete(position));
            standing.complete_above += behind_a_gap.filter(|p| is_complete(p)).count();
        }
        standing
    }

    fn is_in_the_middle(&self) -> bool {
        self.shards > 0 && self.complete_above > 0
    }
}

/// How many records neither worker completed.
fn missing(records: &Records, first: &Completed, second: &Completed) -> usize {
    let all = records.iter().flat_map(|(shard, positions)| {
        let named = |position: &Position| (shard.clone(), position.clone());
        positions.iter().map(named).collect::<Vec<_>>()
    });
    all.filter(|record| !first.contains(record) && !second.contains(record))
        .count()
}

fn checkpoint(row: &Row) -> Option<Checkpoint> {
    Checkpoint::from_attributes(&row.checkpoint, row.sub_sequence_number).ok()
}

fn completed(journal: &Path) -> Result<Completed, FleetError> {
    let lines = journal::read(journal)
        .map_err(|error| FleetError::system("cannot read a journal", error))?;
    let record = |line: Line| match line.what {
        What::Completed {
            shard,
            sequence,
            sub,
        } => Some((shard, position(&sequence, sub)?)),
        _ => None,
    };
    Ok(lines.into_iter().filter_map(record).collect())
}

fn position(sequence: &str, sub: u64) -> Option<Position> {
    Some(Position::new(SequenceNumber::parse(sequence).ok()?, sub))
}

async fn has_completed(worker: &mut WorkerProcess) -> Result<(), FleetError> {
    let journal = worker.journal.clone();
    until(worker, "completes a record", START_LIMIT, LOOK, || {
        Ok(!completed(&journal)?.is_empty())
    })
    .await
}

/// Waits until everything is stored as complete.
async fn has_followed(
    emulator: &Emulator,
    application: &str,
    records: &Records,
    worker: &mut WorkerProcess,
) -> Result<(), FleetError> {
    let what = "has processed what was left";
    until(worker, what, FOLLOW_LIMIT, LOOK * 10, || {
        let rows = look(emulator, application).leases;
        Ok(records.iter().all(|(shard, positions)| {
            let stored = rows.get(shard).and_then(checkpoint);
            stored >= positions.last().cloned().map(Checkpoint::At)
        }))
    })
    .await
}

/// Waits until something holds of a worker, which must not end meanwhile.
async fn until(
    worker: &mut WorkerProcess,
    what: &str,
    limit: Duration,
    look_every: Duration,
    holds: impl Fn() -> Result<bool, FleetError>,
) -> Result<(), FleetError> {
    let end = tokio::time::Instant::now() + limit;
    while !holds()? {
        worker.must_run()?;
        if tokio::time::Instant::now() >= end {
            let what = format!("{} {what}", worker.name);
            return Err(FleetError::TooLate { what, limit });
        }
        tokio::time::sleep(look_every).await;
    }
    Ok(())
}

fn clean_up(worker: &WorkerProcess) -> Result<(), FleetError> {
    for file in [&worker.journal, &worker.log] {
        std::fs::remove_file(file)
            .map_err(|error| FleetError::system("cannot remove a journal", error))?;
    }
    Ok(())
}

/// Fills the shards. Returns what there is to complete.
async fn put_all(cluster: &Cluster, shards: u32) -> Result<Records, FleetError> {
    let aggregate = aggregate()?;
    let width = u128::MAX / u128::from(shards);
    for shard in 0..shards {
        let hash_key = width * u128::from(shard) + width / 2;
        for first in (0..RECORDS).step_by(100) {
            let entries = (first..first + 100).map(|number| {
                let data = match number.is_multiple_of(3) {
                    true => aggregate.clone(),
                    false => number.to_string().into_bytes(),
                };
                PutRecordsRequestEntry::builder()
                    .partition_key("key")
                    .explicit_hash_key(hash_key.to_string())
                    .data(Blob::new(data))
                    .build()
                    .map_err(|error| FleetError::service("cannot make a record", error))
            });
            let entries = entries.collect::<Result<_, _>>()?;
            producer::put_all(&cluster.kinesis, entries).await?;
        }
    }
    Ok(records(&cluster.emulator))
}

fn aggregate() -> Result<Vec<u8>, FleetError> {
    let mut packer = Packer::new([HashKeyRange::FULL], PackLimits::default());
    for number in 0..USER_RECORDS {
        packer
            .add("key", None, number.to_string().as_bytes())
            .map_err(|error| FleetError::service("cannot make an aggregate", error))?;
    }
    let packed = packer.flush().into_iter().next();
    Ok(packed
        .map(|packed| packed.data.to_vec())
        .unwrap_or_default())
}

/// All user records, as the emulator stored them.
fn records(emulator: &Emulator) -> Records {
    let mut records = Records::new();
    for stored in emulator.records(STREAM) {
        let user_records = match looks_aggregated(&stored.data) {
            true => USER_RECORDS as u64,
            false => 1,
        };
        let sequence = stored.sequence_number.to_string();
        let positions = (0..user_records).filter_map(|sub| position(&sequence, sub));
        let of_shard = records.entry(stored.shard_id).or_default();
        of_shard.extend(positions);
    }
    records
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(number: u64, sub: u64) -> Position {
        position(&number.to_string(), sub).unwrap()
    }

    fn row(number: u64, sub: u64) -> Row {
        Row {
            owner: None,
            checkpoint: number.to_string(),
            sub_sequence_number: sub,
            counter: 1,
        }
    }

    #[test]
    fn what_is_incomplete_below_a_checkpoint_is_found() {
        let shard = || "s".to_owned();
        let positions = vec![at(1, 0), at(2, 0), at(2, 1), at(3, 0)];
        let records = Records::from([(shard(), positions)]);
        let standing = |row, completed: &[Position]| {
            let completed = completed.iter().map(|at| (shard(), at.clone())).collect();
            Standing::of(&records, &Rows::from([(shard(), row)]), &completed)
        };
        let fine = standing(row(2, 0), &[at(1, 0), at(2, 0), at(3, 0)]);
        assert_eq!((fine.incomplete_below, fine.complete_above), (0, 1));
        assert!(fine.is_in_the_middle());
        let bad = standing(row(2, 1), &[at(1, 0), at(2, 0), at(3, 0)]);
        assert_eq!(bad.incomplete_below, 1);
        let worse = standing(row(3, 0), &[]);
        assert_eq!((worse.incomplete_below, worse.complete), (4, 0));
        let start = Row {
            checkpoint: "TRIM_HORIZON".to_owned(),
            ..row(0, 0)
        };
        assert_eq!(standing(start, &[]), Standing::default());
    }

    #[test]
    fn what_neither_completed_is_missing() {
        let records = Records::from([("s".to_owned(), vec![at(1, 0), at(2, 0), at(3, 0)])]);
        let of = |number| Completed::from([("s".to_owned(), at(number, 0))]);
        assert_eq!(missing(&records, &of(1), &of(3)), 1);
    }
}
