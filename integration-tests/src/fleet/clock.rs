//! The clock that all processes of a machine share.

use std::time::Duration;

use kcl_emulator::Timestamp;

use crate::clocks::boot_time;

/// A moment: time since the machine was booted.
pub(super) type At = Duration;

/// Now, by the clock that all processes of this machine share.
pub(super) fn now() -> At {
    boot_time()
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
