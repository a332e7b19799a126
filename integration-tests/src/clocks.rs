//! Clocks of the kernel.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// Time since the machine was booted: the same for all processes of this machine, and it runs on while one is stopped.
pub(crate) fn boot_time() -> Duration {
    shown_by(ClockId::Boottime)
}

/// Time on processors of this process so far, its own and the kernel's for it.
pub(crate) fn cpu_time() -> Duration {
    shown_by(ClockId::ProcessCPUTime)
}

fn shown_by(clock: ClockId) -> Duration {
    let time = clock_gettime(clock);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}
