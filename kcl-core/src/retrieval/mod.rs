//! From a shard to batches of user records: source, pacing, byte budget, polling, de-aggregation.

mod absence;
mod batch;
mod batch_builder;
mod budget;
mod choice;
mod deaggregate;
mod delivery;
mod error;
mod fan_out;
mod idle;
mod intake;
mod kinesis;
mod memory;
mod observer;
mod one_line;
mod pace;
mod plan;
mod polling;
mod read_limit;
mod reader;
mod record;
mod shard_end;
mod source;
mod subscription;
#[cfg(test)]
mod tests;
mod time_limit;

pub use batch::{Batch, Records};
pub use batch_builder::{BatchBuilder, InvalidBatch, RawRecord};
pub use budget::{Budget, Member, Reservation};
pub use choice::{FanOutOptions, Retrieval};
pub use deaggregate::{DeaggregationCounts, OutOfRange, deaggregate};
pub use delivery::{Delivery, Gap, PollEnd, ShardEnd};
pub use error::{SourceError, SourceErrorKind};
pub(crate) use fan_out::{Consumer, ConsumerOptions, FanOut};
pub use idle::IdleShards;
pub use intake::ShardRead;
#[cfg(feature = "internals")]
#[doc(hidden)]
pub use kinesis::internals;
pub(crate) use kinesis::{BufferPool, classify, control_overrides, reading_client};
pub use kinesis::{KinesisSource, Wire};
pub use memory::MemoryStream;
pub use observer::{FetchReport, RetrievalObserver, Unobserved};
pub(crate) use one_line::one_line;
pub use pace::PaceOptions;
pub use plan::MAX_RECORDS_PER_CALL;
pub use polling::{Poller, Polling};
pub use read_limit::{Charge, ReadLimit};
pub(crate) use reader::Reader;
pub use record::{EncryptionType, Record, RecordRef};
pub use source::{
    Fetched, ShardFilter, ShardIterator, ShardSource, StartPosition, StreamDescription,
    StreamStatus,
};
pub use subscription::{ConsumerStatus, Pushed, StreamConsumer, Subscription};
pub(crate) use time_limit::TimeLimited;
