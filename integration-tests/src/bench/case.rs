//! What answers look like.

use clap::ValueEnum;

/// The records of a measurement.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub enum Case {
    /// 100 bytes each.
    #[value(name = "100-bytes")]
    Bytes100,
    /// 1 KB each.
    #[value(name = "1-kilobyte")]
    Kilobyte,
    /// 10 KB each.
    #[value(name = "10-kilobytes")]
    TenKilobytes,
    /// 100 user records of 100 bytes in each.
    #[value(name = "aggregated")]
    Aggregated,
}

impl Case {
    /// All of them, in the order of the tables.
    pub(super) const ALL: [Self; 4] = [
        Self::Bytes100,
        Self::Kilobyte,
        Self::TenKilobytes,
        Self::Aggregated,
    ];

    /// As the command line has it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Bytes100 => "100-bytes",
            Self::Kilobyte => "1-kilobyte",
            Self::TenKilobytes => "10-kilobytes",
            Self::Aggregated => "aggregated",
        }
    }

    /// Bytes of data in each user record.
    pub(super) fn size(self) -> usize {
        match self {
            Self::Bytes100 | Self::Aggregated => 100,
            Self::Kilobyte => 1_000,
            Self::TenKilobytes => 10_000,
        }
    }

    /// User records in each Kinesis record.
    pub(super) fn users(self) -> usize {
        match self {
            Self::Aggregated => 100,
            Self::Bytes100 | Self::Kilobyte | Self::TenKilobytes => 1,
        }
    }

    /// Kinesis records in one answer: 1,000, or about 2 MB of them.
    pub(super) fn limit(self) -> u16 {
        match self {
            Self::Bytes100 | Self::Kilobyte => 1_000,
            Self::TenKilobytes | Self::Aggregated => 200,
        }
    }
}
