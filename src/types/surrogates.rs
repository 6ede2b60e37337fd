//! The repair of JSON with unpaired surrogates. Many programs count text in UTF-16 units. If they
//! truncate a text, it can end with half an emoji, which JSON parsers refuse.

/// Replaces each escaped surrogate without its pair by the replacement character, U+FFFD. Both
/// escapes have the same length, so the position of any other error stays the same.
///
/// ```
/// use liveperson_bridge::types::surrogates::replace_unpaired;
///
/// assert_eq!(replace_unpaired(r#"{"text": "cut \ud83d"}"#), r#"{"text": "cut \ufffd"}"#);
/// ```
#[must_use]
pub fn replace_unpaired(json: &str) -> String {
    let mut repaired = String::with_capacity(json.len());
    let mut rest = json;
    while let Some((before, escape)) = rest.find('\\').and_then(|at| rest.split_at_checked(at)) {
        repaired.push_str(before);
        let next = || escape.get(6..).and_then(utf16_unit);
        let length = match utf16_unit(escape) {
            Some(0xD800..=0xDBFF) if matches!(next(), Some(0xDC00..=0xDFFF)) => 12,
            Some(0xD800..=0xDFFF) => {
                repaired.push_str("\\ufffd");
                rest = escape.get(6..).unwrap_or_default();
                continue;
            }
            _ => 2,
        };
        // An incomplete or broken escape is left to the JSON parser, which refuses it.
        let (escape, after) = escape.split_at_checked(length).unwrap_or((escape, ""));
        repaired.push_str(escape);
        rest = after;
    }
    repaired.push_str(rest);
    repaired
}

/// Returns the UTF-16 unit of the escape with which a text begins.
fn utf16_unit(text: &str) -> Option<u16> {
    let digits = text.strip_prefix("\\u")?.get(..4)?;
    u16::from_str_radix(digits, 16).ok()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::Value;

    use super::*;

    #[test]
    fn lone_surrogates_are_replaced_and_pairs_stay() {
        for (json, repaired) in [
            (r#""\ud83d\udc4d""#, r#""\ud83d\udc4d""#),
            (r#""a\ud83d""#, r#""a\ufffd""#),
            (r#""\udc4d!""#, r#""\ufffd!""#),
            (r#""\ud83d\ud83d\udc4d""#, r#""\ufffd\ud83d\udc4d""#),
            (r#""\uD83D\n""#, r#""\ufffd\n""#),
            (r#""\\ud83d""#, r#""\\ud83d""#),
            (r#""\u00e9 👍""#, r#""\u00e9 👍""#),
            (r#""\ud83"#, r#""\ud83"#),
            ("\"\\é", "\"\\é"),
            ("\\", "\\"),
            ("", ""),
        ] {
            assert_eq!(replace_unpaired(json), repaired);
        }
    }

    proptest! {
        #[test]
        fn valid_json_is_unchanged_and_any_escapes_become_readable(
            text in any::<String>(),
            units in prop::collection::vec(any::<u16>(), 0..20),
        ) {
            let valid = serde_json::to_string(&text).unwrap();
            let escapes: Vec<_> = units.iter().map(|unit| format!("\\u{unit:04x}")).collect();

            prop_assert_eq!(replace_unpaired(&valid), valid);
            let repaired = replace_unpaired(&format!("\"{}\"", escapes.concat()));
            let read: Value = serde_json::from_str(&repaired).unwrap();
            prop_assert_eq!(read, String::from_utf16_lossy(&units));
        }

        #[test]
        fn no_text_makes_it_panic(text in "[\\\\udcDC89é\"]{0,40}") {
            drop(replace_unpaired(&text));
        }
    }
}
