//! What is done to the fleet, and what is expected of it.

mod deploy;
mod failover;
mod idle;
mod join;
mod kills;
mod outage;
mod reshard;
mod scale;
mod zombie;

use std::time::Duration;

use super::clock::At;
use super::cluster::{Cluster, DRAIN_BUDGET};
use super::deeds::Did;
use super::error::FleetError;
use super::history::History;
use super::judge;
use super::options::{FleetOptions, Scenario};
use super::report::Report;

const SHARDS: u32 = 8;
const WORKERS: usize = 3;
/// The whole of a fleet owns all shards within this time of its start, or of anybody's end, on a slow machine too.
const SETTLE_LIMIT: Duration = Duration::from_secs(60);
/// So much more than the lease duration a takeover may take.
const TAKEOVER_MARGIN: Duration = Duration::from_secs(3);
/// How long a shard may rest when it moves as planned.
const PLANNED_PAUSE: Duration = Duration::from_secs(1);
/// The same by enhanced fan-out: the service refuses a second subscription within five seconds of the first one.
const PLANNED_PAUSE_FAN_OUT: Duration = Duration::from_secs(6);
/// No part of a scenario takes longer.
const PART_LIMIT: Duration = Duration::from_secs(600);
/// No worker is killed, and followed, in a longer time.
const ROUND_LIMIT: Duration = Duration::from_secs(30);

/// Plays a scenario, or all of them; returns the figures of each part.
///
/// # Errors
/// When a scenario could not be played to its end.
///
/// # Cancellation
/// Dropping the future kills all workers.
pub async fn run(options: &FleetOptions) -> Result<Vec<Report>, FleetError> {
    use Scenario as S;
    let scenarios = match options.scenario {
        S::All => vec![
            S::Failover,
            S::Deploy,
            S::Join,
            S::Reshard,
            S::Zombie,
            S::Outage,
            S::Idle,
            S::Scale,
        ],
        one => vec![one],
    };
    let mut reports = Vec::new();
    for scenario in scenarios {
        match scenario {
            S::Failover => reports.extend(failover::play(options).await?),
            S::Deploy => reports.push(part("deploy", options, deploy::play).await?),
            S::Join => reports.push(part("join", options, join::play).await?),
            S::Reshard => reports.push(part("reshard", options, reshard::play).await?),
            S::Zombie => reports.push(part("zombie", options, zombie::play).await?),
            S::Outage => reports.push(part("outage", options, outage::play).await?),
            S::Scale => reports.push(part("scale", options, scale::play).await?),
            S::Kills => reports.push(part("kills", options, kills::play).await?),
            S::Idle | S::All => reports.push(part("idle", options, idle::play).await?),
        }
    }
    Ok(reports)
}

/// A cluster and what is wanted of it.
struct Stage<'a> {
    cluster: Cluster,
    options: &'a FleetOptions,
    /// How many shards the stream begins with.
    shards: u32,
    report: Report,
}

/// Plays one part on a cluster of its own, within a time limit, and cleans up after it.
async fn part<'a, Play>(
    name: &str,
    options: &'a FleetOptions,
    play: Play,
) -> Result<Report, FleetError>
where
    Play: AsyncFnOnce(&mut Stage<'a>) -> Result<(), FleetError>,
{
    let shards = options.shards.unwrap_or(match options.scenario {
        _ if name == "scale" => scale::SHARDS,
        _ if name == "idle" => 1,
        _ if name == "kills" => kills::SHARDS,
        _ => SHARDS,
    });
    tracing::info!(name, shards, "a part begins");
    // Several applications read the stream of `kills` at a time: within its limits they would wait for one another.
    let throttling = name != "kills";
    let cluster = Cluster::start(name, shards, options, throttling).await?;
    let mut stage = Stage {
        cluster,
        options,
        shards,
        report: Report::new(name),
    };
    let rounds = u32::try_from(options.kills + options.take_overs).unwrap_or(u32::MAX);
    let limit = match name {
        "kills" => ROUND_LIMIT.saturating_mul(rounds),
        _ => PART_LIMIT + options.measure,
    };
    let played = tokio::time::timeout(limit, play(&mut stage)).await;
    let what = || format!("{name} is played to its end");
    played.map_err(|_| FleetError::TooLate {
        what: what(),
        limit,
    })??;
    let directory = stage.cluster.directory();
    let kept = options.keep || !stage.report.broken().is_empty();
    if kept {
        tracing::warn!(name, directory = %directory.display(), "journals and logs are kept");
    } else {
        std::fs::remove_dir_all(&directory).map_err(|error| {
            FleetError::system(format!("cannot remove {}", directory.display()), error)
        })?;
    }
    Ok(stage.report)
}

impl Stage<'_> {
    fn workers(&self) -> usize {
        self.options.workers.unwrap_or(WORKERS)
    }

    /// Starts so many workers under load, and lets them come to rest. What follows is measured.
    async fn settle(&mut self, workers: usize) -> Result<(), FleetError> {
        self.cluster.watch_table();
        self.cluster.start_producer();
        self.cluster.add_workers(workers).await?;
        self.balanced("balanced at the start").await?;
        // A heartbeat of everybody was seen by everybody, and deputies are named.
        self.cluster.calm(self.options.calm).await?;
        self.cluster.deeds.note(Did::Measure);
        Ok(())
    }

    /// Waits for balance, and tells whether it came.
    async fn balanced(&mut self, name: &str) -> Result<(), FleetError> {
        let limit = self.options.lease_duration * 3;
        self.cluster.owned(SETTLE_LIMIT).await?;
        let balanced = self.cluster.balanced(limit).await?;
        self.report.count_at_least(name, usize::from(balanced), 1);
        Ok(())
    }

    async fn calm(&mut self) -> Result<(), FleetError> {
        self.cluster.calm(self.options.calm).await
    }

    /// Replaces a worker as a rolling deployment does.
    async fn replace(&mut self, old: &str) -> Result<(), FleetError> {
        let new = self.cluster.add_worker()?;
        self.cluster.has_session(&new).await?;
        self.cluster.terminate(old)?;
        self.cluster.all_left().await?;
        self.cluster.owned(SETTLE_LIMIT).await?;
        self.calm().await
    }

    /// Ends the run and judges what holds in every scenario.
    async fn finish(&mut self) -> Result<History, FleetError> {
        let history = self.cluster.finish().await?;
        let records = judge::deliveries(&history);
        self.report.count_at_least("records", records.put, 1);
        self.report.count_at_most("missing", records.missing, 0);
        self.report
            .count_at_most("out of order", records.out_of_order, 0);
        self.report.count_at_most("unknown", records.unknown, 0);
        let stale = judge::stale_checkpoints(&history);
        self.report
            .count_at_most("stale checkpoints applied", stale, 0);
        self.judge_exits(&history);
        Ok(history)
    }

    fn judge_exits(&mut self, history: &History) {
        let exits = judge::exits(history);
        let unclean = exits.iter().filter(|(_, _, code)| *code != Some(0)).count();
        self.report.count_at_most("unclean exits", unclean, 0);
        let slowest = exits.iter().map(|(_, time, _)| *time).max();
        self.report
            .time_at_most("slowest exit", slowest, DRAIN_BUDGET);
    }

    /// What a deploy and a join promise besides.
    fn judge_planned_moves(&mut self, history: &History) {
        let (from, to) = measured(history);
        let records = judge::deliveries(history);
        self.report
            .count_at_most("duplicates", records.duplicates, 0);
        let pauses = judge::pauses(history, from, to);
        for pause in &pauses {
            tracing::info!(shard = pause.shard, length = ?pause.length, at = ?pause.at, "moved");
        }
        let lengths: Vec<Duration> = pauses.iter().map(|pause| pause.length).collect();
        self.report
            .count_at_least("moves", judge::moves(history, from, to), 1);
        self.report
            .tell_time("pause p50", judge::percentile(lengths.clone(), 50));
        let p99 = judge::percentile(lengths.clone(), 99);
        match self.options.retrieval.subscribes() {
            false => self.report.time_at_most("pause p99", p99, PLANNED_PAUSE),
            true => {
                self.report.tell_time("pause p99", p99);
                let longest = judge::percentile(lengths, 100);
                self.report
                    .time_at_most("longest pause", longest, PLANNED_PAUSE_FAN_OUT);
            }
        }
        self.report.tell_time(
            "longest silence",
            Some(judge::longest_silence(history, from, to)),
        );
    }

    /// Without reshards there is no reason to give a lease to a worker that stops. (The children of a shard that it finishes
    /// it takes itself, so that they start at once, and hands them on.)
    fn judge_gifts(&mut self, history: &History) {
        let gifts = judge::gifts_to_the_leaving(history);
        self.report
            .count_at_most("leases given to the leaving", gifts, 0);
    }

    /// The takeover of a worker's shards after `at`.
    fn judge_takeover(&mut self, history: &History, worker: &str, at: At) {
        let taken = judge::takeovers(history, worker, at);
        self.report
            .count_at_least("shards taken over", taken.len(), 1);
        // None is more than any time: a shard that was not taken over must not be lost in a maximum.
        let slowest = taken.values().copied().collect::<Option<Vec<_>>>();
        let slowest = slowest.and_then(|times| times.into_iter().max());
        let limit = self.options.lease_duration + TAKEOVER_MARGIN;
        self.report.time_at_most("slowest takeover", slowest, limit);
        let records = judge::deliveries(history);
        self.report.tell_count("duplicates", records.duplicates);
    }
}

/// The time from rest to the end of the producer.
fn measured(history: &History) -> (At, At) {
    let from = history.when(&Did::Measure).unwrap_or_default();
    let to = history.when(&Did::Finish).unwrap_or(At::MAX);
    (from, to)
}
