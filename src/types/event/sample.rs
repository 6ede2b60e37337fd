//! Sample events, for tests of the programs that receive events.

use std::str::FromStr;

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::data::{
    Agent, Conversation, Data, Dialog, Failure, Message, Outcome, OutcomeStatus, Participant,
    Receipt, Role, Sender, State, TYPING_LIFETIME, Typing,
};
use super::{Event, EventId, EventType, UnaddressedEvent};
use crate::types::conversation::OpenedBy;
use crate::types::ids::{ChannelId, ConversationId, Invalid, UserId};
use crate::types::message::MessageId;
use crate::types::problem::EXPIRED;

/// The id that the user, the conversation, the dialog and the agent have in a sample event.
pub const SAMPLE_ID: &str = "test";

/// Creates an event of a type as a channel would receive it, about a user who does not exist.
#[must_use]
pub fn sample(
    kind: EventType,
    id: EventId,
    message: Uuid,
    channel: ChannelId,
    now: DateTime<Utc>,
) -> Event {
    let user_id: UserId = sample_id();
    let conversation_id: ConversationId = sample_id();
    let outcome = |status| {
        Data::Outcome(Outcome {
            id: MessageId::new(message),
            user_id: user_id.clone(),
            conversation_id: Some(conversation_id.clone()),
            sequence: matches!(status, OutcomeStatus::Sent).then_some(0),
            status,
            failure: matches!(status, OutcomeStatus::Failed).then(|| Failure {
                code: EXPIRED.to_owned(),
                upstream: None,
            }),
            created_at: now,
        })
    };
    let data = match kind {
        EventType::MessageCreated => message_from(sender(Role::Agent)),
        EventType::MessageEchoed => message_from(sender(Role::Consumer)),
        EventType::TypingChanged => Data::Typing(Typing {
            state: "composing".to_owned(),
            sender: sender(Role::Agent),
            expires_at: now + TYPING_LIFETIME,
        }),
        EventType::ReceiptChanged => Data::Receipt(Receipt {
            status: "read".to_owned(),
            sequences: vec![0],
            sender: sender(Role::Agent),
        }),
        EventType::ConversationOpened => conversation(State::Open, Some(OpenedBy::User)),
        EventType::ConversationUpdated => conversation(State::Open, None),
        EventType::ConversationClosed => conversation(State::Closed, None),
        EventType::MessageSent => outcome(OutcomeStatus::Sent),
        EventType::MessageFailed => outcome(OutcomeStatus::Failed),
    };
    let draft = UnaddressedEvent {
        kind,
        occurred_at: now,
        data,
    };
    draft.into_event(id, channel, user_id, Some(conversation_id))
}

#[expect(
    clippy::expect_used,
    reason = "the name is a valid id of a user and of a conversation"
)]
fn sample_id<T: FromStr<Err = Invalid>>() -> T {
    SAMPLE_ID.parse().expect("a valid id")
}

fn sender(role: Role) -> Sender {
    Sender {
        id: Some(SAMPLE_ID.to_owned()),
        role,
    }
}

fn message_from(sender: Sender) -> Data {
    Data::Message(Box::new(Message {
        sequence: Some(0),
        dialog_id: Some(SAMPLE_ID.to_owned()),
        sender,
        text: "This is a test.".to_owned(),
        file: None,
        rich: None,
        choices: Vec::new(),
        metadata: None,
    }))
}

fn conversation(state: State, opened_by: Option<OpenedBy>) -> Data {
    let is_closed = state == State::Closed;
    let id = || SAMPLE_ID.to_owned();
    Data::Conversation(Conversation {
        state,
        opened_by,
        close_reason: is_closed.then(|| "agent".to_owned()),
        skill_id: None,
        participants: vec![Participant {
            id: id(),
            role: Role::Agent,
        }],
        agent: Some(Agent { id: id() }),
        dialogs: vec![Dialog {
            id: id(),
            kind: "main".to_owned(),
            channel_type: Some("messaging".to_owned()),
            state,
        }],
        csat: None,
    })
}
