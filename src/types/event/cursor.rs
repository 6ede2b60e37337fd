//! Where a channel has come in its log of events.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::types::ids::Invalid;

/// A place in a channel's log, behind an event; to channels it is a word like any other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cursor(u64);

impl Cursor {
    /// The cursor behind the event at this position; 0: before the first one.
    #[must_use]
    pub const fn behind(position: u64) -> Self {
        Self(position)
    }

    /// The position of the event that it is behind.
    #[must_use]
    pub const fn position(self) -> u64 {
        self.0
    }
}

impl fmt::Display for Cursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "c{:x}", self.0)
    }
}

impl FromStr for Cursor {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let digits = text.strip_prefix('c');
        let position = digits.and_then(|digits| u64::from_str_radix(digits, 16).ok());
        // Read back, since a number can be written in several ways and a cursor cannot.
        position
            .map(Self)
            .filter(|cursor| cursor.to_string() == text)
            .ok_or(Invalid {
                expected: "a cursor as the bridge gave it",
            })
    }
}

impl TryFrom<String> for Cursor {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        text.parse()
    }
}

impl From<Cursor> for String {
    fn from(cursor: Cursor) -> Self {
        cursor.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn any_text_is_a_cursor_as_it_is_shown_or_none(text in "\\PC{0,20}|c[0-9a-fA-F+]{0,18}", position: u64) {
            if let Ok(cursor) = text.parse::<Cursor>() {
                prop_assert_eq!(cursor.to_string(), text);
            }
            let cursor = Cursor::behind(position);
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
    }

    #[test]
    fn a_cursor_is_read_back_as_it_was_shown_and_no_other_way() {
        for position in [0, 1, 10, 255, u64::MAX] {
            let cursor = Cursor::behind(position);
            assert_eq!(cursor.to_string().parse(), Ok(cursor));
            assert_eq!(cursor.position(), position);
        }
        for other in [
            "",
            "c",
            "0",
            "c01",
            "c+1",
            "cA",
            "C1",
            "c-1",
            " c1",
            "c1 ",
            "c10000000000000000",
        ] {
            assert!(other.parse::<Cursor>().is_err(), "{other:?}");
        }
    }
}
