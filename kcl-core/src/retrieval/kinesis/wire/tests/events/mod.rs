//! Events of subscriptions: frames that a test writes, read by ourselves and by the SDK.

mod differential;
mod hostile;
mod taking;

use std::sync::{Arc, Mutex};
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::error::SdkError;
use aws_sdk_kinesis::types::error::SubscribeToShardEventStreamError;
use aws_sdk_kinesis::types::{
    ShardIteratorType, StartingPosition, SubscribeToShardEvent, SubscribeToShardEventStream,
};
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use kcl_lease::ListedShard;

use super::super::events::{EventError, Events};
use super::super::{Answer, BufferPool};
use super::differential::{encryption, listed};
use super::pooling::{End, Frames};
use super::{Reply, Server, run};
use crate::retrieval::record::EncryptionType;

pub(super) const EVENTS: &str = "application/vnd.amazon.eventstream";

const CONSUMER: &str = "arn:aws:kinesis:us-east-1:000000000000:stream/orders/consumer/app:1";

const TEXT: u8 = 7;

/// A frame as a service writes it.
pub(super) fn frame(headers: &[(&str, &str)], payload: &[u8]) -> Vec<u8> {
    let mut written = Vec::new();
    for (name, value) in headers {
        header(&mut written, name, TEXT, value.as_bytes());
    }
    raw_frame(&written, payload)
}

fn header(out: &mut Vec<u8>, name: &str, kind: u8, value: &[u8]) {
    out.push(u8::try_from(name.len()).unwrap());
    out.extend_from_slice(name.as_bytes());
    out.push(kind);
    if kind == TEXT {
        out.extend_from_slice(&u16::try_from(value.len()).unwrap().to_be_bytes());
    }
    out.extend_from_slice(value);
}

fn raw_frame(headers: &[u8], payload: &[u8]) -> Vec<u8> {
    let len = u32::try_from(16 + headers.len() + payload.len()).unwrap();
    let mut frame = prelude(len, u32::try_from(headers.len()).unwrap());
    frame.extend_from_slice(headers);
    frame.extend_from_slice(payload);
    frame.extend_from_slice(&crc32fast::hash(&frame).to_be_bytes());
    frame
}

fn prelude(len: u32, headers: u32) -> Vec<u8> {
    let mut prelude = [len.to_be_bytes(), headers.to_be_bytes()].concat();
    prelude.extend_from_slice(&crc32fast::hash(&prelude).to_be_bytes());
    prelude
}

/// The same frames, with checksums that say so.
pub(super) fn with_right_checksums(mut stream: Vec<u8>) -> Vec<u8> {
    let mut rest = stream.as_mut_slice();
    while rest.len() >= 16 {
        let checksum = crc32fast::hash(&rest[..8]);
        rest[8..12].copy_from_slice(&checksum.to_be_bytes());
        let len = u32::from_be_bytes(*rest.first_chunk().unwrap()) as usize;
        if !(16..=rest.len()).contains(&len) {
            break;
        }
        let (frame, others) = rest.split_at_mut(len);
        let checksum = crc32fast::hash(&frame[..len - 4]);
        frame[len - 4..].copy_from_slice(&checksum.to_be_bytes());
        rest = others;
    }
    stream
}

pub(super) fn event_of(kind: &str, content_type: &str, payload: &[u8]) -> Vec<u8> {
    let headers = [
        (":message-type", "event"),
        (":event-type", kind),
        (":content-type", content_type),
    ];
    frame(&headers, payload)
}

pub(super) fn event(payload: impl AsRef<[u8]>) -> Vec<u8> {
    event_of(
        "SubscribeToShardEvent",
        "application/json",
        payload.as_ref(),
    )
}

pub(super) fn initial() -> Vec<u8> {
    event_of("initial-response", "application/json", b"{}")
}

pub(super) fn exception(code: &str, payload: &str) -> Vec<u8> {
    let headers = [(":message-type", "exception"), (":exception-type", code)];
    frame(&headers, payload.as_bytes())
}

/// An event with one record that has this payload.
pub(super) fn event_with(number: usize, payload: &[u8]) -> Vec<u8> {
    let data = base64_simd::STANDARD.encode_to_string(payload);
    event(format!(
        r#"{{"Records":[{{"SequenceNumber":"{number}","Data":"{data}","PartitionKey":"k"}}],"ContinuationSequenceNumber":"{number}","MillisBehindLatest":0}}"#
    ))
}

/// A body that comes in pieces of at most this length.
pub(super) fn body(stream: &[u8], piece: usize, end: End) -> SdkBody {
    let frames = stream.chunks(piece).map(Bytes::copy_from_slice).collect();
    SdkBody::from_body_1_x(Frames { frames, end })
}

/// What a subscription said.
#[derive(Debug, PartialEq)]
pub(super) struct Said {
    pub(super) events: Vec<Seen>,
    pub(super) end: Ending,
}

#[derive(Debug, PartialEq)]
pub(super) enum Ending {
    Whole,
    Exception(String, Option<String>),
    Broken,
}

/// An event, whoever read it.
#[derive(Debug, PartialEq)]
pub(super) struct Seen {
    records: Vec<SeenRecord>,
    continuation: String,
    behind: Duration,
    children: Vec<ListedShard>,
}

/// Sequence number, key, data, arrival and encryption.
type SeenRecord = (String, String, Vec<u8>, Option<i64>, Option<EncryptionType>);

/// All that is in the events, and how they end.
pub(super) fn by_us(stream: &[u8], piece: usize) -> Said {
    let mut events = Events::new(body(stream, piece, End::Whole), BufferPool::default());
    run(async {
        let mut seen = Vec::new();
        loop {
            let next = match events.announced().await {
                Ok(None) => break said(seen, Ending::Whole),
                Ok(Some(_)) => events.receive().await,
                Err(error) => Err(error),
            };
            match next {
                Ok(event) => seen.push(of_ours(&event)),
                Err(EventError::Exception { code, message }) => {
                    break said(seen, Ending::Exception(code, message));
                }
                Err(_) => break said(seen, Ending::Broken),
            }
        }
    })
}

fn said(events: Vec<Seen>, end: Ending) -> Said {
    Said { events, end }
}

fn of_ours(event: &Answer) -> Seen {
    let records = event.batch.iter().map(|record| {
        let number = record.sequence_number().to_owned();
        let key = record.partition_key().to_owned();
        let arrival = record.source.arrival_millis;
        let encryption = record.encryption_type();
        (number, key, record.data().to_vec(), arrival, encryption)
    });
    Seen {
        records: records.collect(),
        continuation: event.next.clone().unwrap_or_default(),
        behind: event.behind.unwrap_or_default(),
        children: event.children.clone(),
    }
}

/// The same by the SDK's own client. `None`: it found an event that we would call malformed.
pub(super) fn by_sdk(stream: &[u8], piece: usize) -> Option<Said> {
    let stream = Arc::new(Mutex::new(stream.to_vec()));
    let reply = Reply::new(200, EVENTS, "")
        .streaming(move || body(&stream.lock().unwrap(), piece, End::Whole));
    let server = Server::always(reply);
    let start = StartingPosition::builder().r#type(ShardIteratorType::TrimHorizon);
    let call = Client::new(&server.sdk_config()).subscribe_to_shard();
    let call = call
        .consumer_arn(CONSUMER)
        .shard_id("shardId-000000000000")
        .starting_position(start.build().unwrap());
    run(async {
        let Ok(mut output) = call.send().await else {
            return Some(said(Vec::new(), Ending::Broken));
        };
        let mut seen = Vec::new();
        loop {
            match output.event_stream.recv().await {
                Ok(None) => return Some(said(seen, Ending::Whole)),
                Ok(Some(SubscribeToShardEventStream::SubscribeToShardEvent(event))) => {
                    seen.push(of_sdk(&event)?);
                }
                Ok(Some(_)) => {}
                Err(error) => return Some(said(seen, ending(&error))),
            }
        }
    })
}

fn ending<R>(error: &SdkError<SubscribeToShardEventStreamError, R>) -> Ending {
    match error {
        SdkError::ServiceError(service) => {
            let meta = service.err().meta();
            let code = meta.code().unwrap_or_default().to_owned();
            Ending::Exception(code, meta.message().map(str::to_owned))
        }
        _ => Ending::Broken,
    }
}

fn of_sdk(event: &SubscribeToShardEvent) -> Option<Seen> {
    let records = event.records.iter().map(|record| {
        let number = record.sequence_number.trim_start_matches('0').to_owned();
        let key = record.partition_key().unwrap_or("").to_owned();
        // The SDK keeps what a binary fraction of seconds is; the service's unit is the millisecond.
        let arrival = record
            .approximate_arrival_timestamp
            .map(|time| (time.as_secs_f64() * 1000.0).round() as i64);
        let encryption = record.encryption_type.as_ref().map(encryption);
        (
            number,
            key,
            record.data.as_ref().to_vec(),
            arrival,
            encryption,
        )
    });
    let children: Option<_> = event.child_shards().iter().map(listed).collect();
    Some(Seen {
        records: records.collect(),
        continuation: event.continuation_sequence_number.clone(),
        behind: Duration::from_millis(event.millis_behind_latest.try_into().unwrap_or(0)),
        children: children?,
    })
}
