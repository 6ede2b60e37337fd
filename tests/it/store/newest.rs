//! The operators' queries: the newest deliveries, their numbers, the origin of an event or a
//! request, and the recent requests and events of a user.

use liveperson_bridge::store::{DeliveryOutcome, LaneUpdate, NewEvent, Store};
use liveperson_bridge::types::delivery::{
    Delivery, DeliveryCounts, DeliveryState, LastAttempt, RecentDelivery,
};
use liveperson_bridge::types::event::{EventId, EventType};
use liveperson_bridge::types::ownership::Owner;
use liveperson_bridge::types::request::RequestState;
use liveperson_bridge::types::status::EngineKind;
use liveperson_bridge::types::timeline::{RecentEvent, RecentRequest};
use liveperson_bridge::types::trace::TraceContext;
use uuid::Uuid;

use super::deliveries::{claim, settle};
use super::log::{channel, event};
use super::requests::{message, request};
use super::{at, key};
use crate::support::changes::append;
use crate::support::database::{Database, Engine};

on_both_engines!(
    the_newest_deliveries_come_first_with_their_last_attempt,
    deliveries_are_counted_by_channel_and_state,
    the_origin_of_an_event_or_request_is_found_by_id,
    a_users_recent_requests_and_events_come_newest_first,
    the_store_reports_its_engine,
);

/// Appends events of `sms` with these texts. Settles each after one attempt, one per second from
/// second 2 on.
async fn settled(store: &Store, events: &[(&str, DeliveryOutcome<'_>)]) -> Vec<NewEvent> {
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    let new: Vec<_> = events
        .iter()
        .map(|(body, _)| event("sms", user, body))
        .collect();
    append(store, &new, at(1)).await;
    let lane = claim(store, 1, 1).await.remove(0);
    for (second, (_, outcome)) in (2..).zip(events) {
        let update = LaneUpdate::Renewed(at(90));
        assert!(settle(store, &lane, at(second), *outcome, update).await);
    }
    new
}

async fn the_newest_deliveries_come_first_with_their_last_attempt(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let failed = DeliveryOutcome::Failed("refused");
    let events = [
        ("1", failed),
        ("2", DeliveryOutcome::Delivered),
        ("3", failed),
        ("4", failed),
    ];
    let events = settled(&store, &events).await;
    let sample = NewEvent {
        user: None,
        kind: EventType::MessageSent,
        ..event(
            "sms",
            store.ensure_user(&key("a"), at(0)).await.unwrap(),
            "5",
        )
    };
    append(&store, std::slice::from_ref(&sample), at(9)).await;

    let (sms, app) = (channel("sms"), channel("app"));
    let list = async |state, before, limit| {
        let list = store.newest_deliveries(&sms, state, before, limit);
        list.await.unwrap()
    };
    let ids = |list: &[RecentDelivery]| list.iter().map(|it| it.delivery.id).collect::<Vec<_>>();
    let first = list(DeliveryState::Failed, None, 2).await;
    assert_eq!(ids(&first), [events[3].id, events[2].id]);
    let behind = list(DeliveryState::Failed, Some(first[1].delivery.position), 2).await;
    assert_eq!(ids(&behind), [events[0].id]);
    assert_eq!(
        behind[0],
        RecentDelivery {
            delivery: Delivery {
                position: 1,
                id: events[0].id,
                kind: "message.created".to_owned(),
                user_id: Some("a".parse().unwrap()),
                created_at: at(1),
                deliver_until: Some(at(1000)),
                attempts: 1,
                failure: Some("refused".to_owned()),
            },
            last_attempt: Some(LastAttempt {
                at: at(2),
                status: Some(500),
                error: None,
            }),
        }
    );
    let pending = list(DeliveryState::Pending, None, 9).await;
    assert_eq!(ids(&pending), [sample.id]);
    assert_eq!(
        (pending[0].delivery.attempts, &pending[0].last_attempt),
        (0, &None)
    );
    assert_eq!(pending[0].delivery.user_id, None);
    let delivered = list(DeliveryState::Delivered, None, 9).await;
    assert_eq!(ids(&delivered), [events[1].id]);
    assert_eq!(list(DeliveryState::Dropped, None, 9).await, []);
    let other = store.newest_deliveries(&app, DeliveryState::Failed, None, 9);
    assert_eq!(other.await.unwrap(), []);
}

async fn deliveries_are_counted_by_channel_and_state(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let events = [
        ("1", DeliveryOutcome::Failed("refused")),
        ("2", DeliveryOutcome::Delivered),
        ("3", DeliveryOutcome::Delivered),
    ];
    settled(&store, &events).await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    let more = [event("sms", user, "4"), event("app", user, "5")];
    append(&store, &more, at(9)).await;

    let channels = [channel("app"), channel("sms"), channel("web")];
    let mut counts = store.delivery_counts(channels.iter()).await.unwrap();

    counts.sort_by_key(|counts| counts.channel_id.to_string());
    let expected = |id, pending, failed, delivered, recent| DeliveryCounts {
        channel_id: channel(id),
        pending,
        failed,
        delivered,
        recent,
    };
    assert_eq!(
        counts,
        [
            expected("app", 1, 0, 0, 1),
            expected("sms", 1, 1, 2, 4),
            expected("web", 0, 0, 0, 0),
        ]
    );
}

async fn the_origin_of_an_event_or_request_is_found_by_id(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    let traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let parent = TraceContext {
        traceparent: traceparent.to_owned(),
        tracestate: None,
    };
    let traced = NewEvent {
        parent: Some(parent.clone()),
        ..event("sms", user, "1")
    };
    let sample = NewEvent {
        user: None,
        ..event("app", user, "2")
    };
    let events = [traced.clone(), sample.clone()];
    append(&store, &events, at(1)).await;
    let sms = channel("sms");
    let mut queued = request(1, &sms, "one");
    queued.parent = Some(&parent);
    store.insert_request(user, &queued, at(1)).await.unwrap();

    let of_ada = Owner {
        channel_id: channel("sms"),
        user_id: Some("a".parse().unwrap()),
        traceparent: Some(traceparent.to_owned()),
    };
    let without_user = Owner {
        channel_id: channel("app"),
        user_id: None,
        traceparent: None,
    };
    let of_event = async |id| store.owner_of_event(id).await.unwrap();
    let of_request = async |number| store.owner_of_request(message(number)).await.unwrap();
    assert_eq!(of_event(traced.id).await, Some(of_ada.clone()));
    assert_eq!(of_event(sample.id).await, Some(without_user));
    let unknown = EventId::new(Uuid::from_u128(1));
    assert_eq!(of_event(unknown).await, None);
    assert_eq!(of_request(1).await, Some(of_ada));
    assert_eq!(of_request(2).await, None);
}

async fn a_users_recent_requests_and_events_come_newest_first(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let outcomes = [
        ("1", DeliveryOutcome::Failed("refused")),
        ("2", DeliveryOutcome::Delivered),
    ];
    let events = settled(&store, &outcomes).await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    let other = store.ensure_user(&key("b"), at(0)).await.unwrap();
    let without_callback = NewEvent {
        deliver_until: None,
        ..event("app", user, "3")
    };
    let more = [without_callback.clone(), event("sms", other, "4")];
    append(&store, &more, at(9)).await;
    let (sms, app) = (channel("sms"), channel("app"));
    for (second, number, channel_id) in [(1, 1, &sms), (8, 2, &app)] {
        let mut queued = request(number, channel_id, "one");
        queued.created_at = at(second);
        store
            .insert_request(user, &queued, at(second))
            .await
            .unwrap();
    }

    let read = async |name, since, limit| {
        let timeline = store.user_timeline(&key(name), at(since), limit).await;
        timeline.unwrap()
    };
    assert_eq!(read("nobody", 0, 9).await, None);
    let everything = read("a", 0, 9).await.unwrap();
    let request = |number, channel_id: &str, second| RecentRequest {
        id: message(number),
        channel_id: channel(channel_id),
        kind: "text".to_owned(),
        state: RequestState::Waiting,
        attempts: 0,
        created_at: at(second),
    };
    assert_eq!(
        everything.requests,
        [request(2, "app", 8), request(1, "sms", 1)]
    );
    let recent = |new: &NewEvent, delivery, attempts, second| RecentEvent {
        id: new.id,
        channel_id: new.channel_id.clone(),
        kind: "message.created".to_owned(),
        delivery,
        attempts,
        created_at: at(second),
    };
    let newest = recent(&without_callback, None, 0, 9);
    assert_eq!(
        everything.events,
        [
            newest.clone(),
            recent(&events[1], Some(DeliveryState::Delivered), 1, 1),
            recent(&events[0], Some(DeliveryState::Failed), 1, 1),
        ]
    );
    // Older ones are left out, and further ones as well.
    for recent in [read("a", 2, 9).await, read("a", 0, 1).await] {
        let recent = recent.unwrap();
        assert_eq!(recent.requests, [request(2, "app", 8)]);
        assert_eq!(recent.events, std::slice::from_ref(&newest));
    }
    let of_other = read("b", 0, 9).await.unwrap();
    assert_eq!((of_other.requests.len(), of_other.events.len()), (0, 1));
}

async fn the_store_reports_its_engine(engine: Engine) {
    let database = Database::create(engine).await;

    let named = database.store().await.engine();

    let expected = match engine {
        Engine::Postgres => EngineKind::Postgres,
        Engine::Sqlite => EngineKind::Sqlite,
    };
    assert_eq!(named, expected);
}
