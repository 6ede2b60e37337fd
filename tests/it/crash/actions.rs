//! The actions of users, and their results.

use chrono::{DateTime, Utc};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::channel::{Channel, FORM, Part, Reply, form};

/// An action of a user. Its content distinguishes it from all other actions of the user.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Action {
    Text(String),
    /// A file, by its caption.
    File(String),
    /// A receipt for the message with this sequence, which need not exist.
    Receipt(u32),
    Close {
        survey: bool,
    },
    Rating(u8),
}

/// An action that a user did, and the answers to it.
#[derive(Debug)]
pub(super) struct UserAction {
    pub(super) action: Action,
    pub(super) key: Option<String>,
    /// True if the request asks for 202 at once.
    pub(super) is_async: bool,
    /// The number of times that it was sent.
    pub(super) requests: usize,
    /// The 2xx answers, including those to repeats.
    pub(super) accepted: Vec<Accepted>,
    /// The code of the problem with which it was refused, if that is allowed.
    pub(super) refused: Option<String>,
}

/// A 2xx answer.
#[derive(Debug, Clone)]
pub(super) struct Accepted {
    pub(super) status: u16,
    /// `None` for a request that is not a message and was done at once.
    pub(super) message_id: Option<String>,
    pub(super) conversation_id: Option<String>,
}

/// Codes of problems for which an action may be refused although nothing is at fault.
const NO_CONVERSATION: [&str; 2] = ["no-open-conversation", "conversation-not-found"];
const NOT_TO_BE_RATED: [&str; 3] = [
    "conversation-open",
    "conversation-not-found",
    "survey-pending",
];

const QUEUE_FULL: &str = "queue-full";

/// Returns the content of a file. Only the first bytes are inspected, which make it a GIF; the rest
/// identifies the file.
pub(super) fn content_of(caption: &str) -> Vec<u8> {
    format!("GIF89a{caption}").into_bytes()
}

impl Action {
    /// True for a problem for which this action may be refused, or fail later.
    pub(super) fn may_fail_for(&self, code: &str) -> bool {
        match self {
            Self::Text(_) | Self::File(_) => false,
            Self::Receipt(_) | Self::Close { .. } => NO_CONVERSATION.contains(&code),
            Self::Rating(_) => NOT_TO_BE_RATED.contains(&code),
        }
    }

    /// True for a problem for which an action of any kind may fail later.
    pub(super) fn may_any_fail_for(code: &str) -> bool {
        NO_CONVERSATION.contains(&code) || NOT_TO_BE_RATED.contains(&code)
    }

    /// Builds the request of the action.
    pub(super) fn request(&self, channel: &Channel, user_id: &str) -> RequestBuilder {
        let json = |method, path: &str, body: Value| {
            let path = format!("/v1/users/{user_id}/{path}");
            let request = channel.request(method, &path);
            let request = request.header("content-type", "application/json");
            request.body(body.to_string())
        };
        match self {
            Self::Text(text) => json(Method::POST, "messages", json!({"text": text})),
            Self::File(caption) => {
                let part = |name, file_name, content| Part {
                    name,
                    file_name,
                    content,
                };
                let content = content_of(caption);
                let parts = [
                    part("caption", None, caption.as_bytes()),
                    part("file", Some("file.gif"), &content),
                ];
                let path = format!("/v1/users/{user_id}/files");
                let request = channel.request(Method::POST, &path);
                request.header("content-type", FORM).body(form(&parts))
            }
            Self::Receipt(number) => {
                let body = json!({"status": "read", "sequences": [number]});
                json(Method::POST, "receipts", body)
            }
            Self::Close { survey } => {
                let body = json!({"survey": survey});
                json(Method::POST, "conversation/close", body)
            }
            Self::Rating(csat) => {
                let body = json!({"csat": csat, "fcr": "yes"});
                json(Method::PUT, "conversation/rating", body)
            }
        }
    }
}

impl UserAction {
    pub(super) fn new(action: Action, key: Option<String>, is_async: bool) -> Self {
        Self {
            action,
            key,
            is_async,
            requests: 0,
            accepted: Vec::new(),
            refused: None,
        }
    }

    /// True once the action needs no further attempt.
    pub(super) fn is_settled(&self) -> bool {
        !self.accepted.is_empty() || self.refused.is_some()
    }

    /// Records an answer, and returns an error if it is not an allowed one.
    pub(super) fn record(&mut self, reply: &Reply) -> Result<(), String> {
        let code = reply.body["code"].as_str().unwrap_or_default();
        match reply.status {
            status @ (200 | 201 | 202 | 204) => {
                let text = |member: &str| reply.body[member].as_str().map(str::to_owned);
                // The body of a 200 is a conversation.
                let (message_id, conversation_id) = match status {
                    200 => (None, text("id")),
                    _ => (text("id"), text("conversation_id")),
                };
                self.accepted.push(Accepted {
                    status,
                    message_id,
                    conversation_id,
                });
                Ok(())
            }
            409 if code == "idempotency-key-in-use" && self.key.is_some() => Ok(()),
            404 | 409 if self.action.may_fail_for(code) => {
                self.refused = Some(code.to_owned());
                Ok(())
            }
            // The user's queue is full; the user goes on with another action.
            503 if code == QUEUE_FULL => {
                self.refused = Some(code.to_owned());
                Ok(())
            }
            500..600 => Ok(()),
            _ => Err(format!("{:?}: {reply:?}", self.action)),
        }
    }

    /// Returns the id from a 202 answer.
    pub(super) fn queued(&self) -> Option<&str> {
        let accepted = self.accepted.iter().find(|it| it.status == 202)?;
        accepted.message_id.as_deref()
    }

    /// True if the Cloud had it before the answer.
    pub(super) fn was_sent_immediately(&self) -> bool {
        self.accepted.iter().any(|it| it.status != 202)
    }
}

/// A user, from the first action until erasure or the end of the run.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) user_id: String,
    /// All actions, in order.
    pub(super) user_actions: Vec<UserAction>,
    /// The time at which the erasure was answered 2xx.
    pub(super) erased_at: Option<DateTime<Utc>>,
    /// True once erasure was requested: from then on, queued requests may be lost.
    pub(super) is_ending: bool,
    pub(super) complaints: Vec<String>,
}

impl Life {
    pub(super) fn new(user_id: String) -> Self {
        Self {
            user_id,
            user_actions: Vec::new(),
            erased_at: None,
            is_ending: false,
            complaints: Vec::new(),
        }
    }
}
