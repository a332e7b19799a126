#![no_main]

use bytes::Bytes;
use kcl_core::Wire;
use kcl_core::retrieval::{Batch, RecordRef, internals::records};
use libfuzzer_sys::fuzz_target;

/// Data, key and arrival of a record; its sequence number grows by itself.
type Made = (Vec<u8>, Option<String>, Option<u32>);

fuzz_target!(|made: Vec<Made>| {
    let json = records(Wire::Json, Bytes::from(in_json(&made))).unwrap();
    let cbor = records(Wire::Cbor, Bytes::from(in_cbor(&made))).unwrap();
    assert_eq!(json.len(), made.len());
    let all = |batch: &Batch| batch.iter().map(RecordRef::to_owned).collect::<Vec<_>>();
    assert_eq!(all(&json), all(&cbor));
    for (record, (data, key, _)) in json.iter().zip(&made) {
        assert_eq!(record.data(), data);
        assert_eq!(record.partition_key(), key.as_deref().unwrap_or_default());
    }
});

fn in_json(made: &[Made]) -> Vec<u8> {
    let records = made.iter().enumerate().map(|(index, (data, key, arrival_millis))| {
        serde_json::json!({
            "SequenceNumber": (index + 1).to_string(),
            "Data": base64_simd::STANDARD.encode_to_string(data),
            "PartitionKey": key,
            "ApproximateArrivalTimestamp": arrival_millis.map(|millis| f64::from(millis) / 1000.0),
        })
    });
    let records: Vec<_> = records.collect();
    serde_json::to_vec(&serde_json::json!({ "Records": records })).unwrap()
}

fn in_cbor(made: &[Made]) -> Vec<u8> {
    let mut out = b"\xbf\x67Records\x9f".to_vec();
    for (index, (data, key, arrival_millis)) in made.iter().enumerate() {
        out.extend_from_slice(b"\xbf\x6eSequenceNumber");
        string(&mut out, 3, (index + 1).to_string().as_bytes());
        out.extend_from_slice(b"\x64Data");
        string(&mut out, 2, data);
        out.extend_from_slice(b"\x6cPartitionKey");
        match key {
            Some(key) => string(&mut out, 3, key.as_bytes()),
            None => out.push(0xf6),
        }
        if let Some(millis) = arrival_millis {
            out.extend_from_slice(b"\x78\x1bApproximateArrivalTimestamp\xc1\x1a");
            out.extend_from_slice(&millis.to_be_bytes());
        }
        out.push(0xff);
    }
    out.extend_from_slice(b"\xff\xff");
    out
}

fn string(out: &mut Vec<u8>, kind: u8, string: &[u8]) {
    out.push(kind << 5 | 26);
    out.extend_from_slice(&u32::try_from(string.len()).unwrap().to_be_bytes());
    out.extend_from_slice(string);
}
