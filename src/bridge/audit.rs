//! Audit entries. The store writes an entry together with the action; afterwards it is logged.

use chrono::{DateTime, Utc};

use crate::bridge::{Bridge, Caller};
use crate::clock::Clock;
use crate::store::{self, Store};
use crate::types::audit::{Action, Actor, Entry, EntryId};
use crate::types::ids::ChannelId;
use crate::types::trace::Trace;

impl Bridge {
    /// Builds the audit entry of an action of the caller.
    pub(super) fn entry(&self, caller: &Caller, now: DateTime<Utc>, action: Action) -> Entry {
        self.entry_by(caller.actor, &caller.channel.id, &caller.trace, now, action)
    }

    /// Builds the audit entry of an action on a channel, by any actor.
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

/// Migrates the schema, and records that in the audit log if it changed anything.
///
/// # Errors
///
/// If a migration fails, in which case the earlier ones stay applied; if the database is
/// unavailable.
pub async fn migrate(store: &Store, actor: Actor, clock: &dyn Clock) -> Result<(), store::Error> {
    store.migrate().await?;
    if let Some(entry) = store.record_migration(actor, clock.now()).await? {
        log(&entry);
    }
    Ok(())
}

/// Logs an entry that was stored.
pub(super) fn log(entry: &Entry) {
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
        "audit entry recorded"
    );
}
