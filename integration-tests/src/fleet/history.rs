//! Everything that is known about one run, put in order: what was put, what workers wrote down, what the lease table held,
//! and what the harness did.

use kcl_emulator::Emulator;

use super::clock::{At, Translation};
use super::deeds::{Deed, Did};
use super::error::FleetError;
use super::journal::{self, What};
use super::process::WorkerProcess;
use super::table_watch::RowSeen;
use crate::STREAM;

/// Everything that is known about one run.
#[derive(Debug, Clone, Default)]
pub struct History {
    /// The emulator's log, in the order in which records were put.
    pub(super) put: Vec<Put>,
    /// What all workers wrote down, in the order of time.
    pub(super) told: Vec<Told>,
    /// Every change of a lease row, in the order of time.
    pub(super) rows: Vec<RowSeen>,
    /// What the harness did, in the order of time.
    pub(super) deeds: Vec<Deed>,
}

/// A record that was put.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Put {
    pub(super) at: At,
    pub(super) shard: String,
    pub(super) sequence: String,
}

/// Something that a worker wrote down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Told {
    pub(super) at: At,
    /// The worker's name.
    pub(super) worker: String,
    pub(super) what: What,
}

impl History {
    /// Reads the journals of all workers once, and the emulator's log.
    pub(super) fn gather<'a>(
        emulator: &Emulator,
        clock: Translation,
        workers: impl Iterator<Item = &'a WorkerProcess>,
        rows: Vec<RowSeen>,
        deeds: Vec<Deed>,
    ) -> Result<Self, FleetError> {
        let log = emulator.records(STREAM).into_iter();
        let put = log.map(|record| Put {
            at: clock.of(record.arrived),
            shard: record.shard_id,
            sequence: record.sequence_number.to_string(),
        });
        let mut told = Vec::new();
        for worker in workers {
            let lines = journal::read(&worker.journal).map_err(|error| {
                let what = format!("cannot read the journal of {}", worker.name);
                FleetError::system(what, error)
            })?;
            told.extend(lines.into_iter().map(|line| Told {
                at: line.at(),
                worker: worker.name.clone(),
                what: line.what,
            }));
        }
        // Stable: lines of one worker stay in the order in which it wrote them.
        told.sort_by_key(|told| told.at);
        Ok(Self {
            put: put.collect(),
            told,
            rows,
            deeds,
        })
    }

    /// When the harness first did this.
    pub(super) fn when(&self, did: &Did) -> Option<At> {
        self.deeds
            .iter()
            .find(|deed| deed.what == *did)
            .map(|deed| deed.at)
    }
}
