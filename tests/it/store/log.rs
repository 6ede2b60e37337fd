//! The event logs.

use std::collections::BTreeSet;
use std::sync::Arc;

use liveperson_bridge::store::{NewEvent, PageSize, Store, UserRef};
use liveperson_bridge::types::event::{EventId, EventType};
use liveperson_bridge::types::ids::ChannelId;
use tokio::task::JoinSet;
use uuid::Uuid;

use super::{at, erase, key};
use crate::support::changes::append;
use crate::support::database::{Database, Engine};

on_both_engines!(
    an_event_log_is_read_by_position,
    event_logs_of_channels_are_separate,
    one_users_events_are_read_by_position,
    a_reader_misses_no_event_of_concurrent_writers,
    a_wake_up_reaches_only_its_channel,
    erasing_a_user_deletes_their_events,
);

pub(super) fn channel(id: &str) -> ChannelId {
    id.parse().unwrap()
}

pub(super) fn event(channel_id: &str, user: UserRef, body: &str) -> NewEvent {
    NewEvent {
        id: EventId::new(Uuid::new_v4()),
        channel_id: channel(channel_id),
        user: Some(user),
        kind: EventType::MessageCreated,
        body: body.to_owned(),
        parent: None,
        deliver_until: Some(at(1000)),
    }
}

async fn bodies(store: &Store, channel_id: &str, after: u64) -> Vec<String> {
    let page = store
        .events_after(&channel(channel_id), after, PageSize::events(1000))
        .await;
    let events = page.unwrap().events.into_iter();
    events.map(|event| event.body).collect()
}

async fn an_event_log_is_read_by_position(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    let odd = r#"{"text":"\u0000 \" 👋 \\"}"#;

    let first = [event("sms", user, "{}"), event("sms", user, odd)];
    append(&store, &first, at(1)).await;
    append(&store, &[], at(1)).await;
    let third = event("sms", user, r#"{"n":3}"#);
    append(&store, std::slice::from_ref(&third), at(2)).await;

    let page = store
        .events_after(&channel("sms"), 0, PageSize::events(2))
        .await
        .unwrap();
    assert_eq!((page.head, page.floor), (3, 0));
    let read: Vec<_> = page
        .events
        .iter()
        .map(|e| (e.position, &e.body[..]))
        .collect();
    assert_eq!(read, [(1, "{}"), (2, odd)]);
    let second_page = store
        .events_after(&channel("sms"), 2, PageSize::events(2))
        .await
        .unwrap();
    assert_eq!(second_page.events.len(), 1);
    assert_eq!(second_page.events[0].id, third.id.to_string());
    assert_eq!(second_page.events[0].kind, "message.created");
    assert!(bodies(&store, "sms", 3).await.is_empty());
    assert!(bodies(&store, "sms", u64::MAX).await.is_empty());
}

async fn one_users_events_are_read_by_position(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let a = store.ensure_user(&key("a"), at(0)).await.unwrap();
    let b = store.ensure_user(&key("b"), at(0)).await.unwrap();
    let events = [
        event("sms", a, "1"),
        event("sms", b, "2"),
        event("app", a, "3"),
        event("sms", a, "4"),
        event("sms", a, "5"),
    ];
    append(&store, &events, at(1)).await;
    let read = async |user: &str, after, limit| {
        let (channel, user) = (channel("sms"), key(user));
        let page = store.events_of_user_after(&channel, &user, after, PageSize::events(limit));
        let page = page.await.unwrap();
        let bodies = page.events.into_iter().map(|event| event.body);
        (bodies.collect::<Vec<_>>().concat(), page.head)
    };

    assert_eq!(read("a", 0, 2).await, ("14".to_owned(), 4));
    assert_eq!(read("a", 3, 2).await, ("5".to_owned(), 4));
    assert_eq!(read("b", 0, 2).await, ("2".to_owned(), 4));
    assert_eq!(read("nobody", 0, 2).await, (String::new(), 4));
}

async fn event_logs_of_channels_are_separate(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();

    let events = [
        event("sms", user, "1"),
        event("app", user, "2"),
        event("sms", user, "3"),
    ];
    append(&store, &events, at(1)).await;

    assert_eq!(bodies(&store, "sms", 0).await, ["1", "3"]);
    assert_eq!(bodies(&store, "app", 0).await, ["2"]);
    assert!(bodies(&store, "web", 0).await.is_empty());
}

async fn a_reader_misses_no_event_of_concurrent_writers(engine: Engine) {
    const WRITERS: usize = 4;
    const EVENTS: usize = 50;
    let database = Database::create(engine).await;
    let store = Arc::new(database.store().await);
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        // Each writer has connections of its own, like a replica, if the engine allows it.
        let store = match engine {
            Engine::Postgres => Arc::new(database.store().await),
            Engine::Sqlite => Arc::clone(&store),
        };
        writers.spawn(async move {
            for number in 0..EVENTS {
                let body = format!("{writer}-{number}");
                // Batches of two sizes, so that a later transaction can commit sooner.
                let mut events = vec![event("sms", user, &body)];
                if number % 2 == 0 {
                    events.extend((0..20).map(|_| event("sms", user, "filler")));
                }
                append(&store, &events, at(1)).await;
            }
        });
    }

    let mut cursor = 0;
    let mut seen = BTreeSet::new();
    while seen.len() < WRITERS * EVENTS {
        let page = store
            .events_after(&channel("sms"), cursor, PageSize::events(7))
            .await
            .unwrap();
        for event in page.events {
            assert_eq!(event.position, cursor + 1, "a position was skipped");
            cursor = event.position;
            if event.body != "filler" {
                assert!(seen.insert(event.body));
            }
        }
        if !writers.is_empty() && cursor == page.head {
            tokio::task::yield_now().await;
        }
    }

    writers.join_all().await;
}

async fn a_wake_up_reaches_only_its_channel(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    let mut sms = store.wakeup(&channel("sms"));
    let mut app = store.wakeup(&channel("app"));
    let listening = tokio::task::spawn(store.clone().listen());
    if matches!(engine, Engine::Postgres) {
        // Every wake-up fires once when listening begins.
        sms.wait().await;
        app.wait().await;
    }

    append(&store, &[event("sms", user, "1")], at(1)).await;
    sms.wait().await;
    append(&store, &[event("app", user, "2")], at(1)).await;
    app.wait().await;

    tokio::select! {
        biased;
        () = sms.wait() => panic!("an event of app woke sms"),
        () = std::future::ready(()) => {}
    }
    listening.abort();
}

async fn erasing_a_user_deletes_their_events(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let ada = store.ensure_user(&key("ada"), at(0)).await.unwrap();
    let bob = store.ensure_user(&key("bob"), at(0)).await.unwrap();
    let events = [
        event("sms", ada, "ada"),
        event("sms", bob, "bob"),
        event("sms", ada, "ada"),
    ];
    append(&store, &events, at(1)).await;

    erase(&store, ada, 2).await;

    assert_eq!(bodies(&store, "sms", 0).await, ["bob"]);
    append(&store, &[event("sms", bob, "later")], at(3)).await;
    let page = store
        .events_after(&channel("sms"), 2, PageSize::events(9))
        .await
        .unwrap();
    assert_eq!(page.events[0].position, 4, "positions are not reused");
}
