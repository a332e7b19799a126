//! Carries a request out and writes the answer.

use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;
use bytes::Bytes;
use http::response::Builder;
use http::{HeaderValue, Response, header};

use super::body::Body;
use super::request::{Call, Dialect, Refusal};
use super::subscription;
use crate::cloudwatch::{CloudWatch, Protocol};
use crate::dynamodb::ReadView;
use crate::emulator::Emulator;
use crate::faults::Plan;
use crate::wire::{Wire, error_document, event_stream, json};
use crate::{ApiError, Timestamp, kinesis};

/// Carries the request out now.
pub(super) fn execute(emulator: &Emulator, call: &Call, plan: &Plan) -> Response<Body> {
    let now = emulator.clock().now();
    let outcome = match call.dialect {
        Dialect::Kinesis(wire) => from_kinesis(emulator, now, wire, call, plan),
        Dialect::DynamoDb => from_dynamodb(emulator, now, call, plan),
        Dialect::CloudWatch(protocol) => from_cloudwatch(emulator, now, protocol, call),
    };
    outcome.unwrap_or_else(|refused| error(emulator, call, &refused))
}

/// The answer to a request that is refused.
pub(super) fn error(emulator: &Emulator, call: &Call, error: &ApiError) -> Response<Body> {
    let answer = with_headers(emulator).status(error.status);
    match call.dialect {
        Dialect::Kinesis(wire) => finish(answer, wire.content_type(), wire.encode_error(error)),
        Dialect::DynamoDb => {
            let kind = dynamodb_error_kind(&error.code);
            let body = json::to_vec(&error_document(&kind, error)).unwrap_or_default();
            finish_dynamodb(answer, &call.content_type, body.into())
        }
        Dialect::CloudWatch(protocol) => {
            let written = CloudWatch::error_answer(protocol, error);
            finish(answer, written.content_type, written.body.into())
        }
    }
}

/// The answer to a request that reaches no service.
pub(super) fn refusal(emulator: &Emulator, refusal: &Refusal) -> Response<Body> {
    let answer = with_headers(emulator);
    match refusal {
        Refusal::Status => finish(
            answer,
            "application/json",
            Bytes::from_static(br#"{"service":"kcl-emulator","status":"running"}"#),
        ),
        Refusal::Error(wire, error) => finish(
            answer.status(error.status),
            wire.content_type(),
            wire.encode_error(error),
        ),
    }
}

fn from_kinesis(
    emulator: &Emulator,
    now: Timestamp,
    wire: Wire,
    call: &Call,
    plan: &Plan,
) -> Result<Response<Body>, ApiError> {
    let request = wire.decode_request(&call.operation, &call.body)?;
    let response = emulator.kinesis(now, &call.caller, request)?;
    if let kinesis::Response::SubscribeToShard(output) = response {
        let frames = subscription::start(emulator, wire, output.subscription, &call.caller, plan);
        let answer =
            with_headers(emulator).header(header::CONTENT_TYPE, event_stream::CONTENT_TYPE);
        return build(answer, Body::events(frames));
    }
    let body = if response.is_empty() {
        Bytes::new()
    } else {
        wire.encode(&response)?
    };
    Ok(finish(with_headers(emulator), wire.content_type(), body))
}

fn from_dynamodb(
    emulator: &Emulator,
    now: Timestamp,
    call: &Call,
    plan: &Plan,
) -> Result<Response<Body>, ApiError> {
    let view = match usize::try_from(plan.stale_versions) {
        Ok(0) | Err(_) => ReadView::Current,
        Ok(versions_back) => ReadView::Stale { versions_back },
    };
    let body = emulator.dynamodb(now, &call.caller, &call.operation, &call.body, view)?;
    Ok(finish_dynamodb(
        with_headers(emulator),
        &call.content_type,
        body.into(),
    ))
}

fn from_cloudwatch(
    emulator: &Emulator,
    now: Timestamp,
    protocol: Protocol,
    call: &Call,
) -> Result<Response<Body>, ApiError> {
    let encoding = call.content_encoding.as_deref();
    let written = emulator.with_cloudwatch(|cloudwatch| {
        cloudwatch.call(
            now,
            &call.caller,
            protocol,
            &call.operation,
            encoding,
            &call.body,
        )
    })?;
    let mut answer = with_headers(emulator);
    if protocol == Protocol::Cbor {
        answer = answer.header("smithy-protocol", "rpc-v2-cbor");
    }
    Ok(finish(answer, written.content_type, written.body.into()))
}

/// The error code with the name space that DynamoDB puts before it.
fn dynamodb_error_kind(code: &str) -> String {
    let space = match code {
        "ValidationException" => "com.amazon.coral.validate",
        "SerializationException"
        | "UnknownOperationException"
        | "MissingAuthenticationTokenException"
        | "IncompleteSignatureException"
        | "AccessDeniedException" => "com.amazon.coral.service",
        _ => "com.amazonaws.dynamodb.v20120810",
    };
    format!("{space}#{code}")
}

fn with_headers(emulator: &Emulator) -> Builder {
    let id = emulator.next_request_id();
    Response::builder()
        .header("x-amzn-requestid", id.request_id())
        .header("x-amz-id-2", id.extended())
        .header(header::DATE, http_date(emulator.clock().now()))
}

/// Clients compare the answer's date with their own clock, so it shows the emulator's time.
fn http_date(now: Timestamp) -> HeaderValue {
    let seconds = DateTime::from_secs(now.0.div_euclid(1000));
    seconds
        .fmt(Format::HttpDate)
        .ok()
        .and_then(|date| HeaderValue::from_str(&date).ok())
        .unwrap_or(HeaderValue::from_static("Thu, 01 Jan 1970 00:00:00 GMT"))
}

/// DynamoDB's clients check the CRC-32 of the body.
fn finish_dynamodb(answer: Builder, content_type: &str, body: Bytes) -> Response<Body> {
    let answer = answer.header("x-amz-crc32", crc32fast::hash(&body));
    let content_type = if content_type.is_empty() {
        "application/x-amz-json-1.0"
    } else {
        content_type
    };
    finish(answer, content_type, body)
}

fn finish(answer: Builder, content_type: &str, body: Bytes) -> Response<Body> {
    let answer = answer
        .header(header::CONTENT_TYPE, content_type)
        .header(header::CONTENT_LENGTH, body.len());
    build(answer, Body::full(body)).unwrap_or_else(|_| {
        let mut plain = Response::new(Body::full(Bytes::new()));
        *plain.status_mut() = http::StatusCode::INTERNAL_SERVER_ERROR;
        plain
    })
}

fn build(answer: Builder, body: Body) -> Result<Response<Body>, ApiError> {
    answer
        .body(body)
        .map_err(|error| ApiError::with_status(500, "InternalFailure", error.to_string()))
}
