//! The lease protocol, model-checked with the production code.
//!
//! The models hold production values: items of the table changed by real `RowWrite`s, held leases, sessions, what a worker
//! knows. What those decide is production code (`kcl_lease::internals`); what may happen to them is the model's.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stdout,
    reason = "a test fails by panicking, and a search prints how far it went"
)]

mod explore;
mod intern;
mod runs;
mod shards;
mod table;
mod timed;
mod untimed;
