//! A Kinesis Client Library: leases, checkpoints and record processors for fleets of workers.

pub mod retrieval;
