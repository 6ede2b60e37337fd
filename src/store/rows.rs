//! Parts of rows that several tables have: whose they are, who holds them, and how many go to the database at once.

use std::borrow::Borrow;

use chrono::{DateTime, TimeDelta, Utc};

use super::Error;
use crate::types::ids::UserKey;

/// The row of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct UserRef(pub(super) i64);

/// 15 s: how long a lease lasts. Longer than the work under it may take between two renewals, so that one is lost only by a
/// process that died or hangs; so long what it held stays locked.
pub const LEASE: TimeDelta = TimeDelta::seconds(15);

/// The right to work for a user, until a moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lease {
    /// Unique to the holder.
    pub id: String,
    /// From then on anybody may take the lane over.
    pub until: DateTime<Utc>,
}

/// The key of a user from the columns of its row.
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

/// Rows as `json_each` takes them apart, in their order: an object whose members are named by their place.
pub(super) fn batch<Row: Borrow<serde_json::Value>>(rows: impl Iterator<Item = Row>) -> String {
    let members: Vec<_> = rows
        .enumerate()
        .map(|(place, row)| format!("\"{place}\":{}", row.borrow()))
        .collect();
    format!("{{{}}}", members.join(","))
}
