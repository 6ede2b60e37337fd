//! Changes of a conversation's state.

use std::cmp::Ordering;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest as _, Sha256};

use super::{Ignored, KnownState, Translation, role};
use crate::types::conversation::{
    Announced, CloseReason, Closed, ConversationChange, Dialog, DialogKind, SideDialog,
};
use crate::types::event::data::{self, Data, Role, State};
use crate::types::event::{EventType, UnaddressedEvent};
use crate::types::ids::ConversationId;
use crate::types::rating::Answer;
use crate::webhooks::wire::conversation::{self as wire, Conversation};

/// Translates a state.
///
/// An end is reported once, even if its state is old: an ended conversation never reopens. After
/// the end only a new rating is reported. Any other state is reported unless a newer one is known,
/// or the newest known one is the same.
pub(super) fn translate(
    conversation: &Conversation,
    known: &KnownState<'_>,
) -> Result<Translation, Ignored> {
    let event_data = event_data(conversation, known);
    let fingerprint = fingerprint(&event_data);
    let age = conversation.updated_at.zip(known.updated_at);
    let age = age.map(|(this, newest)| this.cmp(&newest));
    if known.announced == Some(Announced::Closed) {
        let is_rating = conversation.ended
            && event_data.csat.is_some()
            && known.fingerprint != Some(&fingerprint)
            && age != Some(Ordering::Less);
        if !is_rating {
            return Err(Ignored::Ended);
        }
    } else if !conversation.ended {
        // Of two states with the same time, the one that arrives last wins. Without a stored
        // fingerprint the two cannot be compared.
        let differs = known.fingerprint.is_some_and(|known| known != fingerprint);
        let is_stale = match age {
            Some(Ordering::Less) => true,
            Some(Ordering::Equal) => !differs,
            Some(Ordering::Greater) | None => false,
        };
        if is_stale {
            return Err(Ignored::Stale);
        }
    }

    let changed_at = conversation.updated_at.unwrap_or(known.now);
    let closed = conversation.ended.then(|| Closed {
        at: conversation.ended_at.unwrap_or(changed_at),
        reason: conversation.close_reason.clone().map(CloseReason),
    });
    let (kind, occurred_at) = match (&closed, known.announced) {
        (Some(_), Some(Announced::Closed)) | (None, Some(_)) => {
            (EventType::ConversationUpdated, changed_at)
        }
        (Some(closed), _) => (EventType::ConversationClosed, closed.at),
        (None, None) => {
            let at = conversation.started_at.unwrap_or(changed_at);
            (EventType::ConversationOpened, at)
        }
    };
    Ok(Translation {
        event: UnaddressedEvent {
            kind,
            occurred_at,
            data: Data::Conversation(data::Conversation {
                opened_by: (kind == EventType::ConversationOpened).then_some(known.opened_by),
                ..event_data
            }),
        },
        mapping: Some(ConversationChange {
            updated_at: conversation.updated_at.max(known.updated_at),
            announced: if closed.is_some() {
                Announced::Closed
            } else {
                Announced::Opened
            },
            dialogs: dialogs(conversation, known),
            side_dialogs: side_dialogs(conversation),
            closed,
            fingerprint,
        }),
    })
}

/// Builds the event data for a state.
fn event_data(conversation: &Conversation, known: &KnownState<'_>) -> data::Conversation {
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
        channel_type: it.channel_type.clone(),
        state: state(it.ended),
    };
    let csat = |it: &wire::Csat| data::Csat {
        score: it.score,
        fcr: it.resolved.map(Answer::from),
        status: it.status.clone(),
    };
    // Dialogs among agents are hidden from channels.
    let dialogs = conversation.dialogs.iter().filter(|it| !it.is_private);
    data::Conversation {
        state: state(conversation.ended),
        opened_by: None,
        close_reason: conversation.close_reason.clone(),
        skill_id: conversation.skill_id.clone(),
        participants: participants.map(participant).collect(),
        agent: agent.map(|agent| data::Agent {
            id: agent.id.clone(),
        }),
        dialogs: dialogs.map(dialog).collect(),
        csat: conversation.csat.as_ref().map(csat),
    }
}

/// Builds the event data for a conversation that ended because another one replaced it. The Cloud
/// does not report such an end.
pub(super) fn replaced(id: &ConversationId, consumer_id: Option<&str>) -> data::Conversation {
    let participants = consumer_id.map(|id| data::Participant {
        id: id.to_owned(),
        role: Role::Consumer,
    });
    data::Conversation {
        state: State::Closed,
        opened_by: None,
        close_reason: None,
        skill_id: None,
        participants: participants.into_iter().collect(),
        agent: None,
        dialogs: vec![data::Dialog {
            id: id.to_string(),
            kind: DialogKind::Main.as_str().to_owned(),
            channel_type: None,
            state: State::Closed,
        }],
        csat: None,
    }
}

/// Hashes the event data, to distinguish states that have the same time. After the end only the
/// rating is hashed.
fn fingerprint(event_data: &data::Conversation) -> String {
    let text = match event_data.state {
        State::Open => serde_json::to_vec(event_data),
        State::Closed => serde_json::to_vec(&event_data.csat),
    };
    // No map in the data has keys that are not text, so serialization cannot fail.
    URL_SAFE_NO_PAD.encode(Sha256::digest(text.unwrap_or_default()))
}

fn state(ended: bool) -> State {
    if ended { State::Closed } else { State::Open }
}

/// Returns the dialogs that users write in.
fn dialogs(conversation: &Conversation, known: &KnownState<'_>) -> Vec<Dialog> {
    let changed_at = conversation.updated_at.unwrap_or(known.now);
    let to_dialog = |dialog: &wire::Dialog| {
        let kind = kind(dialog)?;
        let ended_at = dialog.ended_at.or(conversation.ended_at);
        Some(Dialog {
            id: dialog.id.clone(),
            kind,
            opened_at: dialog
                .created_at
                .or(conversation.started_at)
                .unwrap_or(changed_at),
            closed_at: dialog.ended.then(|| ended_at.unwrap_or(changed_at)),
        })
    };
    conversation.dialogs.iter().filter_map(to_dialog).collect()
}

fn side_dialogs(conversation: &Conversation) -> Vec<SideDialog> {
    let dialogs = conversation
        .dialogs
        .iter()
        .filter(|dialog| kind(dialog).is_none());
    let dialogs = dialogs.map(|dialog| SideDialog {
        id: dialog.id.clone(),
        is_private: dialog.is_private,
    });
    dialogs.collect()
}

/// Returns the kind of a dialog; `None` if users do not write in it.
fn kind(dialog: &wire::Dialog) -> Option<DialogKind> {
    match dialog.kind.as_str() {
        _ if dialog.is_private => None,
        "main" => Some(DialogKind::Main),
        "post_survey" => Some(DialogKind::PostSurvey),
        _ => None,
    }
}
