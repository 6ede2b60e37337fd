//! Messages, typing states and receipts.

use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};
use utoipa::ToSchema;
use uuid::Uuid;

use super::ids::Invalid;
use super::sketch::canonical;

/// The bridge's id of a message: `msg_` and a UUID.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MessageId(Uuid);

impl MessageId {
    /// Creates the id of a new message, from a UUID of the clock.
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
        // Compared with its text, since a UUID has several spellings and an id has only one.
        uuid.map(Self)
            .filter(|id| id.to_string() == text)
            .ok_or(Invalid {
                expected: "msg_ and 32 hexadecimal digits",
            })
    }
}

/// A hash of the content of a message, by which the Cloud's echo of it is recognized.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Digest(String);

impl Digest {
    /// Computes the digest of a text. White space and HTML escapes do not count: the Cloud may echo
    /// a text trimmed, with other line breaks, or escaped.
    #[must_use]
    pub fn of_text(text: &str) -> Self {
        Self::of("text", &canonical(text))
    }

    /// Computes the digest of a file from the path that names it.
    #[must_use]
    pub fn of_file(relative_path: &str) -> Self {
        Self::of("file", relative_path)
    }

    fn of(kind: &str, content: &str) -> Self {
        let mut hasher = Sha256::new();
        hasher.update(kind.as_bytes());
        hasher.update(content.as_bytes());
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

/// The activity of a person in the chat.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum ChatState {
    /// Typing.
    Composing,
    /// Stopped typing.
    Pause,
    /// In the chat.
    Active,
    /// Not in the chat, but the app is open.
    Inactive,
    /// The app was closed.
    Gone,
}

/// The status of messages that were sent to the user.
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

/// The number of a message within its dialog, from 0.
pub type Sequence = u32;

// This type only describes the number in the OpenAPI document: an unsigned number of 32 bits does
// not fit into `int32`.
/// The number of a message within its dialog, from 0.
#[derive(Debug, ToSchema)]
#[schema(as = Sequence, value_type = i64, minimum = 0, maximum = 4_294_967_295_u32)]
pub struct DescribedSequence(pub Sequence);

/// The text of a user's message. It is never blank and contains no U+0000.
#[derive(Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(try_from = "String")]
#[schema(
    value_type = String,
    min_length = 1,
    pattern = r"^[^\x00]*[^\x00\x09-\x0D\x20\x85\xA0\u1680\u2000-\u200B\u2028\u2029\u202F\u205F\u3000\uFEFF][^\x00]*$",
    example = "Hello"
)]
pub struct Text(String);

impl Text {
    /// Returns the text itself.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// True if a text shows nothing: it is empty, or contains only white space.
    ///
    /// ```
    /// use liveperson_bridge::types::message::Text;
    ///
    /// assert!(Text::is_blank(" \u{3000}\n"));
    /// assert!(!Text::is_blank(" ? "));
    /// ```
    #[must_use]
    pub fn is_blank(text: &str) -> bool {
        text.chars().all(Self::is_blank_char)
    }

    /// True for white space, the zero-width space and the byte order mark.
    #[must_use]
    pub fn is_blank_char(c: char) -> bool {
        c.is_whitespace() || matches!(c, '\u{200B}' | '\u{FEFF}')
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
        if Self::is_blank(&text) {
            Err(Invalid {
                expected: "a text that is not blank",
            })
        } else if text.contains('\0') {
            // PostgreSQL cannot store it.
            Err(Invalid {
                expected: "text without U+0000",
            })
        } else {
            Ok(Self(text))
        }
    }
}

impl std::fmt::Debug for Text {
    /// Leaves out the text, which must not reach a log.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Text([{} bytes])", self.0.len())
    }
}

/// The texts in which one message is sent, in order. There is at least one.
///
/// As JSON, it is an array of strings that is not empty.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<String>", into = "Vec<String>")]
pub struct Pieces(Vec<String>);

impl Pieces {
    /// Creates a message in one piece.
    #[must_use]
    pub fn one(text: String) -> Self {
        Self(vec![text])
    }

    /// Returns the pieces in order.
    #[must_use]
    pub fn as_slice(&self) -> &[String] {
        &self.0
    }
}

impl TryFrom<Vec<String>> for Pieces {
    type Error = Invalid;

    fn try_from(pieces: Vec<String>) -> Result<Self, Invalid> {
        if pieces.is_empty() {
            Err(Invalid {
                expected: "at least one text",
            })
        } else {
            Ok(Self(pieces))
        }
    }
}

impl From<Pieces> for Vec<String> {
    fn from(pieces: Pieces) -> Self {
        pieces.0
    }
}

/// The messages to which a receipt refers: 1 to 1000 sequences of one dialog.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, ToSchema)]
#[serde(try_from = "Vec<Sequence>")]
#[schema(value_type = Vec<DescribedSequence>, min_items = 1, max_items = 1000, example = json!([1, 2]))]
pub struct Sequences(Vec<Sequence>);

impl Sequences {
    /// Returns the sequences.
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

/// The metadata that the Cloud attaches to a message or to one of its choices, passed on unchanged:
/// 1 to 16 objects.
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
    fn a_message_id_is_accepted_only_in_its_canonical_form() {
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
    fn a_digest_ignores_only_white_space_and_escapes() {
        for same in ["one two\r\n", " one two", "one\r\ntwo", "one&#32;two"] {
            assert_eq!(
                Digest::of_text(same),
                Digest::of_text("one\ntwo"),
                "{same:?}"
            );
        }
        assert_ne!(Digest::of_text("one"), Digest::of_text("One"));
        assert_ne!(Digest::of_text("/v1/a"), Digest::of_file("/v1/a"));
    }

    #[test]
    fn a_blank_text_is_refused() {
        for blank in [
            "",
            " ",
            "\u{a0}\u{3000}",
            "\n\n\t",
            "\u{200b}\u{feff}",
            "\u{85}",
        ] {
            assert!(Text::try_from(blank.to_owned()).is_err(), "{blank:?}");
        }
        for text in ["?", " x ", "\u{2764}"] {
            assert!(Text::try_from(text.to_owned()).is_ok(), "{text:?}");
        }
    }

    #[test]
    fn a_message_has_at_least_one_piece() {
        assert!(serde_json::from_str::<Pieces>("[]").is_err());
        let pieces: Pieces = serde_json::from_str(r#"["a", "b"]"#).unwrap();
        assert_eq!(serde_json::to_string(&pieces).unwrap(), r#"["a","b"]"#);
    }

    #[test]
    fn debugging_a_text_does_not_show_it() {
        let text = Text::try_from("my card is 1234".to_owned()).unwrap();

        assert_eq!(format!("{text:?}"), "Text([15 bytes])");
    }
}
