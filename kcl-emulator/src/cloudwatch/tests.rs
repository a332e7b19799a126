use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use super::*;

fn call(
    service: &mut CloudWatch,
    protocol: Protocol,
    encoding: Option<&str>,
    body: &[u8],
) -> Result<CloudWatchAnswer, ApiError> {
    service.call(
        Timestamp(0),
        &Caller::new("test"),
        protocol,
        "PutMetricData",
        encoding,
        body,
    )
}

fn counted(service: &CloudWatch, namespace: &str, metric: &str) -> Option<u64> {
    let key = (namespace.to_owned(), metric.to_owned());
    service.counts().get(&key).copied()
}

const FORM: &str = "Action=PutMetricData&Version=2010-08-01&Namespace=my+app%2Forders\
    &MetricData.member.1.MetricName=Success&MetricData.member.1.Value=1\
    &MetricData.member.2.MetricName=Success&MetricData.member.2.Dimensions.member.1.Name=MetricName\
    &MetricData.member.3.MetricName=Time";

const JSON: &[u8] = br#"{"Namespace":"app","MetricData":[{"MetricName":"Success","Value":1.0},
    {"MetricName":"Time","StatisticValues":{"SampleCount":3}}]}"#;

/// `{"Namespace":"app","MetricData":[{"MetricName":"Success","Value":1.0},{"MetricName":"Time"}]}`
fn cbor(indefinite: bool) -> Vec<u8> {
    let mut encoder = minicbor::Encoder::new(Vec::new());
    let write = |e: &mut minicbor::Encoder<Vec<u8>>| -> Result<(), minicbor::encode::Error<_>> {
        if indefinite {
            e.begin_map()?;
        } else {
            e.map(2)?;
        }
        e.str("Namespace")?
            .begin_str()?
            .str("a")?
            .str("pp")?
            .end()?;
        e.str("MetricData")?;
        if indefinite {
            e.begin_array()?;
        } else {
            e.array(2)?;
        }
        e.map(2)?
            .str("Value")?
            .f64(1.0)?
            .str("MetricName")?
            .str("Success")?;
        e.map(1)?.str("MetricName")?.str("Time")?;
        if indefinite {
            e.end()?.end()?;
        }
        Ok(())
    };
    write(&mut encoder).unwrap();
    encoder.into_writer()
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn form_is_counted_and_answered_in_xml() {
    let mut service = CloudWatch::new();
    let answer = call(&mut service, Protocol::Query, None, FORM.as_bytes()).unwrap();
    assert_eq!(answer.content_type, "text/xml");
    assert!(answer.body.starts_with(b"<PutMetricDataResponse"));
    assert_eq!(counted(&service, "my app/orders", "Success"), Some(2));
    assert_eq!(counted(&service, "my app/orders", "Time"), Some(1));
    assert_eq!(service.counts().len(), 2);
}

#[test]
fn json_and_cbor_are_counted() {
    let mut service = CloudWatch::new();
    let answer = call(&mut service, Protocol::Json, None, JSON).unwrap();
    assert_eq!(answer.body, b"{}");
    for indefinite in [false, true] {
        let answer = call(&mut service, Protocol::Cbor, None, &cbor(indefinite)).unwrap();
        assert_eq!(answer.body, [0xbf, 0xff]);
    }
    assert_eq!(counted(&service, "app", "Success"), Some(3));
    assert_eq!(counted(&service, "app", "Time"), Some(3));
}

#[test]
fn compressed_bodies_are_read() {
    let mut service = CloudWatch::new();
    call(&mut service, Protocol::Json, Some("gzip"), &gzip(JSON)).unwrap();
    assert_eq!(counted(&service, "app", "Success"), Some(1));
}

#[test]
fn a_compression_bomb_is_refused() {
    let bomb = gzip(&vec![b' '; MAX_REQUEST_BYTES + 1]);
    assert!(bomb.len() < MAX_REQUEST_BYTES / 100);
    let error = call(&mut CloudWatch::new(), Protocol::Json, Some("gzip"), &bomb).unwrap_err();
    assert_eq!(error.status, 413);
}

#[test]
fn other_operations_and_bad_requests_are_refused() {
    let mut service = CloudWatch::new();
    let code = |result: Result<CloudWatchAnswer, ApiError>| result.unwrap_err().code;
    let list = b"Action=ListMetrics";
    assert_eq!(
        code(call(&mut service, Protocol::Query, None, list)),
        "InvalidAction"
    );
    let unknown = service.call(
        Timestamp(0),
        &Caller::new("test"),
        Protocol::Json,
        "ListMetrics",
        None,
        b"{}",
    );
    assert_eq!(code(unknown), "UnknownOperationException");
    assert_eq!(
        code(call(&mut service, Protocol::Json, None, b"{}")),
        "MissingParameter"
    );
    let no_data = br#"{"Namespace":"app"}"#;
    assert_eq!(
        code(call(&mut service, Protocol::Json, None, no_data)),
        "MissingParameter"
    );
    let many = format!(
        r#"{{"Namespace":"app","MetricData":[{}{{"MetricName":"m"}}]}}"#,
        r#"{"MetricName":"m"},"#.repeat(MAX_DATA)
    );
    let many = call(&mut service, Protocol::Json, None, many.as_bytes());
    assert_eq!(code(many), "InvalidParameterValue");
    let not_gzip = call(&mut service, Protocol::Json, Some("gzip"), JSON);
    assert_eq!(code(not_gzip), "SerializationException");
    let brotli = call(&mut service, Protocol::Json, Some("br"), JSON);
    assert_eq!(brotli.unwrap_err().status, 415);
    assert!(service.counts().is_empty());
}

#[test]
fn errors_are_written_in_the_protocol_of_the_call() {
    let error = ApiError::client("InvalidAction", "a < b");
    let xml = CloudWatch::error_answer(Protocol::Query, &error);
    let xml = String::from_utf8(xml.body).unwrap();
    assert!(
        xml.contains("<Code>InvalidAction</Code><Message>a &lt; b</Message>"),
        "{xml}"
    );
    let json = CloudWatch::error_answer(Protocol::Json, &error).body;
    assert_eq!(json, br#"{"__type":"InvalidAction","message":"a < b"}"#);
    let cbor = CloudWatch::error_answer(Protocol::Cbor, &error).body;
    let members: BTreeMap<String, String> = minicbor::decode(&cbor).unwrap();
    assert_eq!(members["__type"], "InvalidAction");
}

proptest::proptest! {
    #[test]
    fn hostile_bytes_never_panic(body: Vec<u8>, kind in 0..3) {
        let protocol = [Protocol::Query, Protocol::Json, Protocol::Cbor][kind as usize];
        let _ = call(&mut CloudWatch::new(), protocol, None, &body);
        let _ = call(&mut CloudWatch::new(), protocol, Some("gzip"), &body);
    }

    #[test]
    fn damaged_cbor_never_panics(at in 0_usize..60, byte: u8) {
        let mut body = cbor(true);
        let at = at % body.len();
        body[at] = byte;
        let _ = call(&mut CloudWatch::new(), Protocol::Cbor, None, &body);
    }
}
