//! The content of events, by type. Members that do not apply are left out. A member is `null` only
//! if leaving it out would be taken for "unchanged".

use std::fmt;

use chrono::{DateTime, TimeDelta, Utc};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use super::{as_text, to_the_millisecond};
use crate::types::conversation::OpenedBy;
use crate::types::file::{FileId, FileType};
use crate::types::ids::{ConversationId, UserId};
use crate::types::message::{MessageId, Metadata, Sequence};
use crate::types::rating::Answer;

/// 10 s: the time after which a typing state is out of date.
pub const TYPING_LIFETIME: TimeDelta = TimeDelta::seconds(10);

/// The content of an event, which depends on its type: a message for `message.created` and
/// `message.echoed`, a typing state for `typing.changed`, and so on.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = EventData)]
pub enum Data {
    /// The content of `message.created` and `message.echoed`.
    Message(Box<Message>),
    /// The content of `typing.changed`.
    Typing(Typing),
    /// The content of `receipt.changed`.
    Receipt(Receipt),
    /// The content of `conversation.opened`, `conversation.updated` and `conversation.closed`.
    Conversation(Conversation),
    /// The content of `message.sent` and `message.failed`.
    Outcome(Outcome),
}

/// The participant from whom a message, a typing state or a receipt comes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Sender {
    /// The Cloud's id of the participant. It is left out if the Cloud reports none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub id: Option<String>,
    /// The role of the participant in the conversation.
    pub role: Role,
}

/// The role of a participant in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// An agent, or a participant with a role that is missing or not in this list.
    Agent,
    /// The bot that conducts a survey.
    Bot,
    /// A manager of agents.
    Manager,
    /// The system, which sends automatic messages.
    System,
    /// The user.
    Consumer,
    /// A participant who only reads, and is never the sender of a message.
    Reader,
}

/// A message in a conversation.
#[derive(Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = EventMessage)]
pub struct Message {
    /// The number of the message within its dialog, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, nullable = false)]
    pub sequence: Option<Sequence>,
    /// The Cloud's id of the dialog: the main dialog, or the survey after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub dialog_id: Option<String>,
    /// The sender of the message.
    pub sender: Sender,
    /// The text of the message, for clients that can show only text. For a file it is the caption.
    /// For structured content it contains every text that is shown, with the choices numbered.
    pub text: String,
    /// The file, if the message contains one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub file: Option<File>,
    /// The Cloud's original content, if it is more than text. For structured content it is an
    /// element, with the quick replies in its member `quickReplies`. For a secure form or another
    /// kind of content it is the `message` of the Cloud.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    pub rich: Option<Value>,
    /// Everything that publishes a text when it is selected: buttons, quick replies and checkboxes,
    /// in the order of the numbers in `text`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<Choice>,
    /// The metadata that the Cloud attaches to the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub metadata: Option<Metadata>,
}

impl fmt::Debug for Message {
    /// Leaves out the content.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Message")
            .field("sequence", &self.sequence)
            .field("dialog_id", &self.dialog_id)
            .field("sender", &self.sender)
            .finish_non_exhaustive()
    }
}

/// A file in a message.
#[derive(Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = EventFile)]
pub struct File {
    /// The bridge's id of the file.
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String, example = "file_0193540a7c2b7c3e9d1f2a3b4c5d6e7f")]
    pub id: FileId,
    /// The Cloud's name for the type of the file.
    pub file_type: FileType,
    /// The sender's caption.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub caption: Option<String>,
    /// A small preview image, as a data URI.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub preview: Option<String>,
    /// The URL from which the channel can download the file with its API key. If the channel has
    /// `signed_file_links`, it is a signed link, which works without a key until it expires.
    pub url: String,
}

impl fmt::Debug for File {
    /// Leaves out the caption, the preview, and the URL, which names the user or is a credential.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File")
            .field("id", &self.id)
            .field("file_type", &self.file_type)
            .finish_non_exhaustive()
    }
}

/// A choice that a message offers. To make the choice, send `text` as a message, with `metadata` in
/// its `reply_to`. With `match_choice`, the bridge does that if the user's text names the choice.
#[derive(Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Choice {
    /// The label of the button or checkbox.
    pub title: String,
    /// The text that the user sends with this choice, as the Cloud writes it.
    pub text: String,
    /// The metadata that the Cloud attaches to the choice.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub metadata: Option<Metadata>,
}

impl fmt::Debug for Choice {
    /// Leaves out the texts.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Choice").finish_non_exhaustive()
    }
}

/// The typing state of a participant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = EventTyping)]
pub struct Typing {
    /// The Cloud's name for the state, in lower case: `composing`, `pause`, `active`, `inactive`,
    /// `gone`, or another.
    #[schema(example = "composing")]
    pub state: String,
    /// The participant.
    pub sender: Sender,
    /// The time from which the state is out of date.
    #[serde(serialize_with = "to_the_millisecond")]
    pub expires_at: DateTime<Utc>,
}

/// A receipt for messages of the user.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = EventReceipt)]
pub struct Receipt {
    /// The Cloud's name for the status, in lower case: `accept` (delivered), `read`, `access`,
    /// `nack`, `action`, or another.
    #[schema(example = "read")]
    pub status: String,
    /// The numbers of the messages within their dialog.
    #[schema(value_type = Vec<u32>)]
    pub sequences: Vec<Sequence>,
    /// The participant from whom the receipt comes.
    pub sender: Sender,
}

/// The whole present state of a conversation. It replaces all that earlier events reported of the
/// conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = EventConversation)]
pub struct Conversation {
    /// The state of the conversation. With a survey it stays open until the survey has ended.
    pub state: State,
    /// The side that opened the conversation. Only `conversation.opened` has this member.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "agent")]
    pub opened_by: Option<OpenedBy>,
    /// The cause of the close: the Cloud's name in lower case, such as `agent` or `consumer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "agent")]
    pub close_reason: Option<String>,
    /// The skill to which the conversation is assigned, or `null` if there is none.
    #[schema(required)]
    pub skill_id: Option<String>,
    /// The participants of the conversation.
    pub participants: Vec<Participant>,
    /// The agent who handles the conversation, or `null` if there is none.
    #[schema(required)]
    pub agent: Option<Agent>,
    /// The dialogs of the conversation.
    pub dialogs: Vec<Dialog>,
    /// The user's rating, once there is one. It usually comes in a `conversation.updated` after the
    /// conversation has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub csat: Option<Csat>,
}

/// The user's rating of a conversation, as the Cloud reports it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = EventCsat)]
pub struct Csat {
    /// The satisfaction score.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 5, nullable = false)]
    pub score: Option<u8>,
    /// `yes` if the first contact resolved the matter, else `no`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub fcr: Option<Answer>,
    /// The Cloud's name for the completeness of the rating, in lower case: `filled`,
    /// `partially_filled`, `skipped`, or another.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "filled")]
    pub status: Option<String>,
}

/// The state of a conversation or of a dialog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = EventState)]
pub enum State {
    /// It is open.
    Open,
    /// It has ended.
    Closed,
}

/// A participant of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Participant {
    /// The Cloud's id of the participant.
    pub id: String,
    /// The role of the participant in the conversation.
    pub role: Role,
}

/// The agent who handles a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Agent {
    /// The Cloud's id of the agent.
    pub id: String,
}

/// A dialog of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = EventDialog)]
pub struct Dialog {
    /// The Cloud's id of the dialog. The main dialog has the id of the conversation.
    pub id: String,
    /// The Cloud's name for the type of the dialog, in lower case: `main`, `post_survey`, or
    /// another.
    #[serde(rename = "type")]
    #[schema(example = "main")]
    pub kind: String,
    /// The Cloud's name for the channel of the dialog, in lower case: `messaging`, `cobrowse`, or
    /// another. It is left out if the Cloud reports none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "messaging")]
    pub channel_type: Option<String>,
    /// The state of the dialog.
    pub state: State,
}

/// The outcome of a queued message.
#[derive(Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = EventOutcome)]
pub struct Outcome {
    /// The bridge's id of the message.
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String, example = "msg_0193540a7c2b7c3e9d1f2a3b4c5d6e7f")]
    pub id: MessageId,
    /// The user whose message it is.
    pub user_id: UserId,
    /// The conversation that the message went to. For a message that failed, it is the conversation
    /// that was open, if there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub conversation_id: Option<ConversationId>,
    /// The number of the message within its dialog, from 0. It is left out until the Cloud has the
    /// message.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, nullable = false)]
    pub sequence: Option<Sequence>,
    /// The outcome.
    pub status: OutcomeStatus,
    /// The reason for the failure. Only a message that failed has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub failure: Option<Failure>,
    /// The time at which the bridge received the message, with milliseconds.
    #[serde(serialize_with = "to_the_millisecond")]
    pub created_at: DateTime<Utc>,
}

/// The reason why an accepted request will not reach the Cloud.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Failure {
    /// The code of the problem, as an error response would have it, or `expired`.
    #[schema(example = "cloud-refused")]
    pub code: String,
    /// The Cloud's answer, if it gave one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub upstream: Option<UpstreamFailure>,
}

/// The Cloud's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UpstreamFailure {
    /// The Cloud's HTTP status.
    #[schema(example = 400)]
    pub status: u16,
    /// The Cloud's own error code, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub code: Option<String>,
    /// The Cloud's own error message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub title: Option<String>,
}

impl fmt::Debug for Outcome {
    /// Leaves out the user, whose id is often a phone number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outcome")
            .field("id", &self.id)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// The outcome of a queued message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = EventOutcomeStatus)]
pub enum OutcomeStatus {
    /// The Cloud has the message.
    Sent,
    /// The message will not reach the Cloud.
    Failed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debugging_a_message_does_not_show_its_content() {
        const SECRET: &str = "my card is 4111";
        let file = File {
            id: FileId::new(uuid::Uuid::nil()),
            file_type: FileType::from("PNG".to_owned()),
            caption: Some(SECRET.to_owned()),
            preview: Some(SECRET.to_owned()),
            url: SECRET.to_owned(),
        };
        let choice = Choice {
            title: SECRET.to_owned(),
            text: SECRET.to_owned(),
            metadata: None,
        };
        let message = Message {
            sequence: Some(3),
            dialog_id: None,
            sender: Sender {
                id: None,
                role: Role::Agent,
            },
            text: SECRET.to_owned(),
            file: Some(file.clone()),
            rich: Some(SECRET.into()),
            choices: vec![choice.clone()],
            metadata: None,
        };

        let shown = format!("{:?} {file:?} {choice:?}", Data::Message(Box::new(message)));

        assert!(shown.contains("sequence: Some(3)"), "{shown}");
        assert!(!shown.contains("4111"), "{shown}");
    }
}
