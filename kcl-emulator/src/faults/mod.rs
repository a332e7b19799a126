//! Faults: what goes wrong with which request, decided per request by one policy.
//!
//! A decision depends on the seed, the rule, and the request's own key (caller, service, operation,
//! resource and second), never on a shared source of randomness: removing one rule, or one caller,
//! leaves every other decision as it was.

mod draw;
mod fault;
mod plan;
mod policy;
mod rule;
mod swarm;

pub use fault::Fault;
pub use plan::{Outcome, Plan};
pub use policy::{FaultCall, Faults};
pub use rule::{FaultScript, Rule, ScriptError};
