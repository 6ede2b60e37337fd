//! Fuzzing of the user id in a path, and of the cursor in `after=`. An accepted user id or cursor
//! is written out exactly as it was given, and reading it back gives the same value. A link to a
//! user's file is a valid URI that leads back to the user.
//!
//! The input is a path segment or the value of a parameter, percent-encoded.

#![no_main]

use iri_string::types::UriStr;
use libfuzzer_sys::fuzz_target;
use liveperson_bridge::types::event::Cursor;
use liveperson_bridge::types::ids::UserId;
use liveperson_bridge::types::links;
use percent_encoding::percent_decode;
use url::Url;

const FILE: &str = "file_0193540a7c2b7c3e9d1f2a3b4c5d6e7f";

fuzz_target!(|input: &[u8]| {
    // Bytes that are not UTF-8 are refused before they are parsed as an id.
    let Ok(text) = percent_decode(input).decode_utf8() else {
        return;
    };
    if let Ok(id) = text.parse::<UserId>() {
        assert_eq!(id.as_str(), text);
        assert!((1..=256).contains(&text.len()));
        assert!(!text.chars().any(char::is_control));
        let base = "https://bridge.example.com/a".parse().unwrap();
        let link = links::below(&base, &links::file(&id, FILE.parse().unwrap()));
        assert!(UriStr::new(&link).is_ok());
        let url: Url = link.parse().unwrap();
        assert_eq!(url.as_str(), link);
        assert!(links::is_path(url.path()));
        let mut segments = url.path_segments().unwrap().skip(3);
        let encoded = segments.next().unwrap();
        assert_eq!(segments.collect::<Vec<_>>(), ["files", FILE]);
        let decoded = percent_decode(encoded.as_bytes()).decode_utf8().unwrap();
        assert_eq!(decoded.parse(), Ok(id));
    }
    if let Ok(cursor) = text.parse::<Cursor>() {
        assert_eq!(cursor.to_string(), text);
        assert_eq!(Cursor::behind(cursor.position()), cursor);
    }
});
