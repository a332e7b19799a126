//! A stream in memory, to test what stands on a [`ShardSource`](super::ShardSource) without any service.

mod source;
mod subscription;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use bytes::Bytes;
use kcl_checkpoint::SequenceNumber;
use kcl_lease::runtime::Runtime;
use kcl_lease::{HashKeyRange, ListedShard, ShardId};
use tokio::sync::Notify;

use self::subscription::FanOut;
use super::error::{SourceError, SourceErrorKind};

const ARN_BEFORE_NAME: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/";

/// A stream in memory. Clones are handles to the same one.
///
/// It keeps every record, never throttles and never expires an iterator by itself: tests say what goes wrong. Iterators
/// see the shard as it is when they are used.
#[derive(Clone)]
pub struct MemoryStream {
    state: Arc<Mutex<State>>,
    /// Something happened that subscriptions may have to tell.
    changed: Arc<Notify>,
    runtime: Runtime,
    arn: Arc<str>,
    created_at: SystemTime,
}

struct State {
    shards: Vec<Shard>,
    shards_made: usize,
    records: u64,
    /// Iterators of older generations are expired.
    generation: u64,
    failures: BTreeMap<&'static str, Vec<SourceErrorKind>>,
    calls: BTreeMap<&'static str, usize>,
    names_children: bool,
    deleted: bool,
    fan_out: FanOut,
}

struct Shard {
    listed: ListedShard,
    records: Vec<Stored>,
    trimmed: usize,
}

struct Stored {
    sequence_number: SequenceNumber,
    partition_key: String,
    data: Bytes,
    arrival: SystemTime,
}

impl MemoryStream {
    /// A stream of `shards` shards (at least one) that share the hash keys evenly. It is called `memory`.
    #[must_use]
    pub fn new(shards: u32, runtime: Runtime) -> Self {
        Self::named("memory", shards, runtime)
    }

    /// As [`new`](Self::new), called `name`.
    #[must_use]
    pub fn named(name: &str, shards: u32, runtime: Runtime) -> Self {
        let shards = u128::from(shards.max(1));
        let width = u128::MAX / shards;
        let listed = (0..shards).map(|index| HashKeyRange {
            start: index * width + u128::from(index > 0),
            end: if index + 1 == shards {
                u128::MAX
            } else {
                (index + 1) * width
            },
        });
        let mut state = State {
            shards: Vec::new(),
            shards_made: 0,
            records: 0,
            generation: 0,
            failures: BTreeMap::new(),
            calls: BTreeMap::new(),
            names_children: true,
            deleted: false,
            fan_out: FanOut::default(),
        };
        for range in listed {
            state.add_shard([None, None], range);
        }
        Self {
            state: Arc::new(Mutex::new(state)),
            changed: Arc::default(),
            arn: format!("{ARN_BEFORE_NAME}{name}").into(),
            created_at: runtime.wall_time(),
            runtime,
        }
    }

    /// All shards, closed ones too.
    #[must_use]
    pub fn shards(&self) -> Vec<ListedShard> {
        self.lock().listing(|_| true)
    }

    /// Puts a record into the open shard that owns its key.
    pub fn put(&self, partition_key: &str, data: impl Into<Bytes>) -> Option<SequenceNumber> {
        let hash_key = kcl_aggregation::hash_key(partition_key);
        let shard = self
            .shards()
            .into_iter()
            .find(|shard| shard.open && shard.hash_range.contains(hash_key))?;
        self.put_to(&shard.shard_id, partition_key, data)
    }

    /// Puts a record into a shard, whatever its key. `None` if there is no such open shard.
    pub fn put_to(
        &self,
        shard: &ShardId,
        partition_key: &str,
        data: impl Into<Bytes>,
    ) -> Option<SequenceNumber> {
        let arrival = self.runtime.wall_time();
        let mut state = self.lock();
        let sequence_number = state.next_sequence_number();
        let shard = state.shard_mut(shard).filter(|shard| shard.listed.open)?;
        shard.records.push(Stored {
            sequence_number: sequence_number.clone(),
            partition_key: partition_key.to_owned(),
            data: data.into(),
            arrival,
        });
        self.changed.notify_waiters();
        Some(sequence_number)
    }

    /// Closes a shard and opens two in its place. `None` if there is no such open shard or it owns a single key.
    #[expect(
        clippy::must_use_candidate,
        reason = "called for what it does to the stream"
    )]
    pub fn split(&self, shard: &ShardId) -> Option<[ShardId; 2]> {
        let mut state = self.lock();
        let parent = state.shard_mut(shard).filter(|shard| shard.listed.open)?;
        let HashKeyRange { start, end } = parent.listed.hash_range;
        let middle = start + (end - start) / 2;
        if middle == end {
            return None;
        }
        parent.listed.open = false;
        self.changed.notify_waiters();
        let parents = || [Some(shard.clone()), None];
        let left = HashKeyRange { start, end: middle };
        let right = HashKeyRange {
            start: middle + 1,
            end,
        };
        Some([
            state.add_shard(parents(), left),
            state.add_shard(parents(), right),
        ])
    }

    /// Closes two shards and opens one in their place. `None` unless both are open.
    #[expect(
        clippy::must_use_candidate,
        reason = "called for what it does to the stream"
    )]
    pub fn merge(&self, left: &ShardId, right: &ShardId) -> Option<ShardId> {
        let mut state = self.lock();
        let mut range = HashKeyRange {
            start: u128::MAX,
            end: 0,
        };
        for id in [left, right] {
            let parent = state.shard_mut(id).filter(|shard| shard.listed.open)?;
            range.start = range.start.min(parent.listed.hash_range.start);
            range.end = range.end.max(parent.listed.hash_range.end);
        }
        for id in [left, right] {
            if let Some(parent) = state.shard_mut(id) {
                parent.listed.open = false;
            }
        }
        self.changed.notify_waiters();
        Some(state.add_shard([Some(left.clone()), Some(right.clone())], range))
    }

    /// Makes all iterators given out so far expire.
    pub fn expire_iterators(&self) {
        self.lock().generation += 1;
    }

    /// Makes the next `times` calls of `operation` (named as in an IAM policy, `GetRecords`) fail.
    pub fn fail_next(&self, operation: &'static str, kind: SourceErrorKind, times: usize) {
        let mut state = self.lock();
        let failures = state.failures.entry(operation).or_default();
        failures.extend(std::iter::repeat_n(kind, times));
    }

    /// Makes calls of `operation` succeed again, however many were to fail.
    pub fn fail_no_more(&self, operation: &'static str) {
        self.lock().failures.remove(operation);
    }

    /// Whether the last answer of a closed shard names the children, as the service's does. On by default.
    pub fn name_children(&self, names_children: bool) {
        self.lock().names_children = names_children;
    }

    /// Drops a shard's records, as retention does. Their sequence numbers are refused from then on.
    pub fn trim(&self, shard: &ShardId) {
        if let Some(shard) = self.lock().shard_mut(shard) {
            shard.trimmed = shard.records.len();
        }
    }

    /// Removes a closed shard from the stream, as the end of retention does.
    pub fn forget(&self, shard: &ShardId) {
        self.lock()
            .shards
            .retain(|known| known.listed.shard_id != *shard);
    }

    /// Deletes the stream.
    pub fn delete(&self) {
        self.lock().deleted = true;
    }

    /// How often `operation` was called.
    #[must_use]
    pub fn calls(&self, operation: &'static str) -> usize {
        self.lock().calls.get(operation).copied().unwrap_or(0)
    }

    /// The state is never left half changed, so a panic elsewhere does not spoil it.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn called(&self, operation: &'static str) -> Result<MutexGuard<'_, State>, SourceError> {
        let mut state = self.lock();
        *state.calls.entry(operation).or_default() += 1;
        if state.deleted {
            return Err(SourceError::new(SourceErrorKind::StreamNotFound, operation));
        }
        match state.failures.get_mut(operation) {
            Some(failures) if !failures.is_empty() => {
                Err(SourceError::new(failures.remove(0), operation).with_detail("asked for"))
            }
            _ => Ok(state),
        }
    }
}

impl State {
    fn add_shard(&mut self, parents: [Option<ShardId>; 2], hash_range: HashKeyRange) -> ShardId {
        let shard_id = ShardId::from(format!("shardId-{:012}", self.shards_made));
        self.shards_made += 1;
        let [parent, adjacent_parent] = parents;
        self.shards.push(Shard {
            listed: ListedShard {
                shard_id: shard_id.clone(),
                parent,
                adjacent_parent,
                hash_range,
                open: true,
            },
            records: Vec::new(),
            trimmed: 0,
        });
        shard_id
    }

    fn shard_mut(&mut self, id: &ShardId) -> Option<&mut Shard> {
        self.shards
            .iter_mut()
            .find(|shard| shard.listed.shard_id == *id)
    }

    fn shard(&self, id: &ShardId) -> Option<&Shard> {
        self.shards
            .iter()
            .find(|shard| shard.listed.shard_id == *id)
    }

    fn listing(&self, include: impl Fn(&ListedShard) -> bool) -> Vec<ListedShard> {
        let listed = self.shards.iter().map(|shard| &shard.listed);
        listed.filter(|shard| include(shard)).cloned().collect()
    }

    #[expect(
        clippy::expect_used,
        reason = "a formatted number is a sequence number"
    )]
    fn next_sequence_number(&mut self) -> SequenceNumber {
        self.records += 1;
        SequenceNumber::parse(&format!("4966{:052}", self.records)).expect("digits")
    }
}

impl fmt::Debug for MemoryStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.lock();
        f.debug_struct("MemoryStream")
            .field("shards", &state.shards.len())
            .field("records", &state.records)
            .finish_non_exhaustive()
    }
}
