//! Puts records into a stream so that all of them arrive, in order per key.

mod aggregate;
mod entry;
mod queue;
mod sender;

pub use aggregate::Aggregating;
pub use entry::{Entry, Group, Stored};
pub use queue::Queue;
pub use sender::{PutError, Sender};
