//! `SplitShard`, `MergeShards`, `UpdateShardCount`.

use std::collections::BTreeSet;

use super::{
    api::{
        Empty, MergeShardsInput, SplitShardInput, UpdateShardCountInput, UpdateShardCountOutput,
    },
    engine::Engine,
    error,
    hash_key::{self, HashRange},
    shard::{Moment, Shard},
    stream::{Change, Mode, Status, Stream},
    validate::{self, Named, Validation},
};
use crate::{ApiError, Timestamp};

const MILLISECONDS_PER_DAY: i64 = 86_400_000;
const SHARDS_PER_STREAM: usize = 10_000;

/// One step of a reshard. A step names a boundary between hash keys: the shards there are the ones that are open when it
/// is carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reshard {
    /// Splits the shard that has this hash key, so that a child begins with it.
    Split { at: u128 },
    /// Merges the shard that begins with this hash key and the one before it. The lower one becomes the parent and the
    /// upper one the adjacent parent, or the other way round.
    Merge { at: u128, upper_first: bool },
}

/// The steps from these open shards to `target` shards of even size: first every missing boundary is drawn, then every
/// boundary too much is wiped out. "Kinesis Data Streams performs splits or merges on individual shards. This can
/// cause short-lived shards to be created" (API reference, `UpdateShardCount`).
pub(super) fn scale(open: impl Iterator<Item = HashRange>, target: usize) -> Vec<Reshard> {
    let current: BTreeSet<_> = open.map(|range| range.start).collect();
    let wanted: BTreeSet<_> = hash_key::uniform_starts(target).collect();
    let splits = wanted.difference(&current).map(|&at| Reshard::Split { at });
    let merges = current.difference(&wanted).map(|&at| Reshard::Merge {
        at,
        upper_first: false,
    });
    splits.chain(merges).collect()
}

/// Carries steps out at `time`, with positions from `index` on; returns the last position that was used.
pub(super) fn apply(
    stream: &mut Stream,
    steps: &[Reshard],
    time: Timestamp,
    mut index: u64,
) -> u64 {
    for step in steps {
        let closed = Moment { time, index };
        let opened = |offset| Moment {
            time,
            index: index + offset,
        };
        match *step {
            Reshard::Split { at } => split(stream, at, closed, [opened(1), opened(2)]),
            Reshard::Merge { at, upper_first } => merge(stream, at, upper_first, closed, opened(1)),
        }
        index += 3;
    }
    index.saturating_sub(1)
}

fn split(stream: &mut Stream, at: u128, closed: Moment, opened: [Moment; 2]) {
    let Some((parent, range)) = stream
        .shard_for(at)
        .map(|shard| (shard.number, shard.range))
    else {
        return;
    };
    let lower = HashRange {
        end: at - 1,
        ..range
    };
    let upper = HashRange { start: at, ..range };
    // The children come first: their entries replace the parent's among the open shards.
    let children = [lower, upper]
        .into_iter()
        .zip(opened)
        .map(|(range, opened)| {
            let child = stream.open_shard(range, opened);
            child.parent = Some(parent);
            child.number
        });
    let children = children.collect();
    stream.close_shard(parent, closed, children);
}

fn merge(stream: &mut Stream, at: u128, upper_first: bool, closed: Moment, opened: Moment) {
    let upper = stream
        .shard_for(at)
        .map(|shard| (shard.number, shard.range));
    let lower = at
        .checked_sub(1)
        .and_then(|before| stream.shard_for(before));
    let lower = lower.map(|shard| (shard.number, shard.range));
    let (Some((lower, first)), Some((upper, last))) = (lower, upper) else {
        return;
    };
    let range = HashRange {
        start: first.start,
        end: last.end,
    };
    let (parent, adjacent) = if upper_first {
        (upper, lower)
    } else {
        (lower, upper)
    };
    let child = stream.open_shard(range, opened);
    child.parent = Some(parent);
    child.adjacent_parent = Some(adjacent);
    let child = child.number;
    stream.close_shard(lower, closed, vec![child]);
    stream.close_shard(upper, closed, vec![child]);
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum ScalingType {
    #[default]
    Uniform,
}

impl Named for ScalingType {
    const ALL: &'static [(&'static str, Self)] = &[("UNIFORM_SCALING", Self::Uniform)];
}

/// Refuses to reshard a stream that is not `ACTIVE` or scales by itself.
fn check_stream(stream: &Stream, account: &str) -> Result<(), ApiError> {
    stream.require_active(account)?;
    if stream.mode == Mode::OnDemand {
        let name = &stream.name;
        return Err(error::validation(format!(
            "Request is invalid. Stream {name} under account {account} is in On-Demand mode."
        )));
    }
    Ok(())
}

/// An open shard by its id.
fn open_shard<'a>(stream: &'a Stream, id: &str, account: &str) -> Result<&'a Shard, ApiError> {
    let shard = stream.find_shard(id, account)?;
    if shard.is_open() {
        return Ok(shard);
    }
    let (id, name) = (shard.id(), &stream.name);
    Err(error::invalid_argument(format!(
        "Shard {id} in stream {name} under account {account} has already been merged or split, and thus is not \
         eligible for merging or splitting."
    )))
}

impl Engine {
    pub(super) fn split_shard(&mut self, input: &SplitShardInput) -> Result<Empty, ApiError> {
        let mut check = Validation::default();
        let shard_id = check.required("shardToSplit", &input.shard_to_split, validate::SHARD_ID);
        let hash_key = check.required(
            "newStartingHashKey",
            &input.new_starting_hash_key,
            validate::HASH_KEY,
        );
        check.stream(&input.stream_name, &input.stream_arn);
        check.finish()?;

        let account = self.config.account.clone();
        let stream = self.stream(&input.stream_name, &input.stream_arn)?;
        check_stream(stream, &account)?;
        let shard = open_shard(stream, shard_id, &account)?;
        let HashRange { start, end } = shard.range;
        let at = hash_key::parse(hash_key).filter(|at| (start.saturating_add(2)..end).contains(at));
        let name = stream.name.clone();
        let at = at.ok_or_else(|| {
            error::invalid_argument(format!(
                "NewStartingHashKey {hash_key} used in SplitShard() on shard {} in stream {name} under account \
                 {account} is not both greater than one plus the shard's StartingHashKey {start} and less than the \
                 shard's EndingHashKey {end}.",
                shard.id()
            ))
        })?;
        self.check_shard_limit(1)?;
        let steps = vec![Reshard::Split { at }];
        self.begin_transition(&name, Status::Updating, Change::Reshard(steps));
        Ok(Empty {})
    }

    pub(super) fn merge_shards(&mut self, input: &MergeShardsInput) -> Result<Empty, ApiError> {
        let mut check = Validation::default();
        let first = check.required("shardToMerge", &input.shard_to_merge, validate::SHARD_ID);
        let second = check.required(
            "adjacentShardToMerge",
            &input.adjacent_shard_to_merge,
            validate::SHARD_ID,
        );
        check.stream(&input.stream_name, &input.stream_arn);
        check.finish()?;

        let account = self.config.account.clone();
        let stream = self.stream(&input.stream_name, &input.stream_arn)?;
        check_stream(stream, &account)?;
        let first = open_shard(stream, first, &account)?;
        let second = open_shard(stream, second, &account)?;
        let name = stream.name.clone();
        let step = if first.range.end.checked_add(1) == Some(second.range.start) {
            Reshard::Merge {
                at: second.range.start,
                upper_first: false,
            }
        } else if second.range.end.checked_add(1) == Some(first.range.start) {
            Reshard::Merge {
                at: first.range.start,
                upper_first: true,
            }
        } else {
            let (first, second) = (first.id(), second.id());
            return Err(error::invalid_argument(format!(
                "Shards {first} and {second} in stream {name} under account {account} are not an adjacent pair of \
                 shards eligible for merging"
            )));
        };
        self.begin_transition(&name, Status::Updating, Change::Reshard(vec![step]));
        Ok(Empty {})
    }

    pub(super) fn update_shard_count(
        &mut self,
        input: &UpdateShardCountInput,
    ) -> Result<UpdateShardCountOutput, ApiError> {
        let mut check = Validation::default();
        let target =
            check.required_number("targetShardCount", input.target_shard_count, 1, i64::MAX);
        check.required_choice::<ScalingType>("scalingType", &input.scaling_type);
        check.stream(&input.stream_name, &input.stream_arn);
        check.finish()?;

        let target = usize::try_from(target).unwrap_or(usize::MAX);
        let (account, now) = (self.config.account.clone(), self.now);
        let scalings_per_day = self.config.scalings_per_day;
        let stream = self.stream(&input.stream_name, &input.stream_arn)?;
        check_stream(stream, &account)?;
        let current = stream.open_count();
        check_target(current, target)?;
        stream
            .scalings
            .retain(|at| now.since(*at) < MILLISECONDS_PER_DAY);
        if stream.scalings.len() >= scalings_per_day {
            let name = &stream.name;
            return Err(error::limit_exceeded(format!(
                "Stream {name} under account {account} has been scaled {scalings_per_day} times in the last 24 hours, \
                 which is the limit."
            )));
        }
        let steps = scale(stream.open_shards().map(|shard| shard.range), target);
        let (name, arn) = (stream.name.clone(), stream.arn.clone());
        self.check_shard_limit(target.saturating_sub(current))?;
        if let Some(stream) = self.streams.get_mut(&name) {
            stream.scalings.push(now);
        }
        self.begin_transition(&name, Status::Updating, Change::Reshard(steps));
        Ok(UpdateShardCountOutput {
            stream_name: name,
            stream_arn: arn,
            current_shard_count: current,
            target_shard_count: target,
        })
    }

    /// Refuses what would leave the account with too many open shards.
    pub(super) fn check_shard_limit(&self, more: usize) -> Result<(), ApiError> {
        let (current, limit) = (self.open_shard_count(), self.config.shard_limit);
        if more > 0 && current + more > limit {
            let (account, region) = (&self.config.account, &self.config.region);
            return Err(error::shard_limit(account, region, current, limit, more));
        }
        Ok(())
    }
}

/// The limits of one call (API reference, `UpdateShardCount`).
fn check_target(current: usize, target: usize) -> Result<(), ApiError> {
    let refuse = |what: &str| {
        Err(error::invalid_argument(format!(
            "UpdateShardCount cannot {what}. Current open shard count: {current} Target shard count: {target}"
        )))
    };
    if target == current {
        refuse("scale to the current open shard count")
    } else if target > current * 2 {
        refuse("scale up over double your current open shard count")
    } else if target * 2 < current {
        refuse("scale down below half your current open shard count")
    } else if target > SHARDS_PER_STREAM {
        refuse("scale up to more than 10000 shards")
    } else {
        Ok(())
    }
}
