//! The truth about the stream: shards, records, and what became of each.

use std::collections::BTreeMap;

use super::Checker;
use super::tally::Cause;
use crate::simulation::history::{KeyNo, Place, ShardNo, Stored};
use crate::simulation::world::Process;

/// Everything that is in the stream, or was.
#[derive(Debug, Default)]
pub(super) struct Stream {
    pub(super) shards: BTreeMap<ShardNo, Shard>,
    /// Shard and index of each record, by its number in the run.
    pub(super) numbers: Vec<(ShardNo, u32)>,
    places: BTreeMap<String, (ShardNo, u32)>,
}

#[derive(Debug, Default)]
pub(super) struct Shard {
    pub(super) parents: Vec<ShardNo>,
    pub(super) children: Vec<ShardNo>,
    pub(super) closed: bool,
    /// What became of each record.
    pub(super) records: Vec<Record>,
    /// The indexes of each key's records.
    keys: BTreeMap<KeyNo, Vec<u32>>,
    /// Records before this index may be missing: trimmed, or put before an application that starts at LATEST.
    pub(super) optional: u32,
    /// Every record before this index is complete, or optional.
    pub(super) complete: u32,
    /// Where reading starts that has no progress: at the record with this index.
    pub(super) begins: u32,
}

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Record {
    pub(super) key: KeyNo,
    /// By the stream's clock.
    arrived: u64,
    /// Who got it last.
    pub(super) delivered_by: Option<Process>,
    pub(super) complete: bool,
    /// Why it will be delivered again, if it is.
    pub(super) again: Option<Cause>,
}

impl Shard {
    pub(super) fn len(&self) -> u32 {
        u32::try_from(self.records.len()).unwrap_or(u32::MAX)
    }

    /// The index of the first record that arrived then or later.
    pub(super) fn first_at(&self, moment: u64) -> u32 {
        let before = self.records.partition_point(|r| r.arrived < moment);
        u32::try_from(before).unwrap_or(u32::MAX)
    }

    /// Reading goes on at this index: what comes before is passed over, and the others count anew.
    pub(super) fn seek(&mut self, index: u32) {
        for (number, record) in (0..).zip(&mut self.records) {
            record.complete = number < index;
        }
        self.complete = index;
        self.advance();
    }

    fn advance(&mut self) {
        self.complete = self.complete.max(self.optional);
        while self
            .records
            .get(self.complete as usize)
            .is_some_and(|record| record.complete)
        {
            self.complete += 1;
        }
    }

    pub(super) fn complete(&mut self, indexes: impl IntoIterator<Item = u32>) {
        for index in indexes {
            if let Some(record) = self.records.get_mut(index as usize) {
                record.complete = true;
            }
        }
        self.advance();
    }

    /// The records of a key up to this one.
    pub(super) fn of_key(&self, key: KeyNo, through: u32) -> &[u32] {
        let all = self.keys.get(&key).map_or(&[][..], Vec::as_slice);
        let count = all.partition_point(|index| *index <= through);
        all.get(..count).unwrap_or_default()
    }

    /// Nothing of it is left to read for anybody.
    pub(super) fn is_gone(&self) -> bool {
        self.closed && self.optional >= self.len()
    }
}

impl Stream {
    pub(super) fn shard(&mut self, shard: ShardNo) -> &mut Shard {
        self.shards.entry(shard).or_default()
    }

    /// How far a stored checkpoint is in its shard.
    pub(super) fn place(&self, shard: ShardNo, stored: &Stored) -> Result<Place, String> {
        match stored {
            Stored::Start => Ok(match self.shards.get(&shard).map_or(0, |s| s.begins) {
                0 => Place::Start,
                begins => Place::After(begins),
            }),
            Stored::End => Ok(Place::End),
            Stored::Through(sequence) => match self.places.get(sequence) {
                Some((found, index)) if *found == shard => Ok(Place::After(index + 1)),
                Some((found, _)) => Err(format!("a record of shard {found}")),
                None => Err(format!("{sequence}, which was never put")),
            },
        }
    }
}

impl Checker {
    pub(super) fn opened(&mut self, shard: ShardNo, parents: &[ShardNo]) {
        self.stream.shard(shard).parents = parents.to_vec();
        for parent in parents {
            self.stream.shard(*parent).children.push(shard);
        }
        let owners: Vec<_> = parents.iter().map(|p| self.owner(*p)).collect();
        let apart = matches!(owners.as_slice(), [Some(a), Some(b)] if a != b);
        self.note_if(apart, "merge of two workers' shards");
    }

    pub(super) fn closed(&mut self, shard: ShardNo) {
        self.stream.shard(shard).closed = true;
    }

    pub(super) fn put(&mut self, shard: ShardNo, sequence: String, key: KeyNo, arrived: u64) {
        self.tally.put += 1;
        let known = self.stream.shard(shard);
        let index = known.len();
        known.keys.entry(key).or_default().push(index);
        known.records.push(Record {
            key,
            arrived,
            ..Record::default()
        });
        self.stream.numbers.push((shard, index));
        self.stream.places.insert(sequence, (shard, index));
        self.await_arrival(shard, index);
    }

    /// The records before these indexes may be gone.
    pub(super) fn trimmed(&mut self, shards: &[(ShardNo, u32)]) {
        self.gaps.trimmed = Some(self.now);
        let mut unread = false;
        for (shard, before) in shards {
            let shard = self.stream.shard(*shard);
            let lost = shard.records.iter().take(*before as usize);
            unread |= lost
                .skip(shard.optional as usize)
                .any(|record| record.delivered_by.is_none());
            shard.optional = shard.optional.max(*before);
            shard.advance();
        }
        self.note_if(unread, "records trimmed unread");
    }

    /// The application's first start: with LATEST, nothing that was put before it has to be read.
    pub(super) fn application_started(&mut self) {
        if !self.latest {
            return;
        }
        let all: Vec<_> = self
            .stream
            .shards
            .iter()
            .map(|(n, s)| (*n, s.len()))
            .collect();
        for (shard, len) in all {
            let shard = self.stream.shard(shard);
            shard.optional = len;
            shard.advance();
        }
    }
}
