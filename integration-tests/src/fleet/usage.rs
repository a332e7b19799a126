//! What a process uses, as the kernel tells it.

use std::time::Duration;

use super::error::FleetError;
use crate::memory::Memory;

/// What a process used so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Usage {
    /// Time on processors, its own and the kernel's for it.
    pub(super) cpu: Duration,
    /// Bytes of memory that are resident now.
    pub(super) memory: u64,
}

impl Usage {
    /// Of the process with this id.
    pub(super) fn of(process: u32) -> Result<Self, FleetError> {
        let read = |file: &str| {
            let path = format!("/proc/{process}/{file}");
            std::fs::read_to_string(&path)
                .map_err(|error| FleetError::system(format!("cannot read {path}"), error))
        };
        let ticks = cpu_ticks(&read("stat")?).unwrap_or(0);
        let per_second = rustix::param::clock_ticks_per_second().max(1);
        Ok(Self {
            cpu: Duration::from_millis(ticks.saturating_mul(1000) / per_second),
            memory: Memory::of(&read("status")?).resident,
        })
    }
}

/// utime and stime, the 14th and 15th field; the second one is a name in parentheses that may hold anything.
fn cpu_ticks(stat: &str) -> Option<u64> {
    let (_, fields) = stat.rsplit_once(')')?;
    let mut fields = fields.split_ascii_whitespace().skip(11);
    let mut next = || fields.next()?.parse::<u64>().ok();
    Some(next()? + next()?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found() {
        let stat = "1 (a ) b) S 1 1 1 0 -1 4194560 17 0 0 0 250 31 0 0 20 0 9 0 1 2 3";
        assert_eq!(cpu_ticks(stat), Some(281));
    }
}
