//! The comparison of the users' actions with the state of the Cloud.

use std::collections::{HashMap, HashSet};

use liveperson_bridge::sandbox::{Conversation, Role, Stage};
use reqwest::Method;
use serde_json::Value;

use super::{FAILED, INVERTED, LOST, NOT_ALLOWED, STATE_MISMATCH, Verdict};
use crate::crash::actions::{Action, Life, UserAction, content_of};
use crate::crash::copies::{Cause, SentCopy, causes};
use crate::crash::parts::Part;
use crate::crash::scene::Scene;
use crate::support::channel::send;

/// The messages and receipts of a user at the Cloud.
#[derive(Debug, Default)]
struct Arrived {
    /// Texts and files, by their content.
    messages: HashMap<String, Message>,
    /// The sequences that receipts name.
    receipts: HashSet<u32>,
}

/// A text or file of a user, with all its copies.
#[derive(Debug)]
struct Message {
    /// The index of its first copy among all messages of the user.
    index: usize,
    copies: Vec<SentCopy>,
    /// The path of a file at the Cloud.
    path: Option<String>,
}

impl Verdict {
    pub(super) async fn judge_cloud(&mut self, scene: &Scene, lives: &[Life]) {
        let conversations = scene.sandbox.conversations();
        self.counts.add("conversations", conversations.len());
        let mut by_user = HashMap::<&str, Vec<&Conversation>>::new();
        for conversation in &conversations {
            let consumer = &conversation.consumer.ext_consumer_id;
            let user = consumer.strip_prefix("sms:").unwrap_or(consumer);
            by_user.entry(user).or_default().push(conversation);
        }
        for life in lives {
            let theirs = by_user.remove(life.user_id.as_str()).unwrap_or_default();
            self.judge_deeds(scene, life, &theirs);
            self.judge_queued(scene, life).await;
            self.judge_open(scene, life, &theirs).await;
        }
        for user in by_user.keys() {
            self.complain(format!("{user} is at the Cloud, but was never simulated"));
        }
    }

    fn judge_deeds(&mut self, scene: &Scene, life: &Life, conversations: &[&Conversation]) {
        let id = &life.user_id;
        let may_close = scene.settings.has(Part::Closes);
        if !may_close && conversations.len() != 1 {
            self.complain(format!("{id} has {} conversations", conversations.len()));
        }
        let mut arrived = Arrived::of(scene, conversations);
        let arrived_count: usize = arrived.messages.values().map(|it| it.copies.len()).sum();
        self.counts
            .add("users' texts and files at the Cloud", arrived_count);
        let mut last: Option<(usize, &str)> = None;
        let mut closed: Option<&str> = None;
        for user_action in &life.user_actions {
            self.judge_key(life, user_action);
            let has_arrived = match &user_action.action {
                Action::Text(label) | Action::File(label) => {
                    let message = arrived.messages.remove(label);
                    if let Some(message) = &message {
                        self.judge_message(scene, life, user_action, message);
                        if !user_action.accepted.is_empty() {
                            self.judge_order(life, label, message.index, &mut last);
                        }
                    }
                    message.is_some()
                }
                Action::Receipt(number) => {
                    arrived.receipts.contains(number) || !user_action.was_sent_immediately()
                }
                Action::Close { survey } => {
                    let accepted = user_action.accepted.iter().find(|it| it.status == 200);
                    closed = accepted.and_then(|accepted| accepted.conversation_id.as_deref());
                    closed.is_none_or(|closed| is_closed(conversations, closed, *survey))
                }
                Action::Rating(_) => {
                    !user_action.was_sent_immediately() || is_rated(conversations, closed)
                }
            };
            // Queued requests are deleted together with an erased user.
            let is_promised = user_action.was_sent_immediately()
                || !user_action.accepted.is_empty() && !life.is_ending;
            if is_promised && !has_arrived {
                self.breach(LOST, format!("{id}: not at the Cloud: {user_action:?}"));
            }
        }
        for label in arrived.messages.keys() {
            self.complain(format!(
                "{id}: `{label}` is at the Cloud, but was never written"
            ));
        }
    }

    fn judge_key(&mut self, life: &Life, user_action: &UserAction) {
        let ids = user_action
            .accepted
            .iter()
            .map(|accepted| &accepted.message_id);
        let ids: HashSet<_> = ids.collect();
        if ids.len() > 1 {
            let id = &life.user_id;
            self.complain(format!("{id}: one key, several messages: {user_action:?}"));
        }
    }

    fn judge_message(
        &mut self,
        scene: &Scene,
        life: &Life,
        user_action: &UserAction,
        message: &Message,
    ) {
        let id = &life.user_id;
        for cause in causes(&message.copies) {
            if cause == Cause::NotAllowed {
                let copies = &message.copies;
                self.breach(
                    NOT_ALLOWED,
                    format!("{id}: {user_action:?} has the copies {copies:?}"),
                );
            } else {
                self.counts.increment(cause.name());
            }
        }
        if let (Action::File(caption), Some(path)) = (&user_action.action, &message.path) {
            let content = scene.sandbox.file(path);
            if content.is_none_or(|content| content != content_of(caption)) {
                self.complain(format!("{id}: the bytes of {user_action:?} differ"));
            }
        }
    }

    fn judge_order<'a>(
        &mut self,
        life: &Life,
        label: &'a str,
        index: usize,
        last: &mut Option<(usize, &'a str)>,
    ) {
        match *last {
            Some((before, earlier)) if index < before => {
                let id = &life.user_id;
                self.breach(INVERTED, format!("{id}: `{label}` is before `{earlier}`"));
            }
            _ => *last = Some((index, label)),
        }
    }

    /// Checks that each queued request was sent, or failed for a reason that is allowed.
    async fn judge_queued(&mut self, scene: &Scene, life: &Life) {
        if life.is_ending {
            return;
        }
        for user_action in &life.user_actions {
            let Some(message_id) = user_action.queued() else {
                continue;
            };
            let location = format!("/v1/messages/{message_id}");
            let response = scene.channel.get(&location).await;
            let code = response.body["failure"]["code"]
                .as_str()
                .unwrap_or_default();
            let (id, body) = (&life.user_id, &response.body);
            if body["status"] == "failed" && user_action.action.may_fail_for(code) {
                self.counts
                    .increment("queued, and could not be done any more");
            } else if body["status"] == "failed" {
                self.breach(FAILED, format!("{id}: {user_action:?}: {body}"));
            } else if body["status"] != "sent" {
                self.complain(format!("{id}: {user_action:?} was queued and is {body}"));
            }
        }
    }

    /// Checks that the bridge and the Cloud agree on the open conversation.
    async fn judge_open(&mut self, scene: &Scene, life: &Life, conversations: &[&Conversation]) {
        let id = &life.user_id;
        let mut open = conversations.iter().filter(|it| it.stage == Stage::Open);
        let at_cloud = open.next().map(|conversation| conversation.id.as_str());
        let path = format!("/v1/users/{id}/conversation");
        let response = scene.channel.get(&path).await;
        let is_open = response.status == 200 && response.body["state"] == "open";
        let at_bridge = is_open.then(|| response.body["id"].as_str().unwrap());
        if at_cloud != at_bridge || open.next().is_some() {
            let complaint =
                format!("{id}: open at the Cloud {at_cloud:?}, by the bridge {at_bridge:?}");
            self.breach(STATE_MISMATCH, complaint);
        }
        if life.erased_at.is_some() {
            let path = format!("/v1/users/{id}");
            let response = send(scene.channel.request(Method::GET, &path)).await;
            if response.status != 404 {
                self.complain(format!("{id} was erased and is {response:?}"));
            }
        }
    }
}

impl Arrived {
    fn of(scene: &Scene, conversations: &[&Conversation]) -> Self {
        let mut arrived = Self::default();
        let dialogs = conversations.iter().flat_map(|it| &it.dialogs);
        let events = dialogs.flat_map(|dialog| dialog.events.iter().map(move |it| (dialog, it)));
        let theirs = events.filter(|(_, event)| event.originator.role == Role::Consumer);
        for (index, (dialog, event)) in theirs.enumerate() {
            let content = &event.event;
            if content["type"] == "AcceptStatusEvent" {
                let numbers = content["sequenceList"].as_array().into_iter().flatten();
                let numbers = numbers.filter_map(Value::as_u64);
                arrived
                    .receipts
                    .extend(numbers.filter_map(|number| u32::try_from(number).ok()));
                continue;
            }
            let message = &content["message"];
            let label = message.as_str().or(message["caption"].as_str());
            let Some(label) = label else {
                continue;
            };
            let sequence = u64::try_from(event.sequence.unwrap()).unwrap();
            let echoed_at = scene.recording.echoed_at(&dialog.id, sequence);
            let copy = SentCopy::new(event.request_id.as_deref(), event.at, echoed_at);
            let message = arrived
                .messages
                .entry(label.to_owned())
                .or_insert_with(|| Message {
                    index,
                    copies: Vec::new(),
                    path: message["relativePath"].as_str().map(str::to_owned),
                });
            message.copies.push(copy);
        }
        arrived
    }
}

fn is_closed(conversations: &[&Conversation], id: &str, survey: bool) -> bool {
    let found = conversations.iter().find(|it| it.id == id);
    found.is_some_and(|it| it.stage == Stage::Close || survey && it.state == Stage::Close)
}

/// True if the conversation that was just closed has a rating. Also true if `closed` is `None`.
fn is_rated(conversations: &[&Conversation], closed: Option<&str>) -> bool {
    let found = conversations.iter().find(|it| Some(&*it.id) == closed);
    found.is_none_or(|it| it.csat.is_some())
}
