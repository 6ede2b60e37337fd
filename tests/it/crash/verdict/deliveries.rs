//! The comparison of the callback's events and the event log with the agents' messages and the
//! queued requests.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::TimeDelta;
use reqwest::Method;

use super::{AFTER_ERASURE, INVERTED, LOST, NOT_ALLOWED, Verdict, queued};
use crate::crash::actions::{Action, Life, content_of};
use crate::crash::agents::Written;
use crate::crash::events::{Content, Event};
use crate::crash::scene::Scene;

/// 1 s: signatures have whole seconds, and an answer takes a moment to arrive.
const SLACK: TimeDelta = TimeDelta::seconds(1);

/// The position of a text's event, and the file in it.
struct EventPosition<'a> {
    number: usize,
    file: Option<&'a str>,
}

impl Verdict {
    pub(super) async fn judge_deliveries(
        &mut self,
        scene: &Scene,
        lives: &[Life],
        written: &[Written],
    ) {
        let log = read_log(scene).await;
        let (delivered, last_sent) = scene.callbacks.read(|ledger| {
            self.complaints.extend(ledger.complaints.iter().cloned());
            self.counts
                .add("callbacks", ledger.events.len() + ledger.repeats);
            self.counts.add("repeats of callbacks", ledger.repeats);
            self.counts.add("callbacks answered 503", ledger.refused);
            (ledger.events.clone(), ledger.last_sent.clone())
        });
        // The events of erased users are deleted, and some may have been in flight.
        let erased = lives.iter().filter(|life| life.is_ending);
        let erased: HashSet<_> = erased.map(|life| life.user_id.as_str()).collect();
        for (source, events) in [("the callback", &delivered), ("the log", &log)] {
            self.judge_messages(source, events, written, &erased);
            self.judge_outcomes(source, events, lives);
        }
        self.compare(&delivered, &log, &erased);
        for life in lives {
            let Some(erased_at) = life.erased_at else {
                continue;
            };
            let id = life.user_id.as_str();
            if log.iter().any(|event| event.user_id == id) {
                self.breach(AFTER_ERASURE, format!("{id} was erased and is in the log"));
            }
            let last = last_sent.get(id);
            if let Some(last) = last.filter(|last| **last > erased_at + SLACK) {
                let complaint = format!("{id}: erased at {erased_at}, and an event sent at {last}");
                self.breach(AFTER_ERASURE, complaint);
            }
        }
        self.judge_files(scene, &log, written, &erased).await;
    }

    /// Checks that each message of an agent is delivered once, and in order within a conversation.
    fn judge_messages(
        &mut self,
        source: &str,
        events: &[Event],
        written: &[Written],
        erased: &HashSet<&str>,
    ) {
        let mut positions = HashMap::<&str, EventPosition<'_>>::new();
        for (number, event) in events.iter().enumerate() {
            let Content::Written { text, file, .. } = &event.content else {
                continue;
            };
            let position = EventPosition {
                number,
                file: file.as_deref(),
            };
            if positions.insert(text, position).is_some() {
                let user = &event.user_id;
                self.breach(
                    NOT_ALLOWED,
                    format!("{source}: {user} received `{text}` twice"),
                );
            }
        }
        let mut last = HashMap::<&str, (usize, &str)>::new();
        for Written {
            assignment,
            text,
            is_file,
        } in written
        {
            let Some(position) = positions.remove(text.as_str()) else {
                if !erased.contains(assignment.user_id.as_str()) {
                    self.breach(
                        LOST,
                        format!("{source}: {assignment:?} never received `{text}`"),
                    );
                }
                continue;
            };
            if position.file.is_some() != *is_file {
                self.complain(format!(
                    "{source}: {assignment:?} received `{text}` without its file"
                ));
            }
            match last.get(assignment.conversation.as_str()) {
                Some((before, earlier)) if position.number < *before => {
                    self.breach(
                        INVERTED,
                        format!("{source}: {assignment:?}: `{text}` before `{earlier}`"),
                    );
                }
                _ => {
                    last.insert(&assignment.conversation, (position.number, text));
                }
            }
        }
        for text in positions.keys() {
            self.complain(format!("{source}: `{text}` was never written"));
        }
    }

    /// Checks that the outcome of each queued request is reported once.
    fn judge_outcomes(&mut self, source: &str, events: &[Event], lives: &[Life]) {
        let mut outcomes = HashMap::<&str, usize>::new();
        for event in events {
            if let Content::Sent(id) | Content::Failed(id, _) = &event.content {
                *outcomes.entry(id).or_default() += 1;
            }
        }
        let queued = queued(lives);
        for event in events {
            let Content::Failed(id, code) = &event.content else {
                continue;
            };
            let user_action = queued.get(id.as_str());
            // The answer with this id may have been lost.
            let may_fail = user_action.map_or_else(
                || Action::may_any_fail_for(code),
                |(_, user_action)| user_action.action.may_fail_for(code),
            );
            if !may_fail {
                self.complain(format!("{source}: {id} failed, {code}: {user_action:?}"));
            }
        }
        for (id, (life, user_action)) in queued {
            let times = outcomes.get(id).copied().unwrap_or_default();
            if times != 1 && !(life.is_ending && times == 0) {
                let user = &life.user_id;
                self.complain(format!(
                    "{source}: {user} received {times} outcomes of {user_action:?}"
                ));
            }
        }
    }

    /// Checks that the callback received exactly the events of the log.
    fn compare(&mut self, delivered: &[Event], log: &[Event], erased: &HashSet<&str>) {
        let by_id = |events: &[Event]| -> BTreeMap<String, u64> {
            let events = events.iter();
            let remaining = events.filter(|event| !erased.contains(event.user_id.as_str()));
            remaining
                .map(|event| (event.id.clone(), event.digest))
                .collect()
        };
        let (delivered, logged) = (by_id(delivered), by_id(log));
        for (id, digest) in &logged {
            if delivered.get(id) != Some(digest) {
                self.complain(format!("the callback did not receive {id} of the log"));
            }
        }
        for id in delivered.keys().filter(|id| !logged.contains_key(*id)) {
            self.complain(format!("the callback received {id}, not in the log"));
        }
    }

    /// Checks that agents' files can be fetched with their content.
    async fn judge_files(
        &mut self,
        scene: &Scene,
        log: &[Event],
        written: &[Written],
        erased: &HashSet<&str>,
    ) {
        let mut files = HashMap::<&str, &str>::new();
        for event in log {
            if let Content::Written { text, file, .. } = &event.content {
                files.extend(file.as_ref().map(|file| (text.as_str(), file.as_str())));
            }
        }
        for Written {
            assignment, text, ..
        } in written.iter().filter(|it| it.is_file)
        {
            let user = assignment.user_id.as_str();
            let Some(file) = files.get(text.as_str()).filter(|_| !erased.contains(user)) else {
                continue;
            };
            let path = format!("/v1/users/{user}/files/{file}");
            let fetched = scene.channel.request(Method::GET, &path).send().await;
            let content = fetched.unwrap().bytes().await.unwrap();
            if content != content_of(text) {
                self.complain(format!("{user}: the bytes of `{text}` differ"));
            }
        }
    }
}

/// Reads the channel's event log from beginning to end.
async fn read_log(scene: &Scene) -> Vec<Event> {
    let mut events = Vec::new();
    let mut path = "/v1/events?limit=1000".to_owned();
    loop {
        let page = scene.channel.get(&path).await.expect(200);
        let new = page["events"].as_array().unwrap();
        if new.is_empty() {
            return events;
        }
        events.extend(new.iter().map(Event::read));
        let next = page["next"].as_str().unwrap();
        path = format!("/v1/events?limit=1000&after={next}");
    }
}
