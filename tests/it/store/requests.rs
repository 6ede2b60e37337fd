//! Requests that wait: kept in order, worked on under a lease, settled once.

use liveperson_bridge::store::{
    Backlog, Claim, Conclusion, DueLane, Flight, Hearing, Keeping, KeyedRequest, NewEvent,
    NewRequest, RequestKind, RequestState, Settled, Store, UserRef,
};
use liveperson_bridge::types::event::data::Failure;
use liveperson_bridge::types::event::{EventId, EventType};
use liveperson_bridge::types::idempotency::Fingerprint;
use liveperson_bridge::types::ids::{AccountId, ChannelId};
use liveperson_bridge::types::message::MessageId;
use uuid::Uuid;

use super::log::{channel, event};
use super::{at, key, lease};
use crate::support::database::{Database, Engine};

on_both_engines!(
    requests_are_given_in_the_order_in_which_they_came,
    a_lane_that_is_due_is_given_to_one_who_asks,
    who_has_lost_the_lease_changes_nothing,
    what_is_settled_is_over_and_told_with_it,
    files_of_a_channel_have_a_bound,
    a_request_whose_key_was_lost_is_not_kept,
    requests_of_a_user_have_a_bound_and_those_of_a_channel_are_counted,
    an_echo_is_found_once_and_only_where_it_can_be_of_the_try,
    when_the_cloud_last_told_anything_is_kept,
    what_was_settled_long_ago_is_removed,
    what_waits_is_counted_by_channel,
);

fn message(number: u128) -> MessageId {
    MessageId::new(Uuid::from_u128(number))
}

fn flight(begun: i64) -> Flight {
    Flight {
        conversation_id: "c1".parse().unwrap(),
        dialog_id: "c1".to_owned(),
        digest: "digest".to_owned(),
        begun_at: at(begun),
    }
}

fn request<'a>(number: u128, channel_id: &'a ChannelId, body: &'a str) -> NewRequest<'a> {
    NewRequest {
        id: message(number),
        channel_id,
        kind: RequestKind::Text,
        body,
        content: None,
        max_content: 10,
        max_waiting: 9,
        created_at: at(1),
        expires_at: at(9000),
        conversation_id: None,
        sequences: &[],
        flight: None,
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
        let kept = store.insert_request(user, &new, at(1)).await.unwrap();
        assert_eq!(kept, Keeping::Kept);
    }
    user
}

fn settled(user: UserRef, number: u128, settlement: Conclusion<'_>) -> Settled<'_> {
    Settled {
        user,
        id: message(number),
        settlement,
        conversation_id: None,
        sequences: &[],
        flight: None,
        file: None,
        event: None,
    }
}

async fn requests_are_given_in_the_order_in_which_they_came(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = user_with(&store, &["one", "two"]).await;
    let mine = lease("mine", 20);
    store.claim_due_lanes(&mine, at(2), 9).await.unwrap();

    let standing = store.standing(&key("a")).await.unwrap().unwrap();
    let first = store.first_request(user).await.unwrap().unwrap();
    let sent = settled(user, 1, Conclusion::Sent);
    assert!(store.settle_request(&mine, &sent, at(3)).await.unwrap());
    let second = store.first_request(user).await.unwrap().unwrap();

    assert_eq!(standing.waiting, 2);
    assert_eq!((&first.body[..], &second.body[..]), ("one", "two"));
    let standing = store.standing(&key("a")).await.unwrap().unwrap();
    assert_eq!(standing.waiting, 1);
}

async fn a_lane_that_is_due_is_given_to_one_who_asks(engine: Engine) {
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

    store.rest_lane(user, &theirs, at(50)).await.unwrap();
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
    let sent = settled(user, 1, Conclusion::Sent);
    assert!(store.settle_request(&mine, &sent, at(51)).await.unwrap());
    store.rest_lane(user, &mine, at(52)).await.unwrap();
    // Nothing waits on it.
    assert!(
        store
            .claim_due_lanes(&mine, at(99), 9)
            .await
            .unwrap()
            .is_empty()
    );
}

async fn who_has_lost_the_lease_changes_nothing(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = user_with(&store, &["one"]).await;
    let (mine, theirs) = (lease("mine", 20), lease("theirs", 40));
    store.claim_due_lanes(&mine, at(2), 9).await.unwrap();
    let (early, late) = (flight(3), flight(31));
    let begun = store.begin_try(user, &mine, message(1), "begun", &early);
    assert!(begun.await.unwrap());
    store.claim_due_lanes(&theirs, at(30), 9).await.unwrap();

    let begun = store.begin_try(user, &mine, message(1), "late", &late);
    assert!(!begun.await.unwrap());
    let sent = settled(user, 1, Conclusion::Sent);
    assert!(!store.settle_request(&mine, &sent, at(31)).await.unwrap());
    store.rest_lane(user, &mine, at(31)).await.unwrap();

    let found = store.first_request(user).await.unwrap().unwrap();
    assert_eq!(found.state, RequestState::Sending);
    assert_eq!(found.flight, Some(flight(3)));
    assert_eq!((found.attempts, &found.body[..]), (1, "begun"));
    assert!(store.renew_lane(user, &theirs).await.unwrap());
}

async fn what_is_settled_is_over_and_told_with_it(engine: Engine) {
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
    let postponed = settled(user, 1, Conclusion::Postponed { why });
    assert!(
        store
            .settle_request(&mine, &postponed, at(3))
            .await
            .unwrap()
    );
    let failed = Settled {
        event: Some(&event),
        ..settled(user, 1, Conclusion::Failed(&failure))
    };
    assert!(store.settle_request(&mine, &failed, at(4)).await.unwrap());
    assert!(!store.settle_request(&mine, &failed, at(5)).await.unwrap());

    assert!(store.first_request(user).await.unwrap().is_none());
    let report = store.request(&sms, message(1)).await.unwrap().unwrap();
    assert_eq!(report.state, RequestState::Failed);
    assert_eq!(report.failure, Some(failure));
    let steps: Vec<_> = report.timeline.iter().map(|step| &step.what[..]).collect();
    assert_eq!(steps, ["accepted", "postponed", "failed"]);
    assert_eq!(report.timeline[1].why.as_deref(), Some(why));
    assert_eq!(
        store.events_after(&sms, 0, 9).await.unwrap().events.len(),
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

async fn files_of_a_channel_have_a_bound(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    let (sms, app) = (channel("sms"), channel("app"));
    let file = |number, channel_id, content| NewRequest {
        kind: RequestKind::File,
        content: Some(content),
        ..request(number, channel_id, "file")
    };

    let first = file(1, &sms, b"123456");
    let first = store.insert_request(user, &first, at(1));
    assert_eq!(first.await.unwrap(), Keeping::Kept);
    let second = file(2, &sms, b"12345");
    let second = store.insert_request(user, &second, at(1));
    assert_eq!(second.await.unwrap(), Keeping::NoRoomForFile);
    let others = file(3, &app, b"12345");
    let others = store.insert_request(user, &others, at(1));
    assert_eq!(others.await.unwrap(), Keeping::Kept);

    let standing = store.standing(&key("a")).await.unwrap().unwrap();
    assert_eq!(standing.waiting, 2);
    let kept = store.first_request(user).await.unwrap().unwrap();
    assert_eq!(kept.content.as_deref(), Some(&b"123456"[..]));
}

async fn a_request_whose_key_was_lost_is_not_kept(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    let sms = channel("sms");
    let keyed = KeyedRequest {
        channel_id: sms.clone(),
        key: "k".parse().unwrap(),
        fingerprint: Fingerprint::of(&[b"{}"]),
    };
    let claim = async |lease_id: &str, second| {
        let lease = lease(lease_id, second + 15);
        let claim = store.begin_keyed(&keyed, message(1), &lease, at(second));
        assert!(matches!(claim.await.unwrap(), Claim::Ours { .. }));
    };
    let keep = async |lease_id: &str| {
        let lease = lease(lease_id, 60);
        let new = NewRequest {
            key: Some((&keyed, &lease)),
            ..request(1, &sms, "one")
        };
        store.insert_request(user, &new, at(20)).await.unwrap()
    };
    claim("l1", 0).await;
    claim("l2", 15).await;

    assert_eq!(keep("l1").await, Keeping::KeyLost);
    assert_eq!(store.first_request(user).await.unwrap(), None);
    let standing = store.standing(&key("a")).await.unwrap().unwrap();
    assert_eq!(standing.waiting, 0);

    // It is held by this one, and from now on longer.
    assert_eq!(keep("l2").await, Keeping::Kept);
    assert!(store.first_request(user).await.unwrap().is_some());
    let lease = lease("l3", 74);
    let claim = store.begin_keyed(&keyed, message(2), &lease, at(59)).await;
    assert_eq!(claim.unwrap(), Claim::Running);
}

async fn requests_of_a_user_have_a_bound_and_those_of_a_channel_are_counted(engine: Engine) {
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
    assert_eq!(refused.unwrap(), Keeping::QueueFull);
    let of_other = bounded(4);
    let kept = store.insert_request(other, &of_other, at(1)).await;
    assert_eq!(kept.unwrap(), Keeping::Kept);

    let standing = store.standing(&key("a")).await.unwrap().unwrap();
    assert_eq!(standing.waiting, 2);
    assert_eq!(store.waiting_requests(&sms, 9).await.unwrap(), 3);
    assert_eq!(store.waiting_requests(&sms, 2).await.unwrap(), 2);
    let app = channel("app");
    assert_eq!(store.waiting_requests(&app, 9).await.unwrap(), 0);
    // What is settled makes room.
    let mine = lease("mine", 20);
    store.claim_due_lanes(&mine, at(2), 9).await.unwrap();
    let sent = settled(user, 1, Conclusion::Sent);
    assert!(store.settle_request(&mine, &sent, at(3)).await.unwrap());
    assert_eq!(store.waiting_requests(&sms, 9).await.unwrap(), 2);
    let kept = store.insert_request(user, &third, at(4)).await;
    assert_eq!(kept.unwrap(), Keeping::Kept);
}

async fn an_echo_is_found_once_and_only_where_it_can_be_of_the_try(engine: Engine) {
    use super::changes::admit_echo;
    let database = Database::create(engine).await;
    let store = database.store().await;
    let sms = channel("sms");
    let user = store.ensure_user(&key("a"), at(0)).await.unwrap();
    super::open(&store, user, "c1", 1).await;
    let attributed = [("c1".to_owned(), 4)];
    let flight = flight(20);
    let unknown = NewRequest {
        flight: Some(&flight),
        why: Some("cloud-outcome-unknown"),
        due_at: at(30),
        attributed: &attributed,
        ..request(1, &sms, "one")
    };
    store.insert_request(user, &unknown, at(20)).await.unwrap();

    // One that is known to be of another message, one that is too old, one that says something else.
    admit_echo(&store, 4, "digest", at(20), at(21)).await;
    admit_echo(&store, 5, "digest", at(14), at(21)).await;
    admit_echo(&store, 6, "other", at(20), at(21)).await;
    assert!(store.find_echoes(user, &flight).await.unwrap().is_empty());
    admit_echo(&store, 7, "digest", at(15), at(22)).await;
    assert_eq!(store.find_echoes(user, &flight).await.unwrap(), [7]);

    // It has made the lane due at once.
    let mine = lease("mine", 40);
    assert_eq!(
        store.claim_due_lanes(&mine, at(22), 9).await.unwrap().len(),
        1
    );
    let sent = Settled {
        sequences: &[7],
        flight: Some(&flight),
        ..settled(user, 1, Conclusion::Sent)
    };
    assert!(store.settle_request(&mine, &sent, at(23)).await.unwrap());
    assert!(store.find_echoes(user, &flight).await.unwrap().is_empty());
    assert_eq!(store.remove_echoes(at(22), 2).await.unwrap(), 2);
    assert_eq!(store.remove_echoes(at(22), 2).await.unwrap(), 1);
}

async fn when_the_cloud_last_told_anything_is_kept(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let account: AccountId = "12345678".parse().unwrap();

    assert_eq!(store.last_hearing(&account).await.unwrap(), None);
    let hearing = |heard_at, told_at: Option<i64>, behind_at: Option<i64>| Hearing {
        heard_at: at(heard_at),
        told_at: told_at.map(at),
        behind_at: behind_at.map(at),
    };
    let fresh = hearing(5, Some(4), None);
    let late = hearing(3, Some(1), Some(3));
    let behind = hearing(6, Some(2), Some(6));
    let without_time = hearing(7, None, None);
    for hearing in [fresh, late] {
        store.note_hearing(&account, hearing).await.unwrap();
    }
    let last = store.last_hearing(&account).await.unwrap();
    assert_eq!(last, Some(fresh));
    for hearing in [behind, without_time] {
        store.note_hearing(&account, hearing).await.unwrap();
    }

    let last = store.last_hearing(&account).await.unwrap();
    assert_eq!(last, Some(hearing(7, Some(2), Some(6))));
}

async fn what_was_settled_long_ago_is_removed(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = user_with(&store, &["one", "two", "three"]).await;
    let mine = lease("mine", 20);
    store.claim_due_lanes(&mine, at(2), 9).await.unwrap();
    for (number, second) in [(1, 3), (2, 10)] {
        let sent = settled(user, number, Conclusion::Sent);
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

async fn what_waits_is_counted_by_channel(engine: Engine) {
    let database = Database::create(engine).await;
    let store = database.store().await;
    let user = user_with(&store, &["one", "two"]).await;
    let told = |second| NewEvent {
        deliver_until: Some(at(9000)),
        id: EventId::new(Uuid::from_u128(second)),
        ..event("sms", user, "{}")
    };
    store.append_events(&[told(7)], at(7)).await.unwrap();
    store.append_events(&[told(8)], at(8)).await.unwrap();
    store.pause_callback(&channel("sms"), at(9)).await.unwrap();

    let channels = [channel("app"), channel("sms")];
    let mut backlogs = store.backlogs(channels.iter()).await.unwrap();
    backlogs.sort_by_key(|backlog| backlog.channel_id.to_string());

    let [app, sms] = &backlogs[..] else {
        panic!("{backlogs:?}")
    };
    let nothing = Backlog {
        channel_id: channel("app"),
        requests: 0,
        oldest_request: None,
        delivery_lanes: 0,
        oldest_event: None,
        callback_failures: 0,
        callback_paused: false,
    };
    assert_eq!(*app, nothing);
    let waiting = Backlog {
        channel_id: channel("sms"),
        requests: 2,
        oldest_request: Some(at(1)),
        delivery_lanes: 1,
        oldest_event: Some(at(7)),
        callback_failures: 0,
        callback_paused: true,
    };
    assert_eq!(*sms, waiting);
    assert_eq!(store.request_lanes().await.unwrap(), 1);
    let mut connections = 0;
    for pool in store.connections() {
        connections += pool.in_use + pool.idle;
    }
    assert!(connections > 0);
}
