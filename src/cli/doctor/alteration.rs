//! The differences between a text that was sent and its echo.

use crate::types::message::Digest;
use crate::types::sketch::Sketch;

/// The ways in which the Cloud altered a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Alteration {
    /// The kinds of alteration, as named in the report; empty if the text is unchanged.
    pub(super) kinds: Vec<&'static str>,
    /// True if the bridge recognizes it as the same text.
    pub(super) is_recognized: bool,
}

/// Compares the echo with the text that was sent.
pub(super) fn compare(sent: &str, echo: &str) -> Alteration {
    let is_recognized = Digest::of_text(echo) == Digest::of_text(sent)
        || Sketch::of(echo).may_be_altered_from(&Sketch::of(sent));
    Alteration {
        kinds: kinds(sent, echo),
        is_recognized,
    }
}

/// Names the alterations, by undoing one kind after another. A difference that remains is named
/// `otherwise`.
fn kinds(sent: &str, echo: &str) -> Vec<&'static str> {
    let mut kinds = Vec::new();
    let (mut sent, mut echo) = (sent.to_owned(), echo.to_owned());
    if echo.contains("\r\n") && !sent.contains("\r\n") {
        echo = echo.replace("\r\n", "\n");
        kinds.push("line_breaks");
    }
    let unescaped = html_escape::decode_html_entities(&echo).into_owned();
    if echo != sent && unescaped != echo {
        echo = unescaped;
        kinds.push("escaped");
    }
    if echo != sent && echo == echo.trim() && sent != sent.trim() {
        sent = sent.trim().to_owned();
        kinds.push("trimmed");
    }
    if echo != sent {
        let single_spaced = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        if single_spaced(&echo).chars().count() == single_spaced(&sent).chars().count()
            && echo.chars().count() != sent.chars().count()
        {
            (echo, sent) = (single_spaced(&echo), single_spaced(&sent));
            kinds.push("white_space");
        }
    }
    if echo == sent {
        return kinds;
    }
    if !is_masked(&sent, &echo) {
        return vec!["otherwise"];
    }
    kinds.push("digits_masked");
    kinds
}

/// True if the texts differ only where a digit was sent.
fn is_masked(sent: &str, echo: &str) -> bool {
    let mut pairs = sent.chars().zip(echo.chars());
    sent.chars().count() == echo.chars().count()
        && pairs.all(|(sent, echo)| sent == echo || sent.is_numeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_alteration_of_an_echo_is_named() {
        let sent = "R&D <b> 4111 1111\nline  two ";
        for (echo, expected, is_recognized) in [
            (sent, &[][..], true),
            ("R&D <b> **** ****\nline  two ", &["digits_masked"], true),
            ("R&D <b> 4111 1111\r\nline  two ", &["line_breaks"], true),
            ("R&D <b> 4111 1111\nline  two", &["trimmed"], true),
            (
                "R&amp;D &lt;b&gt; 4111 1111\nline  two ",
                &["escaped"],
                true,
            ),
            ("R&D <b> 4111 1111 line two ", &["white_space"], true),
            (
                "R&amp;D &lt;b&gt; **** ****\r\nline  two",
                &["line_breaks", "escaped", "trimmed", "digits_masked"],
                true,
            ),
            ("something else", &["otherwise"], false),
        ] {
            let alteration = compare(sent, echo);
            assert_eq!(alteration.kinds, expected, "{echo:?}");
            assert_eq!(alteration.is_recognized, is_recognized, "{echo:?}");
        }
    }
}
