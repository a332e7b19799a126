//! What a request asks for: caller, service, operation and encoding from its headers.

use bytes::Bytes;
use http::{HeaderMap, Method, header};

use crate::calls::CallKey;
use crate::cloudwatch::Protocol;
use crate::wire::Wire;
use crate::{ApiError, Caller, Service};

/// A request that names its caller and its operation.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) caller: Caller,
    pub(super) operation: String,
    pub(super) dialect: Dialect,
    pub(super) content_type: String,
    pub(super) content_encoding: Option<String>,
    pub(super) body: Bytes,
}

/// The service with the encoding in which it is spoken to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Dialect {
    Kinesis(Wire),
    DynamoDb,
    CloudWatch(Protocol),
}

/// A request that no service is asked for, and the encoding of its answer.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Not an API call: somebody looks whether the emulator is up.
    Status,
    /// Refused in the encoding of this content type.
    Error(Wire, ApiError),
}

impl Call {
    pub(super) fn parse(request: http::Request<Bytes>) -> Result<Self, Refusal> {
        let (parts, body) = request.into_parts();
        let content_type = text(&parts.headers, header::CONTENT_TYPE.as_str()).to_owned();
        let wire = Wire::of_content_type(&content_type);
        if parts.method == Method::GET {
            return Err(Refusal::Status);
        }
        let (dialect, operation) =
            route(&parts, &content_type, &body).ok_or_else(|| Refusal::unknown_operation(wire))?;
        let caller = caller(&parts.headers).map_err(|error| Refusal::Error(wire, error))?;
        let content_encoding = parts.headers.get(header::CONTENT_ENCODING);
        Ok(Self {
            caller,
            operation,
            dialect,
            content_type,
            content_encoding: content_encoding
                .and_then(|value| value.to_str().ok())
                .map(str::to_owned),
            body,
        })
    }

    pub(super) fn service(&self) -> Service {
        match self.dialect {
            Dialect::Kinesis(_) => Service::Kinesis,
            Dialect::DynamoDb => Service::DynamoDb,
            Dialect::CloudWatch(_) => Service::CloudWatch,
        }
    }

    pub(super) fn key(&self) -> CallKey {
        CallKey {
            caller: self.caller.clone(),
            service: self.service(),
            operation: self.operation.clone(),
        }
    }
}

impl Refusal {
    fn unknown_operation(wire: Wire) -> Self {
        Self::Error(
            wire,
            ApiError::client(
                "UnknownOperationException",
                "the request names no operation of Kinesis, DynamoDB or CloudWatch",
            ),
        )
    }
}

fn route(
    parts: &http::request::Parts,
    content_type: &str,
    body: &[u8],
) -> Option<(Dialect, String)> {
    if let Some(operation) = rpc_operation(parts.uri.path()) {
        return Some((Dialect::CloudWatch(Protocol::Cbor), operation.to_owned()));
    }
    if content_type.starts_with("application/x-www-form-urlencoded") {
        // A compressed form is read later; only metric data is ever compressed.
        let compressed = parts.headers.contains_key(header::CONTENT_ENCODING);
        let operation = form_action(body).or(compressed.then_some("PutMetricData"))?;
        let operation = operation.to_owned();
        return Some((Dialect::CloudWatch(Protocol::Query), operation));
    }
    let (service, operation) = Service::of_target(text(&parts.headers, "x-amz-target"))?;
    let dialect = match service {
        Service::Kinesis => Dialect::Kinesis(Wire::of_content_type(content_type)),
        Service::DynamoDb => Dialect::DynamoDb,
        Service::CloudWatch => Dialect::CloudWatch(Protocol::Json),
    };
    Some((dialect, operation.to_owned()))
}

/// The operation in the path of Smithy's RPC v2 protocol.
fn rpc_operation(path: &str) -> Option<&str> {
    path.strip_prefix("/service/GraniteServiceVersion20100801/operation/")
}

fn form_action(body: &[u8]) -> Option<&str> {
    let form = std::str::from_utf8(body).ok()?;
    form.split('&')
        .find_map(|pair| pair.strip_prefix("Action="))
}

/// The access key id of the signature. Neither signature nor date are checked: clients run on
/// virtual time and with made-up secrets.
fn caller(headers: &HeaderMap) -> Result<Caller, ApiError> {
    let authorization = text(headers, header::AUTHORIZATION.as_str());
    if authorization.is_empty() {
        return Err(ApiError::client(
            "MissingAuthenticationTokenException",
            "Missing Authentication Token",
        ));
    }
    let credential = authorization
        .split_once("Credential=")
        .and_then(|(_, rest)| rest.split(['/', ',', ' ']).next())
        .filter(|key| !key.is_empty());
    match credential {
        Some(access_key) => Ok(Caller::new(access_key)),
        None => Err(ApiError::client(
            "IncompleteSignatureException",
            "Authorization header requires 'Credential' parameter.",
        )),
    }
}

/// A header as text; empty if it is missing or not text.
fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers
        .get(name)
        .and_then(|value| value.to_str().ok())
        .unwrap_or_default()
}
