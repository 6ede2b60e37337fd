//! The record of what was reported to subscribers about each conversation. New notifications are
//! derived from it.
//!
//! Code that changes a conversation need not care about webhooks. When the lock on the state is
//! released (`state_guard`), each conversation that was handed out is compared with its record. The
//! differences become notifications. So no change can be missed, and changes are reported in the
//! order in which they were made.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use serde_json::Value;

use super::conversations::{Conversation, Dialog, Event, Stage};
use super::notification::{self, Notification, Times};

/// The records of all conversations.
#[derive(Debug, Default)]
pub(super) struct ReportedStates(HashMap<String, Reported>);

#[derive(Debug)]
struct Reported {
    /// The last reported state in full.
    state: Option<Value>,
    times: Times,
    dialogs: Vec<ReportedDialog>,
}

#[derive(Debug)]
struct ReportedDialog {
    state: Option<Value>,
    times: Times,
    /// The number of its events that were reported.
    events: usize,
}

/// The unreported changes of a conversation.
#[derive(Debug)]
pub(super) struct Unreported<'a> {
    conversation: &'a Conversation,
    /// The state in full, if it differs from the reported one.
    state: Option<Value>,
    /// The unreported events: dialog by dialog, each in the order of publishing.
    pub(super) events: Vec<(&'a Dialog, &'a Event)>,
}

impl ReportedStates {
    /// Returns the unreported changes of a conversation, and records them as reported.
    pub(super) fn take_unreported<'a>(
        &mut self,
        conversation: &'a Conversation,
        now: DateTime<Utc>,
    ) -> Unreported<'a> {
        let reported = self.0.entry(conversation.id.clone());
        let reported = reported.or_insert_with(|| Reported {
            state: None,
            times: starting(conversation.opened_at),
            dialogs: Vec::new(),
        });
        Unreported {
            conversation,
            state: reported.change(conversation, now),
            events: reported.events(conversation),
        }
    }
}

impl Reported {
    /// Returns the state if it differs from the reported one, and records it as reported.
    fn change(&mut self, conversation: &Conversation, now: DateTime<Utc>) -> Option<Value> {
        // The time of the update grows with each change, even if the clock does not move. A
        // receiver that gets two changes in the wrong order recognizes the newer one only by this
        // time.
        let updated = now.timestamp_millis().max(self.times.updated + 1);
        let started = if self.dialogs.is_empty() {
            conversation.opened_at
        } else {
            now
        };
        self.dialogs
            .resize_with(conversation.dialogs.len(), || ReportedDialog {
                state: None,
                times: starting(started),
                events: 0,
            });
        let dialogs = self.dialogs.iter_mut().zip(&conversation.dialogs);
        let dialogs: Vec<_> = dialogs
            .map(|(reported, dialog)| {
                let describe = |times| notification::dialog(conversation, dialog, times);
                end(&mut reported.times, dialog.state, now);
                update(&mut reported.state, &mut reported.times, updated, describe);
                reported.state.clone().unwrap_or_default()
            })
            .collect();
        let describe = |times| notification::details(conversation, times, &dialogs);
        end(&mut self.times, conversation.stage, now);
        let changed = update(&mut self.state, &mut self.times, updated, describe);
        self.state.clone().filter(|_| changed)
    }

    fn events<'a>(&mut self, conversation: &'a Conversation) -> Vec<(&'a Dialog, &'a Event)> {
        let mut new = Vec::new();
        for (reported, dialog) in self.dialogs.iter_mut().zip(&conversation.dialogs) {
            let events = dialog.events.iter().skip(reported.events);
            new.extend(events.map(|event| (dialog, event)));
            reported.events = dialog.events.len();
        }
        new
    }
}

impl Unreported<'_> {
    /// Returns the notifications in the Cloud's usual order: a conversation opens before anything
    /// is said in it, and closes afterwards.
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

/// Replaces a state by the result of `describe`, with `updated` as its time. True if the state
/// differs from the former one.
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
