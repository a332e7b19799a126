//! What each of several streams is read with: a client of its own, or what a test gives.

use std::fmt;
use std::sync::Arc;

use aws_types::SdkConfig;
use aws_types::region::Region;

use crate::error::BuildError;
use crate::retrieval::{BufferPool, KinesisSource, ShardSource, TimeLimited, Wire};
use crate::stream::{StreamConfig, StreamRef};

type GivenSources = Arc<dyn Fn(&StreamConfig) -> Arc<dyn ShardSource> + Send + Sync>;

/// Makes the source of a stream.
#[derive(Clone)]
pub(crate) enum Sources {
    Kinesis {
        aws: Box<SdkConfig>,
        wire: Wire,
        /// One for all, because what it keeps does not count in the memory budget.
        pool: BufferPool,
    },
    Given(GivenSources),
}

impl fmt::Debug for Sources {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Kinesis { .. } => "Kinesis",
            Self::Given(_) => "Given",
        })
    }
}

impl Sources {
    /// The region of a stream's client.
    ///
    /// # Errors
    /// When there is none, or the stream's own client has another one than its ARN.
    pub(crate) fn region(
        &self,
        config: &StreamConfig,
        stream: &StreamRef,
    ) -> Result<Option<String>, BuildError> {
        let known = match (self, config.own_aws(), &stream.arn) {
            (_, Some(own), _) => own.region(),
            (Self::Given(_), None, _) => return Ok(None),
            (Self::Kinesis { .. }, None, Some(arn)) => return Ok(Some(arn.region.clone())),
            (Self::Kinesis { aws, .. }, None, None) => aws.region(),
        };
        let region = known.ok_or(BuildError::NO_REGION)?.to_string();
        stream.check_region(&region)?;
        Ok(Some(region))
    }

    /// The source of a stream.
    pub(crate) fn make(&self, config: &StreamConfig, stream: &StreamRef) -> Arc<dyn ShardSource> {
        let source: Arc<dyn ShardSource> = match self {
            Self::Given(make) => make(config),
            Self::Kinesis { aws, wire, pool } => {
                let aws = client_config(aws, config, stream);
                let arn = stream.arn.as_ref().map(|arn| arn.as_str().to_owned());
                let source = KinesisSource::sharing(pool.clone(), &aws, &stream.name, arn);
                Arc::new(source.with_wire(*wire))
            }
        };
        Arc::new(TimeLimited::new(source))
    }
}

/// The stream's own configuration as it is, else the worker's for the region of the stream's ARN.
fn client_config(worker: &SdkConfig, config: &StreamConfig, stream: &StreamRef) -> SdkConfig {
    match (config.own_aws(), &stream.arn) {
        (Some(own), _) => own.clone(),
        (None, Some(arn)) => {
            let region = Region::new(arn.region.clone());
            worker.clone().into_builder().region(region).build()
        }
        (None, None) => worker.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:kinesis:eu-west-1:123456789012:stream/orders";

    fn aws(region: &'static str) -> SdkConfig {
        let aws = SdkConfig::builder().region(Region::new(region));
        aws.endpoint_url("http://localhost:1").build()
    }

    fn region(config: &StreamConfig) -> Result<Option<String>, String> {
        let sources = Sources::Kinesis {
            aws: Box::new(aws("us-east-1")),
            wire: Wire::Json,
            pool: BufferPool::default(),
        };
        let region = sources.region(config, &config.stream().unwrap());
        region.map_err(|error| error.to_string())
    }

    #[test]
    fn a_stream_is_read_in_the_region_of_its_client_or_of_its_arn() {
        let ok = |region: &str| Ok(Some(region.to_owned()));
        assert_eq!(region(&StreamConfig::new("orders")), ok("us-east-1"));
        assert_eq!(region(&StreamConfig::new(ARN)), ok("eu-west-1"));
        let own = StreamConfig::new("orders").aws(aws("eu-north-1"));
        assert_eq!(region(&own), ok("eu-north-1"));
        let other = region(&StreamConfig::new(ARN).aws(aws("eu-north-1"))).unwrap_err();
        assert!(other.contains("eu-west-1"), "{other}");
        let nowhere = StreamConfig::new("orders").aws(SdkConfig::builder().build());
        assert!(region(&nowhere).unwrap_err().contains("AWS_REGION"));
    }
}
