//! Reading of a channel's events: pages after a cursor, which may wait for an event, and a stream
//! of pages.
//!
//! A reader subscribes to the wake-up of its channel or user, reads the log, and waits for the
//! wake-up if there are no events. A wake-up can be missed, so the reader also polls from time to
//! time. No reader waits past a stop.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep_until};

use crate::bounds::{BoundPermit, Holder, Shares};
use crate::bridge::shared_reads::STREAM_PAGE;
use crate::bridge::user_wakeups::UserWakeup;
use crate::bridge::{Bridge, Caller, Error};
use crate::store::{Page, PageSize, Wakeup};
use crate::types::event::Cursor;
use crate::types::event::LoggedEvent;
use crate::types::ids::{ChannelId, UserKey};

/// 10,000: the number of readers that may wait at once in this process. Each takes a connection and
/// a few kilobytes.
const READERS_AT_ONCE: usize = 10_000;

/// 8: the same for readers with tokens for one user. A person has a few pages and devices.
const READERS_OF_USER: usize = 8;

/// Returns the shares of waiting readers in a service with this number of channels.
pub(super) fn shares(channels: usize) -> Shares {
    Shares::new(READERS_AT_ONCE, READERS_OF_USER, channels)
}

/// 500: up to this number of waiting readers, each polls every one or two seconds. With more, each
/// polls less often, so that the storage gets no more queries.
const READERS_PER_POLL: usize = 500;

/// 1 MiB: the size at which an answer takes no more events.
const ANSWER_BYTES: u32 = 1024 * 1024;

/// The limit on concurrent reads of event logs, per channel: half of the connections that read.
/// However many readers wait on one channel, readers of another find a connection. It also limits
/// the pages in memory that no permit covers yet.
#[derive(Debug)]
pub(super) struct ReadLimits(HashMap<ChannelId, Semaphore>);

impl ReadLimits {
    /// Creates the limits for these channels, in a store with this number of connections for
    /// events.
    pub(super) fn new<'a>(channels: impl Iterator<Item = &'a ChannelId>, connections: u32) -> Self {
        let at_once = usize::try_from(connections / 2).unwrap_or(1).max(1);
        let semaphores = channels.map(|id| (id.clone(), Semaphore::new(at_once)));
        Self(semaphores.collect())
    }

    /// Waits for permission to read a channel's log, in order of arrival.
    pub(super) async fn acquire(&self, channel_id: &ChannelId) -> Option<SemaphorePermit<'_>> {
        self.0.get(channel_id)?.acquire().await.ok()
    }
}

/// A page of a channel's log.
#[derive(Debug)]
pub struct EventPage {
    /// The events after the cursor, in order.
    pub events: Vec<LoggedEvent>,
    /// The cursor of the next page.
    pub next: Cursor,
    /// The gap, if some events after the cursor are no longer stored.
    pub gap: Option<Gap>,
}

/// A part of a log that is no longer stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The requested cursor.
    pub after: Cursor,
    /// The oldest cursor after which no event is missing.
    pub oldest: Cursor,
}

impl EventPage {
    fn is_empty(&self) -> bool {
        self.events.is_empty() && self.gap.is_none()
    }

    /// Returns the total size of its events in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.events.iter().map(|event| event.body.len()).sum()
    }
}

/// A reader of the events of a channel, or of one of its users.
#[derive(Debug)]
struct Reader {
    channel_id: ChannelId,
    /// The user; `None` for all users of the channel.
    user: Option<UserKey>,
}

impl Reader {
    fn of(caller: &Caller) -> Self {
        Self {
            channel_id: caller.channel.id.clone(),
            user: caller.user.clone().map(|user_id| caller.key(user_id)),
        }
    }
}

/// The wake-up of a reader.
#[derive(Debug)]
enum ReaderWakeup {
    Channel(Wakeup),
    User(UserWakeup),
}

/// The pages of a channel's log as they arrive, until the service stops.
#[derive(Debug)]
pub struct EventStream {
    bridge: Bridge,
    reader: Reader,
    wakeup: ReaderWakeup,
    after: Option<Cursor>,
    /// The cursor before the page that was returned last.
    before: Option<Cursor>,
    /// The page that was read when the stream began.
    first: Option<EventPage>,
    /// The time of the next poll; `None` if the log is to be read at once. It is kept while the
    /// caller does something else in between, such as a comment on the stream.
    poll_at: Option<Instant>,
    _permit: BoundPermit,
}

impl Bridge {
    /// Reads at most `limit` events after a cursor, or from the oldest one without a cursor; fewer
    /// if they are large. If there are none, waits for one.
    ///
    /// # Errors
    ///
    /// [`Error::CursorUnknown`]; [`Error::TooManyReaders`] if it would have to wait; if the storage
    /// is unavailable.
    pub async fn events(
        &self,
        caller: &Caller,
        after: Option<Cursor>,
        limit: u32,
        wait: Duration,
    ) -> Result<EventPage, Error> {
        let reader = Reader::of(caller);
        let size = PageSize {
            events: limit,
            bytes: ANSWER_BYTES,
        };
        if wait.is_zero() {
            return self.read_log(&reader, after, size).await;
        }
        let end = Instant::now() + wait;
        let mut wakeup = self.wakeup(&reader).await?;
        let mut permit = None;
        loop {
            let is_over = Instant::now() >= end || self.parts.stopping.is_cancelled();
            let page = self.read_log(&reader, after, size).await?;
            if is_over || !page.is_empty() {
                return Ok(page);
            }
            if permit.is_none() {
                permit = Some(self.reader_permit(caller)?);
            }
            tokio::select! {
                () = wakeup.wait() => {}
                () = sleep_until(end.min(self.next_poll())) => {}
                () = self.parts.stopping.cancelled() => {}
            }
        }
    }

    /// Streams all events after a cursor, or from the oldest one without a cursor, and then each
    /// new one.
    ///
    /// # Errors
    ///
    /// [`Error::CursorUnknown`]; [`Error::TooManyReaders`]; if the storage is unavailable.
    pub async fn follow_events(
        &self,
        caller: &Caller,
        after: Option<Cursor>,
    ) -> Result<EventStream, Error> {
        let reader = Reader::of(caller);
        let permit = self.reader_permit(caller)?;
        let wakeup = self.wakeup(&reader).await?;
        let first = self.read_log(&reader, after, STREAM_PAGE).await?;
        Ok(EventStream {
            bridge: self.clone(),
            reader,
            wakeup,
            after,
            before: after,
            first: Some(first),
            poll_at: None,
            _permit: permit,
        })
    }

    fn reader_permit(&self, caller: &Caller) -> Result<BoundPermit, Error> {
        let permit = self.reader_permits.acquire(caller.holder(), 1);
        permit.map_err(Error::TooManyReaders)
    }

    /// Returns the wake-up of a reader. A reader that takes it before it reads misses no event.
    async fn wakeup(&self, reader: &Reader) -> Result<ReaderWakeup, Error> {
        Ok(match &reader.user {
            None => ReaderWakeup::Channel(self.parts.store.wakeup(&reader.channel_id)),
            Some(user) => {
                ReaderWakeup::User(self.user_wakeup(&reader.channel_id, &user.user_id).await?)
            }
        })
    }

    /// Returns the time of a reader's next poll.
    fn next_poll(&self) -> Instant {
        let waiting = self.reader_permits.in_use();
        let factor = u32::try_from(1 + waiting / READERS_PER_POLL).unwrap_or(u32::MAX);
        let interval = Duration::from_secs_f64(rand::random_range(1.0..2.0)) * factor;
        Instant::now() + interval
    }

    /// Reads a page. Readers of the same part of a channel's log share a query.
    async fn read_log(
        &self,
        reader: &Reader,
        after: Option<Cursor>,
        size: PageSize,
    ) -> Result<EventPage, Error> {
        let position = after.map_or(0, Cursor::position);
        let channel_id = &reader.channel_id;
        let page = match &reader.user {
            None => Page::clone(&*self.read_channel(channel_id, position, size).await?),
            Some(user) => {
                let _permit = self.read_limits.acquire(channel_id).await;
                let store = &self.parts.store;
                store
                    .events_of_user_after(channel_id, user, position, size)
                    .await?
            }
        };
        if position > page.head {
            return Err(Error::CursorUnknown);
        }
        let first = page.events.first().map(|event| event.position);
        // The bounds of the log were read after the events, so events removed in between are not
        // missing.
        let missing = position < page.floor && first != Some(position + 1);
        let last = page.events.last().map(|event| event.position);
        Ok(EventPage {
            next: Cursor::behind(last.unwrap_or_else(|| position.max(page.floor))),
            gap: after.filter(|_| missing).map(|after| Gap {
                after,
                oldest: Cursor::behind(page.floor),
            }),
            events: page.events,
        })
    }
}

impl ReaderWakeup {
    async fn wait(&mut self) {
        match self {
            Self::Channel(wakeup) => wakeup.wait().await,
            Self::User(wakeup) => wakeup.wait().await,
        }
    }
}

impl EventStream {
    /// Returns the next page with events or a gap; `None` when the service stops. If the future is
    /// dropped early, no event is lost.
    ///
    /// # Errors
    ///
    /// If the storage is unavailable.
    pub async fn next(&mut self) -> Result<Option<EventPage>, Error> {
        loop {
            let bridge = &self.bridge;
            if bridge.parts.stopping.is_cancelled() {
                return Ok(None);
            }
            if let Some(poll_at) = self.poll_at {
                tokio::select! {
                    () = self.wakeup.wait() => {}
                    () = sleep_until(poll_at) => {}
                    () = bridge.parts.stopping.cancelled() => return Ok(None),
                }
                self.poll_at = None;
            }
            let page = match self.first.take() {
                Some(page) => page,
                None => {
                    bridge
                        .read_log(&self.reader, self.after, STREAM_PAGE)
                        .await?
                }
            };
            self.before = self.after.replace(page.next);
            if !page.is_empty() {
                return Ok(Some(page));
            }
            self.poll_at = Some(bridge.next_poll());
        }
    }

    /// Returns the holder whose share the stream's pages count against.
    #[must_use]
    pub fn holder(&self) -> Holder<'_> {
        Holder {
            channel: self.reader.channel_id.as_str(),
            user: self.reader.user.as_ref().map(|user| user.user_id.as_str()),
        }
    }

    /// Makes [`next`](Self::next) read the last returned page again.
    pub fn step_back(&mut self) {
        self.after = self.before;
    }
}
