//! The response headers that the layers around the handlers add, so that no handler describes them.

use utoipa::openapi::header::{Header, HeaderBuilder};
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::{OpenApi as Document, Ref, RefOr};

/// The headers: name, type, description, and prefixes of the statuses that may have them.
const HEADERS: [(&str, Type, &str, &[&str]); 6] = [
    (
        "X-Request-Id",
        Type::String,
        "The id of the request: the one that it came with, or a generated one",
        &["2", "4", "5"],
    ),
    (
        "RateLimit",
        Type::String,
        "The remaining rate limits, for a channel that has any, such as `\"channel\";r=199;t=1`",
        &["2", "429"],
    ),
    (
        "RateLimit-Policy",
        Type::String,
        "The rate limits, such as `\"channel\";q=200;w=1`",
        &["2", "429"],
    ),
    ("WWW-Authenticate", Type::String, "`Bearer`", &["401"]),
    (
        "Allow",
        Type::String,
        "The methods that the path supports, such as `GET,HEAD`",
        &["405"],
    ),
    (
        "Retry-After",
        Type::Integer,
        "The number of seconds after which to retry, if a retry may help",
        &["409", "429", "503"],
    ),
];

/// The headers that only channels get. The Cloud has neither a key nor rate limits.
const FOR_CHANNELS: [&str; 3] = ["RateLimit", "RateLimit-Policy", "WWW-Authenticate"];

/// Adds to each response the headers that it can have.
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
                    let may_have = statuses.iter().any(|prefix| status.starts_with(prefix));
                    if may_have && !(is_for_the_cloud && FOR_CHANNELS.contains(&name)) {
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
