//! Reading a channel's events: a page behind a cursor, at once or when there is something, and as a stream of pages.
//!
//! A reader takes the channel's bell, looks, and waits for the bell where there was nothing. A bell can be missed, so it
//! also looks from time to time. Nobody waits past a stop.

use std::collections::HashMap;
use std::time::Duration;

use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, sleep, sleep_until};

use crate::bounds::{Hold, Holder, Shares};
use crate::bridge::{Bridge, Caller, Error};
use crate::store::{Bell, PageSize};
use crate::types::event::Cursor;
use crate::types::event::LoggedEvent;
use crate::types::ids::{ChannelId, UserKey};

/// How many readers may wait at once in this process: a connection and some kilobytes each.
const READERS_AT_ONCE: usize = 10_000;

/// 8: how many with tokens for one user may. A person has a few pages and devices.
const READERS_OF_USER: usize = 8;

/// How many readers may wait at once in a service with so many channels.
pub(super) fn shares(channels: usize) -> Shares {
    Shares::new(READERS_AT_ONCE, READERS_OF_USER, channels)
}

/// So many readers look once a second or two; more of them look less often, so that the storage has no more to answer.
const READERS_PER_LOOK: usize = 500;

/// 12 KiB and what the last event has beyond: what a stream has in memory at once. There may be 10,000 of them.
const STREAM_PAGE: PageSize = PageSize {
    events: 100,
    bytes: 12 * 1024,
};

/// 1 MiB: the bytes of events after which an answer takes no further one.
const ANSWER_BYTES: u32 = 1024 * 1024;

/// The looks at logs that may be under way at once, channel by channel: half of the connections that read. However many wait
/// for events of one channel, those of another find a connection, and few pages are in memory before room is taken for them.
#[derive(Debug)]
pub(super) struct Looks(HashMap<ChannelId, Semaphore>);

impl Looks {
    /// Limits for these channels, in a store with this many connections that read events.
    pub(super) fn new<'a>(channels: impl Iterator<Item = &'a ChannelId>, connections: u32) -> Self {
        let at_once = usize::try_from(connections / 2).unwrap_or(1).max(1);
        let looks = channels.map(|id| (id.clone(), Semaphore::new(at_once)));
        Self(looks.collect())
    }

    /// Waits until one may look at a channel's log; who came first is first.
    async fn turn(&self, channel_id: &ChannelId) -> Option<SemaphorePermit<'_>> {
        self.0.get(channel_id)?.acquire().await.ok()
    }
}

/// A part of a channel's log.
#[derive(Debug)]
pub struct EventPage {
    /// The events behind the asked cursor, in order.
    pub events: Vec<LoggedEvent>,
    /// The cursor to go on with.
    pub next: Cursor,
    /// Where events behind the asked cursor are not kept any more: what is missing.
    pub gap: Option<Gap>,
}

/// A part of a log that is not kept any more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Gap {
    /// The cursor that was asked for.
    pub after: Cursor,
    /// The oldest cursor that nothing is missing behind.
    pub oldest: Cursor,
}

impl EventPage {
    fn says_nothing(&self) -> bool {
        self.events.is_empty() && self.gap.is_none()
    }

    /// The bytes of its events.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.events.iter().map(|event| event.body.len()).sum()
    }
}

/// Whose events are read.
#[derive(Debug)]
struct Reader {
    channel_id: ChannelId,
    /// The one user whose they are; none: all of the channel's.
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

/// The pages of a channel's log as they come, until the service stops.
#[derive(Debug)]
pub struct EventStream {
    bridge: Bridge,
    reader: Reader,
    bell: Bell,
    after: Option<Cursor>,
    /// The cursor before the page that was given last.
    before: Option<Cursor>,
    /// What was found when it began.
    first: Option<EventPage>,
    _place: Hold,
}

impl Bridge {
    /// The events behind a cursor, from the oldest one on where there is none; where there are none, waits for one. There are
    /// `limit` at most, and fewer where they are large.
    ///
    /// # Errors
    ///
    /// [`Error::CursorUnknown`]; [`Error::TooManyReaders`] where it would have to wait; when the storage is away.
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
        let end = Instant::now() + wait;
        let mut bell = self.parts.store.bell(&reader.channel_id);
        let mut place = None;
        loop {
            let over = Instant::now() >= end || self.parts.stopping.is_cancelled();
            let page = self.look(&reader, after, size).await?;
            if over || !page.says_nothing() {
                return Ok(page);
            }
            if place.is_none() {
                place = Some(self.place_for_reader(caller)?);
            }
            tokio::select! {
                () = self.news(&mut bell) => {}
                () = sleep_until(end) => {}
                () = self.parts.stopping.cancelled() => {}
            }
        }
    }

    /// All events behind a cursor, from the oldest one on where there is none, and then each that comes.
    ///
    /// # Errors
    ///
    /// [`Error::CursorUnknown`]; [`Error::TooManyReaders`]; when the storage is away.
    pub async fn follow_events(
        &self,
        caller: &Caller,
        after: Option<Cursor>,
    ) -> Result<EventStream, Error> {
        let reader = Reader::of(caller);
        let place = self.place_for_reader(caller)?;
        let bell = self.parts.store.bell(&reader.channel_id);
        let first = self.look(&reader, after, STREAM_PAGE).await?;
        Ok(EventStream {
            bridge: self.clone(),
            reader,
            bell,
            after,
            before: after,
            first: Some(first),
            _place: place,
        })
    }

    fn place_for_reader(&self, caller: &Caller) -> Result<Hold, Error> {
        let place = self.places_for_readers.take(caller.holder(), 1);
        place.map_err(Error::TooManyReaders)
    }

    /// Waits until there may be something to read.
    async fn news(&self, bell: &mut Bell) {
        let waiting = self.places_for_readers.held();
        let crowd = u32::try_from(1 + waiting / READERS_PER_LOOK).unwrap_or(u32::MAX);
        let look = Duration::from_secs_f64(rand::random_range(1.0..2.0)) * crowd;
        tokio::select! {
            () = bell.wait() => {}
            () = sleep(look) => {}
        }
    }

    async fn look(
        &self,
        reader: &Reader,
        after: Option<Cursor>,
        size: PageSize,
    ) -> Result<EventPage, Error> {
        let _turn = self.looks.turn(&reader.channel_id).await;
        let position = after.map_or(0, Cursor::position);
        let (store, channel_id) = (&self.parts.store, &reader.channel_id);
        let page = match &reader.user {
            None => store.events_after(channel_id, position, size).await?,
            Some(user) => {
                let events = store.events_of_user_after(channel_id, user, position, size);
                events.await?
            }
        };
        if position > page.head {
            return Err(Error::CursorUnknown);
        }
        let first = page.events.first().map(|event| event.position);
        // The log's ends were read last: what was removed after the events were read is not missing.
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

impl EventStream {
    /// The next page that says something; none when the service stops. No event is lost where it is not awaited to its end.
    ///
    /// # Errors
    ///
    /// When the storage is away.
    pub async fn next(&mut self) -> Result<Option<EventPage>, Error> {
        loop {
            let bridge = &self.bridge;
            if bridge.parts.stopping.is_cancelled() {
                return Ok(None);
            }
            let page = match self.first.take() {
                Some(page) => page,
                None => bridge.look(&self.reader, self.after, STREAM_PAGE).await?,
            };
            self.before = self.after.replace(page.next);
            if !page.says_nothing() {
                return Ok(Some(page));
            }
            tokio::select! {
                () = bridge.news(&mut self.bell) => {}
                () = bridge.parts.stopping.cancelled() => return Ok(None),
            }
        }
    }

    /// The holder of the share that its pages count in.
    #[must_use]
    pub fn holder(&self) -> Holder<'_> {
        Holder {
            channel: self.reader.channel_id.as_str(),
            user: self.reader.user.as_ref().map(|user| user.user_id.as_str()),
        }
    }

    /// Has the page that was given last read again by [`next`](Self::next).
    pub fn step_back(&mut self) {
        self.after = self.before;
    }
}
