//! Positions in a Kinesis shard and the rules for moving a checkpoint.
//!
//! No AWS, no I/O, no clock: plain values and decisions.

mod checkpoint;
mod position;
mod progress;
mod sequence_number;
mod watermark;

pub use checkpoint::Checkpoint;
pub use position::Position;
pub use progress::{CheckpointRuleError, Progress, Step};
pub use sequence_number::{
    InvalidSequenceNumber, MAX_DIGITS, SequenceNumber, compare as compare_sequence_numbers,
};
pub use watermark::{DeliveryId, OpenRecords, OutOfOrder, Watermark};
