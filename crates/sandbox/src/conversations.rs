//! The conversations of the simulated Cloud. A consumer has at most one open at a time.

use std::collections::{BTreeSet, HashMap};

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use serde_json::Value;

use super::participant::{Audience, Participant, Role};

/// The skill id of a conversation without a skill. Source: vendor's Send API page "Conversation".
const NO_SKILL: &str = "-1";

/// The feature whose automatic messages need an early first SEND.
const AUTO_MESSAGES: &str = "AUTO_MESSAGES";

/// The longest time from the opening to the first SEND. Source: vendor's Send API examples, section
/// on `AUTO_MESSAGES`.
const AUTO_MESSAGES_LIMIT: TimeDelta = TimeDelta::seconds(10);

/// A person on a channel, identified as in the tokens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct Consumer {
    /// The account id.
    pub account: String,
    /// The connector's id of the consumer.
    pub ext_consumer_id: String,
    /// The Cloud's id of the consumer.
    pub lp_consumer_id: String,
}

/// The state of a conversation or dialog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Stage {
    /// In progress.
    Open,
    /// Ended.
    Close,
}

/// The purpose of a dialog.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DialogKind {
    /// The conversation with an agent.
    Main,
    /// The survey after it, with a bot.
    PostSurvey,
}

/// A conversation.
#[derive(Debug, Clone, Serialize)]
pub struct Conversation {
    /// The conversation id, also the id of the main dialog.
    pub id: String,
    /// The consumer.
    #[serde(flatten)]
    pub consumer: Consumer,
    /// The state of the main dialog.
    pub state: Stage,
    /// The state of the whole conversation.
    pub stage: Stage,
    /// The party that closed it, such as `CONSUMER` or `AGENT`.
    pub close_reason: Option<String>,
    /// The id of the skill to which it is routed; `-1` for no skill.
    pub skill_id: String,
    /// The consumer and the assigned agent.
    pub participants: Vec<Participant>,
    /// The time of the opening.
    pub opened_at: DateTime<Utc>,
    /// The time of the first SEND.
    pub first_send_at: Option<DateTime<Utc>>,
    /// The latest body of `userprofile.SetUserProfile`.
    pub profile: Value,
    /// The body of `cm.ConsumerRequestConversation`.
    pub request: Value,
    /// The `Client-Properties` header of the opening.
    pub client_properties: Option<String>,
    /// The features in that header.
    pub features: BTreeSet<String>,
    /// The main dialog, and the survey after it if there is one.
    pub dialogs: Vec<Dialog>,
    /// The `CSATRate` field, once the consumer has rated.
    pub csat: Option<Value>,
    /// The `TTRField` field, once the consumer has set it.
    pub ttr: Option<Value>,
    /// The connector's mistakes that the Cloud does not refuse.
    pub complaints: Vec<String>,
    /// The app installation that the main dialog names; `None` unless a test sets it.
    pub app_install_id: Option<String>,
}

/// A dialog of a conversation.
#[derive(Debug, Clone, Serialize)]
pub struct Dialog {
    /// The dialog id.
    pub id: String,
    /// The purpose.
    pub kind: DialogKind,
    /// The state.
    pub state: Stage,
    /// The party that closed it, such as `CONSUMER` or `AGENT`.
    pub closed_by: Option<String>,
    /// All events published in it, in order.
    pub events: Vec<Event>,
}

/// An event published in a dialog.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// The sequence in the dialog, from 0; `None` for chat states.
    pub sequence: Option<usize>,
    /// The time of publication.
    pub at: DateTime<Utc>,
    /// The publisher.
    pub originator: Participant,
    /// The participants who may read it.
    pub audience: Audience,
    /// The `event` member as it was sent.
    pub event: Value,
    /// The `metadata` member of the request.
    pub metadata: Option<Value>,
    /// The `id` of the SEND that published it; `None` for events of the brand's side.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request_id: Option<String>,
}

/// An event to publish.
#[derive(Debug)]
pub(super) struct NewEvent {
    pub(super) originator: Participant,
    pub(super) audience: Audience,
    pub(super) event: Value,
    pub(super) metadata: Option<Value>,
    pub(super) request_id: Option<String>,
}

impl Conversation {
    /// Creates a conversation for a connector's opening.
    pub(super) fn new(id: String, opening: Opening, now: DateTime<Utc>) -> Self {
        let skill = match opening.request.get("skillId") {
            Some(Value::String(skill)) => skill.clone(),
            Some(skill) => skill.to_string(),
            None => NO_SKILL.to_owned(),
        };
        Self {
            state: Stage::Open,
            stage: Stage::Open,
            close_reason: None,
            skill_id: skill,
            participants: vec![Participant::consumer(&opening.consumer.lp_consumer_id)],
            consumer: opening.consumer,
            opened_at: now,
            first_send_at: None,
            profile: opening.profile,
            request: opening.request,
            client_properties: opening.client_properties,
            features: opening.features,
            dialogs: vec![Dialog::new(id.clone(), DialogKind::Main)],
            csat: None,
            ttr: None,
            complaints: Vec::new(),
            app_install_id: None,
            id,
        }
    }

    /// Creates a conversation that an agent of a skill opens. The agent is assigned from the start.
    pub(super) fn by_agent(
        id: String,
        consumer: Consumer,
        profile: Value,
        skill: Option<String>,
        now: DateTime<Utc>,
    ) -> Self {
        let opening = Opening {
            consumer,
            profile,
            request: Value::Null,
            client_properties: None,
            features: BTreeSet::new(),
        };
        let mut conversation = Self::new(id, opening, now);
        if let Some(skill) = skill {
            conversation.skill_id = skill;
        }
        let (account, skill) = (&conversation.consumer.account, &conversation.skill_id);
        let agent = Participant::of_brand(account, Role::AssignedAgent, skill);
        conversation.participants.push(agent);
        conversation
    }

    /// Ends the conversation with all its dialogs. Returns true if it was open.
    pub(super) fn close(&mut self, by: &str) -> bool {
        if self.stage == Stage::Close {
            return false;
        }
        self.state = Stage::Close;
        self.stage = Stage::Close;
        self.close_reason = Some(by.to_owned());
        for dialog in &mut self.dialogs {
            dialog.close(by);
        }
        true
    }

    /// Records that a SEND came. The Cloud does not report a late one; it only leaves out its
    /// automatic messages.
    pub(super) fn record_send(&mut self, now: DateTime<Utc>) {
        if self.first_send_at.is_some() {
            return;
        }
        self.first_send_at = Some(now);
        let delay = now - self.opened_at;
        if self.features.contains(AUTO_MESSAGES) && delay > AUTO_MESSAGES_LIMIT {
            self.complaints.push(format!(
                "{AUTO_MESSAGES}: the first SEND came {} s after CONVERSATION, expected within {} s",
                delay.num_seconds(),
                AUTO_MESSAGES_LIMIT.num_seconds()
            ));
        }
    }

    pub(super) fn dialog(&mut self, id: &str) -> Option<&mut Dialog> {
        self.dialogs.iter_mut().find(|dialog| dialog.id == id)
    }
}

impl Dialog {
    pub(super) fn new(id: String, kind: DialogKind) -> Self {
        Self {
            id,
            kind,
            state: Stage::Open,
            closed_by: None,
            events: Vec::new(),
        }
    }

    /// Ends the dialog, unless it has ended already.
    pub(super) fn close(&mut self, by: &str) {
        if self.state == Stage::Open {
            self.state = Stage::Close;
            self.closed_by = Some(by.to_owned());
        }
    }

    /// Adds an event with the dialog's next sequence, and returns that sequence. All participants
    /// share one count.
    pub(super) fn publish(&mut self, new_event: NewEvent, at: DateTime<Utc>) -> usize {
        let sequence = self.next_sequence();
        self.push(Some(sequence), new_event, at);
        sequence
    }

    /// Adds an event without a sequence.
    pub(super) fn publish_unsequenced(&mut self, new_event: NewEvent, at: DateTime<Utc>) {
        self.push(None, new_event, at);
    }

    /// Returns the sequence of the next event.
    pub(super) fn next_sequence(&self) -> usize {
        self.events.iter().filter(|e| e.sequence.is_some()).count()
    }

    fn push(&mut self, sequence: Option<usize>, new_event: NewEvent, at: DateTime<Utc>) {
        self.events.push(Event {
            sequence,
            at,
            originator: new_event.originator,
            audience: new_event.audience,
            event: new_event.event,
            metadata: new_event.metadata,
            request_id: new_event.request_id,
        });
    }
}

/// The contents of a CONVERSATION request.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) consumer: Consumer,
    pub(super) profile: Value,
    pub(super) request: Value,
    pub(super) client_properties: Option<String>,
    pub(super) features: BTreeSet<String>,
}

/// All conversations since the start.
#[derive(Debug, Default)]
pub(super) struct Conversations {
    all: Vec<Conversation>,
    /// The index in `all`, by conversation id.
    by_id: HashMap<String, usize>,
    /// The index in `all`, by the id of the survey dialog.
    by_survey: HashMap<String, usize>,
    /// The index in `all` of each consumer's latest conversation, the only one that can be open.
    latest: HashMap<Consumer, usize>,
    /// The indexes in `all` of the conversations that may have changed since they were last taken.
    touched: BTreeSet<usize>,
}

impl Conversations {
    /// Adds an open conversation. The caller has checked that the consumer has none.
    pub(super) fn open(&mut self, conversation: Conversation) {
        let index = self.all.len();
        self.by_id.insert(conversation.id.clone(), index);
        self.latest.insert(conversation.consumer.clone(), index);
        self.touched.insert(index);
        self.all.push(conversation);
    }

    /// Forgets a conversation without a notification, as if the id had never existed. Returns false
    /// if there was none.
    pub(super) fn forget(&mut self, id: &str) -> bool {
        let Some(index) = self.by_id.remove(id) else {
            return false;
        };
        self.by_survey.retain(|_, of| *of != index);
        self.latest.retain(|_, of| *of != index);
        self.touched.remove(&index);
        if let Some(conversation) = self.all.get_mut(index) {
            conversation.state = Stage::Close;
            conversation.stage = Stage::Close;
        }
        true
    }

    /// Returns the open conversation of a consumer.
    pub(super) fn open_of(&mut self, consumer: &Consumer) -> Option<&mut Conversation> {
        let index = *self.latest.get(consumer)?;
        self.touched.insert(index);
        self.all.get_mut(index).filter(|c| c.stage == Stage::Open)
    }

    /// Returns the latest profile that a connector has set for a consumer.
    pub(super) fn profile_of(&self, consumer: &Consumer) -> Value {
        let latest = self.latest.get(consumer);
        let latest = latest.and_then(|index| self.all.get(*index));
        latest.map_or(Value::Null, |latest| latest.profile.clone())
    }

    pub(super) fn get(&mut self, id: &str) -> Option<&mut Conversation> {
        let index = *self.by_id.get(id)?;
        self.touched.insert(index);
        self.all.get_mut(index)
    }

    /// Takes the conversations that may have changed since the last call: all that were handed out
    /// since.
    pub(super) fn take_possibly_changed(&mut self) -> impl Iterator<Item = &Conversation> {
        let touched = std::mem::take(&mut self.touched);
        let all = &self.all;
        touched.into_iter().filter_map(|index| all.get(index))
    }

    /// Returns the conversation of a dialog. The main dialog has the id of its conversation.
    pub(super) fn of_dialog(&mut self, id: &str) -> Option<&mut Conversation> {
        let index = *self.by_id.get(id).or_else(|| self.by_survey.get(id))?;
        self.touched.insert(index);
        self.all.get_mut(index)
    }

    /// Adds a survey dialog to a conversation.
    pub(super) fn begin_survey(&mut self, id: &str, survey: String) {
        let Some(&index) = self.by_id.get(id) else {
            return;
        };
        if let Some(conversation) = self.all.get_mut(index) {
            let dialog = Dialog::new(survey.clone(), DialogKind::PostSurvey);
            conversation.dialogs.push(dialog);
            self.by_survey.insert(survey, index);
            self.touched.insert(index);
        }
    }

    pub(super) fn list(&self) -> Vec<Conversation> {
        self.all.clone()
    }

    /// Returns the conversations that were opened last, in the order of their opening.
    pub(super) fn latest(&self, count: usize) -> Vec<Conversation> {
        let before = self.all.len().saturating_sub(count);
        self.all.iter().skip(before).cloned().collect()
    }
}
