//! What the simulated Cloud told back of users' messages, and when it was taken: it keeps its latest attempts alone, so that
//! they are looked at while the run goes on.

use std::collections::HashMap;
use std::sync::Mutex;

use chrono::{DateTime, Utc};
use liveperson_bridge::sandbox::{Kind, Sandbox};
use serde_json::Value;

/// Echoes that were answered 200, each by its dialog and its number there.
#[derive(Debug, Default)]
pub(super) struct Recording(Mutex<Taken>);

#[derive(Debug, Default)]
struct Taken {
    /// The last attempt that was looked at.
    seen: u64,
    /// When an echo was first taken.
    echoes: HashMap<(String, u64), DateTime<Utc>>,
}

impl Recording {
    /// Notes what was told since the last time.
    pub(super) fn note(&self, sandbox: &Sandbox) {
        let mut taken = self.0.lock().unwrap();
        for attempt in sandbox.notifications_after(taken.seen) {
            taken.seen = attempt.id;
            let is_taken = matches!(attempt.status, Some(200 | 201));
            if !is_taken || attempt.kind != Kind::Content {
                continue;
            }
            let body: Value = serde_json::from_str(&attempt.body).unwrap_or_default();
            let changes = body["body"]["changes"].as_array();
            for change in changes.into_iter().flatten() {
                if change["originatorMetadata"]["role"] == "CONSUMER"
                    && let (Some(dialog), Some(sequence)) =
                        (change["dialogId"].as_str(), change["sequence"].as_u64())
                {
                    let echo = (dialog.to_owned(), sequence);
                    taken.echoes.entry(echo).or_insert(attempt.at);
                }
            }
        }
    }

    /// When the bridge was told that this message is there; `None` where it never was.
    pub(super) fn told_at(&self, dialog: &str, sequence: u64) -> Option<DateTime<Utc>> {
        let taken = self.0.lock().unwrap();
        taken.echoes.get(&(dialog.to_owned(), sequence)).copied()
    }
}
