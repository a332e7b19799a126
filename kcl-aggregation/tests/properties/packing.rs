//! What the packer promises.

use kcl_aggregation::{
    Decoder, HashKeyRange, PackError, PackLimits, PackedRecord, Packer, effective_hash_key,
};
use proptest::collection::vec;
use proptest::prelude::*;
use prost::Message;

use crate::oracle::{Aggregate, User, framed, owned};

type Input = (String, Option<u128>, Vec<u8>);

fn inputs() -> impl Strategy<Value = Vec<Input>> {
    let key = prop_oneof!["[a-h]", "\\PC{1,12}"];
    let explicit = prop_oneof![3 => Just(None), 1 => any::<u128>().prop_map(Some), 1 => (0_u128..3).prop_map(Some)];
    let data = prop_oneof![
        10 => vec(any::<u8>(), 0..200),
        1 => Just(framed(b"looks aggregated, is not")),
        1 => vec(any::<u8>(), 1000..1500),
    ];
    vec((key, explicit, data), 0..60)
}

/// Up to five shards in descending order, one of them perhaps left out.
fn shards(cuts: &[u128], hole: Option<prop::sample::Index>) -> Vec<HashKeyRange> {
    let mut cuts = cuts.to_vec();
    cuts.push(0);
    cuts.sort_unstable();
    cuts.dedup();
    let ends = cuts.iter().skip(1).map(|cut| cut - 1);
    let mut shards: Vec<_> = std::iter::zip(&cuts, ends.chain([u128::MAX]))
        .map(|(start, end)| HashKeyRange { start: *start, end })
        .collect();
    if let Some(hole) = hole {
        shards.remove(hole.index(shards.len()));
    }
    shards.reverse();
    shards
}

/// Which shard a hash key belongs to; `None` for the hole.
fn shard_of(shards: &[HashKeyRange], hash_key: u128) -> Option<usize> {
    shards.iter().position(|shard| shard.contains(hash_key))
}

fn user((key, explicit, data): &Input) -> User {
    User {
        partition_key: key.clone(),
        explicit_hash_key: explicit.map(|key| key.to_string()),
        data: data.clone(),
    }
}

fn hash_of(user: &User) -> u128 {
    effective_hash_key(&user.partition_key, user.explicit_hash_key.as_deref())
}

fn unpack(packed: &PackedRecord) -> Vec<User> {
    let mut decoder = Decoder::new();
    match decoder.decode(&packed.data, &HashKeyRange::FULL).unwrap() {
        Some(records) => owned(records),
        None => vec![User {
            partition_key: packed.partition_key.clone(),
            explicit_hash_key: packed.explicit_hash_key.clone(),
            data: packed.data.to_vec(),
        }],
    }
}

fn counted(packed: &PackedRecord) -> usize {
    packed.partition_key.len() + packed.data.len()
}

fn pack(packer: &mut Packer, inputs: &[Input]) -> Vec<PackedRecord> {
    let mut out = Vec::new();
    for (key, explicit, data) in inputs {
        out.extend(packer.add(key, *explicit, data).unwrap());
    }
    out.extend(packer.flush());
    assert_eq!(packer.waiting(), 0);
    out
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_user_record_comes_out_once_in_order_and_in_its_shard(
        inputs in inputs(),
        cuts in vec(any::<u128>(), 0..4),
        hole in any::<Option<prop::sample::Index>>(),
        aggregate_bytes in 0_usize..2000,
        user_records in 0_usize..12,
    ) {
        let shards = shards(&cuts, hole);
        let limits = PackLimits { aggregate_bytes, user_records, ..PackLimits::default() };
        let packed = pack(&mut Packer::new(shards.clone(), limits), &inputs);

        let mut per_shard = vec![Vec::new(); shards.len() + 1];
        for record in &packed {
            let unpacked = unpack(record);
            prop_assert_eq!(record.user_records, unpacked.len());
            prop_assert!(unpacked.len() <= user_records.max(1));
            prop_assert!(unpacked.len() == 1 || counted(record) <= aggregate_bytes);
            let put_with = effective_hash_key(&record.partition_key, record.explicit_hash_key.as_deref());
            let shard = shard_of(&shards, put_with);
            prop_assert!(shard.is_some() || unpacked.len() == 1);
            for user in &unpacked {
                prop_assert_eq!(shard_of(&shards, hash_of(user)), shard);
            }
            per_shard[shard.unwrap_or(shards.len())].extend(unpacked);
        }

        let mut expected = vec![Vec::new(); shards.len() + 1];
        for user in inputs.iter().map(user) {
            expected[shard_of(&shards, hash_of(&user)).unwrap_or(shards.len())].push(user);
        }
        prop_assert_eq!(per_shard, expected);
    }

    #[test]
    fn the_message_is_what_a_protobuf_library_would_write(inputs in inputs()) {
        let limits = PackLimits { aggregate_bytes: 1 << 20, ..PackLimits::default() };
        for record in pack(&mut Packer::new([HashKeyRange::FULL], limits), &inputs) {
            if record.user_records > 1 {
                let message = &record.data[4..record.data.len() - 16];
                let aggregate = Aggregate::decode(message).unwrap();
                let distinct = |keys: &[String]| keys.iter().collect::<std::collections::BTreeSet<_>>().len();
                prop_assert_eq!(distinct(&aggregate.partition_key_table), aggregate.partition_key_table.len());
                prop_assert_eq!(distinct(&aggregate.explicit_hash_key_table), aggregate.explicit_hash_key_table.len());
                prop_assert_eq!(aggregate.encode_to_vec(), message);
            }
        }
    }

    #[test]
    fn a_bundle_is_filled_to_the_last_byte_and_not_beyond(inputs in inputs()) {
        prop_assume!(inputs.len() > 1);
        let pack_within = |aggregate_bytes| {
            let limits = PackLimits { aggregate_bytes, ..PackLimits::default() };
            pack(&mut Packer::new([HashKeyRange::FULL], limits), &inputs)
        };
        let whole = pack_within(1 << 20);
        prop_assert_eq!(whole.len(), 1);
        let len = counted(&whole[0]);
        prop_assert_eq!(&pack_within(len), &whole);
        prop_assert_eq!(pack_within(len - 1).len(), 2);
    }
}

#[test]
fn a_user_record_alone_comes_out_plain() {
    let mut packer = Packer::new([HashKeyRange::FULL], PackLimits::default());
    assert_eq!(packer.add("k", Some(7), b"payload"), Ok(None));
    assert_eq!(packer.waiting(), 1);
    let packed = packer.flush().remove(0);
    assert_eq!(packed.data, "payload");
    assert_eq!(packed.partition_key, "k");
    assert_eq!(packed.explicit_hash_key.as_deref(), Some("7"));
    assert_eq!(packed.user_records, 1);
    packer.add("k", None, b"payload").unwrap();
    assert_eq!(packer.flush().remove(0).explicit_hash_key, None);
    assert!(packer.flush().is_empty());
}

#[test]
fn a_payload_that_is_an_aggregated_record_arrives_as_one_user_record() {
    let mut packer = Packer::new([HashKeyRange::FULL], PackLimits::default());
    packer.add("inner", None, b"1").unwrap();
    packer.add("inner", None, b"2").unwrap();
    let inner = packer.flush().remove(0).data;
    packer.add("outer", None, &inner).unwrap();
    let outer = packer.flush().remove(0);
    let unpacked = unpack(&outer);
    assert_eq!(unpacked.len(), 1);
    assert_eq!(unpacked[0].partition_key, "outer");
    assert_eq!(unpacked[0].data, inner);
}

#[test]
fn a_record_that_the_stream_would_refuse_is_refused_and_nothing_is_lost() {
    let limits = PackLimits {
        aggregate_bytes: 900,
        record_bytes: 1000,
        ..PackLimits::default()
    };
    let mut packer = Packer::new([HashKeyRange::FULL], limits);
    assert_eq!(packer.add("before", None, b"small"), Ok(None));
    let refused = packer.add("k", None, &[0; 1000]);
    assert_eq!(
        refused,
        Err(PackError::TooLarge {
            bytes: 1001,
            limit: 1000
        })
    );
    for (key, characters) in [("", 0), ("é".repeat(257).as_str(), 257)] {
        let refused = packer.add(key, None, b"x");
        assert_eq!(refused, Err(PackError::PartitionKey { characters }));
    }
    assert_eq!(packer.add(&"é".repeat(256), None, b""), Ok(None));
    let large = packer.add("k", None, &[0; 999]).unwrap().unwrap();
    assert_eq!(large.user_records, 2, "what waited before the large one");
    let flushed = packer.flush();
    assert_eq!((flushed.len(), counted(&flushed[0])), (1, 1000));
}

#[test]
fn a_wrapped_payload_must_fit_with_its_wrapping() {
    let inner = framed(b"looks aggregated, is not");
    let limits = |record_bytes| PackLimits {
        record_bytes,
        ..PackLimits::default()
    };
    let add = |record_bytes| {
        let mut packer = Packer::new([HashKeyRange::FULL], limits(record_bytes));
        packer.add("k", None, &inner).map(|_| packer.flush())
    };
    let needed = counted(&add(1000).unwrap()[0]);
    assert!(needed > inner.len() + 1);
    assert!(add(needed).is_ok());
    assert_eq!(
        add(needed - 1),
        Err(PackError::TooLarge {
            bytes: needed,
            limit: needed - 1
        })
    );
}

#[test]
fn an_aggregated_record_never_exceeds_what_the_stream_accepts() {
    let limits = PackLimits {
        aggregate_bytes: usize::MAX,
        record_bytes: 300,
        ..PackLimits::default()
    };
    let inputs: Vec<Input> = (0..50)
        .map(|n| (format!("key {n}"), None, vec![0; 30]))
        .collect();
    let packed = pack(&mut Packer::new([HashKeyRange::FULL], limits), &inputs);
    assert!(packed.iter().all(|record| counted(record) <= 300));
    assert!(packed.len() < 20);
}

#[test]
fn without_ranges_everything_comes_out_plain_at_once() {
    let mut packer = Packer::new([], PackLimits::default());
    let packed = packer.add("k", None, b"payload").unwrap().unwrap();
    assert_eq!(
        (packed.user_records, packed.data.as_ref()),
        (1, &b"payload"[..])
    );
    assert!(packer.flush().is_empty());
}

#[test]
fn ranges_may_be_given_in_any_order() {
    let quarter = |n: u128| HashKeyRange {
        start: n << 126,
        end: (n << 126) + (u128::MAX >> 2),
    };
    let inputs: Vec<Input> = (0..100)
        .map(|n| (format!("key {n}"), None, vec![0; 30]))
        .collect();
    for order in [[0, 1, 2, 3], [3, 2, 1, 0], [2, 0, 3, 1]] {
        let mut packer = Packer::new(order.map(quarter), PackLimits::default());
        assert_eq!(pack(&mut packer, &inputs).len(), 4, "{order:?}");
    }
}
