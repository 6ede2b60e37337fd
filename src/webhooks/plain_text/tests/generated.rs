//! Generated content with every kind of element. The text has each word once and in order, and the
//! choices have each published text.

use std::mem;

use proptest::sample::select;

use super::*;

/// A kind of element. The numbers are counts of items.
#[derive(Debug, Clone)]
enum Kind {
    Text,
    Picture(&'static str),
    Map,
    Link,
    Navigation,
    Choice,
    Subtitled,
    Untitled,
    Silent,
    DatePicker,
    Slots(usize),
    Template(usize),
    Replies(usize),
    Pairs(usize),
    LinkPreview,
    Checklist(usize),
    Submit,
    New,
    Box(&'static str, Vec<Kind>),
    Accordion(Vec<Kind>),
    Tabs(Vec<Kind>),
    List(Vec<Kind>),
    NewBox(Vec<Kind>),
}

fn kinds() -> impl Strategy<Value = Kind> {
    let plain = select(vec![
        Kind::Text,
        Kind::Picture("caption"),
        Kind::Picture("alt"),
        Kind::Picture("tooltip"),
        Kind::Map,
        Kind::Link,
        Kind::Navigation,
        Kind::Choice,
        Kind::Subtitled,
        Kind::Untitled,
        Kind::Silent,
        Kind::DatePicker,
        Kind::LinkPreview,
        Kind::Submit,
        Kind::New,
    ]);
    let counted = select(vec![
        Kind::Slots,
        Kind::Template,
        Kind::Replies,
        Kind::Pairs,
        Kind::Checklist,
    ]);
    let leaf = prop_oneof![
        3 => plain,
        1 => (counted, 1_usize..4).prop_map(|(kind, items)| kind(items)),
    ];
    leaf.prop_recursive(4, 40, 5, |inner| {
        let elements = || prop::collection::vec(inner.clone(), 0..5);
        let layout = select(vec!["vertical", "horizontal", "carousel", "carouselSelect"]);
        let other = select(vec![Kind::Accordion, Kind::Tabs, Kind::List, Kind::NewBox]);
        prop_oneof![
            (layout, elements()).prop_map(|(layout, elements)| Kind::Box(layout, elements)),
            (other, elements()).prop_map(|(kind, elements)| kind(elements)),
        ]
    })
}

/// A builder of content from distinct words. It records the expected words and published texts.
#[derive(Default)]
struct Builder {
    words: usize,
    shown: Vec<String>,
    published: Vec<String>,
}

impl Builder {
    /// Returns a new word that must not be shown.
    fn hidden(&mut self) -> String {
        self.words += 1;
        format!("<{}>", self.words)
    }

    /// Returns a new word that must be shown next, escaped as the Cloud writes it.
    fn word(&mut self) -> String {
        let word = self.hidden();
        let escaped = word.replace('<', "&lt;").replace('>', "&#62;");
        self.shown.push(word);
        escaped
    }

    fn publish(&mut self) -> Value {
        let text = self.hidden();
        self.published.push(text.clone());
        json!({"actions": [{"type": "publishText", "text": text}], "metadata": [{"type": "ExternalId", "id": "1"}]})
    }

    fn build_all(&mut self, kinds: &[Kind]) -> Vec<Value> {
        kinds.iter().map(|kind| self.build(kind)).collect()
    }

    #[expect(
        clippy::too_many_lines,
        reason = "one arm for each kind, and nothing to share"
    )]
    fn build(&mut self, kind: &Kind) -> Value {
        let items = |kind: &Kind| match kind {
            Kind::Slots(items)
            | Kind::Template(items)
            | Kind::Replies(items)
            | Kind::Pairs(items)
            | Kind::Checklist(items) => 0..*items,
            _ => 0..0,
        };
        let items = items(kind);
        let target = json!({"uri": "https://e.com/", "name": "", "web": {"uri": self.hidden()}});
        match kind {
            Kind::Text => {
                json!({"type": "text", "text": self.word(), "tooltip": self.hidden(), "tag": self.hidden()})
            }
            Kind::Picture(member) => {
                let mut picture = json!({"type": "image", "url": "https://e.com/i.png"});
                picture[*member] = self.word().into();
                picture
            }
            Kind::Map => json!({"type": "map", "la": 1.5, "lo": 2, "tooltip": self.word()}),
            Kind::Link | Kind::Navigation => {
                let title = self.word();
                let mut action = target;
                action["type"] = json!(if matches!(kind, Kind::Link) {
                    "link"
                } else {
                    "navigate"
                });
                action["name"] = self.word().into();
                json!({"type": "button", "title": title, "alt": self.hidden(), "click": {"actions": [action]}})
            }
            Kind::Choice => {
                json!({"type": "button", "title": self.word(), "click": self.publish()})
            }
            Kind::Subtitled => {
                json!({"type": "button", "title": self.word(), "subtitle": self.word(), "click": self.publish()})
            }
            Kind::Untitled => {
                let click = self.publish();
                self.shown.extend(self.published.last().cloned());
                json!({"type": "button", "click": click})
            }
            Kind::Silent => {
                let title = self.word();
                self.published.extend(self.shown.last().cloned());
                json!({"type": "button", "title": title, "click": {"actions": [{"type": "publishText"}]}})
            }
            Kind::DatePicker => {
                let title = self.word();
                let action = json!({"type": "datePicker", "class": "single", "title": self.word(), "minDate": 1_800_000_000});
                json!({"type": "button", "title": title, "click": {"actions": [action]}})
            }
            Kind::Slots(_) => {
                let (title, list) = (self.word(), self.word());
                let slots: Vec<_> = items
                    .map(|_| {
                        json!({"type": "scheduleSlot", "id": self.hidden(), "start": 1_800_000_000,
                            "title": self.word(), "description": self.word()})
                    })
                    .collect();
                let action = json!({"type": "scheduleSlotList", "title": list, "slots": slots, "firstDayOfTheWeek": "mon"});
                json!({"type": "button", "title": title, "click": {"actions": [action]}})
            }
            Kind::Template(_) => {
                let title = self.word();
                let replies = items.map(|_| {
                    let reply = self.word();
                    self.published.push(reply.clone());
                    reply
                });
                let replies: Vec<_> = replies.collect();
                json!({"type": "template", "templateType": "quickReply", "title": title, "resp": replies})
            }
            Kind::Replies(_) => {
                let replies: Vec<_> = items.map(|_| self.build(&Kind::Choice)).collect();
                json!({"type": "quickReplies", "itemsPerRow": 8, "replies": replies})
            }
            Kind::Pairs(_) => {
                let pairs: Vec<_> = items
                    .map(|_| json!({"key": self.word(), "value": self.word()}))
                    .collect();
                json!({"type": "keyValuePairList", "elements": pairs})
            }
            Kind::LinkPreview => {
                json!({"type": "linkPreview", "title": self.word(), "url": "https://e.com/"})
            }
            Kind::Checklist(_) => {
                let boxes: Vec<_> = items
                    .map(|_| {
                        let text = self.word();
                        let mut click = self.publish();
                        click["actions"][0] =
                            json!({"type": "checked", "publishText": self.published.last()});
                        json!({"type": "checkbox", "text": text, "click": click})
                    })
                    .collect();
                json!({"type": "checklist", "elements": boxes, "tooltip": self.hidden()})
            }
            Kind::Submit => {
                let action = json!({"type": "submitAsText", "submit": true});
                json!({"type": "submitButton", "title": self.word(), "click": {"actions": [action]}})
            }
            Kind::New => {
                json!({"type": "new", "label": self.word(), "description": self.word(), "value": self.hidden()})
            }
            Kind::Box(kind, elements) => {
                json!({"type": kind, "tag": self.hidden(), "percentages": [30, 70], "elements": self.build_all(elements)})
            }
            Kind::Accordion(panels) => {
                let mut titles = Vec::new();
                let mut elements = Vec::new();
                for panel in panels {
                    titles.push(json!({"name": self.word(), "additional": self.word()}));
                    elements.push(self.build(panel));
                }
                json!({"type": "accordionSelect", "selectMode": {"name": self.hidden()}, "titles": titles, "elements": elements})
            }
            Kind::Tabs(panels) => {
                let mut elements = Vec::new();
                for panel in panels {
                    let tag = self.word();
                    elements.push(
                        json!({"type": "vertical", "tag": tag, "elements": [self.build(panel)]}),
                    );
                }
                json!({"type": "tabs", "elements": elements})
            }
            Kind::List(elements) => {
                let title = self.build(&Kind::Text);
                let section = json!({"type": "section", "sectionID": self.hidden(), "elements": self.build_all(elements)});
                let buttons = [self.build(&Kind::Submit), self.build(&Kind::Choice)];
                json!({"type": "list", "elements": [
                    title, {"type": "sectionList", "elements": [section]}, {"type": "buttonList", "elements": buttons}]})
            }
            Kind::NewBox(elements) => {
                json!({"type": "new", "title": self.word(), "items": self.build_all(elements)})
            }
        }
    }
}

/// Generates any JSON, with the members of structured content.
fn anything() -> impl Strategy<Value = Value> {
    let words = vec![
        "publishText",
        "checked",
        "scheduleSlot",
        "datePicker",
        "tabs",
        "carousel",
        "accordionSelect",
        "",
        "&",
        "&#",
        "&amp;",
        "&#x1F449;",
        "\u{0}",
        " \n",
    ];
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
        select(words).prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 60, 6, |inner| {
        let members = vec![
            "type",
            "elements",
            "titles",
            "tag",
            "resp",
            "replies",
            "slots",
            "click",
            "actions",
            "metadata",
            "text",
            "title",
            "name",
            "key",
            "value",
            "publishText",
            "start",
            "end",
            "minDate",
            "maxDate",
            "url",
            "la",
            "lo",
            "tooltip",
            "new",
        ];
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((select(members), inner), 0..6).prop_map(|members| {
                let members = members.into_iter();
                Value::Object(members.map(|(name, it)| (name.to_owned(), it)).collect())
            }),
        ]
    })
}

/// Asserts that the text has a numbered line for each choice, in order.
fn assert_numbered(plain: &Plain) -> Result<(), TestCaseError> {
    let mut rest = &*plain.text;
    for (choice, number) in plain.choices.iter().zip(1..) {
        let line = format!("{number}. {}", choice.title);
        let at = rest.find(&line);
        prop_assert!(at.is_some(), "{line:?} is not in {rest:?}");
        rest = &rest[at.unwrap_or_default() + line.len()..];
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn shown_texts_appear_in_the_text_and_published_ones_as_choices(kinds in prop::collection::vec(kinds(), 1..4)) {
        let mut builder = Builder::default();
        let content: Vec<_> = builder.build_all(&kinds);
        let plain = render(&content.iter().collect::<Vec<_>>());

        let mut words = Vec::new();
        let mut rest = &*plain.text;
        while let Some((_, word)) = rest.split_once('<') {
            let (word, after) = word.split_once('>').unwrap();
            words.push(format!("<{word}>"));
            rest = after;
        }
        prop_assert_eq!(words, mem::take(&mut builder.shown), "{}", plain.text);
        let texts: Vec<_> = plain.choices.iter().map(|it| decoded(&it.text)).collect();
        let published: Vec<_> = builder.published.iter().map(|it| decoded(it)).collect();
        prop_assert_eq!(texts, published);
        assert_numbered(&plain)?;
    }

    #[test]
    fn no_content_makes_it_panic(content in anything(), other in anything()) {
        let plain = render(&[&content, &other]);

        prop_assert!(plain.choices.iter().all(|it| !it.title.is_empty() && !it.text.is_empty()));
        assert_numbered(&plain)?;
    }
}

/// Decodes entities: a reply that is shown as it is published is published with its entities.
fn decoded(text: &str) -> String {
    html_escape::decode_html_entities(text).into_owned()
}
