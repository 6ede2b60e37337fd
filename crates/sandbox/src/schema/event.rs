//! The body of `ms.PublishEvent`.

use serde::{Deserialize, Serialize};
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

/// The type of an event that a consumer publishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum EventType {
    /// `ContentEvent`: a text or a file.
    #[serde(rename = "ContentEvent")]
    Content,
    /// `ChatStateEvent`: the consumer types, or stops typing.
    #[serde(rename = "ChatStateEvent")]
    ChatState,
    /// `AcceptStatusEvent`: a receipt for messages.
    #[serde(rename = "AcceptStatusEvent")]
    AcceptStatus,
}

impl EventType {
    /// Returns the type of the event that a request publishes; `None` if it publishes none.
    pub(crate) fn of(body: &[u8]) -> Option<Self> {
        let request: Value = serde_json::from_slice(body).ok()?;
        Self::deserialize(request.pointer("/body/event/type")?).ok()
    }
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
        EventType::Content => {
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
        EventType::ChatState => {
            read::<ChatStateEvent>(EVENT, event)?;
            Ok(Publication::ChatState)
        }
        EventType::AcceptStatus => {
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
