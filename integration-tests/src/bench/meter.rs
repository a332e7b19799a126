//! What a consumer did, and what it took.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Counts allocations of the whole process so far; given by the binary, which has the allocator.
pub type CountAllocations = fn() -> u64;

/// What all loops of a consumer did so far.
#[derive(Debug, Default)]
pub(super) struct Tally {
    records: AtomicU64,
    bytes: AtomicU64,
    answers: AtomicU64,
}

impl Tally {
    /// Adds an answer with so many user records, whose data has so many bytes.
    pub(super) fn add(&self, records: usize, bytes: usize) {
        self.records.fetch_add(records as u64, Ordering::Relaxed);
        self.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        self.answers.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn answers(&self) -> u64 {
        self.answers.load(Ordering::Relaxed)
    }
}

/// Looks at a record as a consumer does at least: its data, key and number. Returns the bytes of its data.
pub(super) fn look(data: &[u8], key: &str, number: &str) -> usize {
    let first = data.first().copied().unwrap_or_default();
    let last = number.as_bytes().last().copied().unwrap_or_default();
    black_box((first, data.len(), key.len(), last));
    data.len()
}

/// Where a process stands.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reading {
    records: u64,
    bytes: u64,
    answers: u64,
    allocations: u64,
    cpu: Duration,
}

impl Reading {
    pub(super) fn take(tally: &Tally, allocations: CountAllocations) -> Self {
        Self {
            records: tally.records.load(Ordering::Relaxed),
            bytes: tally.bytes.load(Ordering::Relaxed),
            answers: tally.answers(),
            allocations: allocations(),
            cpu: cpu_time(),
        }
    }

    pub(super) fn until(self, later: Self) -> Sample {
        Sample {
            records: later.records - self.records,
            bytes: later.bytes - self.bytes,
            answers: later.answers - self.answers,
            allocations: later.allocations - self.allocations,
            cpu: later.cpu.saturating_sub(self.cpu),
            peak_memory: memory().peak,
        }
    }
}

/// What was done in a stretch of time, and what it took.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(super) struct Sample {
    pub(super) records: u64,
    /// Data of user records.
    pub(super) bytes: u64,
    pub(super) answers: u64,
    pub(super) allocations: u64,
    /// Of the whole process, kernel included.
    pub(super) cpu: Duration,
    /// The most memory that was resident since the process began, in bytes.
    pub(super) peak_memory: u64,
}

impl Sample {
    pub(super) fn records_per_second(&self) -> f64 {
        self.records as f64 / self.cpu.as_secs_f64()
    }

    pub(super) fn megabytes_per_second(&self) -> f64 {
        self.bytes as f64 / 1e6 / self.cpu.as_secs_f64()
    }

    pub(super) fn allocations_per_record(&self) -> f64 {
        self.allocations as f64 / self.records.max(1) as f64
    }
}

/// Time on processors of this process, its own and the kernel's for it.
pub(super) fn cpu_time() -> Duration {
    clock(rustix::time::ClockId::ProcessCPUTime)
}

/// A time that is the same in all processes.
pub(super) fn monotonic() -> Duration {
    clock(rustix::time::ClockId::Monotonic)
}

fn clock(clock: rustix::time::ClockId) -> Duration {
    let time = rustix::time::clock_gettime(clock);
    Duration::new(
        u64::try_from(time.tv_sec).unwrap_or(0),
        u32::try_from(time.tv_nsec).unwrap_or(0),
    )
}

/// Memory of this process, in bytes.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Memory {
    pub(super) resident: u64,
    /// The most that was resident.
    pub(super) peak: u64,
}

/// As the kernel tells it; zeros where it does not.
pub(super) fn memory() -> Memory {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let bytes = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        let kibibytes: u64 = line.split_ascii_whitespace().next()?.parse().ok()?;
        Some(kibibytes * 1024)
    };
    Memory {
        resident: bytes("VmRSS:").unwrap_or(0),
        peak: bytes("VmHWM:").unwrap_or(0),
    }
}
