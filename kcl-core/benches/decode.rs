//! How long it takes to decode answers of `GetRecords`, without a network and without buffers that were used before.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot run should say where"
)]

use std::hint::black_box;

use bytes::Bytes;
use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use kcl_core::Wire;
use kcl_core::retrieval::internals::records;

const RECORDS: usize = 1_000;
const SIZES: [usize; 3] = [100, 1_000, 10_000];
const ARRIVAL_MILLIS: u64 = 1_700_000_000_000;

fn sequence_number(index: usize) -> String {
    format!("4{index:055}")
}

fn json(size: usize) -> Bytes {
    let data = base64_simd::STANDARD.encode_to_string(vec![7; size]);
    let records: Vec<String> = (0..RECORDS)
        .map(|index| {
            let number = sequence_number(index);
            format!(
                r#"{{"SequenceNumber":"{number}","ApproximateArrivalTimestamp":1.7E9,"Data":"{data}","PartitionKey":"key-{index}"}}"#
            )
        })
        .collect();
    let records = records.join(",");
    Bytes::from(format!(
        r#"{{"Records":[{records}],"NextShardIterator":"next","MillisBehindLatest":0}}"#
    ))
}

fn cbor(size: usize) -> Bytes {
    let mut body = b"\xa1\x67Records\x9f".to_vec();
    for index in 0..RECORDS {
        body.extend_from_slice(b"\xa4\x6eSequenceNumber\x78\x38");
        body.extend_from_slice(sequence_number(index).as_bytes());
        body.extend_from_slice(b"\x78\x1bApproximateArrivalTimestamp\xc1\x1b");
        body.extend_from_slice(&ARRIVAL_MILLIS.to_be_bytes());
        body.extend_from_slice(b"\x64Data\x59");
        body.extend_from_slice(&u16::try_from(size).unwrap().to_be_bytes());
        body.resize(body.len() + size, 7);
        body.extend_from_slice(b"\x6cPartitionKey\x68");
        body.extend_from_slice(format!("key-{index:04}").as_bytes());
    }
    body.push(0xff);
    Bytes::from(body)
}

fn decode(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode");
    for size in SIZES {
        group.throughput(Throughput::Elements(RECORDS as u64));
        for (name, wire, body) in [
            ("json", Wire::Json, json(size)),
            ("cbor", Wire::Cbor, cbor(size)),
        ] {
            assert_eq!(records(wire, body.clone()).unwrap().len(), RECORDS);
            group.bench_with_input(BenchmarkId::new(name, size), &body, |b, body| {
                b.iter(|| records(wire, black_box(body.clone())).unwrap());
            });
        }
    }
    group.finish();
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).measurement_time(std::time::Duration::from_secs(2));
    targets = decode
}
criterion_main!(benches);
