//! Continuous backups: on in every table, with point-in-time recovery where it is asked for.
//!
//! Nothing is backed up; the settings answer as the service's do.

use serde_json::{Value, json};

use super::errors;
use super::request::{Object, table_name, text};
use super::status::Tables;
use super::table::{Recovery, Table};
use crate::{ApiError, Timestamp};

const DEFAULT_DAYS: i64 = 35;
/// Changes of the last minutes cannot be restored yet.
const LAG_MILLISECONDS: i64 = 5 * 60 * 1000;
const DAY_MILLISECONDS: i64 = 24 * 60 * 60 * 1000;

pub(super) fn describe(
    now: Timestamp,
    tables: &mut Tables,
    request: &Object,
) -> Result<Value, ApiError> {
    Ok(description(now, table(now, tables, request)?))
}

pub(super) fn update(
    now: Timestamp,
    tables: &mut Tables,
    request: &Object,
) -> Result<Value, ApiError> {
    const SPECIFICATION: &str = "PointInTimeRecoverySpecification";
    let specification = request.get(SPECIFICATION).and_then(Value::as_object);
    let enabled = specification.and_then(|s| s.get("PointInTimeRecoveryEnabled")?.as_bool());
    let Some(enabled) = enabled else {
        return Err(errors::validation(
            "1 validation error detected: Value null at 'pointInTimeRecoverySpecification.\
             pointInTimeRecoveryEnabled' failed to satisfy constraint: Member must not be null",
        ));
    };
    let days = specification.and_then(|s| s.get("RecoveryPeriodInDays")?.as_i64());
    if days.is_some_and(|days| !(1..=DEFAULT_DAYS).contains(&days)) {
        return Err(errors::validation(
            "RecoveryPeriodInDays must be between 1 and 35",
        ));
    }
    let table = table(now, tables, request)?;
    let before = table.recovery;
    table.recovery = enabled.then(|| Recovery {
        since: before.map_or(now, |recovery| recovery.since),
        days: days
            .or(before.map(|recovery| recovery.days))
            .unwrap_or(DEFAULT_DAYS),
    });
    Ok(description(now, table))
}

fn table<'a>(
    now: Timestamp,
    tables: &'a mut Tables,
    request: &Object,
) -> Result<&'a mut Table, ApiError> {
    let name = table_name(text(request, "TableName").unwrap_or_default());
    if name.is_empty() {
        return Err(errors::validation(
            "1 validation error detected: Value null at 'tableName' failed to satisfy constraint: \
             Member must not be null",
        ));
    }
    let Some(table) = tables.get_mut(name) else {
        return Err(ApiError::client(
            "TableNotFoundException",
            format!("Table not found: {name}"),
        ));
    };
    if table.is_creating(now) {
        return Err(ApiError::client(
            "ContinuousBackupsUnavailableException",
            format!("Backups are being enabled for the table: {name}. Please retry later"),
        ));
    }
    Ok(table)
}

fn description(now: Timestamp, table: &Table) -> Value {
    let recovery = match table.recovery {
        None => json!({ "PointInTimeRecoveryStatus": "DISABLED" }),
        Some(Recovery { since, days }) => {
            let earliest = since.max(now.plus(-days * DAY_MILLISECONDS));
            let latest = earliest.max(now.plus(-LAG_MILLISECONDS));
            json!({
                "PointInTimeRecoveryStatus": "ENABLED",
                "RecoveryPeriodInDays": days,
                "EarliestRestorableDateTime": earliest.as_seconds(),
                "LatestRestorableDateTime": latest.as_seconds(),
            })
        }
    };
    json!({
        "ContinuousBackupsDescription": {
            "ContinuousBackupsStatus": "ENABLED",
            "PointInTimeRecoveryDescription": recovery,
        }
    })
}
