//! The signature of a notification: an HMAC under the app's `client_secret` over the exact bytes of
//! the body.
//!
//! Neither a time nor a nonce is signed, so a replayed body has a valid signature.
//! [`super::wire::Change::dedupe_key`] identifies its changes as duplicates.

use aws_lc_rs::hmac::{self, HMAC_SHA1_FOR_LEGACY_USE_ONLY, HMAC_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// The reason why a signature is rejected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum SignatureError {
    /// The header is not a signature.
    #[error("expected sha1= or sha256= and the signature in base64 or hex")]
    Malformed,
    /// The signature belongs to another body or another secret.
    #[error("the signature does not match the body")]
    Mismatch,
}

/// Checks the `x-liveperson-signature` of a body in constant time.
///
/// Source: vendor's Webhooks documentation, notification protocol: SHA-1 by default, SHA-256 for
/// accounts that were switched, in base64 with padding. Hex is accepted as well; the length tells
/// them apart.
///
/// ```
/// use liveperson_bridge::webhooks::signature::verify;
///
/// let body = br#"{"kind":"notification","type":"ms.MessagingEventNotification","body":{"changes":[]}}"#;
/// let secret = b"bridge-test-secret-0001";
///
/// assert!(verify("sha1=AWpvEoNkOJttLmeEK9R900WHFxk=", body, secret).is_ok());
/// assert!(verify("sha1=AWpvEoNkOJttLmeEK9R900WHFxk=", b"{}", secret).is_err());
/// ```
///
/// # Errors
///
/// [`SignatureError::Malformed`] and [`SignatureError::Mismatch`]. After either, the body must not
/// be parsed.
pub fn verify(header: &str, body: &[u8], secret: &[u8]) -> Result<(), SignatureError> {
    let signature = Signature::parse(header).ok_or(SignatureError::Malformed)?;
    let is_match = signature.matches(body, secret);
    is_match.then_some(()).ok_or(SignatureError::Mismatch)
}

/// A well-formed `x-liveperson-signature`.
#[derive(Debug)]
pub(super) struct Signature {
    algorithm: hmac::Algorithm,
    tag: Vec<u8>,
    /// The algorithm and the encoding, such as `sha256 base64`.
    pub(super) form: &'static str,
}

impl Signature {
    /// Parses a header; `None` if it is not a signature.
    pub(super) fn parse(header: &str) -> Option<Self> {
        let (name, value) = header.split_once('=')?;
        let (algorithm, as_hex, as_base64) = match name.trim_ascii() {
            name if name.eq_ignore_ascii_case("sha1") => {
                (HMAC_SHA1_FOR_LEGACY_USE_ONLY, "sha1 hex", "sha1 base64")
            }
            name if name.eq_ignore_ascii_case("sha256") => {
                (HMAC_SHA256, "sha256 hex", "sha256 base64")
            }
            _ => return None,
        };
        let length = algorithm.digest_algorithm().output_len();
        let value = value.trim_ascii();
        Some(Self {
            algorithm,
            tag: decode(value, length)?,
            form: if value.len() == 2 * length {
                as_hex
            } else {
                as_base64
            },
        })
    }

    /// True if the signature matches a body under a secret. The comparison takes constant time.
    pub(super) fn matches(&self, body: &[u8], secret: &[u8]) -> bool {
        let key = hmac::Key::new(self.algorithm, secret);
        hmac::verify(&key, body, &self.tag).is_ok()
    }
}

/// Decodes hex or base64; `None` if the result does not have `length` bytes.
fn decode(text: &str, length: usize) -> Option<Vec<u8>> {
    let bytes = if text.len() == 2 * length {
        hex(text)?
    } else {
        STANDARD.decode(text).ok()?
    };
    (bytes.len() == length).then_some(bytes)
}

fn hex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16);
    let pairs = text.as_bytes().chunks_exact(2).map(|pair| match *pair {
        [high, low] => u8::try_from(digit(high)? * 16 + digit(low)?).ok(),
        _ => None,
    });
    pairs.collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECRET: &[u8] = b"bridge-test-secret-0001";
    const EMPTY: &str =
        r#"{"kind":"notification","type":"ms.MessagingEventNotification","body":{"changes":[]}}"#;
    const EMOJI: &str = r#"{"kind":"notification","type":"ms.MessagingEventNotification","body":{"changes":[{"event":{"message":"ok 👍"}}]}}"#;

    fn as_hex(base64: &str) -> String {
        let bytes = STANDARD.decode(base64).unwrap();
        let digits = bytes.iter().map(|byte| format!("{byte:02x}"));
        digits.collect::<Vec<_>>().concat()
    }

    #[test]
    fn a_signature_covers_the_exact_bytes_of_the_body() {
        let escaped = EMOJI.replace('👍', "\\ud83d\\udc4d");
        for (body, bytes, sha1, sha256) in [
            (
                EMPTY,
                84,
                "AWpvEoNkOJttLmeEK9R900WHFxk=",
                Some("eDz0IbfOdT+t+UrJRH01OcP+BxtktmbwbZWw1VHJhB0="),
            ),
            (
                EMOJI,
                115,
                "+WfZbz97UYVMPUdibidf+e+oAFE=",
                Some("gfYNHqK957eGmz6RaBcycQw/AtC6U/fcPnOihwzdHmg="),
            ),
            (&escaped, 123, "3ECjrDgNJHziMTDlN7scth47eiw=", None),
        ] {
            let check = |header: &str| verify(header, body.as_bytes(), SECRET);

            assert_eq!(body.len(), bytes);
            let signatures = [("sha1", Some(sha1)), ("sha256", sha256)];
            for (name, signature) in signatures {
                let Some(signature) = signature else { continue };
                let hex = as_hex(signature);
                assert_eq!(check(&format!("{name}={signature}")), Ok(()));
                assert_eq!(check(&format!("{name}={hex}")), Ok(()));
                assert_eq!(
                    check(&format!("{}={}", name.to_uppercase(), hex.to_uppercase())),
                    Ok(())
                );
            }
        }
    }

    #[test]
    fn a_signature_for_another_secret_body_or_algorithm_is_refused() {
        let sha1 = "AWpvEoNkOJttLmeEK9R900WHFxk=";
        let header = format!("sha1={sha1}");

        let mismatch = Err(SignatureError::Mismatch);
        assert_eq!(verify(&header, EMPTY.as_bytes(), b"another"), mismatch);
        assert_eq!(verify(&header, EMPTY.as_bytes(), b""), mismatch);
        assert_eq!(verify(&header, EMOJI.as_bytes(), SECRET), mismatch);
        for bad in [
            "",
            "=",
            "sha1",
            "sha1=",
            sha1,
            "sha1=AWpvEoNkOJttLmeEK9R900WHFxk",
            "sha1=AWpvEoNkOJttLmeEK9R900WHFxl=",
            "sha1=AWpvEoNk",
            "sha1=AWpvEoNkOJttLmeEK9R900WHFxk=AAAA",
            "sha1=+16a6f128364389b6d2e678458f47dd345871719",
            "sha1=016a6f128364389b6d2e678458f47dd34587171é",
            "sha256=AWpvEoNkOJttLmeEK9R900WHFxk=",
            "sha512=AWpvEoNkOJttLmeEK9R900WHFxk=",
            "md5=AWpvEoNkOJttLmeEK9R900WHFxk=",
            "ſha1=AWpvEoNkOJttLmeEK9R900WHFxk=",
        ] {
            assert_eq!(
                verify(bad, EMPTY.as_bytes(), SECRET),
                Err(SignatureError::Malformed),
                "{bad}"
            );
        }
    }

    #[test]
    fn the_form_of_a_signature_is_its_algorithm_and_encoding() {
        let tag = |bytes| STANDARD.encode(vec![7; bytes]);
        for (header, expected) in [
            (format!("sha1={}", tag(20)), "sha1 base64"),
            (format!("SHA1={}", as_hex(&tag(20))), "sha1 hex"),
            (format!("sha256={}", tag(32)), "sha256 base64"),
            (format!("sha256= {} ", as_hex(&tag(32))), "sha256 hex"),
        ] {
            let signature = Signature::parse(&header).unwrap();
            assert_eq!(signature.form, expected, "{header}");
        }
        assert!(Signature::parse("sha1").is_none());
    }

    fn sign(sha256: bool, body: &[u8], secret: &[u8]) -> Vec<u8> {
        let algorithm = if sha256 {
            HMAC_SHA256
        } else {
            HMAC_SHA1_FOR_LEGACY_USE_ONLY
        };
        let key = hmac::Key::new(algorithm, secret);
        hmac::sign(&key, body).as_ref().to_vec()
    }

    fn written(sha256: bool, hex: bool, tag: &[u8]) -> String {
        let name = if sha256 { "sha256" } else { "sha1" };
        let base64 = STANDARD.encode(tag);
        let value = if hex { as_hex(&base64) } else { base64 };
        format!("{name}={value}")
    }

    proptest! {
        #[test]
        fn a_changed_byte_of_body_signature_or_secret_fails(
            body in prop::collection::vec(any::<u8>(), 1..200),
            secret in prop::collection::vec(any::<u8>(), 1..64),
            (sha256, hex) in any::<(bool, bool)>(),
            index in any::<prop::sample::Index>(),
            change in 1_u8..,
        ) {
            let changed = |bytes: &[u8]| {
                let mut bytes = bytes.to_vec();
                let at = index.index(bytes.len());
                bytes[at] ^= change;
                bytes
            };
            let tag = sign(sha256, &body, &secret);
            let header = written(sha256, hex, &tag);
            let wrong = written(sha256, hex, &changed(&tag));

            prop_assert_eq!(verify(&header, &body, &secret), Ok(()));
            prop_assert!(verify(&header, &changed(&body), &secret).is_err());
            prop_assert!(verify(&wrong, &body, &secret).is_err());
        }

        #[test]
        fn a_changed_character_of_the_value_fails(
            body in prop::collection::vec(any::<u8>(), 0..50),
            (sha256, hex) in any::<(bool, bool)>(),
            index in any::<prop::sample::Index>(),
            other in any::<char>(),
        ) {
            let header = written(sha256, hex, &sign(sha256, &body, SECRET));
            let start = header.find('=').unwrap() + 1;
            let at = start + index.index(header.len() - start);
            let old = &header[at..=at];
            // Hex digits may be in upper or lower case.
            let is_same = if hex {
                old.eq_ignore_ascii_case(&other.to_string())
            } else {
                old == other.to_string()
            };
            prop_assume!(!is_same);
            let changed = format!("{}{other}{}", &header[..at], &header[at + 1..]);
            // White space around the value does not count.
            prop_assume!(changed.trim_ascii().len() == changed.len());

            prop_assert!(verify(&changed, &body, SECRET).is_err(), "{}", changed);
        }

        #[test]
        fn no_header_makes_it_panic(header in ".{0,80}", name in "(sha1|sha256)=", value in "[0-9a-zA-Z+/=\u{e9}]{0,90}") {
            prop_assert!(verify(&header, b"", SECRET).is_err());
            prop_assert!(verify(&(name + &value), b"", SECRET).is_err());
        }
    }
}
