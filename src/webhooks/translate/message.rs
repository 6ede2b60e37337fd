//! Changes within a dialog.

use serde_json::{Value, json};

use super::{FileLink, Ignored, KnownState, role};
use crate::types::event::data::{self, Choice, Data, Role, Sender, TYPING_LIFETIME};
use crate::types::event::{EventType, UnaddressedEvent};
use crate::webhooks::members::Members;
use crate::webhooks::plain_text::{self, Plain};
use crate::webhooks::wire::message::{Audience, Event, File, Message, MessageContent, Written};

pub(super) fn translate(
    message: &Message,
    known: &KnownState<'_>,
) -> Result<UnaddressedEvent, Ignored> {
    if message.audience == Audience::Private {
        return Err(Ignored::Private);
    }
    let sender = sender(message, known);
    if sender.role == Role::Reader {
        return Err(Ignored::Reader);
    }
    let is_own = sender.role == Role::Consumer;
    let occurred_at = message.sent_at.unwrap_or(known.now);
    let (kind, data) = match &message.event {
        Event::Written(written) => {
            let kind = if is_own {
                EventType::MessageEchoed
            } else {
                EventType::MessageCreated
            };
            let data = message_data(message, written, sender, known.file.as_ref());
            (kind, Data::Message(Box::new(data)))
        }
        Event::Receipt { .. } | Event::ChatState(_) if is_own => return Err(Ignored::Own),
        Event::Receipt { status, sequences } => {
            if sequences.is_empty() {
                return Err(Ignored::Unsupported("the receipt refers to no message"));
            }
            let receipt = data::Receipt {
                status: status.clone(),
                sequences: sequences.clone(),
                sender,
            };
            (EventType::ReceiptChanged, Data::Receipt(receipt))
        }
        Event::ChatState(state) => {
            if state.is_empty() {
                return Err(Ignored::Unsupported("the chat state is missing"));
            }
            let typing = data::Typing {
                state: state.clone(),
                sender,
                expires_at: occurred_at + TYPING_LIFETIME,
            };
            (EventType::TypingChanged, Data::Typing(typing))
        }
        Event::Unknown => return Err(Ignored::Unsupported("the event is of an unknown type")),
    };
    Ok(UnaddressedEvent {
        kind,
        occurred_at,
        data,
    })
}

/// Determines the sender of a change. The user is also recognized by the Cloud's id, in case the
/// change has no role.
fn sender(message: &Message, known: &KnownState<'_>) -> Sender {
    let id = message.originator.id.clone();
    let is_user = id.is_some() && id.as_deref() == known.consumer_id;
    Sender {
        role: if is_user {
            Role::Consumer
        } else {
            role(message.originator.role.as_deref())
        },
        id,
    }
}

fn message_data(
    message: &Message,
    written: &Written,
    sender: Sender,
    link: Option<&FileLink>,
) -> data::Message {
    let RenderedMessage {
        text,
        file,
        rich,
        choices,
    } = render(written, link);
    data::Message {
        sequence: message.sequence,
        dialog_id: message.dialog().map(str::to_owned),
        sender,
        text,
        file,
        rich,
        choices,
        metadata: message.metadata.clone(),
    }
}

/// The parts of a message that a channel can show.
#[derive(Default)]
struct RenderedMessage {
    text: String,
    file: Option<data::File>,
    rich: Option<Value>,
    choices: Vec<Choice>,
}

fn render(written: &Written, link: Option<&FileLink>) -> RenderedMessage {
    let quick_replies = written.quick_replies.as_ref();
    let rendered = match &written.content {
        MessageContent::Rich(content) => return render_rich(content, quick_replies),
        MessageContent::Text(text) => RenderedMessage {
            text: trimmed(text),
            rich: quick_replies.map(|replies| {
                let element = json!({"type": "text", "text": text});
                with_quick_replies(element, Some(replies))
            }),
            ..RenderedMessage::default()
        },
        MessageContent::File(file) => render_file(file, link),
        MessageContent::SecureForm(form) => {
            let title = Members::of(form).and_then(|form| form.text("title"));
            let title = title.unwrap_or_default();
            RenderedMessage {
                text: format!("{title} [secure form]").trim().to_owned(),
                rich: rich(form),
                ..RenderedMessage::default()
            }
        }
        MessageContent::SecureSubmission(form) => RenderedMessage {
            text: "[secure form submitted]".to_owned(),
            rich: rich(form),
            ..RenderedMessage::default()
        },
        MessageContent::Other { kind, message } => {
            let rich = message.as_ref().and_then(rich);
            if let Some(message) = message
                && !plain_text::render(&[message]).text.is_empty()
            {
                return RenderedMessage {
                    rich,
                    ..render_elements(message, quick_replies)
                };
            }
            RenderedMessage {
                text: unsupported(kind),
                rich,
                ..RenderedMessage::default()
            }
        }
    };
    let Plain { text, choices } = plain_text::render(&Vec::from_iter(quick_replies));
    let parts = [rendered.text, text]
        .into_iter()
        .filter(|it| !it.is_empty());
    RenderedMessage {
        text: parts.collect::<Vec<_>>().join("\n"),
        choices,
        ..rendered
    }
}

fn render_rich(content: &Value, quick_replies: Option<&Value>) -> RenderedMessage {
    let rendered = render_elements(content, quick_replies);
    RenderedMessage {
        text: if rendered.text.is_empty() {
            unsupported("RichContentEvent")
        } else {
            rendered.text
        },
        rich: Some(with_quick_replies(one_element(content), quick_replies)),
        ..rendered
    }
}

/// Renders content and the quick replies beside it. The numbers of the quick replies continue those
/// of the content.
fn render_elements(content: &Value, quick_replies: Option<&Value>) -> RenderedMessage {
    let mut elements = vec![content];
    elements.extend(quick_replies);
    let Plain { text, choices } = plain_text::render(&elements);
    RenderedMessage {
        text,
        choices,
        ..RenderedMessage::default()
    }
}

/// Renders a file. Without a link it is shown as unsupported content.
fn render_file(file: &File, link: Option<&FileLink>) -> RenderedMessage {
    let caption = file.caption.as_deref().map(trimmed);
    let caption = caption.filter(|caption| !caption.is_empty());
    let missing = || link.is_none().then(|| unsupported("hosted/file"));
    RenderedMessage {
        text: caption.clone().or_else(missing).unwrap_or_default(),
        file: link.map(|link| data::File {
            id: link.id,
            file_type: file.file_type.clone(),
            caption,
            preview: file.preview.clone(),
            url: link.url.clone(),
        }),
        ..RenderedMessage::default()
    }
}

/// Removes the line breaks at the end, which agents' texts usually have.
fn trimmed(text: &str) -> String {
    text.trim_end_matches(['\n', '\r']).to_owned()
}

/// Returns the placeholder for a reply that cannot be shown, so that it is not lost silently.
fn unsupported(kind: &str) -> String {
    format!("[unsupported content: {kind}]")
}

/// Returns the Cloud's content if it is an object.
fn rich(content: &Value) -> Option<Value> {
    content.is_object().then(|| content.clone())
}

/// Returns the content as one element, even if it is a list of them.
fn one_element(content: &Value) -> Value {
    if content.is_array() {
        json!({"type": "vertical", "elements": content})
    } else {
        content.clone()
    }
}

/// Adds the quick replies that came beside an element.
fn with_quick_replies(mut element: Value, quick_replies: Option<&Value>) -> Value {
    if let (Some(element), Some(replies)) = (element.as_object_mut(), quick_replies) {
        element.insert("quickReplies".to_owned(), replies.clone());
    }
    element
}
