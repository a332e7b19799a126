//! One stream: its state, its settings, its shards.

use std::collections::{BTreeMap, BTreeSet};

use super::{
    api::{self, SubscriptionId},
    consumer::Consumer,
    error,
    hash_key::HashRange,
    reshard::Reshard,
    shard::{self, Moment, Shard},
    tags::Attributes,
    validate::Named,
};
use crate::{ApiError, Timestamp};

const MILLISECONDS_PER_HOUR: i64 = 3_600_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Status {
    Creating,
    Active,
    Updating,
    Deleting,
}

impl Status {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Creating => "CREATING",
            Self::Active => "ACTIVE",
            Self::Updating => "UPDATING",
            Self::Deleting => "DELETING",
        }
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Mode {
    #[default]
    Provisioned,
    OnDemand,
}

impl Named for Mode {
    const ALL: &'static [(&'static str, Self)] = &[
        ("PROVISIONED", Self::Provisioned),
        ("ON_DEMAND", Self::OnDemand),
    ];
}

/// What a transition ends with.
#[derive(Debug, Clone)]
pub(super) enum Change {
    /// A new stream gets its shards.
    Create { shards: usize },
    /// The stream goes.
    Delete,
    /// Shards are split and merged.
    Reshard(Vec<Reshard>),
    /// A setting that already applies has settled.
    Setting,
}

/// A transition under way.
#[derive(Debug, Clone)]
pub(super) struct Pending {
    pub(super) due: Timestamp,
    pub(super) change: Change,
}

#[derive(Debug, Clone)]
pub(super) struct Stream {
    pub(super) name: String,
    pub(super) arn: String,
    pub(super) created: Timestamp,
    pub(super) status: Status,
    pub(super) pending: Option<Pending>,
    pub(super) mode: Mode,
    pub(super) retention_hours: i64,
    pub(super) max_record_kib: i64,
    /// The key that records are encrypted with.
    pub(super) key_id: Option<String>,
    pub(super) metrics: BTreeSet<&'static str>,
    pub(super) attributes: Attributes,
    pub(super) consumers: BTreeMap<String, Consumer>,
    /// When its shard count was updated.
    pub(super) scalings: Vec<Timestamp>,
    pub(super) shards: BTreeMap<u32, Shard>,
    /// The open shards by their first hash key.
    open: BTreeMap<u128, u32>,
    next_shard: u32,
    /// Just after the first shards were opened.
    began: Moment,
    /// The trim horizon; it never goes back, also when the retention period grows.
    horizon: Moment,
}

impl Stream {
    pub(super) fn new(name: String, arn: String, created: Timestamp, mode: Mode) -> Self {
        Self {
            name,
            arn,
            created,
            status: Status::Creating,
            pending: None,
            mode,
            retention_hours: 24,
            max_record_kib: 1024,
            key_id: None,
            metrics: BTreeSet::new(),
            attributes: Attributes::default(),
            consumers: BTreeMap::new(),
            scalings: Vec::new(),
            shards: BTreeMap::new(),
            open: BTreeMap::new(),
            next_shard: 0,
            began: Moment::before(created),
            horizon: Moment::before(created),
        }
    }

    /// Opens a shard that has no parents yet.
    pub(super) fn open_shard(&mut self, range: HashRange, opened: Moment) -> &mut Shard {
        let number = self.next_shard;
        self.next_shard += 1;
        self.open.insert(range.start, number);
        self.shards
            .entry(number)
            .or_insert_with(|| Shard::new(number, range, opened))
    }

    /// Notes that the first shards are open: the trim horizon of a young stream is this moment.
    pub(super) fn begin(&mut self, moment: Moment) {
        self.began = moment;
        self.horizon = moment;
    }

    /// Closes a shard in favour of its children.
    pub(super) fn close_shard(&mut self, number: u32, closed: Moment, children: Vec<u32>) {
        if let Some(shard) = self.shards.get_mut(&number) {
            shard.closed = Some(closed);
            shard.children = children;
            if self.open.get(&shard.range.start) == Some(&number) {
                self.open.remove(&shard.range.start);
            }
        }
    }

    /// The open shards in the order of their hash keys.
    pub(super) fn open_shards(&self) -> impl Iterator<Item = &Shard> {
        self.open
            .values()
            .filter_map(|number| self.shards.get(number))
    }

    pub(super) fn open_count(&self) -> usize {
        self.open.len()
    }

    /// The open shard that a hash key belongs to.
    pub(super) fn shard_for(&mut self, hash_key: u128) -> Option<&mut Shard> {
        let (_, number) = self.open.range(..=hash_key).next_back()?;
        self.shards.get_mut(number)
    }

    /// Moves the trim horizon to where `now` and the retention period put it.
    pub(super) fn advance_horizon(&mut self, now: Timestamp) {
        let age = self.retention_hours * MILLISECONDS_PER_HOUR;
        self.horizon = self.horizon.max(Moment::before(now.plus(-age)));
    }

    /// The oldest moment of which records are kept.
    pub(super) fn horizon(&self) -> Moment {
        self.horizon
    }

    /// The moment just before `time`, but not before the trim horizon.
    pub(super) fn clamp(&self, time: Timestamp) -> Moment {
        Moment::before(time).max(self.horizon)
    }

    /// The shards of which anything is left.
    pub(super) fn listed(&self) -> impl Iterator<Item = &Shard> {
        self.shards
            .values()
            .filter(|shard| !shard.ended_before(self.horizon))
    }

    /// Forgets the shards of which nothing is left.
    pub(super) fn forget_expired_shards(&mut self) {
        let horizon = self.horizon;
        self.shards.retain(|_, shard| !shard.ended_before(horizon));
    }

    /// A shard that is still listed, by its id.
    pub(super) fn find_shard(&self, id: &str, account: &str) -> Result<&Shard, ApiError> {
        shard::number(id)
            .and_then(|number| self.shards.get(&number))
            .filter(|shard| !shard.ended_before(self.horizon))
            .ok_or_else(|| error::no_such_shard(id, &self.name, account))
    }

    /// The children of a closed shard in the form of the API.
    pub(super) fn children(&self, shard: &Shard) -> Vec<api::ChildShard> {
        let children = shard.children.iter();
        children
            .filter_map(|number| self.shards.get(number))
            .map(Shard::to_child)
            .collect()
    }

    /// The subscriptions that wait for something in this stream.
    pub(super) fn followers(&self) -> impl Iterator<Item = SubscriptionId> {
        let followers = self.shards.values().flat_map(|shard| &shard.followers);
        followers.copied()
    }

    /// Refuses what needs an `ACTIVE` stream.
    pub(super) fn require_active(&self, account: &str) -> Result<(), ApiError> {
        match self.status {
            Status::Active => Ok(()),
            status => Err(error::not_active(&self.name, account, status)),
        }
    }

    /// Refuses what a stream without shards cannot do: for readers and writers it does not exist before it was created.
    pub(super) fn require_created(&self, account: &str) -> Result<(), ApiError> {
        match self.status {
            Status::Creating => Err(error::no_such_stream(&self.name, account)),
            _ => Ok(()),
        }
    }

    pub(super) fn encryption_type(&self) -> &'static str {
        if self.key_id.is_some() { "KMS" } else { "NONE" }
    }
}
