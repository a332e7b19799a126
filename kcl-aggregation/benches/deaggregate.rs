//! How long it takes to take aggregated records apart and to pack them.
#![expect(
    clippy::unwrap_used,
    reason = "a benchmark that cannot run should say where"
)]

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use kcl_aggregation::{CheckedRecord, Decoder, HashKeyRange, PackLimits, PackedRecord, Packer};

const LEFT_HALF: HashKeyRange = HashKeyRange {
    start: 0,
    end: u128::MAX / 2,
};

/// User records of one size, spread over some keys.
struct Shape {
    name: &'static str,
    records: usize,
    payload: usize,
    keys: usize,
}

const SHAPES: [Shape; 2] = [
    Shape {
        name: "400 x 100 B, 400 keys",
        records: 400,
        payload: 100,
        keys: 400,
    },
    Shape {
        name: "50 x 1 KiB, 10 keys",
        records: 50,
        payload: 1024,
        keys: 10,
    },
];

impl Shape {
    fn pack(&self) -> PackedRecord {
        let mut packer = Packer::new(
            [HashKeyRange::FULL],
            PackLimits {
                aggregate_bytes: 1 << 20,
                ..PackLimits::default()
            },
        );
        let payload = vec![b'x'; self.payload];
        for record in 0..self.records {
            let key = format!("customer-{}", record % self.keys);
            packer.add(&key, None, &payload).unwrap();
        }
        packer.flush().pop().unwrap()
    }
}

fn decode(c: &mut Criterion) {
    for shape in &SHAPES {
        let packed = shape.pack();
        let mut group = c.benchmark_group(format!("decode/{}", shape.name));
        group.throughput(Throughput::Elements(shape.records as u64));
        for (name, range) in [
            ("spans", HashKeyRange::FULL),
            ("spans and range", LEFT_HALF),
        ] {
            let mut decoder = Decoder::new();
            group.bench_function(name, |b| {
                b.iter(|| {
                    let records = decoder.decode(black_box(&packed.data), &range).unwrap();
                    let records = records.unwrap();
                    records
                        .iter()
                        .map(|r| r.data_span().len as usize + usize::from(r.in_range()))
                        .sum::<usize>()
                });
            });
        }
        // A record whose digest is wrong is looked at no further: what the digest costs.
        let mut damaged = packed.data.to_vec();
        *damaged.last_mut().unwrap() ^= 1;
        let mut decoder = Decoder::new();
        group.bench_function("digest alone", |b| {
            b.iter(|| decoder.decode(black_box(&damaged), &LEFT_HALF).is_err());
        });
        group.finish();
    }
}

/// Records of one answer, whose digests are checked together.
fn digests(c: &mut Criterion) {
    let mut group = c.benchmark_group("digests of so many records of 10 KiB");
    let record = SHAPES[1].pack().data.slice(..10 << 10);
    for count in [1, 4, 8, 16, 32, 200] {
        let records = vec![record.clone(); count];
        group.throughput(Throughput::Bytes((record.len() * count) as u64));
        group.bench_function(count.to_string(), |b| {
            b.iter(|| {
                let records = black_box(&records).iter();
                CheckedRecord::check_all(records.map(AsRef::as_ref)).len()
            });
        });
    }
    group.finish();
}

fn pack(c: &mut Criterion) {
    for shape in &SHAPES {
        let mut group = c.benchmark_group("pack");
        group.throughput(Throughput::Elements(shape.records as u64));
        group.bench_function(shape.name, |b| b.iter(|| black_box(shape).pack()));
        group.finish();
    }
}

criterion_group! {
    name = benches;
    config = Criterion::default().sample_size(30).measurement_time(std::time::Duration::from_secs(2));
    targets = decode, digests, pack
}
criterion_main!(benches);
