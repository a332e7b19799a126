//! The producer's side: records are put, shards are split and merged, and the history is told the truth about it.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use bytes::Bytes;
use kcl_core::SequenceNumber;
use kcl_emulator::kinesis::api::{
    DeregisterStreamConsumerInput, ListShardsInput, MergeShardsInput, PutRecordInput, Shard,
    SplitShardInput,
};
use kcl_emulator::kinesis::{Request, Response};
use kcl_emulator::{ApiError, Caller};

use super::draw::{between, draw};
use super::history::{Event, ShardNo, shard_number};
use super::payload::Payloads;
use super::schedule::Pick;
use super::world::{APPLICATION, STREAM, World};

/// More open shards than this are not split any more.
const OPEN_MAX: usize = 10;
/// Records are kept for a day.
const RETENTION: Duration = Duration::from_secs(24 * 60 * 60);

/// The stream of a run, from the producer's side.
#[derive(Debug)]
pub struct Producer {
    world: World,
    caller: Caller,
    next: u32,
    payloads: Payloads,
    known: BTreeSet<ShardNo>,
    closed: BTreeSet<ShardNo>,
    lengths: BTreeMap<ShardNo, u32>,
    sequences: BTreeMap<ShardNo, Vec<SequenceNumber>>,
}

impl Producer {
    /// The producer of a stream that exists already.
    #[must_use]
    pub fn new(world: &World) -> Self {
        let mut producer = Self {
            world: world.clone(),
            caller: Caller::new("producer"),
            next: 0,
            payloads: Payloads::default(),
            known: BTreeSet::new(),
            closed: BTreeSet::new(),
            lengths: BTreeMap::new(),
            sequences: BTreeMap::new(),
        };
        producer.look();
        producer
    }

    /// Puts a few records under keys that the seed draws.
    pub fn put_some(&mut self) {
        let seed = self.world.seed();
        let count = between(seed, "records", u64::from(self.next), 1..6);
        for _ in 0..count {
            let key = draw(seed, "keys", u64::from(self.next)) % 64;
            let input = PutRecordInput {
                stream_name: Some(STREAM.to_owned()),
                data: Some(self.payload().into()),
                partition_key: Some(format!("key-{key}")),
                ..PutRecordInput::default()
            };
            if let Ok(Response::PutRecord(put)) = self.call(input) {
                let shard = shard_number(&put.shard_id);
                *self.lengths.entry(shard).or_default() += 1;
                let sequence = SequenceNumber::parse(&put.sequence_number.to_string());
                self.sequences.entry(shard).or_default().extend(sequence);
                self.world.tell(Event::Put {
                    shard,
                    sequence: put.sequence_number.to_string(),
                    key: u32::try_from(key).unwrap_or_default(),
                    arrived: u64::try_from(self.world.stream_time().0).unwrap_or_default(),
                });
                self.next += 1;
            }
        }
    }

    fn payload(&mut self) -> Bytes {
        match self.world.climate().big_records {
            true => {
                let (seed, now) = (self.world.seed(), self.world.millis());
                self.payloads.in_spells(seed, self.next, now)
            }
            false => Payloads::small(self.next),
        }
    }

    /// Splits an open shard in the middle, unless there are many.
    pub fn split(&mut self, pick: Pick) {
        let open = self.open();
        if open.len() >= OPEN_MAX {
            return;
        }
        let Some(shard) = pick_of(&open, pick) else {
            return;
        };
        let (Ok(start), Ok(end)) = (
            shard.hash_key_range.starting_hash_key.parse::<u128>(),
            shard.hash_key_range.ending_hash_key.parse::<u128>(),
        ) else {
            return;
        };
        let input = SplitShardInput {
            stream_name: Some(STREAM.to_owned()),
            shard_to_split: Some(shard.shard_id.clone()),
            new_starting_hash_key: Some((start + (end - start) / 2 + 1).to_string()),
            ..SplitShardInput::default()
        };
        let _too_small = self.call(input);
        self.look();
    }

    /// Merges an open shard with its upper neighbour, unless there are few.
    pub fn merge(&mut self, pick: Pick) {
        let mut open = self.open();
        open.sort_by_key(|shard| {
            let start = &shard.hash_key_range.starting_hash_key;
            start.parse::<u128>().unwrap_or(u128::MAX)
        });
        if open.len() < 3 {
            return;
        }
        let lower = usize::try_from(pick % (open.len() as u64 - 1)).unwrap_or(0);
        let (Some(lower), Some(upper)) = (open.get(lower), open.get(lower + 1)) else {
            return;
        };
        let input = MergeShardsInput {
            stream_name: Some(STREAM.to_owned()),
            shard_to_merge: Some(lower.shard_id.clone()),
            adjacent_shard_to_merge: Some(upper.shard_id.clone()),
            ..MergeShardsInput::default()
        };
        let _refused = self.call(input);
        self.look();
    }

    /// One of the open shards.
    #[must_use]
    pub fn open_shard(&self, pick: Pick) -> Option<ShardNo> {
        let open = self.open();
        pick_of(&open, pick).map(|shard| shard_number(&shard.shard_id))
    }

    /// One of the records that were put to a shard.
    #[must_use]
    pub fn record(&self, shard: ShardNo, pick: Pick) -> Option<&SequenceNumber> {
        pick_of(self.sequences.get(&shard)?, pick)
    }

    /// Removes the application's consumer, as somebody may.
    pub fn deregister_consumer(&mut self) {
        let input = DeregisterStreamConsumerInput {
            stream_arn: Some(self.world.emulator().stream_arn(STREAM)),
            consumer_name: Some(APPLICATION.to_owned()),
            ..DeregisterStreamConsumerInput::default()
        };
        let _none = self.call(input);
    }

    /// Lets a day pass for the stream: whatever was put until now may be gone.
    pub fn expire(&mut self) {
        let shards = self.lengths.iter().map(|(s, len)| (*s, *len)).collect();
        self.world.tell(Event::Trimmed { shards });
        // Not a moment less: of what was left readers could miss something between two reads of a valid iterator, which
        // the service tells nobody.
        self.world.skip(RETENTION);
    }

    /// Tells of shards that are new, or closed.
    fn look(&mut self) {
        for shard in self.list() {
            let number = shard_number(&shard.shard_id);
            if self.known.insert(number) {
                let parents = [&shard.parent_shard_id, &shard.adjacent_parent_shard_id];
                let parents = parents.into_iter().flatten();
                self.lengths.insert(number, 0);
                self.world.tell(Event::Opened {
                    shard: number,
                    parents: parents.map(|id| shard_number(id)).collect(),
                });
            }
            if !is_open(&shard) && self.closed.insert(number) {
                self.world.tell(Event::Closed { shard: number });
            }
        }
    }

    fn open(&self) -> Vec<Shard> {
        self.list().into_iter().filter(is_open).collect()
    }

    fn list(&self) -> Vec<Shard> {
        let input = ListShardsInput {
            stream_name: Some(STREAM.to_owned()),
            ..ListShardsInput::default()
        };
        match self.call(input) {
            Ok(Response::ListShards(listing)) => listing.shards,
            _ => Vec::new(),
        }
    }

    fn call(&self, request: impl Into<Request>) -> Result<Response, ApiError> {
        let world = &self.world;
        world
            .emulator()
            .kinesis(world.stream_time(), &self.caller, request.into())
    }
}

fn is_open(shard: &Shard) -> bool {
    shard.sequence_number_range.ending_sequence_number.is_none()
}

fn pick_of<T>(choices: &[T], pick: Pick) -> Option<&T> {
    let count = choices.len().max(1) as u64;
    choices.get(usize::try_from(pick % count).unwrap_or(0))
}
