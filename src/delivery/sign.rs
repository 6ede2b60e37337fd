//! Signatures of callbacks, by the Standard Webhooks specification.
//!
//! A signature covers the event's id, the time of the attempt and the body. So a channel can verify
//! that a request comes from the bridge, is recent, and is not a replay. Source: the Standard
//! Webhooks specification, "Signature scheme".

use aws_lc_rs::hmac::{self, HMAC_SHA256};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret as _, SecretSlice};

/// Returns the value of `webhook-signature`, with one signature for each secret. There are two
/// secrets while one is being replaced.
///
/// `timestamp` is the time of the attempt, in seconds since the epoch.
#[must_use]
pub fn signatures(secrets: &[SecretSlice<u8>], id: &str, timestamp: i64, body: &str) -> String {
    let signed = format!("{id}.{timestamp}.{body}");
    let signature = |secret: &SecretSlice<u8>| {
        let key = hmac::Key::new(HMAC_SHA256, secret.expose_secret());
        let tag = hmac::sign(&key, signed.as_bytes());
        format!("v1,{}", STANDARD.encode(tag))
    };
    let signatures: Vec<_> = secrets.iter().map(signature).collect();
    signatures.join(" ")
}

#[cfg(test)]
mod tests {
    use standardwebhooks::Webhook;

    use super::*;
    use crate::clock::{Clock as _, SystemClock};
    use crate::http::header::HeaderMap;

    fn secret(byte: u8) -> SecretSlice<u8> {
        vec![byte; 24].into()
    }

    /// Verifies a signed request with an independent implementation.
    fn verify(secret: u8, timestamp: i64, signature: &str, id: &str, body: &str) -> bool {
        let webhook = Webhook::from_bytes(vec![secret; 24]).unwrap();
        let mut headers = HeaderMap::new();
        headers.insert("webhook-id", id.parse().unwrap());
        headers.insert("webhook-timestamp", timestamp.into());
        headers.insert("webhook-signature", signature.parse().unwrap());
        webhook.verify(body.as_bytes(), &headers).is_ok()
    }

    #[test]
    fn the_standard_webhooks_example_gets_its_documented_signature() {
        // Source: the example in the reference implementation of the Standard Webhooks
        // specification.
        let secret = STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap();
        let (id, body) = ("msg_p5jXN8AQM9LWM0D4loKWxJek", r#"{"test": 2432232314}"#);

        assert_eq!(
            signatures(&[secret.into()], id, 1_614_265_330, body),
            "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="
        );
    }

    #[test]
    fn a_body_signed_with_two_secrets_verifies_with_each() {
        let body = r#"{"text":"Zoë 👋"}"#;
        let now = SystemClock.now().timestamp();

        let signed = signatures(&[secret(1), secret(2)], "evt_1", now, body);

        assert!(verify(1, now, &signed, "evt_1", body));
        assert!(verify(2, now, &signed, "evt_1", body));
        assert!(!verify(3, now, &signed, "evt_1", body));
        assert!(!verify(1, now - 1, &signed, "evt_1", body));
        assert!(!verify(1, now, &signed, "evt_2", body));
        assert!(!verify(1, now, &signed, "evt_1", "{}"));
    }
}
