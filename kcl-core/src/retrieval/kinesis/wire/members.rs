//! The members of a record, and the guess of which one comes next.

/// A member of a record that is read, or any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Member {
    SequenceNumber,
    Arrival,
    Data,
    PartitionKey,
    Encryption,
    Other,
}

impl Member {
    pub(super) fn named(name: &[u8]) -> Self {
        match name {
            b"SequenceNumber" => Self::SequenceNumber,
            b"ApproximateArrivalTimestamp" => Self::Arrival,
            b"Data" => Self::Data,
            b"PartitionKey" => Self::PartitionKey,
            b"EncryptionType" => Self::Encryption,
            _ => Self::Other,
        }
    }
}

/// The members of the last record in their order. The next record has almost surely the same, so that a name costs one
/// comparison with a constant.
#[derive(Debug, Clone, Copy)]
pub(super) struct MemberOrder([Member; 8]);

impl MemberOrder {
    pub(super) fn unknown() -> Self {
        Self([Member::Other; 8])
    }

    #[inline]
    pub(super) fn guess(&self, index: usize) -> Member {
        self.0.get(index).copied().unwrap_or(Member::Other)
    }

    pub(super) fn learn(&mut self, index: usize, member: Member) {
        if let Some(place) = self.0.get_mut(index) {
            *place = member;
        }
    }
}
