//! Messages and the smaller signs that go with them: typing and receipts.

use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;
use uuid::Uuid;

use super::ids::Invalid;

/// The bridge's own name for a message: `msg_` and a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageId(Uuid);

impl MessageId {
    /// The id for a message that begins now, from a UUID of the clock.
    #[must_use]
    pub fn new(uuid: Uuid) -> Self {
        Self(uuid)
    }
}

impl std::fmt::Display for MessageId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "msg_{}", self.0.simple())
    }
}

impl FromStr for MessageId {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        let uuid = text.strip_prefix("msg_").and_then(|uuid| uuid.parse().ok());
        // Read back, since a UUID can be written in several ways and an id cannot.
        uuid.map(Self)
            .filter(|id| id.to_string() == text)
            .ok_or(Invalid {
                expected: "msg_ and 32 hexadecimal digits",
            })
    }
}

/// What tells one message from others when the Cloud tells it back: a hash of what it says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest(String);

impl Digest {
    /// Of a text. Line breaks at the end do not count, which are lost or added on the way.
    #[must_use]
    pub fn of_text(text: &str) -> Self {
        Self::of("text", text.trim_end_matches(['\n', '\r']))
    }

    /// Of a file, by the path that names it.
    #[must_use]
    pub fn of_file(relative_path: &str) -> Self {
        Self::of("file", relative_path)
    }

    fn of(kind: &str, matter: &str) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(kind.as_bytes());
        hasher.update(matter.as_bytes());
        Self(URL_SAFE_NO_PAD.encode(hasher.finalize()))
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl std::fmt::Display for Digest {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a person in the chat is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChatState {
    /// Typing.
    Composing,
    /// Stopped typing.
    Pause,
    /// In the chat.
    Active,
    /// Away, but the app is open.
    Inactive,
    /// The app was closed.
    Gone,
}

/// What became of messages that the user was sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReceiptStatus {
    /// Delivered.
    Accept,
    /// Read.
    Read,
    /// A file was opened.
    Access,
    /// Not received.
    Nack,
    /// An element of structured content was used.
    Action,
}

/// The number of an event within its dialog, from 0.
pub type Sequence = u32;

// It stands for the number in the document alone: 32 bits without a sign are more than `int32` says.
/// The number of an event within its dialog, from 0.
#[derive(Debug, ToSchema)]
#[schema(as = Sequence, value_type = i64, minimum = 0, maximum = 4_294_967_295_u32)]
pub struct DescribedSequence(pub Sequence);

/// What a user wrote: never empty, never shown in a log.
#[derive(Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(value_type = String, min_length = 1, pattern = r"^[^\x00]*$", example = "Hello")]
pub struct Text(String);

impl Text {
    /// The text itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<Text> for String {
    fn from(text: Text) -> Self {
        text.0
    }
}

impl TryFrom<String> for Text {
    type Error = Invalid;

    fn try_from(text: String) -> Result<Self, Invalid> {
        if text.is_empty() {
            Err(Invalid {
                expected: "a text that is not empty",
            })
        } else {
            Ok(Self(text))
        }
    }
}

impl std::fmt::Debug for Text {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Text([{} bytes])", self.0.len())
    }
}

/// The messages that a receipt speaks of: 1 to 1000 sequences of one dialog.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(try_from = "Vec<Sequence>")]
#[schema(value_type = Vec<DescribedSequence>, min_items = 1, max_items = 1000, example = json!([1, 2]))]
pub struct Sequences(Vec<Sequence>);

impl Sequences {
    /// The sequences.
    #[must_use]
    pub fn as_slice(&self) -> &[Sequence] {
        &self.0
    }
}

impl TryFrom<Vec<Sequence>> for Sequences {
    type Error = Invalid;

    fn try_from(sequences: Vec<Sequence>) -> Result<Self, Invalid> {
        if (1..=1000).contains(&sequences.len()) {
            Ok(Self(sequences))
        } else {
            Err(Invalid {
                expected: "1 to 1000 sequences",
            })
        }
    }
}

/// What the Cloud ties to a choice of structured content, passed on as it came: 1 to 16 objects.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(try_from = "Vec<Map<String, Value>>", into = "Vec<Map<String, Value>>")]
#[schema(value_type = Vec<Object>, min_items = 1, max_items = 16, example = json!([{"type": "ExternalId", "id": "Y1"}]))]
pub struct Metadata(Vec<Map<String, Value>>);

impl TryFrom<Vec<Map<String, Value>>> for Metadata {
    type Error = Invalid;

    fn try_from(items: Vec<Map<String, Value>>) -> Result<Self, Invalid> {
        if (1..=16).contains(&items.len()) {
            Ok(Self(items))
        } else {
            Err(Invalid {
                expected: "1 to 16 objects",
            })
        }
    }
}

impl From<Metadata> for Vec<Map<String, Value>> {
    fn from(metadata: Metadata) -> Self {
        metadata.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_id_is_read_back_as_it_was_shown_and_no_other_way() {
        let id = "msg_0193540a7c2b7c3e9d1f2a3b4c5d6e7f";

        assert_eq!(id.parse::<MessageId>().unwrap().to_string(), id);
        for bad in [
            "",
            "msg_",
            &id[4..],
            &id.to_uppercase(),
            "file_0193540a7c2b7c3e9d1f2a3b4c5d6e7f",
        ] {
            assert!(bad.parse::<MessageId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_digest_tells_texts_apart_but_for_line_breaks_at_the_end() {
        assert_eq!(Digest::of_text("one\r\n"), Digest::of_text("one"));
        assert_ne!(Digest::of_text("one"), Digest::of_text("One"));
        assert_ne!(Digest::of_text("/v1/a"), Digest::of_file("/v1/a"));
    }

    #[test]
    fn debugging_a_text_does_not_show_it() {
        let text = Text::try_from("my card is 1234".to_owned()).unwrap();

        assert_eq!(format!("{text:?}"), "Text([15 bytes])");
    }
}
