//! Enhanced fan-out on Kinesis: consumers, connections, subscriptions.

mod connections;
mod consumers;
mod event;
mod subscribe;
mod taken_body;

pub(super) use connections::Connections;
