//! `CreateStream`, `DeleteStream`, `DescribeLimits`, `ListStreams`.

use super::{
    api::{
        CreateStreamInput, DeleteStreamInput, DescribeLimitsOutput, Empty, ListStreamsInput,
        ListStreamsOutput, StreamModeDetailsInput,
    },
    engine::Engine,
    error,
    stream::{Change, Mode, Status, Stream},
    tags, token,
    validate::{self, Validation},
};
use crate::ApiError;

/// Shards of a new on-demand stream (developer guide, "Choose the right mode").
const ON_DEMAND_SHARDS: usize = 4;
const LISTED_STREAMS: usize = 100;

/// The mode in a request, if there is one.
pub(super) fn mode(
    check: &mut Validation,
    details: &Option<StreamModeDetailsInput>,
) -> Option<Mode> {
    let details = details.as_ref()?;
    Some(check.required_choice("streamModeDetails.streamMode", &details.stream_mode))
}

impl Engine {
    pub(super) fn create_stream(&mut self, input: CreateStreamInput) -> Result<Empty, ApiError> {
        let mut check = Validation::default();
        let name = check.required("streamName", &input.stream_name, validate::STREAM_NAME);
        let mode = mode(&mut check, &input.stream_mode_details).unwrap_or_default();
        let shards = check.number("shardCount", input.shard_count, 1, i64::MAX);
        if mode == Mode::Provisioned {
            check.present("shardCount", &input.shard_count);
        }
        let record_kib = check.number(
            "maxRecordSizeInKiB",
            input.max_record_size_in_kib,
            1024,
            10_240,
        );
        check.tags("tags", &input.tags);
        check.finish()?;

        let account = &self.config.account;
        if self.streams.contains_key(name) {
            return Err(error::in_use(format!(
                "Stream {name} under account {account} already exists."
            )));
        }
        let shards = match mode {
            Mode::Provisioned => shards
                .and_then(|count| usize::try_from(count).ok())
                .unwrap_or(1),
            Mode::OnDemand => ON_DEMAND_SHARDS,
        };
        self.check_shard_limit(shards)?;
        self.check_mode_limit(mode)?;
        let stream_arn = self.stream_arn(name);
        let mut stream = Stream::new(name.to_owned(), stream_arn, self.now, mode);
        stream.max_record_kib = record_kib.unwrap_or(stream.max_record_kib);
        tags::add(
            &mut stream.attributes,
            name,
            account,
            input.tags.unwrap_or_default(),
        )?;
        self.streams.insert(name.to_owned(), stream);
        self.begin_transition(name, Status::Creating, Change::Create { shards });
        Ok(Empty {})
    }

    /// Refuses one on-demand stream too many.
    pub(super) fn check_mode_limit(&self, mode: Mode) -> Result<(), ApiError> {
        let (current, limit) = (self.on_demand_streams(), self.config.on_demand_stream_limit);
        if mode == Mode::OnDemand && current >= limit {
            let account = &self.config.account;
            return Err(error::limit_exceeded(format!(
                "Account {account} has {current} on-demand streams, which is the limit."
            )));
        }
        Ok(())
    }

    fn on_demand_streams(&self) -> usize {
        let streams = self.streams.values();
        streams
            .filter(|stream| stream.mode == Mode::OnDemand)
            .count()
    }

    pub(super) fn delete_stream(&mut self, input: &DeleteStreamInput) -> Result<Empty, ApiError> {
        let mut check = Validation::default();
        check.stream(&input.stream_name, &input.stream_arn);
        check.finish()?;

        let (account, now) = (self.config.account.clone(), self.now);
        let stream = self.stream(&input.stream_name, &input.stream_arn)?;
        stream.require_active(&account)?;
        let name = stream.name.clone();
        let consumers = stream.consumers.values();
        if consumers.filter(|consumer| consumer.exists(now)).count() > 0
            && input.enforce_consumer_deletion != Some(true)
        {
            return Err(error::in_use(format!(
                "Stream {name} under account {account} has registered consumers; set EnforceConsumerDeletion to \
                 delete them with it."
            )));
        }
        self.begin_transition(&name, Status::Deleting, Change::Delete);
        Ok(Empty {})
    }

    pub(super) fn describe_limits(&self) -> DescribeLimitsOutput {
        let provisioned = self
            .streams
            .values()
            .filter(|stream| stream.mode == Mode::Provisioned);
        DescribeLimitsOutput {
            shard_limit: self.config.shard_limit,
            open_shard_count: provisioned.map(Stream::open_count).sum(),
            on_demand_stream_count: self.on_demand_streams(),
            on_demand_stream_count_limit: self.config.on_demand_stream_limit,
        }
    }

    pub(super) fn list_streams(
        &self,
        input: &ListStreamsInput,
    ) -> Result<ListStreamsOutput, ApiError> {
        let mut check = Validation::default();
        let limit = check.page("limit", input.limit, 10_000, LISTED_STREAMS);
        check.optional(
            "exclusiveStartStreamName",
            &input.exclusive_start_stream_name,
            validate::STREAM_NAME,
        );
        check.optional("nextToken", &input.next_token, validate::NEXT_TOKEN);
        check.finish()?;

        let after = match &input.next_token {
            None => input
                .exclusive_start_stream_name
                .clone()
                .unwrap_or_default(),
            Some(text) => {
                let (_, after) = token::open::<0>(token::Kind::Streams, text)
                    .ok_or_else(|| error::invalid_argument("Invalid NextToken."))?;
                after
            }
        };
        let mut rest = self
            .streams
            .range(after.clone()..)
            .map(|(_, stream)| stream)
            .peekable();
        if rest.peek().is_some_and(|stream| stream.name == after) {
            rest.next();
        }
        let page: Vec<_> = rest.by_ref().take(limit).collect();
        let has_more_streams = rest.next().is_some();
        let last = page.last().filter(|_| has_more_streams);
        Ok(ListStreamsOutput {
            stream_names: page.iter().map(|stream| stream.name.clone()).collect(),
            has_more_streams,
            next_token: last.map(|stream| token::seal(token::Kind::Streams, [], &stream.name)),
            stream_summaries: page.into_iter().map(Stream::to_summary).collect(),
        })
    }
}
