//! Alterations that the Cloud may make to texts before it sends them.
//!
//! Source: LivePerson's article "Data masking and encryption" describes real-time masking of card
//! and phone numbers. No webhook with a masked text was seen. The other alterations are only
//! plausible.

use chrono::TimeDelta;

/// The lag of the Cloud's clock when a test asks for a slow one: 30 s.
pub(super) const SLOW_BY: TimeDelta = TimeDelta::seconds(30);

/// The age of a notification when a test asks for an old one: 5 days. The Cloud itself retries for
/// 3 days. Source: vendor's Webhooks documentation, "Retry policy".
pub(super) const OLD_BY: TimeDelta = TimeDelta::days(5);

pub(super) fn masked(text: &str) -> String {
    let masked = text.chars().map(|c| if c.is_numeric() { '*' } else { c });
    masked.collect()
}

pub(super) fn trimmed(text: &str) -> String {
    text.trim().to_owned()
}

pub(super) fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c => escaped.push(c),
        }
    }
    escaped
}

pub(super) fn with_other_line_breaks(text: &str) -> String {
    if text.contains("\r\n") {
        text.replace("\r\n", "\n")
    } else {
        text.replace('\n', "\r\n")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_alteration_changes_only_one_aspect_of_a_text() {
        let text = " a<b & 12\n\"c\" ";

        assert_eq!(masked(text), " a<b & **\n\"c\" ");
        assert_eq!(trimmed(text), "a<b & 12\n\"c\"");
        assert_eq!(escaped(text), " a&lt;b &amp; 12\n&quot;c&quot; ");
        assert_eq!(with_other_line_breaks(text), " a<b & 12\r\n\"c\" ");
        assert_eq!(with_other_line_breaks("a\r\nb"), "a\nb");
    }
}
