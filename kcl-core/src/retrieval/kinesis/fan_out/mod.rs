//! Enhanced fan-out on Kinesis: consumers, connections, subscriptions.

mod connections;
mod consumers;
mod event;
mod frames;
mod subscribe;

pub(super) use connections::Connections;
