//! Constraints on members, answered as the service does: all violations of a request in one `ValidationException`.
//!
//! An operation declares its constraints on a [`Validation`], takes the values that it needs from it and ends with
//! [`Validation::finish`]. A value taken from a member that violates its constraint is a default that is never used.

use std::{collections::BTreeMap, fmt::Display};

use super::arn;
use crate::ApiError;

/// A pattern of the API model.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pattern {
    Any,
    Name,
    SequenceNumber,
    HashKey,
    StreamArn,
    ConsumerArn,
    ResourceArn,
}

impl Pattern {
    fn text(self) -> &'static str {
        match self {
            Self::Any => ".*",
            Self::Name => "[a-zA-Z0-9_.-]+",
            Self::SequenceNumber => r"0|([1-9]\d{0,128})",
            Self::HashKey => r"0|([1-9]\d{0,38})",
            Self::StreamArn => r"arn:aws.*:kinesis:.*:\d{12}:stream/\S+",
            Self::ConsumerArn => {
                r"^(arn):aws.*:kinesis:.*:\d{12}:.*stream\/[a-zA-Z0-9_.-]+\/consumer\/[a-zA-Z0-9_.-]+:[0-9]+"
            }
            Self::ResourceArn => r"arn:aws.*:kinesis:.*:\d{12}:.*stream/\S+",
        }
    }

    fn matches(self, text: &str) -> bool {
        match self {
            Self::Any => true,
            Self::Name => arn::is_name(text),
            Self::SequenceNumber => is_decimal(text, 129),
            Self::HashKey => is_decimal(text, 39),
            Self::StreamArn | Self::ResourceArn => arn::Arn::parse(text).is_some(),
            Self::ConsumerArn => arn::Arn::parse(text).is_some_and(|arn| arn.consumer().is_some()),
        }
    }
}

/// A decimal number without leading zeros, of at most `digits` digits.
pub(super) fn is_decimal(text: &str, digits: usize) -> bool {
    let canonical = text == "0" || !text.starts_with('0');
    canonical
        && (1..=digits).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_digit())
}

/// The constraints on a text: its pattern and its least and greatest length in characters.
#[derive(Debug, Clone, Copy)]
pub(super) struct Text(Pattern, usize, usize);

pub(super) const STREAM_NAME: Text = Text(Pattern::Name, 1, 128);
pub(super) const CONSUMER_NAME: Text = Text(Pattern::Name, 1, 128);
pub(super) const SHARD_ID: Text = Text(Pattern::Name, 1, 128);
pub(super) const STREAM_ARN: Text = Text(Pattern::StreamArn, 1, 2048);
pub(super) const CONSUMER_ARN: Text = Text(Pattern::ConsumerArn, 1, 2048);
pub(super) const RESOURCE_ARN: Text = Text(Pattern::ResourceArn, 1, 2048);
pub(super) const SEQUENCE_NUMBER: Text = Text(Pattern::SequenceNumber, 0, usize::MAX);
pub(super) const HASH_KEY: Text = Text(Pattern::HashKey, 0, usize::MAX);
pub(super) const PARTITION_KEY: Text = Text(Pattern::Any, 1, 256);
pub(super) const SHARD_ITERATOR: Text = Text(Pattern::Any, 1, 512);
pub(super) const NEXT_TOKEN: Text = Text(Pattern::Any, 1, 1_048_576);
pub(super) const KEY_ID: Text = Text(Pattern::Any, 1, 2048);
pub(super) const TAG_KEY: Text = Text(Pattern::Any, 1, 128);
pub(super) const POLICY: Text = Text(Pattern::Any, 0, usize::MAX);

/// A type whose values have names in the API; the default stands in where a request is refused anyway.
pub(super) trait Named: Copy + Default + PartialEq + 'static {
    /// Every value under its name, in the order in which the service lists them.
    const ALL: &'static [(&'static str, Self)];

    /// The name of this value.
    fn name(self) -> &'static str {
        let named = Self::ALL.iter().find(|(_, value)| *value == self);
        named.map_or("", |(name, _)| name)
    }

    /// The value of a name.
    fn from_name(name: &str) -> Option<Self> {
        let named = Self::ALL.iter().find(|(known, _)| *known == name);
        named.map(|(_, value)| *value)
    }
}

/// Collects what is wrong with one request.
#[derive(Debug, Default)]
pub(super) struct Validation {
    violations: Vec<String>,
}

impl Validation {
    fn violated(&mut self, value: impl Display, member: &str, constraint: impl Display) {
        self.violations.push(format!(
            "Value {value} at '{member}' failed to satisfy constraint: {constraint}"
        ));
    }

    /// Notes that a required member is missing.
    fn missing(&mut self, member: &str) {
        self.violated("null", member, "Member must not be null");
    }

    /// Requires a member of any type to be there.
    pub(super) fn present<T>(&mut self, member: &str, value: &Option<T>) {
        if value.is_none() {
            self.missing(member);
        }
    }

    /// Checks a text that may be missing.
    pub(super) fn optional<'a>(
        &mut self,
        member: &str,
        value: &'a Option<String>,
        Text(pattern, shortest, longest): Text,
    ) -> Option<&'a str> {
        let text = value.as_deref()?;
        let quoted = format!("'{text}'");
        if !pattern.matches(text) {
            let pattern = pattern.text();
            self.violated(
                &quoted,
                member,
                format_args!("Member must satisfy regular expression pattern: {pattern}"),
            );
        }
        self.length(&quoted, member, text.chars().count(), shortest, longest);
        Some(text)
    }

    /// Checks a text that must be there.
    pub(super) fn required<'a>(
        &mut self,
        member: &str,
        value: &'a Option<String>,
        rule: Text,
    ) -> &'a str {
        self.present(member, value);
        self.optional(member, value, rule).unwrap_or_default()
    }

    /// Checks the number of characters, bytes or elements of a value that is shown as `shown`.
    pub(super) fn length(
        &mut self,
        shown: impl Display,
        member: &str,
        length: usize,
        shortest: usize,
        longest: usize,
    ) {
        if length < shortest {
            self.violated(
                shown,
                member,
                format_args!("Member must have length greater than or equal to {shortest}"),
            );
        } else if length > longest {
            self.violated(
                shown,
                member,
                format_args!("Member must have length less than or equal to {longest}"),
            );
        }
    }

    /// Checks a number that may be missing.
    pub(super) fn number(
        &mut self,
        member: &str,
        value: Option<i64>,
        least: i64,
        greatest: i64,
    ) -> Option<i64> {
        let number = value?;
        if number < least {
            let constraint = format!("Member must have value greater than or equal to {least}");
            self.violated(format_args!("'{number}'"), member, constraint);
        } else if number > greatest {
            let constraint = format!("Member must have value less than or equal to {greatest}");
            self.violated(format_args!("'{number}'"), member, constraint);
        }
        Some(number)
    }

    /// Checks a number that must be there.
    pub(super) fn required_number(
        &mut self,
        member: &str,
        value: Option<i64>,
        least: i64,
        greatest: i64,
    ) -> i64 {
        self.present(member, &value);
        self.number(member, value, least, greatest)
            .unwrap_or_default()
    }

    /// Checks the size of a page, which has a default.
    pub(super) fn page(
        &mut self,
        member: &str,
        value: Option<i64>,
        greatest: i64,
        default: usize,
    ) -> usize {
        let size = self.number(member, value, 1, greatest);
        size.and_then(|size| usize::try_from(size).ok())
            .unwrap_or(default)
    }

    /// Checks the name of a value that may be missing.
    pub(super) fn choice<T: Named>(&mut self, member: &str, value: &Option<String>) -> Option<T> {
        let name = value.as_deref()?;
        let known = T::from_name(name);
        if known.is_none() {
            let names: Vec<_> = T::ALL.iter().map(|(name, _)| *name).collect();
            let constraint = format!("Member must satisfy enum value set: [{}]", names.join(", "));
            self.violated(format_args!("'{name}'"), member, constraint);
        }
        known
    }

    /// Checks the name of a value that must be there.
    pub(super) fn required_choice<T: Named>(&mut self, member: &str, value: &Option<String>) -> T {
        self.present(member, value);
        self.choice(member, value).unwrap_or_default()
    }

    /// Checks a map of tags.
    pub(super) fn tags(&mut self, member: &str, tags: &Option<BTreeMap<String, String>>) {
        let Some(tags) = tags else { return };
        let pairs: Vec<_> = tags
            .iter()
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let shown = format!("'{{{}}}'", pairs.join(", "));
        self.length(&shown, member, tags.len(), 1, 200);
        if tags
            .keys()
            .any(|key| !(1..=128).contains(&key.chars().count()))
        {
            let constraint = "Map keys must satisfy constraint: [Member must have length less than or equal to 128, \
                              Member must have length greater than or equal to 1]";
            self.violated(&shown, member, constraint);
        }
        if tags.values().any(|value| value.chars().count() > 256) {
            let constraint = "Map value must satisfy constraint: [Member must have length less than or equal to 256, \
                              Member must have length greater than or equal to 0]";
            self.violated(&shown, member, constraint);
        }
    }

    /// Checks a list of texts that must be there.
    pub(super) fn list(&mut self, member: &str, list: &Option<Vec<String>>, longest: usize) {
        self.present(member, list);
        if let Some(list) = list {
            let shown = format!("'[{}]'", list.join(", "));
            self.length(shown, member, list.len(), 1, longest);
        }
    }

    /// Checks a stream's name and ARN, of which the service wants at least one.
    pub(super) fn stream(&mut self, name: &Option<String>, arn: &Option<String>) {
        self.optional("streamName", name, STREAM_NAME);
        self.optional("streamARN", arn, STREAM_ARN);
    }

    /// Refuses the request if anything was wrong with it.
    pub(super) fn finish(self) -> Result<(), ApiError> {
        let message = match self.violations.as_slice() {
            [] => return Ok(()),
            [one] => format!("1 validation error detected: {one}"),
            many => format!(
                "{} validation errors detected: {}",
                many.len(),
                many.join("; ")
            ),
        };
        Err(ApiError::client("ValidationException", message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_violations_are_told_at_once() {
        let mut check = Validation::default();
        check.required("streamName", &Some("a b".to_owned()), STREAM_NAME);
        check.required("shardId", &None, SHARD_ID);
        check.number("limit", Some(0), 1, 10_000);
        let error = check.finish().unwrap_err();
        assert_eq!(error.code, "ValidationException");
        assert_eq!(
            error.message,
            "3 validation errors detected: Value 'a b' at 'streamName' failed to satisfy constraint: Member must \
             satisfy regular expression pattern: [a-zA-Z0-9_.-]+; Value null at 'shardId' failed to satisfy \
             constraint: Member must not be null; Value '0' at 'limit' failed to satisfy constraint: Member must \
             have value greater than or equal to 1"
        );
    }

    #[test]
    fn decimal_patterns_refuse_leading_zeros_and_length() {
        assert!(Pattern::HashKey.matches("0") && Pattern::HashKey.matches(&"9".repeat(39)));
        for text in ["", "00", "01", "-1", "a", &"9".repeat(40)] {
            assert!(!Pattern::HashKey.matches(text), "{text}");
        }
    }
}
