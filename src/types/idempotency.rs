//! Idempotency keys and fingerprints, by which a retry of a request is recognized.

use std::fmt;
use std::str::FromStr;

use sha2::{Digest as _, Sha256};

use super::ids::{Invalid, UserId};

/// The name that a caller gives to a request that it may send again: 1 to 255 printable characters.
#[derive(Clone, PartialEq, Eq)]
pub struct IdempotencyKey(String);

/// The hash of an idempotency key and of its owner. Only the hash is stored, since a channel may
/// make the key from a phone number. The key of a channel and the same key of one of its users have
/// different hashes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyHash([u8; 32]);

impl IdempotencyKey {
    /// Hashes the key as the key of one user, or of the channel if `user` is `None`.
    #[must_use]
    pub fn hash(&self, user: Option<&UserId>) -> KeyHash {
        let mut hash = Sha256::new();
        if let Some(user) = user {
            // Neither a key nor a user's id contains a control character. So no channel's key is
            // hashed like a user's, and it is clear where the id ends and the key begins.
            hash.update(b"user\0");
            hash.update(user.as_str());
            hash.update(b"\0");
        }
        hash.update(&self.0);
        KeyHash(hash.finalize().into())
    }
}

impl KeyHash {
    /// Returns the bytes of the hash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl FromStr for IdempotencyKey {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        if (1..=255).contains(&text.chars().count()) && !text.chars().any(char::is_control) {
            Ok(Self(text.to_owned()))
        } else {
            Err(Invalid {
                expected: "1 to 255 printable characters",
            })
        }
    }
}

impl fmt::Debug for IdempotencyKey {
    /// Leaves out the key, since a channel may make it from a phone number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "IdempotencyKey([{} bytes])", self.0.len())
    }
}

/// A hash of the content of a request. Requests that differ in any relevant part have different
/// fingerprints.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint([u8; 32]);

impl Fingerprint {
    /// Computes the fingerprint of a request from these parts, in this order.
    #[must_use]
    pub fn of(parts: &[&[u8]]) -> Self {
        let mut hash = Sha256::new();
        for part in parts {
            // The length of each part is hashed too, so that moving bytes from one part to the next
            // changes the hash.
            hash.update((part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        Self(hash.finalize().into())
    }

    /// Returns the bytes of the hash.
    #[must_use]
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

/// A response that is stored for retries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StoredResponse {
    /// The HTTP status.
    pub status: u16,
    /// The names and values of the headers.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_has_1_to_255_printable_characters() {
        for good in [
            "a",
            "a b",
            "8e03978e-40d5-43dd-bc93-6894a57f9324",
            "é👋",
            &"é".repeat(255),
        ] {
            assert!(good.parse::<IdempotencyKey>().is_ok(), "{good}");
        }
        for bad in ["", "a\tb", "a\u{7f}", "\u{85}", &"x".repeat(256)] {
            assert!(bad.parse::<IdempotencyKey>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn debugging_a_key_does_not_show_it() {
        let key: IdempotencyKey = "+15551234567".parse().unwrap();

        assert_eq!(format!("{key:?}"), "IdempotencyKey([12 bytes])");
    }

    #[test]
    fn the_hash_of_a_key_differs_for_each_user_and_the_channel() {
        let key = |text: &str| text.parse::<IdempotencyKey>().unwrap();
        let user = |text: &str| text.parse::<UserId>().unwrap();
        let of = |key_text: &str, user_id: &str| key(key_text).hash(Some(&user(user_id)));
        let order = key("order-1001");

        assert_eq!(order.hash(None), key("order-1001").hash(None));
        assert_eq!(of("order-1001", "ada"), of("order-1001", "ada"));
        assert_ne!(order.hash(None), of("order-1001", "ada"));
        assert_ne!(of("order-1001", "ada"), of("order-1001", "bob"));
        assert_ne!(of("bc", "a"), of("c", "ab"));
        assert_ne!(
            key("user adaorder-1001").hash(None),
            of("order-1001", "ada")
        );
    }

    #[test]
    fn a_channel_key_is_stored_under_the_hash_of_earlier_versions() {
        let order: IdempotencyKey = "order-1001".parse().unwrap();

        let expected = Sha256::digest(b"order-1001");
        assert_eq!(order.hash(None).as_bytes(), &expected[..]);
    }

    #[test]
    fn requests_that_differ_in_any_part_have_different_fingerprints() {
        let of = Fingerprint::of;

        assert_eq!(of(&[b"POST", b"/a", b"{}"]), of(&[b"POST", b"/a", b"{}"]));
        for other in [
            &[b"PUT".as_slice(), b"/a", b"{}"][..],
            &[b"POST", b"/b", b"{}"],
            &[b"POST", b"/a", b"{ }"],
            &[b"POST", b"/a{", b"}"],
            &[b"POST", b"/a", b"{}", b""],
        ] {
            assert_ne!(of(&[b"POST", b"/a", b"{}"]), of(other));
        }
    }
}
