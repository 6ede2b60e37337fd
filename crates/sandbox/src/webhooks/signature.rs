//! The signature of a notification.
//!
//! Source: vendor's Webhooks documentation, "Notification protocol": an HMAC over the exact bytes
//! of the body, keyed with the client secret of the app installation.

use aws_lc_rs::hmac::{self, HMAC_SHA1_FOR_LEGACY_USE_ONLY, HMAC_SHA256};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;

use super::Algorithm;

/// Returns the value of the header `x-liveperson-signature`.
pub(super) fn sign(algorithm: Algorithm, secret: &str, body: &[u8]) -> String {
    let (name, hash) = match algorithm {
        Algorithm::Sha1 => ("sha1", HMAC_SHA1_FOR_LEGACY_USE_ONLY),
        Algorithm::Sha256 => ("sha256", HMAC_SHA256),
    };
    let tag = hmac::sign(&hmac::Key::new(hash, secret.as_bytes()), body);
    format!("{name}={}", BASE64_STANDARD.encode(tag))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "bridge-test-secret-0001";

    #[test]
    fn both_algorithms_sign_the_exact_bytes_of_the_body() {
        let plain = r#"{"kind":"notification","type":"ms.MessagingEventNotification","body":{"changes":[]}}"#;
        let emoji = r#"{"kind":"notification","type":"ms.MessagingEventNotification","body":{"changes":[{"event":{"message":"ok 👍"}}]}}"#;
        let escaped = emoji.replace('👍', r"\ud83d\udc4d");
        assert_eq!((plain.len(), emoji.len(), escaped.len()), (84, 115, 123));

        let sha1 = |body: &str| sign(Algorithm::Sha1, SECRET, body.as_bytes());
        let sha256 = |body: &str| sign(Algorithm::Sha256, SECRET, body.as_bytes());

        assert_eq!(sha1(plain), "sha1=AWpvEoNkOJttLmeEK9R900WHFxk=");
        assert_eq!(sha1(emoji), "sha1=+WfZbz97UYVMPUdibidf+e+oAFE=");
        assert_eq!(sha1(&escaped), "sha1=3ECjrDgNJHziMTDlN7scth47eiw=");
        assert_eq!(
            sha256(plain),
            "sha256=eDz0IbfOdT+t+UrJRH01OcP+BxtktmbwbZWw1VHJhB0="
        );
        assert_eq!(
            sha256(emoji),
            "sha256=gfYNHqK957eGmz6RaBcycQw/AtC6U/fcPnOihwzdHmg="
        );
    }
}
