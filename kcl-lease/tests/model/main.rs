//! The lease protocol, model-checked with the production code.
//!
//! The models hold production values: items of the table changed by real `RowWrite`s, held leases, sessions, what a worker
//! knows. What those decide is production code (`kcl_lease::internals`); what may happen to them is the model's. Where
//! coordination only wires decisions together, the models do it as its driver does, a few lines each.
//!
//! ```text
//! cargo test -p kcl-lease --release --test model                  exhaustive within the bounds of `pick`, minutes
//! cargo test -p kcl-lease --test model                            small bounds, seconds
//! KCL_MODEL=long cargo test -p kcl-lease --release --test model -- --include-ignored --nocapture --test-threads=1
//! ```
//!
//! The long run needs up to 60 million states per search, about 10 GB and an hour or more. With `--nocapture` each search prints
//! how many states it saw; a violation prints its trace, one of the shortest.
//!
//! | search | what happens |
//! |---|---|
//! | `untimed`, U1 to U12 | one row, two workers with two ids each, requests late, lost, repeated, answers lost; takes at any moment after a read up to two versions old; lapses, hand-overs, releases, crashes, exits, items cleaned up, a row made again, a Java leader. S1 to S9, and L1: from every state the lease can be held again without further faults |
//! | `untimed`, U13 to U16 | commands of operators: pauses and seeks, a hint that may be lost, a holder that looks and obeys, the leader that reminds and tidies up, holders that change or die in between. Beside the above C1 to C3, and L1: every command is obeyed in the end |
//! | `timed`, T1a to T1k, T2a, T2b | heartbeats, deadlines, lapses, re-grants, accepts, takes in three steps, ages told by others, one clock per worker that may lose or gain a tick (lease duration: 3 ticks). T1 and T2 |
//! | `timed`, A6, A6s | the whole table goes away once for any number of ticks: nothing moves from a holder whose first heartbeat afterwards is applied in time, 3 ticks after an outage of 3 or more, 1 tick after any (lease duration and margin: 4 ticks) |
//! | `shards`, C-T | a split and a merge: transactions late or with lost answers, wrong beliefs about other rows, deletion of finished rows. C1, C2, and L1: the last shard can always be finished |
//!
//! Each test named `.. is_caught` switches one rule of the production code off and expects a violation.
//!
//! What is not modelled:
//! * Hints as state: inbox, `yours` for a lease that is held, expectations, digest. What they make a worker do is in the
//!   driver, not in pure functions; here a worker may accept whatever version of the row names it, as if any hint could
//!   arrive at any time. So safety holds whatever hints do, but L1 says nothing of lost hints.
//! * Several rows: batches of hints, scans instead of reads. The election of leaders and the crash of one.
//! * Takers that are badly connected themselves: with clocks they are steady, or only accept what is offered to them.
//! * Told ages and drifting clocks through an outage; reads that work while writes fail.
//! * Commands: reads of a command happen at one moment (they are consistent, and one follows the other); one operator at a
//!   time; lapses beside them.
//! * Two-phase checkpoints, mixed lease durations, clean-up of worker items by age.
//! * Rules that cover for each other: a merge's child made early and an absent parent that counts as done are each harmless
//!   alone, and a single rule is switched off at a time.
//! * Two things at the very same moment of one clock: that a row was read before its owner was checked is told by moments,
//!   which in production differ.

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
