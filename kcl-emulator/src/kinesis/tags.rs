//! Tags and resource policies, of streams and of registered consumers.

use std::collections::BTreeMap;

use super::{
    api::{
        AddTagsToStreamInput, DeleteResourcePolicyInput, Empty, GetResourcePolicyInput,
        GetResourcePolicyOutput, ListTagsForResourceInput, ListTagsForResourceOutput,
        ListTagsForStreamInput, ListTagsForStreamOutput, PutResourcePolicyInput,
        RemoveTagsFromStreamInput, Tag, TagResourceInput, UntagResourceInput,
    },
    engine::Engine,
    error,
    validate::{self, Validation},
};
use crate::ApiError;

/// "A stream can have up to 50 tags" (API reference, `AddTagsToStream`).
const MOST_TAGS: usize = 50;

/// What streams and consumers have in common as resources.
#[derive(Debug, Clone, Default)]
pub(super) struct Attributes {
    tags: BTreeMap<String, String>,
    policy: Option<String>,
}

impl Attributes {
    fn tags(&self) -> impl Iterator<Item = Tag> {
        self.tags.iter().map(|(key, value)| Tag {
            key: key.clone(),
            value: value.clone(),
        })
    }
}

/// Adds tags to a resource that belongs to this stream.
pub(super) fn add(
    attributes: &mut Attributes,
    stream: &str,
    account: &str,
    tags: BTreeMap<String, String>,
) -> Result<(), ApiError> {
    if tags
        .iter()
        .any(|(key, value)| !is_tag_text(key) || !is_tag_text(value))
    {
        return Err(error::invalid_argument(
            "Some tags contain invalid characters. Valid characters: Unicode letters, digits, white space, _ . / = + \
             - % @.",
        ));
    }
    let added = tags
        .keys()
        .filter(|key| !attributes.tags.contains_key(*key))
        .count();
    if attributes.tags.len() + added > MOST_TAGS {
        return Err(error::invalid_argument(format!(
            "Failed to add tags to stream {stream} under account {account} because a given stream cannot have more \
             than {MOST_TAGS} tags associated with it."
        )));
    }
    attributes.tags.extend(tags);
    Ok(())
}

fn is_tag_text(text: &str) -> bool {
    text.chars().all(|character| {
        character.is_alphanumeric()
            || matches!(
                character,
                ' ' | '_' | '.' | '/' | '=' | '+' | '-' | '%' | '@' | ':'
            )
    })
}

impl Engine {
    /// What the resource with this ARN has; the ARN names a stream or a consumer.
    fn resource(&mut self, arn: &str) -> Result<(&mut Attributes, String), ApiError> {
        let parsed = self.owned(arn)?;
        if parsed.is_stream() {
            let stream = self.stream_named(parsed.stream)?;
            return Ok((&mut stream.attributes, stream.name.clone()));
        }
        let (stream, consumer) = self.consumer_by_arn(arn)?;
        let name = stream.name.clone();
        let consumer = stream.consumers.get_mut(&consumer.name);
        let consumer =
            consumer.ok_or_else(|| error::not_found(format!("Consumer {arn} not found.")))?;
        Ok((&mut consumer.attributes, name))
    }

    pub(super) fn add_tags_to_stream(
        &mut self,
        input: &AddTagsToStreamInput,
    ) -> Result<Empty, ApiError> {
        let mut check = Validation::default();
        check.present("tags", &input.tags);
        check.tags("tags", &input.tags);
        check.stream(&input.stream_name, &input.stream_arn);
        check.finish()?;

        let account = self.config.account.clone();
        let stream = self.stream(&input.stream_name, &input.stream_arn)?;
        let tags = input.tags.clone().unwrap_or_default();
        add(&mut stream.attributes, &stream.name, &account, tags)?;
        Ok(Empty {})
    }

    pub(super) fn remove_tags_from_stream(
        &mut self,
        input: &RemoveTagsFromStreamInput,
    ) -> Result<Empty, ApiError> {
        let mut check = Validation::default();
        check.list("tagKeys", &input.tag_keys, MOST_TAGS);
        check.stream(&input.stream_name, &input.stream_arn);
        check.finish()?;

        let stream = self.stream(&input.stream_name, &input.stream_arn)?;
        for key in input.tag_keys.iter().flatten() {
            stream.attributes.tags.remove(key);
        }
        Ok(Empty {})
    }

    pub(super) fn list_tags_for_stream(
        &mut self,
        input: &ListTagsForStreamInput,
    ) -> Result<ListTagsForStreamOutput, ApiError> {
        let mut check = Validation::default();
        let limit = check.page("limit", input.limit, 50, MOST_TAGS);
        let after = check.optional(
            "exclusiveStartTagKey",
            &input.exclusive_start_tag_key,
            validate::TAG_KEY,
        );
        check.stream(&input.stream_name, &input.stream_arn);
        check.finish()?;

        let stream = self.stream(&input.stream_name, &input.stream_arn)?;
        let all = stream.attributes.tags();
        let mut rest = all.filter(|tag| after.is_none_or(|after| tag.key.as_str() > after));
        let tags = rest.by_ref().take(limit).collect();
        Ok(ListTagsForStreamOutput {
            tags,
            has_more_tags: rest.next().is_some(),
        })
    }

    pub(super) fn tag_resource(&mut self, input: &TagResourceInput) -> Result<Empty, ApiError> {
        let mut check = Validation::default();
        check.present("tags", &input.tags);
        check.tags("tags", &input.tags);
        let arn = check.required("resourceARN", &input.resource_arn, validate::RESOURCE_ARN);
        check.finish()?;

        let account = self.config.account.clone();
        let (attributes, stream) = self.resource(arn)?;
        add(
            attributes,
            &stream,
            &account,
            input.tags.clone().unwrap_or_default(),
        )?;
        Ok(Empty {})
    }

    pub(super) fn untag_resource(&mut self, input: &UntagResourceInput) -> Result<Empty, ApiError> {
        let mut check = Validation::default();
        check.list("tagKeys", &input.tag_keys, MOST_TAGS);
        let arn = check.required("resourceARN", &input.resource_arn, validate::RESOURCE_ARN);
        check.finish()?;

        let (attributes, _) = self.resource(arn)?;
        for key in input.tag_keys.iter().flatten() {
            attributes.tags.remove(key);
        }
        Ok(Empty {})
    }

    pub(super) fn list_tags_for_resource(
        &mut self,
        input: &ListTagsForResourceInput,
    ) -> Result<ListTagsForResourceOutput, ApiError> {
        let mut check = Validation::default();
        let arn = check.required("resourceARN", &input.resource_arn, validate::RESOURCE_ARN);
        check.finish()?;

        let (attributes, _) = self.resource(arn)?;
        Ok(ListTagsForResourceOutput {
            tags: attributes.tags().collect(),
        })
    }

    pub(super) fn put_resource_policy(
        &mut self,
        input: &PutResourcePolicyInput,
    ) -> Result<Empty, ApiError> {
        let mut check = Validation::default();
        let arn = check.required("resourceARN", &input.resource_arn, validate::RESOURCE_ARN);
        let policy = check.required("policy", &input.policy, validate::POLICY);
        check.finish()?;

        let (attributes, _) = self.resource(arn)?;
        if serde_json::from_str::<serde_json::Map<_, serde_json::Value>>(policy).is_err() {
            return Err(error::invalid_argument("The policy is not a JSON object."));
        }
        attributes.policy = Some(policy.to_owned());
        Ok(Empty {})
    }

    pub(super) fn get_resource_policy(
        &mut self,
        input: &GetResourcePolicyInput,
    ) -> Result<GetResourcePolicyOutput, ApiError> {
        let mut check = Validation::default();
        let arn = check.required("resourceARN", &input.resource_arn, validate::RESOURCE_ARN);
        check.finish()?;

        let (attributes, _) = self.resource(arn)?;
        let policy = attributes.policy.clone();
        Ok(GetResourcePolicyOutput {
            policy: policy.unwrap_or_else(|| "{}".to_owned()),
        })
    }

    pub(super) fn delete_resource_policy(
        &mut self,
        input: &DeleteResourcePolicyInput,
    ) -> Result<Empty, ApiError> {
        let mut check = Validation::default();
        let arn = check.required("resourceARN", &input.resource_arn, validate::RESOURCE_ARN);
        check.finish()?;

        let (attributes, _) = self.resource(arn)?;
        let policy = attributes.policy.take();
        policy.ok_or_else(|| {
            error::not_found(format!("No resource policy found for resource ARN {arn}"))
        })?;
        Ok(Empty {})
    }
}
