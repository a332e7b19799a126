//! `ListShards`: pages and filters.

use super::{
    api::{ListShardsInput, ListShardsOutput, ShardFilterInput},
    describe::first_after,
    engine::{Engine, milliseconds},
    error,
    shard::{Moment, Shard},
    stream::{Status, Stream},
    token,
    validate::{self, Named, Validation},
};
use crate::{ApiError, Timestamp};

const LISTED_SHARDS: usize = 1000;

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum FilterType {
    AfterShardId,
    AtTrimHorizon,
    #[default]
    FromTrimHorizon,
    AtLatest,
    AtTimestamp,
    FromTimestamp,
}

impl Named for FilterType {
    const ALL: &'static [(&'static str, Self)] = &[
        ("AFTER_SHARD_ID", Self::AfterShardId),
        ("AT_TRIM_HORIZON", Self::AtTrimHorizon),
        ("FROM_TRIM_HORIZON", Self::FromTrimHorizon),
        ("AT_LATEST", Self::AtLatest),
        ("AT_TIMESTAMP", Self::AtTimestamp),
        ("FROM_TIMESTAMP", Self::FromTimestamp),
    ];
}

/// Which shards to list, on this page and the ones after it.
#[derive(Debug, Clone, Copy)]
struct Filter {
    kind: FilterType,
    timestamp: Timestamp,
    /// The first shard by number.
    first: u64,
}

impl Filter {
    fn of_request(
        check: &mut Validation,
        filter: &Option<ShardFilterInput>,
        exclusive_start: Option<&str>,
    ) -> Result<Self, ApiError> {
        let first = exclusive_start
            .map(first_after)
            .transpose()?
            .unwrap_or_default();
        let Some(filter) = filter else {
            return Ok(Self {
                kind: FilterType::default(),
                timestamp: Timestamp::default(),
                first,
            });
        };
        let kind = check.required_choice("shardFilter.type", &filter.kind);
        let shard_id = check.optional("shardFilter.shardId", &filter.shard_id, validate::SHARD_ID);
        let by_time = matches!(kind, FilterType::AtTimestamp | FilterType::FromTimestamp);
        let by_shard = kind == FilterType::AfterShardId;
        let known = FilterType::from_name(filter.kind.as_deref().unwrap_or_default()).is_some();
        let fits = by_time == filter.timestamp.is_some() && by_shard == shard_id.is_some();
        if known && !fits {
            let kind = kind.name();
            return Err(error::invalid_argument(format!(
                "ShardFilter of type {kind}: Timestamp must be given for AT_TIMESTAMP and FROM_TIMESTAMP, ShardId for \
                 AFTER_SHARD_ID, and nothing else."
            )));
        }
        let after = shard_id.map(first_after).transpose()?.unwrap_or_default();
        Ok(Self {
            kind,
            timestamp: filter.timestamp.unwrap_or_default(),
            first: first.max(after),
        })
    }

    fn admits(&self, stream: &Stream, shard: &Shard) -> bool {
        let at: Moment = match self.kind {
            FilterType::AtTimestamp | FilterType::FromTimestamp => stream.clamp(self.timestamp),
            _ => stream.horizon(),
        };
        u64::from(shard.number) >= self.first
            && match self.kind {
                FilterType::AtTrimHorizon | FilterType::AtTimestamp => shard.was_open(at),
                FilterType::AtLatest => shard.is_open(),
                FilterType::AfterShardId
                | FilterType::FromTrimHorizon
                | FilterType::FromTimestamp => !shard.ended_before(at),
            }
    }

    /// The token for the page that begins with the shard `first`.
    fn seal(&self, stream: &Stream, first: u32, issued: Timestamp) -> String {
        let kind = FilterType::ALL
            .iter()
            .position(|(_, kind)| *kind == self.kind);
        let numbers = [
            kind.unwrap_or_default() as u64,
            self.timestamp.0.cast_unsigned(),
            u64::from(first),
            issued.0.cast_unsigned(),
            stream.created.0.cast_unsigned(),
        ];
        token::seal(token::Kind::Shards, numbers, &stream.name)
    }
}

impl Engine {
    pub(super) fn list_shards(
        &mut self,
        input: &ListShardsInput,
    ) -> Result<ListShardsOutput, ApiError> {
        let mut check = Validation::default();
        let limit = check.page("maxResults", input.max_results, 10_000, LISTED_SHARDS);
        let exclusive_start = check.optional(
            "exclusiveStartShardId",
            &input.exclusive_start_shard_id,
            validate::SHARD_ID,
        );
        let filter = Filter::of_request(&mut check, &input.shard_filter, exclusive_start);
        check.stream(&input.stream_name, &input.stream_arn);
        check.optional("nextToken", &input.next_token, validate::NEXT_TOKEN);
        check.finish()?;

        let (name, filter) = match &input.next_token {
            None => {
                if input.stream_name.is_none() && input.stream_arn.is_none() {
                    return Err(error::invalid_argument(
                        "Either NextToken or StreamName should be provided.",
                    ));
                }
                let name = self
                    .stream(&input.stream_name, &input.stream_arn)?
                    .name
                    .clone();
                (name, filter?)
            }
            Some(token) => {
                check_alone(input)?;
                self.continued(token)?
            }
        };
        let (now, account) = (self.now, self.config.account.clone());
        let stream = self.stream_named(&name)?;
        if matches!(stream.status, Status::Creating | Status::Deleting) {
            return Err(error::not_active(&name, &account, stream.status));
        }
        stream.forget_expired_shards();
        let mut admitted = stream.listed().filter(|shard| filter.admits(stream, shard));
        let page = admitted.by_ref().take(limit);
        let shards = page.map(|shard| shard.to_api(stream.created)).collect();
        let next = admitted.next();
        Ok(ListShardsOutput {
            shards,
            next_token: next.map(|shard| filter.seal(stream, shard.number, now)),
        })
    }

    /// What a token of an earlier page asks for.
    fn continued(&self, token: &str) -> Result<(String, Filter), ApiError> {
        let invalid = || error::invalid_argument("Invalid NextToken.");
        let ([kind, timestamp, first, issued, created], name) =
            token::open(token::Kind::Shards, token).ok_or_else(invalid)?;
        // "Tokens expire after 300 seconds" (API reference, `ListShards`).
        let lifetime = milliseconds(self.config.iterator_lifetime);
        if self.now.since(Timestamp(issued.cast_signed())) > lifetime {
            return Err(ApiError::client(
                "ExpiredNextTokenException",
                "NextToken has expired.",
            ));
        }
        let kind = usize::try_from(kind)
            .ok()
            .and_then(|kind| FilterType::ALL.get(kind));
        let (_, kind) = kind.ok_or_else(invalid)?;
        let same = |stream: &Stream| stream.created.0.cast_unsigned() == created;
        if !self.streams.get(&name).is_none_or(same) {
            return Err(invalid());
        }
        let filter = Filter {
            kind: *kind,
            timestamp: Timestamp(timestamp.cast_signed()),
            first,
        };
        Ok((name, filter))
    }
}

/// A token says all: nothing that chooses shards may stand beside it.
fn check_alone(input: &ListShardsInput) -> Result<(), ApiError> {
    let others = [
        ("StreamName", input.stream_name.is_some()),
        ("StreamARN", input.stream_arn.is_some()),
        (
            "ExclusiveStartShardId",
            input.exclusive_start_shard_id.is_some(),
        ),
        (
            "StreamCreationTimestamp",
            input.stream_creation_timestamp.is_some(),
        ),
        ("ShardFilter", input.shard_filter.is_some()),
    ];
    match others.iter().find(|(_, given)| *given) {
        None => Ok(()),
        Some((other, _)) => Err(error::invalid_argument(format!(
            "NextToken and {other} cannot be provided together."
        ))),
    }
}
