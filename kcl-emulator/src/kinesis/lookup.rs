//! Finding what a request names: by name, by ARN, by the ARN of a consumer.

use super::{arn::Arn, consumer::Consumer, engine::Engine, error, stream::Stream};
use crate::ApiError;

impl Engine {
    /// The stream that a request names by name, by ARN or by both.
    pub(super) fn stream(
        &mut self,
        name: &Option<String>,
        arn: &Option<String>,
    ) -> Result<&mut Stream, ApiError> {
        let by_arn = arn.as_deref().map(|arn| self.owned(arn)).transpose()?;
        let by_arn = by_arn.as_ref().map(|arn| arn.stream);
        let name = match (name.as_deref(), by_arn) {
            (None, None) => {
                return Err(error::invalid_argument(
                    "Either StreamName or StreamARN should be provided.",
                ));
            }
            (Some(name), Some(by_arn)) if name != by_arn => {
                return Err(error::invalid_argument(format!(
                    "StreamName {name} does not match StreamARN {}.",
                    arn.as_deref().unwrap_or_default()
                )));
            }
            (Some(name), _) | (None, Some(name)) => name,
        };
        self.stream_named(name)
    }

    /// The stream of this name, with its trim horizon where it is now.
    pub(super) fn stream_named(&mut self, name: &str) -> Result<&mut Stream, ApiError> {
        let (now, account) = (self.now, &self.config.account);
        let stream = self
            .streams
            .get_mut(name)
            .ok_or_else(|| error::no_such_stream(name, account))?;
        stream.advance_horizon(now);
        Ok(stream)
    }

    /// Reads an ARN and refuses one of another account or region: there is no resource policy that would allow it.
    pub(super) fn owned<'a>(&self, text: &'a str) -> Result<Arn<'a>, ApiError> {
        let arn = Arn::parse(text)
            .ok_or_else(|| error::invalid_argument(format!("Invalid ARN {text}.")))?;
        let (account, region) = (&self.config.account, &self.config.region);
        if arn.account != account {
            let caller = &self.caller.0;
            return Err(ApiError::client(
                "AccessDeniedException",
                format!(
                    "User: arn:aws:iam::{account}:user/{caller} is not authorized to perform this operation on \
                     resource: {text} because no resource-based policy allows it"
                ),
            ));
        }
        if arn.region != region {
            return Err(error::no_such_stream(arn.stream, account));
        }
        Ok(arn)
    }

    /// The stream and the registered consumer that a consumer's ARN names.
    pub(super) fn consumer_by_arn(
        &mut self,
        text: &str,
    ) -> Result<(&mut Stream, Consumer), ApiError> {
        let arn = self.owned(text)?;
        let now = self.now;
        let missing = || error::not_found(format!("Consumer {text} not found."));
        let stream = self.stream_named(arn.stream)?;
        let (name, _) = arn.consumer().ok_or_else(missing)?;
        let consumer = stream
            .consumers
            .get(name)
            .filter(|consumer| consumer.exists(now));
        let consumer = consumer
            .filter(|consumer| consumer.arn == text)
            .ok_or_else(missing)?
            .clone();
        Ok((stream, consumer))
    }
}
