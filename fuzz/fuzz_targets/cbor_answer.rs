#![no_main]

use bytes::Bytes;
use kcl_core::Wire;
use kcl_core::retrieval::internals::records;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let Ok(batch) = records(Wire::Cbor, Bytes::copy_from_slice(body)) else {
        return;
    };
    for record in &batch {
        assert!(!record.sequence_number().is_empty());
        let _ = (
            record.data(),
            record.partition_key(),
            record.approximate_arrival(),
        );
    }
});
