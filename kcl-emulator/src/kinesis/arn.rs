//! Names of resources.

/// The parts of a Kinesis ARN that matter here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arn<'a> {
    pub(super) region: &'a str,
    pub(super) account: &'a str,
    /// The stream's name.
    pub(super) stream: &'a str,
    /// What follows the stream's name and a slash.
    rest: Option<&'a str>,
}

impl<'a> Arn<'a> {
    /// Reads the ARN of a stream or of something in one.
    pub(super) fn parse(text: &'a str) -> Option<Self> {
        let mut parts = text.splitn(6, ':');
        let (prefix, partition, service) = (parts.next()?, parts.next()?, parts.next()?);
        let (region, account, resource) = (parts.next()?, parts.next()?, parts.next()?);
        let well_formed = prefix == "arn"
            && partition.starts_with("aws")
            && service == "kinesis"
            && account.len() == 12
            && account.bytes().all(|byte| byte.is_ascii_digit())
            && !resource.contains(char::is_whitespace);
        let path = resource.strip_prefix("stream/")?;
        let (stream, rest) = match path.split_once('/') {
            Some((stream, rest)) => (stream, Some(rest)),
            None => (path, None),
        };
        (well_formed && !stream.is_empty()).then_some(Self {
            region,
            account,
            stream,
            rest,
        })
    }

    /// A registered consumer's name and the seconds of its creation.
    pub(super) fn consumer(&self) -> Option<(&'a str, &'a str)> {
        let (name, created) = self.rest?.strip_prefix("consumer/")?.split_once(':')?;
        let numeric = !created.is_empty() && created.bytes().all(|byte| byte.is_ascii_digit());
        (is_name(name) && numeric).then_some((name, created))
    }

    /// Whether the ARN names a stream and nothing in it.
    pub(super) fn is_stream(&self) -> bool {
        self.rest.is_none()
    }
}

/// Whether a text has only the characters of names.
pub(super) fn is_name(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'-'))
}

/// A stream's ARN.
pub(super) fn of_stream(region: &str, account: &str, stream: &str) -> String {
    format!("arn:aws:kinesis:{region}:{account}:stream/{stream}")
}

/// The ARN of a consumer of the stream with the ARN `stream`, created at `seconds` since the epoch.
pub(super) fn of_consumer(stream: &str, consumer: &str, seconds: i64) -> String {
    format!("{stream}/consumer/{consumer}:{seconds}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn streams_and_consumers_are_told_apart() {
        let stream = of_stream("us-east-1", "000000000000", "orders");
        let consumer = of_consumer(&stream, "app", 17);
        let parsed = Arn::parse(&stream).unwrap();
        assert!(parsed.is_stream() && parsed.consumer().is_none());
        let parsed = Arn::parse(&consumer).unwrap();
        assert_eq!(
            (parsed.stream, parsed.consumer()),
            ("orders", Some(("app", "17")))
        );
        assert!(!parsed.is_stream());
    }

    #[test]
    fn other_texts_are_no_arns() {
        for text in [
            "orders",
            "arn:aws:kinesis:us-east-1:0:stream/orders",
            "arn:aws:s3:us-east-1:000000000000:stream/orders",
            "arn:aws:kinesis:us-east-1:000000000000:stream/",
            "arn:aws:kinesis:us-east-1:000000000000:stream/a b",
        ] {
            assert_eq!(Arn::parse(text), None, "{text}");
        }
    }
}
