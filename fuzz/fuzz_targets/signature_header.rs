//! Fuzzing of the signature header: the check terminates for any header, and accepts none as a
//! valid signature.
//!
//! The input is a header, a line break and a body.

#![no_main]

use libfuzzer_sys::fuzz_target;
use liveperson_bridge::webhooks::signature::verify;

fuzz_target!(|input: &[u8]| {
    let mut parts = input.splitn(2, |byte| *byte == b'\n');
    let header = parts.next().unwrap_or_default();
    let body = parts.next().unwrap_or_default();
    if let Ok(header) = std::str::from_utf8(header) {
        assert!(verify(header, body, b"a secret that no input knows").is_err());
    }
});
