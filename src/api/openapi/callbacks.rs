//! The callbacks to a channel's callback URL, as the document's `webhooks`.

use chrono::DateTime;
use serde_json::Value;
use utoipa::openapi::path::{HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder};
use utoipa::openapi::path::{ParameterIn, PathItem, Paths, PathsBuilder};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{AllOfBuilder, ObjectBuilder, Schema, Type};
use utoipa::openapi::{ContentBuilder, Ref, Required, ResponseBuilder};
use uuid::Uuid;

use crate::types::event::{EventId, EventType, sample};

/// The headers of a callback with their descriptions. They are those of the Standard Webhooks
/// specification, and `webhook-attempt`.
const HEADERS: [(&str, &str); 4] = [
    ("webhook-id", "The event's id; the same for all attempts."),
    (
        "webhook-timestamp",
        "The time of this attempt, in seconds since 1970.",
    ),
    (
        "webhook-signature",
        "`v1,` and the base64 of the HMAC-SHA256 of id, timestamp and body, joined with dots. With two secrets there \
         are two of these, separated by a space.",
    ),
    ("webhook-attempt", "The number of this attempt, from 1."),
];

/// Describes a callback for each type of event.
pub(super) fn webhooks() -> Paths {
    let all = EventType::ALL.into_iter();
    all.fold(PathsBuilder::new(), |paths, kind| {
        paths.path(
            kind.as_str(),
            PathItem::new(HttpMethod::Post, operation(kind)),
        )
    })
    .build()
}

fn operation(kind: EventType) -> Operation {
    let (summary, data) = summary_and_schema(kind);
    let type_schema = ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some([kind.as_str()]));
    let members = ObjectBuilder::new()
        .property("type", type_schema)
        .property("data", Ref::from_schema_name(data));
    let event = AllOfBuilder::new()
        .item(Ref::from_schema_name("Event"))
        .item(members)
        .build();
    let body = ContentBuilder::new()
        .schema(Some(Schema::AllOf(event)))
        .example(example(kind))
        .build();
    OperationBuilder::new()
        .tag("events")
        .operation_id(Some(operation_id(kind)))
        .summary(Some(summary))
        // A callback is signed and has no API key.
        .securities(Some([]))
        .parameters(Some(HEADERS.map(header)))
        .request_body(Some(
            RequestBodyBuilder::new()
                .content("application/json", body)
                .required(Some(Required::True))
                .build(),
        ))
        .response(
            "2XX",
            ResponseBuilder::new().description("The channel has accepted the event"),
        )
        .response(
            "410",
            ResponseBuilder::new()
                .description("The channel accepts no more callbacks until they are resumed"),
        )
        .response(
            "422",
            ResponseBuilder::new()
                .description("The channel refuses this event; it is not sent again"),
        )
        .response(
            "default",
            ResponseBuilder::new()
                .description("The event is sent again later, at the earliest after `Retry-After`"),
        )
        .build()
}

/// Returns an event of the type, as `POST /v1/events/test` creates it.
fn example(kind: EventType) -> Option<Value> {
    let id = Uuid::from_u128(0x0193_540a_7c2b_7c3e_9d1f_2a3b_4c5d_6e7f);
    let now = DateTime::from_timestamp_millis(1_795_334_430_250)?;
    let event = sample(kind, EventId::new(id), id, "sms".parse().ok()?, now);
    serde_json::to_value(event).ok()
}

/// Makes the operation id, such as `onMessageCreated`, so that it is a valid name in generated
/// code.
fn operation_id(kind: EventType) -> String {
    let parts = kind.as_str().split('.');
    let capitalized = parts.map(|part| {
        let mut chars = part.chars();
        let first = chars.next().map(|char| char.to_ascii_uppercase());
        first.into_iter().chain(chars).collect::<String>()
    });
    std::iter::once("on".to_owned())
        .chain(capitalized)
        .collect()
}

fn header((name, description): (&str, &str)) -> Parameter {
    ParameterBuilder::new()
        .name(name)
        .parameter_in(ParameterIn::Header)
        .required(Required::True)
        .description(Some(description))
        .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
        .build()
}

/// Returns the summary of a type of event, and the schema of its data.
const fn summary_and_schema(kind: EventType) -> (&'static str, &'static str) {
    match kind {
        EventType::MessageCreated => (
            "An agent, bot, manager or the system sent a message.",
            "EventMessage",
        ),
        EventType::MessageEchoed => (
            "The Cloud echoed the user's own message; only for channels that list this type.",
            "EventMessage",
        ),
        EventType::TypingChanged => ("A participant started or stopped typing.", "EventTyping"),
        EventType::ReceiptChanged => ("Messages were delivered, read or refused.", "EventReceipt"),
        EventType::ConversationOpened => ("A conversation was opened.", "EventConversation"),
        EventType::ConversationUpdated => (
            "The agent or skill of a conversation changed.",
            "EventConversation",
        ),
        EventType::ConversationClosed => ("A conversation was closed.", "EventConversation"),
        EventType::MessageSent => ("A queued request reached the Cloud.", "EventOutcome"),
        EventType::MessageFailed => (
            "The Cloud refused a queued request, or it could not be sent.",
            "EventOutcome",
        ),
    }
}
