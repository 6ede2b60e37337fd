//! What users do, and what came of it.

use chrono::{DateTime, Utc};
use reqwest::{Method, RequestBuilder};
use serde_json::{Value, json};

use crate::support::channel::{Channel, FORM, Part, Reply, form};

/// Something that a user does. What it says tells it from everything else that the user does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum What {
    Text(String),
    /// A file by its caption.
    File(String),
    /// A receipt for a message of this number, which need not be there.
    Receipt(u32),
    Close {
        survey: bool,
    },
    Rating(u8),
}

/// What was done, and the answers.
#[derive(Debug)]
pub(super) struct Deed {
    pub(super) what: What,
    pub(super) key: Option<String>,
    /// True if it asks for 202 at once.
    pub(super) is_async: bool,
    /// How often it was sent.
    pub(super) requests: usize,
    /// The 2xx that it was answered, of repeats too.
    pub(super) taken: Vec<Taken>,
    /// The problem for which it was refused, where that can be.
    pub(super) refused: Option<String>,
}

/// A 2xx.
#[derive(Debug, Clone)]
pub(super) struct Taken {
    pub(super) status: u16,
    /// None for what is no message and was done at once.
    pub(super) message_id: Option<String>,
    pub(super) conversation_id: Option<String>,
}

/// Why something can be refused without a fault of anybody's, by the codes of problems.
const NO_CONVERSATION: [&str; 2] = ["no-open-conversation", "conversation-not-found"];
const NOT_TO_BE_RATED: [&str; 3] = [
    "conversation-open",
    "conversation-not-found",
    "survey-pending",
];

const QUEUE_FULL: &str = "queue-full";

/// The members of a text file are not looked at by anybody: its first bytes make a GIF of it, the others are its own.
pub(super) fn content_of(caption: &str) -> Vec<u8> {
    format!("GIF89a{caption}").into_bytes()
}

impl What {
    /// True for a problem for which this may be refused, or fail later.
    pub(super) fn may_fail_for(&self, code: &str) -> bool {
        match self {
            Self::Text(_) | Self::File(_) => false,
            Self::Receipt(_) | Self::Close { .. } => NO_CONVERSATION.contains(&code),
            Self::Rating(_) => NOT_TO_BE_RATED.contains(&code),
        }
    }

    /// True for a problem for which something of some kind may fail later.
    pub(super) fn may_any_fail_for(code: &str) -> bool {
        NO_CONVERSATION.contains(&code) || NOT_TO_BE_RATED.contains(&code)
    }

    /// The request that does it.
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

impl Deed {
    pub(super) fn new(what: What, key: Option<String>, is_async: bool) -> Self {
        Self {
            what,
            key,
            is_async,
            requests: 0,
            taken: Vec::new(),
            refused: None,
        }
    }

    /// True once nothing more is to be tried.
    pub(super) fn is_settled(&self) -> bool {
        !self.taken.is_empty() || self.refused.is_some()
    }

    /// Notes an answer; says what is wrong with it.
    pub(super) fn hear(&mut self, reply: &Reply) -> Result<(), String> {
        let code = reply.body["code"].as_str().unwrap_or_default();
        match reply.status {
            status @ (200 | 201 | 202 | 204) => {
                let text = |member: &str| reply.body[member].as_str().map(str::to_owned);
                // What is answered 200 is a conversation.
                let (message_id, conversation_id) = match status {
                    200 => (None, text("id")),
                    _ => (text("id"), text("conversation_id")),
                };
                self.taken.push(Taken {
                    status,
                    message_id,
                    conversation_id,
                });
                Ok(())
            }
            409 if code == "idempotency-key-in-use" && self.key.is_some() => Ok(()),
            404 | 409 if self.what.may_fail_for(code) => {
                self.refused = Some(code.to_owned());
                Ok(())
            }
            // Its user has as much waiting as may, and does something else.
            503 if code == QUEUE_FULL => {
                self.refused = Some(code.to_owned());
                Ok(())
            }
            500..600 => Ok(()),
            _ => Err(format!("{:?}: {reply:?}", self.what)),
        }
    }

    /// The id of what was answered 202.
    pub(super) fn queued(&self) -> Option<&str> {
        let taken = self.taken.iter().find(|taken| taken.status == 202)?;
        taken.message_id.as_deref()
    }

    /// True if the Cloud had it before the answer.
    pub(super) fn was_done_at_once(&self) -> bool {
        self.taken.iter().any(|taken| taken.status != 202)
    }
}

/// A user from the first deed on until it is erased, or to the end of the run.
#[derive(Debug)]
pub(super) struct Life {
    pub(super) user_id: String,
    /// All that it did, in order.
    pub(super) deeds: Vec<Deed>,
    /// When the erasure was answered 2xx.
    pub(super) erased_at: Option<DateTime<Utc>>,
    /// True once an erasure was asked for: from then on what was queued may be gone.
    pub(super) is_ending: bool,
    pub(super) complaints: Vec<String>,
}

impl Life {
    pub(super) fn new(user_id: String) -> Self {
        Self {
            user_id,
            deeds: Vec::new(),
            erased_at: None,
            is_ending: false,
            complaints: Vec::new(),
        }
    }
}
