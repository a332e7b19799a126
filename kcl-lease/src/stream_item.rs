//! The item that fixes which stream an application reads and where it began.

use crate::item::{Item, Value, attribute, entity};
use crate::key::StreamKey;
use crate::row_reader::{RowError, RowReader};
use crate::worker_item::PROTOCOL_VERSION;

const KEY: &str = "SessionStream";

/// The identity of a stream and the point where the application began to read it. Written once, before the first lease.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StreamItem {
    /// Which of the application's streams this is.
    pub stream: StreamKey,
    /// The stream's ARN.
    pub arn: String,
    /// When the stream was created, epoch milliseconds: tells a re-created stream from the first one.
    pub created_ms: u64,
    /// Where reading began.
    pub start: StreamStart,
    /// The leases of the first start were all made: one that is missing later was deleted, or its line of shards broke.
    pub leases_made: bool,
    /// The version of the protocol of the worker that wrote the item.
    pub protocol: u64,
}

/// Where an application began to read a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StreamStart {
    /// At the oldest record.
    TrimHorizon,
    /// At the tip, which was at this moment by the service's clock: leases created at LATEST are read from here
    /// until their first checkpoint, whoever owns them.
    Latest {
        /// Epoch milliseconds.
        moment_ms: u64,
    },
    /// At a configured time.
    AtTimestamp {
        /// Epoch milliseconds.
        moment_ms: u64,
    },
}

impl StreamStart {
    fn attributes(self) -> (&'static str, Option<u64>) {
        match self {
            Self::TrimHorizon => ("TRIM_HORIZON", None),
            Self::Latest { moment_ms } => ("LATEST", Some(moment_ms)),
            Self::AtTimestamp { moment_ms } => ("AT_TIMESTAMP", Some(moment_ms)),
        }
    }
}

impl StreamItem {
    /// The key of the item: one for the application's only stream, one for each stream among several.
    #[must_use]
    pub fn key_of(stream: &StreamKey) -> String {
        match stream.as_str() {
            None => KEY.to_owned(),
            Some(id) => format!("{KEY}:{id}"),
        }
    }

    /// The item's key.
    #[must_use]
    pub fn key(&self) -> String {
        Self::key_of(&self.stream)
    }

    /// The item of a stream whose leases are not made yet.
    #[must_use]
    pub fn new(
        stream: StreamKey,
        arn: impl Into<String>,
        created_ms: u64,
        start: StreamStart,
    ) -> Self {
        Self {
            stream,
            arn: arn.into(),
            created_ms,
            start,
            leases_made: false,
            protocol: PROTOCOL_VERSION,
        }
    }

    /// Reads an item; `None` if it is no stream item.
    ///
    /// # Errors
    /// When an attribute is missing, has a wrong type, a wrong value or an absurd size.
    pub fn from_item(item: &Item) -> Result<Option<Self>, RowError> {
        let row = RowReader(item);
        if row.optional_text(attribute::ENTITY_TYPE)? != Some(entity::STREAM) {
            return Ok(None);
        }
        let moment = || row.number(attribute::INITIAL_MOMENT);
        let start = match row.text(attribute::INITIAL_POSITION)? {
            "TRIM_HORIZON" => StreamStart::TrimHorizon,
            "LATEST" => StreamStart::Latest {
                moment_ms: moment()?,
            },
            "AT_TIMESTAMP" => StreamStart::AtTimestamp {
                moment_ms: moment()?,
            },
            _ => {
                return Err(row.error(
                    attribute::INITIAL_POSITION,
                    "is not TRIM_HORIZON, LATEST or AT_TIMESTAMP",
                ));
            }
        };
        let stream = match row.text(attribute::KEY)?.strip_prefix(KEY) {
            Some("") => StreamKey::ONLY,
            Some(id) if id.len() > 1 && id.starts_with(':') => StreamKey::among(&id[1..]),
            _ => return Err(row.error(attribute::KEY, "is not the key of a stream item")),
        };
        Ok(Some(Self {
            stream,
            arn: row.text(attribute::STREAM_ARN)?.to_owned(),
            created_ms: row.number(attribute::STREAM_CREATED)?,
            start,
            leases_made: row.optional_bool(attribute::LEASES_MADE)?.unwrap_or(false),
            protocol: row.optional_number(attribute::PROTOCOL)?.unwrap_or(1),
        }))
    }

    /// The item as it is stored.
    #[must_use]
    pub fn to_item(&self) -> Item {
        let (position, moment) = self.start.attributes();
        let mut item = Item::from([
            (attribute::KEY.to_owned(), Value::text(self.key())),
            (
                attribute::ENTITY_TYPE.to_owned(),
                Value::text(entity::STREAM),
            ),
            (
                attribute::STREAM_ARN.to_owned(),
                Value::text(self.arn.as_str()),
            ),
            (
                attribute::STREAM_CREATED.to_owned(),
                Value::number(self.created_ms),
            ),
            (
                attribute::INITIAL_POSITION.to_owned(),
                Value::text(position),
            ),
            (attribute::PROTOCOL.to_owned(), Value::number(self.protocol)),
        ]);
        if let Some(moment) = moment {
            item.insert(attribute::INITIAL_MOMENT.to_owned(), Value::number(moment));
        }
        if self.leases_made {
            item.insert(attribute::LEASES_MADE.to_owned(), Value::Bool(true));
        }
        item
    }
}
