//! The body of an accepted subscription, taken before the SDK reads of it.
//!
//! A client protocol cannot take it: the SDK gives the body to an event receiver of its own before it asks the protocol
//! (`deserialize_streaming` of the operation).

use std::sync::{Arc, Mutex, PoisonError};

use aws_sdk_kinesis::config::interceptors::BeforeDeserializationInterceptorContextMut;
use aws_sdk_kinesis::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_kinesis::error::BoxError;
use aws_smithy_types::body::SdkBody;

const EVENT_STREAM: &str = "application/vnd.amazon.eventstream";

/// Leaves the SDK an empty body, which for it is a subscription that has ended.
#[derive(Debug, Clone, Default)]
pub(super) struct TakenBody(Arc<Mutex<Option<Taken>>>);

/// What came, undecoded.
#[derive(Debug)]
pub(super) struct Taken {
    pub(super) body: SdkBody,
    /// The type of the answer, if it is not that of an event stream. It is tried as one all the same.
    pub(super) foreign: Option<String>,
}

impl TakenBody {
    /// The body of the call that has just succeeded.
    pub(super) fn take(&self) -> Option<Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Intercept for TakenBody {
    fn name(&self) -> &'static str {
        "TakenBody"
    }

    fn modify_before_deserialization(
        &self,
        context: &mut BeforeDeserializationInterceptorContextMut<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let response = context.response_mut();
        // Errors have no frames.
        if response.status().is_success() {
            let content_type = response.headers().get("content-type");
            let foreign = content_type.filter(|value| !value.starts_with(EVENT_STREAM));
            let foreign = foreign.map(str::to_owned);
            let body = std::mem::replace(response.body_mut(), SdkBody::empty());
            let taken = Some(Taken { body, foreign });
            *self.0.lock().unwrap_or_else(PoisonError::into_inner) = taken;
        }
        Ok(())
    }
}
