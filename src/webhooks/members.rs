//! Members of the Cloud's objects, each read for what it is wanted as.
//!
//! A member that is missing, `null`, or of a form that it cannot be read as is none: what depends on it decides what
//! that means, and nothing fails.

use chrono::{DateTime, Utc};
use serde_json::{Map, Value};

use crate::types::message::Metadata;

/// 10000-01-01: from then on RFC 3339 has no way to write a time.
const END_OF_TIME: i64 = 253_402_300_800_000;

/// An object whose members are read.
#[derive(Clone, Copy)]
pub(super) struct Members<'a>(&'a Map<String, Value>);

impl<'a> From<&'a Map<String, Value>> for Members<'a> {
    fn from(members: &'a Map<String, Value>) -> Self {
        Self(members)
    }
}

impl<'a> Members<'a> {
    /// `None` where the value is no object.
    pub(super) fn of(value: &'a Value) -> Option<Self> {
        value.as_object().map(Self)
    }

    /// The members that are not `null`, by name.
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

    /// The items of a list. One that stands there without its brackets is a list of one, as the vendor's protocol
    /// overview allows.
    pub(super) fn list(self, name: &str) -> &'a [Value] {
        match self.value(name) {
            None => &[],
            Some(Value::Array(items)) => items,
            Some(single) => std::slice::from_ref(single),
        }
    }

    /// The objects of a list.
    pub(super) fn objects(self, name: &str) -> impl Iterator<Item = Self> {
        self.list(name).iter().filter_map(Self::of)
    }

    /// A text that is not empty.
    pub(super) fn text(self, name: &str) -> Option<&'a str> {
        self.value(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// The word that the Cloud uses for one of several cases; longer than any such word, it is none.
    pub(super) fn word(self, name: &str) -> Option<&'a str> {
        self.text(name).filter(|word| is_graphic(word, 64))
    }

    /// An id, which the Cloud writes as text or as a number.
    pub(super) fn id(self, name: &str) -> Option<String> {
        let id = match self.value(name)? {
            Value::String(text) => text.clone(),
            Value::Number(number) if !number.is_f64() => number.to_string(),
            _ => return None,
        };
        is_graphic(&id, 128).then_some(id)
    }

    /// A whole number, also one in quotes.
    pub(super) fn integer(self, name: &str) -> Option<i64> {
        match self.value(name)? {
            Value::Number(number) => number.as_i64(),
            Value::String(text) => text.parse().ok(),
            _ => None,
        }
    }

    /// A time in milliseconds since the epoch.
    pub(super) fn time(self, name: &str) -> Option<DateTime<Utc>> {
        let ms = self.integer(name)?;
        (0 < ms && ms < END_OF_TIME)
            .then(|| DateTime::from_timestamp_millis(ms))
            .flatten()
    }

    /// What the Cloud ties to something. Of more than 16 objects the first 16: more could not be sent back.
    pub(super) fn metadata(self, name: &str) -> Option<Metadata> {
        let objects = self.list(name).iter().filter_map(Value::as_object);
        Metadata::try_from(objects.take(16).cloned().collect::<Vec<_>>()).ok()
    }
}

/// Whether a text is made of at most `limit` printable ASCII characters: safe to store, to compare and to show.
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
    fn a_time_is_one_that_can_be_written() {
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
