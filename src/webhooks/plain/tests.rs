use proptest::prelude::*;
use serde_json::json;

use super::*;

fn text(content: &Value) -> String {
    render(&[content]).text
}

fn button(title: &str, action: &Value) -> Value {
    json!({"type": "button", "title": title, "click": {"actions": [action]}})
}

fn choice(title: &str) -> Value {
    button(title, &json!({"type": "publishText", "text": title}))
}

#[test]
fn each_element_becomes_a_line() {
    for (element, expected) in [
        (
            json!({"type": "text", "text": " Hello\nthere\n"}),
            "Hello\nthere",
        ),
        (
            json!({"type": "image", "url": "https://e.com/i.png"}),
            "https://e.com/i.png",
        ),
        (
            json!({"type": "image", "url": "https://e.com/i.png", "caption": "A hat"}),
            "A hat: https://e.com/i.png",
        ),
        (
            json!({"type": "image", "url": "https://e.com/i.png", "tooltip": "A hat"}),
            "A hat: https://e.com/i.png",
        ),
        (
            json!({"type": "image", "url": "data:image/png;base64,AAAA", "tooltip": "A hat"}),
            "A hat",
        ),
        (json!({"type": "map", "la": 52.5, "lo": -4}), "52.5, -4"),
        (
            json!({"type": "map", "la": "52.50", "lo": "-4.0", "tooltip": "Our shop"}),
            "Our shop: 52.5, -4",
        ),
        (json!({"type": "map", "la": 52.5}), ""),
        (
            button("Terms", &json!({"type": "link", "uri": "https://e.com/t"})),
            "Terms: https://e.com/t",
        ),
        (
            button("Route", &json!({"type": "navigate", "la": 1, "lo": 2})),
            "Route: 1, 2",
        ),
        (button("Call", &json!({"type": "new"})), "Call"),
        (
            button("", &json!({"type": "link", "uri": "https://e.com/t"})),
            "https://e.com/t",
        ),
        (
            json!({"type": "new", "title": "Size", "text": "XL"}),
            "Size: XL",
        ),
        (json!({"type": "new"}), ""),
        (json!({"type": "text", "text": {"no": "text"}}), ""),
        (json!("no element"), ""),
        (json!(null), ""),
    ] {
        assert_eq!(text(&element), expected, "{element}");
        assert_eq!(render(&[&element]).choices, [], "{element}");
    }
}

#[test]
fn choices_are_numbered_in_order_across_all_that_is_written() {
    let both = json!({"type": "button", "title": "Order\n now", "click": {
        "actions": [{"type": "link", "uri": "https://e.com/o"}, {"type": "publishText", "text": "order"}],
        "metadata": [{"type": "ExternalId", "id": "1"}]}});
    let card = json!({"type": "vertical", "elements": [
        {"type": "text", "text": "Hats"},
        {"type": "horizontal", "elements": [both, choice("Later")]},
        {"type": "image", "url": "https://e.com/i.png",
         "click": {"actions": [{"type": "publishText", "text": "this hat"}]}},
    ]});
    let untitled = button("", &json!({"type": "publishText", "text": "never"}));
    let silent = button("Help", &json!({"type": "publishText"}));
    let nothing = button("", &json!({"type": "publishText"}));
    let replies = json!({"type": "quickReplies", "replies": [untitled, nothing, silent]});

    let plain = render(&[&card, &replies]);

    assert_eq!(
        plain.text,
        "Hats\n1. Order now: https://e.com/o\n2. Later\n3. this hat: https://e.com/i.png\n4. never\n5. Help"
    );
    let choices: Vec<_> = plain
        .choices
        .iter()
        .map(|it| (&*it.title, &*it.text))
        .collect();
    assert_eq!(
        choices,
        [
            ("Order now", "order"),
            ("Later", "Later"),
            ("this hat", "this hat"),
            ("never", "never"),
            ("Help", "Help"),
        ]
    );
    let metadata = plain.choices.iter().map(|it| json!(it.metadata));
    assert_eq!(
        metadata.collect::<Vec<_>>(),
        [
            json!([{"type": "ExternalId", "id": "1"}]),
            json!(null),
            json!(null),
            json!(null),
            json!(null)
        ]
    );
}

#[test]
fn cards_of_a_carousel_stand_apart() {
    let card = |title: &str| json!({"type": "vertical", "elements": [{"type": "text", "text": title}, choice("Take it")]});
    let carousel = json!({"type": "carousel", "elements": [card("Hat"), card("Coat")]});
    let intro = json!({"type": "text", "text": "For you"});

    assert_eq!(text(&carousel), "Hat\n1. Take it\n\nCoat\n2. Take it");
    assert_eq!(
        text(&json!([intro, carousel])),
        "For you\n\nHat\n1. Take it\n\nCoat\n2. Take it"
    );
}

#[test]
fn a_list_is_walked_through_whatever_its_sections_are_called() {
    let list = json!({"type": "list", "elements": [
        {"type": "sectionList", "title": "Today", "elements": [{"type": "horizontal", "elements": [choice("9:00")]}]},
        {"type": "sectionList", "title": "Tomorrow", "elements": choice("10:00")},
    ]});

    assert_eq!(text(&list), "Today\n1. 9:00\nTomorrow\n2. 10:00");
}

#[test]
fn a_text_ends_at_its_bound() {
    let long = json!({"type": "text", "text": "é".repeat(2 * TEXT_LIMIT)});
    let plain = render(&[&long, &choice("Yes")]);

    assert_eq!(plain.text, "é".repeat(TEXT_LIMIT) + "…");
    assert_eq!(plain.choices, []);

    let many = Value::from(vec![choice("Yes, please do"); ELEMENT_LIMIT]);
    let plain = render(&[&many]);

    assert!(plain.text.ends_with("do…"), "{}", plain.text);
    let numbered = plain.text.lines().filter(|line| line.contains(". Yes"));
    assert_eq!(numbered.count(), plain.choices.len());

    let silent = Value::from(vec![json!({}); 10 * ELEMENT_LIMIT]);
    assert_eq!(render(&[&silent, &choice("Yes")]), Plain::default());
}

#[test]
fn deep_nesting_does_not_overflow_the_stack() {
    let mut content = choice("Yes");
    for _ in 0..5_000 {
        // Moved in, where `json!` would walk through it.
        let elements = ("elements".to_owned(), Value::Array(vec![content]));
        content = Value::Object([elements].into_iter().collect());
    }

    let plain = render(&[&content]);
    // Dropping a value of so many levels would overflow the stack, which is not this module's to prevent.
    std::mem::forget(content);

    assert_eq!(plain.text, "1. Yes");
}

proptest! {
    #[test]
    fn each_choice_stands_in_the_text_with_its_number(titles in prop::collection::vec("[a-z]{1,8}( [a-z]{1,8})?", 0..24)) {
        let replies: Vec<_> = titles.iter().map(|title| choice(title)).collect();
        let replies = json!({"type": "quickReplies", "replies": replies});

        let plain = render(&[&replies]);

        let lines: Vec<_> = plain.text.lines().collect();
        let expected: Vec<_> = titles.iter().zip(1..).map(|(title, n)| format!("{n}. {title}")).collect();
        prop_assert_eq!(lines, expected);
        prop_assert_eq!(plain.choices.len(), titles.len());
    }
}
