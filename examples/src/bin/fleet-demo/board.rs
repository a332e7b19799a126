//! Who holds which shard, and what came of it. No I/O here.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

/// Everything that is shown.
#[derive(Debug, Default)]
pub(crate) struct Board {
    shards: BTreeMap<String, Shard>,
    log: Vec<Happening>,
    moves: u64,
}

/// Something that happened, in words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Happening {
    /// Since the start.
    pub(crate) at: Duration,
    pub(crate) text: String,
}

/// One shard.
#[derive(Debug, Default)]
struct Shard {
    /// Who holds it now.
    holder: Option<String>,
    /// Who held it last.
    last_holder: Option<String>,
    ended: bool,
    moves: u64,
    /// Sequence numbers of records that were processed.
    processed: BTreeSet<String>,
    again: u64,
}

/// One line of the table.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Row {
    pub(crate) shard: String,
    pub(crate) holder: String,
    /// Records that were put and not processed.
    pub(crate) behind: usize,
    pub(crate) processed: usize,
    pub(crate) again: u64,
    pub(crate) moves: u64,
}

/// The totals.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    pub(crate) put: usize,
    pub(crate) missing: usize,
    /// Processed more than once.
    pub(crate) again: u64,
    pub(crate) moves: u64,
}

impl Board {
    /// Notes what the script did.
    pub(crate) fn say(&mut self, at: Duration, text: impl Into<String>) {
        let text = text.into();
        self.log.push(Happening { at, text });
    }

    pub(crate) fn started(&mut self, at: Duration, worker: &str, shard: &str) {
        let known = self.shards.entry(shard.to_owned()).or_default();
        known.holder = Some(worker.to_owned());
        let before = known.last_holder.replace(worker.to_owned());
        let moved = before.filter(|before| before != worker);
        known.moves += u64::from(moved.is_some());
        self.moves += u64::from(moved.is_some());
        let text = match moved {
            Some(before) => format!("{} goes from {before} to {worker}", short(shard)),
            None => format!("{} starts on {worker}", short(shard)),
        };
        self.say(at, text);
    }

    pub(crate) fn processed(&mut self, shard: &str, sequence_number: &str) {
        let known = self.shards.entry(shard.to_owned()).or_default();
        let first = known.processed.insert(sequence_number.to_owned());
        known.again += u64::from(!first);
    }

    /// The processor of `worker` is gone, with the lease or because the worker was killed.
    pub(crate) fn stopped(&mut self, worker: &str, shard: &str) {
        if let Some(known) = self.shards.get_mut(shard)
            && known.holder.as_deref() == Some(worker)
        {
            known.holder = None;
        }
    }

    pub(crate) fn ended(&mut self, at: Duration, worker: &str, shard: &str) {
        self.stopped(worker, shard);
        if let Some(known) = self.shards.get_mut(shard) {
            known.ended = true;
        }
        self.say(at, format!("{} is complete", short(shard)));
    }

    pub(crate) fn killed(&mut self, worker: &str) {
        let shards: Vec<String> = self.shards.keys().cloned().collect();
        for shard in shards {
            self.stopped(worker, &shard);
        }
    }

    /// The worker among these that holds the most shards.
    pub(crate) fn busiest<'a>(&self, workers: &'a [String]) -> Option<&'a String> {
        let held = |worker: &&String| {
            let holders = self
                .shards
                .values()
                .filter_map(|shard| shard.holder.as_ref());
            holders.filter(|holder| *holder == *worker).count()
        };
        // The first of several.
        workers.iter().rev().max_by_key(held)
    }

    /// A shard that is being read.
    pub(crate) fn any_open_shard(&self) -> Option<&String> {
        let mut shards = self.shards.iter();
        shards.find(|(_, shard)| !shard.ended).map(|(id, _)| id)
    }

    /// The lines of the table; `put` is the sequence numbers of each shard.
    pub(crate) fn rows(&self, put: &BTreeMap<String, Vec<String>>) -> Vec<Row> {
        self.shards
            .iter()
            .map(|(id, shard)| Row {
                shard: short(id).to_owned(),
                holder: match &shard.holder {
                    Some(holder) => holder.clone(),
                    None if shard.ended => "(complete)".to_owned(),
                    None => "(nobody)".to_owned(),
                },
                behind: put.get(id).map_or(0, |put| shard.missing(put)),
                processed: shard.processed.len(),
                again: shard.again,
                moves: shard.moves,
            })
            .collect()
    }

    pub(crate) fn totals(&self, put: &BTreeMap<String, Vec<String>>) -> Totals {
        let missing = put.iter().map(|(id, put)| match self.shards.get(id) {
            Some(shard) => shard.missing(put),
            None => put.len(),
        });
        Totals {
            put: put.values().map(Vec::len).sum(),
            missing: missing.sum(),
            again: self.shards.values().map(|shard| shard.again).sum(),
            moves: self.moves,
        }
    }

    /// What happened after the first `seen` happenings.
    pub(crate) fn log_after(&self, seen: usize) -> &[Happening] {
        self.log.get(seen..).unwrap_or_default()
    }
}

impl Shard {
    fn missing(&self, put: &[String]) -> usize {
        put.iter()
            .filter(|record| !self.processed.contains(*record))
            .count()
    }
}

/// The end of a shard's id, which is all that differs.
fn short(shard: &str) -> &str {
    shard
        .char_indices()
        .rev()
        .nth(2)
        .and_then(|(index, _)| shard.get(index..))
        .unwrap_or(shard)
}

#[cfg(test)]
mod tests {
    use super::*;

    const S: &str = "shardId-000000000007";

    fn put(records: &[&str]) -> BTreeMap<String, Vec<String>> {
        let records = records.iter().map(|record| (*record).to_owned()).collect();
        BTreeMap::from([(S.to_owned(), records)])
    }

    #[test]
    fn a_shard_moves_when_another_worker_starts_it() {
        let mut board = Board::default();
        board.started(Duration::ZERO, "a", S);
        board.processed(S, "1");
        board.killed("a");
        assert_eq!(board.rows(&put(&["1", "2"]))[0].holder, "(nobody)");
        board.started(Duration::from_secs(11), "b", S);
        board.processed(S, "1");
        board.processed(S, "2");
        let row = board.rows(&put(&["1", "2", "3"])).remove(0);
        let expected = Row {
            shard: "007".to_owned(),
            holder: "b".to_owned(),
            behind: 1,
            processed: 2,
            again: 1,
            moves: 1,
        };
        assert_eq!(row, expected);
        let texts: Vec<&str> = board.log_after(1).iter().map(|h| h.text.as_str()).collect();
        assert_eq!(texts, ["007 goes from a to b"]);
    }

    #[test]
    fn a_late_farewell_does_not_take_the_shard_from_its_new_holder() {
        let mut board = Board::default();
        board.started(Duration::ZERO, "a", S);
        board.started(Duration::ZERO, "b", S);
        board.stopped("a", S);
        assert_eq!(board.rows(&put(&[]))[0].holder, "b");
    }

    #[test]
    fn records_of_a_shard_that_nobody_started_are_missing() {
        let board = Board::default();
        assert_eq!(board.totals(&put(&["1", "2"])).missing, 2);
    }

    #[test]
    fn the_busiest_worker_is_found() {
        let mut board = Board::default();
        board.started(Duration::ZERO, "b", S);
        let workers = ["a".to_owned(), "b".to_owned()];
        assert_eq!(board.busiest(&workers), Some(&workers[1]));
        assert_eq!(board.busiest(&workers[..1]), Some(&workers[0]));
    }
}
