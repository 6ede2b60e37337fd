//! The body of `ms.PublishEvent`.

use serde::Deserialize;
use serde_json::Value;

use super::file::HostedFile;
use super::{Mismatch, read};

const EVENT: &str = "body.event";

/// The kinds of publication by a consumer that the Cloud treats differently.
#[derive(Debug)]
pub(crate) enum Publication {
    /// A text or an accept status, which gets a sequence.
    Sequenced,
    /// A file, which gets a sequence and must have been uploaded.
    File(HostedFile),
    /// A chat state, which gets no sequence.
    ChatState,
}

/// The body of the request. Source: vendor's Send API page "Send". `conversationId` is absent
/// there, but known clients send it.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub(crate) struct Body {
    pub(crate) dialog_id: String,
    pub(crate) conversation_id: Option<String>,
    pub(crate) event: Value,
}

#[derive(Debug, Deserialize)]
struct Typed {
    r#type: EventType,
}

#[derive(Debug, Deserialize)]
#[expect(clippy::enum_variant_names, reason = "the names on the wire")]
enum EventType {
    ContentEvent,
    ChatStateEvent,
    AcceptStatusEvent,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ContentEvent {
    r#type: String,
    content_type: ContentType,
    message: Value,
}

#[derive(Debug, Deserialize)]
enum ContentType {
    #[serde(rename = "text/plain")]
    Text,
    #[serde(rename = "hosted/file")]
    File,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct ChatStateEvent {
    r#type: String,
    chat_state: ChatState,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum ChatState {
    Active,
    Inactive,
    Gone,
    Composing,
    Pause,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct AcceptStatusEvent {
    r#type: String,
    status: AcceptStatus,
    sequence_list: Vec<u64>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
enum AcceptStatus {
    Accept,
    Read,
    Access,
    Nack,
    Action,
}

/// Checks that an event has its documented shape.
pub(crate) fn classify(event: &Value) -> Result<Publication, Mismatch> {
    let Typed { r#type } = read(EVENT, event)?;
    match r#type {
        EventType::ContentEvent => {
            let content: ContentEvent = read(EVENT, event)?;
            let path = format!("{EVENT}.message");
            match content.content_type {
                ContentType::Text => {
                    read::<String>(&path, &content.message)?;
                    Ok(Publication::Sequenced)
                }
                ContentType::File => Ok(Publication::File(read(&path, &content.message)?)),
            }
        }
        EventType::ChatStateEvent => {
            read::<ChatStateEvent>(EVENT, event)?;
            Ok(Publication::ChatState)
        }
        EventType::AcceptStatusEvent => {
            let accept: AcceptStatusEvent = read(EVENT, event)?;
            if accept.sequence_list.is_empty() {
                return Err(Mismatch(format!(
                    "{EVENT}.sequenceList: empty, expected the sequences of messages"
                )));
            }
            Ok(Publication::Sequenced)
        }
    }
}

/// True if a request publishes a file. The limit on the size of requests does not apply to it.
pub(crate) fn is_file(request: &Value) -> bool {
    request.pointer("/body/event/contentType") == Some(&Value::from("hosted/file"))
}
