//! An element of structured content: its words, its links, the text that it publishes, and its
//! children.
//!
//! Words are decoded, since the vendor's window shows them as HTML: `&#x1F449;` is a pointing hand.
//! Texts to publish, links and metadata are not decoded, since a bot compares them byte for byte.

use std::iter;

use chrono::{DateTime, Utc};
use serde_json::Value;

use crate::types::message::Metadata;
use crate::webhooks::members::Members;

/// The members that name an element, in the order in which they are shown.
const NAMES: [&str; 5] = ["title", "name", "label", "heading", "header"];

/// The members with further text, in the order in which they are shown. A time comes before them.
const TEXTS: [&str; 9] = [
    "text",
    "message",
    "body",
    "content",
    "subtitle",
    "additional",
    "description",
    "caption",
    "footer",
];

/// The members that supply the words of an element that has no others, such as a picture.
const SUBSTITUTES: [&str; 2] = ["alt", "tooltip"];

/// The members that are not searched for children: they show nothing, or are read elsewhere.
const NOT_SEARCHED: [&str; 12] = [
    "accessibility",
    "actions",
    "android",
    "click",
    "display",
    "ios",
    "metadata",
    "ref",
    "selectMode",
    "style",
    "titles",
    "web",
];

/// The actions that show nothing: their texts are only published.
const SILENT_ACTIONS: [&str; 5] = [
    "publishText",
    "checked",
    "submitAsText",
    "addToCart",
    "custom",
];

/// 64: the limit of actions that are read of one element. The vendor's schema allows 4.
const ACTION_LIMIT: usize = 64;

/// The first number that counts as milliseconds since the epoch (3 March 1973) and not as seconds
/// (the year 5138). The vendor's pages say seconds, but one of its samples has milliseconds.
const FIRST_MILLISECOND: i64 = 100_000_000_000;

/// A part of the content that is not written yet.
pub(super) enum Step<'a> {
    /// An element, a list of them, or words.
    Value(&'a Value),
    /// A text that is both shown and published.
    Reply(&'a Value),
    /// The empty line between two cards of a carousel.
    Gap,
}

/// An element or an action of an element: anything that can show words.
#[derive(Clone, Copy)]
pub(super) struct Element<'a>(pub(super) Members<'a>);

impl<'a> Element<'a> {
    /// Returns the words, without duplicates. For an element without words, returns a substitute.
    pub(super) fn words(self) -> Vec<String> {
        let words = self.names().chain(self.times()).chain(self.texts());
        let words = deduplicated(words, &[]);
        if !words.is_empty() {
            return words;
        }
        // The vendor's keyValuePair. In an element with other words, `key` is an identifier for
        // programs.
        if self.0.value("key").is_some() {
            return self.read(&["key", "value"]).collect();
        }
        let is_leaf = self.containers().next().is_none();
        let substitutes = self.read(&SUBSTITUTES).filter(|_| is_leaf);
        substitutes.take(1).collect()
    }

    /// Returns the links and positions of the element and the words of its actions, without the
    /// words in `known`.
    pub(super) fn details(self, known: &[String]) -> Vec<String> {
        let action_texts = self.shown_actions().map(|action| {
            let words = action.names().chain(action.times()).chain(action.texts());
            joined(deduplicated(words, known), action.targets())
        });
        let mut details = Vec::new();
        for detail in self.targets().into_iter().chain(action_texts) {
            if !detail.is_empty() && !known.contains(&detail) && !details.contains(&detail) {
                details.push(detail);
            }
        }
        details
    }

    /// Returns the text that is published when the element is touched, with a line for each action
    /// that publishes. It is empty if the Cloud does not give the text, and `None` if nothing is
    /// published.
    pub(super) fn published(self) -> Option<String> {
        let mut texts = self.actions().filter_map(Self::text_to_publish).peekable();
        texts.peek()?;
        let texts: Vec<_> = texts.filter(|text| !text.is_empty()).collect();
        Some(texts.join("\n"))
    }

    /// Returns the metadata that the Cloud attaches to the choice.
    pub(super) fn choice_metadata(self) -> Option<Metadata> {
        self.0.object("click")?.metadata("metadata")
    }

    /// Returns the children in the order in which they are shown. The children of its actions come
    /// first.
    pub(super) fn children(self) -> Vec<Step<'a>> {
        let mut steps = Vec::new();
        for object in self.shown_actions().chain(iter::once(self)) {
            let mut members: Vec<_> = object.containers().collect();
            members.sort_by_key(|name| rank(name));
            for name in members {
                match name {
                    "elements" => object.add_elements(&mut steps),
                    "resp" | "replies" => {
                        steps.extend(object.0.list(name).iter().map(|item| match item {
                            Value::Object(_) | Value::Array(_) => Step::Value(item),
                            _ => Step::Reply(item),
                        }));
                    }
                    _ => steps.extend(object.0.list(name).iter().map(Step::Value)),
                }
            }
        }
        steps
    }

    /// Adds the elements, each after its title. An accordion has its titles in a list of their own,
    /// and a tab has its title in `tag`.
    fn add_elements(self, steps: &mut Vec<Step<'a>>) {
        let kind = self.0.text("type").unwrap_or_default();
        let titles = self.0.list("titles");
        let elements = self.0.list("elements");
        for index in 0..elements.len().max(titles.len()) {
            if matches!(kind, "carousel" | "carouselSelect") {
                steps.push(Step::Gap);
            }
            steps.extend(titles.get(index).map(Step::Value));
            let element = elements.get(index);
            if kind == "tabs" {
                let tag = element
                    .and_then(Members::of)
                    .and_then(|tab| tab.value("tag"));
                steps.extend(tag.map(Step::Value));
            }
            steps.extend(element.map(Step::Value));
        }
    }

    /// Iterates over the names of the members that hold elements. `elements` is one of them even if
    /// there are only titles.
    fn containers(self) -> impl Iterator<Item = &'a str> {
        let titles = self.0.value("titles").is_some() && self.0.value("elements").is_none();
        let named = self.0.entries().filter(|(name, value)| {
            let is_reply = matches!(*name, "resp" | "replies") && value.is_string();
            let is_searched = value.is_object() || value.is_array() || is_reply;
            is_searched && !NOT_SEARCHED.contains(name)
        });
        named
            .map(|(name, _)| name)
            .chain(titles.then_some("elements"))
    }

    fn names(self) -> impl Iterator<Item = String> {
        self.read(&NAMES)
    }

    fn texts(self) -> impl Iterator<Item = String> {
        self.read(&TEXTS)
    }

    fn read(self, names: &'static [&str]) -> impl Iterator<Item = String> {
        names
            .iter()
            .filter_map(move |name| displayed(self.0.value(name)?))
    }

    /// Returns the time of a slot, or the days that a date picker allows. Times are in UTC, since
    /// the Cloud does not report the user's time zone.
    fn times(self) -> Option<String> {
        match self.0.text("type")? {
            "scheduleSlot" => self.slot(),
            "datePicker" => self.days(),
            _ => None,
        }
    }

    fn slot(self) -> Option<String> {
        const MINUTE: &str = "%Y-%m-%d %H:%M";
        let start = self.time("start")?;
        let begin = start.format(MINUTE);
        Some(match self.time("end").filter(|end| start < *end) {
            None => format!("{begin} UTC"),
            Some(end) if end.date_naive() == start.date_naive() => {
                format!("{begin}-{} UTC", end.format("%H:%M"))
            }
            Some(end) => format!("{begin} - {} UTC", end.format(MINUTE)),
        })
    }

    fn days(self) -> Option<String> {
        let day = |name| self.time(name).map(|it| it.format("%Y-%m-%d").to_string());
        let (from, to) = (day("minDate"), day("maxDate"));
        if from == to {
            return from;
        }
        let days = format!("{} - {}", from.unwrap_or_default(), to.unwrap_or_default());
        Some(days.trim().to_owned())
    }

    fn time(self, name: &str) -> Option<DateTime<Utc>> {
        let number = self.0.integer(name).filter(|number| *number > 0)?;
        if number < FIRST_MILLISECOND {
            DateTime::from_timestamp_secs(number)
        } else {
            DateTime::from_timestamp_millis(number)
        }
    }

    fn targets(self) -> Vec<String> {
        let links = ["url", "uri"]
            .into_iter()
            .filter_map(|name| self.0.text(name));
        // Data URIs are pictures, not links.
        let links = links.filter(|link| !link.starts_with("data:"));
        links.map(str::to_owned).chain(self.position()).collect()
    }

    /// Returns latitude and longitude, in a form that every map service accepts.
    fn position(self) -> Option<String> {
        let degrees = |name| match self.0.value(name)? {
            Value::Number(number) => Some(number.to_string()),
            Value::String(text) => text.parse::<f64>().ok().map(|degrees| degrees.to_string()),
            _ => None,
        };
        Some(format!("{}, {}", degrees("la")?, degrees("lo")?))
    }

    fn actions(self) -> impl Iterator<Item = Self> {
        let click = self.0.object("click").into_iter();
        let actions = click
            .chain(iter::once(self.0))
            .flat_map(|it| it.objects("actions"));
        actions.take(ACTION_LIMIT).map(Element)
    }

    fn shown_actions(self) -> impl Iterator<Item = Self> {
        self.actions().filter(|action| {
            let kind = action.0.text("type").unwrap_or_default();
            !SILENT_ACTIONS.contains(&kind)
        })
    }

    /// Returns the text that an action publishes, either at once or as a ticked box when a list is
    /// submitted.
    fn text_to_publish(self) -> Option<String> {
        let kind = self.0.text("type").unwrap_or_default();
        let name = if kind == "publishText" {
            "text"
        } else {
            "publishText"
        };
        match self.0.value(name) {
            Some(Value::String(text)) => Some(text.trim().to_owned()),
            Some(Value::Number(number)) => Some(number.to_string()),
            _ => matches!(kind, "publishText" | "checked").then(String::new),
        }
    }
}

/// Returns the rank of a member among those that hold elements. Members that the vendor does not
/// document come in the middle, by name.
fn rank(name: &str) -> u8 {
    match name {
        "heading" | "header" => 0,
        "elements" | "slots" => 2,
        "resp" | "replies" | "quickReplies" => 3,
        "footer" => 4,
        _ => 1,
    }
}

/// Returns the words that a value shows; `None` if it shows none.
pub(super) fn displayed(value: &Value) -> Option<String> {
    let words = match value {
        Value::String(text) => html_escape::decode_html_entities(text).trim().to_owned(),
        Value::Number(number) => number.to_string(),
        _ => return None,
    };
    (!words.is_empty()).then_some(words)
}

/// Collapses white space, so that the words are on one line.
pub(super) fn collapsed(words: &str) -> String {
    words.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Joins the first of the words, a colon, the other words and the details. Without words, joins
/// only the details.
pub(super) fn joined(mut words: Vec<String>, details: Vec<String>) -> String {
    if words.is_empty() {
        return details.join(", ");
    }
    let first = words.remove(0);
    words.extend(details);
    if words.is_empty() {
        first
    } else {
        format!("{first}: {}", words.join(", "))
    }
}

/// Removes known words and duplicates.
fn deduplicated(words: impl Iterator<Item = String>, known: &[String]) -> Vec<String> {
    let is_equal = |a: &String, b: &str| collapsed(a).eq_ignore_ascii_case(&collapsed(b));
    let mut unique: Vec<String> = Vec::new();
    for word in words {
        if !known.iter().chain(&unique).any(|it| is_equal(it, &word)) {
            unique.push(word);
        }
    }
    unique
}
