//! Counting: what the Cloud has, what the channel was told, and what of it broke a promise.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::time::Duration;

use chrono::{DateTime, Utc};
use liveperson_bridge::sandbox::{Conversation, Role};
use serde_json::Value;

use super::agents::Written;
use super::chaos::Broken;
use super::scene::Scene;
use super::users::{Said, User};

/// The figures of a run, and each promise that was broken.
#[derive(Debug, Default)]
pub(super) struct Verdict {
    figures: Vec<(String, String)>,
    pub(super) complaints: Vec<String>,
    lost: usize,
    doubled: usize,
    inverted: usize,
}

impl Verdict {
    /// Counts after everything is drained.
    pub(super) async fn of(
        scene: &Scene,
        broken: &Broken,
        users: &[User],
        agents: &[Written],
        drained: Option<Duration>,
    ) -> Self {
        let mut verdict = Self::default();
        if drained.is_none() {
            verdict.complain("it did not drain".to_owned());
        }
        let conversations = scene.sandbox.conversations();
        for user in users {
            verdict.complaints.extend(user.complaints.iter().cloned());
            verdict.judge_user(user, &conversations);
        }
        let log = read_log(scene).await;
        let (told, repeats, refused) = scene.callbacks.read(|ledger| {
            let complaints = ledger.complaints.iter().cloned();
            verdict.complaints.extend(complaints);
            (ledger.events.clone(), ledger.repeats, ledger.refused)
        });
        for (place, events) in [("the callback", &told), ("the log", &log)] {
            verdict.judge_events(place, events, users, agents);
        }
        verdict.compare(&told, &log);
        verdict.judge_queued(scene, users).await;
        verdict.count(scene, broken, users, agents, drained, &conversations);
        verdict.figure("callbacks", told.len() + repeats);
        verdict.figure("repeats of callbacks", repeats);
        verdict.figure("callbacks answered 503", refused);
        let (lost, doubled, inverted) = (verdict.lost, verdict.doubled, verdict.inverted);
        verdict.figure("lost", lost);
        verdict.figure("doubled", doubled);
        verdict.figure("inverted", inverted);
        verdict
    }

    /// What a user wrote against what the Cloud has of it.
    fn judge_user(&mut self, user: &User, conversations: &[Conversation]) {
        let id = &user.id;
        let mine: Vec<_> = conversations.iter().filter(|it| is_of(it, id)).collect();
        if mine.len() != 1 {
            self.complain(format!("{id} has {} conversations", mine.len()));
        }
        let there: Vec<_> = mine.iter().flat_map(|it| texts_of_user(it)).collect();
        let mut places = HashMap::<&str, Vec<usize>>::new();
        for (place, (text, _)) in there.iter().enumerate() {
            places.entry(text).or_default().push(place);
        }
        let mut last: Option<(usize, &str)> = None;
        for said in &user.said {
            let text = said.text.as_str();
            let places = places.remove(text).unwrap_or_default();
            if places.len() > 1 {
                self.doubled += 1;
                let times: Vec<_> = places.iter().map(|place| there[*place].1).collect();
                self.complain(format!(
                    "{id}: `{text}` came to the Cloud at {times:?}: {said:?}"
                ));
            }
            if said.taken.is_empty() {
                continue;
            }
            match (places.first(), last) {
                (None, _) => {
                    self.lost += 1;
                    self.complain(format!("{id}: `{text}` is not at the Cloud: {said:?}"));
                }
                (Some(place), Some((before, earlier))) if *place < before => {
                    self.inverted += 1;
                    self.complain(format!("{id}: `{text}` stands before `{earlier}`"));
                }
                (Some(place), _) => last = Some((*place, text)),
            }
            self.judge_key(id, said);
        }
        for text in places.keys() {
            self.complain(format!("{id}: nobody wrote `{text}`"));
        }
    }

    fn judge_key(&mut self, id: &str, said: &Said) {
        let ids: BTreeSet<_> = said.taken.iter().map(|it| &it.message_id).collect();
        if ids.len() > 1 {
            self.complain(format!("{id}: one key, several messages: {said:?}"));
        }
    }

    /// What the channel was told of agents' texts and of what had been queued.
    fn judge_events(&mut self, place: &str, events: &[Value], users: &[User], agents: &[Written]) {
        let mut texts = HashMap::<&str, Vec<&str>>::new();
        let mut sent = HashMap::<&str, usize>::new();
        for event in events {
            let data = &event["data"];
            match event["type"].as_str().unwrap() {
                "message.created" if data["sender"]["role"] == "agent" => {
                    let user = event["user_id"].as_str().unwrap();
                    let text = data["text"].as_str().unwrap();
                    texts.entry(user).or_default().push(text);
                }
                "message.sent" => *sent.entry(data["id"].as_str().unwrap()).or_default() += 1,
                "message.failed" => self.complain(format!("{place}: {event}")),
                _ => {}
            }
        }
        for agent in agents {
            let told = texts.remove(agent.user_id.as_str()).unwrap_or_default();
            self.judge_agent(place, agent, &told);
        }
        for (user, texts) in texts {
            self.complain(format!("{place}: {user} was told {texts:?} by nobody"));
        }
        for (user, said, message_id) in queued(users) {
            let times = sent.get(message_id).copied().unwrap_or_default();
            if times != 1 {
                self.complain(format!(
                    "{place}: {user} was told {times} times that `{}` was sent",
                    said.text
                ));
            }
        }
    }

    fn judge_agent(&mut self, place: &str, agent: &Written, told: &[&str]) {
        let user = &agent.user_id;
        let mut places = HashMap::<&str, usize>::new();
        for (number, text) in told.iter().enumerate() {
            if places.insert(text, number).is_some() {
                self.doubled += 1;
                self.complain(format!("{place}: {user} was told `{text}` more than once"));
            }
        }
        let mut last: Option<(usize, &str)> = None;
        for text in &agent.texts {
            match (places.remove(text.as_str()), last) {
                (None, _) => {
                    self.lost += 1;
                    self.complain(format!("{place}: {user} was never told `{text}`"));
                }
                (Some(number), Some((before, earlier))) if number < before => {
                    self.inverted += 1;
                    self.complain(format!("{place}: {user}: `{text}` before `{earlier}`"));
                }
                (Some(number), _) => last = Some((number, text)),
            }
        }
        for text in places.keys() {
            self.complain(format!("{place}: {user} was told `{text}` by nobody"));
        }
    }

    /// The callback was told all that the log says, and nothing else.
    fn compare(&mut self, told: &[Value], log: &[Value]) {
        let by_id = |events: &[Value]| -> BTreeMap<String, Value> {
            let id = |event: &Value| event["id"].as_str().unwrap().to_owned();
            let events = events.iter();
            events.map(|event| (id(event), event.clone())).collect()
        };
        let (told, logged) = (by_id(told), by_id(log));
        if logged.len() != log.len() {
            self.complain("the log has two events of one id".to_owned());
        }
        for (id, event) in &logged {
            if told.get(id) != Some(event) {
                self.complain(format!("the callback was not told {event} of the log"));
            }
        }
        for (id, event) in &told {
            if !logged.contains_key(id) {
                self.complain(format!("the callback was told {event}, not in the log"));
            }
        }
    }

    /// What was answered 202 has been sent.
    async fn judge_queued(&mut self, scene: &Scene, users: &[User]) {
        for (user, said, message_id) in queued(users) {
            let location = format!("/v1/messages/{message_id}");
            let shown = scene.channel.get(&location).await;
            if shown.status != 200 || shown.body["status"] != "sent" {
                let body = &shown.body;
                self.complain(format!("{user}: `{}` was queued and is {body}", said.text));
            }
        }
    }

    fn count(
        &mut self,
        scene: &Scene,
        broken: &Broken,
        users: &[User],
        agents: &[Written],
        drained: Option<Duration>,
        conversations: &[Conversation],
    ) {
        let said: Vec<_> = users.iter().flat_map(|user| &user.said).collect();
        let answered = |status| {
            let taken = said.iter().flat_map(|said| &said.taken);
            taken.filter(|taken| taken.status == status).count()
        };
        let requests: usize = said.iter().map(|said| said.requests).sum();
        self.figure("seed", scene.settings.seed);
        self.figure("seconds", scene.settings.duration.as_secs());
        self.figure("users", users.len());
        self.figure("replicas killed", broken.kills);
        self.figure("database crashes", broken.database_crashes);
        for (kind, times) in &broken.by_kind {
            self.figure(kind, times);
        }
        self.figure("texts written", said.len());
        self.figure("requests", requests);
        self.figure("answered 201", answered(201));
        self.figure("answered 202", answered(202));
        self.figure("repeats under a key", requests - said.len());
        let there = conversations.iter().flat_map(texts_of_user).count();
        self.figure("texts at the Cloud", there);
        let written: usize = agents.iter().map(|agent| agent.texts.len()).sum();
        self.figure("agents' texts", written);
        let drained = drained.map_or("never".to_owned(), |it| format!("{:.1}", it.as_secs_f64()));
        self.figure("seconds to drain", drained);
    }

    fn figure(&mut self, name: &str, value: impl fmt::Display) {
        self.figures.push((name.to_owned(), format!("{value}")));
    }

    fn complain(&mut self, complaint: String) {
        self.complaints.push(complaint);
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, value) in &self.figures {
            writeln!(f, "{name:>36}  {value}")?;
        }
        Ok(())
    }
}

fn is_of(conversation: &Conversation, user_id: &str) -> bool {
    let consumer = &conversation.consumer.ext_consumer_id;
    consumer.strip_prefix("sms:") == Some(user_id)
}

/// What the user wrote in a conversation, in the order in which the Cloud has it, and when it came.
fn texts_of_user(conversation: &Conversation) -> impl Iterator<Item = (&str, DateTime<Utc>)> {
    let dialogs = conversation.dialogs.iter();
    let events = dialogs.flat_map(|dialog| &dialog.events);
    let theirs = events.filter(|event| event.originator.role == Role::Consumer);
    theirs.filter_map(|event| Some((event.event["message"].as_str()?, event.at)))
}

/// What was answered 202: the user, the text, the message's id; each once.
fn queued(users: &[User]) -> impl Iterator<Item = (&str, &Said, &str)> {
    users.iter().flat_map(|user| {
        user.said.iter().filter_map(|said| {
            let taken = said.taken.iter().find(|taken| taken.status == 202)?;
            Some((user.id.as_str(), said, taken.message_id.as_str()))
        })
    })
}

/// The channel's log from its beginning to its end.
async fn read_log(scene: &Scene) -> Vec<Value> {
    let mut events = Vec::new();
    let mut path = "/v1/events?limit=1000".to_owned();
    loop {
        let page = scene.channel.get(&path).await.expect(200);
        let new = page["events"].as_array().unwrap().clone();
        if new.is_empty() {
            return events;
        }
        events.extend(new);
        let next = page["next"].as_str().unwrap();
        path = format!("/v1/events?limit=1000&after={next}");
    }
}
