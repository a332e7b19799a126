#![no_main]

use kcl_core::Wire;
use kcl_core::retrieval::internals::error;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|body: &[u8]| {
    let _ = error(Wire::Json, body);
    let _ = error(Wire::Cbor, body);
});
