//! What a consumer did, and what it took.

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::clocks::cpu_time;
use crate::memory::Memory;

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
            peak_memory: Memory::own().peak,
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
