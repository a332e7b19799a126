//! From what happened to figures. Pure functions over a [`History`].

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use kcl_core::Checkpoint;

use super::clock::At;
use super::deeds::Did;
use super::history::{History, Told};
use super::journal::{RecordLine, What};
use super::table_watch::RowSeen;

/// A hand-over that was decided before a worker was told to stop may reach the table this much later.
const UNDER_WAY: Duration = Duration::from_millis(500);

/// What became of the records.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Deliveries {
    pub(super) put: usize,
    /// Put and never delivered.
    pub(super) missing: usize,
    /// Delivered again.
    pub(super) duplicates: usize,
    /// Delivered for the first time after a later record of the same key, or out of the shard's order within one grant.
    pub(super) out_of_order: usize,
    /// Delivered and never put.
    pub(super) unknown: usize,
}

/// The shard's own order and each key's order. A record that comes again (after a kill) only counts as a duplicate.
pub(super) fn deliveries(history: &History) -> Deliveries {
    let put: BTreeSet<(&str, &str)> = history
        .put
        .iter()
        .map(|put| (put.shard.as_str(), put.sequence.as_str()))
        .collect();
    let mut figures = Deliveries {
        put: put.len(),
        ..Deliveries::default()
    };
    let mut seen = BTreeSet::new();
    let mut newest_of_key: BTreeMap<&str, u64> = BTreeMap::new();
    let mut newest_of_grant: BTreeMap<(&str, &str, u64), Checkpoint> = BTreeMap::new();
    for (worker, record) in records(history) {
        let id = (record.shard.as_str(), record.sequence.as_str());
        figures.unknown += usize::from(!put.contains(&id));
        let first = seen.insert(id);
        figures.duplicates += usize::from(!first);
        let late_in_key = first
            && newest_of_key
                .insert(&record.key, record.number)
                .is_some_and(|newest| newest >= record.number);
        let position = checkpoint(&record.sequence);
        let late_in_grant = newest_of_grant
            .insert((worker, &record.shard, record.epoch), position.clone())
            .is_some_and(|newest| newest >= position);
        figures.out_of_order += usize::from(late_in_key || late_in_grant);
    }
    figures.missing = put.difference(&seen).count();
    figures
}

fn records(history: &History) -> impl Iterator<Item = (&str, &RecordLine)> {
    history.told.iter().filter_map(|told| match &told.what {
        What::Record(record) => Some((told.worker.as_str(), record)),
        _ => None,
    })
}

fn checkpoint(text: &str) -> Checkpoint {
    Checkpoint::from_attributes(text, 0).unwrap_or(Checkpoint::TrimHorizon)
}

/// How long a shard rested when it moved from one grant to the next.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Pause {
    pub(super) shard: String,
    pub(super) at: At,
    pub(super) length: Duration,
}

/// Each move of a shard between `from` and `to`: from the last delivery of the one grant, or the arrival of the next
/// record if that was later (the producer's gap), to the first delivery of the next grant.
pub(super) fn pauses(history: &History, from: At, to: At) -> Vec<Pause> {
    let arrived: BTreeMap<(&str, &str), At> = history
        .put
        .iter()
        .map(|put| ((put.shard.as_str(), put.sequence.as_str()), put.at))
        .collect();
    let mut last: BTreeMap<&str, (At, &str, u64)> = BTreeMap::new();
    let mut pauses = Vec::new();
    for told in &history.told {
        let What::Record(record) = &told.what else {
            continue;
        };
        let before = last.insert(&record.shard, (told.at, &told.worker, record.epoch));
        let Some((ended, worker, epoch)) = before else {
            continue;
        };
        let moved = worker != told.worker || epoch != record.epoch;
        if moved && from <= told.at && told.at < to {
            let id = (record.shard.as_str(), record.sequence.as_str());
            let waiting = arrived.get(&id).copied().unwrap_or(ended).max(ended);
            pauses.push(Pause {
                shard: record.shard.clone(),
                at: told.at,
                length: told.at.saturating_sub(waiting),
            });
        }
    }
    pauses
}

/// The longest time for which any shard had a record waiting and nothing was delivered.
pub(super) fn longest_silence(history: &History, from: At, to: At) -> Duration {
    let arrived: BTreeMap<(&str, &str), At> = history
        .put
        .iter()
        .map(|put| ((put.shard.as_str(), put.sequence.as_str()), put.at))
        .collect();
    let mut last: BTreeMap<&str, At> = BTreeMap::new();
    let mut longest = Duration::ZERO;
    for told in &history.told {
        let What::Record(record) = &told.what else {
            continue;
        };
        let id = (record.shard.as_str(), record.sequence.as_str());
        let before = last.insert(&record.shard, told.at);
        if from <= told.at
            && told.at < to
            && let Some(arrival) = arrived.get(&id)
        {
            let waiting = before.map_or(*arrival, |before| before.max(*arrival));
            longest = longest.max(told.at.saturating_sub(waiting));
        }
    }
    longest
}

/// The n-th percentile, by the nearest rank; none of nothing.
pub(super) fn percentile(mut values: Vec<Duration>, n: usize) -> Option<Duration> {
    values.sort_unstable();
    let rank = (values.len() * n).div_ceil(100).max(1);
    values.get(rank - 1).copied()
}

/// For each shard that `worker` owned at `at`: how long after that another worker first delivered from it. None for a
/// shard that nobody consumed any more.
pub(super) fn takeovers(
    history: &History,
    worker: &str,
    at: At,
) -> BTreeMap<String, Option<Duration>> {
    let owned = owners_at(&history.rows, at);
    let owned = owned.into_iter().filter(|(_, owner)| *owner == worker);
    let mut taken: BTreeMap<String, Option<Duration>> =
        owned.map(|(shard, _)| (shard.to_owned(), None)).collect();
    for told in &history.told {
        if let What::Record(record) = &told.what
            && told.at > at
            && told.worker != worker
            && let Some(taken @ None) = taken.get_mut(&record.shard)
        {
            *taken = Some(told.at - at);
        }
    }
    taken
}

/// Who owns which unfinished shard at `at`.
fn owners_at(rows: &[RowSeen], at: At) -> BTreeMap<&str, &str> {
    let mut owners = BTreeMap::new();
    for seen in rows.iter().take_while(|seen| seen.at <= at) {
        let row = seen.row.as_ref().filter(|row| !row.is_finished());
        match row.and_then(|row| row.owner.as_deref()) {
            Some(owner) => owners.insert(seen.shard.as_str(), owner),
            None => owners.remove(seen.shard.as_str()),
        };
    }
    owners
}

/// For each shard that is open after `at`: how long after it anything was delivered from it.
pub(super) fn resumed_after(history: &History, at: At) -> BTreeMap<String, Option<Duration>> {
    let put = history.put.iter().filter(|put| put.at >= at);
    let mut resumed: BTreeMap<String, Option<Duration>> =
        put.map(|put| (put.shard.clone(), None)).collect();
    for told in &history.told {
        if let What::Record(record) = &told.what
            && told.at >= at
            && let Some(resumed @ None) = resumed.get_mut(&record.shard)
        {
            *resumed = Some(told.at - at);
        }
    }
    resumed
}

/// How often an unfinished shard went from one owner to another between `from` and `to`.
pub(super) fn moves(history: &History, from: At, to: At) -> usize {
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    let mut moves = 0;
    for seen in &history.rows {
        let owner = seen.row.as_ref().and_then(|row| row.owner.as_deref());
        if let Some(owner) = owner {
            let before = owners.insert(&seen.shard, owner);
            let moved = before.is_some_and(|before| before != owner);
            moves += usize::from(moved && from <= seen.at && seen.at < to);
        }
    }
    moves
}

/// How often a lease was given to a worker that was dead, or had been told to stop.
pub(super) fn gifts_to_the_leaving(history: &History) -> usize {
    let mut leaving: BTreeMap<&str, At> = BTreeMap::new();
    for deed in &history.deeds {
        match &deed.what {
            Did::Terminated(worker) | Did::Killed(worker) | Did::Exited(worker, _) => {
                leaving.entry(worker).or_insert(deed.at);
            }
            _ => {}
        }
    }
    let mut owners: BTreeMap<&str, &str> = BTreeMap::new();
    let mut gifts = 0;
    for seen in &history.rows {
        let Some(row) = &seen.row else {
            continue;
        };
        let Some(owner) = row.owner.as_deref() else {
            owners.remove(seen.shard.as_str());
            continue;
        };
        let new = owners.insert(&seen.shard, owner) != Some(owner);
        let late = leaving
            .get(owner)
            .is_some_and(|left| seen.at > *left + UNDER_WAY);
        gifts += usize::from(new && late);
    }
    gifts
}

/// How long each worker that was told to stop took to end, and with which exit code. None if it was seen to the end only
/// by force.
pub(super) fn exits(history: &History) -> Vec<(String, Duration, Option<i32>)> {
    let told = history.deeds.iter().filter_map(|deed| match &deed.what {
        Did::Terminated(worker) => Some((worker, deed.at)),
        _ => None,
    });
    told.filter_map(|(worker, at)| {
        history.deeds.iter().find_map(|deed| match &deed.what {
            Did::Exited(name, code) if name == worker => {
                Some((worker.clone(), deed.at.saturating_sub(at), *code))
            }
            _ => None,
        })
    })
    .collect()
}

/// For each child with these parents: how long after the last parent's end its processor started. None if it never did.
pub(super) fn child_starts(
    history: &History,
    parents: &BTreeMap<String, Vec<String>>,
) -> BTreeMap<String, Option<Duration>> {
    let mut ends: BTreeMap<&str, At> = BTreeMap::new();
    let mut starts: BTreeMap<&str, At> = BTreeMap::new();
    for told in &history.told {
        match &told.what {
            What::ShardEnded { shard } => ends.entry(shard).or_insert(told.at),
            What::Started { shard, .. } => starts.entry(shard).or_insert(told.at),
            _ => continue,
        };
    }
    parents
        .iter()
        .map(|(child, parents)| {
            let ended = parents
                .iter()
                .filter_map(|parent| ends.get(parent.as_str()));
            let ended = ended.max();
            let started = starts.get(child.as_str());
            let gap = ended.zip(started);
            (
                child.clone(),
                gap.map(|(ended, started)| started.saturating_sub(*ended)),
            )
        })
        .collect()
}

/// How often a stored checkpoint went back, or was moved by a worker after another one had started from it.
///
/// A worker may read late that a write of its own was applied long ago: that counts only if what it wrote lies beyond
/// where the next grant started.
pub(super) fn stale_checkpoints(history: &History) -> usize {
    backward_steps(&history.rows) + late_writes(&history.told)
}

fn backward_steps(rows: &[RowSeen]) -> usize {
    let mut stored: BTreeMap<&str, Checkpoint> = BTreeMap::new();
    let mut steps = 0;
    for seen in rows {
        let Some(row) = &seen.row else {
            continue;
        };
        let now = checkpoint(&row.checkpoint);
        let before = stored.insert(&seen.shard, now.clone());
        steps += usize::from(before.is_some_and(|before| before > now));
    }
    steps
}

fn late_writes(told: &[Told]) -> usize {
    let mut newest: BTreeMap<&str, (u64, Checkpoint)> = BTreeMap::new();
    let mut late = 0;
    for told in told {
        match &told.what {
            What::Started {
                shard,
                epoch,
                checkpoint: start,
            } => {
                let known = newest.get(shard.as_str());
                if known.is_none_or(|(known, _)| known < epoch) {
                    newest.insert(shard, (*epoch, checkpoint(start)));
                }
            }
            What::Checkpointed {
                shard,
                epoch,
                checkpoint: stored,
            } => {
                let stale = newest
                    .get(shard.as_str())
                    .is_some_and(|(newest, start)| epoch < newest && checkpoint(stored) > *start);
                late += usize::from(stale);
            }
            _ => {}
        }
    }
    late
}

/// Records that a worker delivered although a newer grant of the shard had already started elsewhere.
pub(super) fn overtaken_deliveries(history: &History) -> usize {
    let mut newest: BTreeMap<&str, u64> = BTreeMap::new();
    let mut overtaken = 0;
    for told in &history.told {
        match &told.what {
            What::Started { shard, epoch, .. } => {
                let newest = newest.entry(shard).or_default();
                *newest = (*newest).max(*epoch);
            }
            What::Record(record) => {
                let newest = newest.get(record.shard.as_str());
                overtaken += usize::from(newest.is_some_and(|newest| record.epoch < *newest));
            }
            _ => {}
        }
    }
    overtaken
}

#[cfg(test)]
#[path = "judge_tests.rs"]
mod tests;
