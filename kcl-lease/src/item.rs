//! Items of the lease table as plain values, without the SDK's types.

use std::collections::{BTreeMap, BTreeSet};

/// One item: attribute name to value.
pub type Item = BTreeMap<String, Value>;

/// The value of an attribute, one variant for each DynamoDB type.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Value {
    /// Text.
    S(String),
    /// A number in decimal text, as DynamoDB transports it.
    N(String),
    /// Bytes.
    B(Vec<u8>),
    /// True or false.
    Bool(bool),
    /// DynamoDB's null.
    Null,
    /// A set of texts.
    Ss(BTreeSet<String>),
    /// A set of numbers.
    Ns(BTreeSet<String>),
    /// A set of byte strings.
    Bs(BTreeSet<Vec<u8>>),
    /// A list.
    L(Vec<Self>),
    /// A map.
    M(Item),
}

impl Value {
    /// A text value.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::S(text.into())
    }

    /// A whole number.
    #[must_use]
    pub fn number(number: u64) -> Self {
        Self::N(number.to_string())
    }

    /// A set of texts. DynamoDB refuses empty sets: absence is the only empty set.
    #[must_use]
    pub fn texts<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> Self {
        Self::Ss(texts.into_iter().map(|t| t.as_ref().to_owned()).collect())
    }

    /// The type's name in DynamoDB JSON.
    #[must_use]
    pub fn type_name(&self) -> &'static str {
        match self {
            Self::S(_) => "S",
            Self::N(_) => "N",
            Self::B(_) => "B",
            Self::Bool(_) => "BOOL",
            Self::Null => "NULL",
            Self::Ss(_) => "SS",
            Self::Ns(_) => "NS",
            Self::Bs(_) => "BS",
            Self::L(_) => "L",
            Self::M(_) => "M",
        }
    }
}

/// The attribute names of all items in the lease table.
///
/// Those of lease rows are the Java library's; the others belong to our own items.
pub mod attribute {
    /// The table's hash key.
    pub const KEY: &str = "leaseKey";
    /// What kind of item this is; lease rows of older Java releases lack it.
    pub const ENTITY_TYPE: &str = "entityType";

    /// The owner of a lease; absent if nobody owns it.
    pub const OWNER: &str = "leaseOwner";
    /// The version of a lease row; every write of ours adds one.
    pub const COUNTER: &str = "leaseCounter";
    /// Changes of owner since the last checkpoint. For information only.
    pub const OWNER_SWITCHES: &str = "ownerSwitchesSinceCheckpoint";
    /// A sequence number or a sentinel.
    pub const CHECKPOINT: &str = "checkpoint";
    /// The index inside an aggregated record.
    pub const CHECKPOINT_SUB: &str = "checkpointSubSequenceNumber";
    /// The shards from which this one came; a set in spite of its name.
    pub const PARENTS: &str = "parentShardId";
    /// The shards that follow this one.
    pub const CHILDREN: &str = "childShardIds";
    /// The first phase of a two-phase checkpoint.
    pub const PENDING: &str = "pendingCheckpoint";
    /// The index inside an aggregated record of the pending checkpoint.
    pub const PENDING_SUB: &str = "pendingCheckpointSubSequenceNumber";
    /// Opaque bytes of the application that belong to the pending checkpoint.
    pub const PENDING_STATE: &str = "pendingCheckpointState";
    /// The smallest hash key of the shard, decimal text.
    pub const HASH_START: &str = "startingHashKey";
    /// The largest hash key of the shard, decimal text.
    pub const HASH_END: &str = "endingHashKey";
    /// The worker that still processes a lease that a Java worker hands over.
    pub const CHECKPOINT_OWNER: &str = "checkpointOwner";
    /// The stream identifier of a lease of a multi-stream application (not the name).
    pub const STREAM_NAME: &str = "streamName";
    /// The shard of a lease of a multi-stream application.
    pub const SHARD_ID: &str = "shardId";
    /// The command that the holder obeyed last. Of ours only.
    pub const OBEYED_COMMAND: &str = "obeyedCommand";
    /// The seek that was applied last. Of ours only.
    pub const OBEYED_SEEK: &str = "obeyedSeek";
    /// The moment that a checkpoint AT_TIMESTAMP of a seek speaks of, epoch milliseconds. Of ours only.
    pub const SOUGHT_MOMENT: &str = "soughtMoment";

    /// The counter that shows that a worker is alive.
    pub const HEARTBEAT: &str = "heartbeat";
    /// True once a worker gives its leases away to end.
    pub const DRAINING: &str = "draining";
    /// The worker's lease duration in milliseconds.
    pub const DURATION: &str = "duration";
    /// How many leases the worker holds.
    pub const HELD_COUNT: &str = "heldCount";
    /// A digest over the keys of the leases that the worker holds.
    pub const HELD_DIGEST: &str = "heldDigest";
    /// How many leases the worker holds at most; absent for any number.
    pub const MAX_LEASES: &str = "maxLeases";
    /// Hints for the worker, a set of texts.
    pub const INBOX: &str = "inbox";
    /// The version of the protocol between workers.
    pub const PROTOCOL: &str = "protocol";

    /// The leading worker.
    pub const LEADER: &str = "leader";
    /// The worker that watches heartbeats besides the leader.
    pub const DEPUTY: &str = "deputy";
    /// The counter that shows that the leader leads.
    pub const ROUND: &str = "round";
    /// Ages of heartbeats as the leader knows them: worker to [heartbeat, age in milliseconds].
    pub const AGES: &str = "ages";

    /// The stream's ARN.
    pub const STREAM_ARN: &str = "streamArn";
    /// When the stream was created, epoch milliseconds.
    pub const STREAM_CREATED: &str = "streamCreationTime";
    /// True once the leases of the first start were all made.
    pub const LEASES_MADE: &str = "leasesMade";
    /// Where reading began: a sentinel.
    pub const INITIAL_POSITION: &str = "initialPosition";
    /// The moment that the initial position speaks of, epoch milliseconds.
    pub const INITIAL_MOMENT: &str = "initialMoment";

    /// The last command for a lease, by its id.
    pub const COMMAND: &str = "command";
    /// True while nothing of the lease's shard may be delivered.
    pub const PAUSED: &str = "paused";
    /// A seek that is to be applied once, by its id.
    pub const SEEK: &str = "seek";
    /// Where the seek goes: a sequence number or a sentinel.
    pub const SEEK_TO: &str = "seekTo";
    /// The index inside an aggregated record of that place.
    pub const SEEK_TO_SUB: &str = "seekToSubSequenceNumber";
    /// The moment that a seek to a time speaks of, epoch milliseconds.
    pub const SEEK_TO_MOMENT: &str = "seekToMoment";
    /// Why a worker paused the shard by itself: the text of an error.
    pub const STOP_CAUSE: &str = "stopCause";
    /// The record that could not be processed: a sequence number.
    pub const STOPPED_AT: &str = "stoppedAt";
    /// The index inside an aggregated record of that place.
    pub const STOPPED_AT_SUB: &str = "stoppedAtSubSequenceNumber";
}

/// The values of the `entityType` attribute that this library reads.
pub mod entity {
    /// A lease row.
    pub const LEASE: &str = "LEASE";
    /// A worker's session.
    pub const WORKER: &str = "SESSION_WORKER";
    /// The leader item.
    pub const LEADER: &str = "SESSION_LEADER";
    /// The identity and starting point of a stream.
    pub const STREAM: &str = "SESSION_STREAM";
    /// What an operator wants of the holder of a lease.
    pub const COMMAND: &str = "SESSION_COMMAND";
}
