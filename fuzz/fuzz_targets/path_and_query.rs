//! Whatever stands in a user's place of a path, or behind `after=`: what is taken is a user id or a cursor as it is written,
//! and reading it back gives the same.
//!
//! The input is a segment of a path or the value of a parameter, percent-encoded.

#![no_main]

use libfuzzer_sys::fuzz_target;
use liveperson_bridge::types::event::Cursor;
use liveperson_bridge::types::ids::UserId;
use percent_encoding::{NON_ALPHANUMERIC, percent_decode, utf8_percent_encode};

fuzz_target!(|input: &[u8]| {
    // What is no UTF-8 is refused before it is an id.
    let Ok(text) = percent_decode(input).decode_utf8() else {
        return;
    };
    if let Ok(id) = text.parse::<UserId>() {
        assert_eq!(id.as_str(), text);
        assert!((1..=256).contains(&text.len()));
        assert!(!text.chars().any(char::is_control));
        let encoded = utf8_percent_encode(id.as_str(), NON_ALPHANUMERIC).to_string();
        let decoded = percent_decode(encoded.as_bytes()).decode_utf8().unwrap();
        assert_eq!(decoded.parse(), Ok(id));
    }
    if let Ok(cursor) = text.parse::<Cursor>() {
        assert_eq!(cursor.to_string(), text);
        assert_eq!(Cursor::behind(cursor.position()), cursor);
    }
});
