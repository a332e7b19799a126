//! `--initial-position` as text.

use std::time::{Duration, SystemTime};

use kcl_core::InitialPosition;

pub(crate) fn parse_initial_position(text: &str) -> Result<InitialPosition, String> {
    match text {
        "trim-horizon" => Ok(InitialPosition::TrimHorizon),
        "latest" => Ok(InitialPosition::Latest),
        time => parse_time(time).map(InitialPosition::AtTimestamp).ok_or_else(|| {
            "use trim-horizon, latest, or a time such as 2026-01-31T12:00:00Z or 2026-01-31T13:00:00+01:00"
                .to_owned()
        }),
    }
}

/// RFC 3339, in UTC or with an offset.
fn parse_time(text: &str) -> Option<SystemTime> {
    if let Ok(time) = humantime::parse_rfc3339(text) {
        return Some(time);
    }
    let (local, offset) = text.split_at_checked(text.len().checked_sub(6)?)?;
    let time = humantime::parse_rfc3339(&format!("{local}Z")).ok()?;
    let (sign, clock) = offset.split_at_checked(1)?;
    let (hours, minutes) = clock.split_once(':')?;
    let distance = Duration::from_secs(number(hours, 23)? * 3600 + number(minutes, 59)? * 60);
    match sign {
        "+" => time.checked_sub(distance),
        "-" => time.checked_add(distance),
        _ => None,
    }
}

fn number(text: &str, most: u64) -> Option<u64> {
    let digits = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|number| digits && *number <= most)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Option<u64> {
        let since = parse_time(text)?
            .duration_since(SystemTime::UNIX_EPOCH)
            .ok()?;
        Some(since.as_secs())
    }

    #[test]
    fn times_are_read_with_and_without_an_offset() {
        assert_eq!(at("1970-01-01T01:00:00Z"), Some(3600));
        assert_eq!(at("1970-01-01T01:00:00+01:00"), Some(0));
        assert_eq!(at("1970-01-01T01:00:00.25-01:30"), Some(9000));
    }

    #[test]
    fn everything_else_is_refused_with_what_to_use() {
        for bad in [
            "",
            "now",
            "2026-01-31",
            "1970-01-01T01:00:00+1:00",
            "1970-01-01T01:00:00+99:00",
            "é+01:00",
        ] {
            assert!(
                parse_initial_position(bad)
                    .unwrap_err()
                    .contains("trim-horizon"),
                "{bad}"
            );
        }
        assert_eq!(
            parse_initial_position("latest"),
            Ok(InitialPosition::Latest)
        );
    }
}
