//! The Cloud's notifications of the doctor's own conversations, as the installation stores them.
//!
//! The bridge stores changes of conversations that it does not know (`unmatched_changes`),
//! whichever replica gets them. The doctor reads them there. While no service runs on this machine,
//! the doctor listens in its place, with the same components and into the same database.
//! Notifications of real conversations that arrive meanwhile are stored for the service.

use std::io::ErrorKind;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context as _, bail};
use chrono::{DateTime, Utc};
use tokio::net::TcpListener;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Interrupted;
use crate::app::{self, NotificationServer};
use crate::bridge;
use crate::clock::{Clock, SharedClock};
use crate::config::Config;
use crate::lifecycle::Lifecycle;
use crate::store::{self, DatabaseInfo, Store, UnmatchedChange};
use crate::types::audit::Actor;
use crate::types::ids::{AccountId, ConversationId};
use crate::types::rejection::Rejection;
use crate::webhooks::wire;

/// 100 ms: the interval of reading the database while waiting for a change.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// The access to the notifications that the installation receives.
#[derive(Debug)]
pub(super) struct Notifications {
    store: Store,
    /// True if the database may only be read.
    read_only: bool,
    /// The doctor's own listener, if it has one.
    listener: Option<Listener>,
}

#[derive(Debug)]
struct Listener {
    address: SocketAddr,
    stop: CancellationToken,
}

/// A change that arrived.
#[derive(Debug)]
pub(super) struct Arrived {
    pub(super) change: wire::Change,
    pub(super) signed: Option<String>,
    pub(super) received_at: DateTime<Utc>,
}

impl Notifications {
    /// Opens the database, and listens unless a service does.
    pub(super) async fn begin(
        config: &Config,
        clock: &SharedClock,
        life: &Lifecycle,
    ) -> anyhow::Result<Self> {
        let location = app::location(&config.database);
        let store = match Store::connect(&location).await {
            Err(store::Error::InUse { .. }) => Store::connect_read_only(&location).await,
            connected => connected,
        }
        .context("the database cannot be opened")?;
        match Self::start(&store, config, clock, life).await {
            Ok(notifications) => Ok(notifications),
            Err(error) => {
                store.close().await;
                Err(error)
            }
        }
    }

    async fn start(
        store: &Store,
        config: &Config,
        clock: &SharedClock,
        life: &Lifecycle,
    ) -> anyhow::Result<Self> {
        let info = store.inspect().await?;
        prepare_schema(store, &info, &**clock).await?;
        let listener = if info.is_in_use {
            None
        } else {
            match TcpListener::bind(config.listen).await {
                Ok(listener) => Some(listener),
                // A service is listening. With the embedded database, `info.is_in_use` would have
                // shown a service, so another program has the address, which is an error.
                Err(error)
                    if error.kind() == ErrorKind::AddrInUse && config.database.url.is_some() =>
                {
                    None
                }
                Err(error) => {
                    return Err(error)
                        .with_context(|| format!("cannot listen on {}", config.listen));
                }
            }
        };
        let listener = match listener {
            Some(listener) => {
                let address = listener.local_addr()?;
                let server = NotificationServer::new(config, store, clock, life);
                let stop = CancellationToken::new();
                life.tasks()
                    .spawn(server.serve(listener, stop.clone().cancelled_owned()));
                Some(Listener { address, stop })
            }
            None => None,
        };
        Ok(Self {
            store: store.clone(),
            read_only: info.is_in_use,
            listener,
        })
    }

    /// Describes the source of the notifications.
    pub(super) fn source(&self) -> String {
        match &self.listener {
            Some(Listener { address, .. }) => {
                format!("the doctor listens on {address}, since no service on this machine does")
            }
            None if self.read_only => {
                "read from the embedded database of the running service".to_owned()
            }
            None => "read from the database of the running service".to_owned(),
        }
    }

    /// Returns the name of the source for the report.
    pub(super) fn source_name(&self) -> &'static str {
        match &self.listener {
            Some(_) => "listening",
            None => "beside_service",
        }
    }

    /// Returns the reasons for which notifications of an account were refused since a moment,
    /// latest first. A refusal is recorded within 2 s.
    pub(super) async fn refused(
        &self,
        account: &AccountId,
        since: DateTime<Utc>,
    ) -> Vec<Rejection> {
        let rejections = self.store.rejections().await.unwrap_or_default();
        let refused = rejections.into_iter().filter(|it| {
            it.account_id.as_ref() == Some(account) && it.reason.is_refusal() && it.last_at >= since
        });
        refused.map(|it| it.reason).collect()
    }

    /// Returns the changes of a conversation that have arrived, in the order of arrival.
    pub(super) async fn arrived(
        &self,
        account: &AccountId,
        conversation: &ConversationId,
    ) -> Result<Vec<Arrived>, store::Error> {
        let stored = self
            .store
            .unmatched_changes_of(account, conversation)
            .await?;
        Ok(stored.into_iter().map(Arrived::read).collect())
    }

    /// Waits until `find` returns a value for the changes of a conversation; returns `None` after
    /// `until`.
    pub(super) async fn wait<T>(
        &self,
        (account, conversation): (&AccountId, &ConversationId),
        until: Instant,
        stopping: &CancellationToken,
        find: impl Fn(&[Arrived]) -> Option<T>,
    ) -> Result<Option<T>, Interrupted> {
        loop {
            let now = Instant::now();
            match self.arrived(account, conversation).await {
                Ok(arrived) => {
                    if let Some(found) = find(&arrived) {
                        return Ok(Some(found));
                    }
                }
                Err(error) => tracing::warn!(
                    error = &error as &dyn std::error::Error,
                    "the stored notifications could not be read"
                ),
            }
            if now >= until {
                return Ok(None);
            }
            tokio::select! {
                () = sleep_until(until.min(now + POLL_INTERVAL)) => {}
                () = stopping.cancelled() => return Err(Interrupted),
            }
        }
    }

    /// Returns the conversations of a consumer that are open according to the changes that arrived.
    pub(super) async fn open_conversations(
        &self,
        account: &AccountId,
        consumer_id: &str,
    ) -> Vec<ConversationId> {
        let found = self
            .store
            .unmatched_open_conversations(account, consumer_id);
        found.await.unwrap_or_default()
    }

    /// Stops listening, and removes the stored changes of the doctor's conversations. A database
    /// that another process owns is left alone; that process removes them after 10 minutes.
    pub(super) async fn end(&self, conversations: &[(AccountId, ConversationId)]) {
        if let Some(listener) = &self.listener {
            listener.stop.cancel();
        }
        if !self.read_only {
            for (account, conversation) in conversations {
                let dropped = self
                    .store
                    .remove_unmatched_changes_of(account, conversation)
                    .await;
                if let Err(error) = dropped {
                    tracing::warn!(
                        error = &error as &dyn std::error::Error,
                        "the stored notifications of the doctor's conversation could not be deleted; the service deletes them after 10 minutes"
                    );
                }
            }
        }
    }

    /// Closes the database, once nothing writes to it any more.
    pub(super) async fn close(self) {
        self.store.close().await;
    }
}

impl Arrived {
    fn read(stored: UnmatchedChange) -> Self {
        let kind = stored.kind.parse().unwrap_or(wire::Kind::Unknown);
        Self {
            change: wire::Change::parse(kind, &stored.body),
            signed: stored.signed,
            received_at: stored.received_at,
        }
    }
}

/// Creates the schema in a new database, as the first start of the service does. A schema that is
/// out of date is left to the operator.
async fn prepare_schema(
    store: &Store,
    info: &DatabaseInfo,
    clock: &dyn Clock,
) -> anyhow::Result<()> {
    if info.pending == 0 {
        return Ok(());
    }
    if info.is_in_use {
        bail!("the running service has an older version; run doctor in that version");
    }
    if !info.is_new {
        bail!(
            "{} migration(s) are pending; run migrate, or start the service once",
            info.pending
        );
    }
    Ok(bridge::migrate(store, Actor::Command, clock).await?)
}
