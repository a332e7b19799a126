//! From standard input to the stream.

use std::fmt;
use std::time::Duration;

use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::StreamStatus;
use bytes::Bytes;
use examples::aws_error::explain;
use examples::progress::{Progress, say};
use examples::put::{Aggregating, Entry, PutError, Sender, Stored};
use examples::stream_name::StreamName;
use kcl_aggregation::PackLimits;
use tokio::io::BufReader;
use tokio::time::Instant;

use crate::Options;
use crate::key::KeyRule;
use crate::lines::{Line, next_line};

const LINE_BUFFER: usize = 1 << 16;
const CREATING_POLL: Duration = Duration::from_millis(500);

/// What became of the lines.
#[derive(Debug)]
pub(crate) struct Report {
    stored: Stored,
    pub(crate) not_stored: u64,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Stored {
            records,
            user_records,
            ..
        } = self.stored;
        write!(
            f,
            "produce: stored {user_records} lines in {records} records, not stored {}",
            self.not_stored
        )
    }
}

pub(crate) async fn run(options: &Options) -> Result<Report, String> {
    let aws = options.aws.load().await;
    if aws.region().is_none() {
        return Err("no region: set AWS_REGION or a region in the profile".to_owned());
    }
    let client = Client::new(&aws);
    let stream = StreamName::from(options.stream.as_str());
    let record_bytes = largest_record(&client, &stream, options.give_up_after).await?;
    let sender = Sender::new(client.clone(), stream.clone(), options.give_up_after);
    let aggregating = if options.aggregate {
        let limits = PackLimits {
            record_bytes,
            ..PackLimits::default()
        };
        Some(
            Aggregating::new(client, stream.clone(), limits)
                .await
                .map_err(|error| format!("stream {stream}: {error}"))?,
        )
    } else {
        None
    };
    let rule = KeyRule {
        field: options.key_field,
        delimiter: options.delimiter,
    };
    let mut producer = Producer {
        sender,
        aggregating,
        rule,
        record_bytes,
        refused: 0,
    };
    let outcome = producer.put_all_lines().await;
    if let Err(error) = outcome {
        let lost = producer.refused + producer.waiting();
        let stored = producer.sender.stored().user_records;
        return Err(format!(
            "stream {stream}: {error} (stored {stored} lines; {lost} that were read are not stored)"
        ));
    }
    Ok(Report {
        stored: producer.sender.stored(),
        not_stored: producer.refused,
    })
}

/// Waits until the stream can be written to, and asks how large its records may be.
async fn largest_record(
    client: &Client,
    stream: &StreamName,
    patience: Duration,
) -> Result<usize, String> {
    let began = Instant::now();
    loop {
        let call = client.describe_stream_summary();
        let call = call
            .set_stream_name(stream.name())
            .set_stream_arn(stream.arn());
        let answer = call
            .send()
            .await
            .map_err(|error| format!("stream {stream}: {}", explain(&error)))?;
        let Some(summary) = answer.stream_description_summary else {
            return Err(format!("stream {stream}: the service does not describe it"));
        };
        match summary.stream_status {
            StreamStatus::Deleting => {
                return Err(format!(
                    "stream {stream} is being deleted: create it anew first"
                ));
            }
            StreamStatus::Creating if began.elapsed() >= patience => {
                return Err(format!(
                    "stream {stream} is still being created: wait for it"
                ));
            }
            StreamStatus::Creating => tokio::time::sleep(CREATING_POLL).await,
            _ => {
                let kib = summary.max_record_size_in_kib.unwrap_or(1024);
                return Ok(usize::try_from(kib).unwrap_or(1024) * 1024);
            }
        }
    }
}

struct Producer {
    sender: Sender,
    aggregating: Option<Aggregating>,
    rule: KeyRule,
    record_bytes: usize,
    refused: u64,
}

impl Producer {
    async fn put_all_lines(&mut self) -> Result<(), String> {
        let mut input = BufReader::with_capacity(LINE_BUFFER, tokio::io::stdin());
        let mut progress = Progress::counting("stored lines:");
        let mut number = 0;
        let outcome = loop {
            match next_line(&mut input, self.record_bytes).await {
                Ok(Some(line)) => {
                    number += 1;
                    if let Err(error) = self.put_line(line, number).await {
                        break Err(error.to_string());
                    }
                    progress.at(self.sender.stored().user_records);
                }
                Ok(None) => break self.flush().await.map_err(|error| error.to_string()),
                Err(error) => {
                    let flushed = self.flush().await;
                    break Err(match flushed {
                        Ok(()) => format!("cannot read standard input: {error}"),
                        Err(put) => format!("cannot read standard input: {error}; {put}"),
                    });
                }
            }
        };
        progress.end();
        outcome
    }

    async fn put_line(&mut self, line: Line, number: u64) -> Result<(), PutError> {
        let data = match line {
            Line::Whole(data) => Bytes::from(data),
            Line::TooLong(bytes) => {
                self.refuse(number, &self.too_large(bytes));
                return Ok(());
            }
        };
        let key = self.rule.key(&data, number);
        let bytes = key.len() + data.len();
        if bytes > self.record_bytes {
            self.refuse(number, &self.too_large(bytes as u64));
            return Ok(());
        }
        let put = match &mut self.aggregating {
            Some(aggregating) => aggregating.put(&mut self.sender, &key, &data).await,
            None => self.sender.put(Entry::plain(key, data)).await,
        };
        match put {
            Err(PutError::Record(error)) => {
                self.refuse(number, &error.to_string());
                Ok(())
            }
            other => other,
        }
    }

    fn too_large(&self, bytes: u64) -> String {
        format!(
            "{bytes} bytes with its key, and the stream takes {}",
            self.record_bytes
        )
    }

    fn refuse(&mut self, number: u64, why: &str) {
        self.refused += 1;
        say(&format!("produce: line {number} is not stored: {why}"));
    }

    async fn flush(&mut self) -> Result<(), PutError> {
        match &mut self.aggregating {
            Some(aggregating) => aggregating.flush(&mut self.sender).await,
            None => self.sender.flush().await,
        }
    }

    fn waiting(&self) -> u64 {
        let packing = self.aggregating.as_ref().map_or(0, Aggregating::waiting);
        packing + self.sender.waiting()
    }
}
