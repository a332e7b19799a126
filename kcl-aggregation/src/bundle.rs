//! User records on their way into one aggregated record.

use std::borrow::Borrow;
use std::collections::BTreeMap;
use std::{fmt, mem};

use bytes::Bytes;

use crate::frame::{FRAME_LEN, frame, looks_aggregated};
use crate::packer::PackedRecord;
use crate::wire::{delimited_len, put_delimited_header, put_varint_field, varint_len};

/// A user record that is to be packed.
pub(crate) struct NewRecord<'a> {
    pub(crate) partition_key: &'a str,
    pub(crate) explicit_hash_key: Option<u128>,
    /// The effective one.
    pub(crate) hash_key: u128,
    pub(crate) data: &'a [u8],
}

impl NewRecord<'_> {
    /// Bytes that Kinesis would count for a record that holds only this one.
    pub(crate) fn len_alone(&self) -> usize {
        if looks_aggregated(self.data) {
            Bundle::default().len_with(self)
        } else {
            self.partition_key.len() + self.data.len()
        }
    }
}

/// The parts of a message, each written as far as it is known. Field order on the wire is that of the KPL: keys first.
#[derive(Default)]
pub(crate) struct Bundle {
    first: Option<First>,
    user_records: usize,
    partition_keys: BTreeMap<String, usize>,
    explicit_hash_keys: BTreeMap<u128, usize>,
    partition_key_table: Vec<u8>,
    explicit_hash_key_table: Vec<u8>,
    records: Vec<u8>,
}

/// The first user record decides what the whole is put with.
struct First {
    partition_key: String,
    explicit_hash_key: Option<u128>,
    hash_key: u128,
    data_len: usize,
}

/// What a user record adds to the message.
struct Growth {
    partition_key: Place,
    explicit_hash_key: Option<Place>,
    /// The content of the record's field.
    record_len: usize,
}

/// A key's index and the bytes that its table gains.
struct Place {
    index: usize,
    table_growth: usize,
}

impl Place {
    fn find<K: Ord + ?Sized, Q: Ord + Borrow<K>>(
        table: &BTreeMap<Q, usize>,
        key: &K,
        text_len: usize,
    ) -> Self {
        match table.get(key) {
            Some(&index) => Self {
                index,
                table_growth: 0,
            },
            None => Self {
                index: table.len(),
                table_growth: delimited_len(text_len),
            },
        }
    }
}

impl Bundle {
    pub(crate) const fn is_empty(&self) -> bool {
        self.user_records == 0
    }

    pub(crate) const fn user_records(&self) -> usize {
        self.user_records
    }

    /// Bytes that Kinesis would count for the aggregated record if this record joined.
    pub(crate) fn len_with(&self, record: &NewRecord<'_>) -> usize {
        let growth = self.growth(record);
        let put_with = self
            .first
            .as_ref()
            .map_or(record.partition_key.len(), |first| {
                first.partition_key.len()
            });
        let message = self.partition_key_table.len()
            + self.explicit_hash_key_table.len()
            + self.records.len()
            + growth.partition_key.table_growth
            + growth
                .explicit_hash_key
                .map_or(0, |place| place.table_growth)
            + delimited_len(growth.record_len);
        put_with + FRAME_LEN + message
    }

    fn growth(&self, record: &NewRecord<'_>) -> Growth {
        let partition_key = Place::find(
            &self.partition_keys,
            record.partition_key,
            record.partition_key.len(),
        );
        let explicit_hash_key = record
            .explicit_hash_key
            .map(|key| Place::find(&self.explicit_hash_keys, &key, decimal_len(key)));
        let record_len = 1
            + varint_len(partition_key.index)
            + explicit_hash_key
                .as_ref()
                .map_or(0, |place| 1 + varint_len(place.index))
            + delimited_len(record.data.len());
        Growth {
            partition_key,
            explicit_hash_key,
            record_len,
        }
    }

    pub(crate) fn push(&mut self, record: &NewRecord<'_>) {
        let growth = self.growth(record);
        if growth.partition_key.table_growth > 0 {
            self.add_partition_key(record.partition_key, growth.partition_key.index);
        }
        let explicit = record.explicit_hash_key.zip(growth.explicit_hash_key);
        if let Some((key, place)) = &explicit
            && place.table_growth > 0
        {
            self.add_explicit_hash_key(*key, place.index);
        }
        put_delimited_header(&mut self.records, 3, growth.record_len);
        put_varint_field(&mut self.records, 1, growth.partition_key.index);
        if let Some((_, place)) = explicit {
            put_varint_field(&mut self.records, 2, place.index);
        }
        put_delimited_header(&mut self.records, 3, record.data.len());
        self.records.extend_from_slice(record.data);

        self.user_records += 1;
        self.first.get_or_insert_with(|| First {
            partition_key: record.partition_key.to_owned(),
            explicit_hash_key: record.explicit_hash_key,
            hash_key: record.hash_key,
            data_len: record.data.len(),
        });
    }

    fn add_partition_key(&mut self, key: &str, index: usize) {
        self.partition_keys.insert(key.to_owned(), index);
        put_delimited_header(&mut self.partition_key_table, 1, key.len());
        self.partition_key_table.extend_from_slice(key.as_bytes());
    }

    fn add_explicit_hash_key(&mut self, key: u128, index: usize) {
        self.explicit_hash_keys.insert(key, index);
        let text = key.to_string();
        put_delimited_header(&mut self.explicit_hash_key_table, 2, text.len());
        self.explicit_hash_key_table
            .extend_from_slice(text.as_bytes());
    }

    /// Takes everything out as one record, which leaves the bundle empty; `None` when it was.
    pub(crate) fn take(&mut self) -> Option<PackedRecord> {
        let bundle = mem::take(self);
        let first = bundle.first.as_ref()?;
        let plain = bundle.only_payload().map(|payload| PackedRecord {
            partition_key: first.partition_key.clone(),
            explicit_hash_key: first.explicit_hash_key.map(|key| key.to_string()),
            data: Bytes::copy_from_slice(payload),
            user_records: 1,
        });
        Some(plain.unwrap_or_else(|| PackedRecord {
            partition_key: first.partition_key.clone(),
            explicit_hash_key: Some(first.hash_key.to_string()),
            data: Bytes::from(frame(&[
                &bundle.partition_key_table,
                &bundle.explicit_hash_key_table,
                &bundle.records,
            ])),
            user_records: bundle.user_records,
        }))
    }

    /// The payload of the only user record, unless it would be taken for an aggregated record when it is put plain.
    fn only_payload(&self) -> Option<&[u8]> {
        let first = self.first.as_ref()?;
        if self.user_records != 1 {
            return None;
        }
        let start = self.records.len().checked_sub(first.data_len)?;
        self.records
            .get(start..)
            .filter(|payload| !looks_aggregated(payload))
    }
}

/// Shows sizes only: payloads and keys do not belong in logs.
impl fmt::Debug for Bundle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Bundle")
            .field("user_records", &self.user_records)
            .field("record_bytes", &self.records.len())
            .finish_non_exhaustive()
    }
}

/// Digits of a number.
fn decimal_len(value: u128) -> usize {
    value.checked_ilog10().unwrap_or(0) as usize + 1
}
