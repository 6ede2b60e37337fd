//! What operators do is recorded: by the store with what is done, and in the log once it is.

use chrono::{DateTime, Utc};

use crate::bridge::{Bridge, Caller};
use crate::clock::Clock;
use crate::store::{self, Store};
use crate::types::audit::{Action, Actor, Entry, EntryId};
use crate::types::ids::ChannelId;
use crate::types::trace::Trace;

impl Bridge {
    /// What is to be recorded of something that the caller asks for.
    pub(super) fn entry(&self, caller: &Caller, now: DateTime<Utc>, action: Action) -> Entry {
        self.entry_by(caller.actor, &caller.channel.id, &caller.trace, now, action)
    }

    /// The same of somebody who need be no channel's.
    pub(super) fn entry_by(
        &self,
        actor: Actor,
        channel_id: &ChannelId,
        trace: &Trace,
        now: DateTime<Utc>,
        action: Action,
    ) -> Entry {
        Entry {
            id: EntryId::new(self.parts.clock.uuid()),
            at: now,
            actor,
            channel_id: Some(channel_id.clone()),
            action,
            request_id: Some(trace.request_id().to_owned()),
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
