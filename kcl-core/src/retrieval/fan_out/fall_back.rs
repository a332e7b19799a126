//! Whether a worker polls because there is no enhanced fan-out for it.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kcl_lease::runtime::Moment;

use crate::retrieval::error::SourceErrorKind;

/// How often it is tried again: somebody may have changed a policy or removed a consumer.
const LOOK_AGAIN: Duration = Duration::from_secs(600);

/// What a worker does that would rather subscribe.
#[derive(Debug, Default)]
pub(super) struct FallBack(Mutex<Standing>);

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Standing {
    #[default]
    Subscribes,
    Polls {
        try_at: Moment,
    },
}

impl FallBack {
    /// Notes a failure. Whether the worker begins to poll because of it.
    pub(super) fn failed(&self, kind: SourceErrorKind, now: Moment) -> bool {
        let mut standing = self.lock();
        if !lasts(kind) {
            return false;
        }
        let try_at = now.plus(LOOK_AGAIN);
        let before = std::mem::replace(&mut *standing, Standing::Polls { try_at });
        before == Standing::Subscribes
    }

    /// Whether shards are polled. When it is time to try again, the first one that asks is told no.
    pub(super) fn polls(&self, now: Moment) -> bool {
        match &mut *self.lock() {
            Standing::Subscribes => false,
            Standing::Polls { try_at } if now >= *try_at => {
                *try_at = now.plus(LOOK_AGAIN);
                false
            }
            Standing::Polls { .. } => true,
        }
    }

    /// Notes that a subscription was accepted. Whether shards were polled until now.
    pub(super) fn works(&self) -> bool {
        let before = std::mem::take(&mut *self.lock());
        before != Standing::Subscribes
    }

    fn lock(&self) -> MutexGuard<'_, Standing> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whether a failure stays until somebody does something, while polling may work.
fn lasts(kind: SourceErrorKind) -> bool {
    matches!(
        kind,
        SourceErrorKind::AccessDenied
            | SourceErrorKind::ConsumerLimit
            | SourceErrorKind::ConsumerNotFound
            | SourceErrorKind::ConsumerNotActive
            | SourceErrorKind::Unsupported
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn it_is_told_once_and_one_looks_again_after_ten_minutes() {
        let now = kcl_lease::runtime::Runtime::virtual_time(1).now();
        let fall_back = FallBack::default();
        assert!(!fall_back.polls(now) && !fall_back.works());
        assert!(!fall_back.failed(SourceErrorKind::Unavailable, now));
        assert!(!fall_back.polls(now));
        assert!(fall_back.failed(SourceErrorKind::ConsumerLimit, now));
        assert!(!fall_back.failed(SourceErrorKind::AccessDenied, now));
        assert!(fall_back.polls(now.plus(LOOK_AGAIN - Duration::from_secs(1))));
        let later = now.plus(LOOK_AGAIN);
        assert!(!fall_back.polls(later) && fall_back.polls(later));
        assert!(!fall_back.failed(SourceErrorKind::ConsumerLimit, later));
        assert!(fall_back.works() && !fall_back.polls(later));
    }
}
