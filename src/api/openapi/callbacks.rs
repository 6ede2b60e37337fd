//! What is sent to a channel's callback URL, as the document's `webhooks`.

use utoipa::openapi::path::{HttpMethod, Operation, OperationBuilder, Parameter, ParameterBuilder};
use utoipa::openapi::path::{ParameterIn, PathItem, Paths, PathsBuilder};
use utoipa::openapi::request_body::RequestBodyBuilder;
use utoipa::openapi::schema::{AllOfBuilder, ObjectBuilder, Schema, Type};
use utoipa::openapi::{ContentBuilder, Ref, Required, ResponseBuilder};

use crate::types::event::EventType;

/// What the header fields of a callback say; they are those of the Standard Webhooks specification, and one more.
const HEADERS: [(&str, &str); 4] = [
    (
        "webhook-id",
        "The event's id; the same when the event is sent again.",
    ),
    (
        "webhook-timestamp",
        "When this attempt was made, in seconds since the epoch.",
    ),
    (
        "webhook-signature",
        "`v1,` and the base64 of the HMAC-SHA256 of id, timestamp and body, joined with dots; with two secrets two of \
         these, with a space between.",
    ),
    (
        "webhook-attempt",
        "How often the event has been sent, with this time: from 1.",
    ),
];

/// A callback for each type of event.
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
    let (summary, data) = described(kind);
    let kind_alone = ObjectBuilder::new()
        .schema_type(Type::String)
        .enum_values(Some([kind.as_str()]));
    let narrowed = ObjectBuilder::new()
        .property("type", kind_alone)
        .property("data", Ref::from_schema_name(data));
    let event = AllOfBuilder::new()
        .item(Ref::from_schema_name("Event"))
        .item(narrowed)
        .build();
    let body = ContentBuilder::new()
        .schema(Some(Schema::AllOf(event)))
        .build();
    OperationBuilder::new()
        .tag("events")
        .operation_id(Some(operation_id(kind)))
        .summary(Some(summary))
        // It is signed; it bears no key.
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
            ResponseBuilder::new().description("The channel has the event"),
        )
        .response(
            "410",
            ResponseBuilder::new()
                .description("The channel wants no more callbacks, until they are resumed"),
        )
        .response(
            "422",
            ResponseBuilder::new()
                .description("The channel does not take this event; it is not sent again"),
        )
        .response(
            "default",
            ResponseBuilder::new().description(
                "The event is sent again later; `Retry-After` says when at the soonest",
            ),
        )
        .build()
}

/// Such as `onMessageCreated`: a name that generated code can bear.
fn operation_id(kind: EventType) -> String {
    let words = kind.as_str().split('.');
    let capitalized = words.map(|word| {
        let mut letters = word.chars();
        let first = letters.next().map(|letter| letter.to_ascii_uppercase());
        first.into_iter().chain(letters).collect::<String>()
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

/// What a type of event tells of, and the schema of its data.
const fn described(kind: EventType) -> (&'static str, &'static str) {
    match kind {
        EventType::MessageCreated => (
            "An agent, bot, manager or the system wrote.",
            "EventMessage",
        ),
        EventType::MessageEchoed => (
            "The user's own message came back from the Cloud; for channels that list this type.",
            "EventMessage",
        ),
        EventType::TypingChanged => ("Somebody started or stopped typing.", "EventTyping"),
        EventType::ReceiptChanged => ("Messages were delivered, read or refused.", "EventReceipt"),
        EventType::ConversationOpened => ("A conversation was opened.", "EventConversation"),
        EventType::ConversationUpdated => (
            "A conversation changed hands or skill.",
            "EventConversation",
        ),
        EventType::ConversationClosed => ("A conversation was closed.", "EventConversation"),
        EventType::MessageSent => (
            "A request that had been queued reached the Cloud.",
            "EventOutcome",
        ),
        EventType::MessageFailed => (
            "A request that had been queued could not be brought to the Cloud.",
            "EventOutcome",
        ),
    }
}
