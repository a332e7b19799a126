//! awsJson 1.1.

use serde::Serialize;
use serde::de::DeserializeOwned;

use super::{internal, unreadable};
use crate::ApiError;

pub(crate) fn to_vec<T: Serialize>(value: &T) -> Result<Vec<u8>, ApiError> {
    serde_json::to_vec(value).map_err(|error| internal(&error))
}

pub(crate) fn from_slice<T: DeserializeOwned>(body: &[u8]) -> Result<T, ApiError> {
    serde_json::from_slice(object(body)?).map_err(|error| unreadable(&error))
}

/// The body of a request, which must be an object; an empty one counts as an empty object, as it does
/// for the services. (Of an array, serde would take the elements for the members in their order.)
pub(super) fn object(body: &[u8]) -> Result<&[u8], ApiError> {
    match body.trim_ascii_start() {
        [] => Ok(b"{}"),
        [b'{', ..] => Ok(body),
        _ => Err(unreadable(&"the body is not a JSON object")),
    }
}
