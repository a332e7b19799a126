//! The place of one user record in a shard.

use std::fmt;

use crate::SequenceNumber;

/// The place of one user record: the Kinesis record it came in, and its index inside an aggregated record.
///
/// A record that is not aggregated has sub-sequence number 0. This is the Java library's
/// `ExtendedSequenceNumber` without the sentinels (those are [`Checkpoint`](crate::Checkpoint)s).
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Position {
    /// The Kinesis record.
    pub sequence_number: SequenceNumber,
    /// The index in the aggregated record, from 0.
    pub sub_sequence_number: u64,
}

impl Position {
    /// A position from its parts.
    #[must_use]
    pub fn new(sequence_number: SequenceNumber, sub_sequence_number: u64) -> Self {
        Self {
            sequence_number,
            sub_sequence_number,
        }
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.sequence_number)?;
        match self.sub_sequence_number {
            0 => Ok(()),
            sub => write!(f, "#{sub}"),
        }
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
