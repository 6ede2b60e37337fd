//! The echoes of users' messages from the simulated Cloud, with the times at which they were
//! accepted. The sandbox holds only its latest attempts, so they are recorded during the run.

use std::collections::HashMap;
use std::sync::Mutex;

use chrono::{DateTime, Utc};
use liveperson_bridge::sandbox::{Kind, Sandbox};
use serde_json::Value;

/// Echoes that were answered 200 or 201, by dialog and sequence.
#[derive(Debug, Default)]
pub(super) struct Recording(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    /// The last attempt that was recorded.
    last_attempt: u64,
    /// The time at which each echo was first accepted.
    echoes: HashMap<(String, u64), DateTime<Utc>>,
}

impl Recording {
    /// Records the attempts since the last call.
    pub(super) fn record(&self, sandbox: &Sandbox) {
        let mut state = self.0.lock().unwrap();
        for attempt in sandbox.notifications_after(state.last_attempt) {
            state.last_attempt = attempt.id;
            let is_accepted = matches!(attempt.status, Some(200 | 201));
            if !is_accepted || attempt.kind != Kind::Content {
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
                    state.echoes.entry(echo).or_insert(attempt.at);
                }
            }
        }
    }

    /// Returns the time at which the bridge accepted this message's echo; `None` if it never did.
    pub(super) fn echoed_at(&self, dialog: &str, sequence: u64) -> Option<DateTime<Utc>> {
        let state = self.0.lock().unwrap();
        state.echoes.get(&(dialog.to_owned(), sequence)).copied()
    }
}
