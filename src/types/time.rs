//! Days and points in time, as channels write them (RFC 3339).
//!
//! Both are limited to the years 0001 to 9999. The only other year of RFC 3339 is 0000, which did
//! not exist and which many programs cannot read.

use std::ops::RangeInclusive;

use chrono::{DateTime, Datelike as _, NaiveDate, Utc};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::ids::Invalid;

const YEARS: RangeInclusive<i32> = 1..=9999;

/// A day in the years 0001 to 9999, as `YYYY-MM-DD`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(
    value_type = String,
    format = Date,
    pattern = "^([1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])-[0-9]{2}-[0-9]{2}$",
    example = "1815-12-10"
)]
pub struct Day(NaiveDate);

impl From<Day> for NaiveDate {
    fn from(day: Day) -> Self {
        day.0
    }
}

impl TryFrom<String> for Day {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        // The library also accepts signs, more or fewer digits, and spaces.
        let is_plain = text.len() == 10
            && text.bytes().zip(0..).all(|(byte, index)| match index {
                4 | 7 => byte == b'-',
                _ => byte.is_ascii_digit(),
            });
        text.parse()
            .ok()
            .filter(|date: &NaiveDate| is_plain && YEARS.contains(&date.year()))
            .map(Self)
            .ok_or(Invalid {
                expected: "a date in RFC 3339 format, of the years 0001 to 9999, such as 1815-12-10",
            })
    }
}

/// A point in time in the years 0001 to 9999, with any offset.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(
    value_type = String,
    format = DateTime,
    pattern = "^([1-9][0-9]{3}|0[1-9][0-9]{2}|00[1-9][0-9]|000[1-9])-",
    example = "2026-11-22T08:00:00Z"
)]
pub struct Moment(DateTime<Utc>);

impl From<Moment> for DateTime<Utc> {
    fn from(moment: Moment) -> Self {
        moment.0
    }
}

impl TryFrom<String> for Moment {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        DateTime::parse_from_rfc3339(&text)
            .ok()
            .filter(|time| YEARS.contains(&time.year()))
            .map(|time| Self(time.to_utc()))
            .ok_or(Invalid {
                expected: "a time in RFC 3339 format, of the years 0001 to 9999, such as 2026-11-22T08:00:00Z",
            })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn day(text: &str) -> Result<Day, Invalid> {
        text.to_owned().try_into()
    }

    fn moment(text: &str) -> Result<Moment, Invalid> {
        text.to_owned().try_into()
    }

    #[test]
    fn a_date_has_a_year_of_four_digits() {
        for good in ["0001-01-01", "1815-12-10", "2024-02-29", "9999-12-31"] {
            let read = serde_json::to_value(day(good).unwrap()).unwrap();
            assert_eq!(read, good);
        }
        for bad in [
            "",
            "0000-01-01",
            "-0001-01-01",
            "-001-01-01",
            "+0001-01-01",
            "+12345-01-01",
            "12345-01-01",
            "10000-1-01",
            "1815-12-1",
            "815-12-10",
            "1815-13-10",
            "2023-02-29",
            "1815-12-10 ",
            " 1815-12-1",
            "1815 12 10",
            "1815/12/10",
            "10.12.1815",
            "1815-12-10T00:00:00Z",
            "١٨١٥-١٢-١٠",
        ] {
            assert!(day(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_timestamp_has_a_year_of_four_digits() {
        for (good, read) in [
            ("0001-01-01T00:00:00Z", "0001-01-01T00:00:00Z"),
            ("2026-11-22t09:00:00.5+01:00", "2026-11-22T08:00:00.500Z"),
            ("9999-12-31T23:59:59Z", "9999-12-31T23:59:59Z"),
        ] {
            let read: DateTime<Utc> = read.parse().unwrap();
            assert_eq!(moment(good), Ok(Moment(read)), "{good}");
        }
        for bad in [
            "",
            "0000-12-31T23:59:59Z",
            "-0001-01-01T00:00:00Z",
            "+12345-01-01T00:00:00Z",
            "12345-01-01T00:00:00Z",
            "2026-11-22",
            "2026-11-22T08:00:00",
            "2026-11-22T08:00Z",
            "2026-11-22T24:00:00Z",
            "2026-02-30T08:00:00Z",
            "1795334400",
        ] {
            assert!(moment(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn every_accepted_date_is_displayed_as_it_was_written(text in "\\PC{0,12}|[+-]?[0-9]{1,5}-[0-9]{1,2}-[0-9]{1,2}") {
            if let Ok(day) = day(&text) {
                prop_assert_eq!(serde_json::to_value(day).unwrap(), text);
            }
        }
    }
}
