//! What subscribers were told of each conversation, and hence what is new to them.
//!
//! Whoever changes a conversation need not think of webhooks: when the lock on the state is released (`held`), each
//! conversation that was handed out is compared with what was told of it, and the difference becomes notifications. So
//! nothing can be forgotten, and the order in which changes were made is the order in which they are told.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::conversations::{Conversation, Dialog, Event, Stage};
use super::notification::{self, Notification, Times};

/// What was told of every conversation.
#[derive(Debug, Default)]
pub(super) struct Announcements(HashMap<String, Told>);

#[derive(Debug)]
struct Told {
    /// The state that was told last, whole.
    state: Option<Value>,
    times: Times,
    dialogs: Vec<ToldDialog>,
}

#[derive(Debug)]
struct ToldDialog {
    state: Option<Value>,
    times: Times,
    /// How many of its events were told.
    events: usize,
}

/// What is new of a conversation.
#[derive(Debug)]
pub(super) struct News<'a> {
    conversation: &'a Conversation,
    /// Its whole state, if that is another.
    state: Option<Value>,
    /// What was published, in the order of its publishing.
    pub(super) events: Vec<(&'a Dialog, &'a Event)>,
}

impl Announcements {
    /// Compares a conversation with what was told of it, and takes it for told.
    pub(super) fn news<'a>(
        &mut self,
        conversation: &'a Conversation,
        now: DateTime<Utc>,
    ) -> News<'a> {
        let told = self.0.entry(conversation.id.clone());
        let told = told.or_insert_with(|| Told {
            state: None,
            times: starting(conversation.opened_at),
            dialogs: Vec::new(),
        });
        News {
            conversation,
            state: told.change(conversation, now),
            events: told.events(conversation),
        }
    }
}

impl Told {
    /// The state, if it is another than was told.
    fn change(&mut self, conversation: &Conversation, now: DateTime<Utc>) -> Option<Value> {
        // It grows with each change, also when the clock stands still: who gets two changes in the wrong order has
        // nothing else to tell the newer by.
        let updated = now.timestamp_millis().max(self.times.updated + 1);
        let started = if self.dialogs.is_empty() {
            conversation.opened_at
        } else {
            now
        };
        self.dialogs
            .resize_with(conversation.dialogs.len(), || ToldDialog {
                state: None,
                times: starting(started),
                events: 0,
            });
        let dialogs = self.dialogs.iter_mut().zip(&conversation.dialogs);
        let dialogs: Vec<_> = dialogs
            .map(|(told, dialog)| {
                let describe = |times| notification::dialog(conversation, dialog, times);
                end(&mut told.times, dialog.state, now);
                update(&mut told.state, &mut told.times, updated, describe);
                told.state.clone().unwrap_or_default()
            })
            .collect();
        let describe = |times| notification::details(conversation, times, &dialogs);
        end(&mut self.times, conversation.stage, now);
        let changed = update(&mut self.state, &mut self.times, updated, describe);
        self.state.clone().filter(|_| changed)
    }

    fn events<'a>(&mut self, conversation: &'a Conversation) -> Vec<(&'a Dialog, &'a Event)> {
        let mut new = Vec::new();
        for (told, dialog) in self.dialogs.iter_mut().zip(&conversation.dialogs) {
            let events = dialog.events.iter().skip(told.events);
            new.extend(events.map(|event| (dialog, event)));
            told.events = dialog.events.len();
        }
        new
    }
}

impl News<'_> {
    /// In the order in which the Cloud usually tells them: a conversation opens before anything is said in it, and
    /// closes after.
    pub(super) fn notifications(&self) -> Vec<Notification> {
        let conversation = self.conversation;
        let published = self.events.iter();
        let published =
            published.map(|(dialog, event)| Notification::published(conversation, dialog, event));
        let changed = self.state.as_ref();
        let changed = changed.map(|state| Notification::changed(conversation, state));
        match conversation.stage {
            Stage::Open => changed.into_iter().chain(published).collect(),
            Stage::Close => published.chain(changed).collect(),
        }
    }
}

/// Replaces a state by what `describe` makes of it; an update has its time. Says whether it is another.
fn update(
    state: &mut Option<Value>,
    times: &mut Times,
    updated: i64,
    describe: impl Fn(Times) -> Value,
) -> bool {
    let changed = state.as_ref() != Some(&describe(*times));
    if changed {
        times.updated = updated;
        *state = Some(describe(*times));
    }
    changed
}

fn starting(at: DateTime<Utc>) -> Times {
    Times {
        started: at.timestamp_millis(),
        ended: None,
        updated: 0,
    }
}

fn end(times: &mut Times, stage: Stage, now: DateTime<Utc>) {
    if stage == Stage::Close {
        times.ended.get_or_insert(now.timestamp_millis());
    }
}
