//! The comparison of the callback's events and the event log with the agents' messages and the
//! queued requests.

use std::collections::{BTreeMap, HashMap, HashSet};

use chrono::TimeDelta;
use reqwest::Method;

use super::{AFTER_ERASURE, INVERTED, LOST, NOT_ALLOWED, Verdict, queued};
use crate::crash::agents::Written;
use crate::crash::deeds::{Life, What, content_of};
use crate::crash::events::{Event, Matter};
use crate::crash::scene::Scene;

/// 1 s: signatures have whole seconds, and an answer takes a moment to arrive.
const SLACK: TimeDelta = TimeDelta::seconds(1);

/// The position of a text's event, and the file in it.
struct Place<'a> {
    number: usize,
    file: Option<&'a str>,
}

impl Verdict {
    pub(super) async fn judge_told(&mut self, scene: &Scene, lives: &[Life], written: &[Written]) {
        let log = read_log(scene).await;
        let (told, last_sent) = scene.callbacks.read(|ledger| {
            self.complaints.extend(ledger.complaints.iter().cloned());
            self.counted
                .add("callbacks", ledger.events.len() + ledger.repeats);
            self.counted.add("repeats of callbacks", ledger.repeats);
            self.counted.add("callbacks answered 503", ledger.refused);
            (ledger.events.clone(), ledger.last_sent.clone())
        });
        // The events of erased users are deleted, and some may have been in flight.
        let ended = lives.iter().filter(|life| life.is_ending);
        let ended: HashSet<_> = ended.map(|life| life.user_id.as_str()).collect();
        for (place, events) in [("the callback", &told), ("the log", &log)] {
            self.judge_words(place, events, written, &ended);
            self.judge_outcomes(place, events, lives);
        }
        self.compare(&told, &log, &ended);
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
                let complaint = format!("{id} was erased at {erased_at}, and told of at {last}");
                self.breach(AFTER_ERASURE, complaint);
            }
        }
        self.judge_files(scene, &log, written, &ended).await;
    }

    /// Checks that each message of an agent is delivered once, and in order within a conversation.
    fn judge_words(
        &mut self,
        place: &str,
        events: &[Event],
        written: &[Written],
        ended: &HashSet<&str>,
    ) {
        let mut places = HashMap::<&str, Place<'_>>::new();
        for (number, event) in events.iter().enumerate() {
            let Matter::Written { text, file, .. } = &event.matter else {
                continue;
            };
            let told = Place {
                number,
                file: file.as_deref(),
            };
            if places.insert(text, told).is_some() {
                let user = &event.user_id;
                self.breach(
                    NOT_ALLOWED,
                    format!("{place}: {user} was told `{text}` twice"),
                );
            }
        }
        let mut last = HashMap::<&str, (usize, &str)>::new();
        for Written {
            seat,
            text,
            is_file,
        } in written
        {
            let Some(told) = places.remove(text.as_str()) else {
                if !ended.contains(seat.user_id.as_str()) {
                    self.breach(LOST, format!("{place}: {seat:?} was never told `{text}`"));
                }
                continue;
            };
            if told.file.is_some() != *is_file {
                self.complain(format!(
                    "{place}: {seat:?} was told `{text}` without its file"
                ));
            }
            match last.get(seat.conversation.as_str()) {
                Some((before, earlier)) if told.number < *before => {
                    self.breach(
                        INVERTED,
                        format!("{place}: {seat:?}: `{text}` before `{earlier}`"),
                    );
                }
                _ => {
                    last.insert(&seat.conversation, (told.number, text));
                }
            }
        }
        for text in places.keys() {
            self.complain(format!("{place}: `{text}` was written by nobody"));
        }
    }

    /// Checks that the outcome of each queued request is reported once.
    fn judge_outcomes(&mut self, place: &str, events: &[Event], lives: &[Life]) {
        let mut outcomes = HashMap::<&str, usize>::new();
        for event in events {
            if let Matter::Sent(id) | Matter::Failed(id, _) = &event.matter {
                *outcomes.entry(id).or_default() += 1;
            }
        }
        let queued = queued(lives);
        for event in events {
            let Matter::Failed(id, code) = &event.matter else {
                continue;
            };
            let deed = queued.get(id.as_str());
            // The answer with this id may have been lost.
            let may_fail = deed.map_or_else(
                || What::may_any_fail_for(code),
                |(_, deed)| deed.what.may_fail_for(code),
            );
            if !may_fail {
                self.complain(format!("{place}: {id} failed, {code}: {deed:?}"));
            }
        }
        for (id, (life, deed)) in queued {
            let times = outcomes.get(id).copied().unwrap_or_default();
            if times != 1 && !(life.is_ending && times == 0) {
                let user = &life.user_id;
                self.complain(format!(
                    "{place}: {user} was told {times} times what became of {deed:?}"
                ));
            }
        }
    }

    /// Checks that the callback received exactly the events of the log.
    fn compare(&mut self, told: &[Event], log: &[Event], ended: &HashSet<&str>) {
        let by_id = |events: &[Event]| -> BTreeMap<String, u64> {
            let events = events.iter();
            let stay = events.filter(|event| !ended.contains(event.user_id.as_str()));
            stay.map(|event| (event.id.clone(), event.digest)).collect()
        };
        let (told, logged) = (by_id(told), by_id(log));
        for (id, digest) in &logged {
            if told.get(id) != Some(digest) {
                self.complain(format!("the callback was not told {id} of the log"));
            }
        }
        for id in told.keys().filter(|id| !logged.contains_key(*id)) {
            self.complain(format!("the callback was told {id}, not in the log"));
        }
    }

    /// Checks that agents' files can be fetched with their content.
    async fn judge_files(
        &mut self,
        scene: &Scene,
        log: &[Event],
        written: &[Written],
        ended: &HashSet<&str>,
    ) {
        let mut files = HashMap::<&str, &str>::new();
        for event in log {
            if let Matter::Written { text, file, .. } = &event.matter {
                files.extend(file.as_ref().map(|file| (text.as_str(), file.as_str())));
            }
        }
        for Written { seat, text, .. } in written.iter().filter(|it| it.is_file) {
            let user = seat.user_id.as_str();
            let Some(file) = files.get(text.as_str()).filter(|_| !ended.contains(user)) else {
                continue;
            };
            let path = format!("/v1/users/{user}/files/{file}");
            let fetched = scene.channel.request(Method::GET, &path).send().await;
            let content = fetched.unwrap().bytes().await.unwrap();
            if content != content_of(text) {
                self.complain(format!("{user}: the bytes of `{text}` are others"));
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
