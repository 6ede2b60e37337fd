//! The links of the API.
//!
//! All links are made here, so that each is a URI by RFC 3986 for every user. An id may contain any
//! character, and a program that reads links may be stricter than browsers are. To add a link, add
//! a function that returns its path.

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, PercentEncode, utf8_percent_encode};
use url::Url;

use super::event::EventId;
use super::file::FileId;
use super::ids::UserId;
use super::message::MessageId;

/// All characters but the unreserved ones of RFC 3986, section 2.3. Only the unreserved ones mean
/// the same with and without encoding, so each text has one spelling.
const RESERVED: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'-')
    .remove(b'.')
    .remove(b'_')
    .remove(b'~');

/// Encodes a text as one segment of a path.
#[must_use]
pub fn segment(text: &str) -> PercentEncode<'_> {
    utf8_percent_encode(text, RESERVED)
}

/// Returns the path of a queued request.
#[must_use]
pub fn message(id: MessageId) -> String {
    format!("/v1/messages/{id}")
}

/// Returns the path of an event.
#[must_use]
pub fn event(id: EventId) -> String {
    format!("/v1/events/{id}")
}

/// Returns the path of a user's file.
///
/// ```
/// use liveperson_bridge::types::links;
///
/// let user = "auth0|5f7c".parse().unwrap();
/// let file = "file_0193540a7c2b7c3e9d1f2a3b4c5d6e7f".parse().unwrap();
///
/// let path = links::file(&user, file);
///
/// assert_eq!(path, "/v1/users/auth0%7C5f7c/files/file_0193540a7c2b7c3e9d1f2a3b4c5d6e7f");
/// ```
#[must_use]
pub fn file(user_id: &UserId, id: FileId) -> String {
    format!("/v1/users/{}/files/{id}", segment(user_id.as_str()))
}

/// Returns the path of a signed link to a file, which needs no key. A token contains only
/// unreserved characters.
#[must_use]
pub fn signed_file(token: &str) -> String {
    format!("/files/{token}")
}

/// Returns the URL of a path below a base URL, which may have a path of its own.
#[must_use]
pub fn below(base: &Url, path: &str) -> String {
    format!("{}{path}", base.as_str().trim_end_matches('/'))
}

/// True if two hexadecimal digits follow each percent sign (RFC 3986, section 2.1).
#[must_use]
pub fn is_percent_encoded(text: &str) -> bool {
    text.split('%').skip(1).all(|after| {
        let mut digits = after.bytes().take(2);
        digits.len() == 2 && digits.all(|digit| digit.is_ascii_hexdigit())
    })
}

/// True for a path that contains only the characters that RFC 3986, section 3.3, allows.
#[must_use]
pub fn is_path(text: &str) -> bool {
    let is_allowed =
        |byte: u8| byte.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@/%".contains(&byte);
    is_percent_encoded(text) && text.bytes().all(is_allowed)
}

#[cfg(test)]
mod tests {
    use iri_string::types::UriStr;
    use percent_encoding::percent_decode_str;
    use proptest::prelude::*;

    use super::*;

    const FILE: &str = "file_0193540a7c2b7c3e9d1f2a3b4c5d6e7f";

    /// Returns the link to a file of a user.
    fn link(base: &str, user_id: &UserId) -> String {
        below(
            &base.parse().unwrap(),
            &file(user_id, FILE.parse().unwrap()),
        )
    }

    #[test]
    fn a_link_is_below_its_base_with_or_without_a_slash() {
        let ada = "ada".parse().unwrap();
        for (base, expected) in [
            ("https://b.example", "https://b.example/v1/users/ada/files/"),
            (
                "https://b.example/",
                "https://b.example/v1/users/ada/files/",
            ),
            (
                "https://b.example/a",
                "https://b.example/a/v1/users/ada/files/",
            ),
            (
                "http://[::1]:8080/a/",
                "http://[::1]:8080/a/v1/users/ada/files/",
            ),
        ] {
            assert_eq!(link(base, &ada), format!("{expected}{FILE}"));
        }
    }

    #[test]
    fn a_percent_sign_needs_two_hexadecimal_digits() {
        for good in ["", "/", "a%25", "%2b%2B", "50%25off"] {
            assert!(is_percent_encoded(good), "{good}");
        }
        for bad in [
            "%", "100%", "a%2", "%zz", "%2g", "%%25", "%25%", "50%off", "%é", "%+1",
        ] {
            assert!(!is_percent_encoded(bad), "{bad}");
        }
    }

    #[test]
    fn a_path_contains_only_characters_that_the_rfc_allows() {
        assert!(is_path("/a-._~/!$&'()*+,;=:@/%7C"));
        for bad in [
            "/a|b", "/a^b", "/[a]", "/a b", "/{a}", "/é", "/a?b", "/a#b", "/%", "/\\",
        ] {
            assert!(!is_path(bad), "{bad}");
        }
    }

    fn user_id() -> impl Strategy<Value = UserId> {
        let odd = prop::sample::select(vec![
            "..", ".", "/", "|", "^", "[", "]", "%", "%2E", "%2e%2E", "\\", "{", "?", "#", "\"",
            " ", "+", "é", "👋", "\u{202e}", "a", "~", ";", ":", "@",
        ]);
        let texts = prop_oneof![
            any::<String>(),
            prop::collection::vec(odd, 1..8).prop_map(|parts| parts.concat()),
        ];
        texts.prop_filter_map("no user id", |text| text.parse().ok())
    }

    proptest! {
        #[test]
        fn a_link_is_a_valid_uri_and_contains_its_user_id(user_id in user_id()) {
            let link = link("https://b.example/a", &user_id);

            let strict = UriStr::new(&link);
            prop_assert!(strict.is_ok(), "{}", link);
            // A parser by the URL standard of browsers drops nothing and changes no spelling.
            let url: Url = link.parse().unwrap();
            prop_assert_eq!(url.as_str(), &link);
            let segments: Vec<_> = url.path_segments().unwrap().collect();
            prop_assert_eq!(segments.len(), 6);
            prop_assert_eq!(&segments[..3], &["a", "v1", "users"]);
            prop_assert_eq!(&segments[4..], &["files", FILE]);
            let decoded = percent_decode_str(segments[3]).decode_utf8().unwrap();
            prop_assert_eq!(decoded, user_id.as_str());
            prop_assert!(is_path(url.path()));
        }
    }
}
