//! Typed access to the members of the Cloud's JSON objects.
//!
//! A member that is missing, `null`, or of an unexpected form reads as `None`, and the caller
//! decides what to do. Reading never fails.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use crate::types::message::Metadata;

/// 10000-01-01 in milliseconds: the first time that RFC 3339 cannot represent.
const END_OF_TIME: i64 = 253_402_300_800_000;

/// The members of a JSON object.
#[derive(Clone, Copy)]
pub(super) struct Members<'a>(&'a Map<String, Value>);

impl<'a> From<&'a Map<String, Value>> for Members<'a> {
    fn from(members: &'a Map<String, Value>) -> Self {
        Self(members)
    }
}

impl<'a> Members<'a> {
    /// Reads a value; `None` if it is not an object.
    pub(super) fn of(value: &'a Value) -> Option<Self> {
        value.as_object().map(Self)
    }

    /// Iterates over the members that are not `null`, by name.
    pub(super) fn entries(self) -> impl Iterator<Item = (&'a str, &'a Value)> {
        let entries = self.0.iter().filter(|(_, value)| !value.is_null());
        entries.map(|(name, value)| (name.as_str(), value))
    }

    pub(super) fn value(self, name: &str) -> Option<&'a Value> {
        self.0.get(name).filter(|value| !value.is_null())
    }

    pub(super) fn object(self, name: &str) -> Option<Self> {
        Self::of(self.value(name)?)
    }

    /// Returns the items of a list. A single value without brackets is a list of one, as the
    /// vendor's protocol overview allows.
    pub(super) fn list(self, name: &str) -> &'a [Value] {
        match self.value(name) {
            None => &[],
            Some(Value::Array(items)) => items,
            Some(single) => std::slice::from_ref(single),
        }
    }

    /// Iterates over the objects in a list.
    pub(super) fn objects(self, name: &str) -> impl Iterator<Item = Self> {
        self.list(name).iter().filter_map(Self::of)
    }

    /// Returns a text that is not empty.
    pub(super) fn text(self, name: &str) -> Option<&'a str> {
        self.value(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// Returns a value of one of the Cloud's enumerations; `None` if it is too long to be one.
    pub(super) fn enum_value(self, name: &str) -> Option<&'a str> {
        self.text(name).filter(|value| is_graphic(value, 64))
    }

    /// Returns an id, which the Cloud writes as text or as a number.
    pub(super) fn id(self, name: &str) -> Option<String> {
        let id = match self.value(name)? {
            Value::String(text) => text.clone(),
            Value::Number(number) if !number.is_f64() => number.to_string(),
            _ => return None,
        };
        is_graphic(&id, 128).then_some(id)
    }

    /// Returns an integer, which may be in quotes.
    pub(super) fn integer(self, name: &str) -> Option<i64> {
        match self.value(name)? {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// Returns a time in milliseconds since the epoch.
    pub(super) fn time(self, name: &str) -> Option<DateTime<Utc>> {
        let ms = self.integer(name)?;
        (0 < ms && ms < END_OF_TIME)
            .then(|| DateTime::from_timestamp_millis(ms))
            .flatten()
    }

    /// Returns the metadata of an object. Of more than 16 items it returns the first 16, since more
    /// could not be sent back.
    pub(super) fn metadata(self, name: &str) -> Option<Metadata> {
        let objects = self.list(name).iter().filter_map(Value::as_object);
        Metadata::try_from(objects.take(16).cloned().collect::<Vec<_>>()).ok()
    }
}

/// True if a text has 1 to `limit` printable ASCII characters: safe to store, to compare and to
/// show.
pub(super) fn is_graphic(text: &str, limit: usize) -> bool {
    (1..=limit).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_id_is_text_or_a_whole_number() {
        for (value, id) in [
            (json!("a-1"), Some("a-1")),
            (json!(2_736_637_412_u64), Some("2736637412")),
            (json!(u64::MAX), Some("18446744073709551615")),
            (json!(-1), Some("-1")),
            (json!(""), None),
            (json!("a b"), None),
            (json!("a\u{0}"), None),
            (json!("x".repeat(129)), None),
            (json!(1.5), None),
            (json!(null), None),
            (json!(["a"]), None),
        ] {
            let object = json!({"id": value});
            let found = Members::of(&object).unwrap().id("id");
            assert_eq!(found.as_deref(), id, "{object}");
        }
    }

    #[test]
    fn only_times_that_can_be_formatted_are_read() {
        for (value, readable) in [
            (json!(1_700_000_000_000_i64), true),
            (json!("1700000000000"), true),
            (json!(END_OF_TIME - 1), true),
            (json!(END_OF_TIME), false),
            (json!(0), false),
            (json!(-1), false),
            (json!(u64::MAX), false),
            (json!("soon"), false),
            (json!(true), false),
        ] {
            let object = json!({"at": value});
            let found = Members::of(&object).unwrap().time("at");
            assert_eq!(found.is_some(), readable, "{object}");
        }
    }

    #[test]
    fn a_single_item_is_a_list_of_one() {
        let object = json!({"one": {"a": 1}, "two": [{"a": 1}, 2], "none": null});
        let members = Members::of(&object).unwrap();

        assert_eq!(members.list("one").len(), 1);
        assert_eq!(members.list("two").len(), 2);
        assert_eq!(members.objects("two").count(), 1);
        assert!(members.list("none").is_empty());
        assert!(members.list("other").is_empty());
    }
}
