//! One stream of the list, checked; and the whole list.

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::dead_letter::StreamSink;
use crate::error::BuildError;
use crate::retrieval::{ConsumerOptions, Retrieval, ShardSource};
use crate::stream::{ApplicationName, StreamArn, StreamConfig, StreamRef};

use super::sources::Sources;

/// What every stream of a worker has to fit.
#[derive(Debug, Clone)]
pub(crate) struct Rules {
    pub(crate) application: ApplicationName,
    pub(crate) retrieval: Retrieval,
    pub(crate) sources: Sources,
    /// The dead-letter sink, if it is a stream.
    pub(crate) letters: Option<StreamSink>,
}

impl Rules {
    fn id(&self, config: &StreamConfig) -> Result<ListedId, BuildError> {
        let region = self.sources.region(config, &config.stream()?)?;
        Ok((config.name_or_arn().to_owned(), region))
    }
}

/// What names a stream of the list: its name or ARN, and its client's region.
pub(crate) type ListedId = (String, Option<String>);

/// One stream of the list, and how it is reached.
#[derive(Debug)]
pub(crate) struct ListedStream {
    pub(crate) config: StreamConfig,
    pub(crate) stream: StreamRef,
    pub(crate) source: Arc<dyn ShardSource>,
    pub(crate) consumer: Option<ConsumerOptions>,
    region: Option<String>,
}

impl ListedStream {
    /// # Errors
    /// When the stream cannot be read as it is given.
    pub(crate) fn new(config: StreamConfig, rules: &Rules) -> Result<Self, BuildError> {
        let stream = config.stream()?;
        let region = rules.sources.region(&config, &stream)?;
        config.check_position()?;
        if let Some(letters) = &rules.letters {
            letters.check_other_than(&stream, region.as_deref().unwrap_or_default())?;
        }
        let consumer = match &rules.retrieval {
            Retrieval::Polling => None,
            Retrieval::FanOut(options) => {
                let own = config.own_consumer();
                Some(options.resolve(&rules.application, &stream, own)?)
            }
        };
        Ok(Self {
            source: rules.sources.make(&config, &stream),
            config,
            stream,
            consumer,
            region,
        })
    }

    pub(crate) fn id(&self) -> ListedId {
        (self.config.name_or_arn().to_owned(), self.region.clone())
    }

    /// Whether a stream of this ARN may be the one: a name says nothing of the account.
    pub(crate) fn may_be(&self, arn: &StreamArn) -> bool {
        match &self.stream.arn {
            Some(own) => own == arn,
            None => {
                let elsewhere = self.region.as_ref().is_some_and(|own| *own != arn.region);
                self.stream.name == arn.name && !elsewhere
            }
        }
    }
}

/// A stream of the list that cannot be read as it is given, and why.
pub(crate) type Refused = (StreamConfig, BuildError);

/// Checks a whole list. `known` gives what was made for a stream before.
pub(crate) fn check_list(
    list: Vec<StreamConfig>,
    rules: &Rules,
    known: impl Fn(&ListedId) -> Option<Arc<ListedStream>>,
) -> (Vec<Arc<ListedStream>>, Vec<Refused>) {
    let (mut listed, mut refused) = (Vec::new(), Vec::new());
    let mut seen = BTreeSet::new();
    for config in list {
        let checked = rules
            .id(&config)
            .and_then(|id| match seen.insert(id.clone()) {
                true => match known(&id) {
                    Some(stream) => Ok(stream),
                    None => ListedStream::new(config.clone(), rules).map(Arc::new),
                },
                false => Err(twice(&config)),
            });
        match checked {
            Ok(stream) => listed.push(stream),
            Err(error) => refused.push((config, error)),
        }
    }
    (listed, refused)
}

fn twice(config: &StreamConfig) -> BuildError {
    BuildError::InvalidOption {
        option: "stream",
        value: format!("{:?}", config.name_or_arn()),
        reason: "is in the list twice: leave one out, or use ARNs for streams of the same name in other accounts"
            .to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use aws_types::SdkConfig;
    use aws_types::region::Region;
    use kcl_lease::runtime::Runtime;

    use super::*;
    use crate::retrieval::MemoryStream;

    const ARN: &str = "arn:aws:kinesis:us-east-1:123456789012:stream/orders";

    fn rules(retrieval: Retrieval) -> Rules {
        let runtime = Runtime::virtual_time(1);
        Rules {
            application: "app".into(),
            retrieval,
            sources: Sources::Given(Arc::new(move |_| {
                Arc::new(MemoryStream::new(1, runtime.clone()))
            })),
            letters: None,
        }
    }

    fn check(list: &[StreamConfig], rules: &Rules) -> (usize, Vec<String>) {
        let (listed, refused) = check_list(list.to_vec(), rules, |_| None);
        let refused = refused.into_iter().map(|(_, error)| error.to_string());
        (listed.len(), refused.collect())
    }

    #[test]
    fn each_stream_is_in_the_list_once() {
        let region = SdkConfig::builder().region(Region::new("eu-west-1"));
        let elsewhere = StreamConfig::new("orders").aws(region.build());
        let list = [
            StreamConfig::new("orders"),
            elsewhere,
            StreamConfig::new(ARN),
            StreamConfig::new("orders"),
            StreamConfig::new("no stream"),
        ];
        let (good, refused) = check(&list, &rules(Retrieval::polling()));
        assert_eq!((good, refused.len()), (3, 2));
        assert!(refused[0].contains("twice"), "{refused:?}");
        assert!(refused[1].contains("is no stream name"), "{refused:?}");
    }

    #[test]
    fn a_consumer_belongs_to_its_stream() {
        let fan_out = rules(Retrieval::fan_out().into());
        let own = StreamConfig::new(ARN).consumer_arn(format!("{ARN}/consumer/app:1600000000"));
        assert_eq!(check(&[own], &fan_out).0, 1);
        let other = StreamConfig::new("payments").consumer_arn(format!("{ARN}/consumer/app:1"));
        let (_, refused) = check(&[other], &fan_out);
        assert!(refused[0].contains("another stream"), "{refused:?}");
        // One consumer cannot be that of several streams.
        let one = Retrieval::fan_out().consumer_arn(format!("{ARN}/consumer/app:1"));
        let list = [StreamConfig::new(ARN), StreamConfig::new("payments")];
        let (good, refused) = check(&list, &rules(one.into()));
        assert_eq!((good, refused.len()), (1, 1));
    }

    #[test]
    fn a_name_stands_for_a_stream_of_its_clients_region() {
        let parse = |arn: &str| StreamArn::parse(arn).unwrap();
        let rules = rules(Retrieval::polling());
        let listed = |config| ListedStream::new(config, &rules).unwrap();
        assert!(listed(StreamConfig::new("orders")).may_be(&parse(ARN)));
        assert!(!listed(StreamConfig::new("order")).may_be(&parse(ARN)));
        assert!(listed(StreamConfig::new(ARN)).may_be(&parse(ARN)));
        let account = ARN.replace("123456789012", "210987654321");
        assert!(!listed(StreamConfig::new(ARN)).may_be(&parse(&account)));
        let region = SdkConfig::builder().region(Region::new("eu-west-1"));
        let elsewhere = StreamConfig::new("orders").aws(region.build());
        assert!(!listed(elsewhere).may_be(&parse(ARN)));
    }
}
