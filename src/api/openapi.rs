//! The OpenAPI document, generated from the routes that are served.

mod callbacks;
mod headers;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::Router;
use utoipa::openapi::example::{Example, ExampleBuilder};
use utoipa::openapi::header::HeaderBuilder;
use utoipa::openapi::path::{Operation, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{AdditionalProperties, ObjectBuilder, Schema, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{ContentBuilder, OpenApi as Document, Ref, RefOr, Required, ResponseBuilder};
use utoipa::{Modify, OpenApi};
use utoipa_axum::router::OpenApiRouter;

use super::idempotency::SelfClaimingRoutes;
use super::problem::{Code, Problem, ProblemDetails};
use super::state::AppState;
use super::{v1, webhooks};

/// The media type of error responses.
const PROBLEM_JSON: &str = "application/problem+json";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "liveperson-bridge",
        description = "Connects a messaging channel to LivePerson's Conversational Cloud.",
        license(name = "Apache-2.0", identifier = "Apache-2.0"),
    ),
    components(schemas(ProblemDetails)),
    modifiers(&BearerKey),
    security(("channel_key" = [])),
    tags(
        (name = "conversation", description = "One open conversation per user"),
        (name = "messages", description = "Messages, files, receipts and typing indicators of users"),
        (name = "users", description = "Data about users"),
        (name = "events", description = "Events, to be read or delivered to the callback URL"),
        (name = "deliveries", description = "Deliveries of events to the callback URL"),
        (name = "webhooks", description = "Called by the Cloud; not for channels"),
    ),
)]
struct ApiDoc;

struct BearerKey;

impl Modify for BearerKey {
    fn modify(&self, document: &mut Document) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("The channel's API key."))
            .build();
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("channel_key", SecurityScheme::Http(scheme));
    }
}

/// The operations of the API.
pub(super) struct Operations {
    pub(super) routes: Router<Arc<AppState>>,
    /// The document that describes them.
    pub(super) document: Document,
    pub(super) claiming: SelfClaimingRoutes,
}

/// Builds the operations with their description.
pub(super) fn operations() -> Operations {
    let (channels, claiming) = v1::routes();
    let (routes, mut document) = OpenApiRouter::with_openapi(ApiDoc::openapi())
        .merge(channels)
        .merge(webhooks::routes())
        .split_for_parts();
    close_routing(&mut document);
    describe_optional_bodies(&mut document);
    describe_idempotency(&mut document);
    describe_problems(&mut document);
    headers::describe(&mut document);
    document.webhooks = Some(callbacks::webhooks());
    Operations {
        routes,
        document,
        claiming,
    }
}

/// Returns the OpenAPI document.
#[must_use]
pub fn document() -> Document {
    operations().document
}

/// Completes the schemas of `Routing`: other members are forbidden, and members of the other
/// variant may be null. The derived schema of an enum cannot state either.
fn close_routing(document: &mut Document) {
    let schemas = document.components.as_mut().map(|known| &mut known.schemas);
    let routing = schemas.and_then(|known| known.get_mut("Routing"));
    let Some(RefOr::T(Schema::OneOf(routing))) = routing else {
        return;
    };
    let kinds = routing.items.iter_mut().filter_map(|kind| match kind {
        RefOr::T(Schema::Object(kind)) => Some(kind),
        _ => None,
    });
    let kinds: Vec<_> = kinds.collect();
    let names = kinds.iter().flat_map(|kind| kind.properties.keys());
    let names: BTreeSet<_> = names.cloned().collect();
    for kind in kinds {
        kind.additional_properties = Some(Box::new(AdditionalProperties::FreeForm(false)));
        for name in &names {
            let null = || ObjectBuilder::new().schema_type(Type::Null).into();
            kind.properties.entry(name.clone()).or_insert_with(null);
        }
    }
}

/// Marks the request bodies that may be left out. The attribute of a handler can do so only for a
/// body that may be null.
fn describe_optional_bodies(document: &mut Document) {
    let posts = document.paths.paths.values_mut();
    for post in posts.filter_map(|item| item.post.as_mut()) {
        let name = post.operation_id.as_deref().unwrap_or_default();
        if let Some(RefOr::T(body)) = &mut post.request_body
            && ["openConversation", "closeConversation"].contains(&name)
        {
            body.required = Some(Required::False);
        }
    }
}

/// Adds the idempotency key to each POST of channels.
fn describe_idempotency(document: &mut Document) {
    let key = ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .description(Some(
            "The key of this request, stored for 24 hours. If the request is sent again with this key, it is not processed \
             again but gets the first response. A key belongs to the channel, or, with a token for one user, to that user.",
        ))
        .schema(Some(
            ObjectBuilder::new()
                .schema_type(Type::String)
                .min_length(Some(1))
                .max_length(Some(255))
                .pattern(Some(r"^[^\x00-\x1f\x7f-\x9f]*$")),
        ))
        .build();
    let replayed = HeaderBuilder::new()
        .schema(Some(
            ObjectBuilder::new()
                .schema_type(Type::String)
                .enum_values(Some(["true"])),
        ))
        .description(Some(
            "Present if this is the stored response to an earlier request with the same key",
        ))
        .build();
    for (path, item) in &mut document.paths.paths {
        let Some(post) = item.post.as_mut().filter(|_| takes_key(path)) else {
            continue;
        };
        let parameters = post.parameters.get_or_insert_default();
        parameters.push(key.clone().into());
        for (status, response) in &mut post.responses.responses {
            if let RefOr::T(response) = response
                && status.starts_with('2')
            {
                let name = "Idempotency-Replayed".to_owned();
                response.headers.insert(name, replayed.clone().into());
            }
        }
    }
}

/// True if a POST to this path may have an idempotency key.
fn takes_key(path: &str) -> bool {
    !path.starts_with("/webhooks")
}

/// Adds the error responses to each operation: one for each status, with the problem codes that
/// share it, and an example for each code.
fn describe_problems(document: &mut Document) {
    let components = document.components.get_or_insert_default();
    for &code in Code::ALL.iter().filter(|code| !code.is_for_operators()) {
        let example = ExampleBuilder::new()
            .summary(code.title())
            .value(Problem::example(code));
        let name = code.as_str().to_owned();
        components.examples.insert(name, example.into());
    }
    let paths = document.paths.paths.iter_mut();
    let operations = paths.flat_map(|(path, item)| {
        let methods = [
            (false, &mut item.get),
            (false, &mut item.put),
            (takes_key(path), &mut item.post),
            (false, &mut item.delete),
        ];
        methods.into_iter().filter_map(|(takes_key, operation)| {
            Some((path.as_str(), takes_key, operation.as_mut()?))
        })
    });
    for (path, takes_key, operation) in operations {
        let has_body = operation.request_body.is_some();
        let may_be_queued = operation.responses.responses.contains_key("202");
        let is_about_files = path.contains("/files");
        let is_link = path.starts_with("/files/");
        let is_for_the_cloud = path.starts_with("/webhooks");
        let is_about_deliveries = path.starts_with("/v1/deliveries/");
        for &code in Code::ALL {
            let applies = match code {
                _ if code.is_for_operators() => false,
                Code::BodyTooLarge | Code::UnsupportedMediaType => has_body,
                Code::SignatureRefused | Code::TooManyNotifications => is_for_the_cloud,
                Code::Unauthorized | Code::Forbidden => !is_for_the_cloud && !is_link,
                Code::TooManyRequests | Code::Overloaded => !is_for_the_cloud,
                Code::FileLinkExpired => is_link,
                Code::EventNotFound => path.contains("{event_id}"),
                Code::NoCallback => is_about_deliveries,
                Code::TransientEvent => path.ends_with("/retry"),
                Code::QueueFull => may_be_queued,
                Code::TooManyReaders => path == "/v1/events",
                Code::FileNotFound => is_about_files && !has_body,
                Code::IdempotencyKeyInUse | Code::IdempotencyKeyReused => takes_key,
                Code::MessageNotFound => path.starts_with("/v1/messages"),
                Code::TooManyFiles => is_about_files && has_body,
                _ => true,
            };
            if applies {
                describe_problem(operation, code);
            }
        }
    }
}

fn describe_problem(operation: &mut Operation, code: Code) {
    use std::collections::btree_map::Entry;

    let name = code.as_str();
    let line = format!("`{name}`: {}", code.title());
    let example = Ref::new(format!("#/components/examples/{name}"));
    let example: RefOr<Example> = RefOr::Ref(example);
    let status = code.status().to_string();
    match operation.responses.responses.entry(status) {
        Entry::Occupied(mut known) => {
            if let RefOr::T(response) = known.get_mut() {
                response.description.push_str("; ");
                response.description.push_str(&line);
                if let Some(RefOr::T(content)) = response.content.get_mut(PROBLEM_JSON) {
                    content.examples.insert(name.to_owned(), example);
                }
            }
        }
        Entry::Vacant(vacant) => {
            let content = ContentBuilder::new()
                .schema(Some(Ref::from_schema_name("Problem")))
                .examples_from_iter([(name, example)])
                .build();
            vacant.insert(
                ResponseBuilder::new()
                    .description(line)
                    .content(PROBLEM_JSON, content)
                    .into(),
            );
        }
    }
}
