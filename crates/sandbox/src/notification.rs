//! Notifications: how the Cloud writes down for its webhooks what happened in a conversation.
//!
//! Source: vendor's Webhooks documentation, pages "Events" and "Webhooks Examples", and the how-to for connectors.

use axum::body::Bytes;
use chrono::TimeDelta;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::conversations::{Conversation, Dialog, Event, Stage};
use super::participant::{Participant, Role};

/// The urgency of a conversation that was opened without one, as captured conversations show it.
const USUAL_URGENCY: &str = "PRIORITIZED";

/// What a conversation's notification shows when no time is left to answer in.
const NO_TTR: i64 = -1;

/// What a notification tells of, by the names under which an app installation subscribes.
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
    /// A body that a test wrote itself.
    Raw,
}

/// One notification, as it is put into the queues of those who subscribed.
#[derive(Debug, Clone)]
pub(super) struct Notification {
    pub(super) account: String,
    /// Its order counts within this conversation; none for a body that a test wrote itself.
    pub(super) conversation: Option<String>,
    pub(super) kind: Kind,
    /// Who published what it tells of; none for states and for what a test wrote itself.
    pub(super) by: Option<Role>,
    /// Whether a disturbance struck it.
    pub(super) struck: bool,
    pub(super) content: Content,
    pub(super) writing: Writing,
}

/// The form in which the body of a notification is written.
#[derive(Debug, Clone, Copy)]
pub(super) enum Writing {
    Usual,
    /// Without `type` and `kind`.
    Untyped,
    /// With a byte order mark before it.
    ByteOrderMark,
}

#[derive(Debug, Clone)]
pub(super) enum Content {
    Changes(Vec<Value>),
    Raw(Bytes),
}

/// Times that a conversation or dialog shows beside its state, in milliseconds since the epoch.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    pub(super) started: i64,
    pub(super) ended: Option<i64>,
    pub(super) updated: i64,
}

impl Kind {
    /// The `type` of the notification, which does not name the event.
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
    /// Something was published.
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
            // Chat states have neither.
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

    /// The conversation has another state, which is given whole.
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
            struck: false,
            content: Content::Changes(vec![change]),
            writing: Writing::Usual,
        }
    }

    /// As the vendor's examples of 2018 have it: messages without `conversationId`, conversations without dialogs,
    /// stage and skill.
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

    /// With another text in each message.
    pub(super) fn with_text(mut self, alter: impl Fn(&str) -> String) -> Self {
        self.for_each_change(|change| {
            if let Some(Value::String(text)) = change.pointer_mut("/event/message") {
                *text = alter(text);
            }
        });
        self
    }

    /// With an earlier time of each message or state.
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

    /// With a body that holds nothing.
    pub(super) fn emptied(&self) -> Self {
        Self {
            kind: Kind::Raw,
            content: Content::Raw(Bytes::new()),
            ..self.clone()
        }
    }

    /// With a body in another form.
    pub(super) fn written(self, writing: Writing) -> Self {
        Self { writing, ..self }
    }

    /// With the audience of each message in its event.
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

    /// With numbers as text in each receipt.
    pub(super) fn with_numbers_as_text(mut self) -> Self {
        self.for_each_change(|change| {
            let numbers = change.pointer_mut("/event/sequenceList");
            for number in numbers.and_then(Value::as_array_mut).into_iter().flatten() {
                *number = number.to_string().into();
            }
        });
        self
    }

    /// Another state of the same time, with the consumer as the only participant; `None` for what is no state.
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

    /// The bytes that are sent.
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
                Bytes::from(match self.writing {
                    Writing::Usual => typed().to_string(),
                    Writing::Untyped => json!({"body": {"changes": changes}}).to_string(),
                    Writing::ByteOrderMark => format!("\u{feff}{}", typed()),
                })
            }
            Content::Raw(bytes) => bytes.clone(),
        }
    }
}

/// A dialog within the state of its conversation.
pub(super) fn dialog(conversation: &Conversation, dialog: &Dialog, times: Times) -> Value {
    let main = dialog.id == conversation.id;
    let participants: Vec<_> = if main {
        conversation.participants.iter().collect()
    } else {
        those_of_survey(conversation, dialog)
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
        // As a capture of 2022 shows it.
        members.insert("metaData".to_owned(), json!({"appInstallId": app}));
    }
    if dialog.state == Stage::Close {
        insert(&mut members, "endTs", times.ended);
        insert(&mut members, "closedBy", dialog.closed_by.clone());
    }
    Value::Object(members)
}

/// The consumer, and the bot once it has asked: the agent has left by then.
fn those_of_survey<'a>(conversation: &'a Conversation, dialog: &'a Dialog) -> Vec<&'a Participant> {
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

/// The whole state of a conversation.
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

/// Milliseconds since the epoch by which an agent should answer.
fn effective_ttr(conversation: &Conversation) -> i64 {
    let (_, seconds) = ttr(conversation);
    match conversation.stage {
        Stage::Open => conversation.opened_at.timestamp_millis() + seconds * 1000,
        Stage::Close => NO_TTR,
    }
}

/// The urgency by its name, and the seconds that it leaves: those that the consumer set, else of the opening.
fn ttr(conversation: &Conversation) -> (String, i64) {
    let text = |value: &Value| value.as_str().map(ToOwned::to_owned);
    let set = conversation.ttr.as_ref();
    let set = set.and_then(|ttr| Some((text(ttr.get("ttrType")?)?, ttr.get("value")?.as_i64()?)));
    set.unwrap_or_else(|| {
        let asked = conversation.request.get("ttrDefName").and_then(text);
        let urgency = asked.unwrap_or_else(|| USUAL_URGENCY.to_owned());
        // Captures show 600 s for the usual one; the others are this sandbox's choice.
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
