//! The lines that are printed.

use base64_simd::STANDARD;
use kcl_core::{Checkpoint, RecordRef};
use serde::Serialize;

/// One line: a JSON object. `at` is the time of printing in milliseconds since 1970.
#[derive(Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub(crate) enum Line<'a> {
    Record {
        at: u64,
        shard: &'a str,
        sequence_number: &'a str,
        sub_sequence_number: u64,
        partition_key: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        data: Option<&'a str>,
        #[serde(skip_serializing_if = "Option::is_none")]
        data_base64: Option<String>,
    },
    Initialize {
        at: u64,
        shard: &'a str,
        position: &'a str,
        sub_sequence_number: u64,
    },
    ShardEnded {
        at: u64,
        shard: &'a str,
        children: Vec<&'a str>,
    },
    LeaseLost {
        at: u64,
        shard: &'a str,
        reason: String,
    },
    ShutdownRequested {
        at: u64,
        shard: &'a str,
    },
    Checkpoint {
        at: u64,
        shard: &'a str,
        position: &'a str,
        sub_sequence_number: u64,
    },
}

impl<'a> Line<'a> {
    pub(crate) fn record(at: u64, shard: &'a str, record: RecordRef<'a>) -> Self {
        let data = std::str::from_utf8(record.data()).ok();
        Line::Record {
            at,
            shard,
            sequence_number: record.sequence_number(),
            sub_sequence_number: record.sub_sequence_number(),
            partition_key: record.partition_key(),
            data,
            data_base64: data
                .is_none()
                .then(|| STANDARD.encode_to_string(record.data())),
        }
    }

    /// The position is a sequence number, or TRIM_HORIZON and its like.
    pub(crate) fn initialize(at: u64, shard: &'a str, checkpoint: &'a Checkpoint) -> Self {
        Line::Initialize {
            at,
            shard,
            position: checkpoint.text(),
            sub_sequence_number: checkpoint.sub_sequence_number(),
        }
    }

    pub(crate) fn checkpoint(at: u64, shard: &'a str, checkpoint: &'a Checkpoint) -> Self {
        Line::Checkpoint {
            at,
            shard,
            position: checkpoint.text(),
            sub_sequence_number: checkpoint.sub_sequence_number(),
        }
    }

    /// Appends the line.
    pub(crate) fn write(&self, text: &mut Vec<u8>) -> serde_json::Result<()> {
        serde_json::to_writer(&mut *text, self)?;
        text.push(b'\n');
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_is_one_json_object_with_its_event() {
        let mut text = Vec::new();
        Line::checkpoint(7, "shardId-1", &Checkpoint::TrimHorizon)
            .write(&mut text)
            .unwrap();
        assert_eq!(
            String::from_utf8(text).unwrap(),
            "{\"event\":\"checkpoint\",\"at\":7,\"shard\":\"shardId-1\",\"position\":\"TRIM_HORIZON\",\"sub_sequence_number\":0}\n"
        );
    }
}
