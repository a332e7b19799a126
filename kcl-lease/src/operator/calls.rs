//! An operator's calls to the table: each is repeated a few times.

use std::future::Future;
use std::time::Duration;

use super::error::OperatorError;
use crate::item::Item;
use crate::retry::doubled;
use crate::table::{Consistency, LeaseTable, TableError};

const ATTEMPTS_MAX: u32 = 6;
const TIMEOUT: Duration = Duration::from_secs(3);
const FIRST_WAIT: Duration = Duration::from_millis(100);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
/// A table with more pages than this is read in part only.
const PAGES_MAX: usize = 10_000;

/// Makes a call until it is answered for good. Writes that are repeated must say the same whenever they are applied.
pub(super) async fn repeated<T, F>(call: impl Fn() -> F) -> Result<T, OperatorError>
where
    F: Future<Output = Result<T, TableError>>,
{
    let mut failures = 0;
    loop {
        let error = match tokio::time::timeout(TIMEOUT, call()).await {
            Ok(Ok(answer)) => return Ok(answer),
            Ok(Err(error)) if !error.is_retryable() => return Err(error.into()),
            Ok(Err(error)) => error.into(),
            Err(_) => OperatorError::NoAnswer,
        };
        failures += 1;
        if failures == ATTEMPTS_MAX {
            return Err(error);
        }
        tokio::time::sleep(doubled(FIRST_WAIT, LONGEST_WAIT, failures - 1)).await;
    }
}

/// Reads the whole table, strongly consistent.
pub(super) async fn scan(table: &dyn LeaseTable) -> Result<Vec<Item>, OperatorError> {
    let mut items = Vec::new();
    let mut page = None;
    for _ in 0..PAGES_MAX {
        let read = repeated(|| table.scan(Consistency::Strong, page.clone())).await?;
        items.extend(read.items);
        page = read.next;
        if page.is_none() {
            break;
        }
    }
    Ok(items)
}
