//! The claims of tokens that the Cloud has signed for its own use.
//!
//! There is no key to check the signature with, and none is needed. The tokens come straight from
//! their issuer, and the claims only decide when a token is renewed and which id its consumer has.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;

/// Returns the claims of `header.payload.signature`; `None` if they cannot be decoded as `T`.
pub(super) fn claims<T: DeserializeOwned>(token: &str) -> Option<T> {
    let payload = token.split('.').nth(1)?.trim_end_matches('=');
    let json = URL_SAFE_NO_PAD.decode(payload).ok()?;
    serde_json::from_slice(&json).ok()
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    #[test]
    fn claims_are_read_with_and_without_padding() {
        for token in ["h.eyJhIjoxfQ.s", "h.eyJhIjoxfQ==.s", "h.eyJhIjoxfQ"] {
            assert_eq!(claims::<Value>(token).unwrap()["a"], 1, "{token}");
        }
        for token in ["", "opaque", "h..s", "h.%.s", "h.bm90IGpzb24.s"] {
            assert!(claims::<Value>(token).is_none(), "{token}");
        }
    }
}
