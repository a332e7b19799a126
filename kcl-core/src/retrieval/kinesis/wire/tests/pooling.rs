//! Bodies in buffers that are used again.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body::{Body, Frame};
use tokio::time::Instant;

use super::super::events::most_memory;
use super::super::{BufferPool, Wire};
use super::{CBOR, JSON, Reply, Server, get};
use crate::retrieval::{KinesisSource, RecordRef, SourceErrorKind as Kind};

/// A body that comes in frames, and then ends, breaks or stalls.
#[derive(Debug, Clone)]
pub(super) struct Frames {
    pub(super) frames: Vec<Bytes>,
    pub(super) end: End,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum End {
    Whole,
    Breaks,
    Stalls,
    Never,
}

impl Body for Frames {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        if self.end == End::Never {
            return Poll::Ready(Some(Ok(Frame::data(self.frames[0].clone()))));
        }
        if !self.frames.is_empty() {
            return Poll::Ready(Some(Ok(Frame::data(self.frames.remove(0)))));
        }
        match self.end {
            End::Breaks => Poll::Ready(Some(Err(std::io::ErrorKind::ConnectionReset.into()))),
            End::Stalls => Poll::Pending,
            End::Whole | End::Never => Poll::Ready(None),
        }
    }
}

impl Frames {
    fn of(body: &[u8], end: End) -> Self {
        let frames = body.chunks(8000).map(Bytes::copy_from_slice).collect();
        Self { frames, end }
    }
}

fn json(first: usize, records: usize) -> Vec<u8> {
    let data = base64_simd::STANDARD.encode_to_string(vec![b'x'; 1000]);
    let records: Vec<String> = (first..first + records)
        .map(|index| {
            format!(
                r#"{{"SequenceNumber":"1{index:05}","Data":"{data}","PartitionKey":"k{index}"}}"#
            )
        })
        .collect();
    format!(
        r#"{{"Records":[{}],"NextShardIterator":"next"}}"#,
        records.join(",")
    )
    .into_bytes()
}

fn cbor(records: usize) -> Vec<u8> {
    let mut out = b"\xa1\x67Records\x9f".to_vec();
    for index in 0..records {
        out.extend_from_slice(b"\xa2\x6eSequenceNumber\x66");
        out.extend_from_slice(format!("1{index:05}").as_bytes());
        out.extend_from_slice(b"\x64Data\x59\x03\xe8");
        out.extend_from_slice(&[b'y'; 1000]);
    }
    out.push(0xff);
    out
}

fn streaming(content_type: &'static str, frames: Frames) -> Server {
    let reply = Reply::new(200, content_type, "");
    Server::always(reply.streaming(move || SdkBody::from_body_1_x(frames.clone())))
}

#[tokio::test(start_paused = true)]
async fn answers_of_all_sizes_come_whole_and_nothing_of_the_one_before() {
    for (sizes, wire, content_type) in [
        ([1, 40, 3, 200, 20, 0, 199], Wire::Json, JSON),
        ([1, 40, 3, 200, 20, 0, 199], Wire::Cbor, CBOR),
    ] {
        let turn = std::sync::atomic::AtomicUsize::new(0);
        let server = Server::new(move |_| {
            let turn = turn.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
            let body = match wire {
                Wire::Json => json(turn, sizes[turn]),
                Wire::Cbor => cbor(sizes[turn]),
            };
            let frames = Frames::of(&body, End::Whole);
            Reply::new(200, content_type, "")
                .streaming(move || SdkBody::from_body_1_x(frames.clone()))
        });
        let source = server.source(wire);
        let mut kept = Vec::new();
        for records in sizes {
            let batch = get(&source).await.unwrap().batch;
            assert_eq!(batch.len(), records);
            kept.extend(batch.iter().next_back().map(RecordRef::data_bytes));
            assert!(batch.resident_bytes() < 2000 * records as u64 + 1);
        }
        // Slices that are kept are not overwritten by later answers.
        let byte = if wire == Wire::Json { b'x' } else { b'y' };
        assert!(kept.iter().all(|data| *data == vec![byte; 1000]));
    }
}

#[test]
fn decoded_payloads_come_into_a_buffer_of_the_pool() {
    let pool = BufferPool::default();
    let decoded = |first| {
        let answer = super::super::decode(Wire::Json, json(first, 100).into(), &pool);
        answer.unwrap().batch
    };
    let first = decoded(1);
    let payload = first.iter().next().map(RecordRef::data_bytes);
    drop(first);
    assert_eq!(pool.kept_bytes(), 0, "a payload is held");
    drop(payload);
    assert!(pool.kept_bytes() >= 100_000);
    let again = decoded(0);
    assert_eq!(pool.kept_bytes(), 0, "used again");
    drop(again);
}

/// Records as the service writes them.
fn as_the_service(sizes: impl Iterator<Item = usize>, key_len: usize) -> String {
    let key = "k".repeat(key_len);
    let records: Vec<String> = sizes
        .enumerate()
        .map(|(index, size)| {
            let data = base64_simd::STANDARD.encode_to_string(vec![b'x'; size]);
            format!(
                r#"{{"SequenceNumber":"4{:055}","ApproximateArrivalTimestamp":1.7E9,"Data":"{data}","PartitionKey":"{key}"}}"#,
                index + 1
            )
        })
        .collect();
    format!(
        r#"{{"ContinuationSequenceNumber":"4","MillisBehindLatest":0,"Records":[{}]}}"#,
        records.join(",")
    )
}

#[test]
fn a_batch_takes_no_more_memory_than_the_json_it_came_in() {
    let check = |sizes: Vec<usize>, key_len: usize| {
        let body = as_the_service(sizes.iter().copied(), key_len);
        // Beside the handle of its buffer.
        let len = body.len() as u64 + 100;
        let batch = super::decode(Wire::Json, body.into()).unwrap().batch;
        assert_eq!(batch.len(), sizes.len());
        let resident = batch.resident_bytes();
        assert!(
            resident <= len,
            "{sizes:?}, keys of {key_len}: {resident} of {len}"
        );
    };
    for key_len in [1, 8, 36, 256] {
        for size in [0, 1, 30, 100, 300, 5_000] {
            for count in [1, 2, 100, 1_500] {
                check(vec![size; count], key_len);
            }
        }
        // What the first record is like says nothing of the others.
        check(
            std::iter::once(50_000).chain(vec![10; 1_500]).collect(),
            key_len,
        );
        check(
            std::iter::once(0).chain(vec![3_000; 100]).collect(),
            key_len,
        );
    }
}

#[test]
fn an_event_in_cbor_takes_no_more_memory_than_it_is_said_to() {
    for key_len in [1, 8, 256] {
        for (size, count) in [(0, 1_500), (30, 1_000), (3_000, 100)] {
            let mut body = b"\xa1\x67Records\x9f".to_vec();
            for index in 1..=count {
                body.extend_from_slice(b"\xa4\x6eSequenceNumber\x78\x38");
                body.extend_from_slice(format!("4{index:055}").as_bytes());
                body.extend_from_slice(b"\x78\x1bApproximateArrivalTimestamp\xc1\x1b");
                body.extend_from_slice(&1_700_000_000_000_u64.to_be_bytes());
                body.extend_from_slice(b"\x64Data\x59");
                body.extend_from_slice(&u16::to_be_bytes(size));
                body.resize(body.len() + usize::from(size), b'x');
                body.extend_from_slice(b"\x6cPartitionKey\x79");
                body.extend_from_slice(&u16::to_be_bytes(key_len));
                body.resize(body.len() + usize::from(key_len), b'k');
            }
            body.push(0xff);
            let said = most_memory(Wire::Cbor, body.len());
            let batch = super::decode(Wire::Cbor, body.into()).unwrap().batch;
            assert_eq!(batch.len(), count);
            let resident = batch.resident_bytes();
            assert!(
                resident <= said + 100,
                "{count} of {size}, keys of {key_len}: {resident} of {said}"
            );
        }
    }
}

#[tokio::test(start_paused = true)]
async fn sources_that_share_a_pool_use_one_anothers_buffers() {
    let server = streaming(JSON, Frames::of(&json(0, 100), End::Whole));
    let pool = BufferPool::default();
    let aws = server.sdk_config();
    let source = |name: &str| KinesisSource::sharing(pool.clone(), &aws, name, None);
    drop(get(&source("orders")).await.unwrap());
    let kept = pool.kept_bytes();
    assert!(kept > 100_000);
    let others = get(&source("payments")).await.unwrap();
    assert!(pool.kept_bytes() < kept);
    drop(others);
    assert_eq!(pool.kept_bytes(), kept);
}

#[tokio::test(start_paused = true)]
async fn a_body_that_breaks_is_an_error_that_may_be_tried_again() {
    for end in [End::Breaks, End::Whole] {
        let half = json(0, 100).split_off(60_000);
        let server = streaming(JSON, Frames::of(&half, end));
        let error = get(&server.source(Wire::Json)).await.unwrap_err();
        assert_eq!(error.kind(), Kind::Malformed, "{end:?}: {error}");
        assert!(error.is_retryable());
    }
}

#[tokio::test(start_paused = true)]
async fn a_body_that_stalls_ends_with_the_time_limit_of_the_call() {
    let server = streaming(JSON, Frames::of(&json(0, 100), End::Stalls));
    let started = Instant::now();
    let error = get(&server.source(Wire::Json)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Timeout, "{error}");
    assert!(started.elapsed() <= Duration::from_secs(31));
}

#[tokio::test(start_paused = true)]
async fn a_body_without_end_is_refused() {
    let endless = Frames {
        frames: vec![Bytes::from(vec![b' '; 1 << 20])],
        end: End::Never,
    };
    let server = streaming(JSON, endless);
    let error = get(&server.source(Wire::Json)).await.unwrap_err();
    assert_eq!(error.kind(), Kind::Malformed);
    let detail = error.detail().unwrap();
    assert!(detail.contains("larger than 33554432 bytes"), "{detail}");
}
