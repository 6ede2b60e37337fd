//! Wake-ups of the readers of one user's events.
//!
//! A wake-up of the database names only the channel. An app may have a reader for each of thousands
//! of users, and an event concerns one of them. So in each process one task reads the new events of
//! a channel, and wakes only the readers of their users.

use std::convert::Infallible;
use std::sync::Arc;

use dashmap::DashMap;
use tokio::sync::{Mutex, watch};

use super::POLL_INTERVAL;
use crate::bridge::Bridge;
use crate::bridge::shared_reads::STREAM_PAGE;
use crate::store::{self, PageSize, Wakeup};
use crate::types::ids::{ChannelId, UserId};
use crate::worker::{Claimed, Pace, Source};

/// The readers of users' events, by channel.
#[derive(Debug, Default)]
pub(super) struct UserWakeups(DashMap<ChannelId, Arc<Readers>>);

/// The readers of one channel's users.
#[derive(Debug, Default)]
struct Readers {
    /// By the channel's id of the user.
    users: DashMap<String, watch::Sender<()>>,
    /// The position up to which events have been looked at; `None` while there is no reader.
    read_to: Mutex<Option<u64>>,
}

/// The wake-up of a reader of one user's events.
#[derive(Debug)]
pub(super) struct UserWakeup {
    // Dropped before the entry, so that the entry does not count it.
    woken: watch::Receiver<()>,
    entry: Entry,
}

/// The entry of a user with readers. It is removed after the last one.
#[derive(Debug)]
struct Entry {
    readers: Arc<Readers>,
    user_id: String,
}

/// The background work that wakes the readers of a channel's users.
#[derive(Debug)]
pub struct UserReaders {
    bridge: Bridge,
    channel_id: ChannelId,
    readers: Arc<Readers>,
    wakeup: Wakeup,
}

impl UserReaders {
    /// Creates the work for a channel.
    #[must_use]
    pub fn new(bridge: Bridge, channel_id: ChannelId) -> Self {
        Self {
            readers: bridge.user_wakeups.of(&channel_id),
            wakeup: bridge.parts.store.wakeup(&channel_id),
            bridge,
            channel_id,
        }
    }
}

impl Source for UserReaders {
    type Item = Infallible;
    type Error = store::Error;

    const PACE: Pace = Pace::new(POLL_INTERVAL, 1);
    const FAILED: &'static str = "new events for the readers of users could not be looked up";

    async fn woken(&mut self) {
        self.wakeup.wait().await;
    }

    async fn claim(&mut self, _: u32) -> Result<Claimed<Infallible>, store::Error> {
        let mut read_to = self.readers.read_to.lock().await;
        if self.readers.users.is_empty() {
            *read_to = None;
        }
        let Some(after) = *read_to else {
            return Ok(Claimed::none());
        };
        // One page at a time, since new readers wait for the lock.
        let page = self
            .bridge
            .read_channel(&self.channel_id, after, STREAM_PAGE)
            .await?;
        if let Some(last) = page.events.last() {
            *read_to = Some(last.position);
        }
        let users = page.events.iter();
        for user_id in users.filter_map(|event| event.user_id.as_deref()) {
            self.readers.wake(user_id);
        }
        Ok(Claimed::done(!page.events.is_empty()))
    }

    fn handle(&self, _: Infallible) -> impl Future<Output = ()> + Send + 'static {
        std::future::ready(())
    }
}

impl Bridge {
    /// Returns the wake-up of a reader of a user's events.
    ///
    /// # Errors
    ///
    /// When the database does not answer.
    pub(super) async fn user_wakeup(
        &self,
        channel_id: &ChannelId,
        user_id: &UserId,
    ) -> Result<UserWakeup, store::Error> {
        let readers = self.user_wakeups.of(channel_id);
        let user_id = user_id.as_str().to_owned();
        let woken = readers
            .users
            .entry(user_id.clone())
            .or_default()
            .subscribe();
        let wakeup = UserWakeup {
            woken,
            entry: Entry { readers, user_id },
        };
        let read_to = &wakeup.entry.readers.read_to;
        let is_known = read_to.lock().await.is_some();
        if !is_known {
            // Events after this one are looked at. The reader itself finds the earlier ones. The
            // lock is not held meanwhile, so that readers do not wait one after the other while the
            // database does not answer.
            let head = self
                .read_channel(channel_id, u64::MAX, PageSize::events(1))
                .await?
                .head;
            read_to.lock().await.get_or_insert(head);
        }
        Ok(wakeup)
    }
}

impl UserWakeups {
    fn of(&self, channel_id: &ChannelId) -> Arc<Readers> {
        Arc::clone(&self.0.entry(channel_id.clone()).or_default())
    }
}

impl Readers {
    fn wake(&self, user_id: &str) {
        let woken = self.users.get(user_id).map(|woken| woken.clone());
        if let Some(woken) = woken {
            woken.send_replace(());
        }
    }
}

impl UserWakeup {
    /// Waits for the next wake-up.
    pub(super) async fn wait(&mut self) {
        // The sender is kept while there is a receiver, so this does not fail.
        let _changed = self.woken.changed().await;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.readers
            .users
            .remove_if(&self.user_id, |_, woken| woken.receiver_count() == 0);
    }
}
