//! The calls of a [`ShardSource`] on Kinesis.

use std::sync::{Arc, OnceLock};

use async_trait::async_trait;
use aws_sdk_kinesis::Client;
use aws_sdk_kinesis::types::{self, ShardFilterType, ShardIteratorType};
use aws_smithy_types::DateTime;
use aws_smithy_types::body::SdkBody;
use aws_types::SdkConfig;
use aws_types::region::Region;
use kcl_lease::{ListedShard, ShardId};

use super::classify::classify;
use super::client::{control_overrides, reading_client, records_client};
use super::fan_out::Connections;
use super::fill;
use super::service_time::ServiceTime;
use super::wire::{BufferPool, Envelope, Events, KinesisWire, Negotiation, Wire, decode};
use crate::retrieval::error::{SourceError, SourceErrorKind};
use crate::retrieval::source::{
    Fetched, ShardFilter, ShardIterator, ShardSource, StartPosition, StreamDescription,
    StreamStatus,
};
use crate::retrieval::subscription::{StreamConsumer, Subscription};
use crate::stream::StreamArn;

/// More pages than a stream can have: 20,000 shards are the largest quota known, a page has up to 1,000.
const MAX_PAGES: usize = 1_000;

/// A stream on Amazon Kinesis, LocalStack or the emulator.
#[derive(Debug, Clone)]
pub struct KinesisSource {
    client: Client,
    reading: Reading,
    /// Buffers for answers and events.
    pool: BufferPool,
    /// How messages name the stream.
    label: String,
    name: Option<String>,
    arn: Option<String>,
    /// The ARN that is stored with the leases, if the stream is given by name.
    pinned: OnceLock<String>,
}

/// What asks for records, in the wire that was chosen.
#[derive(Debug, Clone)]
struct Reading {
    /// For `GetRecords` only.
    records: Client,
    /// For subscriptions.
    connections: Arc<Connections>,
    negotiation: Arc<Negotiation>,
}

impl Reading {
    fn new(client: &Client, pool: &BufferPool, wire: Wire) -> Self {
        let negotiation = Arc::new(Negotiation::new(wire));
        let protocol = KinesisWire::new(Arc::clone(&negotiation));
        let connections = Connections::new(client.clone(), Arc::clone(&negotiation));
        Self {
            records: records_client(client, protocol, pool),
            connections: Arc::new(connections),
            negotiation,
        }
    }
}

impl KinesisSource {
    /// The stream called `name`. With `arn`, every call names the stream by that instead, as streams of other accounts
    /// need it. No network here.
    ///
    /// The client is the source's own: endpoint, region, credentials and HTTP client come from `aws`, attempts and time
    /// limits do not.
    #[must_use]
    pub fn new(aws: &SdkConfig, name: &str, arn: Option<String>) -> Self {
        Self::sharing(BufferPool::default(), aws, name, arn)
    }

    /// As [`new`](Self::new), with buffers that other sources use as well.
    pub(crate) fn sharing(
        pool: BufferPool,
        aws: &SdkConfig,
        name: &str,
        arn: Option<String>,
    ) -> Self {
        let client = reading_client(aws);
        Self {
            reading: Reading::new(&client, &pool, Wire::default()),
            client,
            pool,
            label: arn.clone().unwrap_or_else(|| name.to_owned()),
            name: arn.is_none().then(|| name.to_owned()),
            arn,
            pinned: OnceLock::new(),
        }
    }

    /// How answers with records are written. Default: [`Wire::Json`].
    #[must_use]
    pub fn with_wire(mut self, wire: Wire) -> Self {
        self.reading = Reading::new(&self.client, &self.pool, wire);
        self
    }

    pub(super) fn connections(&self) -> &Connections {
        &self.reading.connections
    }

    /// The events of a subscription whose answer has this body.
    pub(super) fn events(&self, body: SdkBody) -> Events {
        Events::new(body, self.pool.clone()).telling(&self.reading.negotiation)
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    pub(super) fn label(&self) -> &str {
        &self.label
    }

    /// The stream's ARN, if it was given or has been told.
    pub(super) fn known_arn(&self) -> Option<String> {
        self.arn.clone().or_else(|| self.pinned.get().cloned())
    }

    pub(super) fn malformed(&self, operation: &'static str, detail: &str) -> SourceError {
        SourceError::new(SourceErrorKind::Malformed, operation)
            .about(format!("stream {}", self.label))
            .with_detail(detail)
    }

    /// Calls once more if the server turned out not to speak CBOR. From now on requests are in JSON; the shard need not wait for
    /// the next one.
    async fn in_either_wire<T, F>(&self, call: impl Fn() -> F) -> Result<T, SourceError>
    where
        F: Future<Output = Result<T, SourceError>>,
    {
        let negotiation = &self.reading.negotiation;
        let asked_in = negotiation.wire();
        let answer = call().await;
        if answer.is_err() && negotiation.wire() != asked_in {
            return call().await;
        }
        answer
    }

    /// One attempt of `GetRecords`.
    async fn read(&self, iterator: &ShardIterator, limit: u16) -> Result<Fetched, SourceError> {
        let output = self
            .reading
            .records
            .get_records()
            .shard_iterator(iterator.0.as_str())
            .limit(i32::from(limit))
            .set_stream_arn(self.arn.clone())
            .send()
            .await
            .map_err(|error| classify("GetRecords", &self.label, error))?;
        let Envelope { wire, body } = Envelope::open(output)
            .ok_or_else(|| self.malformed("GetRecords", "the SDK changed it on the way"))?;
        let answer = decode(wire, body, &self.pool).map_err(|error| {
            self.reading.negotiation.unreadable(wire);
            self.malformed("GetRecords", &error.to_string())
                .with_source(error)
        })?;
        self.reading.negotiation.answered(wire);
        Ok(Fetched {
            batch: answer.batch,
            next: answer.next.map(ShardIterator),
            children: answer.children,
            behind: answer.behind,
        })
    }

    /// One page: the first one by stream and filter, the others by token only, as the service demands.
    async fn page(
        &self,
        filter: &ShardFilter,
        token: Option<String>,
    ) -> Result<(Vec<types::Shard>, Option<String>), SourceError> {
        let request = self.client.list_shards();
        let request = match token {
            Some(token) => request.next_token(token),
            None => request
                .set_stream_name(self.name.clone())
                .set_stream_arn(self.arn.clone())
                .set_shard_filter(sdk_filter(filter, &self.label)?),
        };
        let answer = request
            .customize()
            .config_override(control_overrides())
            .send()
            .await
            .map_err(|error| classify("ListShards", &self.label, error))?;
        Ok((answer.shards.unwrap_or_default(), answer.next_token))
    }
}

#[async_trait]
impl ShardSource for KinesisSource {
    async fn describe(&self) -> Result<StreamDescription, SourceError> {
        let service_time = ServiceTime::default();
        let answer = self
            .client
            .describe_stream_summary()
            .set_stream_name(self.name.clone())
            .set_stream_arn(self.arn.clone())
            .customize()
            .config_override(control_overrides())
            .interceptor(service_time.clone())
            .send()
            .await
            .map_err(|error| classify("DescribeStreamSummary", &self.label, error))?;
        let summary = answer.stream_description_summary.ok_or_else(|| {
            self.malformed("DescribeStreamSummary", "there is no description in it")
        })?;
        Ok(StreamDescription {
            created_at: fill::system_time(summary.stream_creation_timestamp),
            status: match summary.stream_status {
                types::StreamStatus::Creating => StreamStatus::Creating,
                types::StreamStatus::Deleting => StreamStatus::Deleting,
                _ => StreamStatus::Readable,
            },
            arn: summary.stream_arn,
            service_time: service_time.seen(),
        })
    }

    fn adopt(&self, arn: &str) -> bool {
        let region = self.client.config().region().map(Region::as_ref);
        let named = self.arn.as_deref().or(self.name.as_deref());
        let same = named
            .zip(region)
            .is_some_and(|(named, region)| StreamArn::names(arn, named, region));
        if same {
            // The first one stays: a stream has one ARN.
            let _known = self.pinned.set(arn.to_owned());
        }
        same
    }

    async fn list_shards(&self, filter: ShardFilter) -> Result<Vec<ListedShard>, SourceError> {
        let mut shards = Vec::new();
        let mut token = None;
        for _ in 0..MAX_PAGES {
            let (page, next) = self.page(&filter, token).await?;
            for shard in &page {
                shards.push(fill::listed(shard)?);
            }
            match next {
                Some(next) => token = Some(next),
                None => return Ok(shards),
            }
        }
        Err(self.malformed("ListShards", "the pages do not end"))
    }

    async fn iterator(
        &self,
        shard: &ShardId,
        from: &StartPosition,
    ) -> Result<ShardIterator, SourceError> {
        let request = self
            .client
            .get_shard_iterator()
            .set_stream_name(self.name.clone())
            .set_stream_arn(self.known_arn())
            .shard_id(shard.as_str());
        let request = match from {
            StartPosition::TrimHorizon => {
                request.shard_iterator_type(ShardIteratorType::TrimHorizon)
            }
            StartPosition::AtTimestamp(time) => request
                .shard_iterator_type(ShardIteratorType::AtTimestamp)
                .timestamp(DateTime::from(*time)),
            StartPosition::AtSequenceNumber(number) => request
                .shard_iterator_type(ShardIteratorType::AtSequenceNumber)
                .starting_sequence_number(number.as_str()),
            StartPosition::AfterSequenceNumber(number) => request
                .shard_iterator_type(ShardIteratorType::AfterSequenceNumber)
                .starting_sequence_number(number.as_str()),
        };
        let answer = request
            .customize()
            .config_override(control_overrides())
            .send()
            .await
            .map_err(|error| classify("GetShardIterator", &self.label, error))?;
        answer
            .shard_iterator
            .map(ShardIterator)
            .ok_or_else(|| self.malformed("GetShardIterator", "there is no iterator in it"))
    }

    async fn describe_consumer(&self, name: &str) -> Result<Option<StreamConsumer>, SourceError> {
        self.find_consumer(name).await
    }

    async fn register_consumer(&self, name: &str) -> Result<StreamConsumer, SourceError> {
        self.add_consumer(name).await
    }

    async fn subscribe(
        &self,
        consumer_arn: &str,
        shard: &ShardId,
        from: &StartPosition,
    ) -> Result<Box<dyn Subscription>, SourceError> {
        self.in_either_wire(|| self.open_subscription(consumer_arn, shard, from))
            .await
    }

    async fn get_records(
        &self,
        iterator: &ShardIterator,
        limit: u16,
    ) -> Result<Fetched, SourceError> {
        self.in_either_wire(|| self.read(iterator, limit)).await
    }
}

fn sdk_filter(
    filter: &ShardFilter,
    label: &str,
) -> Result<Option<types::ShardFilter>, SourceError> {
    let builder = types::ShardFilter::builder();
    let builder = match filter {
        // Without a filter the service lists every shard, and so do emulators that know none.
        ShardFilter::All => return Ok(None),
        ShardFilter::AtTrimHorizon => builder.r#type(ShardFilterType::AtTrimHorizon),
        ShardFilter::AtLatest => builder.r#type(ShardFilterType::AtLatest),
        ShardFilter::AtTimestamp(time) => builder
            .r#type(ShardFilterType::AtTimestamp)
            .timestamp(DateTime::from(*time)),
    };
    builder.build().map(Some).map_err(|error| {
        SourceError::new(SourceErrorKind::Other, "ListShards")
            .about(format!("stream {label}"))
            .with_source(error)
    })
}
