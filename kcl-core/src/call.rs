//! One call of user code: a panic becomes an error, and at most so many calls run at a time.

use std::any::Any;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;

use futures_util::FutureExt;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::processor::{BoxError, ProcessorResult};

/// Why a call of user code did not succeed.
#[derive(Debug)]
pub(crate) enum CallFailure {
    /// It returned an error.
    Error(BoxError),
    /// It panicked: the instance may be in any state.
    Panic(String),
}

impl std::fmt::Display for CallFailure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Error(error) => write!(f, "{error}"),
            Self::Panic(message) => write!(f, "panicked: {message}"),
        }
    }
}

/// The right to call user code, one of as many as may run at a time.
#[derive(Debug)]
pub(crate) struct CallPermit(
    #[expect(dead_code, reason = "held, never looked at")] OwnedSemaphorePermit,
);

/// Waits for the right to call user code. What must hold when the call begins is checked after this wait.
pub(crate) async fn permit(calls: &Arc<Semaphore>) -> CallPermit {
    match Arc::clone(calls).acquire_owned().await {
        Ok(permit) => CallPermit(permit),
        // The semaphore is never closed.
        Err(_) => std::future::pending().await,
    }
}

/// Runs `call` under its permit.
pub(crate) async fn guarded(
    _permit: CallPermit,
    call: impl Future<Output = ProcessorResult> + Send,
) -> Result<(), CallFailure> {
    match AssertUnwindSafe(call).catch_unwind().await {
        Ok(result) => result.map_err(CallFailure::Error),
        Err(panic) => Err(CallFailure::Panic(panic_message(panic.as_ref()))),
    }
}

/// Runs a factory, which is user code too.
pub(crate) fn guarded_factory<T>(make: impl FnOnce() -> T) -> Result<T, CallFailure> {
    std::panic::catch_unwind(AssertUnwindSafe(make))
        .map_err(|panic| CallFailure::Panic(panic_message(panic.as_ref())))
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "with a value that is no text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_panic_becomes_an_error_with_its_message() {
        let calls = Arc::new(Semaphore::new(1));
        let failure = guarded(permit(&calls).await, async { panic!("no {}", "luck") })
            .await
            .unwrap_err();
        assert_eq!(failure.to_string(), "panicked: no luck");
        assert!(
            guarded(permit(&calls).await, async { Ok(()) })
                .await
                .is_ok(),
            "the permit came back"
        );
    }
}
