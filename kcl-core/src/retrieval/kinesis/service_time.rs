//! The service's clock, from the `Date` header of an answer.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use aws_sdk_kinesis::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_kinesis::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_kinesis::error::BoxError;
use aws_smithy_types::DateTime;
use aws_smithy_types::date_time::Format;

/// Notes the date of the last answer that passes. Clones share the note.
#[derive(Debug, Clone, Default)]
pub(super) struct ServiceTime(Arc<Mutex<Option<SystemTime>>>);

impl ServiceTime {
    /// What was noted.
    pub(super) fn seen(&self) -> Option<SystemTime> {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Intercept for ServiceTime {
    fn name(&self) -> &'static str {
        "ServiceTime"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date").and_then(http_date);
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = date;
        Ok(())
    }
}

fn http_date(text: &str) -> Option<SystemTime> {
    let date = DateTime::from_str(text, Format::HttpDate).ok()?;
    SystemTime::try_from(date).ok()
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn only_http_dates_count() {
        assert_eq!(
            http_date("Thu, 01 Jan 2026 00:00:10 GMT"),
            Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_225_610))
        );
        assert_eq!(http_date("yesterday"), None);
    }
}
