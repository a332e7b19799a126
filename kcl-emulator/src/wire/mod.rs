//! The encodings of requests and answers.

pub(crate) mod cbor;
mod cbor_read;
mod cbor_write;
pub(crate) mod event_stream;
pub(crate) mod json;

use bytes::Bytes;
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value};

use crate::ApiError;
use crate::kinesis::Request;

/// The encoding of one Kinesis exchange: an answer is encoded as its request was.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wire {
    /// `application/x-amz-json-1.1`.
    Json,
    /// `application/x-amz-cbor-1.1`, what the Java SDK speaks to Kinesis.
    Cbor,
}

impl Wire {
    /// The encoding that a `Content-Type` header names.
    pub(crate) fn of_content_type(content_type: &str) -> Self {
        if content_type.starts_with("application/x-amz-cbor") {
            Self::Cbor
        } else {
            Self::Json
        }
    }

    pub(crate) fn content_type(self) -> &'static str {
        match self {
            Self::Json => "application/x-amz-json-1.1",
            Self::Cbor => "application/x-amz-cbor-1.1",
        }
    }

    pub(crate) fn encode<T: Serialize>(self, value: &T) -> Result<Bytes, ApiError> {
        let encoded = match self {
            Self::Json => json::to_vec(value),
            Self::Cbor => cbor::to_vec(value).map_err(|error| internal(&error)),
        };
        encoded.map(Bytes::from)
    }

    pub(crate) fn decode<T: DeserializeOwned>(self, body: &[u8]) -> Result<T, ApiError> {
        match self {
            Self::Json => json::from_slice(body),
            Self::Cbor => cbor::from_slice(body).map_err(|error| unreadable(&error)),
        }
    }

    /// A document without members.
    pub(crate) fn empty_document(self) -> Bytes {
        Bytes::from_static(match self {
            Self::Json => b"{}",
            Self::Cbor => &[0xa0],
        })
    }

    /// Reads the body of a Kinesis request: one object, nothing after it.
    pub(crate) fn decode_request(self, operation: &str, body: &[u8]) -> Result<Request, ApiError> {
        match self {
            Self::Json => {
                let body = json::object(body)?;
                let mut reader = serde_json::Deserializer::from_slice(body);
                let request = Request::decode(operation, &mut reader)?;
                reader.end().map_err(|error| unreadable(&error))?;
                Ok(request)
            }
            Self::Cbor => {
                let mut reader = cbor::map_reader(body).map_err(|error| unreadable(&error))?;
                let request = Request::decode(operation, &mut reader)?;
                reader.finish().map_err(|error| unreadable(&error))?;
                Ok(request)
            }
        }
    }

    /// The body of an error answer. An error that cannot be encoded has an empty body.
    pub(crate) fn encode_error(self, error: &ApiError) -> Bytes {
        self.encode(&error_document(&error.code, error))
            .unwrap_or_default()
    }
}

/// An error as the AWS JSON protocols show it; `kind` is the code with its name space, if it has one.
pub(crate) fn error_document(kind: &str, error: &ApiError) -> Map<String, Value> {
    let mut document = Map::new();
    document.insert("__type".to_owned(), Value::from(kind));
    document.insert("message".to_owned(), Value::from(error.message.as_str()));
    document.extend(error.members.clone());
    document
}

/// The answer to a body that cannot be decoded.
pub(crate) fn unreadable(reason: &dyn std::fmt::Display) -> ApiError {
    ApiError::client("SerializationException", reason.to_string())
}

fn internal(reason: &dyn std::fmt::Display) -> ApiError {
    ApiError::with_status(500, "InternalFailure", reason.to_string())
}
