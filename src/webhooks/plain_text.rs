//! Structured content as text, for channels that can show nothing else. An SMS gateway sends the
//! text, and its user answers with a number.
//!
//! An element becomes a line of its words and links. Its children follow below, in the order in
//! which they are shown. The rule hardly depends on an element's `type`, so it also covers kinds
//! that are added later: words are written, and objects and lists are visited. An element that
//! publishes a text when it is touched is a choice. The traversal has its own stack and ends at a
//! limit.
//!
//! To add a kind of element: if the rule misses some of its words, name their member in `element`.
//! Add the kind to the tables and to the generated content in the tests, and to the table in
//! `docs/events.md`.
//!
//! Source of the kinds: the vendor's schemas (LivePersonInc/json-pollock, `js/schema`) and its
//! template pages (developers.liveperson.com, Mobile SDK and Web Templates).

use serde_json::Value;

use self::element::{Element, Step, collapsed, displayed, joined};
use super::members::Members;
use crate::types::event::data::Choice;

mod element;

/// 10,000 characters: twice the 5,000 that one request to the Cloud may have. Texts of agents and
/// bots are far shorter.
const TEXT_LIMIT: usize = 10_000;

/// 10,000: the limit of elements that are visited, a thousand times the number in a card.
const ELEMENT_LIMIT: usize = 10_000;

/// Structured content in plain text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plain {
    /// The text, with choices numbered from 1; empty if the content has no words.
    pub text: String,
    /// The choices, in the order of their numbers.
    pub choices: Vec<Choice>,
}

/// Renders elements of structured content one after the other: a card, a carousel, or the Cloud's
/// `quickReplies`.
///
/// ```
/// use liveperson_bridge::webhooks::plain_text;
/// use serde_json::json;
///
/// let card = json!({"type": "vertical", "elements": [
///     {"type": "text", "text": "Shall I book it?"},
///     {"type": "button", "title": "Yes", "click": {"actions": [{"type": "publishText", "text": "yes please"}]}},
///     {"type": "button", "title": "Terms", "click": {"actions": [{"type": "link", "uri": "https://example.com/t"}]}},
/// ]});
///
/// let plain = plain_text::render(&[&card]);
///
/// assert_eq!(plain.text, "Shall I book it?\n1. Yes\nTerms: https://example.com/t");
/// assert_eq!(plain.choices[0].text, "yes please");
/// ```
#[must_use]
pub fn render(content: &[&Value]) -> Plain {
    let mut page = Page::default();
    let mut steps: Vec<_> = content.iter().rev().map(|it| Step::Value(it)).collect();
    for _ in 0..ELEMENT_LIMIT {
        let Some(step) = steps.pop() else { break };
        let written = match step {
            Step::Gap => {
                page.gap = true;
                Ok(())
            }
            Step::Reply(text) => page.write_reply(text),
            Step::Value(Value::Array(items)) => {
                steps.extend(items.iter().rev().map(Step::Value));
                Ok(())
            }
            Step::Value(Value::Object(members)) => {
                let element = Element(Members::from(members));
                steps.extend(element.children().into_iter().rev());
                page.write_element(element)
            }
            Step::Value(text @ Value::String(_)) => {
                page.write_line(&displayed(text).unwrap_or_default())
            }
            // Numbers in a list are percentages and the like.
            Step::Value(_) => Ok(()),
        };
        if written.is_err() {
            break;
        }
    }
    page.plain
}

/// The error that the text has reached its limit.
struct Full;

/// The lines and choices that have been written so far.
#[derive(Default)]
struct Page {
    plain: Plain,
    chars: usize,
    gap: bool,
}

impl Page {
    /// Writes the line of an element, if it has one.
    fn write_element(&mut self, element: Element<'_>) -> Result<(), Full> {
        let mut words = element.words();
        let details = element.details(&words);
        let published = element.published();
        let title = match &published {
            // Only the first words, in one line, since the user looks for the text after the
            // number.
            Some(text) => words
                .first()
                .map_or_else(|| collapsed(text), |it| collapsed(it)),
            None => String::new(),
        };
        if title.is_empty() {
            return self.write_line(&joined(words, details));
        }
        words.drain(..words.len().min(1));
        words.extend(details);
        let text = published.filter(|text| !text.is_empty());
        let choice = Choice {
            text: text.unwrap_or_else(|| title.clone()),
            title,
            metadata: element.choice_metadata(),
        };
        self.write_choice(choice, &collapsed(&words.join(", ")))
    }

    /// Writes a reply whose text is both shown and published.
    fn write_reply(&mut self, reply: &Value) -> Result<(), Full> {
        let Some(title) = displayed(reply) else {
            return Ok(());
        };
        let choice = Choice {
            text: reply
                .as_str()
                .map_or_else(|| title.clone(), |it| it.trim().to_owned()),
            title: collapsed(&title),
            metadata: None,
        };
        self.write_choice(choice, "")
    }

    fn write_choice(&mut self, choice: Choice, details: &str) -> Result<(), Full> {
        let number = self.plain.choices.len() + 1;
        let colon = if details.is_empty() { "" } else { ": " };
        let line = format!("{number}. {}{colon}{details}", choice.title);
        if self.chars + line.chars().count() > TEXT_LIMIT {
            return self.truncate();
        }
        self.plain.choices.push(choice);
        self.write_line(&line)
    }

    fn write_line(&mut self, line: &str) -> Result<(), Full> {
        if line.is_empty() {
            return Ok(());
        }
        let text = &mut self.plain.text;
        if !text.is_empty() {
            text.push_str(if self.gap { "\n\n" } else { "\n" });
        }
        self.gap = false;
        let remaining = TEXT_LIMIT.saturating_sub(self.chars);
        text.extend(line.chars().take(remaining));
        let chars = line.chars().count();
        self.chars += chars;
        if chars > remaining {
            self.truncate()
        } else {
            Ok(())
        }
    }

    fn truncate(&mut self) -> Result<(), Full> {
        self.plain.text.push('…');
        Err(Full)
    }
}

#[cfg(test)]
mod tests;
