//! The clock that all processes of a machine share.

use std::time::Duration;

use kcl_emulator::Timestamp;

/// A moment: time since the machine was booted.
pub(super) type At = Duration;

/// Now, by the boot-time clock: the same for all processes of this machine, and it runs on while one is stopped.
pub(super) fn now() -> At {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).unwrap_or(0);
    let nanoseconds = u32::try_from(now.tv_nsec).unwrap_or(0);
    Duration::new(seconds, nanoseconds)
}

/// Translates moments of the emulator's clock.
#[derive(Debug, Clone, Copy)]
pub(super) struct Translation {
    emulator: Timestamp,
    boot: At,
}

impl Translation {
    /// Both clocks show the same moment now.
    pub(super) fn new(emulator: Timestamp) -> Self {
        Self {
            emulator,
            boot: now(),
        }
    }

    pub(super) fn of(&self, moment: Timestamp) -> At {
        let later = moment.since(self.emulator);
        let distance = Duration::from_millis(later.unsigned_abs());
        match later < 0 {
            true => self.boot.saturating_sub(distance),
            false => self.boot + distance,
        }
    }
}
