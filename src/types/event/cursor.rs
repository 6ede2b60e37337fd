//! The cursor of a channel in its event log.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::types::ids::Invalid;

/// A position in a channel's event log, just behind an event. Channels treat it as an opaque text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cursor(u64);

impl Cursor {
    /// Creates the cursor behind the event at this position. Position 0 is before the first event.
    #[must_use]
    pub const fn behind(position: u64) -> Self {
        Self(position)
    }

    /// Returns the position of the event in front of the cursor.
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
        // Compared with its text, since a number has several spellings and a cursor has only one.
        position
            .map(Self)
            .filter(|cursor| cursor.to_string() == text)
            .ok_or(Invalid {
                expected: "a cursor that the bridge issued",
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
        fn every_accepted_cursor_is_displayed_as_it_was_written(text in "\\PC{0,20}|c[0-9a-fA-F+]{0,18}", position: u64) {
            if let Ok(cursor) = text.parse::<Cursor>() {
                prop_assert_eq!(cursor.to_string(), text);
            }
            let cursor = Cursor::behind(position);
            prop_assert_eq!(cursor.to_string().parse(), Ok(cursor));
        }
    }

    #[test]
    fn a_cursor_is_accepted_only_in_its_canonical_form() {
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
