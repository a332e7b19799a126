//! The body of an answer, collected in a buffer from the pool and given on as a whole.

use std::pin::Pin;
use std::task::{Context, Poll, ready};

use aws_sdk_kinesis::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_kinesis::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_kinesis::error::BoxError;
use aws_smithy_runtime_api::client::orchestrator::Metadata;
use aws_smithy_runtime_api::http::Response;
use aws_smithy_types::body::SdkBody;
use bytes::Bytes;
use http_body::{Body, Frame};

use super::Wire;
use super::pool::{BufferPool, Lent, SMALLEST, Stay};

/// No answer is larger: 10 MiB of payloads in base64, and 10,000 times keys, numbers and names.
const LARGEST: usize = 32 << 20;

/// How much is made room for before anything came.
const MOST_AT_ONCE: usize = 2 << 20;

/// An answer that does not end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the answer is larger than {LARGEST} bytes, which no answer of GetRecords is")]
struct TooLarge;

/// Puts the bodies of `GetRecords` into pooled buffers, on their way from the HTTP client, whichever that is, to the SDK.
///
/// The body is read as it was before, so every time limit of the call goes for it as well.
#[derive(Debug)]
pub(crate) struct PoolBodies(BufferPool);

impl PoolBodies {
    pub(crate) fn new(pool: &BufferPool) -> Self {
        Self(pool.clone())
    }
}

impl Intercept for PoolBodies {
    fn name(&self) -> &'static str {
        "PoolBodies"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        config: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let operation = config.load::<Metadata>().map(Metadata::name);
        if operation == Some("GetRecords") {
            pool_body(&self.0, context.response_mut());
        }
        Ok(())
    }
}

fn pool_body(pool: &BufferPool, response: &mut Response) {
    let headers = response.headers();
    let len = headers.get("content-length");
    let len: Option<usize> = len.and_then(|len| len.parse().ok());
    // Smaller ones stay as they come.
    if len.is_some_and(|len| len < SMALLEST) {
        return;
    }
    // Records in CBOR stay in the body; those in JSON are decoded out of it.
    let stay = match Wire::of_answer(headers.get("content-type")) {
        Some(Wire::Cbor) => Stay::Long,
        _ => Stay::Short,
    };
    let room = len.unwrap_or(SMALLEST).min(MOST_AT_ONCE);
    let body = std::mem::replace(response.body_mut(), SdkBody::taken());
    *response.body_mut() = SdkBody::from_body_1_x(PooledBody {
        body,
        buffer: Some(pool.take(room, stay)),
        stay,
    });
}

/// Gives out one frame with everything, at the end.
#[derive(Debug)]
struct PooledBody {
    body: SdkBody,
    /// `None` once it was given out.
    buffer: Option<Lent>,
    stay: Stay,
}

impl Body for PooledBody {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        let this = &mut *self;
        while let Some(buffer) = &mut this.buffer {
            match ready!(Pin::new(&mut this.body).poll_frame(context)) {
                None => break,
                Some(Err(error)) => return Poll::Ready(Some(Err(error))),
                Some(Ok(frame)) => {
                    // Trailers say nothing that is used.
                    let data = frame.into_data().unwrap_or_default();
                    if buffer.len() + data.len() > LARGEST {
                        this.buffer = None;
                        return Poll::Ready(Some(Err(TooLarge.into())));
                    }
                    buffer.append(&data);
                }
            }
        }
        let whole = this.buffer.take();
        Poll::Ready(whole.map(|whole| Ok(Frame::data(whole.into_bytes(this.stay)))))
    }
}
