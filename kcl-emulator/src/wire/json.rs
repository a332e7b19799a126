//! awsJson 1.1.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{internal, unreadable};
use crate::ApiError;

pub(crate) fn to_vec<T: Serialize>(value: &T) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(value).map_err(|error| internal(&error))
}

/// Decodes a body; an empty body counts as an empty object, as it does for the services.
pub(crate) fn from_slice<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(or_empty_object(body)).map_err(|error| unreadable(&error))
}

pub(crate) fn or_empty_object(body: &[u8]) -> &[u8] {
    if body.is_empty() { b"{}" } else { body }
}
