//! Identifiers. Each has a type of its own, so that they cannot be mixed up.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize, Serializer};
use utoipa::ToSchema;

/// The error for a value that breaks the rule of its type.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct Invalid {
    /// A description of the values that are allowed.
    pub expected: &'static str,
}

/// Declares a text type that is checked when it is parsed and is never empty. Clones share the
/// text, since one message needs about a dozen of them.
macro_rules! checked_id {
    ($(#[$doc:meta])* $name:ident, $max_length:tt, $pattern:literal, $expected:expr, $check:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Deserialize, ToSchema)]
        #[serde(try_from = "String")]
        #[schema(value_type = String, min_length = 1, max_length = $max_length, pattern = $pattern)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Returns the identifier as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl TryFrom<String> for $name {
            type Error = Invalid;

            fn try_from(text: String) -> Result<Self, Invalid> {
                text.parse()
            }
        }

        impl FromStr for $name {
            type Err = Invalid;

            fn from_str(text: &str) -> Result<Self, Invalid> {
                let check: fn(&str) -> bool = $check;
                if check(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(Invalid { expected: $expected })
                }
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> Self {
                id.as_str().to_owned()
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(self.as_str())
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

/// True for the two segments that URL parsers drop from a path (RFC 3986, section 5.2.4). Browsers
/// and many libraries drop them even if they are percent-encoded, so nothing with such a name has a
/// working URL.
fn is_dot_segment(text: &str) -> bool {
    matches!(text, "." | "..")
}

/// True for 1 to 64 letters, digits, dots, dashes or underscores. Such a name is safe in a path, a
/// header and a log field.
fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && !is_dot_segment(text)
        && text
            .bytes()
            .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
}

/// The form of the name of an account, a channel or a namespace, for error messages.
pub const NAME: &str = "1 to 64 letters, digits, '.', '-' or '_', and neither '.' nor '..'";

checked_id!(
    /// The channel's own id of a user: any UTF-8 text of 1 to 256 bytes without control characters.
    /// `.` and `..` are not allowed, since URLs drop them from their paths.
    UserId,
    256,
    // There is no look-ahead, which the regular expressions of Go and Rust lack.
    r"^(\.{0,2}[^.\x00-\x1f\x7f-\x9f]|\.{3})[^\x00-\x1f\x7f-\x9f]*$",
    "1 to 256 bytes of UTF-8 without control characters, and neither '.' nor '..'",
    |text| (1..=256).contains(&text.len())
        && !is_dot_segment(text)
        && !text.chars().any(char::is_control)
);

/// The form of a [`SchemaName`], for error messages.
pub const SCHEMA_NAME: &str =
    "1 to 63 lower-case letters, digits and underscores, beginning with a letter, such as bridge";

checked_id!(
    /// The name of a PostgreSQL schema that needs no quotes: 1 to 63 lower-case letters, digits and
    /// underscores, beginning with a letter. It may not begin with `pg_`, which PostgreSQL
    /// reserves.
    SchemaName,
    63,
    r"^[a-z][a-z0-9_]*$",
    SCHEMA_NAME,
    |text| (1..=63).contains(&text.len())
        && text.starts_with(|first: char| first.is_ascii_lowercase())
        && !text.starts_with("pg_")
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
);

checked_id!(
    /// The id of an account (site, brand) of the Conversational Cloud. It usually consists of
    /// digits; test accounts have ids such as `le12345678`.
    AccountId,
    64,
    r"^(\.{0,2}[A-Za-z0-9_-]|\.{3})[A-Za-z0-9._-]*$",
    NAME,
    is_name
);

checked_id!(
    /// The id of a channel, a system that calls the bridge.
    ChannelId,
    64,
    r"^(\.{0,2}[A-Za-z0-9_-]|\.{3})[A-Za-z0-9._-]*$",
    NAME,
    is_name
);

checked_id!(
    /// The part before the user's id in the consumer's external id at the Cloud,
    /// `{namespace}:{user_id}`.
    ///
    /// It contains no colon, so that two namespaces can never name the same consumer.
    Namespace,
    64,
    r"^(\.{0,2}[A-Za-z0-9_-]|\.{3})[A-Za-z0-9._-]*$",
    NAME,
    is_name
);

checked_id!(
    /// The Cloud's id of a conversation: at most 64 characters, a UUID in every sample.
    ConversationId,
    64,
    r"^[\x21-\x7e]*$",
    "1 to 64 printable ASCII characters",
    |text| (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
);

checked_id!(
    /// The Cloud's id of a dialog. The main dialog has the id of its conversation, a survey has its
    /// own.
    DialogId,
    64,
    r"^[\x21-\x7e]*$",
    "1 to 64 printable ASCII characters",
    |text| (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())
);

/// The key of a user: a person in one namespace of one account. Each user has one row in the
/// database.
#[derive(Clone, PartialEq, Eq, Hash)]
pub struct UserKey {
    /// The Cloud's account.
    pub account_id: AccountId,
    /// The namespace of the channel.
    pub namespace: Namespace,
    /// The channel's id of the user.
    pub user_id: UserId,
}

impl UserKey {
    /// Returns the consumer's external id at the Cloud.
    #[must_use]
    pub fn external_id(&self) -> String {
        format!("{}:{}", self.namespace, self.user_id)
    }
}

impl fmt::Debug for UserKey {
    /// Leaves out the user's id, which is often a phone number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("UserKey")
            .field("account_id", &self.account_id)
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_user_id_is_any_text_of_1_to_256_bytes_without_control_characters() {
        for good in [
            "a",
            "+15551234567",
            "a/b",
            "Zoë 👋",
            "...",
            ".a",
            "..a",
            "a..",
            "../a",
            "%2E%2E",
            &"x".repeat(256),
        ] {
            assert_eq!(good.parse::<UserId>().unwrap().as_str(), good);
        }
        for bad in [
            "",
            "a\nb",
            "a\u{0}",
            "\u{85}",
            ".",
            "..",
            &"x".repeat(257),
            &"é".repeat(129),
        ] {
            assert!(bad.parse::<UserId>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_namespace_holds_no_colon() {
        assert!("sms".parse::<Namespace>().is_ok());
        assert!("sms:eu".parse::<Namespace>().is_err());
    }

    #[test]
    fn dot_segments_are_refused_as_names() {
        for name in [".", ".."] {
            assert!(name.parse::<AccountId>().is_err());
            assert!(name.parse::<ChannelId>().is_err());
            assert!(name.parse::<Namespace>().is_err());
        }
        for name in ["...", ".a", "a.", "._", "-"] {
            assert!(name.parse::<AccountId>().is_ok());
        }
    }

    #[test]
    fn debugging_a_user_key_does_not_show_the_user() {
        let key = UserKey {
            account_id: "1".parse().unwrap(),
            namespace: "sms".parse().unwrap(),
            user_id: "+15551234567".parse().unwrap(),
        };

        assert!(!format!("{key:?}").contains("555"));
        assert_eq!(key.external_id(), "sms:+15551234567");
    }
}
