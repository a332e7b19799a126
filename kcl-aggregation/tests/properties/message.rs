//! Messages as a hostile or careless producer could write them: fields in any order, twice, missing, unknown.

use proptest::collection::vec;
use proptest::prelude::*;

/// A field as bytes on the wire.
type Field = Vec<u8>;

/// Messages, most of them valid.
pub(crate) fn messages() -> impl Strategy<Value = Vec<u8>> {
    let keys = vec(prop_oneof!["[a-c]{0,3}", "\\PC{0,8}"], 1..4);
    let explicit = vec(prop_oneof!["[0-9]{1,39}", "[0-9]{0,41}", "\\PC{0,4}"], 1..4);
    (keys, explicit, vec(record(), 0..6), vec(unknown(), 0..2))
        .prop_map(|(keys, explicit, records, unknown)| {
            let keys = keys.iter().map(|key| delimited(1, key.as_bytes()));
            let explicit = explicit.iter().map(|key| delimited(2, key.as_bytes()));
            let records = records.iter().map(|record| delimited(3, record));
            let fields = keys.chain(explicit).chain(records).chain(unknown);
            fields.collect::<Vec<_>>()
        })
        .prop_shuffle()
        .prop_map(|fields| fields.concat())
}

/// The content of one user record.
fn record() -> impl Strategy<Value = Vec<u8>> {
    let index = prop_oneof![20 => 0_u64..2, 1 => 2_u64..5, 1 => any::<u64>()];
    let data = vec(any::<u8>(), 0..20).prop_map(|data| delimited(3, &data));
    let rarely = |field: BoxedStrategy<Field>| prop_oneof![8 => Just(Vec::new()), 1 => field];
    let partition_key = index.clone().prop_map(|index| number(1, index)).boxed();
    let explicit_hash_key = index.prop_map(|index| number(2, index)).boxed();
    let often = prop_oneof![30 => partition_key.clone(), 1 => Just(Vec::new())];
    (
        often,
        prop_oneof![explicit_hash_key, Just(Vec::new())],
        prop_oneof![30 => data.clone(), 1 => Just(Vec::new())],
        rarely(unknown().boxed()),
        rarely(partition_key),
        rarely(data.boxed()),
    )
        .prop_map(|(a, b, c, d, e, f)| vec![a, b, c, d, e, f])
        .prop_shuffle()
        .prop_map(|fields| fields.concat())
}

/// A field that the format does not know, and now and then one that it knows in another shape.
fn unknown() -> impl Strategy<Value = Field> {
    let field = prop_oneof![6 => 4_u32..20, 1 => 1_u32..4, 1 => 1_u32..(1 << 29)];
    (field, any::<u64>(), vec(any::<u8>(), 0..9), 0..7).prop_map(|(field, value, bytes, shape)| {
        let key = |wire_type: u64| varint(u64::from(field) << 3 | wire_type);
        match shape {
            0 => number(field, value),
            1 => [key(1), value.to_le_bytes().to_vec()].concat(),
            2 => delimited(field, &bytes),
            3 => [key(3), number(field, value), key(4)].concat(),
            4 => [key(3), key(3), delimited(9, &bytes), key(4), key(4)].concat(),
            5 => [key(5), value.to_le_bytes()[..4].to_vec()].concat(),
            _ => [key(0), padded(value)].concat(),
        }
    })
}

pub(crate) fn varint(mut value: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    while value > 0x7F {
        bytes.push(value as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
    bytes
}

/// A number with more bytes than it needs, which is allowed.
fn padded(value: u64) -> Vec<u8> {
    let mut bytes = varint(value & 0xFFFF);
    if let Some(last) = bytes.last_mut() {
        *last |= 0x80;
    }
    bytes.push(0);
    bytes
}

pub(crate) fn number(field: u32, value: u64) -> Field {
    [varint(u64::from(field) << 3), varint(value)].concat()
}

pub(crate) fn delimited(field: u32, content: &[u8]) -> Field {
    let header = [
        varint(u64::from(field) << 3 | 2),
        varint(content.len() as u64),
    ];
    [&header.concat(), content].concat()
}
