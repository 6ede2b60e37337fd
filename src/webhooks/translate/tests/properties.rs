use proptest::prelude::*;
use proptest::sample::{Index, select};

use super::*;
use crate::types::ids::AccountId;

/// Generates any JSON, with the Cloud's names and members, so that it reaches most of the parser.
fn anything() -> impl Strategy<Value = Value> {
    let word = select(vec![
        "ALL",
        "ContentEvent",
        "RichContentEvent",
        "AcceptStatusEvent",
        "ChatStateEvent",
        "hosted/file",
        "text/plain",
        "forms/secure-invitation",
        "CONSUMER",
        "READER",
        "CLOSE",
        "OPEN",
        "SUGGESTED",
        "DELETE",
        "publishText",
        "-1",
        "{\"type\":\"vertical\"}",
        "",
        "\u{0}",
    ]);
    let leaf = prop_oneof![
        Just(json!(null)),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<u64>().prop_map(Value::from),
        // Few digits, since the last of many digits is rounded at each parsing.
        any::<i32>().prop_map(|number| Value::from(f64::from(number) / 1000.0)),
        ".{0,12}".prop_map(Value::from),
        word.prop_map(Value::from),
    ];
    leaf.prop_recursive(4, 40, 6, |inner| {
        let member = select(vec![
            "type",
            "event",
            "message",
            "content",
            "contentType",
            "elements",
            "replies",
            "click",
            "actions",
            "metadata",
            "text",
            "title",
            "la",
            "lo",
            "dialogs",
            "participants",
            "id",
            "role",
        ]);
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..6).prop_map(Value::from),
            prop::collection::vec((member, inner), 0..6).prop_map(|members| {
                let members = members.into_iter();
                Value::Object(members.map(|(name, it)| (name.to_owned(), it)).collect())
            }),
        ]
    })
}

/// A change to one value of a body.
#[derive(Debug, Clone)]
enum Mutation {
    Replace(Index, Value),
    Remove(Index),
    Wrap(Index),
}

fn mutations() -> impl Strategy<Value = Vec<Mutation>> {
    let mutation = prop_oneof![
        (any::<Index>(), anything()).prop_map(|(index, it)| Mutation::Replace(index, it)),
        any::<Index>().prop_map(Mutation::Remove),
        any::<Index>().prop_map(Mutation::Wrap),
    ];
    prop::collection::vec(mutation, 0..4)
}

/// Collects the paths of all values within a value.
fn paths(value: &Value, path: String, found: &mut Vec<String>) {
    match value {
        Value::Object(members) => {
            for (name, member) in members {
                let name = name.replace('~', "~0").replace('/', "~1");
                paths(member, format!("{path}/{name}"), found);
            }
        }
        Value::Array(items) => {
            for (index, item) in items.iter().enumerate() {
                paths(item, format!("{path}/{index}"), found);
            }
        }
        _ => {}
    }
    found.push(path);
}

fn mutate(body: &mut Value, mutation: Mutation) {
    let mut found = Vec::new();
    paths(body, String::new(), &mut found);
    let (Mutation::Replace(index, _) | Mutation::Remove(index) | Mutation::Wrap(index)) = &mutation;
    let path: &String = index.get(&found);
    let target = body.pointer_mut(path).unwrap();
    *target = match mutation {
        Mutation::Replace(_, value) => value,
        Mutation::Remove(_) => json!(null),
        Mutation::Wrap(_) => json!([target.take()]),
    };
}

fn fixture_body() -> impl Strategy<Value = Value> {
    select(names()).prop_map(|name| serde_json::from_slice(&fixture(&name)).unwrap())
}

fn any_known() -> impl Strategy<Value = KnownState<'static>> {
    let announced = select(vec![None, Some(Announced::Opened), Some(Announced::Closed)]);
    let updated_at = prop::option::of(0_i64..1_000_000);
    (announced, updated_at, any::<bool>(), any::<bool>()).prop_map(
        |(announced, updated_at, has_file, has_consumer)| KnownState {
            announced,
            updated_at: updated_at.map(|after| at(BEGIN + after)),
            consumer_id: known().consumer_id.filter(|_| has_consumer),
            file: known().file.filter(|_| has_file),
            ..known()
        },
    )
}

/// Calls all functions for a body.
fn exhaust(body: &[u8], known: &KnownState<'_>) {
    let account: AccountId = "12345678".parse().unwrap();
    let Ok(notification) = Notification::parse(body) else {
        return;
    };
    for change in notification.changes {
        let again = Change::parse(change.kind(), change.json());
        assert_eq!(again, change);
        assert_eq!(again.dedupe_key(&account), change.dedupe_key(&account));
        let _ = (change.conversation_id(), change.dialog_id(), change.file());
        let seen = seen(&change, known);
        assert_eq!(self::seen(&again, known), seen);
        if let Some(text) = seen["data"].get("text") {
            assert!(text.is_string());
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(500))]

    #[test]
    fn no_body_makes_it_panic(mut body in fixture_body(), mutations in mutations(), known in any_known()) {
        for mutation in mutations {
            mutate(&mut body, mutation);
        }

        exhaust(body.to_string().as_bytes(), &known);
    }

    #[test]
    fn no_bytes_make_it_panic(bytes in prop::collection::vec(any::<u8>(), 0..200), name in select(names()), at in any::<Index>(), cut in any::<Index>()) {
        let mut body = fixture(&name);
        let at = at.index(body.len());
        let cut = at + cut.index(body.len() - at);
        body.splice(at..cut, bytes.iter().copied());

        exhaust(&bytes, &known());
        exhaust(&body, &known());
    }

    #[test]
    fn a_change_marked_private_is_never_translated(
        mut body in fixture_body(),
        mutations in mutations(),
        name in select(vec!["messageAudience", "audience", "MESSAGEAUDIENCE", "Audience"]),
        audience in anything(),
        index in any::<Index>(),
        known in any_known(),
    ) {
        let is_all = audience.as_str().is_some_and(|word| word.eq_ignore_ascii_case("ALL"));
        prop_assume!(!is_all && !audience.is_null());
        body["type"] = json!("ms.MessagingEventNotification");
        for change in body["body"]["changes"].as_array_mut().unwrap() {
            for mutation in mutations.clone() {
                mutate(change, mutation);
            }
        }

        // Around all changes, or at one level of each change outside its content.
        let around = ["", "/body"].map(str::to_owned);
        let changes = body["body"]["changes"].as_array().unwrap();
        let within = changes.first().map(|change| object_paths(change, String::new()));
        let paths: Vec<_> = around.into_iter().chain(within.into_iter().flatten().map(|it| format!("change{it}"))).collect();
        let path = index.get(&paths).as_str();
        if let Some(within) = path.strip_prefix("change") {
            for change in body["body"]["changes"].as_array_mut().unwrap() {
                // Other changes of the body may lack this member.
                let at = change.pointer_mut(within).filter(|it| it.is_object());
                if let Some(object) = at {
                    object[name] = audience.clone();
                } else if change.is_object() {
                    change[name] = audience.clone();
                }
            }
        } else {
            body.pointer_mut(path).unwrap()[name] = audience.clone();
        }

        for change in Notification::parse(body.to_string().as_bytes()).unwrap().changes {
            prop_assert!(translate(&change, &known).is_err());
            prop_assert_eq!(change.file(), None);
            // A change carries the mark itself, since it may be stored alone.
            let again = Change::parse(change.kind(), change.json());
            prop_assert!(translate(&again, &known).is_err());
        }
    }
}

/// Returns the paths of the objects of a change that are not content.
fn object_paths(value: &Value, path: String) -> Vec<String> {
    let Some(members) = value.as_object() else {
        return Vec::new();
    };
    let content = ["message", "content", "quickReplies", "metadata"];
    let inner = members
        .iter()
        .filter(|(name, _)| !content.contains(&&***name));
    let inner = inner.flat_map(|(name, value)| {
        let name = name.replace('~', "~0").replace('/', "~1");
        object_paths(value, format!("{path}/{name}"))
    });
    let mut paths: Vec<_> = inner.collect();
    paths.push(path);
    paths
}
