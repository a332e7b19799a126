//! The record processor of the demo: it only tells the board.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use kcl_core::{
    InitializationInput, LeaseLostInput, ProcessRecordsInput, ProcessorResult, RecordProcessor,
    ShardEndedInput, ShutdownRequestedInput, async_trait,
};
use tokio::time::Instant;

use crate::board::Board;

/// The board and the time that is shown with what happens. Cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct SharedBoard {
    board: Arc<Mutex<Board>>,
    start: Instant,
}

impl SharedBoard {
    pub(crate) fn new() -> Self {
        Self {
            board: Arc::default(),
            start: Instant::now(),
        }
    }

    pub(crate) fn lock(&self) -> MutexGuard<'_, Board> {
        self.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.start.elapsed()
    }

    /// Notes what the script does.
    pub(crate) fn say(&self, text: impl Into<String>) {
        let at = self.elapsed();
        self.lock().say(at, text);
    }
}

/// Tells the board what one worker does with one shard.
#[derive(Debug, Clone)]
pub(crate) struct Teller {
    pub(crate) worker: String,
    pub(crate) board: SharedBoard,
}

#[async_trait]
impl RecordProcessor for Teller {
    async fn initialize(&mut self, input: InitializationInput) -> ProcessorResult {
        let at = self.board.elapsed();
        let shard = input.shard().shard_id().as_str();
        self.board.lock().started(at, &self.worker, shard);
        Ok(())
    }

    async fn process_records(&mut self, input: ProcessRecordsInput) -> ProcessorResult {
        let shard = input.shard().shard_id().as_str();
        let mut board = self.board.lock();
        for record in &input {
            board.processed(shard, record.sequence_number());
        }
        Ok(())
    }

    async fn shard_ended(&mut self, input: ShardEndedInput) -> ProcessorResult {
        let at = self.board.elapsed();
        let shard = input.shard().shard_id().as_str();
        self.board.lock().ended(at, &self.worker, shard);
        Ok(())
    }

    async fn shutdown_requested(&mut self, input: ShutdownRequestedInput) -> ProcessorResult {
        let shard = input.shard().shard_id().as_str();
        self.board.lock().stopped(&self.worker, shard);
        Ok(())
    }

    async fn lease_lost(&mut self, input: LeaseLostInput) -> ProcessorResult {
        let shard = input.shard().shard_id().as_str();
        self.board.lock().stopped(&self.worker, shard);
        Ok(())
    }
}
