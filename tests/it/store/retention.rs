//! The removal of old data.

use liveperson_bridge::store::{Admission, Arrival, ArrivalOutcome, PageSize, Store};

use super::log::{channel, event};
use super::{at, erase, key, open};
use crate::support::changes::append;
use crate::support::changes::{Translate, translated};
use crate::support::database::{Database, Engine};

on_both_engines!(
    old_events_are_removed_in_log_order,
    a_pending_event_keeps_all_later_events,
    old_unmatched_changes_are_removed_unless_matchable,
    old_records_of_seen_and_erased_changes_are_removed,
);

struct NoEffects;

impl Translate for NoEffects {}

/// Admits changes that have no effect.
async fn admit(store: &Store, arrivals: &[Arrival], second: i64) -> Admission {
    let changes = store
        .begin_changes(arrivals, &[], at(second))
        .await
        .unwrap();
    translated(changes, &NoEffects).await.unwrap()
}

fn arrival(subject: &str, key: Option<&str>) -> Arrival {
    Arrival {
        account_id: "12345678".parse().unwrap(),
        key: key.map(str::to_owned),
        subject: subject.to_owned(),
        consumer_id: None,
        named_dialog: None,
        position: None,
        open: None,
        kind: "ms.MessagingEventNotification",
        body: "{}".to_owned(),
        parent: None,
        signed: None,
    }
}

async fn old_events_are_removed_in_log_order(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    for second in 1..=5 {
        let mut sms = event("sms", user, &second.to_string());
        sms.deliver_until = None;
        let mut app = event("app", user, "app");
        app.deliver_until = None;
        append(&store, &[sms, app], at(second)).await;
    }

    let logs = store.logs().await.unwrap();
    let remove = async |before, limit| {
        let sms = channel("sms");
        let removed = store.remove_events(&sms, at(before), at(0), limit);
        removed.await.unwrap()
    };
    assert_eq!(remove(1, 9).await, 0);
    assert_eq!(remove(4, 2).await, 2);
    assert_eq!(remove(4, 2).await, 1);
    assert_eq!(remove(4, 2).await, 0);

    assert_eq!(logs, [channel("app"), channel("sms")]);
    let page = store
        .events_after(&channel("sms"), 0, PageSize::events(9))
        .await
        .unwrap();
    let remaining: Vec<_> = page.events.iter().map(|event| event.position).collect();
    assert_eq!(remaining, [4, 5]);
    assert_eq!((page.floor, page.head), (3, 5));
    let other = store
        .events_after(&channel("app"), 0, PageSize::events(9))
        .await
        .unwrap();
    assert_eq!((other.events.len(), other.floor), (5, 0));
}

async fn a_pending_event_keeps_all_later_events(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    let mut settled = event("sms", user, "settled");
    settled.deliver_until = None;
    let mut behind = event("sms", user, "behind");
    behind.deliver_until = None;
    // Its delivery is attempted until second 1000.
    let pending = event("sms", user, "pending");
    let events = [settled, pending, behind];
    append(&store, &events, at(1)).await;

    let remove = async |abandoned| {
        let sms = channel("sms");
        let removed = store.remove_events(&sms, at(5000), at(abandoned), 9);
        removed.await.unwrap()
    };
    assert_eq!(remove(1000).await, 1);
    assert_eq!(remove(1000).await, 0);
    assert_eq!(remove(1001).await, 2);

    let page = store
        .events_after(&channel("sms"), 0, PageSize::events(9))
        .await
        .unwrap();
    assert_eq!((page.events.len(), page.floor, page.head), (0, 3, 3));
}

async fn old_unmatched_changes_are_removed_unless_matchable(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    let early = [
        arrival("unknown-1", None),
        arrival("c1", None),
        arrival("unknown-2", None),
    ];
    admit(&store, &early, 1).await;
    let young = [arrival("unknown-3", None)];
    admit(&store, &young, 9).await;
    assert!(open(&store, user, "c1", 2).await);

    let remove = async |before, matchable, limit| {
        let removed = store.remove_unmatched_changes(at(before), at(matchable), limit);
        removed.await.unwrap()
    };
    assert_eq!(remove(9, 0, 1).await, 1);
    assert_eq!(remove(9, 0, 9).await, 1);
    assert_eq!(remove(9, 0, 9).await, 0);

    let subjects = store.matchable_subjects(at(0), at(9), 9).await.unwrap();
    assert_eq!(subjects, ["c1"]);
    assert_eq!(remove(9, 9, 9).await, 1);
    assert_eq!(remove(10, 0, 9).await, 1);
}

async fn old_records_of_seen_and_erased_changes_are_removed(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    open(&store, user, "c1", 1).await;
    let arrivals = [arrival("c1", Some("one")), arrival("c1", Some("two"))];
    admit(&store, &arrivals, 2).await;
    erase(&store, user, 3).await;
    let outcome_of = async |arrival: Arrival| admit(&store, &[arrival], 4).await.outcomes[0];
    assert_eq!(
        outcome_of(arrival("c1", Some("one"))).await,
        ArrivalOutcome::Duplicate
    );
    assert_eq!(
        outcome_of(arrival("c1", Some("three"))).await,
        ArrivalOutcome::Erased
    );

    let seen = async |before| store.remove_seen_changes(at(before), 1).await.unwrap();
    assert_eq!([seen(2).await, seen(3).await, seen(3).await], [0, 1, 1]);
    let erased = async |before| store.remove_erased_conversations(at(before), 9).await;
    assert_eq!(erased(3).await.unwrap(), 0);
    assert_eq!(erased(4).await.unwrap(), 1);

    assert_eq!(
        outcome_of(arrival("c1", Some("one"))).await,
        ArrivalOutcome::Unmatched
    );
}
