//! Changes of a conversation: each has the whole state, so that a newer one replaces an older one.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::message::id;
use super::privacy::is_marked;
use crate::types::ids::{ConversationId, DialogId};
use crate::webhooks::members::{Members, is_graphic};

/// The state of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// The id.
    pub id: ConversationId,
    /// True if the whole conversation has ended, by its `stage`. The oldest form has no `stage`, so
    /// there `state` decides. Elsewhere `state` is only that of the main dialog. Also true if the
    /// Cloud will send no more changes of it (`DELETE`).
    pub ended: bool,
    /// The Cloud's name for the participant or the cause that ended it, in lower case.
    pub close_reason: Option<String>,
    /// The time of the last change. Of two states the later one is valid.
    pub updated_at: Option<DateTime<Utc>>,
    /// The newest time at which the conversation or one of its dialogs was changed or ended.
    pub touched_at: Option<DateTime<Utc>>,
    /// The time of the start.
    pub started_at: Option<DateTime<Utc>>,
    /// The time of the end, if the Cloud reports it.
    pub ended_at: Option<DateTime<Utc>>,
    /// The skill that it is assigned to; `None` if it has none.
    pub skill_id: Option<String>,
    /// The participants.
    pub participants: Vec<Participant>,
    /// The dialogs.
    pub dialogs: Vec<Dialog>,
    /// The user's rating, which comes after the end.
    pub csat: Option<Csat>,
}

/// The rating of a conversation. Source: vendor's schema of a conversation, `csat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Csat {
    /// Satisfaction, from 1 to 5.
    pub score: Option<u8>,
    /// True if the first contact solved the user's problem.
    pub resolved: Option<bool>,
    /// The Cloud's name for the status in lower case: `filled`, `partially_filled`, `skipped`, or
    /// another.
    pub status: Option<String>,
}

/// A participant of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Participant {
    /// The Cloud's id of the participant.
    pub id: String,
    /// The Cloud's name of the role.
    pub role: Option<String>,
    /// True if the participant was offered the conversation and has not accepted it yet.
    pub suggested: bool,
}

/// A dialog of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialog {
    /// The id.
    pub id: DialogId,
    /// The Cloud's name for the kind in lower case: `main`, `post_survey`, or another.
    pub kind: String,
    /// The Cloud's name for the channel type in lower case: `messaging`, `cobrowse`, or another.
    pub channel_type: Option<String>,
    /// True if it is among agents, so that the user must not see its messages.
    pub is_private: bool,
    /// True if it has ended.
    pub ended: bool,
    /// The time of the start.
    pub created_at: Option<DateTime<Utc>>,
    /// The time of the end.
    pub ended_at: Option<DateTime<Utc>>,
    /// The app installation that created it, if the Cloud reports it. Source: in a capture of 2022
    /// the main dialog has the connector's id in `metaData.appInstallId`; the vendor's documents
    /// show the survey bot's id there.
    pub app_install_id: Option<String>,
}

impl Conversation {
    /// Returns the app installation of the connector that created the conversation, if the Cloud
    /// reports it.
    #[must_use]
    pub fn connector(&self) -> Option<&str> {
        let mut dialogs = self.dialogs.iter();
        let main = dialogs.find(|dialog| dialog.kind == "main")?;
        main.app_install_id.as_deref()
    }

    /// Returns the start of the conversation, or the nearest time that the Cloud reports.
    #[must_use]
    pub fn began_at(&self) -> Option<DateTime<Utc>> {
        let main = self.dialogs.iter().find(|dialog| dialog.kind == "main");
        self.started_at
            .or_else(|| main.and_then(|main| main.created_at))
            .or(self.updated_at)
    }

    pub(super) fn read(change: Members<'_>) -> Result<Self, &'static str> {
        let bare = || change.object("conversationDetails").map(|_| change);
        let result = change.object("result").or_else(bare);
        let result = result.ok_or("the change has no result")?;
        let id: ConversationId = id(result, "convId")
            .or_else(|| id(result, "conversationId"))
            .ok_or("the change has no conversation")?;
        let deleted = change.enum_value("type") == Some("DELETE");
        // A deleted conversation may lack its details.
        let details = result.object("conversationDetails").unwrap_or(result);
        let state = details
            .enum_value("stage")
            .or_else(|| details.enum_value("state"));
        let ended = match state {
            _ if deleted => true,
            Some(state) => is_close(state),
            None => return Err("the change has no state"),
        };
        let dialogs: Vec<_> = details
            .objects("dialogs")
            .filter_map(|dialog| Dialog::read(dialog, &id, ended))
            .collect();
        let last_end = dialogs.iter().filter_map(|dialog| dialog.ended_at).max();
        Ok(Self {
            id,
            ended,
            close_reason: details
                .enum_value("closeReason")
                .map(str::to_ascii_lowercase)
                .filter(|_| ended),
            updated_at: details.time("metaDataLastUpdateTs"),
            touched_at: touched_at(details),
            started_at: details.time("startTs"),
            ended_at: details.time("endTs").or(last_end).filter(|_| ended),
            skill_id: skill_id(details),
            participants: participants(details),
            dialogs,
            csat: details.object("csat").and_then(Csat::read),
        })
    }
}

fn touched_at(details: Members<'_>) -> Option<DateTime<Utc>> {
    let times = |object: Members<'_>| {
        let names = ["metaDataLastUpdateTs", "endTs"];
        names.into_iter().filter_map(|name| object.time(name)).max()
    };
    let dialogs = details.objects("dialogs").filter_map(times);
    dialogs.chain(times(details)).max()
}

fn is_close(state: &str) -> bool {
    matches!(state, "CLOSE" | "CLOSED")
}

/// Returns the skill; the Cloud writes `-1` for no skill.
fn skill_id(details: Members<'_>) -> Option<String> {
    let handler = details.object("conversationHandlerDetails");
    let skill_id = details
        .id("skillId")
        .or_else(|| handler.and_then(|handler| handler.id("skillId")));
    skill_id.filter(|skill_id| skill_id != "-1")
}

/// Returns the participants of the conversation, or else those of its open dialogs. Only the
/// dialogs show that a participant was offered the conversation and has not accepted it.
fn participants(details: Members<'_>) -> Vec<Participant> {
    let in_dialogs: Vec<_> = details
        .objects("dialogs")
        .filter(|dialog| !dialog.enum_value("state").is_some_and(is_close) && !is_private(*dialog))
        .flat_map(|dialog| dialog.objects("participantsDetails"))
        .filter_map(Participant::read)
        .collect();
    let mut participants: Vec<_> = details
        .objects("participants")
        .filter_map(Participant::read)
        .collect();
    if participants.is_empty() {
        participants = by_role(details);
    }
    if participants.is_empty() {
        participants.clone_from(&in_dialogs);
    }
    let mut known_ids = std::collections::HashSet::new();
    participants.retain(|participant| known_ids.insert(participant.id.clone()));
    let has_accepted = |id: &str| in_dialogs.iter().any(|it| it.id == id && !it.suggested);
    let offered: Vec<_> = in_dialogs
        .iter()
        .filter(|it| it.suggested && !has_accepted(&it.id))
        .map(|it| &it.id)
        .collect();
    for participant in &mut participants {
        participant.suggested = offered.contains(&&participant.id);
    }
    participants
}

/// Returns participants that are written as ids by role. Source: vendor's messaging window API in
/// its older form, which has `{"CONSUMER": ["…"], "ASSIGNED_AGENT": ["…"]}`.
fn by_role(details: Members<'_>) -> Vec<Participant> {
    let roles = ["participants", "participantsPId"].map(|name| details.object(name));
    let roles = roles.into_iter().flatten().flat_map(|map| {
        let names = map.entries().map(|(role, _)| role);
        names.flat_map(move |role| map.list(role).iter().map(move |id| (role, id)))
    });
    let participants = roles.filter_map(|(role, id)| {
        let id = match id {
            Value::String(id) => id.clone(),
            Value::Number(id) => id.to_string(),
            value => Members::of(value)?.id("id")?,
        };
        let is_safe = is_graphic(&id, 128) && is_graphic(role, 64);
        is_safe.then(|| Participant {
            id,
            role: Some(role.to_ascii_uppercase()),
            suggested: false,
        })
    });
    participants.collect()
}

/// True if a dialog is among agents. Source: the vendor's Android SDK has the dialog type `AGENT`.
fn is_private(dialog: Members<'_>) -> bool {
    let kind = dialog.enum_value("dialogType");
    kind.is_some_and(|kind| kind.eq_ignore_ascii_case("AGENT")) || is_marked(dialog)
}

impl Csat {
    /// Reads a rating; `None` if it is empty.
    fn read(csat: Members<'_>) -> Option<Self> {
        let score = csat
            .integer("csatRate")
            .and_then(|rate| rate.try_into().ok());
        let rating = Self {
            score: score.filter(|score| (1..=5).contains(score)),
            resolved: csat
                .value("csatResolutionConfirmation")
                .and_then(Value::as_bool),
            status: csat.enum_value("status").map(str::to_ascii_lowercase),
        };
        let is_empty =
            rating.score.is_none() && rating.resolved.is_none() && rating.status.is_none();
        (!is_empty).then_some(rating)
    }
}

impl Participant {
    fn read(participant: Members<'_>) -> Option<Self> {
        Some(Self {
            id: participant.id("id")?,
            role: participant.enum_value("role").map(str::to_owned),
            suggested: participant.enum_value("state") == Some("SUGGESTED"),
        })
    }
}

impl Dialog {
    fn read(dialog: Members<'_>, conversation: &ConversationId, all_ended: bool) -> Option<Self> {
        let id: DialogId = id(dialog, "dialogId")?;
        let kind = match dialog.enum_value("dialogType") {
            Some(kind) => kind.to_ascii_lowercase(),
            None if id.as_str() == conversation.as_str() => "main".to_owned(),
            None => "unknown".to_owned(),
        };
        // The main dialog is always the one with the user, even if it is marked as private.
        let is_side = kind != "main";
        Some(Self {
            id,
            kind,
            channel_type: dialog
                .enum_value("channelType")
                .map(str::to_ascii_lowercase),
            is_private: is_side && is_private(dialog),
            ended: all_ended || dialog.enum_value("state").is_some_and(is_close),
            created_at: dialog.time("creationTs"),
            ended_at: dialog.time("endTs"),
            app_install_id: dialog
                .object("metaData")
                .and_then(|data| data.id("appInstallId")),
        })
    }
}
