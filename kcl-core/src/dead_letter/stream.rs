//! Dead letters in another Kinesis stream.

use async_trait::async_trait;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::config::retry::RetryPartition;
use aws_sdk_kinesis::primitives::Blob;
use aws_types::SdkConfig;

use super::{DeadLetter, DeadLetterSink};
use crate::error::BuildError;
use crate::processor::BoxError;
use crate::retrieval::{classify, control_overrides, reading_client};
use crate::stream::StreamRef;

/// The retries of letters are counted apart, so that failing letters do not stop the retries of calls that reading needs.
const RETRIES: &str = "kcl-dead-letters";

/// The service takes partition keys of 1 to this many characters; those inside aggregated records can be others.
const KEY_CHARACTERS: usize = 256;

/// Puts letters into a Kinesis stream: a record of JSON each, see [`DeadLetter::to_json`], under the partition key of the
/// record it tells of.
///
/// The worker needs the right `kinesis:PutRecord` on that stream. A letter is about a third larger than its payload. One that
/// the stream does not take because of its size is tried until it does: let the stream's largest record size be larger than
/// that of the stream that is read.
#[derive(Debug, Clone)]
pub struct StreamSink {
    client: Client,
    stream: StreamRef,
    region: String,
}

impl StreamSink {
    /// A sink that puts into `stream` (a name or an ARN). No network here.
    ///
    /// # Errors
    /// When the name or the ARN cannot be one, or `aws` has no region or another one than the ARN.
    pub fn new(aws: &SdkConfig, stream: impl AsRef<str>) -> Result<Self, BuildError> {
        let region = aws.region().ok_or(BuildError::NO_REGION)?;
        let stream = StreamRef::parse(stream.as_ref())?;
        stream.check_region(region.as_ref())?;
        Ok(Self {
            client: reading_client(aws),
            stream,
            region: region.as_ref().to_owned(),
        })
    }

    /// Refuses the stream that is read: every letter would come back as a record. By names only, or by ARNs only, can they be
    /// compared.
    pub(crate) fn check_other_than(
        &self,
        read: &StreamRef,
        region: &str,
    ) -> Result<(), BuildError> {
        if (&self.stream, self.region.as_str()) != (read, region) {
            return Ok(());
        }
        Err(BuildError::Conflict {
            a: "dead_letters",
            b: "stream",
            reason: format!(
                "letters put into {} would be read as its records: use another stream, or the ARNs if it is one of another account",
                read.name
            ),
        })
    }
}

#[async_trait]
impl DeadLetterSink for StreamSink {
    async fn accept(&self, letter: DeadLetter) -> Result<(), BoxError> {
        let name = &self.stream.name;
        let arn = self.stream.arn.as_ref().map(|arn| arn.as_str().to_owned());
        self.client
            .put_record()
            .set_stream_name(arn.is_none().then(|| name.clone()))
            .set_stream_arn(arn)
            .partition_key(key(&letter.partition_key))
            .data(Blob::new(letter.to_json()))
            .customize()
            .config_override(control_overrides().retry_partition(RetryPartition::new(RETRIES)))
            .send()
            .await
            .map_err(|error| classify("PutRecord", name, error))?;
        Ok(())
    }
}

fn key(partition_key: &str) -> String {
    match partition_key.is_empty() {
        true => "-".to_owned(),
        false => partition_key.chars().take(KEY_CHARACTERS).collect(),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_kinesis::types::ShardIteratorType;
    use kcl_emulator::Emulator;

    use super::*;
    use crate::dead_letter::letter::tests::letter;

    #[tokio::test(start_paused = true)]
    async fn a_letter_is_a_record_under_the_same_key() {
        let emulator = Emulator::new();
        let aws = emulator.sdk_config("worker");
        let client = Client::new(&aws);
        let create = client.create_stream().stream_name("dead").shard_count(1);
        create.send().await.unwrap();
        let sink = StreamSink::new(&aws, "dead").unwrap();
        sink.accept(letter(b"payload")).await.unwrap();
        let shards = client.list_shards().stream_name("dead").send().await;
        let shard = shards.unwrap().shards.unwrap().remove(0);
        let iterator = client
            .get_shard_iterator()
            .stream_name("dead")
            .shard_id(shard.shard_id)
            .shard_iterator_type(ShardIteratorType::TrimHorizon);
        let iterator = iterator.send().await.unwrap().shard_iterator.unwrap();
        let got = client.get_records().shard_iterator(iterator).send().await;
        let records = got.unwrap().records;
        assert_eq!(records.len(), 1);
        assert_eq!(
            records[0].partition_key(),
            Some(&*letter(b"").partition_key)
        );
        let data = records[0].data().as_ref();
        assert_eq!(data, letter(b"payload").to_json().as_bytes());
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_that_is_not_there_is_an_error_that_names_it() {
        let emulator = Emulator::new();
        let sink = StreamSink::new(&emulator.sdk_config("worker"), "none").unwrap();
        let error = sink.accept(letter(b"a")).await.unwrap_err();
        assert!(error.to_string().contains("none"), "{error}");
        assert!(!error.to_string().contains("cust"), "{error}");
    }

    #[test]
    fn the_stream_that_is_read_is_refused_by_name_or_by_arn() {
        let aws = Emulator::new().sdk_config("worker");
        let arn = "arn:aws:kinesis:us-east-1:123456789012:stream/orders";
        let region = aws.region().unwrap().to_string();
        let checked = |sink: &str, read: &str, region: &str| {
            let read = StreamRef::parse(read).unwrap();
            StreamSink::new(&aws, sink)
                .unwrap()
                .check_other_than(&read, region)
        };
        for same in ["orders", arn] {
            let error = checked(same, same, &region).unwrap_err().to_string();
            assert!(error.contains("dead_letters and stream"), "{error}");
        }
        for (sink, read) in [("letters", "orders"), (arn, "orders"), ("orders", arn)] {
            assert_eq!(checked(sink, read, &region), Ok(()));
        }
        assert_eq!(checked("orders", "orders", "eu-west-1"), Ok(()));
    }

    #[test]
    fn keys_that_the_service_would_refuse_are_mended() {
        assert_eq!(key(""), "-");
        assert_eq!(key("ä"), "ä");
        assert_eq!(key(&"ä".repeat(300)).chars().count(), 256);
    }
}
