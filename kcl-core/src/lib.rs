#![doc = include_str!("../../README.md")]

mod ack;
mod board;
mod builder;
mod call;
mod checkpointer;
mod config;
mod context;
mod counters;
mod dead_letter;
mod error;
mod event;
mod failure;
mod grant;
mod handle;
mod health;
mod input;
mod lease_table;
mod many;
mod parcel;
mod processor;
mod progress;
mod replay;
pub mod retrieval;
mod selection;
mod shard_info;
mod shard_reader;
mod shard_task;
mod shared_reading;
mod shutdown;
mod startup;
mod stream;
mod stream_reading;
mod supervisor;
mod two_phase;
mod upkeep;
mod worker;

pub use async_trait::async_trait;
pub use kcl_checkpoint::{Checkpoint, CheckpointRuleError, Position, SequenceNumber};
pub use kcl_lease::dynamodb::{DynamoDbLeaseTable, DynamoDbOptions};
pub use kcl_lease::operator::{
    Commanded, Issued, NotObeyed, Operator, OperatorError, SeekTo, Shards, Standing,
};
pub use kcl_lease::runtime::Runtime;
pub use kcl_lease::{
    CommandId, CommandItem, CoordinatorError, HashKeyRange, Lease, LeaseKey, LeaseTable,
    LossReason, RowRepair, Seek, ShardId, StartPoint, StopCause, StreamKey, WorkerId,
};

pub use ack::{Ack, AckError, BatchAck};
pub use builder::WorkerBuilder;
pub use checkpointer::Checkpointer;
pub use config::{GapPolicy, InitialPosition};
pub use counters::WorkerCounters;
pub use dead_letter::{DeadLetter, DeadLetterSink, FileSink, StreamSink};
pub use error::{BuildError, CheckpointError, WorkerError};
pub use event::{Events, ReleaseCause, WorkerEvent};
pub use failure::{BatchFailure, FailurePolicy, OnFailure, ParkTime};
pub use grant::Grant;
pub use handle::{StoppedShard, WorkerHandle};
pub use health::{
    Health, Lag, LastError, OpenHandle, RunningCall, ShardHealth, ShardState, WorkerState,
};
pub use input::{
    InitializationInput, LeaseLostInput, ProcessRecordsInput, ShardEndedInput, ShutdownReason,
    ShutdownRequestedInput,
};
pub use processor::{BoxError, ProcessorResult, RecordProcessor};
pub use retrieval::{
    Batch, EncryptionType, FanOutOptions, OutOfRange, Record, RecordRef, Records, Retrieval,
    SourceError, SourceErrorKind, Wire,
};
pub use shard_info::ShardInfo;
pub use shutdown::{EXIT_NOT_DRAINED, ShutdownReport, exit_code, shutdown_signal};
pub use stream::{StreamConfig, StreamTracker, Streams};
pub use two_phase::{PendingCheckpoint, PreparedCheckpoint};
pub use worker::Worker;

/// The manual of processing, whose programs are compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../docs/processing.md")]
mod processing_manual {}

/// The manual of retrieval, whose program is compiled.
#[cfg(doctest)]
#[doc = include_str!("../../docs/retrieval.md")]
mod retrieval_manual {}
