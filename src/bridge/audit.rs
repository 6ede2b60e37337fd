//! What operators do is recorded: by the store with what is done, and in the log once it is.

use chrono::{DateTime, Utc};

use crate::bridge::{Bridge, Caller};
use crate::clock::Clock;
use crate::store::{self, Store};
use crate::types::audit::{Action, Actor, Entry, EntryId};

impl Bridge {
    /// What is to be recorded of something that the caller asks for.
    pub(super) fn entry(&self, caller: &Caller, now: DateTime<Utc>, action: Action) -> Entry {
        Entry {
            id: EntryId::new(self.parts.clock.uuid()),
            at: now,
            actor: caller.actor,
            channel_id: Some(caller.channel.id.clone()),
            action,
            request_id: Some(caller.trace.request_id().to_owned()),
        }
    }
}

/// Brings the schema up to date, and records it where that changed something.
///
/// # Errors
///
/// When a migration fails, those before it stay; when the database does not answer.
pub async fn migrate(store: &Store, actor: Actor, clock: &dyn Clock) -> Result<(), store::Error> {
    store.migrate().await?;
    if let Some(entry) = store.record_migration(actor, clock.now()).await? {
        tell(&entry);
    }
    Ok(())
}

/// Tells the log what was recorded.
pub(super) fn tell(entry: &Entry) {
    let record = entry.record();
    tracing::info!(
        target: "audit",
        entry = record.id,
        actor = record.actor,
        action = record.action,
        channel = record.channel,
        subject = record.subject,
        details = %record.details,
        request_id = record.request_id,
        "recorded"
    );
}
