//! The aggregated record format of the Kinesis Producer Library (KPL), both ways, without copying payloads.
//!
//! Producers put many small *user records* into one Kinesis record to save calls and money. This crate packs them and
//! takes them apart again. It knows nothing of AWS clients and does no I/O.
//!
//! * [`Decoder`] checks the digest and yields views ([`UserRecord`]) and offsets ([`Span`]) into the aggregated record.
//!   Nothing is copied, and a decoder that is used again allocates nothing.
//! * [`CheckedRecord`] checks the digests of many records together, which is most of the work.
//! * [`Packer`] bundles user records up to a size, one shard's to each bundle.
//!
//! ```
//! use kcl_aggregation::{Decoder, HashKeyRange, PackLimits, Packer};
//!
//! // A stream of two shards.
//! let middle = 1 << 127;
//! let left = HashKeyRange { start: 0, end: middle - 1 };
//! let right = HashKeyRange { start: middle, end: u128::MAX };
//!
//! let mut packer = Packer::new([left, right], PackLimits::default());
//! let mut to_put = Vec::new();
//! for order in 0..1000 {
//!     let payload = format!("order {order}");
//!     to_put.extend(packer.add(&format!("customer-{}", order % 10), None, payload.as_bytes())?);
//! }
//! to_put.extend(packer.flush());
//! assert_eq!(to_put.len(), 2); // instead of 1000
//!
//! // The consumer of one of the shards.
//! let mut decoder = Decoder::new();
//! let mut seen = 0;
//! for record in &to_put {
//!     match decoder.decode(&record.data, &left) {
//!         Ok(Some(user_records)) => {
//!             for user_record in user_records.iter().filter(|record| record.in_range()) {
//!                 assert!(user_record.partition_key().starts_with("customer-"));
//!                 assert!(user_record.data().starts_with(b"order "));
//!                 seen += 1;
//!             }
//!         }
//!         Ok(None) => println!("a plain record of {} bytes", record.data.len()),
//!         Err(damaged) => println!("deliver it as it is: {damaged}"),
//!     }
//! }
//! assert!(0 < seen && seen < 1000); // the rest is the other shard's
//! # Ok::<(), kcl_aggregation::PackError>(())
//! ```
//!
//! # The format
//!
//! Four magic bytes `F3 89 9A C2`, a protobuf message, the MD5 digest of the message. The message holds a table of
//! partition keys, one of explicit hash keys, and the user records, each with its data and indexes into the tables. The
//! place of a user record, from 0, is its *sub-sequence number*. Tags on user records are skipped and never written.
//! A user record that is itself an aggregated record stays as it is.
//!
//! # What counts as aggregated
//!
//! The rules are those of the Java KCL 3.5 (`AggregatorUtil`), stricter where that one loses data:
//!
//! | The data | here | Java |
//! |---|---|---|
//! | no magic bytes, or nothing between them and a digest | plain | plain |
//! | wrong digest, not protobuf, required field missing | [`Damaged`]: deliver it as it is | as it is |
//! | index outside a key table | [`Damaged`] | delivers what precedes, loses the rest |
//! | key that is not UTF-8 | [`Damaged`] | replaces the bytes |
//! | known field with another wire type | [`Damaged`] | ignores the field |
//! | more user records than [`MAX_USER_RECORDS`] | [`Damaged`] | no limit |
//! | explicit hash key that is not a number | ignored, see [`effective_hash_key`] | loses the rest |
//! | user record outside the shard's range | delivered, [`UserRecord::in_range`] tells | withholds the whole aggregated record |
//! | no user records | empty, complete | empty, no checkpoint passes it |
//!
//! Fields that are not known, groups included, are skipped; of a field that comes twice the last one counts.

mod bundle;
mod checked;
mod damaged;
mod decoder;
mod digest;
mod frame;
mod hash_key;
mod lanes;
mod packer;
mod side_by_side;
mod span;
mod tables;
mod wire;

pub use checked::CheckedRecord;
pub use damaged::Damaged;
pub use decoder::{Decoder, MAX_USER_RECORDS, UserRecord, UserRecords, UserRecordsIter};
pub use frame::looks_aggregated;
pub use hash_key::{HashKeyRange, effective_hash_key, hash_key};
pub use packer::{PackError, PackLimits, PackedRecord, Packer};
pub use span::Span;
