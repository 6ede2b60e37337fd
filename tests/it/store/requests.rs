//! Queued requests: stored in order, processed under a lease, settled once.

use std::collections::BTreeSet;

use liveperson_bridge::store::{
    AttemptOutcome, Claim, DueLane, EnqueueOutcome, InFlight, KeyedRequest, LaneHolder, NewEvent,
    NewRequest, NotificationLag, PageSize, RequestKind, SettledAttempt, Store, UserRef,
};
use liveperson_bridge::types::delivery::Pause;
use liveperson_bridge::types::event::data::Failure;
use liveperson_bridge::types::event::{EventId, EventType};
use liveperson_bridge::types::idempotency::{Fingerprint, IdempotencyKey};
use liveperson_bridge::types::ids::{AccountId, ChannelId};
use liveperson_bridge::types::message::MessageId;
use liveperson_bridge::types::request::RequestState;
use liveperson_bridge::types::sketch::Sketch;
use liveperson_bridge::types::status::Backlog;
use tokio_util::bytes::Bytes;
use uuid::Uuid;

use super::log::{channel, event};
use super::{at, entries_read, key, lease};
use crate::support::changes::append;
use crate::support::database::{Database, Engine};

on_both_engines!(
    queued_requests_are_returned_in_order,
    a_due_lane_is_claimed_by_one_caller,
    lanes_postponed_for_given_reasons_become_due_at_once,
    a_former_lease_holder_cannot_change_a_request,
    settling_a_request_ends_it_and_appends_its_event,
    queued_files_are_bounded_by_channel_and_user,
    a_request_with_a_lost_key_is_not_queued,
    queued_requests_are_bounded_by_user_and_counted_by_channel,
    an_echo_matches_only_a_fitting_attempt_and_only_once,
    the_time_of_the_last_notification_is_stored,
    old_settled_requests_are_removed,
    backlogs_are_counted_by_channel,
    concurrent_requests_are_queued_in_order_and_within_bounds,
    concurrent_request_settlements_keep_their_own_outcomes,
    one_failing_request_settlement_does_not_fail_batched_ones,
    one_failing_queued_request_does_not_fail_batched_ones,
    concurrent_attempts_begin_only_on_held_lanes,
    a_lane_is_released_with_its_last_batched_settlement,
    a_request_of_an_erased_user_is_not_queued,
    concurrent_callers_create_one_row_per_user,
    concurrent_inserts_settlements_and_claims_do_not_deadlock,
);

/// PostgreSQL caches a plan made while the queue is empty, when a full scan is cheapest.
#[tokio::test(flavor = "multi_thread")]
async fn the_first_request_is_found_without_scanning_the_backlog() {
    let database = Database::create(Engine::Postgres).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    let first_requests = async |count| {
        for _ in 0..count {
            assert!(store.first_request(user).await.unwrap().is_none());
        }
    };
    database.execute("VACUUM ANALYZE requests").await;
    // PostgreSQL makes a new plan for each of the first five executions.
    first_requests(6).await;
    database
        .execute(
            "WITH u AS (INSERT INTO users (account_id, namespace, user_id, created_at)
                        SELECT 'a', 'n', g::text, 1 FROM generate_series(1, 2000) g RETURNING id)
             INSERT INTO requests (id, user_ref, channel_id, kind, body, state, created_at, expires_at)
             SELECT 'm' || id, id, 'sms', 'text', '', 'waiting', 1, 2 FROM u",
        )
        .await;

    first_requests(20).await;

    let read = entries_read(&database, store, "requests", 26).await;
    assert!(read < 2000, "{read} entries were read");
}

pub(super) fn message(number: u128) -> MessageId {
    MessageId::new(Uuid::from_u128(number))
}

fn in_flight(begun: i64) -> InFlight {
    InFlight {
        conversation_id: "c1".parse().unwrap(),
        dialog_id: "c1".to_owned(),
        digest: "digest".to_owned(),
        begun_at: at(begun),
    }
}

pub(super) fn request<'a>(
    number: u128,
    channel_id: &'a ChannelId,
    body: &'a str,
) -> NewRequest<'a> {
    NewRequest {
        id: message(number),
        channel_id,
        kind: RequestKind::Text,
        body,
        content: None,
        max_content: 10,
        max_content_of_user: 12,
        max_waiting: 9,
        created_at: at(1),
        expires_at: at(9000),
        conversation_id: None,
        sequences: &[],
        in_flight: None,
        why: None,
        due_at: at(1),
        parent: None,
        attributed: &[],
        key: None,
    }
}

async fn user_with(store: &Store, bodies: &[&str]) -> UserRef {
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    for (number, body) in (1..).zip(bodies) {
        let channel = channel("sms");
        let new = request(number, &channel, body);
        let outcome = store.insert_request(user, &new, at(1)).await.unwrap();
        assert_eq!(outcome, EnqueueOutcome::Queued);
    }
    user
}

fn settled(user: UserRef, number: u128, outcome: AttemptOutcome<'_>) -> SettledAttempt<'_> {
    SettledAttempt {
        user,
        id: message(number),
        outcome,
        conversation_id: None,
        sequences: &[],
        in_flight: None,
        file: None,
        event: None,
    }
}

async fn queued_requests_are_returned_in_order(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = user_with(&store, &["one", "two"]).await;
    let mine = lease("mine", 20);
    store.claim_due_lanes(&mine, at(2), 9).await.unwrap();

    let user_state = store.user_state(&key("a")).await.unwrap().unwrap();
    let first = store.first_request(user).await.unwrap().unwrap();
    let sent = settled(user, 1, AttemptOutcome::Sent);
    assert_eq!(
        store.settle_request(&mine, &sent, at(3)).await.unwrap(),
        LaneHolder::Kept
    );
    let second = store.first_request(user).await.unwrap().unwrap();

    assert_eq!(user_state.waiting, 2);
    assert_eq!((&first.body[..], &second.body[..]), ("one", "two"));
    let user_state = store.user_state(&key("a")).await.unwrap().unwrap();
    assert_eq!(user_state.waiting, 1);
}

async fn a_due_lane_is_claimed_by_one_caller(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = user_with(&store, &["one"]).await;
    let (mine, theirs) = (lease("mine", 20), lease("theirs", 40));
    let due = DueLane {
        user,
        key: key("a"),
    };

    assert!(
        store
            .claim_due_lanes(&mine, at(0), 9)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        store.claim_due_lanes(&mine, at(2), 9).await.unwrap(),
        std::slice::from_ref(&due)
    );
    assert!(
        store
            .claim_due_lanes(&theirs, at(2), 9)
            .await
            .unwrap()
            .is_empty()
    );
    assert!(store.renew_lane(user, &lease("mine", 25)).await.unwrap());
    assert!(
        store
            .claim_due_lanes(&theirs, at(24), 9)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        store.claim_due_lanes(&theirs, at(25), 9).await.unwrap(),
        [due]
    );
    assert!(!store.renew_lane(user, &mine).await.unwrap());

    store
        .release_lane_until(user, &theirs, at(50))
        .await
        .unwrap();
    assert!(
        store
            .claim_due_lanes(&mine, at(49), 9)
            .await
            .unwrap()
            .is_empty()
    );
    assert_eq!(
        store.claim_due_lanes(&mine, at(50), 9).await.unwrap().len(),
        1
    );
    let sent = settled(user, 1, AttemptOutcome::Sent);
    // The lane is empty, so it is released.
    assert_eq!(
        store.settle_request(&mine, &sent, at(51)).await.unwrap(),
        LaneHolder::Released
    );
    assert!(!store.renew_lane(user, &mine).await.unwrap());
    assert!(
        store
            .claim_due_lanes(&mine, at(99), 9)
            .await
            .unwrap()
            .is_empty()
    );
}

async fn lanes_postponed_for_given_reasons_become_due_at_once(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let (sms, held) = (channel("sms"), lease("held", 100));
    let mut users = Vec::new();
    for (number, (name, why, due_at)) in (1..).zip([
        ("late", Some("cloud-unavailable"), 90),
        ("soon", Some("cloud-unavailable"), 30),
        ("throttled", Some("cloud-throttled"), 20),
        ("due", Some("cloud-unavailable"), 5),
        ("held", Some("cloud-unavailable"), 40),
        ("unknown", Some("cloud-unavailable"), 40),
    ]) {
        let user = store.ensure_user(&key(name), at(0)).await.unwrap();
        let in_flight = in_flight(2);
        let mut new = request(number, &sms, "body");
        new.why = why;
        new.due_at = at(due_at);
        new.in_flight = (name == "unknown").then_some(&in_flight);
        let outcome = store.insert_request(user, &new, at(1)).await.unwrap();
        assert_eq!(outcome, EnqueueOutcome::Queued);
        // Only a user's first request counts.
        let behind = request(100 + number, &sms, "behind");
        store.insert_request(user, &behind, at(1)).await.unwrap();
        users.push(user);
    }
    assert!(store.claim_lane(users[4], &held, at(3)).await.unwrap());
    assert_eq!(
        store.last_reason(message(1)).await.unwrap().as_deref(),
        Some("cloud-unavailable")
    );
    assert_eq!(store.last_reason(message(101)).await.unwrap(), None);
    for (why, count) in [("cloud-unavailable", 1), ("cloud-blocked", 0)] {
        assert_eq!(store.count_reason(message(1), why).await.unwrap(), count);
    }
    let (account, other) = ("12345678".parse().unwrap(), "another".parse().unwrap());
    let hurry = async |account, limit| {
        let reasons = ["cloud-unavailable", "conversation-pending"];
        store.make_lanes_due(account, &reasons, at(10), limit).await
    };

    assert_eq!(hurry(&other, 9).await.unwrap(), 0);
    assert_eq!(hurry(&account, 1).await.unwrap(), 1);
    let due = async |until: i64| {
        let mine = lease("mine", until);
        let lanes = store.claim_due_lanes(&mine, at(10), 9).await.unwrap();
        let names = lanes
            .iter()
            .map(|lane| lane.key.user_id.as_str().to_owned());
        names.collect::<BTreeSet<_>>()
    };
    let names = |names: &[&str]| names.iter().map(|&name| name.to_owned()).collect();
    assert_eq!(due(50).await, names(&["due", "soon"]));
    assert_eq!(hurry(&account, 9).await.unwrap(), 1);
    assert_eq!(due(50).await, names(&["late"]));
    assert_eq!(hurry(&account, 9).await.unwrap(), 0);
}

async fn a_former_lease_holder_cannot_change_a_request(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = user_with(&store, &["one"]).await;
    let (mine, theirs) = (lease("mine", 20), lease("theirs", 40));
    store.claim_due_lanes(&mine, at(2), 9).await.unwrap();
    let (early, late) = (in_flight(3), in_flight(31));
    let begun = store.begin_attempt(user, &mine, message(1), "begun", &early);
    assert!(begun.await.unwrap());
    store.claim_due_lanes(&theirs, at(30), 9).await.unwrap();

    let begun = store.begin_attempt(user, &mine, message(1), "late", &late);
    assert!(!begun.await.unwrap());
    let sent = settled(user, 1, AttemptOutcome::Sent);
    assert_eq!(
        store.settle_request(&mine, &sent, at(31)).await.unwrap(),
        LaneHolder::Lost
    );
    store.release_lane_until(user, &mine, at(31)).await.unwrap();

    let found = store.first_request(user).await.unwrap().unwrap();
    assert_eq!(found.state, RequestState::Sending);
    assert_eq!(found.in_flight, Some(in_flight(3)));
    assert_eq!((found.attempts, &found.body[..]), (1, "begun"));
    assert!(store.renew_lane(user, &theirs).await.unwrap());
}

async fn settling_a_request_ends_it_and_appends_its_event(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let sms = channel("sms");
    let user = user_with(&store, &["marker"]).await;
    let mine = lease("mine", 20);
    store.claim_due_lanes(&mine, at(2), 9).await.unwrap();
    let failure = Failure {
        code: "cloud-refused".to_owned(),
        upstream: None,
    };
    let event = NewEvent {
        id: EventId::new(Uuid::from_u128(7)),
        channel_id: sms.clone(),
        user: Some(user),
        kind: EventType::MessageFailed,
        body: "{}".to_owned(),
        parent: None,
        deliver_until: None,
    };

    let why = "cloud-unavailable";
    let postponed = settled(user, 1, AttemptOutcome::Postponed { why });
    let settled_at = store.settle_request(&mine, &postponed, at(3)).await;
    assert_eq!(settled_at.unwrap(), LaneHolder::Kept);
    let failed = SettledAttempt {
        event: Some(&event),
        ..settled(user, 1, AttemptOutcome::Failed(&failure))
    };
    assert_eq!(
        store.settle_request(&mine, &failed, at(4)).await.unwrap(),
        LaneHolder::Released
    );
    assert_eq!(
        store.settle_request(&mine, &failed, at(5)).await.unwrap(),
        LaneHolder::Lost
    );

    assert!(store.first_request(user).await.unwrap().is_none());
    let report = store.request(&sms, message(1)).await.unwrap().unwrap();
    assert_eq!(report.state, RequestState::Failed);
    assert_eq!(report.failure, Some(failure));
    let steps: Vec<_> = report.timeline.iter().map(|step| &step.what[..]).collect();
    assert_eq!(steps, ["accepted", "postponed", "failed"]);
    assert_eq!(report.timeline[1].why.as_deref(), Some(why));
    assert_eq!(
        store
            .events_after(&sms, 0, PageSize::events(9))
            .await
            .unwrap()
            .events
            .len(),
        1
    );
    assert!(
        store
            .request(&channel("app"), message(1))
            .await
            .unwrap()
            .is_none()
    );
    assert!(!database.dump().await.contains("marker"));
}

async fn queued_files_are_bounded_by_channel_and_user(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    let other = store.ensure_user(&key("b"), at(0)).await.unwrap();
    let (sms, app) = (channel("sms"), channel("app"));
    let file = |number, channel_id, content| NewRequest {
        kind: RequestKind::File,
        content: Some(content),
        max_content_of_user: 7,
        ..request(number, channel_id, "file")
    };

    let (large, small) = (Bytes::from_static(b"123456"), Bytes::from_static(b"12345"));
    let first = file(1, &sms, &large);
    let first = store.insert_request(user, &first, at(1));
    assert_eq!(first.await.unwrap(), EnqueueOutcome::Queued);
    let second = file(2, &sms, &small);
    for (user, of_user) in [(user, true), (other, false)] {
        let outcome = store.insert_request(user, &second, at(1)).await.unwrap();
        assert_eq!(outcome, EnqueueOutcome::FileStorageFull { of_user });
    }
    let of_other_channel = file(3, &app, &small);
    let of_other_channel = store.insert_request(other, &of_other_channel, at(1));
    assert_eq!(of_other_channel.await.unwrap(), EnqueueOutcome::Queued);

    let user_state = store.user_state(&key("a")).await.unwrap().unwrap();
    assert_eq!(user_state.waiting, 1);
    let stored = store.first_request(user).await.unwrap().unwrap();
    assert_eq!(stored.content.as_deref(), Some(&b"123456"[..]));
}

async fn a_request_with_a_lost_key_is_not_queued(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    let sms = channel("sms");
    let keyed = KeyedRequest {
        channel_id: sms.clone(),
        key: "k".parse::<IdempotencyKey>().unwrap().hash(None),
        fingerprint: Fingerprint::of(&[b"{}"]),
    };
    let claim = async |lease_id: &str, second| {
        let lease = lease(lease_id, second + 15);
        let claim = store.claim_key(&keyed, message(1), &lease, None, at(second));
        assert!(matches!(claim.await.unwrap(), Claim::Ours(_)));
    };
    let enqueue = async |lease_id: &str| {
        let lease = lease(lease_id, 60);
        let new = NewRequest {
            key: Some((&keyed, &lease)),
            ..request(1, &sms, "one")
        };
        store.insert_request(user, &new, at(20)).await.unwrap()
    };
    claim("l1", 0).await;
    claim("l2", 15).await;

    assert_eq!(enqueue("l1").await, EnqueueOutcome::ClaimLost);
    assert_eq!(store.first_request(user).await.unwrap(), None);
    let user_state = store.user_state(&key("a")).await.unwrap().unwrap();
    assert_eq!(user_state.waiting, 0);

    // The second caller has the claim. Queuing the request extends its lease.
    assert_eq!(enqueue("l2").await, EnqueueOutcome::Queued);
    assert!(store.first_request(user).await.unwrap().is_some());
    let lease = lease("l3", 74);
    let claim = store
        .claim_key(&keyed, message(2), &lease, None, at(59))
        .await;
    assert_eq!(claim.unwrap(), Claim::Running);
}

async fn queued_requests_are_bounded_by_user_and_counted_by_channel(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = user_with(&store, &["one", "two"]).await;
    let other = store.ensure_user(&key("b"), at(0)).await.unwrap();
    let sms = channel("sms");
    let bounded = |number| NewRequest {
        max_waiting: 2,
        ..request(number, &sms, "more")
    };

    let third = bounded(3);
    let refused = store.insert_request(user, &third, at(1)).await;
    assert_eq!(refused.unwrap(), EnqueueOutcome::QueueFull);
    let of_other = bounded(4);
    let outcome = store.insert_request(other, &of_other, at(1)).await;
    assert_eq!(outcome.unwrap(), EnqueueOutcome::Queued);

    let user_state = store.user_state(&key("a")).await.unwrap().unwrap();
    assert_eq!(user_state.waiting, 2);
    assert_eq!(store.waiting_requests(&sms, 9).await.unwrap(), 3);
    assert_eq!(store.waiting_requests(&sms, 2).await.unwrap(), 2);
    let app = channel("app");
    assert_eq!(store.waiting_requests(&app, 9).await.unwrap(), 0);
    // A settled request makes room.
    let mine = lease("mine", 20);
    store.claim_due_lanes(&mine, at(2), 9).await.unwrap();
    let sent = settled(user, 1, AttemptOutcome::Sent);
    assert_eq!(
        store.settle_request(&mine, &sent, at(3)).await.unwrap(),
        LaneHolder::Kept
    );
    assert_eq!(store.waiting_requests(&sms, 9).await.unwrap(), 2);
    let outcome = store.insert_request(user, &third, at(4)).await;
    assert_eq!(outcome.unwrap(), EnqueueOutcome::Queued);
}

async fn an_echo_matches_only_a_fitting_attempt_and_only_once(engine: Engine) {
    use super::changes::admit_echo;
    let database = Database::create(engine).await;
    let store = database.store().await;
    let sms = channel("sms");
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    super::open(&store, user, "c1", 1).await;
    let attributed = [4];
    let in_flight = in_flight(20);
    let unknown = NewRequest {
        in_flight: Some(&in_flight),
        why: Some("cloud-outcome-unknown"),
        due_at: at(30),
        attributed: &attributed,
        ..request(1, &sms, "one")
    };
    store.insert_request(user, &unknown, at(20)).await.unwrap();

    // One came before the attempt, one belongs to another message, and one was sent long before.
    admit_echo(&store, 3, "digest", at(20), at(14)).await;
    admit_echo(&store, 4, "digest", at(20), at(21)).await;
    admit_echo(&store, 5, "digest", at(-41), at(21)).await;
    assert!(
        store
            .find_echoes(user, &in_flight)
            .await
            .unwrap()
            .is_empty()
    );
    admit_echo(&store, 6, "other", at(20), at(21)).await;
    admit_echo(&store, 7, "digest", at(-40), at(22)).await;
    let found = store.find_echoes(user, &in_flight).await.unwrap();
    let found: Vec<_> = found
        .into_iter()
        .map(|(echo, _)| (echo.sequence, echo.digest, echo.sketch))
        .collect();
    let sketch = Some(Sketch::of("hello"));
    assert_eq!(
        found,
        [
            (6, "other".to_owned(), sketch.clone()),
            (7, "digest".to_owned(), sketch)
        ]
    );

    // The echo has made the lane due at once.
    let mine = lease("mine", 40);
    assert_eq!(
        store.claim_due_lanes(&mine, at(22), 9).await.unwrap().len(),
        1
    );
    let sent = SettledAttempt {
        sequences: &[7],
        in_flight: Some(&in_flight),
        ..settled(user, 1, AttemptOutcome::Sent)
    };
    assert_eq!(
        store.settle_request(&mine, &sent, at(23)).await.unwrap(),
        LaneHolder::Released
    );
    let remaining = store.find_echoes(user, &in_flight).await.unwrap();
    assert_eq!(remaining.len(), 1);
    assert_eq!(store.remove_echoes(at(22), 2).await.unwrap(), 2);
    assert_eq!(store.remove_echoes(at(22), 2).await.unwrap(), 2);
}

async fn the_time_of_the_last_notification_is_stored(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let account: AccountId = "12345678".parse().unwrap();

    assert_eq!(store.notification_lag(&account).await.unwrap(), None);
    let lag = |last_notified_at, oldest_change_at: Option<i64>, last_late_at: Option<i64>| {
        NotificationLag {
            last_notified_at: at(last_notified_at),
            oldest_change_at: oldest_change_at.map(at),
            last_late_at: last_late_at.map(at),
        }
    };
    let fresh = lag(5, Some(4), None);
    let late = lag(3, Some(1), Some(3));
    let behind = lag(6, Some(2), Some(6));
    let without_time = lag(7, None, None);
    for lag in [fresh, late] {
        store.store_notification_lag(&account, lag).await.unwrap();
    }
    let last = store.notification_lag(&account).await.unwrap();
    assert_eq!(last, Some(fresh));
    for lag in [behind, without_time] {
        store.store_notification_lag(&account, lag).await.unwrap();
    }

    let last = store.notification_lag(&account).await.unwrap();
    assert_eq!(last, Some(lag(7, Some(2), Some(6))));
}

async fn old_settled_requests_are_removed(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = user_with(&store, &["one", "two", "three"]).await;
    let mine = lease("mine", 20);
    store.claim_due_lanes(&mine, at(2), 9).await.unwrap();
    for (number, second) in [(1, 3), (2, 10)] {
        let sent = settled(user, number, AttemptOutcome::Sent);
        store
            .settle_request(&mine, &sent, at(second))
            .await
            .unwrap();
    }

    assert_eq!(store.remove_settled_requests(at(10), 9).await.unwrap(), 1);

    let sms = channel("sms");
    assert!(store.request(&sms, message(1)).await.unwrap().is_none());
    assert!(store.request(&sms, message(2)).await.unwrap().is_some());
    assert!(store.first_request(user).await.unwrap().is_some());
}

async fn backlogs_are_counted_by_channel(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = user_with(&store, &["one", "two"]).await;
    let new_event = |second| NewEvent {
        deliver_until: Some(at(9000)),
        id: EventId::new(Uuid::from_u128(second)),
        ..event("sms", user, "{}")
    };
    append(&store, &[new_event(7)], at(7)).await;
    append(&store, &[new_event(8)], at(8)).await;
    store.pause_callback(&channel("sms"), at(9)).await.unwrap();

    let channels = [channel("app"), channel("sms")];
    let mut backlogs = store.backlogs(channels.iter()).await.unwrap();
    backlogs.sort_by_key(|backlog| backlog.channel_id.to_string());

    let [app, sms] = &backlogs[..] else {
        panic!("{backlogs:?}")
    };
    let empty = Backlog {
        channel_id: channel("app"),
        requests: 0,
        oldest_request: None,
        delivery_lanes: 0,
        oldest_event: None,
        callback_failures: 0,
        callback_pause: None,
    };
    assert_eq!(*app, empty);
    let waiting = Backlog {
        channel_id: channel("sms"),
        requests: 2,
        oldest_request: Some(at(1)),
        delivery_lanes: 1,
        oldest_event: Some(at(7)),
        callback_failures: 0,
        callback_pause: Some(Pause {
            since: at(9),
            by_operator: false,
        }),
    };
    assert_eq!(*sms, waiting);
    assert_eq!(store.request_lanes().await.unwrap(), 1);
    let mut connections = 0;
    for pool in store.connections() {
        connections += pool.in_use + pool.idle;
    }
    assert!(connections > 0);
}

/// Creates users with these queued requests. The message numbers of a user start at 100 times the
/// user's index.
async fn users_with(store: &Store, users: u128, bodies: &[&str]) -> Vec<UserRef> {
    let mut refs = Vec::new();
    let sms = channel("sms");
    for index in 0..users {
        let key = key(&format!("user {index}"));
        let user = store.ensure_user(&key, at(0)).await.unwrap();
        for (number, body) in (100 * index..).zip(bodies) {
            let new = request(number, &sms, body);
            let outcome = store.insert_request(user, &new, at(1)).await;
            assert_eq!(outcome.unwrap(), EnqueueOutcome::Queued);
        }
        refs.push(user);
    }
    refs
}

/// Settles all requests on a lane one by one, and returns their bodies.
async fn drain(store: &Store, user: UserRef) -> Vec<String> {
    let mine = lease("drain", 8999);
    store.claim_due_lanes(&mine, at(8000), 99).await.unwrap();
    let mut bodies = Vec::new();
    while let Some(request) = store.first_request(user).await.unwrap() {
        bodies.push(request.body);
        let sent = SettledAttempt {
            id: request.id,
            ..settled(user, 0, AttemptOutcome::Sent)
        };
        let holder = store.settle_request(&mine, &sent, at(8001)).await.unwrap();
        assert_ne!(holder, LaneHolder::Lost);
    }
    bodies
}

async fn concurrent_requests_are_queued_in_order_and_within_bounds(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let users = users_with(&store, 2, &[]).await;
    let (sms, app) = (channel("sms"), channel("app"));
    let bodies: Vec<_> = (0..40).map(|number| number.to_string()).collect();
    let file = Bytes::from_static(b"123456");
    let requests: Vec<_> = (0..40_u128)
        .zip(&bodies)
        .map(|(number, body)| NewRequest {
            max_waiting: 15,
            // Every eighth request has a file. Each channel has room for one.
            content: (number % 8 == 0).then_some(&file),
            why: (number == 1).then_some("cloud-unavailable"),
            ..request(number, if number < 20 { &sms } else { &app }, body)
        })
        .collect();

    let outcomes = requests.iter().zip(users.iter().cycle());
    let outcomes = outcomes.map(|(new, user)| store.insert_request(*user, new, at(1)));
    let outcomes: Vec<_> = futures_util::future::join_all(outcomes).await;

    // Of the first user's requests, every fourth has a file.
    let expected = (0..40).map(|number| match number {
        8 | 16 => EnqueueOutcome::FileStorageFull { of_user: false },
        32 => EnqueueOutcome::FileStorageFull { of_user: true },
        31.. if number % 2 == 1 => EnqueueOutcome::QueueFull,
        36.. => EnqueueOutcome::QueueFull,
        _ => EnqueueOutcome::Queued,
    });
    let outcomes: Vec<_> = outcomes.into_iter().map(Result::unwrap).collect();
    assert_eq!(outcomes, expected.collect::<Vec<_>>());
    for (user, of_user) in users.iter().zip([0, 1]) {
        let queued = bodies.iter().zip(&outcomes).skip(of_user).step_by(2);
        let queued: Vec<_> = queued
            .filter(|(_, outcome)| **outcome == EnqueueOutcome::Queued)
            .map(|(body, _)| body.clone())
            .collect();
        let first = store.first_request(*user).await.unwrap().unwrap();
        assert_eq!(first.content.is_some(), of_user == 0);
        assert_eq!(drain(&store, *user).await, queued);
    }
    let report = store.request(&sms, message(1)).await.unwrap().unwrap();
    let steps: Vec<_> = report.timeline.iter().map(|step| &step.what[..]).collect();
    assert_eq!(steps, ["accepted", "postponed", "sent"]);
}

async fn concurrent_request_settlements_keep_their_own_outcomes(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let sms = channel("sms");
    let users = users_with(&store, 12, &["one", "two"]).await;
    let (mine, theirs) = (lease("mine", 20), lease("theirs", 40));
    store.claim_due_lanes(&mine, at(2), 4).await.unwrap();
    let held = store.claim_due_lanes(&theirs, at(2), 99).await.unwrap();
    let held: Vec<_> = held.into_iter().map(|lane| lane.user).collect();
    assert_eq!(held.len(), 8);
    let events: Vec<_> = users.iter().map(|user| event("sms", *user, "{}")).collect();
    let in_flight = in_flight(3);
    let failure = Failure {
        code: "cloud-refused".to_owned(),
        upstream: None,
    };
    let why = "cloud-unavailable";
    let outcome = |index| match index % 3 {
        0 => AttemptOutcome::Sent,
        1 => AttemptOutcome::Failed(&failure),
        _ => AttemptOutcome::Postponed { why },
    };
    let sequences: Vec<_> = (0..12).map(|index| [index]).collect();
    let all: Vec<_> = (0..12_usize)
        .map(|index| SettledAttempt {
            sequences: &sequences[index],
            in_flight: Some(&in_flight),
            event: Some(&events[index]).filter(|_| index % 3 < 2),
            ..settled(users[index], 100 * index as u128, outcome(index))
        })
        .collect();

    let holders = all
        .iter()
        .map(|settled| store.settle_request(&theirs, settled, at(4)));
    let holders: Vec<_> = futures_util::future::join_all(holders).await;

    let mut event_count = 0;
    for (index, (outcome, user)) in holders.into_iter().zip(&users).enumerate() {
        let is_ours = held.contains(user);
        let expected = if is_ours {
            LaneHolder::Kept
        } else {
            LaneHolder::Lost
        };
        assert_eq!(outcome.unwrap(), expected);
        let id = message(100 * index as u128);
        let report = store.request(&sms, id).await.unwrap().unwrap();
        let expected = match index % 3 {
            _ if !is_ours => RequestState::Waiting,
            0 => RequestState::Sent,
            1 => RequestState::Failed,
            _ => RequestState::Waiting,
        };
        assert_eq!(report.state, expected);
        assert_eq!(report.timeline.len(), if is_ours { 2 } else { 1 });
        assert_eq!(report.sequences.len(), usize::from(is_ours));
        assert_eq!(report.failure.is_some(), is_ours && index % 3 == 1);
        event_count += usize::from(is_ours && index % 3 < 2);
        let key = key(&format!("user {index}"));
        let user_state = store.user_state(&key).await.unwrap().unwrap();
        let waiting = if is_ours && index % 3 < 2 { 1 } else { 2 };
        assert_eq!(user_state.waiting, waiting);
    }
    let page = store
        .events_after(&sms, 0, PageSize::events(99))
        .await
        .unwrap();
    assert_eq!(
        (page.events.len(), page.head),
        (event_count, event_count as u64)
    );
}

async fn one_failing_request_settlement_does_not_fail_batched_ones(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let users = users_with(&store, 9, &["one", "two"]).await;
    let mine = lease("mine", 20);
    store.claim_due_lanes(&mine, at(2), 99).await.unwrap();
    let logged = event("sms", users[0], "{}");
    append(&store, std::slice::from_ref(&logged), at(2)).await;
    let mut events: Vec<_> = users.iter().map(|user| event("sms", *user, "{}")).collect();
    // An event id can be in the log only once.
    events[4].id = logged.id;
    let all: Vec<_> = (0..9_usize)
        .map(|index| SettledAttempt {
            event: Some(&events[index]),
            ..settled(users[index], 100 * index as u128, AttemptOutcome::Sent)
        })
        .collect();

    let holders = all
        .iter()
        .map(|settled| store.settle_request(&mine, settled, at(4)));
    let holders: Vec<_> = futures_util::future::join_all(holders).await;

    for (index, holder) in holders.into_iter().enumerate() {
        assert_eq!(
            holder.ok(),
            (index != 4).then_some(LaneHolder::Kept),
            "{index}"
        );
    }
    let faulty = store.first_request(users[4]).await.unwrap().unwrap();
    assert_eq!(faulty.id, message(400));
    let page = store
        .events_after(&channel("sms"), 0, PageSize::events(99))
        .await
        .unwrap();
    assert_eq!((page.events.len(), page.head), (9, 9));
}

async fn one_failing_queued_request_does_not_fail_batched_ones(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let users = users_with(&store, 2, &["one"]).await;
    let sms = channel("sms");
    // The second request exists already.
    let requests = [1, 100, 2].map(|number| request(number, &sms, "more"));

    let outcomes = requests
        .iter()
        .map(|new| store.insert_request(users[0], new, at(1)));
    let outcomes: Vec<_> = futures_util::future::join_all(outcomes).await;

    let [first, second, third] = &outcomes[..] else {
        panic!("{outcomes:?}")
    };
    assert_eq!(first.as_ref().unwrap(), &EnqueueOutcome::Queued);
    assert!(second.is_err());
    assert_eq!(third.as_ref().unwrap(), &EnqueueOutcome::Queued);
    let user_state = store.user_state(&key("user 0")).await.unwrap().unwrap();
    assert_eq!(user_state.waiting, 3);
}

async fn concurrent_attempts_begin_only_on_held_lanes(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let users = users_with(&store, 8, &["one"]).await;
    let (mine, theirs) = (lease("mine", 20), lease("theirs", 40));
    store.claim_due_lanes(&mine, at(2), 3).await.unwrap();
    let held = store.claim_due_lanes(&theirs, at(2), 99).await.unwrap();
    let held: Vec<_> = held.into_iter().map(|lane| lane.user).collect();
    let flights: Vec<_> = (3..11).map(in_flight).collect();
    let later = lease("theirs", 50);

    let begun = (0..8_usize).map(|index| {
        let id = message(100 * index as u128);
        store.begin_attempt(users[index], &later, id, "begun", &flights[index])
    });
    let begun: Vec<_> = futures_util::future::join_all(begun).await;

    for (index, begun) in begun.into_iter().enumerate() {
        let is_ours = held.contains(&users[index]);
        assert_eq!(begun.unwrap(), is_ours);
        let found = store.first_request(users[index]).await.unwrap().unwrap();
        let in_flight = is_ours.then(|| flights[index].clone());
        let body = if is_ours { "begun" } else { "one" };
        assert_eq!((found.in_flight, &found.body[..]), (in_flight, body));
        assert_eq!(found.attempts, u32::from(is_ours));
    }
    // Beginning the attempts has renewed the leases.
    let again = store.claim_due_lanes(&mine, at(45), 99).await.unwrap();
    assert_eq!(again.len(), 3);
}

async fn a_lane_is_released_with_its_last_batched_settlement(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let users = users_with(&store, 2, &["one", "two"]).await;
    let mine = lease("mine", 20);
    store.claim_due_lanes(&mine, at(2), 99).await.unwrap();
    let all = [(0, 0), (0, 1), (0, 0), (1, 100), (1, 100)]
        .map(|(user, number)| settled(users[user], number, AttemptOutcome::Sent));

    let holders = all
        .iter()
        .map(|settled| store.settle_request(&mine, settled, at(4)));
    let holders: Vec<_> = futures_util::future::join_all(holders).await;

    let holders: Vec<_> = holders.into_iter().map(Result::unwrap).collect();
    // A settled request cannot be settled again, and a released lane's lease is lost.
    assert_eq!(
        holders,
        [
            LaneHolder::Kept,
            LaneHolder::Released,
            LaneHolder::Lost,
            LaneHolder::Kept,
            LaneHolder::Lost
        ]
    );
    assert!(!store.renew_lane(users[0], &mine).await.unwrap());
    assert!(store.renew_lane(users[1], &mine).await.unwrap());
    // A request that is queued now makes the lane due.
    let sms = channel("sms");
    let new = NewRequest {
        due_at: at(9),
        ..request(9, &sms, "three")
    };
    store.insert_request(users[0], &new, at(5)).await.unwrap();
    let before = store.claim_due_lanes(&mine, at(8), 99).await.unwrap();
    let due = store.claim_due_lanes(&mine, at(9), 99).await.unwrap();
    assert_eq!((before.len(), due.len()), (0, 1));
}

async fn a_request_of_an_erased_user_is_not_queued(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let users = users_with(&store, 2, &["one"]).await;
    super::erase(&store, users[0], 2).await;
    let sms = channel("sms");
    let (late, other) = (request(7, &sms, "late"), request(8, &sms, "other"));

    let (late, other) = tokio::join!(
        store.insert_request(users[0], &late, at(3)),
        store.insert_request(users[1], &other, at(3)),
    );

    assert_eq!(late.unwrap(), EnqueueOutcome::UserErased);
    assert_eq!(other.unwrap(), EnqueueOutcome::Queued);
    assert!(store.request(&sms, message(7)).await.unwrap().is_none());
}

async fn concurrent_callers_create_one_row_per_user(engine: Engine) {
    let database = Database::create(engine).await;
    let (store, replica) = match engine {
        Engine::Postgres => (database.store().await, database.store().await),
        Engine::Sqlite => {
            let store = database.store().await;
            (store.clone(), store)
        }
    };
    let keys: Vec<_> = (0..60)
        .map(|number| key(&(number % 7).to_string()))
        .collect();

    let rows = keys
        .iter()
        .zip([&store, &replica].into_iter().cycle())
        .map(|(key, store)| store.ensure_user(key, at(0)));
    let rows: Vec<_> = futures_util::future::join_all(rows).await;

    let rows: Vec<_> = rows.into_iter().map(Result::unwrap).collect();
    for (index, row) in rows.iter().enumerate() {
        assert_eq!(*row, rows[index % 7]);
        let user_state = store.user_state(&keys[index]).await.unwrap().unwrap();
        assert_eq!(user_state.user, *row);
    }
}

async fn concurrent_inserts_settlements_and_claims_do_not_deadlock(engine: Engine) {
    let database = Database::create(engine).await;
    let first = database.store().await;
    let second = match engine {
        Engine::Postgres => database.store().await,
        Engine::Sqlite => first.clone(),
    };
    let users = users_with(&first, 10, &[]).await;
    let sms = channel("sms");

    // Each store queues a request for each user, in an order of its own, and processes due requests
    // until none remains.
    let work = async |store: &Store, name: &str, numbers: u128| {
        for round in 0..4 {
            let requests: Vec<_> = (0..10_u128)
                .map(|index| request(numbers + 10 * round + index, &sms, "one"))
                .collect();
            let mut inserts: Vec<_> = requests.iter().zip(&users).collect();
            if numbers > 0 {
                inserts.reverse();
            }
            let inserts = inserts
                .into_iter()
                .map(|(new, user)| store.insert_request(*user, new, at(1)));
            for outcome in futures_util::future::join_all(inserts).await {
                assert_eq!(outcome.unwrap(), EnqueueOutcome::Queued);
            }
            let mine = lease(&format!("{name} {round}"), 20);
            let due = store.claim_due_lanes(&mine, at(2), 99).await.unwrap();
            let lanes = due.iter().map(async |lane| {
                while let Some(request) = store.first_request(lane.user).await.unwrap() {
                    let in_flight = in_flight(3);
                    let begun = store
                        .begin_attempt(lane.user, &mine, request.id, "begun", &in_flight)
                        .await
                        .unwrap();
                    let event = event("sms", lane.user, "{}");
                    let sent = SettledAttempt {
                        id: request.id,
                        event: Some(&event),
                        ..settled(lane.user, 0, AttemptOutcome::Sent)
                    };
                    let holder = store.settle_request(&mine, &sent, at(4)).await.unwrap();
                    if !begun || holder != LaneHolder::Kept {
                        break;
                    }
                }
            });
            futures_util::future::join_all(lanes).await;
        }
    };
    tokio::join!(work(&first, "first", 0), work(&second, "second", 1000));

    for user in &users {
        drain(&first, *user).await;
    }
    let page = first
        .events_after(&sms, 0, PageSize::events(99))
        .await
        .unwrap();
    let event_count = u64::try_from(page.events.len()).unwrap();
    assert_eq!(page.head, event_count);
    for number in (0..40).chain(1000..1040) {
        let report = first.request(&sms, message(number)).await.unwrap().unwrap();
        assert_eq!(report.state, RequestState::Sent);
        let steps = report.timeline.iter().map(|step| &step.what[..]);
        assert_eq!(steps.collect::<Vec<_>>(), ["accepted", "sent"]);
    }
}
