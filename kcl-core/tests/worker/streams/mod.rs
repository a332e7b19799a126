//! Several streams in one worker: lists and trackers, streams that come and go, and those that cannot be read.

mod going;
mod lists;
mod silent;
mod stage;
