//! A Kinesis that does as little as can be: what it says, without a socket.

use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;
use kcl_core::Wire;
use serde_json::{Value, json};

use super::answers::{Answers, iterator};
use super::case::Case;
use super::frames;

/// The name of its one stream.
pub(super) const STREAM: &str = "null";
const JSON: &str = "application/x-amz-json-1.1";
const CBOR: &str = "application/x-amz-cbor-1.1";

/// A stream whose shards never end; all that is asked of it is answered at once.
#[derive(Debug)]
pub(super) struct NullKinesis {
    /// Kinesis records in an event of a subscription.
    in_event: u16,
    answers: Answers,
    calls: AtomicU64,
    records: AtomicU64,
}

/// An answer.
#[derive(Debug)]
pub(super) struct Reply {
    /// Of HTTP.
    pub(super) status: u16,
    /// Of the body.
    pub(super) content_type: &'static str,
    /// JSON or CBOR.
    pub(super) body: Bytes,
}

/// A subscription.
#[derive(Debug, Clone, Copy)]
pub(super) struct Subscribed {
    wire: Wire,
    shard: usize,
}

impl NullKinesis {
    /// A stream with so many shards, all of them full of such records.
    pub(super) fn new(case: Case, shards: u32) -> Self {
        Self {
            in_event: case.limit(),
            answers: Answers::new(case, shards),
            calls: AtomicU64::new(0),
            records: AtomicU64::new(0),
        }
    }

    /// Answers a request, by its `X-Amz-Target`, `Content-Type` and body.
    pub(super) fn answer(&self, target: &str, content_type: &str, body: &[u8]) -> Reply {
        let wire = wire_of(content_type);
        match target.rsplit('.').next().unwrap_or_default() {
            "GetRecords" => self.records(wire, body),
            "GetShardIterator" => said(200, &first_iterator(body)),
            "ListShards" => said(200, &self.answers.shards()),
            "DescribeStreamSummary" => said(200, &description()),
            _ => said(400, &json!({ "__type": "UnknownOperationException" })),
        }
    }

    /// The subscription that a request asks for, and what it begins with.
    pub(super) fn subscribed(
        &self,
        target: &str,
        content_type: &str,
        body: &[u8],
    ) -> Option<(Subscribed, Bytes)> {
        let asked = target.ends_with(".SubscribeToShard");
        let wire = wire_of(content_type);
        let begin = frames::event("initial-response", Wire::Json, b"{}");
        let shard = match wire {
            Wire::Json => shard_of(body),
            Wire::Cbor => shard_within(body),
        };
        asked.then_some((Subscribed { wire, shard }, begin))
    }

    /// An event of a subscription: the records from this place on. Returns the next place, too.
    pub(super) fn event(&self, of: Subscribed, from: u64) -> Option<(u64, Bytes)> {
        let event = self.answers.event(of.wire, of.shard, from, self.in_event)?;
        let frame = frames::event("SubscribeToShardEvent", of.wire, &event);
        Some((from + u64::from(self.in_event), frame))
    }

    /// Kinesis records in an answer, in the mean since this was asked last.
    pub(super) fn records_per_answer(&self) -> u16 {
        let calls = self.calls.swap(0, Ordering::Relaxed).max(1);
        let records = self.records.swap(0, Ordering::Relaxed);
        u16::try_from(records / calls).unwrap_or(u16::MAX).max(1)
    }

    fn records(&self, wire: Wire, body: &[u8]) -> Reply {
        let limit = limit(wire, body).unwrap_or(10_000);
        let answer =
            place(body).and_then(|(shard, from)| self.answers.records(wire, shard, from, limit));
        let Some(body) = answer else {
            return said(400, &json!({ "__type": "InvalidArgumentException" }));
        };
        self.calls.fetch_add(1, Ordering::Relaxed);
        self.records.fetch_add(u64::from(limit), Ordering::Relaxed);
        let content_type = match wire {
            Wire::Json => JSON,
            Wire::Cbor => CBOR,
        };
        Reply {
            status: 200,
            content_type,
            body,
        }
    }
}

/// The content type and body of a request for records.
pub(super) fn request(wire: Wire, iterator: &str, limit: u16) -> (&'static str, Vec<u8>) {
    match wire {
        Wire::Json => {
            let body = json!({ "ShardIterator": iterator, "Limit": limit });
            (JSON, body.to_string().into_bytes())
        }
        Wire::Cbor => {
            // Not all of a request, but what is looked for here.
            let mut body = iterator.as_bytes().to_vec();
            body.extend_from_slice(b"Limit\x19");
            body.extend_from_slice(&limit.to_be_bytes());
            (CBOR, body)
        }
    }
}

fn said(status: u16, body: &Value) -> Reply {
    Reply {
        status,
        content_type: JSON,
        body: Bytes::from(body.to_string()),
    }
}

fn first_iterator(body: &[u8]) -> Value {
    json!({ "ShardIterator": iterator(shard_of(body), 0) })
}

/// The shard that a request is about.
fn shard_of(body: &[u8]) -> usize {
    let request: Value = serde_json::from_slice(body).unwrap_or_default();
    let shard = request
        .get("ShardId")
        .and_then(Value::as_str)
        .unwrap_or_default();
    let index = shard.rsplit('-').next().unwrap_or_default();
    index.parse().unwrap_or(0)
}

/// As [`shard_of`], of a request that is not JSON.
fn shard_within(body: &[u8]) -> usize {
    let text = String::from_utf8_lossy(body);
    let digits = text.split("shardId-").nth(1).unwrap_or_default();
    digits
        .get(..12)
        .and_then(|digits| digits.parse().ok())
        .unwrap_or(0)
}

fn wire_of(content_type: &str) -> Wire {
    match content_type {
        CBOR => Wire::Cbor,
        _ => Wire::Json,
    }
}

fn description() -> Value {
    json!({ "StreamDescriptionSummary": {
        "StreamName": STREAM,
        "StreamARN": format!("arn:aws:kinesis:us-east-1:123456789012:stream/{STREAM}"),
        "StreamStatus": "ACTIVE",
        "RetentionPeriodHours": 24,
        "StreamCreationTimestamp": 1_767_225_600,
        "EnhancedMonitoring": [],
        "OpenShardCount": 1,
    }})
}

/// The shard and the place that an iterator in a request names.
fn place(body: &[u8]) -> Option<(usize, u64)> {
    let behind = behind(body, b"at:")?;
    let text = str::from_utf8(behind.get(..behind.len().min(64))?);
    // In CBOR what follows the iterator need not be text.
    let text =
        text.or_else(|error| str::from_utf8(behind.get(..error.valid_up_to()).unwrap_or_default()));
    let mut numbers = text.ok()?.split(':');
    Some((numbers.next()?.parse().ok()?, numbers.next()?.parse().ok()?))
}

fn limit(wire: Wire, body: &[u8]) -> Option<u16> {
    let behind = behind(body, b"Limit")?;
    match (wire, behind) {
        (Wire::Json, [b'"', b':', digits @ ..]) => {
            let len = digits
                .iter()
                .take_while(|digit| digit.is_ascii_digit())
                .count();
            str::from_utf8(digits.get(..len)?).ok()?.parse().ok()
        }
        (Wire::Cbor, [0x19, high, low, ..]) => Some(u16::from_be_bytes([*high, *low])),
        (Wire::Cbor, [0x18, low, ..]) => Some(u16::from(*low)),
        (Wire::Cbor, [low @ 0..0x18, ..]) => Some(u16::from(*low)),
        _ => None,
    }
}

fn behind<'a>(body: &'a [u8], what: &[u8]) -> Option<&'a [u8]> {
    let at = body.windows(what.len()).position(|part| part == what)?;
    body.get(at + what.len()..)
}
