//! Optional members of bodies: `null` means the same as an absent member, in the document and in
//! the service.

use liveperson_bridge::api;
use reqwest::Method;
use serde_json::{Map, Value, json};

use crate::support::app::TestApp;
use crate::support::channel::{Channel, Reply, send};
use crate::support::cloud::Cloud;
use crate::support::configuration::with_callback;
use crate::support::database::{Database, Engine};
use crate::support::receiver::{Receiver, SECRET};

on_both_engines!(a_null_member_is_treated_like_an_absent_one);

/// The operations of channels with a JSON body.
struct Documented {
    document: Value,
}

/// The form of a generated body.
#[derive(Debug, Clone, Copy)]
struct Shape {
    /// True if optional objects are present, and empty.
    is_deep: bool,
    /// True if optional members are null instead of absent.
    has_nulls: bool,
    /// The index of the alternative, for an object with several.
    kind: usize,
}

impl Documented {
    fn read() -> Self {
        let document = serde_json::to_value(api::document()).unwrap();
        Self { document }
    }

    /// Returns the method, the path and the body schema of each operation.
    fn bodies(&self) -> Vec<(Method, &str, &Value)> {
        let paths = self.document["paths"].as_object().unwrap().iter();
        let paths = paths.filter(|(path, _)| path.starts_with("/v1/"));
        let operations = paths.flat_map(|(path, item)| {
            let operations = item.as_object().unwrap().iter();
            operations.map(move |(method, operation)| (method, path, operation))
        });
        operations
            .filter_map(|(method, path, operation)| {
                let body = operation.get("requestBody")?;
                let schema = body["content"].get("application/json")?.get("schema")?;
                Some((method.to_uppercase().parse().unwrap(), &**path, schema))
            })
            .collect()
    }

    /// Returns the schema that a reference points to, or the schema itself if it is no reference.
    fn resolved<'a>(&'a self, schema: &'a Value) -> &'a Value {
        match schema.get("$ref") {
            None => schema,
            Some(reference) => {
                let pointer = reference.as_str().unwrap().strip_prefix('#').unwrap();
                self.resolved(self.document.pointer(pointer).unwrap())
            }
        }
    }

    /// Returns the alternatives of a schema except null, or the schema itself if it has no
    /// alternatives.
    fn alternatives<'a>(&'a self, schema: &'a Value) -> Vec<&'a Value> {
        let schema = self.resolved(schema);
        match schema["oneOf"].as_array() {
            None => vec![schema],
            Some(kinds) => {
                let kinds = kinds.iter().map(|kind| self.resolved(kind));
                let kinds = kinds.filter(|kind| kind["type"] != "null");
                kinds.flat_map(|kind| self.alternatives(kind)).collect()
            }
        }
    }

    fn may_be_null(&self, schema: &Value) -> bool {
        let schema = self.resolved(schema);
        let names_null = |kind: &Value| kind == "null";
        let kinds = schema["oneOf"].as_array().into_iter().flatten();
        names_null(&schema["type"])
            || schema["type"]
                .as_array()
                .is_some_and(|kinds| kinds.iter().any(names_null))
            || kinds.into_iter().any(|kind| self.may_be_null(kind))
    }

    /// Collects every optional member below a schema; the flag is true if the member may be null.
    fn optional_members(&self, schema: &Value, at: &str, found: &mut Vec<(String, bool)>) {
        for schema in self.alternatives(schema) {
            if let Some(items) = schema.get("items") {
                self.optional_members(items, &format!("{at}/0"), found);
            }
            for (name, member) in schema["properties"].as_object().into_iter().flatten() {
                let at = format!("{at}/{name}");
                if !is_required(schema, name) {
                    found.push((at.clone(), self.may_be_null(member)));
                }
                self.optional_members(member, &at, found);
            }
        }
    }

    /// Builds a body of this shape that the schema allows.
    fn body(&self, schema: &Value, shape: Shape) -> Value {
        let kinds = self.alternatives(schema);
        let schema = kinds[shape.kind % kinds.len()];
        let Some(properties) = schema["properties"].as_object() else {
            return leaf(schema);
        };
        let mut members = Map::new();
        for (name, member) in properties {
            let is_object = self
                .alternatives(member)
                .iter()
                .any(|kind| kind["properties"].is_object());
            if is_required(schema, name) || shape.is_deep && is_object {
                members.insert(name.clone(), self.body(member, shape));
            } else if shape.has_nulls {
                members.insert(name.clone(), Value::Null);
            }
        }
        Value::Object(members)
    }
}

fn is_required(schema: &Value, name: &str) -> bool {
    let mut required = schema["required"].as_array().into_iter().flatten();
    required.any(|required| required == name)
}

/// Returns a value for a schema without members.
fn leaf(schema: &Value) -> Value {
    if let Some(example) = schema.get("example") {
        return example.clone();
    }
    if let Some(words) = schema["enum"].as_array() {
        return words[0].clone();
    }
    match schema["type"].as_str() {
        Some("object") => json!({}),
        Some("integer") => json!(1),
        other => panic!("no example of {other:?}: {schema}"),
    }
}

#[test]
fn the_document_says_that_optional_members_may_be_null() {
    let documented = Documented::read();
    let mut count = 0;

    for (method, path, schema) in documented.bodies() {
        let mut found = Vec::new();
        documented.optional_members(schema, "", &mut found);
        for (member, may_be_null) in &found {
            assert!(may_be_null, "{method} {path}: {member}");
        }
        count += found.len();
    }

    assert!(count > 50, "{count} members");
}

async fn a_null_member_is_treated_like_an_absent_one(engine: Engine) {
    let receiver = Receiver::start().await;
    let (cloud, database) = (Cloud::start().await, Database::create(engine).await);
    let secret = format!("\"{SECRET}\"");
    let app = TestApp::start_configured(cloud, database, |toml| {
        with_callback(&toml, &receiver.url, &secret)
    })
    .await;
    let documented = Documented::read();
    let mut compared = 0;

    for (method, path, schema) in documented.bodies() {
        for (is_deep, kind) in [(false, 0), (true, 0), (true, 1)] {
            let [plain, nulls] = [false, true].map(|has_nulls| {
                let shape = Shape {
                    is_deep,
                    has_nulls,
                    kind,
                };
                documented.body(schema, shape)
            });
            if plain == nulls {
                continue;
            }
            let send_body = async |user: String, body: &Value| {
                prepare(&app.sms, path, &user).await;
                let path = path.replace("{user_id}", &user);
                let request = app.sms.request(method.clone(), &path);
                let request = request.header("content-type", "application/json");
                send(request.body(body.to_string())).await
            };
            compared += 1;
            let first = send_body(format!("plain-{compared}"), &plain).await;
            let second = send_body(format!("nulls-{compared}"), &nulls).await;

            let bodies = format!("{method} {path}: {plain} and {nulls}");
            assert_eq!(comparable(first), comparable(second), "{bodies}");
        }
    }

    assert!(compared >= 12, "{compared} pairs");
}

/// Prepares a user, so that an operation has an effect.
async fn prepare(sms: &Channel, path: &str, user: &str) {
    let opens = path.ends_with("/conversation") || path.ends_with("/messages");
    if opens || !path.contains("{user_id}") {
        return;
    }
    sms.say(user, "Hello").await.expect(201);
    if path.ends_with("/rating") {
        let close = format!("/v1/users/{user}/conversation/close");
        sms.post(&close, json!({})).await.expect(200);
    }
}

/// Returns the status and those members of the body that do not depend on user and time.
fn comparable(reply: Reply) -> (u16, Value) {
    fn strip(value: &mut Value) {
        match value {
            Value::Object(members) => {
                members.retain(|name, _| {
                    !name.ends_with("id") && !name.ends_with("_at") && name != "timestamp"
                });
                members.values_mut().for_each(strip);
            }
            Value::Array(items) => items.iter_mut().for_each(strip),
            _ => {}
        }
    }
    let mut body = reply.body;
    strip(&mut body);
    (reply.status, body)
}
