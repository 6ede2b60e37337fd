//! Events that the channel received, reduced to the parts that the verdict needs: a long run has
//! very many.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use serde_json::Value;

/// An event.
#[derive(Debug, Clone)]
pub(super) struct Event {
    pub(super) id: String,
    pub(super) user_id: String,
    pub(super) content: Content,
    /// A hash of the whole event.
    pub(super) digest: u64,
}

/// The content of an event.
#[derive(Debug, Clone)]
pub(super) enum Content {
    /// A message of an agent or of the bot.
    Written {
        text: String,
        /// The id of the file, if it has one.
        file: Option<String>,
    },
    /// A queued message was sent.
    Sent(String),
    /// A queued message failed, with the code of the failure.
    Failed(String, String),
    Other,
}

impl Event {
    pub(super) fn read(event: &Value) -> Self {
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let data = &event["data"];
        let content = match event["type"].as_str().unwrap_or_default() {
            "message.created" => Content::Written {
                text: text(&data["text"]),
                file: data["file"]["id"].as_str().map(str::to_owned),
            },
            "message.sent" => Content::Sent(text(&data["id"])),
            "message.failed" => Content::Failed(text(&data["id"]), text(&data["failure"]["code"])),
            _ => Content::Other,
        };
        let mut hasher = DefaultHasher::new();
        event.to_string().hash(&mut hasher);
        Self {
            id: text(&event["id"]),
            user_id: text(&event["user_id"]),
            content,
            digest: hasher.finish(),
        }
    }
}
