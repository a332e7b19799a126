//! Who calls: on the wire the access key id, in process any name.

/// The name of a caller. Faults, partitions and denials are keyed by it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Caller(pub String);

impl Caller {
    /// A caller by name.
    #[must_use]
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }
}
