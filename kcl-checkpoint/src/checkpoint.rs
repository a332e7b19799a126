//! What a lease row stores as progress: a position or a sentinel.

use std::fmt;

use crate::{InvalidSequenceNumber, Position, SequenceNumber};

/// The progress stored for a shard: everything up to here is complete.
///
/// The order is that of the Java library (`ExtendedSequenceNumber`): the starting sentinels first,
/// then positions by number, then the shard's end.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Checkpoint {
    /// Nothing is complete; reading starts at the configured time. The time itself is not stored.
    AtTimestamp,
    /// Nothing is complete; reading starts at the oldest record.
    TrimHorizon,
    /// Nothing is complete; reading starts at the tip as it was when the application first started.
    Latest,
    /// All user records up to and including this one are complete.
    At(Position),
    /// All records of a closed shard are complete.
    ShardEnd,
}

impl Checkpoint {
    /// True until the first record of the shard is complete.
    #[must_use]
    pub fn is_start(&self) -> bool {
        matches!(self, Self::AtTimestamp | Self::TrimHorizon | Self::Latest)
    }

    /// The position, unless this is a sentinel.
    #[must_use]
    pub fn position(&self) -> Option<&Position> {
        match self {
            Self::At(position) => Some(position),
            _ => None,
        }
    }

    /// The text of the `checkpoint` attribute.
    #[must_use]
    pub fn text(&self) -> &str {
        match self {
            Self::AtTimestamp => "AT_TIMESTAMP",
            Self::TrimHorizon => "TRIM_HORIZON",
            Self::Latest => "LATEST",
            Self::At(position) => position.sequence_number.as_str(),
            Self::ShardEnd => "SHARD_END",
        }
    }

    /// The value of the `checkpointSubSequenceNumber` attribute; sentinels carry 0.
    #[must_use]
    pub fn sub_sequence_number(&self) -> u64 {
        self.position()
            .map_or(0, |position| position.sub_sequence_number)
    }

    /// Reads the two attributes of a lease row.
    ///
    /// # Errors
    /// When `text` is neither a sentinel nor a sequence number.
    pub fn from_attributes(
        text: &str,
        sub_sequence_number: u64,
    ) -> Result<Self, InvalidSequenceNumber> {
        Ok(match text {
            "AT_TIMESTAMP" => Self::AtTimestamp,
            "TRIM_HORIZON" => Self::TrimHorizon,
            "LATEST" => Self::Latest,
            "SHARD_END" => Self::ShardEnd,
            digits => Self::At(Position::new(
                SequenceNumber::parse(digits)?,
                sub_sequence_number,
            )),
        })
    }
}

impl From<Position> for Checkpoint {
    fn from(position: Position) -> Self {
        Self::At(position)
    }
}

impl fmt::Display for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::At(position) => fmt::Display::fmt(position, f),
            sentinel => f.write_str(sentinel.text()),
        }
    }
}

impl fmt::Debug for Checkpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
