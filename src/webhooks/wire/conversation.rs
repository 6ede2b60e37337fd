//! Changes of a conversation: always its whole state, so that a newer one replaces an older one.

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::message::id;
use super::privacy::is_marked;
use crate::types::ids::{ConversationId, DialogId};
use crate::webhooks::members::{Members, is_graphic};

/// A conversation as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Conversation {
    /// Which.
    pub id: ConversationId,
    /// Whether all of it has ended: by `stage`, in the oldest form by `state`, which otherwise is the main dialog's
    /// alone; also where the Cloud will tell no more of it (`DELETE`).
    pub ended: bool,
    /// Who or what ended it, in the Cloud's word in lower case.
    pub close_reason: Option<String>,
    /// When it was last changed; of two changes the later one holds.
    pub updated_at: Option<DateTime<Utc>>,
    /// The newest time at which it, or a dialog of it, was changed or ended.
    pub touched_at: Option<DateTime<Utc>>,
    /// When it began.
    pub started_at: Option<DateTime<Utc>>,
    /// When it ended, as far as the Cloud says.
    pub ended_at: Option<DateTime<Utc>>,
    /// The skill it is assigned to, if to one.
    pub skill_id: Option<String>,
    /// Who takes part.
    pub participants: Vec<Participant>,
    /// Its dialogs.
    pub dialogs: Vec<Dialog>,
    /// The user's rating; it comes after the end.
    pub csat: Option<Csat>,
}

/// The rating of a conversation. Source: vendor's schema of a conversation, `csat`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Csat {
    /// Satisfaction, from 1 to 5.
    pub score: Option<u8>,
    /// True if the first contact resolved the matter.
    pub resolved: Option<bool>,
    /// The Cloud's word in lower case: `filled`, `partially_filled`, `skipped`, or another.
    pub status: Option<String>,
}

/// Somebody who takes part.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Participant {
    /// The Cloud's id of them.
    pub id: String,
    /// The Cloud's word for what they are.
    pub role: Option<String>,
    /// Whether they were offered the conversation and have not taken it yet.
    pub suggested: bool,
}

/// A dialog of a conversation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dialog {
    /// Which.
    pub id: DialogId,
    /// The Cloud's word for its kind in lower case: `main`, `post_survey`, or another.
    pub kind: String,
    /// The Cloud's word for its channel in lower case: `messaging`, `cobrowse`, or another.
    pub channel_type: Option<String>,
    /// True if it is among agents: what is said in it is not for the user.
    pub is_private: bool,
    /// Whether it has ended.
    pub ended: bool,
    /// When it began.
    pub created_at: Option<DateTime<Utc>>,
    /// When it ended.
    pub ended_at: Option<DateTime<Utc>>,
    /// The app installation that it came by, as far as the Cloud says. Source: a capture of 2022, in which the main dialog
    /// names the connector's in `metaData.appInstallId`; the vendor's documents name the survey bot's there.
    pub app_install_id: Option<String>,
}

impl Conversation {
    /// The app installation of the connector that the conversation came by, as far as the Cloud says.
    #[must_use]
    pub fn connector(&self) -> Option<&str> {
        let mut dialogs = self.dialogs.iter();
        let main = dialogs.find(|dialog| dialog.kind == "main")?;
        main.app_install_id.as_deref()
    }

    /// When it began, as near as the Cloud says it.
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
            .ok_or("the change names no conversation")?;
        let deleted = change.word("type") == Some("DELETE");
        // A conversation that is deleted need not be described any more.
        let details = result.object("conversationDetails").unwrap_or(result);
        let state = details.word("stage").or_else(|| details.word("state"));
        let ended = match state {
            _ if deleted => true,
            Some(state) => is_close(state),
            None => return Err("the change says no state"),
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
                .word("closeReason")
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

/// `-1` stands for no skill.
fn skill_id(details: Members<'_>) -> Option<String> {
    let handler = details.object("conversationHandlerDetails");
    let skill_id = details
        .id("skillId")
        .or_else(|| handler.and_then(|handler| handler.id("skillId")));
    skill_id.filter(|skill_id| skill_id != "-1")
}

/// Who takes part: as the conversation says it, else as its open dialogs do. Only the dialogs tell who was merely
/// offered it.
fn participants(details: Members<'_>) -> Vec<Participant> {
    let in_dialogs: Vec<_> = details
        .objects("dialogs")
        .filter(|dialog| !dialog.word("state").is_some_and(is_close) && !is_private(*dialog))
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
    let mut seen = std::collections::HashSet::new();
    participants.retain(|participant| seen.insert(participant.id.clone()));
    let taken = |id: &str| in_dialogs.iter().any(|it| it.id == id && !it.suggested);
    let offered: Vec<_> = in_dialogs
        .iter()
        .filter(|it| it.suggested && !taken(&it.id))
        .map(|it| &it.id)
        .collect();
    for participant in &mut participants {
        participant.suggested = offered.contains(&&participant.id);
    }
    participants
}

/// Who takes part, where it is written as ids by role. Source: vendor's messaging window API in its older form, which has
/// `{"CONSUMER": ["…"], "ASSIGNED_AGENT": ["…"]}`.
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
            other => Members::of(other)?.id("id")?,
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

/// True of a dialog among agents. Source: the vendor's Android SDK knows the dialog type `AGENT`.
fn is_private(dialog: Members<'_>) -> bool {
    let kind = dialog.word("dialogType");
    kind.is_some_and(|kind| kind.eq_ignore_ascii_case("AGENT")) || is_marked(dialog)
}

impl Csat {
    /// `None` where nothing was said.
    fn read(csat: Members<'_>) -> Option<Self> {
        let score = csat
            .integer("csatRate")
            .and_then(|rate| rate.try_into().ok());
        let read = Self {
            score: score.filter(|score| (1..=5).contains(score)),
            resolved: csat
                .value("csatResolutionConfirmation")
                .and_then(Value::as_bool),
            status: csat.word("status").map(str::to_ascii_lowercase),
        };
        let is_something = read.score.is_some() || read.resolved.is_some() || read.status.is_some();
        is_something.then_some(read)
    }
}

impl Participant {
    fn read(participant: Members<'_>) -> Option<Self> {
        Some(Self {
            id: participant.id("id")?,
            role: participant.word("role").map(str::to_owned),
            suggested: participant.word("state") == Some("SUGGESTED"),
        })
    }
}

impl Dialog {
    fn read(dialog: Members<'_>, conversation: &ConversationId, all_ended: bool) -> Option<Self> {
        let id: DialogId = id(dialog, "dialogId")?;
        let kind = match dialog.word("dialogType") {
            Some(kind) => kind.to_ascii_lowercase(),
            None if id.as_str() == conversation.as_str() => "main".to_owned(),
            None => "unknown".to_owned(),
        };
        // Whatever stands in it, the main dialog is the one with the user.
        let kind_is_side = kind != "main";
        Some(Self {
            id,
            kind,
            channel_type: dialog.word("channelType").map(str::to_ascii_lowercase),
            is_private: kind_is_side && is_private(dialog),
            ended: all_ended || dialog.word("state").is_some_and(is_close),
            created_at: dialog.time("creationTs"),
            ended_at: dialog.time("endTs"),
            app_install_id: dialog
                .object("metaData")
                .and_then(|data| data.id("appInstallId")),
        })
    }
}
