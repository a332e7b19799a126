//! CloudWatch: accepts metric data in the protocols that SDKs speak and counts it.
//!
//! Nothing is stored but one number for each metric, so that a test can see that metrics arrive.

use std::collections::BTreeMap;
use std::io::Read;

use flate2::read::GzDecoder;
use minicbor::Decoder;
use minicbor::data::Type;
use serde::Deserialize;

use crate::{ApiError, Caller, Timestamp};

/// The largest request after decompression. The service takes 1 MB; a little more does no harm here.
const MAX_REQUEST_BYTES: usize = 4 << 20;
/// The most data in one request, as in the service.
const MAX_DATA: usize = 1000;
/// The most metrics told apart. Data of further ones is accepted and not counted.
const MAX_METRICS: usize = 10_000;

/// The protocols in which CloudWatch is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// `Action=PutMetricData&…` as a form, answered in XML.
    Query,
    /// `X-Amz-Target: GraniteServiceVersion20100801.PutMetricData` with a JSON body.
    Json,
    /// `/service/GraniteServiceVersion20100801/operation/PutMetricData` with a CBOR body.
    Cbor,
}

/// An answer and its content type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudWatchAnswer {
    /// The `content-type` header of the answer.
    pub content_type: &'static str,
    /// The body of the answer.
    pub body: Vec<u8>,
}

/// The emulated service.
#[derive(Debug, Default)]
pub struct CloudWatch {
    counts: BTreeMap<(String, String), u64>,
    calls: u64,
}

/// What a request says of its data: name space and one metric name for each datum.
#[derive(Debug, Default, PartialEq, Eq)]
struct MetricData {
    namespace: String,
    names: Vec<String>,
}

impl CloudWatch {
    /// A service that has seen nothing.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// How many data arrived, by name space and metric name.
    #[must_use]
    pub fn counts(&self) -> &BTreeMap<(String, String), u64> {
        &self.counts
    }

    /// Answers one call. In the query protocol the operation stands in the body and `operation` is not
    /// looked at.
    ///
    /// # Errors
    ///
    /// `UnknownOperationException` (`InvalidAction` in the query protocol) for anything but
    /// `PutMetricData`; a 4xx error for a body that cannot be read, is too large or misses a parameter.
    pub fn call(
        &mut self,
        _now: Timestamp,
        _caller: &Caller,
        protocol: Protocol,
        operation: &str,
        content_encoding: Option<&str>,
        body: &[u8],
    ) -> Result<CloudWatchAnswer, ApiError> {
        self.calls += 1;
        let inflated = inflate(content_encoding, body)?;
        let body = inflated.as_deref().unwrap_or(body);
        let data = match protocol {
            Protocol::Query => from_form(body)?,
            _ if operation != "PutMetricData" => {
                return Err(ApiError::client("UnknownOperationException", ""));
            }
            Protocol::Json => from_json(body)?,
            Protocol::Cbor => from_cbor(body).map_err(|_| malformed())?,
        };
        check(&data)?;
        self.count(data);
        Ok(self.answer(protocol))
    }

    /// An error as `protocol` writes it.
    #[must_use]
    pub fn error_answer(protocol: Protocol, error: &ApiError) -> CloudWatchAnswer {
        let (code, message) = (&error.code, &error.message);
        match protocol {
            Protocol::Query => CloudWatchAnswer {
                content_type: "text/xml",
                body: format!(
                    "<ErrorResponse xmlns=\"http://monitoring.amazonaws.com/doc/2010-08-01/\"><Error>\
                     <Type>{}</Type><Code>{}</Code><Message>{}</Message></Error></ErrorResponse>",
                    if error.status >= 500 { "Receiver" } else { "Sender" },
                    escape_xml(code),
                    escape_xml(message),
                )
                .into_bytes(),
            },
            Protocol::Json => CloudWatchAnswer {
                content_type: "application/x-amz-json-1.0",
                body: serde_json::json!({ "__type": code, "message": message })
                    .to_string()
                    .into_bytes(),
            },
            Protocol::Cbor => CloudWatchAnswer {
                content_type: "application/cbor",
                body: minicbor::to_vec(BTreeMap::from([
                    ("__type", code.as_str()),
                    ("message", message.as_str()),
                ]))
                .unwrap_or_default(),
            },
        }
    }

    fn count(&mut self, data: MetricData) {
        for name in data.names {
            let key = (data.namespace.clone(), name);
            if self.counts.len() < MAX_METRICS || self.counts.contains_key(&key) {
                *self.counts.entry(key).or_default() += 1;
            }
        }
    }

    fn answer(&self, protocol: Protocol) -> CloudWatchAnswer {
        match protocol {
            Protocol::Query => CloudWatchAnswer {
                content_type: "text/xml",
                body: format!(
                    "<PutMetricDataResponse xmlns=\"http://monitoring.amazonaws.com/doc/2010-08-01/\">\
                     <ResponseMetadata><RequestId>00000000-0000-4000-8000-{:012x}</RequestId>\
                     </ResponseMetadata></PutMetricDataResponse>",
                    self.calls & 0xffff_ffff_ffff
                )
                .into_bytes(),
            },
            Protocol::Json => CloudWatchAnswer {
                content_type: "application/x-amz-json-1.0",
                body: b"{}".to_vec(),
            },
            Protocol::Cbor => CloudWatchAnswer {
                content_type: "application/cbor",
                body: vec![0xbf, 0xff],
            },
        }
    }
}

fn malformed() -> ApiError {
    ApiError::client(
        "SerializationException",
        "the request body could not be read",
    )
}

fn missing(parameter: &str) -> ApiError {
    ApiError::client(
        "MissingParameter",
        format!("The parameter {parameter} is required."),
    )
}

fn check(data: &MetricData) -> Result<(), ApiError> {
    if data.namespace.is_empty() {
        return Err(missing("Namespace"));
    }
    if data.names.is_empty() {
        return Err(missing("MetricData"));
    }
    if data.names.iter().any(String::is_empty) {
        return Err(missing("MetricData.member.MetricName"));
    }
    if data.names.len() > MAX_DATA {
        return Err(ApiError::client(
            "InvalidParameterValue",
            format!("The collection MetricData must not have a size greater than {MAX_DATA}."),
        ));
    }
    Ok(())
}

/// The decompressed body, or nothing when it is not compressed.
fn inflate(content_encoding: Option<&str>, body: &[u8]) -> Result<Option<Vec<u8>>, ApiError> {
    let encoding = content_encoding.map_or("", str::trim);
    let too_large =
        || ApiError::with_status(413, "RequestEntityTooLarge", "the request is too large");
    if encoding.is_empty() || encoding.eq_ignore_ascii_case("identity") {
        return if body.len() > MAX_REQUEST_BYTES {
            Err(too_large())
        } else {
            Ok(None)
        };
    }
    if !encoding.eq_ignore_ascii_case("gzip") {
        return Err(ApiError::with_status(
            415,
            "UnsupportedMediaType",
            "the content encoding is not supported; use gzip or none",
        ));
    }
    let mut inflated = Vec::new();
    GzDecoder::new(body)
        .take(MAX_REQUEST_BYTES as u64 + 1)
        .read_to_end(&mut inflated)
        .map_err(|_| malformed())?;
    if inflated.len() > MAX_REQUEST_BYTES {
        return Err(too_large());
    }
    Ok(Some(inflated))
}

fn from_form(body: &[u8]) -> Result<MetricData, ApiError> {
    let mut data = MetricData::default();
    let mut action = String::new();
    let body = std::str::from_utf8(body).map_err(|_| malformed())?;
    for pair in body.split('&') {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        let key = unescape_form(key);
        match key.as_str() {
            "Action" => action = unescape_form(value),
            "Namespace" => data.namespace = unescape_form(value),
            _ if is_metric_name(&key) => data.names.push(unescape_form(value)),
            _ => {}
        }
    }
    if action == "PutMetricData" {
        return Ok(data);
    }
    let message = if action.is_empty() {
        "The request must contain the parameter Action".to_owned()
    } else {
        format!("Could not find operation {action} for version 2010-08-01")
    };
    Err(ApiError::client("InvalidAction", message))
}

/// Whether a key of the form is `MetricData.member.N.MetricName`.
fn is_metric_name(key: &str) -> bool {
    key.strip_prefix("MetricData.member.")
        .and_then(|rest| rest.strip_suffix(".MetricName"))
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|b| b.is_ascii_digit()))
}

fn unescape_form(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'+' => bytes.push(b' '),
            b'%' => {
                let mut ahead = rest.clone();
                let digits = ahead.next().and_then(hex).zip(ahead.next().and_then(hex));
                if let Some((high, low)) = digits {
                    bytes.push(high << 4 | low);
                    rest = ahead;
                } else {
                    bytes.push(byte);
                }
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

fn escape_xml(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

fn from_json(body: &[u8]) -> Result<MetricData, ApiError> {
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Request {
        #[serde(default)]
        namespace: String,
        #[serde(default)]
        metric_data: Vec<Datum>,
    }
    #[derive(Deserialize)]
    #[serde(rename_all = "PascalCase")]
    struct Datum {
        #[serde(default)]
        metric_name: String,
    }
    let request: Request = serde_json::from_slice(body).map_err(|_| malformed())?;
    Ok(MetricData {
        namespace: request.namespace,
        names: request
            .metric_data
            .into_iter()
            .map(|d| d.metric_name)
            .collect(),
    })
}

type CborResult<T> = Result<T, minicbor::decode::Error>;

fn from_cbor(body: &[u8]) -> CborResult<MetricData> {
    let mut data = MetricData::default();
    let mut decoder = Decoder::new(body);
    each_member(&mut decoder, |decoder, key| {
        match key {
            "Namespace" => data.namespace = text(decoder)?,
            "MetricData" => each_element(decoder, |decoder| {
                let mut name = String::new();
                each_member(decoder, |decoder, key| {
                    if key == "MetricName" {
                        name = text(decoder)?;
                        Ok(())
                    } else {
                        decoder.skip()
                    }
                })?;
                data.names.push(name);
                Ok(())
            })?,
            _ => decoder.skip()?,
        }
        Ok(())
    })?;
    Ok(data)
}

/// Walks a map, of known length or not.
fn each_member(
    decoder: &mut Decoder<'_>,
    mut visit: impl FnMut(&mut Decoder<'_>, &str) -> CborResult<()>,
) -> CborResult<()> {
    let mut left = decoder.map()?;
    while more(decoder, &mut left)? {
        let key = text(decoder)?;
        visit(decoder, &key)?;
    }
    Ok(())
}

/// Walks an array, of known length or not.
fn each_element(
    decoder: &mut Decoder<'_>,
    mut visit: impl FnMut(&mut Decoder<'_>) -> CborResult<()>,
) -> CborResult<()> {
    let mut left = decoder.array()?;
    while more(decoder, &mut left)? {
        visit(decoder)?;
    }
    Ok(())
}

/// Whether a collection goes on. One of unknown length ends with a break, which is consumed.
fn more(decoder: &mut Decoder<'_>, left: &mut Option<u64>) -> CborResult<bool> {
    if let Some(count) = left {
        let more = *count > 0;
        *count = count.saturating_sub(1);
        return Ok(more);
    }
    if decoder.datatype()? == Type::Break {
        decoder.skip()?;
        return Ok(false);
    }
    Ok(true)
}

fn text(decoder: &mut Decoder<'_>) -> CborResult<String> {
    decoder.str_iter()?.collect()
}

#[cfg(test)]
mod tests;
