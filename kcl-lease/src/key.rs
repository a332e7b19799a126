//! The names that leases are about: lease keys, shards, workers and hash-key ranges.

use std::fmt;
use std::sync::Arc;

/// Longest worker name that [`WorkerId::generate`] accepts, in bytes.
pub const MAX_WORKER_NAME: usize = 128;

/// Defines a cheap-to-clone text type that differs from the other text types only by name.
macro_rules! text_newtype {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Wraps the text as it is.
            #[must_use]
            pub fn new(text: impl Into<Arc<str>>) -> Self {
                Self(text.into())
            }

            /// The text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl From<&str> for $name {
            fn from(text: &str) -> Self {
                Self::new(text)
            }
        }

        impl From<String> for $name {
            fn from(text: String) -> Self {
                Self::new(text)
            }
        }

        impl AsRef<str> for $name {
            fn as_ref(&self) -> &str {
                &self.0
            }
        }

        impl std::borrow::Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&*self.0, f)
            }
        }
    };
}

text_newtype! {
    /// The name of a shard within its stream, such as `shardId-000000000000`.
    ShardId
}

text_newtype! {
    /// The key of a lease row.
    ///
    /// With one stream it is the shard's name. With several it is `<account>:<stream>:<creation epoch>:<shard>`,
    /// the layout of the Java library (`MultiStreamLease`).
    LeaseKey
}

text_newtype! {
    /// The name under which a worker owns leases.
    ///
    /// Ours are `name/32 hex digits`, random for each session. A Java worker's may be any text.
    WorkerId
}

/// Which of its streams an application means. An application of one stream has no names for it:
/// [`ONLY`](StreamKey::ONLY).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct StreamKey(Option<Arc<str>>);

impl StreamKey {
    /// The application's only stream: its leases have the names of its shards.
    pub const ONLY: Self = Self(None);

    /// One stream among several: `<account>:<stream>:<creation epoch>`, in seconds, as the Java library writes it
    /// (`StreamIdentifier`). The epoch tells a stream that was created again from the earlier one.
    #[must_use]
    pub fn new(account: &str, stream: &str, creation_epoch: u64) -> Self {
        Self(Some(format!("{account}:{stream}:{creation_epoch}").into()))
    }

    /// One stream among several, by what the table calls it.
    pub(crate) fn among(text: &str) -> Self {
        Self(Some(text.into()))
    }

    /// The text, if the stream is one among several.
    #[must_use]
    pub fn as_str(&self) -> Option<&str> {
        self.0.as_deref()
    }

    /// The stream's name, if it is one among several.
    #[must_use]
    pub fn name(&self) -> Option<&str> {
        self.as_str()?.split(':').nth(1)
    }

    /// The key of the lease for a shard of this stream.
    #[must_use]
    pub fn lease_key(&self, shard: &ShardId) -> LeaseKey {
        match &self.0 {
            Some(stream) => LeaseKey::new(format!("{stream}:{shard}")),
            None => LeaseKey(Arc::clone(&shard.0)),
        }
    }
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str().unwrap_or("the application's only stream"))
    }
}

impl LeaseKey {
    /// The key for a shard of the application's only stream.
    #[must_use]
    pub fn of_shard(shard: &ShardId) -> Self {
        StreamKey::ONLY.lease_key(shard)
    }

    /// The stream part, if the key has one.
    #[must_use]
    pub fn stream(&self) -> Option<&str> {
        self.0.rsplit_once(':').map(|(stream, _)| stream)
    }

    /// Which stream the shard belongs to.
    #[must_use]
    pub fn stream_key(&self) -> StreamKey {
        self.stream().map_or(StreamKey::ONLY, StreamKey::among)
    }

    /// The shard.
    #[must_use]
    pub fn shard(&self) -> ShardId {
        ShardId::new(self.0.rsplit_once(':').map_or(&*self.0, |(_, shard)| shard))
    }

    /// The key of another shard of the same stream, such as a parent or a child.
    #[must_use]
    pub fn relative(&self, shard: &ShardId) -> Self {
        self.stream_key().lease_key(shard)
    }
}

/// A worker name that cannot be part of a worker id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "worker name {name:?} cannot be used: choose 1 to {MAX_WORKER_NAME} visible ASCII characters without '/' and '|'"
)]
pub struct InvalidWorkerName {
    name: String,
}

impl WorkerId {
    /// A new id for one session of the worker called `name`.
    ///
    /// # Errors
    /// When `name` is empty, too long, or holds anything but visible ASCII characters other than `/` and `|`
    /// (they separate the parts of ids and hints).
    pub fn generate(name: &str, rng: &mut fastrand::Rng) -> Result<Self, InvalidWorkerName> {
        if !is_worker_name(name) {
            return Err(InvalidWorkerName {
                name: name.chars().take(MAX_WORKER_NAME).collect(),
            });
        }
        Ok(Self::new(format!("{name}/{:032x}", rng.u128(..))))
    }

    /// True if the id has the form of our own ids. Others belong to workers without a heartbeat item (Java).
    #[must_use]
    pub fn is_session(&self) -> bool {
        self.0.rsplit_once('/').is_some_and(|(name, random)| {
            is_worker_name(name)
                && random.len() == 32
                && random
                    .bytes()
                    .all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
        })
    }

    /// The name that the operator chose; the whole id if it is not one of ours.
    #[must_use]
    pub fn name(&self) -> &str {
        match self.0.rsplit_once('/') {
            Some((name, _)) if self.is_session() => name,
            _ => &self.0,
        }
    }
}

fn is_worker_name(name: &str) -> bool {
    (1..=MAX_WORKER_NAME).contains(&name.len())
        && name
            .bytes()
            .all(|b| b.is_ascii_graphic() && !matches!(b, b'/' | b'|'))
}

/// The range of 128-bit hash keys that a shard covers. Both ends belong to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HashKeyRange {
    /// The smallest hash key.
    pub start: u128,
    /// The largest hash key.
    pub end: u128,
}

/// Text that is no hash-key range.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "a hash-key range is two decimal numbers of at most 128 bits, the first not above the second"
)]
#[non_exhaustive]
pub struct InvalidHashKeyRange;

impl HashKeyRange {
    /// The range of a stream with a single shard.
    pub const FULL: Self = Self {
        start: 0,
        end: u128::MAX,
    };

    /// Reads both ends as decimal text, as the service and the lease table write them.
    ///
    /// # Errors
    /// When one end is no decimal number of at most 128 bits, or the start lies above the end.
    pub fn parse(start: &str, end: &str) -> Result<Self, InvalidHashKeyRange> {
        let start = parse_hash_key(start)?;
        let end = parse_hash_key(end)?;
        if start > end {
            return Err(InvalidHashKeyRange);
        }
        Ok(Self { start, end })
    }

    /// The hash keys that lie in both ranges, if there are any.
    #[must_use]
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let (start, end) = (self.start.max(other.start), self.end.min(other.end));
        (start <= end).then_some(Self { start, end })
    }

    /// True if some hash key lies in both ranges.
    #[must_use]
    pub fn overlaps(&self, other: &Self) -> bool {
        self.intersection(other).is_some()
    }

    /// True if `key` lies in the range.
    #[must_use]
    pub fn contains(&self, key: u128) -> bool {
        (self.start..=self.end).contains(&key)
    }
}

fn parse_hash_key(text: &str) -> Result<u128, InvalidHashKeyRange> {
    // `u128::from_str` would also take a plus sign.
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(InvalidHashKeyRange);
    }
    text.parse().map_err(|_| InvalidHashKeyRange)
}

impl fmt::Display for HashKeyRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..={}", self.start, self.end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn generated_ids_are_recognised_and_differ() {
        let mut rng = fastrand::Rng::with_seed(1);
        let first = WorkerId::generate("host-1", &mut rng).unwrap();
        let second = WorkerId::generate("host-1", &mut rng).unwrap();
        assert!(first.is_session());
        assert_eq!(first.name(), "host-1");
        assert_eq!(first.as_str().len(), "host-1/".len() + 32);
        assert_ne!(first, second);
    }

    #[test]
    fn foreign_ids_are_not_taken_for_ours() {
        for id in [
            "",
            "worker-a",
            "host:8b7c2f6e-0c8b-4d5c-9f56-8f1d5c3c0a11",
            "/00000000000000000000000000000000",
            "a/0000000000000000000000000000000",
            "a/0000000000000000000000000000000G",
            "a/0000000000000000000000000000000A",
            "a/b/00000000000000000000000000000000",
        ] {
            let id = WorkerId::from(id);
            assert!(!id.is_session(), "{id:?}");
            assert_eq!(id.name(), id.as_str());
        }
    }

    #[test]
    fn worker_names_that_would_break_ids_or_hints_are_refused() {
        let mut rng = fastrand::Rng::with_seed(1);
        let too_long = "x".repeat(MAX_WORKER_NAME + 1);
        for name in ["", "a b", "a/b", "a|b", "a\n", "häuschen", &too_long] {
            let error = WorkerId::generate(name, &mut rng).unwrap_err();
            assert!(error.to_string().contains("choose 1 to 128"), "{error}");
        }
    }

    #[test]
    fn lease_keys_of_several_streams_keep_the_shard_last() {
        let shard = ShardId::from("shardId-000000000006");
        let single = LeaseKey::of_shard(&shard);
        assert_eq!((single.stream(), single.shard()), (None, shard.clone()));
        let stream = StreamKey::new("123456789012", "orders", 1_620_000_000);
        let multi = stream.lease_key(&shard);
        assert_eq!(
            (multi.stream_key(), single.stream_key()),
            (stream, StreamKey::ONLY)
        );
        assert_eq!(
            multi.as_str(),
            "123456789012:orders:1620000000:shardId-000000000006"
        );
        assert_eq!(multi.stream(), Some("123456789012:orders:1620000000"));
        assert_eq!(multi.shard(), shard);
        let parent = ShardId::from("shardId-000000000001");
        assert_eq!(multi.relative(&parent).stream(), multi.stream());
        assert_eq!(single.relative(&parent).as_str(), parent.as_str());
    }

    #[test]
    fn hash_key_ranges_are_decimal_and_ordered() {
        let full = HashKeyRange::parse("0", "340282366920938463463374607431768211455").unwrap();
        assert_eq!(full, HashKeyRange::FULL);
        assert!(full.contains(u128::MAX) && full.contains(0));
        assert!(HashKeyRange::parse("7", "7").is_ok());
        for (start, end) in [
            ("8", "7"),
            ("", "7"),
            ("+1", "7"),
            ("-1", "7"),
            ("0", "340282366920938463463374607431768211456"),
            ("0x1", "7"),
        ] {
            assert!(HashKeyRange::parse(start, end).is_err(), "{start} {end}");
        }
    }
}
