//! One record that was given up, with everything that is known of it.

use std::fmt;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use kcl_checkpoint::Position;
use kcl_lease::ShardId;

/// A record that was given up.
#[derive(Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct DeadLetter {
    /// The application.
    pub application: Arc<str>,
    /// The name of the stream.
    pub stream: Arc<str>,
    /// The ARN of the stream: streams of other accounts and regions may have the same name.
    pub stream_arn: Arc<str>,
    /// The shard.
    pub shard: ShardId,
    /// The record's place in the shard.
    pub position: Position,
    /// The partition key that the producer gave.
    pub partition_key: String,
    /// When the record reached the service, as far as the service knows.
    pub arrival: Option<SystemTime>,
    /// How often the record was delivered to the processor under this lease, alone or with others.
    pub attempts: u32,
    /// The text of the last error.
    pub error: String,
    /// The payload. It shares the memory of the service's answer and its share of the byte budget until it is dropped.
    pub data: Bytes,
}

impl DeadLetter {
    /// A letter of this record, with made-up values otherwise, to test a sink with. All fields can be set.
    ///
    /// ```
    /// use kcl_core::{DeadLetter, Position, SequenceNumber};
    ///
    /// let position = Position::new(SequenceNumber::parse("49600000")?, 0);
    /// let mut letter = DeadLetter::example(position, "payload");
    /// letter.partition_key = "customer-7".to_owned();
    /// assert!(letter.to_json().contains("customer-7"));
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    #[must_use]
    pub fn example(position: Position, data: impl Into<Bytes>) -> Self {
        Self {
            application: "application".into(),
            stream: "stream".into(),
            stream_arn: "arn:aws:kinesis:us-east-1:123456789012:stream/stream".into(),
            shard: ShardId::from("shardId-000000000000"),
            position,
            partition_key: "key".to_owned(),
            arrival: Some(UNIX_EPOCH),
            attempts: 1,
            error: "error".to_owned(),
            data: data.into(),
        }
    }

    /// The letter as one line of JSON, without a line break at its end: what the sinks of this library write.
    ///
    /// An object with the texts `application`, `stream`, `streamArn`, `shard`, `sequenceNumber`, `partitionKey`, `error` and `data`
    /// (the payload in Base64 with padding) and the numbers `subSequenceNumber`, `arrival` (milliseconds since 1970, or null) and
    /// `attempts`.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::json!({
            "application": &*self.application,
            "stream": &*self.stream,
            "streamArn": &*self.stream_arn,
            "shard": self.shard.as_str(),
            "sequenceNumber": self.position.sequence_number.as_str(),
            "subSequenceNumber": self.position.sub_sequence_number,
            "partitionKey": self.partition_key,
            "arrival": self.arrival.map(millis),
            "attempts": self.attempts,
            "error": self.error,
            "data": base64_simd::STANDARD.encode_to_string(&self.data),
        })
        .to_string()
    }
}

fn millis(time: SystemTime) -> i64 {
    let (sign, distance) = match time.duration_since(UNIX_EPOCH) {
        Ok(since) => (1, since),
        Err(error) => (-1, error.duration()),
    };
    sign * i64::try_from(distance.as_millis()).unwrap_or(i64::MAX)
}

/// Shows the place and the size only: payloads and keys do not belong in logs.
impl fmt::Debug for DeadLetter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DeadLetter")
            .field("shard", &self.shard)
            .field("position", &self.position)
            .field("attempts", &self.attempts)
            .field("bytes", &self.data.len())
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
pub(super) mod tests {
    use std::time::Duration;

    use kcl_checkpoint::SequenceNumber;

    use super::*;

    const ARN: &str = "arn:aws:kinesis:us-east-1:123456789012:stream/orders";

    pub(crate) fn letter(data: &[u8]) -> DeadLetter {
        DeadLetter {
            application: "app".into(),
            stream: "orders".into(),
            stream_arn: ARN.into(),
            shard: ShardId::from("shardId-000000000001"),
            position: Position::new(SequenceNumber::parse("4960").unwrap(), 7),
            partition_key: "cust\"omer\n".to_owned(),
            arrival: Some(UNIX_EPOCH + Duration::from_millis(1_700_000_000_123)),
            attempts: 5,
            error: "no\nluck".to_owned(),
            data: Bytes::copy_from_slice(data),
        }
    }

    #[test]
    fn a_letter_is_one_line_with_everything() {
        let text = letter(&[0, 255, 10]).to_json();
        assert_eq!(text.lines().count(), 1);
        let json: serde_json::Value = serde_json::from_str(&text).unwrap();
        let expected = serde_json::json!({
            "application": "app", "stream": "orders", "streamArn": ARN, "shard": "shardId-000000000001",
            "sequenceNumber": "4960", "subSequenceNumber": 7, "partitionKey": "cust\"omer\n",
            "arrival": 1_700_000_000_123_i64, "attempts": 5, "error": "no\nluck", "data": "AP8K",
        });
        assert_eq!(json, expected);
    }

    #[test]
    fn neither_payload_nor_key_is_shown() {
        let text = format!("{:?}", letter(b"secret"));
        assert!(!text.contains("secret") && !text.contains("cust"), "{text}");
    }
}
