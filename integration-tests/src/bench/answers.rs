//! Answers of a stream that never ends, put together from parts that were written once.

use bytes::Bytes;
use kcl_aggregation::{HashKeyRange, PackLimits, Packer, hash_key};
use kcl_core::Wire;
use serde_json::{Value, json};

use super::case::Case;

/// What the numbers of all records begin with; they have 56 digits, as those of the service.
const NUMBER: [u8; 56] = *b"49600000000000000000000000000000000000000000000000000000";
const KEYS: usize = 16;
/// Always an hour behind, so that nobody rests.
const BEHIND_MILLIS: u32 = 3_600_000;
const ARRIVAL_MILLIS: u64 = 1_767_225_600_123;

/// What the server says.
#[derive(Debug)]
pub(super) struct Answers {
    shards: Vec<HashKeyRange>,
    /// For each shard; one for all of them if they are the same.
    json: Vec<Vec<RecordParts>>,
    cbor: Vec<Vec<RecordParts>>,
}

/// A record without its sequence number.
#[derive(Debug)]
struct RecordParts {
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Answers {
    pub(super) fn new(case: Case, shards: u32) -> Self {
        let shards = ranges(shards);
        // Which shard a plain record lies in is not looked at.
        let with_records = match case {
            Case::Aggregated => shards.as_slice(),
            Case::Bytes100 | Case::Kilobyte | Case::TenKilobytes => &[HashKeyRange::FULL],
        };
        let records: Vec<Vec<(String, Vec<u8>)>> = with_records
            .iter()
            .map(|range| records(case, *range))
            .collect();
        let parts = |write: fn(&str, &[u8]) -> RecordParts| {
            let of_shard = |records: &Vec<(String, Vec<u8>)>| {
                let parts = records.iter().map(|(key, data)| write(key, data));
                parts.collect::<Vec<_>>()
            };
            records.iter().map(of_shard).collect::<Vec<_>>()
        };
        Self {
            json: parts(in_json),
            cbor: parts(in_cbor),
            shards,
        }
    }

    /// `GetRecords`: so many records from this place on.
    pub(super) fn records(&self, wire: Wire, shard: usize, from: u64, count: u16) -> Option<Bytes> {
        let mut out = self.array(wire, shard, from, count)?;
        let next = iterator(shard, from + u64::from(count));
        match wire {
            Wire::Json => out.extend_from_slice(
                format!(r#"],"NextShardIterator":"{next}","MillisBehindLatest":{BEHIND_MILLIS}}}"#)
                    .as_bytes(),
            ),
            Wire::Cbor => {
                out.push(0xff);
                text(&mut out, "NextShardIterator");
                text(&mut out, &next);
                text(&mut out, "MillisBehindLatest");
                head(&mut out, 0, BEHIND_MILLIS as usize);
                out.push(0xff);
            }
        }
        Some(Bytes::from(out))
    }

    /// The beginning of an answer, up to its last record.
    fn array(&self, wire: Wire, shard: usize, from: u64, count: u16) -> Option<Vec<u8>> {
        let parts = match wire {
            Wire::Json => &self.json,
            Wire::Cbor => &self.cbor,
        };
        let parts = parts.get(shard % parts.len().max(1))?;
        let largest = parts
            .iter()
            .map(|part| part.before.len() + part.after.len())
            .max()?;
        let each = largest + NUMBER.len() + 1;
        let mut out = Vec::with_capacity(each * usize::from(count) + 256);
        out.extend_from_slice(match wire {
            Wire::Json => br#"{"Records":["#.as_slice(),
            Wire::Cbor => b"\xbf\x67Records\x9f",
        });
        let numbers = (from..).take(usize::from(count)).enumerate();
        for ((index, number), part) in numbers.zip(parts.iter().cycle()) {
            if wire == Wire::Json && index > 0 {
                out.push(b',');
            }
            out.extend_from_slice(&part.before);
            out.extend_from_slice(&sequence_number(number));
            out.extend_from_slice(&part.after);
        }
        Some(out)
    }

    /// An event of a subscription: so many records from this place on.
    pub(super) fn event(&self, wire: Wire, shard: usize, from: u64, count: u16) -> Option<Vec<u8>> {
        let mut out = self.array(wire, shard, from, count)?;
        let last = sequence_number(from + u64::from(count) - 1);
        match wire {
            Wire::Json => {
                out.extend_from_slice(br#"],"ContinuationSequenceNumber":""#);
                out.extend_from_slice(&last);
                let behind = format!(r#"","MillisBehindLatest":{BEHIND_MILLIS}}}"#);
                out.extend_from_slice(behind.as_bytes());
            }
            Wire::Cbor => {
                out.push(0xff);
                text(&mut out, "ContinuationSequenceNumber");
                head(&mut out, 3, last.len());
                out.extend_from_slice(&last);
                text(&mut out, "MillisBehindLatest");
                head(&mut out, 0, BEHIND_MILLIS as usize);
                out.push(0xff);
            }
        }
        Some(out)
    }

    /// `ListShards`.
    pub(super) fn shards(&self) -> Value {
        let shard = |(index, range): (usize, &HashKeyRange)| {
            json!({
                "ShardId": shard_id(index),
                "HashKeyRange": {
                    "StartingHashKey": range.start.to_string(),
                    "EndingHashKey": range.end.to_string(),
                },
                "SequenceNumberRange": { "StartingSequenceNumber": "49600000000000000000" },
            })
        };
        let shards: Vec<Value> = self.shards.iter().enumerate().map(shard).collect();
        json!({ "Shards": shards })
    }
}

pub(super) fn shard_id(index: usize) -> String {
    format!("shardId-{index:012}")
}

/// Where the next answer begins.
pub(super) fn iterator(shard: usize, from: u64) -> String {
    format!("at:{shard}:{from}:")
}

fn ranges(shards: u32) -> Vec<HashKeyRange> {
    let width = u128::MAX / u128::from(shards.max(1));
    let range = |index: u32| {
        let start = width * u128::from(index);
        let end = if index + 1 == shards {
            u128::MAX
        } else {
            start + width - 1
        };
        HashKeyRange { start, end }
    };
    (0..shards).map(range).collect()
}

/// Keys and data of the records that come again and again.
fn records(case: Case, range: HashKeyRange) -> Vec<(String, Vec<u8>)> {
    let candidates = (0_u32..).map(|number| format!("user-{number:08}"));
    let keys = candidates.filter(|key| range.contains(hash_key(key)));
    let keys: Vec<String> = keys.take(KEYS).collect();
    let data: Vec<u8> = (0..case.size())
        .map(|at| (at % 251).to_le_bytes()[0].wrapping_mul(31))
        .collect();
    if case != Case::Aggregated {
        return keys.into_iter().map(|key| (key, data.clone())).collect();
    }
    let mut packer = Packer::new([range], PackLimits::default());
    for key in keys.iter().cycle().take(case.users()) {
        packer.add(key, None, &data).unwrap();
    }
    let packed = packer.flush().into_iter();
    packed
        .map(|packed| (packed.partition_key, packed.data.to_vec()))
        .collect()
}

fn sequence_number(number: u64) -> [u8; NUMBER.len()] {
    let mut digits = NUMBER;
    let mut rest = number + 1;
    for digit in digits.iter_mut().rev().take(20) {
        *digit = b'0' + (rest % 10).to_le_bytes()[0];
        rest /= 10;
    }
    digits
}

/// As the service writes it.
fn in_json(key: &str, data: &[u8]) -> RecordParts {
    let data = base64_simd::STANDARD.encode_to_string(data);
    // Seconds, written as Java writes them.
    let (digit, rest) = (
        ARRIVAL_MILLIS / 10_u64.pow(12),
        ARRIVAL_MILLIS % 10_u64.pow(12),
    );
    RecordParts {
        before: br#"{"SequenceNumber":""#.to_vec(),
        after: format!(
            r#"","ApproximateArrivalTimestamp":{digit}.{rest:012}E9,"Data":"{data}","PartitionKey":"{key}"}}"#
        )
        .into_bytes(),
    }
}

/// As Jackson writes it: maps of unknown length.
fn in_cbor(key: &str, data: &[u8]) -> RecordParts {
    let mut before = vec![0xbf];
    text(&mut before, "SequenceNumber");
    head(&mut before, 3, NUMBER.len());
    let mut after = Vec::new();
    text(&mut after, "ApproximateArrivalTimestamp");
    after.extend_from_slice(&[0xc1, 0x1b]);
    after.extend_from_slice(&ARRIVAL_MILLIS.to_be_bytes());
    text(&mut after, "Data");
    head(&mut after, 2, data.len());
    after.extend_from_slice(data);
    text(&mut after, "PartitionKey");
    text(&mut after, key);
    after.push(0xff);
    RecordParts { before, after }
}

fn text(out: &mut Vec<u8>, text: &str) {
    head(out, 3, text.len());
    out.extend_from_slice(text.as_bytes());
}

fn head(out: &mut Vec<u8>, kind: u8, value: usize) {
    let kind = kind << 5;
    match value {
        0..24 => out.push(kind | value.to_le_bytes()[0]),
        24..0x100 => out.extend_from_slice(&[kind | 24, value.to_le_bytes()[0]]),
        _ => {
            out.push(kind | 26);
            let [a, b, c, d, ..] = value.to_le_bytes();
            out.extend_from_slice(&[d, c, b, a]);
        }
    }
}
