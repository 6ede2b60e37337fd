//! Text in pieces that the Cloud takes.

/// How many characters a text has as JSON, without its quotes: what the Cloud counts. A character beyond the Basic
/// Multilingual Plane counts as two, as it does in the Cloud's own strings.
pub(super) fn json_chars(text: &str) -> usize {
    text.chars().map(json_chars_of).sum()
}

fn json_chars_of(c: char) -> usize {
    match c {
        '"' | '\\' | '\n' | '\r' | '\t' | '\u{8}' | '\u{c}' => 2,
        '\0'..='\u{1f}' => 6,
        c => c.len_utf16(),
    }
}

/// Cuts a text into pieces of at most `budget` JSON characters each, in order: between words where a word fits into a
/// piece, within it where not even that. White space at a cut is left out, so no piece begins or ends with it there; a
/// text of white space alone is left whole where it fits.
pub(super) fn split(text: &str, budget: usize) -> Vec<&str> {
    let mut pieces = Vec::new();
    let mut rest = text;
    loop {
        let fits = prefix(rest, budget);
        if fits == rest.len() {
            break;
        }
        let (piece, after) = rest.split_at(cut(rest, fits));
        let piece = piece.trim_end();
        if !piece.is_empty() {
            pieces.push(piece);
        }
        rest = after.trim_start();
    }
    if !rest.is_empty() {
        pieces.push(rest);
    }
    pieces
}

/// How many bytes of the text fit, at least one character: a budget that holds none could never be kept.
fn prefix(text: &str, budget: usize) -> usize {
    let mut used = 0;
    let mut fits = 0;
    for (start, c) in text.char_indices() {
        used += json_chars_of(c);
        if used > budget && start > 0 {
            break;
        }
        fits = start + c.len_utf8();
    }
    fits
}

/// Where to cut: after the last white space that fits, or where the next word begins; else where the room ends.
fn cut(text: &str, fits: usize) -> usize {
    let (head, tail) = text.split_at(fits);
    if tail.starts_with(char::is_whitespace) {
        return fits;
    }
    let last = head
        .char_indices()
        .rev()
        .find(|(_, c)| c.is_whitespace())
        .map(|(start, c)| start + c.len_utf8());
    // White space before the first word is no place to cut: nothing would stand before it.
    last.filter(|end| !head.split_at(*end).0.trim().is_empty())
        .unwrap_or(fits)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_text_is_cut_between_words() {
        for (text, budget, pieces) in [
            ("one two three", 13, vec!["one two three"]),
            ("one two three", 7, vec!["one two", "three"]),
            ("one two three", 8, vec!["one two", "three"]),
            ("one two three", 6, vec!["one", "two", "three"]),
            ("one\n\n  two", 5, vec!["one", "two"]),
            ("onetwothree four", 5, vec!["onetw", "othre", "e", "four"]),
            ("a\"b\"c", 4, vec!["a\"b", "\"c"]),
            ("👋👋👋", 4, vec!["👋👋", "👋"]),
            ("👋", 1, vec!["👋"]),
            ("  one two", 6, vec!["  one", "two"]),
            ("", 5, vec![]),
        ] {
            assert_eq!(split(text, budget), pieces, "{text:?} in {budget}");
        }
    }

    #[test]
    fn characters_are_counted_as_json_has_them() {
        for text in ["plain", "\"\\\n\r\t\u{8}\u{c}\u{1}\u{1f}\u{7f}", "ünïcödé"] {
            let json = serde_json::to_string(text).unwrap();
            assert_eq!(json_chars(text), json.chars().count() - 2, "{text:?}");
        }
        assert_eq!(json_chars("👋"), 2);
    }

    proptest! {
        #[test]
        fn any_text_is_counted_as_json_has_it(text in "\\PC{0,40}[\u{0}-\u{1f}\u{7f}\u{2028}👋\"\\\\]{0,8}") {
            let json = serde_json::to_string(&text).unwrap();

            prop_assert_eq!(json_chars(&text), json.encode_utf16().count() - 2);
        }

        #[test]
        fn every_piece_fits_and_nothing_but_white_space_is_left_out(
            text in "[a-z \"\\n👋é]{0,200}",
            budget in 2_usize..40,
        ) {
            let pieces = split(&text, budget);

            for piece in &pieces {
                prop_assert!(!piece.is_empty());
                prop_assert!(json_chars(piece) <= budget, "{:?}", piece);
            }
            let letters = |text: &str| -> String {
                text.chars().filter(|c| !c.is_whitespace()).collect()
            };
            prop_assert_eq!(letters(&pieces.concat()), letters(&text));
        }

        #[test]
        fn a_word_that_fits_is_never_cut(words in prop::collection::vec("[a-z]{1,8}", 1..30)) {
            let text = words.join(" ");

            let pieces = split(&text, 10);

            let again: Vec<_> = pieces.iter().flat_map(|piece| piece.split(' ')).collect();
            prop_assert_eq!(again, words);
        }
    }
}
