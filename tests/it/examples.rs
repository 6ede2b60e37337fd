//! The examples of the OpenAPI document: complete, valid, and accepted by the service. The page
//! `/docs` sends those of requests.

use std::collections::BTreeMap;

use liveperson_bridge::api;
use serde_json::{Value, json};

use crate::support::channel::{Channel, send};
use crate::support::demo::Demo;

const JSON: &str = "application/json";
const PROBLEM: &str = "application/problem+json";

/// The operations that succeed without an open conversation, and here open one if they can.
const WITHOUT_CONVERSATION: [&str; 3] = ["openConversation", "sendMessage", "setProfile"];

fn document() -> Value {
    serde_json::to_value(api::document()).unwrap()
}

/// Returns the method, path and description of every operation in a part of the document.
fn operations<'a>(document: &'a Value, part: &str) -> Vec<(&'a str, &'a str, &'a Value)> {
    let paths = document[part].as_object().unwrap().iter();
    let operations = paths.flat_map(|(path, item)| {
        let operations = item.as_object().unwrap().iter();
        operations.map(move |(method, operation)| (method.as_str(), path.as_str(), operation))
    });
    operations.collect()
}

/// Follows a reference, if there is one in the place of a value.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    let reference = value["$ref"].as_str();
    reference.map_or(value, |reference| {
        let pointer = reference.trim_start_matches('#');
        document.pointer(pointer).unwrap()
    })
}

/// Returns the examples of a body by name. If it has none, the example of its schema takes their
/// place.
fn examples<'a>(document: &'a Value, body: &'a Value) -> BTreeMap<&'a str, &'a Value> {
    if let Some(named) = body["examples"].as_object() {
        let named = named.iter();
        let values = named.map(|(name, it)| (name.as_str(), &resolved(document, it)["value"]));
        return values.collect();
    }
    let of_schema = || resolved(document, &body["schema"]).get("example");
    let single = body.get("example").or_else(of_schema);
    single
        .map(|example| ("example", example))
        .into_iter()
        .collect()
}

/// True if a value fits a schema. Formats, patterns and limits are not checked.
fn fits(document: &Value, schema: &Value, value: &Value) -> bool {
    let list = |name: &str| schema[name].as_array();
    let is_allowed = |(name, member): (&String, &Value)| match schema["properties"].get(name) {
        Some(schema) => fits(document, schema, member),
        None => schema["additionalProperties"] != false,
    };
    let fits_item = |item: &Value| fits(document, &schema["items"], item);
    let has = |name: &Value| value.get(name.as_str().unwrap()).is_some();
    let fits_here = |schema: &&Value| fits(document, schema, value);
    (schema["$ref"].is_null() || fits(document, resolved(document, schema), value))
        && has_type(&schema["type"], value)
        && list("enum").is_none_or(|values| values.contains(value))
        && list("allOf").is_none_or(|parts| parts.iter().all(|part| fits_here(&part)))
        && list("oneOf").is_none_or(|kinds| kinds.iter().filter(fits_here).count() == 1)
        && list("required").is_none_or(|names| !value.is_object() || names.iter().all(has))
        && value
            .as_object()
            .is_none_or(|members| members.iter().all(is_allowed))
        && value
            .as_array()
            .is_none_or(|items| items.iter().all(fits_item))
}

/// True if a value has one of the types of a schema. A schema without a type allows each.
fn has_type(types: &Value, value: &Value) -> bool {
    let is = |kind: &Value| match kind.as_str().unwrap() {
        "null" => value.is_null(),
        "boolean" => value.is_boolean(),
        "integer" => value.is_i64() || value.is_u64(),
        "number" => value.is_number(),
        "string" => value.is_string(),
        "array" => value.is_array(),
        "object" => value.is_object(),
        other => panic!("unknown type {other}"),
    };
    match types {
        Value::Null => true,
        Value::Array(types) => types.iter().any(is),
        kind => is(kind),
    }
}

#[test]
fn every_body_has_examples_that_fit_its_schema() {
    let document = document();
    let mut count = 0;
    for part in ["paths", "webhooks"] {
        for (method, path, operation) in operations(&document, part) {
            let responses = operation["responses"].as_object().unwrap().values();
            let contents = responses.map(|response| &response["content"]);
            let contents = contents.chain([&operation["requestBody"]["content"]]);
            let bodies = contents.flat_map(|content| [&content[JSON], &content[PROBLEM]]);
            for body in bodies.filter(|body| body.is_object()) {
                let examples = examples(&document, body);
                assert!(!examples.is_empty(), "{method} {path}: {body}");
                for (name, example) in examples {
                    let is_valid = fits(&document, &body["schema"], example);
                    assert!(is_valid, "{method} {path}: {name}: {example}");
                    count += 1;
                }
            }
        }
    }
    assert!(count > 300, "{count}");
}

#[test]
fn a_value_that_breaks_a_schema_does_not_fit() {
    let document = document();
    let fits = |schema: &str, value: Value| {
        let reference = format!("#/components/schemas/{schema}");
        fits(&document, &json!({"$ref": reference}), &value)
    };

    assert!(fits("NewMessage", json!({"text": "Hello", "open": null})));
    assert!(fits("Routing", json!({"skill_id": "1"})));
    for (schema, bad) in [
        ("NewMessage", json!({})),
        ("NewMessage", json!({"text": 1})),
        ("NewMessage", json!({"text": "Hello", "txt": "Hello"})),
        (
            "NewMessage",
            json!({"text": "Hello", "open": {"urgency": "soon"}}),
        ),
        (
            "Routing",
            json!({"skill_id": "1", "campaign_id": "1", "engagement_id": "1"}),
        ),
        ("Receipts", json!({"status": "read", "sequences": ["1"]})),
    ] {
        assert!(!fits(schema, bad.clone()), "{schema}: {bad}");
    }
}

#[test]
fn required_parameters_have_an_example_and_no_others() {
    let document = document();
    for (method, path, operation) in operations(&document, "paths") {
        for parameter in operation["parameters"].as_array().unwrap() {
            let has_example = !parameter["example"].is_null();
            assert_eq!(
                parameter["required"], has_example,
                "{method} {path}: {}",
                parameter["name"]
            );
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_example_of_a_request_is_accepted() {
    let demo = Demo::start().await;
    let channel = Channel::new(&demo.api, "demo-key");
    let document = document();
    let operations = operations(&document, "paths").into_iter();
    for (method, path, operation) in operations.filter(|(_, path, _)| path.starts_with("/v1/")) {
        let body = &operation["requestBody"]["content"][JSON];
        let operation = operation["operationId"].as_str().unwrap();
        for (name, example) in examples(&document, body) {
            let user = format!("{operation}-{name}");
            if !WITHOUT_CONVERSATION.contains(&operation) {
                channel.say(&user, "Hello").await.expect(201);
            }
            if operation == "rateConversation" {
                let close = format!("/v1/users/{user}/conversation/close");
                channel.post(&close, json!({})).await.expect(200);
            }
            let method = method.to_uppercase().parse().unwrap();
            let request = channel.request(method, &path.replace("{user_id}", &user));
            let request = request.header("content-type", JSON);

            let reply = send(request.body(example.to_string())).await;

            let (status, body) = (reply.status, reply.body);
            assert!((200..300).contains(&status), "{operation} {name}: {body:#}");
        }
    }
}
