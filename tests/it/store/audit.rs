//! The audit log of operators' actions.

use chrono::{DateTime, Utc};
use liveperson_bridge::store::{Erasure, PageSize, Store, StoredToken};
use liveperson_bridge::types::audit::{Action, Actor, Record};
use liveperson_bridge::types::delivery::ReplaySelection;
use liveperson_bridge::types::event::{EventId, EventType};
use serde_json::json;
use uuid::Uuid;

use super::deliveries::replaying;
use super::log::{channel, event};
use super::{at, erase, erasure, key, recorded, token};
use crate::support::changes::append;
use crate::support::database::{Database, Engine};

on_both_engines!(
    audit_entries_are_read_in_order_of_time,
    audit_entries_are_found_by_event_id,
    a_replay_in_several_transactions_updates_one_audit_entry,
    a_repeated_erasure_is_recorded_once,
    a_token_that_changed_meanwhile_is_not_rotated_or_recorded,
    a_test_event_is_appended_and_recorded,
    a_migration_is_recorded_once,
    old_audit_entries_are_removed_except_the_newest_migration,
);

async fn all(store: &Store) -> Vec<Record> {
    let since = DateTime::<Utc>::UNIX_EPOCH;
    let mut records = store.recorded_actions(since, None, 99).await.unwrap();
    // Leaves out the entry of the schema's migration.
    records.retain(|record| record.action != Action::MIGRATE);
    records
}

async fn audit_entries_are_read_in_order_of_time(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let entries = [3, 1, 2].map(|second| {
        let number = u128::try_from(second).unwrap();
        recorded(number, second, Action::ResumeDeliveries)
    });
    for entry in &entries {
        store.record_action(entry).await.unwrap();
    }
    let mut other = recorded(4, 4, Action::ResumeDeliveries);
    (other.channel_id, other.actor) = (Some(channel("app")), Actor::Token);
    store.record_action(&other).await.unwrap();

    let [third, first, second] = entries.map(|entry| entry.record());
    let other = other.record();
    let read = async |since, channel_id: Option<&str>, limit| {
        let channel_id = channel_id.map(channel);
        let read = store.recorded_actions(at(since), channel_id.as_ref(), limit);
        read.await.unwrap()
    };
    let everything = [first.clone(), second.clone(), third.clone(), other.clone()];
    assert_eq!(read(0, None, 9).await, everything);
    assert_eq!(read(2, Some("sms"), 9).await, [second, third.clone()]);
    assert_eq!(read(0, None, 2).await, [third, other.clone()]);
    assert_eq!(read(0, Some("app"), 9).await, [other]);
    assert_eq!(read(5, None, 9).await, []);
}

async fn audit_entries_are_found_by_event_id(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let (event, other) = (
        EventId::new(Uuid::from_u128(7)),
        EventId::new(Uuid::from_u128(8)),
    );
    let kind = || "message.created".to_owned();
    let read = |event_id| Action::ReadEvent {
        event_id,
        kind: kind(),
    };
    let retry = Action::RetryDelivery {
        event_id: event,
        kind: kind(),
    };
    let entries = [
        recorded(1, 1, read(event)),
        recorded(2, 2, retry),
        recorded(3, 3, read(other)),
        recorded(4, 4, read(event)),
        recorded(5, 5, Action::PauseDeliveries),
    ];
    for entry in &entries {
        store.record_action(entry).await.unwrap();
    }

    let [first, second, _, fourth, _] = entries.map(|entry| entry.record());
    let on = async |event: EventId, limit| store.actions_on(&event.to_string(), limit).await;
    assert_eq!(
        on(event, 9).await.unwrap(),
        [first, second.clone(), fourth.clone()]
    );
    assert_eq!(on(event, 2).await.unwrap(), [second, fourth]);
    let unknown = EventId::new(Uuid::from_u128(9));
    assert_eq!(on(unknown, 9).await.unwrap(), []);
}

async fn a_replay_in_several_transactions_updates_one_audit_entry(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    let settled = (0..501).map(|number| {
        let mut event = event("sms", user, &number.to_string());
        event.deliver_until = None;
        event
    });
    let settled: Vec<_> = settled.collect();
    append(&store, &settled, at(1)).await;
    let replay = ReplaySelection {
        since: at(0),
        until: None,
        state: None,
        user: None,
    };
    let counts = std::sync::Mutex::new(Vec::new());
    let entry = |count| {
        counts.lock().unwrap().push(count);
        recorded(1, 6, replaying(&replay, count))
    };

    let sms = channel("sms");
    let replayed = store.replay_deliveries(&sms, &replay, at(6), at(99), &entry);
    assert_eq!(replayed.await.unwrap(), 501);
    // No event is left to replay, so nothing is recorded.
    let again = |count| recorded(2, 7, replaying(&replay, count));
    let again = store.replay_deliveries(&sms, &replay, at(7), at(99), again);
    assert_eq!(again.await.unwrap(), 0);

    assert_eq!(*counts.lock().unwrap(), [500, 501]);
    assert_eq!(all(&store).await, [entry(501).record()]);
}

async fn a_repeated_erasure_is_recorded_once(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    let erasing = store.erasure_data(user).await.unwrap().unwrap();

    assert!(erase(&store, user, 1).await);
    let by_own_token = true;
    let second = recorded(2, 2, Action::EraseUser { by_own_token });
    let erased = store.delete_user(&erasing, &[], at(2), &second).await;
    assert_eq!(erased.unwrap(), Erasure::AlreadyErased);

    assert_eq!(all(&store).await, [erasure().record()]);
}

async fn a_token_that_changed_meanwhile_is_not_rotated_or_recorded(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    store.set_token(user, &token(b"old")).await.unwrap();
    let new_token = StoredToken {
        key_id: "key-2".to_owned(),
        ..token(b"anew")
    };
    let entry = |number, sealed_anew| {
        let action = Action::RotateKeys {
            key_id: "key-2".to_owned(),
            sealed_anew,
            unopened: 0,
        };
        recorded(number, 1, action)
    };

    let read = token(b"old").sealed;
    let rotate = async |entry| {
        store
            .reseal_token(user, &read, &new_token, Some(&entry))
            .await
    };
    assert!(rotate(entry(1, 1)).await.unwrap());
    assert!(!rotate(entry(2, 2)).await.unwrap());

    let user_state = store.user_state(&key("a")).await.unwrap().unwrap();
    assert_eq!(user_state.token, Some(new_token));
    assert_eq!(all(&store).await, [entry(1, 1).record()]);
}

async fn a_test_event_is_appended_and_recorded(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    let sample = event("sms", user, "sample");
    let action = Action::AddSample {
        event_id: sample.id,
        kind: EventType::MessageCreated,
    };
    let entry = recorded(1, 1, action);

    store
        .append_test_event(sample, at(1), &entry)
        .await
        .unwrap();

    let page = store
        .events_after(&channel("sms"), 0, PageSize::events(9))
        .await
        .unwrap();
    assert_eq!(page.events.len(), 1);
    assert_eq!(all(&store).await, [entry.record()]);
}

async fn a_migration_is_recorded_once(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;

    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let store = store.clone();
        tasks.spawn(async move { store.record_migration(Actor::Service, at(1)).await.unwrap() });
    }
    let entries: Vec<_> = tasks.join_all().await.into_iter().flatten().collect();
    let later = store.record_migration(Actor::Command, at(2)).await;

    let [entry] = &entries[..] else {
        panic!("{entries:?}");
    };
    assert_eq!(later.unwrap(), None);
    let records = store.recorded_actions(at(0), None, 9).await.unwrap();
    assert_eq!(records, [entry.record()]);
    let Record {
        action,
        details,
        actor,
        ..
    } = &records[0];
    assert_eq!((&**action, &**actor), (Action::MIGRATE, "service"));
    assert_eq!(*details, json!({"from": null}));
}

async fn old_audit_entries_are_removed_except_the_newest_migration(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let migrate = |from, to| Action::Migrate { from, to };
    store
        .record_action(&recorded(10, 0, migrate(None, 0)))
        .await
        .unwrap();
    let newest = store.record_migration(Actor::Service, at(1)).await;
    let newest = newest.unwrap().unwrap();
    for second in 2..6 {
        // Smaller numbers are the ids of migrations.
        let number = 100 + u128::try_from(second).unwrap();
        let entry = recorded(number, second, Action::ResumeDeliveries);
        store.record_action(&entry).await.unwrap();
    }

    let remove = async |before, limit| {
        let removed = store.remove_recorded_actions(at(before), limit);
        removed.await.unwrap()
    };
    assert_eq!(remove(0, 9).await, 0);
    assert_eq!(remove(5, 2).await, 2);
    assert_eq!(remove(5, 9).await, 2);
    assert_eq!(remove(5, 9).await, 0);

    let remaining = store.recorded_actions(at(0), None, 9).await.unwrap();
    let last = recorded(105, 5, Action::ResumeDeliveries);
    assert_eq!(remaining, [newest.record(), last.record()]);
    assert_eq!(
        store.record_migration(Actor::Service, at(9)).await.unwrap(),
        None
    );
}
