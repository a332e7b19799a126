//! An answer on its way out, with the rows of a large read as text.

use serde_json::Value;

use super::errors;
use crate::ApiError;

/// The answer to a call. A scan may carry thousands of rows: as values they cost more than their reading
/// did, so they are already JSON unless somebody has to look into them.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) members: Value,
    /// The member `Items` as JSON, kept apart.
    items: Option<String>,
}

impl From<Value> for Answer {
    fn from(members: Value) -> Self {
        let items = None;
        Self { members, items }
    }
}

impl Answer {
    pub(super) fn with_items(members: Value, items: String) -> Self {
        let items = Some(items);
        Self { members, items }
    }

    /// The answer as JSON.
    pub(super) fn into_bytes(self) -> Result<Vec<u8>, ApiError> {
        let members = serde_json::to_string(&self.members)
            .map_err(|error| errors::internal(error.to_string()))?;
        let Some(items) = self.items else {
            return Ok(members.into_bytes());
        };
        // There is always another member: the count.
        let rest = members.strip_prefix('{').unwrap_or_default();
        Ok(format!("{{\"Items\":{items},{rest}").into_bytes())
    }
}
