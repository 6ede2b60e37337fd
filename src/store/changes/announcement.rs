//! The representation of a conversation's announcement and times in its row.

use chrono::{DateTime, Utc};

use crate::store::Error;
use crate::types::conversation::Announced;

pub(super) const fn as_str(announced: Announced) -> &'static str {
    match announced {
        Announced::Opened => "opened",
        Announced::Closed => "closed",
    }
}

pub(super) fn announced(text: &str) -> Result<Announced, Error> {
    match text {
        "opened" => Ok(Announced::Opened),
        "closed" => Ok(Announced::Closed),
        _ => Err(Error::Unreadable {
            what: "announcement of a conversation",
        }),
    }
}

pub(super) fn time(ms: i64) -> Result<DateTime<Utc>, Error> {
    DateTime::from_timestamp_millis(ms).ok_or(Error::Unreadable {
        what: "conversation's time",
    })
}
