//! Use cases for a channel's deliveries: their states, replays, the end of a pause, and test
//! events.

use chrono::TimeDelta;

use super::audit;
use crate::bridge::{Bridge, Caller, Error};
use crate::store::NewEvent;
use crate::types::audit::{Action, Entry};
use crate::types::delivery::{
    CallbackSchedule, Delivery, DeliveryState, EventRecord, ReplaySelection,
};
use crate::types::event::data::TYPING_LIFETIME;
use crate::types::event::{Cursor, Event, EventId, EventType, sample};

/// A page of deliveries.
#[derive(Debug)]
pub struct DeliveryPage {
    /// The deliveries after the cursor, in the order of their events.
    pub deliveries: Vec<Delivery>,
    /// The cursor of the next page.
    pub next: Cursor,
}

impl Bridge {
    /// Lists the events of a channel with a delivery in this state, after a cursor.
    ///
    /// # Errors
    ///
    /// If the storage is unavailable.
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

    /// Returns an event of a channel with all attempts to deliver it.
    ///
    /// # Errors
    ///
    /// [`Error::EventNotFound`]; if the storage is unavailable.
    pub async fn event(&self, caller: &Caller, id: EventId) -> Result<EventRecord, Error> {
        let store = &self.parts.store;
        let event = store.event(&caller.channel.id, id).await?;
        event.ok_or(Error::EventNotFound)
    }

    /// Replays an event, whatever the state of its delivery.
    ///
    /// # Errors
    ///
    /// [`Error::EventNotFound`], [`Error::NoCallback`], [`Error::TransientEvent`]; if the storage
    /// is unavailable.
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
            return Err(Error::TransientEvent);
        }
        audit::log(&entry);
        self.event(caller, id).await
    }

    /// Replays events and returns their number. A dry run only counts them.
    ///
    /// # Errors
    ///
    /// [`Error::NoCallback`]; if the storage is unavailable. Some events may have been replayed
    /// before that error, and the next attempt replays the rest.
    pub async fn replay_deliveries(
        &self,
        caller: &Caller,
        replay: &ReplaySelection,
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
            audit::log(&entry(count));
        }
        Ok(count)
    }

    /// Resumes deliveries to a callback that were paused or limited to probes. Returns the
    /// callback's state.
    ///
    /// # Errors
    ///
    /// [`Error::NoCallback`]; if the storage is unavailable.
    pub async fn resume_callback(&self, caller: &Caller) -> Result<CallbackSchedule, Error> {
        deliver_for(caller)?;
        let store = &self.parts.store;
        let channel_id = &caller.channel.id;
        let now = self.parts.clock.now();
        let entry = self.entry(caller, now, Action::ResumeDeliveries);
        store.resume_callback(channel_id, now, &entry).await?;
        audit::log(&entry);
        Ok(store.callback_schedule(channel_id).await?)
    }

    /// Adds a test event of a type, which concerns no user. It is read and delivered like any
    /// other.
    ///
    /// # Errors
    ///
    /// If the storage is unavailable.
    pub async fn log_sample(&self, caller: &Caller, kind: EventType) -> Result<Event, Error> {
        let clock = &self.parts.clock;
        let now = clock.now();
        let channel_id = caller.channel.id.clone();
        let id = EventId::new(clock.uuid());
        let event = sample(kind, id, clock.uuid(), channel_id.clone(), now);
        let deliver_for = caller.channel.deliver_for.map(|period| match kind {
            EventType::TypingChanged => TYPING_LIFETIME,
            _ => period,
        });
        let logged = NewEvent {
            id,
            channel_id,
            user: None,
            kind,
            body: event.to_json(),
            parent: Some(caller.trace.parent()),
            deliver_until: deliver_for.map(|period| now + period),
        };
        let entry = self.entry(caller, now, Action::AddSample { event_id: id, kind });
        let store = &self.parts.store;
        store.append_test_event(logged, now, &entry).await?;
        audit::log(&entry);
        Ok(event)
    }
}

/// Returns the time for which a delivery to the caller's callback is retried.
pub(super) fn deliver_for(caller: &Caller) -> Result<TimeDelta, Error> {
    caller.channel.deliver_for.ok_or(Error::NoCallback)
}
