#![no_main]

use bytes::Bytes;
use kcl_core::retrieval::internals::events;
use libfuzzer_sys::fuzz_target;

// As it comes, and with every frame's checksums made right, so that what is behind them is reached.
fuzz_target!(|stream: &[u8]| {
    look(stream.to_vec());
    look(with_right_checksums(stream.to_vec()));
});

fn look(stream: Vec<u8>) {
    let (batches, _) = events(Bytes::from(stream));
    for record in batches.iter().flatten() {
        assert!(!record.sequence_number().is_empty());
        let _ = (
            record.data(),
            record.partition_key(),
            record.approximate_arrival(),
        );
    }
}

fn with_right_checksums(mut stream: Vec<u8>) -> Vec<u8> {
    let mut rest = stream.as_mut_slice();
    while rest.len() >= 16 {
        let prelude = crc32fast::hash(&rest[..8]);
        rest[8..12].copy_from_slice(&prelude.to_be_bytes());
        let len = u32::from_be_bytes([rest[0], rest[1], rest[2], rest[3]]) as usize;
        if !(16..=rest.len()).contains(&len) {
            break;
        }
        let (frame, others) = rest.split_at_mut(len);
        let whole = crc32fast::hash(&frame[..len - 4]);
        frame[len - 4..].copy_from_slice(&whole.to_be_bytes());
        rest = others;
    }
    stream
}
