use proptest::prelude::*;
use serde_json::json;

use super::*;

mod generated;

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
        (json!("no element, but words"), "no element, but words"),
        (json!(7), ""),
        (json!(true), ""),
        (
            json!({"type": "horizontal", "percentages": [30, 70], "rtl": true}),
            "",
        ),
        (json!(null), ""),
    ] {
        assert_eq!(text(&element), expected, "{element}");
        assert_eq!(render(&[&element]).choices, [], "{element}");
    }
}

/// The text of an element, and the title and text of each choice.
type Read = (&'static str, &'static [(&'static str, &'static str)]);

fn assert_read(samples: Vec<(Value, Read)>) {
    for (content, (text, choices)) in samples {
        let plain = render(&[&content]);
        let found: Vec<_> = plain
            .choices
            .iter()
            .map(|it| (&*it.title, &*it.text))
            .collect();
        assert_eq!((&*plain.text, &*found), (text, choices), "{content}");
    }
}

#[test]
fn each_liveperson_element_keeps_its_texts_and_choices() {
    assert_read(vec![
        (
            json!({"type": "checkbox", "text": "Apple", "borderLine": true, "borderColor": "#000",
                "click": {"actions": [{"type": "checked", "publishText": "apples"}]}}),
            ("1. Apple", &[("Apple", "apples")]),
        ),
        (
            json!({"type": "checkbox", "text": "Apple", "click": {"actions": [{"type": "checked"}]}}),
            ("1. Apple", &[("Apple", "Apple")]),
        ),
        (
            json!({"type": "submitButton", "title": "Continue", "disabled": false,
                "click": {"actions": [{"type": "submitAsText", "submit": true}]}}),
            ("Continue", &[]),
        ),
        (
            json!({"type": "button", "title": "Roses", "subtitle": "Twelve\nof them", "class": "button",
                "click": {"actions": [{"type": "publishText", "text": "roses"}]}}),
            ("1. Roses: Twelve of them", &[("Roses", "roses")]),
        ),
        (
            json!({"type": "template", "templateType": "quickReply", "title": "Which size?", "resp": ["S", "X &amp; L"]}),
            (
                "Which size?\n1. S\n2. X & L",
                &[("S", "S"), ("X & L", "X &amp; L")],
            ),
        ),
        (
            json!({"type": "template", "template": {"type": "quickReply", "resp": ["1", 2, null]}}),
            ("1. 1\n2. 2", &[("1", "1"), ("2", "2")]),
        ),
        (
            json!({"type": "keyValuePairList", "elements": [{"key": "Total", "value": "10"}, {"key": "Free"}]}),
            ("Total: 10\nFree", &[]),
        ),
        (json!({"type": "new", "value": "#f00"}), ("", &[])),
        (
            json!({"type": "linkPreview", "url": "https://e.com/p", "title": "Our page"}),
            ("Our page: https://e.com/p", &[]),
        ),
        (
            json!({"type": "tabs", "elements": [
                {"type": "vertical", "tag": "Plans", "elements": [{"type": "text", "tag": "title", "text": "Twelve months"}]},
                {"type": "vertical", "elements": [{"type": "text", "text": "Two years"}]}]}),
            ("Plans\nTwelve months\nTwo years", &[]),
        ),
        (
            json!({"type": "accordionSelect", "selectMode": {"name": "m"},
                "titles": [{"name": "Plan A", "additional": "10 a month"}, {"name": "Plan B"}, "Plan C"],
                "elements": [{"type": "text", "text": "Twelve months"}]}),
            ("Plan A: 10 a month\nTwelve months\nPlan B\nPlan C", &[]),
        ),
        (
            json!({"type": "accordionSelect", "titles": [{"name": "Plan A"}]}),
            ("Plan A", &[]),
        ),
        (
            json!({"type": "vertical", "elements": [
                {"type": "carouselSelect", "tooltip": "not shown", "selectMode": {"name": "m", "type": "single"}, "elements": [
                    {"type": "vertical", "metadata": [{"type": "ExternalCardId", "id": "1"}], "elements": [{"type": "text", "text": "Hat"}]},
                    {"type": "vertical", "elements": [{"type": "text", "text": "Coat"}]}]},
                {"type": "button", "title": "Order", "ref": {"name": "m", "type": "carouselSelect"},
                    "click": {"actions": [{"type": "publishText", "text": "ordered"}]}}]}),
            ("Hat\n\nCoat\n1. Order", &[("Order", "ordered")]),
        ),
        (
            json!({"type": "image", "url": "https://e.com/i.png", "caption": "A hat", "alt": "not shown", "tooltip": "nor this"}),
            ("A hat: https://e.com/i.png", &[]),
        ),
        (
            json!({"type": "image", "url": "https://e.com/i.png", "alt": "A hat", "tooltip": "not shown"}),
            ("A hat: https://e.com/i.png", &[]),
        ),
    ]);
}

#[test]
fn links_keep_their_names() {
    let link = |name: &str| json!({"type": "link", "name": name, "uri": "https://e.com/t", "ios": {"uri": "e://t"}});
    let picture = json!({"type": "image", "url": "https://e.com/i.png", "click": {"actions": [link("Order")]}});
    assert_read(vec![
        (
            button("Terms", &link("Read them")),
            ("Terms: Read them: https://e.com/t", &[]),
        ),
        (
            button("Terms", &link("terms")),
            ("Terms: https://e.com/t", &[]),
        ),
        (button("", &link("Terms")), ("Terms: https://e.com/t", &[])),
        (
            picture,
            ("https://e.com/i.png, Order: https://e.com/t", &[]),
        ),
        (
            button(
                "Way",
                &json!({"type": "navigate", "name": "Our shop", "la": 1, "lo": 2}),
            ),
            ("Way: Our shop: 1, 2", &[]),
        ),
        (
            json!({"type": "linkPreview", "title": "https://e.com/", "url": "https://e.com/",
                "click": {"actions": [{"type": "link", "uri": "https://e.com/"}]}}),
            ("https://e.com/", &[]),
        ),
    ]);
}

#[test]
fn a_schedule_slot_becomes_a_line_with_its_time_and_no_choice() {
    let slot = |slot: &Value| {
        let mut whole =
            json!({"type": "scheduleSlot", "id": "1", "imageUrl": "https://e.com/35px.png"});
        for (name, value) in slot.as_object().unwrap() {
            whole[name] = value.clone();
        }
        whole
    };
    for (times, expected) in [
        (
            json!({"start": 1_800_000_000, "end": 1_800_003_600}),
            "2027-01-15 08:00-09:00 UTC",
        ),
        (
            json!({"start": 1_800_000_000, "end": 1_800_003_600, "title": "Early", "description": "Anna"}),
            "Early: 2027-01-15 08:00-09:00 UTC, Anna",
        ),
        // One of the vendor's samples has milliseconds.
        (
            json!({"start": 1_800_000_000_000_i64, "end": "1800003600000"}),
            "2027-01-15 08:00-09:00 UTC",
        ),
        (json!({"start": 1_800_000_000}), "2027-01-15 08:00 UTC"),
        (
            json!({"start": 1_800_000_000, "end": 1_800_000_000}),
            "2027-01-15 08:00 UTC",
        ),
        (
            json!({"start": 1_800_000_000, "end": 1_800_086_400}),
            "2027-01-15 08:00 - 2027-01-16 08:00 UTC",
        ),
        (json!({"start": "soon", "title": "Early"}), "Early"),
        (
            json!({"start": i64::MAX, "end": 0, "title": "Early"}),
            "Early",
        ),
        (json!({"end": 1_800_000_000}), ""),
    ] {
        assert_eq!(text(&slot(&times)), expected, "{times}");
    }
    let late = slot(&json!({"start": 1_800_007_200, "title": "Late"}));
    let list = json!({"type": "scheduleSlotList", "title": "Your visit", "slots": [slot(&json!({"title": "Early"})), late]});
    assert_read(vec![
        (
            button("Select", &list),
            ("Select: Your visit\nEarly\nLate: 2027-01-15 10:00 UTC", &[]),
        ),
        (list, ("Your visit\nEarly\nLate: 2027-01-15 10:00 UTC", &[])),
    ]);
}

#[test]
fn a_date_picker_shows_its_title_and_allowed_days() {
    for (days, expected) in [
        (json!({}), "Pick: When?"),
        (
            json!({"minDate": 1_618_613_044, "maxDate": 1_634_424_244}),
            "Pick: When?: 2021-04-16 - 2021-10-16",
        ),
        (
            json!({"minDate": 1_618_613_044}),
            "Pick: When?: 2021-04-16 -",
        ),
        (
            json!({"maxDate": 1_634_424_244}),
            "Pick: When?: - 2021-10-16",
        ),
        (
            json!({"minDate": 1_618_613_044, "maxDate": 1_618_613_044}),
            "Pick: When?: 2021-04-16",
        ),
    ] {
        let mut picker = json!({"type": "datePicker", "class": "range", "title": "When?", "dateFormat": "DD-MM-YYYY"});
        for (name, value) in days.as_object().unwrap() {
            picker[name] = value.clone();
        }
        assert_eq!(text(&button("Pick", &picker)), expected, "{days}");
    }
}

#[test]
fn displayed_texts_are_decoded_and_published_texts_are_not() {
    let both = json!({"type": "vertical", "elements": [
        {"type": "text", "text": "&#x1F449; choose &lt;one&gt; of &quot;R&amp;amp;D&quot;&nbsp;"},
        {"type": "button", "title": "Caf&eacute;", "click": {"actions": [{"type": "publishText", "text": "caf&eacute;"}]}},
        {"type": "button", "title": "Way", "click": {"actions": [{"type": "link", "uri": "https://e.com/?a=1&amp;b=2"}]}},
        {"type": "text", "text": "&#0; &unknown; AT&T &amp"},
        {"type": "text", "text": "#md#[here](https://e.com)#/md# <b>now</b>"}]});
    assert_read(vec![(
        both,
        (
            "👉 choose <one> of \"R&amp;D\"\n1. Café\nWay: https://e.com/?a=1&amp;b=2\n&#0; &unknown; AT&T &amp\n\
             #md#[here](https://e.com)#/md# <b>now</b>",
            &[("Café", "caf&eacute;")],
        ),
    )]);
}

#[test]
fn an_unknown_element_shows_its_texts_once_and_in_order() {
    assert_read(vec![
        (
            json!({"type": "new", "name": "Colour", "label": "colour ", "text": "Red", "value": "#f00", "id": "7"}),
            ("Colour: Red", &[]),
        ),
        (
            json!({"type": "new", "header": {"text": "Above"}, "body": {"text": "Within"},
                "elements": [{"text": "Below"}], "footer": {"text": "At the end"}, "style": {"title": "not shown"}}),
            ("Above\nWithin\nBelow\nAt the end", &[]),
        ),
        (
            json!({"type": "new", "title": "Sizes", "items": ["S", "M"]}),
            ("Sizes\nS\nM", &[]),
        ),
        (
            json!({"type": "new", "label": "Red", "click": {"actions": [{"type": "new", "publishText": "red"}]}}),
            ("1. Red", &[("Red", "red")]),
        ),
        (
            json!({"type": "new", "label": "Red", "actions": [{"type": "publishText", "text": "red"}]}),
            ("1. Red", &[("Red", "red")]),
        ),
        (
            button(
                "Help",
                &json!({"type": "new", "title": "Call us", "uri": "tel:1", "options": [{"label": "Now"}]}),
            ),
            ("Help: Call us: tel:1\nNow", &[]),
        ),
    ]);
}

#[test]
fn a_click_that_publishes_several_texts_is_one_choice() {
    let several = json!({"title": "Yes", "click": {"actions": [
        {"type": "publishText", "text": "yes"}, {"type": "publishText"}, {"type": "publishText", "text": "please"}]}});
    assert_read(vec![(several, ("1. Yes", &[("Yes", "yes\nplease")]))]);
}

#[test]
fn an_image_that_publishes_nothing_is_shown_without_a_choice() {
    let picture = json!({"type": "image", "url": "https://e.com/i.png", "click": {"actions": [{"type": "publishText", "text": " "}]}});
    assert_read(vec![(picture, ("https://e.com/i.png", &[]))]);
}

#[test]
fn choices_are_numbered_in_order_across_all_elements() {
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
fn cards_of_a_carousel_are_separated_by_a_blank_line() {
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
fn the_sections_of_a_list_are_rendered_under_any_type_name() {
    let list = json!({"type": "list", "elements": [
        {"type": "sectionList", "title": "Today", "elements": [{"type": "horizontal", "elements": [choice("9:00")]}]},
        {"type": "sectionList", "title": "Tomorrow", "elements": choice("10:00")},
    ]});

    assert_eq!(text(&list), "Today\n1. 9:00\nTomorrow\n2. 10:00");
}

#[test]
fn a_plain_text_is_cut_off_at_its_limit() {
    let long = json!({"type": "text", "text": "é".repeat(2 * TEXT_LIMIT)});
    let plain = render(&[&long, &choice("Yes")]);

    assert_eq!(plain.text, "é".repeat(TEXT_LIMIT) + "…");
    assert_eq!(plain.choices, []);

    let many = Value::from(vec![choice("Yes, please do"); ELEMENT_LIMIT]);
    let plain = render(&[&many]);

    assert!(plain.text.ends_with("do…"), "{}", plain.text);
    let numbered = plain.text.lines().filter(|line| line.contains(". Yes"));
    assert_eq!(numbered.count(), plain.choices.len());

    let link = |number: usize| json!({"type": "link", "uri": format!("https://e.com/{number}")});
    let links = json!({"click": {"actions": (0..TEXT_LIMIT).map(link).collect::<Vec<_>>()}});
    assert!(text(&links).ends_with("https://e.com/63"));

    let silent = Value::from(vec![json!({}); 10 * ELEMENT_LIMIT]);
    assert_eq!(render(&[&silent, &choice("Yes")]), Plain::default());
}

#[test]
fn deep_nesting_does_not_overflow_the_stack() {
    let mut content = choice("Yes");
    for _ in 0..5_000 {
        // Moved in, since `json!` would visit all levels.
        let elements = ("elements".to_owned(), Value::Array(vec![content]));
        content = Value::Object([elements].into_iter().collect());
    }

    let plain = render(&[&content]);
    // Dropping a value with so many levels would overflow the stack, which this module cannot
    // prevent.
    std::mem::forget(content);

    assert_eq!(plain.text, "1. Yes");
}

proptest! {
    #[test]
    fn each_choice_appears_in_the_text_with_its_number(titles in prop::collection::vec("[a-z]{1,8}( [a-z]{1,8})?", 0..24)) {
        let replies: Vec<_> = titles.iter().map(|title| choice(title)).collect();
        let replies = json!({"type": "quickReplies", "replies": replies});

        let plain = render(&[&replies]);

        let lines: Vec<_> = plain.text.lines().collect();
        let expected: Vec<_> = titles.iter().zip(1..).map(|(title, n)| format!("{n}. {title}")).collect();
        prop_assert_eq!(lines, expected);
        prop_assert_eq!(plain.choices.len(), titles.len());
    }
}
