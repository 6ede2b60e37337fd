//! The state of a conversation.

use super::{Ignored, Known, Translation, role};
use crate::types::conversation::{
    Announced, CloseReason, Closed, ConversationChange, Dialog, DialogKind,
};
use crate::types::event::data::{self, Data, Role, State};
use crate::types::event::{Draft, EventType};
use crate::webhooks::wire::conversation::{self as wire, Conversation};

/// An end is told once, however old its state is: what has ended stays so. Any other state is told unless one that is
/// as new is known.
pub(super) fn translate(
    conversation: &Conversation,
    known: &Known<'_>,
) -> Result<Translation, Ignored> {
    if known.announced == Some(Announced::Closed) {
        return Err(Ignored::Ended);
    }
    let is_stale = conversation
        .updated_at
        .zip(known.updated_at)
        .is_some_and(|(this, newest)| this <= newest);
    if is_stale && !conversation.ended {
        return Err(Ignored::Stale);
    }

    let made_at = conversation.updated_at.unwrap_or(known.now);
    let closed = conversation.ended.then(|| Closed {
        at: conversation.ended_at.unwrap_or(made_at),
        reason: conversation.close_reason.clone().map(CloseReason),
    });
    let (kind, occurred_at) = match (&closed, known.announced) {
        (Some(closed), _) => (EventType::ConversationClosed, closed.at),
        (None, None) => {
            let at = conversation.started_at.unwrap_or(made_at);
            (EventType::ConversationOpened, at)
        }
        (None, Some(_)) => (EventType::ConversationUpdated, made_at),
    };
    Ok(Translation {
        event: Draft {
            kind,
            occurred_at,
            data: Data::Conversation(told(conversation, known)),
        },
        mapping: Some(ConversationChange {
            updated_at: conversation.updated_at.max(known.updated_at),
            announced: if closed.is_some() {
                Announced::Closed
            } else {
                Announced::Opened
            },
            dialogs: dialogs(conversation, known),
            closed,
        }),
    })
}

/// What channels are told of it.
fn told(conversation: &Conversation, known: &Known<'_>) -> data::Conversation {
    let participants = conversation.participants.iter();
    let agent = participants
        .clone()
        .find(|it| it.role.as_deref() == Some("ASSIGNED_AGENT") && !it.suggested);
    let participant = |it: &wire::Participant| data::Participant {
        id: it.id.clone(),
        role: if Some(&*it.id) == known.consumer_id {
            Role::Consumer
        } else {
            role(it.role.as_deref())
        },
    };
    let dialog = |it: &wire::Dialog| data::Dialog {
        id: it.id.to_string(),
        kind: it.kind.clone(),
        state: state(it.ended),
    };
    data::Conversation {
        state: state(conversation.ended),
        close_reason: conversation.close_reason.clone(),
        skill_id: conversation.skill_id.clone(),
        participants: participants.map(participant).collect(),
        agent: agent.map(|agent| data::Agent {
            id: agent.id.clone(),
        }),
        dialogs: conversation.dialogs.iter().map(dialog).collect(),
    }
}

fn state(ended: bool) -> State {
    if ended { State::Closed } else { State::Open }
}

/// The dialogs of the kinds that users write in.
fn dialogs(conversation: &Conversation, known: &Known<'_>) -> Vec<Dialog> {
    let made_at = conversation.updated_at.unwrap_or(known.now);
    let kept = |dialog: &wire::Dialog| {
        let kind = match dialog.kind.as_str() {
            "main" => DialogKind::Main,
            "post_survey" => DialogKind::PostSurvey,
            _ => return None,
        };
        let ended_at = dialog.ended_at.or(conversation.ended_at);
        Some(Dialog {
            id: dialog.id.clone(),
            kind,
            opened_at: dialog
                .created_at
                .or(conversation.started_at)
                .unwrap_or(made_at),
            closed_at: dialog.ended.then(|| ended_at.unwrap_or(made_at)),
        })
    };
    conversation.dialogs.iter().filter_map(kept).collect()
}
