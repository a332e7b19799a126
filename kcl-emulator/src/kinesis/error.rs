//! The service's errors, word by word where its words are known.

use super::{shard, stream::Status};
use crate::{ApiError, Timestamp};

pub(super) fn invalid_argument(message: impl Into<String>) -> ApiError {
    ApiError::client("InvalidArgumentException", message)
}

pub(super) fn in_use(message: impl Into<String>) -> ApiError {
    ApiError::client("ResourceInUseException", message)
}

pub(super) fn not_found(message: impl Into<String>) -> ApiError {
    ApiError::client("ResourceNotFoundException", message)
}

pub(super) fn limit_exceeded(message: impl Into<String>) -> ApiError {
    ApiError::client("LimitExceededException", message)
}

pub(super) fn validation(message: impl Into<String>) -> ApiError {
    ApiError::client("ValidationException", message)
}

pub(super) fn no_such_stream(stream: &str, account: &str) -> ApiError {
    not_found(format!(
        "Stream {stream} under account {account} not found."
    ))
}

pub(super) fn no_such_shard(shard: &str, stream: &str, account: &str) -> ApiError {
    not_found(format!(
        "Could not find shard {shard} in stream {stream} under account {account}."
    ))
}

pub(super) fn not_active(stream: &str, account: &str, status: Status) -> ApiError {
    let status = status.name();
    in_use(format!(
        "Stream {stream} under account {account} not ACTIVE, instead in state {status}"
    ))
}

/// The code that a throttled record and a throttled call share.
pub(super) const THROTTLED: &str = "ProvisionedThroughputExceededException";

pub(super) fn rate_exceeded(shard: u32, stream: &str, account: &str) -> String {
    let shard = shard::id(shard);
    format!("Rate exceeded for shard {shard} in stream {stream} under account {account}.")
}

pub(super) fn shard_limit(
    account: &str,
    region: &str,
    current: usize,
    limit: usize,
    more: usize,
) -> ApiError {
    limit_exceeded(format!(
        "This request would exceed the shard limit for the account {account} in {region}. Current shard count for \
         the account: {current}. Limit: {limit}. Number of additional shards that would have resulted from this \
         request: {more}. Refer to the AWS Service Limits page \
         (http://docs.aws.amazon.com/general/latest/gr/aws_service_limits.html) for current limits and how to \
         request higher limits."
    ))
}

pub(super) fn expired_iterator(issued: Timestamp, now: Timestamp, lifetime: i64) -> ApiError {
    let (issued, now) = (utc(issued), utc(now));
    let message = format!(
        "Iterator expired. The iterator was created at time {issued} while right now it is {now} which is further \
         in the future than the tolerated delay of {lifetime} milliseconds."
    );
    ApiError::client("ExpiredIteratorException", message)
}

/// A moment as the service writes it in messages, for example `Sat Nov 21 11:44:29 UTC 2026`.
fn utc(moment: Timestamp) -> String {
    const DAYS: [&str; 7] = ["Thu", "Fri", "Sat", "Sun", "Mon", "Tue", "Wed"];
    const MONTHS: [&str; 12] = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ];
    let seconds = moment.0.div_euclid(1000);
    let (days, second) = (seconds.div_euclid(86_400), seconds.rem_euclid(86_400));
    let (year, month, day) = date(days);
    let weekday = usize::try_from(days.rem_euclid(7)).unwrap_or_default();
    let weekday = DAYS.get(weekday).copied().unwrap_or_default();
    let month = MONTHS.get(month).copied().unwrap_or_default();
    let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
    format!("{weekday} {month} {day:02} {hour:02}:{minute:02}:{second:02} UTC {year}")
}

/// Year, month (from 0) and day of a number of days since 1970: years are counted from March, so that leap days come last.
fn date(days: i64) -> (i64, usize, i64) {
    let days = days + 719_468;
    let (era, day) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let day = day - (153 * month + 2) / 5 + 1;
    let month = (month + 2) % 12;
    let year = era * 400 + year + i64::from(month < 2);
    (year, usize::try_from(month).unwrap_or_default(), day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn moments_read_as_the_service_writes_them() {
        assert_eq!(
            utc(Timestamp(1_795_261_469_000)),
            "Sat Nov 21 11:44:29 UTC 2026"
        );
        assert_eq!(
            utc(Timestamp(1_709_164_800_000)),
            "Thu Feb 29 00:00:00 UTC 2024"
        );
        assert_eq!(utc(Timestamp(0)), "Thu Jan 01 00:00:00 UTC 1970");
    }
}
