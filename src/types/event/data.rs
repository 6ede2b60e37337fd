//! What an event says, by its type. What does not apply is left out; `null` stands only where a member's absence would
//! be taken for "unchanged".

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

/// 10 s: what somebody is doing is of no interest any more after that.
pub const TYPING_LIFE: TimeDelta = TimeDelta::seconds(10);

/// What an event says: of a `message.created` or `message.echoed` the message, of a `typing.changed` what somebody is
/// doing, and so on.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
#[schema(as = EventData)]
pub enum Data {
    /// Of `message.created` and `message.echoed`.
    Message(Box<Message>),
    /// Of `typing.changed`.
    Typing(Typing),
    /// Of `receipt.changed`.
    Receipt(Receipt),
    /// Of `conversation.opened`, `conversation.updated` and `conversation.closed`.
    Conversation(Conversation),
    /// Of `message.sent` and `message.failed`.
    Outcome(Outcome),
}

/// Somebody in a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Sender {
    /// The Cloud's id of them; left out where the Cloud names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub id: Option<String>,
    /// What they are in it.
    pub role: Role,
}

/// What somebody is in a conversation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// The agent, or anybody else of the brand's whom the Cloud gives a name of its own.
    Agent,
    /// The bot that holds a survey.
    Bot,
    /// A manager of agents.
    Manager,
    /// Automatic messages.
    System,
    /// The user.
    Consumer,
    /// One who only looks on; never the sender of a message.
    Reader,
}

/// A message.
#[derive(Clone, PartialEq, Serialize, ToSchema)]
#[schema(as = EventMessage)]
pub struct Message {
    /// Its number within the dialog, from 0.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, nullable = false)]
    pub sequence: Option<Sequence>,
    /// The dialog: the conversation itself, or the survey after it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub dialog_id: Option<String>,
    /// Who wrote it.
    pub sender: Sender,
    /// The words, for whoever can show nothing but text: of a file the caption, of structured
    /// content every word that it shows, with the choices numbered.
    pub text: String,
    /// The file in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub file: Option<File>,
    /// The Cloud's own content where it is more than text: an element of structured content, in whose member
    /// `quickReplies` the quick replies stand; of a secure form or another kind what the Cloud has as the `message`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<Object>, nullable = false)]
    pub rich: Option<Value>,
    /// Everything that publishes a text when it is touched: buttons, quick replies and checkboxes,
    /// in the order of the numbers in `text`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub choices: Vec<Choice>,
    /// What the Cloud ties to the message.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub metadata: Option<Metadata>,
}

impl fmt::Debug for Message {
    /// Leaves out what was said.
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
    /// The bridge's name for it.
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String, example = "file_0193540a7c2b7c3e9d1f2a3b4c5d6e7f")]
    pub id: FileId,
    /// The Cloud's word for its kind.
    pub file_type: FileType,
    /// What the sender says about it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub caption: Option<String>,
    /// A small image of it as a data URI.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub preview: Option<String>,
    /// Where the channel can fetch it, with its API key.
    pub url: String,
}

impl fmt::Debug for File {
    /// Leaves out what the file shows, and the URL, which names the user.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File")
            .field("id", &self.id)
            .field("file_type", &self.file_type)
            .finish_non_exhaustive()
    }
}

/// A choice that a message offers. Who takes it sends `text` as a message, with `metadata` in its `reply_to`.
#[derive(Clone, PartialEq, Serialize, ToSchema)]
pub struct Choice {
    /// The words on the button or beside the checkbox.
    pub title: String,
    /// The text that the user sends by it, as the Cloud writes it.
    pub text: String,
    /// The objects that the Cloud ties to it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub metadata: Option<Metadata>,
}

impl fmt::Debug for Choice {
    /// Leaves out what it says.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Choice").finish_non_exhaustive()
    }
}

/// What somebody is doing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = EventTyping)]
pub struct Typing {
    /// The Cloud's word for it in lower case: `composing`, `pause`, `active`, `inactive`, `gone`, or another.
    #[schema(example = "composing")]
    pub state: String,
    /// Who.
    pub sender: Sender,
    /// From then on it is to be taken as over.
    #[serde(serialize_with = "to_the_millisecond")]
    pub expires_at: DateTime<Utc>,
}

/// What became of the user's messages.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = EventReceipt)]
pub struct Receipt {
    /// The Cloud's word for it in lower case: `accept` (delivered), `read`, `access`, `nack`, `action`, or another.
    #[schema(example = "read")]
    pub status: String,
    /// The numbers of the messages within the dialog.
    #[schema(value_type = Vec<u32>)]
    pub sequences: Vec<Sequence>,
    /// Who says so.
    pub sender: Sender,
}

/// A conversation as it is now, whole: what was said of it before is out of date.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = EventConversation)]
pub struct Conversation {
    /// Whether it is open; with a survey it stays open until the survey has ended.
    pub state: State,
    /// Of `conversation.opened` the side that opened it; left out of the others.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "agent")]
    pub opened_by: Option<OpenedBy>,
    /// Who or what closed it, the Cloud's word in lower case, such as `agent` or `consumer`.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "agent")]
    pub close_reason: Option<String>,
    /// The skill it waits or is worked on in; `null` where it is assigned to none.
    #[schema(required)]
    pub skill_id: Option<String>,
    /// Who is in it.
    pub participants: Vec<Participant>,
    /// The agent who works on it; `null` while nobody does.
    #[schema(required)]
    pub agent: Option<Agent>,
    /// Its dialogs.
    pub dialogs: Vec<Dialog>,
    /// The user's rating, once there is one: mostly in a `conversation.updated` after the end.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub csat: Option<Csat>,
}

/// The user's rating of a conversation, as the Cloud has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = EventCsat)]
pub struct Csat {
    /// Satisfaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(minimum = 1, maximum = 5, nullable = false)]
    pub score: Option<u8>,
    /// Whether the first contact resolved the matter.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub fcr: Option<Answer>,
    /// The Cloud's word for how much was filled in, in lower case: `filled`, `partially_filled`, `skipped`, or another.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "filled")]
    pub status: Option<String>,
}

/// Whether a conversation, or a dialog of it, is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = EventState)]
pub enum State {
    /// It goes on.
    Open,
    /// It has ended.
    Closed,
}

/// Somebody who takes part in a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Participant {
    /// The Cloud's id of them.
    pub id: String,
    /// What they are in it.
    pub role: Role,
}

/// The agent who works on a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct Agent {
    /// The Cloud's id of them.
    pub id: String,
}

/// A dialog of a conversation.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = EventDialog)]
pub struct Dialog {
    /// The Cloud's id; the main dialog bears the conversation's.
    pub id: String,
    /// The Cloud's word for its kind in lower case: `main`, `post_survey`, or another.
    #[serde(rename = "type")]
    #[schema(example = "main")]
    pub kind: String,
    /// The Cloud's word for its channel in lower case: `messaging`, `cobrowse`, or another. Left out where the Cloud names none.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false, example = "messaging")]
    pub channel_type: Option<String>,
    /// Whether it is open.
    pub state: State,
}

/// What became of a message that was accepted before the Cloud had it.
#[derive(Clone, PartialEq, Eq, Serialize, ToSchema)]
#[schema(as = EventOutcome)]
pub struct Outcome {
    /// The bridge's name for the message.
    #[serde(serialize_with = "as_text")]
    #[schema(value_type = String, example = "msg_0193540a7c2b7c3e9d1f2a3b4c5d6e7f")]
    pub id: MessageId,
    /// Whose it is.
    pub user_id: UserId,
    /// The conversation it went to, or was to go to where one was open.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub conversation_id: Option<ConversationId>,
    /// Its number in the dialog, from 0, once the Cloud has it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<u32>, nullable = false)]
    pub sequence: Option<Sequence>,
    /// What became of it.
    pub status: OutcomeStatus,
    /// Why it failed, where it did.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub failure: Option<Failure>,
    /// When the bridge received it.
    #[serde(serialize_with = "to_the_millisecond")]
    pub created_at: DateTime<Utc>,
}

/// Why something that was accepted will not reach the Cloud.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Failure {
    /// The code of the problem that it would have been, or `expired`.
    #[schema(example = "cloud-refused")]
    pub code: String,
    /// What the Cloud answered, where it did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub upstream: Option<UpstreamFailure>,
}

/// What the Cloud answered.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UpstreamFailure {
    /// The Cloud's HTTP status.
    #[schema(example = 400)]
    pub status: u16,
    /// The Cloud's own code, as text.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub code: Option<String>,
    /// The Cloud's own words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(nullable = false)]
    pub title: Option<String>,
}

impl fmt::Debug for Outcome {
    /// Leaves out whose it is: the user's id is often a phone number.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Outcome")
            .field("id", &self.id)
            .field("status", &self.status)
            .finish_non_exhaustive()
    }
}

/// What became of a message that was accepted before the Cloud had it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[schema(as = EventOutcomeStatus)]
pub enum OutcomeStatus {
    /// The Cloud has it.
    Sent,
    /// It will not reach the Cloud.
    Failed,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debugging_a_message_does_not_show_what_was_said() {
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
