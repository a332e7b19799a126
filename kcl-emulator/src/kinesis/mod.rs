//! Kinesis Data Streams as a state machine: requests and moments in, answers out.
//!
//! [`Engine::call`] carries one operation out at the moment that it is given; every change of state (a stream that
//! becomes `ACTIVE`, a record that falls out of retention, an iterator that expires) follows from that moment alone.
//! Nothing in here reads a clock, draws a random number, starts a task or does I/O.
//!
//! A subscription is driven from outside: [`Engine::poll_subscription`] says what it has to say at a moment and until
//! when nothing more will come by itself; [`Engine::take_woken`] names those to which another call gave something.

pub mod api;
mod arn;
mod consumer;
mod describe;
mod engine;
mod error;
mod get;
mod hash_key;
mod lifecycle;
mod limits;
mod listing;
mod lookup;
mod position;
mod put;
mod reshard;
mod sequence;
mod settings;
mod shard;
mod stream;
mod subscribe;
mod tags;
#[cfg(test)]
mod tests;
mod token;
mod validate;

pub use api::{Request, Response};
pub use engine::{Engine, EngineConfig, LoggedRecord};
pub(crate) use get::iterator_target;
pub use sequence::{InvalidSequenceNumber, SequenceNumber};
pub use subscribe::SubscriptionPoll;
