//! Answers for deferred records: late, in any order, sometimes that they failed, sometimes none.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use kcl_core::{Ack, AckError, BatchAck, BatchFailure, BoxError, Position};

use super::history::{Answer, Reply, ShardNo};

/// Numbers the handles of one process, so that each has a name of its own. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Handles(Arc<Mutex<BTreeMap<(ShardNo, u32), u64>>>);

impl Handles {
    /// The name of the next handle of a lane, unique in its process and shard.
    #[must_use]
    pub fn next(&self, shard: ShardNo, lane: u32) -> u64 {
        let mut serials = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let serial = serials.entry((shard, lane)).or_default();
        *serial += 1;
        u64::from(lane) << 32 | *serial
    }
}

/// A handle of either kind.
#[derive(Debug)]
pub enum Held {
    /// Of one record.
    One(Ack),
    /// Of all that a call left.
    All(BatchAck),
}

impl Held {
    /// Gives an answer. `at` is the position of the record that a failure names.
    #[must_use]
    pub fn answer(self, answer: Answer, at: Option<Position>) -> Reply {
        let error = || -> BoxError {
            match at {
                Some(at) => BatchFailure::at(at, "this record is not to my taste").into(),
                None => "these records are not to my taste".into(),
            }
        };
        match (answer, self) {
            (Answer::Done, Self::One(handle)) => reply(handle.done()),
            (Answer::Done, Self::All(handle)) => reply(handle.done()),
            (Answer::Failed(_), Self::One(handle)) => reply(handle.fail(error())),
            (Answer::Failed(_), Self::All(handle)) => reply(handle.fail(error())),
            (Answer::Dropped, handle) => {
                drop(handle);
                Reply::Unheard
            }
        }
    }
}

fn reply(taken: Result<(), AckError>) -> Reply {
    match taken {
        Ok(()) => Reply::Taken,
        Err(AckError::LeaseLost) => Reply::LeaseLost,
        Err(AckError::Over) => Reply::Over,
        Err(_) => Reply::NotInCall,
    }
}
