//! One call of user code: a panic becomes an error, and at most so many calls run at a time.

use std::any::Any;
use std::fmt::{self, Write};
use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{self, Poll};
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use kcl_checkpoint::Position;
use kcl_lease::mutant::{self, Mutant};
use kcl_lease::runtime::Runtime;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::failure::BatchFailure;
use crate::processor::{BoxError, ProcessorResult, RecordProcessor};

/// Why a call of user code did not succeed.
#[derive(Debug)]
pub(crate) enum CallFailure {
    /// It returned an error: its text, and the record that failed if it names one.
    Error(String, Option<Position>),
    /// It panicked: the instance may be in any state.
    Panic(String),
    /// It was cut off at its time limit; the instance is gone.
    TooLong(Duration),
    /// It was cut off because the shard is given up; the instance is gone.
    GivenUp,
}

impl CallFailure {
    /// What is to be known of an error of user code. The error itself is user code, too: showing and dropping it may panic.
    pub(crate) fn error(error: BoxError) -> Self {
        let known = catch(move || {
            let mut text = BoundedText(String::new());
            // An error means that the text is full; what came before it is shown.
            let _full = write!(text, "{error}");
            let named = BatchFailure::find(error.as_ref());
            Self::Error(text.0, named.map(|named| named.failed_at().clone()))
        });
        known.unwrap_or_else(|message| Self::Panic(format!("while its error was shown: {message}")))
    }

    /// A failure that is told in these words.
    pub(crate) fn text(text: &str) -> Self {
        Self::Error(text.to_owned(), None)
    }

    /// The record that failed, if the processor said so.
    pub(crate) fn failed_at(&self) -> Option<&Position> {
        match self {
            Self::Error(_, at) => at.as_ref(),
            Self::Panic(_) | Self::TooLong(_) | Self::GivenUp => None,
        }
    }
}

/// Drops a processor, which is user code.
pub(crate) fn discard(processor: Option<Box<dyn RecordProcessor>>) {
    if let Err(message) = catch(move || drop(processor)) {
        tracing::warn!(message, "a processor panicked when it was dropped");
    }
}

/// Runs user code; the message of a panic is the error.
fn catch<T>(code: impl FnOnce() -> T) -> Result<T, String> {
    std::panic::catch_unwind(AssertUnwindSafe(code)).map_err(panic_message)
}

/// The longest text of a failure, in bytes.
const TEXT_MAX: usize = 4096;

/// Shows no more than [`TEXT_MAX`] bytes: the text goes into events, logs and dead letters, and user code may have put
/// anything into it.
impl fmt::Display for CallFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut text = BoundedText(String::new());
        // An error means that the text is full; what came before it is shown.
        let _full = match self {
            Self::Error(known, _) => text.write_str(known),
            Self::Panic(message) => write!(text, "panicked: {message}"),
            Self::TooLong(limit) => {
                write!(text, "was cut off at the time limit of a call, {limit:?}")
            }
            Self::GivenUp => text.write_str("was cut off because the shard is given up"),
        };
        f.write_str(&text.0)
    }
}

/// Takes the first [`TEXT_MAX`] bytes, whole characters only.
struct BoundedText(String);

impl Write for BoundedText {
    fn write_str(&mut self, part: &str) -> fmt::Result {
        let room = TEXT_MAX - self.0.len();
        let fits = part.floor_char_boundary(room);
        self.0.push_str(part.get(..fits).unwrap_or_default());
        match fits == part.len() {
            true => Ok(()),
            false => Err(fmt::Error),
        }
    }
}

/// The right to call user code, one of as many as may run at a time.
#[derive(Debug)]
pub(crate) struct CallPermit(
    #[expect(dead_code, reason = "held, never looked at")] OwnedSemaphorePermit,
);

/// Goes to the end of the thread's queue before a call that may block the thread.
///
/// What this task has just woken runs before: tokio keeps such a task for this thread alone. And another thread is woken,
/// which looks after timers and sockets from then on. `yield_now` would do neither: it keeps the task back until the thread
/// has nothing to do, behind somebody else's blocking call.
pub(crate) async fn give_way() {
    let mut gave_way = false;
    std::future::poll_fn(|context| {
        if std::mem::replace(&mut gave_way, true) {
            return Poll::Ready(());
        }
        context.waker().wake_by_ref();
        Poll::Pending
    })
    .await;
}

/// Waits for the right to call user code. What must hold when the call begins is checked after this wait.
pub(crate) async fn permit(calls: &Arc<Semaphore>) -> CallPermit {
    match Arc::clone(calls).acquire_owned().await {
        Ok(permit) => CallPermit(permit),
        // The semaphore is never closed.
        Err(_) => std::future::pending().await,
    }
}

/// Calls on threads of their own run at most this many at a time: tokio's pool has 512 threads, and a call that waits for
/// one would begin later than its lease was looked at.
pub(crate) const THREADS_MAX: usize = 500;

/// Where user code runs.
#[derive(Debug, Clone)]
pub(crate) enum Place {
    /// In the shard's task, on a thread of the runtime.
    Task,
    /// On a thread of its own, which it may block.
    Thread(Runtime),
}

/// Runs one call of `processor` under its permit; does nothing if there is none.
///
/// # Cancellation
/// On a thread of its own the call goes on to its end when this future is dropped, and the processor is not seen again.
pub(crate) async fn guarded<F>(
    permit: CallPermit,
    place: &Place,
    processor: &mut Option<Box<dyn RecordProcessor>>,
    call: F,
) -> Result<(), CallFailure>
where
    F: for<'p> FnOnce(&'p mut dyn RecordProcessor) -> BoxFuture<'p, ProcessorResult>
        + Send
        + 'static,
{
    match place {
        Place::Task => match processor {
            Some(processor) => outcome(async { call(processor.as_mut()).await }).await,
            None => Ok(()),
        },
        Place::Thread(runtime) => {
            let Some(mut owned) = processor.take() else {
                return Ok(());
            };
            let work = async move {
                let result = outcome(async { call(owned.as_mut()).await }).await;
                drop(permit);
                (owned, result)
            };
            let (owned, result) = runtime.on_blocking_thread(work).await;
            *processor = Some(owned);
            result
        }
    }
}

/// User code that may be cut off: dropping it then runs what it still holds, which is user code, too.
struct UserCode<F>(Option<Pin<Box<F>>>);

impl<F: Future> Future for UserCode<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, context: &mut task::Context<'_>) -> Poll<F::Output> {
        match &mut self.0 {
            Some(code) => code.as_mut().poll(context),
            None => Poll::Pending,
        }
    }
}

impl<F> Drop for UserCode<F> {
    fn drop(&mut self) {
        let code = self.0.take();
        if let Err(message) = catch(move || drop(code)) {
            tracing::warn!(message, "a call panicked when it was cut off");
        }
    }
}

/// Runs user code; a panic becomes an error. The future should be made in `call`, which may panic, too.
///
/// # Cancellation
/// Safe to drop at any time, also when the user code is not.
pub(crate) async fn outcome(
    call: impl Future<Output = ProcessorResult>,
) -> Result<(), CallFailure> {
    let call = UserCode(Some(Box::pin(call)));
    match AssertUnwindSafe(call).catch_unwind().await {
        Ok(result) => result.map_err(CallFailure::error),
        Err(_) if mutant::is(Mutant::PanicCountsAsSuccess) => Ok(()),
        Err(panic) => Err(CallFailure::Panic(panic_message(panic))),
    }
}

/// Runs a factory, which is user code too.
pub(crate) fn guarded_factory<T>(make: impl FnOnce() -> T) -> Result<T, CallFailure> {
    catch(make).map_err(CallFailure::Panic)
}

fn panic_message(panic: Box<dyn Any + Send>) -> String {
    let message = panic
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.downcast_ref::<String>().cloned());
    // What a panic carries is user code, too, when it is dropped.
    let _dropped = std::panic::catch_unwind(AssertUnwindSafe(move || drop(panic)));
    message.unwrap_or_else(|| "with a value that is no text".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fails;

    #[async_trait::async_trait]
    impl RecordProcessor for Fails {
        async fn process_records(&mut self, _: crate::ProcessRecordsInput) -> ProcessorResult {
            Ok(())
        }
    }

    #[test]
    fn the_text_of_a_failure_is_bounded_at_whole_characters() {
        let text = |text: String| CallFailure::error(text.into()).to_string();
        assert_eq!(text("short".to_owned()), "short");
        assert_eq!(text("x".repeat(4096)).len(), 4096);
        assert_eq!(text("x".repeat(1_000_000)).len(), 4096);
        let long = text(format!("x{}", "ä".repeat(1_000_000)));
        assert_eq!(long, format!("x{}", "ä".repeat(2047)));
        let panic = CallFailure::Panic("ä".repeat(1_000_000)).to_string();
        assert!(panic.len() <= 4096 && panic.starts_with("panicked: ä"));
    }

    #[tokio::test]
    async fn a_panic_becomes_an_error_with_its_message_wherever_it_happens() {
        let calls = Arc::new(Semaphore::new(1));
        for place in [Place::Task, Place::Thread(Runtime::production())] {
            let mut processor: Option<Box<dyn RecordProcessor>> = Some(Box::new(Fails));
            let permit_of = || permit(&calls);
            let failure = guarded(permit_of().await, &place, &mut processor, |_| {
                Box::pin(async { panic!("no {}", "luck") })
            })
            .await
            .unwrap_err();
            assert_eq!(failure.to_string(), "panicked: no luck");
            assert!(
                processor.is_some(),
                "whoever called decides what becomes of it"
            );
            let fine = guarded(permit_of().await, &place, &mut processor, |_| {
                Box::pin(async { Ok(()) })
            });
            assert!(fine.await.is_ok(), "the permit came back");
        }
    }
}
