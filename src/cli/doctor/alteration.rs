//! The differences between a text that was sent and its echo.

use crate::types::message::Digest;
use crate::types::sketch::Sketch;

/// The ways in which the Cloud altered a text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Alteration {
    /// The kinds of alteration, as named in the report; empty if the text is unchanged.
    pub(super) kinds: Vec<&'static str>,
    /// True if the bridge recognizes it as the same text.
    pub(super) is_recognised: bool,
}

/// Compares the echo with the text that was sent.
pub(super) fn compare(sent: &str, heard: &str) -> Alteration {
    let is_recognised = Digest::of_text(heard) == Digest::of_text(sent)
        || Sketch::of(heard).may_be_altered_from(&Sketch::of(sent));
    Alteration {
        kinds: kinds(sent, heard),
        is_recognised,
    }
}

/// Names the alterations. Undoes one kind after another until nothing is left to explain.
fn kinds(sent: &str, heard: &str) -> Vec<&'static str> {
    let mut kinds = Vec::new();
    let (mut sent, mut heard) = (sent.to_owned(), heard.to_owned());
    if heard.contains("\r\n") && !sent.contains("\r\n") {
        heard = heard.replace("\r\n", "\n");
        kinds.push("line_breaks");
    }
    let unescaped = html_escape::decode_html_entities(&heard).into_owned();
    if heard != sent && unescaped != heard {
        heard = unescaped;
        kinds.push("escaped");
    }
    if heard != sent && heard == heard.trim() && sent != sent.trim() {
        sent = sent.trim().to_owned();
        kinds.push("trimmed");
    }
    if heard != sent {
        let words = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
        if words(&heard).chars().count() == words(&sent).chars().count()
            && heard.chars().count() != sent.chars().count()
        {
            (heard, sent) = (words(&heard), words(&sent));
            kinds.push("white_space");
        }
    }
    if heard == sent {
        return kinds;
    }
    if !is_masked(&sent, &heard) {
        return vec!["otherwise"];
    }
    kinds.push("digits_masked");
    kinds
}

/// True if the texts differ only where a digit was sent.
fn is_masked(sent: &str, heard: &str) -> bool {
    let mut pairs = sent.chars().zip(heard.chars());
    sent.chars().count() == heard.chars().count()
        && pairs.all(|(sent, heard)| sent == heard || sent.is_numeric())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_alteration_of_an_echo_is_named() {
        let sent = "R&D <b> 4111 1111\nline  two ";
        for (heard, expected, is_recognised) in [
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
            let alteration = compare(sent, heard);
            assert_eq!(alteration.kinds, expected, "{heard:?}");
            assert_eq!(alteration.is_recognised, is_recognised, "{heard:?}");
        }
    }
}
