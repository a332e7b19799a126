//! What a worker process writes down: one JSON object per line, appended to a file of its own.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::clock::At;

/// Something that a worker did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Line {
    /// When, in microseconds since the machine was booted.
    at: u64,
    /// What.
    #[serde(flatten)]
    pub(super) what: What,
}

/// What a worker did.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(super) enum What {
    /// It has a session.
    Session { worker: String },
    /// A processor starts.
    Started {
        shard: String,
        epoch: u64,
        checkpoint: String,
    },
    /// A record was delivered.
    Record(RecordLine),
    /// A record is complete, which the worker is told after this.
    Completed {
        shard: String,
        sequence: String,
        sub: u64,
    },
    /// A checkpoint was stored under the grant that was the latest of this worker.
    Checkpointed {
        shard: String,
        epoch: u64,
        checkpoint: String,
    },
    /// The end of a shard was stored, its children can start.
    ShardEnded { shard: String },
    /// A processor was told to stop.
    ShutdownRequested { shard: String, epoch: u64 },
    /// A lease was lost.
    LeaseLost { shard: String },
}

/// A record that was delivered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct RecordLine {
    pub(super) shard: String,
    pub(super) epoch: u64,
    pub(super) sequence: String,
    pub(super) key: String,
    pub(super) number: u64,
}

impl Line {
    pub(super) fn new(at: At, what: What) -> Self {
        Self {
            at: u64::try_from(at.as_micros()).unwrap_or(u64::MAX),
            what,
        }
    }

    pub(super) fn at(&self) -> At {
        Duration::from_micros(self.at)
    }
}

/// The journal of one worker process. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Journal(Arc<Mutex<File>>);

impl Journal {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().create(true).append(true).open(path)?;
        Ok(Self(Arc::new(Mutex::new(file))))
    }

    /// Appends lines in one write: when it returns they survive the end of the process.
    pub(super) fn write(&self, lines: impl IntoIterator<Item = Line>) -> io::Result<()> {
        let mut text = Vec::new();
        for line in lines {
            serde_json::to_writer(&mut text, &line)?;
            text.push(b'\n');
        }
        self.0
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .write_all(&text)
    }
}

/// The whole lines of a journal; a killed process may leave half of one at the end.
pub(super) fn read(path: &Path) -> io::Result<Vec<Line>> {
    let text = match std::fs::read_to_string(path) {
        Ok(text) => text,
        // It was killed before it could begin to write.
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error),
    };
    text.split_inclusive('\n')
        .filter(|line| line.ends_with('\n'))
        .map(|line| serde_json::from_str(line).map_err(io::Error::from))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_survive_and_half_a_line_is_left_out() {
        let path = std::env::temp_dir().join(format!("journal-{}", std::process::id()));
        let lines = [
            Line::new(
                Duration::from_millis(5),
                What::Record(RecordLine {
                    shard: "s".to_owned(),
                    epoch: 7,
                    sequence: "49".to_owned(),
                    key: "k".to_owned(),
                    number: 3,
                }),
            ),
            Line::new(
                Duration::from_secs(9),
                What::LeaseLost {
                    shard: "s".to_owned(),
                },
            ),
        ];
        let journal = Journal::open(&path).unwrap();
        journal.write(lines.clone()).unwrap();
        journal.0.lock().unwrap().write_all(b"{\"at\":1").unwrap();
        assert_eq!(read(&path).unwrap(), lines);
        std::fs::remove_file(&path).unwrap();
        assert_eq!(read(&path).unwrap(), []);
    }
}
