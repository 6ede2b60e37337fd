//! The name of a form's part, read from its `Content-Disposition` (RFC 7578, section 4.2).
//!
//! multer finds the parameter `name` only in lower case. Parameter names are case-insensitive (RFC
//! 2183, section 2), and some programs write `Name`.

use axum::http::header::CONTENT_DISPOSITION;
use axum::http::{HeaderMap, HeaderValue};

/// Returns the name of the part with these headers, or `None` if it cannot be read.
///
/// Old programs write the file's own name in Latin-1, which does not matter here.
pub(super) fn name(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(CONTENT_DISPOSITION).map(HeaderValue::as_bytes);
    let value = String::from_utf8_lossy(value?);
    let mut remaining = after_semicolon(&value)?;
    loop {
        let (name, value) = remaining.split_once('=')?;
        let (value, after) = read_value(value.trim_start())?;
        if name.trim().eq_ignore_ascii_case("name") {
            return Some(value);
        }
        remaining = after_semicolon(after)?;
    }
}

/// Returns the text after the next semicolon.
fn after_semicolon(text: &str) -> Option<&str> {
    text.split_once(';').map(|(_, after)| after)
}

/// Reads a value, quoted or not; returns it with the text after it.
fn read_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(';').unwrap_or(text.len());
        let (value, after) = text.split_at_checked(end)?;
        return Some((value.trim_end().to_owned(), after));
    };
    let mut value = String::new();
    let mut chars = quoted.chars();
    loop {
        match chars.next()? {
            '"' => return Some((value, chars.as_str())),
            // Old browsers escape only the quote; any other backslash is part of a Windows path.
            '\\' if chars.as_str().starts_with('"') => value.extend(chars.next()),
            char => value.push(char),
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name_in(value: &str) -> Option<String> {
        let value = HeaderValue::from_bytes(value.as_bytes()).unwrap();
        name(&[(CONTENT_DISPOSITION, value)].into_iter().collect())
    }

    #[test]
    fn a_latin_1_file_name_does_not_hide_the_part_name() {
        let value = b"form-data; filename=\"f\xfcr.gif\"; name=\"file\"";
        let value = HeaderValue::from_bytes(value).unwrap();

        let headers = [(CONTENT_DISPOSITION, value)].into_iter().collect();

        assert_eq!(name(&headers).as_deref(), Some("file"));
    }

    #[test]
    fn a_part_name_is_found_in_every_spelling() {
        for value in [
            "form-data; name=\"file\"",
            "form-data; Name=\"file\"",
            "form-data; NAME=file",
            "FORM-DATA;name=file",
            "form-data ; name = \"file\" ",
            "form-data;\tname=file\t; filename=x",
            "form-data; FileName=\"name=a\"; nAME=\"file\"",
            "form-data; filename=\"a;b\\\"; name=a\"; name=\"file\"",
            "form-data; filename=\"C:\\name\\a.png\"; name=\"file\"",
            "form-data; filename*=UTF-8''name%3D; filename=Zoë; name=file",
            "form-data; name=file; name=other",
        ] {
            assert_eq!(name_in(value).as_deref(), Some("file"), "{value}");
        }
        for (value, expected) in [
            ("form-data; name=\"\"", Some("")),
            ("form-data; name=", Some("")),
            ("form-data; name=\"a;b\"", Some("a;b")),
            ("form-data; name=\"a\\\"b\\c\"", Some("a\"b\\c")),
            ("form-data; name=\"你好\"", Some("你好")),
            ("form-data; name=\"file", None),
            ("form-data; name=\"file\\\"", None),
            ("form-data; filename=\"name\"", None),
            ("form-data; surname=file", None),
            ("form-data; name", None),
            ("form-data", None),
            ("name=file", None),
            ("", None),
        ] {
            assert_eq!(name_in(value).as_deref(), expected, "{value}");
        }
        assert_eq!(name(&HeaderMap::new()), None);
    }

    proptest! {
        #[test]
        fn a_part_name_is_read_as_browsers_write_it(file in "[a-z;=é\\\\ ]{0,8}", part in "[a-z;=é ]{0,8}") {
            let value = format!("form-data; Filename=\"{file}x\"; name=\"{part}\"");

            prop_assert_eq!(name_in(&value), Some(part));
        }

        #[test]
        fn no_header_makes_it_panic(value in "[a-z;=\"\\\\é ]{0,40}") {
            name_in(&value);
        }
    }
}
