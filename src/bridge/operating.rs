//! What operators see and do, of all channels: how everything fares, whose an id is, and acting as if by a channel.
//!
//! An operator acts through a [`Caller`] of the channel, so what a channel may not do to itself an operator may not either.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use tokio::time::timeout;

use super::audit;
use super::deliveries::deliver_for;
use super::gauges::LIMIT;
use crate::bridge::{Bridge, Caller, Channel, Error};
use crate::store;
use crate::types::audit::{Action, Actor, Record};
use crate::types::delivery::{DeliveryCounts, DeliveryState, EventRecord, Outlook, RecentDelivery};
use crate::types::event::EventId;
use crate::types::ids::ChannelId;
use crate::types::message::MessageId;
use crate::types::ownership::Origin;
use crate::types::rejection::Rejected;
use crate::types::request::Report;
use crate::types::status::{Backlog, CloseBacklog, Connections, EngineKind, Health};
use crate::types::trace::Trace;

/// 100: more than anybody does to one event.
const ACTIONS_ON_EVENT: u32 = 100;

/// Who acts with an operator's key.
#[derive(Debug, Clone)]
pub struct Operator {
    /// The first hex digits of the key's SHA-256, as a number.
    pub digits: u32,
    /// The request.
    pub trace: Arc<Trace>,
}

/// How everything fares, as this replica sees it.
#[derive(Debug)]
pub struct Overview {
    /// The accounts, in the order of their ids.
    pub accounts: Vec<Health>,
    /// The channels, in the order of their ids.
    pub channels: Vec<ChannelOverview>,
    /// The conversations of erased users that are still to be closed, by account; empty while the storage is away.
    pub closes: Vec<CloseBacklog>,
    /// The notifications of the last days that were not taken, the latest first; empty while the storage is away.
    pub rejections: Vec<Rejected>,
    /// Which database it is.
    pub engine: EngineKind,
    /// Whether it answers.
    pub storage_answers: bool,
    /// The connections to it that this replica holds.
    pub connections: Vec<Connections>,
}

/// How a channel fares, over all replicas.
#[derive(Debug)]
pub struct ChannelOverview {
    /// The channel.
    pub channel: Arc<Channel>,
    /// What waits; none while the storage is away.
    pub backlog: Option<Backlog>,
    /// What became of deliveries; none while the storage is away.
    pub deliveries: Option<DeliveryCounts>,
}

/// An event with all that is known of it.
#[derive(Debug)]
pub struct EventCase {
    /// Whose it is.
    pub origin: Origin,
    /// The event and every try to deliver it.
    pub record: EventRecord,
    /// What operators did to it, the first one first.
    pub actions: Vec<Record>,
}

impl Operator {
    fn actor(&self) -> Actor {
        Actor::OperatorKey(self.digits)
    }
}

impl Bridge {
    /// The operator as one who asks for a channel; none where no such channel is configured.
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

    /// The operator as one who asks for the channel of an event.
    ///
    /// # Errors
    ///
    /// [`Error::EventNotFound`]; [`Error::NoCallback`] where the channel is configured no more; when the storage is away.
    pub async fn caller_of_event(&self, operator: &Operator, id: EventId) -> Result<Caller, Error> {
        let origin = self.parts.store.origin_of_event(id).await?;
        let origin = origin.ok_or(Error::EventNotFound)?;
        let caller = self.caller_of(operator, &origin.channel_id);
        caller.ok_or(Error::NoCallback)
    }

    /// Whether such a channel is configured.
    #[must_use]
    pub fn has_channel(&self, channel_id: &ChannelId) -> bool {
        self.parts.channels.contains_key(channel_id)
    }

    /// How everything fares; a storage that is away leaves its part out.
    pub async fn overview(&self) -> Overview {
        let store = &self.parts.store;
        let ids = || self.parts.channels.keys();
        let looked = timeout(LIMIT, async {
            let backlogs = store.backlogs(ids()).await?;
            let counts = store.delivery_counts(ids()).await?;
            let closes = store.close_backlogs().await?;
            let rejections = store.rejections().await?;
            Ok::<_, store::Error>((backlogs, counts, closes, rejections))
        });
        let looked = looked.await.ok();
        if let Some(Err(error)) = &looked
            && !error.is_outage()
        {
            tracing::error!(
                error = error as &dyn std::error::Error,
                "how the channels fare could not be looked up"
            );
        }
        let told = looked.and_then(Result::ok);
        let storage_answers = told.is_some();
        let (backlogs, counts, closes, rejections) = told.unwrap_or_default();
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

    /// Events of a channel whose delivery is in a state, the newest first, from before a position of its log.
    ///
    /// # Errors
    ///
    /// When the storage is away.
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

    /// An event of whichever channel.
    ///
    /// # Errors
    ///
    /// [`Error::EventNotFound`]; when the storage is away.
    pub async fn event_case(&self, id: EventId) -> Result<EventCase, Error> {
        let store = &self.parts.store;
        let (origin, record) = self.event_of_any(id).await?;
        let actions = store.actions_on(&id.to_string(), ACTIONS_ON_EVENT).await?;
        Ok(EventCase {
            origin,
            record,
            actions,
        })
    }

    async fn event_of_any(&self, id: EventId) -> Result<(Origin, EventRecord), Error> {
        let store = &self.parts.store;
        let origin = store.origin_of_event(id).await?;
        let origin = origin.ok_or(Error::EventNotFound)?;
        let record = store.event(&origin.channel_id, id).await?;
        Ok((origin, record.ok_or(Error::EventNotFound)?))
    }

    /// A request of whichever channel that was answered before the Cloud had it.
    ///
    /// # Errors
    ///
    /// [`Error::MessageNotFound`]; when the storage is away.
    pub async fn request_case(&self, id: MessageId) -> Result<(Origin, Report), Error> {
        let store = &self.parts.store;
        let origin = store.origin_of_request(id).await?;
        let origin = origin.ok_or(Error::MessageNotFound)?;
        let report = store.request(&origin.channel_id, id).await?;
        Ok((origin, report.ok_or(Error::MessageNotFound)?))
    }

    /// What operators did, the newest entries, the newest of them first.
    ///
    /// # Errors
    ///
    /// When the storage is away.
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

    /// The event as its channel gets it, with what was said; that it was read is recorded before.
    ///
    /// # Errors
    ///
    /// [`Error::EventNotFound`]; when the storage is away.
    pub async fn read_event(&self, operator: &Operator, id: EventId) -> Result<EventRecord, Error> {
        let (Origin { channel_id, .. }, record) = self.event_of_any(id).await?;
        let action = Action::ReadEvent {
            event_id: id,
            kind: record.kind.clone(),
        };
        let (actor, now) = (operator.actor(), self.parts.clock.now());
        let entry = self.entry_by(actor, &channel_id, &operator.trace, now, action);
        self.parts.store.record_action(&entry).await?;
        audit::tell(&entry);
        Ok(record)
    }

    /// Stops a channel's callbacks until somebody resumes them; says how they fare.
    ///
    /// # Errors
    ///
    /// [`Error::NoCallback`]; when the storage is away.
    pub async fn pause_callback(&self, caller: &Caller) -> Result<Outlook, Error> {
        deliver_for(caller)?;
        let store = &self.parts.store;
        let channel_id = &caller.channel.id;
        let now = self.parts.clock.now();
        let entry = self.entry(caller, now, Action::PauseDeliveries);
        store.hold_callback(channel_id, now, &entry).await?;
        audit::tell(&entry);
        Ok(store.callback_outlook(channel_id).await?)
    }
}
