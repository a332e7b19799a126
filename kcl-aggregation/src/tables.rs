//! The message of an aggregated record as tables of offsets.
//!
//! ```text
//! AggregatedRecord: 1 repeated string partition_key_table      Record: 1 required uint64 partition_key_index
//!                   2 repeated string explicit_hash_key_table          2 optional uint64 explicit_hash_key_index
//!                   3 repeated Record records                          3 required bytes  data
//!                                                                      4 repeated Tag    tags, not read
//! ```

use std::ops::Range;

use crate::Damaged;
use crate::hash_key::{HashKeyRange, of_digest, parse};
use crate::lanes::md5_each;
use crate::span::Span;
use crate::wire::{Cursor, MAX_DEPTH, WireType};

/// One user record: its data and where its keys stand in the tables.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Row {
    pub(crate) data: Span,
    pub(crate) partition_key: u32,
    pub(crate) explicit_hash_key: Option<u32>,
    pub(crate) in_range: bool,
}

impl Row {
    fn explicit_in_range(&self, in_range: &[Option<bool>]) -> Option<bool> {
        in_range_at(self.explicit_hash_key?, in_range)
    }
}

/// The tables, kept between records so that their memory is used again.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    pub(crate) partition_keys: Vec<Span>,
    pub(crate) explicit_hash_keys: Vec<Span>,
    pub(crate) rows: Vec<Row>,
    /// Per key, whether it lies in the range; `None` when not known, or not a number.
    partition_key_in_range: Vec<Option<bool>>,
    explicit_in_range: Vec<Option<bool>>,
}

impl Tables {
    /// Fills the tables from the message at `message` of `record`. Each table takes at most `max_entries`.
    ///
    /// Reads each byte once and reserves nothing that the message merely promises. A user record takes at least six bytes
    /// of the message and a key two, so the tables grow in proportion to the input.
    pub(crate) fn fill(
        &mut self,
        record: &[u8],
        message: Range<usize>,
        max_entries: usize,
    ) -> Result<(), Damaged> {
        self.partition_keys.clear();
        self.explicit_hash_keys.clear();
        self.rows.clear();
        let mut cursor =
            Cursor::new(record, message.start, message.end).ok_or(Damaged::Malformed)?;
        while !cursor.at_end() {
            let key = cursor.key()?;
            match key.field {
                1 | 2 => {
                    key.require(WireType::Delimited)?;
                    let span = cursor.delimited()?;
                    str::from_utf8(span.of(record)).map_err(|_| Damaged::KeyNotUtf8)?;
                    let table = if key.field == 1 {
                        &mut self.partition_keys
                    } else {
                        &mut self.explicit_hash_keys
                    };
                    push_bounded(table, span, max_entries)?;
                }
                3 => {
                    key.require(WireType::Delimited)?;
                    let row = read_row(cursor.message()?)?;
                    push_bounded(&mut self.rows, row, max_entries)?;
                }
                _ => cursor.skip(key, MAX_DEPTH)?,
            }
        }
        self.check_key_indexes()
    }

    /// Key tables may follow the records on the wire, so this can only be known at the end.
    fn check_key_indexes(&self) -> Result<(), Damaged> {
        let known = |index: u32, table: &[Span]| (index as usize) < table.len();
        let all_known = self.rows.iter().all(|row| {
            known(row.partition_key, &self.partition_keys)
                && row
                    .explicit_hash_key
                    .is_none_or(|index| known(index, &self.explicit_hash_keys))
        });
        if all_known {
            Ok(())
        } else {
            Err(Damaged::KeyIndex)
        }
    }

    /// Notes for each row whether its effective hash key lies in `range`; each key is hashed or parsed at most once.
    pub(crate) fn mark_range(&mut self, record: &[u8], range: &HashKeyRange) {
        if *range == HashKeyRange::FULL {
            return;
        }
        self.explicit_in_range.clear();
        self.explicit_in_range.extend(
            self.explicit_hash_keys
                .iter()
                .map(|span| parse(span.text_of(record)).map(|hash_key| range.contains(hash_key))),
        );
        self.hash_partition_keys(record, range);
        for row in &mut self.rows {
            let explicit = row.explicit_in_range(&self.explicit_in_range);
            let hashed = || in_range_at(row.partition_key, &self.partition_key_in_range);
            row.in_range = explicit.or_else(hashed).unwrap_or(true);
        }
    }

    /// Hashes the partition keys that decide about a row, all together.
    fn hash_partition_keys(&mut self, record: &[u8], range: &HashKeyRange) {
        let hashed = |key: &Span| key.of(record);
        let in_range = |digest: [u8; 16]| Some(range.contains(of_digest(digest)));
        let in_ranges = &mut self.partition_key_in_range;
        in_ranges.clear();
        if self.explicit_hash_keys.is_empty() {
            let digests = md5_each(self.partition_keys.iter().map(hashed));
            in_ranges.extend(digests.into_iter().map(in_range));
            return;
        }
        in_ranges.resize(self.partition_keys.len(), None);
        let mut deciding = Vec::with_capacity(self.partition_keys.len());
        for row in &self.rows {
            let slot = in_ranges.get_mut(row.partition_key as usize);
            if let Some(slot @ None) = slot
                && row.explicit_in_range(&self.explicit_in_range).is_none()
            {
                *slot = Some(true);
                deciding.push(row.partition_key as usize);
            }
        }
        let keys = deciding
            .iter()
            .filter_map(|index| self.partition_keys.get(*index));
        for (index, digest) in deciding.iter().zip(md5_each(keys.map(hashed))) {
            if let Some(slot) = in_ranges.get_mut(*index) {
                *slot = in_range(digest);
            }
        }
    }
}

/// What is known of the key at an index of a table.
fn in_range_at(index: u32, in_range: &[Option<bool>]) -> Option<bool> {
    in_range.get(index as usize).copied().flatten()
}

fn read_row(mut cursor: Cursor<'_>) -> Result<Row, Damaged> {
    let (mut data, mut partition_key, mut explicit_hash_key) = (None, None, None);
    while !cursor.at_end() {
        let key = cursor.key()?;
        match key.field {
            1 => {
                key.require(WireType::Varint)?;
                partition_key = Some(table_index(cursor.varint()?));
            }
            2 => {
                key.require(WireType::Varint)?;
                explicit_hash_key = Some(table_index(cursor.varint()?));
            }
            3 => {
                key.require(WireType::Delimited)?;
                data = Some(cursor.delimited()?);
            }
            _ => cursor.skip(key, MAX_DEPTH - 1)?,
        }
    }
    Ok(Row {
        data: data.ok_or(Damaged::MissingField)?,
        partition_key: partition_key.ok_or(Damaged::MissingField)?,
        explicit_hash_key,
        in_range: true,
    })
}

/// An index that is too large for any table stays too large. The last of several counts, so this cannot fail here.
fn table_index(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(u32::MAX)
}

fn push_bounded<T>(table: &mut Vec<T>, entry: T, max_entries: usize) -> Result<(), Damaged> {
    if table.len() >= max_entries {
        return Err(Damaged::TooMany);
    }
    table.push(entry);
    Ok(())
}
