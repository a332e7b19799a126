//! How often reading allocates, counted over the whole process: the SDK, the decoder, and the worker with everything in it.
//! A program of its own, because it counts every allocation.

use std::alloc::System;
use std::num::NonZeroU64;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use integration_tests::bench::{Case, InProcess};
use kcl_core::Wire;
use stats_alloc::{INSTRUMENTED_SYSTEM, StatsAlloc};

#[global_allocator]
static HEAP: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// In answers with 1,000 records of 100 bytes.
const MOST_PER_RECORD: f64 = 0.5;
const RECORDS: u16 = 1_000;
/// The first answers fill pools and caches, and teach a worker how large records are.
const BEFORE: u64 = 20;
const ANSWERS: u64 = 60;

fn allocations() -> u64 {
    let stats = HEAP.stats();
    (stats.allocations + stats.reallocations) as u64
}

/// Allocations up to an answer.
#[derive(Debug, Clone, Default)]
struct Before(Arc<AtomicU64>);

impl Before {
    fn seen(&self) -> impl Fn(u64) + Send + Sync + use<> {
        let before = Arc::clone(&self.0);
        move |answer| {
            if answer == BEFORE {
                before.store(allocations(), Ordering::Relaxed);
            }
        }
    }

    fn per_record(&self) -> f64 {
        let records = (ANSWERS - BEFORE) * u64::from(RECORDS);
        (allocations() - self.0.load(Ordering::Relaxed)) as f64 / records as f64
    }
}

// One test, so that no other one allocates meanwhile.
#[tokio::test(start_paused = true)]
async fn reading_allocates_per_answer_and_not_per_record() {
    for wire in [Wire::Json, Wire::Cbor] {
        let reading = InProcess {
            case: Case::Bytes100,
            wire,
            shards: 1,
            limit: RECORDS,
        };
        let before = Before::default();
        reading.bare(ANSWERS, before.seen()).await.unwrap();
        let bare = before.per_record();
        let before = Before::default();
        let answers = NonZeroU64::new(ANSWERS).unwrap();
        reading.framework(answers, before.seen()).await.unwrap();
        let framework = before.per_record();
        println!("{wire:?}: {bare:.3} allocations per record, in a worker {framework:.3}");
        for allocations in [bare, framework] {
            assert!(
                allocations <= MOST_PER_RECORD,
                "{wire:?}: {allocations:.3} per record"
            );
        }
    }
}
