#![no_main]

use kcl_aggregation::{CheckedRecord, Decoder, HashKeyRange};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|record: &[u8]| {
    let mut decoder = Decoder::new();
    let alone = look(decoder.decode(record, &HashKeyRange::FULL));
    // Digests that are checked side by side say the same.
    let mut decoder = Decoder::new();
    for checked in CheckedRecord::check_all([record, record, b"", record])
        .iter()
        .take(2)
    {
        assert_eq!(
            look(decoder.decode_checked(*checked, &HashKeyRange::FULL)),
            alone
        );
    }
});

/// How many user records came out, if it is one that is whole.
fn look(
    decoded: Result<Option<kcl_aggregation::UserRecords<'_>>, kcl_aggregation::Damaged>,
) -> Result<Option<usize>, kcl_aggregation::Damaged> {
    decoded.map(|users| {
        users.map(|users| {
            for user in users.iter() {
                let _ = (user.data(), user.partition_key(), user.effective_hash_key());
            }
            users.len()
        })
    })
}
