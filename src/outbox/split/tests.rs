use proptest::prelude::*;
use unicode_segmentation::UnicodeSegmentation as _;

use super::*;

fn pieces(text: &str, budget: usize) -> Vec<String> {
    let text = Text::try_from(text.to_owned()).unwrap();
    split(&text, budget).into()
}

#[test]
fn a_text_is_cut_between_sentences_and_words() {
    for (text, budget, expected) in [
        ("one two three", 13, vec!["one two three"]),
        ("one two three", 8, vec!["one two ", "three"]),
        ("one two three", 7, vec!["one ", "two ", "three"]),
        ("one\n\n  two", 9, vec!["one\n\n  ", "two"]),
        ("onetwothree four", 5, vec!["onetw", "othre", "e ", "four"]),
        ("a\"b\"c", 4, vec!["a\"b", "\"c"]),
        ("👋👋👋", 4, vec!["👋👋", "👋"]),
        ("👋", 1, vec!["👋"]),
        ("  one two", 7, vec!["  one ", "two"]),
        // The sentence fills half of the piece.
        ("One two. Three four", 17, vec!["One two. ", "Three four"]),
        // The sentence fills less than half of the piece.
        (
            "Yes. One two three four",
            16,
            vec!["Yes. One two ", "three four"],
        ),
        // Punctuation stays with the word before it, an opening bracket with the word after it.
        ("one, two (three)", 11, vec!["one, two ", "(three)"]),
        (
            "mail a.b@example.com now",
            22,
            vec!["mail a.b@example.com ", "now"],
        ),
    ] {
        assert_eq!(pieces(text, budget), expected, "{text:?} in {budget}");
    }
}

#[test]
fn an_invisible_mark_stays_with_the_word_after_it() {
    let name = "\u{2068}name\u{2069} ";
    assert_eq!(pieces(&name.repeat(3), 8), [name, name, name]);
    let marked = "\u{FEFF}abc ";
    assert_eq!(pieces(&marked.repeat(3), 7), [marked, marked, marked]);
}

#[test]
fn scripts_without_spaces_are_cut_between_words() {
    for (text, budget, expected) in [
        // "Every two weeks": "every two", "weeks".
        ("ทุกสองสัปดาห์", 8, vec!["ทุกสอง", "สัปดาห์"]),
        // "Hello world".
        ("こんにちは世界", 6, vec!["こんにちは", "世界"]),
        // "We are in Beijing. The weather is fine."
        (
            "我们在北京。天气很好。",
            8,
            vec!["我们在北京。", "天气很好。"],
        ),
        // "Beijing, weather".
        ("北京、天气", 4, vec!["北京、", "天气"]),
    ] {
        assert_eq!(pieces(text, budget), expected, "{text:?} in {budget}");
    }
}

#[test]
fn a_grapheme_cluster_is_never_cut() {
    for cluster in [
        "👨\u{200D}👩\u{200D}👧\u{200D}👦",
        "🇩🇪",
        "👍🏽",
        "1\u{FE0F}\u{20E3}",
        "❤\u{FE0F}",
        "e\u{301}",
        "\u{E17}\u{E35}\u{E48}",
        "\u{915}\u{94D}\u{937}\u{93F}",
        "\u{1112}\u{1161}\u{11AB}",
        "\r\n",
    ] {
        let text = format!("a{}b", cluster.repeat(30));
        for budget in json_chars(cluster)..=40 {
            for piece in pieces(&text, budget) {
                let inner = piece.trim_start_matches('a').trim_end_matches('b');
                let remaining = inner.replace(cluster, "");
                assert_eq!(remaining, "", "{piece:?} of {cluster:?} in {budget}");
            }
        }
    }
}

#[test]
fn white_space_that_fills_a_piece_is_left_out() {
    for (text, expected) in [
        (format!("a{}b", " ".repeat(100)), vec!["a", "b"]),
        (format!("{}b", "\u{3000}".repeat(100)), vec!["b"]),
        (format!("a{}", "\n".repeat(100)), vec!["a"]),
    ] {
        let pieces = pieces(&text, 10);
        let trimmed: Vec<_> = pieces.iter().map(|piece| piece.trim()).collect();
        assert_eq!(trimmed, expected, "{text:?}");
    }
}

#[test]
fn a_cluster_that_exceeds_the_budget_is_cut_between_characters() {
    let text = format!("e{}", "\u{301}".repeat(30));

    let pieces = pieces(&text, 8);

    assert_eq!(pieces.concat(), text);
    assert!(pieces.iter().all(|piece| json_chars(piece) <= 8));
}

#[test]
fn escaped_characters_count_with_their_length_in_json() {
    for text in ["plain", "\"\\\n\r\t\u{8}\u{c}\u{1}\u{1f}\u{7f}", "ünïcödé"] {
        let json = serde_json::to_string(text).unwrap();
        assert_eq!(json_chars(text), json.chars().count() - 2, "{text:?}");
    }
    assert_eq!(json_chars("👋"), 2);
}

/// Generates words, spaces, punctuation and clusters of many kinds.
fn texts() -> impl Strategy<Value = String> {
    let part = prop_oneof![
        "[a-z]{1,9}",
        "[ ]{1,3}",
        Just("\n".to_owned()),
        Just("\r\n".to_owned()),
        Just(". ".to_owned()),
        Just("。".to_owned()),
        "[\"\\\\,;:!?()@/-]",
        "[0-9]{1,5}",
        "[\u{E01}-\u{E2E}][\u{E30}-\u{E39}]?[\u{E48}-\u{E4B}]?",
        "[\u{915}-\u{939}]\u{94D}?[\u{93E}-\u{94C}]?",
        "[\u{1100}-\u{1112}][\u{1161}-\u{1175}][\u{11A8}-\u{11C2}]?",
        "[\u{4E00}-\u{9FA5}]{1,4}",
        "[\u{3041}-\u{3093}]{1,4}",
        "[a-z][\u{300}-\u{304}]{1,3}",
        Just("👨\u{200D}👩\u{200D}👧".to_owned()),
        "[\u{1F1E6}-\u{1F1FF}]{2}",
        Just("👍🏽".to_owned()),
        "\\PC",
    ];
    prop::collection::vec(part, 1..60).prop_map(|parts| parts.concat())
}

proptest! {
    #[test]
    fn the_counted_length_of_any_text_is_its_json_length(text in "\\PC{0,40}[\u{0}-\u{1f}\u{7f}\u{2028}👋\"\\\\]{0,8}") {
        let json = serde_json::to_string(&text).unwrap();

        prop_assert_eq!(json_chars(&text), json.encode_utf16().count() - 2);
    }

    #[test]
    fn pieces_fit_the_budget_and_lose_only_white_space(text in texts(), budget in 4_usize..60) {
        let Ok(whole) = Text::try_from(text.clone()) else {
            return Ok(());
        };

        let pieces: Vec<String> = split(&whole, budget).into();

        let mut remaining = text.as_str();
        for piece in &pieces {
            prop_assert!(!Text::is_blank(piece), "{:?}", pieces);
            prop_assert!(json_chars(piece) <= budget, "{:?}", piece);
            // Only white space is ever left out.
            let at = remaining.find(piece.as_str()).unwrap();
            prop_assert!(Text::is_blank(&remaining[..at]), "{:?} before {:?}", &remaining[..at], piece);
            remaining = &remaining[at + piece.len()..];
        }
        prop_assert!(Text::is_blank(remaining), "{:?} is lost", remaining);
    }

    // The reference is another implementation of UAX 29 than the one under test.
    #[test]
    fn no_cut_lies_within_a_cluster_that_fits(text in texts(), budget in 12_usize..60) {
        let Ok(whole) = Text::try_from(text.clone()) else {
            return Ok(());
        };
        let longest = text.graphemes(true).map(json_chars).max().unwrap_or_default();
        prop_assume!(longest <= budget);

        let pieces: Vec<String> = split(&whole, budget).into();

        prop_assume!(pieces.concat() == text);
        let starts: Vec<_> = text.grapheme_indices(true).map(|(start, _)| start).collect();
        let mut at = 0;
        for piece in &pieces {
            prop_assert!(starts.contains(&at), "{:?}", pieces);
            at += piece.len();
        }
    }

    #[test]
    fn a_word_that_fits_is_never_cut(words in prop::collection::vec("[a-z]{1,8}", 1..30)) {
        let text = words.join(" ");

        let pieces = pieces(&text, 10);

        let actual: Vec<_> = pieces.iter().flat_map(|piece| piece.split_whitespace()).collect();
        prop_assert_eq!(actual, words);
    }
}
