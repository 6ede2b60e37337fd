//! Notifications: the format in which the Cloud reports changes of a conversation to its webhooks.
//!
//! Source: vendor's Webhooks documentation, pages "Events" and "Webhooks Examples", and the how-to
//! for connectors.

use axum::body::Bytes;
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::conversations::{Conversation, Dialog, Event, Stage};
use super::participant::{Participant, Role};

/// The urgency of a conversation that was opened without one, as in captured conversations.
const USUAL_URGENCY: &str = "PRIORITIZED";

/// The `effectiveTTR` of a closed conversation, which has no time to respond.
const NO_TTR: i64 = -1;

/// The kind of a notification. Each variant names the subscription that an app installation needs
/// for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `ms.MessagingEventNotification.ContentEvent`: text, a file or a secure form.
    Content,
    /// `ms.MessagingEventNotification.RichContentEvent`.
    RichContent,
    /// `ms.MessagingEventNotification.AcceptStatusEvent`.
    AcceptStatus,
    /// `ms.MessagingEventNotification.ChatStateEvent`.
    ChatState,
    /// `cqm.ExConversationChangeNotification`.
    Conversation,
    /// A body that a test wrote.
    Raw,
}

/// A notification, as it is queued for each subscriber.
#[derive(Debug, Clone)]
pub(super) struct Notification {
    pub(super) account: String,
    /// The conversation, within which the order is kept; `None` for a body that a test wrote.
    pub(super) conversation: Option<String>,
    pub(super) kind: Kind,
    /// The role of the publisher; `None` for states and for a body that a test wrote.
    pub(super) by: Option<Role>,
    /// True if a disturbance affects it.
    pub(super) disturbed: bool,
    pub(super) content: Content,
    pub(super) body_form: BodyForm,
}

/// The form of a notification's body.
#[derive(Debug, Clone, Copy)]
pub(super) enum BodyForm {
    Usual,
    /// Without `type` and `kind`.
    Untyped,
    /// With a byte order mark at its beginning.
    ByteOrderMark,
}

#[derive(Debug, Clone)]
pub(super) enum Content {
    Changes(Vec<Value>),
    Raw(Bytes),
}

/// The times that a conversation or dialog shows with its state, in milliseconds since the epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) started: i64,
    pub(super) ended: Option<i64>,
    pub(super) updated: i64,
}

impl Kind {
    /// Returns the `type` of the notification, which does not name the event.
    pub(super) fn wire_type(self) -> &'static str {
        match self {
            Self::Conversation => "cqm.ExConversationChangeNotification",
            _ => "ms.MessagingEventNotification",
        }
    }

    fn of(event: &Value) -> Self {
        match event.get("type").and_then(Value::as_str) {
            Some("RichContentEvent") => Self::RichContent,
            Some("AcceptStatusEvent") => Self::AcceptStatus,
            Some("ChatStateEvent") => Self::ChatState,
            _ => Self::Content,
        }
    }
}

impl Notification {
    /// Creates the notification of a published event.
    pub(super) fn published(conversation: &Conversation, dialog: &Dialog, event: &Event) -> Self {
        let mut change = json!({
            "originatorId": event.originator.id,
            "originatorMetadata": event.originator,
            "event": event.event,
            "conversationId": conversation.id,
            "dialogId": dialog.id,
            "messageAudience": event.audience,
        });
        if let Some(members) = change.as_object_mut() {
            // Chat states have neither a sequence nor a timestamp.
            if let Some(sequence) = event.sequence {
                members.insert("sequence".to_owned(), sequence.into());
                let at = event.at.timestamp_millis();
                members.insert("serverTimestamp".to_owned(), at.into());
            }
            if let Some(metadata) = &event.metadata {
                members.insert("metadata".to_owned(), metadata.clone());
            }
        }
        Self {
            by: Some(event.originator.role),
            ..Self::about(conversation, Kind::of(&event.event), change)
        }
    }

    /// Creates the notification of a new state, which contains the whole state.
    pub(super) fn changed(conversation: &Conversation, details: &Value) -> Self {
        let result = json!({
            "convId": conversation.id,
            "effectiveTTR": effective_ttr(conversation),
            "conversationDetails": details,
        });
        let change = json!({"type": "UPSERT", "result": result});
        Self::about(conversation, Kind::Conversation, change)
    }

    fn about(conversation: &Conversation, kind: Kind, change: Value) -> Self {
        Self {
            account: conversation.consumer.account.clone(),
            conversation: Some(conversation.id.clone()),
            kind,
            by: None,
            disturbed: false,
            content: Content::Changes(vec![change]),
            body_form: BodyForm::Usual,
        }
    }

    /// Converts to the form of the vendor's examples of 2018: messages without `conversationId`,
    /// conversations without dialogs, stage and skill.
    pub(super) fn in_old_form(mut self) -> Self {
        self.for_each_change(|change| {
            if let Some(message) = change.as_object_mut() {
                message.remove("conversationId");
            }
            let details = change.pointer_mut("/result/conversationDetails");
            if let Some(details) = details.and_then(Value::as_object_mut) {
                details.retain(|name, _| !["dialogs", "stage", "skillId"].contains(&name.as_str()));
            }
        });
        self
    }

    /// Alters the text of each message.
    pub(super) fn with_text(mut self, alter: impl Fn(&str) -> String) -> Self {
        self.for_each_change(|change| {
            if let Some(Value::String(text)) = change.pointer_mut("/event/message") {
                *text = alter(text);
            }
        });
        self
    }

    /// Makes the time of each message or state earlier.
    pub(super) fn earlier(mut self, by: TimeDelta) -> Self {
        let times = [
            "/serverTimestamp",
            "/result/conversationDetails/metaDataLastUpdateTs",
        ];
        self.for_each_change(|change| {
            for path in times {
                let time = change.pointer_mut(path);
                if let Some((time, at)) = time.and_then(|time| Some((time.as_i64()?, time))) {
                    *at = (time - by.num_milliseconds()).into();
                }
            }
        });
        self
    }

    /// Returns a copy with an empty body.
    pub(super) fn emptied(&self) -> Self {
        Self {
            kind: Kind::Raw,
            content: Content::Raw(Bytes::new()),
            ..self.clone()
        }
    }

    /// Sets the form of the body.
    pub(super) fn with_body_form(self, body_form: BodyForm) -> Self {
        Self { body_form, ..self }
    }

    /// Moves the audience of each message into its event.
    pub(super) fn with_audience_in_event(mut self) -> Self {
        self.for_each_change(|change| {
            let members = change.as_object_mut();
            let audience = members.and_then(|members| members.remove("messageAudience"));
            let event = change.get_mut("event").and_then(Value::as_object_mut);
            if let (Some(audience), Some(event)) = (audience, event) {
                event.insert("audience".to_owned(), audience);
            }
        });
        self
    }

    /// Converts the numbers in each receipt to text.
    pub(super) fn with_numbers_as_text(mut self) -> Self {
        self.for_each_change(|change| {
            let numbers = change.pointer_mut("/event/sequenceList");
            for number in numbers.and_then(Value::as_array_mut).into_iter().flatten() {
                *number = number.to_string().into();
            }
        });
        self
    }

    /// Returns another state with the same time, with the consumer as the only participant. `None`
    /// if the notification is not a state.
    pub(super) fn other_state(&self) -> Option<Self> {
        if self.kind != Kind::Conversation {
            return None;
        }
        let mut other = self.clone();
        other.for_each_change(|change| {
            let participants = change.pointer_mut("/result/conversationDetails/participants");
            if let Some(participants) = participants.and_then(Value::as_array_mut) {
                participants.retain(|it| it.get("role").is_some_and(|role| role == "CONSUMER"));
            }
        });
        Some(other)
    }

    fn for_each_change(&mut self, alter: impl Fn(&mut Value)) {
        if let Content::Changes(changes) = &mut self.content {
            changes.iter_mut().for_each(alter);
        }
    }

    /// Returns the bytes to send.
    pub(super) fn body(&self) -> Bytes {
        match &self.content {
            Content::Changes(changes) => {
                let typed = || {
                    json!({
                        "kind": "notification",
                        "type": self.kind.wire_type(),
                        "body": {"changes": changes},
                    })
                };
                Bytes::from(match self.body_form {
                    BodyForm::Usual => typed().to_string(),
                    BodyForm::Untyped => json!({"body": {"changes": changes}}).to_string(),
                    BodyForm::ByteOrderMark => format!("\u{feff}{}", typed()),
                })
            }
            Content::Raw(bytes) => bytes.clone(),
        }
    }
}

/// Describes a dialog within the state of its conversation.
pub(super) fn dialog(conversation: &Conversation, dialog: &Dialog, times: Times) -> Value {
    let main = dialog.id == conversation.id;
    let participants: Vec<_> = if main {
        conversation.participants.iter().collect()
    } else {
        survey_participants(conversation, dialog)
    };
    let participants: Vec<_> = participants
        .into_iter()
        .map(|participant| {
            json!({"id": participant.id, "role": participant.role, "state": "ACTIVE"})
        })
        .collect();
    let mut members = object(json!({
        "dialogId": dialog.id,
        "participantsDetails": participants,
        "dialogType": if main { "MAIN" } else { "POST_SURVEY" },
        "channelType": "MESSAGING",
        "state": dialog.state,
        "creationTs": times.started,
        "metaDataLastUpdateTs": times.updated,
    }));
    if let Some(app) = conversation.app_install_id.as_ref().filter(|_| main) {
        // As in a capture of 2022.
        members.insert("metaData".to_owned(), json!({"appInstallId": app}));
    }
    if dialog.state == Stage::Close {
        insert(&mut members, "endTs", times.ended);
        insert(&mut members, "closedBy", dialog.closed_by.clone());
    }
    Value::Object(members)
}

/// Returns the participants of a survey: the consumer, and the bot once it has asked. The agent has
/// left by then.
fn survey_participants<'a>(
    conversation: &'a Conversation,
    dialog: &'a Dialog,
) -> Vec<&'a Participant> {
    let participants = conversation.participants.iter();
    let mut present: Vec<_> = participants
        .filter(|participant| participant.role == Role::Consumer)
        .collect();
    for event in &dialog.events {
        if !present.contains(&&event.originator) {
            present.push(&event.originator);
        }
    }
    present
}

/// Describes the whole state of a conversation.
pub(super) fn details(conversation: &Conversation, times: Times, dialogs: &[Value]) -> Value {
    let (account, skill) = (&conversation.consumer.account, &conversation.skill_id);
    let (urgency, seconds) = ttr(conversation);
    let mut members = object(json!({
        "skillId": skill,
        "participants": conversation.participants,
        "dialogs": dialogs,
        "brandId": account,
        "state": conversation.state,
        "stage": conversation.stage,
        "startTs": times.started,
        "metaDataLastUpdateTs": times.updated,
        "ttr": {"ttrType": urgency, "value": seconds},
        "conversationHandlerDetails": {"accountId": account, "skillId": skill},
    }));
    if conversation.stage == Stage::Close {
        insert(
            &mut members,
            "closeReason",
            conversation.close_reason.clone(),
        );
        insert(&mut members, "endTs", times.ended);
    }
    if let Some(Value::Object(rating)) = &conversation.csat {
        let mut rating = rating.clone();
        rating.remove("field");
        members.insert("csat".to_owned(), Value::Object(rating));
    }
    Value::Object(members)
}

/// Returns the time by which an agent should answer, in milliseconds since the epoch.
fn effective_ttr(conversation: &Conversation) -> i64 {
    let (_, seconds) = ttr(conversation);
    match conversation.stage {
        Stage::Open => conversation.opened_at.timestamp_millis() + seconds * 1000,
        Stage::Close => NO_TTR,
    }
}

/// Returns the name of the urgency and its time to respond in seconds: those that the consumer set,
/// or else those of the opening.
fn ttr(conversation: &Conversation) -> (String, i64) {
    let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
    let set = conversation.ttr.as_ref();
    let set = set.and_then(|ttr| Some((text(ttr.get("ttrType")?)?, ttr.get("value")?.as_i64()?)));
    set.unwrap_or_else(|| {
        let requested = conversation.request.get("ttrDefName").and_then(text);
        let urgency = requested.unwrap_or_else(|| USUAL_URGENCY.to_owned());
        // Captures show 600 s for the usual urgency. The sandbox chose the others.
        let seconds = match urgency.as_str() {
            "URGENT" => 300,
            "NORMAL" => 1200,
            _ => 600,
        };
        (urgency, seconds)
    })
}

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

fn insert(members: &mut Map<String, Value>, name: &str, value: Option<impl Into<Value>>) {
    if let Some(value) = value {
        members.insert(name.to_owned(), value.into());
    }
}
