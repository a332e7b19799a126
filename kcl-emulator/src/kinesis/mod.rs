//! Kinesis Data Streams as a state machine: requests and moments in, answers out.
//!
//! [`Engine::call`] carries one operation out at the moment that it is given; every change of state (a stream that
//! becomes `ACTIVE`, a record that falls out of retention, an iterator that expires) follows from that moment alone.
//! Nothing in here reads a clock, draws a random number, starts a task or does I/O.

pub mod api;
mod sequence;

pub use api::{Request, Response};
pub use sequence::{InvalidSequenceNumber, SequenceNumber};
