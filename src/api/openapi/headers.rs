//! The header fields of answers, which come from below the handlers and so stand in none of their descriptions.

use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{OpenApi as Document, Ref, RefOr};

/// The header fields: name, type, what they say, and the first letters of the statuses that may bear them.
const HEADERS: [(&str, Type, &str, &[&str]); 6] = [
    (
        "X-Request-Id",
        Type::String,
        "The request's id: its own, or one that was made for it",
        &["2", "4", "5"],
    ),
    (
        "RateLimit",
        Type::String,
        "What is left of the limits, for a channel that has any, such as `\"channel\";r=199;t=1`",
        &["2", "429"],
    ),
    (
        "RateLimit-Policy",
        Type::String,
        "These limits, such as `\"channel\";q=200;w=1`",
        &["2", "429"],
    ),
    ("WWW-Authenticate", Type::String, "`Bearer`", &["401"]),
    (
        "Allow",
        Type::String,
        "The methods that the path takes, such as `GET,HEAD`",
        &["405"],
    ),
    (
        "Retry-After",
        Type::Integer,
        "In how many seconds to try again, where that may help",
        &["409", "429", "503"],
    ),
];

/// Those that only a channel is told: the Cloud has neither a key nor limits.
const FOR_CHANNELS: [&str; 3] = ["RateLimit", "RateLimit-Policy", "WWW-Authenticate"];

/// Gives each answer the header fields that it can bear.
pub(super) fn describe(document: &mut Document) {
    let components = document.components.get_or_insert_default();
    for (name, kind, description, _) in HEADERS {
        let header = header(kind, description);
        components.headers.insert(name.to_owned(), header.into());
    }
    for (path, item) in &mut document.paths.paths {
        let is_for_the_cloud = path.starts_with("/webhooks");
        for operation in operations(item) {
            for (status, response) in &mut operation.responses.responses {
                let RefOr::T(response) = response else {
                    continue;
                };
                for (name, .., statuses) in HEADERS {
                    let may_bear = statuses.iter().any(|first| status.starts_with(first));
                    if may_bear && !(is_for_the_cloud && FOR_CHANNELS.contains(&name)) {
                        let header = Ref::new(format!("#/components/headers/{name}"));
                        response.headers.insert(name.to_owned(), RefOr::Ref(header));
                    }
                }
            }
        }
    }
}

fn operations(item: &mut PathItem) -> impl Iterator<Item = &mut Operation> {
    let methods = [
        &mut item.get,
        &mut item.put,
        &mut item.post,
        &mut item.delete,
    ];
    methods.into_iter().filter_map(Option::as_mut)
}

fn header(kind: Type, description: &str) -> Header {
    HeaderBuilder::new()
        .schema(Some(ObjectBuilder::new().schema_type(kind)))
        .description(Some(description))
        .build()
}
