//! Several streams in one worker: which there are, how each is read, and what the worker that leads does for them.

mod book;
mod incarnation;
mod keeper;
mod listed;
mod listings;
mod opening;
mod run;
mod sources;

pub(crate) use book::StreamBook;
pub(crate) use keeper::Keeper;
pub(crate) use listed::{ListedStream, Rules, check_list};
pub(crate) use run::run;
pub(crate) use sources::Sources;
