//! The OpenAPI document of the API: correct, complete and served.

use std::collections::BTreeSet;

use liveperson_bridge::api;
use serde_json::Value;

use crate::support::app::TestApp;
use crate::support::channel::send;
use crate::support::database::Engine;

fn document() -> Value {
    serde_json::to_value(api::document()).unwrap()
}

/// Collects the values of all members with this name at any depth.
fn members<'a>(value: &'a Value, name: &str, found: &mut Vec<&'a Value>) {
    match value {
        Value::Object(object) => {
            found.extend(object.get(name));
            object
                .values()
                .for_each(|member| members(member, name, found));
        }
        Value::Array(items) => items.iter().for_each(|item| members(item, name, found)),
        _ => {}
    }
}

#[test]
fn the_committed_document_is_what_the_program_prints() {
    let committed = include_str!("../../openapi.yaml");

    assert!(
        committed == api::document().to_yaml().unwrap(),
        "openapi.yaml is stale; renew it: cargo run -- openapi > openapi.yaml"
    );
}

#[test]
fn every_reference_leads_somewhere() {
    let document = document();
    let mut references = Vec::new();
    members(&document, "$ref", &mut references);

    assert!(references.len() > 20);
    for reference in references {
        let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
        assert!(document.pointer(pointer).is_some(), "{reference}");
    }
}

#[test]
fn every_operation_has_a_name_a_key_and_its_problems() {
    let document = document();
    let mut names = BTreeSet::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let name = operation["operationId"].as_str().unwrap();
            assert!(names.insert(name), "{name} twice");
            assert!(operation["summary"].is_string(), "{method} {path}");
            // A signed link needs no key that could be refused.
            let is_link = path.starts_with("/files/");
            let refusal = if is_link { "410" } else { "401" };
            for status in ["400", refusal, "404", "500", "503"] {
                let problem = &operation["responses"][status]["content"];
                let schema = &problem["application/problem+json"]["schema"]["$ref"];
                assert_eq!(
                    schema, "#/components/schemas/Problem",
                    "{method} {path} {status}"
                );
            }
        }
    }
    assert_eq!(document["openapi"], "3.1.0");
    assert_eq!(
        document["security"][0]["channel_key"],
        serde_json::json!([])
    );
}

#[test]
fn every_post_of_a_channel_takes_an_idempotency_key_and_nothing_else_does() {
    let mut keyed = 0;
    for (path, item) in document()["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let parameters = operation["parameters"].as_array().unwrap();
            let takes_key = parameters.iter().any(|p| p["name"] == "Idempotency-Key");
            let expected = method == "post" && !path.starts_with("/webhooks");
            assert_eq!(takes_key, expected, "{method} {path}");
            keyed += usize::from(takes_key);
            for (status, response) in operation["responses"].as_object().unwrap() {
                let replayed = &response["headers"]["Idempotency-Replayed"];
                let can_be = expected && status.starts_with('2');
                assert_eq!(replayed.is_object(), can_be, "{method} {path} {status}");
            }
        }
    }
    assert!(keyed >= 6, "{keyed}");
}

#[test]
fn dates_and_times_of_requests_have_years_of_four_digits() {
    let document = document();
    let schemas = &document["components"]["schemas"];

    for (schema, member, format) in [
        ("Profile", "birth_date", "date"),
        ("Customer", "last_payment_date", "date"),
        ("Customer", "registration_date", "date"),
        ("ReplayRequest", "since", "date-time"),
        ("ReplayRequest", "until", "date-time"),
    ] {
        let mut references = Vec::new();
        let member = &schemas[schema]["properties"][member];
        members(member, "$ref", &mut references);
        let pointer = references[0].as_str().unwrap().strip_prefix('#').unwrap();
        let described = document.pointer(pointer).unwrap();

        assert_eq!(described["format"], format, "{member}");
        let pattern = described["pattern"].as_str().unwrap();
        // The pattern excludes years of five digits and the year 0000.
        assert!(pattern.starts_with("^([1-9][0-9]{3}|"), "{pattern}");
        assert!(pattern.contains("|000[1-9])-"), "{pattern}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_described_operation_is_served() {
    let app = TestApp::start(Engine::Sqlite).await;
    let unauthorized = app.sms.with_key("no key");

    for (path, item) in document()["paths"].as_object().unwrap() {
        for method in item.as_object().unwrap().keys() {
            let method = method.to_uppercase().parse().unwrap();
            let (status, code) = if path.starts_with("/webhooks") {
                (401, "signature-refused")
            } else if path.starts_with("/files/") {
                (404, "file-not-found")
            } else {
                (401, "unauthorized")
            };
            let path = path.replace("{user_id}", "ada");
            // A path or method that is not served would be refused before the authorization.
            let refused = send(unauthorized.request(method, &path)).await;
            refused.expect_problem(status, code);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_documentation_page_needs_no_other_host() {
    let app = TestApp::start(Engine::Sqlite).await;
    let text = async |path: &str| {
        let request = app.sms.request(reqwest::Method::GET, path);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), 200, "{path}");
        response.text().await.unwrap()
    };

    let page = text("/docs/").await;
    let initializer = text("/docs/swagger-initializer.js").await;

    let sources = page.split("src=\"").skip(1);
    for after in sources.chain(page.split("href=\"").skip(1)) {
        let target = after.split('"').next().unwrap();
        assert!(!target.contains("//"), "{target}");
        let path = format!("/docs/{}", target.trim_start_matches("./"));
        let reply = app.sms.request(reqwest::Method::GET, &path).send().await;
        assert_eq!(reply.unwrap().status(), 200, "{path}");
    }
    assert!(!initializer.contains("http"), "{initializer}");
    // By default, the page has a validator on the internet check the document.
    assert!(
        initializer.contains(r#""validatorUrl": "none""#),
        "{initializer}"
    );
    assert!(initializer.contains("/openapi.json"), "{initializer}");
    let served: Value = serde_json::from_str(&text("/openapi.json").await).unwrap();
    assert_eq!(served, document());
}
