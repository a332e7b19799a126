//! Starting on a stream that another worker has looked at: whoever leads describes and lists it, all others compare with
//! the item that it stored (protocol §11 A7).

use std::time::Duration;

use super::calls::{Answer, CallError};
use super::driver::Driver;
use super::event::CoordinatorEvent;
use super::handle::{Answer as Reply, StreamIdentity};
use crate::item::Item;
use crate::key::StreamKey;
use crate::runtime::Moment;
use crate::stream_item::StreamItem;
use crate::table::Consistency;

/// How often the item is read that the leader is about to store.
const LOOK_EACH: Duration = Duration::from_millis(500);

/// Requests for what is stored, and what is known of it.
#[derive(Debug, Default)]
pub(super) struct Joining {
    waiting: Vec<Waiting>,
    /// Of an application of several streams nothing is read here: what is stored of each is read with its first lease.
    looking: Vec<Looking>,
    /// The item, or that it cannot be used.
    read: Option<Option<StreamItem>>,
    on_its_way: bool,
    look_at: Option<Moment>,
}

#[derive(Debug)]
struct Waiting {
    since: Moment,
    answer: Reply<Option<StreamIdentity>>,
}

#[derive(Debug)]
struct Looking {
    since: Moment,
    answer: Reply<bool>,
}

/// What a worker that starts does about the stream.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Duty {
    /// It looks at the stream itself.
    Look,
    /// It starts with what is stored.
    Join(StreamItem),
    /// It waits for the leader to look.
    Wait,
}

/// `led` says that another worker leads and has a session. With nobody leading for too long, everybody looks himself.
fn duty(
    leads: bool,
    led: bool,
    read: Option<&Option<StreamItem>>,
    waited: Duration,
    patience: Duration,
) -> Duty {
    match read {
        _ if leads || waited >= patience => Duty::Look,
        // Whoever reads an item that it cannot use says so itself.
        Some(None) => Duty::Look,
        Some(Some(stored)) if led => Duty::Join(stored.clone()),
        _ => Duty::Wait,
    }
}

impl Joining {
    pub(super) fn ask(&mut self, since: Moment, answer: Reply<Option<StreamIdentity>>) {
        self.waiting.push(Waiting { since, answer });
    }

    pub(super) fn ask_who_looks(&mut self, since: Moment, answer: Reply<bool>) {
        self.looking.push(Looking { since, answer });
    }

    /// When to look again.
    pub(super) fn next(&self) -> Option<Moment> {
        self.look_at
            .filter(|_| !self.waiting.is_empty() && !self.on_its_way)
    }
}

impl Driver {
    /// Goes on with requests for what is stored, once it is known who leads.
    pub(super) fn drive_joining(&mut self, now: Moment) {
        if self.running().is_none() || self.scanned.is_none() {
            return;
        }
        let leader = self.leadership.leader();
        let led = leader.is_some_and(|leader| self.roster.item(leader).is_some());
        let (leads, patience) = (self.leadership.leads(), self.options.lease_duration);
        let read = self.joining.read.clone();
        let mut waiting = Vec::new();
        for request in std::mem::take(&mut self.joining.waiting) {
            let waited = now.since(request.since);
            let stored = match duty(leads, led, read.as_ref(), waited, patience) {
                Duty::Look => None,
                Duty::Join(stored) => Some(StreamIdentity::from_item(stored)),
                Duty::Wait => {
                    waiting.push(request);
                    continue;
                }
            };
            // Whoever asked may be gone.
            let _ = request.answer.send(Ok(stored));
        }
        self.joining.waiting = waiting;
        self.say_who_looks(leads, led, patience, now);
        self.read_stored_stream(now);
    }

    fn say_who_looks(&mut self, leads: bool, led: bool, patience: Duration, now: Moment) {
        let Some(several) = &mut self.streams.several else {
            return;
        };
        for request in std::mem::take(&mut self.joining.looking) {
            let looks = leads || now.since(request.since) >= patience;
            if !looks && !led {
                self.joining.looking.push(request);
                continue;
            }
            // The leases that there are can be worked on, whatever the list says.
            several.begun = true;
            self.replan = true;
            let _ = request.answer.send(Ok(looks));
        }
    }

    fn read_stored_stream(&mut self, now: Moment) {
        let due = self.joining.look_at.is_none_or(|at| at <= now);
        if self.joining.waiting.is_empty() || self.joining.on_its_way || !due {
            return;
        }
        self.joining.on_its_way = true;
        self.joining.look_at = Some(now.plus(LOOK_EACH));
        let key = StreamItem::key_of(&StreamKey::ONLY);
        self.calls
            .get(key, Consistency::Strong, Answer::StoredStream);
    }

    pub(super) fn on_stored_stream(
        &mut self,
        result: Result<Option<Item>, CallError>,
        now: Moment,
    ) {
        self.heard(&result, now);
        self.joining.on_its_way = false;
        if let Ok(Some(item)) = result {
            self.joining.read = Some(StreamItem::from_item(&item).ok().flatten());
        }
    }

    /// Starts with what was read.
    pub(super) fn join_stream(&mut self, now: Moment) {
        if let Some(Some(stored)) = &self.joining.read {
            self.streams.join(stored.clone(), now);
            self.replan = true;
            self.want_stream_checked(now);
        }
    }

    /// A worker that leads and has not looked at the stream yet has to, before it plans for others.
    pub(super) fn want_stream_checked(&mut self, now: Moment) {
        if self.streams.several.is_some() {
            return self.want_streams(true, now);
        }
        if self.leadership.leads() && self.streams.is_unchecked() {
            let stream = StreamKey::ONLY;
            self.streams.entry(&stream).listing_asked = Some(now);
            self.tell(CoordinatorEvent::ListingWanted {
                stream,
                identity: None,
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::stream_item::StreamStart;

    const L: Duration = Duration::from_secs(10);

    #[test]
    fn only_who_leads_looks_at_the_stream() {
        let stored = StreamItem::new(StreamKey::ONLY, "arn", 1, StreamStart::TrimHorizon);
        let (soon, late) = (Duration::from_secs(1), L);
        let read = Some(Some(stored.clone()));
        let with = |leads, led, read: Option<Option<StreamItem>>, waited| {
            duty(leads, led, read.as_ref(), waited, L)
        };
        assert_eq!(with(true, false, read.clone(), soon), Duty::Look);
        assert_eq!(with(false, true, read.clone(), soon), Duty::Join(stored));
        assert_eq!(with(false, true, None, soon), Duty::Wait);
        // A leader without a session vouches for nothing.
        assert_eq!(with(false, false, read.clone(), soon), Duty::Wait);
        assert_eq!(with(false, false, None, late), Duty::Look);
        assert_eq!(with(false, true, Some(None), soon), Duty::Look);
    }
}
