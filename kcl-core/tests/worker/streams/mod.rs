//! Several streams in one worker: lists and trackers, streams that come and go, and those that cannot be read.

mod account;
mod coming_back;
mod going;
mod letters;
mod lists;
mod silent;
mod slow;
mod slow_looks;
mod stage;
mod trackers;
