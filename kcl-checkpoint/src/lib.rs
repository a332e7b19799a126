//! Positions in a Kinesis shard and the rules for moving a checkpoint.
//!
//! No AWS, no I/O, no clock: plain values and decisions.

mod checkpoint;
mod position;
mod sequence_number;

pub use checkpoint::Checkpoint;
pub use position::Position;
pub use sequence_number::{
    InvalidSequenceNumber, MAX_DIGITS, SequenceNumber, compare as compare_sequence_numbers,
};
