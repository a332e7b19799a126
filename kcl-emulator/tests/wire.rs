//! Encodings and headers, request by request.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod common;

use std::io::Write;

use bytes::Bytes;
use common::{CBOR, JSON, call, header, json, kinesis, respond};
use http::{Request, Response};
use http_body_util::Full;
use kcl_emulator::{Emulator, Service};
use minicbor::data::{IanaTag, Tag, Type};
use minicbor::{Decoder, Encoder};

fn one_stream() -> Emulator {
    let emulator = Emulator::new();
    emulator.create_stream("s", 1).unwrap();
    emulator
}

/// A Kinesis call in CBOR; `write` writes the body.
fn cbor(
    operation: &str,
    write: impl FnOnce(
        &mut Encoder<Vec<u8>>,
    ) -> Result<(), minicbor::encode::Error<std::convert::Infallible>>,
) -> Request<Full<Bytes>> {
    let mut encoder = Encoder::new(Vec::new());
    write(&mut encoder).unwrap();
    let target = format!("Kinesis_20131202.{operation}");
    call(&target, CBOR, encoder.into_writer())
}

/// The named member of a CBOR map, undecoded.
fn member<'a>(answer: &'a Response<Bytes>, name: &str) -> Decoder<'a> {
    let mut decoder = Decoder::new(answer.body());
    let mut left = decoder.map().unwrap();
    loop {
        match &mut left {
            Some(0) => panic!("{name} is missing"),
            Some(left) => *left -= 1,
            None => assert_ne!(
                decoder.datatype().unwrap(),
                Type::Break,
                "{name} is missing"
            ),
        }
        if decoder.str().unwrap() == name {
            return decoder;
        }
        decoder.skip().unwrap();
    }
}

#[tokio::test(start_paused = true)]
async fn answers_have_ids_and_a_date() {
    let emulator = Emulator::new();
    let first = respond(&emulator, kinesis("ListStreams", "{}")).await;
    let second = respond(&emulator, kinesis("ListStreams", "{}")).await;
    assert_eq!(header(&first, "content-type"), JSON);
    assert_eq!(header(&first, "date"), "Thu, 01 Jan 2026 00:00:00 GMT");
    assert_eq!(header(&first, "x-amzn-requestid").len(), 36);
    assert_ne!(
        header(&first, "x-amzn-requestid"),
        header(&second, "x-amzn-requestid")
    );
    assert_ne!(header(&first, "x-amz-id-2"), "");
}

#[tokio::test(start_paused = true)]
async fn a_request_without_signature_is_refused() {
    let emulator = Emulator::new();
    for (authorization, code) in [
        (None, "MissingAuthenticationTokenException"),
        (
            Some("AWS4-HMAC-SHA256 Signature=0"),
            "IncompleteSignatureException",
        ),
    ] {
        let mut request = kinesis("ListStreams", "{}");
        request.headers_mut().remove("authorization");
        if let Some(value) = authorization {
            request
                .headers_mut()
                .insert("authorization", value.parse().unwrap());
        }
        let answer = respond(&emulator, request).await;
        assert_eq!(
            (answer.status().as_u16(), &json(&answer)["__type"]),
            (400, &code.into())
        );
    }
    assert_eq!(emulator.calls().total(), 0);
}

#[tokio::test(start_paused = true)]
async fn the_caller_is_the_access_key() {
    let emulator = Emulator::new();
    respond(&emulator, kinesis("ListStreams", "{}")).await;
    assert_eq!(
        emulator
            .calls()
            .by("AKIDTEST", Service::Kinesis, "ListStreams"),
        1
    );
}

#[tokio::test(start_paused = true)]
async fn errors_are_named_in_the_body() {
    let emulator = Emulator::new();
    let missing = respond(
        &emulator,
        kinesis("DescribeStreamSummary", r#"{"StreamName":"none"}"#),
    )
    .await;
    assert_eq!(missing.status(), 400);
    assert_eq!(json(&missing)["__type"], "ResourceNotFoundException");
    assert_eq!(
        json(&missing)["message"],
        "Stream none under account 000000000000 not found."
    );
    let nothing = call("Nothing_1.Nothing", JSON, "{}");
    for request in [kinesis("Nothing", "{}"), nothing] {
        let answer = respond(&emulator, request).await;
        assert_eq!(json(&answer)["__type"], "UnknownOperationException");
    }
    for body in ["{", "[]", "\"x\"", r#"{"StreamName":5}"#, "\u{0}"] {
        let answer = respond(&emulator, kinesis("DescribeStreamSummary", body)).await;
        assert_eq!(
            json(&answer)["__type"],
            "SerializationException",
            "{body:?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn an_operation_without_output_has_an_empty_body() {
    let emulator = Emulator::new();
    let create = r#"{"StreamName":"s","ShardCount":1}"#;
    let answer = respond(&emulator, kinesis("CreateStream", create)).await;
    assert_eq!((answer.status().as_u16(), answer.body().len()), (200, 0));
}

#[tokio::test(start_paused = true)]
async fn dynamodb_answers_carry_their_checksum_and_name_space() {
    let emulator = Emulator::new();
    let content_type = "application/x-amz-json-1.0";
    for (operation, body, kind) in [
        ("ListTables", "{}", None),
        (
            "DescribeTable",
            r#"{"TableName":"none"}"#,
            Some("com.amazonaws.dynamodb.v20120810#ResourceNotFoundException"),
        ),
        (
            "Nothing",
            "{}",
            Some("com.amazon.coral.service#UnknownOperationException"),
        ),
    ] {
        let request = call(
            &format!("DynamoDB_20120810.{operation}"),
            content_type,
            body,
        );
        let answer = respond(&emulator, request).await;
        assert_eq!(json(&answer)["__type"].as_str(), kind);
        assert_eq!(header(&answer, "content-type"), content_type);
        let checksum = crc32fast::hash(answer.body()).to_string();
        assert_eq!(header(&answer, "x-amz-crc32"), checksum);
    }
}

#[tokio::test(start_paused = true)]
async fn cloudwatch_is_found_in_all_three_protocols() {
    let emulator = Emulator::new();
    let json_body = r#"{"Namespace":"n","MetricData":[{"MetricName":"m","Value":1}]}"#;
    let by_target = call(
        "GraniteServiceVersion20100801.PutMetricData",
        "application/x-amz-json-1.0",
        json_body,
    );
    let form_body = "Action=PutMetricData&Namespace=n&MetricData.member.1.MetricName=m";
    let mut form = call(
        "",
        "application/x-www-form-urlencoded; charset=utf-8",
        form_body,
    );
    form.headers_mut().remove("x-amz-target");
    // The Java SDK compresses what is larger than 10 KB.
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(form_body.as_bytes()).unwrap();
    let mut compressed = form.clone();
    *compressed.body_mut() = Full::new(gzip.finish().unwrap().into());
    compressed
        .headers_mut()
        .insert("content-encoding", "gzip".parse().unwrap());
    let mut encoder = Encoder::new(Vec::new());
    encoder
        .map(2)
        .unwrap()
        .str("Namespace")
        .unwrap()
        .str("n")
        .unwrap();
    encoder.str("MetricData").unwrap().array(1).unwrap();
    encoder
        .map(1)
        .unwrap()
        .str("MetricName")
        .unwrap()
        .str("m")
        .unwrap();
    let mut rpc = call("", "application/cbor", encoder.into_writer());
    rpc.headers_mut().remove("x-amz-target");
    *rpc.uri_mut() = "/service/GraniteServiceVersion20100801/operation/PutMetricData"
        .parse()
        .unwrap();
    for (request, content_type) in [
        (by_target, "application/x-amz-json-1.0"),
        (form, "text/xml"),
        (compressed, "text/xml"),
        (rpc, "application/cbor"),
    ] {
        let answer = respond(&emulator, request).await;
        assert_eq!(
            (answer.status().as_u16(), header(&answer, "content-type")),
            (200, content_type)
        );
    }
    let counted = emulator.metrics();
    assert_eq!(counted.get(&("n".to_owned(), "m".to_owned())), Some(&4));
    assert_eq!(emulator.calls().of(Service::CloudWatch, "PutMetricData"), 4);
}

#[tokio::test(start_paused = true)]
async fn cbor_carries_blobs_as_bytes_and_moments_as_milliseconds() {
    let emulator = one_stream();
    let put = cbor("PutRecord", |body| {
        // As Jackson writes it: an indefinite map, and here the blob in chunks too.
        body.begin_map()?
            .str("StreamName")?
            .str("s")?
            .str("PartitionKey")?
            .str("k")?;
        body.str("Data")?
            .begin_bytes()?
            .bytes(b"hel")?
            .bytes(b"lo")?
            .end()?;
        body.end()?.ok()
    });
    let put = respond(&emulator, put).await;
    assert_eq!(
        (put.status().as_u16(), header(&put, "content-type")),
        (200, CBOR)
    );
    assert_eq!(
        member(&put, "ShardId").str().unwrap(),
        "shardId-000000000000"
    );

    let iterator = cbor("GetShardIterator", |body| {
        body.map(4)?
            .str("StreamName")?
            .str("s")?
            .str("ShardId")?
            .str("shardId-000000000000")?;
        body.str("ShardIteratorType")?.str("AT_TIMESTAMP")?;
        body.str("Timestamp")?
            .tag(IanaTag::Timestamp)?
            .i64(1_767_225_600_000)?
            .ok()
    });
    let iterator = respond(&emulator, iterator).await;
    let iterator = member(&iterator, "ShardIterator").str().unwrap().to_owned();
    let get = cbor("GetRecords", |body| {
        body.map(1)?.str("ShardIterator")?.str(&iterator)?.ok()
    });
    let records = respond(&emulator, get).await;
    let mut records = member(&records, "Records");
    assert_eq!(records.array().unwrap(), Some(1));
    let mut left = records.map().unwrap().unwrap();
    let mut seen = 0;
    while left > 0 {
        match records.str().unwrap() {
            "Data" => {
                assert_eq!(records.bytes().unwrap(), b"hello");
                seen += 1;
            }
            "ApproximateArrivalTimestamp" => {
                assert_eq!(records.tag().unwrap(), Tag::from(IanaTag::Timestamp));
                assert_eq!(records.i64().unwrap(), 1_767_225_600_000);
                seen += 1;
            }
            _ => records.skip().unwrap(),
        }
        left -= 1;
    }
    assert_eq!(seen, 2);
}

#[tokio::test(start_paused = true)]
async fn a_moment_in_a_request_may_have_any_number_form() {
    let emulator = one_stream();
    respond(
        &emulator,
        kinesis(
            "PutRecord",
            r#"{"StreamName":"s","PartitionKey":"k","Data":"aGk="}"#,
        ),
    )
    .await;
    let in_cbor = |write: fn(&mut Encoder<Vec<u8>>)| {
        cbor("GetShardIterator", |body| {
            body.map(4)?
                .str("StreamName")?
                .str("s")?
                .str("ShardId")?
                .str("shardId-000000000000")?;
            body.str("ShardIteratorType")?
                .str("AT_TIMESTAMP")?
                .str("Timestamp")?;
            write(body);
            Ok(())
        })
    };
    for (request, finds) in [
        (
            in_cbor(|body| drop(body.tag(IanaTag::Timestamp).unwrap().i64(1_767_225_600_000))),
            true,
        ),
        (in_cbor(|body| drop(body.i64(1_767_225_600_000))), true),
        (
            in_cbor(|body| drop(body.tag(IanaTag::Timestamp).unwrap().f64(1_767_225_600.0))),
            true,
        ),
    ] {
        let answer = respond(&emulator, request).await;
        let iterator = member(&answer, "ShardIterator").str().unwrap().to_owned();
        let get = cbor("GetRecords", |body| {
            body.map(1)?.str("ShardIterator")?.str(&iterator)?.ok()
        });
        let answer = respond(&emulator, get).await;
        assert_eq!(
            member(&answer, "Records").array().unwrap(),
            Some(u64::from(finds))
        );
    }
}

#[tokio::test(start_paused = true)]
async fn cbor_errors_are_in_cbor() {
    let emulator = Emulator::new();
    let request = cbor("DescribeStreamSummary", |body| {
        body.map(1)?.str("StreamName")?.str("none")?.ok()
    });
    let answer = respond(&emulator, request).await;
    assert_eq!(
        (answer.status().as_u16(), header(&answer, "content-type")),
        (400, CBOR)
    );
    assert_eq!(
        member(&answer, "__type").str().unwrap(),
        "ResourceNotFoundException"
    );
    assert!(member(&answer, "message").str().unwrap().contains("none"));
}

#[tokio::test(start_paused = true)]
async fn hostile_cbor_is_refused() {
    let emulator = one_stream();
    let deep = vec![0x81; 100_000];
    let mut deep_map = b"\xa1\x65Stuff".to_vec();
    deep_map.extend([0x9f; 100_000]);
    let long_array = b"\xa1\x67Records\x9b\xff\xff\xff\xff\xff\xff\xff\xff".to_vec();
    let long_text = b"\xa1\x6aStreamName\x7b\xff\xff\xff\xff\xff\xff\xff\xff".to_vec();
    let long_blob = b"\xa1\x64Data\x5b\x00\x00\x00\xff\xff\xff\xff\xff".to_vec();
    let tags = vec![0xc1; 100_000];
    let mut deep_tags = b"\xa1\x6aStreamName".to_vec();
    deep_tags.extend([0xc1; 100_000]);
    let trailing = b"\xa0\xa0".to_vec();
    let bodies = [
        deep,
        deep_map,
        long_array,
        long_text,
        long_blob,
        tags,
        deep_tags,
        trailing,
        vec![0xff],
        vec![0xbf],
        vec![0x1f],
        vec![0xa1],
        vec![0xf8, 0xff],
        b"\xa1\xff\xff".to_vec(),
    ];
    for body in bodies {
        let start = body.get(..body.len().min(12)).unwrap().to_vec();
        let request = call("Kinesis_20131202.PutRecords", CBOR, body);
        let answer = respond(&emulator, request).await;
        assert_eq!(answer.status(), 400, "{start:x?}");
        assert_eq!(
            member(&answer, "__type").str().unwrap(),
            "SerializationException",
            "{start:x?}"
        );
    }
}

#[tokio::test(start_paused = true)]
async fn hostile_json_is_refused() {
    let emulator = one_stream();
    let deep = "[".repeat(100_000);
    for body in [
        deep.as_str(),
        r#"{"Records":[{"Data":"no base64!"}]}"#,
        r#"{"Records":[]} {}"#,
    ] {
        let answer = respond(&emulator, kinesis("PutRecords", body)).await;
        assert_eq!(json(&answer)["__type"], "SerializationException");
    }
}

proptest::proptest! {
    #[test]
    fn no_body_panics(body in proptest::collection::vec(proptest::num::u8::ANY, 0..200), in_cbor: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let emulator = one_stream();
            let content_type = if in_cbor { CBOR } else { JSON };
            for operation in ["PutRecords", "GetShardIterator", "CreateStream", "SubscribeToShard"] {
                let target = format!("Kinesis_20131202.{operation}");
                let answer = respond(&emulator, call(&target, content_type, body.clone())).await;
                assert!(answer.status().as_u16() < 500);
            }
        });
    }
}
