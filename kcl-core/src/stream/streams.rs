//! The streams that an application reads: one, a list, or what a tracker says.

use std::fmt;
use std::sync::Arc;

use super::config::StreamConfig;
use super::tracker::StreamTracker;

/// The streams that an application reads.
///
/// One stream, given by its name, its ARN or a [`StreamConfig`]; a list of them; or [those that a tracker
/// names](Self::tracked). An application of one stream and one of several (also of a list of one, which may grow) have different
/// leases: one cannot become the other, but under another application name.
#[derive(Debug, Clone)]
pub struct Streams(Kind);

#[derive(Debug, Clone)]
pub(crate) enum Kind {
    One(Box<StreamConfig>),
    Several(StreamList),
}

/// Where several streams come from.
#[derive(Clone)]
pub(crate) enum StreamList {
    Fixed(Vec<StreamConfig>),
    Tracked(Arc<dyn StreamTracker>),
}

impl fmt::Debug for StreamList {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(list) => f.debug_list().entries(list).finish(),
            Self::Tracked(_) => f.write_str("Tracked"),
        }
    }
}

impl Streams {
    /// The streams that `tracker` names, which may change while the workers run.
    pub fn tracked(tracker: impl StreamTracker) -> Self {
        Self(Kind::Several(StreamList::Tracked(Arc::new(tracker))))
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.0
    }
}

impl From<StreamConfig> for Streams {
    fn from(stream: StreamConfig) -> Self {
        Self(Kind::One(Box::new(stream)))
    }
}

impl From<&str> for Streams {
    fn from(name_or_arn: &str) -> Self {
        StreamConfig::new(name_or_arn).into()
    }
}

impl From<String> for Streams {
    fn from(name_or_arn: String) -> Self {
        StreamConfig::new(name_or_arn).into()
    }
}

impl From<&String> for Streams {
    fn from(name_or_arn: &String) -> Self {
        StreamConfig::new(name_or_arn).into()
    }
}

impl From<Vec<StreamConfig>> for Streams {
    fn from(streams: Vec<StreamConfig>) -> Self {
        Self(Kind::Several(StreamList::Fixed(streams)))
    }
}

impl<const N: usize> From<[StreamConfig; N]> for Streams {
    fn from(streams: [StreamConfig; N]) -> Self {
        Vec::from(streams).into()
    }
}
