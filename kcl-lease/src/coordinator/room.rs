//! Telling others how many leases this worker takes: none until the stream is known, so that nobody gives it what it could not
//! start.

use super::calls::{Answer, CallError};
use super::driver::Driver;
use super::sessions::Phase;
use super::setback::Setback;
use crate::key::WorkerId;
use crate::runtime::Moment;
use crate::table::Written;
use crate::write;

/// What the session's item says.
#[derive(Debug)]
pub(super) struct Room {
    told: bool,
    on_its_way: bool,
    setback: Setback,
}

impl Room {
    pub(super) fn new(told: bool) -> Self {
        Self {
            told,
            on_its_way: false,
            setback: Setback::default(),
        }
    }

    fn is_due(&self) -> bool {
        !self.told && !self.on_its_way
    }
}

impl Driver {
    /// Whether others can see how many leases this worker takes.
    pub(super) fn has_room(&self) -> bool {
        self.running().is_some_and(|running| running.room.told)
    }

    /// Says how many leases this worker takes, as soon as it could start on them.
    pub(super) fn make_room(&mut self, now: Moment) {
        let ready = self.streams.is_open() && !self.draining;
        let max_leases = self.options.published_max_leases();
        let Phase::Running(running) = &mut self.phase else {
            return;
        };
        if !ready || !running.room.is_due() || !running.room.setback.is_over(now) {
            return;
        }
        running.room.on_its_way = true;
        let session = running.session.id.clone();
        let write = write::make_room(&session, max_leases);
        self.calls
            .write(write, move |result| Answer::RoomMade { session, result });
    }

    pub(super) fn on_room_made(
        &mut self,
        session: &WorkerId,
        result: &Result<Written, CallError>,
        now: Moment,
    ) {
        self.heard(result, now);
        let Phase::Running(running) = &mut self.phase else {
            return;
        };
        if running.session.id != *session {
            return;
        }
        running.room.on_its_way = false;
        match result {
            // Refused means that the item is gone: the next heartbeat ends the session.
            Ok(_) => running.room.told = true,
            Err(_) => running.room.setback.failed(now),
        }
    }

    /// When to try again.
    pub(super) fn next_room(&self, now: Moment) -> Option<Moment> {
        let room = &self.running()?.room;
        let until = room.setback.until().filter(|until| now < *until);
        until.filter(|_| room.is_due())
    }
}
