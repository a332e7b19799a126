//! Decodes any input, as it is and with the right digest around it, and compares with the oracle of the property tests.
//!
//! `cargo +nightly fuzz run decode` in this crate's folder.
#![no_main]

#[path = "../../tests/properties/oracle.rs"]
mod oracle;

libfuzzer_sys::fuzz_target!(|input: &[u8]| {
    oracle::check(input);
});
