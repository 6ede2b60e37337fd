//! The parts that rows of several tables share: the user's row and key, the lease, and the JSON
//! form of a batch.

use std::borrow::Borrow;

use chrono::{DateTime, TimeDelta, Utc};

use super::Error;
use crate::types::ids::UserKey;

/// A reference to the row of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UserRef(pub(super) i64);

/// 15 s: the duration of a lease.
///
/// It is longer than the work between two renewals may take, so only a process that died or hangs
/// loses its lease. Work stays locked for that long after a crash.
pub const LEASE: TimeDelta = TimeDelta::seconds(15);

/// A lease on a user's lane.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Unique to the holder.
    pub id: String,
    /// The time from which another holder may claim the lane.
    pub until: DateTime<Utc>,
}

/// Builds a user's key from the columns of the user's row.
pub(super) fn key(
    account_id: String,
    namespace: String,
    user_id: String,
) -> Result<UserKey, Error> {
    let unreadable = |_| Error::Unreadable { what: "user's key" };
    Ok(UserKey {
        account_id: account_id.try_into().map_err(unreadable)?,
        namespace: namespace.try_into().map_err(unreadable)?,
        user_id: user_id.try_into().map_err(unreadable)?,
    })
}

/// Encodes rows for `json_each`, in their order: a JSON object with the index of each row as its
/// member name.
pub(super) fn batch<Row: Borrow<serde_json::Value>>(rows: impl Iterator<Item = Row>) -> String {
    let members: Vec<_> = rows
        .enumerate()
        .map(|(index, row)| format!("\"{index}\":{}", row.borrow()))
        .collect();
    format!("{{{}}}", members.join(","))
}

/// Collects one value of each row of a batch, as an array for `unnest`.
pub(super) fn column<'a, Row, T>(rows: &[&'a Row], value: impl Fn(&'a Row) -> T) -> Vec<T> {
    rows.iter().copied().map(value).collect()
}

/// Converts the stored time of an event.
pub(super) fn time(ms: i64) -> Result<DateTime<Utc>, Error> {
    DateTime::from_timestamp_millis(ms).ok_or(Error::Unreadable {
        what: "time of an event",
    })
}
