//! Rules: which requests a fault befalls, and scripts of rules.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::Fault;
use super::draw;
use super::fault::duration_text;
use super::policy::FaultCall;
use crate::Service;

/// A fault and the requests that it befalls. Every condition that is set must hold.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rule {
    /// The name of the rule: draws are keyed by it, and it can be removed by it. Rules without a
    /// name are keyed by their content.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Only requests of this caller; a trailing `*` stands for any ending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub caller: Option<String>,
    /// Only requests to this service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<Service>,
    /// Only this operation; a trailing `*` stands for any ending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// Only requests that name this stream, shard, table or lease key; a trailing `*` stands for any
    /// ending.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// Only the n-th request that the conditions above select, counted from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nth: Option<u64>,
    /// Only the first so many requests that the conditions above select.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<u64>,
    /// Only this share of the requests, drawn for each by the seed; 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub probability: Option<f64>,
    /// Only from this time on, counted from the emulator's start.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "optional_duration"
    )]
    pub from: Option<Duration>,
    /// Only before this time, counted from the emulator's start.
    #[serde(
        default,
        skip_serializing_if = "Option::is_none",
        with = "optional_duration"
    )]
    pub until: Option<Duration>,
    /// What happens.
    pub fault: Fault,
}

impl Rule {
    /// A rule that befalls every request.
    #[must_use]
    pub fn new(fault: Fault) -> Self {
        Self {
            name: None,
            caller: None,
            service: None,
            operation: None,
            resource: None,
            nth: None,
            first: None,
            probability: None,
            from: None,
            until: None,
            fault,
        }
    }

    /// Names the rule.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Only requests of this caller.
    #[must_use]
    pub fn caller(mut self, caller: impl Into<String>) -> Self {
        self.caller = Some(caller.into());
        self
    }

    /// Only requests to this service.
    #[must_use]
    pub fn service(mut self, service: Service) -> Self {
        self.service = Some(service);
        self
    }

    /// Only this operation.
    #[must_use]
    pub fn operation(mut self, operation: impl Into<String>) -> Self {
        self.operation = Some(operation.into());
        self
    }

    /// Only requests that name this stream, shard, table or lease key.
    #[must_use]
    pub fn resource(mut self, resource: impl Into<String>) -> Self {
        self.resource = Some(resource.into());
        self
    }

    /// Only the n-th selected request, counted from 1.
    #[must_use]
    pub fn nth(mut self, nth: u64) -> Self {
        self.nth = Some(nth);
        self
    }

    /// Only the first so many selected requests.
    #[must_use]
    pub fn first(mut self, count: u64) -> Self {
        self.first = Some(count);
        self
    }

    /// Only this share of the requests, 0 to 1.
    #[must_use]
    pub fn probability(mut self, share: f64) -> Self {
        self.probability = Some(share);
        self
    }

    /// Only while the emulator has been running for at least `from` and less than `until`.
    #[must_use]
    pub fn between(mut self, from: Duration, until: Duration) -> Self {
        self.from = Some(from);
        self.until = Some(until);
        self
    }

    /// Whether the rule's time has come and is not over.
    pub(super) fn is_due(&self, running: Duration) -> bool {
        self.from.is_none_or(|from| running >= from)
            && self.until.is_none_or(|until| running < until)
    }

    /// Whether the rule speaks of this request, its count, chance and time aside.
    pub(super) fn selects(&self, call: &FaultCall<'_>) -> bool {
        matches(self.caller.as_deref(), &call.caller.0)
            && self.service.is_none_or(|service| service == call.service)
            && self.selects_operation(call)
            && self.selects_resource(call)
            && (self.fault != Fault::ExpiredIterator || call.operation == "GetRecords")
    }

    /// IAM knows no transaction: it checks the writes inside by their own actions.
    fn selects_operation(&self, call: &FaultCall<'_>) -> bool {
        let inside = self.fault == Fault::Deny && !call.actions.is_empty();
        if inside {
            let mut actions = call.actions.iter();
            actions.any(|action| matches(self.operation.as_deref(), action))
        } else {
            matches(self.operation.as_deref(), call.operation)
        }
    }

    fn selects_resource(&self, call: &FaultCall<'_>) -> bool {
        let mut resources = call.resources.iter();
        self.resource.is_none()
            || resources.any(|resource| matches(self.resource.as_deref(), resource))
    }

    /// What the rule's draws are keyed by.
    pub(super) fn key(&self) -> u64 {
        match &self.name {
            Some(name) => draw::key([name.as_str()]),
            None => draw::key([serde_json::to_string(self).unwrap_or_default().as_str()]),
        }
    }

    fn check(&self) -> Result<(), ScriptError> {
        match self.probability {
            Some(share) if !(0.0..=1.0).contains(&share) => Err(ScriptError::Probability(share)),
            _ => Ok(()),
        }
    }
}

fn matches(pattern: Option<&str>, text: &str) -> bool {
    match pattern {
        None => true,
        Some(pattern) => match pattern.strip_suffix('*') {
            Some(start) => text.starts_with(start),
            None => text == pattern,
        },
    }
}

/// A list of rules, as a file of `--faults` holds it: `{"rules": [{"operation": "UpdateItem",
/// "nth": 1, "fault": {"action": "emulator:lose-answer"}}]}`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultScript {
    /// The rules. Of several that select a request, delays add up; of the rest the first one counts.
    pub rules: Vec<Rule>,
}

impl FaultScript {
    /// Reads a script from JSON.
    ///
    /// # Errors
    ///
    /// [`ScriptError`] says what is wrong with it.
    pub fn from_json(json: &str) -> Result<Self, ScriptError> {
        let script: Self = serde_json::from_str(json)?;
        script.rules.iter().try_for_each(Rule::check)?;
        Ok(script)
    }
}

/// Why a script of faults cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ScriptError {
    /// It is not JSON of the expected form.
    #[error("cannot read the fault script: {0}")]
    Json(#[from] serde_json::Error),
    /// A probability lies outside 0 to 1.
    #[error("the fault script has a probability of {0}; use a number from 0 to 1")]
    Probability(f64),
}

mod optional_duration {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    use super::duration_text;

    pub(crate) fn serialize<S: Serializer>(
        duration: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        match duration {
            Some(duration) => duration_text::serialize(duration, serializer),
            None => serializer.serialize_none(),
        }
    }

    pub(crate) fn deserialize<'de, D: Deserializer<'de>>(
        deserializer: D,
    ) -> Result<Option<Duration>, D::Error> {
        #[derive(Deserialize)]
        struct Text(#[serde(with = "duration_text")] Duration);
        Ok(Option::<Text>::deserialize(deserializer)?.map(|text| text.0))
    }
}
