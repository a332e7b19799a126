//! The SDK's client protocol of our own, for a client that does nothing but read records.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_runtime_api::http::{Request, Response};
use aws_smithy_schema::protocol::{ClientProtocolInner, apply_http_endpoint};
use aws_smithy_schema::serde::{SerdeError, SerializableStruct, ShapeDeserializer};
use aws_smithy_schema::{Schema, ShapeId};
use aws_smithy_types::body::SdkBody;
use aws_smithy_types::config_bag::ConfigBag;
use aws_smithy_types::endpoint::Endpoint;
use aws_smithy_types::error::metadata::{Builder as ErrorBuilder, ErrorMetadata};
use bytes::Bytes;
use http_body::Body;

use super::envelope::Envelope;
use super::error_body::ErrorBody;
use super::negotiation::Negotiation;
use super::{Wire, request};

static ID: ShapeId<'static> =
    ShapeId::from_parts("kcl.kinesis#KinesisWire", "kcl.kinesis", "KinesisWire");

/// The operations whose answers hold records.
const OPERATIONS: [&str; 2] = ["GetRecords", SUBSCRIBE];
const SUBSCRIBE: &str = "SubscribeToShard";

/// Writes requests in JSON or CBOR, and hands the answers of `GetRecords` through undecoded, as an [`Envelope`].
///
/// An answer is read as what its `Content-Type` says, whatever was asked for. Errors come out typed by code, as with the
/// SDK's own protocol.
#[derive(Debug)]
pub(crate) struct KinesisWire(Arc<Negotiation>);

impl KinesisWire {
    pub(crate) fn new(negotiation: Arc<Negotiation>) -> Self {
        Self(negotiation)
    }
}

impl ClientProtocolInner for KinesisWire {
    type Request = Request;
    type Response = Response;

    fn protocol_id(&self) -> &ShapeId<'static> {
        &ID
    }

    fn serialize_request(
        &self,
        input: &dyn SerializableStruct,
        schema: &Schema<'_>,
        _: &str,
        config: &ConfigBag,
    ) -> Result<Request, SerdeError> {
        let operation = operation(config)
            .filter(|name| OPERATIONS.contains(name))
            .ok_or_else(|| SerdeError::unsupported("an operation without records"))?;
        let wire = self.0.wire();
        let body = request::body(wire, input, schema)?;
        let length = body.len();
        let mut request = Request::new(SdkBody::from(body));
        let invalid = |error: &dyn std::fmt::Display| SerdeError::custom(error.to_string());
        request
            .set_method("POST")
            .map_err(|error| invalid(&error))?;
        request.set_uri("/").map_err(|error| invalid(&error))?;
        let headers = request.headers_mut();
        headers.insert("Content-Type", wire.content_type());
        headers.insert("Content-Length", length.to_string());
        headers.insert("X-Amz-Target", format!("Kinesis_20131202.{operation}"));
        if wire == Wire::Cbor {
            headers.insert("Accept", wire.content_type());
        }
        Ok(request)
    }

    fn deserialize_response<'a>(
        &self,
        response: &'a Response,
        _: &Schema<'_>,
        config: &'a ConfigBag,
    ) -> Result<Box<dyn ShapeDeserializer + 'a>, SerdeError> {
        if operation(config) == Some(SUBSCRIBE) {
            // Nothing is left of it: the body was taken.
            return Ok(Box::new(Envelope {
                wire: Wire::Json,
                body: Bytes::new(),
            }));
        }
        let content_type = response.headers().get("content-type");
        let wire = Wire::of_answer(content_type).ok_or_else(|| {
            let content_type = content_type.unwrap_or_default();
            SerdeError::custom(format!(
                "an answer of type {content_type} is none of Kinesis"
            ))
        })?;
        let body = whole_body(response.body());
        Ok(Box::new(Envelope { wire, body }))
    }

    fn parse_error_metadata(
        &self,
        response: &Response,
        _: &ConfigBag,
    ) -> Result<ErrorBuilder, SerdeError> {
        let error = ErrorBody::of(response);
        self.0
            .failed(response.status().as_u16(), error.code.as_deref());
        Ok(metadata(error))
    }

    fn deserialize_error_response<'a>(
        &self,
        response: &'a Response,
        _: &'a ConfigBag,
    ) -> Result<Box<dyn ShapeDeserializer + 'a>, SerdeError> {
        Ok(Box::new(ErrorBody::of(response)))
    }

    fn update_endpoint(
        &self,
        request: &mut Request,
        endpoint: &Endpoint,
        config: &ConfigBag,
    ) -> Result<(), SerdeError> {
        apply_http_endpoint(request, endpoint, config)
    }
}

fn operation(config: &ConfigBag) -> Option<&str> {
    config.load::<Metadata>().map(Metadata::name)
}

fn metadata(error: ErrorBody) -> ErrorBuilder {
    let mut builder = ErrorMetadata::builder();
    if let Some(code) = error.code {
        builder = builder.code(code);
    }
    if let Some(message) = error.message {
        builder = builder.message(message);
    }
    builder
}

/// A body that the SDK has loaded, uncopied. `SdkBody` only lends a slice of it, but a clone of a loaded body shares its
/// bytes and gives them out as one frame.
fn whole_body(body: &SdkBody) -> Bytes {
    let loaded = body.bytes().unwrap_or_default();
    let shared = body.try_clone().and_then(|mut clone| {
        let mut context = Context::from_waker(Waker::noop());
        match Pin::new(&mut clone).poll_frame(&mut context) {
            Poll::Ready(Some(Ok(frame))) => frame.into_data().ok(),
            _ => None,
        }
    });
    match shared {
        Some(shared) if shared.len() == loaded.len() => shared,
        // Not how the SDK is today; right all the same.
        _ => Bytes::copy_from_slice(loaded),
    }
}
