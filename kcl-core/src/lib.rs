//! A Kinesis Client Library: leases, checkpoints and record processors for fleets of workers.

mod retrieval;
