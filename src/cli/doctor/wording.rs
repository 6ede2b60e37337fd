//! The Cloud's answers as facts: status, code and text, with ids and names masked.

use std::time::Duration;

use serde_json::{Value, json};

use crate::cloud::capture::RawAnswer;

/// The replacement for a masked word.
const MASK: &str = "•••";

/// 6 characters: the shortest word with a digit that counts as an id.
const ID_CHARS: usize = 6;

/// A mask for the words in the Cloud's text that name an account, a person or a host.
#[derive(Debug, Default)]
pub(super) struct Masks(Vec<String>);

impl Masks {
    /// Adds a literal word to mask.
    pub(super) fn add(&mut self, name: &str) {
        if !name.is_empty() {
            self.0.push(name.to_owned());
        }
    }

    /// Masks ids, addresses and known names in a text.
    pub(super) fn apply(&self, text: &str) -> String {
        let mut masked = text.to_owned();
        for name in &self.0 {
            masked = masked.replace(name.as_str(), MASK);
        }
        let is_part = |c: char| c.is_alphanumeric() || "-_.:/@%".contains(c);
        let mut result = String::new();
        let mut remaining = masked.as_str();
        while let Some(first) = remaining.chars().next() {
            let end = remaining
                .char_indices()
                .find(|(_, c)| is_part(*c) != is_part(first))
                .map_or(remaining.len(), |(at, _)| at);
            let (run, after) = remaining.split_at(end);
            let core = run.trim_end_matches(['.', ':']);
            if is_part(first) && is_name(core) {
                result.push_str(MASK);
                result.push_str(run.get(core.len()..).unwrap_or_default());
            } else {
                result.push_str(run);
            }
            remaining = after;
        }
        result
    }

    /// Returns an answer as a member of the report.
    pub(super) fn answer_json(&self, answer: &RawAnswer) -> Value {
        let text = |text: &Option<String>| text.as_deref().map(|text| self.apply(text));
        let parts = answer.parts.iter().map(|part| {
            json!({
                "code": text(&part.code),
                "error_code": text(&part.error_code),
                "words": text(&part.error_text),
            })
        });
        json!({
            "call": answer.operation.trim_start_matches("cloud."),
            "status": answer.status,
            "form": answer.form,
            "parts": parts.collect::<Vec<_>>(),
        })
    }

    /// Returns an answer as text for the terminal.
    pub(super) fn answer_text(&self, answer: &RawAnswer) -> String {
        let code = answer
            .code()
            .map(|code| format!(", code {}", self.apply(code)));
        let error_text = answer
            .error_text()
            .map(|text| format!(", \"{}\"", self.apply(text)));
        let form = (answer.form != "json").then(|| format!(", body: {}", answer.form));
        let details: String = [code, error_text, form].into_iter().flatten().collect();
        format!("status {}{details}", answer.status)
    }
}

/// True if a word may name a person, a thing or a place.
fn is_name(word: &str) -> bool {
    let is_id = word.chars().count() >= ID_CHARS && word.contains(|c: char| c.is_ascii_digit());
    // `body.event.type` is not a name: it is a path of members.
    is_id || word.contains("://") || word.contains('@') || is_domain(word)
}

fn is_domain(word: &str) -> bool {
    let word = word.to_ascii_lowercase();
    [".com", ".net", ".org", ".io", ".local"]
        .iter()
        .any(|end| word.contains(end))
}

/// Converts a duration to milliseconds.
pub(super) fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_names_and_addresses_are_masked_and_words_are_not() {
        let mut masks = Masks::default();
        masks.add("le-account");
        for (text, masked) in [
            (
                "Consumer request failed: User 0f3a9c already has open conversation. Can't open.",
                "Consumer request failed: User ••• already has open conversation. Can't open.",
            ),
            ("Conversation is close", "Conversation is close"),
            (
                "Bad, body.event.type: missing (code 400)",
                "Bad, body.event.type: missing (code 400)",
            ),
            ("of le-account: 12345678.", "of •••: •••."),
            ("see https://va.msg.liveperson.net/api", "see •••"),
            ("va.msg.liveperson.net is away", "••• is away"),
            ("ask ada@example.com", "ask •••"),
            ("+15550001001", "+•••"),
        ] {
            assert_eq!(masks.apply(text), masked);
        }
    }
}
