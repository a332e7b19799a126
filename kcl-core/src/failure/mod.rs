//! What happens with records that cannot be processed.

mod batch_failure;
mod call_counts;
mod parked;
mod plan;
#[cfg(test)]
mod plan_tests;
mod policy;

pub use batch_failure::BatchFailure;
pub(crate) use call_counts::CallCounts;
pub(crate) use parked::{ParkedKeys, Sorted};
pub(crate) use plan::{Bounds, Failed, Plan, Verdict};
pub use policy::{FailurePolicy, OnFailure, ParkTime};
