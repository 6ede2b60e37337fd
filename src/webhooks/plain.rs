//! The Cloud's structured content as text, for channels that can show nothing else: an SMS gateway sends the text, its
//! user answers with a number.
//!
//! A line is made of an element's words and of where it leads. What an element's `type` says does not matter, so new
//! types are read by the same rule: whatever has words is written down, whatever has elements is walked through, and
//! whatever publishes a text when it is touched is a choice. The walk keeps its own stack and ends at a bound.

use serde_json::Value;

use super::members::Members;
use crate::types::event::data::Choice;

/// Characters. Twice the 5,000 that one request to the Cloud may have: what agents and bots write stays far below.
const TEXT_LIMIT: usize = 10_000;

/// Elements that are looked at: a thousand times what a card has.
const ELEMENT_LIMIT: usize = 10_000;

/// Structured content in plain text.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Plain {
    /// The text, choices numbered from 1; empty where the content holds no words.
    pub text: String,
    /// The choices, in the order of their numbers.
    pub choices: Vec<Choice>,
}

/// What is left to be written, the next one last.
enum Step<'a> {
    Element(&'a Value),
    /// The line between two cards of a carousel.
    Gap,
}

/// Writes elements of structured content down, one after the other: a card, a carousel, or the Cloud's `quickReplies`.
///
/// ```
/// use liveperson_bridge::webhooks::plain;
/// use serde_json::json;
///
/// let card = json!({"type": "vertical", "elements": [
///     {"type": "text", "text": "Shall I book it?"},
///     {"type": "button", "title": "Yes", "click": {"actions": [{"type": "publishText", "text": "yes please"}]}},
///     {"type": "button", "title": "Terms", "click": {"actions": [{"type": "link", "uri": "https://example.com/t"}]}},
/// ]});
///
/// let plain = plain::render(&[&card]);
///
/// assert_eq!(plain.text, "Shall I book it?\n1. Yes\nTerms: https://example.com/t");
/// assert_eq!(plain.choices[0].text, "yes please");
/// ```
#[must_use]
pub fn render(content: &[&Value]) -> Plain {
    let mut page = Page::default();
    let mut steps: Vec<_> = content.iter().rev().map(|it| Step::Element(it)).collect();
    for _ in 0..ELEMENT_LIMIT {
        let Some(step) = steps.pop() else { break };
        match step {
            Step::Gap => page.gap = true,
            Step::Element(Value::Array(elements)) => {
                steps.extend(elements.iter().rev().map(Step::Element));
            }
            Step::Element(value) => {
                let Some(element) = Members::of(value) else {
                    continue;
                };
                if page.write(element).is_err() {
                    break;
                }
                let is_carousel = element.text("type") == Some("carousel");
                let children = element.list("elements").iter();
                for child in children.chain(element.list("replies")).rev() {
                    steps.push(Step::Element(child));
                    if is_carousel {
                        steps.push(Step::Gap);
                    }
                }
            }
        }
    }
    page.plain
}

/// The page is full.
struct Full;

/// What has been written so far.
#[derive(Default)]
struct Page {
    plain: Plain,
    chars: usize,
    gap: bool,
}

impl Page {
    /// Writes the line of an element, if it has one.
    fn write(&mut self, element: Members<'_>) -> Result<(), Full> {
        let words = words(element);
        let places = places(element).join(", ");
        let Some(said) = published(element) else {
            let line = [words.as_str(), places.as_str()];
            return self.line(&joined(line, ": "));
        };
        // In one line, since what follows the number is what the user looks for.
        let mut title = words.split_whitespace().collect::<Vec<_>>().join(" ");
        if title.is_empty() {
            said.clone_into(&mut title);
        }
        if title.is_empty() {
            return Ok(());
        }
        let number = self.plain.choices.len() + 1;
        let line = format!("{number}. {}", joined([&title, &places], ": "));
        if self.chars + line.chars().count() > TEXT_LIMIT {
            return self.end();
        }
        self.plain.choices.push(Choice {
            text: if said.is_empty() { &title } else { said }.to_owned(),
            title,
            metadata: element
                .object("click")
                .and_then(|click| click.metadata("metadata")),
        });
        self.line(&line)
    }

    fn line(&mut self, line: &str) -> Result<(), Full> {
        if line.is_empty() {
            return Ok(());
        }
        let text = &mut self.plain.text;
        if !text.is_empty() {
            text.push_str(if self.gap { "\n\n" } else { "\n" });
        }
        self.gap = false;
        let left = TEXT_LIMIT.saturating_sub(self.chars);
        text.extend(line.chars().take(left));
        let chars = line.chars().count();
        self.chars += chars;
        if chars > left { self.end() } else { Ok(()) }
    }

    fn end(&mut self) -> Result<(), Full> {
        self.plain.text.push('…');
        Err(Full)
    }
}

/// The parts that there are.
fn joined(parts: [&str; 2], between: &str) -> String {
    let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
    parts.join(between)
}

/// What an element says: all of its words, or where it has none those that stand for it.
fn words(element: Members<'_>) -> String {
    let all: Vec<_> = ["title", "text", "caption"]
        .into_iter()
        .filter_map(|name| element.text(name))
        .map(str::trim)
        .filter(|words| !words.is_empty())
        .collect();
    if all.is_empty() {
        element
            .text("tooltip")
            .unwrap_or_default()
            .trim()
            .to_owned()
    } else {
        all.join(": ")
    }
}

/// The text that touching an element publishes; empty where the Cloud does not say which.
fn published(element: Members<'_>) -> Option<&str> {
    let mut actions = actions(element);
    let publishes = actions.find(|action| action.text("type") == Some("publishText"))?;
    Some(publishes.text("text").unwrap_or_default().trim())
}

/// Where an element leads, and where it is.
fn places(element: Members<'_>) -> Vec<String> {
    let mut places = Vec::new();
    for object in std::iter::once(element).chain(actions(element)) {
        let links = ["url", "uri"]
            .into_iter()
            .filter_map(|name| object.text(name));
        // Data URIs are pictures, not places.
        places.extend(
            links
                .filter(|link| !link.starts_with("data:"))
                .map(str::to_owned),
        );
        places.extend(position(object));
    }
    places
}

/// Latitude and longitude, which every map takes in this form.
fn position(object: Members<'_>) -> Option<String> {
    let degrees = |name| match object.value(name)? {
        Value::Number(number) => Some(number.to_string()),
        Value::String(text) => text.parse::<f64>().ok().map(|degrees| degrees.to_string()),
        _ => None,
    };
    Some(format!("{}, {}", degrees("la")?, degrees("lo")?))
}

fn actions(element: Members<'_>) -> impl Iterator<Item = Members<'_>> {
    let click = element.object("click");
    click.into_iter().flat_map(|click| click.objects("actions"))
}

#[cfg(test)]
mod tests;
