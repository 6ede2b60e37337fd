//! Use cases of operators, for all channels: the state of the service, the owner of an id, and
//! actions on behalf of a channel.
//!
//! An operator acts on a channel through a [`Caller`] of it, so the checks of the channel's own
//! requests apply to operators too.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::time::timeout;

use super::audit;
use super::deliveries::deliver_for;
use super::queue_metrics::QUERY_LIMIT;
use crate::bridge::{Bridge, Caller, Channel, Error};
use crate::store;
use crate::types::audit::{Action, Actor, Record};
use crate::types::delivery::{
    CallbackSchedule, DeliveryCounts, DeliveryState, EventRecord, RecentDelivery,
};
use crate::types::event::EventId;
use crate::types::ids::{ChannelId, UserId};
use crate::types::message::MessageId;
use crate::types::ownership::Owner;
use crate::types::rejection::Rejected;
use crate::types::request::Report;
use crate::types::status::{Backlog, CloseBacklog, Connections, EngineKind, Health};
use crate::types::timeline::UserTimeline;
use crate::types::trace::Trace;

/// 100: the maximum number of listed actions, more than operators ever take on one event.
const ACTIONS_ON_EVENT: u32 = 100;

/// An operator, by their key.
#[derive(Debug, Clone)]
pub struct Operator {
    /// The first hex digits of the key's SHA-256, as a number.
    pub digits: u32,
    /// The trace of the request.
    pub trace: Arc<Trace>,
}

/// The state of the service, as this replica sees it.
#[derive(Debug)]
pub struct Overview {
    /// The accounts, ordered by id.
    pub accounts: Vec<Health>,
    /// The channels, ordered by id.
    pub channels: Vec<ChannelOverview>,
    /// The pending closes of erased users' conversations, by account; empty while the storage is
    /// unavailable.
    pub closes: Vec<CloseBacklog>,
    /// The rejected notifications of the last days, latest first; empty while the storage is
    /// unavailable.
    pub rejections: Vec<Rejected>,
    /// The engine of the database.
    pub engine: EngineKind,
    /// True if the database answers.
    pub storage_answers: bool,
    /// The connections to the database that this replica holds.
    pub connections: Vec<Connections>,
}

/// The state of a channel, over all replicas.
#[derive(Debug)]
pub struct ChannelOverview {
    /// The channel.
    pub channel: Arc<Channel>,
    /// The backlog; `None` while the storage is unavailable.
    pub backlog: Option<Backlog>,
    /// The counts of deliveries; `None` while the storage is unavailable.
    pub deliveries: Option<DeliveryCounts>,
}

/// An event with everything that is known of it.
#[derive(Debug)]
pub struct EventDetails {
    /// The channel and the user that it belongs to.
    pub origin: Owner,
    /// The event and all attempts to deliver it.
    pub record: EventRecord,
    /// The actions of operators on it, oldest first.
    pub actions: Vec<Record>,
}

impl Operator {
    /// Returns the operator as the actor of an entry of the audit log.
    #[must_use]
    pub fn actor(&self) -> Actor {
        Actor::OperatorKey(self.digits)
    }
}

impl Bridge {
    /// Returns the operator as a caller for a channel; `None` if no such channel is configured.
    #[must_use]
    pub fn caller_of(&self, operator: &Operator, channel_id: &ChannelId) -> Option<Caller> {
        let channel = self.parts.channels.get(channel_id)?;
        Some(Caller {
            channel: Arc::clone(channel),
            actor: operator.actor(),
            trace: Arc::clone(&operator.trace),
            user: None,
            claim: None,
        })
    }

    /// Returns the operator as a caller for the channel of an event.
    ///
    /// # Errors
    ///
    /// [`Error::EventNotFound`]; [`Error::NoCallback`] if the channel is no longer configured; if
    /// the storage is unavailable.
    pub async fn caller_of_event(&self, operator: &Operator, id: EventId) -> Result<Caller, Error> {
        let origin = self.parts.store.owner_of_event(id).await?;
        let origin = origin.ok_or(Error::EventNotFound)?;
        let caller = self.caller_of(operator, &origin.channel_id);
        caller.ok_or(Error::NoCallback)
    }

    /// True if this channel is configured.
    #[must_use]
    pub fn has_channel(&self, channel_id: &ChannelId) -> bool {
        self.parts.channels.contains_key(channel_id)
    }

    /// Returns the state of the service. If the storage is unavailable, its part is left out.
    pub async fn overview(&self) -> Overview {
        let store = &self.parts.store;
        let ids = || self.parts.channels.keys();
        let queried = timeout(QUERY_LIMIT, async {
            let backlogs = store.backlogs(ids()).await?;
            let counts = store.delivery_counts(ids()).await?;
            let closes = store.close_backlogs().await?;
            let rejections = store.rejections().await?;
            Ok::<_, store::Error>((backlogs, counts, closes, rejections))
        });
        let queried = queried.await.ok();
        if let Some(Err(error)) = &queried
            && !error.is_outage()
        {
            tracing::error!(
                error = error as &dyn std::error::Error,
                "the state of the channels could not be looked up"
            );
        }
        let state = queried.and_then(Result::ok);
        let storage_answers = state.is_some();
        let (backlogs, counts, closes, rejections) = state.unwrap_or_default();
        let channels = self.parts.channels.values().map(|channel| {
            let backlog = backlogs.iter().find(|it| it.channel_id == channel.id);
            let deliveries = counts.iter().find(|it| it.channel_id == channel.id);
            ChannelOverview {
                channel: Arc::clone(channel),
                backlog: backlog.cloned(),
                deliveries: deliveries.cloned(),
            }
        });
        let mut channels: Vec<_> = channels.collect();
        channels.sort_by(|one, other| one.channel.id.cmp(&other.channel.id));
        Overview {
            accounts: self.parts.cloud.health(),
            channels,
            closes,
            rejections,
            engine: store.engine(),
            storage_answers,
            connections: store.connections(),
        }
    }

    /// Lists the events of a channel with a delivery in this state, newest first, before a position
    /// of its log.
    ///
    /// # Errors
    ///
    /// If the storage is unavailable.
    pub async fn newest_deliveries(
        &self,
        channel_id: &ChannelId,
        state: DeliveryState,
        before: Option<u64>,
        limit: u32,
    ) -> Result<Vec<RecentDelivery>, Error> {
        let newest = self
            .parts
            .store
            .newest_deliveries(channel_id, state, before, limit);
        Ok(newest.await?)
    }

    /// Returns an event of any channel.
    ///
    /// # Errors
    ///
    /// [`Error::EventNotFound`]; if the storage is unavailable.
    pub async fn event_details(&self, id: EventId) -> Result<EventDetails, Error> {
        let store = &self.parts.store;
        let (origin, record) = self.event_of_any(id).await?;
        let actions = store.actions_on(&id.to_string(), ACTIONS_ON_EVENT).await?;
        Ok(EventDetails {
            origin,
            record,
            actions,
        })
    }

    async fn event_of_any(&self, id: EventId) -> Result<(Owner, EventRecord), Error> {
        let store = &self.parts.store;
        let origin = store.owner_of_event(id).await?;
        let origin = origin.ok_or(Error::EventNotFound)?;
        let record = store.event(&origin.channel_id, id).await?;
        Ok((origin, record.ok_or(Error::EventNotFound)?))
    }

    /// Returns a request of any channel that was answered 202.
    ///
    /// # Errors
    ///
    /// [`Error::MessageNotFound`]; if the storage is unavailable.
    pub async fn request_details(&self, id: MessageId) -> Result<(Owner, Report), Error> {
        let store = &self.parts.store;
        let origin = store.owner_of_request(id).await?;
        let origin = origin.ok_or(Error::MessageNotFound)?;
        let report = store.request(&origin.channel_id, id).await?;
        Ok((origin, report.ok_or(Error::MessageNotFound)?))
    }

    /// Returns the latest entries of the audit log, newest first.
    ///
    /// # Errors
    ///
    /// If the storage is unavailable.
    pub async fn recorded_actions(
        &self,
        channel_id: Option<&ChannelId>,
        limit: u32,
    ) -> Result<Vec<Record>, Error> {
        let since = DateTime::<Utc>::UNIX_EPOCH;
        let store = &self.parts.store;
        let mut records = store.recorded_actions(since, channel_id, limit).await?;
        records.reverse();
        Ok(records)
    }

    /// Returns the event as its channel gets it, with its content. The access is recorded first.
    ///
    /// # Errors
    ///
    /// [`Error::EventNotFound`]; if the storage is unavailable.
    pub async fn read_event(&self, operator: &Operator, id: EventId) -> Result<EventRecord, Error> {
        let (Owner { channel_id, .. }, record) = self.event_of_any(id).await?;
        let action = Action::ReadEvent {
            event_id: id,
            kind: record.kind.clone(),
        };
        let (actor, now) = (operator.actor(), self.parts.clock.now());
        let entry = self.entry_by(actor, &channel_id, &operator.trace, now, action);
        self.parts.store.record_action(&entry).await?;
        audit::log(&entry);
        Ok(record)
    }

    /// Returns the recent requests and events of a user in the namespace of the caller's channel;
    /// `None` for an unknown user. The access is recorded first.
    ///
    /// # Errors
    ///
    /// If the storage is unavailable.
    pub async fn user_timeline(
        &self,
        caller: &Caller,
        user_id: UserId,
    ) -> Result<Option<UserTimeline>, Error> {
        let (store, now) = (&self.parts.store, self.parts.clock.now());
        let since = now - UserTimeline::PERIOD;
        let timeline = store
            .user_timeline(&caller.key(user_id), since, UserTimeline::MAX)
            .await?;
        let shown = timeline.as_ref();
        let action = Action::ReadUser {
            requests: shown.map_or(0, |it| it.requests.len()),
            events: shown.map_or(0, |it| it.events.len()),
        };
        let entry = self.entry(caller, now, action);
        store.record_action(&entry).await?;
        audit::log(&entry);
        Ok(timeline)
    }

    /// Pauses a channel's callback until it is resumed. Returns the callback's state.
    ///
    /// # Errors
    ///
    /// [`Error::NoCallback`]; if the storage is unavailable.
    pub async fn pause_callback(&self, caller: &Caller) -> Result<CallbackSchedule, Error> {
        deliver_for(caller)?;
        let store = &self.parts.store;
        let channel_id = &caller.channel.id;
        let now = self.parts.clock.now();
        let entry = self.entry(caller, now, Action::PauseDeliveries);
        store
            .pause_callback_by_operator(channel_id, now, &entry)
            .await?;
        audit::log(&entry);
        Ok(store.callback_schedule(channel_id).await?)
    }
}
