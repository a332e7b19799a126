//! `PutRecord` and `PutRecords`.

use std::sync::Arc;

use super::{
    api::{
        Blob, PartitionKey, PutRecordInput, PutRecordOutput, PutRecordsInput, PutRecordsOutput,
        PutRecordsRequestEntry, PutRecordsResultEntry, SubscriptionId,
    },
    engine::Engine,
    error, hash_key,
    sequence::SequenceNumber,
    shard::{self, Moment, StoredRecord},
    stream::Stream,
    validate::{self, Validation},
};
use crate::{ApiError, Timestamp};

const MIB: usize = 1024 * 1024;
/// "up to a limit of 10 MiB for the entire request, including partition keys" (API reference, `PutRecords`).
const REQUEST_BYTES: usize = 10 * MIB;
const REQUEST_RECORDS: usize = 500;

/// A record that passed validation.
struct Entry {
    data: Blob,
    partition_key: String,
    hash_key: u128,
}

/// Where a record was stored, and who waits for it there.
struct Stored {
    shard: u32,
    sequence_number: SequenceNumber,
    followers: Vec<SubscriptionId>,
}

/// Checks one record whose members have names that begin with `path`.
fn check(check: &mut Validation, path: &str, entry: &PutRecordsRequestEntry) {
    let member = |name: &str| format!("{path}{name}");
    check.required(
        &member("partitionKey"),
        &entry.partition_key,
        validate::PARTITION_KEY,
    );
    check.optional(
        &member("explicitHashKey"),
        &entry.explicit_hash_key,
        validate::HASH_KEY,
    );
    check.present(&member("data"), &entry.data);
    if let Some(data) = &entry.data {
        check_size(check, path, data.len(), 10 * MIB);
    }
}

fn check_size(check: &mut Validation, path: &str, size: usize, most: usize) {
    let shown = format!("'java.nio.HeapByteBuffer[pos=0 lim={size} cap={size}]'");
    check.length(shown, &format!("{path}data"), size, 0, most);
}

/// Turns a checked record into one that can be stored in this stream.
fn accept(stream: &Stream, path: &str, entry: PutRecordsRequestEntry) -> Result<Entry, ApiError> {
    let partition_key = entry.partition_key.unwrap_or_default();
    let data = entry.data.unwrap_or_default();
    let most = usize::try_from(stream.max_record_kib).unwrap_or_default() * 1024;
    let mut check = Validation::default();
    check_size(&mut check, path, data.len() + partition_key.len(), most);
    check.finish()?;
    let hash_key = match &entry.explicit_hash_key {
        None => hash_key::of_partition_key(&partition_key),
        Some(text) => hash_key::parse(text).ok_or_else(|| {
            error::invalid_argument(format!(
                "Invalid ExplicitHashKey. ExplicitHashKey must be in the range: [0, 2^128-1]. Specified value was {text}"
            ))
        })?,
    };
    Ok(Entry {
        data,
        partition_key,
        hash_key,
    })
}

/// Stores a record at `moment`, or says why its shard does not take it.
fn store(
    stream: &mut Stream,
    account: &str,
    entry: Entry,
    moment: Moment,
    throttle: bool,
) -> Result<Stored, ApiError> {
    let (created, encrypted) = (stream.created, stream.key_id.is_some());
    let (name, horizon) = (stream.name.clone(), stream.horizon());
    let shard = stream
        .shard_for(entry.hash_key)
        .ok_or_else(|| error::no_such_stream(&name, account))?;
    let size = shard::size(&entry.data, &entry.partition_key);
    if throttle && !take_write(shard, moment.time, size) {
        let message = error::rate_exceeded(shard.number, &name, account);
        return Err(ApiError::client(error::THROTTLED, message));
    }
    // Without readers nobody else would ever forget what is past retention.
    shard.trim(horizon.time);
    shard.log.push_back(StoredRecord {
        index: moment.index,
        arrived: moment.time,
        partition_key: PartitionKey(Arc::from(entry.partition_key)),
        data: entry.data.0,
        encrypted,
    });
    Ok(Stored {
        shard: shard.number,
        sequence_number: shard.number_at(created, moment),
        followers: shard.followers.iter().copied().collect(),
    })
}

/// Takes a record's worth from what its shard accepts per second, if it is there.
fn take_write(shard: &mut shard::Shard, now: Timestamp, size: i64) -> bool {
    let limits = &mut shard.limits;
    let accepted = limits.records_in.has(now, 1) && limits.bytes_in.has(now, size);
    if accepted {
        limits.records_in.take(now, 1);
        limits.bytes_in.take(now, size);
    }
    accepted
}

impl Engine {
    pub(super) fn put_record(
        &mut self,
        input: PutRecordInput,
    ) -> Result<PutRecordOutput, ApiError> {
        let entry = PutRecordsRequestEntry {
            data: input.data,
            partition_key: input.partition_key,
            explicit_hash_key: input.explicit_hash_key,
        };
        let mut checked = Validation::default();
        let after = checked.optional(
            "sequenceNumberForOrdering",
            &input.sequence_number_for_ordering,
            validate::SEQUENCE_NUMBER,
        );
        check(&mut checked, "", &entry);
        checked.stream(&input.stream_name, &input.stream_arn);
        checked.finish()?;

        let moment = self.next_moment();
        let (account, throttle) = (self.config.account.clone(), self.config.throttle_writes);
        let stream = self.stream(&input.stream_name, &input.stream_arn)?;
        stream.require_created(&account)?;
        if let Some(text) = after {
            check_ordering(stream, &account, text, moment)?;
        }
        let entry = accept(stream, "", entry)?;
        let encryption_type = stream.encryption_type();
        let stored = store(stream, &account, entry, moment, throttle)?;
        self.woken.extend(stored.followers);
        Ok(PutRecordOutput {
            shard_id: shard::id(stored.shard),
            sequence_number: stored.sequence_number,
            encryption_type,
        })
    }

    pub(super) fn put_records(
        &mut self,
        input: PutRecordsInput,
    ) -> Result<PutRecordsOutput, ApiError> {
        let mut checked = Validation::default();
        checked.present("records", &input.records);
        let records = input.records.unwrap_or_default();
        let shown = format!("'[{} records]'", records.len());
        checked.length(shown, "records", records.len(), 1, REQUEST_RECORDS);
        for (entry, position) in records.iter().zip(1..) {
            check(&mut checked, &format!("records.{position}.member."), entry);
        }
        checked.stream(&input.stream_name, &input.stream_arn);
        checked.finish()?;
        check_request_size(&records)?;

        let (account, throttle) = (self.config.account.clone(), self.config.throttle_writes);
        let (time, first) = (self.now, self.index + 1);
        self.index += records.len() as u64;
        let stream = self.stream(&input.stream_name, &input.stream_arn)?;
        stream.require_created(&account)?;
        let accepted = records.into_iter().zip(1..).map(|(entry, position)| {
            let path = format!("records.{position}.member.");
            accept(stream, &path, entry)
        });
        let entries = accepted.collect::<Result<Vec<_>, _>>()?;
        let mut output = PutRecordsOutput {
            failed_record_count: 0,
            records: Vec::with_capacity(entries.len()),
            encryption_type: stream.encryption_type(),
        };
        let mut woken = Vec::new();
        for (entry, index) in entries.into_iter().zip(first..) {
            let result = match store(stream, &account, entry, Moment { time, index }, throttle) {
                Ok(stored) => {
                    woken.extend(stored.followers);
                    PutRecordsResultEntry {
                        sequence_number: Some(stored.sequence_number),
                        shard_id: Some(shard::id(stored.shard)),
                        error_code: None,
                        error_message: None,
                    }
                }
                Err(refusal) => {
                    output.failed_record_count += 1;
                    PutRecordsResultEntry {
                        sequence_number: None,
                        shard_id: None,
                        error_code: Some(error::THROTTLED),
                        error_message: Some(refusal.message),
                    }
                }
            };
            output.records.push(result);
        }
        self.woken.extend(woken);
        Ok(output)
    }
}

fn check_request_size(records: &[PutRecordsRequestEntry]) -> Result<(), ApiError> {
    let size = |entry: &PutRecordsRequestEntry| {
        let key = entry.partition_key.as_ref().map_or(0, String::len);
        key + entry.data.as_ref().map_or(0, |data| data.len())
    };
    if records.iter().map(size).sum::<usize>() > REQUEST_BYTES {
        return Err(error::invalid_argument("Records size exceeds 10 MB limit"));
    }
    Ok(())
}

/// Refuses a number that was not given out yet, or not by this stream. Every new number is greater than all that were.
/// "0" is what producers pass before they have a number (developer guide, "Adding Data to a Stream").
fn check_ordering(stream: &Stream, account: &str, text: &str, now: Moment) -> Result<(), ApiError> {
    let ours = |number: SequenceNumber| {
        let first = SequenceNumber::new(stream.created, 0, stream.created, 0);
        number.stream_created == first.stream_created && number.index < now.index
    };
    if text == "0" || text.parse().is_ok_and(ours) {
        return Ok(());
    }
    let name = &stream.name;
    Err(error::invalid_argument(format!(
        "ExclusiveMinimumSequenceNumber {text} used in PutRecord on stream {name} under account {account} is invalid."
    )))
}
