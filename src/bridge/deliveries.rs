//! Looking after deliveries: what became of events that are sent to a channel, and what its operators do about it.

use chrono::TimeDelta;

use super::audit;
use crate::bridge::{Bridge, Caller, Error};
use crate::store::NewEvent;
use crate::types::audit::{Action, Entry};
use crate::types::delivery::{Delivery, DeliveryState, EventRecord, Outlook, Replay};
use crate::types::event::data::TYPING_LIFE;
use crate::types::event::{Cursor, Event, EventId, EventType, sample};

/// A part of a list of deliveries.
#[derive(Debug)]
pub struct DeliveryPage {
    /// Those behind the asked cursor, in the order of their events.
    pub deliveries: Vec<Delivery>,
    /// The cursor to go on with.
    pub next: Cursor,
}

impl Bridge {
    /// Events of a channel whose delivery is in a state, behind a cursor.
    ///
    /// # Errors
    ///
    /// When the storage is away.
    pub async fn deliveries(
        &self,
        caller: &Caller,
        state: DeliveryState,
        after: Option<Cursor>,
        limit: u32,
    ) -> Result<DeliveryPage, Error> {
        let position = after.map(Cursor::position);
        let store = &self.parts.store;
        let deliveries = store
            .deliveries(&caller.channel.id, state, position, limit)
            .await?;
        let last = deliveries.last().map(|delivery| delivery.position);
        Ok(DeliveryPage {
            next: Cursor::behind(last.or(position).unwrap_or_default()),
            deliveries,
        })
    }

    /// An event of a channel, with every try to deliver it.
    ///
    /// # Errors
    ///
    /// [`Error::EventNotFound`]; when the storage is away.
    pub async fn event(&self, caller: &Caller, id: EventId) -> Result<EventRecord, Error> {
        let store = &self.parts.store;
        let event = store.event(&caller.channel.id, id).await?;
        event.ok_or(Error::EventNotFound)
    }

    /// Has an event delivered once more, whatever became of it before.
    ///
    /// # Errors
    ///
    /// [`Error::EventNotFound`], [`Error::NoCallback`], [`Error::EventOfTheMoment`]; when the storage is away.
    pub async fn retry_delivery(&self, caller: &Caller, id: EventId) -> Result<EventRecord, Error> {
        let record = self.event(caller, id).await?;
        let now = self.parts.clock.now();
        let until = now + deliver_for(caller)?;
        let action = Action::RetryDelivery {
            event_id: id,
            kind: record.kind,
        };
        let entry = self.entry(caller, now, action);
        let store = &self.parts.store;
        let retried = store
            .retry_delivery(&caller.channel.id, id, now, until, &entry)
            .await?
            .ok_or(Error::EventNotFound)?;
        if !retried {
            return Err(Error::EventOfTheMoment);
        }
        audit::tell(&entry);
        self.event(caller, id).await
    }

    /// Has events delivered once more and says how many; a dry run only counts them.
    ///
    /// # Errors
    ///
    /// [`Error::NoCallback`]; when the storage is away: some are delivered again then, and the rest by the next try.
    pub async fn replay_deliveries(
        &self,
        caller: &Caller,
        replay: &Replay,
        dry_run: bool,
    ) -> Result<u64, Error> {
        let now = self.parts.clock.now();
        let until = now + deliver_for(caller)?;
        let (store, channel_id) = (&self.parts.store, &caller.channel.id);
        if dry_run {
            return Ok(store.count_replayable(channel_id, replay).await?);
        }
        let action = |count| Action::ReplayDeliveries {
            since: replay.since,
            until: replay.until,
            state: replay.state.map(DeliveryState::as_str),
            of_one_user: replay.user.is_some(),
            count,
        };
        let blank = self.entry(caller, now, action(0));
        let entry = |count| Entry {
            action: action(count),
            ..blank.clone()
        };
        let count = store
            .replay_deliveries(channel_id, replay, now, until, entry)
            .await?;
        if count > 0 {
            audit::tell(&entry(count));
        }
        Ok(count)
    }

    /// Lets callbacks go on that were paused, or that only single events were sent to; says how they fare.
    ///
    /// # Errors
    ///
    /// [`Error::NoCallback`]; when the storage is away.
    pub async fn resume_callback(&self, caller: &Caller) -> Result<Outlook, Error> {
        deliver_for(caller)?;
        let store = &self.parts.store;
        let channel_id = &caller.channel.id;
        let now = self.parts.clock.now();
        let entry = self.entry(caller, now, Action::ResumeDeliveries);
        store.resume_callback(channel_id, now, &entry).await?;
        audit::tell(&entry);
        Ok(store.callback_outlook(channel_id).await?)
    }

    /// Adds an event of a type that is about nobody; it is read and delivered like any other.
    ///
    /// # Errors
    ///
    /// When the storage is away.
    pub async fn log_sample(&self, caller: &Caller, kind: EventType) -> Result<Event, Error> {
        let clock = &self.parts.clock;
        let now = clock.now();
        let channel_id = caller.channel.id.clone();
        let id = EventId::new(clock.uuid());
        let event = sample(kind, id, clock.uuid(), channel_id.clone(), now);
        let deliver_for = caller.channel.deliver_for.map(|whole| match kind {
            EventType::TypingChanged => TYPING_LIFE,
            _ => whole,
        });
        let logged = NewEvent {
            id,
            channel_id,
            user: None,
            kind,
            body: event.to_json(),
            parent: Some(caller.trace.parent()),
            deliver_until: deliver_for.map(|whole| now + whole),
        };
        let entry = self.entry(caller, now, Action::AddSample { event_id: id, kind });
        let store = &self.parts.store;
        store.append_sample(logged, now, &entry).await?;
        audit::tell(&entry);
        Ok(event)
    }
}

/// How long a delivery to the caller's callback is tried.
pub(super) fn deliver_for(caller: &Caller) -> Result<TimeDelta, Error> {
    caller.channel.deliver_for.ok_or(Error::NoCallback)
}
